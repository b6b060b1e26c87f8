/**
 * Which tunings of native/kernels/matmul/tile are worth trying, and which one is taken where nobody has tuned: rules read off
 * measurements of the products of four networks on an H100 (bench/NOTES.md).
 */
import { isMx, weightFormat } from '../../../formats/index.js';
import { slabTuning } from './slab-kernel.js';
import { kBlocksByCluster, kSharedLimitBytes, weightBits } from './template.js';
import {
  isFolded,
  kByBlocks,
  kSpan,
  panelsOf,
  placeBytes,
  type TileShape,
  type TileTuning,
  tileMisfit,
  tileSharedBytes,
  tilesOf,
} from './tile-kernel.js';

/** By wgmma: a warp has 16 rows and all outputs. */
function groups(rows: number, outputs: number, stages: number, resident: number, split = 1): TileTuning {
  return { rows, outputs, warpRows: 16, warpOutputs: outputs, stages, split, resident, wgmma: 1 };
}

/** By mma.sync. */
function warps(rows: number, outputs: number, warpRows: number, warpOutputs: number, stages: number, resident: number): TileTuning {
  return { rows, outputs, warpRows, warpOutputs, stages, split: 1, resident, wgmma: 0 };
}

/** Blocks that share out k, and the tiles that they do it with. */
const kSplits: readonly TileTuning[] = [2, 4, 8].flatMap((split) => [groups(64, 64, 13, 1, split), groups(64, 32, 16, 1, split)]);

const kGroups: readonly TileTuning[] = [
  groups(128, 128, 3, 2),
  groups(128, 256, 4, 1),
  groups(128, 192, 5, 1),
  groups(128, 128, 5, 1),
  groups(64, 128, 4, 2),
  groups(128, 64, 4, 2),
  groups(128, 64, 2, 3),
  groups(64, 64, 12, 1),
  groups(64, 64, 4, 3),
  groups(64, 32, 16, 1),
  groups(64, 32, 4, 4),
  ...kSplits,
];

/** MX by blocks: sums of several blocks are in registers. */
const kMxBlocks: readonly TileTuning[] = [
  groups(128, 128, 4, 1),
  groups(64, 128, 3, 2),
  groups(128, 64, 4, 1),
  groups(64, 64, 8, 1),
  groups(64, 64, 4, 2),
  groups(64, 32, 12, 1),
  groups(64, 32, 4, 3),
  ...kSplits,
].map((tuning) => ({ ...tuning, wgmma: kByBlocks }));

/** MX as BF16 needs room for both operands of it. */
const kMxGroups: readonly TileTuning[] = [
  groups(128, 128, 4, 1),
  groups(128, 64, 2, 2),
  groups(64, 128, 2, 2),
  groups(128, 256, 2, 1),
  groups(128, 64, 5, 1),
  groups(64, 64, 4, 2),
  groups(64, 64, 8, 1),
  groups(64, 32, 3, 3),
  groups(64, 32, 12, 1),
  ...kSplits,
  ...kMxBlocks,
];

const kWarps: readonly TileTuning[] = [
  warps(128, 128, 64, 64, 3, 2),
  warps(128, 128, 32, 64, 3, 1),
  warps(128, 64, 32, 64, 4, 2),
  warps(128, 64, 32, 64, 2, 2),
  warps(64, 64, 32, 32, 4, 2),
  warps(32, 64, 16, 32, 4, 3),
];

/** Results of a warp's products by mma.sync, at most, where there are two in registers. */
const kMostFolded = 1024;

/** As many of a tuning's stages as there are panels to fill and shared memory to hold. */
function trimmed(shape: TileShape, tuning: TileTuning, limit: number): TileTuning {
  let stages = Math.max(2, Math.min(tuning.stages, Math.ceil(panelsOf(shape) / tuning.split) + 1));
  while (stages > 2 && tileSharedBytes(shape, { ...tuning, stages }) > limit) stages -= 1;
  return { ...tuning, stages };
}

/** Sums need twice the registers where FP8's are promoted, and where those of two products are scaled before they meet. */
function isPromoted(shape: TileShape): boolean {
  return isFolded(shape) || (weightBits(shape.weight) === 8 && !isMx(weightFormat(shape.weight)) && panelsOf(shape) > kSpan);
}

/** Whether rows of x and of y begin at multiples of 16 bytes; patches' lines do. */
function isAligned(shape: TileShape): boolean {
  return (shape.patches || placeBytes(shape) % 16 === 0) && shape.n % 8 === 0;
}

/** Candidates that fit, for GPUs with or without wgmma and clusters. */
export function tileCandidates(shape: TileShape, hopper: boolean): readonly TileTuning[] {
  const mx = isMx(weightFormat(shape.weight));
  const registersOf = ({ wgmma, outputs }: TileTuning): number => {
    if (wgmma === kByBlocks) return ((outputs <= 64 ? 5 : 3) * outputs) / 2 + 56;
    return ((isPromoted(shape) ? 2 : 1) * outputs) / 2 + (mx ? 80 : 56);
  };
  const all = hopper && isAligned(shape) ? (mx ? kMxGroups : kGroups) : kWarps;
  const tiles = all
    .map((tuning) => trimmed(shape, tuning, kSharedLimitBytes / tuning.resident - 1024))
    .filter((tuning) => tuning.wgmma || !isFolded(shape) || tuning.warpRows * tuning.warpOutputs <= kMostFolded)
    .filter((tuning) => !tuning.wgmma || registersOf(tuning) <= 65536 / (tuning.rows * 2 * tuning.resident))
    .filter((tuning) => tileMisfit(shape, tuning) === null);
  // The last, and no default: it is yet to be measured.
  const lines = hopper ? slabTuning(shape) : null;
  return [...tiles, ...(lines ? [lines] : [])];
}

/** What a tile takes on a multiprocessor that does nothing else, in microseconds: start and end, and a panel's products or copies. */
export function costOf(shape: TileShape, tuning: TileTuning, processors: number): number {
  const { rows, outputs, resident, split, stages, wgmma } = tuning;
  const panels = Math.ceil(panelsOf(shape) / split);
  const perProcessor = Math.ceil((tilesOf(shape, tuning) * split) / (split === 1 ? processors : kBlocksByCluster[split]!));
  const busy = Math.min(resident, perProcessor);
  const bytes = weightBits(shape.weight) === 16 ? 2 : 1;
  // Of a panel: products at the tensor cores' rate, both operands through shared memory, and copies from L2 of so many stages at once.
  const mx = isMx(weightFormat(shape.weight));
  const products =
    (rows * outputs * (mx && wgmma !== kByBlocks ? 128 : 64)) /
    (bytes === 1 && weightBits(shape.weight) < 8 ? 3.0e6 : wgmma ? 3.0e6 : 1.9e6);
  // MX: codes become BF16 in shared memory, some three instructions each; or four blocks' sums are scaled, with fourteen for each eight outputs of a warp.
  const expansion =
    wgmma === kByBlocks ? (4 * 14 * (outputs / 8) * (rows / 64)) / 1.7e3 : mx && wgmma ? ((rows + outputs) * 128 * 3) / 200e3 : 0;
  const shared = ((rows + outputs) * 128 + (rows / 64) * (64 + outputs) * 128) / 190e3;
  const copies = ((rows + outputs) * 128) / 150e3;
  const latency = 0.9 / Math.max(1, stages - 1);
  // Two stages leave nothing to do while one of them is filled.
  const panel = Math.max(products, expansion, shared, copies, latency / busy) * (stages === 2 && panels > 2 ? 1.3 : 1);
  // Results to memory, residuals from it: 3 TB/s for all.
  const result = (rows * outputs * 2 * (shape.residual ? 2 : 1)) / ((2.6e6 / processors) * split);
  const overlap = busy > 1 ? 0.25 : 1;
  const join = split === 1 ? 0 : 0.7 + 0.12 * split;
  return perProcessor * (panels * panel + overlap * (0.35 + result) + (1 - overlap) * Math.max(0, result - panels * panel)) + join;
}

/**
 * Two products of FP16 with tiles for all multiprocessors: each row of x is read once for as many outputs as there is room for, whose
 * results take longer than the model says.
 */
function widest(shape: TileShape, candidates: readonly TileTuning[], processors: number): TileTuning | undefined {
  return shape.second && weightBits(shape.weight) === 16
    ? candidates.find((tuning) => tuning.outputs === 256 && tuning.wgmma === 1 && tilesOf(shape, tuning) >= processors)
    : undefined;
}

/** Of what is measured the best has cost, by the model, up to as many times the least. */
const kWorthTrying = 2;

/** The default, then the candidates that the model does not rule out; of kernels that it knows little of the best ones, too. */
export function tuningsToTry(shape: TileShape, hopper: boolean, processors: number): readonly TileTuning[] {
  const candidates = tileCandidates(shape, hopper);
  const cost = (one: TileTuning): number => costOf(shape, one, processors);
  return [
    defaultTuning(shape, hopper, processors),
    ...candidates.filter((one) => {
      const alike = candidates.filter(({ wgmma }) => wgmma === one.wgmma);
      return cost(one) <= kWorthTrying * Math.min(...alike.map(cost));
    }),
  ];
}

/** The cheapest candidate. */
export function defaultTuning(shape: TileShape, hopper: boolean, processors: number): TileTuning {
  const candidates = tileCandidates(shape, hopper).filter(({ wgmma }) => wgmma <= 1);
  return (
    widest(shape, candidates, processors) ??
    candidates.reduce((best, one) => (costOf(shape, one, processors) < costOf(shape, best, processors) ? one : best))
  );
}

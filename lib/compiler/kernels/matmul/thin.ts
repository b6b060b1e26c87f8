/**
 * Configurations of native/kernels/matmul/thin/thin.cuh (FP16 and FP8 weights; 2 to 64 tokens, or one whose activations gemv.cuh
 * cannot hold): defaults, candidates for the tuner, generated text, and the shared memory that a configuration takes, mirrored
 * from the kernel (the generated text asserts that both agree).
 */
import { LadderError } from '../../../errors.js';
import { Refusal } from '../family.js';
import {
  activationBytes,
  alignShared,
  densePlan,
  fittingTunings,
  isMxWeight,
  kBlocksByCluster,
  kFragmentBytes,
  kSharedBudgetBytes,
  kSharedLimitBytes,
  kTileRows,
  ringBytes,
  type RingSizes,
  stagesWithin,
  tileRuns,
  unitBytes,
  unitK,
  weightBits,
} from './template.js';
import type { KernelPlan, Tuning, WeightRuns } from '../plan.js';
import { denseFamily } from './dense-family.js';
import { type DenseMatch, type DenseShape, refusePrologue } from './shape.js';

interface ThinTuning {
  readonly blocks: number;
  readonly cluster: number;
  readonly warpsN: number;
  readonly warpTiles: number;
  readonly warpsK: number;
  readonly stageUnits: number;
  readonly stages: number;
  readonly prefetchStages: number;
}

/** With so many tiles a block has enough rows of its own to make up for reading the tokens whole. */
const kManyTiles = 2048;

/** Bytes of one stage, and of what lies beside the ring. */
function sharedBytes(
  operator: DenseShape,
  { blocks, cluster, warpsN, warpTiles, warpsK, stageUnits }: Omit<ThinTuning, 'stages'>,
): RingSizes {
  const { weight, m, n, bias, input } = operator;
  const tokenTiles = Math.ceil(m / 8),
    passTiles = warpsN * warpTiles;
  const rowBytes = stageUnits * unitK(weight) * activationBytes(weight);
  const rest = isFp8(operator) ? (rowBytes % 128 <= 32 ? 32 : 96) : 64;
  const rowStride = Math.floor(rowBytes / 128) * 128 + rest;
  return {
    stage: alignShared(passTiles * stageUnits * unitBytes(weight) + tokenTiles * 8 * rowStride),
    fixed:
      Math.floor(warpsK / 2) * warpsN * tokenTiles * kFragmentBytes +
      (bias || weight !== 'fp16' ? Math.ceil((Math.ceil(n / 16) * cluster) / blocks) * 128 : 0) +
      (input === 'quantised' ? alignShared(tokenTiles * 8 * 4) : 0) +
      (cluster > 1 ? cluster * Math.ceil(passTiles / cluster) * tokenTiles * kFragmentBytes : 0) +
      16,
  };
}

function isFp8({ weight }: DenseShape): boolean {
  return weight.includes('fp8');
}

function totalBytes(operator: DenseShape, tuning: ThinTuning): number {
  return ringBytes(sharedBytes(operator, tuning), tuning.stages);
}

/** Why a tuning does not fit, or null. */
function misfit(operator: DenseShape, tuning: ThinTuning): string | null {
  const { blocks, cluster, warpsN, warpTiles, warpsK, stageUnits } = tuning;
  const units = operator.k / unitK(operator.weight);
  if (blocks % cluster !== 0 || blocks / cluster > Math.ceil(operator.n / 16))
    return `${blocks} blocks in clusters of ${cluster} for ${Math.ceil(operator.n / 16)} tiles`;
  if (units % cluster !== 0) return `${units} units of k for clusters of ${cluster}`;
  if (stageUnits % warpsK !== 0) return `${stageUnits} units in a stage for ${warpsK} warps along k`;
  if ((warpsK & (warpsK - 1)) !== 0) return `${warpsK} warps along k is no power of two`;
  if (warpsN * warpsK > 16 || warpTiles * Math.ceil(operator.m / 8) > 32) return `${warpsN} × ${warpsK} warps with ${warpTiles} tiles each`;
  const shared = totalBytes(operator, tuning);
  return shared > kSharedLimitBytes ? `${shared} bytes of shared memory (at most ${kSharedLimitBytes})` : null;
}

/** Warps along n and tiles of each: fewest idle places first, then in the order of preference of `warpTiles`. */
function shareTiles(passTiles: number, warpTiles: readonly number[]): readonly [number, number] {
  let best: readonly [number, number] = [Math.min(7, passTiles), Math.ceil(passTiles / Math.min(7, passTiles))];
  let idle = Infinity;
  for (const tiles of warpTiles) {
    const warps = Math.ceil(passTiles / tiles);
    if (warps > 8 || (warps < 4 && tiles > 1)) continue;
    if (warps * tiles - passTiles < idle) [best, idle] = [[warps, tiles], warps * tiles - passTiles];
  }
  return best;
}

function defaults(operator: DenseShape, given: Tuning): ThinTuning {
  const { weight, m } = operator;
  const tiles = Math.ceil(operator.n / 16),
    units = operator.k / unitK(weight);
  const clusters = m <= 8 || tiles >= kManyTiles ? [1] : [2, 1];
  const cluster = given['cluster'] ?? clusters.find((size) => units % size === 0) ?? 1;
  const blocks = given['blocks'] ?? cluster * Math.min(tiles, Math.floor((kBlocksByCluster[cluster] ?? 128) / cluster));
  const groupTiles = Math.ceil(tiles / (blocks / cluster));
  // Equal passes, shared out among warps as evenly as possible.
  const passTiles = Math.ceil(groupTiles / Math.ceil(groupTiles / (given['passTiles'] ?? (m > 32 ? 7 : 14))));
  const [warpsN, warpTiles] =
    given['warpsN'] !== undefined
      ? [given['warpsN'], given['warpTiles'] ?? Math.ceil(passTiles / given['warpsN'])]
      : shareTiles(passTiles, given['warpTiles'] === undefined ? [2, 3, 1] : [given['warpTiles']]);
  // Units of a stage: one per warp along k at least, then as many as 16 KB of weights and 48 KB in all allow.
  const sizes = (warpsK: number, stageUnits: number): RingSizes =>
    sharedBytes(operator, { blocks, cluster, warpsN, warpTiles, warpsK, stageUnits, prefetchStages: 0 });
  let warpsK = given['warpsK'] ?? (warpsN > 7 ? 1 : warpsN > 2 ? 2 : 8 / warpsN);
  while (given['warpsK'] === undefined && warpsK > 1 && sizes(warpsK, warpsK).stage > 49152) warpsK /= 2;
  let stageUnits = given['stageUnits'] ?? warpsK;
  if (given['stageUnits'] === undefined) {
    const fits = (more: number): boolean => (units / cluster) % more === 0 && sizes(warpsK, more).stage <= 49152;
    while (stageUnits * warpsN * warpTiles * unitBytes(weight) < 16384 && fits(stageUnits * 2)) stageUnits *= 2;
  }
  const fitting = (): number => stagesWithin(kSharedBudgetBytes, sizes(warpsK, stageUnits));
  // Large stages are fetched in larger pieces, but two of them would run dry.
  while (given['stageUnits'] === undefined && fitting() < 3 && stageUnits / 2 >= warpsK) stageUnits /= 2;
  return {
    blocks,
    cluster,
    warpsN,
    warpTiles,
    warpsK,
    stageUnits,
    stages: given['stages'] ?? Math.max(2, Math.min(8, fitting())),
    prefetchStages: given['prefetchStages'] ?? 1,
  };
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit the operator or the shared memory */
function plan(match: DenseMatch, name: string, given: Tuning, next: WeightRuns | null): KernelPlan {
  const operator = match.shape;
  const tuning = defaults(operator, given);
  const reason = misfit(operator, tuning);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', `tuning of ${name} does not fit: ${reason}`, { ...tuning });
  const { blocks, cluster, warpsN, warpTiles, warpsK, stageUnits, stages, prefetchStages } = tuning;
  const shared = totalBytes(operator, tuning);
  return densePlan(
    match,
    name,
    {
      header: 'matmul/thin/thin.cuh',
      kernel: 'thin',
      type: 'Thin',
      blocks,
      cluster,
      threads: (warpsN * warpsK + 2) * 32,
      sharedBytes: shared,
      constants: [
        `static constexpr int kBlocks = ${blocks}, kCluster = ${cluster}, kWarpsN = ${warpsN}, kWarpTiles = ${warpTiles}, kWarpsK = ${warpsK};`,
        `static constexpr int kStageUnits = ${stageUnits}, kStages = ${stages}, kPrefetchStages = ${prefetchStages};`,
      ],
      reads: tileRuns(operator, kTileRows, cluster),
    },
    next,
  );
}

/** Candidates for the tuner, the default first; all fit. */
function configurations(operator: DenseShape): readonly Tuning[] {
  const given = [
    {},
    { cluster: 1 },
    { cluster: 2 },
    { cluster: 1, stageUnits: 4 },
    { cluster: 2, stageUnits: 4 },
    { stageUnits: 2 },
    { stageUnits: 8 },
    { passTiles: 21 },
    { warpsK: 1 },
  ] as readonly Tuning[];
  return fittingTunings(
    given,
    (one) => defaults(operator, one),
    (tuning) => misfit(operator, tuning) === null,
  );
}

/** A few tokens with weights of at least a byte, which mma.sync takes as they are or converted. */
export const thin = denseFamily({
  id: 'matmul/thin',
  version: 1,
  paired: false,
  refuse(shape) {
    const decodes = weightBits(shape.weight) < 8 || isMxWeight(shape.weight);
    return refusePrologue(shape) ?? (decodes ? new Refusal('weight', `${shape.weight} weights are decoded for warpgroups`) : null);
  },
  configurations,
  plan,
});

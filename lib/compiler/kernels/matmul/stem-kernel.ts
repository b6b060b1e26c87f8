/**
 * The kernel of native/kernels/matmul/tile/stem.cuh: the first convolution of a network, which reads images as planes. Sizes that it
 * takes, how its weights are stored, how its work is shared out, its shared memory and its text.
 */
import { formats } from '../../../formats/index.js';
import type { LayoutDigit } from '../../../native.js';
import { contractedOf, instantiate, kTurnPadBytes, type TileKernel, type TileShape, type TileTuning } from './tile-kernel.js';

/** Bytes of zeros before and after a line, together. */
const kLinePadBytes = 32;
const kMostThreads = 512;
/** Blocks on a multiprocessor. */
const kResident = 2;
/** Of a tile that has all rows of its windows: places of a warp, its outputs at most, and places of a row that there are registers for. */
const [kWholeWarpRows, kWholeOutputs, kMostWholePlaces] = [48, 32, 128];
/** Outputs of a warp, at least. */
const kLeastOutputs = 16;

/** A stem that the kernel takes. */
export interface StemSizes {
  /** Output rows whose places fill warps, as few as that takes. */
  readonly rows: number;
  /** Whether windows of 3 × 3 at every second place are stored instead of all results. */
  readonly pooled: boolean;
}

/** Its work shared out. */
export interface StemTuning {
  /** Places of a tile, and of a warp. */
  readonly rows: number;
  readonly warpRows: number;
  /** Outputs of a block. */
  readonly outputs: number;
  /** Tiles of two rows that a block goes down; 1 where tiles have all rows of their windows. */
  readonly bandTiles: number;
  readonly blocks: number;
  readonly sharedBytes: number;
}

/** Columns of a run of k, and how many runs a step has. */
function runsOf({ kernelX, paddingX }: TileShape): { readonly run: number; readonly stepRuns: number } {
  const run = kernelX + (paddingX % 2) <= 4 ? 4 : 8;
  return { run, stepRuns: 16 / run };
}

/** A convolution whose x comes as planes, or null where no kernel takes it. */
export function stemSizes(shape: TileShape, pooled = false): StemSizes | null {
  const { width, channels, kernelX, strideX, paddingX, outHeight, outWidth, n } = shape;
  const shift = paddingX % 2;
  const rows = [1, 2, 4, 8].find((count) => (count * outWidth) % 32 === 0 && outHeight % count === 0);
  const fits =
    channels <= 4 &&
    n <= 64 &&
    shape.weight === 'fp16' &&
    !shape.pairs &&
    strideX % 2 === 0 &&
    width % 8 === 0 &&
    kernelX + shift <= 8 &&
    paddingX + shift <= 8 &&
    (outWidth - 1) * strideX - paddingX - shift + runsOf(shape).run <= width + 8;
  if (!fits || rows === undefined || rows * outWidth > kMostThreads) return null;
  // A row of windows has two of results.
  if (pooled && (rows !== 2 || outWidth % 2 !== 0 || shape.residual)) return null;
  return { rows, pooled };
}

/** Outputs side by side, as a block makes eight lanes' operands of two columns at a time; n is padded to eights. */
export function stemLayout(shape: TileShape): readonly LayoutDigit[] {
  return [
    { axis: 'k', stride: 1, size: contractedOf(shape) },
    { axis: 'n', stride: 1, size: Math.ceil(shape.n / 8) * 8 },
  ];
}

/** @param processors multiprocessors that blocks are spread over */
export function stemTuning(shape: TileShape, { rows, pooled }: StemSizes, processors: number): StemTuning {
  const { images, outHeight, outWidth, n } = shape;
  const most = processors * kResident;
  // Tiles of all rows of their windows as long as they run at once: more rows are made twice than by bands, but no tile waits for another.
  const whole = pooled && ((images * outHeight) / 2) * Math.ceil(n / kWholeOutputs) <= most && outWidth <= kMostWholePlaces;
  const imageTiles = outHeight / rows;
  const bandTiles = whole ? 1 : Math.ceil(imageTiles / Math.max(1, Math.min(imageTiles, Math.floor(most / images))));
  const work = images * (pooled ? Math.ceil(imageTiles / bandTiles) : imageTiles);
  // Outputs are shared out as long as each block has a multiprocessor of its own, but not those of a scale.
  const least = Math.max(kLeastOutputs, shape.codes === null ? 0 : formats.get(shape.codes).activation!.group);
  let outputs = n <= 32 || whole ? 32 : 64;
  while (outputs > least && work * Math.ceil(n / (outputs / 2)) <= processors) outputs /= 2;
  const blocks = work * Math.ceil(n / outputs);
  const tuning = { rows: (whole ? 3 : rows) * outWidth, warpRows: whole ? kWholeWarpRows : 32, outputs, bandTiles };
  return { ...tuning, blocks: pooled ? blocks : Math.min(blocks, most), sharedBytes: sharedBytesOf(shape, pooled, tuning) };
}

function sharedBytesOf(
  shape: TileShape,
  pooled: boolean,
  { rows, warpRows, outputs }: Pick<StemTuning, 'rows' | 'warpRows' | 'outputs'>,
): number {
  const { width, channels, kernelY, strideY, outWidth } = shape;
  const { stepRuns } = runsOf(shape);
  const steps = Math.ceil((kernelY * channels) / stepRuns);
  const tileRows = rows / outWidth;
  const lines = (tileRows - 1) * strideY * channels + steps * stepRuns;
  const patch = Math.ceil((lines * (width * 2 + kLinePadBytes)) / 128) * 128;
  const turns = (rows / warpRows) * (outputs < 32 ? 16 : 8) * (outputs * 4 + kTurnPadBytes);
  return (
    (pooled && tileRows === 3 ? 1 : 2) * patch +
    steps * (outputs / 8) * 256 +
    (pooled ? 3 * outWidth * outputs * 2 : turns) +
    (shape.bias ? outputs * 2 : 0)
  );
}

/** @param processors multiprocessors that blocks are spread over */
export function stemKernel(shape: TileShape, name: string, stem: StemSizes, processors: number): TileKernel {
  const { rows, warpRows, outputs, bandTiles, blocks, sharedBytes } = stemTuning(shape, stem, processors);
  const tuning: TileTuning = { rows, outputs, warpRows, warpOutputs: outputs, stages: 2, split: 1, resident: kResident, wgmma: 0 };
  return instantiate(
    shape,
    name,
    tuning,
    {
      header: 'matmul/tile/stem.cuh',
      kernel: 'stemProduct',
      type: 'Stem',
      blocks,
      threads: (rows / warpRows) * 32,
      sharedBytes,
    },
    { constants: [`static constexpr bool kPool = ${stem.pooled};`, `static constexpr int kBandTiles = ${bandTiles};`] },
  );
}

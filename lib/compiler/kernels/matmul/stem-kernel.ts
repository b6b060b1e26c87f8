/**
 * The kernel of native/kernels/matmul/tile/stem.cuh: the first convolution of a network, which reads images as planes. Sizes that it
 * takes, its shared memory and its text.
 */
import { instantiate, rowsOf, type TileKernel, type TileShape, type TileTuning } from './tile-kernel.js';

/** Places of a warp. */
const kWarpRows = 32;
/** Bytes of zeros before and after a line, together. */
const kLinePadBytes = 32;
const kMostThreads = 512;

/** The tile of a stem: places, outputs, and its shared memory. */
export interface StemSizes {
  readonly rows: number;
  readonly warpOutputs: number;
  readonly sharedBytes: number;
  /** Whether windows of 3 × 3 at every second place are stored instead of all results. */
  readonly pooled: boolean;
}

/** The tile of a convolution whose x comes as planes, or null where no kernel takes it. */
export function stemSizes(shape: TileShape, pooled = false): StemSizes | null {
  const { width, channels, kernelY, kernelX, strideY, strideX, paddingX, outHeight, outWidth, n } = shape;
  const shift = paddingX % 2;
  const run = kernelX + shift <= 4 ? 4 : 8;
  // Output rows whose places fill warps, as few as that takes.
  const rows = [1, 2, 4, 8].find((count) => (count * outWidth) % kWarpRows === 0 && outHeight % count === 0);
  const fits =
    channels <= 4 &&
    n <= 64 &&
    shape.weight === 'fp16' &&
    !shape.pairs &&
    strideX % 2 === 0 &&
    width % 8 === 0 &&
    kernelX + shift <= 8 &&
    paddingX + shift <= 8 &&
    (outWidth - 1) * strideX - paddingX - shift + run <= width + 8;
  if (!fits || rows === undefined || rows * outWidth > kMostThreads) return null;
  // A row of windows has two of results.
  if (pooled && (rows !== 2 || outWidth % 2 !== 0 || shape.residual)) return null;
  const stepRuns = 16 / run;
  const runs = kernelY * channels;
  const steps = Math.ceil(runs / stepRuns);
  const lines = ((rows - 1) * strideY + kernelY) * channels + steps * stepRuns - runs;
  const patch = Math.ceil((lines * (width * 2 + kLinePadBytes)) / 128) * 128;
  const warpOutputs = n <= 32 ? 32 : 64;
  const warps = (rows * outWidth) / kWarpRows;
  return {
    rows: rows * outWidth,
    warpOutputs,
    sharedBytes:
      2 * patch +
      steps * (warpOutputs / 8) * 256 +
      (pooled ? 3 * outWidth * warpOutputs * 2 : warps * 8 * (warpOutputs * 4 + 32)) +
      (shape.bias ? warpOutputs * 2 : 0),
    pooled,
  };
}

/** @param processors multiprocessors that blocks are spread over */
export function stemKernel(shape: TileShape, name: string, stem: StemSizes, processors: number): TileKernel {
  const { rows, warpOutputs, sharedBytes, pooled } = stem;
  const threads = rows;
  const resident = 2;
  const tuning: TileTuning = { rows, outputs: warpOutputs, warpRows: kWarpRows, warpOutputs, stages: 2, split: 1, resident, wgmma: 0 };
  const most = processors * resident;
  // Bands of an image, each of which computes a tile of the one before once more, as long as all blocks run at once.
  const imageTiles = (shape.outHeight * shape.outWidth) / rows;
  const bandTiles = Math.ceil(imageTiles / Math.max(1, Math.min(imageTiles, Math.floor(most / shape.images))));
  return instantiate(
    shape,
    name,
    tuning,
    {
      header: 'matmul/tile/stem.cuh',
      kernel: 'stemProduct',
      type: 'Stem',
      blocks: pooled ? shape.images * Math.ceil(imageTiles / bandTiles) : Math.min(rowsOf(shape) / rows, most),
      threads,
      sharedBytes,
    },
    { constants: [`static constexpr bool kPool = ${pooled};`, `static constexpr int kBandTiles = ${bandTiles};`] },
  );
}

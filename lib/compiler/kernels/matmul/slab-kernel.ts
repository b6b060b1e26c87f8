/**
 * The kernel of native/kernels/matmul/tile/tile_slab.cuh: convolutions of few channels whose lines stay in shared memory for all taps. What it
 * takes, its tuning, shared memory and text.
 */
import { LadderError } from '../../../errors.js';
import { isMx, weightFormat } from '../../../formats/index.js';
import { kSharedLimitBytes } from './template.js';
import {
  contractedOf,
  instantiate,
  kPanelBytes,
  placeBytes,
  termBytes,
  turnBytes,
  type TileKernel,
  type TileShape,
  type TileTuning,
} from './tile-kernel.js';

/** What a tuning has for `wgmma`. */
export const kSlabWgmma = 2;

/** Of a block. */
const kTeams = 2;

/** Positions of all images, and those around a tile to one side. */
function slabPositions({ images, height, width, kernelX }: TileShape): { readonly around: number; readonly all: number } {
  const reach = (kernelX - 1) / 2;
  const pitch = width + reach;
  return { around: reach * (pitch + 1), all: images * (height + reach) * pitch };
}

/** Tiles of positions. */
function slabTilesOf(shape: TileShape, { rows }: Pick<TileTuning, 'rows'>): number {
  return Math.ceil(slabPositions(shape).all / rows);
}

function slabSharedBytes(shape: TileShape, tuning: TileTuning): number {
  const { rows, outputs } = tuning;
  const panels = Math.ceil((contractedOf(shape) * operandBytes(shape)) / kPanelBytes);
  const slab = Math.ceil(((rows + 2 * slabPositions(shape).around) * kPanelBytes) / 1024) * 1024;
  const turns = ((kTeams * rows) / 16) * turnBytes(shape, tuning);
  return panels * outputs * kPanelBytes + 2 * kTeams * slab + turns + termBytes(shape, outputs);
}

/** Of a number as it is multiplied: MX becomes BF16. */
function operandBytes({ weight }: TileShape): number {
  return weight === 'fp16' || isMx(weightFormat(weight)) ? 2 : 1;
}

/** Whether a convolution's lines can stay in shared memory, whatever the tuning. */
function isSlab(shape: TileShape): boolean {
  const { kernelX, kernelY, strideX, strideY, paddingX, paddingY, channels, n, pairs, residual, patches, xScale, second } = shape;
  const reach = (kernelX - 1) / 2;
  const square = kernelX === kernelY && kernelX % 2 === 1 && kernelX > 1 && paddingX === reach && paddingY === reach;
  const operand = channels * operandBytes(shape);
  return (
    square &&
    strideX * strideY === 1 &&
    (n === 32 || n === 64) &&
    operand <= kPanelBytes &&
    operand % 32 === 0 &&
    placeBytes(shape) % 16 === 0 &&
    !(pairs || residual || patches || second || xScale === 'row')
  );
}

/** Why a tuning does not fit, or null. */
export function slabMisfit(shape: TileShape, tuning: TileTuning): string | null {
  const { rows, outputs, warpRows, warpOutputs, split, resident } = tuning;
  if (!isSlab(shape)) return 'expected an odd kernel, stride 1, and rows of at most 128 bytes, where lines stay in shared memory';
  if (rows % 64 !== 0 || warpRows !== 16 || outputs !== shape.n || warpOutputs !== outputs || split !== 1 || resident !== 1)
    return 'expected tiles of 64 rows and all outputs, a block on a multiprocessor, where lines stay in shared memory';
  if (kTeams * rows * 2 > 512) return `expected at most 128 rows of a team but received ${rows}`;
  const shared = slabSharedBytes(shape, tuning);
  return shared > kSharedLimitBytes ? `lines take ${shared} bytes of shared memory, more than ${kSharedLimitBytes}` : null;
}

/**
 * @param processors multiprocessors that blocks are spread over
 * @throws LadderError `BAD_ARGUMENT` when the tuning does not fit
 */
export function slabKernel(shape: TileShape, name: string, tuning: TileTuning, processors: number): TileKernel {
  const reason = slabMisfit(shape, tuning);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', reason, { ...tuning });
  return instantiate(shape, name, tuning, {
    header: 'matmul/tile/tile_slab.cuh',
    kernel: 'tileSlabProduct',
    type: 'TileSlab',
    blocks: Math.min(processors, Math.ceil(slabTilesOf(shape, tuning) / kTeams)),
    threads: kTeams * tuning.rows * 2,
    sharedBytes: slabSharedBytes(shape, tuning),
  });
}

/** The tuning that there is, or null where the kernel does not take the convolution. */
export function slabTuning(shape: TileShape): TileTuning | null {
  const { n } = shape;
  const tuning: TileTuning = { rows: 128, outputs: n, warpRows: 16, warpOutputs: n, stages: 2, split: 1, resident: 1, wgmma: kSlabWgmma };
  return slabMisfit(shape, tuning) === null ? tuning : null;
}

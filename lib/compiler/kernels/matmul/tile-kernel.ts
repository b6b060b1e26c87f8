/**
 * The kernel of native/kernels/matmul/tile: what it computes as a flat record, stored orders, tunings that fit, generated text, and the
 * shared memory that a tuning takes, mirrored from the kernel (the generated text asserts that both agree).
 */
import { LadderError } from '../../../errors.js';
import { formats, isMx, weightFormat } from '../../../formats/index.js';
import type { Codes, LayoutDigit } from '../../../native.js';
import { launchOf } from '../launch.js';
import type { KernelArgument, KernelPlan } from '../plan.js';
import { resultMembers, type Results, resultsText } from '../results.js';
import { kSharedLimitBytes, weightBits } from './template.js';

/** Bytes of x along k that a stage holds of every row. */
export const kPanelBytes = 128;
/** Weight rows of a chunk. */
const kChunkRows = 8;
/** Outputs that a warp turns at a time, at most. */
const kTurnOutputs = 64;
/** Rows of sums are this far from a multiple of 128 bytes. */
export const kTurnPadBytes = 32;
/** Shared memory that each block takes beside its own. */
export const kReservedBytes = 1024;
/** Taps that a row's mask has. */
const kMostTaps = 12;

/** A product whose results are added to another's: of each row one place of images of its own, every `stride`-th along both sides. */
export interface SecondProduct {
  readonly height: number;
  readonly width: number;
  /** 1: row after row, whatever the images' sides. */
  readonly stride: number;
  readonly channels: number;
  readonly bias: boolean;
}

/** A product as the kernel sees it. A dense one has an image of one place per row. */
export interface TileShape extends Results {
  readonly images: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly kernelY: number;
  readonly kernelX: number;
  readonly strideY: number;
  readonly strideX: number;
  readonly paddingY: number;
  readonly paddingX: number;
  readonly outHeight: number;
  readonly outWidth: number;
  /** Whether x comes as planes, of which each of the kernel's patches, which do not overlap, is a row: k = (channel, line, column). */
  readonly patches: boolean;
  readonly n: number;
  /** Ids of formats. */
  readonly weight: string;
  readonly activation: string;
  /** Scales of x: none (MX: those of its blocks), one per row, one of all. */
  readonly xScale: 'none' | 'row' | 'one';
  readonly bias: boolean;
  readonly residual: boolean;
  /** Whether each image has one more row of results, its token, before the others, and the residual is positions, the same of all images. */
  readonly tokens: boolean;
  /** Whether outputs i and i + n/2 make one. */
  readonly pairs: boolean;
  /** Of the same formats and outputs, where there is one. */
  readonly second: SecondProduct | null;
  /** What follows the sums, C++ expressions of `value` (the first one's also of `paired`) and `residual`, one after the other. */
  readonly steps: readonly string[];
}

export interface TileTuning {
  /** Of a tile, and of a warp's part of it. */
  readonly rows: number;
  readonly outputs: number;
  readonly warpRows: number;
  readonly warpOutputs: number;
  readonly stages: number;
  /** Blocks of a cluster that share out k. */
  readonly split: number;
  /** Blocks on a multiprocessor. */
  readonly resident: number;
  /**
   * 1: by wgmma (sm_90a), 64 rows × all outputs of a tile per warpgroup; warpRows is 16 then. 2: the same of a convolution's lines that stay in
   * shared memory for all taps (slab-kernel.ts). 3: MX, whose codes are multiplied as FP8, and whose sums are scaled block by block.
   */
  readonly wgmma: number;
}

/** What a tuning has for `wgmma` where MX is multiplied block by block. */
export const kByBlocks = 3;

export function rowsOf({ images, outHeight, outWidth }: TileShape): number {
  return images * outHeight * outWidth;
}

export function contractedOf({ kernelY, kernelX, channels }: TileShape): number {
  return kernelY * kernelX * channels;
}

export function panelK(weight: string): number {
  return weight === 'fp16' ? kPanelBytes / 2 : kPanelBytes;
}

/** Of both products, if there are two. */
export function panelsOf(shape: TileShape): number {
  const panel = panelK(shape.weight);
  return Math.ceil(contractedOf(shape) / panel) + Math.ceil((shape.second?.channels ?? 0) / panel);
}

/** Panels of FP8 whose sums stay in the tensor cores' own accumulators. */
export const kSpan = 2;
/** Bits below a product of integers in the kernel's sums: 4-bit ones lie in the upper half of their byte, ones of 1 bit are ∓64. */
const kUnitBits: Readonly<Record<number, number>> = { 4: 4, 1: 6 };

/** The largest product of two integers, or 0. */
function mostOf({ weight, activation }: TileShape): number {
  const most = (codes: Codes): number => (codes.kind === 'integer' ? Math.max(-codes.min, codes.max) : 1);
  const [w, x] = [formats.get(weight).element, formats.get(activation).element];
  return w.bits <= 4 ? most(w.codes) * most(x.codes) : 0;
}

/** Whether sums of two products become float32, scaled, before they meet (native/kernels/matmul/tile/tile_block.cuh: kFolded). */
export function isFolded(shape: TileShape): boolean {
  const { second, weight } = shape;
  if (!second || !isScaled(weight)) return false;
  const unitBits = kUnitBits[weightBits(weight)];
  if (unitBits === undefined) return panelsOf(shape) > kSpan;
  const [most, other] = [mostOf(shape) * contractedOf(shape), mostOf(shape) * second.channels];
  const shift = Math.floor(Math.log2(other)) + 2;
  return most * 2 ** shift + other >= 2 ** (31 - unitBits);
}

const k = (stride: number, size: number): LayoutDigit => ({ axis: 'k', stride, size });
const n = (stride: number, size: number): LayoutDigit => ({ axis: 'n', stride, size });

/** Chunks of 8 rows of a panel, each contiguous, drawn in native/kernels/matmul/tile/tile.cuh; n and k are padded to whole chunks. */
export function tileLayouts(shape: Pick<TileShape, 'n' | 'weight' | 'pairs'> & { readonly k: number }): {
  readonly weightLayout: readonly LayoutDigit[];
  readonly scaleLayout: readonly LayoutDigit[] | null;
} {
  const { weight, pairs } = shape;
  const chunks = pairs ? [n(kChunkRows, shape.n / 2 / kChunkRows), n(shape.n / 2, 2)] : [n(kChunkRows, Math.ceil(shape.n / kChunkRows))];
  const panel = panelK(weight);
  const panels = Math.ceil(shape.k / panel);
  const row = n(1, kChunkRows);
  const chunk = ((): readonly LayoutDigit[] => {
    switch (weightBits(weight)) {
      case 4:
        return [k(32, 4), row, k(4, 4), k(1, 4), k(16, 2)];
      case 1:
        return [row, k(4, 4), k(1, 4), k(32, 4), k(16, 2)];
      default:
        return [k(panel / 8, 8), row, k(1, panel / 8)];
    }
  })();
  return {
    weightLayout: [...chunks, k(panel, panels), ...chunk],
    scaleLayout: isMx(weightFormat(weight)) ? [...chunks, k(4, panels), row, k(1, 4)] : null,
  };
}

/** Bytes of shared memory. */
export function tileSharedBytes(shape: TileShape, { rows, outputs, warpRows, warpOutputs, stages, split, wgmma }: TileTuning): number {
  const { weight } = shape;
  const mx = isMx(weightFormat(weight));
  const weightBytes = (outputs * panelK(weight) * (wgmma ? Math.max(8, weightBits(weight)) : weightBits(weight))) / 8;
  const unit = wgmma === kByBlocks ? 1024 : 128;
  const stage = Math.ceil((rows * kPanelBytes + weightBytes + (mx ? 4 * (rows + outputs) : 0)) / unit) * unit;
  const ring =
    mx && wgmma && wgmma !== kByBlocks ? Math.ceil((stages * stage) / 1024) * 1024 + 2 * (rows + outputs) * kPanelBytes : stages * stage;
  const warps = (rows / warpRows) * (outputs / warpOutputs);
  const terms = termBytes(shape, outputs);
  if (split > 1) return Math.max(ring, rows * (outputs * 4 + kTurnPadBytes)) + terms;
  return ring + warps * turnBytes(shape, { warpOutputs, wgmma }) + (Math.ceil((stages - 1) / panelsOf(shape)) + 2) * terms;
}

/** Of scales and biases of a tile's weight rows. */
export function termBytes({ weight, bias, second }: TileShape, outputs: number): number {
  return [isScaled(weight), isScaled(weight) && second, bias, second?.bias ?? false].filter(Boolean).length * outputs * 2;
}

/** Of the place where a warp turns its sums. */
export function turnBytes({ pairs }: TileShape, { warpOutputs, wgmma }: Pick<TileTuning, 'warpOutputs' | 'wgmma'>): number {
  const turned = Math.min(warpOutputs, wgmma && !pairs ? kTurnOutputs / 2 : kTurnOutputs);
  return (turned / (pairs ? 16 : 8) < 4 ? 16 : 8) * (turned * 4 + kTurnPadBytes);
}

/** Whether weights have scales of their rows. */
export function isScaled(weight: string): boolean {
  return weight !== 'fp16' && !isMx(weightFormat(weight));
}

export function tileThreads({ rows, outputs, warpRows, warpOutputs }: TileTuning): number {
  return (rows / warpRows) * (outputs / warpOutputs) * 32;
}

export function tilesOf(shape: TileShape, { rows, outputs }: Pick<TileTuning, 'rows' | 'outputs'>): number {
  return Math.ceil(rowsOf(shape) / rows) * Math.ceil(shape.n / outputs);
}

/** Why a tuning does not fit a product, or null. */
export function tileMisfit(shape: TileShape, tuning: TileTuning): string | null {
  const { rows, outputs, warpRows, warpOutputs, stages, split, resident, wgmma } = tuning;
  const threads = tileThreads(tuning);
  const shared = tileSharedBytes(shape, tuning);
  const widths = wgmma ? [32, 64, 128, 192, 256] : shape.pairs ? [32, 64] : [16, 32, 64];
  if (rows % warpRows !== 0 || outputs % warpOutputs !== 0 || warpRows % 16 !== 0 || !widths.includes(warpOutputs))
    return `expected warps of 16 rows and ${widths.join(', ')} outputs that divide a tile of ${rows} × ${outputs}`;
  if (wgmma && (rows % 64 !== 0 || warpRows !== 16 || warpOutputs !== outputs))
    return `expected tiles of 64 rows, and warps of 16 rows and all outputs, for wgmma`;
  if (wgmma === kByBlocks && !isMx(weightFormat(shape.weight))) return `expected MX where sums are scaled block by block`;
  if (threads < 128 || threads * resident > 1024 || rows % 32 !== 0)
    return `expected 128 to ${Math.floor(1024 / resident)} threads but received ${threads}`;
  if (shape.codes !== null && formats.get(shape.codes).activation!.group > warpOutputs / (shape.pairs ? 2 : 1))
    return `expected warps of all results that share a scale`;
  if (stages < 2) return `expected at least 2 stages but received ${stages}`;
  if (split > Math.min(8, panelsOf(shape)))
    return `expected at most ${Math.min(8, panelsOf(shape))} blocks to share out k but received ${split}`;
  const limit = Math.floor((kSharedLimitBytes + kReservedBytes) / resident) - kReservedBytes;
  if (shared > limit) return `${stages} stages take ${shared} bytes of shared memory, more than ${limit}, a share of ${resident} blocks`;
  return null;
}

/** Of a place of x: all of its channels. */
export function placeBytes({ channels, weight }: TileShape): number {
  return channels * (weight === 'fp16' ? 2 : 1);
}

/** Whether x is read by units that cp.async copies, each of one tap. */
export function isGathered(shape: TileShape): boolean {
  return placeBytes(shape) % 4 === 0 && shape.kernelY * shape.kernelX <= kMostTaps;
}

/** A kernel's text and launch. */
export interface TileKernel {
  /** Below native/kernels. */
  readonly header: string;
  readonly text: string;
  readonly blocks: number;
  readonly threads: number;
  readonly sharedBytes: number;
  /** Members of TileArguments and of its results that are its parameters, in order. */
  readonly members: readonly string[];
}

const kMemberTypes: Readonly<Record<string, string>> = {
  x: 'const void*',
  xScale: 'const void*',
  weight: 'const uint8_t*',
  scale: 'const void*',
  bias: 'const __half*',
  residual: 'const __half*',
  token: 'const __half*',
  x2: 'const void*',
  xScale2: 'const void*',
  weight2: 'const uint8_t*',
  scale2: 'const void*',
  bias2: 'const __half*',
  gain: 'const __half*',
  beta: 'const __half*',
};

/** A kernel's one launch. @param operands by member */
export function tilePlan(
  { header, text, blocks, threads, sharedBytes, members }: TileKernel,
  name: string,
  operands: Readonly<Partial<Record<string, KernelArgument>>>,
): KernelPlan {
  const args = members.map((member) => operands[member]!);
  return launchOf(header, text, { name, blocks, threads, dynamicSharedBytes: sharedBytes, arguments: args });
}

/** A template of native/kernels/matmul/tile: its header, function and class, and what of it depends on the tuning. */
interface TileTemplate {
  readonly header: string;
  readonly kernel: string;
  readonly type: string;
  readonly blocks: number;
  readonly threads: number;
  readonly sharedBytes: number;
}

/** What a template reads and knows beside what all have. */
interface TileExtras {
  readonly constants?: readonly string[];
  /** Members of TileArguments' heir, after x. */
  readonly members?: readonly string[];
  readonly arguments?: string;
}

/** Text of a configuration, as native/kernels/matmul/tile/tile_block.cuh reads one. @param constants further members */
export function configurationText(
  shape: TileShape,
  name: string,
  tuning: Omit<TileTuning, 'resident'>,
  blocks: number,
  constants: readonly string[] = [],
): string {
  const { images, height, width, channels, kernelY, kernelX, strideY, strideX, paddingY, paddingX, outHeight, outWidth } = shape;
  return [
    `struct ${name} {`,
    `  static constexpr ladder::WeightFormat kWeight = ladder::WeightFormat::${formats.get(shape.weight).weight!.enumerator!};`,
    `  static constexpr int kImages = ${images}, kHeight = ${height}, kWidth = ${width}, kChannels = ${channels}, kN = ${shape.n};`,
    `  static constexpr int kKernelY = ${kernelY}, kKernelX = ${kernelX}, kStrideY = ${strideY}, kStrideX = ${strideX};`,
    `  static constexpr int kPaddingY = ${paddingY}, kPaddingX = ${paddingX}, kOutHeight = ${outHeight}, kOutWidth = ${outWidth};`,
    `  static constexpr bool kScaled = ${isScaled(shape.weight)}, kRowScales = ${shape.xScale === 'row'}, kOneScale = ${shape.xScale === 'one'};`,
    `  static constexpr bool kBias = ${shape.bias}, kPairs = ${shape.pairs}, kResidual = ${shape.residual}, kTokens = ${shape.tokens}, kPatches = ${shape.patches}, kWgmma = ${tuning.wgmma > 0}, kByBlocks = ${tuning.wgmma === kByBlocks};`,
    `  static constexpr int kTileRows = ${tuning.rows}, kTileOutputs = ${tuning.outputs}, kWarpRows = ${tuning.warpRows}, kWarpOutputs = ${tuning.warpOutputs};`,
    `  static constexpr int kStages = ${tuning.stages}, kSplit = ${tuning.split}, kBlocks = ${blocks};`,
    `  ${secondText(shape)}`,
    ...constants.map((line) => `  ${line}`),
    `  ${resultsText(shape)}`,
    '  __device__ __forceinline__ static float apply(float value, float paired, float residual) {',
    ...shape.steps.map((step) => `    value = ${step};`),
    '    return value;',
    '  }',
    '};',
  ].join('\n');
}

function secondText(shape: TileShape): string {
  const { second } = shape;
  if (!second) return 'using Second = ladder::NoSecond;';
  const { channels, height, width, stride, bias } = second;
  const sizes = `kChannels = ${channels}, kHeight = ${height}, kWidth = ${width}, kStride = ${stride}, kMost = ${mostOf(shape)}`;
  return `struct Second { static constexpr int ${sizes}; static constexpr bool kBias = ${bias}; };`;
}

/** Text of a configuration and its kernel. */
export function instantiate(
  shape: TileShape,
  name: string,
  tuning: TileTuning,
  template: TileTemplate,
  extras: TileExtras = {},
): TileKernel {
  const { header, kernel, type, blocks, threads, sharedBytes } = template;
  const mx = isMx(weightFormat(shape.weight));
  const members = [
    'x',
    ...(extras.members ?? (shape.xScale !== 'none' || mx ? ['xScale'] : [])),
    'weight',
    ...(isScaled(shape.weight) || mx ? ['scale'] : []),
    ...(shape.bias ? ['bias'] : []),
    ...(shape.residual ? ['residual'] : []),
    ...(shape.tokens ? ['token'] : []),
    ...(shape.second ? ['x2', 'weight2'] : []),
    ...(shape.second && (shape.xScale !== 'none' || mx) ? ['xScale2'] : []),
    ...(shape.second && (isScaled(shape.weight) || mx) ? ['scale2'] : []),
    ...(shape.second?.bias ? ['bias2'] : []),
  ];
  const results = resultMembers(shape);
  const parameters = [...members.map((member) => [member, kMemberTypes[member]!] as const), ...results];
  const text = [
    configurationText(shape, `${name}_config`, tuning, blocks, extras.constants),
    `extern "C" __global__ void ${tuning.split > 1 ? `LADDER_TILE_CLUSTER(${tuning.split}) ` : ''}__launch_bounds__(${threads}, ${tuning.resident}) ${name}(${parameters.map(([member, type]) => `${type} ${member}`).join(', ')}) {`,
    `  ladder::${extras.arguments ?? 'TileArguments'} p{};`,
    ...members.map((member) => `  p.${member} = ${member};`),
    ...results.map(([member]) => `  p.result.${member} = ${member};`),
    `  ladder::${kernel}<${name}_config>(p);`,
    ...(shape.codes === null ? [] : [`  ladder::Results<${name}_config>::storeScale(p.result);`]),
    '}',
    ...(shape.second ? [`static_assert(ladder::TileBlock<${name}_config>::kFolded == ${isFolded(shape)});`] : []),
    `static_assert(ladder::${type}<${name}_config>::kSharedBytes == ${sharedBytes} && ladder::${type}<${name}_config>::kBlockThreads == ${threads});`,
  ].join('\n');
  return { header, text, blocks, threads, sharedBytes, members: parameters.map(([member]) => member) };
}

/**
 * @param processors multiprocessors that blocks are spread over
 * @throws LadderError `BAD_ARGUMENT` when the tuning does not fit
 */
export function tileKernel(shape: TileShape, name: string, tuning: TileTuning, processors: number): TileKernel {
  const reason = tileMisfit(shape, tuning);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', reason, { ...tuning });
  const tiles = tilesOf(shape, tuning);
  return instantiate(shape, name, tuning, {
    ...(tuning.wgmma
      ? { header: 'matmul/tile/tile_groups.cuh', kernel: 'tileGroupsProduct', type: 'TileGroups' }
      : { header: 'matmul/tile/tile.cuh', kernel: 'tileProduct', type: 'Tile' }),
    blocks: tuning.split > 1 ? tiles * tuning.split : Math.min(tiles, processors * tuning.resident),
    threads: tileThreads(tuning),
    sharedBytes: tileSharedBytes(shape, tuning),
  });
}

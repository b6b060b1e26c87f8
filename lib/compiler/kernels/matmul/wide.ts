/**
 * Configurations of native/kernels/matmul/wide (65 to 16384 tokens): stored orders, defaults, candidates for the tuner, generated text,
 * and the shared memory that a configuration takes, mirrored from the kernel (the generated text asserts that both agree).
 */
import { LadderError } from '../../../errors.js';
import type { LayoutDigit } from '../../../native.js';
import type { Layout, Program } from '../../../operators/program.js';
import { kMaxChannels } from '../activation.js';
import { defineFamily, type PlanContext, Refusal, type Storage } from '../family.js';
import { isInPanels, isPanelStorage, kPanelBytes, panelLayout } from '../panels.js';
import type { KernelLaunch, KernelPlan, Tuning } from '../plan.js';
import { withStorage } from './layouts.js';
import { type DenseMatch, type DenseShape, denseKey, matchDense, refuseLayouts, refusePrologue, refuseShape } from './shape.js';
import {
  alignShared,
  fittingTunings,
  isMxWeight,
  kernelText,
  kNf4TableBytes,
  kSharedLimitBytes,
  kSharedPortableBytes,
  operatorArguments,
  operatorConstants,
  ringBytes,
  type RingSizes,
  stagesWithin,
  unitK,
  weightBits,
} from './template.js';

const kTokens = { least: 65, most: 16384 };
/** Weight rows and tokens of a tile. */
const kTileRows = 128,
  kTileTokens = 256;
/** Outputs leave 64 tokens at a time, from two buffers for each of two warpgroups. */
const kChunkTokens = 64;
const kThreads = 384;
const kArrangeThreads = 256;

interface WideTuning {
  readonly blocks: number;
  /** Blocks that share their tokens. */
  readonly cluster: number;
  readonly stages: number;
  /** Tiles along the tokens for each step along the rows. */
  readonly groupTiles: number;
}

interface WideMatch extends DenseMatch {
  /** The values of the activations and of the result, and their orders in panels; null: in rows alone. */
  readonly x: number;
  readonly y: number;
  readonly xPanels: Layout | null;
  readonly yPanels: Layout | null;
  /** Whether the result is in panels. */
  readonly panelOutput: boolean;
}

/** Bytes of an activation as it is multiplied: MX ones are BF16 by then. */
function tokenBytes(weight: string): number {
  return isMxWeight(weight) || (weight !== 'int1' && weightBits(weight) !== 8) ? 2 : 1;
}

function panelK(weight: string): number {
  return kPanelBytes / tokenBytes(weight);
}

/** Weights that the tensor cores read as they are stored. */
function isStoredOperand(weight: string): boolean {
  return weight === 'fp16' || (weightBits(weight) === 8 && !isMxWeight(weight));
}

function accepts(program: Program): WideMatch | Refusal {
  const match = matchDense(program);
  if (match instanceof Refusal) return match;
  const { shape } = match;
  const { m, k, weight, residual } = shape;
  if (m < kTokens.least || m > kTokens.most)
    return new Refusal('m', `expected ${kTokens.least} to ${kTokens.most} tokens but received ${m}`);
  if (shape.input === 'quantised' && !isMxWeight(weight) && k > kMaxChannels)
    return new Refusal('k', `expected at most ${kMaxChannels}, which are quantised into panels, but received ${k}`);
  const x = program.nodes[0]!.inputs[0]!,
    y = program.outputs[0]!;
  const [source, result] = [program.values[x]!, program.values[y]!];
  // A residual comes to where outputs in rows will be.
  const yPanels = residual ? null : panelLayout(result);
  const wide: WideMatch = {
    shape,
    weight: match.weight,
    operands: match.operands,
    x,
    y,
    xPanels: isMxWeight(weight) ? null : panelLayout(source),
    yPanels,
    panelOutput: yPanels !== null && isInPanels(result),
  };
  const inPanels = [...(wide.xPanels && isInPanels(source) ? [x] : []), ...(wide.panelOutput ? [y] : [])];
  return (
    refuseShape(shape, Math.max(panelK(weight), unitK(weight)), kTileRows) ??
    refusePrologue(shape) ??
    refuseLayouts(program, [match.weight, ...inPanels]) ??
    withStorage(program, wide, storageOf(match))
  );
}

const k = (stride: number, size: number): LayoutDigit => ({ axis: 'k', stride, size });
const n = (stride: number, size: number): LayoutDigit => ({ axis: 'n', stride, size });

/**
 * Tiles of 128 rows, each contiguous over k, in panels; within, eight parts of 16 rows (with silu_mul eight gate rows and their
 * eight up rows). n is padded to whole tiles. Drawn in native/kernels/matmul/wide/wide_block.cuh and formats/decode.cuh.
 */
function storageOf({ shape, weight: value }: DenseMatch): ReadonlyMap<number, Storage> {
  const { weight, function: fn, group } = shape;
  const silu = fn === 'silu_mul';
  const partRows = silu ? 8 : 16;
  const tile = n(8 * partRows, Math.ceil(shape.n / kTileRows)),
    part = n(partRows, 8),
    half = n(silu ? shape.n / 2 : 8, 2),
    row = n(1, 8);
  const panels = k(panelK(weight), shape.k / panelK(weight));
  const inPanel = ((): readonly LayoutDigit[] => {
    if (isStoredOperand(weight)) {
      const piece = panelK(weight) / 8;
      return [part, half, k(piece, 8), row, k(1, piece)];
    }
    switch (weightBits(weight)) {
      case 4:
        return [part, row, k(2, 4), k(32, 2), half, ...(weight === 'int4' ? [k(1, 2), k(8, 4)] : [k(8, 4), k(1, 2)])];
      case 1:
        return [part, row, k(4, 4), half, k(1, 4), k(64, 2), k(16, 4)];
      default:
        return [part, k(32, 2), row, k(2, 4), k(16, 2), half, k(1, 2), k(8, 2)];
    }
  })();
  const scales = ((): readonly LayoutDigit[] | null => {
    if (group === -1) return null;
    const perPanel = Math.max(1, panelK(weight) / group);
    return [tile, k(perPanel, shape.k / group / perPanel), part, k(1, perPanel), row, half];
  })();
  return new Map([[value, { layout: { digits: [tile, panels, ...inPanel] }, ...(scales && { scaleLayout: { digits: scales } }) }]]);
}

/** A template of native/kernels/matmul/wide with its tuning. */
interface WideKernel {
  readonly header: string;
  readonly kernel: string;
  readonly type: string;
  readonly blocks: number;
  readonly cluster: number;
  readonly threads: number;
  readonly sharedBytes: number;
  /** The tuning as members of the C++ struct. */
  readonly constants: string;
}

/** Bytes of a tile's weights and scales in a panel. */
function weightsBytes({ weight, group }: DenseShape): number {
  const bits = isStoredOperand(weight) ? 8 * tokenBytes(weight) : weightBits(weight);
  const scales = group === -1 ? 0 : Math.max(1, panelK(weight) / group) * (isMxWeight(weight) ? 1 : 2);
  return kTileRows * ((panelK(weight) * bits) / 8 + scales);
}

function tableBytes({ weight }: DenseShape): number {
  return weight === 'nf4' ? kNf4TableBytes : 0;
}

/** Shared memory of one stage of wide.cuh, and of what lies beside the ring. */
function sharedBytes(shape: DenseShape): RingSizes {
  const { weight, function: fn, input } = shape;
  const outputs = fn === 'silu_mul' ? kTileRows / 2 : kTileRows;
  return {
    stage: alignShared(kTileTokens * kPanelBytes + weightsBytes(shape)),
    fixed: 2 * kChunkTokens * outputs * 2 + tableBytes(shape) + (input === 'quantised' && !isMxWeight(weight) ? 2 * kTileTokens * 4 : 0),
  };
}

function defaults(shape: DenseShape, given: Tuning): WideTuning {
  return {
    blocks: given['blocks'] ?? 132,
    cluster: given['cluster'] ?? 2,
    stages: given['stages'] ?? Math.min(8, stagesWithin(kSharedLimitBytes, sharedBytes(shape))),
    groupTiles: given['groupTiles'] ?? 8,
  };
}

/** More than are given back at once: FP8's come back by twos, when their sums are promoted. */
function leastStages({ weight }: DenseShape): number {
  return isStoredOperand(weight) && tokenBytes(weight) === 1 ? 3 : 2;
}

/** Why a tuning does not fit, or null. */
function misfit(shape: DenseShape, { blocks, cluster, stages, groupTiles }: WideTuning): string | null {
  if ((cluster !== 1 && cluster !== 2) || blocks % cluster !== 0) return `${blocks} blocks in clusters of ${cluster}`;
  if (groupTiles < 1 || stages < leastStages(shape)) return `${stages} stages, groups of ${groupTiles} tiles`;
  const shared = ringBytes(sharedBytes(shape), stages);
  return shared > kSharedLimitBytes ? `${shared} bytes of shared memory (at most ${kSharedLimitBytes})` : null;
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit */
function hopperKernel(shape: DenseShape, name: string, given: Tuning): WideKernel {
  const tuning = defaults(shape, given);
  const reason = misfit(shape, tuning);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', `tuning of ${name} does not fit: ${reason}`, { ...tuning });
  const { blocks, cluster, stages, groupTiles } = tuning;
  return {
    header: 'matmul/wide/wide.cuh',
    kernel: 'wide',
    type: 'Wide',
    blocks,
    cluster,
    threads: kThreads,
    sharedBytes: ringBytes(sharedBytes(shape), stages),
    constants: `static constexpr int kBlocks = ${blocks}, kCluster = ${cluster}, kStages = ${stages}, kGroupTiles = ${groupTiles};`,
  };
}

/** A tile of portable.cuh, and its share of a warp: found on an H100 for llama2-70b's products, by compute_80 PTX. */
interface PortableTile {
  readonly rows: number;
  readonly tokens: number;
  readonly warpRows: number;
  readonly warpTokens: number;
  readonly stages: number;
  readonly groupTiles: number;
}

/** Decoded weights are decoded for more tokens at once; INT1 leaves room for two blocks on a multiprocessor. */
function portableTile({ weight, n, function: fn }: DenseShape): PortableTile {
  if (isStoredOperand(weight)) return { rows: 128, tokens: 256, warpRows: 64, warpTokens: 64, stages: 3, groupTiles: 8 };
  if (weight === 'int1') return { rows: 128, tokens: 128, warpRows: 32, warpTokens: 128, stages: 4, groupTiles: 16 };
  const rows = Math.ceil(n / kTileRows) % 2 === 0 ? 256 : 128;
  // GELU leaves no registers for scales of blocks beside so many tokens.
  const warp = isMxWeight(weight) && fn === 'gelu_tanh' ? { warpRows: 64, warpTokens: 64 } : { warpRows: 32, warpTokens: 128 };
  return { rows, tokens: 128, ...warp, stages: weight === 'int4' ? 6 : 4, groupTiles: 16 };
}

/** For GPUs without wgmma: a tile per block, as many stages as an A100 has shared memory for. */
function portableKernel(shape: DenseShape): WideKernel {
  const { rows, tokens, warpRows, warpTokens, stages: most, groupTiles } = portableTile(shape);
  const warps = (rows / warpRows) * (tokens / warpTokens);
  const stage = tokens * kPanelBytes + (rows / kTileRows) * weightsBytes(shape),
    fixed = tableBytes(shape) + warps * 2 * (warpRows / (shape.function === 'silu_mul' ? 16 : 8)) * 128;
  const stages = Math.min(most, Math.floor((kSharedPortableBytes - fixed) / stage));
  const blocks = Math.ceil(shape.n / rows) * Math.ceil(shape.m / tokens);
  return {
    header: 'matmul/wide/portable.cuh',
    kernel: 'widePortable',
    type: 'WidePortable',
    blocks,
    cluster: 1,
    threads: warps * 32,
    sharedBytes: stages * stage + fixed,
    constants: `static constexpr int kTileRows = ${rows}, kTileTokens = ${tokens}, kWarpRows = ${warpRows}, kWarpTokens = ${warpTokens}, kBlocks = ${blocks}, kStages = ${stages}, kGroupTiles = ${groupTiles};`,
  };
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit */
function plan(match: WideMatch, name: string, given: Tuning, { target }: PlanContext): KernelPlan {
  const { shape } = match;
  const chosen = target.capability?.[0] === 9 ? hopperKernel(shape, name, given) : portableKernel(shape);
  const { header, kernel, type, blocks, cluster, threads, sharedBytes: shared, constants } = chosen;
  const expanded = isMxWeight(shape.weight);
  const { members, kernelArguments } = operatorArguments(match);
  const kept = members.flatMap((member, i) => (expanded && member === 'xScale' ? [] : [{ member, argument: kernelArguments[i]! }]));
  const text = kernelText(
    name,
    kernel,
    [...operatorConstants(shape), constants, `static constexpr bool kPanelOutput = ${match.panelOutput};`],
    kept.map(({ member }) => member),
    threads,
    cluster > 1 ? `LADDER_CLUSTER(${cluster}) ` : '',
  );
  const product: KernelLaunch = {
    name,
    grid: [blocks, 1, 1],
    block: [threads, 1, 1],
    dynamicSharedBytes: shared,
    arguments: kept.map(({ member, argument }) => (expanded && member === 'x' ? { kind: 'workspace', offsetBytes: 0 } : argument)),
    programmatic: true,
  };
  const before = expanded ? expansion(match, `${name}_expand`) : null;
  return {
    includes: [...(before ? ['matmul/wide/expand.cuh'] : []), header],
    definitions: [
      ...(before ? [before.definition] : []),
      text,
      `static_assert(ladder::${type}<${name}_config>::kSharedBytes == ${shared} && ladder::${type}<${name}_config>::kBlockThreads == ${threads});`,
    ].join('\n'),
    launches: [...(before ? [before.launch] : []), product],
    workspaceBytes: before?.bytes ?? 0,
  };
}

/** MX activations become panels of BF16 in the operator's workspace first, exactly. */
function expansion(
  { shape: { m, k: channels, weight }, operands }: WideMatch,
  name: string,
): { readonly definition: string; readonly launch: KernelLaunch; readonly bytes: number } {
  const rows = Math.ceil(m / 8) * 8;
  return {
    definition: [
      `extern "C" __global__ void __launch_bounds__(${kArrangeThreads}) ${name}(const void* x, const void* xScale, void* y) {`,
      `  ladder::expandMx<${weight.endsWith('e4m3')}, ${m}, ${channels}>(x, xScale, y);`,
      '}',
    ].join('\n'),
    launch: {
      name,
      grid: [Math.ceil((rows * channels) / 8 / kArrangeThreads), 1, 1],
      block: [kArrangeThreads, 1, 1],
      dynamicSharedBytes: 0,
      arguments: [operands.x!, operands.xScale!, { kind: 'workspace', offsetBytes: 0 }],
      programmatic: true,
    },
    bytes: rows * channels * 2,
  };
}

/** Candidates for the tuner, the default first; all fit. */
function configurations(shape: DenseShape): readonly Tuning[] {
  return fittingTunings(
    [{}, { groupTiles: 4 }, { groupTiles: 16 }, { cluster: 1 }],
    (given) => defaults(shape, given),
    (tuning) => misfit(shape, tuning) === null,
  );
}

export const wide = defineFamily<WideMatch>({
  id: 'matmul/wide',
  version: 1,
  accepts,
  storage: storageOf,
  reads: ({ x, xPanels }) => new Map(xPanels ? [[x, { layout: xPanels }]] : []),
  writes: ({ y, yPanels }, value, storage) => value === y && isPanelStorage(storage, yPanels),
  configurations: ({ shape }, target) => (target.capability?.[0] === 9 ? configurations(shape) : [{}]),
  key: ({ shape, panelOutput }) => `${denseKey(shape)}${panelOutput ? ' y=panels' : ''}`,
  plan,
});

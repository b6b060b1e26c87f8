/**
 * Attention over few tokens: native/kernels/attention. One warp per (sequence, head) for single tokens, one block per
 * (sequence, head) up to 64.
 */
import { LadderError } from '../../errors.js';
import type { Position } from '../../operators/attention.js';
import type { Program } from '../../operators/program.js';
import { defineFamily, kOtherKind, Refusal } from './family.js';
import { doubleLiteral, parameters, singleLaunch } from './launch.js';
import type { KernelPlan, Tuning } from './plan.js';

const kMaxThreads = 1024;
/** Longest sequence of the kernel that keeps keys and values of a head in shared memory. */
const kMaxShortSeq = 64;
/** Warps that occupy every multiprocessor of an A100 or H100 several times over. */
const kManyWarps = 1024;
const kHeadDims: readonly number[] = [64, 128, 256];

const kPositionNames: Readonly<Record<Position, string>> = { rope: 'kRope', alibi: 'kAlibi', none: 'kNone' };

/** Parameters of the operator. */
export interface AttentionMatch {
  readonly batch: number;
  readonly seq: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly order: 'concatenated' | 'interleaved';
  readonly position: Position;
  readonly ropeBase: number;
  readonly causal: boolean;
}

/** What a program of one attention says of itself; null for another. */
export function matchAttention({ nodes, inputs, hints }: Program): AttentionMatch | null {
  const [node, ...others] = nodes;
  if (node?.kind !== 'attention' || others.length > 0 || node.inputs.length !== inputs.length || hints) return null;
  const { mask, ...params } = node.params;
  return { ...(params as unknown as Omit<AttentionMatch, 'causal'>), causal: mask === 'causal' };
}

/** Members of the C++ struct: the operator's, and numbers that a kernel has beside them. */
export function attentionConstants(
  { batch, seq, heads, kvHeads, headDim, order, position, ropeBase }: AttentionMatch,
  numbers: Readonly<Record<string, number>> = {},
): string {
  const integers = { kBatch: batch, kSeq: seq, kHeads: heads, kKvHeads: kvHeads, kHeadDim: headDim, ...numbers };
  return `  static constexpr int ${Object.entries(integers)
    .map(([member, value]) => `${member} = ${value}`)
    .join(', ')};
  static constexpr ladder::Order kOrder = ladder::Order::${order === 'interleaved' ? 'kInterleaved' : 'kConcatenated'};
  static constexpr ladder::Position kPosition = ladder::Position::${kPositionNames[position]};
  static constexpr double kLog2Base = ${doubleLiteral(Math.log2(ropeBase))};`;
}

export function attentionKey({ batch, seq, heads, kvHeads, headDim, order, position, causal }: AttentionMatch): string {
  return `batch=${batch} seq=${seq} heads=${heads} kv=${kvHeads} d=${headDim} ${order} ${position}${causal ? ' causal' : ''}`;
}

/** The flat view of attention from rows to rows of float16, or why there is none. */
export function matchAttentionInRows(program: Program): AttentionMatch | Refusal {
  const match = matchAttention(program);
  if (!match) return kOtherKind;
  const { values, inputs, outputs } = program;
  return [...inputs, ...outputs].some((value) => values[value]!.type !== 'f16' || values[value]!.layout)
    ? new Refusal('qkv', 'expected float16 in rows')
    : match;
}

function accepts(program: Program): AttentionMatch | Refusal {
  const match = matchAttentionInRows(program);
  if (match instanceof Refusal) return match;
  if (match.seq > kMaxShortSeq) return new Refusal('seq', `expected at most ${kMaxShortSeq} but received ${match.seq}`);
  if (!kHeadDims.includes(match.headDim)) return new Refusal('headDim', `expected 64, 128 or 256 but received ${match.headDim}`);
  return match;
}

function defaultWarps({ batch, seq, heads }: AttentionMatch): number {
  return seq === 1 ? (batch * heads >= kManyWarps ? 4 : 1) : Math.min(8, seq);
}

/** Keys float [seq][headDim + 4], values half [seq][headDim], a query per warp: ShortAttention in attention/short.cuh. */
function sharedBytes({ seq, headDim }: AttentionMatch, warps: number): number {
  return seq === 1 ? 0 : seq * (headDim + 4) * 4 + seq * headDim * 2 + warps * headDim * 4;
}

function plan(match: AttentionMatch, name: string, tuning: Tuning): KernelPlan {
  const { batch, seq, heads, causal } = match;
  const single = seq === 1;
  const warps = tuning['warps'] ?? defaultWarps(match);
  if (!Number.isInteger(warps) || warps < 1 || warps > kMaxThreads / 32) {
    throw new LadderError('BAD_ARGUMENT', `expected 1 to ${kMaxThreads / 32} for tuning \`warps\` but received ${warps}`, { warps });
  }
  const threads = warps * 32;
  const kernel = single ? 'attentionSingleKernel' : 'attentionShortKernel';
  const definitions = `struct ${name}_config {
${attentionConstants(match, { kWarps: warps })}
${single ? '' : `  static constexpr bool kCausal = ${causal};\n`}};
extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${parameters(['qkv'], ['y'])}) {
  ladder::${kernel}<${name}_config>(qkv, y);
}
`;
  const blocks = single ? Math.ceil((batch * heads) / warps) : batch * heads;
  return singleLaunch(single ? 'attention/single.cuh' : 'attention/short.cuh', definitions, {
    name,
    blocks,
    threads,
    dynamicSharedBytes: sharedBytes(match, warps),
    inputs: 1,
    outputs: 1,
  });
}

export const attention = defineFamily<AttentionMatch>({
  id: 'attention',
  version: 1,
  accepts,
  storage: () => new Map(),
  configurations: () => [{}],
  key: attentionKey,
  plan,
});

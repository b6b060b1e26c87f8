/**
 * Plans the operators that are not products: norm, per-token quantisation and attention over few tokens.
 * Kernels: native/kernels/norm and native/kernels/attention; semantics: artifact/operators.ts.
 */
import { type ActivationFormat, type AttentionOperator, isMxFormat, kMxBlock, type NormOperator, type QuantiseOperator } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import type { KernelArgument, KernelPlan, Tuning } from './kernel.js';

/** Values of a 16-byte vector of float16. */
const kVector = 8;
const kMaxThreads = 1024;
/** Vectors that a thread of the activation kernel can hold. */
const kMaxVectorsPerThread = 8;
/** Longest sequence of the kernel that keeps keys and values of a head in shared memory. */
const kMaxShortSeq = 64;
/** Warps that occupy every multiprocessor of an A100 or H100 several times over. */
const kManyWarps = 1024;

const kFormatNames: Readonly<Record<ActivationFormat, string>> = {
  fp16: 'kFp16', fp8_e5m2: 'kFp8E5m2', fp8_e4m3: 'kFp8E4m3', mxfp8_e5m2: 'kMxfp8E5m2', mxfp8_e4m3: 'kMxfp8E4m3', int8: 'kInt8', int4: 'kInt4',
};
const kNormNames = { none: 'kNone', rms: 'kRms', layer: 'kLayer' } as const;

/**
 * One block per token. Tuning: `threads`.
 * @throws LadderError `UNSUPPORTED` when k is not a multiple of 8 (MX: 32) or a row exceeds a block's registers
 */
export function planNorm(operator: NormOperator, name: string, tuning: Tuning): KernelPlan {
  const { m, k, norm, activation } = operator;
  return planActivation(m, k, norm.kind, norm.eps, activation, name, tuning);
}

/** As planNorm. */
export function planQuantise(operator: QuantiseOperator, name: string, tuning: Tuning): KernelPlan {
  return planActivation(operator.m, operator.k, 'none', 1, operator.activation, name, tuning);
}

function planActivation(m: number, k: number, norm: 'none' | 'rms' | 'layer', eps: number, activation: ActivationFormat, name: string, tuning: Tuning): KernelPlan {
  const multiple = isMxFormat(activation) ? kMxBlock : kVector;
  if (k % multiple !== 0) throw new LadderError('UNSUPPORTED', `expected a multiple of ${multiple} for \`k\` (${activation} activations) but received ${k}`, { k });
  const threads = tuning['threads'] ?? activationThreads(k / kVector);
  if (threads % 32 !== 0 || threads < 32 || threads > kMaxThreads) {
    throw new LadderError('BAD_ARGUMENT', `expected a multiple of 32, at most ${kMaxThreads}, for tuning \`threads\` but received ${threads}`, { threads });
  }
  if (k / kVector > threads * kMaxVectorsPerThread) {
    throw new LadderError('UNSUPPORTED', `expected at most ${threads * kMaxVectorsPerThread * kVector} for \`k\` with ${threads} threads per row but received ${k}`, { k });
  }
  const inputs = ['x', ...(norm === 'none' ? [] : ['gain']), ...(norm === 'layer' ? ['beta'] : [])];
  const outputs = activation === 'fp16' ? ['y'] : ['y', 'scale'];
  const pass = (parameter: string): string => (inputs.includes(parameter) || outputs.includes(parameter) ? parameter : 'nullptr');
  const definitions = `struct ${name}_config {
  static constexpr int kK = ${k}, kThreads = ${threads};
  static constexpr ladder::NormKind kNorm = ladder::NormKind::${kNormNames[norm]};
  static constexpr ladder::ActivationFormat kFormat = ladder::ActivationFormat::${kFormatNames[activation]};
  static constexpr float kEps = ${floatLiteral(eps)};
};
extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${parameters(inputs, outputs)}) {
  ladder::activationKernel<${name}_config>(${['x', 'gain', 'beta', 'y', 'scale'].map(pass).join(', ')});
}
`;
  return plan('norm/activation.cuh', definitions, { name, blocks: m, threads, dynamicSharedBytes: 0, inputs: inputs.length, outputs: outputs.length });
}

/** Enough threads for two vectors each, so that a row is in registers and its parameters fit beside it. */
function activationThreads(vectors: number): number {
  return Math.min(kMaxThreads, Math.max(32, Math.ceil(vectors / 2 / 32) * 32));
}

/**
 * One warp per (sequence, head) for single tokens, one block per (sequence, head) up to 64. Tuning: `warps` per block.
 * @throws LadderError `UNSUPPORTED` for longer sequences and for head sizes other than 64, 128 and 256
 */
export function planAttention(operator: AttentionOperator, name: string, tuning: Tuning): KernelPlan {
  const { batch, seq, heads, kvHeads, headDim, order, position, ropeBase } = operator;
  if (seq > kMaxShortSeq) throw new LadderError('UNSUPPORTED', `expected at most ${kMaxShortSeq} for \`seq\` but received ${seq}`, { seq });
  if (headDim !== 64 && headDim !== 128 && headDim !== 256) throw new LadderError('UNSUPPORTED', `expected 64, 128 or 256 for \`headDim\` but received ${headDim}`, { headDim });
  if (heads % kvHeads !== 0) throw new LadderError('UNSUPPORTED', `expected a divisor of ${heads} heads for \`kvHeads\` but received ${kvHeads}`, { heads, kvHeads });
  if (order === 'interleaved' && heads !== kvHeads) throw new LadderError('UNSUPPORTED', `interleaved heads need as many key heads as query heads: ${heads}, not ${kvHeads}`, { heads, kvHeads });

  const single = seq === 1;
  const warps = tuning['warps'] ?? (single ? (batch * heads >= kManyWarps ? 4 : 1) : Math.min(8, seq));
  if (!Number.isInteger(warps) || warps < 1 || warps > kMaxThreads / 32) {
    throw new LadderError('BAD_ARGUMENT', `expected 1 to ${kMaxThreads / 32} for tuning \`warps\` but received ${warps}`, { warps });
  }
  const threads = warps * 32;
  const kernel = single ? 'attentionSingleKernel' : 'attentionShortKernel';
  const definitions = `struct ${name}_config {
  static constexpr int kBatch = ${batch}, kSeq = ${seq}, kHeads = ${heads}, kKvHeads = ${kvHeads}, kHeadDim = ${headDim}, kWarps = ${warps};
  static constexpr ladder::Order kOrder = ladder::Order::${order === 'interleaved' ? 'kInterleaved' : 'kConcatenated'};
  static constexpr ladder::Position kPosition = ladder::Position::${position === 'rope' ? 'kRope' : 'kAlibi'};
  static constexpr double kLog2Base = ${doubleLiteral(Math.log2(ropeBase))};
};
extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${parameters(['qkv'], ['y'])}) {
  ladder::${kernel}<${name}_config>(qkv, y);
}
`;
  // Keys float [seq][headDim + 4], values half [seq][headDim], a query per warp: ShortAttention in attention/short.cuh.
  const dynamicSharedBytes = single ? 0 : seq * (headDim + 4) * 4 + seq * headDim * 2 + warps * headDim * 4;
  const blocks = single ? Math.ceil((batch * heads) / warps) : batch * heads;
  return plan(single ? 'attention/single.cuh' : 'attention/short.cuh', definitions, { name, blocks, threads, dynamicSharedBytes, inputs: 1, outputs: 1 });
}

interface SingleLaunch {
  readonly name: string;
  readonly blocks: number;
  readonly threads: number;
  readonly dynamicSharedBytes: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** A plan of one launch whose parameters are all inputs, then all outputs. */
function plan(include: string, definitions: string, launch: SingleLaunch): KernelPlan {
  const { name, blocks, threads, dynamicSharedBytes, inputs, outputs } = launch;
  const list = (kind: 'input' | 'output', count: number): KernelArgument[] => Array.from({ length: count }, (_, index) => ({ kind, index }));
  return {
    includes: [include],
    definitions,
    launches: [{ name, grid: [blocks, 1, 1], block: [threads, 1, 1], dynamicSharedBytes, arguments: [...list('input', inputs), ...list('output', outputs)], programmatic: true }],
    workspaceBytes: 0,
  };
}

/** Pointers without `__restrict__`: storages of a checkpoint's tensors may be shared. */
function parameters(inputs: readonly string[], outputs: readonly string[]): string {
  return [...inputs.map((input) => `const void* ${input}`), ...outputs.map((output) => `void* ${output}`)].join(', ');
}

function doubleLiteral(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

function floatLiteral(value: number): string {
  return `${doubleLiteral(value)}f`;
}

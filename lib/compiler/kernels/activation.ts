/**
 * Norm and quantisation of rows, alone or one after the other: native/kernels/norm/activation.cuh, one block per row; into panels
 * norm/panels.cuh, two rows per block.
 */
import { LadderError } from '../../errors.js';
import { formats } from '../../formats/index.js';
import { isQuantised, type Layout, type Program } from '../../operators/program.js';
import { defineFamily, kOtherKind, Refusal } from './family.js';
import { floatLiteral, kNormNames, parameters, singleLaunch } from './launch.js';
import { isInPanels, isPanelStorage, panelLayout } from './panels.js';
import type { KernelPlan, Tuning } from './plan.js';

/** Values of a 16-byte vector of float16. */
const kVector = 8;
const kMaxThreads = 1024;
/** Vectors that a thread can hold. */
const kMaxVectorsPerThread = 8;
/** Channels of a row at most. */
export const kMaxChannels = kMaxThreads * kMaxVectorsPerThread * kVector;

/** What one block does with one row. */
interface ActivationMatch {
  readonly m: number;
  readonly k: number;
  readonly norm: keyof typeof kNormNames;
  readonly eps: number;
  /** Id of the result's format. */
  readonly format: string;
  /** The result's value, its order in panels, and whether it is in them. */
  readonly y: number;
  readonly panels: Layout | null;
  readonly inPanels: boolean;
}

function accepts(program: Program): ActivationMatch | Refusal {
  const { values, nodes, inputs, outputs, hints } = program;
  const norm = nodes[0]?.kind === 'norm' ? nodes[0] : null;
  const quantise = nodes.at(-1)?.kind === 'quantise' ? nodes.at(-1)! : null;
  if (nodes.length !== (norm ? 1 : 0) + (quantise ? 1 : 0) || nodes.length === 0) return kOtherKind;
  const output = values[outputs[0] ?? -1];
  const straight =
    nodes[0]!.inputs.every((value, i) => inputs[i] === value) &&
    inputs.length === nodes[0]!.inputs.length &&
    outputs.length === 1 &&
    outputs[0] === nodes.at(-1)!.outputs[0] &&
    (nodes.length === 1 || nodes[1]!.inputs[0] === nodes[0]!.outputs[0]);
  if (!straight || !output || hints) return kOtherKind;
  const x = values[inputs[0]!]!;
  if (x.axes.length !== 2) return new Refusal('x', `expected rows of channels but received ${x.axes.length} axes`);
  const inPanels = isInPanels(output);
  if (x.type !== 'f16' || x.layout || (output.layout && !inPanels) || output.scaleLayout)
    return new Refusal('x', 'expected float16 in rows');
  const [m, k] = x.axes.map(({ extent }) => extent) as [number, number];
  const format = isQuantised(output.type) ? output.type.format : 'fp16';
  if (quantise && quantise.inputs.length > 1) return new Refusal('scale', 'expected scales of rows or of blocks of them, not one of all');
  const record = formats.get(format).activation;
  if (record?.enumerator === undefined) return new Refusal('format', `no kernel quantises to ${format}`);
  const multiple = Math.max(kVector, record.group);
  if (k % multiple !== 0) return new Refusal('k', `expected a multiple of ${multiple} (${format} activations) but received ${k}`);
  if (k > kMaxChannels) return new Refusal('k', `expected at most ${kMaxChannels} but received ${k}`);
  return {
    m,
    k,
    norm: norm ? (norm.params['kind'] as 'rms' | 'layer') : 'none',
    eps: norm ? Number(norm.params['eps']) : 1,
    format,
    y: outputs[0]!,
    panels: record.group > 0 ? null : panelLayout(output),
    inPanels,
  };
}

/** Enough threads for two vectors each, so that a row is in registers and its parameters fit beside it. */
function defaultThreads(vectors: number): number {
  return Math.min(kMaxThreads, Math.max(32, Math.ceil(vectors / 2 / 32) * 32));
}

/** Why a row is not dealt out among so many threads, or null. */
function misfit(k: number, threads: number): string | null {
  if (threads % 32 !== 0 || threads < 32 || threads > kMaxThreads)
    return `expected a multiple of 32, at most ${kMaxThreads}, for tuning \`threads\` but received ${threads}`;
  return k / kVector > threads * kMaxVectorsPerThread
    ? `${threads} threads hold at most ${threads * kMaxVectorsPerThread * kVector} values of a row, not ${k}`
    : null;
}

/** Rows short enough for a warp to hold one of them, or two; there a block has as many warps as run side by side. */
const kWarpChannels = 2048;
const warpRows = (k: number): number => (k <= kWarpChannels / 2 ? 2 : 1);
const kWarpThreads = 256;

/** Whether warps have rows of their own: where there are rows for all multiprocessors, as one alone is sooner done by a block. */
function isByWarps({ m, k, format, inPanels }: ActivationMatch): boolean {
  return !inPanels && k <= kWarpChannels && m >= 4096 && (formats.get(format).activation!.group ?? 0) <= 0;
}

/** Of a block that writes panels: rows, and vectors of a thread where there are threads enough. */
const kPanelRows = 2;
const kPanelVectorsPerThread = 8;
/** Threads of all blocks on a multiprocessor: as many as have 64 registers each. */
const kResidentThreads = 1024;

function panelThreads(k: number): number {
  const threads = (kPanelRows * k) / kVector / kPanelVectorsPerThread;
  return Math.min(kMaxThreads, Math.ceil(threads / 32) * 32);
}

function plan(match: ActivationMatch, name: string, tuning: Tuning): KernelPlan {
  const { m, k, norm, eps, format, inPanels } = match;
  const byWarps = isByWarps(match);
  const threads = tuning['threads'] ?? (inPanels ? panelThreads(k) : byWarps ? kWarpThreads : defaultThreads(k / kVector));
  const reason = misfit(k, threads);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', reason, { threads });
  const { activation: record } = formats.get(format);
  const inputs = ['x', ...(norm === 'none' ? [] : ['gain']), ...(norm === 'layer' ? ['beta'] : [])];
  const outputs = record!.scale ? ['y', 'scale'] : ['y'];
  const pass = (parameter: string): string => (inputs.includes(parameter) || outputs.includes(parameter) ? parameter : 'nullptr');
  const definitions = `struct ${name}_config {
  static constexpr int ${inPanels || byWarps ? `kM = ${m}, kRows = ${inPanels ? kPanelRows : warpRows(k)}, ` : ''}kK = ${k}, kThreads = ${threads};
  static constexpr ladder::NormKind kNorm = ladder::NormKind::${kNormNames[norm]};
  static constexpr ladder::ActivationFormat kFormat = ladder::ActivationFormat::${record!.enumerator!};
  static constexpr float kEps = ${floatLiteral(eps)};
};
extern "C" __global__ void __launch_bounds__(${threads}${inPanels ? `, ${Math.floor(kResidentThreads / threads)}` : ''}) ${name}(${parameters(inputs, outputs)}) {
  ladder::${inPanels ? 'panelKernel' : byWarps ? 'warpRowsKernel' : 'activationKernel'}<${name}_config>(${['x', 'gain', 'beta', 'y', 'scale'].map(pass).join(', ')});
}
`;
  return singleLaunch(`norm/${inPanels ? 'panels' : byWarps ? 'warp' : 'activation'}.cuh`, definitions, {
    name,
    blocks: inPanels ? (Math.ceil(m / 8) * 8) / kPanelRows : byWarps ? Math.ceil(m / ((threads / 32) * warpRows(k))) : m,
    threads,
    dynamicSharedBytes: 0,
    inputs: inputs.length,
    outputs: outputs.length,
  });
}

export const activation = defineFamily<ActivationMatch>({
  id: 'norm',
  version: 1,
  accepts,
  storage: () => new Map(),
  writes: ({ y, panels }, value, storage) => value === y && isPanelStorage(storage, panels),
  configurations: () => [{}],
  key: ({ m, k, norm, format, inPanels }) =>
    `m=${m} k=${k}${norm === 'none' ? '' : ` norm=${norm}`} y=${format}${inPanels ? ' panels' : ''}`,
  plan,
});

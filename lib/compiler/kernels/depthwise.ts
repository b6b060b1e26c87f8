/**
 * Depthwise convolutions with a bias and elementwise steps after them: native/kernels/conv/depthwise.cuh.
 */
import { LadderError } from '../../errors.js';
import type { ConvParameters } from '../../operators/conv-parameters.js';
import { convolvedSize } from '../../operators/conv.js';
import { expressionText, inputsOf } from '../../operators/expression.js';
import { operators } from '../../operators/index.js';
import { isSameLayout } from '../../operators/layout.js';
import { isStraight, type Layout, type Node, type Program, tensorPositions } from '../../operators/program.js';
import { defineFamily, kOtherKind, Refusal, type Storage } from './family.js';
import { launchOf } from './launch.js';
import type { KernelArgument, KernelPlan, Tuning } from './plan.js';

/** Taps that a thread holds in its registers. */
const kMostTaps = 49;
const kThreads = 128;
const kRuns: readonly number[] = [4, 8, 16];
/** Threads that occupy every multiprocessor of an A100 or H100 several times over. */
const kManyThreads = 132 * 1024;

interface DepthwiseMatch {
  readonly batch: number;
  readonly channels: number;
  readonly stride: number;
  /** The axis along which threads walk, and the other one. */
  readonly walk: Along;
  readonly outer: Along;
  /** Kinds of the steps after the bias, and how a number goes through them. */
  readonly after: readonly string[];
  readonly steps: readonly string[];
  /** The weight's value and its order. */
  readonly weight: number;
  readonly layout: Layout;
  readonly x: KernelArgument;
  readonly w: KernelArgument;
  readonly bias: KernelArgument | null;
}

/** Of one axis: pixels, taps, padding, results. */
interface Along {
  readonly extent: number;
  readonly taps: number;
  readonly padding: number;
  readonly results: number;
}

/** A step with one operand, as text of `value`; null for another. */
function stepOf({ kind, inputs }: Node): string | null {
  const expression = operators.get(kind).expression;
  return expression && inputs.length === 1 && inputsOf(expression)[0] === 1 ? expressionText(expression, () => 'value') : null;
}

function accepts(program: Program): DepthwiseMatch | Refusal {
  const { values, nodes, inputs, outputs, hints } = program;
  const [conv, ...rest] = nodes;
  if (conv?.kind !== 'conv' || hints || outputs.length !== 1 || outputs[0] !== nodes.at(-1)!.outputs[0]) return kOtherKind;
  if (!isStraight(program)) return kOtherKind;
  const [first] = rest;
  const bias = first?.kind === 'add' && values[first.inputs[1]!]!.axes.length === 1 ? first.inputs[1]! : null;
  const after = bias === null ? rest : rest.slice(1);
  const steps = after.map(stepOf);
  if (steps.includes(null)) return kOtherKind;
  const params = conv.params as unknown as ConvParameters;
  const [x, weight] = conv.inputs as [number, number];
  const channels = values[x]!.axes[1]!.extent;
  if (params.groups !== channels || values[weight]!.axes[0]!.extent !== channels)
    return new Refusal('groups', `expected ${channels}, the channels, but received ${params.groups}`);
  if (channels % 2 !== 0) return new Refusal('c', `expected an even number of channels but received ${channels}`);
  const taps = params.kernelY * params.kernelX;
  if (taps > kMostTaps) return new Refusal('k', `expected at most ${kMostTaps} taps but received ${taps}`);
  const digits = [
    { axis: 'k', stride: 1, size: taps },
    { axis: 'n', stride: 1, size: channels },
  ];
  const others = [...inputs, ...outputs].filter((value) => value !== weight).map((value) => values[value]!);
  const own = values[weight]!;
  if (
    [...others, own].some(({ type }) => type !== 'f16') ||
    others.some(({ layout }) => layout) ||
    (own.layout && !isSameLayout(own.layout, { digits }))
  )
    return new Refusal('x', 'expected float16 in rows');
  const [down, across] = convolvedSize(params);
  const vertical: Along = { extent: params.height, taps: params.kernelY, padding: params.paddingY, results: down };
  const horizontal: Along = { extent: params.width, taps: params.kernelX, padding: params.paddingX, results: across };
  // Frames have one pixel across: the walk is along them.
  const frames = params.width === 1 && params.kernelX === 1 && params.paddingX === 0;
  const positions = tensorPositions(program);
  const tensor = (value: number): KernelArgument => ({ kind: 'input', index: positions.get(value)! });
  return {
    batch: params.batch,
    channels,
    stride: params.stride,
    walk: frames ? vertical : horizontal,
    outer: frames ? horizontal : vertical,
    after: after.map(({ kind }) => kind),
    steps: steps as string[],
    weight,
    layout: { digits },
    x: tensor(x),
    w: tensor(weight),
    bias: bias === null ? null : tensor(bias),
  };
}

function threadsOf({ batch, channels, outer, walk }: DepthwiseMatch, run: number): number {
  return batch * outer.results * Math.ceil(walk.results / run) * (channels / 2);
}

/** The longest run that leaves threads enough, and is not longer than a line. */
function defaultRun(match: DepthwiseMatch): number {
  return kRuns.findLast((run) => threadsOf(match, run) >= kManyThreads && run < 2 * match.walk.results) ?? kRuns[0]!;
}

function plan(match: DepthwiseMatch, name: string, tuning: Tuning): KernelPlan {
  const { batch, channels, stride, walk, outer, steps, x, w, bias } = match;
  const run = tuning['run'] ?? defaultRun(match);
  if (!kRuns.includes(run))
    throw new LadderError('BAD_ARGUMENT', `expected ${kRuns.join(', ')} for tuning \`run\` but received ${run}`, { run });
  const blocks = Math.ceil(threadsOf(match, run) / kThreads);
  const config = `${name}_config`;
  const parameters = ['const void* x', 'const void* w', ...(bias ? ['const void* bias'] : []), 'void* y'].join(', ');
  const definitions = `struct ${config} {
  static constexpr int kBatch = ${batch}, kChannels = ${channels}, kStride = ${stride}, kRun = ${run}, kThreads = ${kThreads};
  static constexpr int kOuter = ${outer.extent}, kOuterOut = ${outer.results}, kOuterTaps = ${outer.taps}, kOuterPadding = ${outer.padding};
  static constexpr int kWalk = ${walk.extent}, kWalkOut = ${walk.results}, kWalkTaps = ${walk.taps}, kWalkPadding = ${walk.padding};
  __device__ __forceinline__ static float apply(float value) {
${steps.map((step) => `    value = ${step};\n`).join('')}    return value;
  }
};
static_assert(ladder::Depthwise<${config}>::kBlocks == ${blocks});
extern "C" __global__ void __launch_bounds__(${kThreads}) ${name}(${parameters}) {
  ladder::depthwiseKernel<${config}>(x, w, ${bias ? 'bias' : 'nullptr'}, y);
}
`;
  return launchOf('conv/depthwise.cuh', definitions, {
    name,
    blocks,
    threads: kThreads,
    dynamicSharedBytes: 0,
    arguments: [x, w, ...(bias ? [bias] : []), { kind: 'output', index: 0 }],
  });
}

export const depthwise = defineFamily<DepthwiseMatch>({
  id: 'conv/depthwise',
  version: 1,
  accepts,
  storage: ({ weight, layout }) => new Map<number, Storage>([[weight, { layout }]]),
  configurations: (match) => {
    const first = defaultRun(match);
    return [first, ...kRuns.filter((run) => run !== first)].map((run) => ({ run }));
  },
  key({ batch, channels, stride, walk, outer, bias, after }) {
    const along = ({ extent, taps, padding }: Along): string => `${extent}/${taps}${padding > 0 ? `+${padding}` : ''}`;
    const post = [...(bias ? ['bias'] : []), ...after];
    return `batch=${batch} c=${channels} ${along(outer)} ${along(walk)} stride=${stride}${post.length > 0 ? ` post=${post.join('+')}` : ''}`;
  },
  plan,
});

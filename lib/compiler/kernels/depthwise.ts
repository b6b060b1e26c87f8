/**
 * Depthwise convolutions with a bias and elementwise steps after them: native/kernels/conv/depthwise.cuh, and of many frames
 * depthwise_frames.cuh, on tensor cores.
 */
import { LadderError } from '../../errors.js';
import type { ConvParameters } from '../../operators/conv-parameters.js';
import { convolvedSize } from '../../operators/conv.js';
import { type Expression, expressionText, inputsOf } from '../../operators/expression.js';
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
/** Of depthwise_frames.cuh: taps that its bands have registers for; channels and results of a tile; threads, blocks, stages. */
const kBanded = { mostTaps: 33, channels: 64, results: 128, threads: 256, resident: 2, stages: 4, processors: 132 } as const;
/** What its functions are called, which approximate as closely as float16 results need (their errors stand there). */
const kNearFunctions = { exp: 'ladder::expNear', div: 'ladder::divideNear' } as const;
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
  readonly steps: readonly Expression[];
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

/** A step with one operand; null for another. */
function stepOf({ kind, inputs }: Node): Expression | null {
  const expression = operators.get(kind).expression;
  return expression && inputs.length === 1 && inputsOf(expression)[0] === 1 ? expression : null;
}

/** Member of a configuration: how a number goes through the steps. */
function applyText(steps: readonly Expression[], functions: Readonly<Record<string, string>>): string {
  return `  __device__ __forceinline__ static float apply(float value) {
${steps.map((step) => `    value = ${expressionText(step, () => 'value', functions)};\n`).join('')}    return value;
  }`;
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
    steps: steps as Expression[],
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

/** Whether the walk is over frames that depthwise_frames.cuh takes. */
function isBanded({ channels, stride, walk, outer }: DepthwiseMatch): boolean {
  const frames = outer.extent === 1 && outer.taps === 1 && outer.padding === 0;
  return frames && stride === 1 && channels % kBanded.channels === 0 && walk.taps <= kBanded.mostTaps;
}

/** Whether tensor cores are the default: where every multiprocessor has tiles for its blocks. */
function isByTensorCores(match: DepthwiseMatch): boolean {
  const tiles = (match.channels / kBanded.channels) * match.batch * Math.ceil(match.walk.results / kBanded.results);
  return isBanded(match) && tiles >= kBanded.processors * kBanded.resident;
}

/** A configuration's text, a kernel's parameters and arguments: what both kernels have alike. */
function kernelText({ x, w, bias }: DepthwiseMatch): {
  readonly parameters: string;
  readonly given: string;
  readonly args: readonly KernelArgument[];
} {
  return {
    parameters: ['const void* x', 'const void* w', ...(bias ? ['const void* bias'] : []), 'void* y'].join(', '),
    given: `x, w, ${bias ? 'bias' : 'nullptr'}, y`,
    args: [x, w, ...(bias ? [bias] : []), { kind: 'output', index: 0 }],
  };
}

/** By tensor cores: DepthwiseFrames in conv/depthwise_frames.cuh. */
function planBanded(match: DepthwiseMatch, name: string): KernelPlan {
  const { batch, channels, walk, steps } = match;
  const { threads, resident, results, stages, processors } = kBanded;
  const chunks = channels / kBanded.channels;
  const blocks = chunks * Math.min(batch * Math.ceil(walk.results / results), Math.ceil((processors * resident) / chunks));
  const rows = results - 8 + 8 * Math.floor((walk.taps + 14) / 8);
  const dynamicSharedBytes = stages * rows * 128 + 2 * kBanded.channels;
  const config = `${name}_config`;
  const { parameters, given, args } = kernelText(match);
  const definitions = `struct ${config} {
  static constexpr int kBatch = ${batch}, kChannels = ${channels};
  static constexpr int kWalk = ${walk.extent}, kWalkOut = ${walk.results}, kWalkTaps = ${walk.taps}, kWalkPadding = ${walk.padding};
${applyText(steps, kNearFunctions)}
};
static_assert(ladder::DepthwiseFrames<${config}>::kBlocks == ${blocks} && ladder::DepthwiseFrames<${config}>::kSharedBytes == ${dynamicSharedBytes});
extern "C" __global__ void __launch_bounds__(${threads}, ${resident}) ${name}(${parameters}) {
  ladder::depthwiseFramesKernel<${config}>(${given});
}
`;
  return launchOf('conv/depthwise_frames.cuh', definitions, { name, blocks, threads, dynamicSharedBytes, arguments: args });
}

function plan(match: DepthwiseMatch, name: string, tuning: Tuning): KernelPlan {
  const { batch, channels, stride, walk, outer, steps } = match;
  const byDefault = Object.keys(tuning).length === 0 && isByTensorCores(match);
  if (byDefault || (tuning['banded'] === 1 && isBanded(match))) return planBanded(match, name);
  const run = tuning['run'] ?? defaultRun(match);
  if (!kRuns.includes(run) || (tuning['banded'] ?? 0) !== 0)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected ${kRuns.join(', ')} for tuning \`run\`, or 1 for \`banded\` where channels are a multiple of ${kBanded.channels} and taps at most ${kBanded.mostTaps} frames, but received ${JSON.stringify(tuning)}`,
      { ...tuning },
    );
  const blocks = Math.ceil(threadsOf(match, run) / kThreads);
  const config = `${name}_config`;
  const { parameters, given, args } = kernelText(match);
  const definitions = `struct ${config} {
  static constexpr int kBatch = ${batch}, kChannels = ${channels}, kStride = ${stride}, kRun = ${run}, kThreads = ${kThreads};
  static constexpr int kOuter = ${outer.extent}, kOuterOut = ${outer.results}, kOuterTaps = ${outer.taps}, kOuterPadding = ${outer.padding};
  static constexpr int kWalk = ${walk.extent}, kWalkOut = ${walk.results}, kWalkTaps = ${walk.taps}, kWalkPadding = ${walk.padding};
${applyText(steps, {})}
};
static_assert(ladder::Depthwise<${config}>::kBlocks == ${blocks});
extern "C" __global__ void __launch_bounds__(${kThreads}) ${name}(${parameters}) {
  ladder::depthwiseKernel<${config}>(${given});
}
`;
  return launchOf('conv/depthwise.cuh', definitions, { name, blocks, threads: kThreads, dynamicSharedBytes: 0, arguments: args });
}

export const depthwise = defineFamily<DepthwiseMatch>({
  id: 'conv/depthwise',
  version: 1,
  accepts,
  storage: ({ weight, layout }) => new Map<number, Storage>([[weight, { layout }]]),
  configurations: (match) => {
    const first = defaultRun(match);
    const runs = [first, ...kRuns.filter((run) => run !== first)].map((run): Tuning => ({ run }));
    if (!isBanded(match)) return runs;
    return isByTensorCores(match) ? [{ banded: 1 }, ...runs] : [...runs, { banded: 1 }];
  },
  key({ batch, channels, stride, walk, outer, bias, after }) {
    const along = ({ extent, taps, padding }: Along): string => `${extent}/${taps}${padding > 0 ? `+${padding}` : ''}`;
    const post = [...(bias ? ['bias'] : []), ...after];
    return `batch=${batch} c=${channels} ${along(outer)} ${along(walk)} stride=${stride}${post.length > 0 ? ` post=${post.join('+')}` : ''}`;
  },
  plan,
});

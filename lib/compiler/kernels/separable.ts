/**
 * Units of depthwise separable convolutions in one kernel: [pointwise →] depthwise 3 × 3 → pointwise, whose x may be some channels of
 * wider rows, and whose results may take turns with another matrix's: native/kernels/conv/separable.cuh.
 */
import { LadderError } from '../../errors.js';
import { formats } from '../../formats/index.js';
import type { ConvParameters } from '../../operators/conv-parameters.js';
import { convolvedSize } from '../../operators/conv.js';
import { expressionText, inputsOf } from '../../operators/expression.js';
import { operators } from '../../operators/index.js';
import { isQuantised, type Layout, type Node, type Program, tensorPositions } from '../../operators/program.js';
import { layoutTarget, type Target } from '../targets.js';
import { defineFamily, kOtherKind, Refusal, type Storage } from './family.js';
import { launchOf } from './launch.js';
import { withStorage } from './matmul/layouts.js';
import { kSharedLimitBytes } from './matmul/template.js';
import type { KernelArgument, KernelPlan, Tuning } from './plan.js';
import { resultMembers, type Results, resultsKey, resultsText, splitResults } from './results.js';

const kTaps = 9;
/** Formats of weights; activations are of the same. */
const kWeights: readonly string[] = ['fp16', 'fp8_e5m2', 'fp8_e4m3'];
/** Channels of the middle: two per thread of the smallest block. */
const kMostMiddle = 512;

/** Some channels of a matrix's rows. */
interface Slice {
  /** The matrix, an input. */
  readonly value: number;
  readonly pitch: number;
  readonly first: number;
}

/** A product or convolution with the bias and the steps after it. */
interface Stage {
  readonly node: Node;
  readonly weight: number;
  readonly bias: number;
  readonly steps: readonly string[];
  /** The scale by which its input becomes codes, or null. */
  readonly scale: number | null;
  /** What it reads. */
  readonly x: number;
}

interface SeparableMatch {
  readonly conv: ConvParameters;
  readonly format: string;
  readonly expand: boolean;
  readonly x: Slice;
  /** The matrix that results take turns with, and whether theirs are the even places; null: they stand alone. */
  readonly other: (Slice & { readonly place: 0 | 1 }) | null;
  readonly channels: readonly [input: number, middle: number, output: number];
  /** Steps after the products and the convolution between them. */
  readonly steps: readonly [first: readonly string[], middle: readonly string[], last: readonly string[]];
  readonly storage: ReadonlyMap<number, Storage>;
  readonly results: Results;
  /** By member of SeparableArguments. */
  readonly operands: Readonly<Partial<Record<string, KernelArgument>>>;
}

/** Reads a program from its result backwards, and counts what it has seen. */
class Backwards {
  seen = 0;
  constructor(private readonly program: Program) {}

  get isDone(): boolean {
    return this.seen === this.program.nodes.length;
  }

  /** The node of a kind that makes a value, or null. */
  take(value: number, fits: (node: Node) => boolean): Node | null {
    const node = this.program.nodes.find(({ outputs }) => outputs.includes(value));
    if (!node || !fits(node)) return null;
    this.seen += 1;
    return node;
  }

  /** What a value is some channels of, or all. */
  slice(value: number): Slice | null {
    const part = this.take(value, ({ kind }) => kind === 'channels');
    const source = part?.inputs[0] ?? value;
    if (!this.program.inputs.includes(source)) return null;
    return { value: source, pitch: this.program.values[source]!.axes.at(-1)!.extent, first: Number(part?.params['first'] ?? 0) };
  }

  /** A node of a kind, its bias, and the steps of one operand after it. */
  stage(result: number, kind: string): Stage | null {
    const steps: string[] = [];
    let value = result;
    const expressionOf = (node: Node) => (node.inputs.length === 1 ? operators.get(node.kind).expression : undefined);
    for (let node = this.take(value, (one) => !!expressionOf(one)); node; node = this.take(value, (one) => !!expressionOf(one))) {
      const expression = expressionOf(node)!;
      if (inputsOf(expression)[0] !== 1) return null;
      steps.unshift(expressionText(expression, () => 'value'));
      value = node.inputs[0]!;
    }
    const bias = this.take(value, (node) => node.kind === 'add' && this.program.values[node.inputs[1]!]!.axes.length === 1);
    const node = bias && this.take(bias.inputs[0]!, (one) => one.kind === kind);
    if (!node) return null;
    const quantise = this.take(node.inputs[0]!, (one) => one.kind === 'quantise' && one.inputs.length === 2);
    return {
      node,
      weight: node.inputs[1]!,
      bias: bias.inputs[1]!,
      steps,
      scale: quantise?.inputs[1] ?? null,
      x: quantise?.inputs[0] ?? node.inputs[0]!,
    };
  }
}

/** Eight channels of a step of a row, for a lane of mma.sync, drawn in separable.cuh. */
function productLayout(n: number, k: number): Layout {
  return {
    digits: [
      { axis: 'n', stride: 8, size: Math.ceil(n / 8) },
      { axis: 'k', stride: 32, size: Math.ceil(k / 32) },
      { axis: 'n', stride: 1, size: 8 },
      { axis: 'k', stride: 8, size: 4 },
      { axis: 'k', stride: 1, size: 8 },
    ],
  };
}

function accepts(whole: Program, target: Target): SeparableMatch | Refusal {
  const split = splitResults(whole);
  if (!split) return kOtherKind;
  const { program, results } = split;
  const { values, inputs, outputs, hints } = program;
  if (outputs.length !== 1 || hints) return kOtherKind;
  const reader = new Backwards(program);
  const turns = reader.take(outputs[0]!, ({ kind }) => kind === 'interleave');
  const isStep = (value: number): boolean =>
    !inputs.includes(value) && program.nodes.some((one) => one.outputs.includes(value) && one.kind !== 'channels');
  const own = turns ? turns.inputs.findIndex(isStep) : 0;
  if (own < 0) return kOtherKind;
  const project = reader.stage(turns ? turns.inputs[own]! : outputs[0]!, 'dense');
  const depth = project && reader.stage(project.x, 'conv');
  if (!depth || depth.scale !== null) return kOtherKind;
  const expand = inputs.includes(depth.x) ? null : reader.stage(depth.x, 'dense');
  const x = reader.slice(expand ? expand.x : depth.x);
  const other = turns ? reader.slice(turns.inputs[1 - own]!) : null;
  if (!x || (turns && !other) || !reader.isDone) return kOtherKind;

  const conv = depth.node.params as unknown as ConvParameters;
  const extents = (value: number): readonly number[] => values[value]!.axes.map(({ extent }) => extent);
  const middle = extents(depth.weight)[0]!;
  const channels = [extents((expand ?? depth).node.inputs[0]!)[1]!, middle, extents(project.weight)[0]!] as const;
  if (conv.groups !== middle) return new Refusal('groups', `expected ${middle}, the channels, but received ${conv.groups}`);
  if ([conv.kernelY, conv.kernelX].join() !== '3,3' || conv.paddingY !== 1 || conv.paddingX !== 1)
    return new Refusal('kernelY', 'expected a kernel of 3 × 3 with a padding of 1');
  const evens = [...channels, x.pitch, x.first, ...(other ? [other.pitch, other.first] : [])];
  if (evens.some((count) => count % 2 !== 0) || middle > kMostMiddle)
    return new Refusal('c', `expected even numbers of channels, in the middle at most ${kMostMiddle}, but received ${channels.join(', ')}`);

  const products = expand ? [expand, project] : [project];
  const typesOf = products.flatMap(({ node }) => node.inputs.slice(0, 2).map((value) => values[value]!.type));
  const [format = 'fp16', ...others] = new Set(typesOf.map((type) => (isQuantised(type) ? type.format : 'fp16')));
  if (others.length > 0 || !kWeights.includes(format)) return new Refusal('weight', `expected products of ${kWeights.join(', ')}`);
  const scalesFit = products.every(({ weight, scale }) => {
    const { type } = values[weight]!;
    return isQuantised(type) ? scale !== null && Object.keys(type.scale?.per ?? {}).join() === 'n' : scale === null;
  });
  if (!scalesFit) return new Refusal('scale', 'expected one of all activations, and of weights one per channel');
  const digits = [
    { axis: 'k', stride: 1, size: kTaps },
    { axis: 'n', stride: 1, size: middle },
  ];
  const storage = new Map<number, Storage>([
    [depth.weight, { layout: { digits } }],
    ...products.map(({ weight }) => [weight, { layout: productLayout(extents(weight)[0]!, extents(weight)[1]!) }] as const),
  ]);
  const plain = [...inputs.filter((value) => !storage.has(value)), outputs[0]!];
  if (plain.some((value) => isQuantised(values[value]!.type) || values[value]!.layout) || values[outputs[0]!]!.type !== 'f16')
    return new Refusal('x', 'expected float16 in rows');
  if (results.codes !== null && (results.halves || formats.get(results.codes).activation!.group > 0))
    return new Refusal('y', 'expected float16 as results, or codes by one scale');
  const positions = tensorPositions(whole);
  const tensor = (value: number | null, part = 0): KernelArgument | undefined =>
    value === null ? undefined : { kind: 'input', index: positions.get(value)! + part };
  const isCoded = format !== 'fp16';
  const match: SeparableMatch = {
    conv,
    format,
    expand: expand !== null,
    x,
    other: other && { ...other, place: own as 0 | 1 },
    channels,
    steps: [expand?.steps ?? [], depth.steps, project.steps],
    storage,
    results,
    operands: {
      x: tensor(x.value),
      ...(expand && {
        ...(isCoded && { xScale: tensor(expand.scale), expandScale: tensor(expand.weight, 1) }),
        expand: tensor(expand.weight),
        expandBias: tensor(expand.bias),
      }),
      depth: tensor(depth.weight),
      depthBias: tensor(depth.bias),
      ...(isCoded && { midScale: tensor(project.scale), projectScale: tensor(project.weight, 1) }),
      project: tensor(project.weight),
      projectBias: tensor(project.bias),
      ...(other && { other: tensor(other.value) }),
      ...split.operands,
    },
  };
  if (candidates(match, target).length === 0) return new Refusal('width', 'expected a row of pixels that fits into shared memory');
  return withStorage(whole, match, storage);
}

interface SeparableTuning {
  /** Rows of an image that a block makes. */
  readonly rows: number;
  readonly warps: number;
  /** Of 16 rows and of 8 results, of a warp's sums; one of each in a cluster. */
  readonly blocksM: number;
  readonly blocksN: number;
  /** Blocks that share out a band's channels. */
  readonly cluster: number;
}

/** Results along a row that a thread may compute at once. */
const kRuns: readonly number[] = [1, 2, 4];

/** The depthwise convolution of a block: runs of results, and how long it takes, in cycles, where its threads have them in turn. */
function depthwiseOf({ conv, channels: [, middle] }: SeparableMatch, { rows, warps }: SeparableTuning) {
  const fours = Math.ceil(middle / 4);
  const [, width] = convolvedSize(conv);
  const all = kRuns.map((run) => {
    const runs = rows * Math.ceil(width / run);
    // Numbers loaded for a run, and products.
    const instructions = 36 * ((run - 1) * conv.stride + 3) + 40 * run;
    return {
      run,
      latency: Math.ceil(runs / Math.floor((32 * warps) / fours)) * instructions * 2,
      work: (runs * fours * instructions) / 128,
    };
  });
  return all.reduce((best, one) => (one.latency < best.latency ? one : best));
}

/** Most eights of some channels that a block of a cluster has. */
function shareOf(channels: number, cluster: number): number {
  return Math.ceil(Math.ceil(channels / 8) / cluster);
}

/** Of the barrier that a cluster's block has, with room after it. */
const kBarrierBytes = 16;

/** What of a block follows from its tuning. */
function sizesOf({ conv, expand, channels }: SeparableMatch, { rows, blocksM, cluster }: SeparableTuning) {
  const [input, middle] = channels;
  const [height, width] = convolvedSize(conv);
  const padded = (count: number): number => Math.ceil(count / (16 * blocksM)) * 16 * blocksM;
  const pitch = (k: number): number => Math.ceil(k / 64) * 128;
  const pixels = ((rows - 1) * conv.stride + 3) * conv.width;
  const places = rows * width;
  const [x, d] = [padded(pixels) * pitch(input), padded(places) * pitch(middle)];
  const ofCluster = (expand ? x : 0) + d + pixels * shareOf(middle, cluster) * 16 + kBarrierBytes;
  const ofBlock = expand ? Math.max(x, d) + padded(pixels) * pitch(middle) : x + d;
  return {
    pixels,
    places,
    sharedBytes: cluster > 1 ? ofCluster : ofBlock,
    blocks: conv.batch * Math.ceil(height / rows) * cluster,
  };
}

/** Multiprocessors, and blocks of 256 threads that share one. */
const kProcessors = 132;
const kResident = 2;
/** Shared memory of a multiprocessor that runs code for sm_80. */
const kPortableSharedBytes = 163 * 1024;

/**
 * How long a tuning takes, in cycles as they are guessed: a multiprocessor's blocks by turns, each with its latencies, or the sum of
 * their instructions, whichever is more.
 */
function costOf(match: SeparableMatch, tuning: SeparableTuning): number {
  if (tuning.cluster > 1) return clusterCostOf(match, tuning);
  const { channels, expand } = match;
  const { warps, blocksM, blocksN } = tuning;
  const [input, middle, output] = channels;
  const { pixels, places, blocks, sharedBytes } = sizesOf(match, tuning);
  const product = (m: number, k: number, n: number): readonly [latency: number, work: number] => {
    const tasks = Math.ceil(m / (16 * blocksM)) * Math.ceil(n / (8 * blocksN));
    const steps = Math.ceil(k / 32);
    const perStep = Math.max(4 * (2 * blocksM + blocksN), 3 * blocksM * blocksN);
    return [Math.ceil(tasks / warps) * (60 + steps * (10 + 26 * blocksM * blocksN)), tasks * steps * perStep];
  };
  const copies = (pixels * input) / 4;
  const depth = depthwiseOf(match, tuning);
  const parts: readonly (readonly [latency: number, work: number])[] = [
    [2000 + (8 * copies) / (32 * warps), copies / 5],
    ...(expand ? [product(pixels, input, middle)] : []),
    [200 + depth.latency, depth.work],
    product(places, middle, output),
  ];
  const [latency, work] = [0, 1].map((part) => parts.reduce((sum, one) => sum + one[part as 0 | 1], 0)) as [number, number];
  const resident = Math.max(1, Math.min((kResident * 8) / warps, Math.floor(kSharedLimitBytes / (sharedBytes + 1024))));
  const perProcessor = Math.ceil(blocks / kProcessors);
  return Math.max(Math.ceil(perProcessor / resident) * latency, perProcessor * work + latency);
}

/**
 * The same of a cluster's block, alone on its multiprocessor: one latency after the other, the first without that of weights, which are
 * there; products by their warps' tasks or by what they read of shared memory, whichever takes longer.
 */
function clusterCostOf(match: SeparableMatch, tuning: SeparableTuning): number {
  const { channels, expand } = match;
  const { warps, cluster } = tuning;
  const [input, middle, output] = channels;
  const { pixels, places } = sizesOf(match, tuning);
  const product = (m: number, k: number, n: number): number => {
    const share = shareOf(n, cluster);
    const [blocks, steps] = [Math.ceil(m / 16), Math.ceil(k / 32)];
    return 60 + Math.max(Math.ceil(blocks / Math.floor(warps / share)) * (60 + steps * 40), blocks * share * steps * 8);
  };
  const copied = expand ? input : shareOf(input, cluster) * 8;
  const teams = Math.floor((8 * warps) / shareOf(middle, cluster));
  return [
    // Warps beyond eight make barriers slower, and leave no registers to blocks of the next kernel, which would bring their weights.
    1400 + 20 * warps + (10 * pixels * copied) / (4 * 128),
    ...(expand ? [product(pixels, input, middle)] : []),
    50 + Math.ceil(places / teams) * 200,
    kExchangeCycles,
    product(places, middle, output),
  ].reduce((sum, one) => sum + one);
}

/** Until what all blocks of a cluster wrote to each other is there. */
const kExchangeCycles = 500;
/** Clusters that an H100 holds at once, a block per multiprocessor, by their blocks. */
const kMostClusters: Readonly<Record<number, number>> = { 2: 66, 4: 30, 8: 15 };
/** Steps of 32 of k whose weights a warp keeps in registers: of one product, and of both where 16 warps share them. */
const kMostSteps = 8;
const kMostStepsOfMany = 12;

/**
 * Blocks of clusters on a multiprocessor: three of eight warps, or two where a thread holds many words of weights and x. So those of the
 * next two kernels bring their weights while this one's work.
 */
function residentOf({ conv, expand, x, channels: [input, middle] }: SeparableMatch, { rows, warps, cluster }: SeparableTuning): number {
  if (warps > 8) return 1;
  const steps = [expand ? input : 0, middle].map((k) => Math.ceil(k / 32));
  const unit = commonFactor(8, x.pitch, x.first, input);
  const rowUnits = (expand ? input : shareOf(middle, cluster) * 8) / unit;
  const turns = ((((rows - 1) * conv.stride + 3) * conv.width) / (32 * warps)) * 2 ** Math.ceil(Math.log2(rowUnits));
  return 4 * (steps[0]! + steps[1]!) + (Math.ceil(turns) * unit) / 2 <= kMostWords ? 3 : 2;
}

/** Words of weights and x that leave a thread of 80 registers enough for the rest. */
const kMostWords = 44;

/** The largest power of two that divides all. */
function commonFactor(...numbers: readonly number[]): number {
  const bits = numbers.reduce((all, number) => all | number);
  return bits & -bits;
}

/** Clusters for images of which there are so few that each has its place, where channels are few enough as well. */
function clusterTunings({ conv, expand, channels: [input, middle, output] }: SeparableMatch): readonly SeparableTuning[] {
  const steps = [expand ? input : 0, middle].map((k) => Math.ceil(k / 32));
  if (Math.max(...steps) > kMostSteps) return [];
  const [height] = convolvedSize(conv);
  return [1, 2]
    .filter((rows) => rows <= height)
    .flatMap((rows) => [2, 4, 8].map((cluster) => ({ rows, cluster })))
    .filter(({ rows, cluster }) => conv.batch * Math.ceil(height / rows) <= kMostClusters[cluster]!)
    .flatMap(({ rows, cluster }) => [8, 16].map((warps): SeparableTuning => ({ rows, warps, blocksM: 1, blocksN: 1, cluster })))
    .filter(({ warps }) => warps === 8 || steps[0]! + steps[1]! <= kMostStepsOfMany)
    .filter(({ warps, cluster }) => Math.max(shareOf(middle, cluster), shareOf(output, cluster)) <= warps);
}

/** Tunings that fit, the best first. */
function candidates(match: SeparableMatch, { capability }: Target): readonly SeparableTuning[] {
  const [height] = convolvedSize(match.conv);
  const isHopper = capability?.[0] === 9;
  const limit = isHopper ? kSharedLimitBytes : kPortableSharedBytes;
  const single = [1, 2, 4, 7, 14].flatMap((rows): SeparableTuning[] =>
    rows <= height
      ? [
          { rows, warps: 8, blocksM: 2, blocksN: 4, cluster: 1 },
          { rows, warps: 8, blocksM: 2, blocksN: 2, cluster: 1 },
          { rows, warps: 16, blocksM: 2, blocksN: 2, cluster: 1 },
          { rows, warps: 8, blocksM: 1, blocksN: 2, cluster: 1 },
        ]
      : [],
  );
  const all = isHopper ? [...single, ...clusterTunings(match)] : single;
  return all.filter((tuning) => sizesOf(match, tuning).sharedBytes <= limit).sort((a, b) => costOf(match, a) - costOf(match, b));
}

const kMemberTypes: readonly (readonly [member: string, type: string])[] = [
  ['x', 'const __half*'],
  ['xScale', 'const float*'],
  ['expand', 'const uint8_t*'],
  ['expandScale', 'const __half*'],
  ['expandBias', 'const __half*'],
  ['depth', 'const __half*'],
  ['depthBias', 'const __half*'],
  ['midScale', 'const float*'],
  ['project', 'const uint8_t*'],
  ['projectScale', 'const __half*'],
  ['projectBias', 'const __half*'],
  ['other', 'const __half*'],
];

function plan(match: SeparableMatch, name: string, given: Tuning, target: Target): KernelPlan {
  const fitting = candidates(match, target);
  const all = candidates(match, layoutTarget);
  // Tunings from before there were clusters have none.
  const tuning = { ...all[0]!, ...(Object.keys(given).length > 0 && { cluster: 1 }), ...given };
  const isSame = (one: SeparableTuning): boolean => JSON.stringify(one) === JSON.stringify(tuning);
  if (!all.some(isSame))
    throw new LadderError('BAD_ARGUMENT', `expected one of ${JSON.stringify(all)} for the tuning but received ${JSON.stringify(tuning)}`);
  // What was found on a GPU with more shared memory may not fit here.
  const chosen = fitting.find(isSame) ?? fitting[0]!;
  const { conv, format, expand, x, other, channels, steps, results, operands } = match;
  const { blocks, sharedBytes } = sizesOf(match, chosen);
  const [down, across] = convolvedSize(conv);
  const threads = chosen.warps * 32;
  const own = kMemberTypes.filter(([member]) => operands[member]);
  const made = resultMembers(results);
  const members = [...own, ...made];
  const { rows, warps, blocksM, blocksN, cluster } = chosen;
  const isCluster = cluster > 1;
  const resident = isCluster ? residentOf(match, chosen) : (kResident * 8) / warps;
  const config = `${name}_config`;
  const kernel = `ladder::${isCluster ? 'SeparableCluster' : 'Separable'}`;
  const step = (which: string, texts: readonly string[]): string =>
    `  __device__ __forceinline__ static float ${which}(float value) {\n${texts.map((text) => `    value = ${text};\n`).join('')}    return value;\n  }\n`;
  const definitions = `struct ${config} {
  static constexpr ladder::WeightFormat kWeight = ladder::WeightFormat::${formats.get(format).weight!.enumerator!};
  static constexpr int kImages = ${conv.batch}, kHeight = ${conv.height}, kWidth = ${conv.width}, kOutHeight = ${down}, kOutWidth = ${across}, kStride = ${conv.stride};
  static constexpr bool kExpand = ${expand};
  static constexpr int kXPitch = ${x.pitch}, kXFirst = ${x.first}, kIn = ${channels[0]}, kMid = ${channels[1]}, kOut = ${channels[2]};
  static constexpr int kPlace = ${other?.place ?? -1}, kOtherPitch = ${other?.pitch ?? 0}, kOtherFirst = ${other?.first ?? 0};
  static constexpr int kRows = ${rows}, kWarps = ${warps}, ${isCluster ? `kCluster = ${cluster}` : `kMBlocks = ${blocksM}, kNBlocks = ${blocksN}, kRun = ${depthwiseOf(match, chosen).run}`};
  ${resultsText(results)}
${step('first', steps[0])}${step('middle', steps[1])}${step('last', steps[2])}};
static_assert(${kernel}<${config}>::kBlocks == ${blocks} && ${kernel}<${config}>::kSharedBytes == ${sharedBytes});
extern "C" __global__ void ${isCluster ? `__cluster_dims__(${cluster}, 1, 1) ` : ''}__launch_bounds__(${threads}, ${resident}) ${name}(${members.map(([member, type]) => `${type} ${member}`).join(', ')}) {
  ladder::SeparableArguments p{};
${own.map(([member]) => `  p.${member} = ${member};\n`).join('')}${made.map(([member]) => `  p.result.${member} = ${member};\n`).join('')}  ladder::${isCluster ? 'separableClusterConvolution' : 'separableConvolution'}<${config}>(p);
}
`;
  return launchOf(isCluster ? 'conv/separable_cluster.cuh' : 'conv/separable.cuh', definitions, {
    name,
    blocks,
    threads,
    dynamicSharedBytes: sharedBytes,
    arguments: members.map(([member]) => operands[member]!),
  });
}

export const separable = defineFamily<SeparableMatch>({
  id: 'conv/separable',
  version: 1,
  accepts,
  storage: ({ storage }) => storage,
  configurations: (match, target) => candidates(match, target).map((tuning) => ({ ...tuning })),
  key: ({ conv, format, expand, x, other, channels, results }) =>
    [
      `batch=${conv.batch} ${conv.height}x${conv.width} stride=${conv.stride} c=${(expand ? channels : channels.slice(1)).join('-')} w=${format}`,
      `x=${x.pitch}+${x.first}`,
      ...(other ? [`turns=${other.pitch}+${other.first}@${other.place}`] : []),
      ...resultsKey(results),
    ].join(' '),
  plan: (match, name, tuning, { target }) => plan(match, name, tuning, target),
});

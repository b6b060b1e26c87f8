/**
 * Pooling over images: the largest number of windows, which may be quantised, and means over images; native/kernels/conv/pool.cuh.
 */
import { pooledSize, type PoolParameters } from '../../operators/images.js';
import { isStraight, type Program, tensorPositions } from '../../operators/program.js';
import { defineFamily, kOtherKind, Refusal } from './family.js';
import { launchOf } from './launch.js';
import type { KernelArgument, KernelPlan } from './plan.js';
import { resultMembers, type Results, resultsKey, resultsText, splitResults } from './results.js';

const kThreads = 256;
/** Channels of a thread's vector, and of a block of means. */
const kVector = 8;
const kMeanChannels = 64;

/** A program of one node of float16 in rows, or why it is none. */
function plain(program: Program, kind: string, multiple: number): Refusal | null {
  const { values, nodes, inputs, outputs, hints } = program;
  if (nodes.length !== 1 || nodes[0]!.kind !== kind || !isStraight(program) || hints) return kOtherKind;
  const [x, y] = [values[inputs[0]!]!, values[outputs[0]!]!];
  const channels = x.axes[1]!.extent;
  if (x.type !== 'f16' || y.type !== 'f16' || x.layout || y.layout) return new Refusal('x', 'expected float16 in rows');
  if (channels % multiple !== 0) return new Refusal('c', `expected a multiple of ${multiple} channels but received ${channels}`);
  return null;
}

/** A kernel's text and its one launch. */
function planOf(
  name: string,
  blocks: number,
  parameters: readonly (readonly [type: string, name: string])[],
  args: readonly KernelArgument[],
  config: readonly string[],
  body: readonly string[],
): KernelPlan {
  const definitions = [
    `struct ${name}_config {`,
    ...config.map((line) => `  ${line}`),
    '};',
    `extern "C" __global__ void __launch_bounds__(${kThreads}) ${name}(${parameters.map((one) => one.join(' ')).join(', ')}) {`,
    ...body.map((line) => `  ${line}`),
    '}\n',
  ].join('\n');
  return launchOf('conv/pool.cuh', definitions, { name, blocks, threads: kThreads, dynamicSharedBytes: 0, arguments: args });
}

interface MaxPoolMatch {
  readonly params: PoolParameters;
  readonly channels: number;
  readonly results: Results;
  readonly operands: Readonly<Record<string, KernelArgument>>;
}

export const maxPool = defineFamily<MaxPoolMatch>({
  id: 'conv/max_pool',
  version: 1,
  accepts(whole) {
    const split = splitResults(whole);
    if (!split) return kOtherKind;
    const { program, results, operands } = split;
    const refusal = plain(program, 'max_pool', kVector);
    if (refusal) return refusal;
    return {
      params: program.nodes[0]!.params as unknown as PoolParameters,
      channels: program.values[program.inputs[0]!]!.axes[1]!.extent,
      results,
      operands: { x: { kind: 'input', index: tensorPositions(whole).get(program.inputs[0]!)! }, ...operands },
    };
  },
  storage: () => new Map(),
  configurations: () => [{}],
  key: ({ params, channels, results }) =>
    [
      `batch=${params.batch} c=${channels} ${params.height}x${params.width} kernel=${params.kernel} stride=${params.stride} around=${params.padding}`,
      ...resultsKey(results),
    ].join(' '),
  plan({ params, channels, results, operands }, name) {
    const { batch, height, width, kernel, stride, padding } = params;
    const [down, across] = pooledSize(params);
    const blocks = Math.ceil((batch * down * across * (channels / kVector)) / kThreads);
    const members = resultMembers(results);
    return planOf(
      name,
      blocks,
      [['const __half*', 'x'], ...members.map(([member, type]) => [type, member] as const)],
      ['x', ...members.map(([member]) => member)].map((member) => operands[member]!),
      [
        `static constexpr int kImages = ${batch}, kHeight = ${height}, kWidth = ${width}, kOutHeight = ${down}, kOutWidth = ${across};`,
        `static constexpr int kKernel = ${kernel}, kStride = ${stride}, kPadding = ${padding}, kChannels = ${channels};`,
        resultsText(results),
      ],
      [
        `static_assert(ladder::MaxPool<${name}_config>::kBlocks == ${blocks});`,
        'ladder::ResultArguments result{};',
        ...members.map(([member]) => `result.${member} = ${member};`),
        `ladder::maxPoolKernel<${name}_config>(x, result);`,
        `ladder::Results<${name}_config>::storeScale(result);`,
      ],
    );
  },
});

interface MeanMatch {
  readonly images: number;
  readonly rows: number;
  readonly channels: number;
}

export const meanRows = defineFamily<MeanMatch>({
  id: 'conv/mean_rows',
  version: 1,
  accepts(program) {
    const refusal = plain(program, 'mean_rows', kMeanChannels);
    if (refusal) return refusal;
    const [rows, channels] = program.values[program.inputs[0]!]!.axes.map(({ extent }) => extent) as [number, number];
    const images = Number(program.nodes[0]!.params['batch']);
    return { images, rows: rows / images, channels };
  },
  storage: () => new Map(),
  configurations: () => [{}],
  key: ({ images, rows, channels }) => `batch=${images} rows=${rows} c=${channels}`,
  plan({ images, rows, channels }, name) {
    const blocks = (images * channels) / kMeanChannels;
    return planOf(
      name,
      blocks,
      [
        ['const __half*', 'x'],
        ['__half*', 'y'],
      ],
      [
        { kind: 'input', index: 0 },
        { kind: 'output', index: 0 },
      ],
      [`static constexpr int kImages = ${images}, kRows = ${rows}, kChannels = ${channels};`],
      [`static_assert(ladder::MeanRows<${name}_config>::kBlocks == ${blocks});`, `ladder::meanRowsKernel<${name}_config>(x, y);`],
    );
  },
});

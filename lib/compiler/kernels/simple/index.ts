/**
 * Simple kernels: one per kind of operator, for any shape, format and stored order. They rank after all others, so that every
 * graph compiles; made to be right, not fast.
 */
import type { ConvParameters } from '../../../operators/conv-parameters.js';
import { convolvedSize } from '../../../operators/conv.js';
import { pooledSize, type PoolParameters } from '../../../operators/images.js';
import { operators } from '../../../operators/index.js';
import { type Expression, expressionText, inputsOf } from '../../../operators/expression.js';
import { axisExtent } from '../../../operators/layout.js';
import {
  type Axis,
  isQuantised,
  lastAxis,
  type Layout,
  type Node,
  type Program,
  recordOf,
  tensorPositions,
  type Value,
} from '../../../operators/program.js';
import { defineFamily, type Family, kOtherKind, Refusal, type Storage } from '../family.js';
import { doubleLiteral, floatLiteral } from '../launch.js';
import type { KernelArgument, KernelPlan } from '../plan.js';
import { quantiseView, readView, type View, writeView } from './view.js';

/** A program of one node. */
interface SimpleMatch {
  readonly program: Program;
  readonly node: Node;
  readonly inputs: readonly Value[];
  readonly output: Value;
}

/** The one node of a program, or why it is none of this kind. */
function single(program: Program, fits: (kind: string) => boolean): SimpleMatch | Refusal {
  const { values, nodes, outputs, hints } = program;
  const [node, ...others] = nodes;
  if (!node || others.length > 0 || !fits(node.kind) || outputs.length !== 1 || hints) return kOtherKind;
  const inputs = node.inputs.map((value) => values[value]!);
  const odd = [...inputs, values[outputs[0]!]!].find(
    ({ type }) => isQuantised(type) && 8 % recordOf(type).format.element.bits !== 0 && recordOf(type).format.element.bits !== 16,
  );
  if (odd) return new Refusal('format', 'expected codes of 1, 2, 4, 8 or 16 bits');
  return { program, node, inputs, output: values[outputs[0]!]! };
}

/** Text of one launch: views of all operands, and the call of a template with them. */
interface SimpleKernel {
  readonly include: string;
  readonly views: readonly View[];
  readonly output: View;
  readonly body: string;
  readonly grid: readonly [number, number, number];
  readonly threads: number;
}

function planOf({ program, node }: SimpleMatch, name: string, { include, views, output, body, grid, threads }: SimpleKernel): KernelPlan {
  const positions = tensorPositions(program);
  const inputs = node.inputs.flatMap((value, i): KernelArgument[] =>
    views[i]!.parameters.map((_, part) => ({ kind: 'input', index: positions.get(value)! + part })),
  );
  const outputs = output.parameters.map((_, index): KernelArgument => ({ kind: 'output', index }));
  const parameters = [
    ...views.flatMap((view) => view.parameters.map((one) => `const void* ${one}`)),
    ...output.parameters.map((one) => `void* ${one}`),
  ].join(', ');
  return {
    includes: [include, 'simple/codes.cuh'],
    definitions: `${[...views, output].map(({ text }) => text).join('')}extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${parameters}) {\n${body}\n}\n`,
    launches: [{ name, grid, block: [threads, 1, 1], dynamicSharedBytes: 0, arguments: [...inputs, ...outputs], programmatic: true }],
    workspaceBytes: 0,
  };
}

const kMost = { x: 2 ** 31 - 1, y: 65535 };

/** Refuses grids that cannot be launched. */
function fitting(match: SimpleMatch, dimension: string, y: number): SimpleMatch | Refusal {
  return y > kMost.y ? new Refusal(dimension, `expected at most ${kMost.y} rows of blocks but received ${y}`) : match;
}

/** Matrices as rows and columns; other values whose last axis is theirs as rows of it, where they are plain. */
function asRows(value: Value): Value | null {
  if (value.axes.length === 2) return value;
  if (value.axes.length < 2 || value.layout || value.scaleLayout) return null;
  const rows = value.axes.slice(0, -1).reduce((product, { extent }) => product * extent, 1);
  const { type } = value;
  const per =
    isQuantised(type) && type.scale
      ? {
          rows: 1,
          ...(type.scale.per[lastAxis(value).name] !== undefined && { [lastAxis(value).name]: type.scale.per[lastAxis(value).name]! }),
        }
      : {};
  return {
    axes: [{ name: 'rows', extent: rows }, lastAxis(value)],
    type: isQuantised(type) && type.scale ? { ...type, scale: { ...type.scale, per } } : type,
  };
}

/** How all families here are alike: row-major weights, nothing to tune. */
const common = {
  version: 1,
  storage: () => new Map(),
  configurations: () => [{}],
  // Views store numbers in any order, but nothing where it has more places than there are numbers.
  writes: ({ output }: SimpleMatch, _value: number, { layout }: Storage) =>
    !isQuantised(output.type) && placesOf(output.axes, layout).every((places, i) => places === output.axes[i]!.extent),
} as const;

/** Places along each axis: as many as there are numbers, or more in a padded order. */
function placesOf(axes: readonly Axis[], layout: Layout | undefined): readonly number[] {
  return axes.map(({ name, extent }) => (layout ? axisExtent(layout.digits, name) : extent));
}

const keyOf = ({ inputs, output }: SimpleMatch): string =>
  [...inputs, output]
    .map(({ axes, type }) => `${axes.map(({ extent }) => extent).join('x')}:${isQuantised(type) ? type.format : type}`)
    .join(' ');

const dense = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/dense',
  key: keyOf,
  accepts(program) {
    const match = single(program, (kind) => kind === 'dense');
    return match instanceof Refusal ? match : fitting(match, 'm', Math.ceil(match.output.axes[0]!.extent / 64));
  },
  plan(match, name) {
    const [x, w] = match.inputs.map((value, i) => readView(`${name}_${['x', 'w'][i]!}`, value)) as [View, View];
    const y = writeView(`${name}_y`, match.output);
    const [m, n] = match.output.axes.map(({ extent }) => extent) as [number, number];
    const k = lastAxis(match.inputs[1]!).extent;
    return planOf(match, name, {
      include: 'simple/dense.cuh',
      views: [x, w],
      output: y,
      grid: [Math.ceil(n / 64), Math.ceil(m / 64), 1],
      threads: 256,
      body: `  ladder::simpleDense(${x.make}, ${w.make}, ${y.make}, ${m}, ${n}, ${k});`,
    });
  },
});

const norm = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/norm',
  key: (match) => `${String(match.node.params['kind'])} ${keyOf(match)}`,
  accepts(program) {
    const match = single(program, (kind) => kind === 'norm');
    if (match instanceof Refusal) return match;
    return asRows(match.inputs[0]!) && asRows(match.output) ? match : new Refusal('x', 'expected a matrix, or values in rows');
  },
  plan(match, name) {
    const isLayer = match.node.params['kind'] === 'layer';
    const views = match.inputs.map((value, i) => readView(`${name}_${['x', 'gain', 'beta'][i]!}`, i === 0 ? asRows(value)! : value));
    const y = writeView(`${name}_y`, asRows(match.output)!);
    const [rows, columns] = asRows(match.output)!.axes.map(({ extent }) => extent) as [number, number];
    return planOf(match, name, {
      include: 'simple/rows.cuh',
      views,
      output: y,
      grid: [rows, 1, 1],
      threads: 256,
      body: `  ladder::simpleNorm<${isLayer}>(${views[0]!.make}, ${views[1]!.make}, ${(views[2] ?? views[1]!).make}, ${y.make}, ${columns}, ${floatLiteral(Number(match.node.params['eps']))});`,
    });
  },
});

/** Blocks of a quantised row that share a scale each. */
function blocksOf(output: Value): number {
  const { name, extent } = lastAxis(output);
  return extent / ((isQuantised(output.type) && output.type.scale?.per[name]) || extent);
}

const quantiseByGiven = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/quantise_static',
  writes: () => false,
  key: keyOf,
  accepts(program) {
    const match = single(program, (kind) => kind === 'quantise');
    if (match instanceof Refusal) return match;
    if (match.inputs.length !== 2) return new Refusal('scale', 'expected a scale as second operand');
    return asRows(match.inputs[0]!) && asRows(match.output) ? match : new Refusal('x', 'expected a matrix, or values in rows');
  },
  plan(match, name) {
    const output = asRows(match.output)!;
    const x = readView(`${name}_x`, asRows(match.inputs[0]!)!);
    const scale = readView(`${name}_scale`, match.inputs[1]!);
    const y = quantiseView(`${name}_y`, output);
    const [rows, columns] = output.axes.map(({ extent }) => extent) as [number, number];
    return planOf(match, name, {
      include: 'core/ptx.cuh',
      views: [x, scale],
      output: y,
      grid: [Math.min(kMost.x, Math.ceil((rows * columns) / 256)), 1, 1],
      threads: 256,
      body: [
        `  const auto x = ${x.make};`,
        `  const auto y = ${y.make};`,
        '  ladder::launchDependents();',
        '  ladder::waitForPrerequisites();',
        '  const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;',
        `  if (i >= INT64_C(${rows * columns})) return;`,
        `  const float scale = ${scale.make}.at(0);`,
        `  const int64_t row = i / ${columns}, column = i % ${columns};`,
        '  y.store(row, column, y.quotient(x.at(row, column), scale));',
        '  if (i == 0) y.storeScale(0, 0, scale);',
      ].join('\n'),
    });
  },
});

const quantise = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/quantise',
  key: keyOf,
  accepts(program) {
    const match = single(program, (kind) => kind === 'quantise');
    if (match instanceof Refusal) return match;
    if (match.inputs.length !== 1) return new Refusal('scale', 'expected none: it is of the numbers themselves');
    const output = asRows(match.output);
    if (!output || !asRows(match.inputs[0]!)) return new Refusal('x', 'expected a matrix, or values in rows');
    if (!isQuantised(output.type) || output.type.scale?.per[output.axes[0]!.name] !== 1 || recordOf(output.type).fit?.kind === 'mean')
      return new Refusal('scale', 'expected scales by the largest magnitude of a row, or of blocks of it');
    return fitting(match, 'k', blocksOf(output));
  },
  plan(match, name) {
    const [input, output] = [asRows(match.inputs[0]!)!, asRows(match.output)!];
    const x = readView(`${name}_x`, input);
    const y = quantiseView(`${name}_y`, output);
    const [rows, columns] = output.axes.map(({ extent }) => extent) as [number, number];
    const blocks = blocksOf(output);
    return planOf(match, name, {
      include: 'simple/rows.cuh',
      views: [x],
      output: y,
      grid: [rows, blocks, 1],
      threads: 256,
      body: `  ladder::simpleQuantise(${x.make}, ${y.make}, ${columns / blocks});`,
    });
  },
});

const attention = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/attention',
  // Not through views.
  writes: () => false,
  key: ({ node }) => JSON.stringify(node.params),
  accepts(program) {
    const match = single(program, (kind) => kind === 'attention');
    if (match instanceof Refusal) return match;
    if ([...match.inputs, match.output].some(({ type, layout }) => type !== 'f16' || layout))
      return new Refusal('qkv', 'expected float16 in rows');
    return fitting(match, 'heads', Number(match.node.params['heads']));
  },
  plan(match, name) {
    const { seq, heads, kvHeads, headDim, order, position, ropeBase, mask } = match.node.params;
    const [x, y] = [readView(`${name}_x`, match.inputs[0]!), writeView(`${name}_y`, match.output)];
    const config = `struct ${name}_config {
  static constexpr int kSeq = ${seq}, kHeads = ${heads}, kKvHeads = ${kvHeads}, kHeadDim = ${headDim};
  static constexpr bool kInterleaved = ${order === 'interleaved'}, kRope = ${position === 'rope'}, kAlibi = ${position === 'alibi'}, kCausal = ${mask === 'causal'};
  static constexpr double kLog2Base = ${doubleLiteral(Math.log2(Number(ropeBase)))};
};
`;
    const { definitions, ...plan } = planOf(match, name, {
      include: 'simple/attention.cuh',
      views: [x],
      output: y,
      grid: [match.output.axes[0]!.extent, Number(heads), 1],
      threads: 128,
      body: `  ladder::simpleAttention<${name}_config>(${x.parameters[0]}, ${y.parameters[0]});`,
    });
    return { ...plan, definitions: `${config}${definitions}` };
  },
});

const conv = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/conv',
  key: (match) => `${JSON.stringify(match.node.params)} ${keyOf(match)}`,
  accepts(program) {
    const match = single(program, (kind) => kind === 'conv');
    if (match instanceof Refusal) return match;
    return isQuantised(match.output.type) ? new Refusal('y', 'expected numbers as the result') : match;
  },
  plan(match, name) {
    const params = match.node.params as unknown as ConvParameters;
    const { batch, height, width, kernelY, kernelX, stride, paddingY, paddingX, groups } = params;
    const [x, w] = match.inputs.map((value, i) => readView(`${name}_${['x', 'w'][i]!}`, value)) as [View, View];
    const y = writeView(`${name}_y`, match.output);
    const [down, across] = convolvedSize(params);
    const [rows, channels] = match.output.axes.map(({ extent }) => extent) as [number, number];
    const config = `struct ${name}_config {
  static constexpr int kBatch = ${batch}, kHeight = ${height}, kWidth = ${width}, kDown = ${down}, kAcross = ${across};
  static constexpr int kKernelY = ${kernelY}, kKernelX = ${kernelX}, kStride = ${stride}, kPaddingY = ${paddingY}, kPaddingX = ${paddingX};
  static constexpr int kInputs = ${lastAxis(match.inputs[0]!).extent / groups}, kOutputs = ${channels / groups}, kChannels = ${channels};
};
`;
    const { definitions, ...plan } = planOf(match, name, {
      include: 'simple/conv.cuh',
      views: [x, w],
      output: y,
      grid: [Math.ceil((rows * channels) / 256), 1, 1],
      threads: 256,
      body: `  ladder::simpleConv<${name}_config>(${x.make}, ${w.make}, ${y.make});`,
    });
    return { ...plan, definitions: `${config}${definitions}` };
  },
});

/** The expression of an elementwise operator, or null. */
const expressionOf = (kind: string): Expression | null => operators.find(kind)?.expression ?? null;

const elementwise = defineFamily<SimpleMatch>({
  ...common,
  id: 'simple/elementwise',
  writes: ({ output }) => !isQuantised(output.type),
  key: (match) => `${match.node.kind} ${keyOf(match)}`,
  accepts(program) {
    const match = single(program, (kind) => expressionOf(kind) !== null);
    if (match instanceof Refusal) return match;
    return isQuantised(match.output.type) ? new Refusal('y', 'expected numbers as the result') : match;
  },
  plan(match, name) {
    const expression = expressionOf(match.node.kind)!;
    const parts = inputsOf(expression);
    return elementPlan(match, name, (at) =>
      expressionText(expression, (index, part) => {
        const own = match.inputs[index]!.axes;
        return at(
          index,
          own.map((axis, j) => {
            const position = match.output.axes.findIndex(({ name: known }) => known === axis.name);
            return j + 1 === own.length && part > 0 ? `a${position} + ${(part * axis.extent) / parts[index]!}` : `a${position}`;
          }),
        );
      }),
    );
  },
});

/** Text of an input's number at coordinates of it, which are text in the result's coordinates a0, a1, … */
type NumberAt = (input: number, coordinates: readonly string[]) => string;

/** Text of a number of the result at coordinates a0, a1, … */
type NumberText = (match: SimpleMatch, at: NumberAt) => string;

/** A kernel of one thread per place of the result, whose number `element` writes down; places without a number hold zeros. */
function elementPlan(match: SimpleMatch, name: string, element: (at: NumberAt) => string): KernelPlan {
  const views = match.inputs.map((value, i) => readView(`${name}_x${i}`, value));
  const y = writeView(`${name}_y`, match.output);
  const { axes, layout } = match.output;
  const places = placesOf(axes, layout);
  const elements = places.reduce((product, extent) => product * extent, 1);
  let stride = elements;
  const coordinates = places.map((extent, i) => {
    stride /= extent;
    return `const int64_t a${i} = i${stride === 1 ? '' : ` / ${stride}`}${i === 0 ? '' : ` % ${extent}`};`;
  });
  const exists = axes.flatMap(({ extent }, i) => (places[i]! > extent ? [`a${i} < ${extent}`] : [])).join(' && ');
  return planOf(match, name, {
    include: 'core/ptx.cuh',
    views,
    output: y,
    grid: [Math.min(kMost.x, Math.ceil(elements / 256)), 1, 1],
    threads: 256,
    body: [
      ...views.map(({ make }, i) => `  const auto x${i} = ${make};`),
      `  const auto y = ${y.make};`,
      '  ladder::launchDependents();',
      '  ladder::waitForPrerequisites();',
      `  const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;`,
      `  if (i >= INT64_C(${elements})) return;`,
      `  ${coordinates.join(' ')}`,
      `  y.store(${axes.map((_, i) => `a${i}`).join(', ')}, ${exists === '' ? '' : `!(${exists}) ? 0.0f : `}${element((input, own) => `x${input}.at(${own.join(', ')})`)});`,
    ].join('\n'),
  });
}

/** Where each number of a result comes from: lib/operators/tokens.ts. */
const kTokenTexts: Readonly<Record<string, NumberText>> = {
  patches({ node, inputs: [image] }, at) {
    const size = Number(node.params['size']);
    const [, , down, across] = image!.axes.map(({ extent }) => extent / size) as [number, number, number, number];
    return at(0, [
      `a0 / ${down * across}`,
      `a1 / ${size * size}`,
      `a0 / ${across} % ${down} * ${size} + a1 / ${size} % ${size}`,
      `a0 % ${across} * ${size} + a1 % ${size}`,
    ]);
  },
  embed_tokens({ inputs: [, , positions] }, at) {
    const tokens = positions!.axes[0]!.extent;
    const patch = at(0, [`a0 / ${tokens} * ${tokens - 1} + a0 % ${tokens} - 1`, 'a1']);
    return `(a0 % ${tokens} == 0 ? ${at(1, ['a1'])} : ${patch}) + ${at(2, [`a0 % ${tokens}`, 'a1'])}`;
  },
  first_rows({ node, inputs: [x] }, at) {
    return at(0, [`a0 * ${x!.axes[0]!.extent / Number(node.params['batch'])}`, 'a1']);
  },
};

/** What each number of a result is: lib/operators/images.ts. */
const kImageTexts: Readonly<Record<string, NumberText>> = {
  max_pool({ node }, at) {
    const params = node.params as unknown as PoolParameters;
    const { height, width, kernel, stride, padding } = params;
    const [down, across] = pooledSize(params);
    return `[&] {
    const int64_t first = a0 / ${down * across} * ${height * width}, top = a0 / ${across} % ${down} * ${stride} - ${padding}, left = a0 % ${across} * ${stride} - ${padding};
    float most = __int_as_float(0xff800000);
    for (int64_t y = max(INT64_C(0), top); y < min(INT64_C(${height}), top + ${kernel}); ++y)
      for (int64_t x = max(INT64_C(0), left); x < min(INT64_C(${width}), left + ${kernel}); ++x)
        most = fmaxf(most, ${at(0, [`first + y * ${width} + x`, 'a1'])});
    return most;
  }()`;
  },
  mean_rows({ node, inputs: [x] }, at) {
    const rows = x!.axes[0]!.extent / Number(node.params['batch']);
    return `[&] {
    float sum = 0.0f;
    for (int64_t row = 0; row < ${rows}; ++row) sum += ${at(0, [`a0 * ${rows} + row`, 'a1'])};
    return sum / ${rows}.0f;
  }()`;
  },
  channels: ({ node }, at) => at(0, ['a0', `a1 + ${String(node.params['first'])}`]),
  interleave: (_, at) => `(a1 % 2 == 0 ? ${at(0, ['a0', 'a1 / 2'])} : ${at(1, ['a0', 'a1 / 2'])})`,
};

/** What stands before attention: lib/operators/query-key.ts. Norms in FP32, angles in FP64. */
const kHeadTexts: Readonly<Record<string, NumberText>> = {
  query_key({ node, inputs }, at) {
    const { seq, heads, kvHeads, headDim, position, ropeBase, factor, lowFactor, highFactor, originalPositions, eps } = node.params;
    const [dim, half, queries] = [Number(headDim), Number(headDim) / 2, Number(heads)];
    const normed = inputs.length > 1;
    const plain = at(0, ['a0', 'first + c']);
    return `[&]() -> float {
    const int64_t head = a1 / ${dim}, d = a1 % ${dim}, first = a1 - d;
    if (head >= ${queries + Number(kvHeads)}) return ${at(0, ['a0', 'a1'])};${
      normed
        ? `
    float squares = 0.0f;
    for (int64_t c = 0; c < ${dim}; ++c) squares = fmaf(${plain}, ${plain}, squares);
    const float inverse = rsqrtf(squares / ${dim}.0f + ${floatLiteral(Number(eps))});
    const auto value = [&](int64_t c) { return ${plain} * inverse * (head < ${queries} ? ${at(1, ['c'])} : ${at(2, ['c'])}); };`
        : `
    const auto value = [&](int64_t c) { return ${plain}; };`
    }${
      position === 'none'
        ? `
    return value(d);`
        : `
    const int64_t pair = d % ${half};
    const double plain = exp2(-2.0 * pair / ${dim} * ${doubleLiteral(Math.log2(Number(ropeBase)))});
    const double turns = plain * ${doubleLiteral(Number(originalPositions) / (2 * Math.PI))};
    const double smooth = fmin(fmax((turns - ${doubleLiteral(Number(lowFactor))}) / ${doubleLiteral(Number(highFactor) - Number(lowFactor))}, 0.0), 1.0);
    double sine, cosine;
    sincos(a0 % ${seq} * ((1.0 - smooth) * plain / ${doubleLiteral(Number(factor))} + smooth * plain), &sine, &cosine);
    const float low = value(pair), high = value(pair + ${half});
    return d < ${half} ? low * static_cast<float>(cosine) - high * static_cast<float>(sine) : high * static_cast<float>(cosine) + low * static_cast<float>(sine);`
    }
  }()`;
  },
};

/** The family of kinds that a text per number of the result describes. */
function textFamily(id: string, texts: Readonly<Record<string, NumberText>>): Family {
  return defineFamily<SimpleMatch>({
    ...common,
    id,
    writes: ({ output }) => !isQuantised(output.type),
    key: (match) => `${match.node.kind} ${JSON.stringify(match.node.params)} ${keyOf(match)}`,
    accepts(program) {
      const match = single(program, (kind) => Object.hasOwn(texts, kind));
      if (match instanceof Refusal) return match;
      return isQuantised(match.output.type) ? new Refusal('y', 'expected numbers as the result') : match;
    },
    plan: (match, name) => elementPlan(match, name, (at) => texts[match.node.kind]!(match, at)),
  });
}

const tokens = textFamily('simple/tokens', kTokenTexts);
const images = textFamily('simple/images', kImageTexts);
const heads = textFamily('simple/heads', kHeadTexts);

/** One per kind; all elementwise operators share one. */
export const simpleFamilies: readonly Family[] = [
  dense,
  norm,
  quantise,
  quantiseByGiven,
  attention,
  conv,
  tokens,
  images,
  heads,
  elementwise,
];

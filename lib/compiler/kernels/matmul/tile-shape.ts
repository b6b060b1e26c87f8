/**
 * The flat view of a program that native/kernels/matmul/tile takes: a product of rows, or of images whose pixels or patches become rows, then, in their order, a bias, elementwise
 * operators with an expression of their own, and at most one matrix that they read beside their first operand; of an image's patches, perhaps, its
 * token and their positions; then, perhaps, codes.
 */
import { formats } from '../../../formats/index.js';
import { type Expression, expressionText, inputsOf } from '../../../operators/expression.js';
import type { ConvParameters } from '../../../operators/conv-parameters.js';
import { convolvedSize } from '../../../operators/conv.js';
import { operators } from '../../../operators/index.js';
import { extentOf, isQuantised, isStraight, type Node, type Program, tensorPositions, type Value } from '../../../operators/program.js';
import { kOtherKind, Refusal } from '../family.js';
import type { KernelArgument } from '../plan.js';
import { type Results, splitResults } from '../results.js';
import { type StemSizes, stemSizes } from './stem-kernel.js';
import type { TileShape } from './tile-kernel.js';

/** Rows of a dense product from which on tiles are not mostly empty, and the decoding products, which stream weights, are the slower ones. */
export const kLeastRows = 33;
/** Weights of a dense product from which on matmul/wide and the decoding products, whose memory keeps pace with them, are the faster ones. */
export const kMostWeights = 2 ** 21;
/** Pixels of a line that are copied at a time. */
const kPatchStep = 8;

/** A product and where its operands are. */
export interface TileMatch {
  readonly shape: TileShape;
  /** The weight's value. */
  readonly weight: number;
  /** The second product's weight, where there is one. */
  readonly weight2?: number;
  /** Of the product's node. */
  readonly kind: string;
  /** Kinds of the steps after the product, in order, but for a quantisation. */
  readonly after: readonly string[];
  /** Where x comes as planes of images, whose pixels become rows on the way in: the stem's tile. */
  readonly stem: StemSizes | null;
  /** By member of TileArguments (native/kernels/matmul/tile/tile_block.cuh) or of its results. */
  readonly operands: Readonly<Partial<Record<string, KernelArgument>>>;
}

/** How x is read: everything of a shape but its formats and what follows the sums. */
type Geometry = Omit<
  TileShape,
  'n' | 'weight' | 'activation' | 'xScale' | 'bias' | 'residual' | 'tokens' | 'pairs' | 'second' | 'steps' | keyof Results
>;

const kPlace = {
  height: 1,
  width: 1,
  kernelY: 1,
  kernelX: 1,
  strideY: 1,
  strideX: 1,
  paddingY: 0,
  paddingX: 0,
  outHeight: 1,
  outWidth: 1,
  patches: false,
} as const;

/** The products that are taken, by kind of their node. */
const kGeometries: Readonly<Record<string, (node: Node, x: Value) => Geometry | Refusal>> = {
  dense: (_, x) => ({ ...kPlace, images: x.axes[0]!.extent, channels: x.axes[1]!.extent }),
  conv({ params }, x) {
    const { batch, height, width, kernelY, kernelX, stride, paddingY, paddingX, groups } = params as unknown as ConvParameters;
    if (groups !== 1) return new Refusal('groups', `expected 1 but received ${groups}`);
    const [outHeight, outWidth] = convolvedSize(params as unknown as ConvParameters);
    return {
      images: batch,
      height,
      width,
      channels: x.axes[1]!.extent,
      kernelY,
      kernelX,
      strideY: stride,
      strideX: stride,
      paddingY,
      paddingX,
      outHeight,
      outWidth,
      patches: false,
    };
  },
};

/** Of a dense product whose rows are an image's patches, of size × size pixels. */
function patchGeometry(size: number, { axes }: Value): Geometry | Refusal {
  if (size % kPatchStep !== 0) return new Refusal('size', `expected patches of a multiple of ${kPatchStep} pixels but received ${size}`);
  const [images, channels, height, width] = axes.map(({ extent }) => extent) as [number, number, number, number];
  return {
    images,
    height,
    width,
    channels,
    kernelY: size,
    kernelX: size,
    strideY: size,
    strideX: size,
    paddingY: 0,
    paddingX: 0,
    outHeight: height / size,
    outWidth: width / size,
    patches: true,
  };
}

/** Whether row after row of x is what is multiplied. */
export function isLinear({ kernelY, kernelX, strideY, strideX, paddingY, paddingX }: Omit<Geometry, 'channels'>): boolean {
  return kernelY * kernelX * strideY * strideX === 1 && paddingY === 0 && paddingX === 0;
}

/** Weights, and the activations that they are multiplied with. */
const kPairs: readonly (readonly [weight: string, activation: string])[] = [
  ['fp16', 'fp16'],
  ['fp8_e5m2', 'fp8_e5m2'],
  ['fp8_e4m3', 'fp8_e4m3'],
  ['mxfp8_e5m2', 'mxfp8_e5m2'],
  ['mxfp8_e4m3', 'mxfp8_e4m3'],
  ['int4', 'int8'],
  ['int4', 'int4'],
  ['int1', 'int8'],
  ['int1', 'int4'],
];

/** Functions of the device that are quick and err by less than 2⁻¹⁰. */
const kApproximations = { exp: 'ladder::expNear', erf: 'ladder::erfNear', div: 'ladder::divideNear' } as const;

/** What follows the sums. */
interface Steps {
  readonly bias: number | null;
  readonly residual: number | null;
  readonly pairs: boolean;
  readonly steps: readonly string[];
}

/** Of an image's patches: what puts a token before them and adds positions, as the last step. */
interface Embedding {
  readonly token: number;
  readonly positions: number;
}

/** The embedding of a node, or null where it is not one of such patches. */
function embeddingOf({ kind, params, inputs }: Node, values: readonly Value[], images: number): Embedding | null {
  const [, token, positions] = inputs;
  if (kind !== 'embed_tokens' || token === undefined || positions === undefined || params['batch'] !== images) return null;
  return values[token]!.type === 'f16' && values[positions]!.type === 'f16' ? { token, positions } : null;
}

function expressionOf({ kind }: Node): Expression | undefined {
  return operators.find(kind)?.expression;
}

/** The steps after a product, or null. */
function stepsOf(values: readonly Value[], after: readonly Node[]): Steps | null {
  let [bias, residual]: [number | null, number | null] = [null, null];
  let pairs = false;
  const steps: string[] = [];
  for (const [i, node] of after.entries()) {
    const expression = expressionOf(node);
    if (!expression || node.inputs.length > 2) return null;
    const [x, ...others] = inputsOf(expression);
    const other = node.inputs[1];
    if (others.some((parts) => parts !== 1) || (x !== 1 && (x !== 2 || i > (bias === null ? 0 : 1)))) return null;
    if (other !== undefined && values[other]!.axes.length === 1) {
      if (i > 0 || node.kind !== 'add') return null;
      bias = other;
      continue;
    }
    if (other !== undefined) {
      if (residual !== null) return null;
      residual = other;
    }
    pairs ||= x === 2;
    steps.push(expressionText(expression, (index, part) => (index === 1 ? 'residual' : part === 1 ? 'paired' : 'value'), kApproximations));
  }
  return { bias, residual, pairs, steps };
}

/** How the activations' scales are stored, or null where no kernel reads such. */
function scalesOf({ axes, type }: Value): TileShape['xScale'] | null {
  if (!isQuantised(type)) return 'none';
  const group = formats.get(type.format).activation?.group ?? -1;
  const per: Readonly<Record<string, number>> = type.scale?.per ?? {};
  const [rows, columns] = [axes.slice(0, -1), axes.at(-1)!];
  if (group > 0) return per[columns.name] === group && rows.every(({ name }) => per[name] === 1) ? 'none' : null;
  if (Object.keys(per).length === 0) return 'one';
  return Object.keys(per).length === rows.length && rows.every(({ name }) => per[name] === 1) ? 'row' : null;
}

/** Whether weights have scales per output channel, or per block where their format prescribes that. */
function hasPlainScales({ type }: Value): boolean {
  if (!isQuantised(type)) return true;
  const per = type.scale?.per ?? {};
  return per['n'] === 1 && (per['k'] === undefined || formats.get(type.format).weight!.groups.every((group) => group === per['k']));
}

/**
 * The flat view of a program, or why there is none.
 * @param before nodes before the product that are somebody else's business
 */
export function matchTile(whole: Program, before = 0): TileMatch | Refusal {
  const split = splitResults(whole);
  if (!split) return kOtherKind;
  const { program, results } = split;
  const { values, inputs, outputs, hints = [] } = program;
  const nodes = program.nodes.slice(before);
  const patches = nodes[0]?.kind === 'patches' ? Number(nodes[0].params['size']) : 0;
  const [isOfPlanes, isOfPatches] = [patches === 1, patches > 1];
  const isPooled = isOfPlanes && nodes.at(-1)!.kind === 'max_pool';
  const embedding = isOfPatches && results.codes === null ? embeddingOf(nodes.at(-1)!, values, values[inputs[0]!]!.axes[0]!.extent) : null;
  const [product, ...after] = nodes.slice(patches > 0 ? 1 : 0, isPooled || embedding ? -1 : undefined);
  const geometryOf = product && kGeometries[product.kind];
  const output = outputs[0];
  if (!geometryOf || outputs.length !== 1 || output !== nodes.at(-1)!.outputs[0] || hints.length > 0 || !isStraight(program))
    return kOtherKind;
  const [xAt, weightAt] = product.inputs as [number, number];
  const [x, w, y] = [values[xAt]!, values[weightAt]!, values[output!]!];
  const steps = stepsOf(values, after);
  if (!steps || y.type !== 'f16' || (embedding && (steps.residual !== null || steps.pairs))) return kOtherKind;
  if ([...inputs, output!].some((value) => value !== weightAt && (values[value]!.layout || values[value]!.scaleLayout)))
    return new Refusal('layout', 'expected activations and vectors in rows');
  if (isOfPatches && product.kind !== 'dense') return kOtherKind;
  const geometry = isOfPatches ? patchGeometry(patches, values[nodes[0]!.inputs[0]!]!) : geometryOf(product, x);
  if (geometry instanceof Refusal) return geometry;
  const [weight, activation] = [isQuantised(w.type) ? w.type.format : 'fp16', isQuantised(x.type) ? x.type.format : 'fp16'];
  if (x.type === 'f32' || !kPairs.some(([one, other]) => one === weight && other === activation))
    return new Refusal('weight', `no kernel multiplies ${weight} with ${activation}`);
  const xScale = scalesOf(x);
  if (xScale === null || !hasPlainScales(w))
    return new Refusal('scale', 'expected one of all activations, or one per row; of weights one per channel');
  // A sum over several rows of x has no scale in common.
  if (xScale === 'row' && !isLinear(geometry)) return new Refusal('scale', 'expected one of all activations where several rows are summed');
  const n = extentOf(w, 'n');
  if (steps.pairs && n % 16 !== 0) return new Refusal('n', `expected a multiple of 16 where outputs are paired but received ${n}`);
  const residual = embedding?.positions ?? steps.residual;
  const places = tensorPositions(whole);
  const tensor = (value: number | null, part = 0): KernelArgument | undefined =>
    value === null ? undefined : { kind: 'input', index: places.get(value)! + part };
  const shape: TileShape = {
    ...geometry,
    n,
    weight,
    activation,
    xScale,
    bias: steps.bias !== null,
    residual: residual !== null,
    tokens: embedding !== null,
    pairs: steps.pairs,
    second: null,
    steps: embedding ? [...steps.steps, '(value + residual)'] : steps.steps,
    ...results,
  };
  const { kernel, stride, padding } = nodes.at(-1)!.params;
  const stem = isOfPlanes && (!isPooled || [kernel, stride, padding].join() === '3,2,1') ? stemSizes(shape, isPooled) : null;
  if (isOfPlanes && !stem) return new Refusal('x', 'expected rows of pixels: these images are no stem');
  return {
    shape,
    weight: weightAt,
    kind: product.kind,
    after: [...after.map(({ kind }) => kind), ...(embedding ? ['embed_tokens'] : [])],
    stem,
    operands: {
      x: tensor(program.nodes[0]!.inputs[0]!),
      ...(isQuantised(x.type) && before === 0 && { xScale: tensor(xAt, 1) }),
      weight: tensor(weightAt),
      ...(isQuantised(w.type) && { scale: tensor(weightAt, 1) }),
      ...(steps.bias !== null && { bias: tensor(steps.bias) }),
      ...(residual !== null && { residual: tensor(residual) }),
      ...(embedding && { token: tensor(embedding.token) }),
      ...split.operands,
    } as TileMatch['operands'],
  };
}

/**
 * Programs: what a checkpoint's operators compute, as data. A program is a typed graph of primitive nodes (index.ts lists the
 * kinds); a model before fusion is one, so is the meaning of one node of graph.json, however much is fused in it.
 */
import { type ActivationFormatRecord, type Format, formats, type WeightFormatRecord } from '../formats/index.js';
import { LadderError } from '../errors.js';
import type { LayoutDigit, ScaleFit } from '../native.js';
import { axisExtent } from './layout.js';

/**
 * A named axis of a value. Activations have `m` (rows: tokens, or batch · height · width) and `c` (channels), or the axes of an
 * image; weights have `n` (output channels) and `k` (what is summed over).
 */
export interface Axis {
  readonly name: string;
  readonly extent: number;
}

/**
 * Stored order of a value. A stored element's linear index, written with the digits' sizes as radices (first digit outermost),
 * gives one value per digit; the logical coordinate along `axis` is the sum of value × stride over the digits of that axis.
 * Layouts are bijections: each axis' digits must enumerate 0…extent−1 exactly once; an axis may have more places than
 * coordinates.
 *
 * @example row-major [N, K]: [{axis:'n',stride:1,size:N},{axis:'k',stride:1,size:K}]
 */
export interface Layout {
  readonly digits: readonly LayoutDigit[];
}

/** Which numbers share a scale: `per` consecutive coordinates along each axis that it names; all along the others. */
export interface Scale {
  readonly type: 'f16' | 'f32' | 'e8m0';
  readonly per: Readonly<Record<string, number>>;
}

/** Numbers stored as codes of a format. */
export interface Quantised {
  readonly format: string;
  /** Weights are packed into bytes; activations have a code per byte. */
  readonly as: 'weight' | 'activation';
  readonly scale: Scale | null;
}

export type ValueType = 'f16' | 'f32' | Quantised;

/** A tensor of numbers, however it is stored. Without a layout it is stored row-major. */
export interface Value {
  readonly axes: readonly Axis[];
  readonly type: ValueType;
  readonly layout?: Layout | undefined;
  /** Of the scales, over the axes in `scale.per`. */
  readonly scaleLayout?: Layout | undefined;
}

export type Parameter = string | number | boolean;
export type Parameters = Readonly<Record<string, Parameter>>;

/** One operation: a primitive's kind, its parameters, and indices of the values that it reads and makes. */
export interface Node {
  readonly kind: string;
  readonly params: Parameters;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/**
 * Nodes in topological order. As the meaning of an operator: its tensors are those of `inputs`, then those of `outputs` (of a
 * quantised value the codes, then the scales); values between nodes carry real numbers, rounded to float16 where their type says so.
 */
export interface Program {
  readonly values: readonly Value[];
  readonly nodes: readonly Node[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  /** Bytes of tensors that come after the inputs and that nothing is made of: what a kernel may read ahead. */
  readonly hints?: readonly number[] | undefined;
}

export function isQuantised(type: ValueType): type is Quantised {
  return typeof type !== 'string';
}

/** Elements along an axis. @throws LadderError `BAD_MANIFEST` when the value has no such axis */
export function extentOf({ axes }: Pick<Value, 'axes'>, name: string): number {
  const axis = axes.find((one) => one.name === name);
  if (!axis)
    throw new LadderError('BAD_MANIFEST', `a value with axes ${axes.map((one) => one.name).join(', ')} has no axis ${name}`, {
      axis: name,
    });
  return axis.extent;
}

/** The last axis: what products sum over, and norms range over. */
export function lastAxis({ axes }: Pick<Value, 'axes'>): Axis {
  const axis = axes.at(-1);
  if (!axis) throw new LadderError('BAD_MANIFEST', 'expected a value with axes');
  return axis;
}

/** Places in storage, padding included. */
export function storedElements(axes: readonly Axis[], layout: Layout | undefined): number {
  if (!layout) return axes.reduce((product, { extent }) => product * extent, 1);
  return layout.digits.reduce((product, { size }) => product * size, 1);
}

/** The axes of a value's scales. */
export function scaleAxes({ axes }: Pick<Value, 'axes'>, { per }: Scale): readonly Axis[] {
  return axes.filter(({ name }) => Object.hasOwn(per, name)).map(({ name, extent }) => ({ name, extent: Math.ceil(extent / per[name]!) }));
}

/** The format's record for weights or activations, whichever a value is. */
export function recordOf({ format, as }: Quantised): {
  readonly format: Format;
  readonly record: WeightFormatRecord | ActivationFormatRecord;
  readonly fit: ScaleFit | null;
} {
  const found = formats.get(format);
  const record = found[as];
  if (!record) throw new LadderError('BAD_MANIFEST', `there are no ${as}s of format ${format}`, { format });
  return { format: found, record, fit: record.scale?.fit ?? null };
}

/** Bits that one stored code takes. */
export function cellBits(type: ValueType): number {
  if (!isQuantised(type)) return type === 'f16' ? 16 : 32;
  const { format } = recordOf(type);
  return type.as === 'weight' ? format.element.bits : Math.max(8, format.element.bits);
}

/** TVM's types of the tensors here. */
export type TensorType = 'float16' | 'float32' | 'int8' | 'uint8';

export const kTensorBytes: Readonly<Record<TensorType, number>> = { float16: 2, float32: 4, int8: 1, uint8: 1 };

/** One tensor of a value. */
export interface TensorSpec {
  readonly part: 'numbers' | 'codes' | 'scales';
  readonly dtype: TensorType;
  /** Elements of `dtype`: bytes, where codes are packed. */
  readonly elements: number;
  /** Row-major values: their extents; others: all elements in one row per place of the first axis, where that is whole. */
  readonly shape: readonly number[];
}

const kScaleTypes = { f16: 'float16', f32: 'float32', e8m0: 'uint8' } as const;

/** The tensors in which a value is stored: its numbers, or its codes and their scales. */
export function tensorsOf(value: Value): readonly TensorSpec[] {
  const { axes, type, layout, scaleLayout } = value;
  const elements = storedElements(axes, layout);
  if (!isQuantised(type))
    return [{ part: 'numbers', dtype: type === 'f16' ? 'float16' : 'float32', elements, shape: storedShape(axes, layout, elements) }];
  const { record } = recordOf(type);
  const cells = Math.ceil((elements * cellBits(type)) / (8 * kTensorBytes[record.tvm]));
  const codes: TensorSpec = { part: 'codes', dtype: record.tvm, elements: cells, shape: storedShape(axes, layout, cells) };
  if (!type.scale) return [codes];
  const scales = scaleAxes(value, type.scale);
  const count = storedElements(scales, scaleLayout);
  return [codes, { part: 'scales', dtype: kScaleTypes[type.scale.type], elements: count, shape: storedShape(scales, scaleLayout, count) }];
}

/** As few axes as there are: the last one stays whole, padding goes to the one before it. */
function storedShape(axes: readonly Axis[], layout: Layout | undefined, elements: number): readonly number[] {
  if (axes.length < 2) return [elements];
  const outer = axes.slice(0, -1).map(({ name, extent }) => (layout ? axisExtent(layout.digits, name) : extent));
  const rows = outer.reduce((product, extent) => product * extent, 1);
  return elements % rows === 0 ? [...outer, elements / rows] : [elements];
}

/** Bytes of a value's tensors. */
export function valueBytes(value: Value): number {
  return tensorsOf(value).reduce((sum, { dtype, elements }) => sum + elements * kTensorBytes[dtype], 0);
}

/** How many nodes read each value; a program's output counts as one reader. */
export function countReaders({ values, nodes, outputs }: Program): readonly number[] {
  const readers = new Array<number>(values.length).fill(0);
  for (const { inputs } of nodes) for (const value of inputs) readers[value]! += 1;
  for (const value of outputs) readers[value]! += 1;
  return readers;
}

/** Whether each node reads what the one before it made, as its first operand, which nobody else does, and all else comes from outside. */
export function isStraight(program: Program): boolean {
  const { nodes, inputs } = program;
  const readers = countReaders(program);
  return nodes.every(
    (node, i) =>
      (i === 0 ? inputs.includes(node.inputs[0]!) : node.inputs[0] === nodes[i - 1]!.outputs[0]) &&
      node.inputs.slice(1).every((value) => inputs.includes(value)) &&
      node.outputs.length === 1 &&
      readers[node.outputs[0]!] === 1,
  );
}

/** The tensors of an operator's node: of its inputs, hints last, and of its outputs. */
export function programTensors({ values, inputs, outputs, hints = [] }: Program): {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
} {
  const of = (indices: readonly number[]): readonly TensorSpec[] => indices.flatMap((value) => tensorsOf(values[value]!));
  return {
    inputs: [...of(inputs), ...hints.map((bytes): TensorSpec => ({ part: 'codes', dtype: 'uint8', elements: bytes, shape: [bytes] }))],
    outputs: of(outputs),
  };
}

/** Which of an operator's tensors begins with each value of `inputs`; their order is the kernels', too. */
export function tensorPositions({ values, inputs }: Program): ReadonlyMap<number, number> {
  let at = 0;
  return new Map(
    inputs.map((value) => {
      const position = at;
      at += tensorsOf(values[value]!).length;
      return [value, position] as const;
    }),
  );
}

/** What a program does, in words: `norm, dense, add`. */
export function stepsText({ nodes }: Program): string {
  return nodes.map(({ kind }) => kind).join(', ');
}

/**
 * The flat view that the dense families share: a product with what stands before and after it, and which value of the program
 * each operand is. One matcher for all: [first row] → [norm] → [quantise] → dense → [bias] → [function] → [residual].
 */
import { formats, type Group, weightFormat } from '../../../formats/index.js';
import {
  extentOf,
  isQuantised,
  isStraight,
  type Node,
  type Program,
  programTensors,
  tensorPositions,
  type Value,
} from '../../../operators/program.js';
import { kOtherKind, Refusal } from '../family.js';
import type { KernelArgument } from '../plan.js';

/** Functions that the dense kernels have of their own, by the operator's kind. */
export const kFunctionNames: Readonly<Record<string, string>> = { silu_mul: 'kSiluMul', gelu_tanh: 'kGeluTanh' };

/** What a dense kernel computes. */
export interface DenseShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Ids of formats. */
  readonly weight: string;
  readonly activation: string;
  readonly group: Group;
  /** Whether x comes as codes and scales. */
  readonly input: 'fp16' | 'quantised';
  readonly norm: { readonly kind: 'none' | 'rms' | 'layer'; readonly eps: number };
  readonly bias: boolean;
  /** `none`, or a kind among kFunctionNames. */
  readonly function: string;
  readonly residual: boolean;
  /** Bytes of the next product's weights that may be read ahead; absent: there is none. */
  readonly prefetch?: number | undefined;
}

/** Operands by their member of DenseArguments (native/kernels/matmul/operator.cuh). */
export type DenseOperands = Readonly<
  Partial<Record<'x' | 'xScale' | 'weight' | 'scale' | 'gain' | 'beta' | 'bias' | 'residual' | 'next', KernelArgument | undefined>>
>;

export interface DenseMatch {
  readonly shape: DenseShape;
  /** The weight's value. */
  readonly weight: number;
  readonly operands: DenseOperands;
}

/** The nodes of a straight line through the product, by what they are for. */
interface Line {
  /** Of one image: its first row is where x begins. */
  readonly first: Node | null;
  readonly norm: Node | null;
  readonly quantise: Node | null;
  readonly dense: Node;
  readonly bias: Node | null;
  readonly fn: Node | null;
  readonly residual: Node | null;
}

/** Takes nodes off a list as long as they are what comes next. */
class Reader {
  private at = 0;
  constructor(private readonly nodes: readonly Node[]) {}

  next(fits: (node: Node) => boolean): Node | null {
    const node = this.nodes[this.at];
    if (!node || !fits(node)) return null;
    this.at += 1;
    return node;
  }

  get done(): boolean {
    return this.at === this.nodes.length;
  }
}

const isKind =
  (kind: string) =>
  (node: Node): boolean =>
    node.kind === kind;

function lineOf({ values, nodes }: Program): Line | null {
  const axesOf = (node: Node, operand: number): number => values[node.inputs[operand]!]!.axes.length;
  const reader = new Reader(nodes);
  const first = reader.next(({ kind, params }) => kind === 'first_rows' && params['batch'] === 1);
  const norm = reader.next(isKind('norm'));
  const quantise = reader.next(isKind('quantise'));
  const dense = reader.next(isKind('dense'));
  if (!dense) return null;
  const bias = reader.next((node) => isKind('add')(node) && axesOf(node, 1) === 1);
  const fn = reader.next(({ kind }) => kind in kFunctionNames);
  const residual = reader.next((node) => isKind('add')(node) && axesOf(node, 1) === 2);
  return reader.done ? { first, norm, quantise, dense, bias, fn, residual } : null;
}

/** Along which axes weights may share scales: a channel, or `group` of k. */
function groupOf(value: Value): Group | null {
  if (!isQuantised(value.type)) return -1;
  const { n, k } = value.type.scale?.per ?? {};
  if (n !== 1) return null;
  return k === undefined ? -1 : k === 32 || k === 64 || k === 128 ? k : null;
}

/** Whether activations are numbers, or have the scales that their format prescribes: per token, or per block of it. */
function hasPlainScales({ axes, type }: Value): boolean {
  if (!isQuantised(type)) return true;
  const group = type.as === 'activation' ? formats.find(type.format)?.activation?.group : undefined;
  const [rows, columns] = axes;
  if (group === undefined || !rows || !columns || !type.scale) return false;
  const { [rows.name]: perRow, [columns.name]: perColumn, ...others } = type.scale.per;
  return perRow === 1 && perColumn === (group > 0 ? group : undefined) && Object.keys(others).length === 0;
}

/** The flat view of a program, or why there is none. */
export function matchDense(program: Program): DenseMatch | Refusal {
  const { values, nodes, outputs, hints = [] } = program;
  const line = lineOf(program);
  if (!line) return kOtherKind;
  const { first, norm, quantise, dense, bias, fn, residual } = line;
  const output = outputs[0];
  if (
    !isStraight(program) ||
    outputs.length !== 1 ||
    output === undefined ||
    output !== nodes.at(-1)!.outputs[0] ||
    values[output]!.type !== 'f16' ||
    hints.length > 1
  )
    return kOtherKind;
  const source = values[nodes[0]!.inputs[0]!]!;
  const x = values[dense.inputs[0]!]!;
  const w = values[dense.inputs[1]!]!;
  const group = groupOf(w);
  if (group === null) return new Refusal('group', 'expected a scale per output channel, or per 32, 64 or 128 along k');
  if (x.type === 'f32' || !hasPlainScales(x))
    return new Refusal('x', 'expected activations that are float16, or quantised per token or per block of their format');
  const quantised = isQuantised(source.type);
  const shape: DenseShape = {
    m: first ? 1 : source.axes[0]!.extent,
    n: extentOf(w, 'n'),
    k: extentOf(w, 'k'),
    weight: isQuantised(w.type) ? w.type.format : 'fp16',
    activation: isQuantised(x.type) ? x.type.format : 'fp16',
    group,
    input: quantised ? 'quantised' : 'fp16',
    norm: norm ? { kind: norm.params['kind'] as 'rms' | 'layer', eps: Number(norm.params['eps']) } : { kind: 'none', eps: 1e-5 },
    bias: bias !== null,
    function: fn?.kind ?? 'none',
    residual: residual !== null,
    ...(hints[0] !== undefined && { prefetch: hints[0] }),
  };
  // Codes are multiplied as they come.
  if (quantised && (quantise || norm)) return kOtherKind;
  const positions = tensorPositions(program);
  const tensor = (value: number | undefined, part = 0): KernelArgument | undefined =>
    value === undefined ? undefined : { kind: 'input', index: positions.get(value)! + part };
  return {
    shape,
    weight: dense.inputs[1]!,
    operands: {
      x: tensor(nodes[0]!.inputs[0]),
      ...(quantised && { xScale: tensor(nodes[0]!.inputs[0], 1) }),
      weight: tensor(dense.inputs[1]),
      ...(isQuantised(w.type) && { scale: tensor(dense.inputs[1], 1) }),
      ...(norm && { gain: tensor(norm.inputs[1]) }),
      ...(norm?.inputs[2] !== undefined && { beta: tensor(norm.inputs[2]) }),
      ...(bias && { bias: tensor(bias.inputs[1]) }),
      ...(residual && { residual: tensor(residual.inputs[1]) }),
      ...(hints.length > 0 && { next: { kind: 'input', index: programTensors(program).inputs.length - 1 } }),
    },
  };
}

/** Why a kernel that reads and writes rows does not take a matched program, or null; `but`: values that it takes in other orders. */
export function refuseLayouts({ values, inputs, outputs }: Program, but: readonly number[]): Refusal | null {
  return [...inputs, ...outputs].some((value) => !but.includes(value) && (values[value]!.layout || values[value]!.scaleLayout))
    ? new Refusal('layout', 'expected activations and vectors in rows')
    : null;
}

/** Why no dense kernel of such units and tiles takes a product, or null: sizes, and pairs of formats. */
export function refuseShape(
  { n, k, weight, activation, group, function: fn }: DenseShape,
  unitK: number,
  tileRows: number,
): Refusal | null {
  const { weight: record } = weightFormat(weight);
  if (record.enumerator === undefined) return new Refusal('weight', `no kernel decodes ${weight}`);
  if (fn === 'silu_mul' && n % tileRows !== 0)
    return new Refusal('n', `expected a multiple of ${tileRows} with silu_mul but received ${n}`);
  const unit = Math.max(unitK, group);
  if (k % unit !== 0)
    return new Refusal('k', `expected a multiple of ${unit} for ${weight}${group > 0 ? ` with groups of ${group}` : ''} but received ${k}`);
  if (activation !== record.pairedWith)
    return new Refusal('activation', `expected ${record.pairedWith} with ${weight} weights but received ${activation}`);
  if (!record.groups.includes(group))
    return new Refusal('group', `expected ${record.groups.join(' or ')} for ${weight} but received ${group}`);
  return null;
}

/** Why a kernel that takes its activations as they come does not take a product, or null. */
export function refusePrologue({ norm, input, activation }: DenseShape): Refusal | null {
  if (norm.kind !== 'none') return new Refusal('norm', 'expected none: every block would repeat it');
  if (input === 'fp16' && formats.get(activation).activation?.scale)
    return new Refusal('input', 'expected activations that come quantised: every block would repeat it');
  return null;
}

/** The shape as text, defaults left out: what tunings are kept by. */
export function denseKey({ m, n, k, weight, activation, group, input, norm, bias, function: fn, residual, prefetch }: DenseShape): string {
  const before = [...(norm.kind === 'none' ? [] : [norm.kind]), ...(input === 'fp16' && activation !== 'fp16' ? ['quantise'] : [])];
  const after = [...(bias ? ['bias'] : []), ...(fn === 'none' ? [] : [fn]), ...(residual ? ['residual'] : [])];
  return [
    `m=${m}`,
    `n=${n}`,
    `k=${k}`,
    `w=${weight}`,
    ...(group === -1 ? [] : [`g=${group}`]),
    `x=${activation}`,
    ...(before.length > 0 ? [`pre=${before.join('+')}`] : []),
    ...(after.length > 0 ? [`post=${after.join('+')}`] : []),
    ...(prefetch === undefined ? [] : ['next']),
  ].join(' ');
}

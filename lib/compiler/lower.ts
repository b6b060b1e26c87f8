/**
 * From fused groups to a checkpoint's operators: names, shapes, element types, weight layouts, fills, bytes and FLOPs.
 * Pure: graph.json, checkpoint.json and the generated sources are all written from what this returns.
 */
import { elementBytes, parseDataType } from '../artifact/dtype.js';
import type { Fill, Manifest } from '../artifact/manifest.js';
import { type ActivationFormat, type DenseOperator, type Digit, isMxFormat, type Operator, weightBits, type WeightFormat } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import { denseLayouts } from './dense-kernels.js';
import { kActivationFill, kGainFill, kShiftFill, quantisedProbe, quantisedScaleProbe, scaleFill, weightFill } from './fills.js';
import { readsAhead } from './formats.js';
import { type IrGraph, type Value, valueWidth } from './ir.js';
import { fuse, type Group, quantiseActivations } from './passes.js';

/** How a model's dense products are stored and multiplied. */
export interface ModelFormat {
  readonly weight: WeightFormat;
  readonly activation: ActivationFormat;
  /** −1 per output channel, 64 or 128 along k; 32 for MX. */
  readonly group: -1 | 32 | 64 | 128;
}

/** A `null` node: the input or a parameter. */
export interface LoweredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** TVM type string. */
  readonly dtype: string;
  readonly role: Manifest['tensors'][string]['role'];
  readonly fill: Fill;
  readonly logicalShape?: readonly number[];
  readonly layout?: readonly Digit[];
}

/** An output of an operator. */
export interface LoweredOutput {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

export interface LoweredOperator {
  /** Node and function name, a C identifier. */
  readonly node: string;
  readonly semantics: Operator;
  /** Names of tensors and outputs. */
  readonly inputs: readonly string[];
  readonly outputs: readonly LoweredOutput[];
  readonly probe: readonly (Fill | null)[];
  /** Of what it needs: without the weights that it reads ahead. */
  readonly bytes: number;
  readonly flops: number;
}

export interface LoweredModel {
  readonly tensors: readonly LoweredTensor[];
  readonly operators: readonly LoweredOperator[];
  readonly output: string;
}

/** Rows up to which norm and quantisation are fused into the dense products, whose blocks then all repeat them. */
const kMaxFusedRows = 1;

/**
 * Quantises, fuses and lays out a model.
 * @throws LadderError `UNSUPPORTED` for a shape that no layout or kernel handles
 */
export function lower(ir: IrGraph, format: ModelFormat): LoweredModel {
  return new Lowering(ir, format).run();
}

class Lowering {
  private readonly m: number;
  private readonly tensors = new Map<string, LoweredTensor>();
  private readonly operators: LoweredOperator[] = [];
  /** Names that hold a value: one, or codes and scales of a quantised one. */
  private readonly names = new Map<Value, readonly LoweredOutput[]>();
  private readonly graph: IrGraph;

  constructor(ir: IrGraph, private readonly format: ModelFormat) {
    this.m = ir.batch * ir.seq;
    this.graph = quantiseActivations(ir, format.activation);
  }

  run(): LoweredModel {
    this.graph.nodes.forEach((node, value) => {
      if (node.op !== 'input') return;
      this.tensor({ name: node.name, shape: [this.m, node.width], dtype: 'float16', role: 'input', fill: kActivationFill });
      this.names.set(value, [{ name: node.name, shape: [this.m, node.width], dtype: 'float16' }]);
    });
    for (const group of fuse(this.graph, this.m <= kMaxFusedRows)) this.lowerGroup(group);
    this.readAhead();
    const output = this.names.get(this.graph.output);
    if (!output) throw new LadderError('INTERNAL', 'fusion left the model\'s output without an operator');
    return { tensors: [...this.tensors.values()], operators: this.operators, output: output[0]!.name };
  }

  private lowerGroup(group: Group): void {
    switch (group.kind) {
      case 'dense': return this.lowerDense(group);
      case 'attention': {
        const { heads, kvHeads, headDim, order, position, ropeBase } = group.attention;
        const { batch, seq } = this.graph;
        const width = heads * headDim;
        return this.emit(group, group.attention.name, { op: 'attention', batch, seq, heads, kvHeads, headDim, order, position, ropeBase },
          this.read(group.source), [{ suffix: '', shape: [this.m, width], dtype: 'float16' }], 4 * this.m * seq * width);
      }
      case 'norm': {
        const k = valueWidth(this.graph, group.source);
        const { kind, eps } = group.norm;
        const activation = group.quantise ? this.format.activation : 'fp16';
        return this.emit(group, group.norm.name, { op: 'norm', m: this.m, k, norm: { kind, eps }, activation },
          [...this.read(group.source), ...this.normParameters(group.norm.name, kind, k)], this.activationOutputs(activation, k), 8 * this.m * k);
      }
      case 'quantise': {
        const k = valueWidth(this.graph, group.source);
        return this.emit(group, group.quantise.name, { op: 'quantise', m: this.m, k, activation: this.format.activation },
          this.read(group.source), this.activationOutputs(this.format.activation, k), 4 * this.m * k);
      }
    }
  }

  private lowerDense(group: Extract<Group, { kind: 'dense' }>): void {
    const { weight, activation, group: scaleGroup } = this.format;
    const { n, k, name } = group.dense.weight;
    const source = this.names.get(group.source)!;
    const shape: Omit<DenseOperator, 'weightLayout' | 'scaleLayout'> = {
      op: 'dense', m: this.m, n, k, weight, activation, group: scaleGroup,
      input: source.length > 1 ? 'quantised' : 'fp16',
      norm: group.norm ? { kind: group.norm.kind, eps: group.norm.eps } : { kind: 'none', eps: 1e-5 },
      bias: group.dense.bias, function: group.function, residual: group.skip !== null,
    };
    const { weightLayout, scaleLayout } = denseLayouts(shape);
    const inputs = [...this.read(group.source), this.weight(name, n, k, weightLayout)];
    if (weight !== 'fp16') inputs.push(this.scale(`${name}.scale`, n, k, weight, scaleLayout));
    if (group.norm) inputs.push(...this.normParameters(group.norm.name, group.norm.kind, k));
    if (group.dense.bias) inputs.push(this.vector(`${name}.bias`, n, 'bias'));
    if (group.skip !== null) inputs.push(...this.read(group.skip));
    const width = group.function === 'silu_mul' ? n / 2 : n;
    this.emit(group, group.dense.name, { ...shape, weightLayout: [...weightLayout], scaleLayout: scaleLayout && [...scaleLayout] },
      inputs, [{ suffix: '', shape: [this.m, width], dtype: 'float16' }], 2 * this.m * n * k);
  }

  /** Products of small weights, which are soon over, get those of the next product to read ahead. */
  private readAhead(): void {
    if (!readsAhead(this.format.weight)) return;
    let next: LoweredTensor | null = null;
    for (let i = this.operators.length - 1; i >= 0; --i) {
      const operator = this.operators[i]!;
      if (operator.semantics.op !== 'dense') continue;
      const weight: LoweredTensor = this.tensors.get(operator.inputs.find((name) => this.tensors.get(name)?.role === 'weight')!)!;
      if (next !== null) {
        this.operators[i] = {
          ...operator, semantics: { ...operator.semantics, prefetch: sizeBytes(next.shape, next.dtype) },
          inputs: [...operator.inputs, next.name], probe: [...operator.probe, null],
        };
      }
      next = weight;
    }
  }

  private emit(group: Group, name: string, semantics: Operator, inputs: readonly string[],
    outputs: readonly { suffix: string; shape: readonly number[]; dtype: string }[], flops: number): void {
    const node = `ladder_${semantics.op}_${name.replace(/[^A-Za-z0-9]+/g, '_')}`;
    const made = outputs.map(({ suffix, shape, dtype }) => ({ name: `${node}${suffix}`, shape, dtype }));
    const bytes = [...inputs.map((input) => this.find(input)), ...made].reduce((sum, { shape, dtype }) => sum + sizeBytes(shape, dtype), 0);
    this.operators.push({ node, semantics, inputs, outputs: made, probe: inputs.map((input) => this.probe(input)), bytes, flops });
    this.names.set(group.value, made);
  }

  private read(value: Value): readonly string[] {
    const outputs = this.names.get(value);
    if (!outputs) throw new LadderError('INTERNAL', `fusion left ${this.graph.nodes[value]!.name} without an operator`);
    return outputs.map(({ name }) => name);
  }

  private find(name: string): { shape: readonly number[]; dtype: string } {
    const tensor = this.tensors.get(name) ?? this.operators.flatMap(({ outputs }) => outputs).find((output) => output.name === name);
    return tensor!;
  }

  /** Parameters keep their values under verification; activations are drawn anew. */
  private probe(name: string): Fill | null {
    const tensor = this.tensors.get(name);
    if (tensor) return tensor.role === 'input' ? tensor.fill : null;
    const { activation } = this.format;
    const { dtype } = this.find(name);
    if (activation === 'fp16' || dtype === 'float16') return kActivationFill;
    return name.endsWith('_scale') ? quantisedScaleProbe(activation) : quantisedProbe(activation);
  }

  private activationOutputs(activation: ActivationFormat, k: number): { suffix: string; shape: readonly number[]; dtype: string }[] {
    if (activation === 'fp16') return [{ suffix: '', shape: [this.m, k], dtype: 'float16' }];
    const integer = activation === 'int8' || activation === 'int4';
    return [
      { suffix: '', shape: [this.m, k], dtype: integer ? 'int8' : 'uint8' },
      isMxFormat(activation) ? { suffix: '_scale', shape: [this.m, k / 32], dtype: 'uint8' } : { suffix: '_scale', shape: [this.m], dtype: 'float32' },
    ];
  }

  private tensor(tensor: LoweredTensor): string {
    this.tensors.set(tensor.name, tensor);
    return tensor.name;
  }

  private vector(name: string, length: number, role: 'gain' | 'beta' | 'bias'): string {
    return this.tensor({ name, shape: [length], dtype: 'float16', role, fill: role === 'gain' ? kGainFill : kShiftFill });
  }

  private normParameters(name: string, kind: 'rms' | 'layer', k: number): readonly string[] {
    const gain = this.vector(`${name}.gain`, k, 'gain');
    return kind === 'layer' ? [gain, this.vector(`${name}.beta`, k, 'beta')] : [gain];
  }

  private weight(name: string, n: number, k: number, layout: readonly Digit[]): string {
    const { weight } = this.format;
    const elements = layout.reduce((product, { size }) => product * size, 1);
    const shape = weight === 'fp16' ? [elements / k, k] : [elements / k, (k * weightBits(weight)) / 8];
    return this.tensor({
      name: `${name}.weight`, shape, dtype: weight === 'fp16' ? 'float16' : 'uint8', role: 'weight',
      fill: weightFill(weight, k), logicalShape: [n, k], layout,
    });
  }

  private scale(name: string, n: number, k: number, weight: Exclude<WeightFormat, 'fp16'>, layout: readonly Digit[] | null): string {
    const fill = scaleFill(weight, k);
    const dtype = isMxFormat(weight) ? 'uint8' : 'float16';
    if (!layout) return this.tensor({ name, shape: [n], dtype, role: 'scale', fill });
    const groups = k / this.format.group;
    const elements = layout.reduce((product, { size }) => product * size, 1);
    return this.tensor({ name, shape: [elements / groups, groups], dtype, role: 'scale', fill, logicalShape: [n, groups], layout });
  }
}

function sizeBytes(shape: readonly number[], dtype: string): number {
  return shape.reduce((product, extent) => product * extent, elementBytes(parseDataType(dtype)));
}

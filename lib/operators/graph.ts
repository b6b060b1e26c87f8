/**
 * A model before fusion: a program whose values and nodes have names, written by the models' descriptions. Passes of the
 * compiler rewrite it (lib/compiler/graph).
 */
import type { Fill } from '../native.js';
import type { ConvParameters } from './conv-parameters.js';
import { operators } from './index.js';
import type { Axis, Node, Parameters, Program, Value } from './program.js';

/** What a named value is for: how it is filled, and what packs it. */
export type Role = 'input' | 'weight' | 'scale' | 'gain' | 'beta' | 'bias' | 'embedding' | 'calibration';

export interface GraphValue extends Value {
  /** Inputs and parameters: the name of their tensor; a weight's without its ending. */
  readonly name?: string | undefined;
  readonly role?: Role | undefined;
  /** Weights: root mean square of what fake ones make of inputs of size 1; default 1. */
  readonly gain?: number | undefined;
  /** What it holds where no file says it; default: by its role. */
  readonly fill?: Fill | undefined;
  /** Inputs and outputs of the model: the shape of their tensor, where callers see other axes than the operators. */
  readonly shape?: readonly number[] | undefined;
}

export interface GraphNode extends Node {
  readonly name: string;
}

/** Edges are float16 unless a pass says otherwise. `inputs` are the model's inputs and its parameters. */
export interface Graph extends Program {
  readonly values: readonly GraphValue[];
  readonly nodes: readonly GraphNode[];
}

/** Appends nodes and hands out the values that they make. */
export class GraphBuilder {
  private readonly values: GraphValue[] = [];
  private readonly nodes: GraphNode[] = [];
  private readonly inputs: number[] = [];

  /** What the caller sets, float16. */
  input(name: string, axes: readonly Axis[], shape?: readonly number[]): number {
    return this.argument({ name, role: 'input', axes, type: 'f16', shape });
  }

  /** A vector or matrix of parameters, float16 until a pass quantises it. */
  parameter(name: string, role: Exclude<Role, 'input' | 'scale'>, axes: readonly Axis[]): number {
    return this.argument({ name, role, axes, type: 'f16' });
  }

  /**
   * The first value of a node.
   * @throws LadderError `BAD_ARGUMENT` for an unknown kind, `BAD_MANIFEST` for inputs that do not fit
   */
  node(kind: string, name: string, inputs: readonly number[], params: Parameters = {}): number {
    const made = operators.get(kind).infer(
      params,
      inputs.map((value) => this.values[value]!),
    );
    const outputs = made.map((value) => this.values.push({ ...value, type: value.type === 'f32' ? 'f16' : value.type }) - 1);
    this.nodes.push({ kind, name, params, inputs, outputs });
    return outputs[0]!;
  }

  /** Product with a weight `[n, k]` of its own, and a bias where it has one. `gain`: as {@link GraphValue.gain}. */
  dense(name: string, x: number, n: number, bias: boolean, gain?: number): number {
    const columns = this.values[x]!.axes.at(-1)!;
    const y = this.node('dense', name, [x, this.weight(name, n, columns.extent, gain)]);
    return bias ? this.biased(name, y) : y;
  }

  /** Convolution to n channels with a weight and a bias of its own; of a batch norm behind it they are part. */
  conv(name: string, x: number, n: number, params: ConvParameters, gain?: number): number {
    const { kernelY, kernelX, groups } = params;
    const weight = this.weight(name, n, (kernelY * kernelX * this.values[x]!.axes.at(-1)!.extent) / groups, gain);
    return this.biased(name, this.node('conv', name, [x, weight], params));
  }

  /** Norm over the last axis with parameters of its own. */
  norm(name: string, x: number, kind: 'rms' | 'layer', eps: number): number {
    const columns = [this.values[x]!.axes.at(-1)!];
    const gain = this.parameter(`${name}.gain`, 'gain', columns);
    return this.node('norm', name, kind === 'layer' ? [x, gain, this.parameter(`${name}.beta`, 'beta', columns)] : [x, gain], {
      kind,
      eps,
    });
  }

  /** @param shape of the outputs' tensors, where callers see other axes than the operators */
  finish(outputs: readonly number[], shape?: readonly number[]): Graph {
    for (const output of outputs) this.values[output] = { ...this.values[output]!, shape };
    return { values: this.values, nodes: this.nodes, inputs: this.inputs, outputs };
  }

  private weight(name: string, n: number, k: number, gain?: number): number {
    const axes = [
      { name: 'n', extent: n },
      { name: 'k', extent: k },
    ];
    return this.argument({ name, role: 'weight', axes, type: 'f16', gain });
  }

  private biased(name: string, y: number): number {
    const columns = this.values[y]!.axes.at(-1)!;
    return this.node('add', `${name}_bias`, [y, this.parameter(`${name}.bias`, 'bias', [columns])]);
  }

  private argument(value: GraphValue): number {
    const index = this.values.push(value) - 1;
    this.inputs.push(index);
    return index;
  }
}

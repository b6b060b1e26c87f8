/**
 * The builder's intermediate representation: a model before fusion, one node per mathematical operation, each with one
 * value. Models write it (models/), passes rewrite it (passes.ts), lower.ts turns it into the operators of a checkpoint.
 */
import type { ActivationFormat } from '../artifact/operators.js';

/** Index of the node that makes a value; nodes are in topological order. */
export type Value = number;

/** A matrix of parameters, logical shape [n, k]: n output channels, k input channels. */
export interface WeightRef {
  readonly name: string;
  readonly n: number;
  readonly k: number;
}

export type IrNode =
  /** x float16 [m, width]: what the caller sets. */
  | { readonly op: 'input'; readonly name: string; readonly width: number }
  | { readonly op: 'norm'; readonly name: string; readonly x: Value; readonly kind: 'rms' | 'layer'; readonly eps: number }
  /** Per-token quantisation; inserted by a pass. */
  | { readonly op: 'quantise'; readonly name: string; readonly x: Value; readonly activation: ActivationFormat }
  | { readonly op: 'dense'; readonly name: string; readonly x: Value; readonly weight: WeightRef; readonly bias: boolean }
  /** [m, 2f] (gate, up) → [m, f]: SiLU(gate)·up. */
  | { readonly op: 'silu_mul'; readonly name: string; readonly x: Value }
  | { readonly op: 'gelu_tanh'; readonly name: string; readonly x: Value }
  /** Residual connection: x + skip. */
  | { readonly op: 'add'; readonly name: string; readonly x: Value; readonly skip: Value }
  | {
      readonly op: 'attention'; readonly name: string; readonly x: Value;
      readonly heads: number; readonly kvHeads: number; readonly headDim: number;
      readonly order: 'concatenated' | 'interleaved'; readonly position: 'rope' | 'alibi'; readonly ropeBase: number;
    };

/** A model for `batch` sequences of `seq` tokens: m = batch·seq rows everywhere. */
export interface IrGraph {
  readonly batch: number;
  readonly seq: number;
  readonly nodes: readonly IrNode[];
  readonly output: Value;
}

/** Columns of a node's value. */
export function valueWidth(graph: IrGraph, value: Value): number {
  const node = graph.nodes[value]!;
  switch (node.op) {
    case 'input': return node.width;
    case 'dense': return node.weight.n;
    case 'silu_mul': return valueWidth(graph, node.x) / 2;
    case 'attention': return node.heads * node.headDim;
    default: return valueWidth(graph, node.x);
  }
}

/** The values that a node reads. */
export function operandsOf(node: IrNode): readonly Value[] {
  if (node.op === 'input') return [];
  return node.op === 'add' ? [node.x, node.skip] : [node.x];
}

/** How many nodes read each value; the graph's output counts as one reader. */
export function countUses(graph: IrGraph): readonly number[] {
  const uses = new Array<number>(graph.nodes.length).fill(0);
  for (const node of graph.nodes) for (const value of operandsOf(node)) uses[value]!++;
  uses[graph.output]!++;
  return uses;
}

/** Appends nodes and hands out their values: what the model descriptions are written with. */
export class IrBuilder {
  readonly nodes: IrNode[] = [];

  add(node: IrNode): Value {
    this.nodes.push(node);
    return this.nodes.length - 1;
  }

  finish(batch: number, seq: number, output: Value): IrGraph {
    return { batch, seq, nodes: this.nodes, output };
  }
}

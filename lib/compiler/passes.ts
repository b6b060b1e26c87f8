/**
 * Rewrites of the intermediate representation: where activations are quantised, and what is fused into what.
 * `fuse` returns groups of nodes, one per operator of the checkpoint; lower.ts gives them shapes, layouts and names.
 */
import type { ActivationFormat } from '../artifact/operators.js';
import { countUses, type IrGraph, type IrNode, operandsOf, type Value } from './ir.js';

type Of<T extends IrNode['op']> = Extract<IrNode, { op: T }>;

/** Inserts a per-token quantisation before every dense product; products that read the same value share one. */
export function quantiseActivations(graph: IrGraph, activation: ActivationFormat): IrGraph {
  if (activation === 'fp16') return graph;
  const nodes: IrNode[] = [];
  const moved: Value[] = [];
  const quantised = new Map<Value, Value>();
  for (const node of graph.nodes) {
    const at = (value: Value): Value => moved[value]!;
    let copy: IrNode = node;
    if (node.op === 'dense') {
      let q = quantised.get(node.x);
      if (q === undefined) {
        q = nodes.push({ op: 'quantise', name: `${node.name}_quantise`, x: at(node.x), activation }) - 1;
        quantised.set(node.x, q);
      }
      copy = { ...node, x: q };
    } else if (node.op === 'add') {
      copy = { ...node, x: at(node.x), skip: at(node.skip) };
    } else if (node.op !== 'input') {
      copy = { ...node, x: at(node.x) };
    }
    moved.push(nodes.push(copy) - 1);
  }
  return { ...graph, nodes, output: moved[graph.output]! };
}

/** One operator-to-be: the nodes that it swallows. `value` is what it makes; `source` what its chain starts from. */
export type Group =
  | { readonly kind: 'dense'; readonly value: Value; readonly source: Value; readonly norm: Of<'norm'> | null; readonly quantise: Of<'quantise'> | null;
      readonly dense: Of<'dense'>; readonly function: 'none' | 'silu_mul' | 'gelu_tanh'; readonly skip: Value | null }
  /** A norm, with the quantisation after it when there is one. */
  | { readonly kind: 'norm'; readonly value: Value; readonly source: Value; readonly norm: Of<'norm'>; readonly quantise: Of<'quantise'> | null }
  | { readonly kind: 'quantise'; readonly value: Value; readonly source: Value; readonly quantise: Of<'quantise'> }
  | { readonly kind: 'attention'; readonly value: Value; readonly source: Value; readonly attention: Of<'attention'> };

/**
 * Fuses epilogues (function, residual) into dense products always, and prologues (norm, quantisation) where
 * `fusePrologue` says so: every block of a fused product repeats the prologue, which pays for one token and not for many.
 * Only values with a single reader are swallowed.
 */
export function fuse(graph: IrGraph, fusePrologue: boolean): readonly Group[] {
  const uses = countUses(graph);
  const swallowed = new Set<Value>();
  const only = (value: Value): IrNode | null => (uses[value] === 1 ? graph.nodes[value]! : null);
  /** The single reader of a value, when it is the operand `x` of one node. */
  const readerOf = (value: Value): Value | null => {
    if (uses[value] !== 1) return null;
    const reader = graph.nodes.findIndex((node) => operandsOf(node)[0] === value);
    return reader < 0 ? null : reader;
  };

  const groups: Group[] = [];
  graph.nodes.forEach((node, index) => {
    if (node.op !== 'dense') return;
    let source = node.x;
    let quantise: Of<'quantise'> | null = null;
    let norm: Of<'norm'> | null = null;
    if (fusePrologue) {
      const before = only(source);
      if (before?.op === 'quantise') {
        quantise = before;
        swallowed.add(source);
        source = before.x;
      }
      const first = only(source);
      if (first?.op === 'norm') {
        norm = first;
        swallowed.add(source);
        source = first.x;
      }
    }
    let value: Value = index;
    let fn: 'none' | 'silu_mul' | 'gelu_tanh' = 'none';
    let skip: Value | null = null;
    let next = readerOf(value);
    if (next !== null && (graph.nodes[next]!.op === 'silu_mul' || graph.nodes[next]!.op === 'gelu_tanh')) {
      fn = graph.nodes[next]!.op as 'silu_mul' | 'gelu_tanh';
      swallowed.add(value);
      value = next;
      next = readerOf(value);
    }
    const after = next === null ? null : graph.nodes[next]!;
    if (after?.op === 'add') {
      skip = after.skip;
      swallowed.add(value);
      value = next!;
    }
    swallowed.add(index);
    groups.push({ kind: 'dense', value, source, norm, quantise, dense: node, function: fn, skip });
  });

  const made = new Set(groups.map((group) => group.value));
  graph.nodes.forEach((node, index) => {
    if (swallowed.has(index) || made.has(index)) return;
    if (node.op === 'quantise') {
      const before = only(node.x);
      if (before?.op === 'norm' && !swallowed.has(node.x)) {
        swallowed.add(node.x);
        groups.push({ kind: 'norm', value: index, source: before.x, norm: before, quantise: node });
      } else {
        groups.push({ kind: 'quantise', value: index, source: node.x, quantise: node });
      }
    } else if (node.op === 'attention') {
      groups.push({ kind: 'attention', value: index, source: node.x, attention: node });
    }
  });
  graph.nodes.forEach((node, index) => {
    if (node.op === 'norm' && !swallowed.has(index)) groups.push({ kind: 'norm', value: index, source: node.x, norm: node, quantise: null });
  });
  return groups.sort((a, b) => a.value - b.value);
}

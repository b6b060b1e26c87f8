/**
 * Decides which nodes of a graph become one operator of a checkpoint. Knows no kind of operator: from each anchor it takes in the
 * first reader of what there is so far, then what only that reads, as long as a kernel family takes the whole, with the products that
 * only such a reader reads beside, if need be. What others read as well becomes a result of its own.
 */
import { operators } from '../../operators/index.js';
import type { Graph, GraphNode } from '../../operators/graph.js';
import { countReaders, isQuantised, type Program, type Value } from '../../operators/program.js';
import type { Selection } from '../kernels/family.js';
import { families, select, selectOrThrow } from '../kernels/index.js';
import type { Target } from '../targets.js';

/** One operator-to-be. */
export interface Group {
  /** Ascending indices of the graph's nodes. */
  readonly nodes: readonly number[];
  /** The one that names it. */
  readonly head: GraphNode;
  readonly program: Program;
  /** The graph's values behind the program's. */
  readonly values: readonly number[];
  readonly selection: Selection;
}

/**
 * Groups in topological order; every node is in one.
 * @throws LadderError `UNSUPPORTED` for a node that no family takes
 */
export function fuse(graph: Graph, target: Target): readonly Group[] {
  return new Fusion(graph, target).run();
}

/** Nodes that no family takes with what there is, but with what follows them: from one product to the next. */
const kMostRefused = 8;

function ascending(nodes: readonly number[]): readonly number[] {
  return [...nodes].sort((a, b) => a - b);
}

class Fusion {
  private readonly readers: readonly number[];
  private readonly taken = new Set<number>();
  private readonly groups: Group[] = [];

  constructor(
    private readonly graph: Graph,
    private readonly target: Target,
  ) {
    this.readers = countReaders(graph);
  }

  run(): readonly Group[] {
    const anchors = [...this.graph.nodes.keys()].filter((node) => operators.get(this.graph.nodes[node]!.kind).anchor);
    // What no anchor takes in stands alone, or with others of its like.
    for (const node of [...anchors, ...this.graph.nodes.keys()]) if (!this.taken.has(node)) this.grow(node);
    return this.groups.sort((a, b) => a.nodes.at(-1)! - b.nodes.at(-1)!);
  }

  private grow(anchor: number): void {
    let group = this.groupOf([anchor], anchor);
    for (const next of [(nodes: readonly number[]) => this.firstReader(nodes), (nodes: readonly number[]) => this.onlyRead(nodes)]) {
      let nodes = group.nodes;
      for (let refused = 0; refused < kMostRefused; ++refused) {
        const more = next(nodes);
        if (more === null) break;
        nodes = ascending([...nodes, more]);
        const wider =
          this.tryGroup(nodes, anchor, group.selection) ??
          this.tryGroup(this.withSources(nodes), anchor, group.selection) ??
          this.tryGroup(this.withMakers(nodes), anchor, group.selection);
        if (!wider) continue;
        group = wider;
        nodes = group.nodes;
        refused = -1;
      }
    }
    for (const maker of this.besides(group.nodes)) {
      const nodes = ascending([...group.nodes, maker]);
      group = this.tryGroup(nodes, anchor, group.selection) ?? this.tryGroup(this.withMakers(nodes), anchor, group.selection) ?? group;
    }
    for (const node of group.nodes) this.taken.add(node);
    this.groups.push(group);
  }

  /** The node that first reads what the last of the nodes made; null where there is none, or others have it. */
  private firstReader(nodes: readonly number[]): number | null {
    const made = this.graph.nodes[nodes.at(-1)!]!.outputs;
    if (made.length !== 1) return null;
    const reader = this.graph.nodes.findIndex(({ inputs }) => inputs.includes(made[0]!));
    return reader < 0 || this.taken.has(reader) ? null : reader;
  }

  /** The node whose result only the first of the nodes reads, as its first operand. */
  private onlyRead(nodes: readonly number[]): number | null {
    const source = this.graph.nodes[nodes[0]!]!.inputs[0];
    return source === undefined ? null : this.makerOf(source);
  }

  /** The nodes, and all before them whose results nothing else reads. */
  private withSources(nodes: readonly number[]): readonly number[] {
    const maker = this.onlyRead(nodes);
    return maker === null ? nodes : this.withSources(ascending([maker, ...nodes]));
  }

  /** Nodes that make what only one of the nodes reads. */
  private besides(nodes: readonly number[]): readonly number[] {
    const makers = nodes.flatMap((node) => this.graph.nodes[node]!.inputs.map((value) => this.makerOf(value)));
    return makers.filter((maker): maker is number => maker !== null && !nodes.includes(maker));
  }

  /** The nodes, and all whose results nothing else reads. */
  private withMakers(nodes: readonly number[]): readonly number[] {
    const makers = this.besides(nodes);
    return makers.length === 0 ? nodes : this.withMakers(ascending([...new Set([...nodes, ...makers])]));
  }

  /** The node that makes a value with one reader, if no group has it. */
  private makerOf(value: number): number | null {
    if (this.readers[value] !== 1) return null;
    const maker = this.graph.nodes.findIndex(({ outputs }) => outputs.includes(value));
    return maker < 0 || this.taken.has(maker) ? null : maker;
  }

  /** The wider group, where the same family takes it or one that ranks before it. */
  private tryGroup(nodes: readonly number[], anchor: number, before: Selection): Group | null {
    const { program, values } = extract(this.graph, this.readers, nodes, anchor);
    const selection = select(program, this.target);
    if (!selection || families.rank(selection.family) > families.rank(before.family)) return null;
    return { nodes, head: this.headOf(nodes, anchor), program, values, selection };
  }

  private groupOf(nodes: readonly number[], anchor: number): Group {
    const { program, values } = extract(this.graph, this.readers, nodes, anchor);
    return { nodes, head: this.graph.nodes[anchor]!, program, values, selection: selectOrThrow(program, this.target) };
  }

  /** The first anchor on the way to the last of the nodes by first operands, or else what they were grown from. */
  private headOf(nodes: readonly number[], anchor: number): GraphNode {
    let head = anchor;
    for (let at = nodes.at(-1); at !== undefined; ) {
      const { kind, inputs } = this.graph.nodes[at]!;
      if (operators.get(kind).anchor) head = at;
      at = nodes.find((node) => this.graph.nodes[node]!.outputs.includes(inputs[0]!));
    }
    return this.graph.nodes[head]!;
  }
}

/**
 * Some nodes of a graph as a program of their own. Its inputs: what the anchor reads (the source of the steps before it standing
 * for its first operand), then what the others read, in order. Values between nodes are real numbers where the graph's are
 * float16, except on the way to what reads them several times, such as an anchor: kernels round them; a quantisation takes them as they are.
 * @param readers of each value of the graph
 */
function extract(
  graph: Graph,
  readers: readonly number[],
  nodes: readonly number[],
  anchor: number,
): { readonly program: Program; readonly values: readonly number[] } {
  const inside = new Set(nodes.flatMap((node) => graph.nodes[node]!.outputs));
  const sources = (node: number): readonly number[] =>
    graph.nodes[node]!.inputs.flatMap((value) => {
      if (!inside.has(value)) return [value];
      // The operand comes of steps before: what they begin with stands for it.
      const maker = nodes.find((one) => graph.nodes[one]!.outputs.includes(value))!;
      return node === anchor || maker < anchor ? sources(maker).slice(0, 1) : [];
    });
  const inputs = [...new Set([anchor, ...nodes.filter((node) => node !== anchor)].flatMap(sources))];
  const reads = new Map<number, number>();
  for (const node of nodes) for (const value of graph.nodes[node]!.inputs) reads.set(value, (reads.get(value) ?? 0) + 1);
  const outputs = [...inside].filter((value) => !reads.has(value) || readers[value]! > reads.get(value)!);
  const order = [...inputs, ...nodes.flatMap((node) => graph.nodes[node]!.outputs)];
  const at = new Map(order.map((value, i) => [value, i]));
  const strip = ({ axes, type, layout, scaleLayout }: Value): Value => ({
    axes,
    type,
    ...(layout && { layout }),
    ...(scaleLayout && { scaleLayout }),
  });
  return {
    values: order,
    program: {
      values: order.map((value) =>
        inside.has(value) && !outputs.includes(value) ? edge(graph, value, nodes) : strip(graph.values[value]!),
      ),
      nodes: nodes.map((node) => {
        const { kind, params, inputs: from, outputs: to } = graph.nodes[node]!;
        return { kind, params, inputs: from.map((value) => at.get(value)!), outputs: to.map((value) => at.get(value)!) };
      }),
      inputs: inputs.map((value) => at.get(value)!),
      outputs: outputs.map((value) => at.get(value)!),
    },
  };
}

function edge(graph: Graph, value: number, nodes: readonly number[]): Value {
  const { axes, type } = graph.values[value]!;
  if (isQuantised(type)) return { axes, type };
  const maker = nodes.find((node) => graph.nodes[node]!.outputs.includes(value))!;
  const isRounded = nodes.some((node) => {
    const { kind, params, inputs } = graph.nodes[node]!;
    const { anchor, rereads = anchor } = operators.get(kind);
    return inputs.includes(value) && (typeof rereads === 'boolean' ? rereads : rereads(params, inputs.length, graph.nodes[maker]!.kind));
  });
  return { axes, type: isRounded ? 'f16' : 'f32' };
}

// Stored orders of activations between operators: who proposes, who accepts, and where a copy is made.
import { describe, expect, it } from 'vitest';
import { lower } from '../../lib/compiler/graph/lower.js';
import { quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { defineFamily, kOtherKind, Refusal } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { simpleFamilies } from '../../lib/compiler/kernels/simple/index.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { type Graph, GraphBuilder } from '../../lib/operators/graph.js';
import { type Layout, type Program, tensorsOf } from '../../lib/operators/program.js';
import { random } from '../fixtures/random.js';

/** Panels of 16 channels: all rows of the first 16, then of the next. */
const panels = (rows: number, channels: number): Layout => ({
  digits: [
    { axis: 'c', stride: 16, size: channels / 16 },
    { axis: 'm', stride: 1, size: rows },
    { axis: 'c', stride: 1, size: 16 },
  ],
});
const simpleDense = simpleFamilies.find(({ id }) => id === 'simple/dense')!;

/** Products of five rows, read in panels. */
const fromPanels = defineFamily<Program>({
  id: 'test/panels',
  version: 1,
  accepts(program) {
    const [x] = program.inputs.map((value) => program.values[value]!);
    return program.nodes.length === 1 && program.nodes[0]!.kind === 'dense' && x!.axes[0]!.extent === 5 ? program : kOtherKind;
  },
  storage: () => new Map(),
  reads: ({ values, inputs }) => new Map([[inputs[0]!, { layout: panels(5, values[inputs[0]!]!.axes[1]!.extent) }]]),
  configurations: () => [{}],
  key: () => '',
  plan(program, name, tuning, context) {
    const match = simpleDense.accepts(program, context.target);
    if (match instanceof Refusal) throw new Error(match.message);
    return simpleDense.plan(match, name, tuning, context);
  },
});
families.add(fromPanels);

const rows = (m: number) => [
  { name: 'm', extent: m },
  { name: 'c', extent: 32 },
];

describe('agreement on stored orders', () => {
  it('the producer writes what its only reader wants', () => {
    const graph = new GraphBuilder();
    const h = graph.node('relu', 'relu', [graph.input('x', rows(5))]);
    const { operators } = lower(graph.finish([graph.dense('w', h, 48, false)]), layoutTarget);
    expect(operators.map(({ family }) => family.id)).toEqual(['simple/elementwise', 'test/panels']);
    expect(operators[0]!.program.values[1]!.layout).toEqual(panels(5, 32));
    expect(operators[1]!.program.values[operators[1]!.program.inputs[0]!]!.layout).toEqual(panels(5, 32));
    const { definitions } = operators[0]!.family.plan(operators[0]!.match, 'relu', {}, { target: layoutTarget, next: null });
    expect(definitions).toContain('(a1 / 16) * INT64_C(80) + (a0) * INT64_C(16) + a1 % 16');
  });

  it("the model's input stays row-major: readers in panels share one copy", () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', rows(5));
    const { operators, outputs } = lower(graph.finish([graph.dense('a', x, 48, false), graph.dense('b', x, 16, false)]), layoutTarget);
    expect(operators.map(({ node }) => node.replace(/\d+/g, '#'))).toEqual([
      'ladder_relayout_value#_#',
      'ladder_dense_a',
      'ladder_dense_b',
    ]);
    const copy = operators[0]!.outputs[0]!.name;
    expect(operators.slice(1).map(({ inputs }) => inputs[0])).toEqual([copy, copy]);
    expect(operators[0]!.inputs).toEqual(['x']);
    expect(outputs).toEqual(['ladder_dense_a', 'ladder_dense_b']);
  });

  it('a value that somebody else reads in rows stays in rows, and is copied for who does not', () => {
    const graph = new GraphBuilder();
    const h = graph.node('relu', 'relu', [graph.input('x', rows(5))]);
    const { operators } = lower(graph.finish([graph.dense('w', h, 32, false), graph.node('gelu_tanh', 'gelu', [h])]), layoutTarget);
    expect(operators.map(({ family, node }) => [family.id, node.split('_')[1]])).toEqual([
      ['simple/elementwise', 'relu'],
      ['simple/elementwise', 'relayout'],
      ['test/panels', 'dense'],
      ['simple/elementwise', 'gelu'],
    ]);
    expect(operators[0]!.program.values[1]!.layout).toBeUndefined();
  });

  it('leaves graphs alone in which nobody wants anything', () => {
    const graph = new GraphBuilder();
    const { operators } = lower(graph.finish([graph.dense('w', graph.input('x', rows(3)), 48, false)]), layoutTarget);
    expect(operators).toHaveLength(1);
  });
});

/** Products, norms, attentions and elementwise steps over 512 channels, each reading one of the last three results; seeded. */
function randomGraph(seed: number, batch: number, seq: number): Graph {
  // Small seeds begin with small numbers.
  const next = random(Math.imul(seed, 0x9e3779b1));
  const below = (n: number): number => Math.floor(next() * n);
  const graph = new GraphBuilder();
  const results = [
    graph.input('x', [
      { name: 'm', extent: batch * seq },
      { name: 'c', extent: 512 },
    ]),
  ];
  const outputs = new Set<number>();
  const one = (): number => results[Math.max(0, results.length - 1 - below(3))]!;
  const dense = (name: string, n: number): number => graph.dense(name, one(), n, below(2) === 1);
  const attention = { batch, seq, heads: 4, kvHeads: 4, headDim: 128, order: 'interleaved', position: 'rope', ropeBase: 10000 };
  const steps: readonly ((name: string) => number)[] = [
    (name) => dense(name, 512),
    (name) => graph.norm(name, one(), 'rms', 1e-5),
    (name) => graph.node('add', name, [one(), one()]),
    (name) => graph.node('add', name, [dense(`${name}_product`, 512), one()]),
    (name) => graph.node('silu_mul', name, [dense(`${name}_product`, 1024)]),
    (name) => graph.node('gelu_tanh', name, [one()]),
    (name) => {
      const qkv = dense(`${name}_qkv`, 1536);
      if (below(3) === 0) outputs.add(qkv);
      return graph.node('attention', name, [qkv], attention);
    },
  ];
  for (let i = 0, count = 2 + below(7); i < count; ++i) results.push(steps[below(steps.length)]!(`step${i}`));
  return graph.finish([results.at(-1)!, ...outputs]);
}

describe('graphs of any kind', () => {
  const pairs = [
    ['fp16', 'fp16'],
    ['int4', 'fp16'],
    ['int1', 'int8'],
    ['int8', 'int8'],
    ['fp8_e5m2', 'fp8_e5m2'],
  ] as const;
  it.each([
    [1, 66],
    [66, 1],
    [2, 33],
    [3, 67],
    [1, 72],
    [4, 1],
  ])('%i sequences of %i tokens, products in several formats: what is read is stored as its reader says', (batch, seq) => {
    for (let seed = 1; seed <= 60; ++seed) {
      const chosen = random(Math.imul(seed, 0x85ebca6b));
      const graph = quantiseGraph(
        randomGraph(seed, batch, seq),
        ({ kind }) => {
          if (kind !== 'dense') return null;
          const [weight, input] = pairs[Math.floor(chosen() * pairs.length)]!;
          return { weight, input };
        },
        -1,
      );
      const { operators, outputs, tensors } = lower(graph, layoutTarget);
      const orders = new Map(tensors.map(({ name, value }) => [name, JSON.stringify(value.layout)]));
      for (const { program, inputs, outputs: made } of operators) {
        const order = (values: readonly number[]): readonly (string | undefined)[] =>
          values.flatMap((value) => tensorsOf(program.values[value]!).map(() => JSON.stringify(program.values[value]!.layout)));
        expect(inputs.map((name) => [orders.has(name), orders.get(name)]).slice(0, order(program.inputs).length)).toEqual(
          order(program.inputs).map((one) => [true, one]),
        );
        for (const [i, one] of order(program.outputs).entries()) {
          expect(orders.has(made[i]!.name)).toBe(false);
          orders.set(made[i]!.name, one as string);
        }
      }
      expect(outputs.map((name) => orders.get(name))).toEqual(outputs.map(() => undefined));
    }
  });
});

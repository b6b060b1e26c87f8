// Quantisation is a node's affair: a policy says which weights and which inputs, products that read one value share what they can,
// and steps that no kernel takes in stand alone, in the model's order.
import { describe, expect, it } from 'vitest';
import { designCheckpoint } from '../../lib/compiler/design.js';
import { lower } from '../../lib/compiler/graph/lower.js';
import { type Policy, quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { models } from '../../lib/models/index.js';
import { checkProgram } from '../../lib/operators/check.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import { isQuantised, stepsText } from '../../lib/operators/program.js';

const rows = (m: number) => [
  { name: 'm', extent: m },
  { name: 'c', extent: 256 },
];

/** Formats of weights by the parameter's name, and the steps of each operator. */
function lowered(build: (graph: GraphBuilder, x: number) => readonly number[], policy: Policy, m = 4) {
  const graph = new GraphBuilder();
  const outputs = build(graph, graph.input('x', rows(m)));
  const model = lower(quantiseGraph(graph.finish(outputs), policy, -1), layoutTarget);
  const weights = model.tensors.filter(({ role }) => role === 'weight');
  return {
    model,
    formats: Object.fromEntries(weights.map(({ name, value: { type } }) => [name, isQuantised(type) ? type.format : type])),
    steps: model.operators.map(({ program }) => stepsText(program)),
  };
}

describe('quantisation per node', () => {
  it('follows the policy: a stem in FP16, the rest in the format', () => {
    const policy: Policy = ({ name }) => (name === 'stem' ? null : { weight: 'fp8_e5m2', input: 'fp8_e5m2' });
    const { formats, steps } = lowered((g, x) => [g.dense('body', g.dense('stem', x, 256, false), 64, false)], policy);
    expect(formats).toEqual({ 'stem.weight': 'f16', 'body.weight': 'fp8_e5m2' });
    expect(steps).toEqual(['dense', 'quantise', 'dense']);
  });

  it('quantises a value once per format that its readers want', () => {
    const wanted: Readonly<Record<string, string>> = { a: 'int8', b: 'int8', c: 'fp8_e4m3' };
    const policy: Policy = ({ name }) => ({ weight: wanted[name] === 'int8' ? 'int1' : 'fp8_e4m3', input: wanted[name]! });
    const { model, steps } = lowered((g, x) => ['a', 'b', 'c'].map((name) => g.dense(name, x, 64, false)), policy);
    expect(steps).toEqual(['quantise', 'dense', 'dense', 'quantise', 'dense']);
    const [, a, b, , c] = model.operators;
    expect(b!.inputs.slice(0, 2)).toEqual(a!.inputs.slice(0, 2));
    expect(c!.inputs[0]).not.toBe(a!.inputs[0]);
  });

  it('is the last step of the operator that makes a value, which has two results where both are read', () => {
    const policy: Policy = ({ kind }) => (kind === 'dense' ? { weight: 'int4', input: 'int4', inputScale: 'tensor' } : null);
    const { model, steps } = lowered(
      (g, x) => {
        const block = g.node('relu', 'block', [g.node('add', 'sum', [g.dense('last', x, 256, true), x])]);
        return [g.node('add', 'next_sum', [g.dense('next', g.node('relu', 'mid', [g.dense('first', block, 64, true)]), 256, true), block])];
      },
      policy,
      64,
    );
    expect(steps).toEqual(['quantise', 'dense, add, add, relu, quantise', 'dense, add, relu, quantise', 'dense, add, add']);
    const [, block, first, next] = model.operators;
    expect(block!.outputs.map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['ladder_dense_last', 'float16', [64, 256]],
      ['ladder_dense_last_1', 'int8', [64, 256]],
      ['ladder_dense_last_1_scale', 'float32', [1]],
    ]);
    expect(first!.inputs.slice(0, 2)).toEqual(['ladder_dense_last_1', 'ladder_dense_last_1_scale']);
    expect(next!.inputs).toContain('ladder_dense_last');
    for (const { program } of model.operators) checkProgram(program);
  });

  it("is the model's own where its record says so", () => {
    const tiny = models.get('llama2-tiny');
    models.add({
      ...tiny,
      id: 'half-quantised',
      checkpoint: { prefix: 'half', shared: false },
      policy: ({ name }, { weight, activation }) => (name.endsWith('.qkv') ? { weight: null, input: null } : { weight, input: activation }),
    });
    const request = parseRequest({ model: 'half-quantised', batch: 1, seq: 1, weight: 'int4' });
    const { model, name } = designCheckpoint(request, null);
    expect(name).toBe('half_fq_0_int_4_-1_bs1_seq1_ci_False_async');
    expect(model.tensors.filter(({ role }) => role === 'scale').map((tensor) => tensor.name)).toEqual([
      'layer0.o.scale',
      'layer0.gate_up.scale',
      'layer0.down.scale',
    ]);
  });
});

describe('steps that stand alone', () => {
  const plain: Policy = () => null;

  it('residual, then ReLU: the product takes in the one, and the other follows', () => {
    const { steps } = lowered((g, x) => [g.node('relu', 'act', [g.node('add', 'residual', [g.dense('w', x, 256, true), x])])], plain);
    expect(steps).toEqual(['dense, add, add', 'relu']);
  });

  it('ReLU, then residual: neither is taken in before its turn', () => {
    const { steps } = lowered((g, x) => [g.node('add', 'residual', [g.node('relu', 'act', [g.dense('w', x, 256, false)]), x])], plain);
    expect(steps).toEqual(['dense', 'relu', 'add']);
  });

  it('several outputs, one of which another operator reads', () => {
    const { model, steps } = lowered((g, x) => {
      const h = g.dense('w', x, 256, false);
      return [h, g.node('gelu_tanh', 'act', [h])];
    }, plain);
    expect(steps).toEqual(['dense', 'gelu_tanh']);
    expect(model.outputs).toEqual(['ladder_dense_w', 'ladder_gelu_tanh_act']);
  });
});

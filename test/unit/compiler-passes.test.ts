// The builder up to what is written: fusion, naming, bytes and FLOPs of the models of Figure 8.
import { describe, expect, it } from 'vitest';
import { lower } from '../../lib/compiler/graph/lower.js';
import { type Policy, quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { matchDense } from '../../lib/compiler/kernels/matmul/shape.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { modelGraph } from '../../lib/models/index.js';
import { checkProgram } from '../../lib/operators/check.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import { isQuantised, stepsText } from '../../lib/operators/program.js';

function lowered(model: string, batch: number, weight: string, layers = 1, group?: number) {
  const { format } = parseRequest({ model, batch, seq: 1, weight, layers, ...(group !== undefined && { group }) });
  const policy: Policy = ({ kind }) => (kind === 'dense' ? { weight: format.weight, input: format.activation } : null);
  return lower(quantiseGraph(modelGraph({ model })(batch, 1, layers), policy, format.group), layoutTarget);
}
type Operator = ReturnType<typeof lowered>['operators'][number];

/** What each operator is one of: the node that names it. */
const heads = ({ operators: all }: { readonly operators: readonly Operator[] }): string[] =>
  all.map(({ node }) => /^ladder_([a-z]+)_/.exec(node)![1]!);
const operators = (model: string, batch: number, weight: string): string[] => heads(lowered(model, batch, weight));
const steps = (model: string, batch: number, weight: string): string[] =>
  lowered(model, batch, weight).operators.map(({ program }) => stepsText(program));
const isProduct = ({ program }: Operator): boolean => program.nodes.some(({ kind }) => kind === 'dense');
const shapeOf = ({ program }: Operator) => {
  const match = matchDense(program);
  if (match instanceof Refusal) throw new Error(match.message);
  return match.shape;
};

describe('fusion', () => {
  it('makes five operators of a layer for one token: prologues and epilogues are fused', () => {
    expect(operators('llama2-70b', 1, 'fp16')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
    expect(operators('llama2-70b', 1, 'int1')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
    expect(operators('bloom-176b', 1, 'nf4')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
    expect(steps('llama2-70b', 1, 'fp16')).toEqual(['norm, dense', 'attention', 'dense, add', 'norm, dense, silu_mul', 'dense, add']);
    expect(steps('llama2-70b', 1, 'int1')).toEqual([
      'norm, quantise, dense',
      'attention',
      'quantise, dense, add',
      'norm, quantise, dense, silu_mul',
      'quantise, dense, add',
    ]);
    expect(steps('bloom-176b', 1, 'nf4')).toEqual([
      'norm, dense, add',
      'attention',
      'dense, add, add',
      'norm, dense, add, gelu_tanh',
      'dense, add, add',
    ]);
  });

  it('normalises and quantises once for many tokens, not in every block of the product', () => {
    expect(operators('llama2-70b', 32, 'fp16')).toEqual(['norm', 'dense', 'attention', 'dense', 'norm', 'dense', 'dense']);
    expect(operators('bloom-176b', 32, 'fp8')).toEqual([
      'norm',
      'dense',
      'attention',
      'quantise',
      'dense',
      'norm',
      'dense',
      'quantise',
      'dense',
    ]);
    expect(steps('bloom-176b', 32, 'fp8')).toEqual([
      'norm, quantise',
      'dense, add',
      'attention',
      'quantise',
      'dense, add, add',
      'norm, quantise',
      'dense, add, gelu_tanh',
      'quantise',
      'dense, add, add',
    ]);
  });

  it('rounds to float16 on the way to a product and nowhere else, and never before a quantisation', () => {
    for (const [batch, weight] of [
      [1, 'int4'],
      [1, 'int1'],
      [32, 'fp16'],
      [32, 'fp8'],
    ] as const) {
      for (const { program } of lowered('bloom-176b', batch, weight).operators) {
        const { values, nodes, inputs, outputs } = program;
        values.forEach(({ type }, value) => {
          if (inputs.includes(value) || outputs.includes(value) || isQuantised(type)) return;
          const readers = nodes.filter((node) => node.inputs.includes(value)).map(({ kind }) => kind);
          expect(type).toBe(readers.includes('dense') ? 'f16' : 'f32');
        });
      }
    }
  });

  it('makes programs that mean something, each taken by its family', () => {
    for (const model of ['llama2-70b', 'bloom-176b']) {
      for (const batch of [1, 32]) {
        for (const weight of ['fp16', 'int4', 'nf4', 'fp8', 'mxfp8', 'int1', 'int8']) {
          for (const { program, family, match } of lowered(model, batch, weight, 2).operators) {
            checkProgram(program);
            expect(family.accepts(program, layoutTarget)).toEqual(match);
          }
        }
      }
    }
  });

  it('leaves a value to each that reads it', () => {
    const graph = new GraphBuilder();
    const axes = [
      { name: 'm', extent: 1 },
      { name: 'c', extent: 64 },
    ];
    const x = graph.input('x', axes);
    const h = graph.norm('norm', x, 'rms', 1e-5);
    const all = lower(
      graph.finish([graph.node('add', 'sum', [graph.dense('a', h, 64, false), graph.dense('b', h, 64, false)]), h]),
      layoutTarget,
    );
    // The norm has three readers, one of them the caller; the sum is the residual of one product.
    expect(all.operators.map(({ program }) => stepsText(program))).toEqual(['norm', 'dense', 'dense, add']);
    expect(all.outputs).toEqual(['ladder_dense_a', 'ladder_norm_norm']);
  });

  it('puts norm, function and residual of a llama layer where they belong', () => {
    const dense = lowered('llama2-70b', 1, 'int4').operators.filter(isProduct).map(shapeOf);
    expect(dense.map(({ norm, function: fn, residual, n, k }) => [norm.kind, fn, residual, n, k])).toEqual([
      ['rms', 'none', false, 10240, 8192],
      ['none', 'none', true, 8192, 8192],
      ['rms', 'silu_mul', false, 57344, 8192],
      ['none', 'none', true, 8192, 28672],
    ]);
  });

  it('hands codes and scales of a quantised value to its product', () => {
    const { operators: all } = lowered('llama2-70b', 32, 'int1');
    const norm = all[0]!;
    expect(norm.outputs.map(({ dtype, shape }) => [dtype, shape])).toEqual([
      ['int8', [32, 8192]],
      ['float32', [32]],
    ]);
    expect(all[1]!.inputs.slice(0, 2)).toEqual(norm.outputs.map(({ name }) => name));
    expect(shapeOf(all[1]!)).toMatchObject({ input: 'quantised', norm: { kind: 'none' }, weight: 'int1', activation: 'int8' });
  });

  it('gives products of less than 8 bits the weights of the next product to read ahead, and counts them once', () => {
    const dense = (weight: string) => lowered('llama2-70b', 1, weight, 2).operators.filter(isProduct);
    const ahead = dense('int4');
    const weights = ahead.map(({ inputs }) => inputs[1]);
    expect(ahead.map(({ inputs }) => inputs.at(-1)).slice(0, -1)).toEqual(weights.slice(1));
    expect(ahead.map((operator) => shapeOf(operator).prefetch)).toEqual([
      8192 * 4096,
      57344 * 4096,
      8192 * 14336,
      10240 * 4096,
      8192 * 4096,
      57344 * 4096,
      8192 * 14336,
      undefined,
    ]);
    expect(ahead[0]!.bytes).toBeLessThan(10240 * 4096 * 1.01);
    expect(ahead.every(({ inputs, probe }) => inputs.length === probe.length)).toBe(true);
    expect(ahead.map(({ program }) => program.hints)).toEqual(
      ahead.map((operator) => (shapeOf(operator).prefetch === undefined ? undefined : [shapeOf(operator).prefetch])),
    );
    expect(dense('fp8').every((operator) => operator.program.hints === undefined && !('prefetch' in shapeOf(operator)))).toBe(true);
  });

  it('chains layers', () => {
    const { operators: all, outputs } = lowered('llama2-70b', 1, 'fp16', 3);
    expect(all).toHaveLength(15);
    expect(all[5]!.inputs[0]).toBe(all[4]!.outputs[0]!.name);
    expect(outputs).toEqual([all[14]!.outputs[0]!.name]);
    expect(new Set(all.map(({ node }) => node)).size).toBe(15);
  });
});

describe('sizes', () => {
  const bits: Record<string, number> = { fp16: 16, int4: 4, nf4: 4, fp8: 8, mxfp8: 8, int1: 1, int8: 8 };
  it.each([
    ['llama2-70b', 855_638_016],
    ['bloom-176b', 2_466_250_752],
  ])('%s stores every weight of the layer once, at its width', (model, weights) => {
    for (const [weight, width] of Object.entries(bits)) {
      const bytes = lowered(model, 1, weight)
        .tensors.filter(({ role }) => role === 'weight')
        .reduce((sum, { shape, dtype }) => sum + shape.reduce((a, b) => a * b, dtype === 'float16' ? 2 : 1), 0);
      expect(bytes).toBe((weights * width) / 8);
    }
  });

  it('counts two FLOPs per weight and token, and those of the steps after the products', () => {
    const dense = lowered('llama2-70b', 32, 'fp8').operators.filter(isProduct);
    expect(dense.reduce((sum, { flops }) => sum + flops, 0)).toBe(2 * 32 * 855_638_016 + 32 * (2 * 8192 + 5 * 28672));
  });

  it('has one scale per output channel, per group, or per MX block', () => {
    const scales = (weight: string, group?: number): number[] =>
      lowered('llama2-70b', 1, weight, 1, group)
        .tensors.filter(({ role }) => role === 'scale')
        .map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(scales('int4')).toEqual([10240, 8192, 57344, 8192]);
    expect(scales('int4', 128)).toEqual([10240 * 64, 8192 * 64, 57344 * 64, 8192 * 224]);
    expect(scales('mxfp8')).toEqual([10240 * 256, 8192 * 256, 57344 * 256, 8192 * 896]);
  });
});

describe('requests', () => {
  it('pairs activations with weights as Figure 8 does', () => {
    const pairs = ['fp16', 'int4', 'nf4', 'fp8', 'mxfp8', 'int1', 'int8'].map((weight) => {
      const { format } = parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, weight });
      return [format.weight, format.activation, format.group];
    });
    expect(pairs).toEqual([
      ['fp16', 'fp16', -1],
      ['int4', 'fp16', -1],
      ['nf4', 'fp16', -1],
      ['fp8_e5m2', 'fp8_e5m2', -1],
      ['mxfp8_e5m2', 'mxfp8_e5m2', 32],
      ['int1', 'int8', -1],
      ['int8', 'int8', -1],
    ]);
  });

  it('takes kinds apart or in the name, and any pair of formats but MX and others', () => {
    const formatOf = (words: object) => parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, weight: 'fp16', ...words }).format;
    expect(formatOf({ weight: 'fp8', format: 'e4m3' })).toEqual({ weight: 'fp8_e4m3', activation: 'fp8_e4m3', group: -1 });
    expect(formatOf({ weight: 'mxfp8_e4m3', group: 32 })).toEqual({ weight: 'mxfp8_e4m3', activation: 'mxfp8_e4m3', group: 32 });
    expect(formatOf({ weight: 'fp8', act: 'fp8', format: 'e4m3' })).toEqual({ weight: 'fp8_e4m3', activation: 'fp8_e4m3', group: -1 });
    expect(formatOf({ weight: 'int4', act: 'int8', group: 128 })).toEqual({ weight: 'int4', activation: 'int8', group: 128 });
    expect(formatOf({ weight: 'fp16', act: 'fp8' })).toEqual({ weight: 'fp16', activation: 'fp8_e5m2', group: -1 });
  });

  it.each([
    [{ weight: 'int5' }, /`weight`/],
    [{ weight: 'int4', act: 'fp7' }, /`act`/],
    [{ weight: 'int4', act: 'nf4' }, /`act`/],
    [{ weight: 'int4', group: 100 }, /`group`/],
    [{ weight: 'int4', group: 32 }, /`group`/],
    [{ weight: 'fp16', group: 128 }, /expected -1 for `group` with fp16/],
    [{ weight: 'int1', group: 64 }, /expected -1 for `group` with int1/],
    [{ weight: 'mxfp8', group: 64 }, /expected 32 for `group`/],
    [{ weight: 'mxfp8', act: 'fp16' }, /go together/],
    [{ weight: 'mxfp8', act: 'mxfp8_e4m3' }, /go together/],
    [{ weight: 'int4', act: 'mxfp8' }, /blocks of 32/],
    [{ weight: 'fp16', batch: 0 }, /`batch`/],
    [{ weight: 'int4', format: 'e4m3' }, /`format`/],
    [{ weight: 'fp8_e5m2', format: 'e4m3' }, /`format`/],
    [{ weight: 'fp8', format: 'e3m4' }, /fp8_e5m2.*"fp8_e3m4"/],
  ])('refuses %o', (words, message) => {
    expect(() => parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, ...words })).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });

  it('refuses a model that it does not know, and names those it builds', () => {
    expect(() => modelGraph({ model: 'gpt-2' })).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(/llama2-70b, bloom-176b/) }),
    );
  });
});

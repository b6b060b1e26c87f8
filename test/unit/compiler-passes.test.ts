// The builder up to what is written: fusion, naming, bytes and FLOPs of the models of Figure 8.
import { describe, expect, it } from 'vitest';
import type { WeightFormat } from '../../lib/artifact/operators.js';
import { lower } from '../../lib/compiler/lower.js';
import { modelFactory } from '../../lib/compiler/models/index.js';
import { parseRequest } from '../../lib/compiler/request.js';

function lowered(model: string, batch: number, weight: string, layers = 1) {
  const request = parseRequest({ model, batch, seq: 1, weight, layers });
  return lower(modelFactory(model)(batch, 1, layers), request.format);
}
const operators = (model: string, batch: number, weight: string): string[] => lowered(model, batch, weight).operators.map(({ semantics }) => semantics.op);

describe('fusion', () => {
  it('makes five operators of a layer for one token: prologues and epilogues are fused', () => {
    expect(operators('llama2-70b', 1, 'fp16')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
    expect(operators('llama2-70b', 1, 'int1')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
    expect(operators('bloom-176b', 1, 'nf4')).toEqual(['dense', 'attention', 'dense', 'dense', 'dense']);
  });

  it('normalises and quantises once for many tokens, not in every block of the product', () => {
    expect(operators('llama2-70b', 32, 'fp16')).toEqual(['norm', 'dense', 'attention', 'dense', 'norm', 'dense', 'dense']);
    expect(operators('bloom-176b', 32, 'fp8')).toEqual(['norm', 'dense', 'attention', 'quantise', 'dense', 'norm', 'dense', 'quantise', 'dense']);
  });

  it('puts norm, function and residual of a llama layer where they belong', () => {
    const dense = lowered('llama2-70b', 1, 'int4').operators.map(({ semantics }) => semantics).filter((semantics) => semantics.op === 'dense');
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
    expect(norm.outputs.map(({ dtype, shape }) => [dtype, shape])).toEqual([['int8', [32, 8192]], ['float32', [32]]]);
    expect(all[1]!.inputs.slice(0, 2)).toEqual(norm.outputs.map(({ name }) => name));
    expect(all[1]!.semantics).toMatchObject({ op: 'dense', input: 'quantised', norm: { kind: 'none' } });
  });

  it('gives products of less than 8 bits the weights of the next product to read ahead, and counts them once', () => {
    const dense = (weight: string) => lowered('llama2-70b', 1, weight, 2).operators.filter(({ semantics }) => semantics.op === 'dense');
    const ahead = dense('int4');
    const weights = ahead.map(({ inputs }) => inputs[1]);
    expect(ahead.map(({ inputs }) => inputs.at(-1)).slice(0, -1)).toEqual(weights.slice(1));
    expect(ahead.map(({ semantics }) => semantics.op === 'dense' ? semantics.prefetch : null)).toEqual([
      8192 * 4096, 57344 * 4096, 8192 * 14336, 10240 * 4096, 8192 * 4096, 57344 * 4096, 8192 * 14336, undefined,
    ]);
    expect(ahead[0]!.bytes).toBeLessThan(10240 * 4096 * 1.01);
    expect(ahead.every(({ inputs, probe }) => inputs.length === probe.length)).toBe(true);
    expect(dense('fp8').every(({ semantics }) => !('prefetch' in semantics))).toBe(true);
  });

  it('chains layers', () => {
    const { operators: all, output } = lowered('llama2-70b', 1, 'fp16', 3);
    expect(all).toHaveLength(15);
    expect(all[5]!.inputs[0]).toBe(all[4]!.outputs[0]!.name);
    expect(output).toBe(all[14]!.outputs[0]!.name);
    expect(new Set(all.map(({ node }) => node)).size).toBe(15);
  });
});

describe('sizes', () => {
  const bits: Record<string, number> = { fp16: 16, int4: 4, nf4: 4, fp8: 8, mxfp8: 8, int1: 1 };
  it.each([['llama2-70b', 855_638_016], ['bloom-176b', 2_466_250_752]])('%s stores every weight of the layer once, at its width', (model, weights) => {
    for (const [weight, width] of Object.entries(bits)) {
      const bytes = lowered(model, 1, weight).tensors.filter(({ role }) => role === 'weight')
        .reduce((sum, { shape, dtype }) => sum + shape.reduce((a, b) => a * b, dtype === 'float16' ? 2 : 1), 0);
      expect(bytes).toBe((weights * width) / 8);
    }
  });

  it('counts two FLOPs per weight and token', () => {
    const dense = lowered('llama2-70b', 32, 'fp8').operators.filter(({ semantics }) => semantics.op === 'dense');
    expect(dense.reduce((sum, { flops }) => sum + flops, 0)).toBe(2 * 32 * 855_638_016);
  });

  it('has one scale per output channel, per group, or per MX block', () => {
    const scales = (weight: string, group?: number): number[] => {
      const request = parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, weight, ...(group !== undefined && { group }) });
      return lower(modelFactory('llama2-70b')(1, 1, 1), request.format).tensors.filter(({ role }) => role === 'scale').map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    };
    expect(scales('int4')).toEqual([10240, 8192, 57344, 8192]);
    expect(scales('int4', 128)).toEqual([10240 * 64, 8192 * 64, 57344 * 64, 8192 * 224]);
    expect(scales('mxfp8')).toEqual([10240 * 256, 8192 * 256, 57344 * 256, 8192 * 896]);
  });
});

describe('requests', () => {
  it('pairs activations with weights as Figure 8 does', () => {
    const pairs = ['fp16', 'int4', 'nf4', 'fp8', 'mxfp8', 'int1'].map((weight) => {
      const { format } = parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, weight });
      return [format.weight, format.activation, format.group];
    });
    expect(pairs).toEqual([
      ['fp16', 'fp16', -1], ['int4', 'fp16', -1], ['nf4', 'fp16', -1], ['fp8_e5m2', 'fp8_e5m2', -1], ['mxfp8_e5m2', 'mxfp8_e5m2', 32], ['int1', 'int8', -1],
    ] satisfies [WeightFormat, string, number][]);
  });

  it.each([
    [{ weight: 'int5' }, /`weight`/], [{ weight: 'int4', act: 'fp7' }, /`act`/], [{ weight: 'int4', group: 100 }, /`group`/],
    [{ weight: 'fp16', group: 128 }, /group scales/], [{ weight: 'mxfp8', act: 'fp16' }, /go together/], [{ weight: 'fp16', batch: 0 }, /`batch`/],
  ])('refuses %o', (words, message) => {
    expect(() => parseRequest({ model: 'llama2-70b', batch: 1, seq: 1, ...words })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) }));
  });

  it('refuses a model that it does not know, and names those it knows', () => {
    expect(() => modelFactory('gpt-2')).toThrow(/llama2-70b, bloom-176b/);
  });
});

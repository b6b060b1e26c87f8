import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Axis, layoutExtents, layoutOffsets } from '../../lib/artifact/layout.js';
import { signatureOf } from '../../lib/artifact/operands.js';
import type { DenseOperator, Digit, Operator } from '../../lib/artifact/operators.js';

/** A random bijection: each axis' extent is split into factors, and the digits of both axes are shuffled. */
const layouts = fc.tuple(fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }), fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }))
  .chain(([n, k]) => {
    const digits = (axis: Axis, sizes: readonly number[]): Digit[] => sizes.map((size, i) => ({ axis, size, stride: sizes.slice(0, i).reduce((a, b) => a * b, 1) }));
    const all = [...digits('n', n), ...digits('k', k)];
    return fc.shuffledSubarray(all, { minLength: all.length });
  });

/** The definition in operators.ts, word for word: index → digits → coordinates. */
function coordinates(layout: readonly Digit[], stored: number): { n: number; k: number } {
  const at = { n: 0, k: 0 };
  let rest = stored;
  for (const { axis, stride, size } of [...layout].reverse()) {
    at[axis] += (rest % size) * stride;
    rest = Math.floor(rest / size);
  }
  return at;
}

describe('layouts', () => {
  it('give each coordinate one place, as their definition says', () => {
    fc.assert(fc.property(layouts, (layout) => {
      const extents = layoutExtents(layout);
      const n = layoutOffsets(layout, 'n');
      const k = layoutOffsets(layout, 'k');
      expect([n.length, k.length]).toEqual([extents.n, extents.k]);
      const seen = new Set<number>();
      for (let stored = 0; stored < extents.n * extents.k; stored++) {
        const at = coordinates(layout, stored);
        expect(n[at.n]! + k[at.k]!).toBe(stored);
        seen.add(at.n * extents.k + at.k);
      }
      expect(seen.size).toBe(extents.n * extents.k);
    }), { numRuns: 300, seed: 1 });
  });

  it('are refused exactly when they are no bijection', () => {
    const digit = fc.record({ axis: fc.constantFrom<Axis>('n', 'k'), stride: fc.integer({ min: 1, max: 6 }), size: fc.integer({ min: 1, max: 3 }) });
    let refused = 0;
    fc.assert(fc.property(fc.array(digit, { minLength: 1, maxLength: 4 }), (layout) => {
      const count = layout.reduce((product, { size }) => product * size, 1);
      const places = Array.from({ length: count }, (_, stored) => coordinates(layout, stored));
      const extent = (axis: Axis): number => layout.filter((d) => d.axis === axis).reduce((product, { size }) => product * size, 1);
      const bijective = new Set(places.map(({ n, k }) => `${n},${k}`)).size === count && places.every(({ n, k }) => n < extent('n') && k < extent('k'));
      if (bijective) expect(layoutExtents(layout)).toEqual({ n: extent('n'), k: extent('k') });
      else { refused++; expect(() => layoutExtents(layout)).toThrow(/no bijection/); }
    }), { numRuns: 3000, seed: 2 });
    expect(refused).toBeGreaterThan(500);
  });
});

describe('signatures', () => {
  const rowMajor = (n: number, k: number): Digit[] => [{ axis: 'n', stride: 1, size: n }, { axis: 'k', stride: 1, size: k }];
  const dense: DenseOperator = {
    op: 'dense', m: 4, n: 64, k: 256, weight: 'int4', activation: 'fp16', group: -1, input: 'fp16',
    norm: { kind: 'none', eps: 1e-5 }, bias: false, function: 'none', residual: false, weightLayout: rowMajor(64, 256), scaleLayout: null,
  };
  const roles = (operator: Operator) => signatureOf(operator).inputs.map(({ role, dtype, sizeBytes }) => [role, dtype, sizeBytes]);

  it('list operands in the order of the contract', () => {
    expect(roles(dense)).toEqual([['x', 'float16', 2048], ['weight', 'uint8', 8192], ['scale', 'float16', 128]]);
    expect(roles({ ...dense, weight: 'fp16', norm: { kind: 'layer', eps: 1e-5 }, bias: true, residual: true })).toEqual([
      ['x', 'float16', 2048], ['weight', 'float16', 32768], ['gain', 'float16', 512], ['beta', 'float16', 512], ['bias', 'float16', 128], ['residual', 'float16', 512]]);
    expect(roles({ ...dense, group: 64, scaleLayout: rowMajor(64, 4) })).toEqual([['x', 'float16', 2048], ['weight', 'uint8', 8192], ['scale', 'float16', 512]]);
    expect(roles({ ...dense, weight: 'mxfp8_e5m2', activation: 'mxfp8_e5m2', group: 32, scaleLayout: rowMajor(64, 8), input: 'quantised' })).toEqual([
      ['q', 'uint8', 1024], ['xScale', 'uint8', 32], ['weight', 'uint8', 16384], ['scale', 'uint8', 512]]);
    expect(roles({ ...dense, weight: 'int1', activation: 'int8', input: 'quantised' })).toEqual([
      ['q', 'int8', 1024], ['xScale', 'float32', 16], ['weight', 'uint8', 2048], ['scale', 'float16', 128]]);
    expect(roles({ ...dense, residual: true, prefetch: 640 }).slice(3)).toEqual([['residual', 'float16', 512], ['next', 'uint8', 640]]);
    expect(signatureOf({ ...dense, function: 'silu_mul' }).outputs).toEqual([{ role: 'y', dtype: 'float16', sizeBytes: 256 }]);
  });

  it('cover the other operators', () => {
    expect(signatureOf({ op: 'norm', m: 2, k: 64, norm: { kind: 'layer', eps: 1e-5 }, activation: 'mxfp8_e4m3' })).toEqual({
      inputs: [{ role: 'x', dtype: 'float16', sizeBytes: 256 }, { role: 'gain', dtype: 'float16', sizeBytes: 128 }, { role: 'beta', dtype: 'float16', sizeBytes: 128 }],
      outputs: [{ role: 'q', dtype: 'uint8', sizeBytes: 128 }, { role: 'xScale', dtype: 'uint8', sizeBytes: 4 }],
    });
    expect(signatureOf({ op: 'quantise', m: 2, k: 64, activation: 'int4' }).outputs).toEqual([{ role: 'q', dtype: 'int8', sizeBytes: 128 }, { role: 'xScale', dtype: 'float32', sizeBytes: 8 }]);
    expect(signatureOf({ op: 'attention', batch: 2, seq: 3, heads: 8, kvHeads: 2, headDim: 16, order: 'concatenated', position: 'rope', ropeBase: 10000 })).toEqual({
      inputs: [{ role: 'qkv', dtype: 'float16', sizeBytes: 6 * 12 * 16 * 2 }], outputs: [{ role: 'y', dtype: 'float16', sizeBytes: 6 * 8 * 16 * 2 }],
    });
  });

  it.each<[string, Operator, RegExp]>([
    ['layout short of n', { ...dense, weightLayout: rowMajor(32, 256) }, /weightLayout/],
    ['layout of another k', { ...dense, weightLayout: rowMajor(64, 128) }, /weightLayout/],
    ['groups without a layout', { ...dense, group: 64 }, /scaleLayout/],
    ['k no multiple of the group', { ...dense, k: 200, group: 64, weightLayout: rowMajor(64, 200), scaleLayout: rowMajor(64, 3) }, /group/],
    ['MX without blocks of 32', { ...dense, weight: 'mxfp8_e5m2' }, /group/],
    ['odd n for gate and up', { ...dense, n: 63, function: 'silu_mul' }, /`n`/],
    ['a norm over codes', { ...dense, activation: 'int8', input: 'quantised', norm: { kind: 'rms', eps: 1e-5 } }, /norm/],
    ['codes without a format', { ...dense, input: 'quantised' }, /activation/],
    ['heads that do not divide', { op: 'attention', batch: 1, seq: 1, heads: 8, kvHeads: 3, headDim: 16, order: 'concatenated', position: 'alibi', ropeBase: 1 }, /kvHeads/],
  ])('refuse %s', (_, operator, named) => {
    expect(() => signatureOf(operator)).toThrow(named);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DenseV1, type OperatorV1, programOfV1 } from '../../lib/artifact/upgrade.js';
import { checkProgram } from '../../lib/operators/check.js';
import { axisExtent, axisOffsets, checkLayout, rowMajor as plainOrder } from '../../lib/operators/layout.js';
import { kTensorBytes, programTensors, type TensorSpec } from '../../lib/operators/program.js';
import { type DigitV1 as Digit, rowMajor } from '../fixtures/programs.js';

type Axis = Digit['axis'];
const layoutExtents = (layout: readonly Digit[]): { n: number; k: number } => ({ n: axisExtent(layout, 'n'), k: axisExtent(layout, 'k') });

/** A random bijection: each axis' extent is split into factors, and the digits of both axes are shuffled. */
const layouts = fc
  .tuple(fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }), fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 }))
  .chain(([n, k]) => {
    const digits = (axis: Axis, sizes: readonly number[]): Digit[] =>
      sizes.map((size, i) => ({ axis, size, stride: sizes.slice(0, i).reduce((a, b) => a * b, 1) }));
    const all = [...digits('n', n), ...digits('k', k)];
    return fc.shuffledSubarray(all, { minLength: all.length });
  });

/** The definition in program.ts, word for word: index → digits → coordinates. */
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
    fc.assert(
      fc.property(layouts, (layout) => {
        const extents = layoutExtents(layout);
        const n = axisOffsets(layout, 'n');
        const k = axisOffsets(layout, 'k');
        expect([n.length, k.length]).toEqual([extents.n, extents.k]);
        const seen = new Set<number>();
        for (let stored = 0; stored < extents.n * extents.k; stored++) {
          const at = coordinates(layout, stored);
          expect(n[at.n]! + k[at.k]!).toBe(stored);
          seen.add(at.n * extents.k + at.k);
        }
        expect(seen.size).toBe(extents.n * extents.k);
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  it('are refused exactly when they are no bijection', () => {
    const digit = fc.record({
      axis: fc.constantFrom<Axis>('n', 'k'),
      stride: fc.integer({ min: 1, max: 6 }),
      size: fc.integer({ min: 1, max: 3 }),
    });
    let refused = 0;
    fc.assert(
      fc.property(fc.array(digit, { minLength: 1, maxLength: 4 }), (layout) => {
        const count = layout.reduce((product, { size }) => product * size, 1);
        const places = Array.from({ length: count }, (_, stored) => coordinates(layout, stored));
        const extent = (axis: Axis): number => layout.filter((d) => d.axis === axis).reduce((product, { size }) => product * size, 1);
        const bijective =
          new Set(places.map(({ n, k }) => `${n},${k}`)).size === count && places.every(({ n, k }) => n < extent('n') && k < extent('k'));
        if (bijective) expect(layoutExtents(layout)).toEqual({ n: extent('n'), k: extent('k') });
        else {
          refused++;
          expect(() => layoutExtents(layout)).toThrow(/no bijection/);
        }
      }),
      { numRuns: 3000, seed: 2 },
    );
    expect(refused).toBeGreaterThan(500);
  });

  it('have a place for every coordinate, and digits of their own axes only', () => {
    const axes = [
      { name: 'n', extent: 12 },
      { name: 'k', extent: 32 },
    ];
    checkLayout(rowMajor(12, 32), axes);
    checkLayout(rowMajor(16, 32), axes);
    expect(plainOrder(axes)).toEqual(rowMajor(12, 32));
    const refuses = (layout: Parameters<typeof checkLayout>[0], message: RegExp): void =>
      expect(() => checkLayout(layout, axes)).toThrow(
        expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(message) }),
      );
    refuses(rowMajor(8, 32), /at least 12 places along n but received 8/);
    refuses(rowMajor(12, 16), /at least 32 places along k but received 16/);
    refuses([...rowMajor(12, 32), { axis: 'c', stride: 1, size: 1 }], /digits of n, k but received one of c/);
    refuses([{ axis: 'n', stride: 1, size: 12 }], /at least 32 places along k but received 1/);
    refuses(
      Array.from({ length: 5 }, (_, i) => ({ axis: 'n', stride: 2 ** (12 * i), size: 2 ** 12 })),
      /more than 2\^53 places/,
    );
  });
});

describe('tensors of programs', () => {
  const dense: DenseV1 = {
    op: 'dense',
    m: 4,
    n: 64,
    k: 256,
    weight: 'int4',
    activation: 'fp16',
    group: -1,
    input: 'fp16',
    norm: { kind: 'none', eps: 1e-5 },
    bias: false,
    function: 'none',
    residual: false,
    weightLayout: rowMajor(64, 256),
    scaleLayout: null,
  };
  const list = (tensors: readonly TensorSpec[]) =>
    tensors.map(({ part, dtype, elements }) => [part, dtype, elements * kTensorBytes[dtype]]);
  const tensors = (operator: OperatorV1) => {
    const program = programOfV1(operator);
    checkProgram(program);
    return programTensors(program);
  };
  const inputs = (operator: OperatorV1) => list(tensors(operator).inputs);
  const outputs = (operator: OperatorV1) => list(tensors(operator).outputs);

  it('are in the order of the contract', () => {
    expect(inputs(dense)).toEqual([
      ['numbers', 'float16', 2048],
      ['codes', 'uint8', 8192],
      ['scales', 'float16', 128],
    ]);
    // x, weight, gain, beta, bias, residual
    expect(inputs({ ...dense, weight: 'fp16', norm: { kind: 'layer', eps: 1e-5 }, bias: true, residual: true })).toEqual(
      [2048, 32768, 512, 512, 128, 512].map((bytes) => ['numbers', 'float16', bytes]),
    );
    expect(inputs({ ...dense, group: 64, scaleLayout: rowMajor(64, 4) })).toEqual([
      ['numbers', 'float16', 2048],
      ['codes', 'uint8', 8192],
      ['scales', 'float16', 512],
    ]);
    expect(
      inputs({ ...dense, weight: 'mxfp8_e5m2', activation: 'mxfp8_e5m2', group: 32, scaleLayout: rowMajor(64, 8), input: 'quantised' }),
    ).toEqual([
      ['codes', 'uint8', 1024],
      ['scales', 'uint8', 32],
      ['codes', 'uint8', 16384],
      ['scales', 'uint8', 512],
    ]);
    expect(inputs({ ...dense, weight: 'int1', activation: 'int8', input: 'quantised' })).toEqual([
      ['codes', 'int8', 1024],
      ['scales', 'float32', 16],
      ['codes', 'uint8', 2048],
      ['scales', 'float16', 128],
    ]);
    // Codes of less than a byte: packed as weights, a byte each as activations.
    expect(inputs({ ...dense, activation: 'int4', input: 'quantised' }).slice(0, 3)).toEqual([
      ['codes', 'int8', 1024],
      ['scales', 'float32', 16],
      ['codes', 'uint8', 8192],
    ]);
    expect(inputs({ ...dense, weight: 'int8', activation: 'int8' })).toEqual([
      ['numbers', 'float16', 2048],
      ['codes', 'uint8', 16384],
      ['scales', 'float16', 128],
    ]);
    // Rows may be padded to whole tiles; what one product reads ahead of the next comes last.
    expect(inputs({ ...dense, group: 64, weightLayout: rowMajor(80, 256), scaleLayout: rowMajor(96, 4) })).toEqual([
      ['numbers', 'float16', 2048],
      ['codes', 'uint8', 10240],
      ['scales', 'float16', 768],
    ]);
    expect(inputs({ ...dense, residual: true, prefetch: 640 }).slice(3)).toEqual([
      ['numbers', 'float16', 512],
      ['codes', 'uint8', 640],
    ]);
    expect(outputs({ ...dense, function: 'silu_mul' })).toEqual([['numbers', 'float16', 256]]);
    expect(inputs({ ...dense, function: 'silu_mul', residual: true }).at(-1)).toEqual(['numbers', 'float16', 256]);
  });

  it('of the other operators', () => {
    const norm: OperatorV1 = { op: 'norm', m: 2, k: 64, norm: { kind: 'layer', eps: 1e-5 }, activation: 'mxfp8_e4m3' };
    expect(inputs(norm)).toEqual([256, 128, 128].map((bytes) => ['numbers', 'float16', bytes]));
    expect(outputs(norm)).toEqual([
      ['codes', 'uint8', 128],
      ['scales', 'uint8', 4],
    ]);
    expect(outputs({ ...norm, norm: { kind: 'rms', eps: 1e-5 }, activation: 'fp16' })).toEqual([['numbers', 'float16', 256]]);
    expect(outputs({ op: 'quantise', m: 2, k: 64, activation: 'int4' })).toEqual([
      ['codes', 'int8', 128],
      ['scales', 'float32', 8],
    ]);
    const attention: OperatorV1 = {
      op: 'attention',
      batch: 2,
      seq: 3,
      heads: 8,
      kvHeads: 2,
      headDim: 16,
      order: 'concatenated',
      position: 'rope',
      ropeBase: 10000,
    };
    expect([inputs(attention), outputs(attention)]).toEqual([
      [['numbers', 'float16', 6 * 12 * 16 * 2]],
      [['numbers', 'float16', 6 * 8 * 16 * 2]],
    ]);
  });

  it('have shapes: extents of what is in rows, a row per place of the first axis of what is not', () => {
    const shapes = (operator: OperatorV1) => tensors(operator).inputs.map(({ shape }) => shape);
    expect(shapes({ ...dense, group: 64, scaleLayout: rowMajor(64, 4), residual: true })).toEqual([
      [4, 256],
      [64, 128],
      [64, 4],
      [4, 64],
    ]);
    expect(
      shapes({
        ...dense,
        weightLayout: [
          { axis: 'n', stride: 16, size: 5 },
          { axis: 'k', stride: 1, size: 256 },
          { axis: 'n', stride: 1, size: 16 },
        ],
      }),
    ).toEqual([[4, 256], [80, 128], [64]]);
  });

  it.each<[string, OperatorV1, RegExp]>([
    [
      'layout short of n',
      { ...dense, weightLayout: rowMajor(32, 256) },
      /values\.1: layout: expected at least 64 places along n but received 32/,
    ],
    ['layout short of k', { ...dense, weightLayout: rowMajor(64, 128) }, /values\.1: layout: expected at least 256 places along k/],
    [
      'scales short of n',
      { ...dense, group: 64, scaleLayout: rowMajor(32, 4) },
      /values\.1: scales: layout: expected at least 64 places along n/,
    ],
    [
      'scales short of k',
      { ...dense, k: 200, group: 64, weightLayout: rowMajor(64, 200), scaleLayout: rowMajor(64, 3) },
      /values\.1: scales: layout: expected at least 4 places along k/,
    ],
    [
      'a layout of scales of channels',
      { ...dense, scaleLayout: rowMajor(64, 1) },
      /values\.1: scales: layout: expected digits of n but received one of k/,
    ],
    [
      'a layout of scales that are not there',
      { ...dense, weight: 'fp16', scaleLayout: rowMajor(64, 1) },
      /values\.1: a layout of scales that it does not have/,
    ],
    [
      'blocks that do not divide the channels',
      { op: 'quantise', m: 1, k: 40, activation: 'mxfp8_e4m3' },
      /multiple of 32 for `c` but received 40/,
    ],
    [
      'a quantisation to numbers as they are',
      { op: 'quantise', m: 1, k: 64, activation: 'fp16' },
      /a quantised format for `format` but received fp16/,
    ],
    ['odd n for gate and up', { ...dense, n: 63, function: 'silu_mul' }, /multiple of 2 for `c` but received 63/],
    [
      'heads that do not divide',
      { op: 'attention', batch: 1, seq: 1, heads: 8, kvHeads: 3, headDim: 16, order: 'concatenated', position: 'alibi', ropeBase: 1 },
      /kvHeads/,
    ],
    [
      'few heads of keys between those of queries',
      { op: 'attention', batch: 1, seq: 1, heads: 8, kvHeads: 4, headDim: 16, order: 'interleaved', position: 'alibi', ropeBase: 1 },
      /`kvHeads`.*4/,
    ],
    [
      'halves of an odd head',
      { op: 'attention', batch: 1, seq: 1, heads: 8, kvHeads: 8, headDim: 15, order: 'concatenated', position: 'rope', ropeBase: 1 },
      /`headDim`.*15/,
    ],
    ['a format that weights do not have', { ...dense, weight: 'int5' }, /a format of weights for `weight` but received int5/],
    ['a format that activations do not have', { ...dense, activation: 'nf4' }, /a format of activations for `format` but received nf4/],
    [
      'more bytes than can be counted',
      { ...dense, m: 2 ** 31 - 1, k: 2 ** 31 - 1, weightLayout: rowMajor(64, 2 ** 31 - 1) },
      /fewer than 2\^53 bytes/,
    ],
  ])('refuse %s', (_, operator, named) => {
    expect(() => checkProgram(programOfV1(operator))).toThrow(
      expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(named) }),
    );
  });
});

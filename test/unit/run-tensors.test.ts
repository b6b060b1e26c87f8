// Typed arrays in and out, what fills a tensor, and the cases that names say.
import { describe, expect, it } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { LadderError } from '../../lib/errors.js';
import { decode } from '../../lib/formats/codes.js';
import { formats } from '../../lib/formats/index.js';
import type { Fill, FloatCodes } from '../../lib/native.js';
import { caseOf } from '../../lib/run/names.js';
import { arrayFromBytes, arrayTypeOf, bytesForTensor, float32FromBytes, tensorInfo } from '../../lib/run/tensors.js';
import { fillKey, foreignFill, planFills, weightSource, type ArgumentTensor, type TensorShape } from '../../lib/run/weights.js';

function codeOf(task: () => unknown): string {
  try {
    task();
  } catch (error) {
    return error instanceof LadderError ? error.code : String(error);
  }
  return 'no error';
}

describe('tensors', () => {
  it.each([
    ['float16', 'Uint16Array'],
    ['bfloat16', 'Uint16Array'],
    ['float32', 'Float32Array'],
    ['float64', 'Float64Array'],
    ['int8', 'Int8Array'],
    ['uint8', 'Uint8Array'],
    ['int16', 'Int16Array'],
    ['int32', 'Int32Array'],
    ['int64', 'BigInt64Array'],
    ['uint64', 'BigUint64Array'],
    ['bool', 'Uint8Array'],
    ['int4', 'Int8Array'],
    ['uint1', 'Uint8Array'],
    ['e5m2_float8', 'Uint8Array'],
    ['float16x4', 'Uint16Array'],
    ['int4x8', 'Uint8Array'],
  ])('%s is a %s', (dtype, name) => {
    expect(arrayTypeOf(parseDataType(dtype)).name).toBe(name);
  });

  const half = parseDataType('float16');
  const x = tensorInfo('x', [2, 3], half);

  it('knows sizes', () => {
    expect(x).toEqual({ name: 'x', shape: [2, 3], dtype: 'float16', elements: 6, sizeBytes: 12, arrayType: 'Uint16Array' });
    expect(tensorInfo('s', [], parseDataType('float32')).sizeBytes).toBe(4);
    expect(tensorInfo('v', [5], parseDataType('float16x4')).sizeBytes).toBe(40);
  });

  it('views what fits and converts FP32 to halves, rounding to nearest even', () => {
    const bits = Uint16Array.of(1, 2, 3, 4, 5, 6);
    expect(bytesForTensor(x, half, bits).buffer).toBe(bits.buffer);
    const converted = bytesForTensor(x, half, Float32Array.of(1, -2, 65504, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -24));
    expect([...new Uint16Array(converted.buffer)]).toEqual([0x3c00, 0xc000, 0x7bff, 0x3c00, 0x3c02, 0x0001]);
  });

  it('views a part of a larger buffer', () => {
    const whole = Uint16Array.of(9, 1, 2, 3, 4, 5, 6, 9);
    expect([...new Uint16Array(bytesForTensor(x, half, whole.subarray(1, 7)).slice().buffer)]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('refuses wrong types and lengths', () => {
    for (const wrong of [
      new Int16Array(6),
      [1, 2, 3, 4, 5, 6],
      new ArrayBuffer(12),
      new DataView(new ArrayBuffer(12)),
      null,
      new Float64Array(6),
    ]) {
      expect(codeOf(() => bytesForTensor(x, half, wrong))).toBe('WRONG_TYPE');
    }
    expect(codeOf(() => bytesForTensor(x, half, new Uint16Array(5)))).toBe('WRONG_LENGTH');
    expect(codeOf(() => bytesForTensor(x, half, new Float32Array(7)))).toBe('WRONG_LENGTH');
    expect(codeOf(() => bytesForTensor(tensorInfo('i', [1], parseDataType('int8')), parseDataType('int8'), new Float32Array(1)))).toBe(
      'WRONG_TYPE',
    );
  });

  it('gives typed arrays and FP32 back', () => {
    const bytes = Uint16Array.of(0x3c00, 0xc000, 0x7c00, 0x7e00, 0x0001, 0x8000).buffer;
    expect(arrayFromBytes(half, bytes)).toBeInstanceOf(Uint16Array);
    expect([...float32FromBytes(x, half, bytes)]).toEqual([1, -2, Infinity, Number.NaN, 2 ** -24, -0]);
    expect([
      ...float32FromBytes(tensorInfo('l', [1], parseDataType('int64')), parseDataType('int64'), BigInt64Array.of(-7n).buffer),
    ]).toEqual([-7]);
    expect(
      codeOf(() => float32FromBytes(tensorInfo('f', [1], parseDataType('e4m3_float8')), parseDataType('e4m3_float8'), new ArrayBuffer(1))),
    ).toBe('WRONG_TYPE');
  });
});

describe('weights', () => {
  it('keys are SplitMix64 of seed XOR FNV-1a', () => {
    // FNV-1a of "" is its offset basis, so the seed that equals it gives SplitMix64's published first output for state 0.
    expect(fillKey(0, 'a')).not.toBe(fillKey(0, 'b'));
    expect(fillKey(1, 'a')).not.toBe(fillKey(0, 'a'));
    // Independent value: FNV-1a64("a") = 0xaf63dc4c8601ec8c.
    expect(fillKey(0, 'a')).toBe(splitmix(0xaf63dc4c8601ec8cn));
    expect(splitmix(0n)).toBe(0xe220a8397b1dcdafn);
  });

  const tensor = (name: string, dtype: string, shape: number[]): ArgumentTensor => ({ name, entry: 0, dtype: parseDataType(dtype), shape });

  const fill = (dtype: string, shape: number[], packed: TensorShape | null = null): Fill =>
    foreignFill({ dtype: parseDataType(dtype), shape }, packed);

  it('foreign values are finite and never all zero', () => {
    expect(fill('float16', [1, 8192])).toMatchObject({ kind: 'uniform', high: Math.sqrt(3 / 8192) });
    expect(fill('float32', [8192])).toMatchObject({ kind: 'uniform', low: 0.5, high: 1 });
    expect(fill('int8', [64])).toEqual({ kind: 'bits' });
    expect(fill('int32', [64])).toEqual({ kind: 'uniform', low: 0, high: 2 });
    expect(fill('e5m2_float8', [64])).toMatchObject({ kind: 'code' });
    for (const [dtype, mask] of [
      ['bool', 1],
      ['uint1', 1],
      ['int2', 3],
      ['int4', 15],
    ] as const)
      expect(fill(dtype, [64])).toEqual({ kind: 'code', base: 0, mask, signed: false });
    expect(fill('uint1x8', [64])).toEqual({ kind: 'bits' });
    for (const dtype of ['float64', 'handle', 'int24'])
      expect(fill(dtype, [64])).toEqual({ kind: 'code', base: 0, mask: 0, signed: false });
  });

  it('foreign weights are as small as what is summed over them is long', () => {
    const high = (...args: Parameters<typeof fill>): number => (fill(...args) as { high: number }).high;
    // Either way round, and kernels of convolutions: OIHW, HWIO, OHWI, blocks of 16 by 16.
    expect([high('float16', [28672, 8192]), high('float16', [8192, 28672])]).toEqual(Array(2).fill(Math.sqrt(3 / 28672)));
    expect(high('float16', [64, 3, 7, 7])).toBe(Math.sqrt(3 / 147));
    expect(high('float16', [7, 7, 3, 64])).toBe(Math.sqrt(3 / 147));
    expect(high('float16', [64, 7, 7, 3])).toBe(Math.sqrt(3 / 147));
    expect(high('float16', [512, 512, 16, 16])).toBeLessThanOrEqual(Math.sqrt(3 / 8192));
    expect(high('bfloat16', [4, 2])).toBe(Math.sqrt(3 / 4));
    // Scales of packed integers, one per channel or per group.
    const packed = { dtype: parseDataType('int8'), shape: [8192, 4096] };
    const scale = high('float16', [8192], packed);
    expect(high('float16', [8192, 64], packed)).toBe(scale);
    expect(scale * 74 * Math.sqrt(8192)).toBeLessThan(1.2);
    // An activation of the same operator is none.
    expect(high('float16', [4096, 8192], packed)).toBe(Math.sqrt(3 / 8192));
  });

  it.each(['e5m2_float8', 'e4m3_float8'])('foreign codes of %s are finite, and smaller for longer sums', (name) => {
    const { codes } = formats.get(name.startsWith('e5m2') ? 'fp8_e5m2' : 'fp8_e4m3').element as { codes: FloatCodes };
    let before = Infinity;
    for (const k of [1, 64, 8192, 2 ** 20]) {
      const { base, mask, signed } = fill(name, [16, k]) as Fill & { kind: 'code' };
      const values = Array.from({ length: mask + 1 }, (_, i) => decode({ bits: 8, codes }, base + i));
      expect(signed && values.every((value) => Number.isFinite(value) && value > 0)).toBe(true);
      const largest = Math.max(...values);
      expect(largest).toBeLessThanOrEqual(before);
      before = largest;
    }
    expect(before).toBeLessThan(0.5);
  });

  it('fills what no file holds, by the seed', () => {
    const tensors = [tensor('data', 'float16', [1, 4]), tensor('p0', 'float16', [4, 4])];
    expect(planFills(tensors, null, new Set(), undefined).map(({ name, key }) => [name, key])).toEqual([
      ['data', fillKey(0, 'data')],
      ['p0', fillKey(0, 'p0')],
    ]);
    expect(planFills(tensors, null, new Set(['p0']), 7).map(({ name, key }) => [name, key])).toEqual([['data', fillKey(7, 'data')]]);
    expect([weightSource(null, false), weightSource(null, true)]).toEqual(['fake', 'file']);
  });
});

function splitmix(x: bigint): bigint {
  const mask = (1n << 64n) - 1n;
  let z = (x + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return z ^ (z >> 31n);
}

it("cases are read from the authors' names", () => {
  expect(caseOf('/x/llama2-70b/llama2_fq_0_int_1_-1_bs1_seq1_ci_True_async', null)).toEqual({
    model: 'llama2-70b',
    setting: 'bs1_seq1',
    format: 'W_INT1 A_INT8',
  });
  expect(caseOf('/x/bloom-176b/llama2_bs1_seq4096_async', null)).toEqual({
    model: 'bloom-176b',
    setting: 'bs1_seq4096',
    format: 'W_FP16 A_FP16',
  });
  expect(caseOf('/x/resnet-50/resnet-50-b1', null)).toEqual({ model: 'resnet-50', setting: 'bs1', format: 'W_FP16 A_FP16' });
  expect(caseOf('/x/y/mine', null)).toEqual({ model: 'mine', setting: 'unknown', format: 'unknown' });
});

// The fill generator on the host against the definition in lib/artifact/manifest.ts, written down here once more with BigInt.
import { describe, expect, it } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { floatToBfloat, floatToHalf } from '../../lib/formats/codes.js';
import { type Fill, native } from '../../lib/native.js';

const kMask64 = (1n << 64n) - 1n;
const kKeys = [0n, 1n, 0x0123456789abcdefn, kMask64];

function draw(key: bigint, index: number): number {
  let z = (key + (BigInt(index) + 1n) * 0x9e3779b97f4a7c15n) & kMask64;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & kMask64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & kMask64;
  return Number((z ^ (z >> 31n)) >> 32n);
}

const drawByte = (key: bigint, byte: number): number => (draw(key, Math.floor(byte / 4)) >>> (8 * (byte % 4))) & 0xff;

/** a·b + c rounded once to FP32: the product is exact in a double, the sum is rounded to odd first, which keeps the last rounding honest. */
function fmaf(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const virtual = sum - product;
  const error = product - (sum - virtual) + (c - virtual);
  if (error === 0) return Math.fround(sum);
  const bits = new BigInt64Array(Float64Array.of(sum).buffer);
  if ((bits[0]! & 1n) === 0n) bits[0]! += error > 0 === sum > 0 ? 1n : -1n;
  return Math.fround(new Float64Array(bits.buffer)[0]!);
}

function fill(fill: Fill, key: bigint, type: string, first: number, bytes: number): Uint8Array {
  const target = new Uint8Array(bytes).fill(0xa5);
  native().fillBytes(fill, key, parseDataType(type), first, target);
  return target;
}

describe('fill', () => {
  it('bits: bytes of the generator, from any element on', () => {
    for (const key of kKeys) {
      for (const [type, size] of [
        ['uint8', 1],
        ['float16', 2],
        ['int64', 8],
      ] as const) {
        for (const first of [0, 1, 3, 1000003]) {
          const bytes = fill({ kind: 'bits' }, key, type, first, 24);
          expect([...bytes]).toEqual(Array.from({ length: 24 }, (_, i) => drawByte(key, first * size + i)));
        }
      }
    }
  });

  it('code: base, mask and sign', () => {
    for (const key of kKeys) {
      for (const signed of [true, false]) {
        const bytes = fill({ kind: 'code', base: 0x30, mask: 0x0f, signed }, key, 'uint8', 5, 64);
        expect([...bytes]).toEqual(
          Array.from({ length: 64 }, (_, i) => {
            const r = drawByte(key, 5 + i);
            return 0x30 + (r & 0x0f) + (signed ? r & 0x80 : 0);
          }),
        );
      }
    }
  });

  it('uniform: one rounding to FP32, then one to the type', () => {
    for (const key of kKeys) {
      for (const [low, high] of [
        [-1, 1],
        [-0.0191, 0.0191],
        [0.8, 1.2],
        [-127, 128],
      ] as const) {
        const l = Math.fround(low);
        const range = Math.fround(Math.fround(high) - l);
        const first = 77;
        const values = Array.from({ length: 3000 }, (_, i) => fmaf(Math.fround((draw(key, first + i) >>> 8) * 2 ** -24), range, l));
        const uniform: Fill = { kind: 'uniform', low, high };
        expect([...new Float32Array(fill(uniform, key, 'float32', first, 12000).buffer)]).toEqual(values);
        expect([...new Uint16Array(fill(uniform, key, 'float16', first, 6000).buffer)]).toEqual(values.map(floatToHalf));
        expect([...new Uint16Array(fill(uniform, key, 'bfloat16', first, 6000).buffer)]).toEqual(values.map(floatToBfloat));
        expect([...new Int8Array(fill(uniform, key, 'int8', first, 3000).buffer)]).toEqual(
          values.map((value) => (Math.floor(value) << 24) >> 24),
        );
        expect([...new Int32Array(fill(uniform, key, 'int32', first, 12000).buffer)]).toEqual(values.map(Math.floor));
      }
    }
  });

  it('gives the same bytes whether a large tensor is made at once, by several threads, or in pieces', () => {
    for (const kind of [
      { kind: 'bits' },
      { kind: 'uniform', low: -1, high: 1 },
      { kind: 'code', base: 120, mask: 7, signed: false },
    ] as const) {
      const whole = fill(kind, 42n, 'float16', 0, 3_000_002);
      const cut = 700_001;
      const parts = Buffer.concat([fill(kind, 42n, 'float16', 0, 2 * cut), fill(kind, 42n, 'float16', cut, 3_000_002 - 2 * cut)]);
      expect(Buffer.compare(whole, parts)).toBe(0);
    }
  });

  it('refuses types that a uniform fill does not define', () => {
    const uniform: Fill = { kind: 'uniform', low: 0, high: 1 };
    expect(() => fill(uniform, 1n, 'float64', 0, 8)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    expect(() => fill(uniform, 1n, 'e4m3_float8', 0, 8)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    expect(() => fill(uniform, 1n, 'float16', 0, 7)).toThrow(expect.objectContaining({ code: 'WRONG_LENGTH' }));
  });
});

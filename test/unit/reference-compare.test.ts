// native/reference below the addon's surface, through a small C++ program: the numeric formats against their TypeScript twin,
// code by code, and the comparison that verification rests on.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bfloatToFloat, e8m0ToFloat, floatToBfloat, floatToFp8, floatToHalf, fp8ToFloat, halfToFloat, kNf4Values, roundHalfEven } from '../../lib/compiler/formats.js';
import { bytesOf, Random } from './reference-naive.js';

const kReference = fileURLToPath(new URL('../../native/reference', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ladder-reference-'));
const program = join(folder, 'check');

beforeAll(() => {
  const sources = readdirSync(kReference).filter((file) => file.endsWith('.cc')).map((file) => join(kReference, file));
  const main = fileURLToPath(new URL('../fixtures/reference_check.cc', import.meta.url));
  const result = spawnSync('g++', ['-std=c++17', '-O1', '-fsanitize=undefined', '-fno-sanitize-recover=all', '-pthread', '-o', program, main, ...sources], { encoding: 'utf8' });
  expect(result.status, result.stderr).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('formats', () => {
  it('equal their TypeScript twin for every code, and round every kind of value alike', () => {
    const random = new Random(11);
    const values = [0, -0, NaN, Infinity, -Infinity, 2 ** -149, -(2 ** -126), 3.4e38, 65519.996, 65520, 448, 464, 480, 57344, 61440, 0.5, 1.5, 2.5, 4194303.5];
    // Every half, the midpoints between neighbours and a hair to either side; the same for FP8, whose midpoints are halves or nearly so.
    for (let code = 0; code < 0x7c00; ++code) {
      const middle = (halfToFloat(code) + (code === 0x7bff ? 65536 : halfToFloat(code + 1))) / 2;
      values.push(halfToFloat(code), middle, -middle, middle * (1 + 2 ** -23), middle * (1 - 2 ** -23));
    }
    for (let i = 0; i < 20000; ++i) values.push(random.uniform(-1, 1) * 2 ** random.uniform(-30, 20), bfloatToFloat(random.integer(0x7f80)) * (1 + 2 ** -8));
    const floats = Float32Array.from(values);
    const result = spawnSync(program, ['formats'], { input: bytesOf(floats), maxBuffer: 2 ** 28 });
    expect(result.status, result.stderr.toString()).toBe(0);

    let offset = 0;
    const next = (bytes: number): ArrayBuffer => {
      const part = new Uint8Array(result.stdout.subarray(offset, offset + bytes)).buffer;
      offset += bytes;
      return part;
    };
    const compare = (what: string, actual: ArrayLike<number>, expected: (index: number) => number): void => {
      for (let i = 0; i < actual.length; ++i) {
        const wanted = expected(i);
        if (!Object.is(actual[i], wanted)) expect.fail(`${what}: ${actual[i]} instead of ${wanted} for index ${i}`);
      }
    };
    compare('half', new Float32Array(next(4 * 65536)), halfToFloat);
    compare('half array', new Float32Array(next(4 * 65536)), halfToFloat);
    compare('e4m3', new Float32Array(next(1024)), (code) => fp8ToFloat('e4m3', code));
    compare('e5m2', new Float32Array(next(1024)), (code) => fp8ToFloat('e5m2', code));
    compare('e8m0', new Float32Array(next(1024)), e8m0ToFloat);
    compare('nf4', new Float32Array(next(64)), (code) => kNf4Values[code]!);
    const n = floats.length;
    compare('to half', new Uint16Array(next(2 * n)), (i) => floatToHalf(floats[i]!));
    compare('to half, arrays', new Uint16Array(next(2 * n)), (i) => floatToHalf(floats[i]!));
    compare('to bfloat', new Uint16Array(next(2 * n)), (i) => floatToBfloat(floats[i]!));
    compare('to e4m3', new Uint8Array(next(n)), (i) => floatToFp8('e4m3', floats[i]!));
    compare('to e5m2', new Uint8Array(next(n)), (i) => floatToFp8('e5m2', floats[i]!));
    compare('rounded', Float32Array.from(new Float32Array(next(4 * n)), (value) => value + 0), (i) => Math.fround(roundHalfEven(floats[i]!)) + 0);
    expect(offset).toBe(result.stdout.length);
  });
});

describe('comparison', () => {
  it('finds what differs, samples first and last, and never hides a NaN', () => {
    const result = spawnSync(program, ['compare'], { encoding: 'utf8' });
    expect(result.stderr).toBe('');
    expect(result.status).toBe(0);
  });
});

// native/reference below the addon's surface, through a small C++ program: codes against their TypeScript twin, one by one, and the comparison that verification rests on.
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  bfloatToFloat,
  decode,
  e8m0ToFloat,
  type Element,
  encode,
  floatToBfloat,
  floatToHalf,
  halfToFloat,
  roundHalfEven,
} from '../../lib/formats/codes.js';
import { formats } from '../../lib/formats/index.js';
import { bytesOf, Random } from './reference-naive.js';

const kReference = fileURLToPath(new URL('../../native/reference', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ladder-reference-'));
const program = join(folder, 'check');

const kFlags = [
  '-std=c++17',
  '-O1',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-ffp-contract=off',
  '-fsanitize=undefined',
  '-fno-sanitize-recover=all',
  '-pthread',
];

/** g++ in the test's folder; rejects with what it says. */
function gcc(args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('g++', [...kFlags, ...args], { cwd: folder }, (error, _, stderr) =>
      error ? reject(new Error(stderr || error.message)) : resolve(),
    );
  });
}

beforeAll(async () => {
  const sources = readdirSync(kReference, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.cc'))
    .map((file) => join(kReference, file));
  sources.push(fileURLToPath(new URL('../fixtures/reference_check.cc', import.meta.url)));
  const halves = [0, 1].map((half) => sources.filter((_, i) => i % 2 === half));
  await Promise.all(halves.map((half) => gcc(['-c', ...half])));
  await gcc(['-o', program, ...sources.map((file) => basename(file).replace(/\.cc$/, '.o'))]);
}, 600_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** Every kind of value: special ones, every half, the midpoints between neighbours and a hair to either side. */
function values(): Float32Array {
  const random = new Random(11);
  const list = [
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    2 ** -149,
    -(2 ** -126),
    3.4e38,
    65519.996,
    65520,
    448,
    464,
    480,
    57344,
    61440,
    0.5,
    1.5,
    2.5,
    4194303.5,
  ];
  for (let code = 0; code < 0x7c00; ++code) {
    const middle = (halfToFloat(code) + (code === 0x7bff ? 65536 : halfToFloat(code + 1))) / 2;
    list.push(halfToFloat(code), middle, -middle, middle * (1 + 2 ** -23), middle * (1 - 2 ** -23));
  }
  for (let i = 0; i < 20000; ++i)
    list.push(random.uniform(-1, 1) * 2 ** random.uniform(-30, 20), bfloatToFloat(random.integer(0x7f80)) * (1 + 2 ** -8));
  return Float32Array.from(list);
}

/** Runs the program on values and hands out its output piece by piece; `finish` expects that to be all. */
function run(args: readonly string[], input: Float32Array): { next: (bytes: number) => ArrayBuffer; finish: () => void } {
  const result = spawnSync(program, args, { input: bytesOf(input), maxBuffer: 2 ** 28 });
  expect(result.status, result.stderr.toString()).toBe(0);
  let offset = 0;
  return {
    next: (bytes) => new Uint8Array(result.stdout.subarray(offset, (offset += bytes))).buffer,
    finish: () => expect(offset).toBe(result.stdout.length),
  };
}

function compare(what: string, actual: ArrayLike<number>, expected: (index: number) => number): void {
  for (let i = 0; i < actual.length; ++i) {
    const wanted = expected(i);
    if (!Object.is(actual[i], wanted)) expect.fail(`${what}: ${actual[i]} instead of ${wanted} for index ${i}`);
  }
}

/** An element as the program's arguments. */
function wordsOf({ bits, codes }: Element, cellBits: number): string[] {
  const words = (): (string | number | boolean)[] => {
    switch (codes.kind) {
      case 'float':
        return [
          codes.exponentBits,
          codes.mantissaBits,
          codes.bias,
          codes.maxCode,
          Number(codes.infinities),
          Number(codes.saturates),
          codes.nanCode,
        ];
      case 'integer':
        return [codes.min, codes.max];
      case 'table':
        return [Number(codes.tie === 'upper'), ...codes.values];
    }
  };
  return [codes.kind, bits, cellBits, ...words()].map(String);
}

const kToys: readonly [string, Element][] = [
  [
    'E2M1',
    {
      bits: 4,
      codes: { kind: 'float', exponentBits: 2, mantissaBits: 1, bias: 1, maxCode: 7, infinities: false, saturates: true, nanCode: 7 },
    },
  ],
  [
    'E3M2',
    {
      bits: 6,
      codes: { kind: 'float', exponentBits: 3, mantissaBits: 2, bias: 3, maxCode: 31, infinities: false, saturates: true, nanCode: 31 },
    },
  ],
  [
    'E5M0',
    {
      bits: 6,
      codes: { kind: 'float', exponentBits: 5, mantissaBits: 0, bias: 20, maxCode: 29, infinities: true, saturates: false, nanCode: 31 },
    },
  ],
  [
    'bfloat16',
    {
      bits: 16,
      codes: {
        kind: 'float',
        exponentBits: 8,
        mantissaBits: 7,
        bias: 127,
        maxCode: 0x7f7f,
        infinities: true,
        saturates: false,
        nanCode: 0x7fc0,
      },
    },
  ],
  ['int3', { bits: 3, codes: { kind: 'integer', min: -3, max: 3 } }],
  ['int12', { bits: 12, codes: { kind: 'integer', min: -2048, max: 2047 } }],
  ['2 bits, ties down', { bits: 2, codes: { kind: 'table', values: [-1.5, -0.5, 0.5, 1.5], tie: 'lower' } }],
  ['2 bits, ties up', { bits: 2, codes: { kind: 'table', values: [-1.5, -0.5, 0.5, 1.5], tie: 'upper' } }],
  ['ternary', { bits: 2, codes: { kind: 'table', values: [-1, 0, 1], tie: 'lower' } }],
];

describe('codes', () => {
  it('of binary16, bfloat16 and E8M0 equal their TypeScript twin, and round every kind of value alike', () => {
    const floats = values();
    const { next, finish } = run(['floats'], floats);
    compare('half', new Float32Array(next(4 * 65536)), halfToFloat);
    compare('half array', new Float32Array(next(4 * 65536)), halfToFloat);
    compare('e8m0', new Float32Array(next(1024)), e8m0ToFloat);
    const n = floats.length;
    compare('to half', new Uint16Array(next(2 * n)), (i) => floatToHalf(floats[i]!));
    compare('to half, arrays', new Uint16Array(next(2 * n)), (i) => floatToHalf(floats[i]!));
    compare('to bfloat', new Uint16Array(next(2 * n)), (i) => floatToBfloat(floats[i]!));
    compare(
      'rounded',
      Float32Array.from(new Float32Array(next(4 * n)), (value) => value + 0),
      (i) => Math.fround(roundHalfEven(floats[i]!)) + 0,
    );
    finish();
  });

  for (const [name, element] of [...formats.all().map(({ id, element }): [string, Element] => [id, element]), ...kToys]) {
    it(`of ${name} equal their TypeScript twin, in cells as wide as they are and in wider ones`, () => {
      const { bits, codes } = element;
      // What NaN becomes among integers is nobody's business: its scale is NaN, too.
      const floats = codes.kind === 'integer' ? values().filter((value) => !Number.isNaN(value)) : values();
      for (const cellBits of new Set([bits, Math.max(8, bits), Math.min(16, bits + 3)])) {
        const { next, finish } = run(['codes', ...wordsOf(element, cellBits)], floats);
        const cells = 2 ** cellBits;
        const isCode = (cell: number): boolean => (codes.kind === 'table' ? cell < codes.values.length : cell < 2 ** bits);
        const valueOf = (cell: number): number =>
          codes.kind === 'integer' ? (cell << (32 - cellBits)) >> (32 - cellBits) : isCode(cell) ? decode(element, cell) : NaN;
        compare('value', new Float32Array(next(4 * cells)), (cell) => Math.fround(valueOf(cell)));
        // The order of codes is that of their values.
        const orders = new Int32Array(next(4 * cells));
        const ranked = Array.from({ length: cells }, (_, cell) => cell)
          .filter((cell) => Number.isFinite(valueOf(cell)))
          .sort((a, b) => valueOf(a) - valueOf(b));
        ranked.forEach((cell, i) => {
          if (i > 0) expect(orders[cell]! - orders[ranked[i - 1]!]!).toBe(valueOf(cell) === valueOf(ranked[i - 1]!) ? 0 : 1);
        });
        compare('code', new Uint16Array(next(2 * floats.length)), (i) => {
          const code = encode(element, floats[i]!);
          return codes.kind === 'integer' ? ((code << (32 - bits)) >> (32 - bits)) & (cells - 1) : code;
        });
        finish();
      }
    });
  }
});

describe('comparison', () => {
  it('finds what differs, samples first and last, and never hides a NaN', () => {
    const result = spawnSync(program, ['compare'], { encoding: 'utf8' });
    expect(result.stderr).toBe('');
    expect(result.status).toBe(0);
  });
});

// Numeric formats: every code of every format against its definition, rounding against the neighbours, and packing of
// matrices into random layouts with the error that each format implies. The C++ twin is checked in reference-compare.test.ts.
import { describe, expect, it } from 'vitest';
import {
  bfloatToFloat,
  decode,
  e8m0ToFloat,
  type Element,
  encode,
  floatToBfloat,
  floatToHalf,
  floorLog2,
  halfToFloat,
  kHalf,
  mxScaleCode,
  roundHalfEven,
} from '../../lib/formats/codes.js';
import { kNf4Values } from '../../lib/formats/nf4.js';
import {
  activationFormats,
  bitsPerWeight,
  formatLabel,
  formats,
  isMx,
  type WeightFormat,
  weightFormat,
  weightFormats,
} from '../../lib/formats/index.js';
import { LadderError } from '../../lib/errors.js';
import { type MatrixRows, packMatrix, type PackOptions, unpackMatrix } from '../../lib/compiler/pack/pack.js';
import { packPlainly } from '../fixtures/plain-packer.js';
import { Random, randomLayout, rowMajor, storedIndex } from './reference-naive.js';

const element = (format: string): Element => formats.get(format).element;
const kGroupsAlongK = [-1, 64, 128] as const;

/** Value of a finite code by the textbook formula. */
function textbook(code: number, exponentBits: number, mantissaBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = code >> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (code >> mantissaBits) % 2 ** exponentBits;
  const fraction = (code % 2 ** mantissaBits) / 2 ** mantissaBits;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

/** Between neighbouring codes: the midpoint goes to the even one, either side of it to the nearer. */
function checkRounding(codes: number, valueOf: (code: number) => number, codeOf: (value: number) => number): void {
  for (let code = 0; code + 1 < codes; ++code) {
    const low = valueOf(code);
    const high = valueOf(code + 1);
    const middle = (low + high) / 2;
    const even = code % 2 === 0 ? code : code + 1;
    for (const sign of [1, -1]) {
      const bit = sign < 0 ? codeOf(-0) : 0;
      const got = [low, middle, middle + (high - low) / 1024, middle - (high - low) / 1024].map((value) => codeOf(sign * value));
      const wanted = [code, even, code + 1, code].map((value) => value | bit);
      if (got.join() !== wanted.join()) expect.fail(`between ${low} and ${high}: ${got.join()} instead of ${wanted.join()}`);
    }
  }
}

describe('floating-point formats', () => {
  it('binary16: all codes, there and back', () => {
    for (let code = 0; code < 65536; ++code) {
      const value = halfToFloat(code);
      if ((code & 0x7c00) !== 0x7c00) {
        if (value !== textbook(code, 5, 10)) expect.fail(`code ${code}: ${value}`);
        if (floatToHalf(value) !== code) expect.fail(`value ${value}: ${floatToHalf(value)} instead of ${code}`);
      } else if (code & 0x3ff) {
        expect(value).toBeNaN();
      } else {
        expect(value).toBe(code & 0x8000 ? -Infinity : Infinity);
      }
    }
    checkRounding(0x7c00, (code) => textbook(code, 5, 10), floatToHalf);
    expect([65519.99, 65520, 1e30, Infinity, -Infinity].map(floatToHalf)).toEqual([0x7bff, 0x7c00, 0x7c00, 0x7c00, 0xfc00]);
    expect([2 ** -25, 2 ** -25 * 1.0001, 1e-30].map(floatToHalf)).toEqual([0, 1, 0]);
    expect(halfToFloat(floatToHalf(NaN))).toBeNaN();
    expect([1, -2, 0.1].map(floatToHalf)).toEqual([0x3c00, 0xc000, 0x2e66]);
  });

  it('FP8: all codes, saturation, NaN', () => {
    for (const [kind, exponentBits, mantissaBits, finite] of [
      ['e4m3', 4, 3, 0x7f],
      ['e5m2', 5, 2, 0x7c],
    ] as const) {
      const fp8 = element(`fp8_${kind}`);
      expect(element(`mxfp8_${kind}`)).toEqual(fp8);
      for (let code = 0; code < 256; ++code) {
        const value = decode(fp8, code);
        if ((code & 0x7f) < finite) {
          expect(value).toBe(textbook(code, exponentBits, mantissaBits));
          expect(encode(fp8, value)).toBe(code);
        } else if (kind === 'e5m2' && (code & 0x7f) === 0x7c) {
          expect(value).toBe(code & 0x80 ? -Infinity : Infinity);
        } else {
          expect(value).toBeNaN();
        }
      }
      checkRounding(
        finite,
        (code) => textbook(code, exponentBits, mantissaBits),
        (value) => encode(fp8, value),
      );
      expect([1e9, Infinity, -Infinity].map((value) => encode(fp8, value))).toEqual([finite - 1, finite - 1, (finite - 1) | 0x80]);
      expect(encode(fp8, NaN)).toBe(0x7f);
    }
    expect(decode(element('fp8_e4m3'), 0x7e)).toBe(448);
    expect(decode(element('fp8_e5m2'), 0x7b)).toBe(57344);
  });

  it('binary16 is the element of FP16', () => {
    expect(element('fp16')).toEqual({ bits: 16, codes: kHalf });
    for (const value of [0, -0, 1 / 3, -65504, 1e9, 6e-8]) expect(encode(element('fp16'), value)).toBe(floatToHalf(value));
  });

  it('bfloat16 and E8M0', () => {
    for (const code of [0, 1, 0x7f, 0x80, 0x3f80, 0x7f7f, 0x7f80, 0xbf80, 0xff80]) expect(floatToBfloat(bfloatToFloat(code))).toBe(code);
    expect(floatToBfloat(1 + 2 ** -8)).toBe(0x3f80);
    expect(floatToBfloat(1 + 2 ** -8 + 2 ** -20)).toBe(0x3f81);
    expect(floatToBfloat(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(bfloatToFloat(floatToBfloat(NaN))).toBeNaN();
    expect([0, 127, 254].map(e8m0ToFloat)).toEqual([2 ** -127, 1, 2 ** 127]);
    expect(e8m0ToFloat(255)).toBeNaN();
  });

  it('NF4: ascending, symmetric ends, nearest code', () => {
    expect(kNf4Values[0]).toBe(-1);
    expect(kNf4Values[7]).toBe(0);
    expect(kNf4Values[15]).toBe(1);
    expect(kNf4Values).toEqual([...kNf4Values].sort((a, b) => a - b));
    const nf4 = element('nf4');
    expect(nf4.bits).toBe(4);
    kNf4Values.forEach((value, code) => expect([encode(nf4, value), decode(nf4, code)]).toEqual([code, value]));
    const random = new Random(4);
    for (let i = 0; i < 20000; ++i) {
      const value = random.uniform(-1.2, 1.2);
      const distance = Math.min(...kNf4Values.map((candidate) => Math.abs(value - candidate)));
      expect(Math.abs(value - kNf4Values[encode(nf4, value)]!)).toBe(distance);
    }
    // Halfway between two the lower code.
    kNf4Values.slice(1).forEach((value, code) => expect(encode(nf4, (value + kNf4Values[code]!) / 2)).toBe(code));
  });

  it.each([
    ['int4', 4, -8, 7],
    ['int8', 8, -127, 127],
  ] as const)("%s: two's complement of %i bits, %i to %i, ties to even", (format, bits, min, max) => {
    const integer = element(format);
    expect(integer.bits).toBe(bits);
    for (let value = min; value <= max; ++value) {
      expect(encode(integer, value)).toBe((value + 2 ** bits) % 2 ** bits);
      expect(decode(integer, (value + 2 ** bits) % 2 ** bits)).toBe(value);
      if (value < max) expect(decode(integer, encode(integer, value + 0.5))).toBe(value % 2 === 0 ? value : value + 1);
    }
    expect([-1e9, -Infinity, 1e9, Infinity].map((value) => decode(integer, encode(integer, value)))).toEqual([min, min, max, max]);
  });

  it('INT1: −1 and +1, zero among the positive', () => {
    const int1 = element('int1');
    expect([int1.bits, decode(int1, 0), decode(int1, 1)]).toEqual([1, -1, 1]);
    expect([-5, -1e-30, -0, 0, 1e-30, 5].map((value) => encode(int1, value))).toEqual([0, 0, 1, 1, 1, 1]);
  });

  it('rounding helpers', () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, 7.5, 1e300].map(roundHalfEven)).toEqual([0, 2, 2, 0, -2, 2, 8, 1e300]);
    expect([1, 1.999, 2, 0.5, 2 ** -149, 2 ** 127].map(floorLog2)).toEqual([0, 0, 1, -1, -149, 127]);
    expect(
      [formats.get('mxfp8_e4m3'), formats.get('mxfp8_e5m2')].map(({ weight, activation }) => [weight!.scale!.fit, activation!.scale!.fit]),
    ).toEqual(
      [8, 15].map((emax) => [
        { kind: 'mx', emax },
        { kind: 'mx', emax },
      ]),
    );
    expect(mxScaleCode(8, 448)).toBe(127);
    expect(mxScaleCode(8, 512)).toBe(128);
    expect(mxScaleCode(15, 1)).toBe(112);
    expect([mxScaleCode(15, 0), mxScaleCode(15, 2 ** -140), mxScaleCode(8, 2 ** 127)]).toEqual([127, 0, 246]);
  });

  it('labels and bits as the paper counts them', () => {
    expect(formatLabel('int4', 'fp16')).toBe('W_INT4 A_FP16');
    expect(formatLabel('nf4', 'fp16')).toBe('W_NF4 A_FP16');
    expect(formatLabel('fp8_e5m2', 'fp8_e5m2')).toBe('W_FP8 A_FP8');
    expect(formatLabel('mxfp8_e4m3', 'mxfp8_e4m3')).toBe('W_MXFP8 A_MXFP8');
    expect(formatLabel('int1', 'int8')).toBe('W_INT1 A_INT8');
    expect(formatLabel('int8', 'int4')).toBe('W_INT8 A_INT4');
    expect(bitsPerWeight(weightFormat('int4'), 128, 8192)).toBe(4.125);
    expect(bitsPerWeight(weightFormat('mxfp8_e5m2'), 32, 8192)).toBe(8.25);
    expect(bitsPerWeight(weightFormat('int1'), -1, 8192)).toBe(1 + 16 / 8192);
    expect(bitsPerWeight(weightFormat('fp16'), -1, 8192)).toBe(16);
    expect(weightFormats().map(({ id, element: { bits } }) => [id, bits])).toEqual([
      ['fp16', 16],
      ['int4', 4],
      ['nf4', 4],
      ['fp8_e5m2', 8],
      ['fp8_e4m3', 8],
      ['mxfp8_e5m2', 8],
      ['mxfp8_e4m3', 8],
      ['int1', 1],
      ['int8', 8],
    ] satisfies [WeightFormat, number][]);
  });
});

/** A token, or a block of one, by the formats' records: every step in FP32. */
function quantised(format: string, values: Float32Array): { readonly codes: readonly number[]; readonly scale: number } {
  const { fit } = formats.get(format).activation!.scale!;
  const amax = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (fit.kind === 'mean') throw new Error('no activations are scaled by their mean');
  const scale = fit.kind === 'mx' ? e8m0ToFloat(mxScaleCode(fit.emax, amax)) : Math.fround(amax / fit.top) || 1;
  return { codes: Array.from(values, (value) => encode(element(format), Math.fround(value / scale))), scale };
}

describe('activation quantisation', () => {
  const kScaled = activationFormats().filter(({ activation }) => activation.scale !== null);
  it('is of these formats', () =>
    expect(kScaled.map(({ id }) => id).sort()).toEqual(['fp8_e4m3', 'fp8_e5m2', 'int4', 'int8', 'mxfp8_e4m3', 'mxfp8_e5m2']));

  it('stays within half a step of the largest magnitude, and reaches the largest code', () => {
    const random = new Random(6);
    for (let round = 0; round < 50; ++round) {
      const spread = 10 ** random.uniform(-6, 6);
      const row = Float32Array.from({ length: 96 }, () => random.uniform(-spread, spread));
      for (const { id, activation } of kScaled) {
        const block = activation.group > 0 ? activation.group : row.length;
        const isFloat = id.includes('fp8');
        const isE4m3 = id.endsWith('e4m3');
        for (let first = 0; first < row.length; first += block) {
          const values = row.subarray(first, first + block);
          const { codes, scale } = quantised(id, values);
          values.forEach((value, i) => {
            const back = decode(element(id), codes[i]!) * scale;
            // Integers: half a step. FP8: half a last mantissa bit, or half a subnormal; MX also clips what lies above its largest code by less than a step.
            const relative = isE4m3 ? 2 ** -4 : 2 ** -3;
            const clip = activation.group > 0 ? 2 : 1;
            const bound = isFloat ? Math.max(Math.abs(value) * relative * clip, scale * (isE4m3 ? 2 ** -10 : 2 ** -17)) : scale * 0.5;
            if (!(Math.abs(back - value) <= bound * (1 + 1e-5))) expect.fail(`${id}: ${value} became ${back}`);
          });
          const most = Math.max(...codes.map((code) => Math.abs(decode(element(id), code))));
          const top = { int8: 127, int4: 7, fp8_e4m3: 448, fp8_e5m2: 57344 }[id];
          if (top !== undefined) expect(most).toBe(top);
          else expect(most).toBeGreaterThanOrEqual(isE4m3 ? 256 : 32768);
        }
      }
    }
  });
});

/** Largest |stored − weight| of a format, for a weight whose channel, group or block has the given amax; FP16 rounding of the scale included. */
function errorBound(format: WeightFormat, weight: number, amax: number): number {
  const w = Math.abs(weight);
  switch (format) {
    case 'fp16':
      return w * 2 ** -11 + 2 ** -25;
    case 'int4':
      return (amax / 7) * (0.5 + 8 * 2 ** -11);
    case 'int8':
      return (amax / 127) * (0.5 + 128 * 2 ** -11);
    case 'nf4':
      return amax * ((1 - 0.6961928) / 2 + 2 ** -11);
    case 'fp8_e4m3':
      return Math.max(w * 2 ** -4, (amax / 448) * 2 ** -10) * 1.01;
    case 'fp8_e5m2':
      return Math.max(w * 2 ** -3, (amax / 448) * 2 ** -17) * 1.01;
    // The shared exponent may leave amax up to a factor 2 (E4M3: 512/448) above the largest code's binade.
    case 'mxfp8_e4m3':
      return Math.max(w * 2 ** -3, amax * 2 ** -18);
    case 'mxfp8_e5m2':
      return Math.max(w * 2 ** -2, amax * 2 ** -31);
    case 'int1':
      return amax;
  }
}

describe('packing', () => {
  const options = (random: Random, format: WeightFormat): { n: number; k: number; pack: PackOptions } => {
    // Whatever can be packed, more than what kernels take: one scale per channel or per group of any format that has scales.
    const group = format === 'fp16' ? -1 : isMx(weightFormat(format)) ? 32 : random.pick(kGroupsAlongK);
    const k = group === -1 ? 1 + random.integer(200) : group * (1 + random.integer(3));
    const n = 1 + random.integer(30);
    const padded = random.integer(2) === 0 ? n : Math.ceil(n / 16) * 16;
    return {
      n,
      k,
      pack: { group, layout: randomLayout(random, padded, k), scaleLayout: group === -1 ? null : randomLayout(random, padded, k / group) },
    };
  };
  const kWeightFormats = weightFormats().map(({ id }) => id as WeightFormat);

  for (const format of kWeightFormats) {
    it(`${format}: within the format's error, in random layouts`, async () => {
      for (let seed = 0; seed < 40; ++seed) {
        const random = new Random(seed);
        const { n, k, pack } = options(random, format);
        const spread = 10 ** random.uniform(-3, 1);
        const matrix = Float32Array.from({ length: n * k }, () => random.uniform(-spread, spread));
        const packed = await packMatrix(matrix, format, { ...pack, choice: 'absmax' });
        const back = unpackMatrix(packed, n, format, pack);
        const group = pack.group === -1 ? k : pack.group;
        matrix.forEach((value, i) => {
          const first = Math.floor(i / group) * group;
          const amax = matrix.subarray(first, first + group).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
          if (!(Math.abs(back[i]! - value) <= errorBound(format, value, amax)))
            expect.fail(`seed ${seed}: ${value} became ${back[i]}, amax ${amax}`);
          if (format === 'int1') expect(Math.sign(back[i]!)).toBe(value < 0 ? -1 : 1);
        });
        // What is representable stays as it is.
        const again = unpackMatrix(await packMatrix(back, format, pack), n, format, pack);
        if (format === 'fp16' || format === 'int1' || isMx(weightFormat(format)))
          expect(Buffer.compare(Buffer.from(again.buffer), Buffer.from(back.buffer))).toBe(0);
      }
    });
  }

  it('puts the element (n, k) at the bits that the layout says', async () => {
    const random = new Random(9);
    for (const format of ['int4', 'int1', 'fp8_e5m2', 'fp16'] as const) {
      const [n, k] = [12, 40];
      const layout = randomLayout(random, n, k);
      const { bits } = element(format);
      for (let trial = 0; trial < 20; ++trial) {
        const [row, column] = [random.integer(n), random.integer(k)];
        const base = new Float32Array(n * k).fill(-1);
        const changed = base.slice();
        changed[row * k + column] = 1;
        const pack = async (matrix: Float32Array): Promise<Uint8Array> =>
          (await packMatrix(matrix, format, { group: -1, layout, scaleLayout: null, choice: 'absmax' })).weight;
        const [before, after] = [await pack(base), await pack(changed)];
        const first = storedIndex(layout, row, column) * bits;
        let differences = 0;
        before.forEach((byte, i) => {
          for (let bit = 0; bit < 8; ++bit) {
            if (((byte ^ after[i]!) >> bit) & 1) {
              ++differences;
              expect(8 * i + bit).toBeGreaterThanOrEqual(first);
              expect(8 * i + bit).toBeLessThan(first + bits);
            }
          }
        });
        expect(differences).toBeGreaterThan(0);
      }
    }
  });

  it('stores rows of zeros without losing the others, and refuses what its scale would lose', async () => {
    for (const format of kWeightFormats) {
      const mx = isMx(weightFormat(format));
      const pack: PackOptions = {
        group: mx ? 32 : -1,
        layout: rowMajor(3, 32),
        scaleLayout: mx ? rowMajor(3, 1) : null,
        name: 'some.weight',
      };
      const matrix = new Float32Array(96);
      matrix.fill(0.5, 64, 96);
      const back = unpackMatrix(await packMatrix(matrix, format, pack), 3, format, pack);
      expect(back.subarray(0, 64).every((value) => value === 0)).toBe(true);
      expect(back.subarray(64).every((value) => Math.abs(value - 0.5) < 0.01)).toBe(true);
      for (const small of [1e-9, 3e-7, 1e-5, 1e-3]) {
        const tiny = Float32Array.from(matrix, (value, i) => (i >= 32 && i < 64 ? small * Math.cos(i) : value));
        const packed = await packMatrix(tiny, format, pack).catch((error: LadderError) => error);
        if (packed instanceof LadderError) {
          expect(packed.message).toMatch(/^the weights round some\.weight, row 1, column \d+, .* float16 holds their scale too roughly/);
          expect(mx || format === 'fp16' || small > 1e-5, `${format} ${small}`).toBe(false);
          continue;
        }
        if (format === 'fp16' || format === 'int1') continue;
        // As good as with a scale that is exact.
        const [rough, exact] = [1, 2 ** 20].map((factor) => tiny.subarray(32, 64).map((value) => value * factor)).map((row) => row);
        const loss = (values: Float32Array, given: Float32Array): number =>
          Math.hypot(...values.map((value, i) => value - given[i]!)) / Math.hypot(...given);
        const other = Float32Array.from(tiny, (value, i) => (i >= 32 && i < 64 ? exact![i - 32]! : value));
        const far = unpackMatrix(await packMatrix(other, format, pack), 3, format, pack).subarray(32, 64);
        const near = unpackMatrix(packed, 3, format, pack).subarray(32, 64);
        expect(loss(near, rough!), `${format} ${small}`).toBeLessThan(1.2 * loss(far, exact!) + 2 ** -9);
      }
    }
  });

  it('stores what the plain packer stores, bit by bit', async () => {
    for (const format of kWeightFormats) {
      for (let seed = 0; seed < 20; ++seed) {
        const random = new Random(seed);
        const { n, k, pack } = options(random, format);
        const spread = 10 ** random.uniform(-1, 3);
        const matrix = Float32Array.from({ length: n * k }, () => random.uniform(-spread, spread) * random.pick([0, 1, 1, 0.01]));
        const [packed, plain] = [await packMatrix(matrix, format, { ...pack, choice: 'absmax' }), packPlainly(matrix, format, pack)];
        expect(Buffer.compare(packed.weight, plain.weight), `${format} ${seed}`).toBe(0);
        expect(Buffer.compare(packed.scale, plain.scale), `${format} ${seed}`).toBe(0);
      }
    }
  });

  it('packs rows that are read, of several parts and types, as the matrix that they are', async () => {
    // The second part takes several stretches.
    const [k, sizes] = [1 << 17, [3, 150]] as const;
    const random = new Random(4);
    const pool = Uint16Array.from({ length: 4099 }, () => floatToBfloat(random.uniform(-2, 2)));
    const floats = Float32Array.from(pool, bfloatToFloat);
    /** The pool over and over, as float32 and as bfloat16. */
    const whole = new Float32Array(sizes[0] * k + sizes[1] * k);
    const second = new Uint16Array(sizes[1] * k);
    for (let i = 0; i < whole.length; i += pool.length) whole.set(floats.subarray(0, whole.length - i), i);
    const shift = (sizes[0] * k) % pool.length;
    for (let i = -shift; i < second.length; i += pool.length) {
      const part = pool.subarray(Math.max(0, -i), Math.min(pool.length, second.length - i));
      second.set(part, Math.max(0, i));
    }
    const single = new Uint8Array(whole.buffer, 0, 4 * sizes[0] * k);
    const places: number[][] = [];
    const reader = (type: 'F32' | 'BF16', rows: number, bytes: Uint8Array): MatrixRows => ({
      type,
      rows,
      read: async (first, count, room) => {
        places.push([first, count]);
        room.set(bytes.subarray((first * bytes.length) / rows, ((first + count) * bytes.length) / rows));
        return room.subarray(0, (count * bytes.length) / rows);
      },
    });
    const pack: PackOptions = { group: 128, layout: rowMajor(153, k), scaleLayout: rowMajor(153, k / 128) };
    const fractions: number[] = [];
    const packed = await packMatrix(
      [reader('F32', sizes[0], single), reader('BF16', sizes[1], new Uint8Array(second.buffer))],
      'int4',
      pack,
      { onFraction: (fraction) => fractions.push(fraction) },
    );
    const wanted = await packMatrix(whole, 'int4', pack);
    expect(Buffer.compare(packed.weight, wanted.weight)).toBe(0);
    expect(Buffer.compare(packed.scale, wanted.scale)).toBe(0);
    expect(places).toEqual([
      [0, 3],
      [0, 128],
      [128, 22],
    ]);
    expect(fractions).toEqual([3 / 153, 131 / 153, 1]);
  });

  it('says where rows are that cannot be stored, and what went wrong in reading', async () => {
    const pack: PackOptions = { group: -1, layout: rowMajor(5, 64), scaleLayout: null, name: 'w' };
    const rows = (count: number, value: number): MatrixRows => ({
      type: 'F32',
      rows: count,
      read: async (_, some) => new Uint8Array(new Float32Array(some * 64).fill(value).buffer),
    });
    await expect(packMatrix([rows(2, 1), rows(2, 1), rows(1, NaN)], 'int4', pack)).rejects.toThrow('NaN at w, row 4, column 0');
    const broken: MatrixRows = { type: 'F32', rows: 4, read: () => Promise.reject(new LadderError('IO', 'gone')) };
    await expect(packMatrix([rows(1, 1), broken], 'int4', pack)).rejects.toMatchObject({ code: 'IO' });
  });

  it('chooses scales of least squares: never worse, and better for few bits', async () => {
    for (const format of kWeightFormats.filter((id) => id !== 'fp16' && id !== 'int1')) {
      const mx = isMx(weightFormat(format));
      const [n, k, group] = [16, 1024, mx ? 32 : 128] as const;
      const random = new Random(3);
      const normal = (): number => Math.sqrt(-2 * Math.log(1 - random.uniform(0, 1))) * Math.cos(2 * Math.PI * random.uniform(0, 1));
      const matrix = Float32Array.from({ length: n * k }, normal);
      const pack: PackOptions = { group, layout: rowMajor(n, k), scaleLayout: rowMajor(n, k / group) };
      const errors: number[] = [];
      for (const choice of ['absmax', 'mse'] as const) {
        const back = unpackMatrix(await packMatrix(matrix, format, { ...pack, choice }), n, format, pack);
        errors.push(Math.hypot(...back.map((value, i) => value - matrix[i]!)) / Math.hypot(...matrix));
      }
      expect(errors[1], format).toBeLessThanOrEqual(errors[0]! * 1.0001);
      if (format === 'int4') expect(errors[1]).toBeLessThan(errors[0]! * 0.95);
    }
  });

  it('refuses sizes that do not fit and weights that are not finite', async () => {
    const pack: PackOptions = { group: -1, layout: rowMajor(2, 64), scaleLayout: null };
    await expect(packMatrix(new Float32Array(100), 'int4', pack)).rejects.toThrow(/whole number of rows/);
    await expect(packMatrix(new Float32Array(192), 'int4', pack)).rejects.toThrow(/at most 2 rows/);
    await expect(packMatrix(new Float32Array(128), 'int4', { ...pack, group: 128, scaleLayout: rowMajor(2, 1) })).rejects.toThrow(
      /multiple of the group/,
    );
    await expect(packMatrix(new Float32Array(128), 'int4', { ...pack, group: 64 })).rejects.toThrow(/scaleLayout/);
    await expect(packMatrix(new Float32Array(128), 'int4', { ...pack, group: 64, scaleLayout: rowMajor(2, 2) })).rejects.toThrow(
      /scale layout/,
    );
    await expect(packMatrix(new Float32Array(128).fill(NaN, 70, 71), 'int4', pack)).rejects.toThrow(/row 1, column 6/);
    await expect(packMatrix(new Float32Array(128).fill(1e6, 3, 4), 'fp16', pack)).rejects.toThrow(
      /that fp16 can hold but received 1000000 at row 0, column 3/,
    );
    const packed = await packMatrix(new Float32Array(128), 'int4', pack);
    expect(() => unpackMatrix({ ...packed, scale: packed.scale.subarray(1) }, 2, 'int4', pack)).toThrow(/bytes of scales/);
    expect(() => unpackMatrix({ ...packed, weight: packed.weight.subarray(1) }, 2, 'int4', pack)).toThrow(/bytes of weights/);
  });
});

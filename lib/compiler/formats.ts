/**
 * The numeric formats of weights and activations: codes to values and back, bits, labels, and how a row is quantised.
 * The C++ twin is native/reference/formats.h; exhaustive tests hold the two together. Storage order is pack.ts's business.
 * Follows IEEE 754 binary16, OCP FP8 v1.0 and OCP MX v1.0; NF4: QLoRA (Dettmers et al. 2023), Appendix E.
 */
import { type ActivationFormat, isMxFormat, kMxBlock, weightBits, type WeightFormat } from '../artifact/operators.js';

/** An 8-bit floating-point element format. */
export type Fp8Kind = 'e4m3' | 'e5m2';

interface SmallFloat {
  readonly mantissaBits: number;
  readonly bias: number;
  /** Largest finite code without its sign. */
  readonly maxCode: number;
  /** What a magnitude beyond it becomes: infinity, or the largest finite code. */
  readonly overflowCode: number;
  readonly nanCode: number;
  readonly signBit: number;
}

const kHalf: SmallFloat = { mantissaBits: 10, bias: 15, maxCode: 0x7bff, overflowCode: 0x7c00, nanCode: 0x7e00, signBit: 0x8000 };
const kFp8: Readonly<Record<Fp8Kind, SmallFloat>> = {
  e4m3: { mantissaBits: 3, bias: 7, maxCode: 0x7e, overflowCode: 0x7e, nanCode: 0x7f, signBit: 0x80 },
  e5m2: { mantissaBits: 2, bias: 15, maxCode: 0x7b, overflowCode: 0x7b, nanCode: 0x7f, signBit: 0x80 },
};

/** Largest finite value of each FP8 format: 448 and 57344. */
export const kFp8Max: Readonly<Record<Fp8Kind, number>> = { e4m3: 448, e5m2: 57344 };

/** MX: exponent of the largest power of two of the element format (OCP MX v1.0, table 1). */
export const kMxEmax: Readonly<Record<Fp8Kind, number>> = { e4m3: 8, e5m2: 15 };

/** The 16 NormalFloat values, ascending: code i means kNf4Values[i]. FP32 constants, as in the paper's appendix. */
export const kNf4Values: readonly number[] = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
].map(Math.fround);

/** Adding and subtracting it leaves a double without a fraction. */
const kRounder = 1.5 * 2 ** 52;

/** Nearest integer, ties to even; 0 for −0. */
export function roundHalfEven(value: number): number {
  return Math.abs(value) < 2 ** 51 ? value + kRounder - kRounder : value;
}

const kDouble = new Float64Array(1);
const kDoubleWords = new Uint32Array(kDouble.buffer);

/** Exponent of the largest power of two not above |value|; exact. `value` is finite, not 0 and no subnormal double. */
export function floorLog2(value: number): number {
  kDouble[0] = value;
  return ((kDoubleWords[1]! >>> 20) & 0x7ff) - 1023;
}

function encode(format: SmallFloat, value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? format.signBit : 0;
  if (Number.isNaN(value)) return format.nanCode;
  const magnitude = Math.abs(value);
  if (magnitude === 0) return sign;
  if (magnitude === Infinity) return sign | format.overflowCode;
  const { mantissaBits, bias } = format;
  // Subnormals share the exponent of the smallest normal number; a carry out of the mantissa moves on to the next exponent by itself.
  const exponent = Math.max(floorLog2(magnitude), 1 - bias);
  const mantissa = roundHalfEven(magnitude * 2 ** (mantissaBits - exponent));
  const code = ((exponent + bias - 1) << mantissaBits) + mantissa;
  return sign | (code > format.maxCode ? format.overflowCode : code);
}

function decode(format: SmallFloat, code: number): number {
  const { mantissaBits, bias } = format;
  const magnitude = code & (format.signBit - 1);
  const exponent = magnitude >> mantissaBits;
  const mantissa = magnitude & ((1 << mantissaBits) - 1);
  const value = exponent === 0 ? mantissa * 2 ** (1 - bias - mantissaBits) : ((1 << mantissaBits) + mantissa) * 2 ** (exponent - bias - mantissaBits);
  return code & format.signBit ? -value : value;
}

/** Nearest binary16 code, ties to even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  return encode(kHalf, value);
}

export function halfToFloat(code: number): number {
  if ((code & 0x7c00) === 0x7c00) return code & 0x3ff ? NaN : code & 0x8000 ? -Infinity : Infinity;
  return decode(kHalf, code);
}

/** Nearest bfloat16 code of a float32, ties to even. */
export function floatToBfloat(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  if (Number.isNaN(value)) return 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bfloatToFloat(code: number): number {
  return new Float32Array(Uint32Array.of((code << 16) >>> 0).buffer)[0]!;
}

/** Nearest FP8 code, ties to even, saturating at the largest finite value; NaN gives 0x7f. */
export function floatToFp8(kind: Fp8Kind, value: number): number {
  return encode(kFp8[kind], value);
}

export function fp8ToFloat(kind: Fp8Kind, code: number): number {
  const magnitude = code & 0x7f;
  if (kind === 'e4m3' && magnitude === 0x7f) return NaN;
  if (kind === 'e5m2' && magnitude >= 0x7c) return magnitude === 0x7c ? (code & 0x80 ? -Infinity : Infinity) : NaN;
  return decode(kFp8[kind], code);
}

/** E8M0: 2^(code − 127); 255 is NaN. */
export function e8m0ToFloat(code: number): number {
  return code === 255 ? NaN : 2 ** (code - 127);
}

/** Where code i ends and code i + 1 begins; exact in a double. */
const kNf4Midpoints: readonly number[] = kNf4Values.slice(1).map((value, i) => (value + kNf4Values[i]!) / 2);

/** Nearest NF4 code of a value in −1…1; a tie takes the lower code. */
export function floatToNf4(value: number): number {
  let code = 0;
  for (let step = 8; step > 0; step >>= 1) {
    if (value > kNf4Midpoints[code + step - 1]!) code += step;
  }
  return code;
}

/** E8M0 code that MX gives a block whose largest magnitude is `amax`: 127 for a block of zeros. */
export function mxScaleCode(kind: Fp8Kind, amax: number): number {
  if (amax === 0) return 127;
  return Math.min(254, Math.max(0, floorLog2(amax) - kMxEmax[kind] + 127));
}

/** The FP8 kind of a format's elements, or null. */
export function fp8Kind(format: WeightFormat | ActivationFormat): Fp8Kind | null {
  if (format.endsWith('e4m3')) return 'e4m3';
  return format.endsWith('e5m2') ? 'e5m2' : null;
}

/** Stored bits per weight with its scales: FP16 per channel or group, E8M0 per 32 for MX. */
export function bitsPerWeight(format: WeightFormat, group: number, k: number): number {
  if (format === 'fp16') return 16;
  if (isMxFormat(format)) return 8 + 8 / kMxBlock;
  return weightBits(format) + 16 / (group === -1 ? k : group);
}

const kPaired: Readonly<Record<WeightFormat, ActivationFormat>> = {
  fp16: 'fp16', int4: 'fp16', nf4: 'fp16', int1: 'int8',
  fp8_e5m2: 'fp8_e5m2', fp8_e4m3: 'fp8_e4m3', mxfp8_e5m2: 'mxfp8_e5m2', mxfp8_e4m3: 'mxfp8_e4m3',
};

/** The activations that Figure 8 pairs with weights, and kernels multiply them by. */
export function pairedActivation(weight: WeightFormat): ActivationFormat {
  return kPaired[weight];
}

/** Whether products of such weights read those of the next product ahead: with 8 bits the gap between two is no longer seen. */
export function readsAhead(weight: WeightFormat): boolean {
  return weightBits(weight) < 8;
}

/** Weights along k that may share a scale; −1: all of an output channel. */
export function scaleGroups(weight: WeightFormat): readonly number[] {
  return isMxFormat(weight) ? [kMxBlock] : weightBits(weight) === 4 ? [-1, 64, 128] : [-1];
}

/** As the paper writes it: `W_INT4 A_FP16`; FP8's kind is not part of it. */
export function formatLabel(weight: WeightFormat, activation: ActivationFormat): string {
  const short = (format: string): string => format.replace(/_e[45]m[23]$/, '').toUpperCase();
  return `W_${short(weight)} A_${short(activation)}`;
}

/** Value of a weight code, before its scale. int4 is two's complement; int1's codes 0 and 1 mean −1 and +1. */
export function weightCodeToFloat(format: WeightFormat, code: number): number {
  switch (format) {
    case 'fp16': return halfToFloat(code);
    case 'int4': return (code & 7) - (code & 8);
    case 'nf4': return kNf4Values[code]!;
    case 'int1': return 2 * code - 1;
    default: return fp8ToFloat(fp8Kind(format)!, code);
  }
}

/** Nearest weight code of a value already divided by its scale. */
export function floatToWeightCode(format: WeightFormat, value: number): number {
  switch (format) {
    case 'fp16': return floatToHalf(value);
    case 'int4': return Math.max(-8, Math.min(7, roundHalfEven(value))) & 15;
    case 'nf4': return floatToNf4(value);
    case 'int1': return value < 0 ? 0 : 1;
    default: return floatToFp8(fp8Kind(format)!, value);
  }
}

/** A quantised row of activations. */
export interface QuantisedRow {
  /** int8 values as bytes for int8 and int4 (one per byte), FP8 codes otherwise. */
  readonly codes: Uint8Array;
  /** One float32 scale for the row, or the E8M0 codes of its blocks for MX. */
  readonly scales: Float32Array | Uint8Array;
}

/**
 * Quantises one token's activations, as the dense operator's contract says (artifact/operators.ts): all steps in FP32.
 * A row whose largest magnitude is 0, or so small that its scale is 0 in FP32, gets scale 1 and zeros.
 */
export function quantiseRow(format: Exclude<ActivationFormat, 'fp16'>, row: Float32Array): QuantisedRow {
  const codes = new Uint8Array(row.length);
  const kind = fp8Kind(format);
  const amaxOf = (from: number, to: number): number => row.subarray(from, to).reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  if (kind && isMxFormat(format)) {
    const scales = new Uint8Array(row.length / kMxBlock);
    for (let block = 0; block < scales.length; ++block) {
      const code = mxScaleCode(kind, amaxOf(block * kMxBlock, (block + 1) * kMxBlock));
      scales[block] = code;
      for (let i = block * kMxBlock; i < (block + 1) * kMxBlock; ++i) codes[i] = floatToFp8(kind, row[i]! / 2 ** (code - 127));
    }
    return { codes, scales };
  }
  const largest = kind ? kFp8Max[kind] : format === 'int8' ? 127 : 7;
  const scale = Math.fround(amaxOf(0, row.length) / largest);
  if (scale === 0) return { codes, scales: Float32Array.of(1) };
  for (let i = 0; i < row.length; ++i) {
    const quotient = Math.fround(row[i]! / scale);
    codes[i] = kind ? floatToFp8(kind, quotient) : Math.max(-largest, Math.min(largest, roundHalfEven(quotient))) & 0xff;
  }
  return { codes, scales: Float32Array.of(scale) };
}

/** Value of an activation code, before its scale. */
export function activationCodeToFloat(format: Exclude<ActivationFormat, 'fp16'>, code: number): number {
  const kind = fp8Kind(format);
  return kind ? fp8ToFloat(kind, code) : (code << 24) >> 24;
}

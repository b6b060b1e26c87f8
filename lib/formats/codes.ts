/**
 * Codes of numeric formats as data, and the one interpreter of that data on this side: values of codes and nearest codes of
 * values. The C++ twin, native/reference/codes.h, gets the same data. Follows IEEE 754 binary16, OCP FP8 v1.0 and OCP MX v1.0.
 */

import type { Codes, FloatCodes, TableCodes } from '../native.js';

/** What is stored of one number: a code of so many bits. */
export interface Element {
  readonly bits: number;
  readonly codes: Codes;
}

export const kHalf: FloatCodes = {
  kind: 'float',
  exponentBits: 5,
  mantissaBits: 10,
  bias: 15,
  maxCode: 0x7bff,
  infinities: true,
  saturates: false,
  nanCode: 0x7e00,
};

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

function encodeFloat(codes: FloatCodes, value: number): number {
  const { exponentBits, mantissaBits, bias, maxCode } = codes;
  if (Number.isNaN(value)) return codes.nanCode;
  const sign = value < 0 || Object.is(value, -0) ? 1 << (exponentBits + mantissaBits) : 0;
  const overflow = codes.saturates ? maxCode : maxCode + 1;
  const magnitude = Math.abs(value);
  if (magnitude === 0) return sign;
  if (magnitude === Infinity) return sign | overflow;
  // Subnormals share the exponent of the smallest normal number; a carry out of the mantissa moves on to the next exponent by itself.
  const exponent = Math.max(floorLog2(magnitude), 1 - bias);
  const mantissa = roundHalfEven(magnitude * 2 ** (mantissaBits - exponent));
  const code = ((exponent + bias - 1) << mantissaBits) + mantissa;
  return sign | (code > maxCode ? overflow : code);
}

function decodeFloat({ exponentBits, mantissaBits, bias, maxCode, infinities }: FloatCodes, code: number): number {
  const signBit = 1 << (exponentBits + mantissaBits);
  const magnitude = code & (signBit - 1);
  const exponent = magnitude >> mantissaBits;
  const mantissa = magnitude & ((1 << mantissaBits) - 1);
  const value =
    magnitude > maxCode
      ? infinities && magnitude === maxCode + 1
        ? Infinity
        : NaN
      : exponent === 0
        ? mantissa * 2 ** (1 - bias - mantissaBits)
        : ((1 << mantissaBits) + mantissa) * 2 ** (exponent - bias - mantissaBits);
  return code & signBit ? -value : value;
}

function encodeTable({ values, tie }: TableCodes, value: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const code = (low + high) >> 1;
    // Where code ends and the next one begins; exact in a double for FP32 values.
    const middle = (values[code]! + values[code + 1]!) / 2;
    if (tie === 'lower' ? value > middle : value >= middle) low = code + 1;
    else high = code;
  }
  return low;
}

/** Nearest code of a value (already divided by its scale), ties to even where the codes say nothing else. */
export function encode({ bits, codes }: Element, value: number): number {
  switch (codes.kind) {
    case 'float':
      return encodeFloat(codes, value);
    case 'integer':
      return Math.max(codes.min, Math.min(codes.max, roundHalfEven(value))) & (2 ** bits - 1);
    case 'table':
      return encodeTable(codes, value);
  }
}

/** Value of a code, before its scale. */
export function decode({ bits, codes }: Element, code: number): number {
  switch (codes.kind) {
    case 'float':
      return decodeFloat(codes, code);
    case 'integer':
      return (code << (32 - bits)) >> (32 - bits);
    case 'table':
      return codes.values[code]!;
  }
}

const kHalfElement: Element = { bits: 16, codes: kHalf };

/** Nearest binary16 code, ties to even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  return encode(kHalfElement, value);
}

export function halfToFloat(code: number): number {
  return decodeFloat(kHalf, code);
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

/** E8M0: 2^(code − 127); 255 is NaN. */
export function e8m0ToFloat(code: number): number {
  return code === 255 ? NaN : 2 ** (code - 127);
}

/** E8M0 code that MX gives a block whose largest magnitude is `amax`, for elements up to 2^emax; 127 for a block of zeros. */
export function mxScaleCode(emax: number, amax: number): number {
  return amax === 0 ? 127 : Math.min(254, Math.max(0, floorLog2(amax) - emax + 127));
}

/**
 * Tensor element types as TVM writes them (`float16`, `int4`, `e5m2_float8`, `float16x4`), and their DLPack form.
 * Follows TVM 0.12's `String2DLDataType`.
 */
import { LadderError } from '../errors.js';
import type { DataType, TypeCode } from '../native.js';

const kPrefixes: readonly (readonly [string, TypeCode, number])[] = [
  ['bfloat', 4, 16],
  ['uint', 1, 32],
  ['int', 0, 32],
  ['float', 2, 32],
  ['handle', 3, 64],
];

/**
 * Parses a TVM type string.
 * @throws LadderError `BAD_GRAPH` for a string that names no type
 */
export function parseDataType(name: string): DataType {
  if (name === 'bool') return { name, code: 1, bits: 1, lanes: 1 };
  const fp8 = /^(e[0-9]m[0-9])_float8(?:x([1-9][0-9]{0,3}))?$/.exec(name);
  if (fp8) return { name, code: 2, bits: 8, lanes: fp8[2] ? Number(fp8[2]) : 1 };
  const match = /^([a-z]+)([1-9][0-9]{0,2})?(?:x([1-9][0-9]{0,3}))?$/.exec(name);
  const prefix = match && kPrefixes.find(([text]) => text === match[1]);
  if (!match || !prefix) throw new LadderError('BAD_GRAPH', `expected a TVM type such as "float16" but received ${JSON.stringify(name)}`);
  const bits = match[2] ? Number(match[2]) : prefix[2];
  if (bits > 64) throw new LadderError('BAD_GRAPH', `type ${JSON.stringify(name)} has ${bits} bits; at most 64 are possible`);
  return { name, code: prefix[1], bits, lanes: match[3] ? Number(match[3]) : 1 };
}

/** Bytes of one element: ceil(bits × lanes / 8). Sub-byte elements are not packed together in TVM's runtime. */
export function elementBytes(type: DataType): number {
  return Math.ceil((type.bits * type.lanes) / 8);
}

/** The type with these DLPack numbers, named as TVM names it; null for a code or size that there is not. */
export function dataTypeOf(code: number, bits: number, lanes: number): DataType | null {
  const prefix = kPrefixes.find((entry) => entry[1] === code);
  if (!prefix || bits < 1 || bits > 64 || lanes < 1 || lanes > 9999) return null;
  const base = code === 1 && bits === 1 ? (lanes === 1 ? 'bool' : 'uint1') : code === 3 && bits === 64 ? 'handle' : `${prefix[0]}${bits}`;
  return { name: lanes === 1 ? base : `${base}x${lanes}`, code: prefix[1], bits, lanes };
}

/** Whether two types have the same bytes: code, bits and lanes; names may differ (`bool`, `uint1`). */
export function sameDataType(a: DataType, b: DataType): boolean {
  return a.code === b.code && a.bits === b.bits && a.lanes === b.lanes;
}

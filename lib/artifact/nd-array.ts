/**
 * The header of a serialised NDArray, which graph.params and the module blob's constants share.
 * Follows TVM 0.12's NDArray::Save / SaveDLTensor; the data that comes after the header is the caller's.
 *
 *   u64 magic │ u64 reserved │ i32 device type, i32 device id │ i32 ndim │ u8 code, u8 bits, u16 lanes │ i64 shape[ndim] │ i64 byte size
 */
import type { ByteReader, ByteWriter } from './byte-source.js';
import type { DataType } from '../native.js';
import { dataTypeOf, elementBytes } from './dtype.js';
import { safeProduct } from './json.js';

const kArrayMagic = 0xdd5e40f096b4a13fn;
const kCpu = 1;

export interface ArrayHeader {
  readonly dtype: DataType;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
}

/** Reads a header; the size has been checked against shape and type, and against the bytes that are left. */
export function readArrayHeader(reader: ByteReader, name: string): ArrayHeader {
  const what = name.slice(0, 80);
  if (reader.bigU64(`${what}: magic`) !== kArrayMagic) throw reader.fail(`${what}: no NDArray begins here (wrong magic number)`);
  reader.skip(8, `${what}: reserved`);
  const deviceType = reader.i32(`${what}: device type`);
  const deviceId = reader.i32(`${what}: device id`);
  if (deviceType !== kCpu || deviceId < 0)
    throw reader.fail(`${what}: expected a CPU tensor but received device type ${deviceType}, id ${deviceId}`);
  const ndim = reader.i32(`${what}: number of dimensions`);
  if (ndim < 0 || ndim * 8 > reader.remaining) throw reader.fail(`${what}: ${ndim} dimensions`);
  const code = reader.u8(`${what}: type code`);
  const bits = reader.u8(`${what}: type bits`);
  const lanes = reader.u16(`${what}: type lanes`);
  const dtype = dataTypeOf(code, bits, lanes);
  if (!dtype) throw reader.fail(`${what}: type code ${code} with ${bits} bits and ${lanes} lanes is no tensor type`);
  const shape = Array.from({ length: ndim }, () => reader.u64(`${what}: shape`));
  const sizeBytes = reader.u64(`${what}: byte size`);
  const expected = safeProduct(shape, elementBytes(dtype));
  if (sizeBytes !== expected)
    throw reader.fail(
      `${what}: ${dtype.name} [${shape.slice(0, 8).join(', ')}] takes ${expected ?? 'too many'} bytes but ${sizeBytes} are announced`,
    );
  if (sizeBytes > reader.remaining) throw reader.fail(`cut short: ${what} needs ${sizeBytes} bytes but ${reader.remaining} are left`);
  return { dtype, shape, sizeBytes };
}

export function writeArrayHeader(writer: ByteWriter, { dtype, shape, sizeBytes }: ArrayHeader): void {
  writer.u64(kArrayMagic).u64(0).i32(kCpu).i32(0).i32(shape.length);
  writer.u8(dtype.code).u8(dtype.bits).u16(dtype.lanes);
  for (const extent of shape) writer.u64(extent);
  writer.u64(sizeBytes);
}

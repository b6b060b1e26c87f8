/**
 * Tensors as JavaScript sees them: which typed array an element type is, and its bytes. Checks types and lengths;
 * the copies to and from the device are native.
 */
import { elementBytes } from '../artifact/dtype.js';
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from '../formats/codes.js';
import { LadderError } from '../errors.js';
import type { DataType } from '../native.js';
import { describeValue } from './options.js';

/** What `setInput` takes and `getOutput` gives. FP16 and bfloat16 are their bits; FP8 and types below 8 bits are one byte each. */
export type TensorArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

type TensorArrayConstructor = { new (buffer: ArrayBuffer): TensorArray; readonly name: string; readonly BYTES_PER_ELEMENT: number };

/** What is known of a tensor without its contents. */
export interface TensorInfo {
  readonly name: string;
  readonly shape: readonly number[];
  /** TVM's type string, e.g. `float16`. */
  readonly dtype: string;
  readonly elements: number;
  readonly sizeBytes: number;
  /** Class of typed array that holds it. */
  readonly arrayType: string;
}

/** The typed array class of an element type. */
export function arrayTypeOf(type: DataType): TensorArrayConstructor {
  const width = elementBytes({ ...type, lanes: 1 });
  // Lanes that are no whole bytes cannot be told apart by a typed array.
  if (type.lanes > 1 && type.bits % 8 !== 0) return Uint8Array;
  if (type.code === 2 && width === 4) return Float32Array;
  if (type.code === 2 && width === 8) return Float64Array;
  if (type.code === 0) return width === 1 ? Int8Array : width === 2 ? Int16Array : width === 4 ? Int32Array : BigInt64Array;
  return width === 1 ? Uint8Array : width === 2 ? Uint16Array : width === 4 ? Uint32Array : BigUint64Array;
}

/** Describes a tensor entry. */
export function tensorInfo(name: string, shape: readonly number[], type: DataType): TensorInfo {
  const elements = shape.reduce((product, extent) => product * extent, 1);
  return { name, shape, dtype: type.name, elements, sizeBytes: elements * elementBytes(type), arrayType: arrayTypeOf(type).name };
}

function isHalf(type: DataType): boolean {
  return type.code === 2 && type.bits === 16;
}

function isBfloat16(type: DataType): boolean {
  return type.code === 4 && type.bits === 16;
}

/**
 * The bytes of `data` as the tensor stores them; a view where the type fits, a converted copy for `Float32Array` into FP16 or bfloat16.
 * @throws LadderError `WRONG_TYPE`, `WRONG_LENGTH`
 */
export function bytesForTensor(info: TensorInfo, type: DataType, data: unknown): Uint8Array {
  const expected = arrayTypeOf(type);
  const converts = data instanceof Float32Array && (isHalf(type) || isBfloat16(type));
  if (!ArrayBuffer.isView(data) || data instanceof DataView || !(converts || data.constructor.name === expected.name)) {
    const also = isHalf(type) || isBfloat16(type) ? ' or Float32Array' : '';
    throw new LadderError(
      'WRONG_TYPE',
      `expected ${expected.name}${also} for \`${info.name}\` (${info.dtype}) but received ${describeValue(data)}`,
      { tensor: info.name, dtype: info.dtype },
    );
  }
  const length = info.sizeBytes / expected.BYTES_PER_ELEMENT;
  const received = (data as TensorArray).length;
  if (received !== length) {
    throw new LadderError(
      'WRONG_LENGTH',
      `expected ${length} elements for \`${info.name}\` (shape [${info.shape.join(', ')}]) but received ${received}`,
      { tensor: info.name, expected: length, received },
    );
  }
  if (converts) {
    const convert = isHalf(type) ? floatToHalf : floatToBfloat;
    return new Uint8Array(Uint16Array.from(data as Float32Array, convert).buffer);
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * An array that an output is to be written into.
 * @throws LadderError `WRONG_TYPE`, `WRONG_LENGTH`
 */
export function outputArray(info: TensorInfo, type: DataType, as: 'bits' | 'float32', given: unknown): TensorArray {
  const expected: TensorArrayConstructor = as === 'float32' ? Float32Array : arrayTypeOf(type);
  if (!(given instanceof expected))
    throw new LadderError('WRONG_TYPE', `expected ${expected.name} in \`out\` for \`${info.name}\` but received ${describeValue(given)}`);
  const length = as === 'float32' ? info.elements : info.sizeBytes / expected.BYTES_PER_ELEMENT;
  if (given.length !== length)
    throw new LadderError('WRONG_LENGTH', `expected ${length} elements in \`out\` for \`${info.name}\` but received ${given.length}`);
  return given;
}

/** The tensor's bytes as its typed array. */
export function arrayFromBytes(type: DataType, bytes: ArrayBuffer): TensorArray {
  return new (arrayTypeOf(type))(bytes);
}

/**
 * The tensor's values as FP32.
 * @throws LadderError `WRONG_TYPE` for types whose values a byte does not say (FP8 codes, packed lanes)
 */
export function float32FromBytes(info: TensorInfo, type: DataType, bytes: ArrayBuffer): Float32Array {
  if (isHalf(type)) return Float32Array.from(new Uint16Array(bytes), halfToFloat);
  if (isBfloat16(type)) return Float32Array.from(new Uint16Array(bytes), bfloatToFloat);
  const array = arrayFromBytes(type, bytes);
  if ((type.code === 2 && type.bits < 16) || type.code > 2 || type.bits % 8 !== 0) {
    throw new LadderError('WRONG_TYPE', `\`${info.name}\` (${info.dtype}) has no FP32 form; take it as ${arrayTypeOf(type).name}`, {
      tensor: info.name,
      dtype: info.dtype,
    });
  }
  return Float32Array.from(array as ArrayLike<number | bigint>, Number);
}

/**
 * Real weights into a checkpoint's storage: quantises a float matrix per channel, group or MX block, and puts the codes in
 * the order of a digit layout; and back. Formats: lib/formats; layouts: lib/operators/layout.ts; files are the caller's.
 * For MX follows OCP MX v1.0, section 6.3.
 */
import { setImmediate } from 'node:timers/promises';
import { LadderError } from '../../errors.js';
import { decode, e8m0ToFloat, encode, floatToHalf, halfToFloat, mxScaleCode } from '../../formats/codes.js';
import { type Group, type WeightFormatOf, weightFormat } from '../../formats/index.js';
import type { LayoutDigit } from '../../native.js';
import { axisExtent, axisOffsets } from '../../operators/layout.js';
import { throwIfAborted } from '../../run/options.js';

/** How a matrix is stored. */
export interface PackOptions {
  /** −1: one scale per row; 64 or 128 along k; 32 for MX. */
  readonly group: Group;
  /** Stored order of the weights; n and k may be padded. */
  readonly layout: readonly LayoutDigit[];
  /** Columns of the matrix; default: the layout's. */
  readonly k?: number;
  /** Stored order of group or block scales over (n, k / group); null for one scale per row. */
  readonly scaleLayout: readonly LayoutDigit[] | null;
  /** Scales of a matrix that was quantised before, [n, k / group], numbers that float16 holds; default: they follow from the weights. */
  readonly scales?: Float32Array | undefined;
}

/** Bytes of the two tensors of a packed matrix. */
export interface PackedWeights {
  /** Codes in the order of the layout; sub-byte ones fill bytes from the low bits up. */
  readonly weight: Uint8Array;
  /** float16, or E8M0 codes for MX; empty for fp16 weights. */
  readonly scale: Uint8Array;
}

/** Everything that packing and unpacking derive from the options. */
interface Storage {
  readonly n: number;
  readonly k: number;
  readonly bits: number;
  /** Weights per scale; k for one per row. */
  readonly group: number;
  readonly weightBytes: number;
  readonly scaleBytes: number;
  readonly rowOffsets: Float64Array;
  readonly columnOffsets: Float64Array;
  /** Index of the scale of (row, group). */
  scaleIndex(row: number, group: number): number;
}

function storageOf(
  n: number,
  { id, element, weight }: WeightFormatOf,
  { group, layout, scaleLayout, k = axisExtent(layout, 'k') }: PackOptions,
): Storage {
  const places = { n: axisExtent(layout, 'n'), k: axisExtent(layout, 'k') };
  const effective = group === -1 ? k : group;
  if (places.k < k) throw new LadderError('BAD_ARGUMENT', `expected at most ${places.k} columns, the layout's, but received ${k}`, { k });
  if (places.n < n) throw new LadderError('BAD_ARGUMENT', `expected at most ${places.n} rows, the layout's, but received ${n}`, { n });
  if (k % effective !== 0)
    throw new LadderError('BAD_ARGUMENT', `expected a multiple of the group of ${effective} for k but received ${k}`, { k });
  if (weight.scale === null && group !== -1)
    throw new LadderError('BAD_ARGUMENT', `${id} weights have no scales: expected −1 for \`group\``, { group });
  if (group !== -1 && scaleLayout === null)
    throw new LadderError('BAD_ARGUMENT', 'expected a `scaleLayout` for scales of groups along k but received null', { group });
  const { bits } = element;
  const shared = {
    n,
    k,
    bits,
    group: effective,
    weightBytes: Math.ceil((places.n * places.k * bits) / 8),
    rowOffsets: axisOffsets(layout, 'n'),
    columnOffsets: axisOffsets(layout, 'k'),
  };
  const bytesEach = weight.scale === null ? 0 : weight.scale.type === 'e8m0' ? 1 : 2;
  if (group === -1 || scaleLayout === null) return { ...shared, scaleBytes: bytesEach * n, scaleIndex: (row) => row };
  const scales = { n: axisExtent(scaleLayout, 'n'), k: axisExtent(scaleLayout, 'k') };
  if (scales.n < n || scales.k !== places.k / effective) {
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected a scale layout of at least ${n} × ${places.k / effective} but received ${scales.n} × ${scales.k}`,
      { n, groups: places.k / effective },
    );
  }
  const rows = axisOffsets(scaleLayout, 'n');
  const groups = axisOffsets(scaleLayout, 'k');
  return { ...shared, scaleBytes: scales.n * scales.k * bytesEach, scaleIndex: (row, index) => rows[row]! + groups[index]! };
}

/** Code of the scale of some weights: FP16, or E8M0 for MX. */
function scaleCodeOf({ weight }: WeightFormatOf, weights: Float32Array): number {
  const { fit } = weight.scale!;
  let amax = 0;
  let sum = 0;
  for (const value of weights) {
    const magnitude = Math.abs(value);
    if (magnitude > amax) amax = magnitude;
    sum += magnitude;
  }
  switch (fit.kind) {
    case 'mx':
      return mxScaleCode(fit.emax, amax);
    case 'mean':
      return floatToHalf(sum / weights.length);
    // A scale that rounds to 0 would lose its weights: the smallest subnormal keeps what it can.
    case 'absmax':
      return amax === 0 ? floatToHalf(1) : Math.max(1, floatToHalf(amax / fit.top));
  }
}

/** What codes are divided by, and multiplied by again. */
function scaleValue({ weight }: WeightFormatOf, code: number): number {
  return weight.scale?.type === 'e8m0' ? e8m0ToFloat(code) : halfToFloat(code);
}

/**
 * Quantises and stores a matrix.
 * @param matrix weights [n, k], row-major; k is the layout's, n follows from the length
 * @throws LadderError `BAD_ARGUMENT` for sizes that do not fit, and for weights that are not finite or too large for their format
 * @example packMatrix(matrix, 'int4', { group: -1, layout, scaleLayout: null })
 */
export function packMatrix(matrix: Float32Array, format: string, options: PackOptions): PackedWeights {
  const rows = packing(matrix, weightFormat(format), options);
  for (;;) {
    const { done, value } = rows.next();
    if (done) return value;
  }
}

/** Time that a matrix may be packed at a stretch before others have their turn. */
const kSliceMs = 20;

/** As packMatrix, a slice at a time, so that the event loop is not blocked. @throws LadderError also `ABORTED` */
export async function packMatrixInSlices(
  matrix: Float32Array,
  format: string,
  options: PackOptions,
  signal?: AbortSignal,
): Promise<PackedWeights> {
  const rows = packing(matrix, weightFormat(format), options);
  for (let started = performance.now(); ; ) {
    const { done, value } = rows.next();
    if (done) return value;
    if (performance.now() - started < kSliceMs) continue;
    await setImmediate();
    throwIfAborted(signal);
    started = performance.now();
  }
}

/** Packs a row per step. */
function* packing(matrix: Float32Array, format: WeightFormatOf, options: PackOptions): Generator<undefined, PackedWeights, undefined> {
  const { k = axisExtent(options.layout, 'k') } = options;
  const { id, element, weight: record } = format;
  const n = matrix.length / k;
  if (n < 1 || !Number.isInteger(n))
    throw new LadderError('BAD_ARGUMENT', `expected a whole number of rows of ${k} weights but received ${matrix.length} weights`, { k });
  const storage = storageOf(n, format, options);
  const { bits, group, rowOffsets, columnOffsets } = storage;
  const weight = new Uint8Array(storage.weightBytes);
  const scale = new Uint8Array(storage.scaleBytes);
  const scaleView = new DataView(scale.buffer);
  const mask = (1 << bits) - 1;
  for (let row = 0; row < n; ++row) {
    for (let first = 0; first < k; first += group) {
      const weights = matrix.subarray(row * k + first, row * k + first + group);
      let divisor = 1;
      if (record.scale) {
        const given = options.scales?.[(row * k + first) / group];
        const code = given === undefined ? scaleCodeOf(format, weights) : floatToHalf(given);
        const index = storage.scaleIndex(row, first / group);
        if (record.scale.type === 'e8m0') scale[index] = code;
        else scaleView.setUint16(2 * index, code, true);
        divisor = scaleValue(format, code);
      }
      for (let i = 0; i < group; ++i) {
        const value = weights[i]!;
        if (!Number.isFinite(value) || !Number.isFinite(divisor)) {
          throw new LadderError(
            'BAD_ARGUMENT',
            `expected finite weights that ${id} can hold but received ${value} at row ${row}, column ${first + i}`,
            { row, column: first + i },
          );
        }
        const code = encode(element, divisor === 0 ? 0 : value / divisor);
        if (!Number.isFinite(decode(element, code))) {
          throw new LadderError(
            'BAD_ARGUMENT',
            `expected weights that ${id} can hold but received ${value} at row ${row}, column ${first + i}`,
            { row, column: first + i },
          );
        }
        const bit = (rowOffsets[row]! + columnOffsets[first + i]!) * bits;
        const byte = Math.floor(bit / 8);
        if (bits === 16) {
          weight[byte] = code & 0xff;
          weight[byte + 1] = code >> 8;
        } else {
          weight[byte]! |= (code & mask) << (bit % 8);
        }
      }
    }
    yield;
  }
  return { weight, scale };
}

/**
 * The values that stored weights stand for, scales applied: the inverse of `packMatrix` but for rounding.
 * @param n rows; k is the layout's
 * @returns [n, k], row-major
 * @throws LadderError `BAD_ARGUMENT` unless the sizes fit
 */
export function unpackMatrix(packed: PackedWeights, n: number, format: string, options: PackOptions): Float32Array {
  const record = weightFormat(format);
  const storage = storageOf(n, record, options);
  const { k, bits, group, rowOffsets, columnOffsets } = storage;
  if (packed.weight.length !== storage.weightBytes)
    throw new LadderError('BAD_ARGUMENT', `expected ${storage.weightBytes} bytes of weights but received ${packed.weight.length}`);
  if (packed.scale.length !== storage.scaleBytes)
    throw new LadderError('BAD_ARGUMENT', `expected ${storage.scaleBytes} bytes of scales but received ${packed.scale.length}`);
  const scales = new DataView(packed.scale.buffer, packed.scale.byteOffset, packed.scale.byteLength);
  const mask = (1 << bits) - 1;
  const matrix = new Float32Array(n * k);
  for (let row = 0; row < n; ++row) {
    for (let first = 0; first < k; first += group) {
      const index = storage.scaleIndex(row, first / group);
      const { scale: kind } = record.weight;
      const scale =
        kind === null ? 1 : scaleValue(record, kind.type === 'e8m0' ? scales.getUint8(index) : scales.getUint16(2 * index, true));
      for (let column = first; column < first + group; ++column) {
        const bit = (rowOffsets[row]! + columnOffsets[column]!) * bits;
        const byte = Math.floor(bit / 8);
        const code = bits === 16 ? packed.weight[byte]! | (packed.weight[byte + 1]! << 8) : (packed.weight[byte]! >> (bit % 8)) & mask;
        matrix[row * k + column] = decode(record.element, code) * scale;
      }
    }
  }
  return matrix;
}

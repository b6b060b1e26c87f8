/**
 * Real weights into a checkpoint's storage: quantises a float matrix per channel, group or MX block, and puts the codes in
 * the order of a digit layout; and back. Formats: formats.ts; layouts: artifact/layout.ts; files are the caller's.
 * Follows `denseSchema` in artifact/operators.ts and, for MX, OCP MX v1.0, section 6.3.
 */
import { setImmediate } from 'node:timers/promises';
import { layoutExtents, layoutOffsets } from '../artifact/layout.js';
import { type Digit, isMxFormat, kMxBlock, weightBits, type WeightFormat } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import { throwIfAborted } from '../run/options.js';
import { e8m0ToFloat, floatToHalf, floatToWeightCode, fp8Kind, halfToFloat, mxScaleCode, weightCodeToFloat } from './formats.js';

/** How a matrix is stored. */
export interface PackOptions {
  /** −1: one scale per row; 64 or 128 along k; 32 for MX. */
  readonly group: -1 | 32 | 64 | 128;
  /** Stored order of the weights; n may be padded. */
  readonly layout: readonly Digit[];
  /** Stored order of group or block scales over (n, k / group); null for one scale per row. */
  readonly scaleLayout: readonly Digit[] | null;
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

function storageOf(n: number, format: WeightFormat, { group, layout, scaleLayout }: PackOptions): Storage {
  const extents = layoutExtents(layout);
  const { k } = extents;
  const effective = isMxFormat(format) ? kMxBlock : group === -1 ? k : group;
  if (extents.n < n) throw new LadderError('BAD_ARGUMENT', `expected at most ${extents.n} rows, the layout's, but received ${n}`, { n });
  if (k % effective !== 0) throw new LadderError('BAD_ARGUMENT', `expected a multiple of the group of ${effective} for k but received ${k}`, { k });
  if (format === 'fp16' && group !== -1) throw new LadderError('BAD_ARGUMENT', 'fp16 weights have no scales: expected −1 for `group`', { group });
  const grouped = group !== -1 || isMxFormat(format);
  if (grouped && scaleLayout === null) throw new LadderError('BAD_ARGUMENT', 'expected a `scaleLayout` for scales of groups along k but received null', { group });
  const bits = weightBits(format);
  const shared = {
    n, k, bits, group: effective, weightBytes: Math.ceil((extents.n * k * bits) / 8),
    rowOffsets: layoutOffsets(layout, 'n'), columnOffsets: layoutOffsets(layout, 'k'),
  };
  if (!grouped || scaleLayout === null) return { ...shared, scaleBytes: format === 'fp16' ? 0 : 2 * n, scaleIndex: (row) => row };
  const scales = layoutExtents(scaleLayout);
  if (scales.n < n || scales.k !== k / effective) {
    throw new LadderError('BAD_ARGUMENT', `expected a scale layout of at least ${n} × ${k / effective} but received ${scales.n} × ${scales.k}`, { n, groups: k / effective });
  }
  const rows = layoutOffsets(scaleLayout, 'n');
  const groups = layoutOffsets(scaleLayout, 'k');
  return { ...shared, scaleBytes: scales.n * scales.k * (isMxFormat(format) ? 1 : 2), scaleIndex: (row, index) => rows[row]! + groups[index]! };
}

/** What absmax is mapped to. FP8's scales use 448 for E5M2 too: FP16 could not hold amax / 57344 of ordinary weights with full precision. */
function largestCode(format: WeightFormat): number {
  return format === 'int4' ? 7 : format === 'nf4' ? 1 : 448;
}

/** Code of the scale of some weights: FP16, or E8M0 for MX. int1 takes the mean magnitude, which has the least squared error. */
function scaleCodeOf(format: WeightFormat, weights: Float32Array): number {
  let amax = 0;
  let sum = 0;
  for (const weight of weights) {
    const magnitude = Math.abs(weight);
    if (magnitude > amax) amax = magnitude;
    sum += magnitude;
  }
  if (isMxFormat(format)) return mxScaleCode(fp8Kind(format)!, amax);
  if (format === 'int1') return floatToHalf(sum / weights.length);
  // A scale that rounds to 0 would lose its weights: the smallest subnormal keeps what it can.
  return amax === 0 ? floatToHalf(1) : Math.max(1, floatToHalf(amax / largestCode(format)));
}

/**
 * Quantises and stores a matrix.
 * @param matrix weights [n, k], row-major; k is the layout's, n follows from the length
 * @throws LadderError `BAD_ARGUMENT` for sizes that do not fit, and for weights that are not finite or too large for their format
 * @example packMatrix(matrix, 'int4', { group: -1, layout, scaleLayout: null })
 */
export function packMatrix(matrix: Float32Array, format: WeightFormat, options: PackOptions): PackedWeights {
  const rows = packing(matrix, format, options);
  for (;;) {
    const { done, value } = rows.next();
    if (done) return value;
  }
}

/** Time that a matrix may be packed at a stretch before others have their turn. */
const kSliceMs = 20;

/** As packMatrix, a slice at a time, so that the event loop is not blocked. @throws LadderError also `ABORTED` */
export async function packMatrixInSlices(matrix: Float32Array, format: WeightFormat, options: PackOptions, signal?: AbortSignal): Promise<PackedWeights> {
  const rows = packing(matrix, format, options);
  for (let started = performance.now(); ;) {
    const { done, value } = rows.next();
    if (done) return value;
    if (performance.now() - started < kSliceMs) continue;
    await setImmediate();
    throwIfAborted(signal);
    started = performance.now();
  }
}

/** Packs a row per step. */
function* packing(matrix: Float32Array, format: WeightFormat, options: PackOptions): Generator<undefined, PackedWeights, undefined> {
  const { k } = layoutExtents(options.layout);
  const n = matrix.length / k;
  if (n < 1 || !Number.isInteger(n)) throw new LadderError('BAD_ARGUMENT', `expected a whole number of rows of ${k} weights but received ${matrix.length} weights`, { k });
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
      if (format !== 'fp16') {
        const code = scaleCodeOf(format, weights);
        const index = storage.scaleIndex(row, first / group);
        if (isMxFormat(format)) scale[index] = code;
        else scaleView.setUint16(2 * index, code, true);
        divisor = isMxFormat(format) ? e8m0ToFloat(code) : halfToFloat(code);
      }
      for (let i = 0; i < group; ++i) {
        const value = weights[i]!;
        if (!Number.isFinite(value) || !Number.isFinite(divisor)) {
          throw new LadderError('BAD_ARGUMENT', `expected finite weights that ${format} can hold but received ${value} at row ${row}, column ${first + i}`, { row, column: first + i });
        }
        const code = floatToWeightCode(format, divisor === 0 ? 0 : value / divisor);
        if (format === 'fp16' && (code & 0x7c00) === 0x7c00) {
          throw new LadderError('BAD_ARGUMENT', `expected weights of at most 65504 for fp16 but received ${value} at row ${row}, column ${first + i}`, { row, column: first + i });
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
export function unpackMatrix(packed: PackedWeights, n: number, format: WeightFormat, options: PackOptions): Float32Array {
  const storage = storageOf(n, format, options);
  const { k, bits, group, rowOffsets, columnOffsets } = storage;
  if (packed.weight.length !== storage.weightBytes) throw new LadderError('BAD_ARGUMENT', `expected ${storage.weightBytes} bytes of weights but received ${packed.weight.length}`);
  if (packed.scale.length !== storage.scaleBytes) throw new LadderError('BAD_ARGUMENT', `expected ${storage.scaleBytes} bytes of scales but received ${packed.scale.length}`);
  const scales = new DataView(packed.scale.buffer, packed.scale.byteOffset, packed.scale.byteLength);
  const mask = (1 << bits) - 1;
  const matrix = new Float32Array(n * k);
  for (let row = 0; row < n; ++row) {
    for (let first = 0; first < k; first += group) {
      const index = storage.scaleIndex(row, first / group);
      const scale = format === 'fp16' ? 1 : isMxFormat(format) ? e8m0ToFloat(scales.getUint8(index)) : halfToFloat(scales.getUint16(2 * index, true));
      for (let column = first; column < first + group; ++column) {
        const bit = (rowOffsets[row]! + columnOffsets[column]!) * bits;
        const byte = Math.floor(bit / 8);
        const code = bits === 16 ? packed.weight[byte]! | (packed.weight[byte + 1]! << 8) : (packed.weight[byte]! >> (bit % 8)) & mask;
        matrix[row * k + column] = weightCodeToFloat(format, code) * scale;
      }
    }
  }
  return matrix;
}

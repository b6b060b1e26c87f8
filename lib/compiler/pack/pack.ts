/**
 * Real weights into a checkpoint's storage: quantises a float matrix per channel, group or MX block, and puts the codes in
 * the order of a digit layout; and back. Formats: lib/formats; layouts: lib/operators/layout.ts; files are the caller's.
 * The arithmetic on whole matrices is native/pack's, on all cores.
 */
import { LadderError } from '../../errors.js';
import { decode, e8m0ToFloat, halfToFloat } from '../../formats/codes.js';
import { type Group, kPlainFormat, type ScaleChoice, type WeightFormatOf, weightFormat } from '../../formats/index.js';
import { type LayoutDigit, native, type NativePackFault, type NativePackJob } from '../../native.js';
import { axisExtent, axisOffsets } from '../../operators/layout.js';
import { throwIfAborted } from '../../run/options.js';
import type { PackedWeights } from '../types.js';

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
  /** How scales are chosen; default: what is better for the format. */
  readonly choice?: ScaleChoice | undefined;
  /** What errors call the matrix. */
  readonly name?: string | undefined;
}

/** Rows of a matrix that are read when they are wanted. */
export interface MatrixRows {
  /** Of the elements, little-endian. */
  readonly type: NativePackJob['type'];
  readonly rows: number;
  /** `count` rows from `first` on, read into `room`, which is large enough, unless they are in memory. */
  read(first: number, count: number, room: Uint8Array): Promise<Uint8Array>;
}

/** What a caller of a long packing may ask for. */
export interface PackTask {
  readonly signal?: AbortSignal | undefined;
  /** Told the share of the rows that is packed. */
  readonly onFraction?: ((fraction: number) => void) | undefined;
  /** [n, 2], written: Σ (w − stored)² and Σ w² of each row. */
  readonly squares?: Float64Array | undefined;
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
  /** The scale of (row, group) is at the sum of both. */
  readonly scaleRows: Float64Array;
  readonly scaleGroups: Float64Array;
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
  if (group === -1 || scaleLayout === null)
    return {
      ...shared,
      scaleBytes: bytesEach * n,
      scaleRows: Float64Array.from({ length: n }, (_, row) => row),
      scaleGroups: new Float64Array(1),
    };
  const scales = { n: axisExtent(scaleLayout, 'n'), k: axisExtent(scaleLayout, 'k') };
  if (scales.n < n || scales.k !== places.k / effective) {
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected a scale layout of at least ${n} × ${places.k / effective} but received ${scales.n} × ${scales.k}`,
      { n, groups: places.k / effective },
    );
  }
  return {
    ...shared,
    scaleBytes: scales.n * scales.k * bytesEach,
    scaleRows: axisOffsets(scaleLayout, 'n'),
    scaleGroups: axisOffsets(scaleLayout, 'k'),
  };
}

/** What codes are divided by, and multiplied by again. */
function scaleValue({ weight }: WeightFormatOf, code: number): number {
  return weight.scale?.type === 'e8m0' ? e8m0ToFloat(code) : halfToFloat(code);
}

/** Bytes that are read and packed at a stretch, between which an abort is heeded. */
const kStretchBytes = 32 << 20;

/**
 * Quantises and stores a matrix. Of rows that are read, two stretches are in memory: one is read while the one before is packed.
 * @param matrix weights [n, k], row-major, or stretches of rows one below the other; k is the layout's, n follows from the length
 * @throws LadderError `BAD_ARGUMENT` for sizes that do not fit, for weights that are not finite or too large for their format, and for
 *   groups of weights so small that float16 holds their scale too roughly; `ABORTED`; what reading throws
 * @example await packMatrix(matrix, 'int4', { group: -1, layout, scaleLayout: null })
 */
export async function packMatrix(
  matrix: Float32Array | readonly MatrixRows[],
  id: string,
  options: PackOptions,
  { signal, onFraction, squares }: PackTask = {},
): Promise<PackedWeights> {
  const format = weightFormat(id);
  const { k = axisExtent(options.layout, 'k'), scales } = options;
  const parts = matrix instanceof Float32Array ? [rowsOf(matrix, k)] : matrix;
  const n = parts.reduce((sum, { rows }) => sum + rows, 0);
  const { group, rowOffsets, columnOffsets, scaleRows, scaleGroups, weightBytes, scaleBytes } = storageOf(n, format, options);
  const packed = { weight: new Uint8Array(weightBytes), scale: new Uint8Array(scaleBytes) };
  const stretches = [...stretchesOf(parts, k)];
  // As large as the matrix needs: clearing more would take longer than packing a small one.
  const roomBytes = matrix instanceof Float32Array ? 0 : Math.max(...stretches.map(({ bytes }) => bytes));
  const rooms = [roomBytes, stretches.length > 1 ? roomBytes : 0].map((bytes) => new Uint8Array(bytes));
  let numbers = await stretches[0]!.read(rooms[0]!);
  for (const [i, { type, first, rows }] of stretches.entries()) {
    throwIfAborted(signal);
    const end = first + rows;
    const [fault, following] = await both(
      native().packRows({
        numbers,
        type,
        rows,
        columns: k,
        group,
        element: format.element,
        fit: format.weight.scale?.fit ?? null,
        leastSquares: (options.choice ?? format.weight.scale?.choice) === 'mse',
        scales: scales ? bytesOf(scales.subarray((first * k) / group, (end * k) / group)) : null,
        rowPlaces: bytesOf(rowOffsets.subarray(first, end)),
        columnPlaces: bytesOf(columnOffsets.subarray(0, k)),
        scaleRowPlaces: bytesOf(scaleRows.subarray(first, end)),
        scaleGroupPlaces: bytesOf(scaleGroups.subarray(0, k / group)),
        squares: squares ? bytesOf(squares.subarray(2 * first, 2 * end)) : null,
        ...packed,
      }),
      stretches[i + 1]?.read(rooms[(i + 1) % 2]!),
    );
    if (fault) throw unstorable(format, { ...fault, row: fault.row + first }, options.name);
    if (following) numbers = following;
    onFraction?.(end / n);
  }
  return packed;
}

/** Waits for both also where one fails: neither works on what its owner may have closed by then. */
async function both<A, B>(first: Promise<A>, second: Promise<B> | undefined): Promise<[A, B | undefined]> {
  await Promise.allSettled([first, second]);
  return Promise.all([first, second]);
}

function rowsOf(matrix: Float32Array, k: number): MatrixRows {
  const rows = matrix.length / k;
  if (rows < 1 || !Number.isInteger(rows))
    throw new LadderError('BAD_ARGUMENT', `expected a whole number of rows of ${k} weights but received ${matrix.length} weights`, { k });
  return { type: 'F32', rows, read: async (first, count) => bytesOf(matrix.subarray(first * k, (first + count) * k)) };
}

/** Rows that are read and packed at once. */
interface Stretch {
  readonly type: MatrixRows['type'];
  readonly first: number;
  readonly rows: number;
  readonly bytes: number;
  readonly read: (room: Uint8Array) => Promise<Uint8Array>;
}

function* stretchesOf(parts: readonly MatrixRows[], k: number): Generator<Stretch> {
  let before = 0;
  for (const part of parts) {
    const rowBytes = k * (part.type === 'F32' ? 4 : 2);
    const each = Math.max(1, Math.floor(kStretchBytes / rowBytes));
    for (let first = 0; first < part.rows; first += each) {
      const rows = Math.min(each, part.rows - first);
      yield { type: part.type, first: before + first, rows, bytes: rows * rowBytes, read: (room) => part.read(first, rows, room) };
    }
    before += part.rows;
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Float64Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Why a weight cannot be stored, and where it stands. */
function unstorable({ id }: WeightFormatOf, { kind, row, column, value }: NativePackFault, name: string | undefined): LadderError {
  const place = `${name === undefined ? '' : `${name}, `}row ${row}, column ${column}`;
  const message = {
    number: `expected finite weights that ${id} can hold but received ${value} at ${place}`,
    large: `expected weights whose scale float16 can hold but received ${value} at ${place}, too much for ${id}`,
    tiny: `the weights round ${place}, ${value} at most, are so small that float16 holds their scale too roughly for ${id}; store the tensor as ${kPlainFormat}, or move a power of two into what multiplies it`,
  }[kind];
  return new LadderError('BAD_ARGUMENT', message, { row, column, ...(name !== undefined && { name }) });
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
      const index = storage.scaleRows[row]! + storage.scaleGroups[first / group]!;
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

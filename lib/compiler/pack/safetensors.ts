/**
 * Reads safetensors files (Hugging Face's format): u64 header length, a JSON header of name → {dtype, shape, data_offsets},
 * then the data. Only the header is read at once; tensors are read one by one into FP32, or a stretch of rows at a time as they are.
 */
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { FileSource } from '../../artifact/byte-source.js';
import { LadderError } from '../../errors.js';
import { bfloatToFloat, halfToFloat } from '../../formats/codes.js';
import type { MatrixRows } from './pack.js';

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const headerSchema = z.record(
  z.string(),
  z.union([
    z.object({ dtype: z.enum(['F16', 'BF16', 'F32']), shape: z.array(size).max(8), data_offsets: z.tuple([size, size]) }),
    z.object({ dtype: z.string(), shape: z.array(size), data_offsets: z.tuple([size, size]) }),
  ]),
);
const kElementBytes = { F16: 2, BF16: 2, F32: 4 } as const;
type FloatType = keyof typeof kElementBytes;
const isFloat = (dtype: string): dtype is FloatType => Object.hasOwn(kElementBytes, dtype);
const kMaxHeaderBytes = 100_000_000;
const kChunkElements = 1 << 20;

interface Entry {
  readonly dtype: string;
  readonly offset: number;
  readonly bytes: number;
  readonly elements: number;
}

/** A matrix as it is stored in codes already: the values that they stand for, and the scales [n, k/group] that they stand by. */
export interface ScaledMatrix {
  readonly values: Float32Array;
  readonly scales: Float32Array;
}

/** Public weights by name: one file, several, or what stands for others in them. Close it. */
export interface WeightFile {
  /** Its path. */
  readonly name: string;
  /** Shape by tensor name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** A tensor, row-major; in codes where its format is said by the file. @throws LadderError as {@link Safetensors.read} */
  read(name: string): Promise<Float32Array | ScaledMatrix>;
  /** The rows of a matrix of floats, to be read when they are wanted; null: it is in codes. @throws LadderError as {@link Safetensors.rows} */
  rows(name: string): MatrixRows | null;
  close(): void;
}

/** Elements of other types than floats, for what is quantised. */
export interface RawTensor {
  readonly dtype: string;
  readonly bytes: Uint8Array;
}

/** Weights whose bytes can be read as they are. */
export interface StoredFile extends WeightFile {
  /** @throws LadderError `MISSING_PARAMETER` */
  raw(name: string): RawTensor;
}

const kLfsPointer = 'version https://git-lfs';

/** An open file; close it. */
export class Safetensors implements StoredFile {
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  private readonly source: FileSource;
  private readonly entries = new Map<string, Entry>();

  /** @throws LadderError `IO`, or `BAD_PARAMS` naming the tensor whose header does not fit the file */
  constructor(path: string) {
    this.source = new FileSource(path);
    try {
      this.shapes = this.readHeader();
    } catch (error) {
      this.source.close();
      throw error;
    }
  }

  /**
   * A tensor as FP32, row-major; others have their turn between pieces.
   * @throws LadderError `MISSING_PARAMETER`, or `UNSUPPORTED` for an element type other than F16, BF16 and F32
   */
  async read(name: string): Promise<Float32Array> {
    const { dtype, offset, elements, bytesEach } = this.floats(name);
    const values = new Float32Array(elements);
    for (let at = 0; at < elements; at += kChunkElements) {
      if (at > 0) await setImmediate();
      const count = Math.min(kChunkElements, elements - at);
      const bytes = this.source.read(offset + at * bytesEach, count * bytesEach);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < count; ++i) {
        values[at + i] =
          dtype === 'F32'
            ? view.getFloat32(4 * i, true)
            : dtype === 'F16'
              ? halfToFloat(view.getUint16(2 * i, true))
              : bfloatToFloat(view.getUint16(2 * i, true));
      }
    }
    return values;
  }

  /** A matrix's rows, along its first axis. @throws LadderError as {@link read}; of the rows' reading `IO` */
  rows(name: string): MatrixRows {
    const { dtype, offset, elements, bytesEach } = this.floats(name);
    const rows = this.shapes.get(name)![0] ?? 1;
    const rowBytes = (elements / rows) * bytesEach;
    return {
      type: dtype,
      rows,
      read: async (first, count, room) => {
        const bytes = room.subarray(0, count * rowBytes);
        await this.source.readLong(offset + first * rowBytes, bytes);
        return bytes;
      },
    };
  }

  get name(): string {
    return this.source.name;
  }

  /** A tensor's bytes as they are. @throws LadderError `MISSING_PARAMETER` */
  raw(name: string): RawTensor {
    const { dtype, offset, bytes } = this.entry(name);
    return { dtype, bytes: this.source.read(offset, bytes) };
  }

  close(): void {
    this.source.close();
  }

  private floats(name: string): Entry & { dtype: FloatType; bytesEach: number } {
    const { dtype, ...entry } = this.entry(name);
    if (!isFloat(dtype))
      throw new LadderError('UNSUPPORTED', `${name} has elements of type ${dtype}; F16, BF16 and F32 can be packed`, { name });
    return { dtype, ...entry, bytesEach: kElementBytes[dtype] };
  }

  private entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (!entry) throw new LadderError('MISSING_PARAMETER', `${this.source.name} has no tensor ${JSON.stringify(name)}`, { name });
    return entry;
  }

  private readHeader(): ReadonlyMap<string, readonly number[]> {
    const bad = (what: string): LadderError =>
      new LadderError('BAD_PARAMS', `${this.source.name}: ${what}; it is not a whole safetensors file`);
    if (this.source.sizeBytes < 8) throw bad('no room for a header');
    const start = Buffer.from(this.source.read(0, Math.min(kLfsPointer.length, this.source.sizeBytes))).toString('latin1');
    if (start === kLfsPointer)
      throw new LadderError(
        'BAD_PARAMS',
        `${this.source.name} is a Git LFS pointer, not the weights; fetch them with \`git lfs pull\` in its folder`,
        { path: this.source.name },
      );
    const prefix = this.source.read(0, 8);
    const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
    if (headerBytes > kMaxHeaderBytes || 8 + headerBytes > this.source.sizeBytes)
      throw bad(`a header of ${headerBytes} bytes does not fit`);
    let json: Record<string, unknown>;
    try {
      const text = Buffer.from(this.source.read(8, headerBytes)).toString('utf8');
      json = JSON.parse(text) as Record<string, unknown>;
      const repeated = repeatedName(text, Object.keys(json));
      if (repeated !== null) throw bad(`tensor ${repeated} is there twice`);
      delete json['__metadata__'];
    } catch (cause) {
      if (cause instanceof LadderError) throw cause;
      throw bad(`the header is not JSON (${(cause as Error).message})`);
    }
    const parsed = headerSchema.safeParse(json);
    if (!parsed.success)
      throw bad(`header field ${parsed.error.issues[0]?.path.join('.') ?? ''}: ${parsed.error.issues[0]?.message ?? ''}`);
    const shapes = new Map<string, readonly number[]>();
    const dataOffset = 8 + headerBytes;
    for (const [
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ] of Object.entries(parsed.data)) {
      const elements = shape.reduce((product, extent) => product * extent, 1);
      const bytesEach = isFloat(dtype) ? kElementBytes[dtype] : null;
      if (end < begin || dataOffset + end > this.source.sizeBytes) throw bad(`tensor ${name} ends beyond the file`);
      if (bytesEach && end - begin !== elements * bytesEach)
        throw bad(`tensor ${name} has ${end - begin} bytes where its shape needs ${elements * bytesEach}`);
      this.entries.set(name, { dtype, offset: dataOffset + begin, bytes: end - begin, elements });
      shapes.set(name, shape);
    }
    this.checkPlaces(dataOffset, bad);
    return shapes;
  }

  /** Tensors follow each other without overlap or hole, to the end. */
  private checkPlaces(dataOffset: number, bad: (what: string) => LadderError): void {
    let [at, before] = [dataOffset, 'the header'];
    for (const [name, { offset, bytes }] of [...this.entries].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes)) {
      if (offset < at) throw bad(`tensor ${name} overlaps ${before}`);
      if (offset > at) throw bad(`${offset - at} bytes between ${before} and tensor ${name} belong to none`);
      [at, before] = [offset + bytes, `tensor ${name}`];
    }
    if (at < this.source.sizeBytes) throw bad(`${this.source.sizeBytes - at} bytes behind ${before} belong to none`);
  }
}

/** A name that an object's text says twice, of which JSON.parse keeps the last. Values of the header hold no names. */
function repeatedName(text: string, names: readonly string[]): string | null {
  for (const name of names) {
    const quoted = `${JSON.stringify(name)}:`;
    const first = text.indexOf(quoted);
    if (first >= 0 && text.indexOf(quoted, first + 1) >= 0 && name !== '__metadata__') return name;
  }
  return null;
}

/**
 * Reads safetensors files (Hugging Face's format): u64 header length, a JSON header of name → {dtype, shape, data_offsets},
 * then the data. Only the header is read at once; tensors are read one by one into FP32.
 */
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { FileSource } from '../../artifact/byte-source.js';
import { LadderError } from '../../errors.js';
import { bfloatToFloat, halfToFloat } from '../../formats/codes.js';

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const headerSchema = z.record(
  z.string(),
  z.union([
    z.object({ dtype: z.enum(['F16', 'BF16', 'F32']), shape: z.array(size).max(8), data_offsets: z.tuple([size, size]) }),
    z.object({ dtype: z.string(), shape: z.array(size), data_offsets: z.tuple([size, size]) }),
  ]),
);
const kElementBytes: Readonly<Record<string, number>> = { F16: 2, BF16: 2, F32: 4 };
const kMaxHeaderBytes = 100_000_000;
const kChunkElements = 1 << 20;

/** An open file; close it. */
export class Safetensors {
  /** Shape by tensor name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  private readonly source: FileSource;
  private readonly entries = new Map<string, { dtype: string; offset: number; elements: number }>();

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
    const entry = this.entries.get(name);
    if (!entry) throw new LadderError('MISSING_PARAMETER', `${this.source.name} has no tensor ${JSON.stringify(name)}`, { name });
    const bytesEach = kElementBytes[entry.dtype];
    if (!bytesEach)
      throw new LadderError('UNSUPPORTED', `${name} has elements of type ${entry.dtype}; F16, BF16 and F32 can be packed`, { name });
    const values = new Float32Array(entry.elements);
    for (let at = 0; at < entry.elements; at += kChunkElements) {
      if (at > 0) await setImmediate();
      const count = Math.min(kChunkElements, entry.elements - at);
      const bytes = this.source.read(entry.offset + at * bytesEach, count * bytesEach);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < count; ++i) {
        values[at + i] =
          entry.dtype === 'F32'
            ? view.getFloat32(4 * i, true)
            : entry.dtype === 'F16'
              ? halfToFloat(view.getUint16(2 * i, true))
              : bfloatToFloat(view.getUint16(2 * i, true));
      }
    }
    return values;
  }

  close(): void {
    this.source.close();
  }

  private readHeader(): ReadonlyMap<string, readonly number[]> {
    const bad = (what: string): LadderError =>
      new LadderError('BAD_PARAMS', `${this.source.name}: ${what}; it is not a whole safetensors file`);
    if (this.source.sizeBytes < 8) throw bad('no room for a header');
    const prefix = this.source.read(0, 8);
    const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
    if (headerBytes > kMaxHeaderBytes || 8 + headerBytes > this.source.sizeBytes)
      throw bad(`a header of ${headerBytes} bytes does not fit`);
    let json: Record<string, unknown>;
    try {
      json = JSON.parse(Buffer.from(this.source.read(8, headerBytes)).toString('utf8')) as Record<string, unknown>;
      delete json['__metadata__'];
    } catch (cause) {
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
      const bytesEach = kElementBytes[dtype];
      if (end < begin || dataOffset + end > this.source.sizeBytes) throw bad(`tensor ${name} ends beyond the file`);
      if (bytesEach && end - begin !== elements * bytesEach)
        throw bad(`tensor ${name} has ${end - begin} bytes where its shape needs ${elements * bytesEach}`);
      this.entries.set(name, { dtype, offset: dataOffset + begin, elements });
      shapes.set(name, shape);
    }
    return shapes;
  }
}

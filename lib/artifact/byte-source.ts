/**
 * Where the binary parsers read from: a buffer (tests, blobs) or a file by positioned reads, so that a file of many
 * gigabytes costs only its headers. `ByteReader` is the bounds-checked cursor that every binary parser is written with.
 * Reads are synchronous and small; big payloads are read asynchronously (`readLong`, checkpoint.ts), or mapped by native code.
 */
import { closeSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { type ErrorCode, LadderError } from '../errors.js';
import { openRegular } from './regular-file.js';

/** Random access to a fixed number of bytes. */
export interface ByteSource {
  /** What error messages call it. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Exactly `length` bytes; the caller stays inside `sizeBytes`. The result must not be written to. */
  read(offset: number, length: number): Uint8Array;
}

/** Bytes in memory. */
export class BufferSource implements ByteSource {
  readonly sizeBytes: number;

  constructor(
    private readonly bytes: Uint8Array,
    readonly name = 'buffer',
  ) {
    this.sizeBytes = bytes.length;
  }

  read(offset: number, length: number): Uint8Array {
    return this.bytes.subarray(offset, offset + length);
  }
}

const kWindowBytes = 64 * 1024;
/** What one system call is asked for: Node.js refuses 2 GiB and more. */
const kMaxReadBytes = 2 ** 30;

const readAt = promisify(read);

/** A file, read through a window, so that many small neighbouring reads are one system call. Close it. */
export class FileSource implements ByteSource {
  readonly sizeBytes: number;
  private readonly descriptor: number;
  private window = new Uint8Array(0);
  private windowOffset = 0;

  /** @throws LadderError `IO` when the file cannot be opened, or is no regular file */
  constructor(readonly name: string) {
    ({ descriptor: this.descriptor, sizeBytes: this.sizeBytes } = openRegular(name));
  }

  read(offset: number, length: number): Uint8Array {
    const from = offset - this.windowOffset;
    if (from >= 0 && from + length <= this.window.length) return this.window.subarray(from, from + length);
    const wanted = Math.min(Math.max(length, kWindowBytes), this.sizeBytes - offset);
    const bytes = new Uint8Array(wanted);
    for (let filled = 0; filled < wanted; ) filled += this.readInto(bytes, filled, offset);
    if (wanted <= kWindowBytes) {
      this.window = bytes;
      this.windowOffset = offset;
    }
    return bytes.subarray(0, length);
  }

  /** Fills `bytes` from `offset` on, while others have their turn; past the window. */
  async readLong(offset: number, bytes: Uint8Array): Promise<void> {
    for (let filled = 0; filled < bytes.length; ) {
      const { bytesRead } = await readAt(
        this.descriptor,
        bytes,
        filled,
        Math.min(bytes.length - filled, kMaxReadBytes),
        offset + filled,
      ).catch((cause: unknown) => this.fail(offset, cause));
      filled += this.positive(bytesRead, offset);
    }
  }

  private readInto(bytes: Uint8Array, filled: number, offset: number): number {
    let got: number;
    try {
      got = readSync(this.descriptor, bytes, filled, Math.min(bytes.length - filled, kMaxReadBytes), offset + filled);
    } catch (cause) {
      return this.fail(offset, cause);
    }
    return this.positive(got, offset);
  }

  private fail(offset: number, cause: unknown): never {
    throw new LadderError('IO', `cannot read ${this.name}: ${(cause as Error).message}`, { path: this.name, offset }, { cause });
  }

  private positive(got: number, offset: number): number {
    if (got === 0) throw new LadderError('IO', `${this.name} became shorter while it was read`, { path: this.name, offset });
    return got;
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** More items than this are damage: a sparse file of any size can announce any number. */
const kMaxItems = 1 << 22;
/** Names longer than this are damage, not names. */
const kMaxStringBytes = 1 << 20;

// A byte order mark is part of a name like any other character.
const kUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * A cursor over a source, little-endian. Every read is checked against the end, and every count against the bytes that
 * are left, before anything is allocated for it.
 */
export class ByteReader {
  /** Next byte to read. */
  offset: number;

  /**
   * @param code of the errors thrown
   * @param end first offset past what may be read
   */
  constructor(
    private readonly source: ByteSource,
    private readonly code: ErrorCode,
    start = 0,
    private readonly end = source.sizeBytes,
  ) {
    this.offset = start;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  /** An error at the current place. */
  fail(message: string): LadderError {
    return new LadderError(this.code, `${this.source.name}: ${message} (at byte ${this.offset})`, {
      source: this.source.name,
      offset: this.offset,
    });
  }

  bytes(length: number, what: string): Uint8Array {
    if (length > this.remaining) throw this.fail(`cut short: ${what} needs ${length} bytes but ${this.remaining} are left`);
    const bytes = this.source.read(this.offset, length);
    this.offset += length;
    return bytes;
  }

  skip(length: number, what: string): void {
    if (length > this.remaining) throw this.fail(`cut short: ${what} needs ${length} bytes but ${this.remaining} are left`);
    this.offset += length;
  }

  u8(what: string): number {
    return this.bytes(1, what)[0]!;
  }

  u16(what: string): number {
    return view(this.bytes(2, what)).getUint16(0, true);
  }

  u32(what: string): number {
    return view(this.bytes(4, what)).getUint32(0, true);
  }

  i32(what: string): number {
    return view(this.bytes(4, what)).getInt32(0, true);
  }

  bigU64(what: string): bigint {
    return view(this.bytes(8, what)).getBigUint64(0, true);
  }

  /** A u64 that a double holds exactly. */
  u64(what: string): number {
    const value = this.bigU64(what);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.fail(`${what} is ${value}, which is out of range`);
    return Number(value);
  }

  /** A u64 count of items that take at least `itemBytes` each in what follows. */
  count(what: string, itemBytes: number): number {
    const count = this.u64(what);
    if (itemBytes > 1 && count > kMaxItems) throw this.fail(`${what} is ${count}; at most ${kMaxItems} are accepted`);
    if (count * itemBytes > this.remaining) throw this.fail(`cut short: ${what} is ${count} but ${this.remaining} bytes are left`);
    return count;
  }

  /** dmlc's string: u64 length and UTF-8 bytes. */
  string(what: string): string {
    const length = this.count(`length of ${what}`, 1);
    if (length > kMaxStringBytes) throw this.fail(`${what} is ${length} bytes long; at most ${kMaxStringBytes} are accepted`);
    const bytes = this.bytes(length, what);
    try {
      return kUtf8.decode(bytes);
    } catch {
      throw this.fail(`${what} is not UTF-8`);
    }
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Collects what the writers make, little-endian; the counterpart of `ByteReader`. */
export class ByteWriter {
  private readonly parts: Uint8Array[] = [];

  bytes(bytes: Uint8Array): this {
    this.parts.push(bytes);
    return this;
  }

  u8(value: number): this {
    return this.bytes(Uint8Array.of(value));
  }

  u16(value: number): this {
    return this.number(2, (target) => target.setUint16(0, value, true));
  }

  i32(value: number): this {
    return this.number(4, (target) => target.setInt32(0, value, true));
  }

  u64(value: number | bigint): this {
    return this.number(8, (target) => target.setBigUint64(0, BigInt(value), true));
  }

  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u64(bytes.length).bytes(bytes);
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.parts));
  }

  private number(sizeBytes: number, set: (target: DataView) => void): this {
    const bytes = new Uint8Array(sizeBytes);
    set(view(bytes));
    return this.bytes(bytes);
  }
}

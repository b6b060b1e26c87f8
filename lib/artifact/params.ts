/**
 * graph.params: where each tensor's bytes lie in the file, and a streaming writer. The bytes themselves are mapped and
 * copied by native code and never pass through here. Follows TVM 0.12's SaveParams / LoadParams.
 *
 *   u64 magic │ u64 reserved │ u64 n, n × string name │ u64 n, n × (NDArray header, data)
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { LadderError } from '../errors.js';
import { produceWhole } from '../files.js';
import { ByteReader, type ByteSource, ByteWriter, FileSource } from './byte-source.js';
import type { DataType } from '../native.js';
import { elementBytes } from './dtype.js';
import { safeProduct } from './json.js';
import { readArrayHeader, writeArrayHeader } from './nd-array.js';

/** What one system call is asked for: Node.js refuses 2 GiB and more. */
const kMaxWriteBytes = 2 ** 30;
const kListMagic = 0xf7e58d4f05049cb7n;
/** magic, reserved, device, ndim, type, byte size */
const kMinArrayBytes = 8 + 8 + 8 + 4 + 4 + 8;

/** One tensor of graph.params. */
export interface ParamTensor {
  readonly name: string;
  readonly dtype: DataType;
  readonly shape: readonly number[];
  /** Where its data begin in the file. */
  readonly fileOffset: number;
  readonly sizeBytes: number;
}

/**
 * Reads the headers of graph.params.
 * @throws LadderError `BAD_PARAMS` with the byte offset
 */
export function parseParams(source: ByteSource): readonly ParamTensor[] {
  const reader = new ByteReader(source, 'BAD_PARAMS');
  if (reader.bigU64('magic') !== kListMagic) throw reader.fail('not a graph.params file (wrong magic number)');
  reader.skip(8, 'reserved');
  const names = Array.from({ length: reader.count('number of names', 8) }, () => reader.string('tensor name'));
  if (new Set(names).size !== names.length) throw reader.fail('two tensors have one name');
  const count = reader.count('number of tensors', kMinArrayBytes);
  if (count !== names.length) throw reader.fail(`${names.length} names but ${count} tensors`);
  const tensors = names.map((name): ParamTensor => {
    const header = readArrayHeader(reader, name);
    const fileOffset = reader.offset;
    reader.skip(header.sizeBytes, name);
    return { name, ...header, fileOffset };
  });
  if (reader.remaining > 0) throw reader.fail(`${reader.remaining} bytes are left over after ${count} tensors`);
  return tensors;
}

/** Reads the headers of a graph.params file. @throws LadderError `BAD_PARAMS`, `IO` */
export function readParams(path: string): readonly ParamTensor[] {
  const source = new FileSource(path);
  try {
    return parseParams(source);
  } finally {
    source.close();
  }
}

/** A tensor to write; its data come in pieces of any size. */
export interface ParamInput {
  readonly name: string;
  readonly dtype: DataType;
  readonly shape: readonly number[];
  readonly chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/**
 * Writes graph.params, one tensor's pieces after the other; only one piece is held at a time, and the file gets its name
 * when it is complete. What is no regular file is written to.
 * @returns SHA-256 of what was written
 * @throws LadderError `BAD_ARGUMENT` when names repeat or a tensor's pieces do not add up to its shape; `IO`
 *
 * @example
 * await writeParams('graph.params', [{ name: 'w', dtype: parseDataType('float16'), shape: [2, 2], chunks: [new Uint8Array(8)] }]);
 */
export async function writeParams(path: string, tensors: readonly ParamInput[]): Promise<string> {
  if (new Set(tensors.map(({ name }) => name)).size !== tensors.length)
    throw new LadderError('BAD_ARGUMENT', 'expected distinct tensor names');
  const hash = createHash('sha256');
  await produceWhole(path, async (where) => {
    const file = await open(where, 'w');
    try {
      await writeTensors(async (bytes) => {
        const written = writeAll(file, bytes);
        hash.update(bytes);
        await written;
      }, tensors);
    } finally {
      await file.close();
    }
  });
  return hash.digest('hex');
}

/** In few system calls: `writeFile` makes one of every half MiB. */
async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, Math.min(bytes.length - done, kMaxWriteBytes))).bytesWritten;
}

async function writeTensors(write: (bytes: Uint8Array) => Promise<void>, tensors: readonly ParamInput[]): Promise<void> {
  const head = new ByteWriter().u64(kListMagic).u64(0).u64(tensors.length);
  for (const { name } of tensors) head.string(name);
  head.u64(tensors.length);
  await write(head.finish());
  for (const { name, dtype, shape, chunks } of tensors) {
    const sizeBytes = safeProduct(shape, elementBytes(dtype));
    if (sizeBytes === null) throw new LadderError('BAD_ARGUMENT', `tensor ${name} has more than 2^53 bytes`, { tensor: name });
    const header = new ByteWriter();
    writeArrayHeader(header, { dtype, shape, sizeBytes });
    await write(header.finish());
    let written = 0;
    for await (const chunk of chunks) {
      await write(chunk);
      written += chunk.length;
    }
    if (written !== sizeBytes) {
      throw new LadderError('BAD_ARGUMENT', `expected ${sizeBytes} bytes for \`${name}\` but received ${written}`, { tensor: name });
    }
  }
}

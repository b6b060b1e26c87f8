/**
 * The hash that a model.so of ours carries of itself. It is compiled on each machine, so that checkpoint.json, which is
 * committed, cannot hold it; nor can a second file, which would not be replaced in the same instant. So it stands in one
 * line behind the object, where neither the dynamic linker nor TVM looks:
 *
 *   ELF object │ "\nladder-sha256 " │ 64 hexadecimal digits: SHA-256 of everything before this line │ "\n"
 */
import { createHash } from 'node:crypto';
import { appendFile } from 'node:fs/promises';
import { LadderError } from '../errors.js';
import { openRegularHandle } from './regular-file.js';

const kMark = '\nladder-sha256 ';
const kSealBytes = kMark.length + 64 + 1;

/** What an object says of its own hash, and what it is. */
export interface Seal {
  readonly expected: string;
  readonly actual: string;
}

/** SHA-256 of a file, or of its first bytes. @throws what reading throws; an `AbortError` when the signal fires */
export async function hashOfFile(
  path: string,
  { sizeBytes = Number.POSITIVE_INFINITY, signal }: { readonly sizeBytes?: number; readonly signal?: AbortSignal } = {},
): Promise<string> {
  const hash = createHash('sha256');
  const file = await openRegularHandle(path);
  const bytes = file.createReadStream({ highWaterMark: 1 << 20, end: Math.max(0, sizeBytes - 1), ...(signal && { signal }) });
  for await (const chunk of bytes) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

/** Puts an object's hash at its end. @throws LadderError `IO` */
export async function sealModule(path: string): Promise<void> {
  try {
    await appendFile(path, `${kMark}${await hashOfFile(path)}\n`);
  } catch (cause) {
    throw new LadderError('IO', `cannot write ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** Reads and computes an object's hash; null for one that carries none. @throws LadderError `IO` */
export async function readSeal(path: string): Promise<Seal | null> {
  try {
    const file = await openRegularHandle(path);
    let sizeBytes: number;
    const line = Buffer.alloc(kSealBytes);
    try {
      sizeBytes = (await file.stat()).size - kSealBytes;
      if (sizeBytes <= 0) return null;
      await file.read(line, 0, kSealBytes, sizeBytes);
    } finally {
      await file.close();
    }
    const text = line.toString('latin1');
    const expected = text.slice(kMark.length, -1);
    if (!text.startsWith(kMark) || !/^[0-9a-f]{64}$/.test(expected)) return null;
    return { expected, actual: await hashOfFile(path, { sizeBytes }) };
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

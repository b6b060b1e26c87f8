/**
 * Opening of a checkpoint's files. Whatever stands under their names, only regular files are read: a FIFO would hold up the process
 * until somebody writes to it, a device would never end.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type ErrorCode, LadderError } from '../errors.js';
import { formatBytes } from '../table.js';

/** Opening a FIFO without a writer must not wait. */
const kReadFlags = constants.O_RDONLY | constants.O_NONBLOCK;

/** Opens a file; whoever has it closes it. @throws LadderError `IO` for one that cannot be opened, or is no regular file */
export function openRegular(path: string): { readonly descriptor: number; readonly sizeBytes: number } {
  let descriptor: number | null = null;
  try {
    descriptor = openSync(path, kReadFlags);
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw notRegular(path);
    return { descriptor, sizeBytes: stats.size };
  } catch (cause) {
    if (descriptor !== null) closeSync(descriptor);
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `cannot open ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** The text of a file, read while nothing else runs. @throws LadderError `IO`, also for what is no regular file */
export function readRegularText(path: string): string {
  const { descriptor } = openRegular(path);
  try {
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}

/** The same, asynchronously. @throws LadderError `IO` for what is no regular file; what opening throws */
export async function openRegularHandle(path: string): Promise<FileHandle> {
  const file = await open(path, kReadFlags);
  const isFile = await file.stat().then(
    (stats) => stats.isFile(),
    () => false,
  );
  if (isFile) return file;
  await file.close();
  throw notRegular(path);
}

/**
 * Reads a small file whole; null where there is none.
 * @param code of the error for a file larger than `maxBytes`
 * @throws LadderError `IO`, `code`
 */
export async function readSmallFile(path: string, maxBytes: number, code: ErrorCode): Promise<Uint8Array | null> {
  try {
    const file = await openRegularHandle(path);
    try {
      const stats = await file.stat();
      if (stats.size > maxBytes)
        throw new LadderError(code, `${path} has ${formatBytes(stats.size)}; at most ${formatBytes(maxBytes)} are accepted`, { path });
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new LadderError('IO', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

function notRegular(path: string): LadderError {
  return new LadderError('IO', `${path} is no regular file but a folder, a pipe or a device: put the file itself there, or remove it`, {
    path,
  });
}

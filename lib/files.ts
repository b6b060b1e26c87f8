/**
 * Errands in the file system that several parts have: writing a file whole or not at all, text of any Unicode encoding, and
 * finding a program.
 * Everything else about files belongs to whoever's format it is.
 */
import { randomBytes } from 'node:crypto';
import { accessSync, constants, statSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { LadderError } from './errors.js';

/**
 * Lets `produce` make a file beside `path`, which then takes its place: readers see the old file or the whole new one, and
 * two writers do not meet. Makes the folder. A killed process leaves `<path>.<hexadecimal digits>.partial` behind.
 * @throws LadderError `IO`; what `produce` throws where that is a LadderError
 */
export async function atomically(path: string, produce: (partial: string) => Promise<void>): Promise<void> {
  const partial = `${path}.${randomBytes(4).toString('hex')}.partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await produce(partial);
    await rename(partial, path);
  } catch (cause) {
    // What went wrong is what matters, not that this does as well.
    await rm(partial, { force: true }).catch(() => undefined);
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `${path} could not be written: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** Writes a file whole or not at all. @throws LadderError `IO` */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  await atomically(path, (partial) => writeFile(partial, data));
}

/** The encoding that a byte order mark says; UTF-8 where there is none. */
export function encodingOf(head: Uint8Array): 'utf-8' | 'utf-16le' | 'utf-16be' {
  if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le';
  return head[0] === 0xfe && head[1] === 0xff ? 'utf-16be' : 'utf-8';
}

/**
 * Text in UTF-8 or, with a byte order mark, UTF-16; the mark is no part of it.
 * @param strict whether bytes that are neither are an error, or U+FFFD
 * @throws TypeError
 */
export function decodeText(bytes: Uint8Array, strict = false): string {
  return new TextDecoder(encodingOf(bytes), { fatal: strict }).decode(bytes);
}

/**
 * Path of a program: `name` itself where it has a slash, else the first executable file on the PATH or in further folders.
 * @returns null when there is none
 */
export function findProgram(name: string, folders: readonly string[] = []): string | null {
  const places = name.includes('/')
    ? [name]
    : [...(process.env['PATH'] ?? '').split(delimiter), ...folders].filter((folder) => folder !== '').map((folder) => join(folder, name));
  for (const path of places) {
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not here: the next folder.
    }
  }
  return null;
}

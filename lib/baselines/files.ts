/**
 * The log files below a folder, plain, gzipped or inside a `.tar.gz`, each as a stream. Nothing is written anywhere;
 * of an archive only its regular files are seen, and only in memory. What a log says is for the parsers.
 */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { createGunzip } from 'node:zlib';
import { LadderError } from '../errors.js';
import { loggingSystems } from './systems/index.js';

/** A log that can be opened, again and again. */
export interface LogFile {
  /** Relative to the folder asked for, `/` between its parts; members of an archive below the archive's own name. */
  readonly path: string;
  open(): AsyncIterable<Uint8Array>;
}

/** A member of an archive larger than this is no log. */
const maxMemberBytes = 256 << 20;
/** Files that end in `.log`, and those that a system calls otherwise. */
function isLog(path: string): boolean {
  const name = basename(path);
  return (
    /\.log(?:\.gz)?$/.test(name) ||
    loggingSystems().some(({ log: { file } }) => file !== undefined && [file.name, ...file.beside].includes(name))
  );
}
const isArchive = (name: string): boolean => /\.(?:tar\.gz|tgz)$/.test(name);

/** A file's bytes, decompressed when its name ends in `.gz`. A damaged stream ends where it is damaged. */
async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path);
  if (!/gz$/.test(path)) {
    yield* file;
    return;
  }
  const inflated = createGunzip();
  file.on('error', (error) => inflated.destroy(error));
  file.pipe(inflated);
  try {
    for await (const chunk of inflated) yield chunk as Uint8Array;
  } catch (error) {
    // Bytes before the damage are good: the parser sees a log that was cut short.
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
  } finally {
    file.destroy();
  }
}

/** ustar: 512-byte headers (name 0, size 124 in octal, type 156, prefix 345), data padded to 512. */
async function* tarMembers(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<{ name: string; data: Buffer }> {
  let rest = Buffer.alloc(0);
  let member: { name: string; size: number; wanted: boolean } | null = null;
  const text = (header: Buffer, from: number, length: number): string =>
    header
      .subarray(from, from + length)
      .toString('latin1')
      .replace(/\0.*$/s, '');
  for await (const chunk of bytes) {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      if (member === null) {
        if (rest.length < 512) break;
        const header = rest.subarray(0, 512);
        const size = Number.parseInt(text(header, 124, 12).trim() || '0', 8);
        const prefix = text(header, 257, 5) === 'ustar' ? text(header, 345, 155) : '';
        const name = (prefix === '' ? '' : `${prefix}/`) + text(header, 0, 100);
        rest = rest.subarray(512);
        if (name === '') continue;
        if (!Number.isSafeInteger(size) || size < 0 || size > maxMemberBytes) return;
        member = { name, size, wanted: /^[0\0]?$/.test(text(header, 156, 1)) };
      }
      const padded = Math.ceil(member.size / 512) * 512;
      if (rest.length < padded) break;
      if (member.wanted) yield { name: member.name, data: rest.subarray(0, member.size) };
      rest = rest.subarray(padded);
      member = null;
    }
  }
  // An archive that was cut: what there is of its last member.
  if (member?.wanted && rest.length > 0) yield { name: member.name, data: rest.subarray(0, member.size) };
}

/** Every log below `folder`, by path. A single log file gives itself. @throws LadderError `IO` */
export async function logFiles(folder: string): Promise<LogFile[]> {
  const found: LogFile[] = [];
  try {
    const root = await stat(folder);
    const paths = root.isFile()
      ? [folder]
      : (await readdir(folder, { recursive: true, withFileTypes: true }))
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name));
    for (const path of paths) {
      const shown = root.isFile() ? basename(path) : relative(folder, path).split('\\').join('/');
      if (isArchive(path)) {
        for await (const { name, data } of tarMembers(fileBytes(path))) {
          const copy = Buffer.from(data);
          const clean = name.replace(/^(?:\.\/)+/, '');
          if (isLog(clean))
            found.push({
              path: `${shown}/${clean}`,
              async *open() {
                yield copy;
              },
            });
        }
      } else if (isLog(path) || root.isFile()) {
        found.push({ path: shown, open: () => fileBytes(path) });
      }
    }
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `cannot read the logs in ${folder}: ${(cause as Error).message}`, { folder }, { cause });
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/**
 * The log files below a folder, plain, gzipped or inside a tar archive, each as a stream. Links are followed, each file once.
 * Nothing is written anywhere; of an archive only its regular files are seen, and only in memory. What a log says is for the
 * parsers.
 */
import { createReadStream, type Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, join, posix, relative } from 'node:path';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { LadderError } from '../errors.js';
import { badLog } from './log.js';
import { loggingSystems } from './systems/index.js';

/** A log that can be opened, again and again. */
export interface LogFile {
  /** Relative to the folder asked for, `/` between its parts; members of an archive below the archive's own name. */
  readonly path: string;
  /** Its bytes, decompressed. Reading throws LadderError `BAD_LOG` where it cannot be read. */
  open(): AsyncIterable<Uint8Array>;
}

/** A member of an archive larger than this is no log. */
const kMaxMemberBytes = 256 << 20;

/** Files that end in `.log`, and those that a system calls otherwise. */
function isLog(path: string): boolean {
  const name = basename(path);
  return (
    /\.log(?:\.gz)?$/.test(name) ||
    loggingSystems().some(({ log: { file } }) => file !== undefined && [file.name, ...file.beside].includes(name))
  );
}
const isArchive = (name: string): boolean => /\.(?:tar|tar\.gz|tgz)$/.test(name);
/** Archives that are not opened here, so that they are at least named. */
const isOtherArchive = (name: string): boolean => /\.(?:tar\.(?:xz|bz2|zst|lz)|txz|tbz2?|tzst|zip|7z|rar)$/.test(name);

/** Bytes, decompressed when the name ends in `gz`. A damaged stream ends where it is damaged, of which `onDamage` is told. */
async function* inflatedBytes(
  name: string,
  bytes: AsyncIterable<Uint8Array>,
  onDamage?: (message: string) => void,
): AsyncGenerator<Uint8Array> {
  if (!/gz$/.test(name)) {
    yield* bytes;
    return;
  }
  const inflated = createGunzip();
  const feeding = (async () => {
    for await (const chunk of bytes) if (!inflated.write(chunk)) await new Promise((resolve) => inflated.once('drain', resolve));
    inflated.end();
  })().catch((error: Error) => inflated.destroy(error));
  try {
    for await (const chunk of inflated) yield chunk as Uint8Array;
    await feeding;
  } catch (error) {
    // Bytes before the damage are good: the parser sees a log that was cut short.
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
    onDamage?.((error as Error).message);
  } finally {
    inflated.destroy();
  }
}

/** A file's bytes. @throws LadderError `BAD_LOG` */
async function* fileBytes(path: string, onDamage?: (message: string) => void): AsyncGenerator<Uint8Array> {
  try {
    yield* inflatedBytes(path, createReadStream(path), onDamage);
  } catch (cause) {
    throw badLog('usable', path, 'unreadable', (cause as Error).message);
  }
}

/** What of an archive's members is wanted: the names that its bytes go by; none: it is passed over. */
type Wanted = (entry: ReadEntry) => readonly string[];

/** Reads an archive to its end, or to where it is damaged or cut. @returns bytes by name, and what is wrong with the archive */
async function readMembers(
  archive: string,
  wanted: Wanted,
): Promise<{ readonly members: ReadonlyMap<string, Buffer>; readonly damage: string | null }> {
  const found = new Map<string, Buffer>();
  let damage: string | null = null;
  const parser = new Parser({
    onwarn: (_, message) => {
      damage ??= String(message);
    },
    onReadEntry(entry) {
      const names = entry.size <= kMaxMemberBytes ? wanted(entry) : [];
      const chunks: Buffer[] = [];
      // A member that is cut short has what there is of it.
      for (const name of names) found.set(name, Buffer.alloc(0));
      entry.on('data', (chunk: Buffer) => {
        if (names.length === 0) return;
        chunks.push(chunk);
      });
      entry.on('end', () => {
        for (const name of names) found.set(name, Buffer.concat(chunks));
      });
    },
  });
  const bytes = fileBytes(archive, (message) => {
    damage ??= message;
  });
  for await (const chunk of bytes) if (!parser.write(Buffer.from(chunk))) await new Promise((resolve) => parser.once('drain', resolve));
  parser.end();
  return { members: found, damage };
}

const cleanName = (name: string): string => posix.normalize(name).replace(/^(?:\.?\/)+/, '');
const isRegular = ({ type }: ReadEntry): boolean => type === 'File' || type === 'OldFile' || type === 'ContiguousFile';

/** The logs of an archive, links among them, each file once; and the archive itself where it is damaged. */
async function archivedLogs(archive: string, shownAs: string): Promise<readonly LogFile[]> {
  const regular = new Set<string>();
  const links = new Map<string, string>();
  await readMembers(archive, (entry) => {
    const name = cleanName(entry.path);
    if (isRegular(entry)) regular.add(name);
    // A symbolic link's target is seen from its folder, a hard link's from the archive's.
    else if (entry.type === 'SymbolicLink') links.set(name, cleanName(posix.join(posix.dirname(name), entry.linkpath ?? '')));
    else if (entry.type === 'Link') links.set(name, cleanName(entry.linkpath ?? ''));
    return [];
  });
  const shown = new Map([...regular].filter(isLog).map((name) => [name, name]));
  for (const [name, target] of links) if (isLog(name) && regular.has(target) && !shown.has(target)) shown.set(target, name);
  const { members, damage } = await readMembers(archive, (entry) => {
    const name = shown.get(cleanName(entry.path));
    return isRegular(entry) && name !== undefined ? [name] : [];
  });
  const logs = [...members].map(([name, bytes]): LogFile => {
    const path = `${shownAs}/${name}`;
    return { path, open: () => inflatedBytes(name, onePiece(bytes)) };
  });
  return damage === null ? logs : [unreadable(shownAs, `the archive is damaged, members may be missing: ${damage}`), ...logs];
}

async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Files below a folder: first those that lie there, then those that links lead to and that were not seen. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  const seen = new Set<string>();
  const files: string[] = [];
  const links: string[] = [];
  const walk = async (directory: string): Promise<void> => {
    const real = await realpath(directory);
    if (seen.has(real)) return;
    seen.add(real);
    const entries: Dirent[] = await readdir(directory, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(directory, entry.name);
      if (entry.isSymbolicLink()) links.push(path);
      else if (entry.isDirectory()) await walk(path);
      else if (entry.isFile()) {
        seen.add(await realpath(path));
        files.push(path);
      }
    }
  };
  await walk(folder);
  // A folder behind a link may hold links of its own.
  for (let link = links.shift(); link !== undefined; link = links.shift()) {
    const target = await realpath(link).catch(() => null);
    const stats = target === null ? null : await stat(target);
    if (stats?.isDirectory()) await walk(link);
    // A link to nothing is a log that cannot be read.
    else if ((target === null && isLog(link)) || (stats?.isFile() && !seen.has(target!))) {
      if (target !== null) seen.add(target);
      files.push(link);
    }
  }
  return files;
}

/** A file that is there and cannot be read here. */
function unreadable(path: string, detail: string): LogFile {
  return {
    path,
    async *open() {
      yield* [];
      throw badLog('usable', path, 'unreadable', detail);
    },
  };
}

/** Every log below `folder`, by path. A single log file gives itself. @throws LadderError `IO` */
export async function logFiles(folder: string): Promise<LogFile[]> {
  const found: LogFile[] = [];
  try {
    const root = await stat(folder);
    for (const path of root.isFile() ? [folder] : await filesBelow(folder)) {
      const shown = root.isFile() ? basename(path) : relative(folder, path).split('\\').join('/');
      if (isArchive(path)) found.push(...(await archivedLogs(path, shown)));
      else if (isOtherArchive(path))
        found.push(unreadable(shown, 'archives of this kind are not opened; unpack it, or make a .tar.gz of it'));
      else if (isLog(path) || root.isFile()) found.push({ path: shown, open: () => fileBytes(path) });
    }
  } catch (cause) {
    if (cause instanceof LadderError && cause.code !== 'BAD_LOG') throw cause;
    throw new LadderError('IO', `cannot read the logs in ${folder}: ${(cause as Error).message}`, { folder }, { cause });
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

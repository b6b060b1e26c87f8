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
import { isCalled } from './systems/system.js';

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
  return (
    /\.log(?:\.gz)?$/i.test(path) ||
    loggingSystems().some(({ log: { file } }) => file !== undefined && isCalled(path, file.name, ...file.beside))
  );
}
const isArchive = (name: string): boolean => /\.(?:tar|tar\.gz|tgz)$/i.test(name);
/** Archives that are not opened here, so that they are at least named. */
const isOtherArchive = (name: string): boolean => /\.(?:tar\.(?:xz|bz2|zst|lz)|txz|tbz2?|tzst|zip|7z|rar)$/i.test(name);

/** Bytes, decompressed when the name ends in `gz`. A damaged stream gives what is good of it, then an error. @throws LadderError `BAD_LOG` */
async function* inflatedBytes(name: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (!/gz$/i.test(name)) {
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
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!code.startsWith('Z_')) throw error;
    throw badLog('usable', name, 'cut short', `its compressed data are damaged or end early: ${(error as Error).message}`);
  } finally {
    inflated.destroy();
  }
}

/** A file's bytes. @throws LadderError `BAD_LOG` */
async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* inflatedBytes(path, createReadStream(path));
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw badLog('usable', path, 'unreadable', (cause as Error).message);
  }
}

/** What of an archive's members is wanted: the names that its bytes go by; none: it is passed over. */
type Wanted = (entry: ReadEntry) => readonly string[];

/** A member's bytes, and whether they are all. */
interface Member {
  readonly bytes: Buffer;
  readonly whole: boolean;
}

/** Reads an archive to its end, or to where it is damaged or cut. @returns bytes by name, and what is wrong with the archive */
async function readMembers(
  archive: string,
  wanted: Wanted,
): Promise<{ readonly members: ReadonlyMap<string, Member>; readonly damage: string | null }> {
  const found = new Map<string, Member>();
  let damage: string | null = null;
  let ended = false;
  const parser = new Parser({
    onwarn: (_, message) => {
      damage ??= String(message);
    },
    onReadEntry(entry) {
      const names = entry.size <= kMaxMemberBytes ? wanted(entry) : [];
      const chunks: Buffer[] = [];
      entry.on('data', (chunk: Buffer) => {
        if (names.length === 0) return;
        chunks.push(chunk);
      });
      entry.on('end', () => {
        const bytes = Buffer.concat(chunks);
        for (const name of names) found.set(name, { bytes, whole: bytes.length === entry.size });
      });
    },
  });
  parser.on('eof', () => {
    ended = true;
  });
  try {
    for await (const chunk of fileBytes(archive))
      if (!parser.write(Buffer.from(chunk))) await new Promise((resolve) => parser.once('drain', resolve));
  } catch (error) {
    if (!(error instanceof LadderError) || error.context['reason'] !== 'cut short') throw error;
    damage ??= String(error.context['detail']);
  }
  parser.end();
  // Cut between two members it would look whole.
  if (!ended) damage ??= 'it ends without the blocks that end an archive';
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
  const logs = [...members].map(([name, { bytes, whole }]): LogFile => {
    const path = `${shownAs}/${name}`;
    return { path, open: () => inflatedBytes(name, onePiece(path, bytes, whole)) };
  });
  return damage === null ? logs : [unreadable(shownAs, `the archive is damaged, members may be missing: ${damage}`), ...logs];
}

async function* onePiece(path: string, bytes: Uint8Array, whole: boolean): AsyncGenerator<Uint8Array> {
  yield bytes;
  if (!whole) throw badLog('usable', path, 'cut short', 'its archive ends within it');
}

/** Files of any kind below a folder: first those that lie there, then those that links lead to and that were not seen. */
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
      else {
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
    else if (target === null ? isLog(link) : !seen.has(target)) {
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
    const isFolder = (await stat(folder)).isDirectory();
    for (const path of isFolder ? await filesBelow(folder) : [folder]) {
      const shown = isFolder ? relative(folder, path).split('\\').join('/') : basename(path);
      const isUsable = !isFolder || isLog(path) || isArchive(path) || isOtherArchive(path);
      const stats = isUsable ? await stat(path).catch(() => null) : null;
      // A pipe would hold up the process, a device would never end.
      if (stats && !stats.isFile()) found.push(unreadable(shown, 'it is no regular file'));
      else if (isArchive(path)) found.push(...(await archivedLogs(path, shown)));
      else if (isOtherArchive(path))
        found.push(unreadable(shown, 'archives of this kind are not opened; unpack it, or make a .tar.gz of it'));
      else if (isUsable) found.push({ path: shown, open: () => fileBytes(path) });
    }
  } catch (cause) {
    if (cause instanceof LadderError && cause.code !== 'BAD_LOG') throw cause;
    throw new LadderError('IO', `cannot read the logs in ${folder}: ${(cause as Error).message}`, { folder }, { cause });
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

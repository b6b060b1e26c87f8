/**
 * Errands in the file system that several parts have: writing a file whole or not at all, locks, text of any Unicode encoding, and
 * finding a program.
 * Everything else about files belongs to whoever's format it is.
 */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { LadderError } from './errors.js';

/** A name beside `path` that says which process writes there. */
function partialOf(path: string): string {
  return `${path}.${process.pid}.${randomBytes(4).toString('hex')}.partial`;
}

function cannotWrite(path: string, cause: unknown): LadderError {
  return new LadderError('IO', `${path} could not be written: ${(cause as Error).message}`, { path }, { cause });
}

/**
 * Makes a folder and those above it. Node's own way does not end where the system makes none although the one above is there: in /proc.
 * @throws the system's error
 */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  const above = dirname(path);
  if (above !== path) makeFolder(above);
  try {
    mkdirSync(path);
  } catch (cause) {
    // Another process may have made it meanwhile.
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
  }
}

/** Where bytes for `path` go: behind links, so that these stay links. */
async function targetOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

/**
 * Lets `produce` make a file beside `path`, which then takes its place: readers see the old file or the whole new one, and
 * two writers do not meet. Makes the folder. A killed process leaves `<path>.<its id>.<hexadecimal digits>.partial` behind.
 * @throws LadderError `IO`, also where something other than a regular file is there: root could put a file in the place of /dev/null; what `produce` throws where that is a LadderError
 */
export async function atomically(path: string, produce: (partial: string) => Promise<void>): Promise<void> {
  const target = await targetOf(path);
  const partial = partialOf(target);
  try {
    if (await isSpecial(target)) throw new Error('it is no regular file');
    makeFolder(dirname(target));
    await produce(partial);
    await rename(partial, target);
  } catch (cause) {
    // What went wrong is what matters, not that this does as well.
    await rm(partial, { force: true }).catch(() => undefined);
    if (cause instanceof LadderError) throw cause;
    throw cannotWrite(path, cause);
  }
}

/** Whether a path is a pipe, a device or a folder. */
async function isSpecial(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  return stats !== null && !stats.isFile();
}

/**
 * Lets `produce` make a file whole or not at all, as {@link atomically} does; what is no regular file (a pipe, /dev/stdout) is written to
 * where it is.
 * @param produce writes from the beginning to the end to the path that it is given
 * @throws LadderError `IO`; what `produce` throws where that is a LadderError
 */
export async function produceWhole(path: string, produce: (where: string) => Promise<void>): Promise<void> {
  if (!(await isSpecial(path))) return atomically(path, produce);
  await produce(path).catch((cause: unknown) => {
    throw cause instanceof LadderError ? cause : cannotWrite(path, cause);
  });
}

/** Writes a file whole or not at all, in a place that is for a regular file only. @throws LadderError `IO` */
export async function replaceFile(path: string, data: string | Uint8Array): Promise<void> {
  await atomically(path, (partial) => writeFile(partial, data));
}

/** @throws LadderError `IO` where something other than a regular file stands in the place of one that is to be written */
export async function refuseSpecial(path: string): Promise<void> {
  if (await isSpecial(path)) throw cannotWrite(path, new Error('it is no regular file'));
}

/** Writes a file whole or not at all; what is no regular file is written to. @throws LadderError `IO` */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  await produceWhole(path, (where) => writeFile(where, data));
}

/**
 * Makes sure, before anything is measured for it, that a file can be written later: makes its folder and a file beside it.
 * @throws LadderError `IO`
 */
export async function checkWritable(path: string): Promise<void> {
  try {
    const stats = await stat(path).catch(() => null);
    if (stats?.isDirectory()) throw new Error('it is a folder');
    if (stats !== null && !stats.isFile()) return;
    const target = await targetOf(path);
    makeFolder(dirname(target));
    const partial = partialOf(target);
    await (await open(partial, 'wx')).close();
    await rm(partial);
  } catch (cause) {
    throw cannotWrite(path, cause);
  }
}

/**
 * Removes what this process, which writes nothing now, and processes that are gone left half written in a folder.
 * @param recursive below it as well
 */
export function removePartials(folder: string, recursive = false): void {
  let names: string[];
  try {
    names = readdirSync(folder, { recursive }) as string[];
  } catch {
    return;
  }
  for (const name of names) {
    const pid = Number(/\.(\d+)\.[0-9a-f]{8}\.partial$/.exec(name)?.[1] ?? Number.NaN);
    if (pid === process.pid || (pid > 0 && !isAlive(pid))) rmSync(join(folder, name), { force: true });
  }
}

/** Whether a process of this machine runs. */
export function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/** When a process began, in ticks since the machine did: with its id what tells it from a later one of the same id. */
function startOf(pid: number | 'self'): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** A file's text; a pipe in its place is not waited for. @throws the system's error */
function readNow(path: string): string {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}

/** Whoever has a lock. */
interface Holder {
  readonly host: string;
  readonly pid: number;
  readonly start: string | null;
}

function holderOf(path: string): Holder | null {
  try {
    return JSON.parse(readNow(path)) as Holder;
  } catch {
    return null;
  }
}

/**
 * Takes a lock, a file that says which process has it; that of a process that is gone is taken over.
 * @param what is locked, for the message
 * @returns gives it back; the end of the process does as well
 * @throws LadderError `BUSY` where another process has it, `IO`
 */
export function acquireLock(path: string, what: string): () => void {
  const own = JSON.stringify({ host: hostname(), pid: process.pid, start: startOf('self') } satisfies Holder);
  const partial = partialOf(path);
  try {
    makeFolder(dirname(path));
    writeFileSync(partial, own);
    for (;;) {
      try {
        // Unlike a rename, a link takes nobody's place.
        linkSync(partial, path);
        break;
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
        const holder = holderOf(path);
        const gone = holder !== null && holder.host === hostname() && startOf(holder.pid) !== holder.start;
        if (!gone)
          throw new LadderError(
            'BUSY',
            `${what} is in use by ${holder === null ? 'another process' : `process ${holder.pid}${holder.host === hostname() ? '' : ` on ${holder.host}`}`}: wait for its end, or remove ${path} if there is no such process`,
            { path, ...(holder && { pid: holder.pid }) },
          );
        const stale = `${partial}.stale`;
        try {
          renameSync(path, stale);
        } catch (raced) {
          if ((raced as NodeJS.ErrnoException).code === 'ENOENT') continue;
          throw raced;
        }
        // Another process may have taken it over in between: then it is put back.
        if (holderOf(stale)?.pid !== holder.pid) linkSync(stale, path);
        rmSync(stale, { force: true });
      }
    }
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw cannotWrite(path, cause);
  } finally {
    if (existsSync(partial)) rmSync(partial, { force: true });
  }
  const release = (): void => {
    process.removeListener('exit', release);
    if (readTextOrNull(path) === own) rmSync(path, { force: true });
  };
  process.once('exit', release);
  return release;
}

function readTextOrNull(path: string): string | null {
  try {
    return readNow(path);
  } catch {
    return null;
  }
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

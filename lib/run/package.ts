/**
 * Where this package lies, which version and commit it is, and where checkpoints are looked for.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findCheckpoints, kGraphFile, nameOfFolder, spellings } from '../artifact/locate.js';
import { LadderError } from '../errors.js';

/** The package's folder: this file is two levels below it, both as lib/run/*.ts and as dist/run/*.js. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Whether this is an installed package, whose folder is a package manager's, and not a clone. */
const isInstalled = packageRoot.split('/').includes('node_modules');

/** Where results and drawings go by default: `bench/` of a clone, else `ladder/` below the working folder. */
export const benchFolder = isInstalled ? resolve('ladder') : join(packageRoot, 'bench');

/** A folder of this package's for what can be made again, by the XDG base directory specification. */
function cacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'];
  return join(base !== undefined && isAbsolute(base) ? base : join(homedir(), '.cache'), 'ladder-checkpoints', packageVersion());
}

/**
 * Where a checkpoint may be built and tuned: itself, but of those that an installed package brings a copy below the cache folder, as a
 * package manager's folder may be read-only, shared, or gone at the next installation.
 * @throws LadderError `IO`
 */
function writableCopy(path: string): string {
  const below = relative(packageRoot, path);
  if (!isInstalled || below.startsWith('..') || isAbsolute(below)) return path;
  const copy = join(cacheFolder(), below);
  if (existsSync(join(copy, kGraphFile)) || !existsSync(join(path, kGraphFile))) return existsSync(copy) ? copy : path;
  const partial = `${copy}.${process.pid}.partial`;
  try {
    cpSync(path, partial, { recursive: true });
    renameSync(partial, copy);
  } catch (cause) {
    rmSync(partial, { recursive: true, force: true });
    // Another process was faster.
    if (existsSync(join(copy, kGraphFile))) return copy;
    throw new LadderError(
      'IO',
      `could not copy ${path} to ${copy}: ${(cause as Error).message}; XDG_CACHE_HOME names another place`,
      { path: copy },
      { cause },
    );
  }
  return copy;
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}

let commit: string | undefined;

/**
 * The commit of this project, with "+dirty" for uncommitted changes, or "unknown" outside a clone. `LADDER_COMMIT` names
 * it for a tree that was exported without its history.
 */
export function packageCommit(): string {
  commit ??= process.env.LADDER_COMMIT ?? readCommit();
  return commit;
}

function readCommit(): string {
  if (!existsSync(join(packageRoot, '.git'))) return 'unknown';
  const git = (...args: string[]): string | null => {
    const result = spawnSync('git', ['-C', packageRoot, ...args], { encoding: 'utf8' });
    return result.status === 0 ? result.stdout.trim() : null;
  };
  const head = git('rev-parse', 'HEAD');
  if (head === null) return 'unknown';
  return git('status', '--porcelain', '--untracked-files=no') === '' ? head : `${head}+dirty`;
}

/** The folders that hold checkpoints: the authors use both spellings. */
function checkpointFolders(): readonly string[] {
  const below = ['checkpoint', 'checkpoints'].map((name) => join('checkpoints', 'Figure8', 'ladder', name));
  const roots = resolve('.') === packageRoot ? [packageRoot] : [resolve('.'), packageRoot];
  return roots.flatMap((root) => below.map((path) => join(root, path))).filter((path) => existsSync(path));
}

/** A checkpoint folder that was found by name. */
export interface FoundCheckpoint {
  /** `<model>/<name>`, or `<name>` of networks, which lie in no folder of their model. */
  readonly name: string;
  readonly path: string;
}

/**
 * All checkpoints at or below a folder, at any of the authors' levels, by name; default: the project's own.
 * @param onRemark told what was passed over
 * @throws LadderError `IO` for a folder that is not there, in either spelling of `ladder/checkpoint(s)`, or is none
 */
export async function listCheckpoints(folder?: string, onRemark?: (remark: string) => void): Promise<readonly FoundCheckpoint[]> {
  const given = folder === undefined ? [] : spellings(resolve(folder)).filter((path) => existsSync(path));
  if (folder !== undefined && given.length === 0)
    throw new LadderError('IO', `could not list ${folder}: there is no such folder`, { path: folder });
  const odd = given.find((path) => !statSync(path).isDirectory());
  if (odd !== undefined) throw new LadderError('IO', `could not list ${odd}: it is no folder`, { path: odd });
  const found = new Map<string, string>();
  for (const root of folder === undefined ? checkpointFolders() : given)
    for (const path of await findCheckpoints(root, undefined, onRemark)) {
      const name = checkpointName(path);
      if (!found.has(name)) found.set(name, writableCopy(path));
    }
  return [...found].map(([name, path]) => ({ name, path })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The path that a checkpoint argument means: itself where it exists, else a name such as `llama2-70b/llama2_bs1_seq1_async` or
 * `resnet-50-b1` below the project's checkpoints. A folder that happens to be called as a checkpoint is, and holds none, is not
 * meant. What is found nowhere is returned as the place where it would be: reading the checkpoint then reports what lies near it.
 */
export function resolveCheckpoint(pathOrName: string): string {
  const named = checkpointFolders().map((folder) => join(folder, pathOrName));
  const there = [resolve(pathOrName), ...named].filter((path) => existsSync(path));
  const found = there.find((path) => existsSync(join(path, kGraphFile))) ?? there[0];
  if (found !== undefined) return writableCopy(found);
  const isPath = pathOrName.includes('/') && existsSync(dirname(resolve(pathOrName)));
  return isPath ? pathOrName : (named.find((path) => existsSync(dirname(path))) ?? pathOrName);
}

/** `<model>/<name>` of a checkpoint's folder, or `<name>` of a network's. */
export function checkpointName(path: string): string {
  return nameOfFolder(path);
}

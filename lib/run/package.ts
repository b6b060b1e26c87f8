/**
 * Where this package lies, which version and commit it is, and where checkpoints are looked for.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LadderError } from '../errors.js';

/** The package's folder: this file is two levels below it, both as lib/run/*.ts and as dist/run/*.js. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

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

/** The folders that hold `<model>/<name>/` checkpoints: the authors use both spellings. */
function checkpointFolders(): readonly string[] {
  const below = ['checkpoint', 'checkpoints'].map((name) => join('checkpoints', 'Figure8', 'ladder', name));
  const roots = resolve('.') === packageRoot ? [packageRoot] : [resolve('.'), packageRoot];
  return roots.flatMap((root) => below.map((path) => join(root, path))).filter((path) => existsSync(path));
}

/** A checkpoint folder that was found by name. */
export interface FoundCheckpoint {
  /** `<model>/<name>` */
  readonly name: string;
  readonly path: string;
}

/** All checkpoints below a folder of `<model>/<name>/graph.json`, by name; default: the project's own. */
export function listCheckpoints(folder?: string): readonly FoundCheckpoint[] {
  const found = new Map<string, string>();
  for (const root of folder === undefined ? checkpointFolders() : [resolve(folder)]) {
    for (const model of subfolders(root)) {
      for (const name of subfolders(join(root, model))) {
        const path = join(root, model, name);
        const id = `${model}/${name}`;
        if (!found.has(id) && existsSync(join(path, 'graph.json'))) found.set(id, path);
      }
    }
  }
  return [...found].map(([name, path]) => ({ name, path })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function subfolders(path: string): readonly string[] {
  try {
    return readdirSync(path).filter((name) => statSync(join(path, name), { throwIfNoEntry: false })?.isDirectory());
  } catch (cause) {
    throw new LadderError('IO', `could not list ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/**
 * The path that a checkpoint argument means: itself where it exists, else a name such as
 * `llama2-70b/llama2_bs1_seq1_async` below the project's checkpoints. What is found nowhere is returned as it is: reading
 * the checkpoint then reports what lies near it.
 */
export function resolveCheckpoint(pathOrName: string): string {
  if (existsSync(pathOrName)) return resolve(pathOrName);
  return (
    checkpointFolders()
      .map((folder) => join(folder, pathOrName))
      .find((path) => existsSync(path)) ?? pathOrName
  );
}

/** `<model>/<name>` of a checkpoint's folder. */
export function checkpointName(path: string): string {
  return `${basename(dirname(path))}/${basename(path)}`;
}

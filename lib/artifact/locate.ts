/**
 * From what a user typed to a checkpoint's folder: the folder itself or a file in it, with the authors' two spellings of
 * `ladder/checkpoint(s)/`, and a remedy that names the checkpoints nearby.
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import leven from 'leven';
import { LadderError } from '../errors.js';

export const kGraphFile = 'graph.json';
export const kParamsFile = 'graph.params';
export const kModuleFile = 'model.so';
export const kManifestFile = 'checkpoint.json';

const kMaxListed = 8;
const kMaxFoldersSearched = 4000;
/** From above `checkpoints/Figure8/ladder/checkpoints/<model>/<name>`. */
const kSearchDepth = 6;

/**
 * The absolute path of the checkpoint's folder.
 * @param path the folder, a file in it, or a folder in it (`tuned/`)
 * @throws LadderError `NOT_A_CHECKPOINT`, listing checkpoints below the path or beside it, the likeliest first
 */
export async function locateCheckpoint(path: string): Promise<string> {
  for (const spelling of spellings(resolve(path))) {
    if ((await kindOf(spelling)) === null) continue;
    for (const folder of [spelling, dirname(spelling)]) if ((await kindOf(join(folder, kGraphFile))) === 'file') return folder;
  }
  const near = await nearbyCheckpoints(resolve(path));
  const exists = (await kindOf(resolve(path))) !== null;
  const isSpecial = (await kindOf(join(resolve(path), kGraphFile))) === 'special';
  const lack = isSpecial ? 'holds a graph.json that is no regular file' : exists ? 'holds no graph.json' : 'does not exist';
  const remedy =
    near.length === 0
      ? 'give the folder that holds graph.json, model.so and perhaps graph.params'
      : `did you mean one of these?\n  ${near.slice(0, kMaxListed).join('\n  ')}${near.length > kMaxListed ? `\n  … and ${near.length - kMaxListed} more` : ''}`;
  throw new LadderError('NOT_A_CHECKPOINT', `${path} ${lack}; ${remedy}`, {
    path,
    nearby: near.slice(0, kMaxListed),
  });
}

/** Texts, those first that differ least from what was wanted: a letter among sixty is a typing error, whatever they begin with. */
export function likeliest(texts: readonly string[], wanted: string): readonly string[] {
  return texts
    .map((text) => ({ text, distance: leven(text, wanted) }))
    .sort((a, b) => a.distance - b.distance || (a.text < b.text ? -1 : 1))
    .map(({ text }) => text);
}

/**
 * The checkpoints' folders at or below `folder`, sorted; links are followed, each folder once.
 * @param levels below `folder`
 * @param onLimit told where there are more folders than are searched: a tree of that size is no archive of checkpoints
 */
export async function findCheckpoints(
  folder: string,
  levels = kSearchDepth,
  onLimit?: (searched: number) => void,
): Promise<readonly string[]> {
  const found: string[] = [];
  const seen = new Set<string>();
  let queue = [folder];
  for (let depth = 0; depth <= levels && queue.length > 0; depth++) {
    const next: string[] = [];
    for (const directory of queue) {
      const real = await realpath(directory).catch(() => null);
      if (real === null || seen.has(real)) continue;
      if (seen.size >= kMaxFoldersSearched) {
        onLimit?.(seen.size);
        return found.sort();
      }
      seen.add(real);
      const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
      if ((await kindOf(join(directory, kGraphFile))) === 'file') {
        found.push(directory);
        continue;
      }
      for (const entry of entries) {
        if (entry.name.startsWith('.') || entry.name === 'node_modules') continue;
        const path = join(directory, entry.name);
        if (entry.isDirectory() || (entry.isSymbolicLink() && (await kindOf(path)) === 'folder')) next.push(path);
      }
    }
    queue = next;
  }
  return found.sort();
}

/** The names of the folders that the authors put checkpoints into. */
const kCheckpointFolders = ['checkpoint', 'checkpoints'];

/**
 * A checkpoint's name: its path below `ladder/checkpoint(s)/`, which is `<model>/<name>` or, of networks, `<name>`; elsewhere its
 * last two folders.
 */
export function nameOfFolder(folder: string): string {
  const parts = resolve(folder).split(sep);
  const at = parts.findLastIndex((part, i) => kCheckpointFolders.includes(part) && parts[i - 1] === 'ladder');
  return (at >= 0 && at < parts.length - 1 ? parts.slice(at + 1) : parts.slice(-2)).join('/');
}

/** What a folder's place says of its model: the folder above it, or itself of networks, which lie in none. */
export function modelOfFolder(folder: string): string {
  return nameOfFolder(folder).split('/')[0]!;
}

/** The path as it is, then with `ladder/checkpoint/` and `ladder/checkpoints/` exchanged. */
export function spellings(path: string): readonly string[] {
  const singular = `${sep}ladder${sep}checkpoint`;
  const swapped = path.replace(new RegExp(`${singular}(s?)(?=${sep}|$)`), (_, plural: string) => (plural ? singular : `${singular}s`));
  return swapped === path ? [path] : [path, swapped];
}

async function nearbyCheckpoints(path: string): Promise<readonly string[]> {
  for (const spelling of spellings(path)) {
    if ((await kindOf(spelling)) === 'folder') {
      const below = await findCheckpoints(spelling);
      if (below.length > 0) return likeliest(below, path);
    }
  }
  // Beside it: only where the path's parent exists, and not far, so that a typo does not search a whole disk.
  for (const spelling of spellings(path)) {
    const beside = (await kindOf(dirname(spelling))) === 'folder' ? await findCheckpoints(dirname(spelling), 2) : [];
    if (beside.length > 0) return likeliest(beside, spelling);
  }
  return [];
}

/** `special`: a pipe, a device, a socket. */
async function kindOf(path: string): Promise<'file' | 'folder' | 'special' | null> {
  try {
    const stats = await stat(path);
    return stats.isDirectory() ? 'folder' : stats.isFile() ? 'file' : 'special';
  } catch {
    return null;
  }
}

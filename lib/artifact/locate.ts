/**
 * From what a user typed to a checkpoint's folder: the folder itself or a file in it, with the authors' two spellings of
 * `ladder/checkpoint(s)/`, and a remedy that names the checkpoints nearby.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { LadderError } from '../errors.js';

export const kGraphFile = 'graph.json';
export const kParamsFile = 'graph.params';
export const kModuleFile = 'model.so';
export const kManifestFile = 'checkpoint.json';

const kMaxListed = 8;
const kMaxFoldersSearched = 400;
const kSearchDepth = 4;

/**
 * The absolute path of the checkpoint's folder.
 * @throws LadderError `NOT_A_CHECKPOINT`, listing checkpoints below the path or beside it
 */
export async function locateCheckpoint(path: string): Promise<string> {
  for (const spelling of spellings(resolve(path))) {
    const kind = await kindOf(spelling);
    const folder = kind === 'file' ? dirname(spelling) : spelling;
    if (kind !== null && (await kindOf(join(folder, kGraphFile))) === 'file') return folder;
  }
  const near = await nearbyCheckpoints(resolve(path));
  const exists = (await kindOf(resolve(path))) !== null;
  const remedy =
    near.length === 0
      ? 'give the folder that holds graph.json, model.so and perhaps graph.params'
      : `did you mean one of these?\n  ${near.slice(0, kMaxListed).join('\n  ')}${near.length > kMaxListed ? `\n  … and ${near.length - kMaxListed} more` : ''}`;
  throw new LadderError('NOT_A_CHECKPOINT', `${path} ${exists ? 'holds no graph.json' : 'does not exist'}; ${remedy}`, {
    path,
    nearby: near.slice(0, kMaxListed),
  });
}

/** The checkpoints' folders below `folder`, sorted; at most a few levels and a few hundred folders are searched. */
export async function findCheckpoints(folder: string): Promise<readonly string[]> {
  const found: string[] = [];
  let queue = [folder];
  let searched = 0;
  for (let depth = 0; depth <= kSearchDepth; depth++) {
    const next: string[] = [];
    for (const directory of queue) {
      if (++searched > kMaxFoldersSearched) return found.sort();
      const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
      if (entries.some((entry) => entry.name === kGraphFile && entry.isFile())) found.push(directory);
      else
        next.push(
          ...entries
            .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules')
            .map((entry) => join(directory, entry.name)),
        );
    }
    queue = next;
  }
  return found.sort();
}

/** The path as it is, then with `ladder/checkpoint/` and `ladder/checkpoints/` exchanged. */
function spellings(path: string): readonly string[] {
  const singular = `${sep}ladder${sep}checkpoint`;
  const swapped = path.replace(new RegExp(`${singular}(s?)(?=${sep}|$)`), (_, plural: string) => (plural ? singular : `${singular}s`));
  return swapped === path ? [path] : [path, swapped];
}

async function nearbyCheckpoints(path: string): Promise<readonly string[]> {
  for (const spelling of spellings(path)) {
    if ((await kindOf(spelling)) === 'folder') {
      const below = await findCheckpoints(spelling);
      if (below.length > 0) return below;
    }
  }
  // Beside it: only where the path's parent exists, so that a typo does not search a whole disk.
  for (const spelling of spellings(path)) {
    const parent = dirname(spelling);
    if ((await kindOf(parent)) !== 'folder') continue;
    const entries = await readdir(parent, { withFileTypes: true }).catch(() => []);
    const beside: string[] = [];
    for (const entry of entries.slice(0, kMaxFoldersSearched)) {
      if (entry.isDirectory() && (await kindOf(join(parent, entry.name, kGraphFile))) === 'file') beside.push(join(parent, entry.name));
    }
    const wanted = basename(spelling).slice(0, 6);
    if (beside.length > 0)
      return beside.sort((a, b) => Number(basename(b).startsWith(wanted)) - Number(basename(a).startsWith(wanted)) || (a < b ? -1 : 1));
  }
  return [];
}

async function kindOf(path: string): Promise<'file' | 'folder' | null> {
  try {
    const stats = await stat(path);
    return stats.isDirectory() ? 'folder' : stats.isFile() ? 'file' : null;
  } catch {
    return null;
  }
}

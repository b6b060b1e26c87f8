/**
 * The builder's only writing module: puts a designed checkpoint, and its compiled model.so, into a folder.
 * Files appear by rename, so that a reader sees the old one or the new one and an interrupted build loses nothing.
 */
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LadderError } from '../errors.js';
import type { CheckpointDesign } from './design.js';

/** Writes graph.json and checkpoint.json where they differ from what is there. */
export async function writeDescription(folder: string, design: CheckpointDesign): Promise<void> {
  await writeChanged(join(folder, 'graph.json'), design.graphText);
  await writeChanged(join(folder, 'checkpoint.json'), `${JSON.stringify(design.manifest, null, 1)}\n`);
}

/** Moves a compiled model.so into place. */
export async function placeModule(folder: string, builtPath: string): Promise<void> {
  await atomically(join(folder, 'model.so'), (partial) => copyFile(builtPath, partial));
}

/** Writes a text file below a checkpoint's folder, unless it holds that text already. */
export async function writeChanged(path: string, text: string): Promise<void> {
  const old = await readFile(path, 'utf8').catch(() => null);
  if (old !== text) await atomically(path, (partial) => writeFile(partial, text));
}

/** Lets `produce` make a file beside `path`, then renames it. */
export async function atomically(path: string, produce: (partial: string) => Promise<void>): Promise<void> {
  const partial = `${path}.${process.pid}.partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await produce(partial);
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `${path} could not be written: ${(cause as Error).message}`, { path }, { cause });
  }
}

/**
 * The builder's only writing module: puts a designed checkpoint, and its compiled model.so, into a folder.
 * Files appear by rename, so that a reader sees the old one or the new one and an interrupted build loses nothing.
 */
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { atomically, writeWhole } from '../files.js';
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
  if (old !== text) await writeWhole(path, text);
}

/**
 * The builder's only writing module: puts a designed checkpoint, and its compiled model.so, into a folder.
 * Files appear by rename, so that a reader sees the old one or the new one and an interrupted build loses nothing.
 */
import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../artifact/checkpoint.js';
import type { Manifest } from '../artifact/manifest.js';
import { readSmallFile } from '../artifact/regular-file.js';
import { atomically, replaceFile } from '../files.js';
import type { CheckpointDesign } from './design.js';

/**
 * Writes graph.json and checkpoint.json where they differ from what is there.
 * @param paramsHash SHA-256 of a graph.params that was packed now; null: what the present checkpoint.json says of one stays
 */
export async function writeDescription(folder: string, design: CheckpointDesign, paramsHash: string | null = null): Promise<void> {
  const params = paramsHash ?? (existsSync(join(folder, 'graph.params')) ? (await readManifest(folder))?.files['graph.params'] : null);
  const manifest: Manifest = { ...design.manifest, files: { ...design.manifest.files, ...(params && { 'graph.params': params }) } };
  await writeChanged(join(folder, 'graph.json'), design.graphText);
  await writeChanged(join(folder, 'checkpoint.json'), `${JSON.stringify(manifest, null, 1)}\n`);
}

/** Copies a compiled model.so into place. */
export async function placeModule(folder: string, builtPath: string): Promise<void> {
  await atomically(join(folder, 'model.so'), (partial) => copyFile(builtPath, partial));
}

/** Writes a text file below a checkpoint's folder, unless it holds that text already. @throws LadderError `IO`, also for what is no regular file */
export async function writeChanged(path: string, text: string): Promise<void> {
  const old = await readSmallFile(path, Infinity, 'IO');
  if (old === null || Buffer.from(old).toString('utf8') !== text) await replaceFile(path, text);
}

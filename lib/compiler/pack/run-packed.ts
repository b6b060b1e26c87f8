/** Runs a design with packed weights by the reference, in a folder for temporary files that is removed. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TaskOptions } from '../../run/options.js';
import { Prebuilt } from '../../run/prebuilt.js';
import type { CheckpointDesign } from '../design.js';
import { writeDescription } from '../write.js';

/** Packs a design's parameters into a folder, and says their hash. */
export type Pack = (design: CheckpointDesign, folder: string) => Promise<string>;

/** @param use is done with the checkpoint when it returns @throws LadderError what packing, loading and `use` throw */
export async function runPacked<Result>(
  design: CheckpointDesign,
  pack: Pack,
  { signal }: TaskOptions,
  use: (prebuilt: Prebuilt) => Promise<Result>,
): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'ladder-packed-'));
  try {
    await writeDescription(folder, design, await pack(design, folder));
    await using prebuilt = await Prebuilt.load(folder, { device: 'cpu', ...(signal && { signal }) });
    return await use(prebuilt);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Builds a whole checkpoint folder: description, fake or real weights' layout, and model.so where nvcc is there. */
import { join } from 'node:path';
import { findNvcc } from './compile.js';
import { type CheckpointRequest, designCheckpoint } from './design.js';
import { ensureModule, type EnsureOptions } from './ensure.js';
import { readTuned } from './tuned.js';
import { writeDescription } from './write.js';

export interface BuildOptions extends EnsureOptions {
  /** Folder below which `<model>/<name>/` is made. */
  readonly root: string;
  /** false: only graph.json and checkpoint.json; model.so follows on first use. Default: build it when nvcc is there. */
  readonly compile?: boolean;
}

export interface BuildResult {
  readonly folder: string;
  /** Whether model.so is there now. */
  readonly compiled: boolean;
  readonly buildMs: number;
}

/**
 * Builds a checkpoint.
 * @example await buildCheckpoint({model: 'llama2-70b', batch: 1, seq: 1, layers: 1, format: {weight: 'int4', activation: 'fp16', group: -1}, seed: 1}, {root})
 * @throws LadderError `BAD_ARGUMENT`, `UNSUPPORTED`, `NO_COMPILER`, `BUILD_FAILED`, `IO`, `ABORTED`
 */
export async function buildCheckpoint(request: CheckpointRequest, options: BuildOptions): Promise<BuildResult> {
  const name = designCheckpoint(request, null).name;
  const folder = join(options.root, request.model, name);
  const design = designCheckpoint(request, await readTuned(folder, options.arch ?? 'sm_90a'));
  await writeDescription(folder, design);
  if (!(options.compile ?? (await findNvcc()) !== null)) return { folder, compiled: false, buildMs: 0 };
  const { buildMs } = await ensureModule(folder, options);
  return { folder, compiled: true, buildMs };
}

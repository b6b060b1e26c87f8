/** Builds a whole checkpoint folder: description, fake or real weights' layout, and model.so where nvcc is there. */
import { join } from 'node:path';
import { checkpointName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { findNvcc } from './compile.js';
import { type CheckpointRequest, designCheckpoint } from './design.js';
import { type EnsureOptions, ensureModules } from './ensure.js';
import { readTuned } from './tuned.js';
import { packSafetensors } from './weights.js';
import { writeDescription } from './write.js';

/** Whose tuning is taken unless another is asked for. */
const kDefaultArch = 'sm_90a';

export interface BuildOptions extends EnsureOptions {
  /** Folder below which `<model>/<name>/` is made. */
  readonly root: string;
  /** safetensors file of Llama decoder layers, packed into graph.params; for one request only. Default: fake weights. */
  readonly weights?: string;
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
 * Builds one checkpoint.
 * @example await buildCheckpoint({model: 'llama2-70b', batch: 1, seq: 1, layers: 1, format: {weight: 'int4', activation: 'fp16', group: -1}, seed: 1}, {root})
 * @throws LadderError `BAD_ARGUMENT`, `UNSUPPORTED`, `NO_COMPILER`, `BUILD_FAILED`, `IO`, `ABORTED`
 */
export async function buildCheckpoint(request: CheckpointRequest, options: BuildOptions): Promise<BuildResult> {
  const results = await buildCheckpoints([request], options);
  return results[0]!;
}

/** Builds many, whose kernels compile in parallel. */
export async function buildCheckpoints(requests: readonly CheckpointRequest[], options: BuildOptions): Promise<readonly BuildResult[]> {
  if (options.weights !== undefined && requests.length !== 1) throw new LadderError('BAD_ARGUMENT', '`weights` go into one checkpoint at a time');
  const folders: string[] = [];
  for (const request of requests) {
    const folder = join(options.root, request.model, checkpointName(request));
    const design = designCheckpoint(request, await readTuned(folder, options.arch ?? kDefaultArch));
    if (options.weights !== undefined) await packSafetensors(options.weights, design, folder);
    await writeDescription(folder, design);
    folders.push(folder);
  }
  if (!(options.compile ?? (await findNvcc()) !== null)) return folders.map((folder) => ({ folder, compiled: false, buildMs: 0 }));
  const results = await ensureModules(folders, options);
  return results.map(({ buildMs }, i) => ({ folder: folders[i]!, compiled: true, buildMs }));
}

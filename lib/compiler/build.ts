/** Builds a whole checkpoint folder: description, fake or real weights' layout, and model.so where nvcc is there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../artifact/checkpoint.js';
import { readExportedString } from '../artifact/elf.js';
import { checkpointPlace } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import type { ScaleChoice } from '../formats/index.js';
import { throwIfAborted } from '../run/options.js';
import { findNvcc } from './emit/compile.js';
import { type CheckpointDesign, type CheckpointRequest, designStored } from './design.js';
import { buildDesigned, type EnsureOptions, refuseToStrandWeights } from './ensure.js';
import { layoutTarget } from './targets.js';
import { checkStored, type OwnModel } from './own-model.js';
import { openFolder } from './pack/folder.js';
import { packPublished } from './pack/weights.js';
import { writeDescription } from './write.js';
import type { BuildResult } from './types.js';

export interface BuildOptions extends EnsureOptions {
  /** Folder below which `<model>/<name>/` is made, of networks `<name>/`. */
  readonly root: string;
  /** safetensors file of decoder layers or a network, packed into graph.params; for one request only. Default: fake weights. */
  readonly weights?: string;
  /** safetensors file of inputs that decide static scales of activations; with `weights`. Default: random ones, with a warning. */
  readonly calibrate?: string | undefined;
  /** How scales of real weights are chosen. Default: what is better for the format. */
  readonly scale?: ScaleChoice | undefined;
  /** A model's folder whose layers the one request is for; its weights are packed. */
  readonly own?: OwnModel | undefined;
  /** false: only graph.json and checkpoint.json; model.so follows on first use. Default: build it when nvcc is there. */
  readonly compile?: boolean;
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

const kUncalibrated = 'scales of activations come of random inputs: `--calibrate` takes them from real ones';

/** Builds many, whose kernels compile in parallel; the same checkpoint twice is refused. */
export async function buildCheckpoints(requests: readonly CheckpointRequest[], options: BuildOptions): Promise<readonly BuildResult[]> {
  const { own, weights, calibrate, scale } = options;
  if (scale !== undefined && weights === undefined && !own?.folder)
    throw new LadderError('BAD_ARGUMENT', "`scale` says how real weights are quantised: give `weights`, or a model's folder");
  if (calibrate !== undefined && weights === undefined)
    throw new LadderError('BAD_ARGUMENT', '`calibrate` decides scales of real weights: give `weights` as well');
  if ((weights !== undefined || own) && requests.length !== 1)
    throw new LadderError('BAD_ARGUMENT', '`weights` go into one checkpoint at a time');
  const folders = requests.map((request) => join(options.root, checkpointPlace(request)));
  if (new Set(folders).size !== folders.length)
    throw new LadderError('BAD_ARGUMENT', 'expected requests for different checkpoints: two of them have one name');
  const compile = options.compile ?? (await findNvcc()) !== null;
  const stale: { folder: string; design: CheckpointDesign }[] = [];
  const warnings: string[][] = requests.map(() => []);
  for (const [i, request] of requests.entries()) {
    throwIfAborted(options.signal);
    const folder = folders[i]!;
    const design = await designStored(request, folder, options.arch ?? layoutTarget.id);
    let paramsHash: string | null = null;
    if (own?.folder) checkStored(own, request);
    const from = own?.folder ? () => openFolder(own.folder!, own.first, request.layers, own.stored) : weights;
    if (from !== undefined) {
      const { signal, onProgress } = options;
      paramsHash = await packPublished(
        from,
        design,
        folder,
        {
          signal,
          ...(onProgress && { onProgress: ({ fraction, detail }) => onProgress(fraction ?? 0, `packing ${detail ?? ''}`) }),
        },
        { first: own?.first, calibration: options.calibrate, choice: options.scale },
      );
      if (options.calibrate === undefined && design.model.tensors.some(({ role }) => role === 'calibration'))
        warnings[i]!.push(kUncalibrated);
    } else if (existsSync(join(folder, 'graph.params'))) {
      const old = await readManifest(folder);
      if (old) refuseToStrandWeights(folder, old, design);
    }
    await writeDescription(folder, design, paramsHash);
    const built = await readExportedString(join(folder, 'model.so'), '__ladder_sources');
    if (compile && built !== design.manifest.build.sources) stale.push({ folder, design });
  }
  const buildMs = stale.length === 0 ? 0 : await buildDesigned(stale, options);
  return folders.map((folder, i) => ({
    folder,
    compiled: compile,
    buildMs: stale.some((item) => item.folder === folder) ? buildMs : 0,
    warnings: warnings[i]!,
  }));
}

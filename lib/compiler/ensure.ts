/**
 * Makes sure that checkpoints have a model.so that fits their description and the kernels of this package: what is
 * missing or stale is built, all in one parallel CMake run. Foreign checkpoints are left alone.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../artifact/checkpoint.js';
import { readExportedString } from '../artifact/elf.js';
import type { Manifest } from '../artifact/manifest.js';
import { LadderError } from '../errors.js';
import { type CompileOptions, compileModules, findNvcc } from './emit/compile.js';
import { type CheckpointDesign, designStored, requestOf } from './design.js';
import { placeModule, writeDescription } from './write.js';

export interface EnsureOptions extends CompileOptions {
  /** nvcc's name of the GPU's architecture (sm_90a, sm_80, …): its tuned/<arch>.json serves the targets that have none of their own. Default: what the checkpoint was built with. */
  readonly arch?: string;
}

export interface EnsureResult {
  /** Whether model.so was built now. */
  readonly built: boolean;
  /** Wall-clock time of the build in which this checkpoint took part, milliseconds; 0 when nothing was built. */
  readonly buildMs: number;
  /** Says that a model.so of other kernel sources is used because nvcc is missing; else null. */
  readonly warning: string | null;
}

/** nvcc's name of a compute capability, as the tuner and the builder use it: 9.0 → sm_90a, 8.0 → sm_80. */
export function archOf(computeCapability: readonly [number, number]): string {
  const [major, minor] = computeCapability;
  return `sm_${major}${minor}${major >= 9 ? 'a' : ''}`;
}

/**
 * Builds model.so of one checkpoint folder if it is missing or stale.
 * @throws LadderError `MISSING_MODULE` (foreign, without model.so), `NO_COMPILER`, `BUILD_FAILED`, `BAD_MANIFEST`, `BAD_PARAMS`, `ABORTED`
 */
export async function ensureModule(folder: string, options: EnsureOptions = {}): Promise<EnsureResult> {
  const results = await ensureModules([folder], options);
  return results[0]!;
}

/** The same for many: one result per folder, in order. */
export async function ensureModules(folders: readonly string[], options: EnsureOptions = {}): Promise<readonly EnsureResult[]> {
  const results: EnsureResult[] = [];
  const stale: { index: number; folder: string; design: CheckpointDesign }[] = [];
  const nvcc = await findNvcc();
  for (const [index, folder] of folders.entries()) {
    results.push({ built: false, buildMs: 0, warning: null });
    const manifest = await readManifest(folder);
    const modulePath = join(folder, 'model.so');
    if (!manifest) {
      if (existsSync(modulePath)) continue;
      throw new LadderError(
        'MISSING_MODULE',
        `${folder} has neither model.so nor a checkpoint.json to build it from; copy model.so from where the checkpoint was made`,
        { folder },
      );
    }
    const built = await readExportedString(modulePath, '__ladder_sources');
    const design = await designStored(requestOf(manifest), folder, options.arch ?? manifest.build.tuning);
    const current = built === design.manifest.build.sources && manifest.build.sources === built;
    if (current) continue;
    if (!nvcc && built !== null && built === manifest.build.sources) {
      results[index] = {
        built: false,
        buildMs: 0,
        warning: "model.so was built from other kernel sources than this package's, and nvcc is not there to build it anew",
      };
      continue;
    }
    refuseToStrandWeights(folder, manifest, design);
    stale.push({ index, folder, design });
  }
  if (stale.length === 0) return results;
  const buildMs = await buildDesigned(stale, options);
  for (const { index } of stale) results[index] = { built: true, buildMs, warning: null };
  return results;
}

/**
 * Compiles designed checkpoints, all at once, and puts model.so and description into their folders.
 * @returns wall-clock time, milliseconds
 * @throws LadderError `NO_COMPILER`, `BUILD_FAILED`, `IO`, `ABORTED`
 */
export async function buildDesigned(
  items: readonly { readonly folder: string; readonly design: CheckpointDesign }[],
  options: CompileOptions,
): Promise<number> {
  const started = performance.now();
  const units = items.map(({ folder, design }, i) => ({ name: `${design.name}-${i}`, sources: design.sources, folder, design }));
  await compileModules(units, options, async (unit, path) => {
    const { folder, design } = units.find(({ name }) => name === unit.name)!;
    await placeModule(folder, path);
    await writeDescription(folder, design);
  });
  return performance.now() - started;
}

/** How a checkpoint's parameters are stored, as text: their tensors, and the order and format of each weight (axes n, k). */
function storedParameters({ tensors, operators }: Manifest): string {
  const weights = operators.flatMap(({ program: { values, inputs } }) =>
    inputs.map((index) => values[index]!).filter(({ axes }) => axes.some(({ name }) => name === 'n')),
  );
  return JSON.stringify([tensors, weights.map(({ axes, type, layout, scaleLayout }) => [axes, type, layout ?? null, scaleLayout ?? null])]);
}

/**
 * Packed weights are in the layout of the old description: a new one must not be put beside them.
 * @throws LadderError `BAD_PARAMS`
 */
export function refuseToStrandWeights(folder: string, manifest: Manifest, design: CheckpointDesign): void {
  if (!existsSync(join(folder, 'graph.params'))) return;
  if (storedParameters(manifest) === storedParameters(design.manifest)) return;
  throw new LadderError(
    'BAD_PARAMS',
    `${folder}: graph.params was packed in another layout than this package's kernels read; pack it again with \`ladder build … --weights\``,
    { folder },
  );
}

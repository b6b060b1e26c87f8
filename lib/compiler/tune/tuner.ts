/**
 * Searches the kernels' template parameters on the GPU at hand: every candidate is checked against the reference before it is
 * timed, in place, as part of the whole checkpoint's graph replay. The order of trials and the journal: tuner-search.ts.
 */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Checkpoint, readCheckpoint, readManifest } from '../../artifact/checkpoint.js';
import { locateCheckpoint } from '../../artifact/locate.js';
import { planExecutor } from '../../artifact/plan.js';
import { LadderError } from '../../errors.js';
import { checkWritable } from '../../files.js';
import { type ExecutorPlan, native, type NativeExecutor } from '../../native.js';
import { fillWeights } from '../../run/load.js';
import { packageCommit } from '../../run/package.js';
import { median } from '../../run/statistics.js';
import { judge, toleranceOf } from '../../run/tolerance.js';
import { compileModules } from '../emit/compile.js';
import { type Target, targetOf } from '../targets.js';
import { requestOf } from '../design.js';
import { archOf, ensureModules } from '../ensure.js';
import type { Tuned } from '../types.js';
import { readTuned } from './tuned.js';
import { Journal, type SearchOptions, searchTunings, type Trials } from './search.js';
import { type Choice, planVariants, type VariantModule } from './variants.js';
import { writeChanged } from '../write.js';

export interface TuneOptions extends SearchOptions {
  readonly deviceOrdinal?: number;
  /** Candidates per operator, the default among them. */
  readonly candidates?: number;
  /** Search for operators that have no winner yet; the others keep theirs. */
  readonly missing?: boolean;
  /** Compilers that run at once. Default: as many as the machine has cores. */
  readonly jobs?: number;
}

const kDefaultCandidates = 12;
const kTrialOptions = { launch: 'graph', l2: 'hot', warmupMs: 20, minSamples: 20, maxSamples: 250, maxMs: 120 } as const;

/** A checkpoint whose candidates are compiled. */
interface Prepared {
  readonly device: Device;
  readonly folder: string;
  readonly variants: VariantModule;
  /** Winners that stay. */
  readonly kept: Tuned | null;
  readonly journal: Journal;
  /** Where the module is until it is released. */
  readonly moduleFolder: string;
  release(): Promise<void>;
}

/** What is tuned for. */
interface Device {
  readonly ordinal: number;
  readonly name: string;
  readonly arch: string;
  readonly target: Target;
}

/**
 * Tunes a checkpoint of ours and writes tuned/<arch>.json below it; then builds its model.so with the winners.
 * @throws LadderError `NOT_A_CHECKPOINT`, `UNSUPPORTED` for a foreign checkpoint, `NO_DRIVER`, `NO_DEVICE`, `NO_COMPILER`, `BUILD_FAILED`, `ABORTED`
 */
export async function tuneCheckpoint(path: string, options: TuneOptions = {}): Promise<Tuned> {
  let result: Tuned | undefined;
  await tuneCheckpoints([path], options, (_, tuned) => {
    result = tuned;
  });
  return result!;
}

/**
 * The same for many: while the GPU tries one's candidates, the compilers make the next one's, and all winners are built at the end.
 * @param onTuned told each one's winners, in order, as soon as they are found and written
 */
export async function tuneCheckpoints(
  paths: readonly string[],
  options: TuneOptions,
  onTuned: (index: number, tuned: Tuned) => void,
): Promise<void> {
  const rest = paths[Symbol.iterator]();
  const found: Tuned[] = [];
  await searchEach(
    async () => rest.next().value ?? null,
    options,
    (tuned) => {
      onTuned(found.length, tuned);
      found.push(tuned);
    },
  );
  await buildWinners(paths, found[0], options);
}

/** Builds the model.so of tuned checkpoints with their winners. @param tuned the winners of any: of one architecture all */
export async function buildWinners(paths: readonly string[], tuned: Tuned | undefined, { signal }: SearchOptions): Promise<void> {
  if (tuned === undefined) return;
  await ensureModules(await Promise.all(paths.map(locateCheckpoint)), { arch: tuned.arch, ...(signal && { signal }) });
}

/**
 * Tunes what `next` gives until that is null, one at a time; writes the winners and builds nothing with them.
 * @param next gives a checkpoint's folder; asked for the one after while the GPU is at one
 * @param onTuned told each one's winners, in order, as soon as they are found and written
 */
export async function searchEach(next: () => Promise<string | null>, options: TuneOptions, onTuned: (tuned: Tuned) => void): Promise<void> {
  let searching = false;
  const prepareNext = (): Promise<Prepared | null> => {
    const prepared = next().then((path) =>
      path === null
        ? null
        : prepare(path, options, (label) => {
            if (!searching) options.onProgress?.(0, label, null);
          }),
    );
    // Waited for when its turn comes, if it comes.
    prepared.catch(() => undefined);
    return prepared;
  };
  let coming = prepareNext();
  try {
    for (let prepared = await coming; prepared !== null; prepared = await coming) {
      coming = prepareNext();
      searching = true;
      try {
        onTuned(await search(prepared, options));
      } finally {
        searching = false;
        await prepared.release();
      }
    }
  } finally {
    await coming.then(
      (prepared) => prepared?.release(),
      () => undefined,
    );
  }
}

function deviceOf(ordinal: number): Device {
  const status = native().cudaStatus();
  if (!status.available)
    throw new LadderError('NO_DRIVER', `tuning needs a GPU, and no CUDA driver could be used: ${status.reason ?? 'unknown reason'}`);
  const device = native().devices()[ordinal];
  if (!device) throw new LadderError('NO_DEVICE', `there is no CUDA device ${ordinal}`);
  const arch = archOf(device.computeCapability);
  return { ordinal: device.ordinal, name: device.name, arch, target: targetOf(arch) };
}

/** Compiles a checkpoint's candidates, unless an error says why it cannot be tuned. */
async function prepare(path: string, options: TuneOptions, onProgress: (label: string) => void): Promise<Prepared> {
  const folder = await locateCheckpoint(path);
  const manifest = await readManifest(folder);
  if (!manifest)
    throw new LadderError('UNSUPPORTED', `${folder} has no checkpoint.json: only checkpoints that this package built can be tuned`, {
      folder,
    });
  const device = deviceOf(options.deviceOrdinal ?? 0);
  const { arch, target } = device;
  const kept = options.missing ? await readTuned(folder, arch) : null;
  const variants = planVariants(requestOf(manifest), options.candidates ?? kDefaultCandidates, target, kept);
  const journalPath = join(folder, 'tuned', `${arch}.json.partial`);
  await checkWritable(journalPath);
  const journal = await Journal.open(journalPath, variants.sourcesHash, device.name);
  const compileOptions = {
    targets: [target.id],
    onProgress: (fraction: number, label: string) => onProgress(`${label} (${Math.round(100 * fraction)} %)`),
    ...(options.signal && { signal: options.signal }),
    jobs: options.jobs,
  };
  return new Promise((resolve, reject) => {
    const compiled = compileModules(
      [{ name: 'variants', sources: variants.sources }],
      compileOptions,
      (_, modulePath) =>
        new Promise<void>((end) => {
          const release = (): Promise<void> => {
            end();
            return compiled;
          };
          resolve({ device, folder, variants, kept, journal, moduleFolder: dirname(modulePath), release });
        }),
    );
    compiled.catch(reject);
  });
}

/** Finds a checkpoint's winners and writes them. */
async function search({ device, folder, variants, kept, journal, moduleFolder }: Prepared, options: TuneOptions): Promise<Tuned> {
  const trials = await CheckpointTrials.open(moduleFolder, variants, device.ordinal);
  const found = await searchTunings(variants.choices, trials, journal, options);
  const operators = Object.fromEntries(
    variants.choices.flatMap(({ key }) => {
      const winner = kept?.operators[key] ?? found[key];
      return winner ? [[key, winner]] : [];
    }),
  );
  const tuned: Tuned = {
    schema: 'ladder-tuned/2',
    arch: device.arch,
    gpu: device.name,
    date: new Date().toISOString(),
    commit: packageCommit(),
    seconds: journal.seconds(),
    operators,
  };
  await writeChanged(join(folder, 'tuned', `${device.arch}.json`), `${JSON.stringify(tuned, null, 1)}\n`);
  await journal.discard();
  return tuned;
}

/** Runs the checkpoint with any choice of candidates. */
class CheckpointTrials implements Trials {
  private constructor(
    private readonly checkpoint: Checkpoint,
    private readonly plan: ExecutorPlan,
    private readonly variants: VariantModule,
  ) {}

  static async open(folder: string, variants: VariantModule, deviceOrdinal: number): Promise<CheckpointTrials> {
    await writeFile(join(folder, 'graph.json'), variants.graphText);
    await writeFile(join(folder, 'checkpoint.json'), JSON.stringify(variants.manifest));
    const checkpoint = await readCheckpoint(folder);
    return new CheckpointTrials(checkpoint, planExecutor(checkpoint, { deviceType: 2, deviceOrdinal, useReference: false }), variants);
  }

  /** @throws LadderError also `INTERNAL` when the candidate computes something else than the reference */
  async time(chosen: readonly number[], check: number | null): Promise<number> {
    const executor = await native().openExecutor(this.planWith(chosen));
    try {
      await fillWeights(this.checkpoint, executor, undefined, {});
      if (check !== null) await this.verify(executor, this.variants.choices[check]!);
      const { captured, reason } = await executor.capture();
      if (!captured)
        throw new LadderError('UNSUPPORTED', `the checkpoint cannot be captured into a CUDA graph: ${reason ?? 'unknown reason'}`);
      return median((await executor.measureSamples(kTrialOptions, null)).gpuMs);
    } finally {
      await executor.dispose();
    }
  }

  private planWith(chosen: readonly number[]): ExecutorPlan {
    const picked = this.variants.choices.map(({ candidates }, i) => candidates[chosen[i]!]!);
    const functionOf = new Map(
      this.variants.choices.flatMap(({ nodes }, i) => nodes.map((node) => [node, picked[i]!.functionName] as const)),
    );
    const images = picked.map(({ image }) => this.plan.module!.images[image]!);
    return {
      ...this.plan,
      operators: this.plan.operators.map((operator, node) => ({ ...operator, functionName: functionOf.get(node)! })),
      module: { ...this.plan.module!, images },
    };
  }

  private async verify(executor: NativeExecutor, { nodes }: Choice): Promise<void> {
    const { program, probe } = this.checkpoint.manifest!.operators[nodes[0]!]!;
    const results = await executor.verifyOperator(nodes[0]!, { seed: 1n, inputs: probe, maxColumns: 128, maxRows: 4 });
    const failures = results.flatMap((result, output) => judge(toleranceOf(program, output), result));
    if (failures.length > 0) throw new LadderError('INTERNAL', failures.join('; '));
  }
}

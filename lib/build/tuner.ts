/**
 * Searches the kernels' template parameters on the GPU at hand: coordinate descent over the checkpoint's operators, every
 * candidate checked against the reference before it is timed, in place, as part of the whole checkpoint's graph replay.
 * Each trial is on disk before the next begins, so that an interrupted search goes on where it stopped.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { type Checkpoint, readCheckpoint, readManifest } from '../artifact/checkpoint.js';
import { planExecutor } from '../artifact/plan.js';
import { LadderError } from '../errors.js';
import { type ExecutorPlan, native, type NativeExecutor } from '../native.js';
import { fillWeights } from '../run/load.js';
import { packageCommit } from '../run/package.js';
import { median } from '../run/statistics.js';
import { judge, toleranceOf } from '../run/tolerance.js';
import { buildTargets, compileModules } from './compile.js';
import { requestOf } from './design.js';
import { archOf, ensureModule } from './ensure.js';
import type { Tuned } from './tuned.js';
import { type Choice, planVariants, type VariantModule } from './variants.js';
import { writeChanged } from './write.js';

export interface TuneOptions {
  readonly deviceOrdinal?: number;
  /** Candidates per operator, the default among them. */
  readonly candidates?: number;
  /** Told what is tried, 0…1, and the seconds that the rest may take (null until a trial was timed). */
  readonly onProgress?: (fraction: number, label: string, remainingSeconds: number | null) => void;
  readonly signal?: AbortSignal;
}

const kDefaultCandidates = 12;
/** A winner must beat the default by more than what two runs of the same thing differ. */
const kLeastGain = 0.002;
const kTrialOptions = { launch: 'graph', l2: 'hot', warmupMs: 20, minSamples: 60, maxSamples: 250, maxMs: 120 } as const;
const kFinalRounds = 3;

const partialSchema = z.strictObject({
  sources: z.string(), gpu: z.string(), seconds: z.number(),
  /** Latency by operator key and candidate; null: it failed, and why is in `failures`. */
  trials: z.record(z.string(), z.number().nullable()),
  failures: z.record(z.string(), z.string()),
});
type JournalState = z.infer<typeof partialSchema>;

/**
 * Tunes a checkpoint of ours and writes tuned/<arch>.json below it; then builds its model.so with the winners.
 * @throws LadderError `UNSUPPORTED` for a foreign checkpoint, `NO_DRIVER`, `NO_DEVICE`, `NO_COMPILER`, `BUILD_FAILED`, `ABORTED`
 */
export async function tuneCheckpoint(folder: string, options: TuneOptions = {}): Promise<Tuned> {
  const manifest = await readManifest(folder);
  if (!manifest) throw new LadderError('UNSUPPORTED', `${folder} has no checkpoint.json: only checkpoints that this package built can be tuned`, { folder });
  const status = native().cudaStatus();
  if (!status.available) throw new LadderError('NO_DRIVER', `tuning needs a GPU, and no CUDA driver could be used: ${status.reason ?? 'unknown reason'}`);
  const device = native().devices()[options.deviceOrdinal ?? 0];
  if (!device) throw new LadderError('NO_DEVICE', `there is no CUDA device ${options.deviceOrdinal ?? 0}`);
  const arch = archOf(device.computeCapability);
  const target = buildTargets.some(({ name }) => name === arch) ? arch : 'compute_80';
  const variants = planVariants(requestOf(manifest), options.candidates ?? kDefaultCandidates);
  const journal = await Journal.open(join(folder, 'tuned', `${arch}.json.partial`), variants.sourcesHash, device.name);
  let tuned: Tuned | undefined;
  const compileOptions = {
    targets: [target],
    onProgress: (fraction: number, label: string) => options.onProgress?.(0, `${label} (${Math.round(100 * fraction)} %)`, null),
    ...(options.signal && { signal: options.signal }),
  };
  await compileModules([{ name: 'variants', sources: variants.sources }], compileOptions, async (_, modulePath) => {
    const trials = await Trials.open(dirname(modulePath), variants, device.ordinal);
    const search = new Search(variants, trials, journal, options);
    const operators = await search.run();
    tuned = { schema: 'ladder-tuned/1', arch, gpu: device.name, date: new Date().toISOString(), commit: packageCommit(), seconds: journal.seconds(), operators };
  });
  await writeChanged(join(folder, 'tuned', `${arch}.json`), `${JSON.stringify(tuned, null, 1)}\n`);
  await journal.discard();
  await ensureModule(folder, { arch, ...(options.signal && { signal: options.signal }) });
  return tuned!;
}

/** What was tried, on disk after every trial. */
class Journal {
  private readonly started = performance.now();

  private constructor(private readonly path: string, readonly state: JournalState) {}

  /** Goes on with an interrupted search of the same sources on the same GPU; else begins anew. */
  static async open(path: string, sources: string, gpu: string): Promise<Journal> {
    const text = await readFile(path, 'utf8').catch(() => null);
    if (text !== null) {
      const old = partialSchema.safeParse(parseOrNull(text));
      if (old.success && old.data.sources === sources && old.data.gpu === gpu) return new Journal(path, old.data);
    }
    return new Journal(path, { sources, gpu, seconds: 0, trials: {}, failures: {} });
  }

  seconds(): number {
    return this.state.seconds + (performance.now() - this.started) / 1000;
  }

  async add(name: string, latencyMs: number | null, failure: string | null): Promise<void> {
    this.state.trials[name] = latencyMs;
    if (failure !== null) this.state.failures[name] = failure;
    await writeChanged(this.path, `${JSON.stringify({ ...this.state, seconds: this.seconds() })}\n`);
  }

  discard(): Promise<void> {
    return rm(this.path, { force: true });
  }
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Runs the checkpoint with any choice of candidates. */
class Trials {
  private constructor(private readonly checkpoint: Checkpoint, private readonly plan: ExecutorPlan, private readonly variants: VariantModule) {}

  static async open(folder: string, variants: VariantModule, deviceOrdinal: number): Promise<Trials> {
    await writeFile(join(folder, 'graph.json'), variants.graphText);
    await writeFile(join(folder, 'checkpoint.json'), JSON.stringify(variants.manifest));
    const checkpoint = await readCheckpoint(folder);
    return new Trials(checkpoint, planExecutor(checkpoint, { deviceType: 2, deviceOrdinal, useReference: false }), variants);
  }

  /**
   * Median latency, milliseconds, with candidate `chosen[i]` of choice i; `check` names the choice to verify first.
   * @throws LadderError `INTERNAL` when the candidate computes something else than the reference
   */
  async time(chosen: readonly number[], check: number | null): Promise<number> {
    const executor = await native().openExecutor(this.planWith(chosen));
    try {
      await fillWeights(this.checkpoint, executor, undefined, {});
      if (check !== null) await this.verify(executor, this.variants.choices[check]!);
      const { captured, reason } = await executor.capture();
      if (!captured) throw new LadderError('UNSUPPORTED', `the checkpoint cannot be captured into a CUDA graph: ${reason ?? 'unknown reason'}`);
      return median((await executor.measureSamples(kTrialOptions, null)).gpuMs);
    } finally {
      await executor.dispose();
    }
  }

  private planWith(chosen: readonly number[]): ExecutorPlan {
    const picked = this.variants.choices.map(({ candidates }, i) => candidates[chosen[i]!]!);
    const functionOf = new Map(this.variants.choices.flatMap(({ nodes }, i) => nodes.map((node) => [node, picked[i]!.functionName] as const)));
    const images = picked.map(({ image }) => this.plan.module!.images[image]!);
    return {
      ...this.plan,
      operators: this.plan.operators.map((operator, node) => ({ ...operator, functionName: functionOf.get(node)! })),
      module: { ...this.plan.module!, images },
    };
  }

  private async verify(executor: NativeExecutor, { nodes }: Choice): Promise<void> {
    const { semantics, probe } = this.checkpoint.manifest!.operators[nodes[0]!]!;
    const results = await executor.verifyOperator(nodes[0]!, { seed: 1n, inputs: probe, maxColumns: 128, maxRows: 4 });
    const failures = results.flatMap((result, output) => judge(toleranceOf(semantics, output), result));
    if (failures.length > 0) throw new LadderError('INTERNAL', failures.join('; '));
  }
}

/** The order of trials, and the winners. */
class Search {
  private done = 0;
  private readonly total: number;
  private readonly trialMs: number[] = [];

  constructor(private readonly variants: VariantModule, private readonly trials: Trials, private readonly journal: Journal, private readonly options: TuneOptions) {
    this.total = variants.choices.reduce((sum, { candidates }) => sum + (candidates.length > 1 ? candidates.length : 0), 0) + 2 * kFinalRounds;
  }

  async run(): Promise<Tuned['operators']> {
    const { choices } = this.variants;
    const best = choices.map(() => 0);
    for (const [index, { key, candidates }] of choices.entries()) {
      if (candidates.length === 1) continue;
      let bestMs = Infinity;
      for (let candidate = 0; candidate < candidates.length; ++candidate) {
        const chosen = best.with(index, candidate);
        const latencyMs = await this.tryOnce(`${key} ${JSON.stringify(candidates[candidate]!.parameters)}`, chosen, index);
        if (latencyMs !== null && latencyMs < bestMs * (candidate === 0 ? 1 : 1 - kLeastGain)) {
          bestMs = latencyMs;
          best[index] = candidate;
        }
      }
    }
    return this.compareWithDefault(best);
  }

  /** One trial, from the journal when it is there. A candidate that fails is passed over; a lost CUDA context ends the search. */
  private async tryOnce(name: string, chosen: readonly number[], check: number): Promise<number | null> {
    const known = this.journal.state.trials[name];
    if (known !== undefined) {
      ++this.done;
      return known;
    }
    this.report(name);
    const started = performance.now();
    let latencyMs: number | null = null;
    let failure: string | null = null;
    try {
      latencyMs = await this.trials.time(chosen, check);
    } catch (error) {
      failure = (error as Error).message;
      await this.journal.add(name, null, failure);
      if (error instanceof LadderError && error.code === 'CUDA') throw error;
    }
    if (failure === null) await this.journal.add(name, latencyMs, null);
    this.trialMs.push(performance.now() - started);
    ++this.done;
    return latencyMs;
  }

  /** Winners and defaults in turn, A B A B, so that drift hits both; winners that do not win are dropped. */
  private async compareWithDefault(best: readonly number[]): Promise<Tuned['operators']> {
    const defaults = best.map(() => 0);
    const tunedMs: number[] = [];
    const defaultMs: number[] = [];
    for (let round = 0; round < kFinalRounds; ++round) {
      this.report('winners against defaults');
      defaultMs.push(await this.trials.time(defaults, null));
      tunedMs.push(await this.trials.time(best, null));
      this.done += 2;
    }
    const wins = median(tunedMs) < median(defaultMs) * (1 - kLeastGain);
    return Object.fromEntries(this.variants.choices.flatMap(({ key, candidates }, index) => {
      if (candidates.length === 1) return [];
      const parameters = wins ? candidates[best[index]!]!.parameters : {};
      return [[key, { parameters, latencyMs: median(wins ? tunedMs : defaultMs), defaultLatencyMs: median(defaultMs), candidates: candidates.length }]];
    }));
  }

  private report(label: string): void {
    if (this.options.signal?.aborted) throw new LadderError('ABORTED', 'tuning was aborted; run it again to go on where it stopped');
    const remaining = this.trialMs.length === 0 ? null : (median(this.trialMs) * (this.total - this.done)) / 1000;
    this.options.onProgress?.(this.done / this.total, label, remaining);
  }
}

/**
 * The tuner's search, apart from any GPU: coordinate descent over an operator's candidates, what was tried kept in a journal
 * that is on disk after every trial, so that an interrupted search goes on where it stopped. Trials themselves: tuner.ts.
 */
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import { readSmallFile } from '../../artifact/regular-file.js';
import { LadderError } from '../../errors.js';
import { median } from '../../run/statistics.js';
import type { Tuned } from '../types.js';
import type { Choice } from './variants.js';
import { writeChanged } from '../write.js';

/** A winner must beat the default by more than what two runs of the same thing differ. */
const kLeastGain = 0.002;
const kFinalRounds = 3;
const kMaxJournalBytes = 64 << 20;

/** Times checkpoints with any choice of candidates. */
export interface Trials {
  /**
   * Median latency, milliseconds, with candidate `chosen[i]` of choice i; `check` names the choice to verify first.
   * @throws LadderError `CUDA` when the context is lost, another code when the candidate fails or computes something else
   */
  time(chosen: readonly number[], check: number | null): Promise<number>;
}

export interface SearchOptions {
  /** Told what is tried, 0…1, and the seconds that the rest may take (null until a trial was timed). */
  readonly onProgress?: (fraction: number, label: string, remainingSeconds: number | null) => void;
  readonly signal?: AbortSignal;
}

const journalSchema = z.strictObject({
  sources: z.string(),
  gpu: z.string(),
  seconds: z.number(),
  /** Latency by operator key and candidate; null: it failed, and why is in `failures`. */
  trials: z.record(z.string(), z.number().nullable()),
  failures: z.record(z.string(), z.string()),
});

/** What was tried, on disk after every trial. */
export class Journal {
  private readonly started = performance.now();

  private constructor(
    private readonly path: string,
    readonly state: z.infer<typeof journalSchema>,
  ) {}

  /** Goes on with an interrupted search of the same sources on the same GPU; else, and when the file is damaged, begins anew. */
  static async open(path: string, sources: string, gpu: string): Promise<Journal> {
    const bytes = await readSmallFile(path, kMaxJournalBytes, 'IO').catch(() => null);
    if (bytes !== null) {
      const old = journalSchema.safeParse(parseOrNull(Buffer.from(bytes).toString('utf8')));
      if (old.success && old.data.sources === sources && old.data.gpu === gpu) return new Journal(path, old.data);
    }
    return new Journal(path, { sources, gpu, seconds: 0, trials: {}, failures: {} });
  }

  /** Of this search and of those that it goes on with. */
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

/**
 * Finds the winners: per operator the fastest candidate beside the winners so far, then all of them against the defaults.
 * A candidate that fails is passed over.
 * @throws LadderError `ABORTED` between two trials; `CUDA` when a trial lost the context
 */
export function searchTunings(
  choices: readonly Choice[],
  trials: Trials,
  journal: Journal,
  options: SearchOptions = {},
): Promise<Tuned['operators']> {
  return new Search(choices, trials, journal, options).run();
}

class Search {
  private done = 0;
  private readonly total: number;
  private readonly trialMs: number[] = [];

  constructor(
    private readonly choices: readonly Choice[],
    private readonly trials: Trials,
    private readonly journal: Journal,
    private readonly options: SearchOptions,
  ) {
    this.total = choices.reduce((sum, { candidates }) => sum + (candidates.length > 1 ? candidates.length : 0), 0) + 2 * kFinalRounds;
  }

  async run(): Promise<Tuned['operators']> {
    const best = this.choices.map(() => 0);
    for (const [index, { key, candidates }] of this.choices.entries()) {
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

  /** One trial, from the journal when it is there. */
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
    return Object.fromEntries(
      this.choices.flatMap(({ key, candidates }, index) => {
        if (candidates.length === 1) return [];
        const parameters = wins ? candidates[best[index]!]!.parameters : {};
        return [
          [
            key,
            {
              parameters,
              latencyMs: median(wins ? tunedMs : defaultMs),
              defaultLatencyMs: median(defaultMs),
              candidates: candidates.length,
            },
          ],
        ];
      }),
    );
  }

  private report(label: string): void {
    if (this.options.signal?.aborted) throw new LadderError('ABORTED', 'tuning was aborted; run it again to go on where it stopped');
    const remaining = this.trialMs.length === 0 ? null : (median(this.trialMs) * (this.total - this.done)) / 1000;
    this.options.onProgress?.(this.done / this.total, label, remaining);
  }
}

/**
 * Samples in bursts. Where the power limit slowed a burst down, it is set aside, not lost, and the GPU is given a pause: nvbench's
 * rule (its throttle threshold and recovery delay), with what was set aside in the result. From then on bursts are half as long and
 * a pause follows each, as work that meets the limit within one burst would meet it in the next. Where arithmetic decides it does
 * from the beginning, whichever side of the threshold its clock is on: else the faster of two systems could be the one that rested.
 */
import type { NativeDeviceState, SamplesOptions, SamplesResult } from '../native.js';
import { cappedClockShare, powerCapped } from './judgement.js';
import { median } from './statistics.js';

/** Device work between two looks at the clock, ms: at first about what a power limit averages over, and the least. */
const kBurstMs = 100;
const kLeastBurstMs = 40;
/** Warm-up of the bursts after the first, whose own is the caller's. */
const kBurstWarmupMs = 2;
/** Work that may be set aside, and pauses after it, in multiples of `maxMs`: a GPU that no pause helps is measured as it is. */
const kPatience = 2;

type Limits = Pick<SamplesOptions, 'warmupMs' | 'minSamples' | 'maxSamples' | 'maxMs'>;
/** As in `BenchmarkOptions`. */
export type BurstLimits = Limits & {
  readonly recoveryMs: number;
  /** Short bursts with pauses from the beginning, and one after the warm-up. */
  readonly rests: boolean;
};

/** The GPU at work. */
export interface BurstSource {
  take(limits: Limits): Promise<SamplesResult>;
  /** Clock and throttle reasons right after a burst; null where nobody can tell. */
  read(): NativeDeviceState | null;
  pause(ms: number): Promise<void>;
  onProgress(fraction: number): void;
}

export interface BurstResult extends Omit<SamplesResult, 'gpuMs' | 'enqueueMs'> {
  readonly gpuMs: readonly number[];
  readonly enqueueMs: readonly number[];
  /** Readings that belong to `gpuMs`. */
  readonly states: readonly NativeDeviceState[];
  /** Samples under the power limit that `gpuMs` does without; empty where there were none, or no others. */
  readonly setAsideMs: readonly number[];
}

interface Burst extends SamplesResult {
  readonly state: NativeDeviceState | null;
}
const countOf = (bursts: readonly Burst[]): number => bursts.reduce((sum, { gpuMs }) => sum + gpuMs.length, 0);
const hostMsOf = (bursts: readonly Burst[]): number =>
  bursts.reduce((sum, { gpuMs, hostMsPerInference }) => sum + gpuMs.length * hostMsPerInference, 0);

/** One source's bursts, taken one by one until those without a power cap fulfil `limits`; when patience ends before, all count. */
class Bursts {
  private readonly kept: Burst[] = [];
  private readonly capped: Burst[] = [];
  private readonly all: Burst[] = [];
  private burstMs: number;
  private warm = false;
  private pausedMs = 0;
  private pausedInVainMs = 0;

  constructor(
    private readonly source: BurstSource,
    private readonly limits: BurstLimits,
  ) {
    this.burstMs = limits.rests && limits.recoveryMs > 0 ? kLeastBurstMs : kBurstMs;
  }

  private get timeIsUp(): boolean {
    return hostMsOf(this.kept) + this.pausedMs >= this.limits.maxMs;
  }

  get done(): boolean {
    const { minSamples, maxSamples, maxMs } = this.limits;
    const count = countOf(this.kept);
    if (count >= maxSamples || (count >= minSamples && this.timeIsUp)) return true;
    return countOf(this.all) >= minSamples && hostMsOf(this.capped) + this.pausedInVainMs > kPatience * maxMs;
  }

  /** Those that fit in a burst by what they took so far: time alone would not hold back what is enqueued ahead. */
  private get mostSamples(): number {
    const known = this.all.map(({ hostMsPerInference }) => hostMsPerInference);
    return known.length === 0 ? Infinity : Math.max(1, Math.floor(this.burstMs / Math.min(...known)));
  }

  get fraction(): number {
    const { minSamples, maxSamples, maxMs } = this.limits;
    const count = countOf(this.kept);
    return Math.min(
      1,
      Math.max(count / maxSamples, Math.min(this.timeIsUp ? 1 : (hostMsOf(this.kept) + this.pausedMs) / maxMs, count / minSamples)),
    );
  }

  async take(): Promise<void> {
    const { warmupMs, minSamples, maxSamples, recoveryMs } = this.limits;
    const first = !this.warm;
    this.warm = true;
    if (first && this.burstMs < kBurstMs) {
      await this.source.take({ warmupMs, minSamples: 1, maxSamples: 1, maxMs: 0 });
      await this.source.pause(recoveryMs);
      return;
    }
    const samples = await this.source.take({
      warmupMs: first ? warmupMs : kBurstWarmupMs,
      minSamples: 1,
      maxSamples: Math.min((this.timeIsUp ? minSamples : maxSamples) - countOf(this.kept), this.mostSamples),
      maxMs: this.burstMs,
    });
    const burst = { ...samples, state: this.source.read() };
    const slowed = recoveryMs > 0 && burst.state !== null && powerCapped([burst.state]);
    this.all.push(burst);
    (slowed ? this.capped : this.kept).push(burst);
    if (slowed) this.burstMs = Math.max(kLeastBurstMs, this.burstMs / 2);
    if (this.burstMs === kBurstMs) return;
    await this.source.pause(recoveryMs);
    this.pausedMs += recoveryMs;
    if (slowed) this.pausedInVainMs += recoveryMs;
  }

  result(): BurstResult {
    const enough = countOf(this.kept) >= this.limits.minSamples,
      chosen = enough ? this.kept : this.all;
    return {
      gpuMs: chosen.flatMap(({ gpuMs }) => Array.from(gpuMs)),
      enqueueMs: chosen.flatMap(({ enqueueMs }) => Array.from(enqueueMs)),
      hostMsPerInference: hostMsOf(chosen) / countOf(chosen),
      states: chosen.flatMap(({ state }) => state ?? []),
      setAsideMs: enough ? this.capped.flatMap(({ gpuMs }) => Array.from(gpuMs)) : [],
    };
  }
}

/** Takes bursts of each source in turn, A B A B, until every one has what `limits` ask for. */
export async function sampleInTurn(sources: readonly BurstSource[], limits: BurstLimits): Promise<readonly BurstResult[]> {
  const all = sources.map((source) => ({ source, bursts: new Bursts(source, limits) }));
  while (all.some(({ bursts }) => !bursts.done)) {
    for (const { source, bursts } of all) {
      if (bursts.done) continue;
      await bursts.take();
      source.onProgress(bursts.fraction);
    }
  }
  return all.map(({ bursts }) => bursts.result());
}

/** Takes bursts of one source. */
export async function sampleInBursts(source: BurstSource, limits: BurstLimits): Promise<BurstResult> {
  return (await sampleInTurn([source], limits))[0]!;
}

/** What a record's warnings say of samples that were set aside. */
export function setAsideWarnings(setAsideMs: readonly number[]): string[] {
  if (setAsideMs.length === 0) return [];
  return [
    `${setAsideMs.length} more samples, their median ${median(setAsideMs).toPrecision(4)} ms, were set aside: the power limit held the clock below ${100 * cappedClockShare} % of the highest, and the GPU was given pauses`,
  ];
}

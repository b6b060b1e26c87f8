/**
 * Samples in bursts. Where the power limit slowed a burst down, the GPU is given a pause, and the burst is set aside, not
 * lost: nvbench's rule (its throttle threshold and recovery delay), with what was set aside in the result.
 */
import type { NativeDeviceState, SamplesOptions, SamplesResult } from '../native.js';
import { cappedClockShare, powerCapped } from './judgement.js';
import { median } from './statistics.js';

/** Device work between two looks at the clock, ms: about what a power limit averages over. */
const kBurstMs = 100;
/** Warm-up of the bursts after the first, whose own is the caller's. */
const kBurstWarmupMs = 2;
/** Work that may be set aside, in multiples of `maxMs`: a GPU that no pause helps is measured as it is. */
const kPatience = 2;

type Limits = Pick<SamplesOptions, 'warmupMs' | 'minSamples' | 'maxSamples' | 'maxMs'>;
/** As in `BenchmarkOptions`. */
export type BurstLimits = Limits & { readonly recoveryMs: number };

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

/** Takes bursts until those without a power cap fulfil `limits`; when patience ends before, all count. */
export async function sampleInBursts(source: BurstSource, limits: BurstLimits): Promise<BurstResult> {
  const { minSamples, maxSamples, maxMs, recoveryMs } = limits;
  const kept: Burst[] = [],
    capped: Burst[] = [],
    all: Burst[] = [];
  let { warmupMs } = limits;
  for (;;) {
    const count = countOf(kept),
      hostMs = hostMsOf(kept),
      timeIsUp = hostMs >= maxMs;
    if (all.length > 0)
      source.onProgress(Math.min(1, Math.max(count / maxSamples, Math.min(timeIsUp ? 1 : hostMs / maxMs, count / minSamples))));
    if (count >= maxSamples || (count >= minSamples && timeIsUp)) break;
    if (countOf(all) >= minSamples && hostMsOf(capped) > kPatience * maxMs) break;
    const samples = await source.take({
      warmupMs,
      minSamples: 1,
      maxSamples: (timeIsUp ? minSamples : maxSamples) - count,
      maxMs: kBurstMs,
    });
    const burst = { ...samples, state: source.read() };
    const slowed = recoveryMs > 0 && burst.state !== null && powerCapped([burst.state]);
    all.push(burst);
    (slowed ? capped : kept).push(burst);
    if (slowed) await source.pause(recoveryMs);
    warmupMs = kBurstWarmupMs;
  }
  const enough = countOf(kept) >= minSamples,
    chosen = enough ? kept : all;
  return {
    gpuMs: chosen.flatMap(({ gpuMs }) => Array.from(gpuMs)),
    enqueueMs: chosen.flatMap(({ enqueueMs }) => Array.from(enqueueMs)),
    hostMsPerInference: hostMsOf(chosen) / countOf(chosen),
    states: chosen.flatMap(({ state }) => state ?? []),
    setAsideMs: enough ? capped.flatMap(({ gpuMs }) => Array.from(gpuMs)) : [],
  };
}

/** What a record's warnings say of samples that were set aside. */
export function setAsideWarnings(setAsideMs: readonly number[]): string[] {
  if (setAsideMs.length === 0) return [];
  return [
    `${setAsideMs.length} more samples, their median ${median(setAsideMs).toPrecision(4)} ms, were set aside: the power limit held the clock below ${100 * cappedClockShare} % of the highest, and the GPU was given pauses`,
  ];
}

/**
 * Statistics of latencies. Two kinds that are never mixed: per-inference samples (median, IQR, nearest-rank percentiles)
 * and the paper's five means (TVM's `BenchmarkResult`: mean, median, min, max, population standard deviation).
 * Pure; the timing loops are native.
 */
import { LadderError } from '../errors.js';
import type { PaperStats, SampleStats } from './record-types.js';

/** Fewest samples for which a percentile's nearest rank is neither the smallest nor the largest by necessity: 1 / (1 − p). */
export const fewestSamples = { p5: 20, p95: 20, p99: 100 } as const;

function sortedCopy(values: ArrayLike<number>): Float64Array {
  if (values.length === 0) throw new LadderError('INTERNAL', 'statistics need at least one value');
  const sorted = Float64Array.from(values);
  for (const value of sorted) {
    if (!(value >= 0 && value < Infinity)) throw new LadderError('INTERNAL', `expected durations of at least 0 ms but received ${value}`);
  }
  return sorted.sort();
}

/**
 * The nearest-rank percentile: the smallest value with at least `percent` % of the values at or below it. Always one of the values.
 * @param sorted ascending, not empty
 * @param percent 0 < percent ≤ 100
 */
export function nearestRank(sorted: ArrayLike<number>, percent: number): number {
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** The middle value, or the mean of the two middle ones. */
export function median(values: ArrayLike<number>): number {
  return medianOfSorted(sortedCopy(values));
}

function medianOfSorted(sorted: Float64Array): number {
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function meanOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Σ(x − mean)² */
function squaredDeviations(values: Float64Array, mean: number): number {
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
}

/**
 * Order statistics of per-inference samples, milliseconds. `stdMs` is the sample standard deviation (n − 1).
 * Percentiles are null below `fewestSamples`: they would only repeat the minimum or maximum.
 */
export function summariseSamples(samplesMs: ArrayLike<number>): SampleStats {
  const sorted = sortedCopy(samplesMs);
  const count = sorted.length;
  const mean = meanOf(sorted);
  return {
    count,
    medianMs: medianOfSorted(sorted),
    iqrMs: nearestRank(sorted, 75) - nearestRank(sorted, 25),
    minMs: sorted[0] ?? Number.NaN,
    maxMs: sorted[count - 1] ?? Number.NaN,
    meanMs: mean,
    stdMs: count > 1 ? Math.sqrt(squaredDeviations(sorted, mean) / (count - 1)) : 0,
    p5Ms: count >= fewestSamples.p5 ? nearestRank(sorted, 5) : null,
    p95Ms: count >= fewestSamples.p95 ? nearestRank(sorted, 95) : null,
    p99Ms: count >= fewestSamples.p99 ? nearestRank(sorted, 99) : null,
  };
}

/**
 * The paper's summary: each value is already a mean over `numbers[i]` inferences, so no percentile can come from them.
 * `stdMs` is the population's, as numpy's default in TVM.
 */
export function summarisePaper(valuesMs: ArrayLike<number>, numbers: ArrayLike<number>): PaperStats {
  const sorted = sortedCopy(valuesMs);
  const mean = meanOf(sorted);
  return {
    valuesMs: Array.from(valuesMs),
    numbers: Array.from(numbers),
    meanMs: mean,
    medianMs: medianOfSorted(sorted),
    minMs: sorted[0] ?? Number.NaN,
    maxMs: sorted[sorted.length - 1] ?? Number.NaN,
    stdMs: Math.sqrt(squaredDeviations(sorted, mean) / sorted.length),
  };
}

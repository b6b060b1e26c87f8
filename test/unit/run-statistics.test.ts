// Statistics of latencies: known values, nearest rank, and refusal to give percentiles that the samples do not carry.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fewestSamples, median, nearestRank, summarisePaper, summariseSamples } from '../../lib/run/statistics.js';

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

describe('nearestRank', () => {
  it('is the textbook definition', () => {
    const sorted = [15, 20, 35, 40, 50];
    expect([5, 30, 40, 50, 100].map((percent) => nearestRank(sorted, percent))).toEqual([15, 20, 20, 35, 50]);
  });

  it('is one of the values, with at least that share at or below it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 200 }),
        fc.integer({ min: 1, max: 100 }),
        (values, percent) => {
          const sorted = [...values].sort((a, b) => a - b);
          const value = nearestRank(sorted, percent);
          expect(sorted).toContain(value);
          expect(sorted.filter((one) => one <= value).length / sorted.length).toBeGreaterThanOrEqual(percent / 100 - 1e-12);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('summariseSamples', () => {
  it('summarises 1…100 in any order', () => {
    const stats = summariseSamples(upTo(100).reverse());
    expect(stats).toMatchObject({
      count: 100,
      medianMs: 50.5,
      minMs: 1,
      maxMs: 100,
      meanMs: 50.5,
      iqrMs: 50,
      p5Ms: 5,
      p95Ms: 95,
      p99Ms: 99,
    });
    expect(stats.stdMs).toBeCloseTo(29.011491975882016, 12);
  });

  it('gives no percentile below its fewest samples', () => {
    expect(summariseSamples(upTo(fewestSamples.p5 - 1))).toMatchObject({ p5Ms: null, p95Ms: null, p99Ms: null });
    expect(summariseSamples(upTo(fewestSamples.p5))).toMatchObject({ p5Ms: 1, p95Ms: 19, p99Ms: null });
    expect(summariseSamples(upTo(99)).p99Ms).toBeNull();
  });

  it('takes one sample, and refuses none, NaN and negative ones', () => {
    expect(summariseSamples([2.5])).toMatchObject({ count: 1, medianMs: 2.5, stdMs: 0, iqrMs: 0 });
    for (const bad of [[], [1, Number.NaN], [-1], [Infinity]])
      expect(() => summariseSamples(bad)).toThrow(/INTERNAL|durations|at least one/);
  });

  it('leaves its input as it was', () => {
    const samples = Float64Array.of(3, 1, 2);
    summariseSamples(samples);
    expect([...samples]).toEqual([3, 1, 2]);
  });
});

describe('summarisePaper', () => {
  it("is numpy's summary of TVM's five values", () => {
    const stats = summarisePaper([0.5, 0.4, 0.6, 0.5, 0.5], [1000, 1000, 1618, 1618, 1618]);
    expect(stats.meanMs).toBeCloseTo(0.5, 12);
    expect(stats.medianMs).toBe(0.5);
    expect([stats.minMs, stats.maxMs]).toEqual([0.4, 0.6]);
    expect(stats.stdMs).toBeCloseTo(Math.sqrt(0.02 / 5), 12);
    expect(stats.valuesMs).toEqual([0.5, 0.4, 0.6, 0.5, 0.5]);
    expect(stats.numbers).toEqual([1000, 1000, 1618, 1618, 1618]);
  });
});

it('median of an even number is between the middle two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
});

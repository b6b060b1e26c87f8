// What makes a measurement invalid, and what only deserves a warning.
import { describe, expect, it } from 'vitest';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import type { NativeDeviceState } from '../../lib/native.js';
import { arithmeticCeiling } from '../../lib/run/ceilings.js';
import { judgeMeasurement, type Evidence } from '../../lib/run/judgement.js';
import { mixedCeiling, rooflineOf } from '../../lib/run/roofline.js';
import { denseShape, plainDense } from '../fixtures/programs.js';

const state = (throttleReasons: string[] | null, smClockMHz: number | null = 1980): NativeDeviceState => ({
  smClockMHz,
  memoryClockMHz: 2619,
  maxSmClockMHz: 1980,
  temperatureC: 45,
  powerW: 400,
  throttleReasons,
});

/** A roofline of `bytes` at `fraction` of the memory's rate. */
const rated = (fraction: number, bytes = 1.7e9): Evidence['roofline'] =>
  rooflineOf({ bytes, flops: 1e6 }, (1000 * bytes) / 3.1e12 / fraction, 3.1e12, 710e12);

const good: Evidence = {
  latencyMs: 0.6,
  launch: 'graph',
  l2: 'hot',
  enqueueMedianMs: 0.01,
  statesDuring: [state([])],
  roofline: rated(0.92),
  bytes: 1.7e9,
  l2Bytes: 50e6,
};
const judge = (change: Partial<Evidence>): ReturnType<typeof judgeMeasurement> => judgeMeasurement({ ...good, ...change });

describe('judgeMeasurement', () => {
  it('lets a clean measurement stand, at idle before or after or not', () => {
    expect(judge({})).toEqual({ invalid: null, warnings: [] });
    expect(judge({ statesDuring: [state(['gpu_idle'])] }).invalid).toBeNull();
  });

  it.each(['hw_slowdown', 'sw_thermal_slowdown', 'hw_thermal_slowdown', 'hw_power_brake_slowdown'])(
    'is invalid after %s, even once',
    (reason) => {
      expect(judge({ statesDuring: [state([]), state([reason]), state([])] }).invalid).toContain(reason);
    },
  );

  it('takes a power cap as a warning down to 75 % of the clock, and as invalid below or when the clock is not known', () => {
    const mild = judge({ statesDuring: [state(['sw_power_cap'], 1800)] });
    expect(mild.invalid).toBeNull();
    expect(mild.warnings.join()).toMatch(/power limit.*91 %/);
    expect(judge({ statesDuring: [state([], 1980), state(['sw_power_cap'], 1400)] }).invalid).toMatch(/power limit.*71 %/);
    expect(judge({ statesDuring: [state(['sw_power_cap'], null)] }).invalid).toMatch(/power limit/);
  });

  it('warns of idle clocks and of an NVML that says nothing', () => {
    expect(judge({ statesDuring: [state([], 345)] }).warnings.join()).toMatch(/17 % of its highest clock/);
    expect(judge({ statesDuring: [state(null, null)] }).warnings.join()).toMatch(/NVML says nothing/);
  });

  it('is invalid above 102 % of the roofline, not at 101 %', () => {
    expect(judge({ roofline: rated(1.01) }).invalid).toBeNull();
    expect(judge({ roofline: rated(1.06) }).invalid).toMatch(/106.0 % of the roofline is more than/);
  });

  it('takes arithmetic above its ceiling as impossible, whatever the caches hold', () => {
    const roofline = rooflineOf({ bytes: 1e6, flops: 7.6e11 }, 1, 3.1e12, 710e12);
    expect(judge({ roofline, bytes: 1e6 }).invalid).toMatch(/107.0 % of the roofline/);
  });

  it('takes a rate that the L2 cache explains as a warning, with cold caches as impossible', () => {
    const resident = judge({ bytes: 40e6, roofline: rated(1.4, 40e6) });
    expect(resident.invalid).toBeNull();
    expect(resident.warnings.join('\n')).toMatch(/140.0 %[\s\S]*L2-resident/);
    // 107 MB of which 50 MB may stay: up to 1.91 times the memory's rate.
    const partly = judge({ bytes: 107e6, roofline: rated(1.2, 107e6) });
    expect([partly.invalid, partly.warnings.join()]).toEqual([null, expect.stringMatching(/120.0 %.*part of the data stayed in the L2/)]);
    expect(judge({ bytes: 107e6, roofline: rated(2, 107e6) }).invalid).toMatch(/200.0 %/);
    expect(judge({ bytes: 40e6, l2: 'cold', roofline: rated(0.8, 40e6) }).warnings).toEqual([]);
    expect(judge({ bytes: 40e6, l2: 'cold', roofline: rated(1.4, 40e6) }).invalid).not.toBeNull();
  });

  it('warns when enqueueing takes more than 80 % of the time', () => {
    expect(judge({ enqueueMedianMs: 0.47 }).warnings).toEqual([]);
    expect(judge({ enqueueMedianMs: 0.54, launch: 'stream' }).warnings.join()).toMatch(/90 %.*launch as a graph/);
  });

  it('has nothing to say of a CPU', () => {
    expect(judge({ statesDuring: [], roofline: null, enqueueMedianMs: null, bytes: null, l2Bytes: null })).toEqual({
      invalid: null,
      warnings: [],
    });
  });
});

describe('roofline', () => {
  it('rates by the larger of both terms', () => {
    const memory = rooflineOf({ bytes: 3.1e9, flops: 1e9 }, 2, 3.1e12, 710e12);
    expect(memory.fraction).toBeCloseTo(0.5, 12);
    expect(memory.bytesPerSecond).toBeCloseTo(1.55e12, 0);
    const arithmetic = rooflineOf({ bytes: 1e6, flops: 7.1e12 }, 20, 3.1e12, 710e12);
    expect(arithmetic.fraction).toBeCloseTo(0.5, 12);
    expect(rooflineOf({ bytes: 3.1e9, flops: 1e15 }, 2, 3.1e12, null).fraction).toBeCloseTo(0.5, 12);
  });

  it('mixes the ceilings of formats by the time that each takes', () => {
    const dense = plainDense(denseShape('fp8_e5m2'));
    const attention = programOfV1({
      op: 'attention',
      batch: 1,
      seq: 1,
      heads: 4,
      kvHeads: 4,
      headDim: 64,
      order: 'concatenated',
      position: 'rope',
      ropeBase: 10000,
    });
    const h100 = 'NVIDIA H100 80GB HBM3';
    const mixed = mixedCeiling(h100, [
      { program: dense, flops: 1870e12 },
      { program: attention, flops: 931e12 },
    ]);
    expect(mixed).toBeCloseTo((1870e12 + 931e12) / 2, -6);
    expect(mixedCeiling('a GPU of tomorrow', [{ program: dense, flops: 1 }])).toBeNull();
    expect(arithmeticCeiling(h100, 'int4')).toBe(arithmeticCeiling(h100, 'int8'));
  });
});

/**
 * Whether a measurement may be believed: throttling, idle clocks, enqueueing, caches and impossible rates.
 * Pure: readings and figures in, warnings and the reason for invalidity out.
 */
import type { NativeDeviceState } from '../native.js';
import { shareInL2 } from './conditions.js';
import type { Roofline } from './roofline.js';

/** Events after which a GPU runs slower than it was asked to: the figure is not the GPU's. */
const invalidating: readonly string[] = ['hw_slowdown', 'sw_thermal_slowdown', 'hw_thermal_slowdown', 'hw_power_brake_slowdown'];
/** Below this share of the highest clock, a power cap has shaped the figure: nvbench's threshold. A GPU at its power limit is at work, not at fault. */
export const cappedClockShare = 0.75;
/** Below this share, the GPU had not left its idle clocks. */
const kIdleClockShare = 0.5;
/** The ceiling itself is measured, to about 2 %. */
const kCeilingTolerance = 0.02;
/** Above this share of the GPU time, launches arrive too late to keep the GPU busy. */
const kEnqueueShare = 0.8;

/** What is known when a measurement is over. */
export interface Evidence {
  /** The headline latency. */
  readonly latencyMs: number;
  readonly launch: 'stream' | 'graph';
  readonly l2: 'hot' | 'cold';
  /** `sustained`: the power limit is a part of what was measured. */
  readonly condition?: 'burst' | 'sustained' | null;
  readonly enqueueMedianMs: number | null;
  /** Readings while the device worked, the last one right at the end; empty on the CPU. */
  readonly statesDuring: readonly NativeDeviceState[];
  readonly roofline: Roofline | null;
  /** Bytes that the checkpoint must read per inference, and the L2 cache's size; null where unknown. */
  readonly bytes: number | null;
  readonly l2Bytes: number | null;
}

export interface Judgement {
  /** null: the measurement stands. */
  readonly invalid: string | null;
  readonly warnings: readonly string[];
}

/** Judges a measurement. */
export function judgeMeasurement(evidence: Evidence): Judgement {
  const invalid: string[] = [];
  const warnings: string[] = [];
  const reasons = new Set(evidence.statesDuring.flatMap((state) => state.throttleReasons ?? []));
  const slowdowns = invalidating.filter((reason) => reasons.has(reason));
  if (slowdowns.length > 0) invalid.push(`the GPU was throttled (${slowdowns.join(', ')})`);

  const share = clockShare(evidence.statesDuring);
  if (reasons.has('sw_power_cap')) {
    const text = `the power limit was reached${share === null ? '' : `, at ${Math.round(100 * share)} % of the highest clock`}`;
    if (evidence.condition !== 'sustained') (powerCapped(evidence.statesDuring) ? invalid : warnings).push(text);
  } else if (share !== null && share < kIdleClockShare) {
    warnings.push(
      `the GPU ran at ${Math.round(100 * share)} % of its highest clock without a power or thermal limit: it may not have left its idle clocks`,
    );
  }
  if (evidence.statesDuring.length > 0 && evidence.statesDuring.every((state) => state.throttleReasons === null)) {
    warnings.push('NVML says nothing of clocks and throttling, so that neither could be checked');
  }

  if (evidence.roofline) {
    const excess = judgeRates(evidence.roofline, evidence.l2 === 'hot' ? evidence.l2Bytes : 0);
    if (excess?.possible === false) invalid.push(excess.text);
    if (excess?.possible === true) warnings.push(excess.text);
  }
  const kept = evidence.l2 === 'hot' ? shareInL2(evidence.bytes, evidence.l2Bytes) : 0;
  if (kept === 1) warnings.push('L2-resident: the checkpoint fits in the L2 cache, so that its weights need not come from device memory');
  else if (kept > 0)
    warnings.push(`up to ${Math.round(100 * kept)} % of what an inference reads may stay in the L2 cache from the one before`);
  if (evidence.enqueueMedianMs !== null && evidence.enqueueMedianMs > kEnqueueShare * evidence.latencyMs) {
    warnings.push(
      `enqueueing takes ${Math.round((100 * evidence.enqueueMedianMs) / evidence.latencyMs)} % of the GPU's time: the host may set the pace${evidence.launch === 'stream' ? '; launch as a graph' : ''}`,
    );
  }
  return { invalid: invalid.length > 0 ? invalid.join('; ') : null, warnings };
}

/**
 * Rates above the ceilings. With a hot L2 cache at most its size need not come from device memory: a rate that this
 * explains is worth a warning, any other is impossible.
 */
function judgeRates(roofline: Roofline, reusableBytes: number | null): { possible: boolean; text: string } | null {
  const memory = roofline.bytesPerSecond / roofline.ceilingBytesPerSecond;
  const arithmetic = roofline.ceilingFlopsPerSecond === null ? 0 : roofline.flopsPerSecond / roofline.ceilingFlopsPerSecond;
  const limit = 1 + kCeilingTolerance;
  if (memory <= limit && arithmetic <= limit) return null;
  const fromMemory = roofline.bytes > 0 ? Math.max(0, roofline.bytes - (reusableBytes ?? 0)) / roofline.bytes : 1;
  const text = `${(100 * Math.max(memory, arithmetic)).toFixed(1)} % of the roofline`;
  return arithmetic <= limit && memory * fromMemory <= limit
    ? { possible: true, text: `${text}: part of the data stayed in the L2 cache (l2 'cold' shows the time without)` }
    : { possible: false, text: `${text} is more than the device can do: the work was not all done, or its bytes or FLOPs are miscounted` };
}

/** Whether the power limit held the clock so low, or nobody knows how low, that it has shaped what was measured. */
export function powerCapped(states: readonly NativeDeviceState[]): boolean {
  return states.some(({ throttleReasons }) => throttleReasons?.includes('sw_power_cap')) && (clockShare(states) ?? 0) < cappedClockShare;
}

/** Lowest SM clock over the highest possible one; null where NVML does not say. */
function clockShare(states: readonly NativeDeviceState[]): number | null {
  const shares = states.flatMap(({ smClockMHz, maxSmClockMHz }) =>
    smClockMHz !== null && maxSmClockMHz ? [smClockMHz / maxSmClockMHz] : [],
  );
  return shares.length > 0 ? Math.min(...shares) : null;
}

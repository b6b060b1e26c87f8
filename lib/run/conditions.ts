/**
 * The two conditions under which a GPU is measured, and which cases need both, or a cold L2 cache as well. `burst`: samples at a clock that the power limit
 * does not shape, with rests where it would (bursts.ts). `sustained`: a GPU that has been at work, at the clock that its power
 * limit leaves it, nothing set aside. Work that arithmetic decides runs into the limit by nature, so that one figure of it says
 * half; figures of one condition are compared with figures of the same.
 */
import type { Manifest } from '../artifact/manifest.js';
import { parseSetting } from '../models/index.js';
import type { NativeDeviceState } from '../native.js';

/** Load before the first sustained sample, ms: ten times what a power limit averages over. */
export const kSustainedLoadMs = 1000;
/** Reuse of a weight from which arithmetic, not memory, decides: half the FLOPs per byte that an H100's FP16 units can take. */
const kComputeBoundReuse = 128;

/**
 * Whether both conditions are to be measured. By the case, so that it is the same for every system and format: how many rows,
 * tokens or images at once, each weight is multiplied with; where the setting says nothing, FLOPs per byte.
 * @param setting `bs1_seq4096`, `bs1_seq4096_causal`, `bs128`, …
 */
export function isComputeBound(setting: string, work: Pick<Manifest, 'flops' | 'bytes'> | null = null): boolean {
  const shape = parseSetting(setting);
  if (shape) return shape.batch * shape.seq >= kComputeBoundReuse;
  return work !== null && work.bytes > 0 && work.flops / work.bytes >= kComputeBoundReuse;
}

/** From this share on, what the L2 cache keeps from one inference to the next may show in the figure. */
const kKeptShare = 0.1;

/** How much of what an inference reads the L2 cache may keep for the next, 0…1: at most its size. 0 where it would not show, or nothing is known. */
export function shareInL2(bytes: number | null, l2Bytes: number | null): number {
  const share = bytes === null || l2Bytes === null || bytes === 0 ? 0 : Math.min(1, l2Bytes / bytes);
  return share >= kKeptShare ? share : 0;
}

/** Mean clock and power of readings; null where NVML does not say. */
export interface MeanState {
  readonly smClockMHz: number | null;
  readonly powerW: number | null;
}

/** The means of readings that were taken while samples were; null without any. */
export function meanState(states: readonly NativeDeviceState[]): MeanState | null {
  if (states.length === 0) return null;
  const mean = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length > 0 ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  };
  return { smClockMHz: mean(states.map(({ smClockMHz }) => smClockMHz)), powerW: mean(states.map(({ powerW }) => powerW)) };
}

/** Clock and watts in words, for tables. */
export function describeMeanState(state: MeanState | null | undefined): string {
  const parts = [
    ...(state?.smClockMHz == null ? [] : [`${Math.round(state.smClockMHz)} MHz`]),
    ...(state?.powerW == null ? [] : [`${Math.round(state.powerW)} W`]),
  ];
  return parts.join(', ') || '—';
}

/**
 * One form for every number that can be compared or drawn. An entry knows what the clock saw, on which GPU, and where the
 * number comes from; a case without a number knows why. Making them of data, logs and records is entries.ts's.
 */
import type { MeanState } from '../run/conditions.js';
import type { ClockKind } from '../run/record-types.js';
import type { Mark } from './data.js';

/** Where the true latency lies, and what says so. */
export interface Interval {
  readonly lowMs: number;
  readonly highMs: number;
  /** 95 % confidence interval of the median from the samples' order, or the smallest and largest value that was printed. */
  readonly kind: 'median-ci95' | 'range';
}

/** Achieved rates of a case and the ceilings they stand against. */
export interface EntryRoofline {
  readonly bytesPerSecond: number;
  readonly flopsPerSecond: number;
  readonly ceilingBytesPerSecond: number;
  readonly ceilingFlopsPerSecond: number | null;
  /** Floor over measured time. */
  readonly fraction: number;
  /** Whether the time is that with a cold L2 cache, since a hot one may keep some of what the case reads. */
  readonly coldL2: boolean;
  /** Bandwidth from the record and arithmetic from the table of known GPUs (lib/run/ceilings.ts); arithmetic from cuBLASLt's products on that GPU; neither measured. */
  readonly ceilings: 'measured' | 'measured, cuBLASLt' | 'data sheet';
}

export interface Entry {
  /** As recorded: `Ladder`, `TensorRT`, `ladder.node`, `pytorch-eager`, … */
  readonly system: string;
  /** As Figure 8 spells it; ours and the authors' Ladder are one family. */
  readonly family: string;
  readonly model: string;
  readonly setting: string;
  readonly format: string;
  /** Null where there is no valid number; then `reason` says why. */
  readonly latencyMs: number | null;
  readonly reason: string | null;
  readonly interval: Interval | null;
  readonly clock: ClockKind | null;
  readonly gpu: string | null;
  readonly l2: 'hot' | 'cold' | null;
  /** The latency with a cold L2 cache, where the one above is with a hot one that may keep some of what is read. */
  readonly coldMs: number | null;
  /** Under which of the two conditions it was measured; null where nothing was done about the power limit, or nobody says. */
  readonly condition: 'burst' | 'sustained' | null;
  /** Clock and power meanwhile. */
  readonly meanState: MeanState | null;
  readonly roofline: EntryRoofline | null;
  readonly marks: readonly Mark[];
  /** Set, log or record file. */
  readonly source: string;
  readonly date: string | null;
  readonly commit: string | null;
}

/** Entries under a name for tables. */
export interface EntrySet {
  readonly name: string;
  readonly entries: readonly Entry[];
  /** Logs without a case, and other remarks. */
  readonly remarks: readonly string[];
}

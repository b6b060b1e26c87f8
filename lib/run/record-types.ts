/**
 * Result records: one JSON file per measured case, ours or a rival's, with everything that says what the figure means.
 * Figures in tables and charts come from these files only. Field names carry their units.
 */

/** What the clock saw; figures of different kinds are never compared silently. */
export const clockKinds = ['gpu-events', 'gpu-compute', 'host-sync', 'host-copies', 'host-nosync', 'cpu-host'] as const;
export type ClockKind = (typeof clockKinds)[number];

/** Order statistics of per-inference samples. Percentiles are nearest rank, null where there are too few samples. */
export interface SampleStats {
  count: number;
  medianMs: number;
  iqrMs: number;
  minMs: number;
  maxMs: number;
  meanMs: number;
  stdMs: number;
  p5Ms: number | null;
  p95Ms: number | null;
  p99Ms: number | null;
}

/** TVM's rule: five means over many inferences; std is the population's. */
export interface PaperStats {
  valuesMs: number[];
  numbers: number[];
  meanMs: number;
  medianMs: number;
  minMs: number;
  maxMs: number;
  stdMs: number;
}

/** Clocks and throttling at one moment. */
export interface RecordedState {
  smClockMHz: number | null;
  memoryClockMHz: number | null;
  maxSmClockMHz: number | null;
  temperatureC: number | null;
  powerW: number | null;
  throttleReasons: string[] | null;
}

/** Mean clock and power while samples were taken. */
export interface RecordedMeanState {
  smClockMHz: number | null;
  powerW: number | null;
}

/** What a GPU reaches that has been at work: no sample set aside, whatever the power limit does to the clock. */
export interface SustainedFigures {
  /** Median of the samples; null where they are not to be quoted, and `reason` says why. */
  latencyMs: number | null;
  reason: string | null;
  /** Work before the first sample. */
  loadMs: number;
  samples: SampleStats;
  rawMs: number[];
  meanState: RecordedMeanState | null;
}

/** Rates over a time, and the ceilings that they stand under. */
export interface RecordedRoofline {
  bytes: number;
  flops: number;
  bytesPerSecond: number;
  flopsPerSecond: number;
  ceilingBytesPerSecond: number;
  ceilingFlopsPerSecond: number | null;
  /** Floor over measured time: the larger of the two terms, 0…1. */
  fraction: number;
}

/** The headline's case with an L2 cache that holds nothing of it: what memory delivers. */
export interface ColdFigures {
  /** Median of the samples; null where they are not to be quoted, and `reason` says why. */
  latencyMs: number | null;
  reason: string | null;
  samples: SampleStats;
  rawMs: number[];
  meanState: RecordedMeanState | null;
  roofline: RecordedRoofline | null;
}

export interface BenchRecord {
  schema: 'ladder-record/1';
  /** `ladder.node` for ours; `pytorch-eager`, `pytorch-inductor`, … for a rival. */
  system: string;
  /** Version of that system. */
  systemVersion: string;
  /** As in Figure 8's data: llama2-70b, …; for a foreign checkpoint its folder's name. */
  model: string;
  /** bs1_seq1, bs32_seq1, bs1_seq4096, bs1, bs128; bs1_seq1_layers80 (models/model.ts). */
  setting: string;
  /** W_FP16 A_FP16, … */
  format: string;
  /** Checkpoint folder's name; null for a rival. */
  checkpoint: string | null;
  status: 'ok' | 'invalid' | 'failed';
  /** Why it is invalid or failed; null when ok. */
  reason: string | null;
  warnings: string[];
  clock: ClockKind;
  mode: 'paper' | 'samples';
  launch: 'stream' | 'graph';
  l2: 'hot' | 'cold';
  /** The headline: median of samples, or the mean of the paper's five values. Null when failed. */
  latencyMs: number | null;
  samples: SampleStats | null;
  paper: PaperStats | null;
  /** Raw per-inference samples. */
  rawMs: number[] | null;
  /** How the headline's samples were taken; null where nothing was done about the power limit. Absent in records before 2026-11-26. */
  condition?: 'burst' | null | undefined;
  /** Beside the headline. */
  meanState?: RecordedMeanState | null | undefined;
  /** Where both conditions are measured (conditions.ts). */
  sustained?: SustainedFigures | null | undefined;
  /** Where the L2 cache may keep some of what the headline reads (conditions.ts); absent in records before it was measured. */
  cold?: ColdFigures | null | undefined;
  enqueueMedianMs: number | null;
  hostMsPerInference: number | null;
  load: { buildMs: number; dlopenMs: number; moduleMs: number; allocateMs: number; fillMs: number } | null;
  /** Of the headline; where `cold` has one, that is what memory delivered. */
  roofline: RecordedRoofline | null;
  verified: boolean | null;
  device: {
    kind: 'cuda' | 'cpu';
    name: string;
    computeCapability: string | null;
    driverVersion: string | null;
    multiprocessors: number | null;
    memoryBytes: number;
    l2Bytes: number | null;
    /** What the `device` option takes: cuda:1. Absent in records before 2026-11-27, and of rivals. */
    id?: string | undefined;
  };
  stateBefore: RecordedState | null;
  stateAfter: RecordedState | null;
  /** ISO 8601, UTC. */
  date: string;
  /** Commit of this project the figure was measured with; "unknown" outside a clone; "+dirty" appended for uncommitted changes. */
  commit: string;
  /** A rival's further facts, which have no field of their own: versions of its libraries, compile time, memory format, … */
  provenance?: Record<string, string | number | boolean | null> | undefined;
  /** What a bench measured: hashes of the checkpoint's files, of this package's code, the device, … (bench-content.ts); null: absent. */
  content?: Record<string, string | null> | undefined;
  /** SHA-256 of the rest of the record, so that an edited one is seen. */
  sha256?: string | undefined;
}

/**
 * Result records: one JSON file per measured case, ours or a rival's, with everything that says what the figure means.
 * Figures in tables and charts come from these files only. Field names carry their units.
 */
import { z } from 'zod';
import { LadderError } from '../errors.js';

/** What the clock saw; figures of different kinds are never compared silently. */
export const clockKinds = ['gpu-events', 'gpu-compute', 'host-sync', 'host-copies', 'host-nosync', 'cpu-host'] as const;
export type ClockKind = (typeof clockKinds)[number];

const ms = z.number().nonnegative();

/** Order statistics of per-inference samples. Percentiles are nearest rank, null where there are too few samples. */
export const sampleStatsSchema = z.strictObject({
  count: z.number().int().positive(),
  medianMs: ms,
  iqrMs: ms,
  minMs: ms,
  maxMs: ms,
  meanMs: ms,
  stdMs: ms,
  p5Ms: ms.nullable(),
  p95Ms: ms.nullable(),
  p99Ms: ms.nullable(),
});
export type SampleStats = z.infer<typeof sampleStatsSchema>;

/** TVM's rule: five means over many inferences; std is the population's. */
export const paperStatsSchema = z.strictObject({
  valuesMs: z.array(ms).min(1),
  numbers: z.array(z.number().positive()),
  meanMs: ms,
  medianMs: ms,
  minMs: ms,
  maxMs: ms,
  stdMs: ms,
});
export type PaperStats = z.infer<typeof paperStatsSchema>;

/** Clocks and throttling at one moment. */
export const deviceStateSchema = z.strictObject({
  smClockMHz: z.number().nullable(),
  memoryClockMHz: z.number().nullable(),
  maxSmClockMHz: z.number().nullable(),
  temperatureC: z.number().nullable(),
  powerW: z.number().nullable(),
  throttleReasons: z.array(z.string()).nullable(),
});

/** Mean clock and power while samples were taken. */
export const meanStateSchema = z.strictObject({ smClockMHz: z.number().nullable(), powerW: z.number().nullable() });

/** What a GPU reaches that has been at work: no sample set aside, whatever the power limit does to the clock. */
export const sustainedSchema = z.strictObject({
  /** Median of the samples; null where they are not to be quoted, and `reason` says why. */
  latencyMs: ms.nullable(),
  reason: z.string().nullable(),
  /** Work before the first sample. */
  loadMs: ms,
  samples: sampleStatsSchema,
  rawMs: z.array(ms),
  meanState: meanStateSchema.nullable(),
});
export type SustainedFigures = z.infer<typeof sustainedSchema>;

/** Rates over a time, and the ceilings that they stand under. */
export const rooflineSchema = z.strictObject({
  bytes: z.number().nonnegative(),
  flops: z.number().nonnegative(),
  bytesPerSecond: z.number().nonnegative(),
  flopsPerSecond: z.number().nonnegative(),
  ceilingBytesPerSecond: z.number().positive(),
  ceilingFlopsPerSecond: z.number().positive().nullable(),
  /** Floor over measured time: the larger of the two terms, 0…1. */
  fraction: z.number().nonnegative(),
});

/** The headline's case with an L2 cache that holds nothing of it: what memory delivers. */
export const coldSchema = z.strictObject({
  /** Median of the samples; null where they are not to be quoted, and `reason` says why. */
  latencyMs: ms.nullable(),
  reason: z.string().nullable(),
  samples: sampleStatsSchema,
  rawMs: z.array(ms),
  meanState: meanStateSchema.nullable(),
  roofline: rooflineSchema.nullable(),
});
export type ColdFigures = z.infer<typeof coldSchema>;

export const recordSchema = z.strictObject({
  schema: z.literal('ladder-record/1'),
  /** `ladder.node` for ours; `pytorch-eager`, `pytorch-inductor`, … for a rival. */
  system: z.string().min(1),
  /** Version of that system. */
  systemVersion: z.string(),
  /** As in Figure 8's data: llama2-70b, …; for a foreign checkpoint its folder's name. */
  model: z.string().min(1),
  /** bs1_seq1, bs32_seq1, bs1_seq4096, bs1, bs128; bs1_seq1_layers80 (models/model.ts). */
  setting: z.string().min(1),
  /** W_FP16 A_FP16, … */
  format: z.string().min(1),
  /** Checkpoint folder's name; null for a rival. */
  checkpoint: z.string().nullable(),
  status: z.enum(['ok', 'invalid', 'failed']),
  /** Why it is invalid or failed; null when ok. */
  reason: z.string().nullable(),
  warnings: z.array(z.string()),
  clock: z.enum(clockKinds),
  mode: z.enum(['paper', 'samples']),
  launch: z.enum(['stream', 'graph']),
  l2: z.enum(['hot', 'cold']),
  /** The headline: median of samples, or the mean of the paper's five values. Null when failed. */
  latencyMs: ms.nullable(),
  samples: sampleStatsSchema.nullable(),
  paper: paperStatsSchema.nullable(),
  /** Raw per-inference samples. */
  rawMs: z.array(ms).nullable(),
  /** How the headline's samples were taken; null where nothing was done about the power limit. Absent in records before 2026-11-26. */
  condition: z.literal('burst').nullable().optional(),
  /** Beside the headline. */
  meanState: meanStateSchema.nullable().optional(),
  /** Where both conditions are measured (conditions.ts). */
  sustained: sustainedSchema.nullable().optional(),
  /** Where the L2 cache may keep some of what the headline reads (conditions.ts); absent in records before it was measured. */
  cold: coldSchema.nullable().optional(),
  enqueueMedianMs: ms.nullable(),
  hostMsPerInference: ms.nullable(),
  load: z.strictObject({ buildMs: ms, dlopenMs: ms, moduleMs: ms, allocateMs: ms, fillMs: ms }).nullable(),
  /** Of the headline; where `cold` has one, that is what memory delivered. */
  roofline: rooflineSchema.nullable(),
  verified: z.boolean().nullable(),
  device: z.strictObject({
    /** What the `device` option takes: `cuda:1`. Absent in records before 2026-11-27. */
    id: z.string().min(1).optional(),
    kind: z.enum(['cuda', 'cpu']),
    name: z.string(),
    computeCapability: z.string().nullable(),
    driverVersion: z.string().nullable(),
    multiprocessors: z.number().nullable(),
    memoryBytes: z.number(),
    l2Bytes: z.number().nullable(),
  }),
  stateBefore: deviceStateSchema.nullable(),
  stateAfter: deviceStateSchema.nullable(),
  /** ISO 8601, UTC. */
  date: z.string(),
  /** Commit of this project the figure was measured with; "unknown" outside a clone; "+dirty" appended for uncommitted changes. */
  commit: z.string(),
  /** A rival's further facts, which have no field of their own: versions of its libraries, compile time, memory format, … */
  provenance: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).optional(),
  /** What a bench measured: hashes of the checkpoint's files, of this package's code, the device, … (bench-content.ts); null: absent. */
  content: z.record(z.string(), z.string().nullable()).optional(),
  /** SHA-256 of the rest of the record, so that an edited one is seen. */
  sha256: z.string().optional(),
});
export type BenchRecord = z.infer<typeof recordSchema>;

/** The figures of a case from which nothing was measured. */
export const unmeasured = {
  latencyMs: null,
  samples: null,
  paper: null,
  rawMs: null,
  enqueueMedianMs: null,
  hostMsPerInference: null,
  load: null,
  roofline: null,
  verified: null,
} as const satisfies Partial<BenchRecord>;

/**
 * Parses JSON by a schema.
 * @param remedy ends the message: what to do about it
 * @throws LadderError `BAD_RECORD` naming the field
 */
export function parseAs<T>(schema: z.ZodType<T>, text: string, source: string, remedy = ''): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new LadderError('BAD_RECORD', `${source} is not JSON: ${(cause as Error).message}${remedy}`, { source }, { cause });
  }
  const result = schema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new LadderError(
      'BAD_RECORD',
      `${source}: ${issue?.path.join('.') || 'root'}: ${issue?.message ?? 'does not fit the schema'}${remedy}`,
      { source },
    );
  }
  return result.data;
}

/**
 * Parses one record.
 * @throws LadderError `BAD_RECORD` naming the field
 */
export function parseRecord(text: string, source: string): BenchRecord {
  return parseAs(recordSchema, text, source);
}

/** The schema of records (record-types.ts), of ours and of others' that come from processes and files. */
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { type BenchRecord, clockKinds } from './record-types.js';

const ms = z.number().nonnegative();

const sampleStatsSchema = z.strictObject({
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

const paperStatsSchema = z.strictObject({
  valuesMs: z.array(ms).min(1),
  numbers: z.array(z.number().positive()),
  meanMs: ms,
  medianMs: ms,
  minMs: ms,
  maxMs: ms,
  stdMs: ms,
});

export const deviceStateSchema = z.strictObject({
  smClockMHz: z.number().nullable(),
  memoryClockMHz: z.number().nullable(),
  maxSmClockMHz: z.number().nullable(),
  temperatureC: z.number().nullable(),
  powerW: z.number().nullable(),
  throttleReasons: z.array(z.string()).nullable(),
});

const meanStateSchema = z.strictObject({ smClockMHz: z.number().nullable(), powerW: z.number().nullable() });

const sustainedSchema = z.strictObject({
  latencyMs: ms.nullable(),
  reason: z.string().nullable(),
  loadMs: ms,
  samples: sampleStatsSchema,
  rawMs: z.array(ms),
  meanState: meanStateSchema.nullable(),
});

const rooflineSchema = z.strictObject({
  bytes: z.number().nonnegative(),
  flops: z.number().nonnegative(),
  bytesPerSecond: z.number().nonnegative(),
  flopsPerSecond: z.number().nonnegative(),
  ceilingBytesPerSecond: z.number().positive(),
  ceilingFlopsPerSecond: z.number().positive().nullable(),
  fraction: z.number().nonnegative(),
});

const coldSchema = z.strictObject({
  latencyMs: ms.nullable(),
  reason: z.string().nullable(),
  samples: sampleStatsSchema,
  rawMs: z.array(ms),
  meanState: meanStateSchema.nullable(),
  roofline: rooflineSchema.nullable(),
});

export const recordSchema = z.strictObject({
  schema: z.literal('ladder-record/1'),
  system: z.string().min(1),
  systemVersion: z.string(),
  model: z.string().min(1),
  setting: z.string().min(1),
  format: z.string().min(1),
  checkpoint: z.string().nullable(),
  status: z.enum(['ok', 'invalid', 'failed']),
  reason: z.string().nullable(),
  warnings: z.array(z.string()),
  clock: z.enum(clockKinds),
  mode: z.enum(['paper', 'samples']),
  launch: z.enum(['stream', 'graph']),
  l2: z.enum(['hot', 'cold']),
  latencyMs: ms.nullable(),
  samples: sampleStatsSchema.nullable(),
  paper: paperStatsSchema.nullable(),
  rawMs: z.array(ms).nullable(),
  condition: z.literal('burst').nullable().optional(),
  meanState: meanStateSchema.nullable().optional(),
  sustained: sustainedSchema.nullable().optional(),
  cold: coldSchema.nullable().optional(),
  enqueueMedianMs: ms.nullable(),
  hostMsPerInference: ms.nullable(),
  load: z.strictObject({ buildMs: ms, dlopenMs: ms, moduleMs: ms, allocateMs: ms, fillMs: ms }).nullable(),
  roofline: rooflineSchema.nullable(),
  verified: z.boolean().nullable(),
  device: z.strictObject({
    kind: z.enum(['cuda', 'cpu']),
    name: z.string(),
    computeCapability: z.string().nullable(),
    driverVersion: z.string().nullable(),
    multiprocessors: z.number().nullable(),
    memoryBytes: z.number(),
    l2Bytes: z.number().nullable(),
    id: z.string().min(1).optional(),
  }),
  stateBefore: deviceStateSchema.nullable(),
  stateAfter: deviceStateSchema.nullable(),
  date: z.string(),
  commit: z.string(),
  provenance: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).optional(),
  content: z.record(z.string(), z.string().nullable()).optional(),
  sha256: z.string().optional(),
}) satisfies z.ZodType<BenchRecord>;

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

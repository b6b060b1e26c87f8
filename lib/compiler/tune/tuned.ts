/**
 * tuned/<arch>.json of a checkpoint: the template parameters that the tuner found fastest on one GPU architecture,
 * by operator, and how they were found.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { readSmallFile } from '../../artifact/regular-file.js';
import { parseAs } from '../../run/record.js';
import type { LoweredOperator } from '../graph/lower.js';
import type { Tuning } from '../kernels/plan.js';

export const tunedSchema = z.strictObject({
  schema: z.literal('ladder-tuned/2'),
  /** nvcc's name of the architecture, e.g. sm_90a. */
  arch: z.string().min(1),
  gpu: z.string().min(1),
  /** ISO 8601, UTC. */
  date: z.string(),
  commit: z.string(),
  /** Wall-clock time of the search, builds included. */
  seconds: z.number().nonnegative(),
  operators: z.record(
    z.string(),
    z.strictObject({
      parameters: z.record(z.string(), z.number()),
      /** Median latency of the whole checkpoint with these parameters and with the defaults, in the same run. */
      latencyMs: z.number().positive(),
      defaultLatencyMs: z.number().positive(),
      candidates: z.number().int().positive(),
    }),
  ),
});
export type Tuned = z.infer<typeof tunedSchema>;

/**
 * What tunings are kept by: kernel family, its version, shape and formats. The same operator in another layer or checkpoint has
 * the same key, whatever else is said of it.
 */
export function tuningKey({ family, match }: Pick<LoweredOperator, 'family' | 'match'>): string {
  return `${family.id}@${family.version} ${family.key(match)}`;
}

const kMaxTunedBytes = 4 << 20;

/** Reads tuned/<arch>.json below a checkpoint's folder; null when the checkpoint was not tuned for it. */
export async function readTuned(folder: string, arch: string): Promise<Tuned | null> {
  const path = join(folder, 'tuned', `${arch}.json`);
  const bytes = await readSmallFile(path, kMaxTunedBytes, 'BAD_RECORD');
  return bytes && parseTuned(Buffer.from(bytes).toString('utf8'), path);
}

/** @throws LadderError `BAD_RECORD` naming the field */
export function parseTuned(text: string, source: string): Tuned {
  return parseAs(tunedSchema, text, source, '; delete it or tune again');
}

/** The parameters of one operator: the tuned ones, or none, which means the planner's defaults. */
export function tuningOf(tuned: Tuned | null, operator: Pick<LoweredOperator, 'family' | 'match'>): Tuning {
  return tuned?.operators[tuningKey(operator)]?.parameters ?? {};
}

/**
 * tuned/<arch>.json of a checkpoint: the template parameters that the tuner found fastest on one GPU architecture,
 * by operator, and how they were found.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { readSmallFile } from '../../artifact/regular-file.js';
import { parseAs } from '../../run/record-schema.js';
import type { LoweredOperator } from '../graph/lower.js';
import type { Tuning } from '../kernels/plan.js';
import type { Tuned } from '../types.js';

const tunedSchema: z.ZodType<Tuned> = z.strictObject({
  schema: z.literal('ladder-tuned/2'),
  arch: z.string().min(1),
  gpu: z.string().min(1),
  date: z.string(),
  commit: z.string(),
  seconds: z.number().nonnegative(),
  operators: z.record(
    z.string(),
    z.strictObject({
      parameters: z.record(z.string(), z.number()),
      latencyMs: z.number().positive(),
      defaultLatencyMs: z.number().positive(),
      candidates: z.number().int().positive(),
    }),
  ),
});

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

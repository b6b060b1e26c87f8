/** Records as they are read and begun. */
import { parseAs, recordSchema } from './record-schema.js';
import type { BenchRecord } from './record-types.js';

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
 * Parses one record.
 * @throws LadderError `BAD_RECORD` naming the field
 */
export function parseRecord(text: string, source: string): BenchRecord {
  return parseAs(recordSchema, text, source);
}

/**
 * What `ladder bench` measures, as data: bench/cases.json per kind of device, changed by what the command line says.
 * A case also names the file of its record, so that a bench that was interrupted finds what it has.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { decodeText } from '../files.js';
import { deviceFolder, type DeviceInfo } from './device.js';
import { packageRoot, type FoundCheckpoint } from './package.js';

const timingSchema = z.strictObject({
  mode: z.enum(['samples', 'paper']),
  launch: z.enum(['auto', 'graph', 'stream']),
  l2: z.enum(['hot', 'cold']),
  warmupMs: z.number().nonnegative().optional(),
  minSamples: z.number().int().positive().optional(),
  maxSamples: z.number().int().positive().optional(),
  maxMs: z.number().nonnegative().optional(),
  recoveryMs: z.number().nonnegative().optional(),
  sustained: z.enum(['auto', 'on', 'off']).optional(),
  cold: z.enum(['auto', 'on', 'off']).optional(),
  number: z.number().int().positive().optional(),
  repeat: z.number().int().positive().optional(),
  minRepeatMs: z.number().nonnegative().optional(),
});
/** How a case is timed; as `BenchmarkOptions`. */
export type CaseTiming = z.infer<typeof timingSchema>;

const deviceCasesSchema = z.strictObject({
  /** Names below checkpoints/, or all that are there. */
  checkpoints: z.union([z.literal('all'), z.array(z.string().min(1)).min(1)]),
  timing: timingSchema,
  /** Whether each case also verifies its operators. */
  verify: z.boolean(),
});
const casesSchema = z.strictObject({ schema: z.literal('ladder-bench-cases/1'), cuda: deviceCasesSchema, cpu: deviceCasesSchema });

/** The default cases of one kind of device. */
export type DeviceCases = z.infer<typeof deviceCasesSchema>;

/** One measurement to make. */
export interface BenchCase extends FoundCheckpoint {
  readonly timing: CaseTiming;
  readonly verify: boolean;
}

/** Reads bench/cases.json. @throws LadderError `BAD_RECORD` naming the field */
export function readCases(kind: DeviceInfo['kind'], path = join(packageRoot, 'bench', 'cases.json')): DeviceCases {
  let json: unknown;
  try {
    json = JSON.parse(decodeText(readFileSync(path)));
  } catch (cause) {
    throw new LadderError('BAD_RECORD', `${path} could not be read: ${(cause as Error).message}`, { path }, { cause });
  }
  const result = casesSchema.safeParse(json);
  if (!result.success)
    throw new LadderError('BAD_RECORD', `${path}: ${result.error.issues[0]?.path.join('.')}: ${result.error.issues[0]?.message}`, { path });
  return result.data[kind];
}

/** Where a case's record is kept below `root`: device, checkpoint, method, and a digest of whatever else was asked. */
export function recordPath(root: string, device: DeviceInfo, one: BenchCase): string {
  const { mode, launch, l2 } = one.timing;
  const digest = createHash('sha256')
    .update(JSON.stringify([one.path, one.verify, Object.entries(one.timing).sort()]))
    .digest('hex')
    .slice(0, 8);
  return join(root, deviceFolder(device), `${one.name.replaceAll('/', '__')}.${mode}-${launch}-${l2}.${digest}.json`);
}

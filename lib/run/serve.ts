/**
 * A checkpoint that takes samples when it is asked to, line by line, so that another process can measure it in turn with
 * something else (baselines/adapters/session.ts). Loads once; decides nothing of what the samples mean.
 */
import { z } from 'zod';
import { chooseLaunch, cancellable } from './benchmark.js';
import { openCheckpoint } from './load.js';
import { caseOf, type CheckpointCase } from './names.js';
import { parseOptions, loadOptionsSchema } from './option-checks.js';
import type { LoadOptions } from './options.js';
import { parseAs } from './record-schema.js';

/** What is said first. */
export interface ServedCheckpoint extends CheckpointCase {
  readonly schema: 'ladder-serve/1';
  readonly ok: true;
  readonly launch: 'stream' | 'graph';
}

const requestSchema = z.strictObject({
  warmupMs: z.number().nonnegative(),
  minSamples: z.number().int().positive(),
  maxSamples: z.number().int().positive(),
  maxMs: z.number().nonnegative(),
});

/**
 * Serves the requests of `input`, one JSON object a line, until it ends.
 * @param input opens it, once the checkpoint is loaded: lines that come earlier must wait
 * @param say takes each answer
 * @throws LadderError what loading and measuring throw, `BAD_RECORD` for a line that is no request; `ABORTED`
 */
export async function serveSamples(
  path: string,
  options: LoadOptions,
  input: () => AsyncIterable<string>,
  say: (answer: object) => void,
): Promise<void> {
  const { checkpoint, executor, device } = await openCheckpoint(path, parseOptions(loadOptionsSchema, options));
  try {
    const { launch } = await chooseLaunch({ executor, device }, { launch: 'auto', onProgress: options.onProgress });
    say({ schema: 'ladder-serve/1', ok: true, launch, ...caseOf(checkpoint.folder, checkpoint.manifest) } satisfies ServedCheckpoint);
    for await (const line of input()) {
      const request = parseAs(requestSchema, line, 'the request');
      const { gpuMs, enqueueMs, hostMsPerInference } = await cancellable(executor, options.signal, () =>
        executor.measureSamples({ launch, l2: 'hot', ...request }, null),
      );
      say({ gpuMs: Array.from(gpuMs), enqueueMs: Array.from(enqueueMs), hostMsPerInference });
    }
  } finally {
    await executor.dispose();
  }
}

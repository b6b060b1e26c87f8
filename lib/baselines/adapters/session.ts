/**
 * A process that takes samples when it is asked to: a line of JSON in, a line of JSON out, the first line of itself. Two of
 * them can be sampled in turn on one GPU, each with its CUDA context to itself. bench/baselines/vendor.py is one,
 * `ladder bench-serve` (our own checkpoints) another.
 */
import type { Writable } from 'node:stream';
import { z } from 'zod';
import { LadderError } from '../../errors.js';
import { lastLine, runChild, type ChildOptions, type ChildResult } from './process.js';

/** As SamplesOptions of lib/native.ts, for a subject whose launch and L2 are settled. */
export interface SampleRequest {
  readonly warmupMs: number;
  readonly minSamples: number;
  readonly maxSamples: number;
  readonly maxMs: number;
}

const samplesSchema = z.object({
  gpuMs: z.array(z.number().nonnegative()).min(1),
  enqueueMs: z.array(z.number().nonnegative()).min(1),
  hostMsPerInference: z.number().nonnegative(),
});
export type SampleReply = z.infer<typeof samplesSchema>;

const failureSchema = z.object({ ok: z.literal(false), reason: z.string().min(1) });

/** An open session. Whoever has it closes it. */
export interface SampleSession<Description> {
  /** What the process said of itself. */
  readonly description: Description;
  /** @throws LadderError `UNSUPPORTED` with the process's own words, or how it ended; `ABORTED` */
  take(request: SampleRequest): Promise<SampleReply>;
  /** Ends the process and waits for it. Again is fine. */
  close(): Promise<void>;
}

/**
 * Starts a process and waits until it has said what it is.
 * @throws LadderError `UNSUPPORTED` with its own words, how it ended, or what does not fit; `ABORTED`
 */
export async function openSession<Description>(
  program: string,
  args: readonly string[],
  schema: z.ZodType<Description>,
  options: Omit<ChildOptions, 'onInput' | 'onOutputLine'>,
): Promise<SampleSession<Description>> {
  const lines: string[] = [];
  let waiting: ((line: string | null) => void) | null = null;
  let input: Writable | null = null;
  const end: { result: ChildResult | null; error: unknown } = { result: null, error: null };
  const finished = runChild(program, args, {
    ...options,
    onInput: (stream) => {
      input = stream;
    },
    onOutputLine: (line) => {
      const resolve = waiting;
      waiting = null;
      if (resolve) resolve(line);
      else lines.push(line);
    },
  })
    .then(
      (result) => {
        end.result = result;
      },
      (error: unknown) => {
        end.error = error;
      },
    )
    .finally(() => waiting?.(null));

  const answer = async <T>(kind: z.ZodType<T>): Promise<T> => {
    const line =
      lines.shift() ??
      (end.result !== null || end.error !== null
        ? null
        : await new Promise<string | null>((resolve) => {
            waiting = resolve;
          }));
    const refuse = (reason: string): never => {
      throw new LadderError('UNSUPPORTED', reason, { program });
    };
    if (line === null) {
      if (end.error !== null) throw end.error;
      const said = lastLine(end.result?.stderr ?? '');
      return refuse(
        `${program} ${end.result?.ended ?? `ended with status ${end.result?.status}`} without an answer${said === '' ? '' : `; it last said: ${said}`}`,
      );
    }
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch {
      return refuse(`${program} answered what is no JSON: ${line.slice(0, 200)}`);
    }
    const failure = failureSchema.safeParse(json);
    if (failure.success) return refuse(failure.data.reason);
    const fitting = kind.safeParse(json);
    if (fitting.success) return fitting.data;
    const issue = fitting.error.issues[0];
    return refuse(`the answer of ${program} does not fit: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  };
  const close = async (): Promise<void> => {
    input?.end();
    await finished;
  };

  try {
    const description = await answer(schema);
    return {
      description,
      take: (request) => {
        input?.write(`${JSON.stringify(request)}\n`);
        return answer(samplesSchema);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

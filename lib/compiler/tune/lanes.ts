/**
 * Tuning on several GPUs: a process per GPU (`ladder tune-lane`), which asks for a checkpoint whenever it can prepare one and is given
 * the next that is left. A process that fails costs the checkpoint that it was at, and another one goes on in its place. On one GPU all
 * is done in this process (tuner.ts).
 */
import { availableParallelism } from 'node:os';
import { LadderError, type ErrorCode, type ErrorContext } from '../../errors.js';
import { describeEnd, ended, startCommand } from '../../run/child.js';
import type { Tuned } from '../types.js';
import { buildWinners, tuneCheckpoints } from './tuner.js';

/** What the process of a GPU is sent: first how to tune, then a folder for each time that it asks; null: there are no more. */
export type LaneOrder =
  | {
      readonly type: 'begin';
      readonly ordinal: number;
      readonly candidates: number | null;
      readonly missing: boolean;
      readonly jobs: number;
    }
  | { readonly type: 'path'; readonly path: string | null };

/** What it sends back: results in the order of the folders that it was given. */
export type LaneMessage =
  | { readonly type: 'next' }
  | { readonly type: 'progress'; readonly fraction: number; readonly label: string; readonly remaining: number | null }
  | { readonly type: 'tuned'; readonly tuned: Tuned }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string; readonly context: ErrorContext };

export interface TuneOnOptions {
  readonly candidates?: number;
  /** As `TuneOptions.missing`. */
  readonly missing?: boolean;
  readonly signal: AbortSignal;
  /** As `SearchOptions.onProgress`, of each GPU. */
  readonly onProgress: (ordinal: number, fraction: number, label: string, remainingSeconds: number | null) => void;
  /** Told each checkpoint's winners as soon as they are found and written. @param index of the list */
  readonly onTuned: (index: number, tuned: Tuned, ordinal: number) => void;
  /** On several GPUs: told what could not be tuned, while the others go on. */
  readonly onFailed: (index: number, error: LadderError) => void;
}

/**
 * Tunes checkpoints on GPUs of one kind, and builds their model.so with the winners.
 * @param ordinals of the CUDA devices
 * @param paths their folders; on several GPUs none is tuned twice
 * @throws LadderError `ABORTED`: what was tuned stays, and what was begun goes on where it stopped; on one GPU as `tuneCheckpoints` does
 */
export async function tuneOn(ordinals: readonly number[], paths: readonly string[], options: TuneOnOptions): Promise<void> {
  const { candidates, missing = false, signal, onProgress, onTuned, onFailed } = options;
  const [only = 0, ...others] = ordinals;
  if (others.length === 0) {
    await tuneCheckpoints(
      paths,
      {
        deviceOrdinal: only,
        ...(candidates !== undefined && { candidates }),
        missing,
        signal,
        onProgress: (fraction, label, remaining) => onProgress(only, fraction, label, remaining),
      },
      (index, tuned) => onTuned(index, tuned, only),
    );
    return;
  }
  const left = [...new Set(paths)];
  const found = new Map<string, Tuned>();
  const jobs = Math.ceil(availableParallelism() / ordinals.length);
  const lanes = await Promise.allSettled(
    ordinals.map(async (ordinal) => {
      while (left.length > 0)
        await runLane(ordinal, jobs, left, options, {
          onTuned: (path, tuned) => {
            found.set(path, tuned);
            onTuned(paths.indexOf(path), tuned, ordinal);
          },
          onFailed: (path, error) => onFailed(paths.indexOf(path), error),
        });
    }),
  );
  const lost = lanes.find((lane) => lane.status === 'rejected');
  if (lost) throw lost.reason;
  await buildWinners([...found.keys()], found.values().next().value, { signal });
}

/**
 * One process, until nothing is left or it failed.
 * @param jobs compilers that it runs at once
 * @param left folders that no lane has taken; what this one took and did not come to is put back
 */
async function runLane(
  ordinal: number,
  jobs: number,
  left: string[],
  { candidates, missing = false, signal, onProgress }: TuneOnOptions,
  told: { readonly onTuned: (path: string, tuned: Tuned) => void; readonly onFailed: (path: string, error: LadderError) => void },
): Promise<void> {
  const { child, output } = startCommand('tune-lane');
  const taken: string[] = [];
  let failure: LadderError | null = null;
  // An order that a process that is gone cannot read is seen by its end.
  const send = (order: LaneOrder): boolean => child.send(order, () => undefined);
  child.on('message', (message: LaneMessage) => {
    if (message.type === 'progress') onProgress(ordinal, message.fraction, message.label, message.remaining);
    else if (message.type === 'tuned') told.onTuned(taken.shift()!, message.tuned);
    else if (message.type === 'failed') failure = new LadderError(message.code, message.message, message.context);
    else {
      const path = signal.aborted ? null : (left.shift() ?? null);
      if (path !== null) taken.push(path);
      send({ type: 'path', path });
    }
  });
  send({ type: 'begin', ordinal, candidates: candidates ?? null, missing, jobs });
  const end = await ended(child, { signal });
  if (signal.aborted) throw new LadderError('ABORTED', 'tuning was aborted; run it again to go on where it stopped');
  const [current, ...rest] = taken;
  left.unshift(...rest);
  if (current === undefined && end.code === 0) return;
  const error = failure ?? new LadderError('INTERNAL', `the tuning process of cuda:${ordinal} ${describeEnd(end, undefined, output())}`);
  if (current === undefined) throw error;
  told.onFailed(current, error);
}

/** Tunes on several GPUs at once: a process of its own for each, the checkpoints dealt out between them. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Tuned } from '../compiler/types.js';
import { LadderError, type ErrorCode, type ErrorContext } from '../errors.js';
import { ordinalOf, type DeviceInfo } from '../run/device.js';
import { cliPath } from '../run/package.js';
import { shareOf } from './shared.js';

export interface LanesOptions {
  /** Tunings tried per operator; default: the tuner's. */
  readonly candidates?: number | undefined;
  readonly signal: AbortSignal;
  /** What one of the GPUs does. */
  readonly onProgress: (label: string) => void;
}

/** A line of `ladder tune --json`. */
type Answer =
  | (Tuned & { readonly checkpoint: string })
  | { readonly error: { readonly code: ErrorCode; readonly message: string; readonly context: ErrorContext } };

/**
 * @param onTuned told of each checkpoint when it is done
 * @throws LadderError what one of the processes threw, when the others are done; `ABORTED`: what was found stays
 */
export async function tuneOnDevices(
  checkpoints: readonly string[],
  devices: readonly DeviceInfo[],
  options: LanesOptions,
  onTuned: (checkpoint: string, tuned: Tuned) => void,
): Promise<void> {
  const ends = await Promise.allSettled(
    devices.map((device, i) => tuneOn(device, shareOf(checkpoints, { index: i + 1, count: devices.length }), options, onTuned)),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

async function tuneOn(
  device: DeviceInfo,
  share: readonly string[],
  { candidates, signal, onProgress }: LanesOptions,
  onTuned: (checkpoint: string, tuned: Tuned) => void,
): Promise<void> {
  if (share.length === 0) return;
  const asked = candidates === undefined ? [] : ['--candidates', String(candidates)];
  const args = [cliPath, 'tune', '--json', '--device', `cuda:${ordinalOf(device)}`, ...asked, '--', ...share];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const abort = (): void => void child.kill('SIGINT');
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  let failure: LadderError | null = null;
  let said = '';
  createInterface({ input: child.stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as Answer;
    if ('error' in answer) failure = new LadderError(answer.error.code, `${device.id}: ${answer.error.message}`, answer.error.context);
    else {
      const { checkpoint, ...tuned } = answer;
      onTuned(checkpoint, tuned);
    }
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    said = line;
    onProgress(`${device.id}: ${line.replace(/…$/, '')}`);
  });
  try {
    const status = await new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
    if (signal.aborted) throw new LadderError('ABORTED', 'tuning was aborted; run it again to go on');
    if (failure) throw failure;
    if (status !== 0) throw new LadderError('INTERNAL', `the process that tunes on ${device.id} ended with status ${status}: ${said}`);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * This package's command line in a process of its own, with Node's channel for messages to it and from it: a crash or a poisoned CUDA
 * context ends no more than that. What is said over the channel is the caller's.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { LadderError } from '../errors.js';
import { packageRoot } from './package.js';

const kCliPath = join(packageRoot, 'dist', 'cli', 'main.js');
/** A process that is told to end has as long; Ctrl-C is to end a command within a second. */
const kKilledAfterMs = 600;
const kKeptOutput = 2000;

/** A process that was started, and the end of what it wrote. */
export interface Started {
  readonly child: ChildProcess;
  /** Of stdout and stderr, trimmed. */
  output(): string;
}

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Whether it took longer than it may, and was ended. */
  readonly timedOut: boolean;
}

/** Starts a hidden command of `ladder`, which ends when the channel does. @param command e.g. `bench-case` */
export function startCommand(command: string): Started {
  const child = fork(kCliPath, [command], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-kKeptOutput);
    });
  return { child, output: () => output.trim() };
}

/**
 * Waits for a process's end, and ends it when the signal fires or the time is over.
 * @param timeoutMs default: none
 * @throws LadderError `IO` where it could not be started
 */
export function ended(child: ChildProcess, options: { readonly signal: AbortSignal; readonly timeoutMs?: number }): Promise<Ended> {
  return new Promise((resolve, reject) => {
    // Any number of processes may wait for one.
    setMaxListeners(0, options.signal);
    let timedOut = false;
    let killing: NodeJS.Timeout | undefined;
    const abort = (): void => {
      child.kill('SIGINT');
      killing = setTimeout(() => child.kill('SIGKILL'), kKilledAfterMs);
    };
    const timeout =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            child.kill('SIGKILL');
          }, options.timeoutMs);
    const tidy = (): void => {
      clearTimeout(timeout);
      clearTimeout(killing);
      options.signal.removeEventListener('abort', abort);
    };
    if (options.signal.aborted) abort();
    else options.signal.addEventListener('abort', abort, { once: true });
    child.on('error', (cause) => {
      tidy();
      reject(new LadderError('IO', `a process of this package could not be started: ${cause.message}`, {}, { cause }));
    });
    child.on('close', (code, signal) => {
      tidy();
      resolve({ code, signal, timedOut });
    });
  });
}

/** A process's end in words, with the end of what it wrote; after "the measuring process …". */
export function describeEnd({ code, signal, timedOut }: Ended, timeoutMs: number | undefined, output: string): string {
  const how = timedOut
    ? `took longer than ${timeoutMs! / 1000} s and was ended`
    : signal !== null
      ? `was ended by ${signal}`
      : `exited with status ${code}`;
  return `${how}${output === '' ? '' : `: ${output}`}`;
}

/**
 * Rival systems run as child processes in a process group of their own: a crash, a hang or a poisoned CUDA context costs
 * one result, and an abort or a time limit ends the compilers that they started, too. Programs are found on the PATH
 * without a shell, and no argument goes through one.
 */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { LadderError } from '../../errors.js';
import { throwIfAborted } from '../../run/options.js';

/** Kept of each stream's end: enough for a traceback and for any answer of bench/baselines. */
const kKeptBytes = 4 * 2 ** 20;
const kGraceMs = 3000;

export interface ChildOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs: number;
  /** Each complete line of stderr, without its end. */
  readonly onErrorLine?: ((line: string) => void) | undefined;
  /** The same of stdout. */
  readonly onOutputLine?: ((line: string) => void) | undefined;
  /** Given the child's stdin, which is closed at once otherwise. */
  readonly onInput?: ((stdin: Writable) => void) | undefined;
  readonly cwd?: string | undefined;
  /** Between the request to end and the order; also how long the streams of an ended child are waited for. Default: 3 s. */
  readonly graceMs?: number | undefined;
}

/** How a child ended. Failing to start, a signal and a time-out are results, too. */
export interface ChildResult {
  /** Exit status; null where it did not exit by itself. */
  readonly status: number | null;
  /** What ended it: null for its own exit; else the words for a message. */
  readonly ended: string | null;
  readonly stdout: string;
  /** Last lines of stderr. */
  readonly stderr: string;
}

/** Cuts a stream into lines. */
function linesTo(onLine: ((line: string) => void) | undefined): (chunk: Buffer) => void {
  let rest = '';
  return (chunk) => {
    if (!onLine) return;
    const lines = (rest + chunk.toString('utf8')).split(/\r?\n/);
    // A line without end is not kept for ever.
    rest = (lines.pop() ?? '').slice(-kKeptBytes);
    for (const complete of lines) onLine(complete);
  };
}

/** The end of a stream, bounded. */
class Tail {
  private chunks: Buffer[] = [];
  private size = 0;

  push(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.size > 2 * kKeptBytes) {
      const kept = Buffer.concat(this.chunks).subarray(-kKeptBytes);
      this.chunks = [kept];
      this.size = kept.length;
    }
  }

  text(): string {
    return Buffer.concat(this.chunks).toString('utf8');
  }
}

/**
 * Runs a program to its end.
 * @throws LadderError `ABORTED`, once the whole group has been told to end
 */
export async function runChild(program: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
  throwIfAborted(options.signal);
  const { graceMs = kGraceMs } = options;
  const child = spawn(program, args, { detached: true, stdio: ['pipe', 'pipe', 'pipe'], cwd: options.cwd });
  // A child that is gone reads nothing: its end says why.
  child.stdin.on('error', () => undefined);
  if (options.onInput) options.onInput(child.stdin);
  else child.stdin.end();
  let ended: string | null = null;
  let forced: NodeJS.Timeout | undefined;
  let drained: NodeJS.Timeout | undefined;
  const killGroup = (signal: NodeJS.Signals): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // The group is gone already.
    }
  };
  const end = (why: string): void => {
    if (ended !== null) return;
    ended = why;
    killGroup('SIGTERM');
    forced = setTimeout(() => killGroup('SIGKILL'), graceMs);
  };
  const onAbort = (): void => end('aborted');
  const onExit = (): void => killGroup('SIGKILL');
  const timer = setTimeout(() => end(`stopped after its time limit of ${Math.round(options.timeoutMs / 1000)} s`), options.timeoutMs);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  process.once('exit', onExit);

  const stdout = new Tail();
  const stderr = new Tail();
  const [outputLines, errorLines] = [linesTo(options.onOutputLine), linesTo(options.onErrorLine)];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout.push(chunk);
    outputLines(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr.push(chunk);
    errorLines(chunk);
  });
  try {
    return await new Promise<ChildResult>((resolve) => {
      child.once('error', (error) => resolve({ status: null, ended: `could not be started: ${error.message}`, stdout: '', stderr: '' }));
      child.once('exit', (status, signal) => {
        const finish = (): void =>
          resolve({
            status,
            ended: ended ?? (signal === null ? null : `ended by ${signal}`),
            stdout: stdout.text(),
            stderr: stderr.text(),
          });
        child.once('close', finish);
        // Compile workers may outlive their parent, and hold its streams open: those of its group are ended, others not waited for.
        killGroup('SIGKILL');
        drained = setTimeout(() => {
          child.stdout.destroy();
          child.stderr.destroy();
          finish();
        }, graceMs);
      });
    }).then((result) => {
      if (ended === 'aborted') throw new LadderError('ABORTED', `${program} was ended by the AbortSignal`, { program });
      return result;
    });
  } finally {
    clearTimeout(timer);
    clearTimeout(forced);
    clearTimeout(drained);
    options.signal?.removeEventListener('abort', onAbort);
    process.removeListener('exit', onExit);
  }
}

/** The last line of a text that says something, for a message. */
export function lastLine(text: string): string {
  return text.trimEnd().split(/\r?\n/).at(-1)?.trim().slice(0, 500) ?? '';
}

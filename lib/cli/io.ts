/**
 * Terminal input and output of the commands: results to stdout, everything else to stderr, and one progress line that is
 * rewritten in place on a terminal and printed once per label elsewhere. Signals become an AbortSignal.
 */
import { exitCodes, type CliIo, type ExitCode } from './command.js';
import { shorten } from '../table.js';

/** A writable terminal or file. */
export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** `CliIo` and the exit status that the command asked for. */
export interface ProcessIo extends CliIo {
  readonly exitCode: ExitCode;
}

const kRedrawMs = 80;

/** Makes the `CliIo` of a process, or of a test. */
export function makeIo(stdout: OutputStream, stderr: OutputStream, signal: AbortSignal): ProcessIo {
  let exitCode: ExitCode = exitCodes.ok;
  let lineShown = false;
  let lastLabel = '';
  let lastDraw = 0;
  const clear = (): void => {
    if (lineShown) stderr.write('\r\x1b[K');
    lineShown = false;
    lastDraw = 0;
  };
  return {
    get exitCode() {
      return exitCode;
    },
    columns: stdout.isTTY ? (stdout.columns ?? null) : null,
    signal,
    out(text) {
      clear();
      stdout.write(`${text}\n`);
    },
    note(text) {
      clear();
      stderr.write(`${text}\n`);
    },
    progress(label, fraction) {
      if (!stderr.isTTY) {
        if (label !== lastLabel) stderr.write(`${label}…\n`);
        lastLabel = label;
        return;
      }
      const now = performance.now();
      if (label === lastLabel && now - lastDraw < kRedrawMs) return;
      lastLabel = label;
      lastDraw = now;
      const share = fraction === null ? '' : ` ${Math.round(100 * Math.min(1, Math.max(0, fraction)))} %`;
      stderr.write(`\r\x1b[K${shorten(label, (stderr.columns ?? 80) - share.length - 1)}${share}`);
      lineShown = true;
    },
    endProgress() {
      clear();
      lastLabel = '';
    },
    exit(code) {
      exitCode = code;
    },
  };
}

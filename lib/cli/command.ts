/**
 * What a command of `ladder` is: one module per command, listed in `commands.ts`, registered by `main.ts`.
 * Commands write through `CliIo` only, so that tests can run them in-process and no output goes to the wrong stream.
 */
import type { Command as Program } from 'commander';

/** Exit statuses of `ladder`. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** `verify` found a mismatch. */
  mismatch: 3,
  /** An invalid measurement under `--strict`. */
  invalid: 4,
  /** SIGINT, as shells count it. */
  aborted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Where a command writes, and what may interrupt it. */
export interface CliIo {
  /** Results: tables, or JSON. A newline is appended. */
  out(text: string): void;
  /** Remarks, warnings and errors, on stderr. A newline is appended. */
  note(text: string): void;
  /**
   * Progress on stderr: one line rewritten in place on a terminal, else a plain line whenever `label` changes.
   * @param fraction 0…1, or null where nothing can be counted
   */
  progress(label: string, fraction: number | null): void;
  /** Clears the progress line; `out` and `note` do so by themselves. */
  endProgress(): void;
  /** Columns of the terminal; null when stdout is none, so that tables are not cut. */
  readonly columns: number | null;
  /** Fires on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** The exit status when the command returns normally; `failed` follows from throwing. */
  exit(code: ExitCode): void;
}

/** One command. */
export interface Command {
  /** Adds the command with its options and action to `program`. The action may be asynchronous and may throw. */
  register(program: Program, io: CliIo): void;
}

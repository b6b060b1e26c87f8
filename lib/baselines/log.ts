/**
 * What every log parser shares: the line reader, the error for a log without a result, and the typed result.
 * Logs are untrusted text of any length: they are read as a stream, stray bytes and carriage returns are tolerated,
 * and a result counts only when its line or its unit is complete. The systems' parsers: systems/. Which file belongs to which
 * case: case-names.ts.
 */
import { LadderError } from '../errors.js';
import type { ClockKind } from '../run/record.js';

/** Why a log has no result. */
export type BadLogReason =
  /** No byte, or nothing but white space. */
  | 'empty'
  /** It ends in the middle: the result may have followed. */
  | 'cut short'
  /** The system says that it failed. */
  | 'failed'
  /** It ends where it should, without a result. */
  | 'no result line';

/** Smallest and largest of the values that the log's latency summarises, in ms. */
export interface LogRange {
  readonly lowMs: number;
  readonly highMs: number;
}

/** What every parser returns; the systems add their own fields. */
export interface LogResult {
  /** As Figure 8 spells it. */
  readonly system: string;
  /** Milliseconds per inference, as printed. */
  readonly latencyMs: number;
  /** What the clock saw; null where neither the log nor its documentation says. */
  readonly clock: ClockKind | null;
  /** Null where the log prints one number only. */
  readonly range: LogRange | null;
  /** False: the result is whole, but the log ends before what should follow it. */
  readonly complete: boolean;
}

/** One line without its end. `terminated` is false for the rest of a file that does not end with one. */
export interface LogLine {
  readonly text: string;
  readonly terminated: boolean;
}

/** Bytes or text in pieces: a file stream, a decompressor, an array. */
export type LogSource = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>;

/** Longer lines hold no result and would only fill the memory: they are dropped. */
const maxLineLength = 1 << 20;

/**
 * Splits a stream into lines at `\n`, `\r\n` and a bare `\r` (progress bars). Invalid UTF-8 becomes U+FFFD, colour
 * sequences and NULs vanish. Lines beyond 1 MiB are skipped.
 */
export async function* readLines(source: LogSource): AsyncGenerator<LogLine, void, void> {
  const decoder = new TextDecoder('utf-8');
  const lineEnd = /[\r\n]/g;
  const clean = (text: string): string => text.replace(/\u001b\[[0-9;]*[A-Za-z]|\0/g, '');
  let rest = '';
  let dropping = false;
  for await (const chunk of source) {
    lineEnd.lastIndex = rest.length;
    rest += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = lineEnd.exec(rest); end !== null; end = lineEnd.exec(rest)) {
      if (!dropping) yield { text: clean(rest.slice(start, end.index)), terminated: true };
      dropping = false;
      start = end.index + 1;
    }
    rest = rest.slice(start);
    if (rest.length > maxLineLength) {
      dropping = true;
      rest = '';
    }
  }
  rest += decoder.decode();
  if (rest !== '' && !dropping) yield { text: clean(rest), terminated: false };
}

/** A log without a usable result, as the error that every parser throws. */
export function badLog(system: string, source: string, reason: BadLogReason, detail: string): LadderError {
  return new LadderError('BAD_LOG', `${source}: no ${system} result: ${reason}${detail === '' ? '' : ` (${detail})`}`, {
    system,
    source,
    reason,
    detail,
  });
}

/** A decimal number as these systems print it. Groups are never anchored: any text may stand before. */
export const decimal = String.raw`(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)`;

/** The unit right after a number: without it, the number may have been cut. */
export const msUnit = String.raw`\s?ms(?![A-Za-z0-9_])`;

const failureLine =
  /Traceback \(most recent call last\)|^\s*[A-Za-z_.]*(?:Error|Exception)\b:?|\berror:|^&&&& FAILED|CUDA error|out of memory|Segmentation fault|core dumped|^Killed$/i;

/**
 * Watches a log as it goes by, and says at its end why it has no result.
 * Feed it every line; call `fail` once, when no result was found.
 */
export class LogWatch {
  private seen = false;
  private lastTerminated = true;
  private failure: string | null = null;

  constructor(
    private readonly system: string,
    private readonly source: string,
  ) {}

  see(line: LogLine): void {
    if (line.text.trim() !== '') this.seen = true;
    this.lastTerminated = line.terminated;
    // The last message of a Python traceback is the telling one.
    if (failureLine.test(line.text)) this.failure = line.text.trim().slice(0, 160);
  }

  /** @param unfinished true when the log began something that it did not end */
  fail(unfinished = false): LadderError {
    if (!this.seen) return badLog(this.system, this.source, 'empty', '');
    if (this.failure !== null) return badLog(this.system, this.source, 'failed', this.failure);
    if (unfinished || !this.lastTerminated) return badLog(this.system, this.source, 'cut short', 'it ends before its result');
    return badLog(this.system, this.source, 'no result line', '');
  }
}

/**
 * The last `pattern` of a log that prints its latency in one line: group 1 is the milliseconds.
 * @param begins what such a line begins with, so that a cut one is not mistaken for an absent one
 */
export async function lastLatency(system: string, source: LogSource, name: string, pattern: RegExp, begins: RegExp): Promise<number> {
  const watch = new LogWatch(system, name);
  let latencyMs: number | null = null;
  let cut = false;
  for await (const line of readLines(source)) {
    watch.see(line);
    const match = pattern.exec(line.text);
    if (match !== null) latencyMs = positive(match[1]);
    // A result that begins and does not end supersedes the one before it.
    else if (!line.terminated && begins.test(line.text)) cut = true;
  }
  if (latencyMs === null || cut) throw watch.fail(cut);
  return latencyMs;
}

/** A printed number as a finite positive one, else null: zero and NaN are no latencies. */
export function positive(text: string | undefined): number | null {
  const value = Number(text ?? Number.NaN);
  return Number.isFinite(value) && value > 0 ? value : null;
}

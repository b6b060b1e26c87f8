/**
 * What every log parser shares: the line reader, the error for a log without a result, the typed result, and the rule by which a
 * number counts: as its run's last word ({@link LastWord}). Logs are untrusted text of any length: they are read as a stream, stray
 * bytes and carriage returns are tolerated, and a result counts only when its line or its unit is complete. The systems' parsers:
 * systems/. Which file belongs to which case: case-names.ts.
 */
import { LadderError } from '../errors.js';
import { encodingOf } from '../files.js';
import type { ClockKind } from '../run/record-types.js';

/** Why a log has no result. */
export type BadLogReason =
  /** No byte, or nothing but white space. */
  | 'empty'
  /** It ends in the middle: the result may have followed. */
  | 'cut short'
  /** The system says that it failed. */
  | 'failed'
  /** It ends where it should, without a result, or with one that is no number. */
  | 'no result line'
  /** The file cannot be read. */
  | 'unreadable'
  /** It speaks of another case than its name does. */
  | 'conflict';

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

/** Bytes as text: UTF-8, or what their byte order mark says. */
async function* decoded(source: LogSource): AsyncGenerator<string, void, void> {
  let decoder: InstanceType<typeof TextDecoder> | null = null;
  let head: Uint8Array = new Uint8Array(0);
  for await (const chunk of source) {
    if (typeof chunk === 'string') {
      yield chunk;
      continue;
    }
    if (decoder) {
      yield decoder.decode(chunk, { stream: true });
      continue;
    }
    // The mark may come in pieces.
    head = Buffer.concat([head, chunk]);
    if (head.length < 3) continue;
    decoder = new TextDecoder(encodingOf(head));
    yield decoder.decode(head, { stream: true });
  }
  decoder ??= new TextDecoder(encodingOf(head));
  yield decoder.decode(head.length < 3 ? head : undefined);
}

/**
 * Splits a stream into lines at `\n`, `\r\n` and a bare `\r` (progress bars). Text is UTF-8 or, with a byte order mark, UTF-16;
 * invalid bytes become U+FFFD, colour sequences and NULs vanish. Lines beyond 1 MiB are skipped.
 */
export async function* readLines(source: LogSource): AsyncGenerator<LogLine, void, void> {
  const lineEnd = /[\r\n]/g;
  const clean = (text: string): string => text.replace(/\u001b\[[0-9;]*[A-Za-z]|\0/g, '');
  let rest = '';
  let dropping = false;
  for await (const text of decoded(source)) {
    lineEnd.lastIndex = rest.length;
    rest += text;
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

/** What a program, its runtime, the shell or a queue says of a run that did not end well. */
const failureLine = new RegExp(
  [
    // Python, and messages of libraries
    String.raw`Traceback \(most recent call last\)`,
    String.raw`^\s*[A-Za-z_.]*(?:Error|Exception|Interrupt)\b(?! ignored):?`,
    String.raw`\berror:`,
    '^&&&& FAILED',
    'CUDA error|cudaError[A-Z]|CUDA_ERROR_',
    'out of memory|bad_alloc',
    String.raw`\bCheck failed:`,
    // the C and C++ runtimes
    '^terminate called|pure virtual method called|Assertion .* failed',
    String.raw`^(?:free|malloc|realloc|munmap_chunk|corrupted size|double free)\b`,
    // the shell, as it names the signal, with or without the job before it
    'core dumped|dumped core',
    String.raw`(?:^|: |\s\d+ )(?:Killed|Terminated|Aborted|Hangup|Segmentation fault|Bus error|Illegal instruction|Floating point exception)\s*(?:$|\(|  )`,
    String.raw`\bexit(?:ed)?(?: with)?(?: non-zero)? (?:status|code):? [1-9]`,
    String.raw`\bCANCELLED AT\b|\*\*\* JOB \d+.*CANCELLED`,
  ].join('|'),
  'i',
);

/**
 * The number of a log that counts: its run's last word. A later run that begins, a failure, a number that cannot be read, or an
 * end in the middle takes it away, and what took it is the reason for which there is none.
 * Feed it every line; the parser says what the line was; `end` gives the value or throws.
 */
export class LastWord<T> {
  private last: LogLine = { text: '', terminated: true };
  private seen = false;
  private begun = false;
  /** Whether the last line was one that the system means to print. */
  private known = true;
  private value: T | null = null;
  private taken: { readonly reason: BadLogReason; readonly detail: string } | null = null;

  constructor(
    private readonly system: string,
    private readonly source: string,
  ) {}

  /** Whether there is a number now. */
  get said(): boolean {
    return this.value !== null;
  }

  see(line: LogLine): void {
    this.last = line;
    this.known = line.text.trim() === '';
    if (!this.known) this.seen = true;
    // The last message of a Python traceback is the telling one.
    if (failureLine.test(line.text)) this.fail(line.text.trim().slice(0, 160));
  }

  /** The line says the result. @param value null: it has no usable number */
  say(value: T | null): void {
    const { text, terminated } = this.last;
    this.known = true;
    this.value = value;
    if (value !== null) this.taken = null;
    else if (this.taken?.reason === 'failed') return;
    else if (terminated) this.taken = { reason: 'no result line', detail: `its last number cannot be read: ${text.trim().slice(0, 160)}` };
    else this.taken = { reason: 'cut short', detail: 'it ends before its result' };
  }

  /** A run begins with the line: what was said before is not its word. */
  begin(): void {
    this.begun = true;
    if (this.value !== null) this.taken = { reason: 'cut short', detail: 'a later run begins and has no result' };
    this.value = null;
  }

  /** The line is one that may be the last, whether or not it has an end. */
  finish(): void {
    this.known = true;
  }

  /** The line says that the run failed. */
  fail(detail: string): void {
    this.known = true;
    this.value = null;
    this.taken = { reason: 'failed', detail };
  }

  /**
   * The number, or the error that says why there is none.
   * @param unfinished what the log began and did not end; null: nothing
   * @throws LadderError `BAD_LOG` with `context.reason`
   */
  end(unfinished: string | null = null): T {
    const bad = (reason: BadLogReason, detail: string): LadderError => badLog(this.system, this.source, reason, detail);
    const middle = this.last.terminated || this.known ? null : 'it ends in the middle of a line';
    if (this.value !== null) {
      if ((unfinished ?? middle) === null) return this.value;
      throw bad('cut short', unfinished ?? middle!);
    }
    if (!this.seen) throw bad('empty', '');
    if (this.taken !== null) throw bad(this.taken.reason, this.taken.detail);
    if (unfinished !== null || this.begun || !this.last.terminated) throw bad('cut short', unfinished ?? 'it ends before its result');
    throw bad('no result line', '');
  }
}

/**
 * The latency of a log that prints it in one line: the last one, as {@link LastWord} has it.
 * @param pattern group 1 is the milliseconds
 * @param begins what such a line begins with, so that one without a number, or a cut one, is not mistaken for an absent one
 * @param start what a run begins with, where that is printed
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function lastLatency(
  system: string,
  source: LogSource,
  name: string,
  pattern: RegExp,
  begins: RegExp,
  start?: RegExp,
): Promise<number> {
  const word = new LastWord<number>(system, name);
  for await (const line of readLines(source)) {
    word.see(line);
    const match = pattern.exec(line.text);
    if (match !== null) word.say(positive(match[1]));
    else if (begins.test(line.text)) word.say(null);
    else if (start?.test(line.text)) word.begin();
  }
  return word.end();
}

/** A printed number as a finite positive one, else null: zero and NaN are no latencies. */
export function positive(text: string | undefined): number | null {
  const value = Number(text ?? Number.NaN);
  return Number.isFinite(value) && value > 0 ? value : null;
}

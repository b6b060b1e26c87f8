/**
 * Runs many cases, each in a process of its own, on one GPU or shared out over several: a crash or a poisoned CUDA context costs one result. A record is on disk,
 * by rename, before the next case begins; a bench that was interrupted, even by SIGKILL, goes on where it stopped.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { LadderError } from '../errors.js';
import { removePartials, replaceFile } from '../files.js';
import { kParamsFile } from '../artifact/locate.js';
import { recordPath, type BenchCase } from './bench-cases.js';
import { contentOf, deviceContent, differingContent, fileStamps, readEarlier, sealRecord, type BenchContent } from './bench-content.js';
import type { DeviceInfo } from './device.js';
import type { Progress } from './options.js';
import { cliPath } from './package.js';
import type { BenchRecord } from './record-types.js';
import { failedRecord } from './run-prebuilt.js';

/** What the process of one case is sent, and what it sends back. */
export type CaseRequest = Pick<BenchCase, 'path' | 'timing' | 'verify'> & { readonly deviceId: string };
export type CaseMessage =
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'record'; readonly record: BenchRecord };

export interface BenchOptions {
  /** Of one kind; each takes the next case when it is done with one. */
  readonly devices: readonly DeviceInfo[];
  /** Folder of the records. */
  readonly resultsRoot: string;
  /** Measure again what has a valid record. */
  readonly fresh: boolean;
  /** A case that takes longer is ended and recorded as failed. */
  readonly caseTimeoutMs: number;
  readonly signal: AbortSignal;
  readonly onCase: (index: number, one: BenchCase, device: DeviceInfo, progress: Progress | null) => void;
  /** Told why an earlier record is not taken over. */
  readonly onStale: (one: BenchCase, reason: string) => void;
}

/** A case and its record. */
export interface BenchOutcome {
  readonly case: BenchCase;
  readonly record: BenchRecord;
  readonly recordPath: string;
  /** Found from an earlier run instead of measured now. */
  readonly resumed: boolean;
  /** Why the record is not on disk; null where it is. */
  readonly unsaved: string | null;
}

/** A case that is told to end has as long; Ctrl-C is to end a bench within a second. */
const kKilledAfterMs = 600;
const kKeptOutput = 2000;

/** One device at its work. */
type Lane = BenchOptions & { readonly device: DeviceInfo };

/**
 * Runs all cases, on each device one after another.
 * A checkpoint that cannot be read is a failed case, like one that cannot be run.
 * @returns in the order of the cases
 * @throws LadderError `ABORTED` when the signal fires: what was measured stays
 */
export async function runBench(cases: readonly BenchCase[], options: BenchOptions): Promise<readonly BenchOutcome[]> {
  const outcomes: BenchOutcome[] = [];
  removePartials(options.resultsRoot, true);
  const waiting = (function* () {
    yield* cases.entries();
  })();
  const lanes = options.devices.map(async (device) => {
    for (const [index, one] of waiting) {
      if (options.signal.aborted)
        throw new LadderError('ABORTED', `aborted after ${index} of ${cases.length} cases; run the bench again for the rest`);
      outcomes[index] = await outcomeOf(index, one, { ...options, device });
    }
  });
  // Where one fails, the others end their cases and begin no more: it leaves the generator, which that closes for all.
  const ends = await Promise.allSettled(lanes);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return outcomes;
}

/** An earlier record, of whichever device, or a new one. */
async function outcomeOf(index: number, one: BenchCase, lane: Lane): Promise<BenchOutcome> {
  const { device, devices } = lane;
  const path = recordPath(lane.resultsRoot, device, one);
  const stamps = fileStamps(one);
  const content = await readableContent(one, lane);
  if (!lane.fresh && !(content instanceof LadderError)) {
    const found = devices.map((any) => readEarlier(path, { ...content, ...deviceContent(any) }));
    const earlier = found.find((any) => any?.record) ?? found[devices.indexOf(device)];
    if (earlier?.record) return { case: one, record: earlier.record, recordPath: path, resumed: true, unsaved: null };
    if (earlier) lane.onStale(one, earlier.reason);
  }
  lane.onCase(index, one, device, null);
  const record =
    content instanceof LadderError
      ? failedCase(one, device, content)
      : await sealed(await runCase(one, lane, (progress) => lane.onCase(index, one, device, progress)), one, content, stamps, lane);
  // A disk that is full costs the file, not the figures.
  const unsaved = await writeRecord(path, record).then(
    () => null,
    (error: Error) => error.message,
  );
  return { case: one, record, recordPath: path, resumed: false, unsaved };
}

/** Writes a record so that a reader sees all of it or nothing. @throws LadderError `IO` */
export async function writeRecord(path: string, record: BenchRecord): Promise<void> {
  await replaceFile(path, `${JSON.stringify(record)}\n`);
}

/** The record with what it measured; a checkpoint that was written meanwhile is none that can be named. */
async function sealed(
  record: BenchRecord,
  one: BenchCase,
  before: BenchContent,
  stamps: string,
  { device, signal }: Lane,
): Promise<BenchRecord> {
  if (fileStamps(one) === stamps) return sealRecord(record, before);
  const after = await contentOf(one, device, signal);
  // A case may have built model.so, and its description, before it loaded them.
  const built = (record.load?.buildMs ?? 0) > 0;
  const changed = differingContent(before, after).filter((name) => !built || name === kParamsFile);
  return sealRecord(
    changed.length === 0 || record.status === 'failed'
      ? record
      : { ...record, status: 'invalid', reason: `${changed.join(', ')} changed while it was measured` },
    after,
  );
}

/** Runs one case in a process of its own. Never throws for what happens in there: that is a failed record. */
async function runCase(one: BenchCase, options: Lane, onProgress: (progress: Progress) => void): Promise<BenchRecord> {
  const child = fork(cliPath, ['bench-case'], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] });
  let record: BenchRecord | null = null;
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-kKeptOutput);
    });
  child.on('message', (message: CaseMessage) => {
    if (message.type === 'record') record = message.record;
    else onProgress(message.progress);
  });
  const request: CaseRequest = { path: one.path, deviceId: options.device.id, timing: one.timing, verify: one.verify };
  // A child that is gone before it reads this is a case that failed, as its end says: no error of the bench.
  child.send(request, () => undefined);
  const { code, signal, timedOut } = await ended(child, options);
  if (options.signal.aborted) throw new LadderError('ABORTED', 'aborted; what was measured is kept, run the bench again for the rest');
  if (record !== null) return record;
  const how = timedOut
    ? `took longer than ${options.caseTimeoutMs / 1000} s and was ended`
    : signal !== null
      ? `was ended by ${signal}`
      : `exited with status ${code}`;
  return failedCase(one, options.device, {
    code: 'INTERNAL',
    message: `the measuring process ${how}${output === '' ? '' : `: ${output.trim()}`}`,
  });
}

function failedCase(one: BenchCase, device: DeviceInfo, error: Pick<LadderError, 'code' | 'message'>): BenchRecord {
  const { mode, launch, l2 } = one.timing;
  return failedRecord(one.path, error, device, { mode, launch: launch === 'graph' ? 'graph' : 'stream', l2 });
}

/** What a case is about to measure, or why its files cannot be read. @throws LadderError `ABORTED` */
async function readableContent(one: BenchCase, { device, signal }: Lane): Promise<BenchContent | LadderError> {
  try {
    return await contentOf(one, device, signal);
  } catch (error) {
    if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
    return error;
  }
}

function ended(
  child: ChildProcess,
  options: BenchOptions,
): Promise<{ code: number | null; signal: NodeJS.Signals | null; timedOut: boolean }> {
  return new Promise((resolve, reject) => {
    let timedOut = false;
    let killing: NodeJS.Timeout | undefined;
    const abort = (): void => {
      child.kill('SIGINT');
      killing = setTimeout(() => child.kill('SIGKILL'), kKilledAfterMs);
    };
    const timeout = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, options.caseTimeoutMs);
    const tidy = (): void => {
      clearTimeout(timeout);
      clearTimeout(killing);
      options.signal.removeEventListener('abort', abort);
    };
    if (options.signal.aborted) abort();
    else options.signal.addEventListener('abort', abort, { once: true });
    child.on('error', (cause) => {
      tidy();
      reject(new LadderError('IO', `the measuring process could not be started: ${cause.message}`, {}, { cause }));
    });
    child.on('close', (code, signal) => {
      tidy();
      resolve({ code, signal, timedOut });
    });
  });
}

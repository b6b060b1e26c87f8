/**
 * Runs many cases, each in a process of its own: a crash or a poisoned CUDA context costs one result. One case at a time per device,
 * which takes the next one when its last is done. A record is on disk, by rename, before the device's next case begins; a bench that
 * was interrupted, even by SIGKILL, goes on where it stopped.
 */
import { LadderError } from '../errors.js';
import { removePartials, replaceFile } from '../files.js';
import { kParamsFile } from '../artifact/locate.js';
import { recordPath, type BenchCase } from './bench-cases.js';
import { contentOf, differingContent, fileStamps, onDevice, readEarlier, sealRecord, type BenchContent } from './bench-content.js';
import { describeEnd, ended, startCommand } from './child.js';
import type { DeviceInfo } from './device.js';
import { shareOut } from './lanes.js';
import type { Progress } from './options.js';
import type { BenchRecord } from './record-types.js';
import { failedRecord } from './run-prebuilt.js';

/** What the process of one case is sent, and what it sends back. */
export type CaseRequest = Pick<BenchCase, 'path' | 'timing' | 'verify'> & { readonly deviceId: string };
export type CaseMessage =
  | { readonly type: 'progress'; readonly progress: Progress }
  | { readonly type: 'record'; readonly record: BenchRecord };

export interface BenchOptions {
  /** One or more of a kind, each of which measures one case at a time. */
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

/**
 * Runs all cases: on one device one after another, on several each device the next one that is left.
 * A checkpoint that cannot be read is a failed case, like one that cannot be run.
 * @returns the outcomes in the order of the cases
 * @throws LadderError `ABORTED` when the signal fires: what was measured stays
 */
export async function runBench(cases: readonly BenchCase[], options: BenchOptions): Promise<readonly BenchOutcome[]> {
  const outcomes: BenchOutcome[] = [];
  let done = 0;
  removePartials(options.resultsRoot, true);
  await shareOut(cases, options.devices, async (one, index, device) => {
    if (options.signal.aborted)
      throw new LadderError('ABORTED', `aborted after ${done} of ${cases.length} cases; run the bench again for the rest`);
    outcomes[index] = await outcomeOf(one, index, device, options);
    done += 1;
  });
  return outcomes;
}

/** Measures a case on a device, unless that, or one like it, did so before. */
async function outcomeOf(one: BenchCase, index: number, device: DeviceInfo, options: BenchOptions): Promise<BenchOutcome> {
  const path = recordPath(options.resultsRoot, device, one);
  const stamps = fileStamps(one);
  const content = await readableContent(one, device, options.signal);
  const earlier = options.fresh || content instanceof LadderError ? null : earlierOf(path, content, device, options.devices);
  if (earlier?.record) return { case: one, record: earlier.record, recordPath: path, resumed: true, unsaved: null };
  if (earlier) options.onStale(one, earlier.reason);
  options.onCase(index, one, device, null);
  const record =
    content instanceof LadderError
      ? failedCase(one, device, content)
      : await sealed(
          await runCase(one, device, options, (progress) => options.onCase(index, one, device, progress)),
          one,
          content,
          stamps,
          device,
          options.signal,
        );
  // A disk that is full costs the file, not the figures.
  const unsaved = await writeRecord(path, record).then(
    () => null,
    (error: Error) => error.message,
  );
  return { case: one, record, recordPath: path, resumed: false, unsaved };
}

/** An earlier record of the same content on any of the devices: which of them a case falls to is chance. Else why there is none on this one. */
function earlierOf(
  path: string,
  content: BenchContent,
  device: DeviceInfo,
  devices: readonly DeviceInfo[],
): ReturnType<typeof readEarlier> {
  const own = readEarlier(path, content);
  if (own === null || own.record) return own;
  const others = devices.filter((other) => other !== device).map((other) => readEarlier(path, onDevice(content, other)));
  return others.find((other) => other?.record) ?? own;
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
  device: DeviceInfo,
  signal: AbortSignal,
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
async function runCase(
  one: BenchCase,
  device: DeviceInfo,
  { signal, caseTimeoutMs }: BenchOptions,
  onProgress: (progress: Progress) => void,
): Promise<BenchRecord> {
  const { child, output } = startCommand('bench-case');
  let record: BenchRecord | null = null;
  child.on('message', (message: CaseMessage) => {
    if (message.type === 'record') record = message.record;
    else onProgress(message.progress);
  });
  const request: CaseRequest = { path: one.path, deviceId: device.id, timing: one.timing, verify: one.verify };
  // A child that is gone before it reads this is a case that failed, as its end says: no error of the bench.
  child.send(request, () => undefined);
  const end = await ended(child, { signal, timeoutMs: caseTimeoutMs });
  const received = record as BenchRecord | null;
  // What was measured to its end is kept, though the bench is being ended; what failed then may have failed by that.
  if (received !== null && !(signal.aborted && received.status === 'failed')) return received;
  if (signal.aborted) throw new LadderError('ABORTED', 'aborted; what was measured is kept, run the bench again for the rest');
  return failedCase(one, device, { code: 'INTERNAL', message: `the measuring process ${describeEnd(end, caseTimeoutMs, output())}` });
}

function failedCase(one: BenchCase, device: DeviceInfo, error: Pick<LadderError, 'code' | 'message'>): BenchRecord {
  const { mode, launch, l2 } = one.timing;
  return failedRecord(one.path, error, device, { mode, launch: launch === 'graph' ? 'graph' : 'stream', l2 });
}

/** What a case is about to measure, or why its files cannot be read. @throws LadderError `ABORTED` */
async function readableContent(one: BenchCase, device: DeviceInfo, signal: AbortSignal): Promise<BenchContent | LadderError> {
  try {
    return await contentOf(one, device, signal);
  } catch (error) {
    if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
    return error;
  }
}

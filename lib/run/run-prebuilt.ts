/**
 * The one-call forms: load, do one thing, dispose. And the record of a result, as it is saved and compared.
 */
import { basename } from 'node:path';
import type { LadderError } from '../errors.js';
import { refuseOnCpu, type BenchmarkResult } from './benchmark.js';
import { deviceForRecord, selectDevice, type DeviceInfo } from './device.js';
import type { LoadTimes } from './load.js';
import { caseOf, type CheckpointCase } from './names.js';
import { parseBenchmarkOptions, parseOptions, runOptionsSchema, verifyPrebuiltOptionsSchema } from './option-checks.js';
import type { BenchmarkOptions, LoadOptions, VerifyRunOptions } from './options.js';
import { packageCommit, packageVersion } from './package.js';
import { Prebuilt } from './prebuilt.js';
import type { BenchRecord } from './record-types.js';
import { unmeasured } from './record.js';
import type { VerifyReport } from './verdict.js';
import { reportDamage } from './verify-files.js';
import type { WeightSource } from './weights.js';

/** A measurement and what was measured. */
export interface RunResult extends BenchmarkResult, CheckpointCase {
  /** The checkpoint's folder. */
  readonly path: string;
  /** Where the weights came from; `fake`: random, and the numbers mean nothing. */
  readonly weights: WeightSource;
  readonly operators: number;
  /** What computed: the checkpoint's own code, or, on the CPU, the reference operators. */
  readonly computedBy: 'model.so' | 'reference';
  readonly load: LoadTimes;
}

/** Options of `runPrebuilt`: how to load, and how to time. */
export type RunOptions = LoadOptions & BenchmarkOptions;

const loadKeys = ['device', 'seed', 'build', 'signal', 'onProgress'] as const;
const sharedKeys: readonly string[] = ['signal', 'onProgress'];

/** Splits options into those of loading and the rest; unknown ones stay with the rest, which refuses them. */
export function splitOptions<T extends LoadOptions>(
  options: T | undefined,
): { load: LoadOptions; rest: Omit<T, 'device' | 'seed' | 'build'> } {
  const entries = Object.entries(options ?? {});
  const isLoad = (key: string): boolean => (loadKeys as readonly string[]).includes(key);
  return {
    load: Object.fromEntries(entries.filter(([key]) => isLoad(key))),
    rest: Object.fromEntries(entries.filter(([key]) => !isLoad(key) || sharedKeys.includes(key))) as Omit<T, 'device' | 'seed' | 'build'>,
  };
}

/** Loads, hands over, and disposes whatever happens. */
export async function withPrebuilt<T>(path: string, options: LoadOptions, task: (prebuilt: Prebuilt) => Promise<T>): Promise<T> {
  const prebuilt = await Prebuilt.load(path, options);
  try {
    return await task(prebuilt);
  } finally {
    await prebuilt.dispose();
  }
}

/** Times a loaded checkpoint and says what was timed. */
export async function runLoaded(prebuilt: Prebuilt, options: BenchmarkOptions): Promise<RunResult> {
  const result = await prebuilt.benchmark(options);
  return {
    ...result,
    ...prebuilt.case,
    warnings: [...prebuilt.warnings, ...result.warnings],
    path: prebuilt.path,
    weights: prebuilt.weights,
    operators: prebuilt.operatorCount,
    computedBy: prebuilt.usesReference ? 'reference' : 'model.so',
    load: prebuilt.loadTimes,
  };
}

/**
 * Checks the options of `runPrebuilt` before anything is loaded for them.
 * @throws LadderError `BAD_ARGUMENT`; `NO_DRIVER`, `NO_DEVICE`, `UNSUPPORTED` for a device that is not there, or has no such thing
 */
export function checkRunOptions(options: RunOptions | undefined): void {
  const { device } = parseOptions(runOptionsSchema, options);
  const timing = parseBenchmarkOptions(splitOptions(options).rest);
  if (selectDevice(device).kind === 'cpu') refuseOnCpu(timing);
}

/**
 * Loads a checkpoint, fills or reads its weights, warms up, times it, and disposes of it.
 * @param path its folder, or its name below checkpoints/
 * @throws LadderError what loading and timing throw
 * @example const { latencyMs } = await runPrebuilt('checkpoints/…/llama2_bs1_seq1_async', { launch: 'graph' });
 */
export async function runPrebuilt(path: string, options?: RunOptions): Promise<RunResult> {
  checkRunOptions(options);
  const { load, rest } = splitOptions(options);
  return withPrebuilt(path, load, (prebuilt) => runLoaded(prebuilt, rest));
}

/**
 * Checks a checkpoint's structure and numbers. A mismatch is `passed: false`, not an error.
 * `seed` is the verification's; weights keep the manifest's.
 * @throws LadderError what loading throws
 * @example if (!(await verifyPrebuilt(path)).passed) process.exitCode = 3;
 */
export async function verifyPrebuilt(path: string, options?: Omit<LoadOptions, 'seed'> & VerifyRunOptions): Promise<VerifyReport> {
  parseOptions(verifyPrebuiltOptionsSchema, options);
  const { load, rest } = splitOptions(options);
  const { seed, ...loadOnly } = load;
  const verifying = { ...rest, ...(seed !== undefined && { seed }) };
  return (await reportDamage(path, loadOnly, verifying)) ?? withPrebuilt(path, loadOnly, (prebuilt) => prebuilt.verify(verifying));
}

/** The record of a measurement. @param verified what verification said in the same process; null when it was not asked */
export function recordOf(result: RunResult, verified: boolean | null): BenchRecord {
  const {
    model,
    setting,
    format,
    status,
    reason,
    clock,
    mode,
    launch,
    l2,
    latencyMs,
    samples,
    paper,
    condition,
    meanState,
    sustained,
    cold,
    enqueueMedianMs,
    hostMsPerInference,
    load,
    roofline,
    stateBefore,
    stateAfter,
    date,
  } = result;
  return {
    schema: 'ladder-record/1',
    system: 'ladder.node',
    systemVersion: packageVersion(),
    model,
    setting,
    format,
    checkpoint: basename(result.path),
    status,
    reason,
    warnings: [
      ...result.warnings,
      ...(result.launchReason !== null && result.device.kind === 'cuda' ? [`not launched as a graph: ${result.launchReason}`] : []),
    ],
    clock,
    mode,
    launch,
    l2,
    latencyMs,
    samples,
    paper,
    rawMs: result.rawMs === null ? null : [...result.rawMs],
    condition,
    meanState,
    sustained,
    cold,
    enqueueMedianMs,
    hostMsPerInference,
    load,
    roofline,
    verified,
    device: deviceForRecord(result.device),
    stateBefore: forRecord(stateBefore),
    stateAfter: forRecord(stateAfter),
    date,
    commit: packageCommit(),
  };
}

/** The record of a checkpoint that could not be measured. */
export function failedRecord(
  path: string,
  error: Pick<LadderError, 'code' | 'message'>,
  device: DeviceInfo,
  wanted: Pick<BenchRecord, 'mode' | 'launch' | 'l2'>,
): BenchRecord {
  return {
    schema: 'ladder-record/1',
    system: 'ladder.node',
    systemVersion: packageVersion(),
    ...caseOf(path, null),
    checkpoint: basename(path),
    status: 'failed',
    reason: `${error.code}: ${error.message}`,
    warnings: [],
    clock: device.kind === 'cuda' ? 'gpu-events' : 'cpu-host',
    ...wanted,
    ...unmeasured,
    device: deviceForRecord(device),
    stateBefore: null,
    stateAfter: null,
    date: new Date().toISOString(),
    commit: packageCommit(),
  };
}

function forRecord(state: RunResult['stateBefore']): BenchRecord['stateBefore'] {
  return state && { ...state, throttleReasons: state.throttleReasons && [...state.throttleReasons] };
}

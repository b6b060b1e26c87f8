/**
 * The public API: load, run, time, verify and inspect prebuilt Ladder checkpoints. Everything here is typed, asynchronous
 * where it works, and throws `LadderError` with a stable `code`.
 */
import { inspectPrebuilt as inspect, type Inspection } from './artifact/inspect.js';
import { resolveCheckpoint } from './run/package.js';
import { Prebuilt } from './run/prebuilt.js';
import type { LoadOptions } from './run/options.js';

/**
 * Loads a checkpoint onto a device and fills its weights. A missing or stale model.so of one of our own checkpoints is
 * built first (needs nvcc). Loading a foreign model.so runs its code: a checkpoint is a program.
 * @param path the checkpoint's folder, or its name below checkpoints/
 * @throws LadderError `NOT_A_CHECKPOINT`, `BAD_GRAPH`, `BAD_PARAMS`, `BAD_MODULE`, `BAD_MANIFEST`, `MISSING_MODULE`,
 *   `MISSING_SYMBOL`, `MISSING_PARAMETER`, `NO_DRIVER`, `NO_DEVICE`, `OUT_OF_MEMORY`, `WRONG_ARCHITECTURE`, `ABORTED`, …
 * @example
 * await using layer = await loadPrebuilt(path, { device: 'cuda:1' });
 * console.log((await layer.benchmark({ launch: 'graph' })).latencyMs);
 */
export async function loadPrebuilt(path: string, options?: LoadOptions): Promise<Prebuilt> {
  return Prebuilt.load(path, options);
}

/**
 * What a checkpoint's folder holds: graph, parameters, module, manifest, and what is wrong with them. No GPU, and no code of
 * the checkpoint is loaded.
 * @param path the checkpoint's folder, or its name below checkpoints/
 * @throws LadderError `NOT_A_CHECKPOINT`; all else is in `problems`
 * @example (await inspectPrebuilt(path)).module?.architectures // ['compute_80', 'sm_80', 'sm_90a']
 */
export async function inspectPrebuilt(path: string): Promise<Inspection> {
  return inspect(resolveCheckpoint(path));
}

export type { Inspection, InspectedModule, InspectedOperator, InspectedProblem, InspectedTensor } from './artifact/inspect.js';
export { LadderError } from './errors.js';
export type { ErrorCode, ErrorContext } from './errors.js';
export type { NativeDeviceState as DeviceState } from './native.js';
export type { BenchmarkResult } from './run/benchmark.js';
export { listDevices } from './run/device.js';
export type { DeviceInfo } from './run/device.js';
export type { LoadTimes } from './run/load.js';
export type { CheckpointCase } from './run/names.js';
export type { BenchmarkOptions, LoadOptions, Progress, TaskOptions, VerifyRunOptions } from './run/options.js';
export type { Prebuilt } from './run/prebuilt.js';
export type { ProfiledOperator, ProfileReport } from './run/profile.js';
export { parseRecord } from './run/record.js';
export type { BenchRecord, ClockKind, PaperStats, SampleStats } from './run/record.js';
export type { Roofline } from './run/roofline.js';
export { recordOf, runPrebuilt, verifyPrebuilt } from './run/run-prebuilt.js';
export type { RunOptions, RunResult } from './run/run-prebuilt.js';
export type { TensorArray, TensorInfo } from './run/tensors.js';
export type { EndToEndVerdict, OperatorVerdict, StructureCheck, VerifyReport } from './run/verify.js';
export type { WeightSource } from './run/weights.js';

/**
 * The public API: load, run, time, verify, inspect, build, pack and tune Ladder checkpoints. Everything here is typed, asynchronous
 * where it works, and throws `LadderError` with a stable `code`.
 */
import './compiler/provide.js';
import { inspectPrebuilt as inspect, type Inspection } from './artifact/inspect.js';
import type { WeightFormat } from './formats/index.js';
import type {
  BuildCheckpointOptions,
  BuildResult,
  CheckpointQualityOptions,
  FloatWeights,
  PackMatrixOptions,
  PackedWeights,
  QualityReport,
  TuneCheckpointOptions,
  Tuned,
} from './compiler/types.js';
import { resolveCheckpoint } from './run/package.js';
import { Prebuilt } from './run/prebuilt.js';
import type { LoadOptions, TaskOptions } from './run/options.js';

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

/** The builder is large, and most processes never build: it is loaded when it is first called. */
const builder = (): Promise<typeof import('./compiler/api.js')> => import('./compiler/api.js');

/**
 * Builds a checkpoint folder `<root>/<model>/<name>/`, named as the authors name theirs: graph.json, checkpoint.json, with
 * `weights` graph.params, and, where nvcc is there, model.so.
 * @param model 'llama2-70b' or 'bloom-176b' (small ones for tests: 'llama2-tiny', 'bloom-tiny'); or the folder of a model of your own
 *   (config.json and safetensors files as Hugging Face has them), or its config.json alone: its attention is causal by default
 * @param options `group` is 64 or 128 for INT4 and NF4, else -1; kernels made for speed take batch × seq up to 64, what they do not
 *   take runs on simple ones
 * @throws LadderError `BAD_ARGUMENT` naming the option, `UNSUPPORTED` for shapes and formats that no kernel handles,
 *   `MISSING_PARAMETER`, `WRONG_LENGTH` and `BAD_PARAMS` for a safetensors file that does not fit, `NO_COMPILER`,
 *   `BUILD_FAILED`, `IO`, `ABORTED`
 * @example const { folder } = await buildCheckpoint('llama2-70b', { root: 'checkpoints', weight: 'int4', group: 128, weights: 'layer.safetensors' });
 */
export async function buildCheckpoint(model: string, options: BuildCheckpointOptions): Promise<BuildResult> {
  return (await builder()).buildCheckpoint(model, options);
}

/**
 * Quantises float weights to the format of a checkpoint of ours and writes its graph.params, in the order in which its
 * kernels read. Round to nearest even; FP8 scales by the largest magnitude of the channel, INT4 and NF4 by what has the least squared
 * error of the channel or group, INT1 by the mean magnitude, MXFP8 as OCP MX v1.0 says. One matrix is held at a time.
 * @param path the checkpoint's folder, or its name below checkpoints/
 * @param weights by the names of checkpoint.json's `tensors`, inputs and scales aside: a matrix [n, k]
 *   row-major, norms and biases as vectors; or a function that is asked for one at a time, with its name and shape
 * @throws LadderError `UNSUPPORTED` for a foreign checkpoint, `MISSING_PARAMETER`, `UNKNOWN_INPUT`, `WRONG_TYPE`,
 *   `WRONG_LENGTH`, `BAD_ARGUMENT` for values that the format cannot hold, `IO`, `ABORTED`; what the function throws
 * @example await packWeights(folder, async (name, [n, k = 1]) => readMyFloats(name, n * k));
 */
export async function packWeights(path: string, weights: FloatWeights, options?: TaskOptions): Promise<void> {
  return (await builder()).packWeights(path, weights, options);
}

/**
 * Quantises one matrix [n, k], row-major, and stores it in the order of a layout; as `packWeights` does for a checkpoint.
 * @param format a format of weights: 'fp16', 'int4', 'nf4', 'fp8_e5m2', …
 * @returns the bytes of codes and scales (float16, little-endian; E8M0 for MX; none for fp16)
 * @throws LadderError `WRONG_TYPE`, `BAD_ARGUMENT`, `BAD_MANIFEST` for a layout that is no bijection, `ABORTED`
 * @example const { weight, scale } = await packMatrix(matrix, 'int4', { k: 4096, group: 128 });
 */
export async function packMatrix(matrix: Float32Array, format: WeightFormat, options: PackMatrixOptions): Promise<PackedWeights> {
  return (await builder()).packMatrix(matrix, format, options);
}

/**
 * What each format costs a checkpoint's model: the error of its weights, by matrix, and of its output, against the same model in FP16.
 * Every format is packed and run on the CPU, by the reference operators; what is packed lies below the folder for temporary files
 * meanwhile.
 * @param path the folder of a checkpoint of ours, or its name below checkpoints/, in any format
 * @throws LadderError `UNSUPPORTED` for a foreign checkpoint and for networks without `weights`, `BAD_ARGUMENT`, `MISSING_PARAMETER`,
 *   `WRONG_LENGTH` and `BAD_PARAMS` for files that do not fit, `IO`, `ABORTED`
 * @example (await checkpointQuality(path, { weights: './Llama-3.1-8B' })).formats.map(({ label, outputError }) => [label, outputError]);
 */
export async function checkpointQuality(path: string, options?: CheckpointQualityOptions): Promise<QualityReport> {
  return (await builder()).checkpointQuality(path, options);
}

/**
 * Searches the kernels' parameters of a checkpoint of ours on a GPU, checks each candidate against the reference, writes
 * tuned/<arch>.json below the checkpoint, and builds its model.so with the winners. An interrupted search goes on.
 * @param path the checkpoint's folder, or its name below checkpoints/
 * @returns the winners by operator, with latencies in ms
 * @throws LadderError `BAD_ARGUMENT`, `NOT_A_CHECKPOINT`, `UNSUPPORTED` for a foreign checkpoint, `NO_DRIVER`, `NO_DEVICE`,
 *   `NO_COMPILER`, `BUILD_FAILED`, `ABORTED`
 * @example await tuneCheckpoint('llama2-70b/llama2_bs1_seq1_async', { onProgress: ({ detail }) => console.log(detail) });
 */
export async function tuneCheckpoint(path: string, options?: TuneCheckpointOptions): Promise<Tuned> {
  return (await builder()).tuneCheckpoint(path, options);
}

export type { ActivationFormat, FormatKind, FormatWord, WeightFormat } from './formats/index.js';
export type {
  BuildCheckpointOptions,
  BuildResult,
  CheckpointQualityOptions,
  FloatSource,
  FloatWeights,
  FormatQuality,
  PackMatrixOptions,
  PackedWeights,
  QualityReport,
  TensorQuality,
  TuneCheckpointOptions,
  TuneProgress,
  Tuned as TuneResult,
} from './compiler/types.js';
export type { Inspection, InspectedModule, InspectedOperator, InspectedProblem, InspectedTensor } from './artifact/inspect.js';
export { type ErrorCode, type ErrorContext, LadderError } from './errors.js';
export type { LayoutDigit, NativeDeviceState as DeviceState } from './native.js';
export type { BenchmarkResult } from './run/benchmark.js';
export type { MeanState } from './run/conditions.js';
export { type DeviceInfo, listDevices } from './run/device.js';
export type { ExportedParams } from './run/export.js';
export type { LoadTimes } from './run/load.js';
export type { CheckpointCase } from './run/names.js';
export type {
  BenchmarkOptions,
  ExportOptions,
  LoadOptions,
  Progress,
  TaskOptions,
  VerifyRunOptions,
} from './run/options.js';
export type { DeviceTensor, Feeds, InferenceOptions, Outputs, Prebuilt } from './run/prebuilt.js';
export type { ProfiledOperator, ProfileReport } from './run/profile.js';
export { parseRecord } from './run/record.js';
export type { BenchRecord, ClockKind, ColdFigures, PaperStats, SampleStats, SustainedFigures } from './run/record-types.js';
export type { Roofline } from './run/roofline.js';
export { type RunOptions, type RunResult, recordOf, runPrebuilt, verifyPrebuilt } from './run/run-prebuilt.js';
export type { TensorArray, TensorInfo } from './run/tensors.js';
export type { EndToEndVerdict, OperatorVerdict, StructureCheck, VerifyReport } from './run/verdict.js';
export type { WeightSource } from './run/weights.js';

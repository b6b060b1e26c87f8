// Types of the public API: what each export of lib/index.ts takes and gives. Nothing here runs: `npm run lint` compiles it, and
// each expectTypeOf and each @ts-expect-error holds or is an error of tsc. Exports without a line here fail test/unit/index.test.ts.
import { expectTypeOf } from 'vitest';
import * as api from '../../lib/index.js';
import type {
  ActivationFormat,
  BenchmarkOptions,
  BenchmarkResult,
  BenchRecord,
  BuildCheckpointOptions,
  BuildResult,
  CheckpointQualityOptions,
  FormatQuality,
  QualityReport,
  TensorQuality,
  CheckpointCase,
  ClockKind,
  DeviceInfo,
  DeviceState,
  DeviceTensor,
  EndToEndVerdict,
  ErrorCode,
  ErrorContext,
  Feeds,
  FloatSource,
  FloatWeights,
  FormatKind,
  FormatWord,
  InferenceOptions,
  InspectedModule,
  InspectedOperator,
  InspectedProblem,
  InspectedTensor,
  Inspection,
  LayoutDigit,
  LoadOptions,
  LoadTimes,
  OperatorVerdict,
  Outputs,
  PackedWeights,
  PackMatrixOptions,
  MeanState,
  PaperStats,
  Prebuilt,
  ProfiledOperator,
  ProfileReport,
  Progress,
  Roofline,
  RunOptions,
  RunResult,
  SampleStats,
  ColdFigures,
  SustainedFigures,
  StructureCheck,
  ExportedParams,
  ExportOptions,
  TaskOptions,
  TensorArray,
  TensorInfo,
  TuneCheckpointOptions,
  TuneProgress,
  TuneResult,
  VerifyReport,
  VerifyRunOptions,
  WeightFormat,
  WeightSource,
} from '../../lib/index.js';

const {
  buildCheckpoint,
  checkpointQuality,
  inspectPrebuilt,
  LadderError,
  listDevices,
  loadPrebuilt,
  packMatrix,
  packWeights,
  parseRecord,
  recordOf,
  runPrebuilt,
  tuneCheckpoint,
  verifyPrebuilt,
} = api;

type Launch = 'stream' | 'graph';
/** What an option is to its reader: exactOptionalPropertyTypes lets callers say undefined, too. */
type Maybe<T> = T | undefined;

// Functions and classes, no more and no less.
expectTypeOf<keyof typeof api>().toEqualTypeOf<
  | 'buildCheckpoint'
  | 'checkpointQuality'
  | 'inspectPrebuilt'
  | 'LadderError'
  | 'listDevices'
  | 'loadPrebuilt'
  | 'packMatrix'
  | 'packWeights'
  | 'parseRecord'
  | 'recordOf'
  | 'runPrebuilt'
  | 'tuneCheckpoint'
  | 'verifyPrebuilt'
>();

// Options that all long calls share.
expectTypeOf<TaskOptions['signal']>().toEqualTypeOf<Maybe<AbortSignal>>();
expectTypeOf<TaskOptions['onProgress']>().toEqualTypeOf<Maybe<(progress: Progress) => void>>();
expectTypeOf<Progress['phase']>().toEqualTypeOf<
  'build' | 'load' | 'fill' | 'capture' | 'measure' | 'profile' | 'verify' | 'export' | 'pack' | 'tune'
>();
expectTypeOf<Progress['fraction']>().toEqualTypeOf<number | null>();
expectTypeOf<Progress['detail']>().toEqualTypeOf<string | null>();

// Loading.
expectTypeOf(loadPrebuilt).parameters.toEqualTypeOf<[path: string, options?: LoadOptions]>();
expectTypeOf(loadPrebuilt).returns.resolves.toEqualTypeOf<Prebuilt>();
expectTypeOf<LoadOptions>().toExtend<TaskOptions>();
expectTypeOf<keyof LoadOptions>().toEqualTypeOf<keyof TaskOptions | 'device' | 'seed' | 'build'>();
expectTypeOf<LoadOptions['device']>().toEqualTypeOf<Maybe<string>>();
expectTypeOf<LoadOptions['seed']>().toEqualTypeOf<Maybe<number>>();
expectTypeOf<LoadOptions['build']>().toEqualTypeOf<Maybe<boolean>>();
export const loads: LoadOptions = { device: 'cuda:1', seed: undefined, build: false, signal: new AbortController().signal };
// @ts-expect-error the name of a device, not its number
export const numberedDevice: LoadOptions = { device: 1 };
// @ts-expect-error no such option
export const unknownLoadOption: LoadOptions = { gpu: 'cuda:0' };

// A loaded checkpoint.
declare const prebuilt: Prebuilt;
expectTypeOf<Prebuilt>().toExtend<AsyncDisposable>();
expectTypeOf(prebuilt.path).toEqualTypeOf<string>();
expectTypeOf(prebuilt.case).toEqualTypeOf<CheckpointCase>();
expectTypeOf(prebuilt.device).toEqualTypeOf<DeviceInfo>();
expectTypeOf(prebuilt.inputNames).toEqualTypeOf<readonly string[]>();
expectTypeOf(prebuilt.outputNames).toEqualTypeOf<readonly string[]>();
expectTypeOf(prebuilt.inputs).toEqualTypeOf<ReadonlyMap<string, TensorInfo>>();
expectTypeOf(prebuilt.outputs).toEqualTypeOf<readonly TensorInfo[]>();
expectTypeOf(prebuilt.weights).toEqualTypeOf<WeightSource>();
expectTypeOf(prebuilt.loadTimes).toEqualTypeOf<LoadTimes>();
expectTypeOf(prebuilt.warnings).toEqualTypeOf<readonly string[]>();
expectTypeOf(prebuilt.operatorCount).toEqualTypeOf<number>();
expectTypeOf(prebuilt.usesReference).toEqualTypeOf<boolean>();
expectTypeOf(prebuilt.disposed).toEqualTypeOf<boolean>();
expectTypeOf(prebuilt.setInput).toEqualTypeOf<(name: string, data: TensorArray) => Promise<void>>();
expectTypeOf(prebuilt.run()).resolves.toEqualTypeOf<void>();
expectTypeOf(prebuilt.run({ x: new Float32Array(8) })).resolves.toEqualTypeOf<Outputs>();
expectTypeOf(prebuilt.run({ x: prebuilt.deviceOutput('y') }, { fetch: ['y'] })).resolves.toEqualTypeOf<Outputs>();
expectTypeOf(prebuilt.run({}, { as: 'float32' })).resolves.toEqualTypeOf<Outputs<Float32Array>>();
const intoArray = prebuilt.run({}, { out: { y: new Uint16Array(8) } });
expectTypeOf<Awaited<typeof intoArray>['y']>().toExtend<Uint16Array>();
expectTypeOf<Outputs>().toEqualTypeOf<Readonly<Record<string, TensorArray>>>();
expectTypeOf<Feeds>().toEqualTypeOf<Readonly<Record<string, TensorArray | DeviceTensor>>>();
expectTypeOf(prebuilt.deviceOutput).toEqualTypeOf<(name: string) => DeviceTensor>();
expectTypeOf<DeviceTensor['info']>().toEqualTypeOf<TensorInfo>();
expectTypeOf<InferenceOptions['as']>().toEqualTypeOf<Maybe<'bits' | 'float32'>>();
expectTypeOf<InferenceOptions['fetch']>().toEqualTypeOf<Maybe<readonly string[]>>();
expectTypeOf(prebuilt.getInput('x')).resolves.toEqualTypeOf<TensorArray>();
expectTypeOf(prebuilt.getInput('x', { as: 'float32' })).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(prebuilt.exportParams('graph.params', { inputs: true })).resolves.toEqualTypeOf<ExportedParams>();
expectTypeOf<ExportOptions>().toExtend<TaskOptions>();
expectTypeOf(prebuilt.getOutput()).resolves.toEqualTypeOf<TensorArray>();
expectTypeOf(prebuilt.getOutput(0)).resolves.toEqualTypeOf<TensorArray>();
expectTypeOf(prebuilt.getOutput(0, { as: 'bits' })).resolves.toEqualTypeOf<TensorArray>();
expectTypeOf(prebuilt.getOutput(0, { as: 'float32' })).resolves.toEqualTypeOf<Float32Array>();
expectTypeOf(prebuilt.benchmark).toEqualTypeOf<(options?: BenchmarkOptions) => Promise<BenchmarkResult>>();
expectTypeOf(prebuilt.profile).returns.resolves.toEqualTypeOf<ProfileReport>();
expectTypeOf(prebuilt.profile).parameter(0).toEqualTypeOf<Maybe<TaskOptions & { readonly samples?: number | undefined }>>();
expectTypeOf(prebuilt.verify).toEqualTypeOf<(options?: VerifyRunOptions) => Promise<VerifyReport>>();
expectTypeOf(prebuilt.dispose).toEqualTypeOf<() => Promise<void>>();
export async function wrongUses(): Promise<void> {
  // @ts-expect-error tensors by name
  await prebuilt.run([new Float32Array(8)]);
  // @ts-expect-error plain arrays are no tensors
  await prebuilt.run({ x: [1, 2, 3] });
  // @ts-expect-error what looks like a tensor of a device is none
  await prebuilt.run({ x: { info: prebuilt.outputs[0]! } });
  // @ts-expect-error no such form
  await prebuilt.run({}, { as: 'float64' });
  // @ts-expect-error made by loadPrebuilt
  await new api.Prebuilt().run();
  // @ts-expect-error plain arrays are no tensors
  await prebuilt.setInput('data', [1, 2, 3]);
  // @ts-expect-error typed arrays, not what they lie in: its type would be lost
  await prebuilt.setInput('data', new ArrayBuffer(8));
  // @ts-expect-error no such form
  await prebuilt.getOutput(0, { as: 'float16' });
  // @ts-expect-error an output has an index, not a name
  await prebuilt.getOutput('output');
  // @ts-expect-error what is known of a tensor does not change
  prebuilt.outputs[0]!.name = 'other';
  // @ts-expect-error the class's own state is private
  expectTypeOf(prebuilt.loaded).toBeUnknown();
}

// Tensors.
expectTypeOf<Float32Array | Uint16Array | Int8Array | Uint8Array | BigInt64Array>().toExtend<TensorArray>();
expectTypeOf<readonly number[]>().not.toExtend<TensorArray>();
expectTypeOf<TensorInfo['shape']>().toEqualTypeOf<readonly number[]>();
expectTypeOf<Pick<TensorInfo, 'name' | 'dtype' | 'arrayType'>>().toEqualTypeOf<{
  readonly name: string;
  readonly dtype: string;
  readonly arrayType: string;
}>();
expectTypeOf<Pick<TensorInfo, 'elements' | 'sizeBytes'>>().toEqualTypeOf<{ readonly elements: number; readonly sizeBytes: number }>();
expectTypeOf<WeightSource>().toEqualTypeOf<'file' | 'seeded' | 'fake' | 'none'>();
expectTypeOf<keyof LoadTimes>().toEqualTypeOf<'buildMs' | 'dlopenMs' | 'moduleMs' | 'allocateMs' | 'fillMs'>();
expectTypeOf<LoadTimes['fillMs']>().toEqualTypeOf<number>();
expectTypeOf<CheckpointCase>().toEqualTypeOf<{ readonly model: string; readonly setting: string; readonly format: string }>();

// Devices.
expectTypeOf(listDevices).toEqualTypeOf<() => readonly DeviceInfo[]>();
expectTypeOf<DeviceInfo['kind']>().toEqualTypeOf<'cuda' | 'cpu'>();
expectTypeOf<DeviceInfo['id' | 'name']>().toEqualTypeOf<string>();
expectTypeOf<DeviceInfo['computeCapability' | 'driverVersion' | 'uuid']>().toEqualTypeOf<string | null>();
expectTypeOf<DeviceInfo['multiprocessors' | 'memoryBytes']>().toEqualTypeOf<number>();
expectTypeOf<DeviceInfo['l2Bytes']>().toEqualTypeOf<number | null>();
expectTypeOf<DeviceState['smClockMHz' | 'memoryClockMHz' | 'maxSmClockMHz' | 'temperatureC' | 'powerW']>().toEqualTypeOf<number | null>();
expectTypeOf<DeviceState['throttleReasons']>().toEqualTypeOf<readonly string[] | null>();

// Timing.
expectTypeOf(runPrebuilt).parameters.toEqualTypeOf<[path: string, options?: RunOptions]>();
expectTypeOf(runPrebuilt).returns.resolves.toEqualTypeOf<RunResult>();
expectTypeOf<RunOptions>().toEqualTypeOf<LoadOptions & BenchmarkOptions>();
expectTypeOf<BenchmarkOptions>().toExtend<TaskOptions>();
expectTypeOf<BenchmarkOptions['mode']>().toEqualTypeOf<Maybe<'samples' | 'paper'>>();
expectTypeOf<BenchmarkOptions['launch']>().toEqualTypeOf<Maybe<'auto' | Launch>>();
expectTypeOf<BenchmarkOptions['l2']>().toEqualTypeOf<Maybe<'hot' | 'cold'>>();
expectTypeOf<BenchmarkOptions['roofline']>().toEqualTypeOf<Maybe<boolean>>();
expectTypeOf<BenchmarkOptions['warmupMs' | 'minSamples' | 'maxSamples' | 'maxMs' | 'recoveryMs']>().toEqualTypeOf<Maybe<number>>();
expectTypeOf<BenchmarkOptions['number' | 'repeat' | 'minRepeatMs']>().toEqualTypeOf<Maybe<number>>();
export const timed: RunOptions = {
  device: 'auto',
  mode: 'paper',
  launch: 'graph',
  l2: 'cold',
  minSamples: 10,
  onProgress: ({ phase }) => phase,
};
// @ts-expect-error no such launch
export const wrongLaunch: RunOptions = { launch: 'cudagraph' };
// @ts-expect-error milliseconds are numbers
export const wrongTime: BenchmarkOptions = { maxMs: '3000' };
// @ts-expect-error loading's option, not timing's
export const wrongPlace: BenchmarkOptions = { device: 'cpu' };

declare const result: RunResult;
expectTypeOf<RunResult>().toExtend<BenchmarkResult>();
expectTypeOf<RunResult>().toExtend<CheckpointCase>();
expectTypeOf(result.status).toEqualTypeOf<'ok' | 'invalid'>();
expectTypeOf(result.mode).toEqualTypeOf<'samples' | 'paper'>();
expectTypeOf(result.launch).toEqualTypeOf<Launch>();
expectTypeOf(result.l2).toEqualTypeOf<'hot' | 'cold'>();
expectTypeOf(result.clock).toEqualTypeOf<ClockKind>();
expectTypeOf(result.latencyMs).toEqualTypeOf<number>();
expectTypeOf(result.samples).toEqualTypeOf<SampleStats | null>();
expectTypeOf(result.paper).toEqualTypeOf<PaperStats | null>();
expectTypeOf(result.condition).toEqualTypeOf<'burst' | null>();
expectTypeOf(result.meanState).toEqualTypeOf<MeanState | null>();
expectTypeOf(result.sustained).toEqualTypeOf<SustainedFigures | null>();
expectTypeOf(result.cold).toEqualTypeOf<ColdFigures | null>();
expectTypeOf<MeanState['smClockMHz' | 'powerW']>().toEqualTypeOf<number | null>();
expectTypeOf<SustainedFigures['latencyMs']>().toEqualTypeOf<number | null>();
expectTypeOf(result.rawMs).toEqualTypeOf<readonly number[] | null>();
expectTypeOf<RunResult['enqueueMedianMs' | 'hostMsPerInference']>().toEqualTypeOf<number | null>();
expectTypeOf<RunResult['reason' | 'launchReason']>().toEqualTypeOf<string | null>();
expectTypeOf(result.warnings).toEqualTypeOf<readonly string[]>();
expectTypeOf(result.roofline).toEqualTypeOf<Roofline | null>();
expectTypeOf(result.device).toEqualTypeOf<DeviceInfo>();
expectTypeOf<RunResult['stateBefore' | 'stateAfter']>().toEqualTypeOf<DeviceState | null>();
expectTypeOf<RunResult['path' | 'date']>().toEqualTypeOf<string>();
expectTypeOf(result.weights).toEqualTypeOf<WeightSource>();
expectTypeOf(result.operators).toEqualTypeOf<number>();
expectTypeOf(result.computedBy).toEqualTypeOf<'model.so' | 'reference'>();
expectTypeOf(result.load).toEqualTypeOf<LoadTimes>();
expectTypeOf<ClockKind>().toEqualTypeOf<'gpu-events' | 'gpu-compute' | 'host-sync' | 'host-copies' | 'host-nosync' | 'cpu-host'>();
expectTypeOf<SampleStats['count' | 'medianMs' | 'iqrMs' | 'minMs' | 'maxMs' | 'meanMs' | 'stdMs']>().toEqualTypeOf<number>();
expectTypeOf<SampleStats['p5Ms' | 'p95Ms' | 'p99Ms']>().toEqualTypeOf<number | null>();
expectTypeOf<PaperStats['meanMs' | 'medianMs' | 'minMs' | 'maxMs' | 'stdMs']>().toEqualTypeOf<number>();
expectTypeOf<PaperStats['valuesMs' | 'numbers']>().toEqualTypeOf<number[]>();
expectTypeOf<
  Roofline['bytes' | 'flops' | 'bytesPerSecond' | 'flopsPerSecond' | 'ceilingBytesPerSecond' | 'fraction']
>().toEqualTypeOf<number>();
expectTypeOf<Roofline['ceilingFlopsPerSecond']>().toEqualTypeOf<number | null>();
expectTypeOf<ProfileReport['operators']>().toEqualTypeOf<readonly ProfiledOperator[]>();
expectTypeOf<ProfileReport['samples' | 'totalMs']>().toEqualTypeOf<number>();
expectTypeOf<ProfiledOperator['medianMs' | 'minMs' | 'share']>().toEqualTypeOf<number>();
expectTypeOf<ProfiledOperator['roofline']>().toEqualTypeOf<Roofline | null>();

// Records.
expectTypeOf(recordOf).toEqualTypeOf<(result: RunResult, verified: boolean | null) => BenchRecord>();
expectTypeOf(parseRecord).toEqualTypeOf<(text: string, source: string) => BenchRecord>();
expectTypeOf<BenchRecord['schema']>().toExtend<`ladder-record/${number}`>();
expectTypeOf<BenchRecord['status']>().toEqualTypeOf<'ok' | 'invalid' | 'failed'>();
expectTypeOf<BenchRecord['latencyMs']>().toEqualTypeOf<number | null>();
expectTypeOf<BenchRecord['clock']>().toEqualTypeOf<ClockKind>();
expectTypeOf<BenchRecord['load']>().toEqualTypeOf<LoadTimes | null>();
expectTypeOf<BenchRecord['roofline']>().toEqualTypeOf<Roofline | null>();
expectTypeOf<BenchRecord['verified']>().toEqualTypeOf<boolean | null>();

// Verification.
expectTypeOf(verifyPrebuilt).returns.resolves.toEqualTypeOf<VerifyReport>();
expectTypeOf(verifyPrebuilt).parameter(0).toEqualTypeOf<string>();
expectTypeOf(verifyPrebuilt).parameter(1).toEqualTypeOf<Maybe<Omit<LoadOptions, 'seed'> & VerifyRunOptions>>();
expectTypeOf<VerifyRunOptions>().toExtend<TaskOptions>();
expectTypeOf<VerifyRunOptions['endToEnd']>().toEqualTypeOf<Maybe<'auto' | 'full' | 'off'>>();
expectTypeOf<VerifyRunOptions['seed' | 'maxColumns' | 'maxRows']>().toEqualTypeOf<Maybe<number>>();
// @ts-expect-error no such extent
export const wrongExtent: VerifyRunOptions = { endToEnd: true };
expectTypeOf<VerifyReport['passed']>().toEqualTypeOf<boolean>();
expectTypeOf<VerifyReport['kind']>().toEqualTypeOf<'semantic' | 'structural'>();
expectTypeOf<VerifyReport['structure']>().toEqualTypeOf<readonly StructureCheck[]>();
expectTypeOf<VerifyReport['operators']>().toEqualTypeOf<readonly OperatorVerdict[]>();
expectTypeOf<VerifyReport['endToEnd']>().toEqualTypeOf<readonly EndToEndVerdict[]>();
expectTypeOf<StructureCheck>().toEqualTypeOf<{ readonly name: string; readonly passed: boolean; readonly detail: string }>();
expectTypeOf<OperatorVerdict['maxAbsolute' | 'relativeL2' | 'maxOverRms' | 'tolerance' | 'differing']>().toEqualTypeOf<number | null>();
expectTypeOf<OperatorVerdict['passed']>().toEqualTypeOf<boolean>();
expectTypeOf<OperatorVerdict['deterministic']>().toEqualTypeOf<boolean | null>();
expectTypeOf<OperatorVerdict['failures']>().toEqualTypeOf<readonly string[]>();
expectTypeOf<EndToEndVerdict['passed' | 'bitEqual']>().toEqualTypeOf<boolean>();
expectTypeOf<EndToEndVerdict['relativeL2' | 'tolerance']>().toEqualTypeOf<number | null>();

// Inspection.
expectTypeOf(inspectPrebuilt).toEqualTypeOf<(path: string) => Promise<Inspection>>();
expectTypeOf<Inspection['problems']>().toEqualTypeOf<readonly InspectedProblem[]>();
expectTypeOf<Inspection['module']>().toEqualTypeOf<InspectedModule | null>();
expectTypeOf<NonNullable<Inspection['graph']>['inputs']>().toEqualTypeOf<readonly InspectedTensor[]>();
expectTypeOf<NonNullable<Inspection['graph']>['operators']>().toEqualTypeOf<readonly InspectedOperator[]>();
expectTypeOf<InspectedProblem>().toEqualTypeOf<{ readonly code: ErrorCode; readonly message: string }>();
expectTypeOf<InspectedTensor['source']>().toEqualTypeOf<'input' | 'params' | 'fill' | 'operator'>();
expectTypeOf<InspectedModule['route']>().toEqualTypeOf<'1' | '2' | '1 and 2' | 'cpu'>();
expectTypeOf<InspectedModule['architectures']>().toEqualTypeOf<readonly string[]>();
expectTypeOf<InspectedOperator['steps']>().toEqualTypeOf<string | null>();
expectTypeOf<InspectedOperator['kernels']>().toEqualTypeOf<string | null>();

// Building, packing and tuning. A new format widens the union; it stays one of literals.
expectTypeOf<'fp16' | 'int4' | 'nf4' | 'fp8_e5m2' | 'fp8_e4m3' | 'mxfp8_e5m2' | 'mxfp8_e4m3' | 'int1'>().toExtend<WeightFormat>();
expectTypeOf<string>().not.toExtend<WeightFormat>();
expectTypeOf<'fp16' | 'fp8_e5m2' | 'fp8_e4m3' | 'mxfp8_e5m2' | 'mxfp8_e4m3' | 'int8' | 'int4'>().toExtend<ActivationFormat>();
expectTypeOf<string>().not.toExtend<ActivationFormat>();
expectTypeOf<'float16'>().not.toExtend<WeightFormat>();
expectTypeOf(buildCheckpoint).toEqualTypeOf<(model: string, options: BuildCheckpointOptions) => Promise<BuildResult>>();
expectTypeOf<BuildCheckpointOptions>().toExtend<TaskOptions>();
expectTypeOf<BuildCheckpointOptions['root']>().toEqualTypeOf<string>();
expectTypeOf<BuildCheckpointOptions['layer']>().toEqualTypeOf<number | undefined>();
expectTypeOf<'fp8' | 'mxfp8' | WeightFormat>().toExtend<NonNullable<BuildCheckpointOptions['weight']>>();
expectTypeOf<'fp8' | 'mxfp8' | ActivationFormat>().toExtend<NonNullable<BuildCheckpointOptions['act']>>();
expectTypeOf<FormatWord<'nf4' | 'fp8_e4m3'>>().toEqualTypeOf<'nf4' | 'fp8_e4m3' | 'fp8'>();
expectTypeOf<FormatKind>().toEqualTypeOf<'e5m2' | 'e4m3'>();
expectTypeOf<BuildCheckpointOptions['format']>().toEqualTypeOf<Maybe<'e5m2' | 'e4m3'>>();
expectTypeOf<BuildCheckpointOptions['mask']>().toEqualTypeOf<Maybe<'none' | 'causal'>>();
expectTypeOf<BuildCheckpointOptions['group']>().toEqualTypeOf<Maybe<-1 | 32 | 64 | 128>>();
// @ts-expect-error no such format
export const wrongFormat: BuildCheckpointOptions = { root: 'out', weight: 'float16' };
// @ts-expect-error weights' alone
export const wrongActivation: BuildCheckpointOptions = { root: 'out', act: 'nf4' };
// @ts-expect-error no such group
export const oddGroup: BuildCheckpointOptions = { root: 'out', group: 100 };
expectTypeOf<BuildCheckpointOptions['batch' | 'seq' | 'layers' | 'seed']>().toEqualTypeOf<Maybe<number>>();
expectTypeOf<BuildCheckpointOptions['compile']>().toEqualTypeOf<Maybe<boolean>>();
expectTypeOf<BuildResult>().toEqualTypeOf<{
  readonly folder: string;
  readonly compiled: boolean;
  readonly buildMs: number;
  readonly warnings: readonly string[];
}>();
export const built: BuildCheckpointOptions = { root: 'out', weight: 'int4', group: 128, batch: 1, weights: 'layer.safetensors' };
// @ts-expect-error where to?
export const nowhere: BuildCheckpointOptions = { weight: 'int4' };
// @ts-expect-error the model is an argument of its own
export const modelTwice: BuildCheckpointOptions = { root: 'out', model: 'llama2-70b' };
// @ts-expect-error numbers are not words
export const wrongGroupWord: BuildCheckpointOptions = { root: 'out', group: '128' };

expectTypeOf(packWeights).toEqualTypeOf<(path: string, weights: FloatWeights, options?: TaskOptions) => Promise<void>>();
expectTypeOf<FloatSource>().toEqualTypeOf<(name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>>();
expectTypeOf<FloatWeights>().toEqualTypeOf<Readonly<Record<string, Float32Array>> | FloatSource>();
// @ts-expect-error floats, not doubles
export const doubles: FloatWeights = { weight: new Float64Array(4) };
expectTypeOf(packMatrix).toEqualTypeOf<
  (matrix: Float32Array, format: WeightFormat, options: PackMatrixOptions) => Promise<PackedWeights>
>();
expectTypeOf<PackMatrixOptions['k']>().toEqualTypeOf<number>();
expectTypeOf<PackMatrixOptions['group']>().toEqualTypeOf<Maybe<-1 | 32 | 64 | 128>>();
expectTypeOf<PackMatrixOptions['layout']>().toEqualTypeOf<Maybe<readonly LayoutDigit[]>>();
expectTypeOf<LayoutDigit>().toEqualTypeOf<{ readonly axis: string; readonly stride: number; readonly size: number }>();
expectTypeOf<PackedWeights>().toEqualTypeOf<{ readonly weight: Uint8Array; readonly scale: Uint8Array }>();
// @ts-expect-error groups of 64 or 128
export const wrongGroup: PackMatrixOptions = { k: 4096, group: 100 };
// @ts-expect-error the number of columns cannot be guessed
export const noColumns: PackMatrixOptions = {};

expectTypeOf(tuneCheckpoint).toEqualTypeOf<(path: string, options?: TuneCheckpointOptions) => Promise<TuneResult>>();
expectTypeOf<TuneCheckpointOptions['candidates']>().toEqualTypeOf<Maybe<number>>();
expectTypeOf<TuneCheckpointOptions['onProgress']>().toEqualTypeOf<Maybe<(progress: TuneProgress) => void>>();
expectTypeOf<TuneProgress>().toExtend<Progress>();
expectTypeOf<TuneProgress['remainingSeconds']>().toEqualTypeOf<number | null>();
expectTypeOf<TuneResult['schema']>().toExtend<`ladder-tuned/${number}`>();
expectTypeOf<TuneResult['operators'][string]['latencyMs']>().toEqualTypeOf<number>();

// Errors: one class, a closed union of codes.
expectTypeOf(LadderError).toBeConstructibleWith('BAD_ARGUMENT', 'expected …', { option: 'seed' }, { cause: null });
expectTypeOf<InstanceType<typeof LadderError>>().toExtend<Error>();
expectTypeOf<InstanceType<typeof LadderError>['name']>().toEqualTypeOf<'LadderError' | 'AbortError'>();
expectTypeOf<InstanceType<typeof LadderError>['code']>().toEqualTypeOf<ErrorCode>();
expectTypeOf<InstanceType<typeof LadderError>['context']>().toEqualTypeOf<ErrorContext>();
expectTypeOf<'NO_DRIVER' | 'ABORTED' | 'DISPOSED' | 'INTERNAL'>().toExtend<ErrorCode>();
expectTypeOf<string>().not.toExtend<ErrorCode>();
expectTypeOf<ErrorContext[string]>().toEqualTypeOf<string | number | boolean | readonly (string | number)[]>();
// @ts-expect-error no such code
export const wrongCode = new LadderError('OOPS', 'text');

// Quality.
expectTypeOf(checkpointQuality).parameters.toEqualTypeOf<[path: string, options?: CheckpointQualityOptions]>();
expectTypeOf(checkpointQuality).returns.resolves.toEqualTypeOf<QualityReport>();
expectTypeOf<keyof CheckpointQualityOptions>().toEqualTypeOf<
  'weights' | 'layer' | 'inputs' | 'tokens' | 'scale' | 'signal' | 'onProgress'
>();
expectTypeOf<CheckpointQualityOptions['scale']>().toEqualTypeOf<Maybe<'absmax' | 'mse'>>();
expectTypeOf<FormatQuality['tensors']>().toEqualTypeOf<readonly TensorQuality[]>();
expectTypeOf<TensorQuality['worst']>().toEqualTypeOf<{ readonly row: number; readonly error: number }>();

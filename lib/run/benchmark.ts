/**
 * Timing one loaded checkpoint: chooses the launch, runs the native measurement, watches the device beside it, and turns
 * samples into a result that says what it is worth. The two modes are never mixed: `paper` is TVM's rule (five means),
 * `samples` is one event pair per inference.
 */
import { setTimeout } from 'node:timers/promises';
import type { Manifest } from '../artifact/manifest.js';
import { LadderError } from '../errors.js';
import { native, type CaptureResult, type NativeDeviceState, type NativeExecutor } from '../native.js';
import { sampleInBursts, setAsideWarnings } from './bursts.js';
import { isComputeBound, kSustainedLoadMs, meanState, shareInL2, type MeanState } from './conditions.js';
import { ordinalOf, type DeviceInfo } from './device.js';
import { judgeMeasurement, type Evidence } from './judgement.js';
import { type CheckedBenchmarkOptions, throwIfAborted } from './options.js';
import type { ClockKind, ColdFigures, PaperStats, SampleStats, SustainedFigures } from './record-types.js';
import { checkpointRoofline, type Roofline } from './roofline.js';
import { median, summarisePaper, summariseSamples } from './statistics.js';

/** One measurement. Times in milliseconds per inference. */
export interface BenchmarkResult {
  /** `invalid`: measured, but not to be quoted; `reason` says why. */
  readonly status: 'ok' | 'invalid';
  readonly reason: string | null;
  readonly warnings: readonly string[];
  readonly mode: 'samples' | 'paper';
  /** How it was launched in the end. */
  readonly launch: 'stream' | 'graph';
  /** Why `auto` did not use a graph; null where it did, or was not asked. */
  readonly launchReason: string | null;
  readonly l2: 'hot' | 'cold';
  /** What the clock saw. */
  readonly clock: ClockKind;
  /** The headline: the median of samples, or the mean of the paper's five values. */
  readonly latencyMs: number;
  /** mode `samples` */
  readonly samples: SampleStats | null;
  /** mode `paper` */
  readonly paper: PaperStats | null;
  /** Every sample, in order of time. */
  readonly rawMs: readonly number[] | null;
  /** How the samples were taken; null on the CPU, in mode `paper`, and with `recoveryMs` 0: nothing was done about the power limit. */
  readonly condition: 'burst' | null;
  /** Clock and power while they were taken; null where NVML says nothing. */
  readonly meanState: MeanState | null;
  /** The same under lasting load; null where only one condition was measured. */
  readonly sustained: SustainedFigures | null;
  /** The same with a cold L2 cache; null where a hot one makes no difference, or it was not asked for. */
  readonly cold: ColdFigures | null;
  /** Host time to enqueue one inference, median. */
  readonly enqueueMedianMs: number | null;
  /** Host time of the whole measurement over its inferences, cold caches' flushes included. */
  readonly hostMsPerInference: number | null;
  readonly roofline: Roofline | null;
  readonly device: DeviceInfo;
  readonly stateBefore: NativeDeviceState | null;
  readonly stateAfter: NativeDeviceState | null;
  /** ISO 8601, UTC: when it ended. */
  readonly date: string;
}

/** What is timed. */
export interface Subject {
  readonly executor: NativeExecutor;
  readonly device: DeviceInfo;
  readonly manifest: Manifest | null;
  /** Of its case: `bs1_seq4096`. */
  readonly setting: string;
}

/** Times between readings of the device's state while it works: rare enough not to disturb what is timed. */
const kWatchIntervalMs = 250;

/**
 * Measures `subject`.
 * @throws LadderError `UNSUPPORTED` for launch `graph` where the checkpoint cannot be captured; `ABORTED`; what operators throw
 */
export async function measure(subject: Subject, options: CheckedBenchmarkOptions): Promise<BenchmarkResult> {
  const { executor, device, manifest } = subject;
  if (device.kind === 'cpu') refuseOnCpu(options);
  throwIfAborted(options.signal);
  const { launch, launchReason } = await chooseLaunch(subject, options);
  const watch = new DeviceWatch(device);
  const progress = (fraction: number): void => options.onProgress?.({ phase: 'measure', fraction, detail: null });
  // The first inference may take minutes on the CPU.
  progress(0);
  const { statesDuring, setAsideMs, ...figures } = await cancellable(executor, options.signal, () =>
    options.mode === 'paper'
      ? measurePaper(executor, launch, options, watch, progress)
      : measureSamples(executor, launch, watch, isComputeBound(subject.setting, subject.manifest), options, progress),
  );
  const condition = device.kind === 'cuda' && options.mode === 'samples' && options.recoveryMs > 0 ? 'burst' : null;
  const lasting =
    condition !== null && wantsSustained(subject, options)
      ? await cancellable(executor, options.signal, () =>
          measureSustained(
            {
              take: (limits, onProgress) => executor.measureSamples({ launch, l2: options.l2, ...limits }, onProgress),
              read: () => watch.read()[0] ?? null,
            },
            sampleLimits(options, true),
            progress,
          ),
        )
      : null;
  const uncached = wantsCold(subject, options)
    ? await cancellable(executor, options.signal, () =>
        measureSamples(executor, launch, watch, isComputeBound(subject.setting, manifest), { ...options, l2: 'cold' }, progress),
      )
    : null;

  const warnings = setAsideWarnings(setAsideMs);
  let roofline: Roofline | null = null;
  let coldRoofline: Roofline | null = null;
  if (options.roofline) {
    try {
      roofline = await checkpointRoofline(manifest, device, figures.latencyMs);
      coldRoofline = uncached && (await checkpointRoofline(manifest, device, uncached.latencyMs));
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'OUT_OF_MEMORY') throw error;
      warnings.push('no gigabyte of device memory was free to measure the read bandwidth: the result is not rated against the roofline');
    }
  }
  const evidence = { launch, l2: options.l2, bytes: manifest?.bytes ?? null, l2Bytes: device.l2Bytes };
  const { latencyMs, enqueueMedianMs } = figures;
  const verdict = judgeMeasurement({ ...evidence, condition, latencyMs, enqueueMedianMs, statesDuring, roofline });
  return {
    status: verdict.invalid === null ? 'ok' : 'invalid',
    reason: verdict.invalid,
    warnings: [...warnings, ...verdict.warnings],
    mode: options.mode,
    launch,
    launchReason,
    l2: options.l2,
    clock: device.kind === 'cuda' ? 'gpu-events' : 'cpu-host',
    ...figures,
    condition,
    meanState: meanState(statesDuring),
    sustained: lasting && sustainedFigures(lasting, evidence),
    cold: uncached && coldFigures(uncached, { ...evidence, condition }, coldRoofline),
    roofline,
    device,
    stateBefore: watch.before,
    stateAfter: watch.last,
    date: new Date().toISOString(),
  };
}

function wantsSustained({ setting, manifest }: Subject, { sustained }: CheckedBenchmarkOptions): boolean {
  return sustained === 'on' || (sustained === 'auto' && isComputeBound(setting, manifest));
}

function wantsCold({ device, manifest }: Subject, { mode, l2, cold }: CheckedBenchmarkOptions): boolean {
  if (device.kind !== 'cuda' || mode !== 'samples' || l2 !== 'hot') return false;
  return cold === 'on' || (cold === 'auto' && shareInL2(manifest?.bytes ?? null, device.l2Bytes) > 0);
}

/** The figures of a record, from samples with a cold cache. */
function coldFigures(
  { latencyMs, samples, rawMs, enqueueMedianMs, statesDuring }: SampledFigures,
  evidence: Pick<Evidence, 'launch' | 'condition' | 'bytes' | 'l2Bytes'>,
  roofline: Roofline | null,
): ColdFigures {
  const { invalid } = judgeMeasurement({ ...evidence, l2: 'cold', latencyMs, enqueueMedianMs, statesDuring, roofline });
  return {
    latencyMs: invalid === null ? latencyMs : null,
    reason: invalid,
    samples,
    rawMs: [...rawMs],
    meanState: meanState(statesDuring),
    roofline: invalid === null ? roofline : null,
  };
}

/** A GPU that samples without a pause, and can be looked at meanwhile. */
export interface SustainedSource {
  take(
    limits: { readonly warmupMs: number; readonly minSamples: number; readonly maxSamples: number; readonly maxMs: number },
    onProgress: (fraction: number) => void,
  ): Promise<{ readonly gpuMs: ArrayLike<number> }>;
  read(): NativeDeviceState | null;
}

export interface SustainedSamples {
  readonly gpuMs: readonly number[];
  readonly states: readonly NativeDeviceState[];
}

/** Load first, then samples, with readings meanwhile: none is set aside. */
export async function measureSustained(
  source: SustainedSource,
  limits: SampleLimits,
  onProgress: (fraction: number) => void,
): Promise<SustainedSamples> {
  const states: NativeDeviceState[] = [];
  const look = (): void => {
    const state = source.read();
    if (state) states.push(state);
  };
  const { gpuMs } = await source.take({ ...limits, warmupMs: Math.max(limits.warmupMs, kSustainedLoadMs) }, (fraction) => {
    look();
    onProgress(fraction);
  });
  // A run that is over before the first report of progress.
  if (states.length === 0) look();
  return { gpuMs: Array.from(gpuMs), states };
}

/** The figures of a record. The power limit is a part of them; what else makes a measurement invalid does so here, too. */
export function sustainedFigures(
  { gpuMs, states }: SustainedSamples,
  evidence: Pick<Evidence, 'launch' | 'l2' | 'bytes' | 'l2Bytes'>,
): SustainedFigures {
  const samples = summariseSamples(gpuMs);
  const { invalid } = judgeMeasurement({
    ...evidence,
    condition: 'sustained',
    latencyMs: samples.medianMs,
    enqueueMedianMs: null,
    statesDuring: states,
    roofline: null,
  });
  return {
    latencyMs: invalid === null ? samples.medianMs : null,
    reason: invalid,
    loadMs: kSustainedLoadMs,
    samples,
    rawMs: [...gpuMs],
    meanState: meanState(states),
  };
}

interface Figures extends Pick<BenchmarkResult, 'latencyMs' | 'samples' | 'paper' | 'rawMs' | 'enqueueMedianMs' | 'hostMsPerInference'> {
  /** Readings while the device worked on what is in the figures, the last one right at the end. */
  readonly statesDuring: readonly NativeDeviceState[];
  readonly setAsideMs: readonly number[];
}

interface SampledFigures extends Figures {
  readonly samples: SampleStats;
  readonly rawMs: readonly number[];
}

async function measurePaper(
  executor: NativeExecutor,
  launch: 'stream' | 'graph',
  options: CheckedBenchmarkOptions,
  watch: DeviceWatch,
  onProgress: (fraction: number) => void,
): Promise<Figures> {
  const { number, repeat, minRepeatMs } = options;
  const statesDuring: NativeDeviceState[] = [];
  const result = await executor.measurePaper({ launch, number, repeat, minRepeatMs }, (fraction) => {
    statesDuring.push(...watch.glance());
    onProgress(fraction);
  });
  statesDuring.push(...watch.read());
  const paper = summarisePaper(result.valuesMs, result.numbers);
  return {
    latencyMs: paper.meanMs,
    samples: null,
    paper,
    rawMs: null,
    enqueueMedianMs: null,
    hostMsPerInference: null,
    statesDuring,
    setAsideMs: [],
  };
}

export interface SampleLimits {
  readonly warmupMs: number;
  readonly minSamples: number;
  readonly maxSamples: number;
  readonly maxMs: number;
}

/** What options ask for in mode `samples`, with the defaults of the device. @throws LadderError `BAD_ARGUMENT` */
export function sampleLimits(
  options: Pick<CheckedBenchmarkOptions, 'warmupMs' | 'minSamples' | 'maxSamples' | 'maxMs'>,
  onGpu: boolean,
): SampleLimits {
  const minSamples = options.minSamples ?? Math.min(onGpu ? 100 : 2, options.maxSamples ?? Infinity);
  const maxSamples = options.maxSamples ?? Math.max(onGpu ? 2000 : 20, minSamples);
  return { warmupMs: options.warmupMs ?? (onGpu ? 200 : 0), minSamples, maxSamples, maxMs: options.maxMs ?? 3000 };
}

async function measureSamples(
  executor: NativeExecutor,
  launch: 'stream' | 'graph',
  watch: DeviceWatch,
  rests: boolean,
  options: CheckedBenchmarkOptions,
  onProgress: (fraction: number) => void,
): Promise<SampledFigures> {
  const onGpu = watch.device.kind === 'cuda';
  const limits = sampleLimits(options, onGpu);
  const how = { launch, l2: options.l2 };
  const result = onGpu
    ? await sampleInBursts(
        {
          take: (burst) => {
            throwIfAborted(options.signal);
            return executor.measureSamples({ ...how, ...burst }, null);
          },
          read: () => watch.read()[0] ?? null,
          onProgress,
          pause: (ms) => setTimeout(ms, undefined, { signal: options.signal }).catch(() => throwIfAborted(options.signal)),
        },
        { ...limits, recoveryMs: options.recoveryMs, rests },
      )
    : { ...(await executor.measureSamples({ ...how, ...limits }, onProgress)), states: [], setAsideMs: [] };
  const samples = summariseSamples(result.gpuMs);
  return {
    latencyMs: samples.medianMs,
    samples,
    paper: null,
    rawMs: Array.from(result.gpuMs),
    enqueueMedianMs: onGpu ? median(result.enqueueMs) : null,
    hostMsPerInference: result.hostMsPerInference,
    statesDuring: result.states,
    setAsideMs: result.setAsideMs,
  };
}

/** @throws LadderError `UNSUPPORTED` for what the CPU does not have */
export function refuseOnCpu(options: Pick<CheckedBenchmarkOptions, 'launch' | 'l2' | 'sustained' | 'cold'>): void {
  if (options.launch === 'graph') throw new LadderError('UNSUPPORTED', "the CPU has no CUDA graphs; use launch 'stream' or 'auto'");
  if (options.l2 === 'cold' || options.cold === 'on')
    throw new LadderError('UNSUPPORTED', "the CPU's caches cannot be flushed here; use l2 'hot', and cold 'auto' or 'off'");
  if (options.sustained === 'on')
    throw new LadderError('UNSUPPORTED', "the CPU is measured under one condition; use sustained 'auto' or 'off'");
}

/** Chooses the launch as `measure` does. */
export async function chooseLaunch(
  { executor, device }: Pick<Subject, 'executor' | 'device'>,
  options: Pick<CheckedBenchmarkOptions, 'launch' | 'onProgress'>,
): Promise<{ launch: 'stream' | 'graph'; launchReason: string | null }> {
  if (options.launch === 'stream') return { launch: 'stream', launchReason: null };
  if (device.kind === 'cpu') return { launch: 'stream', launchReason: 'the CPU has no CUDA graphs' };
  options.onProgress?.({ phase: 'capture', fraction: null, detail: null });
  const capture: CaptureResult = await executor.capture();
  if (capture.captured) return { launch: 'graph', launchReason: null };
  const reason = capture.reason ?? 'the driver gave no reason';
  if (options.launch === 'graph') {
    throw new LadderError('UNSUPPORTED', `the checkpoint cannot be captured into a CUDA graph: ${reason}; use launch 'stream', or 'auto'`, {
      reason,
    });
  }
  return { launch: 'stream', launchReason: reason };
}

/** Runs `task` so that the signal cancels it: the executor ends the measurement with `ABORTED` at its next inference. */
export async function cancellable<T>(executor: NativeExecutor, signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
  throwIfAborted(signal);
  const cancel = (): void => executor.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await task();
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** Reads NVML; what it returns has one reading, or none where there is none. */
class DeviceWatch {
  readonly before: NativeDeviceState | null;
  last: NativeDeviceState | null = null;
  private lastReadingMs = performance.now();

  constructor(readonly device: DeviceInfo) {
    this.before = this.read()[0] ?? null;
  }

  /** Called with the progress of a long measurement. */
  glance(): NativeDeviceState[] {
    return performance.now() - this.lastReadingMs >= kWatchIntervalMs ? this.read() : [];
  }

  read(): NativeDeviceState[] {
    this.last = this.device.kind === 'cuda' ? native().deviceState(ordinalOf(this.device)) : null;
    this.lastReadingMs = performance.now();
    return this.last === null ? [] : [this.last];
  }
}

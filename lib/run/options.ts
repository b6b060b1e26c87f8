/** The options of the public API, whose one check is option-checks.ts's. */
import { LadderError } from '../errors.js';

/** What long calls accept. */
export interface TaskOptions {
  /** Ends the call with `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
  /** Told which phase runs and how far it is, 0…1, or null where nothing can be counted. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface Progress {
  readonly phase: 'build' | 'load' | 'fill' | 'capture' | 'measure' | 'profile' | 'verify' | 'export' | 'pack' | 'tune';
  readonly fraction: number | null;
  /** What of the phase runs, e.g. an operator's name. */
  readonly detail: string | null;
}

/** How a checkpoint is loaded. */
export interface LoadOptions extends TaskOptions {
  /** `auto`: the first CUDA device, or the CPU where there is none. `cuda:1`: that device. `cpu`: reference operators, or a CPU artifact. Default `auto`. */
  readonly device?: string | undefined;
  /** Seed of weights and inputs that no file holds. Default: the manifest's, or 0. */
  readonly seed?: number | undefined;
  /** Whether a missing or stale model.so of one of our own checkpoints is built (needs nvcc). Default true. */
  readonly build?: boolean | undefined;
}

/** How a checkpoint is timed. */
export interface BenchmarkOptions extends TaskOptions {
  /** `samples`: one event pair per inference; `paper`: TVM's rule, five means. Default `samples`. */
  readonly mode?: 'samples' | 'paper' | undefined;
  /** `graph`: CUDA graph replay, an error where the checkpoint cannot be captured; `auto`: graph where possible, else stream, with the reason in the result. Default `auto`. */
  readonly launch?: 'auto' | 'graph' | 'stream' | undefined;
  /** `cold`: the L2 cache is filled with other data before each inference, outside the events (`samples` only). Default `hot`. */
  readonly l2?: 'hot' | 'cold' | undefined;
  /** samples: how long to run before the first sample, ms. Default 200 on a GPU, 0 on the CPU (one inference always runs). */
  readonly warmupMs?: number | undefined;
  /** samples: at least as many, even when `maxMs` is over. Default 100 on a GPU, 2 on the CPU. */
  readonly minSamples?: number | undefined;
  /** samples: at most as many. Default 2000 on a GPU, 20 on the CPU. */
  readonly maxSamples?: number | undefined;
  /** samples: stop after as long once `minSamples` are there, ms. Default 3000. */
  readonly maxMs?: number | undefined;
  /** samples: pause after 100 ms in which the power limit held the clock below 75 % of the highest; samples taken so are set aside and named in `warnings`. 0: they count. Default 250 ms. */
  readonly recoveryMs?: number | undefined;
  /**
   * samples, on a GPU: measure under lasting load as well: 1 s of it first, no sample set aside, clock and power beside. `auto`: where
   * arithmetic decides, that is where each weight meets 128 rows or more. Default `auto`.
   */
  readonly sustained?: 'auto' | 'on' | 'off' | undefined;
  /**
   * samples, on a GPU, with `l2` hot: measure with a cold L2 cache as well, and rate that against the roofline. `auto`: where the cache
   * may keep a tenth or more of what an inference reads. Default `auto`.
   */
  readonly cold?: 'auto' | 'on' | 'off' | undefined;
  /** paper: TVM's `number`. Default 5. */
  readonly number?: number | undefined;
  /** paper: TVM's `repeat`. Default 5. */
  readonly repeat?: number | undefined;
  /** paper: TVM's `min_repeat_ms`. Default 500, as the authors call it. */
  readonly minRepeatMs?: number | undefined;
  /** Whether bytes/s are rated against the device's measured read bandwidth (reads 2 GiB of device memory once per process). Default true. */
  readonly roofline?: boolean | undefined;
}

/** How a checkpoint's numbers are checked. */
export interface VerifyRunOptions extends TaskOptions {
  /** Seed of the random activations and of the sampled rows and columns. Default 1. */
  readonly seed?: number | undefined;
  /** Columns and rows of a product that the reference computes; 0 = all. Default 512 and 16. */
  readonly maxColumns?: number | undefined;
  readonly maxRows?: number | undefined;
  /** Whether the whole checkpoint also runs through the reference operators. `auto`: where that takes seconds. Default `auto`. */
  readonly endToEnd?: 'auto' | 'full' | 'off' | undefined;
}

/** What `exportParams` writes. */
export interface ExportOptions extends TaskOptions {
  /** Whether the inputs go into the file as well, with what they hold now. Default false. */
  readonly inputs?: boolean | undefined;
}

/** Options with those that have a default. */
type Filled<Options, Name extends keyof Options> = Options & { readonly [Key in Name]-?: Exclude<Options[Key], undefined> };

export type CheckedLoadOptions = Filled<LoadOptions, 'device' | 'build'>;
export type CheckedBenchmarkOptions = Filled<
  BenchmarkOptions,
  'mode' | 'launch' | 'l2' | 'recoveryMs' | 'sustained' | 'cold' | 'number' | 'repeat' | 'minRepeatMs' | 'roofline'
>;
export type CheckedVerifyOptions = Filled<VerifyRunOptions, 'seed' | 'maxColumns' | 'maxRows' | 'endToEnd'>;
export interface CheckedProfileOptions extends TaskOptions {
  readonly samples?: number | undefined;
}
export type CheckedExportOptions = Filled<ExportOptions, 'inputs'>;

/** How a value is named in a message: its text where short, and its type. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'object')
    return Array.isArray(value) ? `an array of ${value.length}` : `an object of type ${value.constructor?.name ?? 'Object'}`;
  if (typeof value === 'function') return 'a function';
  const text = typeof value === 'string' ? JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value) : String(value);
  return `${text} of type ${typeof value}`;
}

/** Throws `ABORTED` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LadderError('ABORTED', 'aborted by the AbortSignal', {}, { cause: signal.reason });
}

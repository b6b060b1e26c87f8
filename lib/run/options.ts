/**
 * The options of the public API, and their one check at the edge: behind it every option is present and in range.
 * Messages read "expected X for `name` but received Y of type Z".
 */
import { setMaxListeners } from 'node:events';
import { z } from 'zod';
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

export const taskShape = {
  signal: z
    .instanceof(AbortSignal, { error: 'an AbortSignal' })
    .transform((signal) => {
      // Any number of calls may share one; each takes its listener away when it ends.
      setMaxListeners(0, signal);
      return signal;
    })
    .optional(),
  onProgress: z.custom<(progress: Progress) => void>((value) => typeof value === 'function', { error: 'a function' }).optional(),
};

export function integer(minimum: number, maximum = Number.MAX_SAFE_INTEGER): z.ZodType<number> {
  const error = `an integer of at least ${minimum}${maximum === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${maximum}`}`;
  return z.custom<number>((value) => Number.isSafeInteger(value) && (value as number) >= minimum && (value as number) <= maximum, {
    error,
  });
}

function milliseconds(): z.ZodType<number> {
  return z.custom<number>((value) => typeof value === 'number' && value >= 0 && value < Infinity, { error: 'milliseconds of at least 0' });
}

export const flag = z.boolean({ error: 'true or false' });

export const loadOptionsSchema = z.strictObject({
  ...taskShape,
  device: z
    .string({ error: "'auto', 'cpu', 'cuda' or 'cuda:<ordinal>'" })
    .regex(/^(auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?)$/, { error: "'auto', 'cpu', 'cuda' or 'cuda:<ordinal>'" })
    .default('auto'),
  seed: integer(0).optional(),
  build: flag.default(true),
});
export type CheckedLoadOptions = z.infer<typeof loadOptionsSchema>;

export const benchmarkOptionsSchema = z.strictObject({
  ...taskShape,
  mode: z.enum(['samples', 'paper'], { error: "'samples' or 'paper'" }).default('samples'),
  launch: z.enum(['auto', 'graph', 'stream'], { error: "'auto', 'graph' or 'stream'" }).default('auto'),
  l2: z.enum(['hot', 'cold'], { error: "'hot' or 'cold'" }).default('hot'),
  warmupMs: milliseconds().optional(),
  minSamples: integer(1, 10_000_000).optional(),
  maxSamples: integer(1, 10_000_000).optional(),
  maxMs: milliseconds().optional(),
  recoveryMs: milliseconds().default(250),
  sustained: z.enum(['auto', 'on', 'off'], { error: "'auto', 'on' or 'off'" }).default('auto'),
  cold: z.enum(['auto', 'on', 'off'], { error: "'auto', 'on' or 'off'" }).default('auto'),
  number: integer(1, 1_000_000_000).default(5),
  repeat: integer(1, 1_000_000).default(5),
  minRepeatMs: milliseconds().default(500),
  roofline: flag.default(true),
});
export type CheckedBenchmarkOptions = z.infer<typeof benchmarkOptionsSchema>;

/** What one mode has, and the other has no use for. */
export const modeOptions = {
  samples: ['warmupMs', 'minSamples', 'maxSamples', 'maxMs', 'recoveryMs', 'sustained', 'cold'],
  paper: ['number', 'repeat', 'minRepeatMs'],
} as const satisfies Record<CheckedBenchmarkOptions['mode'], readonly (keyof BenchmarkOptions)[]>;

export const verifyOptionsSchema = z.strictObject({
  ...taskShape,
  seed: integer(0).default(1),
  maxColumns: integer(0, 2 ** 31 - 1).default(512),
  maxRows: integer(0, 2 ** 31 - 1).default(16),
  endToEnd: z.enum(['auto', 'full', 'off'], { error: "'auto', 'full' or 'off'" }).default('auto'),
});
export type CheckedVerifyOptions = z.infer<typeof verifyOptionsSchema>;

export const profileOptionsSchema = z.strictObject({
  ...taskShape,
  samples: integer(1, 100_000).optional(),
});
export type CheckedProfileOptions = z.infer<typeof profileOptionsSchema>;

export const exportOptionsSchema = z.strictObject({ ...taskShape, inputs: flag.default(false) });
export type CheckedExportOptions = z.infer<typeof exportOptionsSchema>;

export const inferenceOptionsSchema = z.strictObject({
  as: z.enum(['bits', 'float32'], { error: "'bits' or 'float32'" }).default('bits'),
  fetch: z.array(z.string(), { error: "an array of outputs' names" }).optional(),
  out: z.record(z.string(), z.unknown(), { error: "an object of typed arrays by outputs' names" }).default({}),
});

/** How a value is named in a message: its text where short, and its type. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'object')
    return Array.isArray(value) ? `an array of ${value.length}` : `an object of type ${value.constructor?.name ?? 'Object'}`;
  if (typeof value === 'function') return 'a function';
  const text = typeof value === 'string' ? JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value) : String(value);
  return `${text} of type ${typeof value}`;
}

/**
 * Checks options against their schema and fills in the defaults.
 * @throws LadderError `BAD_ARGUMENT` naming the first option that does not fit
 */
export function parseOptions<S extends z.ZodObject>(schema: S, options: unknown): z.infer<S> {
  const result = schema.safeParse(options === undefined ? {} : options);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue?.code === 'unrecognized_keys') {
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected only the options ${Object.keys(schema.shape).join(', ')} but received \`${issue.keys[0]}\``,
    );
  }
  const name = issue?.path.join('.') ?? '';
  if (name === '') throw new LadderError('BAD_ARGUMENT', `expected an object for \`options\` but received ${describeValue(options)}`);
  const received = ((options ?? {}) as Record<string, unknown>)[String(issue?.path[0])];
  throw new LadderError('BAD_ARGUMENT', `expected ${issue?.message} for \`${name}\` but received ${describeValue(received)}`, {
    option: name,
  });
}

/**
 * Checks the options of timing, each by itself and against the others.
 * @throws LadderError `BAD_ARGUMENT`, also for an option of the other mode
 */
export function parseBenchmarkOptions(options: unknown): CheckedBenchmarkOptions {
  const checked = parseOptions(benchmarkOptionsSchema, options);
  const { mode, l2, minSamples, maxSamples, sustained, cold, recoveryMs } = checked;
  const other = mode === 'paper' ? 'samples' : 'paper';
  const given = (options ?? {}) as Readonly<Record<string, unknown>>;
  const odd = modeOptions[other].find((name) => given[name] !== undefined);
  if (odd !== undefined)
    throw new LadderError('BAD_ARGUMENT', `expected no \`${odd}\` in mode '${mode}': it is an option of mode '${other}'`, { option: odd });
  if (mode === 'paper' && l2 === 'cold')
    throw new LadderError(
      'BAD_ARGUMENT',
      "expected 'hot' for `l2` in mode 'paper', whose events span many inferences, but received \"cold\"",
      {
        option: 'l2',
      },
    );
  if (l2 === 'cold' && cold === 'on')
    throw new LadderError(
      'BAD_ARGUMENT',
      "expected 'auto' or 'off' for `cold` with `l2` cold, which is measured already, but received \"on\"",
      {
        option: 'cold',
      },
    );
  if (recoveryMs === 0 && sustained === 'on')
    throw new LadderError(
      'BAD_ARGUMENT',
      "expected 'auto' or 'off' for `sustained` with `recoveryMs` 0, where no sample is set aside in any case, but received \"on\"",
      { option: 'sustained' },
    );
  if (minSamples !== undefined && maxSamples !== undefined && minSamples > maxSamples)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected at least ${minSamples}, \`minSamples\`, for \`maxSamples\` but received ${maxSamples}`,
      {
        option: 'maxSamples',
      },
    );
  return checked;
}

/** Options of loading and of timing, as one call takes them. */
export const runOptionsSchema = z.strictObject({ ...loadOptionsSchema.shape, ...benchmarkOptionsSchema.shape });
/** Options of loading and of verifying; `seed` is the verification's. */
export const verifyPrebuiltOptionsSchema = z.strictObject({ ...loadOptionsSchema.shape, ...verifyOptionsSchema.shape });

/** Throws `ABORTED` when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LadderError('ABORTED', 'aborted by the AbortSignal', {}, { cause: signal.reason });
}

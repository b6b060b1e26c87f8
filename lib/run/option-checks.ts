/**
 * The one check of the public API's options, at its edge: behind it every option is present and in range. Messages read "expected X for
 * `name` but received Y of type Z".
 */
import { setMaxListeners } from 'node:events';
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { type BenchmarkOptions, type CheckedBenchmarkOptions, describeValue, type Progress } from './options.js';

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

export const profileOptionsSchema = z.strictObject({
  ...taskShape,
  samples: integer(1, 100_000).optional(),
});

export const exportOptionsSchema = z.strictObject({ ...taskShape, inputs: flag.default(false) });

export const inferenceOptionsSchema = z.strictObject({
  as: z.enum(['bits', 'float32'], { error: "'bits' or 'float32'" }).default('bits'),
  fetch: z.array(z.string(), { error: "an array of outputs' names" }).optional(),
  out: z.record(z.string(), z.unknown(), { error: "an object of typed arrays by outputs' names" }).default({}),
});

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

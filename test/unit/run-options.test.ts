// Options are checked once, at the edge: what fits passes with its defaults, what does not is named.
import { describe, expect, it } from 'vitest';
import { LadderError } from '../../lib/errors.js';
import { timingFor } from '../../lib/cli/bench.js';
import { runPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import {
  benchmarkOptionsSchema,
  loadOptionsSchema,
  modeOptions,
  parseBenchmarkOptions,
  parseOptions,
  verifyOptionsSchema,
} from '../../lib/run/option-checks.js';
import { describeValue } from '../../lib/run/options.js';

function messageOf(task: () => unknown): string {
  try {
    task();
  } catch (error) {
    expect(error).toBeInstanceOf(LadderError);
    expect((error as LadderError).code).toBe('BAD_ARGUMENT');
    return (error as LadderError).message;
  }
  throw new Error('expected an error');
}

describe('parseOptions', () => {
  it('fills in defaults', () => {
    expect(parseOptions(loadOptionsSchema, undefined)).toEqual({ device: 'auto', build: true });
    expect(parseOptions(benchmarkOptionsSchema, {})).toEqual({
      mode: 'samples',
      launch: 'auto',
      l2: 'hot',
      number: 5,
      repeat: 5,
      minRepeatMs: 500,
      recoveryMs: 250,
      sustained: 'auto',
      cold: 'auto',
      roofline: true,
    });
    expect(parseOptions(verifyOptionsSchema, {})).toEqual({ seed: 1, maxColumns: 512, maxRows: 16, endToEnd: 'auto' });
  });

  it('takes an option that is undefined as absent', () => {
    expect(parseOptions(benchmarkOptionsSchema, { mode: undefined, signal: undefined }).mode).toBe('samples');
  });

  it.each([
    [{ device: 'gpu' }, "expected 'auto', 'cpu', 'cuda' or 'cuda:<ordinal>' for `device` but received \"gpu\" of type string"],
    [{ device: 'cuda:01' }, 'received "cuda:01" of type string'],
    [{ device: 3 }, 'for `device` but received 3 of type number'],
    [{ seed: -1 }, 'expected an integer of at least 0 for `seed` but received -1 of type number'],
    [{ seed: 1.5 }, 'received 1.5 of type number'],
    [{ build: 'no' }, 'expected true or false for `build` but received "no" of type string'],
    [{ signal: {} }, 'expected an AbortSignal for `signal` but received an object of type Object'],
    [{ onProgress: 1 }, 'expected a function for `onProgress` but received 1 of type number'],
    [{ divice: 'cpu' }, 'expected only the options signal, onProgress, device, seed, build but received `divice`'],
    [null, 'expected an object for `options` but received null'],
    ['cpu', 'expected an object for `options` but received "cpu" of type string'],
  ])('refuses %j', (options, message) => {
    expect(messageOf(() => parseOptions(loadOptionsSchema, options))).toContain(message);
  });

  it.each([
    [{ mode: 'fast' }, "expected 'samples' or 'paper' for `mode` but received \"fast\" of type string"],
    [{ warmupMs: Number.NaN }, 'expected milliseconds of at least 0 for `warmupMs` but received NaN of type number'],
    [{ minSamples: 0 }, 'expected an integer of at least 1 and at most 10000000 for `minSamples` but received 0 of type number'],
    [{ repeat: 1e9 }, 'for `repeat` but received 1000000000 of type number'],
  ])('refuses %j of a benchmark', (options, message) => {
    expect(messageOf(() => parseOptions(benchmarkOptionsSchema, options))).toContain(message);
  });
});

describe('parseBenchmarkOptions', () => {
  it.each<[object, RegExp | null]>([
    [{ mode: 'paper', number: 3, repeat: 2, minRepeatMs: 0 }, null],
    [{ warmupMs: 0, minSamples: 5, maxSamples: 5, maxMs: 10, recoveryMs: 0, l2: 'cold' }, null],
    [{ mode: 'paper', minSamples: undefined }, null],
    ...modeOptions.samples.map((name): [object, RegExp] => [
      { mode: 'paper', [name]: ['sustained', 'cold'].includes(name) ? 'on' : 1 },
      new RegExp(`no \`${name}\` in mode 'paper'`),
    ]),
    ...modeOptions.paper.map((name): [object, RegExp] => [{ [name]: 1 }, new RegExp(`no \`${name}\` in mode 'samples'`)]),
    [{ mode: 'paper', l2: 'cold' }, /expected 'hot' for `l2`/],
    [{ l2: 'cold', cold: 'on' }, /for `cold` with `l2` cold/],
    [{ recoveryMs: 0, sustained: 'on' }, /for `sustained` with `recoveryMs` 0/],
    [{ minSamples: 2, maxSamples: 1 }, /at least 2, `minSamples`, for `maxSamples` but received 1/],
  ])('%j', (options, message) => {
    if (message === null) expect(parseBenchmarkOptions(options)).toMatchObject({ roofline: true });
    else expect(messageOf(() => parseBenchmarkOptions(options))).toMatch(message);
  });
});

describe('one-call forms', () => {
  it.each([
    [
      'runPrebuilt',
      () => runPrebuilt('no-such-checkpoint', { frobnicate: 1 } as object),
      /signal, onProgress, device, seed, build, mode, launch, l2, .* but received `frobnicate`/,
    ],
    ['runPrebuilt', () => runPrebuilt('no-such-checkpoint', { device: 'cpu', number: 3 }), /no `number` in mode 'samples'/],
    ['runPrebuilt', () => runPrebuilt('no-such-checkpoint', { device: 'abacus' }), /for `device` but received "abacus"/],
    [
      'verifyPrebuilt',
      () => verifyPrebuilt('no-such-checkpoint', { maxRow: 1 } as object),
      /device, seed, build, maxColumns, maxRows, endToEnd but received `maxRow`/,
    ],
    ['verifyPrebuilt', () => verifyPrebuilt('no-such-checkpoint', { device: 'cpu', maxRows: -1 }), /for `maxRows` but received -1/],
  ])('%s checks its options before it looks for the checkpoint, and names all that there are', async (_, call, message) => {
    await expect(call()).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) as string });
  });
});

describe('timingFor', () => {
  const file = { mode: 'samples', launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 2, maxSamples: 5, maxMs: 5000 } as const;
  it.each([
    [{ minSamples: 100 }, { ...file, minSamples: 100, maxSamples: 100 }],
    [{ maxSamples: 1 }, { ...file, minSamples: 1, maxSamples: 1 }],
    [
      { minSamples: 3, maxSamples: 4 },
      { ...file, minSamples: 3, maxSamples: 4 },
    ],
    [
      { mode: 'paper', repeat: 2 },
      { mode: 'paper', launch: 'stream', l2: 'hot', repeat: 2 },
    ],
    [{}, file],
  ] as const)('%j', (given, expected) => {
    expect(timingFor(file, given)).toEqual(expected);
  });
});

it('describeValue keeps long strings short', () => {
  expect(describeValue('x'.repeat(1000)).length).toBeLessThan(90);
  expect(describeValue(new Float32Array(3))).toBe('an object of type Float32Array');
  expect(describeValue(undefined)).toBe('undefined');
});

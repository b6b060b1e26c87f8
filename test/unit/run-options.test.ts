// Options are checked once, at the edge: what fits passes with its defaults, what does not is named.
import { describe, expect, it } from 'vitest';
import { LadderError } from '../../lib/errors.js';
import { benchmarkOptionsSchema, describeValue, loadOptionsSchema, parseOptions, verifyOptionsSchema } from '../../lib/run/options.js';

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

it('describeValue keeps long strings short', () => {
  expect(describeValue('x'.repeat(1000)).length).toBeLessThan(90);
  expect(describeValue(new Float32Array(3))).toBe('an object of type Float32Array');
  expect(describeValue(undefined)).toBe('undefined');
});

// The tuner's search on a GPU that is a function: winners, failures, interruption and resumption, progress, damaged journals.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Journal, searchTunings, type Trials } from '../../lib/compiler/tune/search.js';
import type { Choice } from '../../lib/compiler/tune/variants.js';
import { LadderError } from '../../lib/errors.js';

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ladder-tuner-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

function choice(key: string, count: number): Choice {
  return {
    key,
    nodes: [0],
    candidates: Array.from({ length: count }, (_, i) => ({ parameters: { stages: i }, functionName: `${key}${i}`, image: i })),
  };
}
/** An operator with three candidates, one without a choice, one with two. */
const choices = [choice('a', 3), choice('norm', 1), choice('b', 2)];
/** Milliseconds that each candidate takes. */
const costs = [[1, 0.8, 0.9], [0.1], [1, 1.5]];

class FakeTrials implements Trials {
  readonly calls: string[] = [];
  constructor(
    private readonly hook: (call: string) => void = () => undefined,
    private readonly table = costs,
  ) {}
  async time(chosen: readonly number[], check: number | null): Promise<number> {
    const call = `${chosen.join('')}${check === null ? '' : `?${check}`}`;
    this.calls.push(call);
    this.hook(call);
    return chosen.reduce((sum, candidate, i) => sum + this.table[i]![candidate]!, 0);
  }
}

const open = (name: string): Promise<Journal> => Journal.open(join(root, name), 'hash', 'gpu');

describe('searchTunings', () => {
  it('keeps the fastest of each operator beside the winners so far, and compares all with the defaults in turn', async () => {
    const trials = new FakeTrials();
    const found = await searchTunings(choices, trials, await open('plain'));
    expect(trials.calls).toEqual(['000?0', '100?0', '200?0', '100?2', '101?2', '000', '100', '000', '100', '000', '100']);
    expect(found).toEqual({
      a: { parameters: { stages: 1 }, latencyMs: 0.8 + 0.1 + 1, defaultLatencyMs: 2.1, candidates: 3 },
      b: { parameters: { stages: 0 }, latencyMs: 0.8 + 0.1 + 1, defaultLatencyMs: 2.1, candidates: 2 },
    });
  });

  it('leaves the defaults where nothing beats them by more than noise', async () => {
    const found = await searchTunings(choices, new FakeTrials(undefined, [[1, 0.999, 1], [0.1], [1, 0.9995]]), await open('level'));
    expect(found['a']).toMatchObject({ parameters: {}, latencyMs: found['a']!.defaultLatencyMs });
  });

  it('passes over a candidate that fails or computes something else, and keeps why', async () => {
    const journal = await open('failing');
    const found = await searchTunings(
      choices,
      new FakeTrials((call) => {
        if (call === '100?0') throw new LadderError('INTERNAL', 'wrong numbers');
      }),
      journal,
    );
    expect(found['a']!.parameters).toEqual({ stages: 2 });
    expect(journal.state.failures).toEqual({ 'a {"stages":1}': 'wrong numbers' });
  });

  it('ends when the context is lost, and does not try that candidate again', async () => {
    const lost = new FakeTrials((call) => {
      if (call === '100?0') throw new LadderError('CUDA', 'sticky');
    });
    await expect(searchTunings(choices, lost, await open('lost'))).rejects.toMatchObject({ code: 'CUDA' });
    const again = new FakeTrials();
    const found = await searchTunings(choices, again, await open('lost'));
    expect(again.calls).not.toContain('100?0');
    expect(found['a']!.parameters).toEqual({ stages: 2 });
  });

  it.each([1, 2, 3, 4])('interrupted after %i trials, it goes on there and finds the same', async (after) => {
    const controller = new AbortController();
    const first = new FakeTrials(() => {
      if (first.calls.length === after) controller.abort();
    });
    await expect(searchTunings(choices, first, await open(`stop${after}`), { signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    const second = new FakeTrials();
    const found = await searchTunings(choices, second, await open(`stop${after}`));
    expect([...first.calls, ...second.calls]).toEqual([
      '000?0',
      '100?0',
      '200?0',
      '100?2',
      '101?2',
      '000',
      '100',
      '000',
      '100',
      '000',
      '100',
    ]);
    expect(found['a']!.parameters).toEqual({ stages: 1 });
  });

  it('tells progress from 0 to nearly 1, and an estimate from the second trial on', async () => {
    const told: [number, number | null][] = [];
    await searchTunings(choices, new FakeTrials(), await open('progress'), {
      onProgress: (fraction, _, remaining) => told.push([fraction, remaining]),
    });
    const fractions = told.map(([fraction]) => fraction);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect([fractions[0], told[0]![1]]).toEqual([0, null]);
    expect(fractions.at(-1)).toBeLessThan(1);
    for (const [, remaining] of told.slice(1)) expect(remaining).toBeGreaterThanOrEqual(0);
  });
});

describe('Journal', () => {
  it('begins anew for other sources, another GPU, a damaged file', async () => {
    const path = join(root, 'journal');
    await (await Journal.open(path, 'hash', 'gpu')).add('a', 1, null);
    expect((await Journal.open(path, 'hash', 'gpu')).state.trials).toEqual({ a: 1 });
    expect((await Journal.open(path, 'other', 'gpu')).state.trials).toEqual({});
    expect((await Journal.open(path, 'hash', 'other')).state.trials).toEqual({});
    const whole = await readFile(path, 'utf8');
    for (const text of [whole.slice(0, -5), '[]', '{"sources":"hash","gpu":"gpu"}']) {
      await writeFile(path, text);
      expect((await Journal.open(path, 'hash', 'gpu')).state.trials).toEqual({});
    }
  });

  it('adds up the time of searches that go on with one another, and goes when it is done', async () => {
    const path = join(root, 'time');
    const first = await Journal.open(path, 'hash', 'gpu');
    await first.add('a', 1, null);
    const second = await Journal.open(path, 'hash', 'gpu');
    expect(second.seconds()).toBeGreaterThanOrEqual(second.state.seconds);
    expect(second.state.seconds).toBeGreaterThan(0);
    await second.discard();
    await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

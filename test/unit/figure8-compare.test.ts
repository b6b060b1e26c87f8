/** Comparisons: partners, ratios, verdicts, refusals, means. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compareSets, geometricMean, requireComparable } from '../../lib/figure8/compare.js';
import { comparisonTable } from '../../lib/figure8/compare-table.js';
import { publishedRoofline } from '../../lib/figure8/ceilings.js';
import { entryOfRecord, loadEntries, medianInterval, newest } from '../../lib/figure8/entries.js';
import type { Entry } from '../../lib/figure8/entry.js';
import { makeRecord } from './figure8-records.js';

const entry = (change: Partial<Entry> = {}): Entry => ({
  system: 'Ladder',
  family: 'Ladder',
  model: 'llama2-70b',
  setting: 'bs1_seq1',
  format: 'W_FP16 A_FP16',
  latencyMs: 2,
  reason: null,
  interval: { lowMs: 1.9, highMs: 2.1, kind: 'median-ci95' },
  clock: 'gpu-events',
  gpu: 'GPU A',
  l2: 'hot',
  coldMs: null,
  condition: null,
  meanState: null,
  roofline: null,
  marks: [],
  source: 'test',
  date: null,
  commit: null,
  ...change,
});
const set = (name: string, ...entries: Entry[]) => ({ name, entries, remarks: [] });
const only = (a: Entry, b: Entry, force = false) => compareSets(set('a', a), set('b', b), { force }).pairs[0];

describe('verdicts', () => {
  test('apart, overlapping, without interval', () => {
    const slow = entry({ latencyMs: 4, interval: { lowMs: 3.9, highMs: 4.1, kind: 'range' } });
    expect(only(entry(), slow)).toMatchObject({ ratio: 2, verdict: 'faster', basis: 'time' });
    expect(only(slow, entry())).toMatchObject({ ratio: 0.5, verdict: 'slower' });
    expect(only(entry(), entry({ latencyMs: 2.15, interval: { lowMs: 2.05, highMs: 2.2, kind: 'range' } }))?.verdict).toBe('ambiguous');
    expect(only(entry(), entry({ latencyMs: 9, interval: null }))?.verdict).toBe('no interval');
    expect(only(entry(), slow)?.ratioRange).toEqual([3.9 / 2.1, 4.1 / 1.9]);
  });

  test.each([
    ['GPU', { gpu: 'GPU B' }],
    ['GPU', { gpu: null }],
    ['clock', { clock: 'host-sync' as const }],
    ['clock', { clock: null }],
    ['L2', { l2: 'cold' as const }],
    ['L2', { l2: null }],
  ])('another %s is shown and refused: %j', (word, change) => {
    const pair = only(entry(), entry(change));
    expect(pair?.verdict).toBe('refused');
    expect(pair?.differences.join()).toContain(word);
    expect(only(entry(), entry({ ...change, latencyMs: 8, interval: { lowMs: 7, highMs: 9, kind: 'range' } }), true)?.verdict).toBe(
      'faster',
    );
    const comparison = compareSets(set('a', entry()), set('b', entry(change)));
    expect(comparison).toMatchObject({ refused: 1, overall: null, bySystem: [] });
    expect(() => requireComparable(comparison)).toThrow(expect.objectContaining({ code: 'NOT_COMPARABLE' }) as Error);
    expect(comparisonTable(comparison)).toContain(word);
  });

  test('GPU names differ in hyphens only', () => {
    expect(only(entry({ gpu: 'NVIDIA A100-80GB-PCIe' }), entry({ gpu: 'NVIDIA A100 80GB PCIe' }))?.verdict).toBe('ambiguous');
  });

  test('two clocks that are not stated are one only within a system', () => {
    expect(only(entry({ clock: null }), entry({ clock: null }))?.verdict).toBe('ambiguous');
    expect(
      compareSets(set('a', entry({ clock: null, family: 'AMOS', system: 'AMOS' })), set('b', entry({ clock: null }))).pairs[0]?.verdict,
    ).toBe('refused');
  });

  test('across GPUs fractions of the rooflines are compared', () => {
    const roofline = (fraction: number) => ({
      bytesPerSecond: 1e12,
      flopsPerSecond: 1e12,
      ceilingBytesPerSecond: 2e12,
      ceilingFlopsPerSecond: null,
      fraction,
      coldL2: false,
      ceilings: 'measured' as const,
    });
    const pair = only(
      entry({ roofline: roofline(0.9) }),
      entry({ gpu: 'GPU B', latencyMs: 1, interval: { lowMs: 0.99, highMs: 1.01, kind: 'range' }, roofline: roofline(0.6) }),
    );
    expect(pair).toMatchObject({ basis: 'roofline', verdict: 'faster', differences: [] });
    expect(pair?.ratio).toBeCloseTo(1.5, 12);
    expect(pair?.ratioRange?.[0]).toBeCloseTo((0.99 / 2.1) * (1.5 / 0.5), 12);
    // The clock still has to be the same.
    expect(only(entry({ roofline: roofline(0.9) }), entry({ gpu: 'GPU B', clock: 'host-sync', roofline: roofline(0.6) }))?.verdict).toBe(
      'refused',
    );
  });
});

describe('partners and means', () => {
  test('one system, format and case are partners; the rest is listed with its reason', () => {
    const comparison = compareSets(
      set('a', entry(), entry({ format: 'W_INT4 A_FP16' }), entry({ model: 'vit', setting: 'bs1', latencyMs: null, reason: 'failed: x' })),
      set('b', entry({ system: 'ladder.node', latencyMs: 4 }), entry({ system: 'AMOS', family: 'AMOS' })),
    );
    expect(comparison.pairs.map((pair) => [pair.a.format, pair.b.system, pair.ratio])).toEqual([['W_FP16 A_FP16', 'ladder.node', 2]]);
    expect(comparison.unpaired.map(({ side, entry: e, reason }) => [side, e.system, e.format, reason])).toEqual([
      ['a', 'Ladder', 'W_INT4 A_FP16', 'no such case in b'],
      ['a', 'Ladder', 'W_FP16 A_FP16', 'failed: x'],
      ['b', 'AMOS', 'W_FP16 A_FP16', 'no such case in a'],
    ]);
  });

  test('sets that share no system are compared case by case', () => {
    const rival = (format: string, latencyMs: number): Entry =>
      entry({ system: 'pytorch-eager', family: 'PyTorch-Eager', format, latencyMs });
    const comparison = compareSets(
      set('a', entry(), entry({ format: 'W_INT4 A_FP16', latencyMs: 1 })),
      set('b', rival('W_FP16 A_FP16', 4)),
    );
    expect(comparison.pairs.map((pair) => pair.ratio)).toEqual([2, 4]);
    expect(comparison.bySystem.map((mean) => mean.name)).toEqual([
      'Ladder W_FP16 A_FP16 over PyTorch-Eager W_FP16 A_FP16',
      'Ladder W_INT4 A_FP16 over PyTorch-Eager W_FP16 A_FP16',
    ]);
    expect(comparison.byModel[0]?.ratio).toBeCloseTo(Math.sqrt(8), 12);
    expect(comparison.overall).toMatchObject({ pairs: 2 });
  });

  test('a stale value is no number of its case', async () => {
    const comparison = compareSets(await loadEntries('paper'), await loadEntries('artifact'));
    expect(comparison.refused).toBe(0);
    expect(comparison.unpaired.find(({ entry: e }) => e.system === 'TensorRT')).toMatchObject({
      side: 'a',
      entry: { model: 'vit', setting: 'bs1' },
      reason: expect.stringContaining('Conformer') as string,
    });
    expect(comparison.pairs).toHaveLength(133);
  });

  test('geometric mean', () => {
    expect(geometricMean([2, 8])).toBeCloseTo(4, 12);
    for (const bad of [[], [1, 0], [Number.NaN]])
      expect(() => geometricMean(bad)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }) as Error);
  });
});

describe('entries', () => {
  test('confidence interval of a median by ranks', () => {
    const samples = Array.from({ length: 100 }, (_, i) => i + 1).reverse();
    expect(medianInterval(samples)).toEqual({ lowMs: 40, highMs: 61, kind: 'median-ci95' });
    expect(medianInterval([1, 2, 3, 4, 5])).toBeNull();
    const six = medianInterval([6, 5, 4, 3, 2, 1]);
    expect(six).toEqual({ lowMs: 1, highMs: 6, kind: 'median-ci95' });
  });

  test('records: valid, failed, newest', () => {
    const ok = entryOfRecord(makeRecord({ latencyMs: 0.5, date: '2026-01-01T00:00:00Z' }), 'a.json');
    expect(ok).toMatchObject({ system: 'ladder.node', family: 'Ladder', latencyMs: 0.5, reason: null, clock: 'gpu-events', l2: 'hot' });
    const failed = entryOfRecord(
      makeRecord({ status: 'failed', reason: 'no memory', latencyMs: null, date: '2026-02-01T00:00:00Z' }),
      'b.json',
    );
    expect(failed).toMatchObject({ latencyMs: null, reason: 'failed: no memory' });
    // An invalid number is not compared, even if it is there.
    expect(entryOfRecord(makeRecord({ status: 'invalid', reason: 'throttled', latencyMs: 0.4 }), 'c.json')).toMatchObject({
      latencyMs: null,
      reason: 'invalid: throttled',
    });
    expect(newest([ok, failed])).toEqual([ok]);
    expect(newest([failed])).toEqual([failed]);
  });

  test('a folder of records, a broken one, and what is neither', async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'records-'));
    try {
      await expect(loadEntries(scratch)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
      await writeFile(join(scratch, 'one.json'), JSON.stringify(makeRecord({})));
      await writeFile(join(scratch, 'other.json'), '{"something":"else"}');
      expect((await loadEntries(scratch)).entries).toHaveLength(1);
      await writeFile(join(scratch, 'two.json'), '{"schema":"ladder-record/1"}');
      expect(await loadEntries(scratch)).toMatchObject({
        entries: { length: 1 },
        remarks: [expect.stringMatching(/^passed over: .*two\.json: system:/)],
      });
      // What they were to be, nobody knows: cut before it said so, empty, or no file at all.
      await writeFile(join(scratch, 'cut.json'), '{"sche');
      await writeFile(join(scratch, 'empty.json'), '');
      execFileSync('mkfifo', [join(scratch, 'pipe.json')]);
      await mkdir(join(scratch, 'folder.json'));
      expect(await loadEntries(scratch)).toMatchObject({
        entries: { length: 1 },
        remarks: [
          expect.stringMatching(/^passed over: .*cut\.json is not JSON/),
          expect.stringMatching(/^passed over: .*empty\.json is not JSON/),
          expect.stringMatching(/^passed over: .*folder\.json is no regular file/),
          expect.stringMatching(/^passed over: .*pipe\.json is no regular file/),
          expect.stringMatching(/^passed over: .*two\.json: system:/),
        ],
      });
      await rm(join(scratch, 'one.json'));
      await expect(loadEntries(scratch)).rejects.toMatchObject({
        code: 'BAD_ARGUMENT',
        message: expect.stringMatching(/cut\.json is not JSON/),
      });
      await expect(loadEntries(join(scratch, 'two.json'))).rejects.toMatchObject({ code: 'BAD_RECORD' });
      await expect(loadEntries(join(scratch, 'absent'))).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    } finally {
      await rm(scratch, { recursive: true });
    }
  });

  test("ceilings of published cases: the decoder layer's bytes and operations", () => {
    // 855.6 M weights of 2 bytes over 1.935 TB/s are 0.8844 ms.
    expect(publishedRoofline('llama2-70b', 'bs1_seq1', 'W_FP16 A_FP16', 1)?.fraction).toBeCloseTo(0.88434, 4);
    expect(publishedRoofline('llama2-70b', 'bs1_seq1', 'W_MXFP8 A_MXFP8', 1)?.fraction).toBeCloseTo((0.88434 / 2) * (8.25 / 8), 4);
    // 7.559 TFLOP with attention over 312 TFLOP/s.
    expect(publishedRoofline('llama2-70b', 'bs1_seq4096', 'W_INT4 A_FP16', 100)?.fraction).toBeCloseTo(0.24227, 4);
    expect(publishedRoofline('resnet-50', 'bs1', 'W_FP16 A_FP16', 1)).toBeNull();
  });
});

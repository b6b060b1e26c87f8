/** The published data: complete, valid, the same as the logs beside it, its oddities marked. */
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  figureSetSchema,
  loadArchiveLogs,
  loadCompileTimes,
  loadFigureSet,
  loadLadderOperators,
  setNames,
} from '../../lib/figure8/data.js';
import { entriesOfSet, loadSet } from '../../lib/figure8/entries.js';

describe.each(setNames)('%s', (name) => {
  const set = loadFigureSet(name);
  const entries = entriesOfSet(set);

  test('8 systems, 6 models, 60 settings of Ladder, a clock for each number that states one', () => {
    expect(new Set(entries.map((entry) => entry.system)).size).toBe(8);
    expect(new Set(entries.map((entry) => entry.model)).size).toBe(6);
    expect(entries.filter((entry) => entry.system === 'Ladder')).toHaveLength(60);
    expect(entries.filter((entry) => entry.latencyMs !== null)).toHaveLength(138);
    expect(new Set(entries.filter((entry) => entry.clock === null).map((entry) => entry.system))).toEqual(new Set(['AMOS', 'TensorIR']));
    expect(entries.every((entry) => entry.gpu === 'NVIDIA A100-80GB-PCIe')).toBe(true);
  });

  test('what could not be compiled is null, not 0', () => {
    expect(entries.filter((entry) => entry.latencyMs === null).map((entry) => `${entry.model} ${entry.system}`)).toEqual([
      'conformer AMOS',
      'conformer AMOS',
      'conformer TensorIR',
      'conformer TensorIR',
      'vit AMOS',
      'vit AMOS',
    ]);
  });

  test('repeated FP16 values are marked, and only they', () => {
    for (const entry of entries) {
      const fp16 = entries.find(
        (e) => e.system === 'Ladder' && e.format === 'W_FP16 A_FP16' && e.model === entry.model && e.setting === entry.setting,
      );
      const repeats = entry.system === 'Ladder' && entry.format !== 'W_FP16 A_FP16' && entry.latencyMs === fp16?.latencyMs;
      expect(
        entry.marks.some((mark) => mark.kind === 'repeats-fp16'),
        `${entry.model} ${entry.setting} ${entry.format}`,
      ).toBe(repeats);
    }
    expect(entries.flatMap((entry) => entry.marks).filter((mark) => mark.kind === 'repeats-fp16')).toHaveLength(name === 'paper' ? 6 : 0);
  });

  test('the schema refuses a missing setting, an unknown field, a zero and a stray mark', () => {
    const broken = (change: (copy: typeof set) => void): boolean => {
      const copy = structuredClone(set);
      change(copy);
      return figureSetSchema.safeParse(copy).success;
    };
    expect(broken(() => undefined)).toBe(true);
    expect(
      broken((copy) => {
        delete copy.models[0]!.rows[0]!.latencyMs.bs1_seq1;
      }),
    ).toBe(false);
    expect(
      broken((copy) => {
        copy.models[0]!.rows[0]!.latencyMs.bs1_seq1 = 0;
      }),
    ).toBe(false);
    expect(
      broken((copy) => {
        (copy as Record<string, unknown>).more = 1;
      }),
    ).toBe(false);
    expect(
      broken((copy) => {
        copy.models[0]!.rows[0]!.marks.push({ setting: 'bs2', kind: 'stale', note: 'x' });
      }),
    ).toBe(false);
    expect(
      broken((copy) => {
        copy.models[0]!.rows[0]!.system = 'Unknown';
      }),
    ).toBe(false);
  });
});

test('20 of 138 cells differ by more than 10 % between the sets', () => {
  const [paper, artifact] = [entriesOfSet(loadFigureSet('paper')), entriesOfSet(loadFigureSet('artifact'))];
  const both = paper.flatMap((entry, i) =>
    entry.latencyMs === null ? [] : [Math.abs((artifact[i]?.latencyMs ?? 0) / entry.latencyMs - 1)],
  );
  expect([both.length, both.filter((change) => change > 0.1).length]).toEqual([138, 20]);
});

test("the artifact's stale value is Conformer's, and marked", () => {
  const artifact = entriesOfSet(loadFigureSet('artifact'));
  const at = (model: string) => artifact.find((entry) => entry.system === 'TensorRT' && entry.model === model && entry.setting === 'bs1');
  expect(at('vit')?.latencyMs).toBe(at('conformer')?.latencyMs);
  expect(at('vit')?.marks.map((mark) => mark.kind)).toEqual(['stale']);
});

test('the logs of AMOS and TensorIR beside the data say what the artifact says', async () => {
  const artifact = entriesOfSet(loadFigureSet('artifact'));
  const logs = await loadArchiveLogs();
  expect(logs).toHaveLength(10);
  for (const log of logs) {
    const entry = artifact.find((e) => e.system === log.system && e.model === log.model && e.setting === log.setting);
    expect(log.result?.latencyMs, log.path).toBe(entry?.latencyMs);
  }
  const supported = artifact.filter((entry) => ['AMOS', 'TensorIR'].includes(entry.system) && entry.latencyMs !== null);
  expect(supported).toHaveLength(10);
});

test("the authors' archive unpacked over the logs is what is read, a log without a result included", async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'figure8-'));
  try {
    await mkdir(join(scratch, 'amos', 'logs'), { recursive: true });
    const ir = join(scratch, 'tensorir', 'logs', 'vit-b1-(1, 3, 224, 224)');
    await mkdir(ir, { recursive: true });
    await writeFile(join(scratch, 'amos', 'logs', 'resnet50_b1.log'), 'Whole graph cost is 2.500000 ms\nTime taken:  1.5\n');
    await writeFile(join(scratch, 'amos', 'logs', 'shufflenet_v2_b1.log'), '');
    await writeFile(join(ir, 'latency.txt'), '1.25');
    await writeFile(join(ir, 'tune_time_cost.txt'), 'Compiler tuning time: 9 seconds\n');
    const set = await loadSet('artifact', scratch);
    const at = (system: string, model: string, setting: string) =>
      set.find((e) => e.system === system && e.model === model && e.setting === setting);
    expect(at('AMOS', 'resnet-50', 'bs1')).toMatchObject({ latencyMs: 2.5, source: 'amos/logs/resnet50_b1.log' });
    expect(at('AMOS', 'shufflenet-v2', 'bs1')).toMatchObject({ latencyMs: null, reason: 'empty' });
    expect(at('TensorIR', 'vit', 'bs1')).toMatchObject({ latencyMs: 1.25 });
    expect(at('AMOS', 'resnet-50', 'bs128')).toMatchObject({ latencyMs: 96.20838, source: 'artifact (OSDI 2024)' });
    // The paper's set stays as it was printed.
    expect(
      (await loadSet('paper', scratch)).find((e) => e.system === 'AMOS' && e.model === 'resnet-50' && e.setting === 'bs1')?.latencyMs,
    ).toBe(2.84198);
  } finally {
    await rm(scratch, { recursive: true });
  }
});

test('compile times and operators', () => {
  expect(loadCompileTimes().rows.map((row) => row.minutes.AMOS)).toEqual([3852, 2191, 3328, 3121]);
  const { runs } = loadLadderOperators();
  expect(runs).toHaveLength(40);
  for (const run of runs) {
    // One inference is at most what its operators take one by one.
    const sum = run.operators.reduce((total, [, us]) => total + us, 0) / 1000;
    expect(run.summaryMs.min, `${run.model} ${run.checkpoint}`).toBeLessThanOrEqual(sum * 1.05);
  }
});

// A cold L2 cache beside a hot one: which cases have both, what the roofline is then, and where it is said; several layers in one
// checkpoint, whose figures are no single layer's.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Manifest } from '../../lib/artifact/manifest.js';
import { renderBench } from '../../lib/cli/bench.js';
import { perLayer, renderRun } from '../../lib/cli/run.js';
import { comparisonTable } from '../../lib/figure8/compare-table.js';
import { compareSets } from '../../lib/figure8/compare.js';
import { entriesOfRecord, newest } from '../../lib/figure8/entries.js';
import { finishBench } from '../../lib/figure8/finish.js';
import { settingLabel } from '../../lib/figure8/names.js';
import { parseSetting, settingName } from '../../lib/models/index.js';
import { native, type NativeExecutor, type SamplesOptions } from '../../lib/native.js';
import { measure, type BenchmarkResult } from '../../lib/run/benchmark.js';
import type { BenchOutcome } from '../../lib/run/bench.js';
import { shareInL2 } from '../../lib/run/conditions.js';
import type { DeviceInfo } from '../../lib/run/device.js';
import { caseOf } from '../../lib/run/names.js';
import { benchmarkOptionsSchema, parseOptions } from '../../lib/run/option-checks.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { recordOf, type RunResult } from '../../lib/run/run-prebuilt.js';
import { makeRecord } from './figure8-records.js';

// Words and SVG are what is read here; a report's PNG and PDF, most of its time, are tested in figure8-picture.test.ts.
vi.mock('../../lib/figure8/output.js', async () => ({ writePicture: (await import('../fixtures/pictures.js')).writeSvg }));

const kL2Bytes = 50e6;
const state = (throttleReasons: string[] = []) => ({
  smClockMHz: 1900,
  memoryClockMHz: 2619,
  maxSmClockMHz: 1980,
  temperatureC: 60,
  powerW: 300,
  throttleReasons,
});

describe('what the L2 cache may keep', () => {
  it.each([
    [107e6, 50 / 107],
    [499e6, 50 / 499],
    [501e6, 0],
    [40e6, 1],
    [0, 0],
    [null, 0],
  ])('of %d bytes: %d', (bytes, share) => expect(shareInL2(bytes, kL2Bytes)).toBe(share));
  it('is not known without its size', () => expect(shareInL2(1, null)).toBe(0));
});

describe('a measurement on a GPU', () => {
  afterEach(() => vi.restoreAllMocks());
  const device = { ...makeRecord({}).device, l2Bytes: kL2Bytes, id: 'cuda:0', ordinal: 0, uuid: null } as unknown as DeviceInfo;

  /** 107 MB at 2.6 TB/s with a hot cache, which memory delivers at 2.25; the roofline is 3. */
  async function measured(bytes: number | null, change: object = {}, coldState = state()) {
    const asked: string[] = [];
    let l2 = 'hot';
    vi.spyOn(native(), 'deviceState').mockImplementation(() => (l2 === 'cold' ? coldState : state()));
    vi.spyOn(native(), 'measureReadBandwidth').mockResolvedValue(3e12);
    const executor = {
      capture: async () => ({ captured: true, reason: null, kernelNodes: 1, programmaticEdges: 0 }),
      cancel: () => undefined,
      measureSamples: async (options: SamplesOptions) => {
        asked.push(options.l2);
        l2 = options.l2;
        const count = 6;
        const each = options.l2 === 'cold' ? 0.0475 : 0.041;
        return { gpuMs: new Float64Array(count).fill(each), enqueueMs: new Float64Array(count).fill(0.001), hostMsPerInference: each };
      },
    } as unknown as NativeExecutor;
    const manifest = bytes === null ? null : ({ bytes, flops: 0, operators: [] } as unknown as Manifest);
    const options = parseOptions(benchmarkOptionsSchema, { minSamples: 6, maxSamples: 6, ...change });
    const result = await measure({ executor, device, manifest, setting: 'bs1_seq1' }, options);
    return { result, asked: [...new Set(asked)] };
  }
  const saved = (result: BenchmarkResult): BenchRecord =>
    parseRecord(
      JSON.stringify(
        recordOf(
          {
            ...result,
            path: '/m/c',
            model: 'llama2-70b',
            setting: 'bs1_seq1',
            format: 'W_INT1 A_INT8',
            load: null,
          } as unknown as RunResult,
          null,
        ),
      ),
      'record',
    );

  it('has both where the cache may keep a tenth of what is read, and rates what memory delivers', async () => {
    const { result, asked } = await measured(107e6);
    expect(asked).toEqual(['hot', 'cold']);
    expect(result).toMatchObject({ status: 'ok', l2: 'hot', latencyMs: 0.041, cold: { latencyMs: 0.0475, reason: null } });
    expect(result.warnings).toEqual(['up to 47 % of what an inference reads may stay in the L2 cache from the one before']);
    expect(result.roofline!.fraction).toBeCloseTo(107e6 / 3e12 / 41e-6, 9);
    expect(result.cold!.roofline!.fraction).toBeCloseTo(107e6 / 3e12 / 47.5e-6, 9);
    expect(saved(result).cold).toMatchObject({ latencyMs: 0.0475, samples: { count: 6 } });
  });

  it.each([
    [600e6, {}],
    [null, {}],
    [107e6, { cold: 'off' }],
    [107e6, { l2: 'cold' }],
  ])('of %d bytes with %j has one', async (bytes, change) => {
    const { result, asked } = await measured(bytes, change);
    expect([result.cold, asked.length]).toEqual([null, 1]);
  });

  it('has both where it is told to, and each is judged by itself', async () => {
    expect((await measured(600e6, { cold: 'on', roofline: false })).result.cold).toMatchObject({ latencyMs: 0.0475, roofline: null });
    const { result } = await measured(107e6, {}, state(['hw_slowdown']));
    expect(result).toMatchObject({
      status: 'ok',
      cold: { latencyMs: null, reason: expect.stringContaining('hw_slowdown'), roofline: null },
    });
  });

  it('says so beside the figure: in the run’s words, a bench’s table, comparison, report and chart', async () => {
    const { result } = await measured(107e6);
    const record = saved(result);
    const run = {
      ...result,
      path: '/m/c',
      setting: 'bs1_seq1',
      format: 'f',
      weights: 'seeded',
      operators: 1,
      load: { buildMs: 0, dlopenMs: 1, moduleMs: 1, allocateMs: 1, fillMs: 1 },
      computedBy: 'model.so',
    };
    expect(renderRun(run as unknown as RunResult)).toMatch(/L2 cold: 0\.04750 ms[\s\S]*75\.1 % of the roofline, L2 cold: 2\.25 TB\/s/);
    const outcome: BenchOutcome = {
      case: { name: 'a', path: '/a', timing: { mode: 'samples', launch: 'auto', l2: 'hot' }, verify: false },
      record,
      recordPath: '/r',
      resumed: false,
      unsaved: null,
    };
    const rows = renderBench([outcome]).split('\n');
    expect(rows[2]).toMatch(/graph, L2 hot +0\.04100 .* 2\.61 TB\/s +—/);
    expect(rows[3]).toMatch(/graph, L2 cold +0\.04750 .* 2\.25 TB\/s, 75 %/);

    const [entry] = entriesOfRecord(record, 'file');
    expect(entry).toMatchObject({
      latencyMs: 0.041,
      coldMs: 0.0475,
      roofline: { coldL2: true, fraction: result.cold!.roofline!.fraction },
    });
    const set = (name: string) => ({ name, entries: [entry!], remarks: [] });
    expect(comparisonTable(compareSets(set('a'), set('b')))).toContain('0.04100 [0.04100, 0.04100], L2 cold 0.04750');
    const folder = mkdtempSync(join(tmpdir(), 'ladder-cold-'));
    try {
      writeFileSync(join(folder, 'records.json'), JSON.stringify([record]));
      const { html } = await finishBench({ out: folder, results: [join(folder, 'records.json')], reproduce: true, values: true });
      const page = readFileSync(html, 'utf8');
      expect(page).toMatch(/<td>hot<\/td><td class="number" data-sort="0\.0475">0\.04750<\/td>/);
      expect(page).toContain('75.1 % (measured; L2 cold)');
      expect(page).toContain('2.25 TB/s of 3.00 TB/s, L2 cold');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('several layers in one checkpoint', () => {
  it('are a setting of their own, which says how many', () => {
    for (const shape of [
      { batch: 1, seq: 1, layers: 80, mask: 'none' },
      { batch: 32, seq: 1, layers: 1, mask: 'none' },
      { batch: 1, seq: 4096, layers: 2, mask: 'causal' },
    ] as const)
      expect(parseSetting(settingName('layer', shape))).toEqual(shape);
    expect(parseSetting('bs128')).toMatchObject({ batch: 128, seq: 1, layers: 1 });
    for (const name of ['unknown', 'bs0', 'bs1_seq1_', 'bs1_layers', 'xbs1']) expect(parseSetting(name)).toBeNull();
    const name = 'llama2_fq_0_int_1_-1_bs1_seq1_ci_True_layers80_async';
    expect(caseOf(`/c/llama2-70b/${name}`, null)).toEqual({ model: 'llama2-70b', setting: 'bs1_seq1_layers80', format: 'W_INT1 A_INT8' });
    const manifest = {
      model: 'llama2-70b',
      batch: 1,
      seq: 1,
      layers: 80,
      format: { weight: 'int1', activation: 'int8', group: -1 },
    } as unknown as Manifest;
    expect(caseOf('/anywhere', manifest).setting).toBe('bs1_seq1_layers80');
  });

  it('have a latency per layer, and do not take the place of a single one', () => {
    expect(perLayer({ setting: 'bs1_seq1_layers80', latencyMs: 3.616 })).toBe('0.04520 ms per layer, 80 layers');
    expect(perLayer({ setting: 'bs1_seq1', latencyMs: 1 })).toBeNull();
    expect(perLayer({ setting: 'bs1_seq1_layers80', latencyMs: null })).toBeNull();
    const format = 'W_INT1 A_INT8';
    const many = makeRecord({ format, latencyMs: 3.6, setting: 'bs1_seq1_layers80', date: '2026-12-01T00:00:00Z' });
    const entries = [makeRecord({ format, latencyMs: 0.041 }), many].flatMap((record) => entriesOfRecord(record, 'file'));
    expect(newest(entries).map(({ setting, latencyMs }) => [setting, latencyMs])).toEqual([
      ['bs1_seq1', 0.041],
      ['bs1_seq1_layers80', 3.6],
    ]);
    expect(settingLabel('bs1_seq1_layers80')).toBe('BS1 SEQ1 LAYERS80');
  });
});

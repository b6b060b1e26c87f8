// Burst and sustained: which cases have both, how the second is sampled and judged, and that the two never meet.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { renderBench } from '../../lib/cli/bench.js';
import { compareSets } from '../../lib/figure8/compare.js';
import { comparisonTable } from '../../lib/figure8/compare-table.js';
import { entriesOfRecord, newest } from '../../lib/figure8/entries.js';
import { finishBench } from '../../lib/figure8/finish.js';
import type { BenchOutcome } from '../../lib/run/bench.js';
import { native, type NativeExecutor, type NativeProgress, type SamplesOptions } from '../../lib/native.js';
import { measure, measureSustained, sustainedFigures, type BenchmarkResult } from '../../lib/run/benchmark.js';
import { describeMeanState, isComputeBound, kSustainedLoadMs, meanState } from '../../lib/run/conditions.js';
import type { DeviceInfo } from '../../lib/run/device.js';
import { benchmarkOptionsSchema, parseOptions } from '../../lib/run/option-checks.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { recordOf, type RunResult } from '../../lib/run/run-prebuilt.js';
import { makeRecord } from './figure8-records.js';

// Words and SVG are what is read here; a report's PNG and PDF, most of its time, are tested in figure8-picture.test.ts.
vi.mock('../../lib/figure8/output.js', async () => ({ writePicture: (await import('../fixtures/pictures.js')).writeSvg }));

const state = (smClockMHz: number | null, powerW: number | null, throttleReasons: string[] = ['sw_power_cap']) => ({
  smClockMHz,
  memoryClockMHz: 2619,
  maxSmClockMHz: 1980,
  temperatureC: 60,
  powerW,
  throttleReasons,
});
const limits = { warmupMs: 200, minSamples: 100, maxSamples: 2000, maxMs: 3000 };
const evidence = { launch: 'graph', l2: 'hot', bytes: 1e9, l2Bytes: 5e7 } as const;

describe('cases', () => {
  it.each([
    ['bs1_seq4096', true],
    ['bs128', true],
    ['bs32_seq4096', true],
    ['bs1_seq128_causal', true],
    ['bs1_seq127_causal', false],
    ['bs1_seq1', false],
    ['bs32_seq1', false],
    ['bs1', false],
  ])('%s: %s', (setting, both) => {
    // What the setting says goes before any count of bytes: formats of one case are measured alike.
    for (const work of [null, { flops: 1, bytes: 1 }, { flops: 1e6, bytes: 1 }]) expect(isComputeBound(setting, work)).toBe(both);
  });

  it('go by FLOPs per byte where the setting says nothing', () => {
    expect(isComputeBound('unknown')).toBe(false);
    expect(isComputeBound('unknown', { flops: 127e9, bytes: 1e9 })).toBe(false);
    expect(isComputeBound('unknown', { flops: 128e9, bytes: 1e9 })).toBe(true);
    expect(isComputeBound('unknown', { flops: 1, bytes: 0 })).toBe(false);
  });
});

describe('means', () => {
  it('leave out what NVML does not say', () => {
    expect(meanState([])).toBeNull();
    expect(meanState([state(1500, 690), state(1600, 710), state(null, null)])).toEqual({ smClockMHz: 1550, powerW: 700 });
    expect(meanState([state(null, null)])).toEqual({ smClockMHz: null, powerW: null });
    expect(describeMeanState({ smClockMHz: 1549.6, powerW: 700.2 })).toBe('1550 MHz, 700 W');
    expect(describeMeanState({ smClockMHz: null, powerW: 700.2 })).toBe('700 W');
    expect(describeMeanState(null)).toBe('—');
  });
});

describe('sustained', () => {
  it('follows a second of load, keeps every sample, and reads clock and power meanwhile', async () => {
    const asked: object[] = [];
    const fractions: number[] = [];
    let clock = 1600;
    const result = await measureSustained(
      {
        take: async (options, onProgress) => {
          asked.push(options);
          for (const fraction of [0.3, 0.7, 1]) onProgress(fraction);
          return { gpuMs: Float64Array.of(11, 12, 13) };
        },
        read: () => state((clock -= 50), 700),
      },
      limits,
      (fraction) => fractions.push(fraction),
    );
    expect(asked).toEqual([{ ...limits, warmupMs: kSustainedLoadMs }]);
    expect(kSustainedLoadMs).toBeGreaterThanOrEqual(1000);
    expect(fractions).toEqual([0.3, 0.7, 1]);
    expect(result.states.map(({ smClockMHz }) => smClockMHz)).toEqual([1550, 1500, 1450]);
    // Below 75 % of the highest clock, which bursts do without.
    expect(sustainedFigures(result, evidence)).toMatchObject({
      latencyMs: 12,
      reason: null,
      rawMs: [11, 12, 13],
      meanState: { smClockMHz: 1500, powerW: 700 },
    });
  });

  it('is read at the end where it is over at once', async () => {
    const source = { take: async () => ({ gpuMs: [1] }), read: () => state(1980, 500, []) };
    expect((await measureSustained(source, limits, () => undefined)).states).toHaveLength(1);
    expect((await measureSustained({ ...source, read: () => null }, limits, () => undefined)).states).toEqual([]);
  });

  it('is not to be quoted of a GPU that was too hot', () => {
    const figures = sustainedFigures({ gpuMs: [5], states: [state(1100, 600, ['sw_power_cap', 'hw_thermal_slowdown'])] }, evidence);
    expect(figures).toMatchObject({ latencyMs: null, reason: expect.stringContaining('hw_thermal_slowdown') as string });
    expect(figures.reason).not.toContain('power limit');
  });
});

describe('a measurement on a GPU', () => {
  afterEach(() => vi.restoreAllMocks());
  const device = { ...makeRecord({}).device, id: 'cuda:0', ordinal: 0, uuid: null } as unknown as DeviceInfo;

  /** An executor that is slower once it has worked for a second, on a GPU that says so. */
  async function measured(setting: string, change: object = {}): Promise<{ result: BenchmarkResult; asked: SamplesOptions[] }> {
    const asked: SamplesOptions[] = [];
    let lasting = false;
    vi.spyOn(native(), 'deviceState').mockImplementation(() => (lasting ? state(1400, 700) : state(1900, 500, [])));
    const executor = {
      capture: async () => ({ captured: true, reason: null, kernelNodes: 1, programmaticEdges: 0 }),
      cancel: () => undefined,
      measureSamples: async (options: SamplesOptions, progress: NativeProgress | null) => {
        asked.push(options);
        lasting = options.warmupMs >= kSustainedLoadMs;
        progress?.(1);
        const each = lasting ? 13 : 10;
        const count = Math.max(options.minSamples, Math.min(options.maxSamples, Math.ceil(options.maxMs / each)));
        return { gpuMs: new Float64Array(count).fill(each), enqueueMs: new Float64Array(count).fill(0.01), hostMsPerInference: each };
      },
    } as unknown as NativeExecutor;
    // Pauses are slept, and this GPU needs none: short ones. run-options.test.ts holds how long they are.
    const options = parseOptions(benchmarkOptionsSchema, { roofline: false, maxMs: 500, recoveryMs: 5, ...change });
    return { result: await measure({ executor, device, manifest: null, setting }, options), asked };
  }

  it('says so before anything runs: on the CPU a first inference may take minutes', async () => {
    const said: object[] = [];
    await measured('bs1_seq1', { onProgress: (progress: object) => said.push(progress) });
    const measuring = said.findIndex((progress) => 'phase' in progress && progress.phase === 'measure');
    expect(said[measuring]).toEqual({ phase: 'measure', fraction: 0, detail: null });
  });

  it('has both conditions where arithmetic decides, bursts first', async () => {
    const { result, asked } = await measured('bs1_seq4096');
    expect(result).toMatchObject({
      status: 'ok',
      condition: 'burst',
      latencyMs: 10,
      meanState: { smClockMHz: 1900, powerW: 500 },
      sustained: { latencyMs: 13, reason: null, loadMs: kSustainedLoadMs, meanState: { smClockMHz: 1400, powerW: 700 } },
      warnings: [],
    });
    expect(asked.at(-1)).toMatchObject({ warmupMs: kSustainedLoadMs, minSamples: 100 });
    expect(asked.slice(0, -1).every(({ warmupMs }) => warmupMs < kSustainedLoadMs)).toBe(true);
    const saved = recordOf({ ...result, path: '/m/c', model: 'm', setting: 's', format: 'f', load: null } as unknown as RunResult, null);
    expect(parseRecord(JSON.stringify(saved), 'record')).toMatchObject({ condition: 'burst', sustained: { latencyMs: 13 } });
  });

  it.each([
    ['bs1_seq1', {}],
    ['bs1_seq4096', { sustained: 'off' }],
    ['bs1_seq4096', { recoveryMs: 0 }],
  ])('has one at %s with %j', async (setting, change) => {
    const { result, asked } = await measured(setting, change);
    expect(result.sustained).toBeNull();
    expect(result.condition).toBe('recoveryMs' in change ? null : 'burst');
    expect(asked.every(({ warmupMs }) => warmupMs < kSustainedLoadMs)).toBe(true);
  });

  it('has both where it is told to', async () => {
    expect((await measured('bs1_seq1', { sustained: 'on' })).result.sustained).toMatchObject({ latencyMs: 13 });
  });
});

const record = (burstMs: number, sustainedMs: number, change: Partial<BenchRecord> = {}): BenchRecord =>
  makeRecord({
    setting: 'bs1_seq4096',
    latencyMs: burstMs,
    condition: 'burst',
    meanState: { smClockMHz: 1755, powerW: 640 },
    sustained: sustainedFigures({ gpuMs: Array(8).fill(sustainedMs) as number[], states: [state(1500, 699)] }, evidence),
    ...change,
  });

describe('records', () => {
  it('give two entries, each with its clock and power', () => {
    const [burst, sustained] = entriesOfRecord(record(10, 12), 'file');
    expect(burst).toMatchObject({ condition: 'burst', latencyMs: 10, meanState: { smClockMHz: 1755, powerW: 640 } });
    expect(sustained).toMatchObject({
      condition: 'sustained',
      latencyMs: 12,
      interval: { lowMs: 12, highMs: 12 },
      meanState: { smClockMHz: 1500, powerW: 699 },
    });
    expect(newest([burst!, sustained!])).toHaveLength(2);
    expect(entriesOfRecord(makeRecord({}), 'file')).toHaveLength(1);
  });

  it('stand under load where the power limit spoilt the bursts, and fall with wrong results', () => {
    const capped = entriesOfRecord(record(10, 12, { status: 'invalid', reason: 'the power limit was reached' }), 'file');
    expect(capped.map(({ latencyMs }) => latencyMs)).toEqual([null, 12]);
    const wrong = entriesOfRecord(record(10, 12, { status: 'invalid', reason: 'a mismatch', verified: false }), 'file');
    expect(wrong.map(({ latencyMs, reason }) => [latencyMs, reason])).toEqual([
      [null, 'invalid: a mismatch'],
      [null, 'invalid: a mismatch'],
    ]);
  });

  it('are compared like with like', () => {
    const set = (name: string, own: BenchRecord) => ({ name, entries: entriesOfRecord(own, name), remarks: [] });
    const ours = set('ours', record(10, 12));
    for (const rival of [record(20, 36), record(20, 36, { system: 'pytorch-inductor' })]) {
      const { pairs, unpaired } = compareSets(ours, set('theirs', rival));
      expect(pairs.map(({ a, b, ratio }) => [a.condition, b.condition, ratio])).toEqual([
        ['burst', 'burst', 2],
        ['sustained', 'sustained', 3],
      ]);
      expect(unpaired).toEqual([]);
      // Means are of one condition.
      const comparison = compareSets(ours, set('theirs', rival), { force: true });
      expect(comparison.overall).toMatchObject({ pairs: 1, ratio: 2 });
      expect(comparison.byModel).toMatchObject([{ pairs: 1, ratio: 2 }]);
      expect(comparison.bySystem.map(({ name, ratio }) => [/, sustained$/.test(name), ratio])).toEqual([
        [false, 2],
        [true, expect.closeTo(3, 9)],
      ]);
      expect(comparisonTable(comparison)).toMatch(/W_FP16 A_FP16, sustained .* 3\.00×/);
    }
    const { pairs, unpaired } = compareSets(ours, set('theirs', makeRecord({ setting: 'bs1_seq4096', latencyMs: 20 })));
    expect(pairs.map(({ a }) => a.condition)).toEqual(['burst']);
    expect(unpaired.map(({ entry }) => entry.condition)).toEqual(['sustained']);
  });

  it('have both in tables and report, the figure bursts only, and neither the vendor', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ladder-conditions-'));
    try {
      writeFileSync(
        join(folder, 'records.json'),
        JSON.stringify([record(11, 13, { system: 'pytorch-inductor' }), record(10.25, 12.75), record(9, 12, { system: 'vendor-fp16' })]),
      );
      const finished = await finishBench({ out: folder, results: [join(folder, 'records.json')], reproduce: true, values: true });
      const [bursts, sustained] = finished.text.slice(finished.text.indexOf('Measured on')).split('Sustained, after');
      expect(bursts).toMatch(/Vendor-FP16 .* 9\.0/);
      expect(bursts).toMatch(/10\.25/);
      expect(bursts).not.toMatch(/12\.75/);
      expect(sustained).toMatch(/12\.75/);
      const page = readFileSync(finished.html, 'utf8');
      expect(page).toMatch(/burst<\/td><td[^>]*>1755 MHz, 640 W/);
      expect(page).toMatch(/sustained<\/td><td[^>]*>1500 MHz, 699 W/);
      const figure = readFileSync(join(folder, 'svg', `${finished.reproduced}.svg`), 'utf8');
      expect(figure).toContain('Inductor');
      expect(figure).not.toContain('Vendor');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('have both in the table of a bench', () => {
    const outcome = (own: BenchRecord): BenchOutcome => ({
      case: { name: 'a', path: '/a', timing: { mode: 'samples', launch: 'auto', l2: 'hot' }, verify: false },
      record: own,
      recordPath: '/r',
      resumed: false,
      unsaved: null,
    });
    const rows = renderBench([outcome(record(10, 12)), outcome(makeRecord({}))]).split('\n');
    expect(rows[0]).toMatch(/mode +condition +clock, power/);
    expect(rows.find((row) => row.includes(' burst '))).toMatch(/1755 MHz, 640 W .* 10\.0/);
    expect(rows.find((row) => row.includes(' sustained '))).toMatch(/1500 MHz, 699 W .* 12\.0.* ok/);
    expect(renderBench([outcome(makeRecord({}))])).not.toContain('condition');
  });
});

describe('the other systems', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ladder-conditions-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('are sampled by the same rule', () => {
    // Inferences of 1/128 s by a clock that nothing else moves, on a GPU that does its work at once.
    writeFileSync(
      join(folder, 'torch.py'),
      `
import time, types
now = 0.0
def sleep(seconds):
    global now
    now += seconds
time.sleep = sleep
time.perf_counter = lambda: now
class Event:
    def __init__(self, enable_timing): pass
    def record(self): self.at = time.perf_counter()
    def synchronize(self): pass
    def elapsed_time(self, other): return (other.at - self.at) * 1e3
cuda = types.SimpleNamespace(Event=Event, synchronize=lambda: None)
`,
    );
    const script = `
import json, time, protocol
calls = []
def call():
    calls.append(time.perf_counter())
    time.sleep(1 / 128)
result = protocol.measure_sustained(call, 5, 1000, 450, lambda: {"smClockMHz": 1500})
short = protocol.measure_sustained(call, 2, 2, 0, lambda: None)
load = len(calls) - len(result["rawMs"]) - len(short["rawMs"])
print(json.dumps({"rawMs": result["rawMs"], "states": len(result["states"]), "load": load, "short": short}))
`;
    const result = spawnSync('python3', ['-c', script], {
      encoding: 'utf8',
      env: {
        ...process.env,
        PYTHONDONTWRITEBYTECODE: '1',
        PYTHONPATH: `${folder}:${fileURLToPath(new URL('../../bench/baselines', import.meta.url))}`,
      },
    });
    expect(result.status, result.stderr).toBe(0);
    expect(JSON.parse(result.stdout)).toEqual({
      // As many as 450 ms take, and a reading every 100 ms of them.
      rawMs: Array(58).fill(1000 / 128),
      states: 4,
      // A second of load, twice.
      load: 256,
      short: { rawMs: Array(2).fill(1000 / 128), states: [] },
    });
  });
});

// The rival systems on a real GPU, in parts that can be chosen with vitest's -t: 'PyTorch eager' and 'PyTorch inductor' (the
// script's own check of all six models, then one real case through the adapter), 'low precision', "the vendor's layer" and 'cuBLASLt'. Each part is skipped, with
// its reason, where its system is not installed. What the script says on stderr goes on to this test's, so that a run that
// is stuck tells where.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Availability, BaselineAdapter } from '../../lib/baselines/adapters/adapter.js';
import { cublasLtAvailable, libraryCeilings } from '../../lib/baselines/adapters/cublaslt.js';
import { reproduceBaselines } from '../../lib/baselines/adapters/index.js';
import { findProgram } from '../../lib/files.js';
import { lastLine, runChild } from '../../lib/baselines/adapters/process.js';
import { PyTorchAdapter } from '../../lib/baselines/adapters/pytorch.js';
import { arithmeticRate, denseShapes } from '../../lib/baselines/ceilings.js';
import { systems } from '../../lib/baselines/systems/index.js';
import { native } from '../../lib/native.js';
import { deviceForRecord, selectDevice } from '../../lib/run/device.js';
import { packageRoot } from '../../lib/run/package.js';

/** Six models, tiny: the script's own limit per model names the one that hangs before this one does. */
const selftestMs = { eager: 5 * 60_000, inductor: 12 * 60_000 };
const say = (text: string): void => void process.stderr.write(`${text}\n`);

describe.each(['eager', 'inductor'] as const)('PyTorch %s', (mode) => {
  const adapter = new PyTorchAdapter(mode);
  let found: Availability;
  beforeAll(async () => {
    found = await adapter.available();
    say(found.ok ? `PyTorch ${found.version}` : `skipped: ${found.reason}`);
  }, 240_000);

  it('builds, runs and checks all six models', { timeout: selftestMs[mode] + 60_000 }, async ({ skip }) => {
    if (!found.ok) skip(found.reason);
    const python = findProgram(process.env.LADDER_PYTHON ?? 'python3') ?? 'python3';
    const script = join(packageRoot, 'bench', 'baselines', 'pytorch.py');
    const result = await runChild(python, [script, '--selftest', '--mode', mode], { timeoutMs: selftestMs[mode], onErrorLine: say });
    expect(result, lastLine(result.stderr)).toMatchObject({ status: 0, ended: null });
    expect(JSON.parse(result.stdout) as unknown).toMatchObject({ ok: true, mode });
  });

  it('times the LLAMA layer at BS1 SEQ1: weights read no faster than the memory gives them', async ({ skip }) => {
    if (!found.ok) skip(found.reason);
    const folder = mkdtempSync(join(tmpdir(), 'ladder-baselines-'));
    try {
      const { records } = await reproduceBaselines([{ model: 'llama2-70b', setting: 'bs1_seq1' }], {
        folder,
        adapters: [adapter],
        minSamples: 20,
        maxSamples: 50,
        minRepeatMs: 50,
        onProgress: ({ system, stage, detail }) => say(`${system} ${stage} ${detail ?? ''}`),
      });
      const record = records[0]?.record;
      expect(record?.reason ?? null).toBeNull();
      expect(record).toMatchObject({ status: 'ok', verified: true, clock: 'gpu-events', launch: mode === 'eager' ? 'stream' : 'graph' });
      // 1.71 GB of weights; 8 TB/s is more than any GPU's memory that this test may meet.
      expect(record?.latencyMs).toBeGreaterThan(((855_638_016 * 2) / 8e12) * 1e3);
      expect(Math.abs((record?.paper?.meanMs ?? NaN) / (record?.latencyMs ?? NaN) - 1)).toBeLessThan(0.25);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 600_000);
});

describe.each(['fp8', 'int4'])('PyTorch at low precision: %s', (precision) => {
  let found: Availability;
  beforeAll(async () => {
    found = await systems
      .get(`pytorch-${precision}`)
      .adapter!.load()
      .then((adapter) => adapter.available());
    if (!found.ok) say(`skipped: ${found.reason}`);
  }, 240_000);

  // One token, four, and 64: not every product of PyTorch takes few rows.
  it('computes what the weights say, in both decoder layers', { timeout: selftestMs.eager + 60_000 }, async ({ skip }) => {
    if (!found.ok) skip(found.reason);
    const python = findProgram(process.env.LADDER_PYTHON ?? 'python3') ?? 'python3';
    const args = [join(packageRoot, 'bench', 'baselines', 'pytorch.py'), '--selftest', '--precision', precision];
    const result = await runChild(python, args, { timeoutMs: selftestMs.eager, onErrorLine: say });
    expect(result, lastLine(result.stderr)).toMatchObject({ status: 0, ended: null });
    expect(JSON.parse(result.stdout) as unknown).toMatchObject({ ok: true, models: ['llama2-70b', 'bloom-176b'] });
  });
});

/** FLOPs of a LLAMA layer's products over 4096 tokens, and of its attention. */
const kPrefillFlops = 2 * 4096 * 855_638_016 + 4 * 4096 * 4096 * 8192;

describe.each(['fp16', 'fp8', 'fp8-fast', 'int8'])("the vendor's layer: %s", (type) => {
  let adapter: BaselineAdapter;
  let found: Availability;
  beforeAll(async () => {
    adapter = await systems.get(`vendor-${type}`).adapter!.load();
    found = await adapter.available();
    if (!found.ok) say(`skipped: ${found.reason}`);
  }, 240_000);

  it.for(['bs1_seq1', 'bs32_seq1', 'bs1_seq4096'])(
    'is timed at %s, and does all of its work',
    { timeout: 300_000 },
    async (setting, { skip }) => {
      if (!found.ok) skip(found.reason);
      const limits = { minSamples: 10, maxSamples: 20, maxMs: 300 };
      const record = await adapter.run(
        { model: 'llama2-70b', setting },
        { ...limits, onProgress: ({ stage, detail }) => say(`${stage} ${detail ?? ''}`) },
      );
      say(JSON.stringify({ ...record, rawMs: null, samples: null, sustained: record.sustained && { ...record.sustained, rawMs: null } }));
      expect(record.reason ?? null).toBeNull();
      expect(record).toMatchObject({ status: 'ok', launch: 'graph', condition: 'burst' });
      // Bytes of FP8 weights at 8 TB/s; FLOPs at 3 PFLOP/s: more than any GPU that this test may meet.
      expect(record.latencyMs).toBeGreaterThan((setting === 'bs1_seq4096' ? kPrefillFlops / 3e15 : 855_638_016 / 8e12) * 1e3);
      expect(record.sustained === null).toBe(setting !== 'bs1_seq4096');
      if (record.sustained) expect(record.sustained.meanState?.powerW).toBeGreaterThan(100);
    },
  );
});

describe('cuBLASLt', () => {
  const shape = denseShapes().find(({ model, name }) => model === 'llama2-70b' && name === 'o')!;
  let found: Availability;
  beforeAll(async () => {
    found = await cublasLtAvailable();
    if (!found.ok) say(`skipped: ${found.reason}`);
  }, 120_000);

  it('multiplies faster for FP8 than for FP16 at 4096 rows, and as fast as the memory at 1', async ({ skip }) => {
    if (!found.ok) skip(found.reason);
    const major = native().devices()[0]?.computeCapability[0] ?? 0;
    const types = major >= 9 ? (['fp16', 'fp8_e4m3'] as const) : (['fp16'] as const);
    const products = [1, 4096].flatMap((m) => types.map((type) => ({ shape, m, type })));
    const folder = mkdtempSync(join(tmpdir(), 'ladder-ceilings-'));
    const measure = () =>
      libraryCeilings(products, folder, deviceForRecord(selectDevice('cuda:0')), { onProgress: (_, detail) => say(detail) });
    const { ceilings, measured } = await measure();
    expect(measured).toBe(products.length);
    expect(await measure()).toEqual({ ceilings, measured: 0 });
    rmSync(folder, { recursive: true, force: true });
    expect(arithmeticRate(ceilings, 'W_INT4 A_FP16')).toBeGreaterThan(1e13);
    const at = (m: number, type: string) => ceilings.products.find((product) => product.m === m && product.type === type)?.result ?? null;
    for (const m of [1, 4096]) {
      const result = at(m, 'fp16');
      expect(result?.algorithms).toBeGreaterThan(0);
      expect(((result?.flopsPerSecond ?? NaN) * (result?.ms ?? NaN) * 1e-3) / (2 * m * 8192 * 8192)).toBeCloseTo(1, 9);
    }
    const bandwidth = await native().measureReadBandwidth(0, 2 ** 30, 10);
    const decode = (at(1, 'fp16')?.bytesPerSecond ?? NaN) / bandwidth;
    expect(decode).toBeGreaterThan(0.4);
    expect(decode).toBeLessThan(1.1);
    if (major >= 9) expect((at(4096, 'fp8_e4m3')?.flopsPerSecond ?? NaN) / (at(4096, 'fp16')?.flopsPerSecond ?? NaN)).toBeGreaterThan(1.2);
  }, 300_000);

  it('refuses shapes that are none', async ({ skip }) => {
    if (!found.ok) skip(found.reason);
    await expect(native().measureMatmul(0, { m: 0, n: 8, k: 8, type: 'fp16', library: null })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
    });
  });
});

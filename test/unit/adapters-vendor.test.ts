// The vendor's layer with stand-ins for its process and for ours: sessions, samples in turn, both conditions, and what is said where
// one side is missing. That the script multiplies what our layers do. The real one: test/gpu/baselines.test.ts.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import type { BaselineCase } from '../../lib/baselines/adapters/adapter.js';
import { openSession, type SampleSession } from '../../lib/baselines/adapters/session.js';
import { VendorAdapter, type VendorSurroundings } from '../../lib/baselines/adapters/vendor.js';
import { denseShapes } from '../../lib/baselines/ceilings.js';
import { systems } from '../../lib/baselines/systems/index.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { packageRoot } from '../../lib/run/package.js';
import { parseRecord } from '../../lib/run/record.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ladder-vendor-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** An executable Node.js program. `samples(ms)` serves requests, and notes them in a file that all share. */
function program(name: string, body: string): string {
  const path = join(folder, name);
  const serve = `
    const { appendFileSync } = require('node:fs');
    const say = (answer) => console.log(JSON.stringify(answer));
    const samples = (ms) => require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
      const request = JSON.parse(line);
      appendFileSync(${JSON.stringify(join(folder, 'order'))}, ${JSON.stringify(name)}[0] + (request.warmupMs >= 1000 ? 'S' : '') + ' ');
      appendFileSync(${JSON.stringify(join(folder, 'lengths'))}, request.maxMs + ' ');
      const count = Math.max(request.minSamples, Math.min(request.maxSamples, Math.ceil(request.maxMs / ms)));
      say({ gpuMs: Array(count).fill(ms), enqueueMs: Array(count).fill(0.01), hostMsPerInference: ms });
    });`;
  writeFileSync(path, `#!${process.execPath}\n${serve}\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}
/** The longest burst that was asked for, in ms. */
const longestBurst = (): number => Math.max(...readFileSync(join(folder, 'lengths'), 'utf8').trim().split(' ').map(Number));
const order = (): string => readFileSync(join(folder, 'order'), 'utf8').trim();

const request = { warmupMs: 0, minSamples: 1, maxSamples: 3, maxMs: 100 };
const any = z.object({ ok: z.literal(true) });
const open = (path: string, timeoutMs = 20_000, signal?: AbortSignal): Promise<SampleSession<unknown>> =>
  openSession(path, [], any, { timeoutMs, signal });

describe('a session', () => {
  it('says what it is, and gives samples as often as it is asked', async () => {
    const session = await open(program('fine', 'say({ ok: true }); samples(50);'));
    expect(session.description).toEqual({ ok: true });
    expect(await session.take(request)).toEqual({ gpuMs: [50, 50], enqueueMs: [0.01, 0.01], hostMsPerInference: 50 });
    expect((await session.take({ ...request, minSamples: 3 })).gpuMs).toHaveLength(3);
    await session.close();
    await session.close();
  });

  it('loses no answer that comes with another', async () => {
    const reply = '{"gpuMs":[1],"enqueueMs":[1],"hostMsPerInference":1}';
    const path = program(
      'two',
      `process.stdout.write('{"ok":true}\\n${reply}\\n${reply.replace('[1]', '[2]')}\\n'); process.stdin.resume();`,
    );
    const session = await open(path);
    expect([(await session.take(request)).gpuMs, (await session.take(request)).gpuMs]).toEqual([[1], [2]]);
    await session.close();
  });

  it.each([
    ['its own words', 'say({ ok: false, reason: "no cuDNN" });', /^no cuDNN$/],
    [
      'a crash',
      'console.error("Segmentation fault"); process.kill(process.pid, "SIGKILL");',
      /ended by SIGKILL without an answer; it last said: Segmentation/,
    ],
    ['an early end', 'process.exit(0);', /ended with status 0 without an answer/],
    ['no JSON', 'console.log("hello"); process.stdin.resume();', /answered what is no JSON: hello/],
    ['another answer', 'say({ ok: "yes" }); process.stdin.resume();', /does not fit: ok/],
  ])('that does not begin is an error: %s', async (_, body, message) => {
    await expect(open(program('broken', body))).rejects.toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(message) }),
    );
  });

  it('that ends or is too slow later is an error then, and an abort is one', async () => {
    const gone = await open(program('gone', 'say({ ok: true }); process.stdin.once("data", () => process.exit(5));'));
    await expect(gone.take(request)).rejects.toThrow(/ended with status 5 without an answer/);
    await expect(gone.take(request)).rejects.toThrow(/ended with status 5/);
    await gone.close();
    const slow = await open(program('slow', 'say({ ok: true }); process.stdin.resume();'), 1000);
    await expect(slow.take(request)).rejects.toThrow(/stopped after its time limit of 1 s/);
    const controller = new AbortController();
    const aborted = await open(program('aborted', 'say({ ok: true }); process.stdin.resume();'), 20_000, controller.signal);
    const taking = aborted.take(request);
    controller.abort();
    await expect(taking).rejects.toThrow(expect.objectContaining({ code: 'ABORTED' }));
    await aborted.close();
  });

  it('serves a checkpoint of ours', { timeout: 60_000 }, async () => {
    const [built] = await buildCheckpoints([parseRequest({ model: 'llama2-tiny', batch: 2, seq: 1, weight: 'int4' })], {
      root: folder,
      compile: false,
    });
    const args = [join(packageRoot, 'dist', 'cli', 'main.js'), 'bench-serve', built!.folder, '--device', 'cpu'];
    const schema = z.looseObject({ schema: z.literal('ladder-serve/1') });
    const session = await openSession(process.execPath, args, schema, { timeoutMs: 50_000 });
    expect(session.description).toMatchObject({
      ok: true,
      model: 'llama2-tiny',
      setting: 'bs2_seq1',
      format: 'W_INT4 A_FP16',
      launch: 'stream',
    });
    expect((await session.take({ ...request, minSamples: 2, maxSamples: 2 })).gpuMs).toHaveLength(2);
    await session.close();
    // Requests that are there before it has loaded, and nothing after them.
    const piped = spawnSync(process.execPath, args, { input: `${JSON.stringify(request)}\n`.repeat(2), encoding: 'utf8' });
    expect(piped.stderr).toBe('');
    expect([piped.status, piped.stdout.trim().split('\n').length]).toEqual([0, 3]);
    args[2] = join(folder, 'nothing');
    await expect(openSession(process.execPath, args, schema, { timeoutMs: 50_000 })).rejects.toThrow(/\[NOT_A_CHECKPOINT\]/);
  });
});

const state = {
  smClockMHz: 1800,
  memoryClockMHz: 2600,
  maxSmClockMHz: 1980,
  temperatureC: 60,
  powerW: 650,
  throttleReasons: [] as string[],
};
const device = {
  kind: 'cuda',
  name: 'Test GPU',
  computeCapability: '9.0',
  driverVersion: '1.2',
  multiprocessors: 4,
  memoryBytes: 1e9,
  l2Bytes: 100,
};
const description = {
  schema: 'ladder-vendor/1',
  ok: true,
  torchVersion: '2.11.0',
  cudaVersion: '13.0',
  cudnnVersion: 91000,
  device,
  type: 'fp8',
  model: 'llama2-70b',
  batch: 1,
  seq: 4096,
  rows: 4096,
  products: [[4096, 10240, 8192]],
  attention: 'cudnn',
};
const prefill: BaselineCase = { model: 'llama2-70b', setting: 'bs1_seq4096' };
/** Pauses are slept: short ones. */
const quick = { minSamples: 4, maxSamples: 8, maxMs: 60, recoveryMs: 5 };

/** The adapter of FP8 with full-precision sums, as its record has it, on this pretended machine. */
function adapter(here: Partial<VendorSurroundings> = {}): VendorAdapter {
  const served = program('ours', 'say({ schema: "ladder-serve/1", ok: true, launch: "graph" }); samples(30);');
  return new VendorAdapter(
    {
      system: 'vendor-fp8',
      type: 'fp8',
      format: { weight: 'fp8_e4m3', activation: 'fp8_e4m3' },
      rivals: { weight: 'fp8_e5m2', activation: 'fp8_e5m2' },
      bytesPerWeight: 1,
      product: '_scaled_mm',
    },
    {
      checkpointOf: () => '/c/llama2-70b/ours',
      sourcesOf: () => 'kernels of today',
      serverOf: () => ({ program: served, args: [] }),
      readState: () => state,
      ...here,
    },
  );
}
function fakeVendor(body = `say(${JSON.stringify(description)}); samples(20);`): void {
  const noted = `appendFileSync(${JSON.stringify(join(folder, 'args'))}, process.argv.slice(3).join(' '));`;
  vi.stubEnv('LADDER_PYTHON', program('vendor', `${noted} ${body}`));
}

describe("the vendor's layer", () => {
  it('is sampled in turn with our checkpoint, in bursts and under lasting load', async () => {
    fakeVendor();
    const asked: string[] = [];
    const record = await adapter({
      checkpointOf: ({ model, setting }, format) => {
        asked.push(`${model} ${setting} ${format}`);
        return '/c/llama2-70b/ours';
      },
    }).run(prefill, { ...quick, ordinal: 3 });
    expect(readFileSync(join(folder, 'args'), 'utf8')).toBe('--type fp8 --model llama2-70b --batch 1 --seq 4096 --device 3');
    expect(asked).toEqual(['llama2-70b bs1_seq4096 W_FP8 A_FP8']);
    expect(order()).toMatch(/^v o (v o |v |o )*vS oS vS oS$/);
    expect(parseRecord(JSON.stringify(record), 'record')).toEqual(record);
    expect(record).toMatchObject({
      system: 'vendor-fp8',
      systemVersion: 'cuBLASLt of CUDA 13.0, cuDNN 91000 (PyTorch 2.11.0)',
      format: 'W_FP8 A_FP8',
      status: 'ok',
      launch: 'graph',
      condition: 'burst',
      latencyMs: 20,
      meanState: { smClockMHz: 1800, powerW: 650 },
      sustained: { latencyMs: 20, meanState: { smClockMHz: 1800, powerW: 650 } },
      provenance: { inTurnWith: 'llama2-70b/ours', inTurnMs: 30, inTurnSustainedMs: 30, rows: 4096, weights: 10240 * 8192 },
      warnings: [],
    });
    expect(record.sustained!.rawMs).toHaveLength(4);
  });

  it('is measured alone, and says so, where we have no checkpoint or ours does not run', async () => {
    fakeVendor();
    const alone = await adapter({ checkpointOf: () => null }).run(prefill, quick);
    expect(alone).toMatchObject({ status: 'ok', latencyMs: 20, provenance: { inTurnWith: null, inTurnMs: null } });
    expect(alone.warnings).toEqual(['measured alone: there is no checkpoint of ours in W_FP8 A_FP8']);
    const refusing = program('refusing', 'say({ ok: false, reason: "no nvcc [BUILD_FAILED]" });');
    const refused = await adapter({ serverOf: () => ({ program: refusing, args: [] }) }).run(prefill, quick);
    expect(refused.warnings).toEqual(['measured alone: our checkpoint in W_FP8 A_FP8 does not run here: no nvcc [BUILD_FAILED]']);
  });

  it('stands while our kernels do', async () => {
    fakeVendor();
    const record = await adapter().run(prefill, quick);
    expect(record.provenance).toMatchObject({ inTurnSources: 'kernels of today' });
    expect(await adapter().stands(record, prefill)).toBe(true);
    expect(await adapter({ sourcesOf: () => 'kernels of tomorrow' }).stands(record, prefill)).toBe(false);
    expect(await adapter({ checkpointOf: () => null }).stands(record, prefill)).toBe(false);
    const alone = await adapter({ checkpointOf: () => null }).run(prefill, quick);
    expect(await adapter({ checkpointOf: () => null }).stands(alone, prefill)).toBe(true);
    expect(await adapter().stands(alone, prefill)).toBe(false);
  });

  it.each([
    [prefill.setting, 40],
    ['bs1_seq1', 100],
  ])(
    'of %s is sampled in bursts of %i ms: with rests between them from the beginning where arithmetic decides',
    async (setting, longest) => {
      fakeVendor();
      await adapter().run({ model: 'llama2-70b', setting }, { ...quick, maxMs: 250, sustained: 'off' });
      expect(longestBurst()).toBe(longest);
    },
  );

  it('has one condition where memory decides, and none where nothing is set aside', async () => {
    fakeVendor();
    expect((await adapter().run({ model: 'llama2-70b', setting: 'bs1_seq1' }, quick)).sustained).toBeNull();
    expect((await adapter().run(prefill, { ...quick, sustained: 'off' })).sustained).toBeNull();
    expect(await adapter().run(prefill, { ...quick, recoveryMs: 0 })).toMatchObject({ condition: null, sustained: null });
    expect(order()).not.toContain('S');
  });

  it('records what goes wrong', async () => {
    fakeVendor('say({ ok: false, reason: "CUDA out of memory" });');
    expect(await adapter().run(prefill, quick)).toMatchObject({ status: 'failed', reason: 'CUDA out of memory', latencyMs: null });
    fakeVendor(`say(${JSON.stringify(description)}); process.stdin.once('data', () => process.exit(9));`);
    expect((await adapter().run(prefill, quick)).reason).toMatch(/ended with status 9/);
    fakeVendor();
    const hot = await adapter({ readState: () => ({ ...state, throttleReasons: ['hw_thermal_slowdown'] }) }).run(prefill, quick);
    expect(hot).toMatchObject({ status: 'invalid', sustained: { latencyMs: null } });
    vi.stubEnv('LADDER_PYTHON', join(folder, 'none'));
    expect((await adapter().run(prefill, quick)).status).toBe('failed');
    expect(await adapter().available()).toMatchObject({ ok: false });
  });

  it('is a layer in four types, each beside a format of ours', async () => {
    const ids = systems.all().flatMap(({ id }) => (id.startsWith('vendor-') ? [id] : []));
    expect(ids).toEqual(['vendor-fp16', 'vendor-fp8', 'vendor-fp8-fast', 'vendor-int8']);
    for (const id of ids) {
      const made = await systems.get(id).adapter!.load();
      expect([made.system, made.covers!(prefill), made.covers!({ model: 'vit', setting: 'bs1' })]).toEqual([id, true, false]);
    }
  });

  it('multiplies what our layers do', () => {
    // PyTorch is not needed for shapes: whatever is asked of it is there.
    const script = `
import json, sys
from unittest.mock import MagicMock
torch = MagicMock()
torch.nn.Module, torch.no_grad = object, lambda: lambda function: function
sys.modules.update({name: eval(name) for name in ("torch", "torch.nn", "torch.nn.functional", "torch.nn.utils", "torch.nn.utils.fusion")})
import models, vendor
print(json.dumps({name: vendor.dense_shapes(spec) for name, spec in models.MODELS.items() if spec.is_layer}))`;
    const result = spawnSync('python3', ['-c', script], {
      encoding: 'utf8',
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', PYTHONPATH: fileURLToPath(new URL('../../bench/baselines', import.meta.url)) },
    });
    expect(result.status, result.stderr).toBe(0);
    const said = JSON.parse(result.stdout) as Record<string, [number, number][]>;
    for (const [model, shapes] of Object.entries(said))
      expect(shapes).toEqual(
        denseShapes()
          .filter((shape) => shape.model === model)
          .map(({ n, k }) => [n, k]),
      );
    expect(Object.keys(said)).toEqual(['llama2-70b', 'bloom-176b']);
  });
});

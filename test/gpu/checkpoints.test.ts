/**
 * The checkpoints of this project on a GPU, through the public API: verified, timed in both modes and both launches, on
 * machine code and on JIT-compiled PTX, aborted, refused. Needs a GPU; skips itself, saying so. Latency bounds hold on an
 * H100 80GB HBM3 only.
 */
import { spawn } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { LadderError, listDevices, loadPrebuilt, parseRecord, recordOf, runPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { listCheckpoints } from '../../lib/run/package.js';

const [gpu] = listDevices().filter(({ kind }) => kind === 'cuda');
const kCases = [
  { name: 'llama2-70b/llama2_bs1_seq1_async', atMostMs: 0.7 },
  { name: 'llama2-70b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', atMostMs: 0.25 },
];
const found = new Map((await listCheckpoints()).map(({ name, path }) => [name, path]));
const kMissing = !gpu
  ? `a GPU (${native().cudaStatus().reason})`
  : kCases.some(({ name }) => !found.has(name))
    ? 'the two llama2-70b checkpoints below checkpoints/'
    : null;
if (kMissing) console.log(`skipped: the GPU tests of checkpoints need ${kMissing}`);

const root = await mkdtemp(join(tmpdir(), 'ladder-gpu-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const pathOf = (name: string): string => found.get(name)!;

async function codeOf(task: Promise<unknown>): Promise<string> {
  return task.then(
    () => 'no error',
    (error: unknown) => (error instanceof LadderError ? error.code : String(error)),
  );
}

function ladder(env: Record<string, string>, ...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url)), ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out, err }));
  });
}

describe.skipIf(kMissing)('checkpoints on a GPU', { timeout: 600_000 }, () => {
  describe.each(kCases)('$name', ({ name, atMostMs }) => {
    test('verifies, end to end as well', async () => {
      const report = await verifyPrebuilt(pathOf(name), { device: gpu!.id, endToEnd: 'full' });
      expect(report.operators.flatMap(({ node, failures }) => failures.map((failure) => `${node}: ${failure}`))).toEqual([]);
      expect(report.endToEnd.flatMap(({ failures }) => failures)).toEqual([]);
      expect(report.endToEnd.every(({ relativeL2 }) => relativeL2 !== null)).toBe(true);
      expect(report.passed).toBe(true);
    });

    test('verifies on PTX of compute_80 as the driver compiles it', async () => {
      const { status, out, err } = await ladder({ CUDA_FORCE_PTX_JIT: '1' }, 'verify', pathOf(name), '--device', gpu!.id);
      expect([status, err]).toEqual([0, expect.any(String)]);
      expect(out).toMatch(/\nverified\n$/);
    });

    test('graph replay: samples, roofline, bounds', async () => {
      const result = await runPrebuilt(pathOf(name), { device: gpu!.id, launch: 'graph' });
      expect(result).toMatchObject({ mode: 'samples', launch: 'graph', launchReason: null, clock: 'gpu-events', computedBy: 'model.so' });
      expect(result.samples!.count).toBeGreaterThanOrEqual(100);
      expect(result.samples!.p95Ms).not.toBeNull();
      expect(result.roofline!.fraction).toBeGreaterThan(0.3);
      expect(result.stateAfter).not.toBeNull();
      expect(parseRecord(JSON.stringify(recordOf(result, null)), 'record').device.name).toBe(gpu!.name);
      if (gpu!.name === 'NVIDIA H100 80GB HBM3') {
        expect(result.reason).toBeNull();
        expect(result.latencyMs).toBeLessThanOrEqual(atMostMs);
      }
    });

    test("the paper's rule on a stream agrees with samples on a stream", async () => {
      const paper = await runPrebuilt(pathOf(name), { device: gpu!.id, mode: 'paper', launch: 'stream' });
      expect(paper.paper!.valuesMs).toHaveLength(5);
      expect(paper.paper!.numbers.every((number, i) => number * paper.paper!.valuesMs[i]! >= 499)).toBe(true);
      const samples = await runPrebuilt(pathOf(name), { device: gpu!.id, launch: 'stream' });
      expect(samples.enqueueMedianMs).toBeGreaterThan(0);
      // A sample holds one inference between its events, the paper's value many without gaps: it is a little less, not more.
      expect(paper.latencyMs / samples.latencyMs).toBeGreaterThan(0.6);
      expect(paper.latencyMs / samples.latencyMs).toBeLessThan(1.15);
    });

    test('cold caches are not faster than hot ones', async () => {
      const hot = await runPrebuilt(pathOf(name), { device: gpu!.id, launch: 'graph' });
      const cold = await runPrebuilt(pathOf(name), { device: gpu!.id, launch: 'graph', l2: 'cold' });
      expect(cold.latencyMs).toBeGreaterThan(0.95 * hot.latencyMs);
    });
  });

  test('a graph computes what the stream computes', async () => {
    const layer = await loadPrebuilt(pathOf(kCases[1]!.name), { device: gpu!.id });
    await layer.run();
    const output = await layer.getOutput(0);
    await layer.benchmark({ launch: 'graph', minSamples: 3, maxSamples: 3, roofline: false });
    expect(await layer.getOutput(0)).toEqual(output);
    await layer.dispose();
  });

  test('abort ends a measurement, dispose frees the memory', async () => {
    const before = native().allocatedBytes();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 1000);
    expect(
      await codeOf(
        runPrebuilt(pathOf(kCases[1]!.name), {
          device: gpu!.id,
          minSamples: 10_000_000,
          maxSamples: 10_000_000,
          signal: controller.signal,
        }),
      ),
    ).toBe('ABORTED');
    expect(native().allocatedBytes()).toEqual(before);
  });

  test('a model.so that is missing is named, with how to build it', async () => {
    const copy = join(root, 'llama2-70b', 'llama2_bs1_seq1_async');
    await cp(pathOf(kCases[0]!.name), copy, { recursive: true, filter: (path) => !path.endsWith('model.so') });
    await expect(loadPrebuilt(copy, { device: gpu!.id, build: false })).rejects.toMatchObject({
      code: 'MISSING_MODULE',
      message: expect.stringMatching(/ladder build/),
    });
  });

  test('a device that is not there is named with those that are', async () => {
    await expect(loadPrebuilt(pathOf(kCases[0]!.name), { device: 'cuda:4000' })).rejects.toMatchObject({
      code: 'NO_DEVICE',
      message: expect.stringMatching(/cuda:0/),
    });
  });

  test('profile covers every operator against the ceilings', async () => {
    const layer = await loadPrebuilt(pathOf(kCases[0]!.name), { device: gpu!.id });
    const { operators } = await layer.profile({ samples: 20 });
    await layer.dispose();
    expect(operators).toHaveLength(layer.operatorCount);
    for (const { medianMs, roofline } of operators) {
      expect(medianMs).toBeGreaterThan(0);
      expect(roofline!.fraction).toBeGreaterThan(0);
    }
  });
});

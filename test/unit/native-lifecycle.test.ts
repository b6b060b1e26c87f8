// Executors as JavaScript objects: data in and out, disposal, cancellation, worker threads, the event loop, leaks. No GPU.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { native, type ExecutorPlan, type Fill, type NativeExecutor } from '../../lib/native.js';
import { floatBytes, makePlan, rejection, Workshop } from '../fixtures/native/objects.js';

const kAddon = process.env['LADDER_ADDON'] ?? createRequire(import.meta.url).resolve('../../build/Release/ladder.node');
const workshop = new Workshop();
let cpu: string;

beforeAll(() => {
  cpu = workshop.compile('cpu_operators.c');
});
afterAll(() => workshop.remove());

const kPaper = { launch: 'stream', number: 5, repeat: 3, minRepeatMs: 1 } as const;

function planOf(functionName = 'add_one', length = 4): ExecutorPlan {
  const tensor = { dtype: 'float32', shape: [length] };
  return makePlan({ tensors: [tensor, tensor], operators: [{ functionName, inputs: [0], outputs: [1] }], module: cpu });
}
const open = (functionName?: string, length?: number): Promise<NativeExecutor> => native().openExecutor(planOf(functionName, length));

describe('data', () => {
  test('goes in and comes out, whole and in part', async () => {
    const executor = await open('add_one', 1000);
    const values = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i));
    await executor.write(0, new Uint8Array(values.buffer));
    expect(new Float32Array(await executor.read(0))).toEqual(values);
    expect(new Float32Array(await executor.read(0, 400, 8))).toEqual(values.slice(100, 102));
    expect((await executor.read(0, 4000)).byteLength).toBe(0);
    await executor.setBytes(0, 0xab);
    expect(new Uint8Array(await executor.read(0)).every((byte) => byte === 0xab)).toBe(true);
    await executor.dispose();
  });

  test('of a wrong length, range or kind is refused', async () => {
    const executor = await open();
    expect((await rejection(executor.write(0, new Uint8Array(15)))).code).toBe('WRONG_LENGTH');
    expect((await rejection(executor.read(0, 12, 8))).code).toBe('WRONG_LENGTH');
    expect((await rejection(executor.read(0, 17))).code).toBe('WRONG_LENGTH');
    for (const call of [
      () => executor.write(2, new Uint8Array(16)),
      () => executor.write(-1, new Uint8Array(16)),
      () => executor.write(0.5, new Uint8Array(16)),
      () => executor.write(0, new Float32Array(4) as unknown as Uint8Array),
      () => executor.setBytes(0, 256),
      () => executor.fill(0, { kind: 'bits' }, -1n),
      () => executor.fill(0, { kind: 'other' } as unknown as Fill, 1n),
      () => executor.runOperator(1),
      () => executor.measurePaper({ ...kPaper, number: 0 }, null),
      () => executor.measurePaper(kPaper, 5 as unknown as null),
      () => executor.profile(0, null),
    ]) {
      expect((await rejection(call())).code).toBe('BAD_ARGUMENT');
    }
    await executor.dispose();
  });

  test('of a fill is the generator’s', async () => {
    const fills: Fill[] = [{ kind: 'bits' }, { kind: 'uniform', low: -2, high: 3 }, { kind: 'code', base: 3, mask: 63, signed: true }];
    const executor = await open('add_one', 999);
    for (const fill of fills) {
      await executor.fill(1, fill, 0xfedcba9876543210n);
      const expected = new Uint8Array(999 * 4);
      native().fillBytes(fill, 0xfedcba9876543210n, parseDataType('float32'), 0, expected);
      expect(new Uint8Array(await executor.read(1))).toEqual(expected);
      expect(new Set(expected).size).toBeGreaterThan(32);
    }
    await executor.dispose();
  });

  test('of a parameter file is copied by range, and a file cut short is an error', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ladder-params-'));
    const path = join(folder, 'graph.params');
    const values = Float32Array.from({ length: 8 }, (_, i) => i + 0.5);
    writeFileSync(path, new Uint8Array([...new Uint8Array(3), ...new Uint8Array(values.buffer)]));
    const executor = await open();
    await executor.loadParams(path, [
      { entry: 0, fileOffset: 3 + 16, sizeBytes: 16 },
      { entry: 1, fileOffset: 3, sizeBytes: 16 },
    ]);
    expect(new Float32Array(await executor.read(0))).toEqual(values.slice(4));
    expect(new Float32Array(await executor.read(1))).toEqual(values.slice(0, 4));
    expect((await rejection(executor.loadParams(path, [{ entry: 0, fileOffset: 3, sizeBytes: 12 }]))).code).toBe('BAD_PARAMS');
    truncateSync(path, 3 + 31);
    const error = await rejection(executor.loadParams(path, [{ entry: 0, fileOffset: 19, sizeBytes: 16 }]));
    expect(error.code).toBe('BAD_PARAMS');
    expect(error.message).toContain('34 bytes');
    expect((await rejection(executor.loadParams(join(folder, 'none'), []))).code).toBe('IO');
    await executor.dispose();
    rmSync(folder, { recursive: true });
  });
});

describe('disposal', () => {
  test('frees all, twice is fine, and later calls are refused', async () => {
    const before = native().allocatedBytes();
    const executor = await open('add_one', 1 << 20);
    expect(native().allocatedBytes().host).toBe(before.host + 2 * (4 << 20));
    const first = executor.dispose();
    const second = executor.dispose();
    await Promise.all([first, second]);
    await executor.dispose();
    expect(native().allocatedBytes()).toEqual(before);
    for (const call of [() => executor.run(), () => executor.read(0), () => executor.measurePaper(kPaper, null)]) {
      const error = await rejection(call());
      expect(error.code).toBe('DISPOSED');
    }
    executor.cancel(); // nothing to cancel
  });

  test('ends what is in flight and refuses what waits', async () => {
    const before = native().allocatedBytes();
    const executor = await open('slow_add_one');
    const running = rejection(executor.measurePaper({ ...kPaper, minRepeatMs: 60_000 }, null));
    const waiting = rejection(executor.run());
    await new Promise((resolve) => setTimeout(resolve, 50));
    const start = performance.now();
    await executor.dispose();
    expect(performance.now() - start).toBeLessThan(1000);
    expect((await running).code).toBe('ABORTED');
    expect((await waiting).code).toBe('DISPOSED');
    expect(native().allocatedBytes()).toEqual(before);
  });

  test('leaves nothing after a load that failed', async () => {
    const before = native().allocatedBytes();
    expect((await rejection(open('no_such_operator', 1 << 20))).code).toBe('MISSING_SYMBOL');
    expect(native().allocatedBytes()).toEqual(before);
  });

  test('of 100 executors leaves nothing', async () => {
    const before = native().allocatedBytes();
    for (let i = 0; i < 100; ++i) {
      const executor = await open(i % 2 ? 'workspaces' : 'fails', 1000);
      await executor.run().catch(() => undefined);
      await executor.dispose();
    }
    expect(native().allocatedBytes()).toEqual(before);
  });
});

describe('cancellation', () => {
  test('ends the measurement, not the executor', async () => {
    const executor = await open('slow_add_one');
    const measurement = rejection(
      executor.measureSamples({ launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 10_000, maxSamples: 10_000, maxMs: 0 }, null),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    executor.cancel();
    expect((await measurement).code).toBe('ABORTED');
    await executor.write(0, floatBytes([1, 2, 3, 4]));
    await executor.run();
    expect([...new Float32Array(await executor.read(1))]).toEqual([2, 3, 4, 5]);
    await executor.dispose();
  });

  test('reaches a measurement that has not begun', async () => {
    const executor = await open('slow_add_one');
    const first = rejection(executor.measurePaper({ ...kPaper, minRepeatMs: 60_000 }, null));
    const second = rejection(executor.profile(1000, null));
    executor.cancel();
    expect((await first).code).toBe('ABORTED');
    expect((await second).code).toBe('ABORTED');
    await executor.dispose();
  });

  test('happens when the progress function throws, and its error comes out', async () => {
    const executor = await open('slow_add_one');
    const reason = new RangeError('enough');
    const measurement = executor.measurePaper({ ...kPaper, minRepeatMs: 60_000 }, () => {
      throw reason;
    });
    await expect(measurement).rejects.toBe(reason);
    await executor.run();
    await executor.dispose();
  });
});

describe('threads', () => {
  test('two executors run at once, and the event loop goes on', async () => {
    const [a, b] = await Promise.all([open('slow_add_one'), open('slow_add_one')]);
    let ticks = 0;
    const timer = setInterval(() => ++ticks, 5);
    const start = performance.now();
    await Promise.all([a, b].map((executor) => executor.profile(40, null))); // 41 × 10 ms each
    const elapsedMs = performance.now() - start;
    clearInterval(timer);
    expect(elapsedMs).toBeGreaterThanOrEqual(400);
    expect(elapsedMs).toBeLessThan(800); // one after the other: at least 820
    expect(ticks).toBeGreaterThan(20);
    await Promise.all([a.dispose(), b.dispose()]);
  });

  /** Runs code in a worker thread; `addon`, `plan` and `parentPort` are there. */
  function inWorker(code: string, plan: ExecutorPlan): { worker: Worker; result: Promise<unknown> } {
    const prelude = `const { workerData: { addonPath, plan }, parentPort } = require('node:worker_threads');
      const addon = require(addonPath);
      addon.setErrorClass(class LadderError extends Error { constructor(code, message, context) { super(message); this.code = code; this.context = context; } });`;
    const worker = new Worker(`${prelude}(async () => {${code}})();`, { eval: true, workerData: { addonPath: kAddon, plan } });
    return { worker, result: new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)) };
  }

  test('a worker thread has executors of its own', async () => {
    native();
    const { worker, result } = inWorker(
      `
      const executor = await addon.openExecutor(plan);
      await executor.write(0, new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer));
      await executor.run();
      const values = [...new Float32Array(await executor.read(1))];
      const code = await executor.runOperator(9).catch((error) => error.code);
      await executor.dispose();
      parentPort.postMessage({ values, code });`,
      planOf(),
    );
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    expect(await result).toEqual({ values: [2, 3, 4, 5], code: 'BAD_ARGUMENT' });
    expect(await ended).toBe(0); // by itself: an idle executor keeps no event loop alive
  });

  test('ending a worker thread in the middle of a measurement is safe and leaks nothing', async () => {
    const before = native().allocatedBytes();
    for (let i = 0; i < 5; ++i) {
      const { worker, result } = inWorker(
        `
        const executor = await addon.openExecutor(plan);
        executor.measurePaper({ launch: 'stream', number: 5, repeat: 5, minRepeatMs: 60000 }, () => {});
        executor.run();
        addon.openExecutor(plan);
        parentPort.postMessage('busy');`,
        planOf('slow_add_one'),
      );
      await result;
      await worker.terminate();
    }
    expect(native().allocatedBytes()).toEqual(before);
  });

  test('a process ends by itself beside an idle executor, and at once by process.exit in a busy one', () => {
    const script = (end: string): string => `
      const addon = require(${JSON.stringify(kAddon)});
      addon.openExecutor(${JSON.stringify(planOf('slow_add_one'))}).then(async (executor) => { await executor.run(); ${end} });`;
    const idle = spawnSync(process.execPath, ['-e', script('globalThis.kept = executor; console.log("idle");')], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect([idle.status, idle.stdout.trim(), idle.stderr]).toEqual([0, 'idle', '']);
    const busy = spawnSync(
      process.execPath,
      ['-e', script('executor.profile(100000, null).catch(() => {}); setTimeout(() => process.exit(5), 50);')],
      { encoding: 'utf8', timeout: 20_000 },
    );
    expect([busy.status, busy.stderr]).toEqual([5, '']);
  });

  test('executors that are forgotten are collected', () => {
    const script = `
      const addon = require(${JSON.stringify(kAddon)});
      (async () => {
        for (let i = 0; i < 20; ++i) { const executor = await addon.openExecutor(${JSON.stringify(planOf('add_one', 1 << 16))}); await executor.run(); }
        for (let i = 0; i < 20; ++i) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
        console.log(addon.allocatedBytes().host);
      })();`;
    const result = spawnSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8', timeout: 20_000 });
    expect(result.stderr).toBe('');
    expect(Number(result.stdout)).toBeLessThanOrEqual(2 * 2 * (4 << 16)); // at most the last ones are still referred to
  });
});

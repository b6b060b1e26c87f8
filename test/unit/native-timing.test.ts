// The measurement loops on the CPU: TVM's rule, samples, the profile, and progress. No GPU.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { native, type NativeExecutor } from '../../lib/native.js';
import { makePlan, rejection, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
let cpu: string;
let fast: NativeExecutor;
let slow: NativeExecutor; // 10 ms, and a little

const tensor = { dtype: 'float32', shape: [4] };
const open = (...functions: string[]): Promise<NativeExecutor> =>
  native().openExecutor(
    makePlan({
      tensors: [tensor, tensor],
      operators: functions.map((functionName) => ({ functionName, inputs: [0], outputs: [1] })),
      module: cpu,
    }),
  );

beforeAll(async () => {
  cpu = workshop.compile('cpu_operators.c');
  [fast, slow] = await Promise.all([open('add_one'), open('slow_add_one')]);
});
afterAll(async () => {
  await Promise.all([fast.dispose(), slow.dispose()]);
  workshop.remove();
});

describe('the paper’s rule', () => {
  test('takes `repeat` values of `number` inferences where they last long enough', async () => {
    const result = await slow.measurePaper({ launch: 'stream', number: 3, repeat: 4, minRepeatMs: 20 }, null);
    expect([...result.numbers]).toEqual([3, 3, 3, 3]);
    expect(result.valuesMs).toHaveLength(4);
    for (const value of result.valuesMs) expect(value).toBeGreaterThanOrEqual(10);
    for (const value of result.valuesMs) expect(value).toBeLessThan(40); // and not the sum of three
  });

  test('grows `number` as TVM does, and keeps it', async () => {
    const result = await slow.measurePaper({ launch: 'stream', number: 2, repeat: 3, minRepeatMs: 100 }, null);
    // 2 inferences last 20 ms or, on a busy machine, more: number becomes trunc(max(100 / 10… + 1, 2 × 1.618)), at most 11,
    // and once more at most 1.618 times that.
    expect(result.numbers[0]).toBeGreaterThanOrEqual(3);
    expect(result.numbers[0]).toBeLessThanOrEqual(17);
    for (let i = 1; i < 3; ++i) expect(result.numbers[i]).toBeGreaterThanOrEqual(result.numbers[i - 1]!);
    for (let i = 0; i < 3; ++i) expect(result.valuesMs[i]! * result.numbers[i]!).toBeGreaterThanOrEqual(100);
  });

  test('reaches the least time with an operator far faster than the clock’s steps', async () => {
    const result = await fast.measurePaper({ launch: 'stream', number: 5, repeat: 5, minRepeatMs: 20 }, null);
    for (let i = 0; i < 5; ++i) {
      expect(result.valuesMs[i]! * result.numbers[i]!).toBeGreaterThanOrEqual(20 - 1e-9);
      expect(Number.isInteger(result.numbers[i]!)).toBe(true);
    }
    expect(result.numbers[4]).toBeGreaterThan(1000);
  });

  test('counts one untimed inference more', async () => {
    const executor = await native().openExecutor(
      makePlan({
        tensors: [tensor, { dtype: 'int64', shape: [2] }],
        operators: [{ functionName: 'own_state', inputs: [0], outputs: [1] }],
        module: cpu,
      }),
    );
    await executor.measurePaper({ launch: 'stream', number: 7, repeat: 3, minRepeatMs: 0 }, null);
    const [, calls] = new BigInt64Array(await executor.read(1));
    expect(calls).toBe(1n + 3n * 7n);
    await executor.dispose();
  });
});

describe('samples', () => {
  const options = { launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 5, maxSamples: 50, maxMs: 0 } as const;

  test('are one per inference, as many as asked for', async () => {
    const least = await slow.measureSamples(options, null);
    expect(least.gpuMs).toHaveLength(5);
    const most = await fast.measureSamples({ ...options, maxMs: 60_000 }, null);
    expect(most.gpuMs).toHaveLength(50);
    for (const value of least.gpuMs) expect(value).toBeGreaterThanOrEqual(10);
    expect(least.hostMsPerInference).toBeGreaterThanOrEqual(10);
    expect(least.hostMsPerInference).toBeLessThan(40);
    expect(least.enqueueMs).toHaveLength(5);
  });

  test('stop after the time, once there are enough', async () => {
    const result = await slow.measureSamples({ ...options, minSamples: 2, maxSamples: 1000, maxMs: 100 }, null);
    expect(result.gpuMs.length).toBeGreaterThanOrEqual(2);
    expect(result.gpuMs.length).toBeLessThanOrEqual(10);
  });

  test('warm up for the time that was asked for', async () => {
    const start = performance.now();
    await slow.measureSamples({ ...options, warmupMs: 150, minSamples: 1, maxSamples: 1 }, null);
    expect(performance.now() - start).toBeGreaterThanOrEqual(160);
  });

  test('with a graph or a cold L2 are refused on the CPU', async () => {
    expect(await rejection(fast.measureSamples({ ...options, launch: 'graph' }, null))).toMatchObject({
      code: 'UNSUPPORTED',
      context: { reason: 'the executor runs on the CPU' },
    });
    expect((await rejection(fast.measureSamples({ ...options, l2: 'cold' }, null))).code).toBe('UNSUPPORTED');
    expect(await fast.capture()).toEqual({ captured: false, reason: 'the executor runs on the CPU', kernelNodes: 0, programmaticEdges: 0 });
  });
});

test('the profile tells the operators apart', async () => {
  const executor = await open('add_one', 'slow_add_one', 'add_one');
  const { operatorMs, samples } = await executor.profile(4, null);
  expect(samples).toBe(4);
  expect(operatorMs).toHaveLength(12);
  for (const value of operatorMs.slice(4, 8)) expect(value).toBeGreaterThanOrEqual(10);
  for (const others of [operatorMs.slice(0, 4), operatorMs.slice(8)]) expect(Math.min(...others)).toBeLessThan(10);
  await executor.dispose();
});

test('an error in the middle ends the measurement with it', async () => {
  const executor = await open('add_one', 'fails');
  expect((await rejection(executor.measurePaper({ launch: 'stream', number: 5, repeat: 5, minRepeatMs: 1 }, null))).code).toBe('OPERATOR');
  expect((await rejection(executor.profile(3, null))).code).toBe('OPERATOR');
  await executor.dispose();
});

test('progress rises, stays within 0…1, and comes at most every 100 ms', async () => {
  const seen: number[] = [];
  const start = performance.now();
  await slow.measurePaper({ launch: 'stream', number: 5, repeat: 5, minRepeatMs: 100 }, (fraction) => seen.push(fraction));
  expect(seen.length).toBeGreaterThanOrEqual(3);
  expect(seen.length).toBeLessThanOrEqual((performance.now() - start) / 100 + 1);
  expect([...seen].sort((a, b) => a - b)).toEqual(seen);
  expect(seen.every((fraction) => fraction >= 0 && fraction <= 1)).toBe(true);
});

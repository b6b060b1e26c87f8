// The CUDA side of the runtime against a stand-in for the driver (fixtures/native/fake_cuda.c): no GPU needed, and none tested.
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../lib/native.js';
import { compileContribCalls, contribPlan, convolve, kConvolutions, kSoftmaxes, softmax } from '../fixtures/native/contrib.js';
import { buildFakeCuda, fakePlan, runWithFakeCuda } from '../fixtures/native/fake-cuda-run.js';
import { makePlan, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
let library: string;
let route2: string;

beforeAll(() => {
  library = buildFakeCuda(workshop);
  route2 = workshop.compile('route2_host.c');
});
afterAll(() => workshop.remove());

const kInputs = `await executor.write(0, floats(Array.from({ length: 100 }, (_, i) => i)));
  await executor.write(1, floats(Array.from({ length: 100 }, () => 0.5)));`;

interface Failure {
  code: string;
  message: string;
  context: Record<string, unknown>;
}
const failure = (functions: readonly string[], body: string, fail: string): Failure =>
  runWithFakeCuda(library, fakePlan(route2, functions), body, fail) as Failure;
const openFailure = (fail: string): Failure => failure(['fused_scale_add'], 'return attempt(addon.openExecutor(plan));', fail);

test('devices and status', () => {
  const result = runWithFakeCuda(library, fakePlan(route2, []), 'return { status: addon.cudaStatus(), devices: addon.devices() };') as {
    status: object;
    devices: object[];
  };
  expect(result.status).toMatchObject({ available: true, driverApiVersion: 13000, deviceCount: 2, reason: null });
  expect(result.devices[1]).toMatchObject({
    ordinal: 1,
    name: 'Fake GPU 1',
    uuid: 'GPU-10111213-1415-1617-1819-1a1b1c1d1e1f',
    computeCapability: [9, 0],
    l2Bytes: 1 << 20,
  });
});

test('kernels get their arguments, by stream and by graph, also with programmatic launch', () => {
  for (const programmatic of [false, true]) {
    const body = `const executor = await addon.openExecutor(plan);
      ${kInputs}
      await executor.run();
      const byStream = [...new Float32Array(await executor.read(3, 0, 12))];
      const capture = await executor.capture();
      await executor.setBytes(3, 0xff);
      const options = { launch: 'graph', l2: 'cold', warmupMs: 0, minSamples: 600, maxSamples: 600, maxMs: 0 };
      const samples = await executor.measureSamples(options, null);
      const byGraph = [...new Float32Array(await executor.read(3, 0, 12))];
      const paper = await executor.measurePaper({ launch: 'graph', number: 5, repeat: 5, minRepeatMs: 1 }, null);
      const profile = await executor.profile(3, null);
      await executor.dispose();
      return { byStream, byGraph, capture, count: samples.gpuMs.length, paper: paper.valuesMs.length, profile: profile.operatorMs.length, left: addon.allocatedBytes() };`;
    expect(runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add', 'fused_twice'], { programmatic }), body)).toEqual({
      byStream: [2, 8, 14],
      byGraph: [2, 8, 14],
      capture: { captured: true, reason: null, kernelNodes: 3, programmaticEdges: programmatic ? 2 : 0 },
      count: 600,
      paper: 5,
      profile: 6,
      left: { host: 0, device: 0 },
    });
  }
});

test('dynamic shared memory beyond 48 KiB is asked for', () => {
  const body = `const executor = await addon.openExecutor(plan);
    await executor.write(0, floats(Array.from({ length: 20000 }, (_, i) => i)));
    await executor.run();
    return [...new Float32Array(await executor.read(2, 0, 8))];`;
  expect(runWithFakeCuda(library, fakePlan(route2, ['fused_reverse'], { length: 20_000 }), body)).toEqual([19_999, 19_998]);
  const refused = runWithFakeCuda(
    library,
    fakePlan(route2, ['fused_reverse'], { length: 100_000 }),
    'return attempt((await addon.openExecutor(plan)).run());',
  ) as Failure;
  expect(refused).toMatchObject({
    code: 'CUDA',
    context: { kernel: 'reverse', grid: '1x1x1', block: '256x1x1', dynamicSharedBytes: 400_000, operator: 'fused_reverse', node: 'node0' },
  });
  expect(refused.message).toContain('operator `fused_reverse`');
});

describe('await run()', () => {
  /** Whether the promise is settled as soon as the call returns. */
  const body = `const executor = await addon.openExecutor(plan);
    ${kInputs}
    const settled = [];
    const values = [];
    for (let i = 0; i < 5; ++i) {
      await executor.setBytes(2, 0xff);
      let done = false;
      const running = executor.run().then(() => { done = true; });
      await null;
      await null;
      settled.push(done);
      await running;
      values.push(new Float32Array(await executor.read(2, 4, 4))[0]);
    }
    const overlapping = [executor.run(), executor.read(2, 4, 4), executor.run()];
    await Promise.all(overlapping);
    await executor.dispose();
    return { settled, values, after: (await attempt(executor.run())).code };`;
  const values = Array<number>(5).fill(2.5);
  test('replays the graph from the second run on, and waits for short ones where they are asked for', () => {
    const result = runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add']), body);
    expect(result).toEqual({ settled: [false, false, true, true, true], values, after: 'DISPOSED' });
  });
  test('leaves longer ones to the executor’s thread', () => {
    const result = runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add']), body, '', { FAKE_CUDA_SLOW: '1' });
    expect(result).toEqual({ settled: Array<boolean>(5).fill(false), values, after: 'DISPOSED' });
  });
  test('goes on by stream where there is no graph', () => {
    const result = runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add']), body, 'cuGraphInstantiateWithFlags=801');
    expect(result).toEqual({ settled: Array<boolean>(5).fill(false), values, after: 'DISPOSED' });
  });
});

test('small fills are made on the host until the kernels are compiled, and the same', () => {
  const plan = makePlan({
    device: 2,
    tensors: [3 << 20, 1 << 20, 16].map((length) => ({ dtype: 'uint8', shape: [length] })),
    operators: [],
    module: null,
  });
  const made = `const executor = await addon.openExecutor(plan);
    for (const entry of [0, 1]) await executor.fill(entry, { kind: 'bits' }, 5n);
    const bytes = [...new Uint8Array(await executor.read(1, (1 << 20) - 4, 4))];
    return { bytes, third: await executor.fill(2, { kind: 'bits' }, 5n).then(() => null, ({ code }) => code) };`;
  const expected = new Uint8Array(1 << 20);
  native().fillBytes({ kind: 'bits' }, 5n, plan.entries[1]!.dtype, 0, expected);
  // Beyond 4 MiB the kernels are compiled, which fails here.
  expect(runWithFakeCuda(library, plan, made, 'cuModuleLoadDataEx=209')).toEqual({
    bytes: [...expected.slice(-4)],
    third: 'WRONG_ARCHITECTURE',
  });
});

describe('what model.so leaves to cuDNN', () => {
  let calls: string;
  beforeAll(() => {
    calls = compileContribCalls(workshop);
  });
  const wave = (length: number): number[] => Array.from({ length }, (_, i) => Math.fround(Math.sin(i)));
  const product = (shape: readonly number[]): number => shape.reduce((total, extent) => total * extent, 1);
  /** Inputs are waves; the operator runs by stream, then by its graph. */
  const outputs = (functionName: string, shapes: readonly (readonly number[])[]): number[] => {
    const last = shapes.length - 1;
    const body = `const executor = await addon.openExecutor(plan);
      for (const [i, length] of ${JSON.stringify(shapes.slice(0, last).map(product))}.entries())
        await executor.write(i, floats(Array.from({ length }, (_, k) => Math.sin(k))));
      await executor.run();
      const byStream = [...new Float32Array(await executor.read(${last}))];
      const capture = await executor.capture();
      await executor.setBytes(${last}, 0xff);
      await executor.run();
      const byGraph = [...new Float32Array(await executor.read(${last}))];
      return { byStream, byGraph, captured: capture.captured };`;
    const result = runWithFakeCuda(library, contribPlan(calls, functionName, 'float32', shapes, 2), body) as Record<string, number[]>;
    expect(result).toMatchObject({ captured: true, byGraph: result['byStream'] });
    return result['byGraph']!;
  };
  const closeTo = (actual: readonly number[], expected: readonly number[]): void =>
    actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));

  test.each(kConvolutions)('a convolution: $name', (shape) => {
    const { x, w, y, name } = shape;
    closeTo(outputs(name, [x, w, y]), convolve(shape, wave(product(x)), wave(product(w))));
  });
  test.each(kSoftmaxes)('a softmax: $name', ({ name, shape, axis }) => {
    closeTo(outputs(name, [shape, shape]), softmax(shape, axis, wave(product(shape))));
  });
  const plain = kConvolutions[0]!;
  test.each([
    ['an output of another size', 'float32', [plain.x, plain.w, [2, 4, 3, 6]], 'BAD_MODULE', /belong together: x \[2, 3, 5, 6\]/],
    ['weights of other channels', 'float32', [plain.x, [4, 2, 3, 2], plain.y], 'BAD_MODULE', /belong together/],
    ['a type that there is no kernel for', 'float64', [plain.x, plain.w, plain.y], 'UNSUPPORTED', /another type than float16 and float32/],
  ] as const)('%s is refused before anything is launched', (_, dtype, shapes, code, message) => {
    const plan = contribPlan(calls, 'plain', dtype, shapes, 2);
    const error = runWithFakeCuda(library, plan, 'return attempt((await addon.openExecutor(plan)).run());') as Failure;
    expect(error).toMatchObject({ code, message: expect.stringMatching(message), context: { operator: 'plain' } });
  });
});

test('constants that an operator asks for go from the file to the device', () => {
  const path = join(workshop.folder, 'constants.so');
  writeFileSync(path, Buffer.concat([readFileSync(route2), Buffer.from(Float32Array.from({ length: 100 }, (_, i) => 10 * i).buffer)]));
  const base = fakePlan(path, ['fused_add_constant']);
  const constant = { name: 'a', shape: [100], dtype: base.entries[0]!.dtype, fileOffset: statSync(route2).size, sizeBytes: 400 };
  const module = {
    ...base.module!,
    constants: [constant, { ...constant, name: 'unused', shape: [2 ** 32], sizeBytes: 2 ** 34 }],
    constantUsers: [{ symbol: 'fused_add_constant', constants: ['a'] }],
  };
  const operators = [{ ...base.operators[0]!, inputs: [0], outputs: [2] }];
  const body = `const executor = await addon.openExecutor(plan);
    ${kInputs}
    await executor.run();
    return { values: [...new Float32Array(await executor.read(2, 0, 12))], device: addon.allocatedBytes().device };`;
  expect(runWithFakeCuda(library, { ...base, module, operators }, body)).toEqual({ values: [0, 11, 22], device: 4 * 400 });
});

test('an operator that launches nothing when it is captured is the reason why there is no graph, and the stream stays usable', () => {
  const body = `const executor = await addon.openExecutor(plan);
    ${kInputs}
    const capture = await executor.capture();
    await executor.run();
    return { capture, value: new Float32Array(await executor.read(2, 4, 4))[0] };`;
  expect(runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add', 'only_once']), body)).toMatchObject({
    capture: { captured: false, reason: expect.stringContaining('`only_once`') },
    value: 2.5,
  });
});

describe('failures', () => {
  test('of the driver’s start', () => {
    expect(openFailure('cuInit=803')).toMatchObject({ code: 'NO_DRIVER', message: expect.stringContaining('FAKE_ERROR_803') });
  });
  test('for a device that does not exist', () => {
    const result = runWithFakeCuda(
      library,
      { ...fakePlan(route2, []), deviceOrdinal: 7 },
      'return attempt(addon.openExecutor(plan));',
    ) as Failure;
    expect(result).toMatchObject({ code: 'NO_DEVICE', context: { ordinal: 7, deviceCount: 2 } });
  });
  test.each([209, 218, 222])('of loading code for another GPU (%i), with the compiler’s words', (result) => {
    const error = openFailure(`cuModuleLoadDataEx=${result}`);
    expect(error.code).toBe('WRONG_ARCHITECTURE');
    expect(error.message).toContain('sm_90');
    expect(error.message).toContain('line 7: what the compiler said');
    expect(error.context).toMatchObject({ architecture: 'sm_90', format: 'ptx', cudaName: `FAKE_ERROR_${result}` });
  });
  test('of a kernel that is not there', () => {
    const result = runWithFakeCuda(
      library,
      fakePlan(route2, ['fused_scale_add'], { kernel: 'no_such_kernel' }),
      'return attempt(addon.openExecutor(plan));',
    ) as Failure;
    expect(result).toMatchObject({ code: 'MISSING_SYMBOL', context: { symbol: 'no_such_kernel' } });
  });
  test('of a launch', () => {
    expect(
      failure(
        ['fused_scale_add'],
        `const executor = await addon.openExecutor(plan); return attempt(executor.run());`,
        'cuLaunchKernel=701',
      ),
    ).toMatchObject({
      code: 'CUDA',
      message: expect.stringMatching(
        /operator `fused_scale_add` \(node `node0`\): launching kernel `scale_add` \(grid 1x1x1, block 128x1x1.*FAKE_ERROR_701.*registers/,
      ),
    });
  });
  test('that lose the context say so, and name the operator where it is known', () => {
    const result = failure(
      ['fused_scale_add'],
      `const executor = await addon.openExecutor(plan); const error = await attempt(executor.runOperator(0)); await executor.dispose(); return error;`,
      'cuStreamSynchronize=700',
    );
    expect(result).toMatchObject({ code: 'CUDA', context: { contextLost: 1, operator: 'fused_scale_add' } });
    expect(result.message).toMatch(/operator `fused_scale_add`.*context is lost: start a new process/);
  });
  test('of memory, before and during allocation, leave nothing', () => {
    const big = makePlan({
      device: 2,
      tensors: [
        { dtype: 'uint8', shape: [2 ** 20] },
        { dtype: 'uint8', shape: [2 ** 31] },
      ],
      operators: [],
      module: null,
    });
    const body = 'const error = await attempt(addon.openExecutor(plan)); return { ...error, left: addon.allocatedBytes() };';
    expect(runWithFakeCuda(library, big, body)).toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringContaining('2.0 GiB of device memory, of which 1.0 GiB are free'),
      context: { requestedBytes: 2 ** 31 + 2 ** 20, freeBytes: 2 ** 30 },
      left: { host: 0, device: 0 },
    });
    expect(runWithFakeCuda(library, fakePlan(route2, ['fused_scale_add']), body, 'cuMemAlloc_v2=2')).toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/allocating 400 bytes of device memory for storage 0 \(1\.0 GiB of 1\.0 GiB are free\)/),
      left: { host: 0, device: 0 },
    });
  });
  test('of instantiating a graph are the reason why there is none', () => {
    const result = runWithFakeCuda(
      library,
      fakePlan(route2, ['fused_scale_add']),
      'const executor = await addon.openExecutor(plan); return executor.capture();',
      'cuGraphInstantiateWithFlags=801',
    );
    expect(result).toMatchObject({ captured: false, reason: expect.stringContaining('FAKE_ERROR_801') });
  });
});

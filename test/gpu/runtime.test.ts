/**
 * The native runtime on a GPU, with hand-made plans only: both routes of model.so, capture, programmatic launch, fills,
 * memory, wrong device code, lost contexts, leaks. Needs a GPU and nvcc; skips itself, saying which is missing.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FileSource } from '../../lib/artifact/byte-source.js';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { localFunctionAddress, parseElf } from '../../lib/artifact/elf.js';
import { floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { native, type ExecutorPlan, type Fill, type NativeExecutor, type PlanModule } from '../../lib/native.js';
import { writeBigModule } from '../fixtures/native/big-module.js';
import { compileContribCalls, contribPlan, convolve, kConvolutions, kSoftmaxes, softmax } from '../fixtures/native/contrib.js';
import { floatBytes, hasCommand, makePlan, rejection, Workshop } from '../fixtures/native/objects.js';

const kMissing = !native().cudaStatus().available
  ? `a GPU (${native().cudaStatus().reason})`
  : !hasCommand('nvcc')
    ? 'nvcc on the PATH'
    : null;
if (kMissing) console.log(`skipped: the runtime's GPU tests need ${kMissing}`);

const kLength = 5000;
const kX = Float32Array.from({ length: kLength }, (_, i) => Math.fround(Math.sin(i)));
const kY0 = Float32Array.from({ length: kLength }, (_, i) => Math.fround(Math.cos(3 * i)));

const workshop = new Workshop();
let route1: string;
let route2: string;
let ptx: Uint8Array;

/** `images` of the route 2 object; `change` may break it. */
function route2Module(programmatic = false, bytes: Uint8Array = ptx, format = 'ptx'): PlanModule {
  const handle = parseDataType('handle');
  return {
    path: route2,
    images: [
      {
        format,
        onDemand: false,
        bytes,
        kernels: [
          {
            name: 'scale_add',
            argumentTypes: [handle, handle, handle, parseDataType('int32'), parseDataType('float32')],
            launchTags: ['blockIdx.x', 'threadIdx.x'],
            programmaticStreamSerialization: programmatic,
          },
          {
            name: 'reverse',
            argumentTypes: [handle, handle, parseDataType('int64')],
            launchTags: ['threadIdx.x', 'tir.use_dyn_shared_memory'],
            programmaticStreamSerialization: false,
          },
        ],
      },
    ],
    constants: [],
    constantUsers: [],
    launchesItself: false,
    lastErrorAddress: null,
  };
}

const vector = (length = kLength) => ({ dtype: 'float32', shape: [length] });
const route1Module = (path: string): PlanModule => {
  const source = new FileSource(path);
  const lastErrorAddress = localFunctionAddress(source, parseElf(source), 'cudaGetLastError');
  source.close();
  return { path, images: [], constants: [], constantUsers: [], launchesItself: true, lastErrorAddress };
};
const route1Plan = (functionName: string, module = route1Module(route1)): ExecutorPlan =>
  makePlan({ device: 2, tensors: [vector(), vector()], operators: [{ functionName, inputs: [0], outputs: [1] }], module });
/** entries: x, y0, outputs…; operators one after the other, each from x and y0. */
const route2Plan = (functions: readonly string[], module = route2Module()): ExecutorPlan =>
  makePlan({
    device: 2,
    tensors: [vector(), vector(), ...functions.map(() => vector())],
    operators: functions.map((functionName, i) => ({ functionName, inputs: [0, 1], outputs: [2 + i] })),
    module,
  });

async function withExecutor<T>(plan: ExecutorPlan, body: (executor: NativeExecutor) => Promise<T>): Promise<T> {
  const executor = await native().openExecutor(plan);
  try {
    return await body(executor);
  } finally {
    await executor.dispose();
  }
}
async function writeInputs(executor: NativeExecutor): Promise<void> {
  await executor.write(0, floatBytes(kX));
  await executor.write(1, floatBytes(kY0));
}
const readFloats = async (executor: NativeExecutor, entry: number): Promise<Float32Array> => new Float32Array(await executor.read(entry));

function expectClose(actual: Float32Array, expected: (i: number) => number): void {
  let wrong = 0;
  for (let i = 0; i < actual.length; ++i) {
    if (!(Math.abs(actual[i]! - expected(i)) <= 1e-5)) ++wrong;
  }
  expect(wrong).toBe(0);
}

describe.skipIf(kMissing !== null)('the runtime on a GPU', () => {
  beforeAll(() => {
    route1 = workshop.nvcc('route1.cu', 'route1.so', [
      '-std=c++17',
      '-shared',
      '-Xcompiler',
      '-fPIC',
      '-cudart',
      'static',
      '-gencode',
      'arch=compute_80,code=compute_80',
    ]);
    route2 = workshop.compile('route2_host.c');
    const [major] = native().devices()[0]!.computeCapability;
    ptx = readFileSync(workshop.nvcc('route2_kernels.cu', 'route2.ptx', ['-ptx', `-arch=${major >= 9 ? 'compute_90' : 'compute_80'}`]));
  });
  afterAll(() => workshop.remove());

  test('says what the device is and how it does', async () => {
    const [device] = native().devices();
    expect(device!.uuid).toMatch(/^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(device!.memoryBytes).toBeGreaterThan(2 ** 30);
    expect(device!.l2Bytes).toBeGreaterThan(2 ** 20);
    const state = native().deviceState(0);
    if (native().cudaStatus().nvml) {
      expect(state.smClockMHz).toBeGreaterThan(100);
      expect(state.throttleReasons).toBeInstanceOf(Array);
    }
    expect(() => native().deviceState(99)).toThrow(expect.objectContaining({ code: 'NO_DEVICE' }));
    expect((await rejection(native().openExecutor({ ...route1Plan('add_one'), deviceOrdinal: 99 }))).code).toBe('NO_DEVICE');
    const bytesPerSecond = await native().measureReadBandwidth(0, 1 << 30, 5);
    expect(bytesPerSecond).toBeGreaterThan(1e11);
    expect(bytesPerSecond).toBeLessThan(1e13);
  });

  describe.each(['float16', 'float32'])('what model.so leaves to cuDNN, in %s', (dtype) => {
    let calls: string;
    beforeAll(() => {
      calls = compileContribCalls(workshop);
    });
    const isHalf = dtype === 'float16';
    const product = (shape: readonly number[]): number => shape.reduce((total, extent) => total * extent, 1);
    /** Runs by stream and by graph on waves, which the formula gets as they are stored. */
    async function expectOutputs(
      functionName: string,
      shapes: readonly (readonly number[])[],
      formula: (...inputs: readonly (readonly number[])[]) => readonly number[],
    ): Promise<void> {
      const stored = shapes
        .slice(0, -1)
        .map((shape) => Array.from({ length: product(shape) }, (_, i) => (isHalf ? floatToHalf(Math.sin(i)) : Math.fround(Math.sin(i)))));
      const expected = formula(...stored.map((values) => (isHalf ? values.map(halfToFloat) : values)));
      await withExecutor(contribPlan(calls, functionName, dtype, shapes, 2), async (executor) => {
        const last = shapes.length - 1;
        for (const [i, values] of stored.entries()) {
          await executor.write(i, isHalf ? new Uint8Array(Uint16Array.from(values).buffer) : floatBytes(values));
        }
        await executor.run();
        expect(await executor.capture()).toMatchObject({ captured: true, kernelNodes: 1 });
        await executor.setBytes(last, 0xff);
        await executor.run();
        const bytes = await executor.read(last);
        const actual = isHalf ? Array.from(new Uint16Array(bytes), halfToFloat) : [...new Float32Array(bytes)];
        const allowed = isHalf ? 2 ** -10 : 1e-5;
        expect(actual.filter((value, i) => !(Math.abs(value - expected[i]!) <= allowed * (1 + Math.abs(expected[i]!))))).toEqual([]);
      });
    }
    test.each(kConvolutions)('a convolution: $name', (shape) =>
      expectOutputs(shape.name, [shape.x, shape.w, shape.y], (x, w) => convolve(shape, x!, w!)),
    );
    test.each(kSoftmaxes)('a softmax: $name', ({ name, shape, axis }) =>
      expectOutputs(name, [shape, shape], (x) => softmax(shape, axis, x!)),
    );
  });

  describe('route 1', () => {
    test('runs, is timed on its own stream, and says why it has no graph', async () => {
      await withExecutor(route1Plan('add_one'), async (executor) => {
        await executor.write(0, floatBytes(kX));
        await executor.setBytes(1, 0xff);
        await executor.run();
        expectClose(await readFloats(executor, 1), (i) => kX[i]! + 1);
        const capture = await executor.capture();
        expect(capture.captured).toBe(false);
        expect(capture.reason).toContain('legacy default stream');
        const error = await rejection(
          executor.measureSamples({ launch: 'graph', l2: 'hot', warmupMs: 0, minSamples: 1, maxSamples: 1, maxMs: 0 }, null),
        );
        expect(error.code).toBe('UNSUPPORTED');
        const paper = await executor.measurePaper({ launch: 'stream', number: 5, repeat: 3, minRepeatMs: 5 }, null);
        for (let i = 0; i < 3; ++i) expect(paper.valuesMs[i]! * paper.numbers[i]!).toBeGreaterThanOrEqual(5 - 1e-9);
        await executor.setBytes(1, 0xff);
        await executor.run(); // nothing was poisoned by the refusals
        expectClose(await readFloats(executor, 1), (i) => kX[i]! + 1);
      });
    });
    test('reports what a wrapper throws', async () => {
      await withExecutor(route1Plan('throws_it'), async (executor) => {
        const error = await rejection(executor.run());
        expect(error.code).toBe('OPERATOR');
        expect(error.message).toContain(`route1.cu:77: Check failed: n == ${kLength + 1}`);
      });
    });
    test('is loaded several times at once', async () => {
      const executors = await Promise.all([1, 2, 3].map(() => native().openExecutor(route1Plan('add_one'))));
      await Promise.all(executors.map((executor, i) => executor.write(0, floatBytes(kX.map((x) => x * i)))));
      await Promise.all(executors.map((executor) => executor.run()));
      for (const [i, executor] of executors.entries()) expectClose(await readFloats(executor, 1), (j) => Math.fround(kX[j]! * i) + 1);
      await Promise.all(executors.map((executor) => executor.dispose()));
    });
    test('without code for this GPU is an error, known by the runtime’s last error or by its outputs', async () => {
      const [major] = native().devices()[0]!.computeCapability;
      const other = major >= 12 ? '80' : '120';
      const flags = [
        '-std=c++17',
        '-shared',
        '-Xcompiler',
        '-fPIC',
        '-cudart',
        'static',
        '-gencode',
        `arch=compute_${other},code=sm_${other}`,
      ];
      const known = await withExecutor(route1Plan('add_one', route1Module(workshop.nvcc('route1.cu', 'other.so', flags))), (executor) =>
        rejection(executor.run()),
      );
      expect(known).toMatchObject({ code: 'WRONG_ARCHITECTURE', context: { operator: 'add_one', node: 'node0' } });
      const stripped = workshop.nvcc('route1.cu', 'other-stripped.so', [...flags, '-Xlinker', '-s']);
      expect(route1Module(stripped).lastErrorAddress).toBeNull();
      const unknown = await withExecutor(route1Plan('add_one', route1Module(stripped)), (executor) => rejection(executor.run()));
      expect(unknown).toMatchObject({ code: 'OPERATOR', message: expect.stringContaining('launched nothing') });
    });
    test('beside an image that nobody calls is timed and in order', async () => {
      const { images } = route2Module();
      for (const launchesItself of [true, false]) {
        const plan = route1Plan('add_one_slowly', { ...route1Module(route1), images, launchesItself });
        await withExecutor(plan, async (executor) => {
          await executor.write(0, floatBytes(kX));
          await executor.setBytes(1, 0xff);
          await executor.run();
          expectClose(await readFloats(executor, 1), (i) => kX[i]! + 1);
          const options = { launch: 'stream', l2: 'hot', warmupMs: 0, minSamples: 5, maxSamples: 5, maxMs: 0 } as const;
          const { gpuMs } = await executor.measureSamples(options, null);
          expect(Math.min(...gpuMs)).toBeGreaterThan(5);
          await executor.setBytes(1, 0xff);
          await executor.run();
          expectClose(await readFloats(executor, 1), (i) => kX[i]! + 1);
          expect((await executor.capture()).captured).toBe(false);
        });
      }
    });
    test.each([
      ['write_nowhere', 1, 'operator `write_nowhere`'],
      ['write_nowhere_later', 3, '`ladder verify` runs operator by operator'],
    ])('that loses the context says so, and who did it or how to find out, and the process can still end: %s', (name, runs, named) => {
      const addon = process.env['LADDER_ADDON'] ?? createRequire(import.meta.url).resolve('../../build/Release/ladder.node');
      const script = `const addon = require(${JSON.stringify(addon)});
        addon.openExecutor(${JSON.stringify(route1Plan(name))}).then(async (executor) => {
          for (let i = 1; i < ${runs}; ++i) await executor.run();
          const first = await executor.run().catch((error) => error);
          const second = await executor.run().catch((error) => error);
          await executor.dispose();
          console.log(JSON.stringify([first.code, first.message, second.code]));
        });`;
      const result = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 60_000 });
      const [code, message, again] = JSON.parse(result.stdout) as string[];
      expect([result.status, code, again]).toEqual([0, 'CUDA', 'CUDA']);
      expect(message).toContain('CUDA_ERROR_ILLEGAL_ADDRESS');
      expect(message).toContain('context is lost');
      expect(message).toContain(named);
    });
  });

  describe('route 2', () => {
    test('launches kernels with pointers, integers and floats', async () => {
      await withExecutor(route2Plan(['fused_scale_add']), async (executor) => {
        await writeInputs(executor);
        await executor.setBytes(2, 0xff);
        await executor.run();
        expectClose(await readFloats(executor, 2), (i) => 2 * kX[i]! + kY0[i]!);
      });
    });
    test('launches with more than 48 KiB of dynamic shared memory', async () => {
      const length = 20_000; // 80 kB
      const plan = makePlan({
        device: 2,
        tensors: [vector(length), vector(length)],
        operators: [{ functionName: 'fused_reverse', inputs: [0], outputs: [1] }],
        module: route2Module(),
      });
      await withExecutor(plan, async (executor) => {
        const values = Float32Array.from({ length }, (_, i) => i);
        await executor.write(0, floatBytes(values));
        await executor.run();
        expect(await readFloats(executor, 1)).toEqual(values.reverse());
      });
      const tooLong = makePlan({
        device: 2,
        tensors: [vector(10 ** 6), vector(10 ** 6)],
        operators: plan.operators,
        module: route2Module(),
      });
      const error = await withExecutor(tooLong, (executor) => rejection(executor.run()));
      expect(error.code).toBe('CUDA');
      expect(error.context).toMatchObject({ kernel: 'reverse', operator: 'fused_reverse', dynamicSharedBytes: 4 * 10 ** 6 });
    });
    test('is captured, and the replay computes', async () => {
      await withExecutor(route2Plan(['fused_scale_add', 'fused_twice']), async (executor) => {
        await writeInputs(executor);
        expect(await executor.capture()).toEqual({ captured: true, reason: null, kernelNodes: 3, programmaticEdges: 0 });
        await executor.setBytes(2, 0xff);
        await executor.setBytes(3, 0xff);
        const result = await executor.measureSamples(
          { launch: 'graph', l2: 'hot', warmupMs: 5, minSamples: 300, maxSamples: 300, maxMs: 0 },
          null,
        );
        expect(result.gpuMs).toHaveLength(300);
        expect(result.gpuMs.every((ms) => ms > 0 && ms < 10)).toBe(true);
        expectClose(await readFloats(executor, 2), (i) => 2 * kX[i]! + kY0[i]!);
        expectClose(await readFloats(executor, 3), (i) => 6 * kX[i]! + 4 * kY0[i]!);
        const cold = await executor.measureSamples(
          { launch: 'graph', l2: 'cold', warmupMs: 0, minSamples: 20, maxSamples: 20, maxMs: 0 },
          null,
        );
        expect(cold.gpuMs).toHaveLength(20);
        const paper = await executor.measurePaper({ launch: 'graph', number: 5, repeat: 2, minRepeatMs: 5 }, null);
        expect(paper.valuesMs.every((ms) => ms > 0)).toBe(true);
        const profile = await executor.profile(5, null);
        expect(profile.operatorMs).toHaveLength(10);
        expect(profile.operatorMs.every((ms) => ms > 0 && ms < 10)).toBe(true);
      });
    });
    test('launches programmatically where the device can', async () => {
      const [major] = native().devices()[0]!.computeCapability;
      await withExecutor(route2Plan(['fused_twice', 'fused_twice'], route2Module(true)), async (executor) => {
        await writeInputs(executor);
        await executor.run();
        expectClose(await readFloats(executor, 3), (i) => 6 * kX[i]! + 4 * kY0[i]!);
        const capture = await executor.capture();
        expect(capture).toMatchObject({ captured: true, kernelNodes: 4 });
        if (major >= 9) expect(capture.programmaticEdges).toBe(3);
        await executor.setBytes(3, 0xff);
        await executor.measureSamples({ launch: 'graph', l2: 'hot', warmupMs: 0, minSamples: 10, maxSamples: 10, maxMs: 0 }, null);
        expectClose(await readFloats(executor, 3), (i) => 6 * kX[i]! + 4 * kY0[i]!);
      });
    });
    test('is not captured where an operator launches nothing then', async () => {
      await withExecutor(route2Plan(['fused_scale_add', 'only_once']), async (executor) => {
        const capture = await executor.capture();
        expect(capture.captured).toBe(false);
        expect(capture.reason).toContain('`only_once`');
        await executor.run(); // the stream is usable
      });
    });
    test('with an operator that launches nothing is an error that names it', async () => {
      await withExecutor(route2Plan(['fused_scale_add', 'idle']), async (executor) => {
        const error = await rejection(executor.run());
        expect(error).toMatchObject({ code: 'OPERATOR', context: { operator: 'idle', node: 'node1' } });
        expect(error.message).toContain('launched nothing');
      });
    });
    test('contradicting its device code is an error', async () => {
      const module = route2Module();
      const [scale, reverse] = module.images[0]!.kernels;
      const withKernels = (...kernels: PlanModule['images'][0]['kernels'][number][]): PlanModule => ({
        ...module,
        images: [{ ...module.images[0]!, kernels }],
      });
      const fewer = await withExecutor(
        route2Plan(['fused_scale_add'], withKernels({ ...scale!, argumentTypes: scale!.argumentTypes.slice(1) }, reverse!)),
        (executor) => rejection(executor.run()),
      );
      expect(fewer.code).toBe('BAD_MODULE');
      expect(
        (await rejection(native().openExecutor(route2Plan(['fused_scale_add'], withKernels({ ...scale!, name: 'no_such_kernel' }))))).code,
      ).toBe('MISSING_SYMBOL');
      expect(
        (
          await rejection(
            native().openExecutor(route2Plan(['fused_scale_add'], withKernels({ ...scale!, launchTags: ['warpIdx.x', 'threadIdx.x'] }))),
          )
        ).code,
      ).toBe('BAD_MODULE');
      const absent = await withExecutor(route2Plan(['fused_scale_add'], withKernels(reverse!)), (executor) => rejection(executor.run()));
      expect(absent.code).toBe('MISSING_SYMBOL');
    });
    test('is verified without semantics, on the device', async () => {
      const uniform: Fill = { kind: 'uniform', low: -1, high: 1 };
      const [output] = await withExecutor(route2Plan(['fused_scale_add']), (executor) =>
        executor.verifyOperator(0, { seed: 3n, inputs: [uniform, uniform], maxColumns: 0, maxRows: 0 }),
      );
      expect(output).toMatchObject({ elements: kLength, unwritten: 0, nonFinite: 0, deterministic: true });
      const [idle] = await withExecutor(route2Plan(['idle']), (executor) =>
        executor.verifyOperator(0, { seed: 3n, inputs: [uniform, uniform], maxColumns: 0, maxRows: 0 }),
      );
      expect(idle).toMatchObject({ unwritten: kLength });
    });
    test('run() costs little beside the device’s work, and a small fill little in a warm process', async () => {
      await withExecutor(route2Plan(['fused_scale_add']), async (executor) => {
        await writeInputs(executor);
        for (let i = 0; i < 200; ++i) await executor.run();
        const times: number[] = [];
        for (let i = 0; i < 2000; ++i) {
          const started = performance.now();
          await executor.run();
          times.push(1000 * (performance.now() - started));
        }
        const median = times.sort((a, b) => a - b)[1000]!;
        console.log(`await run() of a kernel of some microseconds: median ${median.toFixed(1)} µs`);
        expect(median).toBeLessThan(60);
        await executor.setBytes(2, 0xff);
        await executor.run();
        expectClose(await readFloats(executor, 2), (i) => 2 * kX[i]! + kY0[i]!);
      });
      const parameters = makePlan({ device: 2, tensors: [{ dtype: 'float16', shape: [1 << 19] }], operators: [], module: null });
      await withExecutor(parameters, (executor) => executor.fill(0, { kind: 'uniform', low: 0, high: 1 }, 1n));
      await withExecutor(parameters, async (executor) => {
        const started = performance.now();
        await executor.fill(0, { kind: 'uniform', low: 0, high: 1 }, 2n);
        const ms = performance.now() - started;
        console.log(`1 MiB of parameters filled in ${ms.toFixed(3)} ms`);
        expect(ms).toBeLessThan(2);
      });
    });
    test("takes another executor's tensor where it lies, and its own", async () => {
      const plan = makePlan({ device: 2, tensors: [vector(), vector()], operators: [], module: null });
      await withExecutor(plan, (first) =>
        withExecutor(plan, async (second) => {
          await first.write(0, new Uint8Array(kX.buffer));
          // One turn: what is written after the copy does not change what was copied.
          await Promise.all([second.copyFrom(1, first, 0), first.write(0, new Uint8Array(kY0.buffer)), second.copyFrom(0, second, 1)]);
          for (const entry of [0, 1]) expectClose(await readFloats(second, entry), (i) => kX[i]!);
          expectClose(await readFloats(first, 0), (i) => kY0[i]!);
        }),
      );
    });
    test('takes a constant from beyond 4 GB of a file to the device, and leaves the others', async () => {
      const object = workshop.compile(
        'route2_host.c',
        [new URL('../fixtures/native/blob_symbol.c', import.meta.url).pathname, '-Wl,--build-id'],
        'host',
      );
      const path = join(workshop.folder, 'big.so');
      const fileOffset = writeBigModule(object, path, 5_000_000_000, 'fused_add_constant', kY0);
      const dtype = parseDataType('float32');
      const module: PlanModule = {
        ...route2Module(),
        path,
        constants: [
          { name: 'big', shape: [5_000_000_000], dtype: parseDataType('uint8'), fileOffset: 8192, sizeBytes: 5_000_000_000 },
          { name: 'a', shape: [kLength], dtype, fileOffset, sizeBytes: 4 * kLength },
        ],
        constantUsers: [{ symbol: 'fused_add_constant', constants: ['a'] }],
      };
      const operators = [{ functionName: 'fused_add_constant', inputs: [0], outputs: [1] }];
      const before = native().allocatedBytes().device;
      await withExecutor(makePlan({ device: 2, tensors: [vector(), vector()], operators, module }), async (executor) => {
        expect(native().allocatedBytes().device - before).toBeLessThan(1 << 20);
        await executor.write(0, floatBytes(kX));
        await executor.run();
        expectClose(await readFloats(executor, 1), (i) => kX[i]! + kY0[i]!);
      });
    });
    test('takes copies between host and device', async () => {
      const plan = makePlan({
        device: 2,
        tensors: [vector(), vector(), vector(), vector(), vector()],
        operators: [
          { functionName: '__copy', kind: 'copy', inputs: [0], outputs: [1] },
          { functionName: 'fused_scale_add', inputs: [1, 2], outputs: [3] },
          { functionName: '__copy', kind: 'copy', inputs: [3], outputs: [4] },
        ],
        module: route2Module(),
      });
      const onHost = (index: number): boolean => index === 0 || index === 4;
      const mixed: ExecutorPlan = { ...plan, storages: plan.storages.map((storage, i) => ({ ...storage, deviceType: onHost(i) ? 1 : 2 })) };
      await withExecutor(mixed, async (executor) => {
        await executor.write(0, floatBytes(kX));
        await executor.write(2, floatBytes(kY0));
        await executor.run();
        expectClose(await readFloats(executor, 4), (i) => 2 * kX[i]! + kY0[i]!);
        expect((await executor.capture()).reason).toContain('CPU');
      });
    });
    test('of another GPU, or damaged, is refused with a remedy', async () => {
      const other = native().devices()[0]!.computeCapability[0] >= 12 ? 'sm_80' : 'sm_120';
      const cubin = readFileSync(workshop.nvcc('route2_kernels.cu', 'other.cubin', ['-cubin', `-arch=${other}`]));
      const wrong = await rejection(native().openExecutor(route2Plan(['fused_scale_add'], route2Module(false, cubin, 'cubin'))));
      expect(wrong.code).toBe('WRONG_ARCHITECTURE');
      expect(wrong.message).toContain('rebuild');
      const broken = new TextEncoder().encode(new TextDecoder().decode(ptx).replace(/fma\.rn\.f32/, 'fma.nonsense.f32'));
      const invalid = await rejection(native().openExecutor(route2Plan(['fused_scale_add'], route2Module(false, broken))));
      expect(invalid.code).toBe('WRONG_ARCHITECTURE');
      expect(invalid.message).toContain('nonsense');
    });
  });

  const kFillTypes = ['float16', 'bfloat16', 'float32', 'int8', 'uint8', 'int16', 'int32', 'int64', 'int4', 'bool'];
  test.each(kFillTypes)('fills %s as the host does', async (dtype) => {
    await native().measureReadBandwidth(0, 1 << 20, 1); // compiles the kernels: until then small fills are the host's
    const length = 100_003; // no multiple of anything
    const fills: Fill[] = [
      { kind: 'bits' },
      { kind: 'code', base: 7, mask: 63, signed: true },
      { kind: 'code', base: 250, mask: 127, signed: false },
    ];
    if (!['int4', 'bool'].includes(dtype)) fills.push({ kind: 'uniform', low: -3.7, high: 11.3 }, { kind: 'uniform', low: 0, high: 1e-3 });
    const plan = makePlan({ device: 2, tensors: [{ dtype, shape: [length] }], operators: [], module: null });
    await withExecutor(plan, async (executor) => {
      for (const fill of fills) {
        await executor.setBytes(0, 0xcc);
        await executor.fill(0, fill, 0x123456789abcdef0n);
        const expected = new Uint8Array(plan.entries[0]!.sizeBytes);
        native().fillBytes(fill, 0x123456789abcdef0n, parseDataType(dtype), 0, expected);
        expect(Buffer.compare(Buffer.from(await executor.read(0)), expected), JSON.stringify(fill)).toBe(0);
      }
    });
  });
  test('refuses a fill that is not defined', async () => {
    const plan = makePlan({ device: 2, tensors: [{ dtype: 'float64', shape: [4] }], operators: [], module: null });
    expect((await withExecutor(plan, (executor) => rejection(executor.fill(0, { kind: 'uniform', low: 0, high: 1 }, 1n)))).code).toBe(
      'UNSUPPORTED',
    );
  });

  test('reads parameters from a file, larger than the staging buffers', async () => {
    const path = join(workshop.folder, 'graph.params');
    const bytes = new Uint8Array(40_000_003);
    native().fillBytes({ kind: 'bits' }, 5n, parseDataType('uint8'), 0, bytes);
    writeFileSync(path, bytes);
    const plan = makePlan({
      device: 2,
      tensors: [
        { dtype: 'uint8', shape: [40_000_000] },
        { dtype: 'uint8', shape: [2] },
      ],
      operators: [],
      module: null,
    });
    await withExecutor(plan, async (executor) => {
      await executor.loadParams(path, [
        { entry: 1, fileOffset: 0, sizeBytes: 2 },
        { entry: 0, fileOffset: 3, sizeBytes: 40_000_000 },
      ]);
      expect(Buffer.compare(Buffer.from(await executor.read(0)), bytes.subarray(3))).toBe(0);
      expect(new Uint8Array(await executor.read(1))).toEqual(bytes.subarray(0, 2));
    });
  });

  /** Free device memory, as the refusal of an impossible plan reports it. */
  async function freeBytes(): Promise<number> {
    const error = await rejection(
      native().openExecutor(makePlan({ device: 2, tensors: [{ dtype: 'uint8', shape: [2 ** 45] }], operators: [], module: null })),
    );
    expect(error.code).toBe('OUT_OF_MEMORY');
    return Number(error.context['freeBytes']);
  }
  test('refuses a plan that the memory does not hold, with the numbers, and leaks nothing', async () => {
    const before = native().allocatedBytes();
    const error = await rejection(
      native().openExecutor(
        makePlan({
          device: 2,
          tensors: [
            { dtype: 'uint8', shape: [2 ** 20] },
            { dtype: 'uint8', shape: [2 ** 45] },
          ],
          operators: [],
          module: null,
        }),
      ),
    );
    expect(error.code).toBe('OUT_OF_MEMORY');
    expect(error.message).toContain('32.0 TiB');
    expect(error.message).toContain('are free');
    expect(native().allocatedBytes()).toEqual(before);
  });
  test('leaks nothing over 50 cycles of both routes', async () => {
    const cycle = async (): Promise<void> => {
      await withExecutor(route1Plan('add_one'), (executor) => executor.run());
      await withExecutor(route2Plan(['fused_twice']), async (executor) => {
        await executor.fill(0, { kind: 'bits' }, 1n);
        await executor.capture();
        await executor.measureSamples({ launch: 'graph', l2: 'cold', warmupMs: 0, minSamples: 2, maxSamples: 2, maxMs: 0 }, null);
      });
    };
    await cycle();
    const before = { allocated: native().allocatedBytes(), free: await freeBytes() };
    for (let i = 0; i < 50; ++i) await cycle();
    expect(native().allocatedBytes()).toEqual(before.allocated);
    expect(before.free - (await freeBytes())).toBeLessThan(64 * 2 ** 20);
  });
});

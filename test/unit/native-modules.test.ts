// model.so on the CPU: TVM's ABI in both directions, errors that cross it, symbols, private copies. No GPU.
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { native, type ExecutorPlan, type NativeExecutor, type PlanModule } from '../../lib/native.js';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { LadderError } from '../../lib/errors.js';
import { compileContribCalls, contribPlan, kConvolutions } from '../fixtures/native/contrib.js';
import { floatBytes, makePlan, rejection, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
let cpu: string;
let pointers: string;
let wrapped: string;

beforeAll(() => {
  cpu = workshop.compile('cpu_operators.c');
  pointers = workshop.compile('pointer_style.c');
  wrapped = workshop.compile('cpp_operators.cc');
});
afterAll(() => workshop.remove());

const kInput = [1.5, -2, 3.25, 1e6];

/** x float32 [4] → y float32 [4] by one operator. */
function planOf(functionName: string, module: string | PlanModule): ExecutorPlan {
  return makePlan({
    tensors: [
      { dtype: 'float32', shape: [4] },
      { dtype: 'float32', shape: [4] },
    ],
    operators: [{ functionName, inputs: [0], outputs: [1] }],
    module,
  });
}

async function withExecutor<T>(plan: ExecutorPlan, body: (executor: NativeExecutor) => Promise<T>): Promise<T> {
  const executor = await native().openExecutor(plan);
  try {
    return await body(executor);
  } finally {
    await executor.dispose();
  }
}

async function runOn(executor: NativeExecutor, values: readonly number[] = kInput): Promise<number[]> {
  await executor.write(0, floatBytes(values));
  await executor.setBytes(1, 0xff);
  await executor.run();
  return [...new Float32Array(await executor.read(1))];
}

/** Runs an operator that writes int64 facts. */
async function factsOf(functionName: string, length: number, module = cpu): Promise<number[]> {
  const plan = makePlan({
    tensors: [
      { dtype: 'float32', shape: [2, 3] },
      { dtype: 'int64', shape: [length] },
    ],
    operators: [{ functionName, inputs: [0], outputs: [1] }],
    module,
  });
  return withExecutor(plan, async (executor) => {
    await executor.run();
    return [...new BigInt64Array(await executor.read(1))].map(Number);
  });
}

describe('operators', () => {
  test('run, with the runtime as undefined symbols', async () => {
    expect(await withExecutor(planOf('add_one', cpu), runOn)).toEqual(kInput.map((x) => x + 1));
  });
  test('run, with the runtime in variables', async () => {
    expect(await withExecutor(planOf('double_it', pointers), runOn)).toEqual(kInput.map((x) => 2 * x));
    expect(await withExecutor(planOf('doubles_by_name', pointers), runOn)).toEqual(kInput.map((x) => 2 * x));
  });
  test('run, in the style of Ladder’s wrappers', async () => {
    expect(await withExecutor(planOf('halve_it', wrapped), runOn)).toEqual(kInput.map((x) => x / 2));
  });
  test('call others of their object by name', async () => {
    expect(await withExecutor(planOf('calls_by_name', cpu), runOn)).toEqual(kInput.map((x) => x + 1));
  });
  test('are given dense tensors of the plan’s shapes', async () => {
    expect(await factsOf('describe', 8)).toEqual([2, 2, 2, 32, 1, 0, 2, 7]);
  });
  test('are given 1-D tensors when flattened', async () => {
    const plan = makePlan({
      tensors: [
        { dtype: 'float32', shape: [2, 3] },
        { dtype: 'int64', shape: [8] },
      ],
      operators: [{ functionName: 'describe', inputs: [0], outputs: [1], flatten: true }],
      module: cpu,
    });
    const facts = await withExecutor(plan, async (executor) => {
      await executor.run();
      return [...new BigInt64Array(await executor.read(1))].map(Number);
    });
    expect(facts.slice(0, 2)).toEqual([1, 6]);
  });
  test('chain through shared storages, with copies', async () => {
    // x → +1 → copy → +1, the last result in the storage of the first intermediate.
    const tensor = { dtype: 'float32', shape: [4] };
    const plan = makePlan({
      tensors: [tensor, { ...tensor, storage: 1 }, { ...tensor, storage: 2 }, { ...tensor, storage: 1 }],
      operators: [
        { functionName: 'add_one', inputs: [0], outputs: [1] },
        { functionName: '__copy', kind: 'copy', inputs: [1], outputs: [2] },
        { functionName: 'add_one', inputs: [2], outputs: [3] },
      ],
      module: cpu,
    });
    const result = await withExecutor(plan, async (executor) => {
      await executor.write(0, floatBytes(kInput));
      await executor.run();
      return [...new Float32Array(await executor.read(3))];
    });
    expect(result).toEqual(kInput.map((x) => x + 2));
  });
  test('reuse workspaces at the same addresses', async () => {
    const [large, small, largeAgain, smallAgain] = await factsOf('workspaces', 4);
    expect(large).not.toBe(small);
    expect(largeAgain).toBe(large);
    expect(smallAgain).toBe(small);
  });
  test('run parallel regions with barriers', async () => {
    const facts = await factsOf('parallel', 5);
    expect(facts).toEqual([4, 2, 2, 2, 2]);
  });
  test('get constants of the module at load', async () => {
    const dtype = parseDataType('float32');
    // Constants lie in the object's file.
    const path = join(workshop.folder, 'with-constants.so');
    const fileOffset = statSync(cpu).size;
    writeFileSync(path, Buffer.concat([readFileSync(cpu), floatBytes([1, 2, 4])]));
    const module: PlanModule = {
      path,
      images: [],
      constants: [
        { name: 'a', shape: [2], dtype, fileOffset, sizeBytes: 8 },
        { name: 'b', shape: [1], dtype, fileOffset: fileOffset + 8, sizeBytes: 4 },
        { name: 'unused', shape: [1], dtype, fileOffset: 2 ** 40, sizeBytes: 4 },
      ],
      constantUsers: [
        { symbol: 'uses_constants', constants: ['a', 'b'] },
        { symbol: 'add_one', constants: ['unused'] },
      ],
      launchesItself: false,
      lastErrorAddress: null,
    };
    expect(await withExecutor(planOf('uses_constants', module), runOn)).toEqual(kInput.map((x) => x + 7));
    const beyond = [{ ...module.constants[0]!, fileOffset: fileOffset + 8 }, module.constants[1]!];
    expect((await rejection(native().openExecutor(planOf('uses_constants', { ...module, constants: beyond })))).code).toBe('BAD_MODULE');
    const error = await rejection(native().openExecutor(planOf('uses_constants', { ...module, constants: [] })));
    expect(error.code).toBe('BAD_MODULE');
    expect(error.message).toContain('`a`');
  });
});

describe('TVM’s C interface', () => {
  let api: string;
  beforeAll(() => {
    api = workshop.compile('tvm_api.c');
  });
  test('converts binary16 for processors that cannot', async () => {
    const values = [1 / 3, -65504, 1e-7, 70000];
    const expected = values.map((value) => halfToFloat(floatToHalf(Math.fround(value))));
    expect(await withExecutor(planOf('round_to_half', api), (executor) => runOn(executor, values))).toEqual(expected);
  });
  test('allocates tensors and memory, at the same place in each run', async () => {
    await withExecutor(planOf('add_by_allocated', api), async (executor) => {
      expect(await runOn(executor)).toEqual([0, ...kInput.slice(1).map((x) => x + 1)]);
      expect(await runOn(executor)).toEqual([1, ...kInput.slice(1).map((x) => x + 1)]);
    });
    const error = await withExecutor(planOf('asks_for_too_much_alignment', api), (executor) => rejection(executor.run()));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('aligned to 1048576') });
  });
  test('finds global functions, and none without an error', async () => {
    expect((await withExecutor(planOf('finds_global', api), (executor) => runOn(executor))).slice(0, 2)).toEqual([1, 1]);
    expect(native().globalFunctions()).toContain('runtime.GetDeviceAttr');
  });
});

describe('errors', () => {
  const failureOf = (functionName: string, module = cpu) =>
    withExecutor(planOf(functionName, module), (executor) => rejection(executor.run()));

  test('of an operator carry its text, name, node and shapes', async () => {
    const error = await failureOf('fails');
    expect(error).toBeInstanceOf(LadderError);
    expect(error.code).toBe('OPERATOR');
    expect(error.message).toContain('the 42nd element is missing');
    expect(error.context).toMatchObject({ operator: 'fails', node: 'node0', shapes: 'float32[4] -> float32[4]', status: -1 });
  });
  test('without a text say so', async () => {
    await failureOf('fails'); // its text must not be taken for the next one's
    const error = await failureOf('fails_silently');
    expect(error.code).toBe('OPERATOR');
    expect(error.message).toContain('status 7');
    expect(error.message).toContain('no message');
  });
  test('thrown through the log symbols of C++ objects', async () => {
    const error = await failureOf('throws_it', wrapped);
    expect(error.code).toBe('OPERATOR');
    expect(error.message).toContain('cpp_operators.cc:1234: Check failed: m == 16');
  });
  test('set through the loader’s variable', async () => {
    expect((await failureOf('fails', pointers)).message).toContain('set through the variable');
  });
  test('of a function called by name', async () => {
    const error = await failureOf('calls_failing');
    expect(error.code).toBe('OPERATOR');
    expect(error.message).toContain('the 42nd element is missing');
  });
  test('of a parallel task', async () => {
    expect((await failureOf('parallel_fails')).message).toContain('the last task failed');
  });
  test('for functions that nobody provides', async () => {
    for (const [name, wanted] of [
      ['calls_missing', 'no.such.function'],
      ['calls_libc', 'strlen'],
    ] as const) {
      const error = await failureOf(name);
      expect(error.code).toBe('MISSING_SYMBOL');
      expect(error.message).toContain(wanted);
    }
  });
  test('for what cuDNN computes, on tensors that are on no GPU', async () => {
    const shape = kConvolutions[0]!;
    const plan = contribPlan(compileContribCalls(workshop), shape.name, 'float32', [shape.x, shape.w, shape.y], 1);
    const error = await withExecutor(plan, (executor) => rejection(executor.run()));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringMatching(/conv2d\.forward.*not on a GPU/) });
  });
  test('for memory that is not a workspace', async () => {
    expect((await failureOf('frees_foreign_workspace')).code).toBe('INTERNAL');
  });
  test('leave the executor usable', async () => {
    const tensor = { dtype: 'float32', shape: [4] };
    const plan = makePlan({
      tensors: [tensor, tensor],
      operators: [
        { functionName: 'fails', inputs: [0], outputs: [1] },
        { functionName: 'add_one', inputs: [0], outputs: [1] },
      ],
      module: cpu,
    });
    await withExecutor(plan, async (executor) => {
      await executor.write(0, floatBytes(kInput));
      expect((await rejection(executor.run())).code).toBe('OPERATOR');
      await executor.runOperator(1);
      expect([...new Float32Array(await executor.read(1))]).toEqual(kInput.map((x) => x + 1));
    });
  });
});

describe('loading', () => {
  test('names every symbol that the process lacks', async () => {
    const error = await rejection(native().openExecutor(planOf('add_one', workshop.compile('missing_symbols.c'))));
    expect(error.code).toBe('MISSING_SYMBOL');
    expect(error.context['symbols']).toBe('tvm_symbol_of_another_runtime, another_absent_symbol');
  });
  test('names an operator that model.so lacks', async () => {
    for (const name of ['subtract_one', 'strlen']) {
      const error = await rejection(native().openExecutor(planOf(name, cpu)));
      expect(error.code).toBe('MISSING_SYMBOL');
      expect(error.message).toContain(`\`${name}\``);
    }
  });
  test('refuses what is no shared object', async () => {
    for (const [path, code] of [
      ['/no/such/model.so', 'IO'],
      [new URL(import.meta.url).pathname, 'LOAD_FAILED'],
    ] as const) {
      const error = await rejection(native().openExecutor(planOf('add_one', path)));
      expect(error.code).toBe(code);
      expect(error.message).toContain(path);
    }
  });
  test('refuses an object that is cut short, at any place that the linker would map, and what is no regular file', async () => {
    const whole = readFileSync(cpu);
    const path = join(workshop.folder, 'cut.so');
    for (const length of [70, 1000, 4096, 9000, Math.floor(whole.length / 2)]) {
      writeFileSync(path, whole.subarray(0, length));
      const error = await rejection(native().openExecutor(planOf('add_one', path)));
      expect([error.code, error.message]).toEqual(['LOAD_FAILED', expect.stringMatching(/cut short/)]);
    }
    const pipe = join(workshop.folder, 'pipe.so');
    workshop.execute('mkfifo', [pipe]);
    for (const special of [pipe, '/dev/zero', workshop.folder]) {
      const error = await rejection(native().openExecutor(planOf('add_one', special)));
      expect([error.code, error.message]).toEqual(['IO', expect.stringContaining('no regular file')]);
    }
    const plan = makePlan({ tensors: [{ dtype: 'uint8', shape: [4] }], operators: [], module: null });
    await withExecutor(plan, async (executor) => {
      expect((await rejection(executor.loadParams(pipe, [{ entry: 0, fileOffset: 0, sizeBytes: 4 }]))).code).toBe('IO');
    });
  });
  test('keeps two executors of one file apart', async () => {
    const plan = makePlan({
      tensors: [
        { dtype: 'float32', shape: [1] },
        { dtype: 'int64', shape: [2] },
      ],
      operators: [{ functionName: 'own_state', inputs: [0], outputs: [1] }],
      module: cpu,
    });
    const executors = await Promise.all([1, 2, 3].map(() => native().openExecutor(plan)));
    await Promise.all(executors.map((executor) => executor.run()));
    const states = await Promise.all(executors.map(async (executor) => [...new BigInt64Array(await executor.read(1))]));
    expect(new Set(states.map(([context]) => context)).size).toBe(3);
    expect(states.map(([, calls]) => calls)).toEqual([1n, 1n, 1n]);
    await executors[0]!.dispose();
    await executors[1]!.run(); // the others' code is still there
    await Promise.all(executors.map((executor) => executor.dispose()));
  });
  test('starts afresh when a file is loaded again after disposal', async () => {
    for (let i = 0; i < 3; ++i) {
      expect(await withExecutor(planOf('calls_by_name', cpu), runOn)).toEqual(kInput.map((x) => x + 1));
      expect(await withExecutor(planOf('halve_it', wrapped), runOn)).toEqual(kInput.map((x) => x / 2));
    }
  });
});

describe('plans', () => {
  const good = () => planOf('add_one', cpu);
  const broken: readonly [string, (plan: ExecutorPlan) => unknown, string][] = [
    ['a storage index', (p) => ({ ...p, entries: [{ ...p.entries[0], storage: 9 }, p.entries[1]] }), 'entries[0].storage'],
    ['a size beyond the storage', (p) => ({ ...p, storages: [{ ...p.storages[0], sizeBytes: 8 }, p.storages[1]] }), 'entries[0].sizeBytes'],
    ['a size that is not the shape’s', (p) => ({ ...p, entries: [{ ...p.entries[0], shape: [5] }, p.entries[1]] }), 'entries[0].sizeBytes'],
    [
      'a shape that overflows',
      (p) => ({ ...p, entries: [{ ...p.entries[0], shape: [2 ** 40, 2 ** 40] }, p.entries[1]] }),
      'entries[0].shape',
    ],
    ['a negative shape', (p) => ({ ...p, entries: [{ ...p.entries[0], shape: [-4] }, p.entries[1]] }), 'shape[0]'],
    ['an operator’s entry', (p) => ({ ...p, operators: [{ ...p.operators[0], inputs: [2] }] }), 'operators[0].inputs'],
    ['an operator’s kind', (p) => ({ ...p, operators: [{ ...p.operators[0], kind: 'magic' }] }), 'magic'],
    ['no module', (p) => ({ ...p, module: null }), 'operators[0].kind'],
    ['a reference operator without a program', (p) => ({ ...p, operators: [{ ...p.operators[0], kind: 'reference' }] }), 'program'],
    [
      'a device storage on the CPU',
      (p) => ({ ...p, storages: [{ ...p.storages[0], deviceType: 2 }, p.storages[1]] }),
      'storages[0].deviceType',
    ],
    ['a device type', (p) => ({ ...p, deviceType: 3 }), 'deviceType'],
    ['a path with a NUL', (p) => ({ ...p, module: { ...p.module, path: 'a\0b' } }), 'NUL'],
    ['nothing', () => null, 'plan'],
  ];
  test.each(broken)('with %s are refused', async (_what, change, wanted) => {
    const error = await rejection(native().openExecutor(change(good()) as ExecutorPlan));
    expect(error.code).toBe('BAD_ARGUMENT');
    expect(error.message).toContain(wanted);
  });
  test('for more memory than there is are refused with the numbers', async () => {
    const plan = makePlan({ tensors: [{ dtype: 'float32', shape: [2 ** 44] }], operators: [], module: null });
    const before = native().allocatedBytes();
    const error = await rejection(native().openExecutor(plan));
    expect(error.code).toBe('OUT_OF_MEMORY');
    expect(error.message).toContain('64.0 TiB');
    expect(error.context['freeBytes']).toBeGreaterThan(0);
    expect(native().allocatedBytes()).toEqual(before);
  });
  test('for a GPU say what is missing where there is none', async () => {
    if (native().cudaStatus().available) return;
    const error = await rejection(native().openExecutor({ ...good(), deviceType: 2 }));
    expect(error.code).toBe('NO_DRIVER');
    expect(error.message).toMatch(/libcuda\.so\.1|cuInit/);
    expect(error.message).toContain('--device cpu');
    expect(native().devices()).toEqual([]);
    expect(() => native().deviceState(0)).toThrow(expect.objectContaining({ code: 'NO_DRIVER' }));
    expect((await rejection(native().measureReadBandwidth(0, 1024, 1))).code).toBe('NO_DRIVER');
  });
});

// Checkpoints of other makers, compiled for the CPU with the C compiler: they run, are timed and verified without a
// manifest, and what is wrong with them is said with a remedy.
import { copyFile, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { serialiseGraph, type OperatorDescription } from '../../lib/artifact/graph-writer.js';
import { writeParams } from '../../lib/artifact/params.js';
import { renderVerify } from '../../lib/cli/verify.js';
import { LadderError, type Progress, inspectPrebuilt, loadPrebuilt, runPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { compileContribCalls } from '../fixtures/native/contrib.js';
import { hasCommand, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
afterAll(() => workshop.remove());
let operators: string;
beforeAll(() => {
  operators = workshop.compile('cpu_operators.c');
});

const float = parseDataType('float32');
const kLength = 64;

/** A checkpoint whose operators follow one another, each float32 [64] → float32 [64]. */
async function checkpoint(
  name: string,
  functions: readonly string[],
  options: { readonly object?: string; readonly params?: Float32Array; readonly deviceType?: 1 | 2 } = {},
): Promise<string> {
  const folder = join(workshop.folder, 'foreign', name);
  await mkdir(folder, { recursive: true });
  const tensor = (tensorName: string): { name: string; shape: number[]; dtype: string } => ({
    name: tensorName,
    shape: [kLength],
    dtype: 'float32',
  });
  const nodes = functions.map(
    (functionName, i): OperatorDescription => ({
      name: `op${i}`,
      functionName,
      inputs: [i === 0 ? 'data' : `y${i - 1}`],
      outputs: [tensor(`y${i}`)],
    }),
  );
  await writeFile(
    join(folder, 'graph.json'),
    serialiseGraph({
      inputs: [tensor('data')],
      operators: nodes,
      outputs: [`y${functions.length - 1}`],
      deviceType: options.deviceType ?? 1,
    }),
  );
  if (options.object !== '') await copyFile(options.object ?? operators, join(folder, 'model.so'));
  if (options.params)
    await writeParams(join(folder, 'graph.params'), [
      { name: 'data', dtype: float, shape: [kLength], chunks: [new Uint8Array(options.params.buffer)] },
    ]);
  return folder;
}

async function errorOf(task: Promise<unknown>): Promise<LadderError> {
  const error = await task.then(
    () => new Error('expected an error'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof LadderError)) throw error;
  return error;
}

const quick = { warmupMs: 0, minSamples: 2, maxSamples: 2 };

describe('graph.params of another maker', () => {
  const tensor = (name: string): { name: string; shape: number[]; dtype: string } => ({ name, shape: [kLength], dtype: 'float32' });
  const stored = (name: string, value: number) => ({
    name,
    dtype: float,
    shape: [kLength],
    chunks: [new Uint8Array(new Float32Array(kLength).fill(value).buffer)],
  });
  /** Two parameters, of which each operator reads one. */
  const twoParameters = async (name: string, params: readonly ReturnType<typeof stored>[]): Promise<string> => {
    const folder = join(workshop.folder, 'foreign', name);
    await mkdir(folder, { recursive: true });
    const outputs = ['y0', 'y1'];
    const graph = serialiseGraph({
      inputs: ['p0', 'p1'].map(tensor),
      operators: outputs.map((y, i) => ({ name: `op${i}`, functionName: 'add_one', inputs: [`p${i}`], outputs: [tensor(y)] })),
      outputs,
      deviceType: 1,
    });
    await writeFile(join(folder, 'graph.json'), graph);
    await copyFile(operators, join(folder, 'model.so'));
    await writeParams(join(folder, 'graph.params'), params);
    return folder;
  };

  it('with a tensor too many: skipped, as TVM does, and said; the weights are the file’s', async () => {
    const folder = await twoParameters('too-many', [stored('stray', 9), stored('p0', 1), stored('p1', 2)]);
    const layer = await loadPrebuilt(folder);
    expect(layer).toMatchObject({ weights: 'file', warnings: [expect.stringMatching(/holds "stray", which the graph lacks/)] });
    await layer.run();
    expect([(await layer.getOutput(0))[0], (await layer.getOutput(1))[0]]).toEqual([2, 3]);
    await layer.dispose();
    const { structure, passed } = await verifyPrebuilt(folder);
    expect([passed, structure.find(({ name }) => name === 'graph.params')?.detail]).toEqual([
      true,
      expect.stringMatching(/^2 tensors, .*holds "stray", which the graph lacks: skipped/),
    ]);
  });

  it('with one too few: random in its place, and no "weights: file"', async () => {
    const folder = await twoParameters('too-few', [stored('p1', 2)]);
    const layer = await loadPrebuilt(folder);
    expect(layer.weights).toBe('fake');
    expect(layer.warnings).toEqual([
      'graph.params lacks "p0": filled with random values',
      expect.stringMatching(/^fake weights: .* what some of them are/),
    ]);
    await layer.dispose();
    expect((await inspectPrebuilt(folder)).problems).toMatchObject([
      { code: 'MISSING_PARAMETER', message: expect.stringMatching(/"p0"/) as string },
    ]);
  });
});

describe('a foreign checkpoint on the CPU', () => {
  it('runs on what it is given', async () => {
    const layer = await loadPrebuilt(await checkpoint('plus-two', ['add_one', 'add_one']));
    expect(layer).toMatchObject({
      weights: 'fake',
      usesReference: false,
      inputNames: ['data'],
      device: { kind: 'cpu' },
      case: { model: 'plus-two', format: 'unknown' },
    });
    expect(layer.warnings.join()).toMatch(/fake weights/);
    const x = Float32Array.from({ length: kLength }, (_, i) => Math.fround(Math.cos(i)));
    await layer.setInput('data', x);
    await layer.run();
    expect(await layer.getOutput(0)).toEqual(x.map((value) => Math.fround(Math.fround(value + 1) + 1)));
    await layer.dispose();
  });

  it('is filled with random values, by the seed, unless graph.params holds them', async () => {
    const path = await checkpoint('fills', ['add_one']);
    const outputs: Float32Array[] = [];
    for (const seed of [0, 0, 1]) {
      const layer = await loadPrebuilt(path, { seed });
      await layer.run();
      outputs.push(await layer.getOutput(0, { as: 'float32' }));
      await layer.dispose();
    }
    expect(outputs[0]).toEqual(outputs[1]);
    expect(outputs[0]).not.toEqual(outputs[2]);
    expect(new Set(outputs[0]).size).toBeGreaterThan(kLength / 2);

    const values = Float32Array.from({ length: kLength }, (_, i) => i);
    const stored = await loadPrebuilt(await checkpoint('stored', ['add_one'], { params: values }));
    expect(stored).toMatchObject({ weights: 'file', inputNames: [] });
    await stored.run();
    expect(await stored.getOutput(0)).toEqual(values.map((value) => value + 1));
    await stored.dispose();
  });

  it('is timed, and the result says that the weights are fake', async () => {
    const result = await runPrebuilt(await checkpoint('slow', ['slow_add_one']), quick);
    expect(result).toMatchObject({ computedBy: 'model.so', weights: 'fake', clock: 'cpu-host', roofline: null });
    expect(result.latencyMs).toBeGreaterThanOrEqual(10);
    expect(result.warnings.join()).toMatch(/fake weights/);
  });

  it('is verified as far as that needs no semantics', async () => {
    const report = await verifyPrebuilt(await checkpoint('sound', ['add_one', 'add_one']));
    expect(report).toMatchObject({ passed: true, kind: 'structural', endToEnd: [{ passed: true, bitEqual: true, relativeL2: null }] });
    expect(report.operators).toMatchObject([{ passed: true, compared: 0, tolerance: null, deterministic: true }, { passed: true }]);
  });

  it('fails verification where elements are never written', async () => {
    const report = await verifyPrebuilt(await checkpoint('half', ['writes_half']));
    expect(report.passed).toBe(false);
    expect(report.operators[0]!.failures.join()).toBe(`${kLength / 2} of ${kLength} elements were never written`);
  });

  it('where fake weights overflow, says that, and no mismatch', async () => {
    const path = await checkpoint('overflow', ['divides_by_zero']);
    const report = await verifyPrebuilt(path);
    expect(report.passed).toBe(true);
    const [verdict] = report.operators;
    expect(verdict).toMatchObject({ passed: true, failures: [], terms: ['written, repeatable; what it computes is not known'] });
    expect(verdict!.remarks.join()).toMatch(/^fake weights overflow: 16 of 64 elements are not finite/);
    expect(report.endToEnd[0]!.remarks.join()).toMatch(/^fake weights overflow/);
    const text = renderVerify(path, report);
    expect(text).toMatch(/op0: fake weights overflow/);
    expect(text).toMatch(/verified as far as an unknown checkpoint can be: structure, completeness, repeatability$/);

    const real = await verifyPrebuilt(await checkpoint('diverges', ['divides_by_zero'], { params: new Float32Array(kLength).fill(0.5) }));
    expect(real).toMatchObject({ passed: false, operators: [{ remarks: [], failures: ['16 of 64 elements are not finite'] }] });
  });

  it('passes verification but says so where two runs differ', async () => {
    const report = await verifyPrebuilt(await checkpoint('restless', ['never_the_same']));
    expect(report.passed).toBe(true);
    expect(report.operators[0]).toMatchObject({
      deterministic: false,
      terms: ['written, finite, not the same in two runs; what it computes is not known'],
    });
    expect(renderVerify('restless', report)).toMatch(/: structure, completeness, finiteness$/);
    expect(report.endToEnd[0]).toMatchObject({ bitEqual: false, maxDifference: 1 });
  });
});

describe('what TVM runs', () => {
  it('inputs of every type: random where that is defined, else zero, which is said', async () => {
    const folder = join(workshop.folder, 'foreign', 'types');
    await mkdir(folder, { recursive: true });
    const tensor = (name: string, dtype: string) => ({ name, shape: [kLength], dtype });
    const inputs = [tensor('b', 'bool'), tensor('u', 'uint1'), tensor('d', 'float64'), tensor('h', 'handle'), tensor('x', 'float32')];
    const outputs = [tensor('y', 'float32')];
    const operators = [{ name: 'op', functionName: 'sums_all_types', inputs: inputs.map(({ name }) => name), outputs }];
    await writeFile(join(folder, 'graph.json'), serialiseGraph({ inputs, operators, outputs: ['y'], deviceType: 1 }));
    await copyFile(workshop.compile('tvm_api.c'), join(folder, 'model.so'));
    const layer = await loadPrebuilt(folder);
    expect(layer.warnings.join()).toMatch(/zero.*: d, h; set them with setInput/);
    const bits = [...((await layer.getInput('b')) as Uint8Array), ...((await layer.getInput('u')) as Uint8Array)];
    expect(new Set(bits)).toEqual(new Set([0, 1]));
    await layer.setInput('d', new Float64Array(kLength).fill(0.25));
    await layer.setInput('x', new Float32Array(kLength).fill(3));
    await layer.run();
    const sum = bits.reduce((total, bit) => total + bit, 0) + kLength / 4;
    expect(await layer.getOutput(0)).toEqual(new Float32Array(kLength).fill(3 + sum));
    const file = join(folder, 'graph.params');
    await layer.exportParams(file);
    await layer.dispose();
    const stored = await loadPrebuilt(folder);
    expect(stored.weights).toBe('file');
    await stored.run();
    expect(await stored.getOutput(0)).toEqual(new Float32Array(kLength).fill(3 + sum));
    await stored.dispose();
  });

  it('a parameter of other shape or type with as many bytes, with a remark', async () => {
    const path = await checkpoint('reshaped', ['add_one'], { params: new Float32Array(kLength) });
    const values = Float32Array.from({ length: kLength }, (_, i) => i);
    for (const [dtype, shape] of [
      ['float32', [8, 8]],
      ['int32', [kLength]],
    ] as const) {
      await writeParams(join(path, 'graph.params'), [
        { name: 'data', dtype: parseDataType(dtype), shape, chunks: [new Uint8Array(values.buffer)] },
      ]);
      const layer = await loadPrebuilt(path);
      expect(await inspectPrebuilt(path)).toMatchObject({ problems: [], remarks: [expect.stringContaining('the same bytes are taken')] });
      expect(layer.warnings.join()).toMatch(/holds "data" as .*the graph wants float32 \[64\]: the same bytes are taken/);
      await layer.run();
      expect(await layer.getOutput(0)).toEqual(values.map((value) => value + 1));
      await layer.dispose();
    }
  });

  describe.skipIf(process.arch !== 'x64')('global functions that this runtime lacks', () => {
    it.each([
      ['calls_cublas', 'tvm.contrib.cublas.matmul'],
      ['calls_cublaslt_inside', 'tvm.contrib.cublaslt.matmul'],
    ])('are found at load, where an operator calls them: %s', async (operator, name) => {
      const path = await checkpoint(operator, ['add_one', operator]);
      const said = `${name} (called by ${operator})`;
      expect(await errorOf(loadPrebuilt(path))).toMatchObject({
        code: 'MISSING_SYMBOL',
        message: expect.stringContaining(`have: ${said};`),
      });
      expect((await inspectPrebuilt(path)).problems).toMatchObject([{ code: 'MISSING_SYMBOL' }]);
    });

    it('are no reason to refuse where only functions that the graph does not call name them', async () => {
      const inspection = await inspectPrebuilt(await checkpoint('no-cublas', ['add_one']));
      expect(inspection.problems).toEqual([]);
      expect(inspection.module!.globalFunctions).toEqual([
        { name: 'tvm.contrib.cublas.matmul', provided: false },
        { name: 'tvm.contrib.cublaslt.matmul', provided: false },
      ]);
    });

    it.skipIf(!hasCommand('strip'))('are taken as called where it cannot be told who does: without a symbol table', async () => {
      const object = join(workshop.folder, 'stripped.so');
      workshop.execute('strip', ['-o', object, operators]);
      const error = await errorOf(loadPrebuilt(await checkpoint('stripped', ['add_one'], { object })));
      expect(error).toMatchObject({
        code: 'MISSING_SYMBOL',
        message: expect.stringContaining('tvm.contrib.cublaslt.matmul (named in its code)'),
      });
      expect(error.message).not.toContain('cublas.matmul');
    });
  });

  it('inspect lists the global functions that there are', async () => {
    const { module } = await inspectPrebuilt(await checkpoint('cudnn', ['plain'], { object: compileContribCalls(workshop) }));
    expect(module!.globalFunctions).toEqual(
      ['conv2d', 'softmax'].map((name) => ({ name: `tvm.contrib.cudnn.${name}.forward`, provided: true })),
    );
  });
});

describe('what is wrong is said, with what to do about it', () => {
  it('an operator that fails: its name and its words', async () => {
    const before = native().allocatedBytes();
    const error = await errorOf(runPrebuilt(await checkpoint('failing', ['add_one', 'fails']), quick));
    expect([error.code, error.message]).toEqual([
      'OPERATOR',
      expect.stringMatching(/fails.*the 42nd element is missing|the 42nd element is missing.*/s),
    ]);
    expect(JSON.stringify(error.context)).toMatch(/op1|fails/);
    expect(native().allocatedBytes()).toEqual(before);
  });

  it('a function that model.so lacks', async () => {
    const path = await checkpoint('lacking', ['add_one', 'not_there']);
    const error = await errorOf(loadPrebuilt(path));
    expect([error.code, error.message]).toEqual([
      'MISSING_SYMBOL',
      expect.stringMatching(/does not export 1 function.*not_there.*not of one build/),
    ]);
    expect((await inspectPrebuilt(path)).problems).toMatchObject([{ code: 'MISSING_SYMBOL' }]);
  });

  it('symbols that the process lacks', async () => {
    const error = await errorOf(loadPrebuilt(await checkpoint('dangling', ['add_one'], { object: workshop.compile('missing_symbols.c') })));
    expect([error.code, error.message]).toEqual(['MISSING_SYMBOL', expect.stringMatching(/tvm_symbol_of_another_runtime/)]);
  });

  it('no model.so, and no manifest to build one from', async () => {
    const error = await errorOf(loadPrebuilt(await checkpoint('bare', ['add_one'], { object: '' })));
    expect([error.code, error.message]).toEqual(['MISSING_MODULE', expect.stringMatching(/copy it from where the checkpoint was made/)]);
  });

  it('a model.so that is cut short, or is none', async () => {
    const path = await checkpoint('cut', ['add_one']);
    await truncate(join(path, 'model.so'), 1000);
    expect((await errorOf(loadPrebuilt(path))).code).toBe('BAD_MODULE');
    await writeFile(join(path, 'model.so'), 'not an object');
    expect((await errorOf(loadPrebuilt(path))).code).toBe('BAD_MODULE');
  });

  describe('special files', () => {
    const pipe = join(workshop.folder, 'pipe');
    beforeAll(() => workshop.execute('mkfifo', [pipe]));
    it.each(['graph.json', 'checkpoint.json', 'graph.params', 'model.so'])(
      '%s that is a pipe, a device, a folder, or a link to one',
      async (file) => {
        for (const [i, target] of [pipe, '/dev/zero', '/dev/full', workshop.folder].entries()) {
          const path = await checkpoint(`special-${i}-${file}`, ['add_one'], { params: new Float32Array(kLength) });
          await rm(join(path, file), { recursive: true, force: true });
          await symlink(target, join(path, file));
          const wanted = file === 'graph.json' ? /NOT_A_CHECKPOINT|IO/ : /^IO$/;
          const error = await errorOf(loadPrebuilt(path));
          expect(error.code).toMatch(wanted);
          if (file === 'graph.json' && target !== workshop.folder) expect(error.message).toContain('no regular file');
          if (file !== 'graph.json')
            expect((await inspectPrebuilt(path)).problems).toMatchObject([
              { code: 'IO', message: expect.stringContaining('no regular file') },
            ]);
        }
      },
    );
  });

  it('files that are larger than any checkpoint’s, and counts that only a sparse file announces', async () => {
    const path = await checkpoint('large', ['add_one'], { params: new Float32Array(kLength) });
    await writeFile(join(path, 'checkpoint.json'), '{}');
    await truncate(join(path, 'checkpoint.json'), 2 ** 36);
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({
      code: 'BAD_MANIFEST',
      message: expect.stringMatching(/64\.0 GiB; at most 32/),
    });
    await rm(join(path, 'checkpoint.json'));
    const head = Buffer.alloc(24);
    head.writeBigUInt64LE(0xf7e58d4f05049cb7n, 0);
    head.writeBigUInt64LE(2n ** 30n, 16);
    await writeFile(join(path, 'graph.params'), head);
    await truncate(join(path, 'graph.params'), 2 ** 40);
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({
      code: 'BAD_PARAMS',
      message: expect.stringMatching(/number of names is 1073741824; at most/),
    });
    await truncate(join(path, 'graph.json'), 2 ** 36);
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({ code: 'BAD_GRAPH', message: expect.stringMatching(/at most 32/) });
  });

  it('parameters stop being read when the signal fires', async () => {
    const folder = join(workshop.folder, 'foreign', 'slow-params');
    await mkdir(folder, { recursive: true });
    const big = (name: string) => ({ name, shape: [100_000_000], dtype: 'float32' });
    await writeFile(
      join(folder, 'graph.json'),
      serialiseGraph({
        inputs: [big('data')],
        operators: [{ name: 'op', functionName: 'add_one', inputs: ['data'], outputs: [big('y')] }],
        outputs: ['y'],
        deviceType: 1,
      }),
    );
    await copyFile(operators, join(folder, 'model.so'));
    const chunk = new Uint8Array(4_000_000);
    await writeParams(join(folder, 'graph.params'), [{ ...big('data'), dtype: float, chunks: Array<Uint8Array>(100).fill(chunk) }]);
    const controller = new AbortController();
    const onProgress = ({ phase }: Progress): void => {
      if (phase === 'fill') setTimeout(() => controller.abort(), 5);
    };
    const before = native().allocatedBytes();
    expect((await errorOf(loadPrebuilt(folder, { signal: controller.signal, onProgress }))).code).toBe('ABORTED');
    expect(native().allocatedBytes()).toEqual(before);
  });

  it('graph.params that are cut short, of another graph, or of another shape', async () => {
    const path = await checkpoint('params', ['add_one'], { params: new Float32Array(kLength) });
    const file = join(path, 'graph.params');
    const whole = await readFile(file);
    await writeFile(file, whole.subarray(0, whole.length - 1));
    expect((await errorOf(loadPrebuilt(path))).code).toBe('BAD_PARAMS');
    await writeParams(file, [{ name: 'other', dtype: float, shape: [kLength], chunks: [new Uint8Array(4 * kLength)] }]);
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({ code: 'BAD_PARAMS', message: expect.stringMatching(/"other"/) });
    await writeParams(file, [{ name: 'data', dtype: float, shape: [1], chunks: [new Uint8Array(4)] }]);
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({ code: 'BAD_PARAMS', message: expect.stringMatching(/\[1\].*\[64\]/) });
  });

  it('memory that does not exist', async () => {
    const folder = join(workshop.folder, 'foreign', 'huge');
    await mkdir(folder, { recursive: true });
    const huge = (name: string): { name: string; shape: number[]; dtype: string } => ({
      name,
      shape: [2 ** 24, 2 ** 24],
      dtype: 'float32',
    });
    await writeFile(
      join(folder, 'graph.json'),
      serialiseGraph({
        inputs: [huge('data')],
        operators: [{ name: 'op', functionName: 'add_one', inputs: ['data'], outputs: [huge('y')] }],
        outputs: ['y'],
        deviceType: 1,
      }),
    );
    await copyFile(operators, join(folder, 'model.so'));
    const before = native().allocatedBytes();
    const error = await errorOf(loadPrebuilt(folder));
    expect([error.code, error.message]).toEqual([
      'OUT_OF_MEMORY',
      expect.stringMatching(/2048.0 TiB of host memory.*choose a smaller batch/),
    ]);
    expect(native().allocatedBytes()).toEqual(before);
  });

  it.skipIf(native().cudaStatus().available)('an artifact for CUDA on a machine without a driver', async () => {
    const path = await checkpoint('cuda', ['add_one'], { deviceType: 2 });
    expect(await errorOf(loadPrebuilt(path))).toMatchObject({
      code: 'NO_DRIVER',
      message: expect.stringMatching(/no CUDA driver could be used.*(install|start|add its folder|driver).*device 'cpu'/),
    });
    expect(await errorOf(loadPrebuilt(path, { device: 'cpu' }))).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/compiled for CUDA/),
    });
  });
});

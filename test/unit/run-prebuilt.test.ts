// The public API on the CPU: a small checkpoint of ours through the reference operators, loaded, run, timed, verified.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readManifest } from '../../lib/artifact/checkpoint.js';
import { readParams } from '../../lib/artifact/params.js';
import { renderVerify } from '../../lib/cli/verify.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { designStored, requestOf } from '../../lib/compiler/design.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { sealModule } from '../../lib/artifact/seal.js';
import { placeModule, writeDescription } from '../../lib/compiler/write.js';
import {
  LadderError,
  listDevices,
  loadPrebuilt,
  packWeights,
  parseRecord,
  recordOf,
  runPrebuilt,
  verifyPrebuilt,
  type Prebuilt,
  type Progress,
} from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { compileModule } from '../fixtures/artifact/checkpoint.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-api-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const built = await buildCheckpoints(
  [
    parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'fp16' }),
    parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'int4', layers: 2 }),
  ],
  { root, compile: false },
);
const [fp16, int4] = built.map(({ folder }) => folder) as [string, string];
const quick = { warmupMs: 0, minSamples: 2, maxSamples: 3, maxMs: 50 };

async function errorOf(task: Promise<unknown> | (() => Promise<unknown>)): Promise<LadderError> {
  try {
    await (typeof task === 'function' ? task() : task);
  } catch (error) {
    if (error instanceof LadderError) return error;
    throw error;
  }
  throw new Error('expected a LadderError');
}

describe('loadPrebuilt', () => {
  let layer: Prebuilt;
  beforeAll(async () => {
    layer = await loadPrebuilt(fp16, { device: 'cpu' });
  });
  afterAll(() => layer.dispose());

  it('describes inputs, outputs and what it is', () => {
    expect(layer.inputNames).toEqual(['x']);
    expect(layer.inputs.get('x')).toMatchObject({ shape: [1, 512], dtype: 'float16', arrayType: 'Uint16Array', sizeBytes: 1024 });
    expect(layer.outputs).toHaveLength(1);
    expect(layer.outputs[0]).toMatchObject({ elements: 512, dtype: 'float16' });
    expect(layer.outputNames).toEqual([layer.outputs[0]!.name]);
    expect(layer).toMatchObject({
      case: { model: 'llama2-tiny', setting: 'bs1_seq1', format: 'W_FP16 A_FP16' },
      weights: 'seeded',
      usesReference: true,
      disposed: false,
    });
    expect(layer.loadTimes.buildMs).toBe(0);
  });

  it('computes from its input: halves in, halves or FP32 out', async () => {
    const x = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i));
    await layer.setInput('x', x);
    await layer.run();
    const bits = await layer.getOutput(0);
    const values = await layer.getOutput(0, { as: 'float32' });
    expect(bits).toBeInstanceOf(Uint16Array);
    expect(values).toBeInstanceOf(Float32Array);
    expect(values.every(Number.isFinite)).toBe(true);
    // Residual connections: the output is the input plus what the layer adds, which knows nothing of it: its share of x is about 1.
    const dot = values.reduce((sum, value, i) => sum + value * x[i]!, 0) / x.reduce((sum, value) => sum + value * value, 0);
    expect(!(Math.abs(dot - 1) <= 0.3), String(dot)).toBe(false);
    await layer.setInput(
      'x',
      x.map((value) => -value),
    );
    await layer.run();
    expect(await layer.getOutput(0, { as: 'float32' })).not.toEqual(values);
  });

  it('does not block the event loop', async () => {
    let turns = 0;
    const ticking = setInterval(() => {
      turns += 1;
    }, 1);
    await layer.benchmark({ warmupMs: 0, minSamples: 2, maxSamples: 1000, maxMs: 200 });
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(10);
  });

  it('serves calls made at once in their order', async () => {
    const one = new Uint16Array(512).fill(0x3c00);
    const results = await Promise.all([layer.setInput('x', one), layer.run(), layer.getOutput(0), layer.run(), layer.getOutput(0)]);
    expect(results[2]).toEqual(results[4]);
  });

  it.each([
    ['an unknown name', 'UNKNOWN_INPUT', /expected one of x, layer0/, (p: Prebuilt) => p.setInput('y', new Uint16Array(512))],
    [
      'a wrong length',
      'WRONG_LENGTH',
      /expected 512 elements for `x` \(shape \[1, 512\]\) but received 511/,
      (p: Prebuilt) => p.setInput('x', new Uint16Array(511)),
    ],
    [
      'a wrong type',
      'WRONG_TYPE',
      /expected Uint16Array or Float32Array for `x` \(float16\) but received an object of type Int8Array/,
      (p: Prebuilt) => p.setInput('x', new Int8Array(512)),
    ],
    ['an output that is not there', 'BAD_ARGUMENT', /expected 0…0 for `index` but received 1/, (p: Prebuilt) => p.getOutput(1)],
    ['an output that is no number', 'BAD_ARGUMENT', /`index` but received "0"/, (p: Prebuilt) => p.getOutput('0' as unknown as number)],
    [
      'another form',
      'BAD_ARGUMENT',
      /expected 'bits' or 'float32' for `as`/,
      (p: Prebuilt) => p.getOutput(0, { as: 'float64' as 'float32' }),
    ],
    ['an option that is not there', 'BAD_ARGUMENT', /but received `sampels`/, (p: Prebuilt) => p.benchmark({ sampels: 3 } as object)],
    [
      'fewer at most than at least',
      'BAD_ARGUMENT',
      /expected at least 5, `minSamples`, for `maxSamples` but received 2/,
      (p: Prebuilt) => p.benchmark({ minSamples: 5, maxSamples: 2 }),
    ],
    ['a graph on the CPU', 'UNSUPPORTED', /no CUDA graphs/, (p: Prebuilt) => p.benchmark({ launch: 'graph' })],
    ['cold caches on the CPU', 'UNSUPPORTED', /cannot be flushed/, (p: Prebuilt) => p.benchmark({ l2: 'cold' })],
    ['cold caches as well on the CPU', 'UNSUPPORTED', /cannot be flushed/, (p: Prebuilt) => p.benchmark({ cold: 'on' })],
    ['lasting load on the CPU', 'UNSUPPORTED', /under one condition/, (p: Prebuilt) => p.benchmark({ sustained: 'on' })],
    [
      "cold caches by the paper's rule",
      'BAD_ARGUMENT',
      /expected 'hot' for `l2` in mode 'paper'/,
      (p: Prebuilt) => p.benchmark({ mode: 'paper', l2: 'cold' }),
    ],
  ])('refuses %s', async (_, code, message, call) => {
    const error = await errorOf(call(layer));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
  });

  it('sets weights, too', async () => {
    const [name, info] = [...layer.inputs].find(([key]) => key !== 'x' && layer.inputs.get(key)!.dtype === 'float16')!;
    const other = await loadPrebuilt(fp16, { device: 'cpu' });
    await other.run();
    const before = await other.getOutput(0);
    await other.setInput(name, new Uint16Array(info.elements).fill(0x2000));
    await other.run();
    expect(await other.getOutput(0)).not.toEqual(before);
    await other.dispose();
  });
});

describe('run with feeds', () => {
  const halves = (value: number): Float32Array => Float32Array.from({ length: 512 }, (_, i) => Math.sin(i * value));
  const load = (path: string): Promise<Prebuilt> => loadPrebuilt(path, { device: 'cpu' });

  it('gives outputs by name; calls made at once do not mix', async () => {
    await using layer = await load(fp16);
    const [name] = layer.outputNames as [string];
    const alone = [];
    for (const value of [1, 2, 3]) {
      await layer.setInput('x', halves(value));
      await layer.run();
      alone.push({ [name]: await layer.getOutput(0) });
    }
    expect(await Promise.all([1, 2, 3].map((value) => layer.run({ x: halves(value) })))).toEqual(alone);
    expect(await layer.run({})).toEqual(alone[2]);
    const { [name]: values } = await layer.run({}, { as: 'float32' });
    expect(values).toEqual(await layer.getOutput(0, { as: 'float32' }));
    expect(await layer.run({}, { fetch: [] })).toEqual({});
  });

  it('writes into arrays that are given, again and again', async () => {
    await using layer = await load(fp16);
    const [name] = layer.outputNames as [string];
    // In the middle of a larger buffer, whose other bytes stay as they are.
    const bits = new Uint16Array(new ArrayBuffer(1028), 2, 512);
    const values = new Float32Array(512);
    for (const value of [1, 2]) {
      const fed = await layer.run({ x: halves(value) }, { out: { [name]: bits } });
      expect(fed[name]).toBe(bits);
      expect(bits).toEqual((await layer.run({}))[name]);
      expect((await layer.run({}, { as: 'float32', out: { [name]: values } }))[name]).toBe(values);
      expect(values).toEqual(await layer.getOutput(0, { as: 'float32' }));
    }
    expect([...new Uint8Array(bits.buffer, 0, 2), ...new Uint8Array(bits.buffer, 1026)]).toEqual([0, 0, 0, 0]);
  });

  it("takes another checkpoint's output where it lies, in both's turn", async () => {
    await using first = await load(fp16);
    await using second = await load(int4);
    const [name] = first.outputNames as [string];
    const expected = [];
    for (const value of [1, 2]) expected.push(await second.run({ x: (await first.run({ x: halves(value) }))[name]! }));
    const both = [1, 2].map((value) => {
      const fed = first.run({ x: halves(value) }, { fetch: [] });
      return [fed, second.run({ x: first.deviceOutput(name) })] as const;
    });
    expect(await Promise.all(both.map(([, outputs]) => outputs))).toEqual(expected);
    await Promise.all(both.map(([fed]) => fed));
    // Its own output, too: the second layer's place is taken by the first.
    const y = (await first.run({ x: halves(1) }))[name]!;
    const twice = await first.run({ x: first.deviceOutput(name) });
    expect(twice).toEqual(await first.run({ x: y }));
  });

  it('ends, rather than waits for ever, when either checkpoint is disposed', async () => {
    for (const which of [0, 1] as const) {
      const [first, second] = [await load(fp16), await load(int4)];
      const busy = Promise.allSettled([first.run(), second.run()]);
      const copied = second.run({ x: first.deviceOutput(first.outputNames[0]!) });
      const after = which === 0 ? second.run() : first.run();
      const error = errorOf(copied);
      // What waits in the other one's queue goes on.
      await (which === 0 ? first : second).dispose();
      expect((await error).code).toBe('DISPOSED');
      await after;
      await busy;
      await Promise.all([first.dispose(), second.dispose()]);
    }
  });

  it.each([
    ['an unknown name', 'UNKNOWN_INPUT', (p: Prebuilt) => p.run({ y: new Uint16Array(512) })],
    ['a wrong length', 'WRONG_LENGTH', (p: Prebuilt) => p.run({ x: new Uint16Array(511) })],
    ['an array without names', 'WRONG_TYPE', (p: Prebuilt) => p.run({ x: [1] as unknown as Uint16Array })],
    ['nothing', 'BAD_ARGUMENT', (p: Prebuilt) => p.run(null as unknown as Record<string, never>)],
    ['an unknown output', 'BAD_ARGUMENT', (p: Prebuilt) => p.run({}, { fetch: ['nobody'] })],
    ['an unknown place', 'BAD_ARGUMENT', (p: Prebuilt) => p.run({}, { out: { nobody: new Uint16Array(512) } })],
    ['a place of another type', 'WRONG_TYPE', (p: Prebuilt) => p.run({}, { out: { [p.outputNames[0]!]: new Float32Array(512) } })],
    ['a place of another length', 'WRONG_LENGTH', (p: Prebuilt) => p.run({}, { out: { [p.outputNames[0]!]: new Uint16Array(511) } })],
    ['an unknown output of a device', 'BAD_ARGUMENT', async (p: Prebuilt) => p.deviceOutput('nobody')],
  ])('refuses %s, and sets nothing', async (_, code, call) => {
    await using layer = await load(fp16);
    const before = await layer.run({ x: halves(1) });
    expect((await errorOf(call(layer))).code).toBe(code);
    expect(await layer.run({})).toEqual(before);
  });
});

describe('an AbortSignal', () => {
  it('serves many calls at once with no warning, and ends them by an AbortError', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): number => warnings.push(warning);
    process.on('warning', onWarning);
    await using layer = await loadPrebuilt(fp16, { device: 'cpu' });
    const aborting = new AbortController();
    const calls = Array.from({ length: 20 }, () => layer.benchmark({ signal: aborting.signal, maxMs: 10_000, maxSamples: 1_000_000 }));
    const errors = Promise.all(calls.map((call) => errorOf(call)));
    await new Promise((resolve) => setTimeout(resolve, 20));
    aborting.abort();
    expect(new Set((await errors).map(({ code, name }) => `${code} ${name}`))).toEqual(new Set(['ABORTED AbortError']));
    expect((await errorOf(layer.setInput('nobody', new Uint16Array(1)))).name).toBe('LadderError');
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });
});

describe('exportParams', () => {
  it('writes what the run computes with, so that a run from the file is the same', async () => {
    const seeded = await loadPrebuilt(int4, { device: 'cpu', seed: 7 });
    const copy = join(root, 'exported', 'llama2-tiny', basename(int4));
    await cp(int4, copy, { recursive: true });
    const written = await seeded.exportParams(join(copy, 'graph.params'));
    const tensors = readParams(join(copy, 'graph.params'));
    expect(tensors.map(({ name }) => name)).toEqual([...seeded.inputs.keys()].filter((name) => name !== 'x'));
    expect(written).toEqual({ tensors: tensors.length, sizeBytes: tensors.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) });
    const file = await readFile(join(copy, 'graph.params'));
    for (const { name, fileOffset, sizeBytes } of tensors) {
      const { buffer } = await seeded.getInput(name);
      expect(Buffer.compare(file.subarray(fileOffset, fileOffset + sizeBytes), Buffer.from(buffer as ArrayBuffer))).toBe(0);
    }
    const stored = await loadPrebuilt(copy, { device: 'cpu' });
    expect([seeded.weights, stored.weights]).toEqual(['seeded', 'file']);
    await stored.setInput('x', await seeded.getInput('x'));
    const outputs = [];
    for (const layer of [seeded, stored]) {
      await layer.run();
      outputs.push(await layer.getOutput(0));
      await layer.dispose();
    }
    expect(outputs[0]).toEqual(outputs[1]);
  });

  it('writes weights that were set, and inputs where they are wanted', async () => {
    const layer = await loadPrebuilt(fp16, { device: 'cpu' });
    const [name, info] = [...layer.inputs].find(([key]) => key !== 'x')!;
    await layer.setInput(name, new Uint16Array(info.elements).fill(0x3c00));
    expect(new Set(await layer.getInput(name, { as: 'float32' }))).toEqual(new Set([1]));
    const path = join(root, 'new', 'folder', 'graph.params');
    await layer.exportParams(path, { inputs: true });
    const tensors = readParams(path);
    expect(tensors.map(({ name: tensor }) => tensor)).toEqual([...layer.inputs.keys()]);
    const { fileOffset, sizeBytes } = tensors.find((tensor) => tensor.name === name)!;
    const file = await readFile(path);
    // `toEqual` would compare byte by byte, each through JavaScript.
    const written = file.subarray(fileOffset, fileOffset + sizeBytes);
    expect(written.equals(Buffer.from(new Uint16Array(info.elements).fill(0x3c00).buffer))).toBe(true);
    const aborted = await errorOf(layer.exportParams(path, { signal: AbortSignal.abort() }));
    expect(aborted.code).toBe('ABORTED');
    expect(readParams(path)).toEqual(tensors);
    expect((await errorOf(layer.getInput('nobody'))).code).toBe('UNKNOWN_INPUT');
    expect((await errorOf(layer.exportParams(''))).code).toBe('BAD_ARGUMENT');
    expect((await errorOf(layer.exportParams(join(path, 'below-a-file')))).code).toBe('IO');
    await layer.dispose();
  });
});

describe('dispose', () => {
  it('is idempotent, waits for work, frees all, and ends everything else', async () => {
    const before = native().allocatedBytes();
    const layer = await loadPrebuilt(fp16, { device: 'cpu' });
    expect(native().allocatedBytes().host).toBeGreaterThan(before.host);
    const running = layer.run();
    await Promise.all([layer.dispose(), layer.dispose(), running.catch(() => undefined)]);
    await layer.dispose();
    expect(layer.disposed).toBe(true);
    expect(native().allocatedBytes()).toEqual(before);
    for (const call of [
      () => layer.run(),
      () => layer.setInput('x', new Uint16Array(512)),
      () => layer.getOutput(),
      () => layer.getInput('x'),
      () => layer.exportParams(join(root, 'graph.params')),
      () => layer.benchmark(),
      () => layer.profile(),
      () => layer.verify(),
    ]) {
      expect((await errorOf(call)).code).toBe('DISPOSED');
    }
  });

  it('happens by itself at the end of `await using`', async () => {
    const layer = await loadPrebuilt(fp16, { device: 'cpu' });
    await layer[Symbol.asyncDispose]();
    expect(layer.disposed).toBe(true);
  });

  it('leaves nothing behind after failures', async () => {
    const before = native().allocatedBytes();
    await errorOf(runPrebuilt(fp16, { device: 'cpu', launch: 'graph' }));
    await errorOf(runPrebuilt(fp16, { device: 'cpu', mode: 'nothing' as 'paper' }));
    await errorOf(runPrebuilt(fp16, { device: 'cpu', signal: AbortSignal.abort() }));
    expect(native().allocatedBytes()).toEqual(before);
  });
});

describe('several at once', () => {
  it('gives each its own result', async () => {
    const alone = await Promise.all(
      [fp16, int4].map(async (path) => {
        const layer = await loadPrebuilt(path, { device: 'cpu' });
        await layer.run();
        return { layer, output: await layer.getOutput(0) };
      }),
    );
    await Promise.all(alone.flatMap(({ layer }) => [layer.run(), layer.run()]));
    for (const { layer, output } of alone) {
      expect(await layer.getOutput(0)).toEqual(output);
      await layer.dispose();
    }
  });

  it('works in a worker thread', async () => {
    const expected = await loadPrebuilt(fp16, { device: 'cpu' });
    await expected.run();
    const output = await expected.getOutput(0);
    await expected.dispose();
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData.module).then(async ({ loadPrebuilt }) => {
        const layer = await loadPrebuilt(workerData.path, { device: 'cpu' });
        await layer.run();
        parentPort.postMessage(await layer.getOutput(0));
        await layer.dispose();
      });`;
    const worker = new Worker(code, {
      eval: true,
      workerData: { module: new URL('../../dist/index.js', import.meta.url).href, path: fp16 },
    });
    const received = await new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
      worker.on('exit', (status) => reject(new Error(`the worker ended with ${status} and no message`)));
    });
    expect(received).toEqual(output);
    await worker.terminate();
  });
});

describe('runPrebuilt', () => {
  it('gives samples with their statistics, raw values and a record', async () => {
    const phases: Progress['phase'][] = [];
    const result = await runPrebuilt(int4, { device: 'cpu', ...quick, onProgress: ({ phase }) => phases.push(phase) });
    expect(result).toMatchObject({
      status: 'ok',
      reason: null,
      mode: 'samples',
      launch: 'stream',
      l2: 'hot',
      clock: 'cpu-host',
      paper: null,
      roofline: null,
      enqueueMedianMs: null,
      model: 'llama2-tiny',
      setting: 'bs1_seq1_layers2',
      format: 'W_INT4 A_FP16',
      weights: 'seeded',
      operators: 10,
      computedBy: 'reference',
      stateBefore: null,
      stateAfter: null,
    });
    expect(result.launchReason).toMatch(/CPU/);
    expect(result.rawMs!.length).toBe(result.samples!.count);
    expect(result.rawMs!.length).toBeGreaterThanOrEqual(2);
    expect(result.latencyMs).toBe(result.samples!.medianMs);
    expect(result.latencyMs).toBeGreaterThan(0);
    expect(new Set(phases)).toContain('fill');
    const record = recordOf(result, null);
    expect(parseRecord(JSON.stringify(record), 'test')).toEqual(record);
  });

  it("gives the paper's values by TVM's rule", async () => {
    const result = await runPrebuilt(fp16, { device: 'cpu', mode: 'paper', number: 1, repeat: 3, minRepeatMs: 20 });
    expect(result).toMatchObject({ mode: 'paper', samples: null, rawMs: null });
    expect(result.paper!.valuesMs).toHaveLength(3);
    expect(result.latencyMs).toBe(result.paper!.meanMs);
    // `number` grew until a measurement lasted long enough, and carried over: it never falls.
    const { numbers, valuesMs } = result.paper!;
    expect(numbers.every((number, i) => number >= (numbers[i - 1] ?? 1))).toBe(true);
    expect(numbers.every((number, i) => number * valuesMs[i]! >= 19)).toBe(true);
    expect(parseRecord(JSON.stringify(recordOf(result, null)), 'test').mode).toBe('paper');
  });

  it('ends with ABORTED while measuring, loading, or before', async () => {
    const before = native().allocatedBytes();
    const controller = new AbortController();
    const started = performance.now();
    const error = await errorOf(
      runPrebuilt(fp16, {
        device: 'cpu',
        warmupMs: 0,
        minSamples: 1_000_000,
        maxSamples: 1_000_000,
        signal: controller.signal,
        onProgress: ({ phase }) => {
          if (phase === 'measure') controller.abort();
        },
      }),
    );
    expect(error.code).toBe('ABORTED');
    expect(performance.now() - started).toBeLessThan(10_000);
    const loading = new AbortController();
    expect(
      (
        await errorOf(
          runPrebuilt(fp16, {
            device: 'cpu',
            signal: loading.signal,
            onProgress: ({ phase }) => {
              if (phase === 'fill') loading.abort();
            },
          }),
        )
      ).code,
    ).toBe('ABORTED');
    expect((await errorOf(runPrebuilt(fp16, { device: 'cpu', signal: AbortSignal.abort() }))).code).toBe('ABORTED');
    expect(native().allocatedBytes()).toEqual(before);
  });

  it('has another output for another seed, and the same for the same', async () => {
    const outputs = [];
    for (const seed of [1, 2, 1]) {
      const layer = await loadPrebuilt(fp16, { device: 'cpu', seed });
      await layer.run();
      outputs.push(await layer.getOutput(0));
      await layer.dispose();
    }
    expect(outputs[0]).toEqual(outputs[2]);
    expect(outputs[0]).not.toEqual(outputs[1]);
  });
});

describe('profile', () => {
  it('times every operator', async () => {
    const layer = await loadPrebuilt(fp16, { device: 'cpu' });
    const fractions: (number | null)[] = [];
    const { operators, samples, totalMs } = await layer.profile({ samples: 3, onProgress: ({ fraction }) => fractions.push(fraction) });
    await layer.dispose();
    expect(fractions[0]).toBe(0);
    expect(samples).toBe(3);
    expect(operators.map(({ node }) => node)).toHaveLength(5);
    expect(operators.every(({ medianMs, minMs }) => medianMs >= minMs && minMs > 0)).toBe(true);
    expect(operators.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
    expect(totalMs).toBeGreaterThan(0);
  });
});

describe('verifyPrebuilt of damaged files', () => {
  const copyOf = async (name: string): Promise<string> => {
    const folder = join(root, name, 'llama2-tiny', basename(fp16));
    await cp(fp16, folder, { recursive: true });
    return folder;
  };
  const flipLastBit = async (path: string, fromEnd: number): Promise<void> => {
    const bytes = await readFile(path);
    bytes[bytes.length - fromEnd]! ^= 1;
    await writeFile(path, bytes);
  };

  it('finds a flipped bit in packed weights', async () => {
    const folder = await copyOf('packed');
    await packWeights(folder, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.25));
    const failed = async (): Promise<readonly string[]> => {
      const { structure, passed } = await verifyPrebuilt(folder, { device: 'cpu', endToEnd: 'off' });
      const names = structure.filter((check) => !check.passed).map(({ name }) => name);
      expect(passed).toBe(names.length === 0);
      return names;
    };
    expect(await failed()).toEqual([]);
    await flipLastBit(join(folder, 'graph.params'), 2);
    expect(await failed()).toEqual(['graph.params']);
    // Described anew, as an update of the kernels does, it is still the packed file's hash that counts.
    await writeDescription(folder, await designStored(requestOf((await readManifest(folder))!), folder, 'sm_90a'));
    expect(await failed()).toEqual(['graph.params']);
    await packWeights(folder, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5));
    expect(await failed()).toEqual([]);
  });

  it('runs nothing of a model.so that is not as it was built', async () => {
    const folder = await copyOf('module');
    const functions = JSON.parse(await readFile(join(folder, 'graph.json'), 'utf8')) as {
      nodes: { attrs?: { func_name?: string } }[];
    };
    const built = join(root, 'built.so');
    await compileModule(
      built,
      functions.nodes.flatMap(({ attrs }) => attrs?.func_name ?? []),
      null,
    );
    await sealModule(built);
    await placeModule(folder, built);
    expect((await verifyPrebuilt(folder, { device: 'cpu', endToEnd: 'off' })).passed).toBe(true);
    await flipLastBit(join(folder, 'model.so'), 200);
    const report = await verifyPrebuilt(folder, { device: 'cpu', seed: 5 });
    expect(report).toMatchObject({ passed: false, operators: [], endToEnd: [], seed: 5, device: { kind: 'cpu' } });
    expect(report.structure).toEqual([
      { name: 'model.so', passed: false, detail: expect.stringMatching(/^SHA-256 is .*remove it, and it is built anew$/) as string },
    ]);
    expect(renderVerify(folder, report)).toMatch(/MISMATCH$/);
    expect(await errorOf(runPrebuilt(folder, { device: 'cpu' }))).toMatchObject({ code: 'BAD_MODULE' });
  });
});

describe('verifyPrebuilt', () => {
  it('passes a sound checkpoint', async () => {
    const report = await verifyPrebuilt(int4, { device: 'cpu' });
    expect(report).toMatchObject({ passed: true, kind: 'semantic' });
    expect(report.operators).toHaveLength(10);
    expect(report.operators.every(({ passed, compared, deterministic }) => passed && compared > 0 && deterministic)).toBe(true);
    expect(report.endToEnd).toMatchObject([{ passed: true, bitEqual: true, nonFinite: 0 }]);
    expect(report.structure.every(({ passed }) => passed)).toBe(true);
  });

  it('fails a graph.json that is not the one that checkpoint.json hashes', async () => {
    const changed = join(root, 'changed', 'one');
    await cp(fp16, changed, { recursive: true });
    await writeFile(join(changed, 'graph.json'), `${await readFile(join(changed, 'graph.json'), 'utf8')} `);
    const report = await verifyPrebuilt(changed, { device: 'cpu', endToEnd: 'off' });
    expect(report.passed).toBe(false);
    expect(report.structure.find(({ passed }) => !passed)).toMatchObject({
      name: 'graph.json',
      detail: expect.stringMatching(/SHA-256 is .* checkpoint.json says/),
    });
  });
});

describe('devices', () => {
  it('the CPU is always there, last', () => {
    const devices = listDevices();
    expect(devices[devices.length - 1]).toMatchObject({ id: 'cpu', kind: 'cpu' });
    expect(devices[devices.length - 1]!.memoryBytes).toBeGreaterThan(1e6);
  });

  it.skipIf(listDevices().length > 1)('without a driver CUDA is refused with what to do, and auto is the CPU', async () => {
    const error = await errorOf(loadPrebuilt(fp16, { device: 'cuda' }));
    expect([error.code, error.message]).toEqual([
      'NO_DRIVER',
      expect.stringMatching(/libcuda.*; (install|start|in WSL|the GPU is|the kernel module is).*'cpu'/),
    ]);
    const layer = await loadPrebuilt(fp16);
    expect(layer.device.kind).toBe('cpu');
    await layer.dispose();
  });

  it('a device that is not there is named with those that are', async () => {
    const error = await errorOf(loadPrebuilt(fp16, { device: 'cuda:4000' }));
    expect(['NO_DEVICE', 'NO_DRIVER']).toContain(error.code);
  });

  it('paths that are no checkpoint', async () => {
    expect((await errorOf(loadPrebuilt(join(root, 'nowhere')))).code).toBe('NOT_A_CHECKPOINT');
    expect((await errorOf(loadPrebuilt(3 as unknown as string))).message).toBe(
      'expected a string for `path` but received 3 of type number',
    );
  });
});

// verifyOperator and reference operators through the executor: what is unwritten, not finite, different, or wrong. No GPU.
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { native, type DataType, type ExecutorPlan, type Fill, type NativeProgram, type VerifyOutput } from '../../lib/native.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import { makePlan, rejection, Workshop } from '../fixtures/native/objects.js';
import { denseInRows } from '../fixtures/programs.js';
import { Random } from './reference-naive.js';

const workshop = new Workshop();
let cpu: string;

beforeAll(() => {
  cpu = workshop.compile('cpu_operators.c');
});
afterAll(() => workshop.remove());

const kUniform: Fill = { kind: 'uniform', low: -1, high: 1 };

async function verify(plan: ExecutorPlan, inputs: readonly (Fill | null)[]): Promise<VerifyOutput> {
  const executor = await native().openExecutor(plan);
  try {
    const outputs = await executor.verifyOperator(0, { seed: 7n, inputs, maxColumns: 0, maxRows: 0 });
    expect(outputs).toHaveLength(1);
    return outputs[0]!;
  } finally {
    await executor.dispose();
  }
}

function foreign(functionName: string): Promise<VerifyOutput> {
  const tensor = { dtype: 'float32', shape: [64] };
  return verify(makePlan({ tensors: [tensor, tensor], operators: [{ functionName, inputs: [0], outputs: [1] }], module: cpu }), [kUniform]);
}

const kNorm: NativeProgram = nativeProgram(programOfV1({ op: 'norm', m: 4, k: 64, norm: { kind: 'rms', eps: 1e-5 }, activation: 'fp16' }));
const normPlan = (functionName: string, kind: 'packed' | 'reference'): ExecutorPlan =>
  makePlan({
    tensors: [
      { dtype: 'float16', shape: [4, 64] },
      { dtype: 'float16', shape: [64] },
      { dtype: 'float16', shape: [4, 64] },
    ],
    operators: [{ functionName, kind, inputs: [0, 1], outputs: [2], program: kNorm }],
    module: kind === 'packed' ? cpu : null,
  });

test('an operator without a program that is sound', async () => {
  expect(await foreign('add_one')).toMatchObject({
    compared: 0,
    elements: 64,
    unwritten: 0,
    nonFinite: 0,
    deterministic: true,
    maxAbsolute: NaN,
  });
});
test('elements that are never written', async () => {
  expect(await foreign('writes_half')).toMatchObject({ unwritten: 32, deterministic: false });
});
test('results that are not finite', async () => {
  expect(await foreign('divides_by_zero')).toMatchObject({ nonFinite: 16, unwritten: 0 });
});
test('results that differ from run to run', async () => {
  expect(await foreign('never_the_same')).toMatchObject({ deterministic: false, unwritten: 0 });
});

test('a reference operator agrees with itself and writes all', async () => {
  const output = await verify(normPlan('rms_norm', 'reference'), [kUniform, { kind: 'uniform', low: 0.5, high: 1.5 }]);
  expect(output).toMatchObject({ elements: 256, unwritten: 0, nonFinite: 0, deterministic: true });
  expect(output.compared).toBe(256);
  expect(!(output.maxOverRms <= 2 ** -10)).toBe(false);
});
test('an operator that computes something else is found', async () => {
  const output = await verify(normPlan('forgets_the_norm', 'packed'), [kUniform, { kind: 'uniform', low: 0.5, high: 1.5 }]);
  expect(output).toMatchObject({ unwritten: 0, deterministic: true });
  expect(output.relativeL2).toBeGreaterThan(0.1);
});

/** add_one in place. */
const inPlace = (program: NativeProgram | null): ExecutorPlan =>
  makePlan({
    tensors: [
      { dtype: 'float32', shape: [4], storage: 0 },
      { dtype: 'float32', shape: [4], storage: 0 },
    ],
    operators: [{ functionName: 'add_one', inputs: [0], outputs: [1], program }],
    module: cpu,
  });
test('an operator that writes over its input runs once, unpoisoned', async () => {
  expect(await verify(inPlace(null), [kUniform])).toMatchObject({ unwritten: 0, nonFinite: 0, deterministic: null, compared: 0 });
});
test('with a program, whose inputs are then lost, it is refused', async () => {
  expect((await rejection(verify(inPlace(kNorm), [null]))).code).toBe('UNSUPPORTED');
});
test('fills that do not match the inputs are refused', async () => {
  expect((await rejection(verify(normPlan('rms_norm', 'reference'), [kUniform]))).code).toBe('BAD_ARGUMENT');
});

test('referenceRun writes the outputs and reports what does not fit', async () => {
  const inputs = [new Uint8Array(512), new Uint8Array(128)];
  native().fillBytes(kUniform, 1n, { name: 'float16', code: 2, bits: 16, lanes: 1 }, 0, inputs[0]!);
  native().fillBytes(kUniform, 2n, { name: 'float16', code: 2, bits: 16, lanes: 1 }, 0, inputs[1]!);
  const output = new Uint8Array(512).fill(0xff);
  await native().referenceRun({ program: kNorm, inputs, outputs: [output] });
  expect(new Set(output).size).toBeGreaterThan(50);
  const error = await rejection(native().referenceRun({ program: kNorm, inputs: [inputs[0]!], outputs: [output] }));
  expect(typeof error.code).toBe('string');
});

const kHalf: DataType = { name: 'float16', code: 2, bits: 16, lanes: 1 };

test.each([
  ['float16', new Uint16Array([0x3c00, 0x7c00, 0xfc01, 0x7bff, 0x8000]), 2],
  ['bfloat16', new Uint16Array([0x3f80, 0x7f80, 0xffc0, 0x7f7f, 0x7c00]), 2],
  ['float32', new Float32Array([1, Infinity, NaN, 3e38, -Infinity]), 3],
  ['float64', new Float64Array([1, Infinity, NaN, 3e300, -0]), 2],
  ['e5m2_float8', new Uint8Array([0x3c, 0x7b, 0x7c, 0xff, 0x80]), 2],
  ['e4m3_float8', new Uint8Array([0x3c, 0x7b, 0x7e, 0xff, 0x7f]), 2],
  ['int8', new Int8Array([-1, 0x7f, 0x7c, 0, 1]), 0],
])('elements of %s that are not finite', async (name, values, expected) => {
  const bytes = new Uint8Array(values.buffer);
  const dtype = parseDataType(name);
  expect(await native().compareTensors(dtype, bytes, bytes, null)).toEqual({
    nonFinite: expected,
    equal: true,
    maxDifference: 0,
    relativeL2: null,
  });
});

test.each([
  ['float16', (values: number[]) => Uint16Array.from(values, floatToHalf)],
  ['bfloat16', (values: number[]) => Uint16Array.from(values, floatToBfloat)],
  ['float32', (values: number[]) => Float32Array.from(values)],
  ['float64', (values: number[]) => Float64Array.from(values)],
  ['int8', (values: number[]) => Int8Array.from(values)],
  ['uint16', (values: number[]) => Uint16Array.from(values, Math.abs)],
  ['int64', (values: number[]) => BigInt64Array.from(values, BigInt)],
] as const)('how far numbers of %s lie apart', async (name, make) => {
  // Lengths about those of blocks and vectors.
  for (const length of [1, 3, 1023, 1025, 5000]) {
    const random = new Random(length);
    const [first, second, expected] = [0, 1, 2].map(() => make(Array.from({ length }, () => random.integer(100))));
    const bytes = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer);
    const result = await native().compareTensors(parseDataType(name), bytes(first!), bytes(second!), bytes(expected!));
    const numbers = [first, second, expected].map((array) => {
      const own = [...(array as Iterable<number | bigint>)].map(Number);
      return name === 'float16' ? own.map(halfToFloat) : name === 'bfloat16' ? own.map(bfloatToFloat) : own;
    });
    const norm = (values: number[]): number => Math.hypot(...values);
    const minus = (other: number[]): number[] => numbers[0]!.map((value, i) => value - other[i]!);
    expect(result.maxDifference).toBe(Math.max(...minus(numbers[1]!).map(Math.abs)));
    const relative = norm(minus(numbers[2]!)) / norm(numbers[2]!);
    expect(!(Math.abs(result.relativeL2! - relative) <= 1e-12 * relative)).toBe(false);
  }
});

test('NaN makes a difference NaN, and codes have none', async () => {
  const [a, b] = [new Uint8Array(Float32Array.of(1, NaN, 3).buffer), new Uint8Array(Float32Array.of(1, 2, 3).buffer)];
  expect(await native().compareTensors(parseDataType('float32'), a, b, b)).toEqual({
    nonFinite: 1,
    equal: false,
    maxDifference: NaN,
    relativeL2: NaN,
  });
  expect(await native().compareTensors(parseDataType('e4m3_float8'), a, b, b)).toMatchObject({
    equal: false,
    maxDifference: 0,
    relativeL2: null,
  });
  expect((await rejection(native().compareTensors(kHalf, a, b.subarray(2), null))).code).toBe('WRONG_LENGTH');
  expect((await rejection(native().compareTensors(kHalf, a.subarray(1), b.subarray(1), null))).code).toBe('WRONG_LENGTH');
});

/** Another build of the addon has sanitizers in it; the machine does other things as well in either case. */
const kSlowness = process.env['LADDER_ADDON'] === undefined ? 1 : 10;

/** The longest that the event loop was held up meanwhile, and how long it took, ms. */
async function watched(task: () => Promise<unknown>): Promise<{ readonly gapMs: number; readonly tookMs: number }> {
  const start = performance.now();
  let last = start;
  let gapMs = 0;
  const timer = setInterval(() => {
    gapMs = Math.max(gapMs, performance.now() - last);
    last = performance.now();
  }, 5);
  await task();
  clearInterval(timer);
  return { gapMs, tookMs: performance.now() - start };
}

test('tensors of gigabytes are looked through on all cores, the event loop free', async () => {
  const bytes = 2 ** 28;
  const [first, second] = [new Uint8Array(bytes).fill(0x2a), new Uint8Array(bytes).fill(0x2a)];
  second[bytes - 1] = 0x2b;
  const { gapMs, tookMs } = await watched(() => native().compareTensors(kHalf, first, second, second));
  // An eighth of [64, 4096, 4096]. A loop in JavaScript takes half a minute, and holds up everything else.
  expect(tookMs).toBeLessThan(3000 * kSlowness);
  expect(gapMs).toBeLessThan(500 * kSlowness);
});

test('a comparison of many columns is aborted within a second, the event loop free', async () => {
  // All 4096 columns of 4096 rows: minutes of FP64 on few cores.
  const program = nativeProgram(programOfV1(denseInRows('fp16', { m: 4096, n: 4096, k: 4096 })));
  const plan = makePlan({
    tensors: [
      { dtype: 'float16', shape: [4096, 4096] },
      { dtype: 'float16', shape: [4096, 4096] },
      { dtype: 'float16', shape: [4096, 4096] },
    ],
    operators: [{ functionName: 'fills', inputs: [0, 1], outputs: [2], program }],
    module: cpu,
  });
  const executor = await native().openExecutor(plan);
  try {
    let cancelledAt = 0;
    const task = rejection(executor.verifyOperator(0, { seed: 7n, inputs: [kUniform, kUniform], maxColumns: 0, maxRows: 0 }));
    const { gapMs } = await watched(async () => {
      await setTimeout(1500);
      cancelledAt = performance.now();
      executor.cancel();
      expect((await task).code).toBe('ABORTED');
    });
    expect(performance.now() - cancelledAt).toBeLessThan(1000 * kSlowness);
    expect(gapMs).toBeLessThan(500 * kSlowness);
  } finally {
    await executor.dispose();
  }
});

test('attention over a long sequence is compared head by head, all of them', async () => {
  // Values that are the same for all tokens come out as they are, whatever the scores: column c of the result is (c mod 29) / 8.
  const [seq, heads, kvHeads, headDim] = [4096, 64, 32, 128];
  const width = (heads + 2 * kvHeads) * headDim;
  const group = heads / kvHeads;
  const expected = (column: number): number => ((Math.floor(column / (group * headDim)) * headDim + (column % headDim)) % 29) / 8;
  const qkv = new Uint16Array(seq * width);
  native().fillBytes(kUniform, 3n, kHalf, 0, new Uint8Array(qkv.buffer));
  const values = Uint16Array.from({ length: kvHeads * headDim }, (_, i) => floatToHalf((i % 29) / 8));
  for (let token = 0; token < seq; ++token) qkv.set(values, (token + 1) * width - values.length);
  const program = nativeProgram(
    programOfV1({ op: 'attention', batch: 1, seq, heads, kvHeads, headDim, order: 'concatenated', position: 'rope', ropeBase: 10000 }),
  );
  const executor = await native().openExecutor(
    makePlan({
      tensors: [
        { dtype: 'float16', shape: [seq, width] },
        { dtype: 'float16', shape: [seq, heads * headDim] },
      ],
      operators: [{ functionName: 'fills', inputs: [0], outputs: [1], program }],
      module: cpu,
    }),
  );
  try {
    await executor.write(0, new Uint8Array(qkv.buffer));
    const [output] = await executor.verifyOperator(0, { seed: 7n, inputs: [null], maxColumns: 0, maxRows: 1 });
    // Two rows, the first and the last.
    const columns = Array.from({ length: heads * headDim }, (_, column) => expected(column));
    const written = halfToFloat(0x2a2a);
    const relativeL2 = Math.hypot(...columns.map((value) => value - written)) / Math.hypot(...columns);
    expect(output!.compared).toBe(2 * columns.length);
    expect(!(Math.abs(output!.relativeL2 - relativeL2) <= 1e-9)).toBe(false);
  } finally {
    await executor.dispose();
  }
});

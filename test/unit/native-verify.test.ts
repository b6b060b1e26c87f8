// verifyOperator and reference operators through the executor: what is unwritten, not finite, different, or wrong. No GPU.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { native, type ExecutorPlan, type Fill, type NativeProgram, type VerifyOutput } from '../../lib/native.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import { makePlan, rejection, Workshop } from '../fixtures/native/objects.js';

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

test('an operator that writes over its input is refused', async () => {
  const plan = makePlan({
    tensors: [
      { dtype: 'float32', shape: [4], storage: 0 },
      { dtype: 'float32', shape: [4], storage: 0 },
    ],
    operators: [{ functionName: 'add_one', inputs: [0], outputs: [1] }],
    module: cpu,
  });
  expect((await rejection(verify(plan, [null]))).code).toBe('UNSUPPORTED');
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

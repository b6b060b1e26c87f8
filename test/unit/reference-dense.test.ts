// The reference's dense product against a naive one: every weight format with every activation format, all prologues,
// epilogues, groups and random layouts; and its refusals.
import { describe, expect, it } from 'vitest';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { kMxBlock } from '../../lib/formats/fp8.js';
import { activationFormats, isMx, weightFormat, weightFormats } from '../../lib/formats/index.js';
import { native, type NativeProgram, type NativeValue } from '../../lib/native.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import { checkSampled } from './reference-sampled.js';
import {
  bytesOf,
  type DenseOperator,
  halvesOf,
  isMxActivation,
  naiveDense,
  Random,
  randomLayout,
  rowMajor,
  storedIndex,
} from './reference-naive.js';

const kPoison = 0xa5;
const kWeights = weightFormats().map(({ id }) => id);
const kActivations = activationFormats().map(({ id }) => id);

const programOf = (operator: DenseOperator): NativeProgram => nativeProgram(programOfV1(operator));

/** Operands of a dense operator, in the contract's order. FP8 codes stay clear of NaN and infinity, scales near 1. */
function operands(operator: DenseOperator, random: Random): Uint8Array[] {
  const { m, n, k, weight, activation, norm } = operator;
  const group = isMx(weightFormat(weight)) ? kMxBlock : operator.group;
  const fp8 = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => random.integer(0x40) | (random.integer(2) << 7));
  const e8m0 = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => 124 + random.integer(6));
  // Keeps products of two sums within FP16.
  const largest = weight === 'int8' ? 1 / 16 : 1;
  const elements = operator.weightLayout.reduce((product, { size }) => product * size, 1);
  const list: Uint8Array[] = [];
  if (operator.input === 'fp16') list.push(random.halves(m * k));
  else if (activation === 'int8') list.push(random.bytes(m * k));
  else if (activation === 'int4') list.push(Uint8Array.from({ length: m * k }, () => random.integer(15) - 7));
  else list.push(fp8(m * k));
  if (operator.input === 'quantised')
    list.push(
      isMxActivation(activation) ? e8m0((m * k) / kMxBlock) : bytesOf(Float32Array.from({ length: m }, () => random.uniform(0.01, 0.02))),
    );
  if (weight === 'fp16') list.push(random.halves(elements));
  else
    list.push(
      weightFormat(weight).element.codes.kind === 'float'
        ? fp8(elements)
        : random.bytes(Math.ceil((elements * weightFormat(weight).element.bits) / 8)),
    );
  const scales = operator.scaleLayout?.reduce((product, { size }) => product * size, 1) ?? n;
  if (weight !== 'fp16')
    list.push(isMx(weightFormat(weight)) ? e8m0(scales) : random.halves(group === -1 ? n : scales, largest / 2, 1.5 * largest));
  if (norm.kind !== 'none') list.push(random.halves(k, 0.5, 1.5));
  if (norm.kind === 'layer') list.push(random.halves(k));
  if (operator.bias) list.push(random.halves(n));
  if (operator.residual) list.push(random.halves(m * (operator.function === 'silu_mul' ? n / 2 : n)));
  return list;
}

async function check(operator: DenseOperator, random: Random): Promise<void> {
  await checkInputs(operator, operands(operator, random));
}

async function checkInputs(operator: DenseOperator, inputs: readonly Uint8Array[]): Promise<void> {
  const width = operator.function === 'silu_mul' ? operator.n / 2 : operator.n;
  const output = new Uint8Array(operator.m * width * 2).fill(kPoison);
  await native().referenceRun({ program: programOf(operator), inputs, outputs: [output] });
  const expected = naiveDense(operator, inputs);
  const rms = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
  halvesOf(output).forEach((value, i) => {
    // Half an FP16 step, and the FP32 sums' share, which grows with the terms rather than with the result.
    const tolerance = Math.abs(expected[i]!) * 2 ** -11 + rms * 2 ** -16 + 2 ** -24;
    if (!(Math.abs(value - expected[i]!) <= tolerance)) {
      expect.fail(`element ${i}: ${value} instead of ${expected[i]} in ${JSON.stringify(operator)}`);
    }
  });
}

function randomOperator(random: Random, weight: string, activation: string): DenseOperator {
  const blocked = isMx(weightFormat(weight)) || isMxActivation(activation);
  const group = weight === 'fp16' ? -1 : isMx(weightFormat(weight)) ? 32 : random.pick([-1, 64, 128] as const);
  const step = group > 0 ? Math.max(group, blocked ? 32 : 1) : blocked ? 32 : 1;
  const k = step * (1 + random.integer(step === 1 ? 150 : 4));
  const fn = random.pick(['none', 'silu_mul', 'gelu_tanh'] as const);
  const n = fn === 'silu_mul' ? 2 * (1 + random.integer(20)) : 1 + random.integer(40);
  const padded = random.integer(3) === 0 ? Math.ceil(n / 16) * 16 : n;
  const paddedK = random.integer(3) === 0 ? k + 32 * random.integer(3) : k;
  const input = activation !== 'fp16' && random.integer(2) === 0 ? 'quantised' : 'fp16';
  return {
    op: 'dense',
    m: 1 + random.integer(7),
    n,
    k,
    weight,
    activation,
    group,
    input,
    norm: { kind: input === 'quantised' ? 'none' : random.pick(['none', 'rms', 'layer'] as const), eps: 1e-5 },
    bias: random.integer(2) === 0,
    function: fn,
    residual: random.integer(2) === 0,
    weightLayout: randomLayout(random, padded, paddedK),
    scaleLayout: group === -1 ? null : randomLayout(random, padded, Math.ceil(k / group) + random.integer(2)),
  };
}

const plain: DenseOperator = {
  op: 'dense',
  m: 2,
  n: 8,
  k: 64,
  weight: 'int4',
  activation: 'fp16',
  group: -1,
  input: 'fp16',
  norm: { kind: 'none', eps: 1e-5 },
  bias: false,
  function: 'none',
  residual: false,
  weightLayout: rowMajor(8, 64),
  scaleLayout: null,
};

describe('dense', () => {
  for (const weight of kWeights) {
    it(`${weight} with every activation format, random shapes, layouts and fusions`, async () => {
      for (const activation of kActivations) {
        for (let seed = 0; seed < 12; ++seed) {
          const random = new Random(seed * 1000 + kWeights.indexOf(weight) * 10 + kActivations.indexOf(activation));
          const operator = randomOperator(random, weight, activation);
          const inputs = operands(operator, random);
          await checkInputs(operator, inputs);
          if (seed < 3) await checkSampled(programOf(operator), inputs);
        }
      }
    });
  }

  it('walks more than one tile in each direction, and more tokens than one pass holds', async () => {
    const random = new Random(1);
    const k = 2304;
    const tiled = [
      { axis: 'n', stride: 16, size: 3 },
      { axis: 'k', stride: 64, size: 36 },
      { axis: 'n', stride: 1, size: 16 },
      { axis: 'k', stride: 1, size: 64 },
    ] as const;
    const fragments = [
      { axis: 'n', stride: 16, size: 3 },
      { axis: 'k', stride: 16, size: 144 },
      { axis: 'n', stride: 1, size: 8 },
      { axis: 'k', stride: 2, size: 4 },
      { axis: 'k', stride: 8, size: 2 },
      { axis: 'n', stride: 8, size: 2 },
      { axis: 'k', stride: 1, size: 2 },
    ] as const;
    for (const layout of [
      rowMajor(48, k),
      [...tiled],
      [...fragments],
      [
        { axis: 'k' as const, stride: 1, size: k },
        { axis: 'n' as const, stride: 1, size: 48 },
      ],
    ]) {
      for (const weight of ['fp16', 'int4', 'int1', 'fp8_e4m3'] as const) {
        await check({ ...plain, m: 67, n: 45, k, weight, weightLayout: layout }, random);
        if (weight !== 'fp16')
          await check({ ...plain, m: 3, n: 45, k, weight, group: 128, weightLayout: layout, scaleLayout: rowMajor(45, k / 128) }, random);
      }
    }
  });

  it('sums integers exactly: the largest codes at the largest K of the models', async () => {
    const k = 57344;
    const operator: DenseOperator = {
      ...plain,
      m: 1,
      n: 1,
      k,
      weight: 'int1',
      activation: 'int8',
      input: 'quantised',
      weightLayout: rowMajor(1, k),
    };
    const x = new Uint8Array(k).fill(127);
    x[7] = 126;
    const output = new Uint8Array(2);
    // ±1 alternates from +1 on: everything cancels but the pair with the smaller code, 127 − 126.
    const signs = new Uint8Array(k / 8).fill(0x55);
    await native().referenceRun({
      program: programOf(operator),
      inputs: [x, bytesOf(Float32Array.of(1)), signs, bytesOf(Uint16Array.of(0x3c00))],
      outputs: [output],
    });
    expect(halvesOf(output)[0]).toBe(1);
  });

  it('multiplies with nothing that lies in the padding of a weight, NaN included', async () => {
    for (const [weight, scaled] of [
      ['fp16', false],
      ['fp8_e4m3', true],
      ['mxfp8_e5m2', true],
    ] as const) {
      const random = new Random(5);
      const group = weight === 'mxfp8_e5m2' ? 32 : -1;
      const weightLayout = randomLayout(random, 16, 128);
      const operator: DenseOperator = {
        ...plain,
        m: 3,
        n: 9,
        k: 96,
        weight,
        group,
        weightLayout,
        scaleLayout: group === -1 ? null : rowMajor(16, 4),
      };
      const inputs = operands(operator, random);
      const bytes = weight === 'fp16' ? 2 : 1;
      const used = new Set<number>();
      for (let n = 0; n < 9; ++n) for (let k = 0; k < 96; ++k) used.add(storedIndex(weightLayout, n, k));
      for (let i = 0; i < 16 * 128; ++i) if (!used.has(i)) inputs[1]!.fill(0x7f, i * bytes, (i + 1) * bytes);
      if (scaled && group !== -1)
        for (let n = 0; n < 16; ++n) for (let block = 0; block < 4; ++block) if (n >= 9 || block >= 3) inputs[2]![4 * n + block] = 255;
      await checkInputs(operator, inputs);
    }
  });

  it('refuses buffers of the wrong size, naming the tensor', async () => {
    const inputs = operands(plain, new Random(2));
    const outputs = [new Uint8Array(2 * 8 * 2)];
    const run = (list: readonly Uint8Array[], out = outputs): Promise<void> =>
      native().referenceRun({ program: programOf(plain), inputs: list, outputs: out });
    await expect(run([inputs[0]!, inputs[1]!.subarray(1), inputs[2]!])).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: expect.stringContaining('`weight` of `nodes[0]` (dense)'),
    });
    await expect(run(inputs.slice(0, 2))).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: expect.stringContaining('the scales of `weight`'),
    });
    await expect(run([...inputs, inputs[0]!])).rejects.toMatchObject({ code: 'WRONG_LENGTH' });
    await expect(run(inputs, [new Uint8Array(31)])).rejects.toMatchObject({ code: 'WRONG_LENGTH' });
    await expect(run(inputs, [])).rejects.toMatchObject({ code: 'WRONG_LENGTH' });
  });

  it('takes weights to read ahead and makes nothing of them', async () => {
    const inputs = operands(plain, new Random(3));
    const run = async (list: readonly Uint8Array[], prefetch?: number): Promise<Uint8Array> => {
      const output = new Uint8Array(2 * 8 * 2);
      await native().referenceRun({
        program: programOf({ ...plain, ...(prefetch !== undefined && { prefetch }) }),
        inputs: list,
        outputs: [output],
      });
      return output;
    };
    expect(await run([...inputs, new Uint8Array(96).fill(255)], 96)).toEqual(await run(inputs));
    await expect(run(inputs, 96)).rejects.toMatchObject({ code: 'WRONG_LENGTH', message: expect.stringContaining('is missing') });
    await expect(run([...inputs, new Uint8Array(95)], 96)).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: expect.stringContaining('96 bytes'),
    });
  });

  it('refuses layouts that are no bijections and shapes that do not go together', async () => {
    const weight = (change: Partial<NativeValue>): NativeProgram => {
      const program = programOf(plain);
      return { ...program, values: program.values.map((value, i) => (i === 1 ? { ...value, ...change } : value)) };
    };
    const run = (program: NativeProgram): Promise<void> =>
      native().referenceRun({ program, inputs: operands(plain, new Random(3)), outputs: [new Uint8Array(32)] });
    const layout = (digits: NativeValue['layout']): Promise<void> => run(weight({ layout: digits }));
    await run(programOf(plain));
    await expect(layout(rowMajor(8, 32))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('values[1].layout'),
    });
    await expect(layout(rowMajor(7, 64))).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(layout([])).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(layout([...rowMajor(8, 64), { axis: 'm', stride: 1, size: 2 }])).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('"m"'),
    });
    await expect(
      layout([
        { axis: 'n', stride: 1, size: 8 },
        { axis: 'k', stride: 2, size: 64 },
      ]),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('enumerate') });
    await expect(
      layout([
        { axis: 'n', stride: 1, size: 8 },
        { axis: 'k', stride: 1, size: 8 },
        { axis: 'k', stride: 4, size: 8 },
      ]),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(
      layout([
        { axis: 'n', stride: 1, size: 8 },
        { axis: 'k', stride: 1, size: 64 },
        { axis: 'k', stride: 64, size: 2 ** 30 },
        { axis: 'n', stride: 8, size: 2 ** 30 },
      ]),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('too many') });
    await expect(run(weight({ scaleLayout: [] }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('values[1].scaleLayout'),
    });
    await expect(run(weight({ scaleLayout: [{ axis: 'k', stride: 1, size: 8 }] }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('"k"'),
    });
    await expect(
      run(
        weight({
          axes: [
            { name: 'n', extent: 8 },
            { name: 'k', extent: 63 },
          ],
        }),
      ),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('`weight` of `nodes[0]` (dense)') });
    await expect(
      run(
        weight({
          axes: [
            { name: 'n', extent: 7 },
            { name: 'k', extent: 64 },
          ],
        }),
      ),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('`output` of') });
  });
});

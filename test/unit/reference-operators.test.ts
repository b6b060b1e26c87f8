// The reference's norm, quantise and attention against naive ones, special values included; and refusals.
import { describe, expect, it } from 'vitest';
import { type OperatorV1, programOfV1 } from '../../lib/artifact/upgrade.js';
import { floatToHalf } from '../../lib/formats/codes.js';
import { activationFormats } from '../../lib/formats/index.js';
import { native, type NativeNode, type NativeProgram, type NativeValue } from '../../lib/native.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import { attentionProgram } from '../fixtures/programs.js';
import {
  type AttentionOperator,
  bytesOf,
  halvesOf,
  isMxActivation,
  naiveActivation,
  naiveAttention,
  type NormOperator,
  type QuantiseOperator,
  Random,
} from './reference-naive.js';
import { checkSampled } from './reference-sampled.js';

const kPoison = 0xa5;
const kActivations = activationFormats().map(({ id }) => id);
const kQuantised = kActivations.filter((format) => format !== 'fp16');

const programOf = (operator: OperatorV1): NativeProgram => nativeProgram(programOfV1(operator));
const attentionOf = (operator: AttentionOperator): NativeProgram => nativeProgram(attentionProgram(operator));

/** The program with one value or node changed. */
function changed(program: NativeProgram, list: 'values', index: number, change: Partial<NativeValue>): NativeProgram;
function changed(program: NativeProgram, list: 'nodes', index: number, change: Partial<NativeNode>): NativeProgram;
function changed(program: NativeProgram, list: 'values' | 'nodes', index: number, change: object): NativeProgram {
  return { ...program, [list]: program[list].map((one, i) => (i === index ? { ...one, ...change } : one)) };
}

function activationOutputs({ m, k, activation }: NormOperator | QuantiseOperator): Uint8Array[] {
  const sizes = activation === 'fp16' ? [2 * m * k] : [m * k, isMxActivation(activation) ? (m * k) / 32 : 4 * m];
  return sizes.map((size) => new Uint8Array(size).fill(kPoison));
}

describe('norm and quantise', () => {
  for (const activation of kActivations) {
    it(`${activation}: the naive codes and scales, bit by bit`, async () => {
      for (let seed = 0; seed < 10; ++seed) {
        const random = new Random(seed);
        const m = 1 + random.integer(5);
        const k = 32 * (1 + random.integer(20));
        const spread = 2 ** random.integer(12);
        const x = random.halves(m * k, -spread, spread);
        const operators: (NormOperator | QuantiseOperator)[] = [
          { op: 'norm', m, k, norm: { kind: 'rms', eps: 1e-5 }, activation },
          { op: 'norm', m, k, norm: { kind: 'layer', eps: 1e-3 }, activation },
        ];
        if (activation !== 'fp16') operators.push({ op: 'quantise', m, k, activation });
        for (const operator of operators) {
          const inputs = [x];
          if (operator.op === 'norm') inputs.push(random.halves(k, 0.5, 1.5));
          if (operator.op === 'norm' && operator.norm.kind === 'layer') inputs.push(random.halves(k));
          const outputs = activationOutputs(operator);
          await native().referenceRun({ program: programOf(operator), inputs, outputs });
          if (seed < 3) await checkSampled(programOf(operator), inputs);
          naiveActivation(operator, inputs).forEach((expected, i) =>
            expect(Buffer.compare(outputs[i]!, expected), `output ${i}, seed ${seed}, ${operator.op}`).toBe(0),
          );
        }
      }
    });
  }

  it('gives a row of zeros scale 1 (E8M0 127) and codes 0', async () => {
    for (const activation of kQuantised) {
      const operator: QuantiseOperator = { op: 'quantise', m: 2, k: 32, activation };
      const outputs = activationOutputs(operator);
      await native().referenceRun({ program: programOf(operator), inputs: [new Uint8Array(128)], outputs });
      expect([...outputs[0]!]).toEqual(new Array(64).fill(0));
      if (isMxActivation(activation)) expect([...outputs[1]!]).toEqual([127, 127]);
      else expect([...new Float32Array(outputs[1]!.buffer)]).toEqual([1, 1]);
    }
  });

  it('keeps the smallest and the largest magnitudes of FP16', async () => {
    for (const magnitude of [2 ** -24, 65504]) {
      for (const activation of kQuantised) {
        const operator: QuantiseOperator = { op: 'quantise', m: 1, k: 32, activation };
        const x = new Uint16Array(32);
        x[3] = floatToHalf(magnitude);
        x[9] = floatToHalf(-magnitude);
        const inputs = [bytesOf(x)];
        const outputs = activationOutputs(operator);
        await native().referenceRun({ program: programOf(operator), inputs, outputs });
        naiveActivation(operator, inputs).forEach((expected, i) => expect([...outputs[i]!]).toEqual([...expected]));
        expect(outputs[0]![3]).not.toBe(0);
      }
    }
  });

  it('refuses parameters, scales and shapes that do not go together', async () => {
    const run = (program: NativeProgram, inputs = [new Uint8Array(80)]): Promise<void> =>
      native().referenceRun({ program, inputs, outputs: [new Uint8Array(40), new Uint8Array(4)] });
    const quantise = programOf({ op: 'quantise', m: 1, k: 40, activation: 'int8' });
    const norm = programOf({ op: 'norm', m: 1, k: 40, norm: { kind: 'rms', eps: 1e-5 }, activation: 'int8' });
    await run(quantise);
    await expect(run(norm)).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: expect.stringContaining('`gain` of `nodes[0]` (norm)'),
    });
    const both = [new Uint8Array(80), new Uint8Array(80)];
    await run(norm, both);
    await expect(run(changed(norm, 'nodes', 0, { strings: { kind: 'batch' } }), both)).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`kind` of `nodes[0]` (norm)'),
    });
    await expect(run(changed(norm, 'nodes', 0, { numbers: {} }), both)).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`eps`'),
    });
    await expect(run(changed(norm, 'nodes', 0, { numbers: { eps: -1 } }), both)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const out = quantise.outputs[0]!;
    const scale = quantise.values[out]!.scale!;
    await expect(run(changed(quantise, 'values', out, { scale: { ...scale, per: [{ axis: 'z', count: 1 }] } }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('"z"'),
    });
    await expect(run(changed(quantise, 'values', out, { scale: { ...scale, per: [{ axis: 'm', count: 0 }] } }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
    });
    await expect(run(changed(quantise, 'values', out, { scale: { ...scale, type: 'e8m0' } }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    await expect(run(changed(quantise, 'values', out, { scale: { ...scale, fit: { kind: 'mean' } } }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    await expect(run(changed(quantise, 'values', out, { type: 'f16' }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('element'),
    });
    await expect(run(changed(quantise, 'values', out, { cellBits: 7 }))).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('cellBits'),
    });
    await expect(run(changed(quantise, 'nodes', 0, { kind: 'unheard_of' }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('unheard_of'),
    });
  });
});

describe('attention', () => {
  const cases: [string, AttentionOperator][] = [
    [
      'single tokens, grouped heads, rope',
      { op: 'attention', batch: 3, seq: 1, heads: 8, kvHeads: 2, headDim: 16, order: 'concatenated', position: 'rope', ropeBase: 10000 },
    ],
    [
      'several tokens, grouped heads, rope',
      { op: 'attention', batch: 2, seq: 11, heads: 4, kvHeads: 2, headDim: 32, order: 'concatenated', position: 'rope', ropeBase: 10000 },
    ],
    [
      'long sequence, small base',
      { op: 'attention', batch: 1, seq: 130, heads: 1, kvHeads: 1, headDim: 8, order: 'concatenated', position: 'rope', ropeBase: 10 },
    ],
    [
      'interleaved, ALiBi, heads a power of two',
      { op: 'attention', batch: 2, seq: 9, heads: 8, kvHeads: 8, headDim: 10, order: 'interleaved', position: 'alibi', ropeBase: 10000 },
    ],
    [
      'interleaved, ALiBi, 7 heads',
      { op: 'attention', batch: 1, seq: 20, heads: 7, kvHeads: 7, headDim: 5, order: 'interleaved', position: 'alibi', ropeBase: 10000 },
    ],
    [
      'concatenated, ALiBi, one key head',
      { op: 'attention', batch: 2, seq: 6, heads: 12, kvHeads: 1, headDim: 4, order: 'concatenated', position: 'alibi', ropeBase: 10000 },
    ],
    [
      'no positions',
      { op: 'attention', batch: 2, seq: 6, heads: 3, kvHeads: 3, headDim: 8, order: 'concatenated', position: 'none', ropeBase: 10000 },
    ],
    [
      'causal, rope',
      {
        op: 'attention',
        batch: 2,
        seq: 9,
        heads: 4,
        kvHeads: 2,
        headDim: 8,
        order: 'concatenated',
        position: 'rope',
        ropeBase: 100,
        mask: 'causal',
      },
    ],
    [
      'causal, ALiBi',
      {
        op: 'attention',
        batch: 2,
        seq: 7,
        heads: 6,
        kvHeads: 6,
        headDim: 4,
        order: 'interleaved',
        position: 'alibi',
        ropeBase: 10000,
        mask: 'causal',
      },
    ],
  ];
  for (const [name, operator] of cases) {
    it(name, async () => {
      const { batch, seq, heads, kvHeads, headDim } = operator;
      const qkv = new Random(heads).halves(batch * seq * (heads + 2 * kvHeads) * headDim, -3, 3);
      const output = new Uint8Array(batch * seq * heads * headDim * 2).fill(kPoison);
      await native().referenceRun({ program: attentionOf(operator), inputs: [qkv], outputs: [output] });
      await checkSampled(attentionOf(operator), [qkv]);
      const expected = naiveAttention(operator, qkv);
      halvesOf(output).forEach((value, i) => {
        const tolerance = Math.abs(expected[i]!) * 2 ** -11 + 2 ** -16;
        if (!(Math.abs(value - expected[i]!) <= tolerance)) expect.fail(`element ${i}: ${value} instead of ${expected[i]}`);
      });
    });
  }

  it('refuses head counts that do not go together', async () => {
    const operator = cases[0]![1];
    const run = (change: Partial<AttentionOperator>, inputs = [new Uint8Array(3 * 12 * 16 * 2)]): Promise<void> => {
      const { batch, seq, heads, kvHeads, headDim, order, position, ropeBase, mask } = { ...operator, ...change };
      const program = changed(attentionOf(operator), 'nodes', 0, {
        numbers: { batch, seq, heads, kvHeads, headDim, ropeBase },
        strings: { order, position, ...(mask && { mask }) },
      });
      return native().referenceRun({ program, inputs, outputs: [new Uint8Array(3 * 8 * 16 * 2)] });
    };
    await run({});
    await expect(run({ kvHeads: 3 })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('kvHeads') });
    await expect(run({ order: 'interleaved' })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(run({ mask: 'sliding' as 'causal' })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/one of none, causal for `mask`/),
    });
    await expect(run({ headDim: 15 })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('headDim') });
    await expect(run({ headDim: 8 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('`qkv`') });
    await expect(run({ seq: 2 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(run({ seq: 2 ** 31 - 1, batch: 2 ** 31 - 1 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(run({}, [new Uint8Array(2)])).rejects.toMatchObject({ code: 'WRONG_LENGTH', message: expect.stringContaining('`qkv`') });
  });
});

describe('queries and keys', () => {
  it('norm and rotation with scaled frequencies, of samples what they are of the whole', async () => {
    const [m, seq, heads, kvHeads, headDim] = [12, 6, 3, 1, 16];
    const axes = [
      { name: 'm', extent: m },
      { name: 'c', extent: (heads + 2 * kvHeads) * headDim },
    ];
    const gain = { axes: [{ name: 'd', extent: headDim }], type: 'f16' as const };
    const value = { axes, type: 'f16' as const };
    const params = {
      seq,
      heads,
      kvHeads,
      headDim,
      position: 'rope',
      ropeBase: 10,
      factor: 4,
      lowFactor: 1,
      highFactor: 3,
      originalPositions: 8,
      eps: 1e-3,
    };
    const program = nativeProgram({
      values: [value, gain, gain, value],
      nodes: [{ kind: 'query_key', params, inputs: [0, 1, 2], outputs: [3] }],
      inputs: [0, 1, 2],
      outputs: [3],
    });
    const random = new Random(5);
    const inputs = [random.halves(m * axes[1]!.extent, -3, 3), random.halves(headDim, 0.5, 1.5), random.halves(headDim, 0.5, 1.5)];
    const output = new Uint8Array(inputs[0]!.length).fill(kPoison);
    await native().referenceRun({ program, inputs, outputs: [output] });
    await checkSampled(program, inputs);
    const [x, ...gains] = inputs.map(halvesOf);
    halvesOf(output).forEach((found, i) => {
      const [row, column] = [Math.floor(i / axes[1]!.extent), i % axes[1]!.extent];
      const [head, d] = [Math.floor(column / headDim), column % headDim];
      const own = Array.from(x!.slice(i - d, i - d + headDim));
      const root = Math.sqrt(own.reduce((sum, one) => sum + one * one, 0) / headDim + 1e-3);
      const normed = own.map((one, c) => (one / root) * gains[head < heads ? 0 : 1]![c]!);
      const frequency = 10 ** ((-2 * (d % 8)) / headDim);
      const turns = (8 * frequency) / (2 * Math.PI);
      const smooth = Math.min(Math.max((turns - 1) / 2, 0), 1);
      const angle = (row % seq) * ((1 - smooth) * (frequency / 4) + smooth * frequency);
      const other = d < 8 ? -normed[d + 8]! : normed[d - 8]!;
      const expected = head >= heads + kvHeads ? own[d]! : normed[d]! * Math.cos(angle) + other * Math.sin(angle);
      expect(
        !(Math.abs(found - expected) <= Math.abs(expected) * 2 ** -11 + 2 ** -16),
        `element ${i}: ${found} instead of ${expected}`,
      ).toBe(false);
    });
  });
});

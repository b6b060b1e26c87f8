// The reference's norm, quantise and attention against naive ones, special values included; and refusals.
import { describe, expect, it } from 'vitest';
import { activationFormats, type AttentionOperator, isMxFormat, type NormOperator, type QuantiseOperator } from '../../lib/artifact/operators.js';
import { floatToHalf } from '../../lib/compiler/formats.js';
import { native } from '../../lib/native.js';
import { bytesOf, halvesOf, naiveActivation, naiveAttention, Random } from './reference-naive.js';

const kPoison = 0xa5;

function activationOutputs({ m, k, activation }: NormOperator | QuantiseOperator): Uint8Array[] {
  const sizes = activation === 'fp16' ? [2 * m * k] : [m * k, isMxFormat(activation) ? (m * k) / 32 : 4 * m];
  return sizes.map((size) => new Uint8Array(size).fill(kPoison));
}

describe('norm and quantise', () => {
  for (const activation of activationFormats) {
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
        for (const semantics of operators) {
          const inputs = [x];
          if (semantics.op === 'norm') inputs.push(random.halves(k, 0.5, 1.5));
          if (semantics.op === 'norm' && semantics.norm.kind === 'layer') inputs.push(random.halves(k));
          const outputs = activationOutputs(semantics);
          await native().referenceRun({ semantics, inputs, outputs });
          naiveActivation(semantics, inputs).forEach((expected, i) => expect(Buffer.compare(outputs[i]!, expected), `output ${i}, seed ${seed}, ${semantics.op}`).toBe(0));
        }
      }
    });
  }

  it('gives a row of zeros scale 1 (E8M0 127) and codes 0', async () => {
    for (const activation of activationFormats.filter((format) => format !== 'fp16')) {
      const semantics: QuantiseOperator = { op: 'quantise', m: 2, k: 32, activation };
      const outputs = activationOutputs(semantics);
      await native().referenceRun({ semantics, inputs: [new Uint8Array(128)], outputs });
      expect([...outputs[0]!]).toEqual(new Array(64).fill(0));
      if (isMxFormat(activation)) expect([...outputs[1]!]).toEqual([127, 127]);
      else expect([...new Float32Array(outputs[1]!.buffer)]).toEqual([1, 1]);
    }
  });

  it('keeps the smallest and the largest magnitudes of FP16', async () => {
    for (const magnitude of [2 ** -24, 65504]) {
      for (const activation of activationFormats.filter((format) => format !== 'fp16')) {
        const semantics: QuantiseOperator = { op: 'quantise', m: 1, k: 32, activation };
        const x = new Uint16Array(32);
        x[3] = floatToHalf(magnitude);
        x[9] = floatToHalf(-magnitude);
        const inputs = [bytesOf(x)];
        const outputs = activationOutputs(semantics);
        await native().referenceRun({ semantics, inputs, outputs });
        naiveActivation(semantics, inputs).forEach((expected, i) => expect([...outputs[i]!]).toEqual([...expected]));
        expect(outputs[0]![3]).not.toBe(0);
      }
    }
  });

  it('refuses unknown formats, absent norms and MX blocks that do not fit', async () => {
    const run = (semantics: NormOperator | QuantiseOperator): Promise<void> => native().referenceRun({ semantics, inputs: [new Uint8Array(80)], outputs: [new Uint8Array(40), new Uint8Array(4)] });
    await expect(run({ op: 'quantise', m: 1, k: 40, activation: 'mxfp8_e4m3' })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('32') });
    await expect(run({ op: 'quantise', m: 1, k: 40, activation: 'fp16' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(run({ op: 'quantise', m: 1, k: 40, activation: 'int3' as 'int4' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('int3') });
    await expect(run({ op: 'quantise', m: 0, k: 40, activation: 'int8' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('`m`') });
    await expect(run({ op: 'norm', m: 1, k: 40, norm: { kind: 'rms', eps: 1e-5 }, activation: 'int8' })).rejects.toMatchObject({ code: 'WRONG_LENGTH', message: expect.stringContaining('`gain`') });
  });
});

describe('attention', () => {
  const cases: [string, AttentionOperator][] = [
    ['single tokens, grouped heads, rope', { op: 'attention', batch: 3, seq: 1, heads: 8, kvHeads: 2, headDim: 16, order: 'concatenated', position: 'rope', ropeBase: 10000 }],
    ['several tokens, grouped heads, rope', { op: 'attention', batch: 2, seq: 11, heads: 4, kvHeads: 2, headDim: 32, order: 'concatenated', position: 'rope', ropeBase: 10000 }],
    ['long sequence, small base', { op: 'attention', batch: 1, seq: 130, heads: 1, kvHeads: 1, headDim: 8, order: 'concatenated', position: 'rope', ropeBase: 10 }],
    ['interleaved, ALiBi, heads a power of two', { op: 'attention', batch: 2, seq: 9, heads: 8, kvHeads: 8, headDim: 10, order: 'interleaved', position: 'alibi', ropeBase: 10000 }],
    ['interleaved, ALiBi, 7 heads', { op: 'attention', batch: 1, seq: 20, heads: 7, kvHeads: 7, headDim: 5, order: 'interleaved', position: 'alibi', ropeBase: 10000 }],
    ['concatenated, ALiBi, one key head', { op: 'attention', batch: 2, seq: 6, heads: 12, kvHeads: 1, headDim: 4, order: 'concatenated', position: 'alibi', ropeBase: 10000 }],
  ];
  for (const [name, semantics] of cases) {
    it(name, async () => {
      const { batch, seq, heads, kvHeads, headDim } = semantics;
      const qkv = new Random(heads).halves(batch * seq * (heads + 2 * kvHeads) * headDim, -3, 3);
      const output = new Uint8Array(batch * seq * heads * headDim * 2).fill(kPoison);
      await native().referenceRun({ semantics, inputs: [qkv], outputs: [output] });
      const expected = naiveAttention(semantics, qkv);
      halvesOf(output).forEach((value, i) => {
        const tolerance = Math.abs(expected[i]!) * 2 ** -11 + 2 ** -16;
        if (!(Math.abs(value - expected[i]!) <= tolerance)) expect.fail(`element ${i}: ${value} instead of ${expected[i]}`);
      });
    });
  }

  it('refuses head counts that do not go together', async () => {
    const run = (change: Partial<AttentionOperator>): Promise<void> => native().referenceRun({ semantics: { ...cases[0]![1], ...change }, inputs: [new Uint8Array(2)], outputs: [new Uint8Array(2)] });
    await expect(run({ kvHeads: 3 })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('kvHeads') });
    await expect(run({ order: 'interleaved' })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(run({ headDim: 15 })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('headDim') });
    await expect(run({})).rejects.toMatchObject({ code: 'WRONG_LENGTH', message: expect.stringContaining('`qkv`') });
  });
});

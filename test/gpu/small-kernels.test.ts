// Norm, quantise and attention kernels on a real GPU, each against the reference: all formats, odd row lengths, all kinds of
// heads, one to 64 tokens; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import type { OperatorV1 } from '../../lib/artifact/upgrade.js';
import { attention } from '../../lib/compiler/kernels/attention.js';
import { activationFormats } from '../../lib/formats/index.js';
import { attentionProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

type AttentionOperator = Extract<OperatorV1, { op: 'attention' }>;

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

function activationCases(): OperatorCase[] {
  const cases: OperatorCase[] = [];
  const wide = { kind: 'uniform', low: -300, high: 200 } as const;
  for (const {
    id: activation,
    activation: { scale },
  } of activationFormats()) {
    for (const [m, k] of [
      [3, 96],
      [5, 8192],
      [33, 14336],
    ] as const) {
      cases.push({ name: `rms_${activation}_${m}_${k}`, operator: { op: 'norm', m, k, norm: { kind: 'rms', eps: 1e-5 }, activation } });
      cases.push({
        name: `layer_${activation}_${m}_${k}`,
        operator: { op: 'norm', m, k, norm: { kind: 'layer', eps: 1e-5 }, activation },
        activations: wide,
      });
    }
    // Many short rows, which warps have to themselves.
    if (scale?.fit.kind !== 'mx')
      for (const [m, k] of [
        [4099, 384],
        [4096, 1000],
      ] as const)
        cases.push({
          name: `warps_${activation}_${m}_${k}`,
          operator: { op: 'norm', m, k, norm: { kind: 'layer', eps: 1e-5 }, activation },
          activations: wide,
        });
    if (!scale) continue;
    for (const [m, k] of [
      [7, 28672],
      [2, 57344],
    ] as const) {
      cases.push({ name: `quantise_${activation}_${m}_${k}`, operator: { op: 'quantise', m, k, activation }, activations: wide });
    }
    // All zeros: the scale is 1.
    cases.push({
      name: `zeros_${activation}`,
      operator: { op: 'quantise', m: 2, k: 64, activation },
      activations: { kind: 'uniform', low: 0, high: 0 },
    });
  }
  cases.push({
    name: 'held_56',
    operator: { op: 'norm', m: 3, k: 56, norm: { kind: 'layer', eps: 1e-5 }, activation: 'fp16' },
    tuning: { threads: 32 },
  });
  cases.push({ name: 'full_2048', operator: { op: 'quantise', m: 3, k: 2048, activation: 'int8' }, tuning: { threads: 32 } });
  return cases;
}

function attentionCases(): OperatorCase[] {
  const llama: AttentionOperator = {
    op: 'attention',
    batch: 2,
    seq: 1,
    heads: 64,
    kvHeads: 8,
    headDim: 128,
    order: 'concatenated',
    position: 'rope',
    ropeBase: 10000,
  };
  const bloom: AttentionOperator = { ...llama, heads: 112, kvHeads: 112, order: 'interleaved', position: 'alibi' };
  const cases: OperatorCase[] = [];
  const activations = { kind: 'uniform', low: -2, high: 2 } as const;
  const add = (name: string, operator: AttentionOperator, tuning = {}): void => void cases.push({ name, operator, tuning, activations });
  for (const seq of [1, 2, 31, 33, 64]) {
    add(`llama_${seq}`, { ...llama, seq });
    add(`bloom_${seq}`, { ...bloom, seq });
    add(`narrow_${seq}`, { ...llama, seq, heads: 6, kvHeads: 2, headDim: 64, ropeBase: 500 });
    add(`wide_${seq}`, { ...llama, seq, heads: 3, kvHeads: 1, headDim: 256 });
  }
  add('llama_32_sequences', { ...llama, batch: 32 });
  add('bloom_32_sequences', { ...bloom, batch: 32 });
  add('one_sequence', { ...llama, batch: 1 });
  add('warps_past_the_end', { ...llama, batch: 1, heads: 5, kvHeads: 5 }, { warps: 3 });
  add('more_warps_than_tokens', { ...llama, seq: 3 }, { warps: 8 });
  for (const seq of [1, 33, 50])
    cases.push({
      name: `none_${seq}`,
      operator: attentionProgram({ ...llama, batch: 3, seq, heads: 6, kvHeads: 6, headDim: 64, position: 'none' }),
      activations,
      among: [attention],
    });
  return cases;
}

describe('small kernels', { timeout: 900_000 }, () => {
  it('norm and quantise', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(activationCases());
  });
  it('attention', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(attentionCases());
  });
  it('the same from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        ...activationCases().filter(({ name }) => /_8192$|^zeros/.test(name)),
        ...attentionCases().filter(({ name }) => /_(1|33)$/.test(name)),
      ],
      ['compute_80'],
    );
  });
});

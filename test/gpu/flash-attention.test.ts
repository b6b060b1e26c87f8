// Attention in tiles on a real GPU against the reference: lengths that no tile divides, several sequences, all sizes of heads, grouped
// queries, both kinds of positions, with and without a mask; short sequences with a mask; as machine code and, forced, from
// compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { flash } from '../../lib/compiler/kernels/flash.js';
import { type AttentionShape, attentionProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

const rope: AttentionShape = {
  batch: 1,
  seq: 65,
  heads: 6,
  kvHeads: 2,
  headDim: 128,
  order: 'concatenated',
  position: 'rope',
  ropeBase: 10000,
};
const alibi: AttentionShape = { ...rope, heads: 4, kvHeads: 4, order: 'interleaved', position: 'alibi' };

const none: AttentionShape = { ...rope, heads: 6, kvHeads: 6, headDim: 64, position: 'none' };

function attentionCase(shape: AttentionShape): OperatorCase {
  const { batch, seq, headDim, position, mask = 'none' } = shape;
  return {
    name: `${position}_${batch}x${seq}_d${headDim}_${mask}`,
    operator: attentionProgram(shape),
    activations: { kind: 'uniform', low: -2, high: 2 },
    // Others rank before it without positions.
    ...(position === 'none' && { among: [flash] }),
  };
}

const masked = (shape: AttentionShape): readonly AttentionShape[] => [shape, { ...shape, mask: 'causal' }];
const cases = [
  ...[rope, alibi].flatMap((kind) => [
    ...[64, 96, 128].flatMap((headDim) => [...masked({ ...kind, headDim }), ...masked({ ...kind, headDim, batch: 3, seq: 127 })]),
    ...masked({ ...kind, seq: 128 }),
    ...masked({ ...kind, batch: 2, seq: 1000 }),
    ...[1, 7].map((seq): AttentionShape => ({ ...kind, headDim: 96, batch: 3, seq, mask: 'causal' })),
    // Short sequences with a mask: kernels of their own.
    ...[2, 33, 64].map((seq): AttentionShape => ({ ...kind, seq, mask: 'causal' })),
  ]),
  // More queries to a key head: values are moved as well.
  ...masked({ ...rope, heads: 8, batch: 3, seq: 200 }),
  // Without positions: short sequences that begin within eight rows, and the networks' lengths.
  ...[3, 64].map((batch) => ({ ...none, batch, seq: 50 })),
  ...[1, 3].map((batch) => ({ ...none, batch, seq: 512 })),
  // Queries share keys under ALiBi, too.
  { ...rope, position: 'alibi' as const, batch: 2, seq: 300, headDim: 64 },
].map(attentionCase);

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

describe('attention in tiles', { timeout: 900_000 }, () => {
  it('lengths around its tiles', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases);
  });
  it('long sequences, rows of them', async ({ skip }) => {
    if (missing) skip(missing);
    const long = [4097, 16384].flatMap((seq) => [rope, alibi].flatMap((kind) => masked({ ...kind, seq })));
    await verifyOperators(long.map(attentionCase), undefined, 24);
  });
  it('the same from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases, ['compute_80']);
  });
});

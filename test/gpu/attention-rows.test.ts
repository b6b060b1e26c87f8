// Attention in rows on a real GPU against the reference: lengths around its blocks of keys and queries, both orders of heads, shared
// key heads, every configuration, by warpgroups all shapes of many tokens; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { attentionRows } from '../../lib/compiler/kernels/attention-rows.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { type AttentionShape, attentionProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

const base: AttentionShape = {
  batch: 3,
  seq: 50,
  heads: 6,
  kvHeads: 6,
  headDim: 64,
  order: 'concatenated',
  position: 'none',
  ropeBase: 10000,
};
const shapes: readonly AttentionShape[] = [
  ...[16, 17, 50, 63, 64, 65, 128, 130, 255, 321, 512].map((seq) => ({ ...base, seq })),
  ...[33, 200].flatMap((seq) => [
    { ...base, seq, order: 'interleaved' as const },
    { ...base, seq, kvHeads: 2 },
    { ...base, seq, headDim: 128 },
  ]),
  { ...base, batch: 128 },
  { ...base, batch: 70, seq: 512, heads: 2, kvHeads: 2 },
];

const cases = shapes.flatMap((shape): OperatorCase[] => {
  const program = attentionProgram(shape);
  const match = attentionRows.accepts(program, layoutTarget);
  // Of all shapes the default and warpgroups; of two every configuration.
  const tunings = attentionRows
    .configurations(match, layoutTarget)
    .filter((tuning, i) => i === 0 || tuning['groups'] !== undefined || ([50, 130].includes(shape.seq) && shape.batch === 3));
  return tunings.map((tuning, i) => ({
    name: `${shape.order}_${shape.batch}x${shape.seq}_kv${shape.kvHeads}_d${shape.headDim}_${i}`,
    operator: program,
    tuning,
    activations: { kind: 'uniform', low: -2, high: 2 },
    among: [attentionRows],
  }));
});

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

describe('attention in rows', { timeout: 900_000 }, () => {
  it('lengths around its blocks, every configuration', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases);
  });
  it('the same from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases, ['compute_80']);
  });
});

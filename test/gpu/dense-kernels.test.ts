// Dense products on a real GPU, each against the reference on the host: all formats and epilogues, shapes that no tile divides,
// k of one group, one to 64 tokens, clusters and none, one pass and several; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { thin } from '../../lib/compiler/kernels/matmul/thin.js';
import { vector } from '../../lib/compiler/kernels/matmul/vector.js';
import { warpgroup } from '../../lib/compiler/kernels/matmul/warpgroup.js';
import { isMx, weightFormat } from '../../lib/formats/index.js';
import { denseShape, type DenseShapeV1, kKernelWeights } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

const kWeights = kKernelWeights.map(({ id }) => id);

function caseOf(name: string, weight: string, over: Partial<DenseShapeV1> & { m: number }, tuning = {}): OperatorCase {
  return { name, operator: denseShape(weight, { n: 2141, k: 256, ...over }), among: [vector, thin, warpgroup], tuning };
}

/** A format's products of `m` tokens: one tile and one group of k, SiLU, GELU with a residual on rows that no tile divides. */
function products(weight: string, m: number, group: DenseShapeV1['group']): OperatorCase[] {
  const name = (what: string): string => `${weight}${group > 32 ? `g${group}` : ''}_m${m}_${what}`;
  const isMxWeight = isMx(weightFormat(weight));
  const given = isMxWeight ? { m } : { m, group };
  const k = Math.max(weight === 'int1' ? 256 : 64, group);
  const norm = (kind: 'rms' | 'layer'): Partial<DenseShapeV1> => (m === 1 ? { norm: { kind, eps: 1e-5 } } : {});
  return [
    caseOf(name('least'), weight, { ...given, n: 16, k, ...norm('rms') }),
    caseOf(name('silu'), weight, {
      ...given,
      n: m > 1 && (weightFormat(weight).element.bits < 8 || isMxWeight) ? 160 : 176,
      k: 5 * k,
      function: 'silu_mul',
      bias: true,
      ...norm('layer'),
    }),
    caseOf(name('gelu'), weight, { ...given, k: 11 * k, function: 'gelu_tanh', bias: true, residual: true }),
  ];
}

const tokens = [1, 2, 9, 17, 32, 33, 64];

describe('dense kernels', { timeout: 600_000 }, () => {
  it('every format, epilogue and class of token counts', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      kWeights.flatMap((weight) => tokens.flatMap((m) => products(weight, m, -1))),
      ['sm_90a'],
    );
  });

  it("groups along k, tunings that the defaults do not take, products too long for one token's kernel", async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        ...([64, 128] as const).flatMap((group) =>
          (['int4', 'nf4'] as const).flatMap((weight) => [1, 17, 32, 64].flatMap((m) => products(weight, m, group))),
        ),
        ...(['int4', 'nf4', 'int1', 'fp8_e4m3', 'mxfp8_e4m3'] as const).flatMap((weight) =>
          [1, 2].map((cluster) => caseOf(`${weight}_cluster${cluster}`, weight, { m: 32, n: 4096, k: 1024 }, { cluster })),
        ),
        // Ten tiles: eight places for the first warpgroup, and half as many for the last.
        ...(['int4', 'nf4', 'int1', 'mxfp8_e4m3'] as const).map((weight) =>
          caseOf(`${weight}_along_n`, weight, { m: 32, n: 10240, k: 1024 }, { groupsN: 2, groupsK: 1 }),
        ),
        caseOf('int4g128_along_n', 'int4', { m: 32, n: 10240, k: 1024, group: 128 }, { groupsN: 2, groupsK: 1 }),
        caseOf('int4_passes', 'int4', { m: 32, n: 20000, k: 512 }, { cluster: 1, passPairs: 2 }),
        caseOf('int1_stages', 'int1', { m: 32, n: 4096, k: 4096, residual: true }, { stageUnits: 1, groupsK: 1, groupsN: 1, stages: 2 }),
        caseOf('nf4_long', 'nf4', { m: 1, n: 512, k: 57344 }),
      ],
      ['sm_90a'],
    );
  });

  it('the same kernels from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        ...kWeights.flatMap((weight) => [1, 17, 64].flatMap((m) => products(weight, m, -1).slice(1))),
        ...(['int4', 'nf4'] as const).flatMap((weight) => products(weight, 32, 128).slice(1)),
      ],
      ['compute_80'],
    );
  });
});

// Dense products of 65 to 16384 tokens, and the norms and quantisations that feed them, on a real GPU, each against the reference on the
// host: all formats and epilogues, tokens and rows that no tile divides, results in rows and in panels, clusters and none; as machine
// code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { wide } from '../../lib/compiler/kernels/matmul/wide.js';
import { panelLayout } from '../../lib/compiler/kernels/panels.js';
import { weightFormat } from '../../lib/formats/index.js';
import type { Program } from '../../lib/operators/program.js';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { denseShape, type DenseShapeV1, kKernelWeights, plainDense } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

const kWeights = kKernelWeights.map(({ id }) => id);

/** The program whose result is stored in panels. */
function intoPanels(program: Program): Program {
  const [output] = program.outputs;
  return { ...program, values: program.values.map((value, i) => (i === output ? { ...value, layout: panelLayout(value)! } : value)) };
}

function product(name: string, weight: string, over: Partial<DenseShapeV1> & { m: number }, panels: boolean, tuning = {}): OperatorCase {
  const program = plainDense(denseShape(weight, over));
  return { name: `${weight}_${name}`, operator: panels ? intoPanels(program) : program, among: [wide], tuning };
}

/** A format's products: every epilogue, ends of tiles along the tokens and the rows, short and odd numbers of panels. */
function products(weight: string, group: DenseShapeV1['group']): OperatorCase[] {
  const given = weightFormat(weight).weight.groups.includes(group) ? { group } : {};
  const suffix = group > 32 ? `_g${group}` : '';
  const k = Math.max(weight === 'int1' ? 256 : 128, group);
  return [
    product(`least${suffix}`, weight, { ...given, m: 65, n: 8, k }, false),
    product(`panels${suffix}`, weight, { ...given, m: 127, n: 384, k: 3 * k, bias: true }, true, { cluster: 1 }),
    // The last tile's second warpgroup has no rows.
    product(`panels_half${suffix}`, weight, { ...given, m: 300, n: 320, k: 2 * k }, true),
    product(`silu${suffix}`, weight, { ...given, m: 300, n: 384, k: 5 * k, bias: true, function: 'silu_mul' }, true),
    product(`silu_rows${suffix}`, weight, { ...given, m: 257, n: 256, k: 2 * k, function: 'silu_mul', residual: true }, false),
    product(`rows${suffix}`, weight, { ...given, m: 127, n: 192, k: 3 * k, bias: true }, false, { cluster: 1 }),
    product(`gelu${suffix}`, weight, { ...given, m: 1000, n: 2141, k: 4 * k, bias: true, function: 'gelu_tanh', residual: true }, false),
  ];
}

/** Norm and quantisation into panels. */
function activations(kind: 'none' | 'rms' | 'layer', activation: string, m: number, k: number): OperatorCase {
  const operator =
    kind === 'none' ? { op: 'quantise' as const, m, k, activation } : { op: 'norm' as const, m, k, norm: { kind, eps: 1e-5 }, activation };
  return { name: `${kind}_${activation}_${m}_${k}`, operator: intoPanels(programOfV1(operator)) };
}

/** A copy of rows into panels. */
function copied(m: number, c: number): OperatorCase {
  const axes = [
    { name: 'm', extent: m },
    { name: 'c', extent: c },
  ];
  const value = { axes, type: 'f16' } as const;
  const nodes = [{ kind: 'relayout', params: {}, inputs: [0], outputs: [1] }];
  return { name: `copy_${m}_${c}`, operator: intoPanels({ values: [value, value], nodes, inputs: [0], outputs: [1] }) };
}

describe('wide kernels', { timeout: 600_000 }, () => {
  it('every format and epilogue', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        ...kWeights.flatMap((weight) => products(weight, -1)),
        ...(['int4', 'nf4'] as const).flatMap((weight) => [...products(weight, 64), ...products(weight, 128)]),
      ],
      ['sm_90a'],
    );
  });
  it('many tokens', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      kWeights.flatMap((weight) => [
        product('4097', weight, { m: 4097, n: 256, k: 512, residual: true }, false),
        product('16384', weight, { m: 16384, n: 128, k: 256 }, true, { groupTiles: 2 }),
      ]),
      ['sm_90a'],
    );
  });
  it('the same products from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        ...kWeights.flatMap((weight) => products(weight, -1)),
        ...(['int4', 'nf4'] as const).flatMap((weight) => products(weight, 128)),
        ...['fp16', 'int1'].map((weight) => product('4097', weight, { m: 4097, n: 256, k: 512, residual: true }, false)),
      ],
      ['compute_80'],
    );
  });
  it.for(['sm_90a', 'compute_80'])('norm and quantisation into panels, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [65, 1000].flatMap((m) => [
        activations('rms', 'fp16', m, 8192),
        activations('layer', 'fp16', m, 14336),
        activations('rms', 'fp8_e5m2', m, 8192),
        activations('layer', 'int8', m, 640),
        activations('none', 'fp8_e4m3', m, 28672),
        activations('none', 'int8', m, 57344),
        copied(m, 192),
      ]),
      [target],
    );
  });
});

// Products in tiles on a real GPU, each against the reference on the host: dense products and convolutions of every format, ends of tiles,
// panels and chunks, every unit of copies, patches of image planes, every step that may follow, codes as results, two products as one,
// clusters that share out k; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { tile } from '../../lib/compiler/kernels/matmul/tile.js';
import type { TileMatch } from '../../lib/compiler/kernels/matmul/tile-shape.js';
import { tileCandidates } from '../../lib/compiler/kernels/matmul/tile-tunings.js';
import type { Tuning } from '../../lib/compiler/kernels/plan.js';
import type { Program } from '../../lib/operators/program.js';
import { storedProgram } from '../fixtures/programs.js';
import { type Chain, chain, kTileFormats, tileProgram } from '../fixtures/tiles.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

function caseOf(name: string, given: Partial<Chain>, tuning = {}): OperatorCase {
  return { name, operator: tileProgram(chain(given)), among: [tile], tuning };
}

/** All tunings that there are, worth trying or not. */
function everyTile(program: Program): readonly Tuning[] {
  const { shape } = storedProgram(program, [tile]).match as TileMatch;
  return tileCandidates(shape, true).map((tuning) => ({ ...tuning }));
}

/** A format's products: both kinds, steps in their orders, sizes that nothing divides. */
function products(weight: string, activation: string): OperatorCase[] {
  const name = (what: string): string => `${weight}_${activation}_${what}`;
  const of = (what: string, given: Partial<Chain>, tuning = {}): OperatorCase =>
    caseOf(name(what), { weight, activation, ...given }, tuning);
  const mx = weight.startsWith('mx');
  const quantised = activation === 'fp16' ? 'int8' : activation;
  return [
    of('odd', { m: 77, n: 40, c: mx ? 96 : 72, steps: ['bias', 'residual', 'relu'] }),
    of('plain', { m: 333, n: 136, c: 256 }),
    of('gelu', { m: 65, n: 13, c: 96, steps: ['bias', 'gelu'] }),
    of('glu', { m: 200, n: 96, c: 160, steps: ['bias', 'glu'] }),
    of('silu', { m: 150, n: 200, c: 128, steps: ['bias', 'silu', 'residual'] }),
    of('conv', { m: 2, c: 64, n: 72, image: [14, 13, 3, 1], steps: ['bias', 'relu'] }),
    of('strided', { m: 3, c: 96, n: 64, image: [15, 15, 3, 2], steps: ['bias', 'residual', 'relu'] }),
    of('point', { m: 2, c: 128, n: 256, image: [14, 14, 1, 2], steps: ['bias'] }),
    ...(mx ? [] : [of('stem', { m: 2, c: 3, n: 64, image: [33, 32, 7, 2], steps: ['bias', 'relu'] })]),
    of('codes', { m: 300, n: 160, c: 128, steps: ['bias', 'relu'], codes: quantised }),
    of('both', { m: 2, c: 64, n: 96, image: [9, 9, 3, 1], steps: ['bias', 'residual', 'relu'], codes: quantised, both: true }),
    of('two', { m: 300, n: 200, c: 64, steps: ['bias', 'second', 'relu'], second: { c: 288, bias: true } }),
    of('two_strided', {
      m: 2 * 7 * 8,
      n: 96,
      c: 160,
      steps: ['bias', 'second', 'relu'],
      second: { c: 320, image: [2, 14, 15, 2], bias: true },
      codes: quantised,
      both: true,
    }),
    of('two_images', {
      m: 2,
      n: 64,
      c: 64,
      image: [9, 8, 3, 1],
      steps: ['second'],
      second: { c: 64, image: [2, 17, 16, 2] },
      codes: quantised,
    }),
    ...(mx ? [] : [of('odd_codes', { m: 70, n: 58, c: 96, steps: ['bias', 'silu'], codes: quantised, both: true })]),
    ...(mx ? [] : [of('unaligned', { m: 100, c: 58, n: 58, steps: ['bias', 'relu'] })]),
  ];
}

describe('kernels in tiles', { timeout: 600_000 }, () => {
  it.for(['sm_90a', 'compute_80'])('every format, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      kTileFormats.flatMap(([weight, activation]) => products(weight, activation)),
      [target],
    );
  });
  it.for(['sm_90a', 'compute_80'])('stems that read image planes, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [
        caseOf('resnet', { m: 2, c: 3, n: 64, image: [32, 32, 7, 2], planes: true, steps: ['bias', 'relu'] }),
        caseOf('shufflenet', { m: 3, c: 3, n: 24, image: [32, 64, 3, 2], planes: true, steps: ['bias', 'relu'] }),
        caseOf('codes', { m: 2, c: 3, n: 64, image: [32, 32, 7, 2], planes: true, steps: ['bias', 'relu'], codes: 'int4', both: true }),
        caseOf('one', { m: 1, c: 3, n: 64, image: [224, 224, 7, 2], planes: true, steps: ['bias', 'relu'] }),
        caseOf('many', { m: 128, c: 3, n: 24, image: [32, 32, 3, 2], planes: true, steps: ['bias', 'relu'] }),
        caseOf('gray', { m: 1, c: 1, n: 13, image: [64, 32, 5, 2], planes: true }),
      ],
      [target],
    );
  });
  it.for(['sm_90a', 'compute_80'])('patches of image planes, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    const tuned = [
      ['whole', { m: 4, c: 3, n: 72, patch: [224, 224, 16], steps: ['bias', 'residual', 'gelu'], codes: 'int8', both: true }],
      ['few', { m: 1, c: 3, n: 384, patch: [224, 224, 32], steps: ['bias', 'embed_tokens'] }],
    ] as const;
    await verifyOperators(
      [
        caseOf('small', { m: 9, c: 3, n: 128, patch: [32, 32, 16], steps: ['bias'] }),
        caseOf('one', { m: 70, c: 3, n: 64, patch: [32, 32, 32], steps: ['bias'] }),
        caseOf('wide', { m: 13, c: 1, n: 40, patch: [24, 72, 24] }),
        caseOf('gelu', { m: 13, c: 1, n: 40, patch: [24, 72, 24], steps: ['bias', 'gelu', 'embed_tokens'] }),
        caseOf('many', { m: 128, c: 3, n: 384, patch: [224, 224, 32], steps: ['bias', 'embed_tokens'] }),
        ...tuned.flatMap(([name, given]) =>
          (target === 'sm_90a' ? everyTile(tileProgram(chain(given))) : [{}]).map((tuning, i) => caseOf(`${name}_${i}`, given, tuning)),
        ),
      ],
      [target],
    );
  });
  it('every tile of two products, and clusters', async ({ skip }) => {
    if (missing) skip(missing);
    const given: Partial<Chain> = {
      m: 6 * 49,
      n: 200,
      c: 672,
      steps: ['bias', 'second', 'relu'],
      second: { c: 1056, image: [6, 14, 13, 2], bias: true },
      codes: 'int4',
      both: true,
    };
    await verifyOperators(
      (['fp16', 'fp8_e5m2', 'mxfp8_e5m2', 'int4', 'int1'] as const).flatMap((weight) => {
        const activation = weight === 'int4' || weight === 'int1' ? 'int4' : weight;
        const program = tileProgram(chain({ weight, activation, ...given }));
        return everyTile(program).map((tuning, i) => ({ name: `${weight}_${i}`, operator: program, among: [tile], tuning }));
      }),
      ['sm_90a'],
    );
  });
  it('lines that stay in shared memory for all taps', async ({ skip }) => {
    if (missing) skip(missing);
    const lines = { rows: 128, warpRows: 16, stages: 2, split: 1, resident: 1, wgmma: 2 };
    await verifyOperators(
      kTileFormats.flatMap(([weight, activation]) => {
        const of = (what: string, given: Partial<Chain>, outputs: number, tuning = {}): OperatorCase =>
          caseOf(
            `${weight}_${activation}_${what}`,
            { weight, activation, steps: ['bias', 'relu'], ...given },
            { ...lines, outputs, warpOutputs: outputs, ...tuning },
          );
        return [
          of('many', { m: 9, c: 64, n: 64, image: [28, 27, 3, 1] }, 64),
          of('few', { m: 1, c: 32, n: 32, image: [5, 7, 3, 1] }, 32),
          of('codes', { m: 3, c: 64, n: 64, image: [56, 56, 3, 1], codes: 'int4', both: true }, 64, { rows: 64 }),
        ];
      }),
      ['sm_90a'],
    );
  });
  it('MX block by block: every tile, and clusters', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      (['mxfp8_e5m2', 'mxfp8_e4m3'] as const).flatMap((weight) =>
        [
          { m: 300, n: 200, c: 1056, steps: ['bias', 'residual', 'relu'], codes: 'int4', both: true } as const,
          { m: 3, n: 96, c: 64, image: [14, 13, 3, 1], steps: ['bias', 'relu'], codes: weight } as const,
          { m: 5, n: 64, c: 32, image: [9, 8, 3, 2], steps: ['bias'] } as const,
        ].flatMap((sizes, size) => {
          const program = tileProgram(chain({ weight, activation: weight, ...sizes }));
          return everyTile(program)
            .filter(({ wgmma }) => wgmma === 3)
            .map((tuning, i) => ({ name: `${weight}_${size}_${i}`, operator: program, among: [tile], tuning }));
        }),
      ),
      ['sm_90a'],
    );
  });
  it('every tile, and clusters', async ({ skip }) => {
    if (missing) skip(missing);
    const groups = (rows: number, outputs: number, stages: number, resident: number, split: number) => ({
      rows,
      outputs,
      warpRows: 16,
      warpOutputs: outputs,
      stages,
      resident,
      split,
      wgmma: 1,
    });
    const tunings = [
      groups(128, 128, 3, 1, 1),
      groups(128, 256, 3, 1, 1),
      groups(128, 192, 4, 1, 1),
      groups(64, 32, 8, 1, 1),
      groups(64, 64, 4, 1, 2),
      groups(64, 32, 3, 1, 4),
      groups(64, 64, 3, 1, 8),
    ];
    await verifyOperators(
      (['fp16', 'fp8_e5m2', 'int4'] as const).flatMap((weight) =>
        tunings
          // FP8's sums need twice the registers.
          .filter(({ outputs }) => weight !== 'fp8_e5m2' || outputs < 256)
          .map((tuning, i) =>
            caseOf(
              `${weight}_${i}`,
              {
                weight,
                activation: weight === 'int4' ? 'int8' : weight,
                m: 300,
                n: 200,
                c: 1056,
                steps: ['bias', 'residual', 'relu'],
                codes: 'int4',
                both: i % 2 === 0,
              },
              tuning,
            ),
          ),
      ),
      ['sm_90a'],
    );
  });
});

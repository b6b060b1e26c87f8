// Products of few rows on a real GPU, each against the reference on the host: every format, with and without what comes before, ends of
// tiles and panels, every tuning; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { rows } from '../../lib/compiler/kernels/matmul/rows.js';
import { storedProgram } from '../fixtures/programs.js';
import { type Chain, chain, kTileFormats, tileProgram } from '../fixtures/tiles.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

const kFormats = kTileFormats.filter(([weight]) => !weight.startsWith('mx'));

function caseOf(name: string, given: Partial<Chain>, tuning = {}): OperatorCase {
  return { name, operator: tileProgram(chain(given)), among: [rows], tuning };
}

function products(weight: string, activation: string): OperatorCase[] {
  const plain = activation === 'fp16';
  const quantised: Chain['before'] = plain ? [] : ['quantise'];
  const of = (what: string, given: Partial<Chain>): OperatorCase =>
    caseOf(`${weight}_${activation}_${what}`, { weight, activation, before: quantised, ...given });
  return [
    of('plain', { m: 50, n: 384, c: 1536, steps: ['bias', 'residual'] }),
    of('layer', { m: 50, n: 1152, c: 384, before: ['layer', ...quantised], steps: ['bias'] }),
    of('rms', { m: 33, n: 200, c: 2040, before: ['rms', ...quantised], steps: ['gelu'] }),
    of('odd', { m: 61, n: 13, c: 72, before: ['layer', ...quantised], steps: ['bias', 'silu', 'residual'] }),
    of('glu', { m: 64, n: 96, c: 160, before: ['layer', ...quantised], steps: ['bias', 'glu'] }),
    ...(plain ? [] : [of('many', { m: 515, n: 1024, c: 512, before: ['layer', 'quantise'], steps: ['bias', 'glu'] })]),
  ];
}

describe('products of few rows', { timeout: 600_000 }, () => {
  it.for(['sm_90a', 'compute_80'])('every format, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      kFormats.flatMap(([weight, activation]) => products(weight, activation)),
      [target],
    );
  });
  it('every tuning', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      (['fp16', 'fp8_e5m2', 'int4'] as const).flatMap((weight) => {
        const given = {
          weight,
          activation: weight,
          m: 50,
          n: 384,
          c: 384,
          before: weight === 'fp16' ? (['layer'] as const) : (['layer', 'quantise'] as const),
          steps: ['bias', 'relu'],
        };
        return storedProgram(tileProgram(chain(given)), [rows])
          .configurations()
          .map((tuning, i) => caseOf(`${weight}_${i}`, given, tuning));
      }),
      ['sm_90a'],
    );
  });
});

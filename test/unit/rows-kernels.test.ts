// Plans of products of few rows: what is taken with what comes before it, and what is left to others; shared memory that fits; nvcc, where
// there is one, compiles every format's kernels without spills.
import { describe, expect, it } from 'vitest';
import { quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { lower } from '../../lib/compiler/graph/lower.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { rows } from '../../lib/compiler/kernels/matmul/rows.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import { hasNvcc, compileKernels } from '../fixtures/nvcc.js';
import { storedProgram } from '../fixtures/programs.js';
import { type Chain, chain, kTileFormats, tileProgram } from '../fixtures/tiles.js';

const kFormats = kTileFormats.filter(([weight]) => !weight.startsWith('mx'));
const few = (over: Partial<Chain> = {}) => tileProgram(chain({ m: 50, c: 384, n: 1152, ...over }));
const before = (activation: string): Chain['before'] => (activation === 'fp16' ? ['layer'] : ['layer', 'quantise']);
const refusal = (over: Partial<Chain>): Refusal => {
  const match = rows.accepts(few(over), layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
};

describe('products of few rows', () => {
  it('take a norm, a quantisation per row, both or neither', () => {
    const quantised = { weight: 'int4', activation: 'int8' };
    expect(rows.accepts(few({ before: ['layer'] }), layoutTarget)).toMatchObject({ norm: 'layer', shape: { xScale: 'none' } });
    expect(rows.accepts(few({ before: ['rms', 'quantise'], ...quantised }), layoutTarget)).toMatchObject({
      norm: 'rms',
      shape: { xScale: 'row' },
    });
    expect(rows.accepts(few({ before: ['quantise'], ...quantised }), layoutTarget)).toMatchObject({ norm: 'none', eps: 1 });
    expect(rows.accepts(few(), layoutTarget)).toMatchObject({ norm: 'none' });
  });

  it('are those of 33 rows and more, of so few that a wait costs more than a second norm', () => {
    expect(refusal({ m: 32 }).message).toBe('expected 33 to 64 rows but received 32');
    expect(refusal({ m: 65 }).message).toBe('expected 33 to 64 rows but received 65');
    expect(refusal({ m: 641, before: ['quantise'], weight: 'int4', activation: 'int4' }).dimension).toBe('m');
    expect(refusal({ c: 4096, n: 64 }).dimension).toBe('k');
    expect(refusal({ c: 60 }).dimension).toBe('k');
    expect(refusal({ c: 2048, n: 1024 }).dimension).toBe('n');
    expect(refusal({ weight: 'int4', activation: 'int8' }).dimension).toBe('x');
    expect(refusal({ weight: 'mxfp8_e5m2', activation: 'mxfp8_e5m2', before: ['quantise'] }).dimension).toBe('scale');
  });

  it('fuse what comes before and after in a graph', () => {
    const graph = new GraphBuilder();
    // No whole shares of a cluster: else both products would be a chain.
    const x = graph.input('x', [
      { name: 'm', extent: 50 },
      { name: 'c', extent: 400 },
    ]);
    const normed = graph.norm('norm', x, 'layer', 1e-5);
    const up = graph.node('gelu', 'gelu', [graph.dense('up', normed, 1600, true)]);
    const finished = graph.finish([graph.node('add', 'residual', [graph.dense('down', up, 400, true), x])]);
    const kinds = (built: typeof finished) =>
      lower(built, layoutTarget).operators.map(({ family, program }) => `${family.id}: ${program.nodes.map(({ kind }) => kind).join(' ')}`);
    expect(kinds(finished)).toEqual(['matmul/rows: norm dense add gelu', 'matmul/rows: dense add add']);
    const quantised = quantiseGraph(finished, ({ kind }) => (kind === 'dense' ? { weight: 'int4', input: 'int4' } : null), -1);
    expect(kinds(quantised)).toEqual(['matmul/rows: norm quantise dense add gelu', 'matmul/rows: quantise dense add add']);
  });

  it('offer the tuner what fits', () => {
    for (const [weight, activation] of kFormats) {
      const stored = storedProgram(few({ weight, activation, before: before(activation), steps: ['bias', 'gelu'] }), [rows]);
      const tunings = stored.configurations();
      expect(tunings.length).toBeGreaterThan(5);
      for (const tuning of tunings) {
        const [launch] = stored.plan('f', tuning).launches;
        expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
        expect(launch!.block[0]).toBeLessThanOrEqual(512);
      }
    }
  });
});

if (!hasNvcc) console.log('skipped: compiling kernels needs nvcc');

describe.skipIf(!hasNvcc)('compiled', () => {
  it('for both architectures, without spills', { timeout: 600_000 }, () => {
    for (const target of buildTargets.filter(({ capability }) => capability !== null)) {
      const plans = kFormats
        .filter(([weight]) => !weight.endsWith('e4m3'))
        .map(([weight, activation], i) =>
          storedProgram(few({ weight, activation, before: before(activation), steps: ['bias', 'gelu', 'residual'] }), [rows]).plan(
            `f${i}`,
            {},
            null,
            target,
          ),
        );
      const { status, spills } = compileKernels(plans, target.gencode);
      expect(status).toBe(0);
      expect(spills).toEqual(plans.map(() => ['0', '0']));
    }
  });
});

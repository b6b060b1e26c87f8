// Plans of the wide products and of what writes panels: what is taken and refused, and by which name; stored orders are bijections; panels
// go from one operator to the next without a copy; tunings fit; targets have kernels of their own.
import { describe, expect, it } from 'vitest';
import { designCheckpoint } from '../../lib/compiler/design.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { lower } from '../../lib/compiler/graph/lower.js';
import { quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { select } from '../../lib/compiler/kernels/index.js';
import { wide } from '../../lib/compiler/kernels/matmul/wide.js';
import { isInPanels, panelLayout } from '../../lib/compiler/kernels/panels.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { isMx, weightFormat } from '../../lib/formats/index.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import { axisExtent, axisOffsets, checkLayout } from '../../lib/operators/layout.js';
import { type DenseShapeV1, denseShape, kKernelWeights, plainDense, storedProgram } from '../fixtures/programs.js';

const kWeights = kKernelWeights.map(({ id }) => id);
const shapeOf = (weight: string, over: Partial<DenseShapeV1> = {}): DenseShapeV1 =>
  denseShape(weight, { m: 4096, n: 2048, k: 1024, ...over });
const refused = (weight: string, over: Partial<DenseShapeV1>): Refusal => {
  const match = wide.accepts(plainDense(shapeOf(weight, over)), layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
};

describe('wide products', () => {
  it('take 65 to 16384 tokens of every format, on every target', () => {
    for (const weight of kWeights)
      for (const m of [65, 1000, 16384])
        for (const target of buildTargets) expect(select(plainDense(shapeOf(weight, { m })), target)?.family).toBe(wide);
    expect(refused('fp16', { m: 64 })).toMatchObject({ dimension: 'm', message: 'expected 65 to 16384 tokens but received 64' });
    expect(refused('fp16', { m: 16385 }).dimension).toBe('m');
  });

  it('refuse other sizes and steps by name', () => {
    expect(refused('fp16', { k: 96 })).toMatchObject({ dimension: 'k', message: 'expected a multiple of 64 for fp16 but received 96' });
    expect(refused('fp8_e5m2', { k: 192 }).message).toBe('expected a multiple of 128 for fp8_e5m2 but received 192');
    expect(refused('int1', { k: 640 }).message).toBe('expected a multiple of 256 for int1 but received 640');
    expect(refused('int4', { k: 192, group: 128 }).dimension).toBe('k');
    expect(refused('int4', { n: 192, function: 'silu_mul' }).message).toBe('expected a multiple of 128 with silu_mul but received 192');
    expect(refused('fp16', { norm: { kind: 'rms', eps: 1e-5 } }).dimension).toBe('norm');
    expect(refused('fp8_e5m2', { input: 'fp16' }).dimension).toBe('input');
    expect(refused('int1', { k: 65536 + 256 }).message).toBe('expected at most 65536, which are quantised into panels, but received 65792');
  });

  it('store weights and scales in an order that is a bijection, rows padded to whole tiles', () => {
    for (const weight of kWeights) {
      for (const group of weightFormat(weight).weight.groups) {
        for (const over of [{ n: 200 }, { n: 384, function: 'silu_mul' as const }]) {
          const { weightLayout, scaleLayout } = storedProgram(shapeOf(weight, { ...over, group, k: 1280 }), [wide]);
          expect([axisExtent(weightLayout!, 'n'), axisExtent(weightLayout!, 'k')]).toEqual([Math.ceil(over.n / 128) * 128, 1280]);
          checkLayout(weightLayout!, [
            { name: 'n', extent: over.n },
            { name: 'k', extent: 1280 },
          ]);
          if (group !== -1) expect(axisExtent(scaleLayout!, 'k')).toBe(1280 / group);
        }
      }
    }
  });

  it('keep gates beside their ups', () => {
    const { weightLayout } = storedProgram(shapeOf('fp16', { n: 512, function: 'silu_mul' }), [wide]);
    const rows = axisOffsets(weightLayout!, 'n');
    // Eight rows of 16 bytes of each of eight pieces: gate rows 0 to 7, then up rows 0 to 7.
    expect([rows[0], rows[1], rows[8]! - rows[0]!, rows[256]! - rows[0]!]).toEqual([0, 8, 2 * 512, 512]);
  });

  it('read panels, and write them where the next operator reads them', () => {
    for (const request of figure8Requests().filter(({ seq }) => seq === 4096)) {
      const { model } = designCheckpoint(request, null);
      const expanded = isMx(weightFormat(request.format.weight));
      expect(model.operators.filter(({ program }) => program.nodes.some(({ kind }) => kind === 'relayout'))).toEqual([]);
      const kernels = new Set(model.operators.map(({ family }) => family.id));
      expect([...kernels].sort()).toEqual(['attention/flash', 'matmul/wide', 'norm']);
      for (const { family, program } of model.operators) {
        if (family === wide) expect(isInPanels(program.values[program.nodes[0]!.inputs[0]!]!)).toBe(!expanded);
        if (family.id === 'attention/flash') expect(isInPanels(program.values[program.inputs[0]!]!)).toBe(true);
      }
    }
  });

  it('have panels of 128 bytes, rows padded to eight', () => {
    const axes = [
      { name: 'm', extent: 65 },
      { name: 'c', extent: 128 },
    ];
    const { digits } = panelLayout({ axes, type: 'f16' })!;
    const [m, c] = [axisOffsets(digits, 'm'), axisOffsets(digits, 'c')];
    expect([m.length, m[1], m[8], c[1], c[8], c[64]]).toEqual([72, 8, 512, 1, 64, 72 * 64]);
    expect(panelLayout({ axes: [axes[0]!, { name: 'c', extent: 96 }], type: 'f16' })).toBeNull();
  });

  it('are fed by copies that fill what panels are padded with, where a kernel writes rows', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 130 },
      { name: 'c', extent: 2048 },
    ]);
    const [copy, ...others] = lower(graph.finish([graph.dense('a', x, 2048, false)]), layoutTarget).operators;
    expect([copy!.family.id, ...others.map(({ family }) => family.id)]).toEqual(['simple/elementwise', 'matmul/wide']);
    const { definitions } = copy!.family.plan(copy!.match, 'copy', {}, { target: layoutTarget, next: null });
    // 136 places for 130 rows.
    expect(definitions).toContain(`if (i >= INT64_C(${136 * 2048})) return;`);
    expect(definitions).toContain('!(a0 < 130) ? 0.0f :');
  });

  it('write panels where the last tile is half full, too, and none with a residual', () => {
    const panelsOf = (rows: number, residual: boolean): readonly (readonly [string, boolean])[] => {
      const graph = new GraphBuilder();
      const x = graph.input('x', [
        { name: 'm', extent: 72 },
        { name: 'c', extent: rows },
      ]);
      const product = graph.dense('a', x, rows, false);
      const sum = residual ? graph.node('add', 'residual', [product, x]) : product;
      const { operators } = lower(graph.finish([graph.dense('b', sum, 2048, false)]), layoutTarget);
      return operators.map(({ family, program }) => [family.id, isInPanels(program.values[program.outputs[0]!]!)]);
    };
    const copy = ['simple/elementwise', true];
    for (const rows of [2048, 1984]) expect(panelsOf(rows, false)).toEqual([copy, ['matmul/wide', true], ['matmul/wide', false]]);
    expect(panelsOf(2048, true)).toEqual([copy, ['matmul/wide', false], copy, ['matmul/wide', false]]);
  });

  it('share quantised tokens with kernels that read rows: they are quantised once more, in rows', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 66 },
      { name: 'c', extent: 4096 },
    ]);
    const h = graph.norm('norm', x, 'rms', 1e-5);
    const both = graph.finish([graph.dense('a', h, 1024, false), graph.dense('b', h, 1024, false)]);
    const mixed = quantiseGraph(
      both,
      ({ kind, name }) => (kind === 'dense' ? { weight: name === 'a' ? 'int1' : 'int4', input: 'int8' } : null),
      -1,
    );
    const { operators } = lower(mixed, layoutTarget);
    expect(operators.map(({ family, program }) => [family.id, isInPanels(program.values[program.outputs[0]!]!)])).toEqual([
      ['norm', false],
      ['norm', true],
      ['matmul/wide', false],
      ['simple/dense', false],
    ]);
    const [inRows, inPanels, wideProduct, simpleProduct] = operators;
    expect(inPanels!.inputs).toEqual(inRows!.inputs);
    expect(new Set(operators.map(({ node }) => node)).size).toBe(4);
    expect(wideProduct!.inputs.slice(0, 2)).toEqual(inPanels!.outputs.map(({ name }) => name));
    expect(simpleProduct!.inputs.slice(0, 2)).toEqual(inRows!.outputs.map(({ name }) => name));
  });

  it('leave rows that nothing quantises into panels to the simple kernels', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 66 },
      { name: 'c', extent: 2 ** 17 },
    ]);
    const quantised = quantiseGraph(
      graph.finish([graph.dense('a', x, 256, false)]),
      ({ kind }) => (kind === 'dense' ? { weight: 'int1', input: 'int8' } : null),
      -1,
    );
    expect(lower(quantised, layoutTarget).operators.map(({ family }) => family.id)).toEqual(['simple/quantise', 'simple/dense']);
  });

  it('plan for each target, and offer the tuner what fits', () => {
    for (const weight of kWeights) {
      const stored = storedProgram(shapeOf(weight, { function: 'silu_mul' }));
      const tunings = stored.configurations();
      expect(tunings.length).toBeGreaterThan(3);
      for (const tuning of tunings) expect(stored.plan('f', tuning).launches.at(-1)!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
      const portable = stored.plan(
        'f',
        {},
        null,
        buildTargets.find(({ id }) => id === 'sm_80'),
      );
      expect(portable.launches.at(-1)!.dynamicSharedBytes).toBeLessThanOrEqual(163 * 1024);
      expect(portable.includes.at(-1)).toBe('matmul/wide/portable.cuh');
      const isFp8 = weight.startsWith('fp8');
      expect(stored.plan('f', { stages: isFp8 ? 3 : 2 }).launches.at(-1)!.name).toBe('f');
      for (const stages of [40, isFp8 ? 2 : 1])
        expect(() => stored.plan('f', { stages })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
      expect(stored.plan('f').launches).toHaveLength(isMx(weightFormat(weight)) ? 2 : 1);
    }
  });
});

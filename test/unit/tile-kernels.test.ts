// Plans of products in tiles: what is taken and refused, and by which name; stored orders are bijections; steps after a product become
// text in their order; tunings fit; nvcc, where there is one, compiles every format's kernels without spills.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findNvcc } from '../../lib/compiler/emit/compile.js';
import { quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { lower } from '../../lib/compiler/graph/lower.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { families, select } from '../../lib/compiler/kernels/index.js';
import { stemKernel, stemLayout, stemSizes, stemTuning } from '../../lib/compiler/kernels/matmul/stem-kernel.js';
import { tileLayouts } from '../../lib/compiler/kernels/matmul/tile-kernel.js';
import type { TileMatch } from '../../lib/compiler/kernels/matmul/tile-shape.js';
import { tileCandidates } from '../../lib/compiler/kernels/matmul/tile-tunings.js';
import { tile } from '../../lib/compiler/kernels/matmul/tile.js';
import { wide } from '../../lib/compiler/kernels/matmul/wide.js';
import type { Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { vitSmall } from '../../lib/models/vit.js';
import { checkProgram } from '../../lib/operators/check.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import { axisExtent, axisOffsets, checkLayout } from '../../lib/operators/layout.js';
import type { Program } from '../../lib/operators/program.js';
import { denseShape, plainDense, storedProgram } from '../fixtures/programs.js';
import { chain, type Chain, kTileFormats, tileProgram } from '../fixtures/tiles.js';

/** Steps of which one adds a second product: of 56 × 56 images, every second place. */
const kTwo: Partial<Chain> = { steps: ['bias', 'second', 'relu'], second: { c: 256, image: [8, 64, 64, 2], bias: true } };

const refusal = (program: Program): Refusal => {
  const match = tile.accepts(program, layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
};
const matchOf = (given: Chain): TileMatch => {
  const match = tile.accepts(tileProgram(given), layoutTarget);
  if (match instanceof Refusal) throw new Error(match.message);
  return match as TileMatch;
};

describe('products in tiles', () => {
  it('are those of few weights, and every convolution whose channels are one group', () => {
    const dense = (m: number, n: number, k: number) => select(plainDense(denseShape('fp16', { m, n, k })), layoutTarget)!.family.id;
    expect([dense(65, 384, 1536), dense(65536, 1536, 512), dense(128, 1000, 2048)]).toEqual(['matmul/tile', 'matmul/tile', 'matmul/tile']);
    expect([dense(32, 384, 1536), dense(4096, 2048, 1024), dense(4096, 10240, 8192)]).toEqual([
      'matmul/thin',
      'matmul/wide',
      'matmul/wide',
    ]);
    for (const target of buildTargets) expect(select(tileProgram(chain({ m: 1, image: [14, 14, 3, 2] })), target)?.family).toBe(tile);
    expect(refusal(tileProgram(chain({ m: 32 }))).message).toMatch(
      /^expected at least 33 rows and fewer than 2097152 weights but received 32 and /,
    );
    expect(refusal(tileProgram(chain({ image: [14, 14, 3, 1], groups: 64 })))).toMatchObject({ dimension: 'groups' });
  });

  it('have weights and activations that a kernel multiplies', () => {
    for (const [weight, activation] of kTileFormats)
      expect(matchOf(chain({ weight, activation })).shape).toMatchObject({ weight, activation });
    expect(refusal(tileProgram(chain({ weight: 'nf4', activation: 'fp16' })))).toMatchObject({
      dimension: 'weight',
      message: 'no kernel multiplies nf4 with fp16',
    });
    const pixels = (kernel: number) => tileProgram(chain({ weight: 'int4', activation: 'int8', image: [8, 8, kernel, 1], perPixel: true }));
    expect(refusal(pixels(3)).message).toBe('expected one of all activations where several rows are summed');
    expect(tile.accepts(pixels(1), layoutTarget)).toMatchObject({ shape: { xScale: 'row' } });
    expect(refusal(tileProgram(chain({ steps: ['glu'], n: 72 }))).message).toBe(
      'expected a multiple of 16 where outputs are paired but received 72',
    );
  });

  it('take the steps that follow in their order', () => {
    const { shape, after, operands } = matchOf(chain({ steps: ['bias', 'gelu', 'residual'] }));
    expect([after, shape.bias, shape.residual, shape.pairs]).toEqual([['add', 'gelu', 'add'], true, true, false]);
    expect(shape.steps).toEqual([expect.stringContaining('ladder::erfNear('), '(value + residual)']);
    expect(Object.keys(operands)).toEqual(['x', 'weight', 'bias', 'residual', 'y']);
    const other = matchOf(chain({ steps: ['residual', 'relu'] }));
    expect(other.shape.steps).toEqual(['(value + residual)', 'fmaxf(value, 0.0f)']);
    const paired = matchOf(chain({ steps: ['bias', 'glu', 'residual'], n: 96 }));
    expect([paired.shape.pairs, paired.shape.steps[0]]).toEqual([true, expect.stringMatching(/value.*paired/)]);
    // A second matrix, and pairs of what is no sum any more, are another operator's.
    expect(refusal(tileProgram(chain({ steps: ['residual', 'residual'] }))).dimension).toBe('');
    expect(refusal(tileProgram(chain({ steps: ['relu', 'glu'], n: 96 }))).dimension).toBe('');
  });

  it('store weights in an order that is a bijection, padded to chunks', () => {
    for (const [weight] of kTileFormats) {
      for (const { n, k, pairs } of [
        { n: 200, k: 1152, pairs: false },
        { n: 58, k: 58, pairs: false },
        { n: 96, k: 160, pairs: true },
      ]) {
        if (weight.startsWith('mx') && k % 32 !== 0) continue;
        const { weightLayout, scaleLayout } = tileLayouts({ n, k, weight, pairs });
        const panel = weight === 'fp16' ? 64 : 128;
        expect([axisExtent(weightLayout, 'n'), axisExtent(weightLayout, 'k')]).toEqual([
          Math.ceil(n / 8) * 8,
          Math.ceil(k / panel) * panel,
        ]);
        checkLayout(weightLayout, [
          { name: 'n', extent: n },
          { name: 'k', extent: k },
        ]);
        if (scaleLayout) expect(axisExtent(scaleLayout, 'k')).toBe(Math.ceil(k / panel) * 4);
      }
    }
  });

  it('lay out weights as tile.cuh draws them', () => {
    const offsets = (weight: string, axis: string, pairs = false) =>
      axisOffsets(tileLayouts({ n: 64, k: 256, weight, pairs }).weightLayout, axis);
    const fp16 = [offsets('fp16', 'n'), offsets('fp16', 'k')] as const;
    // Rows of a chunk 16 bytes apart, chunks of 8 rows four panels apart; pieces of 8 numbers 128 bytes apart.
    expect([fp16[0][1], fp16[0][8], fp16[1][1], fp16[1][8], fp16[1][64]]).toEqual([8, 4 * 512, 1, 64, 512]);
    // Nibbles: 16 further along k the high one, four bytes of a word, four words of a row, then the next step.
    const int4 = offsets('int4', 'k');
    expect([int4[16], int4[1], int4[4], offsets('int4', 'n')[1], int4[32], int4[128]]).toEqual([1, 2, 8, 32, 256, 1024]);
    const int1 = offsets('int1', 'k');
    expect([int1[16], int1[32], int1[1], int1[4], offsets('int1', 'n')[1], int1[128]]).toEqual([1, 2, 8, 32, 128, 1024]);
    // Pairs: what gates a row lies one chunk further.
    expect(offsets('fp16', 'n', true)[32]! - offsets('fp16', 'n', true)[0]!).toBe(4 * 512);
  });

  it('offer the tuner what fits, and refuse what does not', () => {
    for (const [weight, activation] of kTileFormats) {
      for (const given of [
        chain({ weight, activation, m: 4096, steps: ['bias'] }),
        chain({ weight, activation, image: [14, 14, 3, 1], m: 2, steps: ['bias', 'relu'] }),
      ]) {
        const stored = storedProgram(tileProgram(given), [tile]);
        const tunings = stored.configurations();
        expect(tunings.length).toBeGreaterThan(3);
        for (const tuning of tunings) {
          const [launch] = stored.plan('f', tuning).launches;
          expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
          expect(launch!.block[0]).toBeLessThanOrEqual(512);
        }
        for (const target of buildTargets) {
          const [launch] = stored.plan('f', {}, null, target).launches;
          if (target.id !== layoutTarget.id) expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual(163 * 1024);
        }
        expect(() => stored.plan('f', { stages: 40 })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
        expect(() => stored.plan('f', { warpOutputs: 48 })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
      }
    }
    // Clusters share out k where there are few tiles and much of it.
    const deep = matchOf(chain({ m: 64, n: 256, c: 4096 })).shape;
    expect(tileCandidates(deep, true).some(({ split }) => split === 8)).toBe(true);
    expect(tileCandidates(deep, false).every(({ split, wgmma }) => split === 1 && wgmma === 0)).toBe(true);
  });

  it('of few channels may keep lines in shared memory for all taps, which is no default yet', () => {
    const lines = (given: Partial<Chain>): readonly number[] =>
      tileCandidates(matchOf(chain({ m: 128, c: 64, n: 64, image: [56, 56, 3, 1], ...given })).shape, true).map(({ wgmma }) => wgmma);
    for (const [weight, activation] of kTileFormats) {
      const all = lines({ weight, activation });
      expect([all[0], all.at(-1), all.filter((one) => one === 2)]).toEqual([1, 2, [2]]);
    }
    for (const other of [
      { image: [56, 56, 3, 2] },
      { image: [56, 56, 1, 1] },
      { c: 128 },
      { n: 128 },
      { n: 72 },
      { steps: ['residual'] },
      { image: [56, 260, 3, 1] },
    ] satisfies Partial<Chain>[])
      expect(lines(other)).not.toContain(2);
    const stored = storedProgram(tileProgram(chain({ m: 128, c: 64, n: 64, image: [56, 56, 3, 1] })), [tile]);
    const tuning = stored.configurations().at(-1)!;
    expect(() => stored.plan('f', { ...tuning, rows: 96 }, null, layoutTarget)).toThrow(/tiles of 64 rows/);
    expect(() => stored.plan('f', { ...tuning, rows: 192 }, null, layoutTarget)).toThrow(/at most 128 rows/);
    // A target without wgmma has its own default.
    const [, other] = buildTargets;
    expect(stored.plan('f', tuning, null, other!).definitions).toBe(stored.plan('f', {}, null, other!).definitions);
  });

  it('offer nothing that the model rules out', () => {
    const tried = (given: Partial<Chain>): readonly Tuning[] => {
      const tunings = storedProgram(tileProgram(chain(given)), [tile]).configurations();
      expect(tunings.length).toBeGreaterThan(2);
      return tunings.filter(({ wgmma }) => wgmma === 1);
    };
    // Outputs that are not there; no sharing of k where there are fewer tiles than multiprocessors.
    expect(Math.max(...tried({ m: 401408, n: 64, c: 64 }).map(({ outputs }) => outputs!))).toBeLessThan(256);
    expect(Math.min(...tried({ m: 1, n: 512, image: [7, 7, 3, 1], c: 512 }).map(({ split }) => split!))).toBeGreaterThan(1);
  });

  it('are two where their results are added', () => {
    const given = chain({ m: 8192, n: 256, c: 128, weight: 'fp8_e5m2', activation: 'fp8_e5m2', codes: 'fp8_e5m2', both: true, ...kTwo });
    const { shape, weight2, operands } = matchOf(given);
    expect(shape).toMatchObject({
      bias: true,
      residual: false,
      steps: ['fmaxf(value, 0.0f)'],
      second: { channels: 256, height: 64, width: 64, stride: 2, bias: true },
    });
    expect(weight2).toBeGreaterThan(0);
    expect(Object.keys(operands).sort()).toEqual(
      [
        'bias',
        'bias2',
        'codeScale',
        'codeScales',
        'codes',
        'scale',
        'scale2',
        'weight',
        'weight2',
        'x',
        'x2',
        'xScale',
        'xScale2',
        'y',
      ].sort(),
    );
    expect(tile.key(matchOf(given))).toContain('+ k=256 image=64x64 stride=2 post=add+add+relu');
    // Both weights are stored in the kernel's order; both targets have a kernel; sums in FP32 beside the products' take registers.
    const stored = storedProgram(tileProgram(given), [tile]);
    expect(tile.storage(stored.match).size).toBe(2);
    for (const target of buildTargets) expect(stored.plan('f', {}, null, target).launches).toHaveLength(1);
    expect(stored.configurations().every(({ outputs }) => outputs! < 256)).toBe(true);
    // What is no product of one place, has rows of odd sizes, or scales of rows, is two operators.
    for (const over of [
      { steps: ['bias', 'relu', 'second'] },
      { second: { c: 256, bias: true }, c: 24, weight: 'int4', activation: 'int8' },
      { second: { c: 40 }, weight: 'int4', activation: 'int8', codes: undefined },
    ] as const)
      expect(
        tile.accepts(tileProgram(chain({ m: 8192, n: 256, c: 128, ...kTwo, ...over } as Partial<Chain>)), layoutTarget),
      ).toBeInstanceOf(Refusal);
  });

  it('fuse what follows in a graph, and leave what they do not take to others', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 700 },
      { name: 'c', extent: 384 },
    ]);
    const up = graph.node('gelu', 'gelu', [graph.dense('up', x, 1536, true)]);
    const y = graph.node('add', 'residual', [graph.dense('down', up, 384, true), x]);
    const kinds = (built: ReturnType<typeof graph.finish>) =>
      lower(built, layoutTarget).operators.map(({ family, program }) => `${family.id}: ${program.nodes.map(({ kind }) => kind).join(' ')}`);
    const finished = graph.finish([y]);
    expect(kinds(finished)).toEqual(['matmul/tile: dense add gelu', 'matmul/tile: dense add add']);
    const quantised = quantiseGraph(finished, ({ kind }) => (kind === 'dense' ? { weight: 'int4', input: 'int4' } : null), -1);
    expect(kinds(quantised)).toEqual(['norm: quantise', 'matmul/tile: dense add gelu', 'norm: quantise', 'matmul/tile: dense add add']);
  });

  it('are left to a family that is preferred', () => {
    const program = plainDense(denseShape('fp16', { m: 130, n: 512, k: 512 }));
    families.prefer('matmul/wide');
    expect(select(program, layoutTarget)?.family).toBe(wide);
    families.prefer('matmul/tile');
    expect(select(program, layoutTarget)?.family).toBe(tile);
    expect(() => families.prefer('matmul/none')).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });
});

describe('patches of image planes', () => {
  it('are rows of a product that needs no copy of them', () => {
    const patch = [224, 224, 32] as const;
    const match = matchOf(chain({ m: 2, c: 3, n: 384, patch, steps: ['bias'] }));
    expect(match.shape).toMatchObject({ patches: true, images: 2, channels: 3, kernelX: 32, strideY: 32, outHeight: 7, outWidth: 7 });
    expect([match.stem, Object.keys(match.operands)]).toEqual([null, ['x', 'weight', 'bias', 'y']]);
    expect(tile.key(match)).toBe('m=98 n=384 k=3072 image=224x224 kernel=32x32 stride=32 around=0x0 w=fp16 x=fp16 x=patches post=add');
    // Weights lie as they do where rows come as such: k is (channel, line, column).
    const rows = matchOf(chain({ m: 98, c: 3072, n: 384, steps: ['bias'] }));
    expect([...tile.storage(match)]).toEqual([...tile.storage(rows)]);
    expect(tileCandidates(match.shape, true)).toEqual(tileCandidates(rows.shape, true));
    for (const target of buildTargets) expect(select(tileProgram(chain({ m: 2, c: 3, patch })), target)?.family).toBe(tile);
  });
  it('get tokens and positions in the same kernel', () => {
    const patch = [224, 224, 32] as const;
    const program = tileProgram(chain({ m: 2, c: 3, n: 384, patch, steps: ['bias', 'embed_tokens'] }));
    checkProgram(program);
    const match = tile.accepts(program, layoutTarget) as TileMatch;
    expect(match).toMatchObject({ after: ['add', 'embed_tokens'], shape: { tokens: true, residual: true, steps: ['(value + residual)'] } });
    expect(match.operands).toMatchObject({ bias: { index: 2 }, residual: { index: 4 }, token: { index: 3 } });
    // What has another matrix to add, or becomes codes, leaves that to others.
    for (const over of [{ steps: ['residual', 'embed_tokens'] }, { steps: ['embed_tokens'], codes: 'int8' }])
      expect(refusal(tileProgram(chain({ m: 2, c: 3, n: 384, patch, ...over }))).dimension).toBe('');
    const operators = lower(vitSmall.graph!(1, 1, 1), layoutTarget).operators.map(({ program: { nodes } }) =>
      nodes.map(({ kind }) => kind).join(),
    );
    expect(operators[0]).toBe('patches,dense,add,embed_tokens');
  });
  it('are left to others where lines have no eights, rows are few, weights many or of another kind', () => {
    const of = (over: Partial<Chain>) => refusal(tileProgram(chain({ m: 2, c: 3, patch: [224, 224, 32], ...over }))).dimension;
    expect(of({ patch: [48, 48, 12], m: 8 })).toBe('size');
    expect(of({ patch: [64, 64, 32], m: 8 })).toBe('m');
    expect(of({ n: 768 })).toBe('m');
    expect(of({ weight: 'int4' })).toBe('weight');
  });
});

describe('the stem', () => {
  const stem = (over: Partial<TileMatch['shape']> = {}): TileMatch['shape'] => ({
    ...matchOf(chain({ m: 2, image: [224, 224, 7, 2], c: 3, n: 64, steps: ['bias', 'relu'] })).shape,
    ...over,
  });
  it('takes images of few channels whose rows fill warps', () => {
    expect(stemSizes(stem())).toEqual({ rows: 2, pooled: false });
    const planes = matchOf(chain({ m: 2, image: [224, 224, 7, 2], c: 3, n: 64, planes: true, steps: ['bias', 'relu'] }));
    expect([planes.stem, planes.after]).toEqual([stemSizes(stem()), ['add', 'relu']]);
    expect(refusal(tileProgram(chain({ m: 2, image: [225, 225, 7, 2], c: 3, planes: true }))).dimension).toBe('x');
    expect([
      stemSizes(stem({ channels: 8 })),
      stemSizes(stem({ width: 225 })),
      stemSizes(stem({ n: 128 })),
      stemSizes(stem({ strideX: 1 })),
      stemSizes(stem({ residual: true }), true),
      // A row of 32 fills a warp by itself.
      stemSizes(stem({ outWidth: 32, width: 64 }), true),
    ]).toEqual([null, null, null, null, null, null]);
  });
  it('stores weights with outputs side by side, in eights', () => {
    const match = matchOf(chain({ m: 1, image: [32, 32, 3, 2], c: 3, n: 13, planes: true }));
    const digits = stemLayout(match.shape);
    checkLayout(digits, [
      { name: 'n', extent: 13 },
      { name: 'k', extent: 27 },
    ]);
    expect([...tile.storage(match)]).toEqual([[match.weight, { layout: { digits } }]]);
    expect(digits.map(({ axis, size }) => [axis, size])).toEqual([
      ['k', 27],
      ['n', 16],
    ]);
  });
  it('shares out its work by how much there is', () => {
    const tuned = (over: Partial<TileMatch['shape']>, pooled = true, processors = 132) => {
      const { rows, outputs, blocks } = stemTuning(stem(over), stemSizes(stem(over), pooled)!, processors);
      return [rows / 112, outputs, blocks];
    };
    // Windows' rows × halves of the outputs; as many as run at once; bands.
    expect([1, 2, 3, 128].map((images) => tuned({ images }))).toEqual([
      [3, 32, 112],
      [3, 32, 224],
      [2, 64, 168],
      [2, 64, 256],
    ]);
    expect([1, 2, 5, 128].map((images) => tuned({ images, n: 24 }))).toEqual([
      [3, 16, 112],
      [3, 32, 112],
      [2, 32, 140],
      [2, 32, 256],
    ]);
    // Without windows, or with fewer multiprocessors.
    expect([tuned({ images: 1 }, false), tuned({ images: 128 }, false), tuned({ images: 1, n: 24 }, true, 108)]).toEqual([
      [2, 32, 112],
      [2, 64, 264],
      [3, 32, 56],
    ]);
    // Codes that share a scale stay together.
    expect(tuned({ images: 1, n: 32 })[1]).toBe(16);
    expect(tuned({ images: 1, n: 32, codes: 'mxfp8_e5m2' })[1]).toBe(32);
    expect(stemKernel(stem({ images: 1 }), 'stem', stemSizes(stem(), true)!, 132)).toMatchObject({
      blocks: 112,
      threads: 224,
      sharedBytes: 49216,
    });
  });
});

const nvcc = await findNvcc();
if (nvcc === null) console.log('skipped: compiling kernels needs nvcc');

describe.skipIf(nvcc === null)('compiled', () => {
  it('for both architectures, without spills or serialised products', { timeout: 600_000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), 'ladder-tiles-'));
    try {
      for (const target of buildTargets.filter(({ capability }) => capability !== null)) {
        const plans = kTileFormats
          .filter(([weight]) => !weight.endsWith('e4m3'))
          .flatMap(([weight, activation]) => [
            chain({ weight, activation, m: 2, image: [14, 14, 3, 1], steps: ['bias', 'residual', 'relu'] }),
            chain({ weight, activation, m: 8192, n: 256, c: 128, ...kTwo }),
            chain({ weight, activation, m: 128, n: 64, c: 64, image: [56, 56, 3, 1], steps: ['bias', 'relu'] }),
          ])
          .map((given, i) => {
            const stored = storedProgram(tileProgram(given), [tile]);
            // Of few channels lines stay in shared memory, where a target can.
            const lines = stored.configurations().find(({ wgmma }) => wgmma === 2);
            return stored.plan(`f${i}`, lines ?? {}, null, target);
          });
        const includes = [...new Set(plans.flatMap((plan) => plan.includes))].map((header) => `#include "${header}"`);
        const path = join(folder, `${target.id}.cu`);
        writeFileSync(path, [...includes, ...plans.map(({ definitions }) => definitions)].join('\n'));
        const kernels = fileURLToPath(new URL('../../native/kernels', import.meta.url));
        const log = execFileSync(
          'sh',
          ['-c', `"$0" -std=c++17 -O3 -gencode ${target.gencode} -cubin -Xptxas -v -I "$1" -o "$2.cubin" "$2" 2>&1`, nvcc!, kernels, path],
          { encoding: 'utf8' },
        );
        expect(log.match(/Compiling entry function/g)).toHaveLength(plans.length);
        expect(log.match(/[1-9]\d* bytes spill stores|C75\d\d/g)).toBeNull();
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

// Plans of the dense decoding products: layouts are bijections and fit the kernels' tiles, odd shapes plan or are refused by
// name, tunings fit, and the generated text compiles, which also checks the mirrored shared memory (static_assert).
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { findNvcc, kernelsFolder } from '../../lib/compiler/emit/compile.js';
import { type Family, Refusal } from '../../lib/compiler/kernels/family.js';
import { families, select } from '../../lib/compiler/kernels/index.js';
import { matchDense } from '../../lib/compiler/kernels/matmul/shape.js';
import { thin } from '../../lib/compiler/kernels/matmul/thin.js';
import { vector } from '../../lib/compiler/kernels/matmul/vector.js';
import { warpgroup } from '../../lib/compiler/kernels/matmul/warpgroup.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { isMx, weightFormat } from '../../lib/formats/index.js';
import { axisExtent, axisOffsets } from '../../lib/operators/layout.js';
import type { Program, Value } from '../../lib/operators/program.js';
import {
  denseShape,
  type DenseShapeV1,
  kKernelWeights,
  plainDense,
  rowMajor,
  type StoredProgram,
  storedProgram,
} from '../fixtures/programs.js';

const kWeights = kKernelWeights.map(({ id }) => id);
const bitsOf = (weight: string): number => weightFormat(weight).element.bits;
/** What the kernel for one token or for several is, and the rows that it reads together: a tile, or for warpgroups a pair. */
const isPaired = (weight: string): boolean => bitsOf(weight) < 8 || isMx(weightFormat(weight));
const familyOf = (weight: string, m: number): Family => (m === 1 ? vector : isPaired(weight) ? warpgroup : thin);

/** A product that a dense family takes, stored as it wants it. */
function product(
  weight: string,
  over: Partial<DenseShapeV1> = {},
): StoredProgram & { readonly weightLayout: NonNullable<StoredProgram['weightLayout']> } {
  const stored = storedProgram(denseShape(weight, over), [vector, thin, warpgroup]);
  expect(stored.family.id).toMatch(/^matmul\//);
  return { ...stored, weightLayout: stored.weightLayout! };
}

const extentsOf = (layout: StoredProgram['weightLayout']): { n: number; k: number } => ({
  n: axisExtent(layout!, 'n'),
  k: axisExtent(layout!, 'k'),
});

/** Format, tokens, and the rows that lie together. */
const layoutCases = kWeights.flatMap(
  (weight) =>
    [
      [weight, 1, 16],
      [weight, 32, isPaired(weight) ? 32 : 16],
    ] as const,
);

function refusal(family: Family, program: Program): Refusal {
  const match = family.accepts(program, layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
}

describe('dense families', () => {
  it('take one token each, or several with weights of a byte, or with others', () => {
    expect(kWeights).toEqual(['fp16', 'int4', 'nf4', 'fp8_e5m2', 'fp8_e4m3', 'mxfp8_e5m2', 'mxfp8_e4m3', 'int1']);
    for (const weight of kWeights) {
      for (const m of [1, 2, 17, 64]) {
        for (const target of buildTargets) {
          // Fewer weights, and many tokens, are matmul/tile's.
          const program = plainDense(denseShape(weight, { m, n: 2048 }));
          expect(select(program, target)?.family).toBe(familyOf(weight, m));
          // What one takes the other leaves alone, but for one token, of which both could.
          if (m > 1) expect(refusal(isPaired(weight) ? thin : warpgroup, program).dimension).toBe('weight');
        }
      }
    }
    const dense = [warpgroup, thin, vector];
    expect(families.all().filter((family) => dense.includes(family))).toEqual([vector, thin, warpgroup]);
  });

  it('leave one token whose activations are too many for a block to another', () => {
    expect(refusal(vector, plainDense(denseShape('nf4', { n: 512, k: 57344 })))).toMatchObject({
      dimension: 'k',
      message: expect.stringContaining('57344'),
    });
    expect(product('nf4', { n: 512, k: 57344 }).family).toBe(warpgroup);
    expect(product('fp16', { n: 512, k: 81920 }).family).toBe(thin);
    expect(product('fp16', { n: 512, k: 57344 }).family).toBe(vector);
    // What would be prepared in the product is prepared before it.
    const normed = plainDense(denseShape('nf4', { n: 512, k: 57344, norm: { kind: 'rms', eps: 1e-5 } }));
    expect([refusal(vector, normed).dimension, refusal(warpgroup, normed).dimension, select(normed, layoutTarget)]).toEqual([
      'k',
      'norm',
      null,
    ]);
  });
});

describe('dense layouts', () => {
  it.each(layoutCases)('%s, m = %i: a bijection, rows padded to %i', (weight, m, padding) => {
    for (const n of [16, 176, 2141]) {
      const { weightLayout, scaleLayout } = product(weight, { m, n });
      expect(extentsOf(weightLayout)).toEqual({ n: Math.ceil(n / padding) * padding, k: 1280 });
      expect(scaleLayout === null).toBe(!isMx(weightFormat(weight)));
      if (scaleLayout) expect(extentsOf(scaleLayout)).toEqual({ n: Math.ceil(n / padding) * padding, k: 40 });
    }
  });

  it.each(layoutCases)(
    '%s, m = %i: each run of %i rows is contiguous, and with silu_mul holds half as many gates and their ups',
    (weight, m, run) => {
      const n = 64;
      const rows = axisOffsets(product(weight, { m, n, function: 'silu_mul' }).weightLayout, 'n');
      const runOf = (row: number): number => Math.floor(rows[row]! / (run * 1280));
      for (let gate = 0; gate < n / 2; ++gate) {
        expect(runOf(gate)).toBe(Math.floor(gate / (run / 2)));
        expect(runOf(gate + n / 2)).toBe(Math.floor(gate / (run / 2)));
      }
    },
  );

  it('groups along k keep their scales with the rows of the weights', () => {
    for (const m of [1, 32]) {
      const { weightLayout, scaleLayout } = product('int4', { m, n: 2141, group: 128 });
      expect(extentsOf(scaleLayout)).toEqual({ n: extentsOf(weightLayout).n, k: 10 });
    }
  });

  it("for several tokens, the weights of a lane are those of the tensor cores' operand", () => {
    // mma's A: lane 4g + t holds, of row g, 2t, 2t + 1, 2t + 8 and 2t + 9 of each 16 (FP16), or 4t … 4t + 3 and 4t + 16 … 4t + 19 of each 32 (INT8).
    for (const [weight, bits, run, stride] of [
      ['int4', 4, 2, 8],
      ['nf4', 4, 2, 8],
      ['int1', 1, 4, 16],
      ['mxfp8_e5m2', 8, 2, 8],
    ] as const) {
      const { weightLayout } = product(weight, { m: 32, n: 32, k: 256 });
      const k = axisOffsets(weightLayout, 'k');
      const laneOf = (column: number): number => Math.floor((k[column]! * bits) / 8 / 16) % 4;
      for (let column = 0; column < 256; ++column) expect(laneOf(column)).toBe(Math.floor((column % stride) / run));
    }
  });

  it('depends on the number of tokens only where the kernel does, and on no target', () => {
    const layoutsOf = (weight: string, m?: number) => {
      const { weightLayout, scaleLayout } = product(weight, m === undefined ? {} : { m });
      return { weightLayout, scaleLayout };
    };
    for (const weight of kWeights) {
      const few = layoutsOf(weight, 2);
      expect(layoutsOf(weight, 64)).toEqual(few);
      if (!isPaired(weight)) expect(layoutsOf(weight)).toEqual(few);
      for (const m of [1, 2]) {
        const { program, family, match } = product(weight, { m });
        for (const target of buildTargets) expect(family.accepts(program, target)).toEqual(match);
      }
    }
  });

  it.each<[string, Family, DenseShapeV1]>([
    ['m', vector, denseShape('int4', { m: 2 })],
    ['m', thin, denseShape('fp16', { m: 65 })],
    ['m', warpgroup, denseShape('int4', { m: 65 })],
    ['k', vector, denseShape('int1', { k: 128 })],
    ['k', vector, denseShape('int4', { k: 192, group: 128 })],
    ['k', vector, denseShape('int4', { k: 1281 })],
    ['k', thin, denseShape('fp8_e5m2', { m: 2, k: 1288 })],
    ['k', warpgroup, denseShape('int1', { m: 2, k: 128 })],
    ['n', vector, denseShape('fp16', { n: 24, function: 'silu_mul' })],
    ['n', thin, denseShape('fp16', { m: 2, n: 24, function: 'silu_mul' })],
    ['n', warpgroup, denseShape('int4', { m: 2, n: 176, function: 'silu_mul' })],
    ['n', warpgroup, denseShape('mxfp8_e4m3', { m: 2, n: 176, function: 'silu_mul' })],
    ['k', warpgroup, denseShape('mxfp8_e4m3', { m: 2, k: 1312 })],
    ['activation', vector, denseShape('int4', { activation: 'int8' })],
    ['activation', thin, denseShape('fp8_e5m2', { m: 2, activation: 'fp8_e4m3', input: 'quantised' })],
    ['activation', warpgroup, denseShape('int1', { m: 2, activation: 'int4', input: 'quantised' })],
    ['group', vector, denseShape('int1', { k: 1280, group: 64 })],
    ['group', vector, denseShape('fp8_e5m2', { group: 128 })],
    ['group', vector, denseShape('mxfp8_e4m3', { group: -1 })],
    ['group', warpgroup, denseShape('mxfp8_e4m3', { m: 2, group: 64 })],
    ['weight', vector, denseShape('int8')],
    ['weight', thin, denseShape('int8', { m: 2 })],
    ['weight', thin, denseShape('int4', { m: 2 })],
    ['weight', warpgroup, denseShape('fp16', { m: 2 })],
    ['norm', warpgroup, denseShape('int4', { m: 2, norm: { kind: 'rms', eps: 1e-5 } })],
    ['norm', thin, denseShape('fp8_e4m3', { m: 2, norm: { kind: 'layer', eps: 1e-5 }, input: 'fp16' })],
    ['input', warpgroup, denseShape('int1', { m: 2, input: 'fp16' })],
    ['input', thin, denseShape('fp8_e4m3', { m: 2, input: 'fp16' })],
  ])('refuses what no kernel does, naming `%s` (%#)', (dimension, family, shape) => {
    const { dimension: named, message } = refusal(family, plainDense(shape));
    expect(named).toBe(dimension);
    expect(message).toMatch(dimension === 'weight' ? /kernel|decod/ : /expected/);
  });

  it('refuses programs that say more than the kernels see', () => {
    const { program } = product('int4', { norm: { kind: 'rms', eps: 1e-5 }, bias: true, residual: true });
    const [x, weight, gain, bias, residual] = program.inputs as [number, number, number, number, number];
    const output = program.outputs[0]!;
    const other = (value: number, change: Partial<Value>): Program => ({
      ...program,
      values: program.values.map((one, i) => (i === value ? { ...one, ...change } : one)),
    });
    const columns = {
      digits: [
        { axis: 'c', stride: 1, size: program.values[x]!.axes[1]!.extent },
        { axis: 'm', stride: 1, size: 1 },
      ],
    };
    expect(vector.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
    for (const value of [x, gain, bias, residual, output])
      expect(refusal(vector, other(value, { layout: columns })).dimension).toBe('layout');
    expect(refusal(vector, other(weight, { layout: { digits: rowMajor(176, 1280) } }))).toMatchObject({
      dimension: 'layout',
      message: expect.stringContaining('order of the kernel'),
    });
    expect(refusal(vector, other(output, { type: 'f32' })).dimension).toBe('');
    // Two results, two products to read ahead, another order of steps, none.
    expect(refusal(vector, { ...program, outputs: [output, program.nodes[0]!.outputs[0]!] }).dimension).toBe('');
    expect(refusal(vector, { ...program, hints: [64, 64] }).dimension).toBe('');
    expect(refusal(vector, { ...program, nodes: [...program.nodes].reverse() }).dimension).toBe('');
    expect(refusal(vector, { ...program, nodes: [program.nodes[0]!] }).dimension).toBe('');
    // The right operand, not the left.
    expect(
      refusal(vector, {
        ...program,
        nodes: program.nodes.map((node, i) => (i === 3 ? { ...node, inputs: [...node.inputs].reverse() } : node)),
      }).dimension,
    ).toBe('');
  });

  it('refuses codes where its flat view has other scales, and norms of codes', () => {
    const { program } = product('int1', { m: 2 });
    const [x] = program.inputs as [number];
    const other = (change: object): Program => ({
      ...program,
      values: program.values.map((one, i) => (i === x ? ({ ...one, type: { ...(one.type as object), ...change } } as Value) : one)),
    });
    expect(warpgroup.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
    for (const per of [{}, { m: 2 }, { m: 1, c: 64 }, { c: 1280 }])
      expect(refusal(warpgroup, other({ scale: { type: 'f32', per } })).dimension).toBe('x');
    expect(refusal(warpgroup, other({ as: 'weight', format: 'int8' })).dimension).toBe('x');
    // INT4 weights take FP16, which a norm of codes gives: the kernel would take the codes for numbers.
    const normed = plainDense(denseShape('int4', { input: 'quantised', activation: 'int8', norm: { kind: 'rms', eps: 1e-5 } }));
    expect(refusal(vector, normed).dimension).toBe('');
    expect(matchDense(normed)).toBeInstanceOf(Refusal);
    expect(matchDense(plainDense(denseShape('mxfp8_e5m2', { m: 2 })))).not.toBeInstanceOf(Refusal);
  });
});

describe('dense plans', () => {
  it('passes operands in the order of the operator, pointers only', () => {
    const { launches, definitions, workspaceBytes } = product('fp8_e4m3', {
      norm: { kind: 'layer', eps: 1e-5 },
      bias: true,
      residual: true,
    }).plan('product');
    expect(definitions).toContain(
      'product(const void* x, const uint8_t* weight, const void* scale, const __half* gain, const __half* beta, const __half* bias, const __half* residual, __half* y)',
    );
    expect(launches[0]!.arguments).toEqual([
      ...[0, 1, 2, 3, 4, 5, 6].map((index) => ({ kind: 'input', index })),
      { kind: 'output', index: 0 },
    ]);
    expect(launches[0]!.programmatic).toBe(true);
    expect(workspaceBytes).toBe(0);
  });

  it("finds its operands in any order of a program's inputs", () => {
    const { program } = product('fp8_e4m3', { m: 2, bias: true, residual: true });
    const reversed = { ...program, inputs: [...program.inputs].reverse() };
    const { launches, definitions } = thin.plan(thin.accepts(reversed, layoutTarget), 'product', {}, { target: layoutTarget, next: null });
    expect(definitions).toContain(
      'product(const void* x, const void* xScale, const uint8_t* weight, const void* scale, const __half* bias, const __half* residual, __half* y)',
    );
    // residual, bias, weight, its scales, x, its scales
    expect(launches[0]!.arguments).toEqual([
      ...[4, 5, 2, 3, 1, 0].map((index) => ({ kind: 'input', index })),
      { kind: 'output', index: 0 },
    ]);
  });

  it('refuses a tuning that does not fit', () => {
    const one = product('int4');
    expect(() => one.plan('product', { stages: 64 })).toThrow(/shared memory/);
    expect(() => one.plan('product', { warps: 8, stageUnits: 12 })).toThrow(/12 units/);
    expect(() => product('int4', { m: 32 }).plan('product', { cluster: 8 })).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringContaining('clusters of 8') }),
    );
  });

  it('reads ahead what the next product begins with, inside its weights, and only where both say so', () => {
    for (const weight of ['fp16', 'int4', 'nf4', 'int1', 'fp8_e5m2'] as const) {
      for (const [m, n, k] of [
        [1, 10240, 8192],
        [32, 57344, 8192],
        [32, 8192, 28672],
        [64, 2141, 1280],
        [1, 16, 256],
      ] as const) {
        const next = product(weight, { m, n, k });
        const { reads } = next.plan('next');
        const bytes = (extentsOf(next.weightLayout).n * k * bitsOf(weight)) / 8;
        expect(reads!.tiles * reads!.tileBytes).toBe(bytes);
        const [plain, hinted] = [product(weight, { m }), product(weight, { m, prefetch: bytes })];
        const { definitions, launches } = hinted.plan('product', {}, reads!);
        const [runs, tiles, tileBytes, length] = /kNextRuns = (\d+), kNextTiles = (\d+), kNextTileBytes = (\d+), kNextBytes = (\d+)/
          .exec(definitions)!
          .slice(1)
          .map(Number) as [number, number, number, number];
        const lastTile = (runs - 1) * Math.floor(tiles / runs) + Math.min(runs - 1, tiles % runs);
        expect([length > 0, length % 16, lastTile * tileBytes + length <= bytes, runs * length <= 6 * 2 ** 20]).toEqual([
          true,
          0,
          true,
          true,
        ]);
        const without = plain.plan('product').launches[0]!.arguments;
        expect(launches[0]!.arguments).toEqual([...without.slice(0, -1), { kind: 'input', index: without.length - 1 }, without.at(-1)]);
        expect(() => hinted.plan('product')).toThrow(
          expect.objectContaining({ code: 'INTERNAL', message: expect.stringContaining('read ahead') }),
        );
        expect(() => plain.plan('product', {}, reads!)).toThrow(/read ahead/);
        expect(plain.family.readAhead!.wanted(plain.match)).toBe(bitsOf(weight) < 8);
        expect(plain.program.values[plain.family.readAhead!.weight(plain.match)]!.axes.map(({ name }) => name)).toEqual(['n', 'k']);
      }
    }
  });

  it.each(kWeights)(
    "%s: every shape of the models plans with at most an A100's shared memory, and every candidate fits an H100",
    (weight) => {
      for (const [n, k] of [
        [10240, 8192],
        [8192, 28672],
        [57344, 8192],
        [43008, 14336],
        [14336, 57344],
        [4096, 4096],
      ] as const) {
        for (const m of [1, 2, 8, 32, 33, 64]) {
          const one = product(weight, { m, n, k });
          expect(one.plan('product').launches[0]!.dynamicSharedBytes).toBeLessThanOrEqual(163 * 1024);
          const candidates = one.configurations();
          expect(candidates.length).toBeGreaterThan(2);
          expect(one.plan('product', candidates[0]!)).toEqual(one.plan('product'));
          for (const candidate of candidates) {
            const [launch] = one.plan('product', candidate).launches;
            expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
            expect(launch!.block[0]).toBeLessThanOrEqual(1024);
          }
        }
      }
    },
  );
});

describe('generated kernels', async () => {
  const nvcc = await findNvcc();
  it.skipIf(nvcc === null).each(['compute_80', 'compute_90a'])(
    'compile for %s (skipped without nvcc)',
    async (target) => {
      const folder = await mkdtemp(join(tmpdir(), 'ladder-dense-'));
      try {
        const plans = (
          [
            ['int4', { n: 2141, group: 128, bias: true, function: 'gelu_tanh' }],
            ['int1', { norm: { kind: 'rms', eps: 1e-5 }, function: 'silu_mul' }],
            ['mxfp8_e4m3', { m: 9, n: 2141, residual: true }],
            ['int1', { m: 17, bias: true }],
            ['int4', { m: 32, n: 2141, group: 128, residual: true }],
            ['nf4', { m: 64, n: 160, function: 'silu_mul' }],
            ['nf4', { n: 14336, k: 57344 }],
          ] satisfies [string, Partial<DenseShapeV1>][]
        ).map(([weight, over], i) =>
          product(weight, { ...over, prefetch: 4096 * 512 }).plan(`product${i}`, {}, { runs: 132, tiles: 4096, tileBytes: 512 }),
        );
        const includes = [...new Set(plans.flatMap((plan) => plan.includes))];
        const source = [...includes.map((header) => `#include "${header}"`), ...plans.map((plan) => plan.definitions)].join('\n');
        await writeFile(join(folder, 'kernels.cu'), source);
        await promisify(execFile)(nvcc!, [
          '-std=c++17',
          '-ptx',
          `-arch=${target}`,
          '-I',
          kernelsFolder,
          '-o',
          join(folder, 'kernels.ptx'),
          join(folder, 'kernels.cu'),
        ]);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
    120_000,
  );
});

// Plans of the dense decoding products: layouts are bijections and fit the kernels' tiles, odd shapes plan or are refused by
// name, tunings fit, and the generated text compiles, which also checks the mirrored shared memory (static_assert).
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { layoutExtents, layoutOffsets } from '../../lib/artifact/layout.js';
import { type ActivationFormat, type DenseOperator, isMxFormat, weightBits, type WeightFormat, weightFormats } from '../../lib/artifact/operators.js';
import { findNvcc, kernelsFolder } from '../../lib/compiler/compile.js';
import { type DenseShape, denseLayouts, denseTunables, planDense } from '../../lib/compiler/dense-kernels.js';
import { LadderError } from '../../lib/errors.js';

function activationOf(weight: WeightFormat): ActivationFormat {
  if (weight === 'int1') return 'int8';
  return weight.includes('fp8') ? (weight as ActivationFormat) : 'fp16';
}

function shapeOf(weight: WeightFormat, over: Partial<DenseShape> = {}): DenseShape {
  const m = over.m ?? 1;
  const activation = activationOf(weight);
  return {
    op: 'dense', m, n: 176, k: 1280, weight, activation, group: weight.startsWith('mxfp8') ? 32 : -1,
    input: m > 1 && activation !== 'fp16' ? 'quantised' : 'fp16', norm: { kind: 'none', eps: 1e-5 }, bias: false, function: 'none', residual: false, ...over,
  };
}

function operatorOf(shape: DenseShape): DenseOperator {
  const { weightLayout, scaleLayout } = denseLayouts(shape);
  return { ...shape, weightLayout: [...weightLayout], scaleLayout: scaleLayout && [...scaleLayout] };
}

/** Format, tokens, and the rows that lie together: a tile, or for warpgroups a pair. */
const layoutCases = weightFormats.flatMap((weight) => [[weight, 1, 16], [weight, 32, weightBits(weight) < 8 || isMxFormat(weight) ? 32 : 16]] as const);

function refusal(shape: DenseShape): LadderError {
  try {
    denseLayouts(shape);
  } catch (error) {
    if (error instanceof LadderError) return error;
    throw error;
  }
  throw new Error('expected a refusal');
}

describe('dense layouts', () => {
  it.each(layoutCases)('%s, m = %i: a bijection, rows padded to %i', (weight, m, padding) => {
    for (const n of [16, 176, 2141]) {
      const { weightLayout, scaleLayout } = denseLayouts(shapeOf(weight, { m, n }));
      expect(layoutExtents(weightLayout)).toEqual({ n: Math.ceil(n / padding) * padding, k: 1280 });
      expect(scaleLayout === null).toBe(!weight.startsWith('mxfp8'));
      if (scaleLayout) expect(layoutExtents(scaleLayout)).toEqual({ n: Math.ceil(n / padding) * padding, k: 40 });
    }
  });

  it.each(layoutCases)('%s, m = %i: each run of %i rows is contiguous, and with silu_mul holds half as many gates and their ups', (weight, m, run) => {
    const n = 64;
    const rows = layoutOffsets(denseLayouts(shapeOf(weight, { m, n, function: 'silu_mul' })).weightLayout, 'n');
    const runOf = (row: number): number => Math.floor(rows[row]! / (run * 1280));
    for (let gate = 0; gate < n / 2; ++gate) {
      expect(runOf(gate)).toBe(Math.floor(gate / (run / 2)));
      expect(runOf(gate + n / 2)).toBe(Math.floor(gate / (run / 2)));
    }
  });

  it('groups along k keep their scales with the rows of the weights', () => {
    for (const m of [1, 32]) {
      const { weightLayout, scaleLayout } = denseLayouts(shapeOf('int4', { m, n: 2141, group: 128 }));
      expect(layoutExtents(scaleLayout!)).toEqual({ n: layoutExtents(weightLayout).n, k: 10 });
    }
  });

  it('for several tokens, the weights of a lane are those of the tensor cores\' operand', () => {
    // mma's A: lane 4g + t holds, of row g, 2t, 2t + 1, 2t + 8 and 2t + 9 of each 16 (FP16), or 4t … 4t + 3 and 4t + 16 … 4t + 19 of each 32 (INT8).
    for (const [weight, bits, run, stride] of [['int4', 4, 2, 8], ['nf4', 4, 2, 8], ['int1', 1, 4, 16], ['mxfp8_e5m2', 8, 2, 8]] as const) {
      const { weightLayout } = denseLayouts(shapeOf(weight, { m: 32, n: 32, k: 256 }));
      const k = layoutOffsets(weightLayout, 'k');
      const laneOf = (column: number): number => Math.floor((k[column]! * bits) / 8 / 16) % 4;
      for (let column = 0; column < 256; ++column) expect(laneOf(column)).toBe(Math.floor((column % stride) / run));
    }
  });

  it('depends on the number of tokens only where the kernel does', () => {
    for (const weight of weightFormats) {
      const few = denseLayouts(shapeOf(weight, { m: 2 }));
      expect(denseLayouts(shapeOf(weight, { m: 64 }))).toEqual(few);
      if (weightBits(weight) >= 8 && !isMxFormat(weight)) expect(denseLayouts(shapeOf(weight))).toEqual(few);
    }
  });

  it.each<[string, DenseShape]>([
    ['m', shapeOf('int4', { m: 65 })],
    ['k', shapeOf('int1', { k: 128 })],
    ['k', shapeOf('int4', { k: 192, group: 128 })],
    ['n', shapeOf('fp16', { n: 24, function: 'silu_mul' })],
    ['n', shapeOf('int4', { m: 2, n: 176, function: 'silu_mul' })],
    ['n', shapeOf('mxfp8_e4m3', { m: 2, n: 176, function: 'silu_mul' })],
    ['k', shapeOf('mxfp8_e4m3', { m: 2, k: 1312 })],
    ['activation', shapeOf('int4', { activation: 'int8' })],
    ['group', shapeOf('int1', { group: 64 })],
    ['group', shapeOf('mxfp8_e4m3', { group: -1 })],
    ['norm', shapeOf('int4', { m: 2, norm: { kind: 'rms', eps: 1e-5 } })],
    ['input', shapeOf('int1', { m: 2, input: 'fp16' })],
    ['input', shapeOf('fp16', { input: 'quantised' })],
  ])('refuses what no kernel does, naming `%s`', (dimension, shape) => {
    const error = refusal(shape);
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.context['dimension']).toBe(dimension);
    expect(error.message).toContain(`\`${dimension}\``);
  });
});

describe('dense plans', () => {
  it('passes operands in the order of the operator, pointers only', () => {
    const shape = shapeOf('fp8_e4m3', { norm: { kind: 'layer', eps: 1e-5 }, bias: true, residual: true });
    const { launches, definitions, workspaceBytes } = planDense(operatorOf(shape), 'product', {});
    expect(definitions).toContain('product(const void* x, const uint8_t* weight, const void* scale, const __half* gain, const __half* beta, const __half* bias, const __half* residual, __half* y)');
    expect(launches[0]!.arguments).toEqual([...[0, 1, 2, 3, 4, 5, 6].map((index) => ({ kind: 'input', index })), { kind: 'output', index: 0 }]);
    expect(launches[0]!.programmatic).toBe(true);
    expect(workspaceBytes).toBe(0);
  });

  it('refuses a layout that is not the kernel\'s, and a tuning that does not fit', () => {
    const operator = operatorOf(shapeOf('int4'));
    const rowMajor = [{ axis: 'n' as const, stride: 1, size: 176 }, { axis: 'k' as const, stride: 1, size: 1280 }];
    expect(() => planDense({ ...operator, weightLayout: rowMajor }, 'product', {})).toThrow(/weightLayout/);
    expect(() => planDense(operator, 'product', { stages: 64 })).toThrow(/shared memory/);
    expect(() => planDense(operator, 'product', { warps: 8, stageUnits: 12 })).toThrow(/12 units/);
    expect(() => planDense(operatorOf(shapeOf('int4', { m: 32 })), 'product', { cluster: 8 })).toThrow(/clusters of 8/);
  });

  it('reads ahead what the next product begins with, inside its weights, and only where both say so', () => {
    for (const weight of ['fp16', 'int4', 'nf4', 'int1', 'fp8_e5m2'] as const) {
      for (const [m, n, k] of [[1, 10240, 8192], [32, 57344, 8192], [32, 8192, 28672], [64, 2141, 1280], [1, 16, 256]] as const) {
        const { reads } = planDense(operatorOf(shapeOf(weight, { m, n, k })), 'next', {});
        const bytes = layoutExtents(denseLayouts(shapeOf(weight, { m, n, k })).weightLayout).n * k * weightBits(weight) / 8;
        expect(reads!.tiles * reads!.tileBytes).toBe(bytes);
        const { definitions, launches } = planDense({ ...operatorOf(shapeOf(weight, { m })), prefetch: bytes }, 'product', {}, reads!);
        const [runs, tiles, tileBytes, length] = /kNextRuns = (\d+), kNextTiles = (\d+), kNextTileBytes = (\d+), kNextBytes = (\d+)/.exec(definitions)!.slice(1).map(Number) as [number, number, number, number];
        const lastTile = (runs - 1) * Math.floor(tiles / runs) + Math.min(runs - 1, tiles % runs);
        expect([length > 0, length % 16, lastTile * tileBytes + length <= bytes, runs * length <= 6 * 2 ** 20]).toEqual([true, 0, true, true]);
        expect(launches[0]!.arguments.length).toBe(planDense(operatorOf(shapeOf(weight, { m })), 'product', {}).launches[0]!.arguments.length + 1);
        expect(() => planDense({ ...operatorOf(shapeOf(weight, { m })), prefetch: bytes }, 'product', {})).toThrow(/read ahead/);
        expect(() => planDense(operatorOf(shapeOf(weight, { m })), 'product', {}, reads!)).toThrow(/read ahead/);
      }
    }
  });

  it.each(weightFormats)('%s: every shape of the models plans with at most an A100\'s shared memory, and every candidate fits an H100', (weight) => {
    for (const [n, k] of [[10240, 8192], [8192, 28672], [57344, 8192], [43008, 14336], [14336, 57344], [4096, 4096]] as const) {
      for (const m of [1, 2, 8, 32, 33, 64]) {
        const operator = operatorOf(shapeOf(weight, { m, n, k }));
        expect(planDense(operator, 'product', {}).launches[0]!.dynamicSharedBytes).toBeLessThanOrEqual(163 * 1024);
        const candidates = denseTunables(operator);
        expect(candidates.length).toBeGreaterThan(2);
        expect(planDense(operator, 'product', candidates[0]!)).toEqual(planDense(operator, 'product', {}));
        for (const candidate of candidates) {
          const [launch] = planDense(operator, 'product', candidate).launches;
          expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
          expect(launch!.block[0]).toBeLessThanOrEqual(1024);
        }
      }
    }
  });
});

describe('generated kernels', async () => {
  const nvcc = await findNvcc();
  it.skipIf(nvcc === null).each(['compute_80', 'compute_90a'])('compile for %s (skipped without nvcc)', async (target) => {
    const folder = await mkdtemp(join(tmpdir(), 'ladder-dense-'));
    try {
      const plans = [
        shapeOf('int4', { n: 2141, group: 128, bias: true, function: 'gelu_tanh' }),
        shapeOf('int1', { norm: { kind: 'rms', eps: 1e-5 }, function: 'silu_mul' }),
        shapeOf('mxfp8_e4m3', { m: 9, n: 2141, residual: true }),
        shapeOf('int1', { m: 17, bias: true }),
        shapeOf('int4', { m: 32, n: 2141, group: 128, residual: true }),
        shapeOf('nf4', { m: 64, n: 160, function: 'silu_mul' }),
        shapeOf('nf4', { n: 14336, k: 57344 }),
      ].map((shape, i) => planDense({ ...operatorOf(shape), prefetch: 4096 * 512 }, `product${i}`, {}, { runs: 132, tiles: 4096, tileBytes: 512 }));
      const includes = [...new Set(plans.flatMap((plan) => plan.includes))];
      const source = [...includes.map((header) => `#include "${header}"`), ...plans.map((plan) => plan.definitions)].join('\n');
      await writeFile(join(folder, 'kernels.cu'), source);
      await promisify(execFile)(nvcc!, ['-std=c++17', '-ptx', `-arch=${target}`, '-I', kernelsFolder, '-o', join(folder, 'kernels.ptx'), join(folder, 'kernels.cu')]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 120_000);
});

// Kernels of networks of images: what becomes one operator and what is refused, that tunings fit and orders are bijections; and, where nvcc
// is, that they compile without spills.
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { maxPool, meanRows } from '../../lib/compiler/kernels/pool.js';
import { separable } from '../../lib/compiler/kernels/separable.js';
import { tile } from '../../lib/compiler/kernels/matmul/tile.js';
import { select } from '../../lib/compiler/kernels/index.js';
import type { Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget, type Target } from '../../lib/compiler/targets.js';
import { checkProgram } from '../../lib/operators/check.js';
import { checkLayout } from '../../lib/operators/layout.js';
import { stepsText } from '../../lib/operators/program.js';
import { poolOperators, stemOperators, type Unit, unitOperators } from '../fixtures/images.js';
import { compileKernels, hasNvcc } from '../fixtures/nvcc.js';
import { storedProgram } from '../fixtures/programs.js';

const unit: Unit = { batch: 2, size: 28, channels: [58, 58, 58], turns: true };

describe('units of separable convolutions', () => {
  it('are one operator, with slices, codes and turns', () => {
    const steps = (given: Unit): readonly string[] => unitOperators(given).map(stepsText);
    expect(steps(unit)).toEqual(['channels, channels, dense, add, relu, conv, add, dense, add, relu, interleave']);
    expect(steps({ ...unit, weight: 'fp8_e5m2' })).toEqual([
      'channels, channels, quantise, dense, add, relu, conv, add, quantise, dense, add, relu, interleave',
    ]);
    expect(steps({ ...unit, expand: false, turns: false, stride: 2 })).toEqual(['conv, add, dense, add, relu']);
  });

  it('round to float16 on the way into each product and convolution', () => {
    const [program] = unitOperators(unit);
    checkProgram(program!);
    const read = (kind: string): readonly string[] =>
      program!.nodes.filter((node) => node.kind === kind).map(({ inputs }) => program!.values[inputs[0]!]!.type as string);
    expect([read('dense'), read('conv'), read('relu')]).toEqual([['f16', 'f16'], ['f16'], ['f32', 'f32']]);
  });

  it('leave to others what the kernel has not', () => {
    const isTaken = (given: Unit): boolean => unitOperators(given).some((program) => select(program, layoutTarget)!.family === separable);
    expect(isTaken(unit)).toBe(true);
    // Odd channels, a format that it does not multiply, rows of pixels that do not fit.
    const refused: readonly Partial<Unit>[] = [{ channels: [58, 57, 58] }, { weight: 'int4' }, { size: 800 }];
    expect(refused.map((given) => isTaken({ ...unit, ...given }))).toEqual([false, false, false]);
  });

  it('store weights in bijections, and offer tunings that fit', () => {
    const stored = storedProgram(unitOperators(unit)[0]!, [separable]);
    for (const [value, { layout }] of separable.storage(stored.match)) checkLayout(layout!.digits, stored.program.values[value]!.axes);
    for (const target of buildTargets) {
      const match = separable.accepts(stored.program, target);
      if (match instanceof Refusal) throw new Error(match.message);
      for (const tuning of separable.configurations(match, target)) {
        const [launch] = stored.plan('f', tuning, null, target).launches;
        expect(launch!.dynamicSharedBytes).toBeLessThanOrEqual((target === layoutTarget ? 227 : 163) * 1024);
      }
    }
    expect(() => stored.plan('f', { rows: 3 })).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });

  it('share out channels in clusters where images are few, on GPUs that have clusters', () => {
    const storedFor = (batch: number) => storedProgram(unitOperators({ ...unit, batch })[0]!, [separable]);
    const [one, many] = [storedFor(1), storedFor(128)];
    const isCluster = ({ cluster }: Tuning): boolean => cluster! > 1;
    const configurationsOn = (stored: typeof one, target: Target) => {
      const match = separable.accepts(stored.program, target);
      if (match instanceof Refusal) throw new Error(match.message);
      return separable.configurations(match, target);
    };
    expect(buildTargets.map((target) => configurationsOn(one, target).some(isCluster))).toEqual([false, false, true]);
    expect(configurationsOn(many, layoutTarget).some(isCluster)).toBe(false);
    const plan = one.plan('f', { rows: 1, warps: 8, blocksM: 1, blocksN: 1, cluster: 4 });
    expect(plan.includes).toEqual(['conv/separable_cluster.cuh']);
    expect(plan.launches[0]).toMatchObject({ grid: [112, 1, 1], block: [256, 1, 1], programmatic: true });
    expect(plan.definitions).toContain('__cluster_dims__(4, 1, 1) __launch_bounds__(256, 3) f(');
    expect(plan.definitions).toContain('kRows = 1, kWarps = 8, kCluster = 4;');
    expect(one.plan('f').definitions).toContain('__cluster_dims__');
    // Elsewhere the best of what there is; a tuning from before there were clusters is one without.
    for (const target of buildTargets.filter(({ capability }) => capability?.[0] !== 9)) {
      for (const tuning of [{}, { rows: 1, warps: 8, blocksM: 1, blocksN: 1, cluster: 4 }])
        expect(one.plan('f', tuning, null, target).definitions).not.toMatch(/cluster/i);
    }
    const earlier = one.plan('f', { rows: 1, warps: 8, blocksM: 1, blocksN: 2 });
    expect([earlier.includes, earlier.launches[0]!.grid[0]]).toEqual([['conv/separable.cuh'], 28]);
    // Three blocks, more clusters than a GPU holds, shares of more eights than warps.
    for (const misfit of [
      { rows: 1, warps: 8, blocksM: 1, blocksN: 1, cluster: 3 },
      { rows: 1, warps: 8, blocksM: 1, blocksN: 1, cluster: 8 },
      { rows: 1, warps: 4, blocksM: 1, blocksN: 1, cluster: 2 },
    ])
      expect(() => one.plan('f', misfit)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });
});

describe('pooling', () => {
  it('writes codes where only they are read', () => {
    const families = (format?: string) =>
      poolOperators(2, 12, 64, format).map((program) => [select(program, layoutTarget)!.family, stepsText(program)]);
    expect(families('int4')).toEqual([[maxPool, 'max_pool, quantise']]);
    expect(families()).toEqual([
      [maxPool, 'max_pool'],
      [meanRows, 'mean_rows'],
    ]);
    expect(poolOperators(2, 12, 12).map((program) => select(program, layoutTarget)!.family.id)).toEqual(['simple/images', 'simple/images']);
  });
});

describe('stems', () => {
  it('pool what they make, and quantise it, where a tile has the two rows of a window', () => {
    const steps = (image: number, format?: string) =>
      stemOperators(2, image, 7, 64, format).map((program) => [select(program, layoutTarget)!.family, stepsText(program)]);
    expect(steps(224, 'int4')).toEqual([[tile, 'patches, conv, add, relu, max_pool, quantise']]);
    expect(steps(32)).toEqual([[tile, 'patches, conv, add, relu, max_pool']]);
    // Rows of 8 results: four of them are a tile.
    expect(steps(16).map(([family]) => family)).toEqual([tile, maxPool]);
    const grid = (batch: number): number => storedProgram(stemOperators(batch, 224, 7, 64)[0]!).plan('f').launches[0]!.grid[0];
    expect([grid(1), grid(128)]).toEqual([112, 256]);
  });
});

if (!hasNvcc) console.log('skipped: compiling kernels needs nvcc');

describe.skipIf(!hasNvcc)('compiled', () => {
  it.each(buildTargets.filter(({ capability }) => capability !== null))('for $id, without spills', { timeout: 300_000 }, (target) => {
    const few = { ...unit, batch: 1 };
    const programs = [
      unit,
      { ...unit, weight: 'fp8_e4m3' },
      { ...unit, expand: false, turns: false },
      few,
      { ...few, size: 14, channels: [232, 232, 232], stride: 2, turns: false } as const,
      { ...few, size: 7, channels: [232, 232, 232], weight: 'fp8_e5m2' } as const,
      { ...few, size: 14, channels: [116, 116, 116] } as const,
      { ...few, size: 14, channels: [116, 116, 116], weight: 'fp8_e5m2' } as const,
      { ...few, size: 14, channels: [116, 116, 116], expand: false } as const,
    ]
      .flatMap((given) => unitOperators(given))
      .concat(poolOperators(2, 12, 64, 'int4'), poolOperators(2, 12, 64), stemOperators(2, 64, 7, 64, 'int4'))
      .concat([1, 2, 128].flatMap((batch) => [...stemOperators(batch, 224, 7, 64, 'int4'), ...stemOperators(batch, 224, 3, 24)]));
    const plans = programs.map((program, i) => storedProgram(program).plan(`f${i}`, {}, null, target));
    const { status, log, spills } = compileKernels(plans, target.gencode);
    expect([status, log.match(/warning/)]).toEqual([0, null]);
    expect(spills.length).toBe(plans.length);
    for (const spill of spills) expect(spill).toEqual(['0', '0']);
  });
});

// Depthwise convolutions: what their family takes and refuses, how threads are dealt out; and, where nvcc is, that they compile without
// spills.
import { describe, expect, it } from 'vitest';
import { depthwise } from '../../lib/compiler/kernels/depthwise.js';
import { selectOrThrow } from '../../lib/compiler/kernels/index.js';
import type { KernelPlan, Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import type { Program } from '../../lib/operators/program.js';
import { type ConvShape, convProgram, storedProgram } from '../fixtures/programs.js';
import { compileKernels, hasNvcc } from '../fixtures/nvcc.js';

const frames: ConvShape = { channels: 512, groups: 512, batch: 128, height: 512, kernelY: 31, paddingY: 15, bias: true, after: ['silu'] };
const square = { kernelY: 3, kernelX: 3, paddingY: 1, paddingX: 1 };
const images: ConvShape = { channels: 58, groups: 58, batch: 128, height: 28, width: 28, ...square, bias: true };

function planOf(shape: ConvShape, name = 'f', tuning: Tuning = {}): KernelPlan {
  const stored = storedProgram(convProgram(shape));
  expect(stored.family).toBe(depthwise);
  return stored.plan(name, tuning);
}

describe('plans', () => {
  it('give a thread two channels of a run of frames, weights tap by tap, then bias and function', () => {
    const stored = storedProgram(convProgram(frames));
    expect(stored.weightLayout).toEqual([
      { axis: 'k', stride: 1, size: 31 },
      { axis: 'n', stride: 1, size: 512 },
    ]);
    const { launches, definitions } = stored.plan('f', { run: 16 });
    expect(launches).toEqual([
      {
        name: 'f',
        grid: [(128 * (512 / 16) * 256) / 128, 1, 1],
        block: [128, 1, 1],
        dynamicSharedBytes: 0,
        arguments: [...[0, 1, 2].map((index) => ({ kind: 'input', index })), { kind: 'output', index: 0 }],
        programmatic: true,
      },
    ]);
    expect(definitions).toContain('value = (value / (1.0f + expf((-value))));');
  });

  it('have shorter runs where there are few threads, and none much longer than a line', () => {
    const runOf = (shape: ConvShape): string | undefined => /kRun = (\d+)/.exec(planOf(shape).definitions)?.[1];
    expect(runOf({ ...frames, batch: 64, kernelY: 35, paddingY: 17 })).toBe('16');
    expect(runOf({ ...frames, batch: 1 })).toBe('4');
    expect(runOf({ ...images, batch: 1024 })).toBe('16');
    expect(runOf({ ...images, batch: 1024, height: 7, width: 7 })).toBe('8');
  });

  it('walk along the rows of images', () => {
    expect(planOf({ ...images, stride: 2, height: 28, width: 14 }).definitions).toMatch(
      /kOuter = 28, kOuterOut = 14, kOuterTaps = 3, kOuterPadding = 1;\s+static constexpr int kWalk = 14, kWalkOut = 7, kWalkTaps = 3/,
    );
  });

  it('give tensor cores tiles of 128 frames and 64 channels, in as many blocks as run at once', () => {
    const { includes, launches, definitions } = planOf(frames);
    expect(planOf(frames, 'f', { banded: 1 }).definitions).toBe(definitions);
    expect(includes).toEqual(['conv/depthwise_frames.cuh']);
    expect(launches).toMatchObject([{ grid: [8 * 33, 1, 1], block: [256, 1, 1], dynamicSharedBytes: 4 * 160 * 128 + 128 }]);
    expect(definitions).toContain('value = ladder::divideNear(value, (1.0f + ladder::expNear((-value))));');
    expect(planOf({ ...frames, batch: 2, kernelY: 7, paddingY: 3 }, 'f', { banded: 1 }).launches).toMatchObject([
      { grid: [8 * 2 * 4, 1, 1], dynamicSharedBytes: 4 * 136 * 128 + 128 },
    ]);
  });

  it('have tensor cores among the configurations of frames that they take, first where every multiprocessor has tiles', () => {
    const all = (shape: ConvShape): readonly Tuning[] => storedProgram(convProgram(shape)).configurations();
    expect(all(frames)).toEqual([{ banded: 1 }, { run: 16 }, { run: 4 }, { run: 8 }]);
    expect(all({ ...frames, batch: 1 })).toEqual([{ run: 4 }, { run: 8 }, { run: 16 }, { banded: 1 }]);
    for (const other of [
      images,
      { ...frames, channels: 96, groups: 96 },
      { ...frames, kernelY: 35, paddingY: 17 },
      { ...frames, stride: 2 },
    ])
      expect(all(other)).toHaveLength(3);
  });

  it('refuse a run that there is not, and tensor cores where they do not fit', () => {
    for (const [shape, tuning] of [
      [frames, { run: 5 }],
      [frames, { banded: 2 }],
      [images, { banded: 1 }],
    ] as const)
      expect(() => planOf(shape, 'f', tuning)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });

  it('say what they are tuned by', () => {
    const key = (shape: ConvShape): string => depthwise.key(depthwise.accepts(convProgram(shape), layoutTarget));
    expect(key(frames)).toBe('batch=128 c=512 1/1 512/31+15 stride=1 post=bias+silu');
    expect(key(images)).toBe('batch=128 c=58 28/3+1 28/3+1 stride=1 post=bias');
  });
});

describe('refuses', () => {
  it.each<[string, ConvShape]>([
    ['groups', { ...images, groups: 1 }],
    ['groups', { ...images, groups: 29 }],
    ['groups', { ...images, results: 116 }],
    ['c', { ...images, channels: 57, groups: 57 }],
    ['k', { ...images, kernelY: 8, kernelX: 7 }],
  ])('what no thread has room for, naming `%s` (%#)', (dimension, shape) => {
    expect(depthwise.accepts(convProgram(shape), layoutTarget)).toMatchObject({ dimension });
    // Of one group, tensor cores have it.
    expect(selectOrThrow(convProgram({ ...shape, bias: false }), layoutTarget).family.id).toBe(
      shape.groups === 1 ? 'matmul/tile' : 'simple/conv',
    );
  });

  it('steps that are more than a function of one number, and numbers that are not float16 in rows', () => {
    const program = convProgram({ ...images, channels: 64, groups: 64, after: ['glu'] });
    expect(depthwise.accepts(program, layoutTarget)).toMatchObject({ dimension: '' });
    const plain = convProgram(images);
    const changed = (value: number, change: object): Program => ({
      ...plain,
      values: plain.values.map((one, i) => (i === value ? { ...one, ...change } : one)),
    });
    const digits = ['c', 'm'].map((axis) => ({ axis, stride: 1, size: axis === 'c' ? 58 : 128 * 784 }));
    for (const other of [changed(0, { layout: { digits } }), changed(0, { type: 'f32' }), changed(plain.outputs[0]!, { type: 'f32' })])
      expect(depthwise.accepts(other, layoutTarget)).toMatchObject({ dimension: 'x' });
  });
});

describe('compilation', () => {
  const shapes: readonly ConvShape[] = [
    frames,
    images,
    { ...images, channels: 232, groups: 232, stride: 2, height: 14, width: 14, after: ['relu'] },
    { ...images, kernelY: 7, kernelX: 7, paddingY: 3, paddingX: 3, bias: false },
  ];

  it.skipIf(!hasNvcc).each(buildTargets.filter(({ capability }) => capability !== null))(
    'for $id, without spills and warnings (needs nvcc)',
    { timeout: 600_000 },
    (target) => {
      const banded: readonly ConvShape[] = [
        frames,
        { ...frames, channels: 128, groups: 128, batch: 3, height: 200, kernelY: 7, paddingY: 3, bias: false, after: [] },
        { ...frames, kernelY: 33, paddingY: 0 },
        { ...frames, channels: 64, groups: 64, batch: 3, height: 141 },
      ];
      const plans = [
        ...shapes.flatMap((shape, i) => [4, 8, 16].map((run) => planOf(shape, `f_${i}_${run}`, { run }))),
        ...banded.map((shape, i) => planOf(shape, `f_banded_${i}`, { banded: 1 })),
      ];
      const { status, log, spills } = compileKernels(plans, target.gencode);
      expect(status, log).toBe(0);
      expect(log).not.toMatch(/warning/i);
      expect(spills).toHaveLength(plans.length);
      expect(spills.filter(([stores, loads]) => stores !== '0' || loads !== '0')).toEqual([]);
    },
  );
});

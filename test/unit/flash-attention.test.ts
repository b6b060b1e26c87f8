// Attention in tiles: what its family takes and refuses, its launches on each target, panels on both sides; and, where nvcc is, that
// every kind of instantiation compiles without spills, and without products that are made to wait for each other.
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { flash } from '../../lib/compiler/kernels/flash.js';
import { panelLayout } from '../../lib/compiler/kernels/panels.js';
import type { KernelPlan } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget, type Target } from '../../lib/compiler/targets.js';
import type { Program, Value } from '../../lib/operators/program.js';
import { type AttentionShape, attentionProgram, storedProgram } from '../fixtures/programs.js';
import { compileKernels, hasNvcc } from '../fixtures/nvcc.js';

const sm80 = buildTargets.find(({ id }) => id === 'sm_80')!;
const llama: AttentionShape = {
  batch: 1,
  seq: 4096,
  heads: 64,
  kvHeads: 8,
  headDim: 128,
  order: 'concatenated',
  position: 'rope',
  ropeBase: 10000,
};
const vit: AttentionShape = { ...llama, seq: 50, heads: 6, kvHeads: 6, headDim: 64, position: 'none' };
const bloom: AttentionShape = { ...llama, heads: 112, kvHeads: 112, order: 'interleaved', position: 'alibi' };

/** The plan for a target, qkv in panels and, unless `rows`, the result as well. */
function planOf(shape: AttentionShape, target: Target, name = 'f', rows = false): KernelPlan {
  const { program } = storedProgram(attentionProgram(shape), [flash]);
  const stored = rows ? program : changed(program, program.outputs[0]!, (y) => ({ layout: panelLayout(y)! }));
  const match = flash.accepts(stored, target);
  if (match instanceof Refusal) throw new Error(match.message);
  return flash.plan(match, name, {}, { target, next: null });
}

function changed(program: Program, index: number, change: (value: Value) => Partial<Value>): Program {
  return { ...program, values: program.values.map((value, i) => (i === index ? { ...value, ...change(value) } : value)) };
}

describe('plans', () => {
  it('prepares keys that rotate and values that many share, then lets every multiprocessor loop over tiles', () => {
    const { launches, workspaceBytes, includes } = planOf(llama, layoutTarget);
    const prepared = 4096 * 128 * 4 + 2 * 8 * 4096 * 128 * 2;
    expect(workspaceBytes).toBe(prepared);
    expect(includes).toEqual(['attention/flash/warpgroup.cuh', 'attention/flash/prepare.cuh']);
    expect(launches).toEqual([
      {
        name: 'f_prepare',
        grid: [256, 4, 1],
        block: [128, 1, 1],
        dynamicSharedBytes: 0,
        arguments: [
          { kind: 'input', index: 0 },
          { kind: 'workspace', offsetBytes: 0 },
        ],
        programmatic: true,
      },
      {
        name: 'f',
        grid: [132, 1, 1],
        block: [384, 1, 1],
        dynamicSharedBytes: 131136,
        arguments: [
          { kind: 'input', index: 0 },
          { kind: 'workspace', offsetBytes: 0 },
          { kind: 'output', index: 0 },
        ],
        programmatic: true,
      },
    ]);
  });

  it('reads keys and values with ALiBi where they are', () => {
    const { launches, workspaceBytes } = planOf(bloom, layoutTarget);
    expect(workspaceBytes).toBe(0);
    expect(launches.map(({ name, arguments: own }) => [name, own.length])).toEqual([['f', 2]]);
  });

  it('reads keys and values without positions where they are', () => {
    const { launches, workspaceBytes, definitions } = planOf({ ...vit, batch: 128 }, layoutTarget);
    expect(workspaceBytes).toBe(0);
    expect(launches[0]!.grid).toEqual([132, 1, 1]);
    expect(definitions).toContain('kPosition = ladder::Position::kNone');
    expect(planOf({ ...vit, batch: 128 }, sm80).launches[0]!.grid).toEqual([128 * 6, 1, 1]);
  });

  it('has a block per tile on sm_80', () => {
    expect(planOf(bloom, sm80).launches[0]!.grid).toEqual([112 * 32, 1, 1]);
    expect(planOf({ ...bloom, batch: 2, seq: 4095 }, sm80).launches[0]!.grid).toEqual([2 * 112 * 33, 1, 1]);
  });

  it('moves keys and values whose heads begin within panels', () => {
    const narrow: AttentionShape = { ...llama, heads: 6, kvHeads: 2, headDim: 96, seq: 100, position: 'alibi' };
    const moved = 2 * 2 * 104 * 96 * 2;
    expect(planOf(narrow, layoutTarget).workspaceBytes).toBe(moved);
    expect(planOf({ ...narrow, position: 'rope' }, layoutTarget).workspaceBytes).toBe(100 * 96 * 4 + moved);
    // Keys alone where heads begin panels and few share them.
    expect(planOf({ ...narrow, headDim: 64, position: 'rope' }, layoutTarget).workspaceBytes).toBe(100 * 64 * 4 + 2 * 104 * 64 * 2);
  });

  it('says what it is tuned by', () => {
    const key = (shape: AttentionShape): string => flash.key(flash.accepts(attentionProgram(shape), layoutTarget));
    expect(key(llama)).toBe('batch=1 seq=4096 heads=64 kv=8 d=128 concatenated rope');
    expect(key({ ...llama, mask: 'causal' })).toBe('batch=1 seq=4096 heads=64 kv=8 d=128 concatenated rope causal');
  });
});

describe('panels', () => {
  const program = attentionProgram({ ...llama, seq: 65 });
  const [qkv, y] = [program.inputs[0]!, program.outputs[0]!];
  const match = flash.accepts(program, layoutTarget);

  it('are wanted for qkv, and written where the next operator wants them', () => {
    const panels = { layout: panelLayout(program.values[y]!)! };
    expect(flash.reads!(match)).toEqual(new Map([[qkv, { layout: panelLayout(program.values[qkv]!) }]]));
    expect(flash.writes!(match, y, panels)).toBe(true);
    expect(flash.writes!(match, qkv, panels)).toBe(false);
    expect(flash.writes!(match, y, { layout: { digits: [...panels.layout.digits].reverse() } })).toBe(false);
  });

  it('are never planned without', () => {
    expect(() => flash.plan(match, 'f', {}, { target: layoutTarget, next: null })).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });
});

describe('refuses', () => {
  it.each<[string, Partial<AttentionShape>, RegExp]>([
    ['headDim', { headDim: 32 }, /64, 96, 128 but received 32/],
    ['headDim', { headDim: 256 }, /64, 96, 128 but received 256/],
    ['m', { batch: 4096, seq: 4097 }, /at most 16777216 tokens but received 16781312/],
    ['qkv', { heads: 3, kvHeads: 3, headDim: 96 }, /multiple of 64 columns but received 864/],
  ])('what no kernel handles, naming `%s` (%#)', (dimension, change, message) => {
    expect(flash.accepts(attentionProgram({ ...llama, ...change }), layoutTarget)).toMatchObject({
      dimension,
      message: expect.stringMatching(message),
    });
  });

  it('programs that say more than the kernels see', () => {
    const program = attentionProgram(llama);
    const [qkv, y] = [program.inputs[0]!, program.outputs[0]!];
    const columns = { layout: { digits: [...panelLayout(program.values[qkv]!)!.digits].reverse() } };
    for (const other of [
      changed(program, qkv, () => ({ type: 'f32' })),
      changed(program, y, () => ({ type: 'f32' })),
      changed(program, qkv, () => columns),
      changed(program, y, () => columns),
    ])
      expect(flash.accepts(other, layoutTarget)).toMatchObject({ dimension: 'qkv' });
    expect(flash.accepts({ ...program, hints: [64] }, layoutTarget)).toMatchObject({ dimension: '' });
  });
});

describe('compilation', () => {
  const shapes: readonly AttentionShape[] = [
    llama,
    bloom,
    { ...llama, batch: 3, seq: 1001, mask: 'causal' },
    { ...bloom, batch: 3, seq: 1001, mask: 'causal' },
    ...([64, 96] as const).flatMap((headDim) => [
      { ...llama, headDim, seq: 65 },
      { ...bloom, headDim, batch: 3, seq: 127, mask: 'causal' as const },
    ]),
    // The networks': many short sequences, and long ones, without positions.
    { ...vit, batch: 128 },
    ...[1, 128].map((batch) => ({ ...vit, batch, seq: 512, heads: 8, kvHeads: 8 })),
    // One block of keys: nothing to loop over.
    { ...llama, seq: 128 },
  ];

  it.skipIf(!hasNvcc).each([layoutTarget, sm80])('for $id, without spills and warnings (needs nvcc)', { timeout: 600_000 }, (target) => {
    const plans = shapes.flatMap((shape, i) => [planOf(shape, target, `panels_${i}`), planOf(shape, target, `rows_${i}`, true)]);
    const { status, log, spills } = compileKernels(plans, target.gencode);
    expect(status, log).toBe(0);
    expect(log).not.toMatch(/warning|C75\d\d/i);
    expect(spills.length).toBe(plans.flatMap(({ launches }) => launches).length);
    expect(spills.filter(([stores, loads]) => stores !== '0' || loads !== '0')).toEqual([]);
  });
});

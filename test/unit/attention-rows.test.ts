// Attention in rows: what its family takes and refuses, its blocks; and, where nvcc is, that it compiles for every kind of shape without
// spills.
import { describe, expect, it } from 'vitest';
import { attentionRows } from '../../lib/compiler/kernels/attention-rows.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { selectOrThrow } from '../../lib/compiler/kernels/index.js';
import { panelLayout } from '../../lib/compiler/kernels/panels.js';
import type { KernelPlan, Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget, type Target } from '../../lib/compiler/targets.js';
import type { Program } from '../../lib/operators/program.js';
import { type AttentionShape, attentionProgram } from '../fixtures/programs.js';
import { compileKernels, hasNvcc } from '../fixtures/nvcc.js';

const vit: AttentionShape = {
  batch: 128,
  seq: 50,
  heads: 6,
  kvHeads: 6,
  headDim: 64,
  order: 'concatenated',
  position: 'none',
  ropeBase: 10000,
};
const conformer: AttentionShape = { ...vit, seq: 512, heads: 8, kvHeads: 8 };

function planOf(shape: AttentionShape, name = 'f', tuning: Tuning = {}, target: Target = layoutTarget): KernelPlan {
  const { family, match } = selectOrThrow(attentionProgram(shape), target);
  expect(family).toBe(attentionRows);
  return attentionRows.plan(match, name, tuning, { target, next: null });
}
const groups: Tuning = { groups: 4, keys: 64, resident: 1 };
const isGroups = (tuning: Tuning): boolean => tuning['groups'] !== undefined;

describe('plans', () => {
  it.each<[string, AttentionShape, number, number, number]>([
    ['a block per image and head', vit, 768, 128, 16384],
    ['and for one image', { ...vit, batch: 1 }, 6, 128, 16384],
    ['64 queries to a block of many, where heads are too wide for warpgroups', { ...conformer, headDim: 128 }, 128 * 8 * 8, 128, 65536],
    ['256 to one of warpgroups', conformer, 132, 512, 14 * (16384 + 16)],
    ['32 of few', { ...conformer, batch: 1 }, 8 * 16, 64, 32768],
    ['blocks of a head of 128', { ...conformer, batch: 4, headDim: 128 }, 4 * 8 * 8, 128, 65536],
  ])('%s', (_, shape, blocks, threads, bytes) => {
    const { launches, workspaceBytes } = planOf(shape);
    expect(launches).toEqual([
      {
        name: 'f',
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        dynamicSharedBytes: bytes,
        arguments: [
          { kind: 'input', index: 0 },
          { kind: 'output', index: 0 },
        ],
        programmatic: true,
      },
    ]);
    expect(workspaceBytes).toBe(0);
  });

  it('refuses tunings that no kernel has', () => {
    for (const tuning of [{ warps: 3 }, { warps: 16 }, { tiles: 0 }, { tiles: 3 }, { groups: 4 }, { ...groups, groups: 3 }])
      expect(() => planOf(vit, 'f', tuning)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
  });

  it.each<[Tuning, number, number, number]>([
    [groups, 132, 512, 14 * (16384 + 16)],
    [{ groups: 2, keys: 64, resident: 2 }, 264, 256, 7 * (16384 + 16)],
    [{ groups: 2, keys: 128, resident: 1 }, 132, 256, 7 * (32768 + 16)],
  ])('loops over tiles where warpgroups multiply: %o', (tuning, blocks, threads, bytes) => {
    const { includes, launches } = planOf(conformer, 'f', tuning);
    expect(includes).toEqual(['attention/rows_groups.cuh']);
    expect(launches).toMatchObject([{ grid: [blocks, 1, 1], block: [threads, 1, 1], dynamicSharedBytes: bytes }]);
    expect(planOf({ ...conformer, batch: 2 }, 'f', tuning).launches).toMatchObject([{ grid: [(2 * 8 * 8 * 128) / threads, 1, 1] }]);
  });

  it('has warpgroups among its configurations on sm_90a alone, for heads of 64 and many tokens: first where all multiprocessors have some', () => {
    const all = (shape: AttentionShape, target = layoutTarget): readonly Tuning[] =>
      attentionRows.configurations(attentionRows.accepts(attentionProgram(shape), target), target);
    expect(all(conformer).map(isGroups).indexOf(true)).toBe(0);
    const few = { ...conformer, batch: 1 };
    expect(all(few).map(isGroups).indexOf(true)).toBe(all(few).length - 3);
    const [portable] = buildTargets;
    for (const none of [all(vit), all({ ...conformer, headDim: 128 }), all(conformer, portable)]) expect(none.some(isGroups)).toBe(false);
    // A tuning of sm_90a serves targets that have none of their own.
    expect(planOf(conformer, 'f', groups, portable)).toEqual(planOf(conformer, 'f', {}, portable));
    const wide = { ...conformer, headDim: 128 };
    expect(planOf(wide, 'f', groups)).toEqual(planOf(wide));
  });

  it('has the default among its configurations, once', () => {
    for (const shape of [vit, conformer, { ...conformer, headDim: 128 }]) {
      const match = attentionRows.accepts(attentionProgram(shape), layoutTarget);
      const all = attentionRows.configurations(match, layoutTarget);
      expect(attentionRows.plan(match, 'f', all[0]!, { target: layoutTarget, next: null })).toEqual(planOf(shape));
      expect(new Set(all.map((one) => JSON.stringify(one))).size).toBe(all.length);
    }
  });
});

describe('refuses', () => {
  it.each<[string, Partial<AttentionShape>]>([
    ['position', { position: 'rope' }],
    ['position', { position: 'alibi' }],
    ['position', { mask: 'causal' }],
    ['seq', { seq: 15 }],
    ['headDim', { headDim: 96 }],
  ])('what it is not for, naming `%s` (%#)', (dimension, change) => {
    expect(attentionRows.accepts(attentionProgram({ ...vit, ...change }), layoutTarget)).toMatchObject({ dimension });
  });

  it('panels', () => {
    const program = attentionProgram(vit);
    for (const value of [program.inputs[0]!, program.outputs[0]!]) {
      const values = program.values.map((one, i) => (i === value ? { ...one, layout: panelLayout(one)! } : one));
      const changed: Program = { ...program, values };
      expect(attentionRows.accepts(changed, layoutTarget)).toBeInstanceOf(Refusal);
    }
  });
});

describe('compilation', () => {
  const shapes: readonly AttentionShape[] = [
    vit,
    { ...vit, seq: 16, kvHeads: 2 },
    { ...vit, seq: 65, order: 'interleaved' },
    conformer,
    { ...conformer, batch: 1, seq: 500 },
    { ...conformer, headDim: 128 },
    { ...conformer, batch: 3, seq: 200, kvHeads: 2 },
  ];

  it.skipIf(!hasNvcc).each(buildTargets.filter(({ capability }) => capability !== null))(
    'for $id, without spills and warnings (needs nvcc)',
    { timeout: 600_000 },
    (target) => {
      const plans = shapes.flatMap((shape, i) => {
        const match = attentionRows.accepts(attentionProgram(shape), target);
        // Of two all, of the others the default and warpgroups.
        return attentionRows
          .configurations(match, target)
          .filter((tuning, j) => i === 0 || i === 3 || j === 0 || isGroups(tuning))
          .map((tuning, j) => planOf(shape, `f_${i}_${j}`, tuning, target));
      });
      const { status, log, spills } = compileKernels(plans, target.gencode);
      expect(status, log).toBe(0);
      expect(log).not.toMatch(/warning/i);
      expect(spills).toHaveLength(plans.length);
      expect(spills.filter(([stores, loads]) => stores !== '0' || loads !== '0')).toEqual([]);
    },
  );
});

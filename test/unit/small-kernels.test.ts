// Plans of norm, quantise and attention: launches and refusals; and, where nvcc is, that every kind of instantiation
// compiles for both architectures without spilling registers. Results are checked on a GPU, against the reference.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type OperatorV1, programOfV1 } from '../../lib/artifact/upgrade.js';
import { activation as activationFamily } from '../../lib/compiler/kernels/activation.js';
import { attention as attentionFamily } from '../../lib/compiler/kernels/attention.js';
import { type Family, Refusal } from '../../lib/compiler/kernels/family.js';
import type { KernelPlan, Tuning } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { activationFormats } from '../../lib/formats/index.js';
import type { Program } from '../../lib/operators/program.js';
import { attentionProgram, storedProgram } from '../fixtures/programs.js';

type Small = Exclude<OperatorV1, { op: 'dense' }>;
type AttentionOperator = Extract<OperatorV1, { op: 'attention' }>;

const kKernels = fileURLToPath(new URL('../../native/kernels', import.meta.url));
const attention: AttentionOperator = {
  op: 'attention',
  batch: 32,
  seq: 1,
  heads: 64,
  kvHeads: 8,
  headDim: 128,
  order: 'concatenated',
  position: 'rope',
  ropeBase: 10000,
};
const alibi: Partial<AttentionOperator> = { heads: 112, kvHeads: 112, order: 'interleaved', position: 'alibi' };

/** The plan of the family that the operator is for. */
function planOf(operator: Small, name: string, tuning: Tuning = {}): KernelPlan {
  const stored = storedProgram(operator);
  expect(stored.family).toBe(operator.op === 'attention' ? attentionFamily : activationFamily);
  return stored.plan(name, tuning);
}
const norm = (m: number, k: number, kind: 'rms' | 'layer', activation: string): Small => ({
  op: 'norm',
  m,
  k,
  norm: { kind, eps: 1e-5 },
  activation,
});

function refusal(family: Family, program: Program): Refusal {
  const match = family.accepts(program, layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
}

describe('plans', () => {
  it('gives a norm one block per token and all its pointers', () => {
    const { launches, workspaceBytes } = planOf(norm(5, 8192, 'layer', 'int8'), 'f');
    expect(launches).toEqual([
      {
        name: 'f',
        grid: [5, 1, 1],
        block: [512, 1, 1],
        dynamicSharedBytes: 0,
        programmatic: true,
        arguments: [
          { kind: 'input', index: 0 },
          { kind: 'input', index: 1 },
          { kind: 'input', index: 2 },
          { kind: 'output', index: 0 },
          { kind: 'output', index: 1 },
        ],
      },
    ]);
    expect(workspaceBytes).toBe(0);
  });

  it('covers all heads of single tokens, whatever the warps', () => {
    for (const warps of [1, 3, 4, 32]) {
      const [launch] = planOf({ ...attention, batch: 3 }, 'f', { warps }).launches;
      expect(launch!.grid[0] * warps).toBeGreaterThanOrEqual(192);
      expect((launch!.grid[0] - 1) * warps).toBeLessThan(192);
    }
  });

  it.each<[string, Small, RegExp]>([
    ['k', { op: 'quantise', m: 1, k: 8196, activation: 'int8' }, /multiple of 8 \(int8 activations\) but received 8196/],
    ['k', { op: 'quantise', m: 1, k: 65600, activation: 'int8' }, /at most 65536 but received 65600/],
    ['k', norm(1, 100, 'rms', 'fp16'), /multiple of 8 \(fp16 activations\) but received 100/],
    ['seq', { ...attention, seq: 65 }, /at most 64 but received 65/],
    ['headDim', { ...attention, headDim: 96 }, /64, 128 or 256 but received 96/],
  ])('refuses what no kernel handles, naming `%s` (%#)', (dimension, operator, message) => {
    expect(refusal(operator.op === 'attention' ? attentionFamily : activationFamily, programOfV1(operator))).toMatchObject({
      dimension,
      message: expect.stringMatching(message),
    });
    // Others take it: those for long sequences, or, where speed is no matter, those for any shape.
    expect(storedProgram(operator).family.id).toMatch(operator.op === 'attention' ? /^attention\/flash$/ : /^simple\//);
  });

  it.each<[Small, RegExp]>([
    [{ op: 'quantise', m: 1, k: 40, activation: 'mxfp8_e4m3' }, /multiple of 32/],
    [{ op: 'quantise', m: 1, k: 64, activation: 'fp16' }, /a quantised format/],
    [{ ...attention, kvHeads: 7 }, /kvHeads/],
    [{ ...attention, order: 'interleaved' }, /interleaved/],
  ])('%j is no operator at all', (operator, message) => {
    expect(() => programOfV1(operator)).toThrow(expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(message) }));
  });

  it('refuses programs that say more than the kernels see', () => {
    const program = programOfV1(norm(3, 64, 'layer', 'int8'));
    const other = (value: number, change: object): Program => ({
      ...program,
      values: program.values.map((one, i) => (i === value ? { ...one, ...change } : one)),
    });
    const columns = {
      digits: [
        { axis: 'c', stride: 1, size: 64 },
        { axis: 'm', stride: 1, size: 3 },
      ],
    };
    const [x, output] = [program.inputs[0]!, program.outputs[0]!];
    expect(activationFamily.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
    for (const changed of [other(x, { layout: columns }), other(x, { type: 'f32' }), other(output, { layout: columns })])
      expect(refusal(activationFamily, changed).dimension).toBe('x');
    expect(refusal(activationFamily, { ...program, hints: [64] }).dimension).toBe('');
    expect(refusal(activationFamily, { ...program, outputs: [program.nodes[0]!.outputs[0]!] }).dimension).toBe('');
    expect(refusal(activationFamily, programOfV1(attention)).dimension).toBe('');
    const heads = programOfV1(attention);
    expect(refusal(attentionFamily, { ...heads, values: heads.values.map((value) => ({ ...value, type: 'f32' })) }).dimension).toBe('qkv');
    expect(refusal(attentionFamily, { ...heads, hints: [64] }).dimension).toBe('');
  });

  it('takes the same on every target', () => {
    for (const operator of [norm(3, 64, 'rms', 'fp16'), attention] as const) {
      const { family, match, program } = storedProgram(operator);
      for (const target of buildTargets) expect(family.accepts(program, target)).toEqual(match);
      expect(family.configurations(match, layoutTarget)).toEqual([{}]);
    }
  });

  it('refuses tunings that do not fit', () => {
    expect(() => planOf(norm(1, 64, 'rms', 'fp16'), 'f', { threads: 48 })).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(/threads/) }),
    );
    expect(() => planOf(norm(1, 8192, 'rms', 'fp16'), 'f', { threads: 32 })).toThrow(
      /32 threads hold at most 2048 values of a row, not 8192/,
    );
    for (const warps of [0, 33, 1.5])
      expect(() => planOf(attention, 'f', { warps })).toThrow(
        expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(/`warps`/) }),
      );
  });
});

describe('compilation', () => {
  const nvcc = spawnSync('nvcc', ['--version']).status === 0;

  it.skipIf(!nvcc)('compiles every kind of instantiation without spills (needs nvcc)', { timeout: 600_000 }, () => {
    const plans: KernelPlan[] = [];
    const name = (): string => `kernel_${plans.length}`;
    for (const {
      id: activation,
      activation: { scale },
    } of activationFormats()) {
      plans.push(planOf(norm(32, 8192, 'rms', activation), name()));
      plans.push(planOf(norm(32, 14336, 'layer', activation), name()));
      if (scale) {
        for (const k of [96, 8192, 28672, 57344]) plans.push(planOf({ op: 'quantise', m: 32, k, activation }, name()));
      }
    }
    const { op: _, ...shape } = attention;
    for (const seq of [1, 2, 33, 64]) {
      plans.push(planOf({ ...attention, seq }, name()));
      plans.push(planOf({ ...attention, ...alibi, seq }, name()));
      plans.push(planOf({ ...attention, seq, headDim: 64 }, name()));
      plans.push(planOf({ ...attention, seq, headDim: 256 }, name()));
      plans.push(storedProgram(attentionProgram({ ...shape, seq, mask: 'causal' })).plan(name()));
    }
    // The plan computes the shared memory that the kernel's struct describes.
    const checks = plans
      .filter(({ includes }) => includes[0] === 'attention/short.cuh')
      .map(
        ({ launches: [launch] }) =>
          `static_assert(ladder::ShortAttention<${launch!.name}_config>::kSharedBytes == ${launch!.dynamicSharedBytes});`,
      );
    const includes = [...new Set(plans.flatMap((plan) => plan.includes))].map((file) => `#include "${file}"`);
    const folder = mkdtempSync(join(tmpdir(), 'ladder-small-'));
    try {
      const source = join(folder, 'kernels.cu');
      writeFileSync(source, [...includes, ...plans.map(({ definitions }) => definitions), ...checks].join('\n'));
      for (const arch of ['sm_80', 'sm_90a']) {
        const result = spawnSync(
          'nvcc',
          ['-cubin', '-std=c++17', '-O3', '-arch', arch, '-Xptxas', '-v', '-I', kKernels, '-o', join(folder, 'kernels.cubin'), source],
          { encoding: 'utf8' },
        );
        expect(result.status, result.stderr).toBe(0);
        expect(result.stderr).not.toMatch(/warning/i);
        const spills = [...result.stderr.matchAll(/(\d+) bytes spill stores, (\d+) bytes spill loads/g)];
        expect(spills.length).toBe(plans.length);
        expect(spills.filter(([, stores, loads]) => stores !== '0' || loads !== '0')).toEqual([]);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

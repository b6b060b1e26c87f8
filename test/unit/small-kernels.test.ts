// Plans of norm, quantise and attention: launches and refusals; and, where nvcc is, that every kind of instantiation
// compiles for both architectures without spilling registers. Results are checked on a GPU, against the reference.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type AttentionOperator, activationFormats } from '../../lib/artifact/operators.js';
import type { KernelPlan } from '../../lib/compiler/kernel.js';
import { planAttention, planNorm, planQuantise } from '../../lib/compiler/small-kernels.js';

const kKernels = fileURLToPath(new URL('../../native/kernels', import.meta.url));
const attention: AttentionOperator = { op: 'attention', batch: 32, seq: 1, heads: 64, kvHeads: 8, headDim: 128, order: 'concatenated', position: 'rope', ropeBase: 10000 };
const alibi: Partial<AttentionOperator> = { heads: 112, kvHeads: 112, order: 'interleaved', position: 'alibi' };

describe('plans', () => {
  it('gives a norm one block per token and all its pointers', () => {
    const { launches, workspaceBytes } = planNorm({ op: 'norm', m: 5, k: 8192, norm: { kind: 'layer', eps: 1e-5 }, activation: 'int8' }, 'f', {});
    expect(launches).toEqual([{
      name: 'f', grid: [5, 1, 1], block: [512, 1, 1], dynamicSharedBytes: 0, programmatic: true,
      arguments: [{ kind: 'input', index: 0 }, { kind: 'input', index: 1 }, { kind: 'input', index: 2 }, { kind: 'output', index: 0 }, { kind: 'output', index: 1 }],
    }]);
    expect(workspaceBytes).toBe(0);
  });

  it('covers all heads of single tokens, whatever the warps', () => {
    for (const warps of [1, 3, 4, 32]) {
      const [launch] = planAttention({ ...attention, batch: 3 }, 'f', { warps }).launches;
      expect(launch!.grid[0] * warps).toBeGreaterThanOrEqual(192);
      expect((launch!.grid[0] - 1) * warps).toBeLessThan(192);
    }
  });

  it('refuses what no kernel handles, naming it', () => {
    expect(() => planQuantise({ op: 'quantise', m: 1, k: 8196, activation: 'int8' }, 'f', {})).toThrow(/`k`.*8196/);
    expect(() => planQuantise({ op: 'quantise', m: 1, k: 40, activation: 'mxfp8_e4m3' }, 'f', {})).toThrow(/multiple of 32/);
    expect(() => planQuantise({ op: 'quantise', m: 1, k: 65600, activation: 'int8' }, 'f', {})).toThrow(/65600/);
    expect(() => planAttention({ ...attention, seq: 65 }, 'f', {})).toThrow(/`seq`.*65/);
    expect(() => planAttention({ ...attention, headDim: 96 }, 'f', {})).toThrow(/`headDim`.*96/);
    expect(() => planAttention({ ...attention, kvHeads: 7 }, 'f', {})).toThrow(/kvHeads/);
    expect(() => planAttention({ ...attention, order: 'interleaved' }, 'f', {})).toThrow(/interleaved/);
    expect(() => planNorm({ op: 'norm', m: 1, k: 64, norm: { kind: 'rms', eps: 1e-5 }, activation: 'fp16' }, 'f', { threads: 48 })).toThrow(/threads/);
  });
});

describe('compilation', () => {
  const nvcc = spawnSync('nvcc', ['--version']).status === 0;

  it.skipIf(!nvcc)('compiles every kind of instantiation without spills (needs nvcc)', { timeout: 600_000 }, () => {
    const plans: KernelPlan[] = [];
    const name = (): string => `kernel_${plans.length}`;
    for (const activation of activationFormats) {
      plans.push(planNorm({ op: 'norm', m: 32, k: 8192, norm: { kind: 'rms', eps: 1e-5 }, activation }, name(), {}));
      plans.push(planNorm({ op: 'norm', m: 32, k: 14336, norm: { kind: 'layer', eps: 1e-5 }, activation }, name(), {}));
      if (activation !== 'fp16') {
        for (const k of [96, 8192, 28672, 57344]) plans.push(planQuantise({ op: 'quantise', m: 32, k, activation }, name(), {}));
      }
    }
    for (const seq of [1, 2, 33, 64]) {
      plans.push(planAttention({ ...attention, seq }, name(), {}));
      plans.push(planAttention({ ...attention, ...alibi, seq }, name(), {}));
      plans.push(planAttention({ ...attention, seq, headDim: 64 }, name(), {}));
      plans.push(planAttention({ ...attention, seq, headDim: 256 }, name(), {}));
    }
    // The plan computes the shared memory that the kernel's struct describes.
    const checks = plans.filter(({ includes }) => includes[0] === 'attention/short.cuh').map(({ launches: [launch] }) =>
      `static_assert(ladder::ShortAttention<${launch!.name}_config>::kSharedBytes == ${launch!.dynamicSharedBytes});`);
    const includes = [...new Set(plans.flatMap((plan) => plan.includes))].map((file) => `#include "${file}"`);
    const folder = mkdtempSync(join(tmpdir(), 'ladder-small-'));
    try {
      const source = join(folder, 'kernels.cu');
      writeFileSync(source, [...includes, ...plans.map(({ definitions }) => definitions), ...checks].join('\n'));
      for (const arch of ['sm_80', 'sm_90a']) {
        const result = spawnSync('nvcc', ['-cubin', '-std=c++17', '-O3', '-arch', arch, '-Xptxas', '-v', '-I', kKernels, '-o', join(folder, 'kernels.cubin'), source], { encoding: 'utf8' });
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

// The simple kernels on a real GPU, each against the reference: every weight format with every kind of activation, odd sizes, stored
// orders of any kind, long attention, elementwise operators; and whole checkpoints that only they can run. As machine code and as PTX.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import '../fixtures/toy/register.js';
import type { OperatorV1 } from '../../lib/artifact/upgrade.js';
import { kOtherKind } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { simpleFamilies } from '../../lib/compiler/kernels/simple/index.js';
import { activationFormats, type Group, weightFormats } from '../../lib/formats/index.js';
import { buildCheckpoint, inspectPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import type { Layout, Parameters, Program, Value } from '../../lib/operators/program.js';
import { operators } from '../../lib/operators/index.js';
import { attentionProgram, type DenseShapeV1 } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

const kCli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

function denseCases(): OperatorCase[] {
  const cases: OperatorCase[] = [];
  for (const {
    id: weight,
    weight: { groups },
  } of weightFormats()) {
    for (const {
      id: activation,
      activation: { scale },
    } of activationFormats()) {
      groups.forEach((group: Group, i) => {
        const shape: DenseShapeV1 = {
          op: 'dense',
          m: [1, 70, 129][i]!,
          n: [50, 33, 200][i]!,
          k: 384,
          weight,
          activation,
          group,
          input: scale ? 'quantised' : 'fp16',
          norm: { kind: 'none', eps: 1e-5 },
          bias: false,
          function: 'none',
          residual: false,
        };
        cases.push({ name: `dense_${weight}_${activation}_g${i}`, operator: shape, among: simpleFamilies });
      });
    }
  }
  return cases;
}

function rowCases(): OperatorCase[] {
  const cases: OperatorCase[] = [];
  const wide = { kind: 'uniform', low: -300, high: 200 } as const;
  for (const [m, k] of [
    [3, 97],
    [70, 5000],
  ] as const) {
    for (const kind of ['rms', 'layer'] as const)
      cases.push({
        name: `${kind}_${k}`,
        operator: { op: 'norm', m, k, norm: { kind, eps: 1e-5 }, activation: 'fp16' },
        activations: wide,
        among: simpleFamilies,
      });
  }
  for (const {
    id: activation,
    activation: { scale, group },
  } of activationFormats()) {
    if (!scale) continue;
    for (const [m, k] of [
      [3, group > 0 ? 96 : 97],
      [70, 4992],
    ] as const)
      cases.push({
        name: `quantise_${activation}_${k}`,
        operator: { op: 'quantise', m, k, activation },
        activations: wide,
        among: simpleFamilies,
      });
    cases.push({
      name: `zeros_${activation}`,
      operator: { op: 'quantise', m: 2, k: 64, activation },
      activations: { kind: 'uniform', low: 0, high: 0 },
      among: simpleFamilies,
    });
  }
  return cases;
}

function attentionCases(): OperatorCase[] {
  const base: Extract<OperatorV1, { op: 'attention' }> = {
    op: 'attention',
    batch: 2,
    seq: 1,
    heads: 6,
    kvHeads: 2,
    headDim: 96,
    order: 'concatenated',
    position: 'rope',
    ropeBase: 10000,
  };
  const activations = { kind: 'uniform', low: -2, high: 2 } as const;
  return [1, 2, 65, 127, 128, 129, 700].flatMap((seq) => [
    { name: `rope_${seq}`, operator: { ...base, seq }, activations, among: simpleFamilies },
    {
      name: `alibi_${seq}`,
      operator: { ...base, seq, heads: 5, kvHeads: 5, headDim: 80, order: 'interleaved' as const, position: 'alibi' as const },
      activations,
      among: simpleFamilies,
    },
    { name: `wide_${seq}`, operator: { ...base, seq, headDim: 200 }, activations, among: simpleFamilies },
    { name: `none_${seq}`, operator: attentionProgram({ ...base, seq, position: 'none' }), activations, among: simpleFamilies },
  ]);
}

const numbers = (axes: Readonly<Record<string, number>>, digits?: Layout['digits']): Value => ({
  axes: Object.entries(axes).map(([name, extent]) => ({ name, extent })),
  type: 'f16',
  ...(digits && { layout: { digits } }),
});
const single = (kind: string, inputs: readonly Value[], output: Value, params: Parameters = {}): Program => ({
  values: [...inputs, output],
  nodes: [{ kind, params, inputs: inputs.map((_, i) => i), outputs: [inputs.length] }],
  inputs: inputs.map((_, i) => i),
  outputs: [inputs.length],
});

function elementwiseCases(): OperatorCase[] {
  const rows = { m: 7, c: 33 };
  const image = { b: 2, h: 5, w: 3, c: 20 };
  const panels = (m: number, c: number): Layout['digits'] => [
    { axis: 'c', stride: 16, size: c / 16 },
    { axis: 'm', stride: 1, size: m },
    { axis: 'c', stride: 1, size: 16 },
  ];
  const convolution = { batch: 2, height: 7, width: 5, kernelY: 1, kernelX: 1, stride: 1, paddingY: 1, paddingX: 0, groups: 1 };
  const programs: Record<string, Program> = {
    add: single('add', [numbers(rows), numbers(rows)], numbers(rows)),
    bias: single('add', [numbers(rows), numbers({ c: 33 })], numbers(rows)),
    per_row: single('add', [numbers(rows), numbers({ m: 7 })], numbers(rows)),
    silu_mul: single('silu_mul', [numbers({ m: 7, c: 66 })], numbers(rows)),
    gelu_tanh: single('gelu_tanh', [numbers(image)], numbers(image)),
    gelu: single('gelu', [numbers(rows)], numbers(rows)),
    silu: single('silu', [numbers(rows)], numbers(rows)),
    glu: single('glu', [numbers({ m: 7, c: 66 })], numbers(rows)),
    add_half: single('add_half', [numbers(rows), numbers(rows)], numbers(rows)),
    patches: single('patches', [numbers({ b: 2, c: 3, y: 8, x: 12 })], numbers({ m: 12, c: 48 }), { size: 4 }),
    patches_in_panels: single('patches', [numbers({ b: 2, c: 3, y: 8, x: 12 })], numbers({ m: 12, c: 48 }, panels(12, 48)), { size: 4 }),
    embed_tokens: single(
      'embed_tokens',
      [numbers({ m: 12, c: 33 }), numbers({ c: 33 }), numbers({ t: 5, c: 33 })],
      numbers({ m: 15, c: 33 }),
      {
        batch: 3,
      },
    ),
    conv: single('conv', [numbers({ m: 2 * 7 * 5, c: 12 }), numbers({ n: 20, k: 108 })], numbers({ m: 2 * 4 * 3, c: 20 }), {
      ...convolution,
      kernelY: 3,
      kernelX: 3,
      stride: 2,
      paddingX: 1,
    }),
    depthwise: single('conv', [numbers({ m: 70, c: 33 }), numbers({ n: 33, k: 9 })], numbers({ m: 70, c: 33 }), {
      ...convolution,
      height: 35,
      width: 1,
      kernelY: 9,
      paddingY: 4,
      groups: 33,
    }),
    grouped: single('conv', [numbers({ m: 70, c: 12 }), numbers({ n: 8, k: 6 })], numbers({ m: 2 * 9 * 4, c: 8 }), {
      ...convolution,
      kernelX: 2,
      groups: 4,
    }),
    first_rows: single('first_rows', [numbers({ m: 15, c: 33 })], numbers({ m: 3, c: 33 }), { batch: 3 }),
    max_pool: single('max_pool', [numbers({ m: 2 * 7 * 5, c: 33 })], numbers({ m: 2 * 4 * 3, c: 33 }), {
      ...{ batch: 2, height: 7, width: 5 },
      ...{ kernel: 3, stride: 2, padding: 1 },
    }),
    mean_rows: single('mean_rows', [numbers({ m: 98, c: 33 })], numbers({ m: 2, c: 33 }), { batch: 2 }),
    channels: single('channels', [numbers({ m: 7, c: 58 })], numbers({ m: 7, c: 29 }), { first: 29, count: 29 }),
    interleave: single('interleave', [numbers(rows), numbers(rows)], numbers({ m: 7, c: 66 })),
    query_key: single('query_key', [numbers({ m: 80, c: 200 }), numbers({ d: 20 }), numbers({ d: 20 })], numbers({ m: 80, c: 200 }), {
      ...{ seq: 40, heads: 6, kvHeads: 2, headDim: 20, position: 'rope', ropeBase: 5e5, eps: 1e-6 },
      ...{ factor: 8, lowFactor: 1, highFactor: 4, originalPositions: 64 },
    }),
    query_key_linear: single('query_key', [numbers({ m: 80, c: 200 })], numbers({ m: 80, c: 200 }), {
      ...{ seq: 40, heads: 6, kvHeads: 2, headDim: 20, position: 'rope', ropeBase: 1e4, eps: 1e-6 },
      ...{ factor: 4, lowFactor: 1, highFactor: 4, originalPositions: 0 },
    }),
    relu: single('relu', [numbers(image)], numbers(image)),
    toy: single('hard_swish', [numbers(rows)], numbers(rows)),
    to_panels: single('relayout', [numbers({ m: 9, c: 64 })], numbers({ m: 9, c: 64 }, panels(9, 64))),
    from_panels: single('relayout', [numbers({ m: 9, c: 64 }, panels(9, 64))], numbers({ m: 9, c: 64 })),
    channels_first: single(
      'relayout',
      [numbers(image)],
      numbers(
        image,
        ['b', 'c', 'h', 'w'].map((axis) => ({ axis, stride: 1, size: image[axis as keyof typeof image] })),
      ),
    ),
  };
  expect(Object.values(programs).every(({ nodes }) => operators.has(nodes[0]!.kind))).toBe(true);
  return Object.entries(programs).map(([name, operator]) => ({
    name,
    operator,
    activations: { kind: 'uniform', low: -8, high: 8 } as const,
    among: simpleFamilies,
  }));
}

describe('simple kernels', { timeout: 900_000 }, () => {
  for (const [name, cases] of [
    ['products', denseCases],
    ['norm and quantise', rowCases],
    ['attention', attentionCases],
    ['elementwise', elementwiseCases],
  ] as const) {
    it(name, async ({ skip }) => {
      if (missing) skip(missing);
      await verifyOperators(cases());
    });
  }

  it('all of them from PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      [...denseCases().filter((_, i) => i % 5 === 0), ...rowCases(), ...attentionCases(), ...elementwiseCases()],
      ['compute_80'],
    );
  });

  it('kernels of one target, which the host code chooses by the device; the others from PTX', async ({ skip }) => {
    if (missing) skip(missing);
    const simple = simpleFamilies.find(({ id }) => id === 'simple/attention')!;
    families.add({
      ...simple,
      id: 'test/hopper-attention',
      accepts: (program, target) => (target.id === 'sm_90a' ? simple.accepts(program, target) : kOtherKind),
    });
    const root = await mkdtemp(join(tmpdir(), 'ladder-targets-'));
    try {
      const { folder } = await buildCheckpoint('llama2-tiny', { root, batch: 2, seq: 3 });
      const node = 'ladder_attention_layer0_attention';
      const { module } = await inspectPrebuilt(folder);
      expect(module!.kernels.map(({ name }) => name).filter((name) => name.startsWith(node))).toEqual([node, `${node}__compute_80`]);
      // Without the family that is only here, model.so would count as stale.
      const verify = (...more: string[]) =>
        spawnSync(process.execPath, [kCli, 'verify', folder, '--no-build', ...more], { encoding: 'utf8' });
      expect(verify()).toMatchObject({ status: 0, stderr: expect.not.stringContaining('rror') });
      expect(verify('--force-ptx')).toMatchObject({ status: 0, stderr: expect.not.stringContaining('rror') });
    } finally {
      await rm(root, { recursive: true });
    }
  });

  it('whole checkpoints: a toy format, operator and model; 80 tokens of a decoder layer; weights of INT8; small networks', async ({
    skip,
  }) => {
    if (missing) skip(missing);
    const root = await mkdtemp(join(tmpdir(), 'ladder-simple-'));
    try {
      for (const [model, options] of [
        ['toy', { batch: 3, weight: 'toy2' as 'int4' }],
        ['llama2-tiny', { batch: 2, seq: 40, weight: 'int4' }],
        ['bloom-tiny', { batch: 1, seq: 80, weight: 'mxfp8' }],
        ['llama2-tiny', { weight: 'int8' }],
        ...(['fp16', 'fp8', 'int4'] as const).map((weight) => ['vit-tiny', { weight, ...(weight === 'int4' && { act: weight }) }] as const),
        ...(['int8', 'int4'] as const).map((act) => ['conformer-tiny', { weight: 'int4', act }] as const),
        ['conformer-tiny', {}],
      ] as const) {
        const { folder } = await buildCheckpoint(model, { root, ...options });
        const { operators: verdicts, endToEnd, passed } = await verifyPrebuilt(folder, { endToEnd: 'full' });
        expect(
          [...verdicts, ...endToEnd].flatMap(({ failures }) => failures),
          folder,
        ).toEqual([]);
        expect(passed).toBe(true);
      }
    } finally {
      await rm(root, { recursive: true });
    }
  });
});

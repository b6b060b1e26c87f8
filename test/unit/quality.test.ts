// What a format costs: errors of weights against packing and unpacking each matrix, of the output against two built checkpoints; the
// table, the latencies that records have, and the chart.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { designCheckpoint } from '../../lib/compiler/design.js';
import { packMatrix, type PackOptions, unpackMatrix } from '../../lib/compiler/pack/pack.js';
import type { QualityReport } from '../../lib/compiler/types.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { randomWeights } from '../../lib/compiler/pack/random-weights.js';
import type { PublishedModel } from '../../lib/compiler/pack/source.js';
import { findModel } from '../../lib/models/index.js';
import { drawQuality } from '../../lib/figure8/quality-chart.js';
import { buildCheckpoint, checkpointQuality } from '../../lib/index.js';
import { outputOf } from '../fixtures/outputs.js';
import { safetensors } from '../fixtures/safetensors.js';
import { makeRecord } from './figure8-records.js';
import { Random, rowMajor } from './reference-naive.js';
import { ladderHere } from '../fixtures/cli.js';

const [hidden, kv, intermediate] = [512, 256, 1024];
const kShapes: Readonly<Record<string, readonly number[]>> = {
  'input_layernorm.weight': [hidden],
  'self_attn.q_proj.weight': [hidden, hidden],
  'self_attn.k_proj.weight': [kv, hidden],
  'self_attn.v_proj.weight': [kv, hidden],
  'self_attn.o_proj.weight': [hidden, hidden],
  'post_attention_layernorm.weight': [hidden],
  'mlp.gate_proj.weight': [intermediate, hidden],
  'mlp.up_proj.weight': [intermediate, hidden],
  'mlp.down_proj.weight': [hidden, intermediate],
};

const root = await mkdtemp(join(tmpdir(), 'ladder-quality-test-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const [weights, inputs] = [join(root, 'layer.safetensors'), join(root, 'inputs.safetensors')];
const random = new Random(6);
const normal = (spread: number): number =>
  spread * Math.sqrt(-2 * Math.log(1 - random.uniform(0, 1))) * Math.cos(2 * Math.PI * random.uniform(0, 1));
const tensors = new Map(
  Object.entries(kShapes).map(([name, shape]) => {
    const [n, k] = shape as [number, number?];
    // One output channel of the last matrix is worse than the others: a large number leaves its rest few codes.
    const values = Float32Array.from({ length: n * (k ?? 1) }, () => (k === undefined ? 1 + normal(0.1) : normal(k ** -0.5)));
    if (name === 'mlp.down_proj.weight') values[300 * intermediate] = 1;
    return [`model.layers.3.${name}`, { shape, values }];
  }),
);
const x = Float32Array.from({ length: hidden }, () => Math.round(normal(1) * 256) / 256);
let folder = '';
let report: QualityReport;

beforeAll(async () => {
  await writeFile(weights, safetensors(tensors, 'F32'));
  await writeFile(inputs, safetensors(new Map([['x', { shape: [1, hidden], values: x }]]), 'F32'));
  ({ folder } = await buildCheckpoint('llama2-tiny', { root, weight: 'int4', compile: false }));
  report = await checkpointQuality(folder, { weights, layer: 3, inputs });
});

const of = (label: string) => report.formats.find((one) => one.label === label)!;

describe('checkpointQuality', () => {
  it('takes every format of weights once, FP16 first', () => {
    expect(report).toMatchObject({ model: 'llama2-tiny', setting: 'bs1_seq1', subject: 'W_INT4 A_FP16', inputs: 1, remarks: [] });
    const labels = report.formats.map(({ label }) => label);
    expect(labels[0]).toBe('W_FP16 A_FP16');
    expect(new Set(labels).size).toBe(labels.length);
    for (const label of [
      'W_INT4 A_FP16',
      'W_INT4 A_FP16 g64',
      'W_NF4 A_FP16 g128',
      'W_FP8 A_FP8 (e4m3)',
      'W_MXFP8 A_MXFP8',
      'W_INT1 A_INT8',
    ])
      expect(labels).toContain(label);
    expect(of('W_INT4 A_FP16 g64').checkpoint).toBe('llama2_fq_0_int_4_64_bs1_seq1_ci_False_async');
  });

  it('says the errors of matrices as packing and unpacking them has them', async () => {
    for (const [label, format, group] of [
      ['W_INT4 A_FP16', 'int4', -1],
      ['W_NF4 A_FP16 g64', 'nf4', 64],
    ] as const) {
      const { tensors: found } = of(label);
      expect(found.map(({ name }) => name)).toEqual(['qkv', 'o', 'gate_up', 'down'].map((one) => `layer0.${one}.weight`));
      const { values, shape } = tensors.get('model.layers.3.mlp.down_proj.weight')!;
      const [n, k] = shape as [number, number];
      const options: PackOptions = { group, layout: rowMajor(n, k), scaleLayout: rowMajor(n, k / (group === -1 ? k : group)) };
      const back = unpackMatrix(await packMatrix(values, format, options), n, format, options);
      const errorOf = (first: number, rows: number): number => {
        const [a, b] = [values.subarray(first * k, (first + rows) * k), back.subarray(first * k, (first + rows) * k)];
        const norm = (list: Float32Array): number => Math.sqrt(list.reduce((sum, value) => sum + value * value, 0));
        return norm(a.map((value, i) => value - b[i]!)) / norm(a);
      };
      const down = found.at(-1)!;
      expect(down.shape).toEqual([n, k]);
      expect(down.error).toBeCloseTo(errorOf(0, n), 6);
      const rows = Array.from({ length: n }, (_, row) => errorOf(row, 1));
      expect(down.worst.error).toBeCloseTo(Math.max(...rows), 6);
      expect(down.worst.row).toBe(rows.indexOf(Math.max(...rows)));
    }
    expect(of('W_INT4 A_FP16').tensors.at(-1)!.worst.row).toBe(300);
    expect(of('W_FP16 A_FP16').error).toBeLessThan(4e-4);
    expect(of('W_INT4 A_FP16 g128').bitsPerWeight).toBe(4.125);
    expect(of('W_MXFP8 A_MXFP8').bitsPerWeight).toBe(8.25);
  });

  it('says the error of the output as two checkpoints have it, over what the layer adds', async () => {
    const built = async (weight: 'fp16' | 'int4'): Promise<Float32Array> =>
      outputOf((await buildCheckpoint('llama2-tiny', { root: join(root, weight), weight, compile: false, weights })).folder, x);
    const [plain, coarse] = [await built('fp16'), await built('int4')];
    const norm = (values: Float32Array): number => Math.hypot(...values);
    expect(of('W_FP16 A_FP16').outputError).toBe(0);
    expect(of('W_INT4 A_FP16').outputError).toBeCloseTo(
      norm(plain.map((value, i) => value - coarse[i]!)) / norm(plain.map((value, i) => value - x[i]!)),
      6,
    );
    const errors = ['W_INT8 A_INT8', 'W_FP8 A_FP8', 'W_INT1 A_INT8'].map((label) => of(label).outputError);
    expect(errors).toEqual([...errors].sort((a, b) => a - b));
  });

  it('makes up weights of decoder layers, the same every time, and of nothing else', async () => {
    const { formats: one } = await checkpointQuality(folder, { tokens: 2 });
    const { model, request } = designCheckpoint(parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1 }), null);
    const made = (seed: number): Promise<unknown> =>
      randomWeights(
        findModel(request) as PublishedModel,
        model.tensors.filter(({ role }) => role !== 'input'),
        seed,
      )!.read('layers.0.self_attn.k_proj.weight');
    expect(await made(1)).toEqual(await made(1));
    expect(await made(1)).not.toEqual(await made(2));
    // Of normal numbers: Lloyd's bound for 16 levels is 9.7 %, that of 15 even steps between extremes 12 %.
    const { error } = one.find(({ label }) => label === 'W_INT4 A_FP16 g128')!;
    expect(error).toBeGreaterThan(0.097);
    expect(error).toBeLessThan(0.12);
    const network = await buildCheckpoint('shufflenet-v2', { root, compile: false });
    await expect(checkpointQuality(network.folder)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('file of weights'),
    });
    await expect(checkpointQuality(folder, { layer: 1 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(checkpointQuality(folder, { weights, layer: 4 })).rejects.toMatchObject({ code: 'MISSING_PARAMETER' });
    await expect(checkpointQuality(folder, { weights, inputs: weights })).rejects.toMatchObject({ code: 'MISSING_PARAMETER' });
  });
});

describe('ladder quality', () => {
  const run = (...args: string[]) => ladderHere('quality', ...args);

  it('prints both tables, with the latencies that records have, and draws the trade-off', async () => {
    const results = join(root, 'results');
    await mkdir(results);
    const record = (label: string, latencyMs: number, date: string) =>
      makeRecord({ model: 'llama2-tiny', setting: 'bs1_seq1', format: 'W_INT4 A_FP16', checkpoint: of(label).checkpoint, latencyMs, date });
    const saved = [
      record('W_INT4 A_FP16', 0.9, '2026-11-01T00:00:00Z'),
      record('W_INT4 A_FP16', 0.25, '2026-11-02T00:00:00Z'),
      record('W_FP8 A_FP8 (e4m3)', 0.5, '2026-11-02T00:00:00Z'),
    ];
    await Promise.all(saved.map((one, i) => writeFile(join(results, `${i}.json`), JSON.stringify(one))));
    const out = join(root, 'out');
    const { status, out: text, err } = await run(folder, '--weights', weights, '--inputs', inputs, '--results', results, '--out', out);
    expect(status, err).toBe(0);
    expect(text).toMatch(/W_INT4 A_FP16 +4\.0\d+ .* 0\.2500$/m);
    expect(text).toMatch(/W_NF4 A_FP16 .* —$/m);
    expect(text).toMatch(/W_INT4 A_FP16: matrix/);
    expect(text).toMatch(/layer0\.down\.weight +512 × 1024 .* row 300/);
    const svg = await readFile(join(out, 'svg', 'quality_llama2-tiny_bs1_seq1.svg'), 'utf8');
    expect([...svg.matchAll(/data-label="([^"]+)"/g)].map(([, label]) => label).sort()).toEqual(['W_FP8 A_FP8 (e4m3)', 'W_INT4 A_FP16']);
    expect(svg).toContain('latency, ms');
    for (const kind of ['png', 'pdf'])
      expect((await readFile(join(out, kind, `quality_llama2-tiny_bs1_seq1.${kind}`))).length).toBeGreaterThan(1000);
  });

  it('refuses what it does not know', async () => {
    expect((await run(folder, '--scale', 'best')).status).toBe(2);
    expect(await run('no-such-checkpoint')).toMatchObject({ status: 1 });
  });
});

describe('drawQuality', () => {
  it('draws bits per weight where there are no latencies, and joins what nothing beats', () => {
    const svg = drawQuality({ report, latencies: new Map(), source: '' }, 'q')!.toString();
    expect(svg).toContain('bits per weight');
    expect(svg.match(/class="point"/g)).toHaveLength(report.formats.length - 1);
    expect(drawQuality({ report: { ...report, formats: report.formats.slice(0, 1) }, latencies: new Map(), source: '' }, 'q')).toBeNull();
  });
});

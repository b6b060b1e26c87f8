// A format of 2-bit weights, an operator and a model that the package does not know, each a file and a line (test/fixtures/toy):
// they build, run on the reference, verify, and have names and places in tables.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import '../fixtures/toy/register.js';
import { parseManifest } from '../../lib/artifact/manifest.js';
import { checkpointName, parseCheckpointName } from '../../lib/artifact/names.js';
import { designCheckpoint } from '../../lib/compiler/design.js';
import { unpackMatrix } from '../../lib/compiler/pack/pack.js';
import { packOptionsOf } from '../../lib/compiler/pack/weights.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { compareSets } from '../../lib/figure8/compare.js';
import { entryOfRecord } from '../../lib/figure8/entries.js';
import {
  buildCheckpoint,
  inspectPrebuilt,
  loadPrebuilt,
  packMatrix,
  packWeights,
  recordOf,
  runPrebuilt,
  verifyPrebuilt,
} from '../../lib/index.js';
import { simpleKernelsWarning } from '../../lib/run/load.js';
import { Random } from './reference-naive.js';

const kName = 'toy_fq_0_toy_2_-1_bs3_seq1_ci_False_async';

describe('toys', () => {
  let root: string;
  let folder: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'ladder-toy-'));
    ({ folder } = await buildCheckpoint('toy', { root, batch: 3, weight: 'toy2' as 'int4', compile: false }));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  it('have names, both ways', () => {
    expect(folder).toBe(join(root, 'toy', kName));
    expect(parseCheckpointName(kName, 'toy')).toMatchObject({
      model: 'toy',
      weight: 'toy2',
      activation: 'fp16',
      batch: 3,
      seq: 1,
      group: -1,
    });
    expect(checkpointName(parseRequest({ model: 'toy', batch: 3, seq: 1, weight: 'toy2' }))).toBe(kName);
  });

  it('are described: programs, labels, kernels', async () => {
    const manifest = parseManifest(await readFile(join(folder, 'checkpoint.json'), 'utf8'));
    expect(manifest.format.label).toBe('W_TOY2 A_FP16');
    expect(manifest.operators.map(({ kernels }) => kernels)).toEqual([
      'norm',
      'simple/dense',
      'simple/elementwise',
      'simple/elementwise',
      'simple/dense',
      'simple/elementwise',
    ]);
    const { graph, manifest: inspected } = await inspectPrebuilt(folder);
    expect(graph?.operators.map(({ steps }) => steps)).toEqual(['norm', 'dense', 'add', 'hard_swish', 'dense', 'add']);
    expect(graph?.operators[1]?.kernels).toBe('simple/dense');
    expect(inspected?.format.label).toBe('W_TOY2 A_FP16');
  });

  it('are said to be slow on a GPU', async () => {
    const manifest = parseManifest(await readFile(join(folder, 'checkpoint.json'), 'utf8'));
    expect(simpleKernelsWarning(manifest)).toMatch(/^5 of 6 operators run on kernels .* \(simple\/dense, simple\/elementwise\)/);
    expect(simpleKernelsWarning({ ...manifest, operators: manifest.operators.filter(({ kernels }) => kernels === 'norm') })).toBeNull();
    expect(simpleKernelsWarning(null)).toBeNull();
  });

  it('have CUDA text: the format as a table, the operator as an expression', () => {
    const { kernels } = designCheckpoint(parseRequest({ model: 'toy', batch: 3, seq: 1, weight: 'toy2' }), null).sources;
    expect(kernels[1]).toContain('_table[] = {-1.5f, -0.5f, 0.5f, 1.5f}');
    expect(kernels[1]).toContain('loadCode<2>(codes, (a0) * INT64_C(96) + a1)');
    expect(kernels[3]).toContain('((x0.at(a0, a1) * fminf(fmaxf((x0.at(a0, a1) + 3.0f), 0.0f), 6.0f)) / 6.0f)');
  });

  it('run on the reference as they are defined', async () => {
    const random = new Random(7);
    const floats = (count: number): Float32Array => Float32Array.from({ length: count }, () => Math.fround(random.uniform(-1, 1)));
    const gain = new Float32Array(96).fill(1);
    const weights: Record<string, Float32Array> = {
      'layer0.up.weight': floats(160 * 96),
      'layer0.down.weight': floats(96 * 160),
      'layer0.norm.gain': gain,
      'layer0.up.bias': new Float32Array(160).fill(0.25),
    };
    await packWeights(folder, weights);
    const { tensors } = designCheckpoint(parseRequest({ model: 'toy', batch: 3, seq: 1, weight: 'toy2' }), null).model;
    const unpacked = async (name: string, n: number, k: number): Promise<Float32Array> => {
      const [format, options] = packOptionsOf(tensors.find((tensor) => tensor.name === name)!.value);
      return unpackMatrix(await packMatrix(weights[name]!, 'toy2' as 'int4', { k }), n, format, options);
    };
    const [up, down] = [await unpacked('layer0.up.weight', 160, 96), await unpacked('layer0.down.weight', 96, 160)];
    // Every weight is one of four values times its row's scale.
    for (const row of [0, 17]) expect(new Set(Array.from(up.subarray(row * 96, row * 96 + 96), (w) => Math.abs(w))).size).toBe(2);

    const x = floats(3 * 96).map((value) => Math.fround(Math.round(value * 64) / 64));
    const layer = await loadPrebuilt(folder, { device: 'cpu' });
    await layer.setInput('x', x);
    await layer.run();
    const y = await layer.getOutput(0, { as: 'float32' });
    await layer.dispose();
    for (let row = 0; row < 3; ++row) {
      const own = Array.from(x.subarray(row * 96, row * 96 + 96));
      const factor = 1 / Math.sqrt(own.reduce((sum, value) => sum + value * value, 0) / 96 + 1e-5);
      const hidden = Array.from({ length: 160 }, (_, n) => own.reduce((sum, value, k) => sum + value * factor * up[n * 96 + k]!, 0.25)).map(
        (h) => (h * Math.min(Math.max(h + 3, 0), 6)) / 6,
      );
      const wanted = own.map((value, n) => value + hidden.reduce((sum, h, k) => sum + h * down[n * 160 + k]!, 0));
      const rms = Math.sqrt(wanted.reduce((sum, value) => sum + value * value, 0) / 96);
      wanted.forEach((value, n) => expect(Math.abs(value - y[row * 96 + n]!) <= 4e-3 * rms).toBe(true));
    }
  });

  it('verify, with tolerances that follow from their records', async () => {
    const report = await verifyPrebuilt(folder, { device: 'cpu' });
    expect(report.operators.flatMap(({ failures }) => failures)).toEqual([]);
    expect(report.passed).toBe(true);
    const [, dense, , swish] = report.operators;
    expect(dense!.terms.map((term) => term.split(' ')[0])).toEqual(['output', 'sum']);
    expect(swish!.terms.map((term) => term.split(' ')[0])).toEqual(['output', 'function']);
  });

  it('are timed and stand in records and tables', async () => {
    const record = recordOf(await runPrebuilt(folder, { device: 'cpu', minSamples: 2, maxSamples: 2, warmupMs: 0 }), true);
    expect(record).toMatchObject({ model: 'toy', setting: 'bs3_seq1', format: 'W_TOY2 A_FP16', checkpoint: kName, status: 'ok' });
    const entry = entryOfRecord(record, 'toy.json');
    const { pairs } = compareSets({ name: 'a', entries: [entry], remarks: [] }, { name: 'b', entries: [entry], remarks: [] });
    expect(pairs[0]).toMatchObject({ ratio: 1, a: { model: 'toy', format: 'W_TOY2 A_FP16' } });
  });
});

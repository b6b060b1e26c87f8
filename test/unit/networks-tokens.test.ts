// Small networks: they build in the figure's formats, run on the CPU with the shapes that callers see, depend on
// every part of their input, and verify; what the policies leave in float16; sizes of the figure's.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { designCheckpoint } from '../../lib/compiler/design.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { type BuildCheckpointOptions, type BuildResult, buildCheckpoint, loadPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import { figure8Models, findModel, models } from '../../lib/models/index.js';
import { isQuantised } from '../../lib/operators/program.js';
import { Random } from './reference-naive.js';

const kNetworks = [
  { tiny: 'resnet-tiny', input: [1, 3, 32, 32], output: [1, 10] },
  { tiny: 'shufflenet-tiny', input: [1, 3, 32, 32], output: [1, 10] },
  { tiny: 'vit-tiny', input: [1, 3, 64, 64], output: [1, 100] },
  { tiny: 'conformer-tiny', input: [1, 40, 128], output: [1, 40, 128] },
] as const;
const kCases = kNetworks.flatMap(({ tiny, ...shapes }) =>
  figure8Models()
    .find(({ id }) => tiny.split('-')[0] === id.split('-')[0])!
    .figure8.formats.map(({ weight, activation }) => ({ tiny, weight, act: activation, ...shapes })),
);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ladder-networks-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const build = (tiny: string, weight: string, act: string): Promise<BuildResult> =>
  buildCheckpoint(tiny, { root, weight, act, compile: false } as BuildCheckpointOptions);

describe.each(kCases)('$tiny, $weight weights, $act activations', ({ tiny, weight, act, input, output }) => {
  it('verifies on the CPU', async () => {
    const { folder } = await build(tiny, weight, act);
    expect(basename(dirname(folder))).toBe(tiny);
    const report = await verifyPrebuilt(folder, { device: 'cpu' });
    expect(report.operators.flatMap(({ failures }) => failures)).toEqual([]);
    expect(report.passed).toBe(true);
  });

  it('is given and gives tensors of the shapes that callers see; every part of the input counts', async () => {
    const { folder } = await build(tiny, weight, act);
    await using network = await loadPrebuilt(folder, { device: 'cpu' });
    expect(network.inputs.get('x')!.shape).toEqual(input);
    expect(network.outputs.map(({ shape }) => shape)).toEqual([output]);
    const random = new Random(3);
    const x = Float32Array.from({ length: input.reduce((a: number, b) => a * b, 1) }, () => random.uniform(-1, 1));
    const run = async (): Promise<Float32Array> => {
      await network.setInput('x', x);
      await network.run();
      return network.getOutput(0, { as: 'float32' });
    };
    const before = await run();
    expect(before.every((value) => Number.isFinite(value))).toBe(true);
    // The last pixel or frame reaches the first result.
    for (const at of [0, x.length - 1]) {
      x[at]! += 16;
      expect((await run())[0]).not.toBe(before[0]);
      x[at]! -= 16;
    }
    expect(await run()).toEqual(before);
  });
});

describe('batches', () => {
  it.each(kNetworks)('$tiny: seven at once verify', async ({ tiny }) => {
    const { folder } = await buildCheckpoint(tiny, { root, batch: 7, compile: false });
    expect(basename(folder)).toMatch(/-b7$/);
    const { operators, passed } = await verifyPrebuilt(folder, { device: 'cpu' });
    expect([passed, operators.flatMap(({ failures }) => failures)]).toEqual([true, []]);
  });

  it.each(kNetworks)('$tiny: 128 images or recordings do not mix', async ({ tiny, input, output }) => {
    const { folder } = await buildCheckpoint(tiny, { root, batch: 128, compile: false });
    await using network = await loadPrebuilt(folder, { device: 'cpu' });
    const [own, made] = [input, output].map((shape) => shape.reduce((a: number, b) => a * b, 1)) as [number, number];
    const random = new Random(4);
    const x = Float32Array.from({ length: 128 * own }, () => random.uniform(-1, 1));
    // The last one is the first one again.
    x.copyWithin(127 * own, 0, own);
    await network.setInput('x', x);
    await network.run();
    const y = await network.getOutput(0, { as: 'float32' });
    expect(y.subarray(127 * made)).toEqual(y.subarray(0, made));
    expect(y.subarray(126 * made, 127 * made)).not.toEqual(y.subarray(0, made));
  });
});

const kPlain: Readonly<Record<(typeof kNetworks)[number]['tiny'], readonly string[]>> = {
  'resnet-tiny': ['conv1', 'fc'],
  'shufflenet-tiny': [
    'conv1',
    ...['stage2.0.left_dw', 'stage2.0.dw', 'stage2.1.dw', 'stage3.0.left_dw', 'stage3.0.dw', 'stage3.1.dw'],
    'fc',
  ],
  'vit-tiny': ['patch_embed', 'head'],
  'conformer-tiny': ['layer0.depthwise', 'layer1.depthwise'],
};

describe('policies', () => {
  it.each(kNetworks)('$tiny: what stays float16', ({ tiny }) => {
    const { model } = designCheckpoint(parseRequest({ model: tiny, batch: 1, seq: 1, weight: 'int4', act: 'int4' }), null);
    const plain = model.tensors.filter(({ role, value }) => role === 'weight' && !isQuantised(value.type)).map(({ name }) => name);
    expect(plain.map((name) => name.replace('.weight', ''))).toEqual(kPlain[tiny]);
  });
});

describe("the figure's networks", () => {
  const parameters = (id: string): number => {
    const { inputs, values } = findModel({ model: id })!.graph!(1, 1, 1);
    return inputs
      .map((value) => values[value]!)
      .filter(({ role }) => role !== 'input')
      .reduce((sum, { axes }) => sum + axes.reduce((product, { extent }) => product * extent, 1), 0);
  };

  it('have as many parameters as torchvision, timm and torchaudio say', () => {
    // torchvision's tables: 25557032 and 2278604, of which norms have two each per channel where ours have a bias: 26560 and 8090 channels.
    expect(parameters('resnet-50')).toBe(25_557_032 - 26_560);
    expect(parameters('shufflenet-v2')).toBe(2_278_604 - 8_090);
    expect(parameters('resnet-18')).toBe(11_689_512 - 4_800);
    expect(parameters('resnet-34')).toBe(21_797_672 - 8_512);
    expect(parameters('resnet-101')).toBe(44_549_160 - 52_672);
    expect(parameters('resnet-152')).toBe(60_192_808 - 75_712);

    // vit_small_patch32_224: 22.88 M (timm's results table).
    expect(parameters('vit')).toBe(22_878_952);
    expect(parameters('vit-small-patch16')).toBe(22_050_664);
    expect(parameters('vit-base-patch32')).toBe(88_224_232);
    expect(parameters('vit-base-patch16')).toBe(86_567_656);
    expect(parameters('vit-large-patch32')).toBe(306_535_400);
    expect(parameters('vit-large-patch16')).toBe(304_326_632);
    // (384 / 16)² + 1 positions of 768 in place of (224 / 16)² + 1.
    expect(parameters('vit-base-patch16-384')).toBe(86_567_656 + (24 ** 2 - 14 ** 2) * 768);
    // 12 × (two halves of 2·(512² + 512) + 1024, attention of 4·(512² + 512) + 1024, convolutions of 3·512² + 512·31 + 4·512 + 1024, 1024).
    expect(parameters('conformer')).toBe(
      12 * (2 * (2 * (512 ** 2 + 512) + 1024) + 4 * (512 ** 2 + 512) + 1024 + 3 * 512 ** 2 + 512 * 31 + 4 * 512 + 1024 + 1024),
    );
  });

  it.each(['resnet-50', 'shufflenet-v2', 'vit', 'conformer'])('%s is made for 1 to 1024 at a time', (id) => {
    for (const batch of [1, 7, 1024]) {
      const { values, outputs } = models.get(id).graph!(batch, 1, 1);
      expect(values[outputs[0]!]!.axes[0]!.extent % batch).toBe(0);
    }
  });
});

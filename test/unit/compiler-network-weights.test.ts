// Real weights of small networks under torchvision's, timm's and torchaudio's names: packed, run on the CPU, and compared with the
// networks written down a second time in double precision, as those libraries compute them, batch norms where they stand.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCheckpoint, type BuildCheckpointOptions, loadPrebuilt } from '../../lib/index.js';
import { type FloatTensor, safetensors } from '../fixtures/safetensors.js';
import { outputOf } from '../fixtures/outputs.js';
import { Random } from './reference-naive.js';
import { erf } from './reference-naive-program.js';

type Matrix = number[][];
const random = new Random(17);

/** The numbers of a PyTorch module by name: weights with a mean square of 1/k, norms away from 1 and 0. */
class State {
  readonly tensors = new Map<string, FloatTensor>();
  readonly counts: string[] = [];

  add(name: string, shape: readonly number[], low: number, high: number): void {
    const count = shape.reduce((product, extent) => product * extent, 1);
    this.tensors.set(name, { shape, values: Float32Array.from({ length: count }, () => random.uniform(low, high)) });
  }
  linear(name: string, shape: readonly number[], [weight, bias] = [`${name}.weight`, `${name}.bias`]): void {
    const bound = Math.sqrt(3 / shape.slice(1).reduce((product, extent) => product * extent, 1));
    this.add(weight!, shape, -bound, bound);
    this.add(bias!, [shape[0]!], -0.3, 0.3);
  }
  norm(name: string, width: number): void {
    this.add(`${name}.weight`, [width], 0.5, 1.5);
    this.add(`${name}.bias`, [width], -0.3, 0.3);
  }
  batchNorm(name: string, width: number): void {
    this.norm(name, width);
    this.add(`${name}.running_mean`, [width], -0.5, 0.5);
    this.add(`${name}.running_var`, [width], 0.3, 2);
    this.counts.push(`${name}.num_batches_tracked`);
  }
  values(name: string): Float32Array {
    return this.tensors.get(name)!.values;
  }

  /** y = x·Wᵀ + b, W a matrix whatever axes it has. */
  product(name: string, x: Matrix, [weight, bias] = [`${name}.weight`, `${name}.bias`]): Matrix {
    const [w, b] = [this.values(weight!), this.values(bias!)];
    return x.map((row) => Array.from(b, (shift, n) => row.reduce((sum, value, k) => sum + value * w[n * row.length + k]!, shift)));
  }
  layerNorm(name: string, x: Matrix, eps: number): Matrix {
    const [gain, beta] = [this.values(`${name}.weight`), this.values(`${name}.bias`)];
    return x.map((row) => {
      const mean = row.reduce((a, b) => a + b, 0) / row.length;
      const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length + eps);
      return row.map((value, i) => ((value - mean) / deviation) * gain[i]! + beta[i]!);
    });
  }
}

const plus = (x: Matrix, y: Matrix, factor = 1): Matrix => x.map((row, i) => row.map((value, j) => value + factor * y[i]![j]!));
const silu = (x: Matrix): Matrix => x.map((row) => row.map((value) => value / (1 + Math.exp(-value))));
const gelu = (x: Matrix): Matrix => x.map((row) => row.map((value) => 0.5 * value * (1 + erf(value / Math.SQRT2))));

/** Rows q, k, v side by side to heads side by side. */
function attention(qkv: Matrix, heads: number): Matrix {
  const width = qkv[0]!.length / 3;
  const d = width / heads;
  return qkv.map((own) =>
    Array.from({ length: heads }, (_, head) => {
      const part = (row: number[], which: number): number[] => row.slice(which * width + head * d, which * width + (head + 1) * d);
      const weights = qkv.map((other) =>
        Math.exp(part(own, 0).reduce((sum, value, i) => sum + value * part(other, 1)[i]!, 0) / Math.sqrt(d)),
      );
      const total = weights.reduce((a, b) => a + b, 0);
      return Array.from({ length: d }, (__, i) => qkv.reduce((sum, other, t) => sum + (weights[t]! / total) * part(other, 2)[i]!, 0));
    }).flat(),
  );
}

function vitState(): State {
  const state = new State();
  state.add('cls_token', [1, 1, 128], -1, 1);
  state.add('pos_embed', [1, 5, 128], -1, 1);
  state.linear('patch_embed.proj', [128, 3, 32, 32]);
  for (const block of [0, 1].map((i) => `blocks.${i}`)) {
    state.norm(`${block}.norm1`, 128);
    state.linear(`${block}.attn.qkv`, [384, 128]);
    state.linear(`${block}.attn.proj`, [128, 128]);
    state.norm(`${block}.norm2`, 128);
    state.linear(`${block}.mlp.fc1`, [256, 128]);
    state.linear(`${block}.mlp.fc2`, [128, 256]);
  }
  state.norm('norm', 128);
  state.linear('head', [100, 128]);
  return state;
}

/** Logits of one image [3, 64, 64]. */
function vit(state: State, image: Float32Array): number[] {
  const patches = [0, 1].flatMap((i) =>
    [0, 1].map((j) =>
      Array.from({ length: 3 * 32 * 32 }, (_, at) => {
        const [c, y, x] = [Math.floor(at / 1024), Math.floor(at / 32) % 32, at % 32];
        return image[(c * 64 + i * 32 + y) * 64 + j * 32 + x]!;
      }),
    ),
  );
  const positions = state.values('pos_embed');
  let x = [Array.from(state.values('cls_token')), ...state.product('patch_embed.proj', patches)].map((row, t) =>
    row.map((value, c) => value + positions[t * 128 + c]!),
  );
  for (const block of [0, 1].map((i) => `blocks.${i}`)) {
    const h = attention(state.product(`${block}.attn.qkv`, state.layerNorm(`${block}.norm1`, x, 1e-6)), 2);
    x = plus(x, state.product(`${block}.attn.proj`, h));
    const u = gelu(state.product(`${block}.mlp.fc1`, state.layerNorm(`${block}.norm2`, x, 1e-6)));
    x = plus(x, state.product(`${block}.mlp.fc2`, u));
  }
  return state.product('head', state.layerNorm('norm', x, 1e-6).slice(0, 1))[0]!;
}

function conformerState(): State {
  const state = new State();
  for (const layer of [0, 1].map((i) => `conformer_layers.${i}`)) {
    for (const half of ['ffn1', 'ffn2']) {
      state.norm(`${layer}.${half}.sequential.0`, 128);
      state.linear(`${layer}.${half}.sequential.1`, [256, 128]);
      state.linear(`${layer}.${half}.sequential.4`, [128, 256]);
    }
    state.norm(`${layer}.self_attn_layer_norm`, 128);
    state.linear('', [384, 128], [`${layer}.self_attn.in_proj_weight`, `${layer}.self_attn.in_proj_bias`]);
    state.linear(`${layer}.self_attn.out_proj`, [128, 128]);
    state.norm(`${layer}.conv_module.layer_norm`, 128);
    state.linear(`${layer}.conv_module.sequential.0`, [256, 128, 1]);
    state.linear(`${layer}.conv_module.sequential.2`, [128, 1, 7]);
    state.batchNorm(`${layer}.conv_module.sequential.3`, 128);
    state.linear(`${layer}.conv_module.sequential.5`, [128, 128, 1]);
    state.norm(`${layer}.final_layer_norm`, 128);
  }
  return state;
}

/** Frames [40, 128] to as many. */
function conformer(state: State, frames: Float32Array): number[] {
  let x: Matrix = Array.from({ length: 40 }, (_, t) => Array.from(frames.subarray(t * 128, (t + 1) * 128)));
  for (const layer of [0, 1].map((i) => `conformer_layers.${i}`)) {
    const half = (name: string): Matrix =>
      state.product(`${name}.sequential.4`, silu(state.product(`${name}.sequential.1`, state.layerNorm(`${name}.sequential.0`, x, 1e-5))));
    x = plus(x, half(`${layer}.ffn1`), 0.5);
    const qkv = state.product('', state.layerNorm(`${layer}.self_attn_layer_norm`, x, 1e-5), [
      `${layer}.self_attn.in_proj_weight`,
      `${layer}.self_attn.in_proj_bias`,
    ]);
    x = plus(x, state.product(`${layer}.self_attn.out_proj`, attention(qkv, 2)));
    const c = `${layer}.conv_module`;
    const gated = state
      .product(`${c}.sequential.0`, state.layerNorm(`${c}.layer_norm`, x, 1e-5))
      .map((row) => row.slice(0, 128).map((value, i) => value / (1 + Math.exp(-row[128 + i]!))));
    const [taps, bias] = [state.values(`${c}.sequential.2.weight`), state.values(`${c}.sequential.2.bias`)];
    const normed = (part: string): Float32Array => state.values(`${c}.sequential.3.${part}`);
    const convolved = gated.map((_, t) =>
      Array.from({ length: 128 }, (__, i) => {
        let sum = bias[i]!;
        for (let tap = 0; tap < 7; ++tap) sum += taps[i * 7 + tap]! * (gated[t + tap - 3]?.[i] ?? 0);
        const centred = (sum - normed('running_mean')[i]!) / Math.sqrt(normed('running_var')[i]! + 1e-5);
        return centred * normed('weight')[i]! + normed('bias')[i]!;
      }),
    );
    x = plus(x, state.product(`${c}.sequential.5`, silu(convolved)));
    x = plus(x, half(`${layer}.ffn2`), 0.5);
    x = state.layerNorm(`${layer}.final_layer_norm`, x, 1e-5);
  }
  return x.flat();
}

/** Channels of a square image, each row by row. */
type Planes = Matrix;

/** A convolution without bias and its batch norm, as torchvision has them; made on the first use, read afterwards. */
function convNorm(state: State, conv: string, norm: string, x: Planes, n: number, kernel: number, stride = 1, groups = 1): Planes {
  const own = x.length / groups;
  if (!state.tensors.has(`${conv}.weight`)) {
    const bound = Math.sqrt(6 / (own * kernel * kernel));
    state.add(`${conv}.weight`, [n, own, kernel, kernel], -bound, bound);
    state.batchNorm(norm, n);
  }
  const [w, gain, beta, mean, variance] = [
    `${conv}.weight`,
    ...['weight', 'bias', 'running_mean', 'running_var'].map((part) => `${norm}.${part}`),
  ].map((name) => state.values(name)) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
  const size = Math.sqrt(x[0]!.length);
  const [padding, out] = [(kernel - 1) / 2, Math.ceil(size / stride)];
  return Array.from({ length: n }, (_, channel) =>
    Array.from({ length: out * out }, (__, place) => {
      let sum = 0;
      for (let c = 0; c < own; ++c) {
        const plane = x[Math.floor(channel / (n / groups)) * own + c]!;
        for (let tap = 0; tap < kernel * kernel; ++tap) {
          const i = Math.floor(place / out) * stride + Math.floor(tap / kernel) - padding;
          const j = (place % out) * stride + (tap % kernel) - padding;
          if (i >= 0 && i < size && j >= 0 && j < size) sum += plane[i * size + j]! * w[(channel * own + c) * kernel * kernel + tap]!;
        }
      }
      return ((sum - mean[channel]!) / Math.sqrt(variance[channel]! + 1e-5)) * gain[channel]! + beta[channel]!;
    }),
  );
}

const relu = (x: Planes): Planes => x.map((plane) => plane.map((value) => Math.max(value, 0)));

function planesOf(image: Float32Array): Planes {
  return [0, 1, 2].map((c) => Array.from(image.subarray(c * 1024, (c + 1) * 1024)));
}

/** 3 × 3, every second pixel. */
function pooled(x: Planes): Planes {
  const size = Math.sqrt(x[0]!.length);
  const out = size / 2;
  const near = (at: number): number[] => [2 * at - 1, 2 * at, 2 * at + 1].filter((one) => one >= 0 && one < size);
  return x.map((plane) =>
    Array.from({ length: out * out }, (_, place) =>
      Math.max(...near(Math.floor(place / out)).flatMap((i) => near(place % out).map((j) => plane[i * size + j]!))),
    ),
  );
}

function classified(state: State, x: Planes, classes = 10): number[] {
  if (!state.tensors.has('fc.weight')) state.linear('fc', [classes, x.length]);
  return state.product('fc', [x.map((plane) => plane.reduce((a, b) => a + b, 0) / plane.length)])[0]!;
}

/** torchvision's ResNet with bottlenecks, 32 wide, of 2 and 1 blocks. */
function resnet(state: State, image: Float32Array): number[] {
  let x = pooled(relu(convNorm(state, 'conv1', 'bn1', planesOf(image), 32, 7, 2)));
  for (const [block, width, stride] of [
    ['layer1.0', 32, 1],
    ['layer1.1', 32, 1],
    ['layer2.0', 64, 2],
  ] as const) {
    const conv = (i: number, from: Planes, n: number, kernel: number, by = 1): Planes =>
      convNorm(state, `${block}.conv${i}`, `${block}.bn${i}`, from, n, kernel, by);
    const y = conv(3, relu(conv(2, relu(conv(1, x, width, 1)), width, 3, stride)), 4 * width, 1);
    if (block.endsWith('0')) x = convNorm(state, `${block}.downsample.0`, `${block}.downsample.1`, x, 4 * width, 1, stride);
    x = relu(plus(y, x));
  }
  return classified(state, x);
}

/** torchvision's resnet18, its blocks of two 3 × 3 convolutions, for images of 32 × 32. */
function resnet18(state: State, image: Float32Array): number[] {
  let x = pooled(relu(convNorm(state, 'conv1', 'bn1', planesOf(image), 64, 7, 2)));
  for (let stage = 1; stage <= 4; ++stage) {
    for (const block of [`layer${stage}.0`, `layer${stage}.1`]) {
      const width = 32 * 2 ** stage;
      const stride = stage > 1 && block.endsWith('0') ? 2 : 1;
      const inner = relu(convNorm(state, `${block}.conv1`, `${block}.bn1`, x, width, 3, stride));
      const y = convNorm(state, `${block}.conv2`, `${block}.bn2`, inner, width, 3);
      if (stride === 2) x = convNorm(state, `${block}.downsample.0`, `${block}.downsample.1`, x, width, 1, 2);
      x = relu(plus(y, x));
    }
  }
  return classified(state, x, 1000);
}

/** torchvision's ShuffleNet V2: stem of 8, units of 20 and 40 channels, two each. */
function shufflenet(state: State, image: Float32Array): number[] {
  let x = pooled(relu(convNorm(state, 'conv1.0', 'conv1.1', planesOf(image), 8, 3, 2)));
  for (const [unit, channels] of [
    ['stage2.0', 20],
    ['stage2.1', 20],
    ['stage3.0', 40],
    ['stage3.1', 40],
  ] as const) {
    const half = channels / 2;
    const stride = unit.endsWith('0') ? 2 : 1;
    const conv = (branch: number, i: number, from: Planes, n: number, kernel: number, by: number, groups: number): Planes =>
      convNorm(state, `${unit}.branch${branch}.${i}`, `${unit}.branch${branch}.${i + 1}`, from, n, kernel, by, groups);
    const left = stride === 1 ? x.slice(0, half) : relu(conv(1, 2, conv(1, 0, x, x.length, 3, 2, x.length), half, 1, 1, 1));
    const inner = conv(2, 3, relu(conv(2, 0, stride === 1 ? x.slice(half) : x, half, 1, 1, 1)), half, 3, stride, half);
    const right = relu(conv(2, 5, inner, half, 1, 1, 1));
    // Side by side, then shuffled in two groups.
    x = left.flatMap((plane, i) => [plane, right[i]!]);
  }
  return classified(state, relu(convNorm(state, 'conv5.0', 'conv5.1', x, 64, 1)));
}

/** The numbers of a network that makes them on its first run. */
function stateOf(compute: (state: State, image: Float32Array) => number[]): State {
  const state = new State();
  compute(state, new Float32Array(3 * 1024));
  return state;
}

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ladder-network-weights-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const kNetworks = [
  { model: 'vit-tiny', state: vitState(), inputs: 3 * 64 * 64, compute: vit },
  { model: 'conformer-tiny', state: conformerState(), inputs: 40 * 128, compute: conformer },
  { model: 'resnet-tiny', state: stateOf(resnet), inputs: 3 * 1024, compute: resnet },
  { model: 'resnet-18-32', state: stateOf(resnet18), inputs: 3 * 1024, compute: resnet18 },
  { model: 'shufflenet-tiny', state: stateOf(shufflenet), inputs: 3 * 1024, compute: shufflenet },
] as const;

async function packed(model: string, file: Buffer, more: Partial<BuildCheckpointOptions> = {}): Promise<string> {
  const weights = join(root, `${model}.safetensors`);
  await writeFile(weights, file);
  const { folder } = await buildCheckpoint(model, { root, compile: false, weights, ...more });
  return folder;
}

/**
 * Relative L2 error of a result. Measured, in FP16: 5.3e-4 (ResNet), 5.0e-4 (ShuffleNet), 9.4e-4 (ViT), 8.7e-4 (Conformer); of the last
 * two 0.11 in FP8, 0.09 in W_INT4 A_INT8, 0.21 in W_INT4 A_INT4. The bounds are at least about twice that.
 */
const kFormats = [
  ['resnet-tiny', {}, 2e-3],
  ['resnet-18-32', {}, 2e-3],
  ['shufflenet-tiny', {}, 2e-3],
  ['vit-tiny', {}, 2e-3],
  ['vit-tiny', { weight: 'fp8' }, 0.2],
  ['vit-tiny', { weight: 'int4', act: 'int4' }, 0.35],
  ['conformer-tiny', {}, 2e-3],
  ['conformer-tiny', { weight: 'int4', act: 'int8' }, 0.2],
  ['conformer-tiny', { weight: 'int4', act: 'int4' }, 0.35],
] as const;

describe('packed weights', () => {
  it.each(kFormats)('%s %o computes what the library does, up to the error of the formats', async (model, format, most) => {
    const { state, inputs, compute } = kNetworks.find((one) => one.model === model)!;
    const folder = await packed(model, safetensors(state.tensors, 'F32', state.counts), format);
    const x = Float32Array.from({ length: inputs }, () => Math.round(random.uniform(-64, 64)) / 32);
    const y = await outputOf(folder, x);
    const wanted = compute(state, x);
    expect(y).toHaveLength(wanted.length);
    const [error, size] = [wanted.map((value, i) => value - y[i]!), wanted].map((all) => Math.hypot(...all)) as [number, number];
    expect(error / size, `${error / size}`).toBeLessThan(most);
    // Coarse formats are far from exact.
    if (most > 0.1) expect(error / size).toBeGreaterThan(most / 20);
  });
});

describe('static scales', () => {
  const { state, compute } = kNetworks.find(({ model }) => model === 'resnet-tiny')!;
  const images = Float32Array.from({ length: 6 * 3 * 1024 }, () => Math.round(random.uniform(-64, 64)) / 32);
  const calibration = async (name: string, tensors: ReadonlyMap<string, FloatTensor>): Promise<string> => {
    const path = join(root, `${name}.safetensors`);
    await writeFile(path, safetensors(tensors, 'F32', []));
    return path;
  };
  const scaleOf = async (folder: string, name: string): Promise<number> => {
    await using network = await loadPrebuilt(folder, { device: 'cpu' });
    return (await network.getInput(name, { as: 'float32' }))[0]!;
  };

  it('are the largest magnitudes of a batch of inputs over the largest code', async () => {
    const calibrate = await calibration('images', new Map([['pixels', { shape: [6, 3, 32, 32], values: images }]]));
    const file = safetensors(state.tensors, 'F32', state.counts);
    for (const [weight, act, top, most] of [
      ['fp8', undefined, 57344, 0.3],
      ['int1', 'int4', 7, 2],
    ] as const) {
      const folder = await packed('resnet-tiny', file, { weight, calibrate, ...(act && { act }) });
      // What the first block reads: the stem's result.
      const stems = Array.from({ length: 6 }, (_, i) =>
        pooled(relu(convNorm(state, 'conv1', 'bn1', planesOf(images.subarray(i * 3072, (i + 1) * 3072)), 32, 7, 2))),
      );
      const largest = Math.max(...stems.flat(3));
      expect((await scaleOf(folder, 'layer1.0.conv1.input_scale')) * top).toBeCloseTo(largest, 2);
      const x = images.slice(0, 3072);
      const [y, wanted] = [await outputOf(folder, x), compute(state, x)];
      const error = Math.hypot(...wanted.map((value, i) => value - y[i]!)) / Math.hypot(...wanted);
      expect(error, `${weight} ${error}`).toBeLessThan(most);
    }
  });

  it('come of random inputs without a file, which is said', async () => {
    const weights = join(root, 'random.safetensors');
    await writeFile(weights, safetensors(state.tensors, 'F32', state.counts));
    const { folder, warnings } = await buildCheckpoint('resnet-tiny', { root, compile: false, weights, weight: 'fp8' });
    expect(warnings).toEqual(['scales of activations come of random inputs: `--calibrate` takes them from real ones']);
    expect(await scaleOf(folder, 'layer1.0.conv1.input_scale')).toBeGreaterThan(0);
    const plain = await buildCheckpoint('resnet-tiny', { root, compile: false, weights });
    expect(plain.warnings).toEqual([]);
  });

  it('refuse inputs that do not fit', async () => {
    const file = safetensors(state.tensors, 'F32', state.counts);
    const other: FloatTensor = { shape: [2, 3, 8, 8], values: new Float32Array(384) };
    const wrong = await calibration('wrong', new Map([['x', other]]));
    await expect(packed('resnet-tiny', file, { weight: 'fp8', calibrate: wrong })).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: 'expected [n, 3, 32, 32] for the inputs of wrong.safetensors but received [2, 3, 8, 8]',
    });
    const several = await calibration(
      'several',
      new Map([
        ['a', other],
        ['b', other],
      ]),
    );
    await expect(packed('resnet-tiny', file, { weight: 'fp8', calibrate: several })).rejects.toMatchObject({ code: 'MISSING_PARAMETER' });
    await expect(packed('resnet-tiny', file, { calibrate: wrong })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/ has a scale that inputs decide: leave `calibrate` out$/),
    });
    await expect(buildCheckpoint('resnet-tiny', { root, compile: false, weight: 'fp8', calibrate: wrong })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: '`calibrate` decides scales of real weights: give `weights` as well',
    });
  });
});

describe('files that do not fit', () => {
  const [{ state: ours }, { state: theirs }] = kNetworks;
  const changed = (state: State, name: string, tensor: FloatTensor | null): Buffer => {
    const tensors = new Map(state.tensors);
    if (tensor) tensors.set(name, tensor);
    else tensors.delete(name);
    return safetensors(tensors, 'F16', state.counts);
  };

  it.each<[string, string, Buffer, string, string]>([
    ['lack a tensor', 'vit-tiny', changed(ours, 'blocks.1.mlp.fc2.bias', null), 'MISSING_PARAMETER', 'blocks.1.mlp.fc2.bias'],
    [
      'lack a part of a batch norm',
      'conformer-tiny',
      changed(theirs, 'conformer_layers.0.conv_module.sequential.3.running_var', null),
      'MISSING_PARAMETER',
      'running_var',
    ],
    ['hold one more', 'vit-tiny', changed(ours, 'fc_norm.weight', ours.tensors.get('norm.weight')!), 'UNKNOWN_INPUT', 'fc_norm.weight'],
    ['are of another network', 'vit-tiny', safetensors(theirs.tensors, 'F16'), 'MISSING_PARAMETER', 'cls_token'],
    [
      'have another shape',
      'vit-tiny',
      changed(ours, 'head.weight', { shape: [128, 100], values: ours.values('head.weight') }),
      'WRONG_LENGTH',
      '[128, 100] where [100, 128]',
    ],
    [
      'have another width',
      'vit-tiny',
      changed(ours, 'norm.bias', { shape: [64], values: new Float32Array(64) }),
      'WRONG_LENGTH',
      '[64] where [128]',
    ],
    [
      'have another kernel',
      'conformer-tiny',
      changed(theirs, 'conformer_layers.1.conv_module.sequential.2.weight', { shape: [128, 1, 9], values: new Float32Array(1152) }),
      'WRONG_LENGTH',
      '[128, 1, 9] where [128, 7]',
    ],
  ])('%s', async (_, model, file, code, message) => {
    await expect(packed(model, file)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

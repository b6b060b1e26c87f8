// Real weights through the public API: a small Llama layer in a safetensors file, or as float matrices, packed in every
// format, run on the CPU, and compared with the float layer; the error must be what the format implies. How weights are
// rounded is written here a second time, value by value, so that wrong packing shows whatever the format's own error is.
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../lib/cli/main.js';
import { buildCheckpoint, inspectPrebuilt, packMatrix, packWeights, tuneCheckpoint, type BuildCheckpointOptions } from '../../lib/index.js';
import { safetensors as fileOf } from '../fixtures/safetensors.js';
import { outputOf } from '../fixtures/outputs.js';

/** As lib/models/llama.ts has the small one. */
const { hidden, heads, kvHeads, headDim, intermediate, eps } = {
  hidden: 512,
  heads: 4,
  kvHeads: 2,
  headDim: 128,
  intermediate: 1024,
  eps: 1e-5,
};
const kShapes: Readonly<Record<string, readonly number[]>> = {
  'self_attn.q_proj.weight': [heads * headDim, hidden],
  'self_attn.k_proj.weight': [kvHeads * headDim, hidden],
  'self_attn.v_proj.weight': [kvHeads * headDim, hidden],
  'self_attn.o_proj.weight': [hidden, heads * headDim],
  'mlp.gate_proj.weight': [intermediate, hidden],
  'mlp.up_proj.weight': [intermediate, hidden],
  'mlp.down_proj.weight': [hidden, intermediate],
  'input_layernorm.weight': [hidden],
  'post_attention_layernorm.weight': [hidden],
};

/** Seeded uniform numbers in (−1, 1). */
function uniform(seed: number, count: number): Float32Array {
  let state = seed >>> 0 || 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 31 - 1;
  });
}

type Tensors = Map<string, Float32Array>;
const tensors: Tensors = new Map(
  Object.entries(kShapes).map(([name, shape], i) => {
    const values = uniform(
      100 + i,
      shape.reduce((a, b) => a * b, 1),
    );
    // Gains about 1, matrices with a mean square of about 1/k, whose rows and blocks differ in size: a scale in the wrong place shows.
    const size = (i: number): number =>
      [0.7, 1.2][Math.floor(i / shape[1]!) % 2]! * [0.5, 1, 1.4][Math.floor(i / 32) % 3]! * Math.sqrt(3 / shape[1]!);
    return [name, shape.length === 1 ? values.map((v) => 1 + 0.2 * v) : values.map((v, i) => v * size(i))];
  }),
);

const safetensors = (parts: Tensors, type: 'F32' | 'F16'): Buffer =>
  fileOf(new Map([...parts].map(([name, values]) => [`model.layers.7.${name}`, { shape: kShapes[name]!, values }])), type);

/** The decoder layer in double precision for one token: with one token, attention hands every head its v. */
function floatLayer(x: Float32Array, weights: Tensors): Float64Array {
  const t = (name: string): Float32Array => weights.get(name)!;
  const product = (name: string, input: ArrayLike<number>): Float64Array => {
    const [n, k] = kShapes[name] as [number, number];
    return Float64Array.from({ length: n }, (_, row) => {
      let sum = 0;
      for (let i = 0; i < k; ++i) sum += t(name)[row * k + i]! * input[i]!;
      return sum;
    });
  };
  const norm = (name: string, input: Float64Array): Float64Array => {
    const square = input.reduce((sum, v) => sum + v * v, 0) / input.length;
    return input.map((v, i) => (v / Math.sqrt(square + eps)) * t(name)[i]!);
  };
  const start = Float64Array.from(x);
  const v = product('self_attn.v_proj.weight', norm('input_layernorm.weight', start));
  const attended = Float64Array.from(
    { length: heads * headDim },
    (_, i) => v[Math.floor(i / headDim / (heads / kvHeads)) * headDim + (i % headDim)]!,
  );
  const middle = product('self_attn.o_proj.weight', attended).map((value, i) => value + start[i]!);
  const h = norm('post_attention_layernorm.weight', middle);
  const gate = product('mlp.gate_proj.weight', h);
  const up = product('mlp.up_proj.weight', h);
  return product(
    'mlp.down_proj.weight',
    gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!),
  ).map((value, i) => value + middle[i]!);
}

const root = await mkdtemp(join(tmpdir(), 'ladder-weights-'));
const file = join(root, 'layer.safetensors');
beforeAll(() => writeFile(file, safetensors(tensors, 'F32')));
afterAll(() => rm(root, { recursive: true, force: true }));

const pack = (weight: NonNullable<BuildCheckpointOptions['weight']>, more: Partial<BuildCheckpointOptions> = {}, weights = file) =>
  buildCheckpoint('llama2-tiny', { root, weight, compile: false, weights, ...more });

/** The nearest of ascending levels, by bisection. */
const nearest = (levels: ArrayLike<number>, value: number): number => {
  let [low, high] = [0, levels.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (levels[middle]! <= value) low = middle;
    else high = middle;
  }
  return value - levels[low]! <= levels[high]! - value ? levels[low]! : levels[high]!;
};
/** All positive values of float16. */
const half = Float64Array.from({ length: 0x7c00 }, (_, code) => {
  const [exponent, mantissa] = [code >> 10, code & 1023];
  return exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
});
const toHalf = (value: number): number => nearest(half, value);
const signed = (levels: readonly number[]): number[] => [...levels.slice(1).map((level) => -level), ...levels].sort((a, b) => a - b);
const small = (mantissaBits: number, bias: number, largest: number): number[] =>
  signed(
    Array.from({ length: 128 }, (_, code) => {
      const [exponent, mantissa] = [code >> mantissaBits, code & (2 ** mantissaBits - 1)];
      return exponent === 0 ? mantissa * 2 ** (1 - bias - mantissaBits) : (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
    }).filter((level) => level <= largest),
  );
const e5m2 = small(2, 15, 57344);
const e4m3 = small(3, 7, 448);
const int8 = Array.from({ length: 255 }, (_, i) => i - 127);
/** QLoRA, Appendix E. */
const nf4 = [
  -1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0, 0.0795803, 0.1609302, 0.2461123, 0.33791524,
  0.44070983, 0.562617, 0.72295684, 1,
];

/** What a row of weights becomes in a format: by the definitions, not by the code under test. */
function rounded(values: Float32Array, k: number, format: string, group: number): Float32Array {
  const out = new Float32Array(values.length);
  const block = format.startsWith('mx') ? 32 : group === -1 ? k : group;
  for (let first = 0; first < values.length; first += block) {
    const part = values.subarray(first, first + block);
    const amax = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const mean = part.reduce((sum, value) => sum + Math.abs(value), 0) / block;
    const kind = format.endsWith('e4m3') ? e4m3 : e5m2;
    const power = 2 ** (Math.floor(Math.log2(amax)) - (kind === e4m3 ? 8 : 15));
    part.forEach((value, i) => {
      const by = (scale: number, levels: readonly number[]): number => scale * nearest(levels, value / scale);
      switch (format) {
        case 'fp16':
          out[first + i] = Math.sign(value) * toHalf(Math.abs(value));
          break;
        case 'int4':
          out[first + i] = by(toHalf(amax / 7), [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7]);
          break;
        case 'int8':
          out[first + i] = by(toHalf(amax / 127), int8);
          break;
        case 'nf4':
          out[first + i] = by(toHalf(amax), nf4);
          break;
        case 'int1':
          out[first + i] = (value < 0 ? -1 : 1) * toHalf(mean);
          break;
        case 'fp8_e5m2':
        case 'fp8_e4m3':
          out[first + i] = by(toHalf(amax / 448), kind);
          break;
        default:
          out[first + i] = by(power, kind);
      }
    });
  }
  return out;
}

/** ‖y − expected‖₂ over what the layer adds to its input. */
function relative(y: Float32Array, expected: Float64Array, x: Float32Array): number {
  let error = 0;
  let size = 0;
  expected.forEach((value, i) => {
    error += (y[i]! - value) ** 2;
    size += (value - x[i]!) ** 2;
  });
  return Math.sqrt(error / size);
}

/**
 * Relative rounding noise of uniform weights in each format (rms of the error over rms of the weights), activations included:
 * INT4: a step is amax/7, so (1/7)/√12 over 1/√3; NF4's widest gaps are near ±1; FP8: 2⁻³/√3 (E5M2), half of it for E4M3;
 * INT1 keeps the sign: √(1 − 3/4); INT8's weights are finer than the activations that they are multiplied by. What the layer adds to its input passes four products: twice a product's noise, and
 * half as much again because these are samples.
 */
const noise: Readonly<Record<string, number>> = { fp16: 5e-4, int4: 0.0714, nf4: 0.11, fp8: 0.1, mxfp8: 0.1, int1: 0.5, int8: 0.018 };
/**
 * The same against the layer with rounded weights: what is left is FP16's rounding (2⁻¹¹ a step), INT8's of activations
 * (amax/127, 1/√12 of a step, amax up to some 8 times the rms behind SiLU), and FP8's, which is as large as that of the weights.
 */
const activationNoise: Readonly<Record<string, number>> = {
  fp16: 1e-3,
  int4: 1e-3,
  nf4: 1e-3,
  int1: 0.018,
  int8: 0.018,
  fp8_e5m2: 0.1,
  mxfp8_e5m2: 0.1,
  fp8_e4m3: 0.05,
  mxfp8_e4m3: 0.05,
};

const kFormats = [
  ['fp16', {}, 'fp16'],
  ['int4', {}, 'int4'],
  ['int4', { group: 64 }, 'int4'],
  ['int4', { group: 128 }, 'int4'],
  ['nf4', {}, 'nf4'],
  ['nf4', { group: 128 }, 'nf4'],
  ['fp8', {}, 'fp8_e5m2'],
  ['fp8', { format: 'e4m3' }, 'fp8_e4m3'],
  ['mxfp8', {}, 'mxfp8_e5m2'],
  ['mxfp8', { format: 'e4m3' }, 'mxfp8_e4m3'],
  ['int1', {}, 'int1'],
  ['int8', {}, 'int8'],
] as const satisfies readonly (readonly [string, Partial<BuildCheckpointOptions>, string])[];

describe('packed weights of a safetensors file', () => {
  const x = uniform(1, hidden).map((v) => v * 1.5);

  it.each(kFormats)('%s %o computes the float layer, up to the error of the format', async (weight, more, format) => {
    const { folder } = await pack(weight, { ...more, scale: 'absmax' });
    const y = await outputOf(folder, x);
    const error = relative(y, floatLayer(x, tensors), x);
    expect(error <= 3 * noise[weight]!, `${weight}: ${error}`).toBe(true);
    // Coarse formats are far from exact.
    if (weight !== 'fp16') expect(error).toBeGreaterThan(noise[weight]! / 10);
    const group = 'group' in more ? more.group : -1;
    const same = new Map(
      [...tensors].map(([name, values]) => [
        name,
        kShapes[name]!.length === 1 ? values : rounded(values, kShapes[name]![1]!, format, group),
      ]),
    );
    const left = relative(y, floatLayer(x, same), x);
    expect(left <= 1.5 * activationNoise[format]!, `${format}, weights rounded: ${left}`).toBe(true);
  });

  it('chooses scales of INT4 and NF4 by the least squared error unless told otherwise', async () => {
    for (const weight of ['int4', 'nf4'] as const) {
      const errorOf = async (more: Partial<BuildCheckpointOptions>): Promise<number> =>
        relative(await outputOf((await pack(weight, { group: 64, ...more })).folder, x), floatLayer(x, tensors), x);
      const [usual, mse, absmax] = [await errorOf({}), await errorOf({ scale: 'mse' }), await errorOf({ scale: 'absmax' })];
      expect(usual).toBe(mse);
      expect(mse, weight).toBeLessThan(absmax);
    }
  });

  it('on the command line as well', async () => {
    const { folder } = await pack('int4', { group: 64 });
    const wanted = await readFile(join(folder, 'graph.params'));
    const out = join(root, 'cli');
    const quiet = { write: () => undefined };
    const args = ['build', 'llama2-tiny', '--weight', 'int4', '--group', '64', '--weights', file, '--no-compile', '--out', out];
    expect(await runCli(args, quiet, quiet, new AbortController().signal)).toBe(0);
    expect(Buffer.compare(await readFile(join(out, 'llama2-tiny', basename(folder), 'graph.params')), wanted)).toBe(0);
  });

  it('takes half-precision files too', async () => {
    const halves = join(root, 'half.safetensors');
    await writeFile(halves, safetensors(tensors, 'F16'));
    await expect(pack('int4', {}, halves)).resolves.toMatchObject({ compiled: false });
  });

  it('names a missing tensor, a wrong shape, a damaged file, a missing layer and a model without such names', async () => {
    const broken = join(root, 'broken.safetensors');
    const without = new Map(tensors);
    without.delete('self_attn.k_proj.weight');
    await writeFile(broken, safetensors(without, 'F32'));
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'MISSING_PARAMETER', message: expect.stringContaining('k_proj') });
    await expect(pack('fp16', { layers: 2 })).rejects.toMatchObject({
      code: 'MISSING_PARAMETER',
      message: expect.stringContaining('1 decoder layers'),
    });
    await writeFile(
      broken,
      safetensors(new Map([...tensors].map(([name, values]) => [name, name.includes('down') ? values.slice(0, 512) : values])), 'F32'),
    );
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'BAD_PARAMS' });
    await writeFile(broken, safetensors(tensors, 'F32'));
    await truncate(broken, 1000);
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'BAD_PARAMS' });
    await expect(buildCheckpoint('bloom-tiny', { root, compile: false, weights: file })).rejects.toMatchObject({
      code: 'MISSING_PARAMETER',
    });
  });
});

/** The same layer by our names. */
const ours = ((): Record<string, Float32Array> => {
  const stacked = (...names: string[]): Float32Array =>
    new Float32Array(Uint8Array.from(Buffer.concat(names.map((name) => Buffer.from(tensors.get(name)!.buffer)))).buffer);
  return {
    'layer0.qkv.weight': stacked('self_attn.q_proj.weight', 'self_attn.k_proj.weight', 'self_attn.v_proj.weight'),
    'layer0.o.weight': stacked('self_attn.o_proj.weight'),
    'layer0.gate_up.weight': stacked('mlp.gate_proj.weight', 'mlp.up_proj.weight'),
    'layer0.down.weight': stacked('mlp.down_proj.weight'),
    'layer0.input_norm.gain': stacked('input_layernorm.weight'),
    'layer0.post_attention_norm.gain': stacked('post_attention_layernorm.weight'),
  };
})();

describe('packWeights', () => {
  it.each(kFormats)('%s %o writes the graph.params that the safetensors file gives, from a record or a function', async (weight, more) => {
    const { folder } = await pack(weight, more);
    const path = join(folder, 'graph.params');
    const wanted = await readFile(path);
    await rm(path);
    const phases = new Set<string>();
    await packWeights(folder, ours, { onProgress: ({ phase }) => phases.add(phase) });
    expect(Buffer.compare(await readFile(path), wanted)).toBe(0);
    expect([...phases]).toEqual(['pack']);
    await rm(path);
    const shapes = new Map<string, readonly number[]>();
    await packWeights(folder, async (name, shape) => {
      shapes.set(name, shape);
      return ours[name]!;
    });
    expect(Buffer.compare(await readFile(path), wanted)).toBe(0);
    expect([...shapes.keys()].sort()).toEqual(Object.keys(ours).sort());
    expect(shapes.get('layer0.gate_up.weight')).toEqual([2 * intermediate, hidden]);
    expect((await inspectPrebuilt(folder)).problems).toEqual([]);
  });

  it('refuses what does not fit, and leaves the old graph.params', async () => {
    const { folder } = await pack('int4');
    const old = await readFile(join(folder, 'graph.params'));
    const { 'layer0.o.weight': _, ...without } = ours;
    await expect(packWeights(folder, without)).rejects.toMatchObject({
      code: 'MISSING_PARAMETER',
      message: expect.stringContaining('layer0.o.weight'),
    });
    await expect(packWeights(folder, { ...ours, extra: new Float32Array(1) })).rejects.toMatchObject({
      code: 'UNKNOWN_INPUT',
      message: expect.stringContaining('extra'),
    });
    await expect(packWeights(folder, { ...ours, 'layer0.o.weight': new Float32Array(5) })).rejects.toMatchObject({
      code: 'WRONG_LENGTH',
      message: expect.stringContaining('[512, 512]'),
    });
    await expect(packWeights(folder, { ...ours, 'layer0.o.weight': new Float64Array(5) as unknown as Float32Array })).rejects.toMatchObject(
      { code: 'WRONG_TYPE' },
    );
    await expect(packWeights(folder, { ...ours, 'layer0.input_norm.gain': new Float32Array(hidden).fill(1e6) })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('65504'),
    });
    await expect(
      packWeights(folder, { ...ours, 'layer0.down.weight': ours['layer0.down.weight']!.slice().fill(NaN, 7, 8) }),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('row 0, column 7') });
    await expect(packWeights(folder, 7 as unknown as Record<string, Float32Array>)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(packWeights(folder, ours, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(packWeights(join(root, 'nowhere'), ours)).rejects.toMatchObject({ code: 'NOT_A_CHECKPOINT' });
    expect(Buffer.compare(await readFile(join(folder, 'graph.params')), old)).toBe(0);
  });

  it('packMatrix packs one matrix by itself', async () => {
    const matrix = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? (i % 15) - 7 : ((i % 15) - 7) / 2));
    const { weight, scale } = await packMatrix(matrix, 'int4', { k: 32 });
    expect([weight.length, [...new Uint16Array(scale.buffer)]]).toEqual([32, [0x3c00, 0x3800]]);
    expect(Array.from(weight.subarray(0, 8), (byte) => [byte & 15, byte >> 4]).flat()).toEqual([
      9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 9,
    ]);
    const mx = await packMatrix(matrix, 'mxfp8_e4m3', { k: 32 });
    expect([mx.weight.length, [...mx.scale]]).toEqual([64, [127 + 2 - 8, 127 + 1 - 8]]);
    expect((await packMatrix(matrix, 'fp16', { k: 64 })).scale).toHaveLength(0);
    const bad = (...args: unknown[]): Promise<unknown> => (packMatrix as (...args: unknown[]) => Promise<unknown>)(...args);
    await expect(bad([1], 'int4', { k: 1 })).rejects.toMatchObject({ code: 'WRONG_TYPE' });
    await expect(bad(matrix, 'int5', { k: 32 })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`format`'),
    });
    await expect(bad(matrix, 'int4', {})).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining('`k`') });
    await expect(bad(matrix, 'int4', { k: 33 })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('whole number of rows'),
    });
    await expect(bad(matrix, 'int1', { k: 64, group: 64 })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`group` with int1'),
    });
    await expect(bad(matrix, 'mxfp8_e5m2', { k: 16 })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(bad(matrix, 'int4', { k: 32, layout: [{ axis: 'n', stride: 2, size: 2 }] })).rejects.toMatchObject({
      code: 'BAD_MANIFEST',
    });
  });
});

describe('options of building and tuning', () => {
  const build = buildCheckpoint as (...args: unknown[]) => Promise<unknown>;
  it.each([
    [['llama2-tiny'], '`root`'],
    [['llama2-tiny', { root, batch: '1' }], '`batch`'],
    [['llama2-tiny', { root, weight: 4 }], '`weight`'],
    [['llama2-tiny', { root, format: 'e3m4' }], '`format`'],
    [['llama2-tiny', { root, bits: 4 }], '`bits`'],
    [['llama2-tiny', { root, onProgress: 1 }], '`onProgress`'],
    [['gpt-2', { root }], '`model`'],
    [[undefined, { root }], '`model`'],
  ])('%j is BAD_ARGUMENT', async (args, word) => {
    await expect(build(...args)).rejects.toMatchObject({ code: 'BAD_ARGUMENT', message: expect.stringContaining(word) });
  });

  it('tuning checks its options before it looks for a GPU', async () => {
    const { folder } = await buildCheckpoint('llama2-tiny', { root, compile: false, weight: 'nf4' });
    await expect(tuneCheckpoint(folder, { device: 'cpu' })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`device`'),
    });
    await expect(tuneCheckpoint(folder, { candidates: 0 })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('`candidates`'),
    });
    await expect(tuneCheckpoint(join(root, 'nowhere'))).rejects.toMatchObject({ code: 'NOT_A_CHECKPOINT' });
    await expect(tuneCheckpoint(folder, { device: 'cuda:4000' })).rejects.toMatchObject({
      code: expect.stringMatching(/^NO_(DRIVER|DEVICE)$/),
    });
  });
});

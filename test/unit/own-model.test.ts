// Layers from a model's folder: every family against its published formulas in double precision, what is refused and in which words, damaged
// files, and weights that others quantised.
import { mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseManifest } from '../../lib/artifact/manifest.js';
import { runCli } from '../../lib/cli/main.js';
import { floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { buildCheckpoint, type BuildCheckpointOptions, inspectPrebuilt } from '../../lib/index.js';
import { openFolder } from '../../lib/compiler/pack/folder.js';
import { readModelConfig } from '../../lib/models/index.js';
import { floatLayer, type Json, kConfigs, type Layer, layerPrefix, layerShapes } from '../fixtures/decoders.js';
import { kShards, writeModelFolder } from '../fixtures/huggingface.js';
import { random } from '../fixtures/random.js';
import { type FloatTensor, type StoredTensor, stored, storedSafetensors, withHeader } from '../fixtures/safetensors.js';
import { outputOf } from '../fixtures/outputs.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-own-model-'));
afterAll(() => rm(root, { recursive: true, force: true }));

/** Numbers in (−1, 1) that float16 holds. */
function numbers(seed: number, count: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => halfToFloat(floatToHalf(2 * next() - 1)));
}

/** For comparing many numbers at once, which `toEqual` takes one by one. */
const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Buffer => Buffer.from(buffer, byteOffset, byteLength);

/** A layer's tensors: gains about 1, matrices whose products keep the size of their inputs, biases that matter. */
function layerOf(config: Json, seed: number): Layer {
  return new Map(
    [...layerShapes(config)].map(([name, shape], i): [string, FloatTensor] => {
      const values = numbers(
        seed + i,
        shape.reduce((a, b) => a * b, 1),
      );
      const size = shape.length === 2 ? Math.sqrt(3 / shape[1]!) : name.endsWith('norm.weight') ? 0.3 : 0.5;
      const shift = name.endsWith('norm.weight') ? 1 : 0;
      return [name, { shape, values: values.map((value) => halfToFloat(floatToHalf(shift + size * value))) }];
    }),
  );
}

/** A model's folder with two of its layers. */
async function folderOf(name: string, config: Json, layers: readonly Layer[]): Promise<string> {
  const folder = join(root, 'models', name.replace(/[^\w.]+/g, '-'));
  const tensors = new Map<string, FloatTensor>([['lm_head.weight', { shape: [4, 4], values: numbers(1, 16) }]]);
  layers.forEach((layer, i) => layer.forEach((tensor, own) => tensors.set(`${layerPrefix(config, i)}${own}`, tensor)));
  await writeModelFolder(folder, config, tensors);
  return folder;
}

const build = (folder: string, more: Partial<BuildCheckpointOptions> = {}) =>
  buildCheckpoint(folder, { root: join(root, 'built'), compile: false, ...more });

/** ‖y − expected‖₂ over what the layers add to their input. */
function relative(y: ArrayLike<number>, expected: ArrayLike<number>, x: ArrayLike<number>): number {
  let [error, size] = [0, 0];
  for (let i = 0; i < x.length; ++i) {
    error += (y[i]! - expected[i]!) ** 2;
    size += (expected[i]! - x[i]!) ** 2;
  }
  return Math.sqrt(error / size);
}

const [kBatch, kSeq] = [2, 9];

describe.each(Object.entries(kConfigs))('%s', (name, config) => {
  const layers = [layerOf(config, 100), layerOf(config, 300)];
  const hidden = Number(config['hidden_size']);
  const x = numbers(7, kBatch * kSeq * hidden);
  const rows = Array.from({ length: kBatch * kSeq }, (_, i) => Float64Array.from(x.subarray(i * hidden, (i + 1) * hidden)));
  const flat = (values: readonly Float64Array[]): number[] => values.flatMap((row) => [...row]);

  it('computes the published formulas, to the error of FP16', async () => {
    const folder = await folderOf(name, config, layers);
    const cases = [
      [{}, layers.slice(0, 1), true],
      [{ mask: 'none' }, layers.slice(0, 1), false],
      [{ layer: 1 }, layers.slice(1), true],
      [{ layers: 2 }, layers, true],
    ] as const;
    for (const [more, used, causal] of cases) {
      const built = await build(folder, { batch: kBatch, seq: kSeq, ...more });
      const expected = flat(used.reduce<readonly Float64Array[]>((at, layer) => floatLayer(config, layer, at, kSeq, causal), rows));
      expect(relative(await outputOf(built.folder, x), expected, x), JSON.stringify(more)).toBeLessThan(2e-3);
      const { manifest, problems } = await inspectPrebuilt(built.folder);
      expect(problems).toEqual([]);
      expect(manifest!.mask ?? 'none').toBe(causal ? 'causal' : 'none');
      expect(manifest!.config).toMatchObject({ hidden });
    }
    const one = await build(folder);
    const first = x.subarray(0, hidden);
    const expected = flat(floatLayer(config, layers[0]!, rows.slice(0, 1), 1, true));
    expect(relative(await outputOf(one.folder, first), expected, first)).toBeLessThan(2e-3);
  });

  it('wants every tensor, in its own shape, and no other', async () => {
    for (const own of layers[0]!.keys()) {
      const without = new Map(layers[0]);
      without.delete(own);
      await expect(build(await folderOf('lacking', config, [without])), own).rejects.toMatchObject({
        code: 'MISSING_PARAMETER',
        message: expect.stringContaining(own),
      });
      const { shape, values } = layers[0]!.get(own)!;
      const cut = { shape: [shape[0]! - 1, ...shape.slice(1)], values: values.subarray(0, ((shape[0]! - 1) * values.length) / shape[0]!) };
      await expect(build(await folderOf('cut', config, [new Map(layers[0]).set(own, cut)])), own).rejects.toMatchObject({
        code: 'WRONG_LENGTH',
        message: expect.stringContaining(own),
      });
    }
    const more = new Map(layers[0]).set('self_attn.sinks', { shape: [4], values: numbers(1, 4) });
    await expect(build(await folderOf('more', config, [more]))).rejects.toMatchObject({
      code: 'UNKNOWN_INPUT',
      message: expect.stringContaining('self_attn.sinks'),
    });
  });
});

const llama3 = kConfigs['Llama 3']!;

describe('config.json', () => {
  it.each<[string, Json, string]>([
    ['a sliding window', { ...kConfigs['Mistral'], sliding_window: 4096 }, 'sliding_window'],
    ['the sliding window that Mistral has unsaid', { ...kConfigs['Mistral'], sliding_window: undefined }, 'sliding_window'],
    ['code of its own', { ...llama3, auto_map: {} }, 'auto_map'],
    ['a sliding window of Qwen2', { ...kConfigs['Qwen2'], use_sliding_window: true }, 'use_sliding_window'],
    ['layers of several types', { ...kConfigs['Qwen3'], layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types'],
    ['another family', { ...llama3, model_type: 'gemma2' }, 'model_type'],
    ['experts', { ...llama3, num_local_experts: 8 }, 'num_local_experts'],
    ['a softcap', { ...llama3, attn_logit_softcapping: 50 }, 'attn_logit_softcapping'],
    ['another activation', { ...llama3, hidden_act: 'gelu' }, 'hidden_act'],
    ['another norm', { ...llama3, norm_type: 'layer' }, 'norm_type'],
    ['yarn', { ...llama3, rope_scaling: { rope_type: 'yarn', factor: 4 } }, 'rope_type'],
    ['part of a rotation', { ...llama3, partial_rotary_factor: 0.5 }, 'partial_rotary_factor'],
    ['a residual behind the norm', { ...kConfigs['BLOOM'], apply_residual_connection_post_layernorm: true }, 'apply_residual'],
    ['bitsandbytes', { ...llama3, quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true } }, 'bitsandbytes'],
    ['3 bits', { ...llama3, quantization_config: { quant_method: 'gptq', bits: 3, group_size: 128 } }, 'bits'],
    ['asymmetric GPTQ', { ...llama3, quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128, sym: false } }, 'sym'],
    ['static FP8', { ...llama3, quantization_config: { quant_method: 'fp8', activation_scheme: 'static' } }, 'activation_scheme'],
    ['GPTQ by module', { ...llama3, quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128, dynamic: {} } }, 'dynamic'],
    ['FP8 in blocks', { ...llama3, quantization_config: { quant_method: 'fp8', weight_block_size: [128, 128] } }, 'weight_block_size'],
  ])('with %s is refused by name', (_, config, entry) => {
    expect(() => readModelConfig(JSON.stringify(config), 'config.json')).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringContaining(entry) as string }) as Error,
    );
  });

  it('says what is missing, and takes what transformers 5 writes', () => {
    const { hidden_size: _, ...without } = llama3;
    expect(() => readModelConfig(JSON.stringify(without), 'config.json')).toThrow(/hidden_size/);
    expect(() => readModelConfig('{', 'config.json')).toThrow(/not JSON/);
    const { rope_theta: __, ...newer } = llama3;
    const read = readModelConfig(JSON.stringify({ ...newer, rope_parameters: { rope_type: 'default', rope_theta: 7e5 } }), 'config.json');
    expect(read.config).toMatchObject({ ropeBase: 7e5 });
  });

  it('alone gives the shapes, on the command line', async () => {
    const folder = join(root, 'shapes');
    await writeModelFolder(folder, llama3, new Map());
    const out = join(root, 'from-config');
    const cli = (...args: string[]) => {
      let err = '';
      const io = { write: (text: string) => void (err += text) };
      return runCli(['build', ...args, '--no-compile', '--out', out], { write: () => undefined }, io, new AbortController().signal).then(
        (status) => ({ status, err }),
      );
    };
    expect(await cli('--config', join(folder, 'config.json'), '--weight', 'int4')).toMatchObject({ status: 0 });
    const manifest = parseManifest(
      await readFile(join(out, 'shapes/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_causal_async/checkpoint.json'), 'utf8'),
    );
    expect(manifest).toMatchObject({
      model: 'shapes',
      mask: 'causal',
      config: { family: 'llama', heads: 4, kvHeads: 2, ropeBase: 500000 },
    });
    expect(manifest.files['graph.params']).toBeUndefined();
    expect((await cli('--config', join(folder, 'config.json'), 'llama2-tiny')).status).not.toBe(0);
    expect((await cli('llama2-tiny', '--layer', '1')).err).toContain('--layer');
    expect((await cli(folder, '--layer', '3')).err).toContain('from 0 to 2');
    expect((await cli(folder)).err).toContain('no decoder layer 0');
  });
});

describe('damaged or other files', () => {
  const layer = layerOf(llama3, 100);
  const prefix = layerPrefix(llama3, 0);
  const single = async (name: string, file: Buffer | null, as = 'model.safetensors'): Promise<string> => {
    const folder = join(root, 'single', name);
    await writeModelFolder(folder, llama3, new Map());
    for (const own of [...kShards, 'model.safetensors.index.json']) await unlink(join(folder, own));
    if (file) await writeFile(join(folder, as), file);
    return folder;
  };
  const entry = (begin: number, end: number) => ({ dtype: 'F16', shape: [(end - begin) / 2], data_offsets: [begin, end] });
  const fileOf = (header: string, bytes: number): Buffer => withHeader(header, new Uint8Array(bytes));

  it.each<[string, Buffer, string]>([
    ['overlap', fileOf(JSON.stringify({ a: entry(0, 8), b: entry(4, 12) }), 12), 'overlaps'],
    ['hole', fileOf(JSON.stringify({ a: entry(0, 4), b: entry(8, 12) }), 12), 'belong to none'],
    ['tail', fileOf(JSON.stringify({ a: entry(0, 4) }), 12), '8 bytes behind tensor a'],
    ['twice', fileOf(`{"a":${JSON.stringify(entry(0, 4))},"a":${JSON.stringify(entry(0, 4))}}`, 4), 'there twice'],
    ['pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n'), 'git lfs pull'],
  ])('%s', async (name, file, message) => {
    await expect(build(await single(name, file))).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringContaining(message) });
  });

  it('names other kinds of files, several without an index, and none', async () => {
    await expect(build(await single('bin', Buffer.of(0), 'pytorch_model.bin'))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(build(await single('gguf', Buffer.of(0), 'model.gguf'))).rejects.toThrow(/GGUF/);
    const several = await single('several', Buffer.of(0), 'a.safetensors');
    await writeFile(join(several, 'b.safetensors'), Buffer.of(0));
    await expect(build(several)).rejects.toThrow(/index/);
    await expect(build(await single('none', null))).rejects.toThrow(/no safetensors file/);
    await expect(build(join(root, 'nowhere/'))).rejects.toThrow(/there is no/);
    await expect(build(join(root, 'a.gguf'))).rejects.toThrow(/GGUF/);
  });

  it('finds a missing shard, an index that does not fit, and layers under two prefixes', async () => {
    const missing = await folderOf('missing-shard', llama3, [layer]);
    await unlink(join(missing, kShards[1]!));
    await expect(build(missing)).rejects.toMatchObject({ code: 'MISSING_PARAMETER', message: expect.stringContaining(kShards[1]!) });
    const odd = await folderOf('odd-index', llama3, [layer]);
    const index = join(odd, 'model.safetensors.index.json');
    const map = JSON.parse(await readFile(index, 'utf8')) as { weight_map: Record<string, string> };
    await writeFile(index, JSON.stringify({ weight_map: { ...map.weight_map, [`${prefix}x`]: kShards[0] } }));
    await expect(build(odd)).rejects.toThrow(/does not hold/);
    delete map.weight_map[`${prefix}mlp.up_proj.weight`];
    await writeFile(index, JSON.stringify(map));
    await expect(build(odd)).rejects.toThrow(/nowhere by the index/);
    const twice = new Map(
      [...layer].flatMap(([name, tensor]) => [prefix, `other.layers.0.`].map((one) => [`${one}${name}`, stored(tensor, 'F16')])),
    );
    await expect(build(await single('prefixes', storedSafetensors(twice as Map<string, StoredTensor>)))).rejects.toThrow(/more than once/);
  });
});

describe('weights that others quantised', () => {
  const config: Json = { ...llama3, hidden_size: 256, intermediate_size: 256, num_key_value_heads: 4 };
  const kGroup = 128;
  const layer = layerOf(config, 100);
  const words = (list: readonly number[], shape: readonly number[]): StoredTensor => ({
    dtype: 'I32',
    shape,
    bytes: new Uint8Array(Int32Array.from(list).buffer),
  });
  const packed = (codes: readonly number[]): number => codes.reduce((word, code, i) => word | (code << (4 * i)), 0);
  const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

  /** Codes and scales of a matrix as a method's files have them, and the values by its formula. */
  function quantised(method: 'gptq' | 'awq', n: number, k: number, seed: number, zero = 8, order = (column: number): number => column) {
    const next = random(seed);
    const codes = range(n * k).map(() => Math.floor(16 * next()));
    const groups = k / kGroup;
    const scales = Float32Array.from({ length: groups * n }, () => halfToFloat(floatToHalf(0.002 + 0.01 * next())));
    const code = (row: number, column: number): number => codes[row * k + column]!;
    const values = Float32Array.from(
      { length: n * k },
      (_, i) => (codes[i]! - zero) * scales[Math.floor(order(i % k) / kGroup) * n + Math.floor(i / k)]!,
    );
    const places = [0, 2, 4, 6, 1, 3, 5, 7];
    const parts: Record<string, StoredTensor> =
      method === 'gptq'
        ? {
            qweight: words(
              range((k / 8) * n).map((i) => packed(range(8).map((j) => code(i % n, 8 * Math.floor(i / n) + j)))),
              [k / 8, n],
            ),
            qzeros: words(
              range((groups * n) / 8).map(() => packed(range(8).map(() => zero - 1))),
              [groups, n / 8],
            ),
            g_idx: words(
              range(k).map((column) => Math.floor(order(column) / kGroup)),
              [k],
            ),
          }
        : {
            qweight: words(
              range((k * n) / 8).map((i) => packed(places.map((place) => code(8 * (i % (n / 8)) + place, Math.floor(i / (n / 8)))))),
              [k, n / 8],
            ),
            qzeros: words(
              range((groups * n) / 8).map(() => packed(range(8).map(() => zero))),
              [groups, n / 8],
            ),
          };
    return { values, parts: { ...parts, scales: stored({ shape: [groups, n], values: scales }, 'F16') } };
  }

  async function quantisedFolder(name: string, method: 'gptq' | 'awq', zero = 8, order?: (column: number) => number) {
    const values = new Map<string, FloatTensor>();
    const tensors = new Map<string, FloatTensor | StoredTensor>();
    [...layer].forEach(([own, tensor], i) => {
      const [n, k] = tensor.shape as [number, number | undefined];
      if (k === undefined) {
        values.set(own, tensor);
        tensors.set(`model.layers.0.${own}`, tensor);
        return;
      }
      const { values: numbers, parts } = quantised(method, n, k, 40 + i, zero, order);
      values.set(own, { shape: tensor.shape, values: numbers });
      for (const [part, one] of Object.entries(parts)) tensors.set(`model.layers.0.${own.replace(/weight$/, part)}`, one);
    });
    const folder = join(root, 'quantised', name);
    const quantization = {
      quant_method: method,
      bits: 4,
      group_size: kGroup,
      ...(method === 'gptq' ? { sym: true } : { version: 'gemm' }),
    };
    await writeModelFolder(folder, { ...config, quantization_config: quantization }, tensors);
    return { folder, values };
  }

  it.each(['gptq', 'awq'] as const)('%s gives the values of its formula, and a layer that computes with them', async (method) => {
    const { folder, values } = await quantisedFolder(method, method);
    const file = openFolder(folder, 0, 1, { method, weight: 'int4', group: kGroup });
    for (const [own, tensor] of values) {
      const read = await file.read(`model.layers.0.${own}`);
      expect(bytesOf('scales' in read ? read.values : read).equals(bytesOf(tensor.values)), own).toBe(true);
    }
    file.close();
    const built = await build(folder, { seq: 5 });
    const x = numbers(5, 5 * 256);
    const rows = range(5).map((i) => Float64Array.from(x.subarray(256 * i, 256 * (i + 1))));
    const expected = floatLayer(config, values, rows, 5, true).flatMap((row) => [...row]);
    expect(relative(await outputOf(built.folder, x), expected, x)).toBeLessThan(2e-3);
    await expect(build(folder, { weight: 'nf4' })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining(method),
    });
  });

  it('refuses zero points and orders of columns that INT4 does not have', async () => {
    for (const method of ['gptq', 'awq'] as const)
      await expect(build((await quantisedFolder(`${method}-zero`, method, 7)).folder)).rejects.toThrow(/asymmetric/);
    const { folder } = await quantisedFolder('gptq-order', 'gptq', 8, (column) => (column + 1) % 256);
    await expect(build(folder)).rejects.toThrow(/g_idx/);
  });

  it('FP8 keeps its codes', async () => {
    const e4m3 = (code: number): number => {
      const [exponent, mantissa] = [(code >> 3) & 15, code & 7];
      return (code & 128 ? -1 : 1) * (exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7));
    };
    const values = new Map<string, FloatTensor>();
    const tensors = new Map<string, FloatTensor | StoredTensor>();
    [...layer].forEach(([own, tensor], i) => {
      const name = `model.layers.0.${own}`;
      values.set(own, tensor);
      tensors.set(name, tensor);
      if (tensor.shape.length === 1) return;
      const next = random(80 + i);
      // Without NaN.
      const bytes = Uint8Array.from(tensor.values, () => (Math.floor(127 * next()) | (next() < 0.5 ? 128 : 0)) & 0xff);
      const scale = halfToFloat(floatToHalf(0.0005 + 0.0005 * next()));
      values.set(own, { shape: tensor.shape, values: Float32Array.from(bytes, (code) => e4m3(code) * scale) });
      tensors.set(name, { dtype: 'F8_E4M3', shape: tensor.shape, bytes });
      tensors.set(`${name}_scale`, stored({ shape: [1], values: Float32Array.of(scale) }, 'F32'));
    });
    const folder = join(root, 'quantised', 'fp8');
    await writeModelFolder(folder, { ...config, quantization_config: { quant_method: 'fp8', activation_scheme: 'dynamic' } }, tensors);
    const file = openFolder(folder, 0, 1, { method: 'fp8', weight: 'fp8_e4m3', group: -1 });
    for (const [own, tensor] of values) {
      const read = await file.read(`model.layers.0.${own}`);
      expect(bytesOf('scales' in read ? read.values : read).equals(bytesOf(tensor.values)), own).toBe(true);
    }
    file.close();
    const built = await build(folder);
    // Its activations are FP8, too.
    const x = numbers(5, 256);
    const expected = floatLayer(config, values, [Float64Array.from(x)], 1, true).flatMap((row) => [...row]);
    expect(relative(await outputOf(built.folder, x), expected, x)).toBeLessThan(0.1);
  });
});

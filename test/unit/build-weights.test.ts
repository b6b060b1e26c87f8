// Real weights: a small Llama layer in a safetensors file, packed in every format, run on the CPU, and compared with the
// float layer; the error must be what the format implies.
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCheckpoint } from '../../lib/build/build.js';
import { floatToHalf } from '../../lib/build/formats.js';
import { kLlama2Tiny } from '../../lib/build/models/llama.js';
import { parseRequest } from '../../lib/build/request.js';
import { loadPrebuilt } from '../../lib/index.js';

const { hidden, heads, kvHeads, headDim, intermediate, eps } = kLlama2Tiny;
const kShapes: Readonly<Record<string, readonly number[]>> = {
  'self_attn.q_proj.weight': [heads * headDim, hidden], 'self_attn.k_proj.weight': [kvHeads * headDim, hidden], 'self_attn.v_proj.weight': [kvHeads * headDim, hidden],
  'self_attn.o_proj.weight': [hidden, heads * headDim], 'mlp.gate_proj.weight': [intermediate, hidden], 'mlp.up_proj.weight': [intermediate, hidden],
  'mlp.down_proj.weight': [hidden, intermediate], 'input_layernorm.weight': [hidden], 'post_attention_layernorm.weight': [hidden],
};

/** Seeded uniform numbers in (−1, 1). */
function uniform(seed: number, count: number): Float32Array {
  let state = seed >>> 0 || 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13; state >>>= 0; state ^= state >>> 17; state ^= state << 5; state >>>= 0;
    return state / 2 ** 31 - 1;
  });
}

type Tensors = Map<string, Float32Array>;
const tensors: Tensors = new Map(Object.entries(kShapes).map(([name, shape], i) => {
  const values = uniform(100 + i, shape.reduce((a, b) => a * b, 1));
  // Gains about 1, matrices with a mean square of 1/k.
  return [name, shape.length === 1 ? values.map((v) => 1 + 0.2 * v) : values.map((v) => v * Math.sqrt(3 / shape[1]!))];
}));

function safetensors(parts: Tensors, type: 'F32' | 'F16'): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  const data: Buffer[] = [];
  let at = 0;
  for (const [name, values] of parts) {
    const bytes = type === 'F32' ? Buffer.from(values.buffer) : Buffer.from(Uint16Array.from(values, floatToHalf).buffer);
    header[`model.layers.7.${name}`] = { dtype: type, shape: kShapes[name], data_offsets: [at, at + bytes.length] };
    data.push(bytes);
    at += bytes.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...data]);
}

/** The decoder layer in double precision for one token: with one token, attention hands every head its v. */
function floatLayer(x: Float32Array): Float64Array {
  const t = (name: string): Float32Array => tensors.get(name)!;
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
  const attended = Float64Array.from({ length: heads * headDim }, (_, i) => v[Math.floor(i / headDim / (heads / kvHeads)) * headDim + (i % headDim)]!);
  const middle = product('self_attn.o_proj.weight', attended).map((value, i) => value + start[i]!);
  const h = norm('post_attention_layernorm.weight', middle);
  const gate = product('mlp.gate_proj.weight', h);
  const up = product('mlp.up_proj.weight', h);
  return product('mlp.down_proj.weight', gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!)).map((value, i) => value + middle[i]!);
}

const root = await mkdtemp(join(tmpdir(), 'ladder-weights-'));
const file = join(root, 'layer.safetensors');
beforeAll(() => writeFile(file, safetensors(tensors, 'F32')));
afterAll(() => rm(root, { recursive: true, force: true }));

const pack = (weight: string, more: object = {}, weights = file) =>
  buildCheckpoint(parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight, ...more }), { root, compile: false, weights });

/**
 * Relative rounding noise of uniform weights in each format (rms of the error over rms of the weights), activations included:
 * INT4: a step is amax/7, so (1/7)/√12 over 1/√3; NF4's widest gaps are near ±1; FP8: 2⁻³/√3 (E5M2), half of it for E4M3;
 * INT1 keeps the sign: √(1 − 3/4). What the layer adds to its input passes four products: twice a product's noise, and
 * half as much again because these are samples.
 */
const noise: Readonly<Record<string, number>> = { fp16: 5e-4, int4: 0.0714, nf4: 0.11, fp8: 0.1, mxfp8: 0.1, int1: 0.5 };

describe('packed weights of a safetensors file', () => {
  const x = uniform(1, hidden).map((v) => v * 1.5);

  it.each([
    ['fp16', {}], ['int4', {}], ['int4', { group: 128 }], ['nf4', {}], ['fp8', {}], ['fp8', { format: 'e4m3' }], ['mxfp8', {}], ['mxfp8', { format: 'e4m3' }], ['int1', {}],
  ] as const)('%s %o computes the float layer, up to the error of the format', async (weight, more) => {
    const { folder } = await pack(weight, more);
    const prebuilt = await loadPrebuilt(folder, { device: 'cpu' });
    try {
      await prebuilt.setInput('x', x);
      await prebuilt.run();
      const y = (await prebuilt.getOutput(0, { as: 'float32' })) as Float32Array;
      const expected = floatLayer(Float32Array.from(x));
      let error = 0;
      let size = 0;
      expected.forEach((value, i) => {
        error += (y[i]! - value) ** 2;
        size += (value - x[i]!) ** 2;
      });
      const relative = Math.sqrt(error / size);
      expect(relative <= 3 * noise[weight]!, `${weight}: ${relative}`).toBe(true);
      // A layout that mixed rows up would be far from the float layer; coarse formats are far from exact.
      if (weight !== 'fp16') expect(relative).toBeGreaterThan(noise[weight]! / 10);
    } finally {
      await prebuilt.dispose();
    }
  });

  it('takes half-precision files too', async () => {
    const half = join(root, 'half.safetensors');
    await writeFile(half, safetensors(tensors, 'F16'));
    await expect(pack('int4', {}, half)).resolves.toMatchObject({ compiled: false });
  });

  it('names a missing tensor, a wrong shape, a damaged file, a missing layer and a model without such names', async () => {
    const broken = join(root, 'broken.safetensors');
    const without = new Map(tensors);
    without.delete('self_attn.k_proj.weight');
    await writeFile(broken, safetensors(without, 'F32'));
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'MISSING_PARAMETER', message: expect.stringContaining('k_proj') });
    await expect(pack('fp16', { layers: 2 })).rejects.toMatchObject({ code: 'MISSING_PARAMETER', message: expect.stringContaining('1 decoder layers') });
    await writeFile(broken, safetensors(new Map([...tensors].map(([name, values]) => [name, name.includes('down') ? values.slice(0, 512) : values])), 'F32'));
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'BAD_PARAMS' });
    await writeFile(broken, safetensors(tensors, 'F32'));
    await truncate(broken, 1000);
    await expect(pack('fp16', {}, broken)).rejects.toMatchObject({ code: 'BAD_PARAMS' });
    const bloom = parseRequest({ model: 'bloom-tiny', batch: 1, seq: 1, weight: 'fp16' });
    await expect(buildCheckpoint(bloom, { root, compile: false, weights: file })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

/**
 * Real weights: decoder layers of a Llama model in a safetensors file (Hugging Face's names) → graph.params of a checkpoint,
 * quantised and stored as its kernels read them.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDataType } from '../artifact/dtype.js';
import { type ParamInput, writeParams } from '../artifact/params.js';
import { LadderError } from '../errors.js';
import type { CheckpointDesign } from './design.js';
import { floatToHalf } from './formats.js';
import type { LoweredTensor } from './lower.js';
import { type PackedWeights, packWeights } from './pack.js';
import { Safetensors } from './safetensors.js';

/** Our tensors, by the end of their name, from Hugging Face's, whose rows are put one below the other. */
const kSources: Readonly<Record<string, readonly string[]>> = {
  'qkv.weight': ['self_attn.q_proj.weight', 'self_attn.k_proj.weight', 'self_attn.v_proj.weight'],
  'o.weight': ['self_attn.o_proj.weight'],
  'gate_up.weight': ['mlp.gate_proj.weight', 'mlp.up_proj.weight'],
  'down.weight': ['mlp.down_proj.weight'],
  'input_norm.gain': ['input_layernorm.weight'],
  'post_attention_norm.gain': ['post_attention_layernorm.weight'],
};

/**
 * Packs the weights of `path` into graph.params of the checkpoint's folder. The file's layers are taken in ascending order.
 * @throws LadderError `UNSUPPORTED` for a model without such names, `MISSING_PARAMETER`, `WRONG_LENGTH` for another shape,
 *   `BAD_PARAMS` for a damaged file, `BAD_ARGUMENT` for weights that the format cannot hold, `IO`
 */
export async function packSafetensors(path: string, design: CheckpointDesign, folder: string): Promise<void> {
  if (!design.request.model.startsWith('llama2-')) {
    throw new LadderError('UNSUPPORTED', `weights can be packed for the llama2 models, whose tensor names are known, not for ${design.request.model}`);
  }
  const file = new Safetensors(path);
  try {
    const source = new LlamaFile(file, path, design.request.layers);
    await mkdir(folder, { recursive: true });
    await writeParams(join(folder, 'graph.params'), [...paramsOf(design, source)]);
  } finally {
    file.close();
  }
}

class LlamaFile {
  private readonly layers: readonly number[];

  constructor(private readonly file: Safetensors, private readonly path: string, wanted: number) {
    const found = new Set<number>();
    for (const name of file.shapes.keys()) {
      const layer = /(?:^|\.)layers\.(\d+)\./.exec(name)?.[1];
      if (layer !== undefined) found.add(Number(layer));
    }
    this.layers = [...found].sort((a, b) => a - b);
    if (this.layers.length < wanted) {
      throw new LadderError('MISSING_PARAMETER', `${path} holds ${this.layers.length} decoder layers (names such as model.layers.0.self_attn.q_proj.weight) where ${wanted} are to be built`, { path });
    }
  }

  /** The rows behind one of our tensors, [elements / width, width]. */
  read(tensor: string, width: number, elements: number): Float32Array {
    const [, layer, kind] = /^layer(\d+)\.(.+)$/.exec(tensor) ?? [];
    const sources = kSources[kind ?? ''];
    if (!sources) throw new LadderError('INTERNAL', `no source is known for ${tensor}`);
    const parts = sources.map((suffix) => {
      const name = [...this.file.shapes.keys()].find((candidate) => candidate.endsWith(`layers.${this.layers[Number(layer)]!}.${suffix}`));
      if (name === undefined) throw new LadderError('MISSING_PARAMETER', `${this.path} has no layers.${this.layers[Number(layer)]!}.${suffix}`, { path: this.path });
      const shape = this.file.shapes.get(name)!;
      if (shape.at(-1) !== width) throw new LadderError('WRONG_LENGTH', `${name} has shape [${shape.join(', ')}] where rows of ${width} are expected`, { name });
      return this.file.read(name);
    });
    const total = parts.reduce((sum, { length }) => sum + length, 0);
    if (total !== elements) throw new LadderError('WRONG_LENGTH', `${sources.join(' + ')} hold ${total} weights where ${tensor} has ${elements}`, { tensor });
    if (parts.length === 1) return parts[0]!;
    const rows = new Float32Array(total);
    let at = 0;
    for (const part of parts) {
      rows.set(part, at);
      at += part.length;
    }
    return rows;
  }
}

/** One input of writeParams per parameter; a matrix and its scales are packed together, when the first of them is written. */
function* paramsOf({ model, request }: CheckpointDesign, source: LlamaFile): Generator<ParamInput> {
  const packed = new Map<string, PackedWeights>();
  const matrixOf = (weight: LoweredTensor, scaleLayout: LoweredTensor['layout']): PackedWeights => {
    const known = packed.get(weight.name);
    if (known) return known;
    const [n, k] = weight.logicalShape as [number, number];
    const { weight: format, group } = request.format;
    const result = packWeights(source.read(weight.name, k, n * k), format, { group, layout: weight.layout!, scaleLayout: scaleLayout ?? null });
    packed.clear();
    packed.set(weight.name, result);
    return result;
  };
  for (const tensor of model.tensors) {
    const { name, role, shape, dtype } = tensor;
    if (role === 'input') continue;
    const input = { name, shape, dtype: parseDataType(dtype) };
    if (role === 'weight') {
      const scaleLayout = model.tensors.find((other) => other.name === name.replace(/weight$/, 'scale'))?.layout;
      yield { ...input, chunks: lazily(() => matrixOf(tensor, scaleLayout).weight) };
    } else if (role === 'scale') {
      const weight = model.tensors.find((other) => other.name === name.replace(/scale$/, 'weight'))!;
      yield { ...input, chunks: lazily(() => matrixOf(weight, tensor.layout).scale) };
    } else {
      yield { ...input, chunks: lazily(() => new Uint8Array(Uint16Array.from(source.read(name, shape[0]!, shape[0]!), floatToHalf).buffer)) };
    }
  }
}

function* lazily(produce: () => Uint8Array): Generator<Uint8Array> {
  yield produce();
}

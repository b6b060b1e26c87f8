/**
 * Real weights → graph.params of a checkpoint, quantised and stored as its kernels read them: float matrices by our names,
 * or decoder layers of a Llama model in a safetensors file (Hugging Face's names).
 */
import { join } from 'node:path';
import { parseDataType } from '../artifact/dtype.js';
import { type ParamInput, writeParams } from '../artifact/params.js';
import { LadderError } from '../errors.js';
import { describeValue, throwIfAborted, type TaskOptions } from '../run/options.js';
import type { CheckpointDesign } from './design.js';
import { floatToHalf } from './formats.js';
import type { LoweredTensor } from './lower.js';
import { type PackedWeights, packMatrixInSlices } from './pack.js';
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
 * Float values of one parameter: a matrix [n, k] row by row, or a vector.
 * @param name our name, e.g. `layer0.qkv.weight`
 */
export type FloatSource = (name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>;

/**
 * Packs float parameters into graph.params of the checkpoint's folder. `source` is asked for one at a time.
 * @throws LadderError `WRONG_TYPE`, `WRONG_LENGTH`, `BAD_ARGUMENT` for weights that the format cannot hold, `IO`, `ABORTED`; what `source` throws
 */
export async function packFloats(source: FloatSource, design: CheckpointDesign, folder: string, task: TaskOptions = {}): Promise<void> {
  await writeParams(join(folder, 'graph.params'), [...paramsOf(design, source, task)]);
}

/**
 * The same from the safetensors file `path`, whose layers are taken in ascending order.
 * @throws LadderError also `UNSUPPORTED` for a model without such names, `MISSING_PARAMETER`, `BAD_PARAMS` for a damaged file
 */
export async function packSafetensors(path: string, design: CheckpointDesign, folder: string, task: TaskOptions = {}): Promise<void> {
  if (!design.request.model.startsWith('llama2-')) {
    throw new LadderError('UNSUPPORTED', `weights can be packed for the llama2 models, whose tensor names are known, not for ${design.request.model}`);
  }
  const file = new Safetensors(path);
  try {
    const source = new LlamaFile(file, path, design.request.layers);
    await packFloats((name, shape) => source.read(name, shape), design, folder, task);
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

  /** The rows behind one of our tensors. */
  async read(tensor: string, shape: readonly number[]): Promise<Float32Array> {
    const width = shape.at(-1)!;
    const elements = shape.reduce((product, extent) => product * extent, 1);
    const [, layer, kind] = /^layer(\d+)\.(.+)$/.exec(tensor) ?? [];
    const sources = kSources[kind ?? ''];
    if (!sources) throw new LadderError('INTERNAL', `no source is known for ${tensor}`);
    const parts: Float32Array[] = [];
    for (const suffix of sources) {
      const name = [...this.file.shapes.keys()].find((candidate) => candidate.endsWith(`layers.${this.layers[Number(layer)]!}.${suffix}`));
      if (name === undefined) throw new LadderError('MISSING_PARAMETER', `${this.path} has no layers.${this.layers[Number(layer)]!}.${suffix}`, { path: this.path });
      const found = this.file.shapes.get(name)!;
      if (found.at(-1) !== width) throw new LadderError('WRONG_LENGTH', `${name} has shape [${found.join(', ')}] where rows of ${width} are expected`, { name });
      parts.push(await this.file.read(name));
    }
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
function* paramsOf({ model, request }: CheckpointDesign, source: FloatSource, { signal, onProgress }: TaskOptions): Generator<ParamInput> {
  const parameters = model.tensors.filter(({ role }) => role !== 'input');
  const weightOf = (scale: LoweredTensor): LoweredTensor => parameters.find(({ name }) => name === scale.name.replace(/scale$/, 'weight'))!;
  const scaleLayoutOf = (weight: LoweredTensor): LoweredTensor['layout'] | null => parameters.find(({ name }) => name === weight.name.replace(/weight$/, 'scale'))?.layout ?? null;
  const read = async ({ name }: LoweredTensor, shape: readonly number[]): Promise<Float32Array> => {
    throwIfAborted(signal);
    onProgress?.({ phase: 'pack', fraction: parameters.findIndex((one) => one.name === name) / parameters.length, detail: name });
    const values = await source(name, shape);
    if (!(values instanceof Float32Array)) throw new LadderError('WRONG_TYPE', `expected a Float32Array for \`${name}\` but received ${describeValue(values)}`, { name });
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (values.length !== elements) throw new LadderError('WRONG_LENGTH', `expected [${shape.join(', ')}], ${elements} values, for \`${name}\` but received ${values.length}`, { name });
    return values;
  };
  let latest: { name: string; packed: PackedWeights } | null = null;
  const matrixOf = async (weight: LoweredTensor): Promise<PackedWeights> => {
    if (latest?.name !== weight.name) {
      const { weight: format, group } = request.format;
      const values = await read(weight, weight.logicalShape!);
      latest = { name: weight.name, packed: await packMatrixInSlices(values, format, { group, layout: weight.layout!, scaleLayout: scaleLayoutOf(weight) ?? null }, signal) };
    }
    return latest.packed;
  };
  const vectorOf = async (tensor: LoweredTensor): Promise<Uint8Array> => {
    const halves = Uint16Array.from(await read(tensor, tensor.shape), floatToHalf);
    const odd = halves.findIndex((code) => (code & 0x7c00) === 0x7c00);
    if (odd >= 0) throw new LadderError('BAD_ARGUMENT', `expected finite values of at most 65504 for \`${tensor.name}\`, which is float16; element ${odd} is not`, { name: tensor.name });
    return new Uint8Array(halves.buffer);
  };
  for (const tensor of parameters) {
    const { name, role, shape, dtype } = tensor;
    const bytes = async (): Promise<Uint8Array> => (role === 'weight' ? (await matrixOf(tensor)).weight : role === 'scale' ? (await matrixOf(weightOf(tensor))).scale : vectorOf(tensor));
    yield { name, shape, dtype: parseDataType(dtype), chunks: lazily(bytes) };
  }
}

async function* lazily(produce: () => Promise<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield await produce();
}

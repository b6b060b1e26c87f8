/**
 * Parameters out of a public file of weights, as the models say where they lie (lib/models/source.ts): found by name before anything
 * is read, batch norms taken into the convolutions before them. A layer's file may hold a whole model, of which the first layers are
 * taken; a network's holds the network and nothing else.
 */
import { listNames } from '../../artifact/checks.js';
import { LadderError } from '../../errors.js';
import type { Model } from '../../models/index.js';
import { type ConvolutionSource, kBatchNormEps, kNormParts, type Source, sourceNames } from '../../models/source.js';
import type { Safetensors } from './safetensors.js';

/** A model that says where its parameters lie. */
export type PublishedModel = Model & { readonly source: NonNullable<Model['source']> };

/** The parameters of a model in a file. */
export class PublishedWeights {
  /** What a tensor is called in the file; undefined: it is not there. */
  private readonly nameOf: (name: string) => string | undefined;

  /**
   * @param tensors names of the model's parameters
   * @throws LadderError `MISSING_PARAMETER` with all names that the file lacks, `UNKNOWN_INPUT` with those that a network has no use for
   */
  constructor(
    private readonly file: Safetensors,
    path: string,
    private readonly model: PublishedModel,
    tensors: readonly string[],
    layers: number,
  ) {
    this.nameOf = model.kind === 'layer' ? layerNames(file, path, layers) : (name) => (file.shapes.has(name) ? name : undefined);
    const names = tensors.map((tensor) => sourceNames(model.source(tensor)));
    const wanted = names.flatMap((one) => one.wanted);
    const missing = [...new Set(wanted)].filter((name) => this.nameOf(name) === undefined);
    if (missing.length > 0) throw new LadderError('MISSING_PARAMETER', `${path} has no ${listNames(missing)}`, { path, tensors: missing });
    if (model.kind === 'layer') return;
    const known = new Set([...wanted, ...names.flatMap((one) => one.unused)]);
    const odd = [...file.shapes.keys()].filter((name) => !known.has(name));
    if (odd.length > 0)
      throw new LadderError('UNKNOWN_INPUT', `${path} holds ${listNames(odd)}, which ${model.id} has no parameter for`, {
        path,
        tensors: odd,
      });
  }

  /** The numbers of one of our tensors. @throws LadderError `WRONG_LENGTH` naming a tensor of another shape; what reading throws */
  async read(tensor: string, shape: readonly number[]): Promise<Float32Array> {
    const source = this.model.source(tensor);
    if ('tensor' in source) return this.matrix(source.tensor, shape);
    if ('stack' in source) return this.stack(tensor, source.stack, shape);
    return this.convolution(source, shape);
  }

  /** A tensor of `shape`, or of one that reads the same: axes of 1 before it, its last axis in several. */
  private async matrix(name: string, shape: readonly number[]): Promise<Float32Array> {
    const [found, theirs] = this.found(name);
    const own = [...found];
    while (own.length > shape.length && own[0] === 1) own.shift();
    if (own[0] !== shape[0] || product(own) !== product(shape))
      throw new LadderError('WRONG_LENGTH', `${theirs} has shape [${found.join(', ')}] where [${shape.join(', ')}] is expected`, {
        name: theirs,
      });
    return this.file.read(theirs);
  }

  private async stack(tensor: string, names: readonly string[], shape: readonly number[]): Promise<Float32Array> {
    const width = shape.at(-1)!;
    const parts: Float32Array[] = [];
    for (const name of names) {
      const [found, own] = this.found(name);
      if (found.at(-1) !== width)
        throw new LadderError('WRONG_LENGTH', `${own} has shape [${found.join(', ')}] where rows of ${width} are expected`, { name: own });
      parts.push(await this.file.read(own));
    }
    const total = parts.reduce((sum, { length }) => sum + length, 0);
    if (total !== product(shape))
      throw new LadderError('WRONG_LENGTH', `${names.join(' + ')} hold ${total} weights where ${tensor} has ${product(shape)}`, { tensor });
    const rows = new Float32Array(total);
    let at = 0;
    for (const part of parts) {
      rows.set(part, at);
      at += part.length;
    }
    return rows;
  }

  private async convolution(
    { convolution, part }: Extract<Source, { convolution: unknown }>,
    shape: readonly number[],
  ): Promise<Float32Array> {
    const n = shape[0]!;
    const norm = await this.norm(convolution, n);
    if (part === 'weight') {
      const [found] = this.found(convolution.weight);
      const rows = channelsLast(await this.matrix(convolution.weight, shape), found);
      return rows.map((value, i) => value * norm[Math.floor((i * n) / rows.length)]!.factor);
    }
    const bias = convolution.bias === undefined ? new Float32Array(n) : await this.matrix(convolution.bias, [n]);
    return bias.map((value, i) => value * norm[i]!.factor + norm[i]!.shift);
  }

  /** What the norm behind a convolution does with each channel: x·factor + shift. */
  private async norm({ norm }: ConvolutionSource, n: number): Promise<readonly { factor: number; shift: number }[]> {
    if (norm === undefined) return Array.from({ length: n }, () => ({ factor: 1, shift: 0 }));
    const [gamma, beta, mean, variance] = await Promise.all(kNormParts.map((one) => this.matrix(`${norm}.${one}`, [n])));
    return Array.from(gamma!, (scale, i) => {
      const factor = scale / Math.sqrt(variance![i]! + kBatchNormEps);
      return { factor, shift: beta![i]! - mean![i]! * factor };
    });
  }

  /** Shape and name in the file of a tensor that is there. */
  private found(name: string): readonly [shape: readonly number[], name: string] {
    const own = this.nameOf(name)!;
    return [this.file.shapes.get(own)!, own];
  }
}

/** [n, channels, kernel …] as [n, kernel …, channels]. */
function channelsLast(weights: Float32Array, [n = 1, channels = 1, ...kernel]: readonly number[]): Float32Array {
  const taps = product(kernel);
  const rows = new Float32Array(weights.length);
  for (let row = 0; row < n; ++row)
    for (let channel = 0; channel < channels; ++channel)
      for (let tap = 0; tap < taps; ++tap)
        rows[(row * taps + tap) * channels + channel] = weights[(row * channels + channel) * taps + tap]!;
  return rows;
}

/**
 * Names of decoder layers in a file: `layers.<i>.…` is the i-th of those that are there, whatever stands before.
 * @throws LadderError `MISSING_PARAMETER` where there are fewer layers than are to be built
 */
function layerNames(file: Safetensors, path: string, wanted: number): (name: string) => string | undefined {
  const names = [...file.shapes.keys()];
  const found = new Set(names.flatMap((name) => /(?:^|\.)layers\.(\d+)\./.exec(name)?.[1] ?? []).map(Number));
  const layers = [...found].sort((a, b) => a - b);
  if (layers.length < wanted)
    throw new LadderError(
      'MISSING_PARAMETER',
      `${path} holds ${layers.length} decoder layers (names such as model.layers.0.self_attn.q_proj.weight) where ${wanted} are to be built`,
      { path },
    );
  return (name) => {
    const [, layer, rest] = /^layers\.(\d+)\.(.+)$/.exec(name) ?? [];
    const own = `layers.${layers[Number(layer)]!}.${rest!}`;
    return names.find((candidate) => candidate === own || candidate.endsWith(`.${own}`));
  };
}

function product(extents: readonly number[]): number {
  return extents.reduce((all, extent) => all * extent, 1);
}

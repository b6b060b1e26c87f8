/**
 * Parameters out of a public file of weights, as the models say where they lie (lib/models/source.ts): found by name before anything
 * is read, batch norms taken into the convolutions before them. A layer's file may hold a whole model, of which the first layers are
 * taken; a network's holds the network and nothing else.
 */
import { listNames } from '../../artifact/checks.js';
import { LadderError } from '../../errors.js';
import type { Model } from '../../models/index.js';
import { type ConvolutionSource, kBatchNormEps, kNormParts, type Part, type Source, sourceNames } from '../../models/source.js';
import type { MatrixRows } from './pack.js';
import type { ScaledMatrix, WeightFile } from './safetensors.js';

/** A model that says where its parameters lie. */
export type PublishedModel = Model & { readonly source: NonNullable<Model['source']> };

/** Which decoder layers of a file are meant. */
export interface LayerRange {
  readonly layers: number;
  /** The first one's number in the file; absent: they are the first that are there. */
  readonly first?: number | undefined;
}

/** The parameters of a model in a file. */
export class PublishedWeights {
  /** What a tensor is called in the file; undefined: it is not there. */
  private readonly nameOf: (name: string) => string | undefined;

  /**
   * @param tensors names of the model's parameters
   * @throws LadderError `MISSING_PARAMETER` with all names that the file lacks, `UNKNOWN_INPUT` with those of the network or the layers
   *   that the model has no use for, `BAD_PARAMS` where several tensors may be meant
   */
  constructor(
    private readonly file: WeightFile,
    private readonly model: PublishedModel,
    tensors: readonly string[],
    range: LayerRange,
  ) {
    const { name: path, shapes } = file;
    const names = tensors.map((tensor) => sourceNames(model.source(tensor)));
    const wanted = names.flatMap((one) => one.wanted);
    const places = model.kind === 'layer' ? layerPlaces(file, wanted, range) : null;
    this.nameOf = (name) => {
      const own = places ? places.nameOf(name) : name;
      return shapes.has(own) ? own : undefined;
    };
    const missing = [...new Set(wanted)].filter((name) => this.nameOf(name) === undefined);
    if (missing.length > 0) throw new LadderError('MISSING_PARAMETER', `${path} has no ${listNames(missing)}`, { path, tensors: missing });
    const used = new Set(wanted.map((name) => this.nameOf(name)));
    const unused = new Set(names.flatMap((one) => one.unused));
    const odd = [...shapes.keys()].filter((name) => {
      if (used.has(name)) return false;
      if (!places) return !unused.has(name);
      const rest = places.restOf(name);
      return rest !== null && model.unused?.includes(rest) !== true;
    });
    if (odd.length > 0)
      throw new LadderError('UNKNOWN_INPUT', `${path} holds ${listNames(odd)}, which ${model.id} has no parameter for`, {
        path,
        tensors: odd,
      });
  }

  /**
   * The numbers of one of our tensors; those of a matrix as rows of the file, to be read when they are wanted, unless they are in codes or
   * are computed.
   * @throws LadderError `WRONG_LENGTH` naming a tensor of another shape; what reading throws
   */
  async read(tensor: string, shape: readonly number[]): Promise<Float32Array | ScaledMatrix | readonly MatrixRows[]> {
    const source = this.model.source(tensor);
    if ('tensor' in source) return this.matrix(source.tensor, shape);
    if ('stack' in source) return this.stack(source.stack, shape);
    return this.convolution(source, shape);
  }

  /** A tensor of `shape`, or of one that reads the same: axes of 1 before it, its last axis in several. */
  private async matrix(name: string, shape: readonly number[]): Promise<Float32Array> {
    const [found, theirs] = this.found(name);
    const own = [...found];
    while (own.length > shape.length && own[0] === 1) own.shift();
    if (own[0] !== shape[0] || product(own) !== product(shape)) throw wrongShape(theirs, found, shape);
    const values = await this.file.read(theirs);
    if (values instanceof Float32Array) return values;
    throw new LadderError('UNSUPPORTED', `${theirs} is quantised; ${this.model.id} is packed from floating-point numbers`, {
      name: theirs,
    });
  }

  /** Tensors one below the other; in codes where all are. */
  private async stack(list: readonly Part[], shape: readonly number[]): Promise<Float32Array | ScaledMatrix | readonly MatrixRows[]> {
    const names = list.map(({ name, rows }) => {
      const wanted = [rows, ...shape.slice(1)];
      const [found, own] = this.found(name);
      if (found.join() !== wanted.join()) throw wrongShape(own, found, wanted);
      return own;
    });
    const rows = names.map((name) => this.file.rows(name));
    const isPlain = (one: MatrixRows | null): one is MatrixRows => one !== null;
    if (rows.every(isPlain))
      return shape.length > 1 ? rows : joined(await Promise.all(names.map((name) => this.file.read(name) as Promise<Float32Array>)));
    const odd = list[rows.findIndex(isPlain)];
    if (odd)
      throw new LadderError('UNSUPPORTED', `${odd.name} is not quantised though others that are stored with it are`, { name: odd.name });
    const scaled: ScaledMatrix[] = [];
    for (const name of names) scaled.push((await this.file.read(name)) as ScaledMatrix);
    return { values: joined(scaled.map(({ values }) => values)), scales: joined(scaled.map(({ scales }) => scales)) };
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

/** Where decoder layers lie in a file. */
interface LayerPlaces {
  /** A tensor's name in the file, from one that begins with `<word>.<i>.`, i from 0. */
  nameOf(name: string): string;
  /** Behind the layer's own words, for tensors of the layers that are meant; else null. */
  restOf(name: string): string | null;
}

/**
 * Finds decoder layers, whatever stands before their `<word>.<number>.`.
 * @param wanted names that begin with `<word>.<i>.`
 * @throws LadderError `MISSING_PARAMETER` where layers are not there, `BAD_PARAMS` where they stand behind several prefixes
 */
function layerPlaces({ name: path, shapes }: WeightFile, wanted: readonly string[], { layers, first }: LayerRange): LayerPlaces {
  const example = wanted[0]!;
  const word = example.slice(0, example.indexOf('.'));
  const pattern = new RegExp(`^(.*?\\.)?${word}\\.(\\d+)\\.(.+)$`);
  const rests = new Set(wanted.map((name) => pattern.exec(name)![3]));
  const all = [...shapes.keys()].flatMap((name) => {
    const [, prefix = '', number, rest] = pattern.exec(name) ?? [];
    return number === undefined ? [] : [{ prefix, number: Number(number), rest }];
  });
  const known = all.filter(({ rest }) => rests.has(rest));
  const there = [...new Set(known.map(({ number }) => number))].sort((a, b) => a - b);
  const numbers = first === undefined ? there.slice(0, layers) : Array.from({ length: layers }, (_, i) => first + i);
  const absent = numbers.find((number) => !there.includes(number));
  if (absent !== undefined)
    throw new LadderError(
      'MISSING_PARAMETER',
      `${path} has no decoder layer ${absent}, whose tensors would be called ${word}.${absent}.…`,
      {
        path,
      },
    );
  if (numbers.length < layers)
    throw new LadderError(
      'MISSING_PARAMETER',
      `${path} holds ${there.length} decoder layers (names such as ${example}, after any prefix) where ${layers} are to be built`,
      { path },
    );
  const [prefix = '', ...others] = new Set(known.flatMap((one) => (numbers.includes(one.number) ? [one.prefix] : [])));
  if (others.length > 0)
    throw new LadderError(
      'BAD_PARAMS',
      `${path} holds the layers more than once, as ${[prefix, ...others].map((one) => `${one}${word}.${numbers[0]}.…`).join(' and ')}`,
      { path },
    );
  return {
    nameOf(name) {
      const [, , number, rest] = pattern.exec(name)!;
      return `${prefix}${word}.${numbers[Number(number)]}.${rest}`;
    },
    restOf(name) {
      const [, own = '', number, rest] = pattern.exec(name) ?? [];
      return rest !== undefined && own === prefix && numbers.includes(Number(number)) ? rest : null;
    },
  };
}

function wrongShape(name: string, found: readonly number[], wanted: readonly number[]): LadderError {
  return new LadderError('WRONG_LENGTH', `${name} has shape [${found.join(', ')}] where [${wanted.join(', ')}] is expected`, { name });
}

/** Arrays one behind the other; one alone as it is. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0]!;
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function product(extents: readonly number[]): number {
  return extents.reduce((all, extent) => all * extent, 1);
}

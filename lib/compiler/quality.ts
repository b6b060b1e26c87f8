/**
 * What a format costs a model: the error of its weights against the floats that they are made of, and the error of what the model
 * computes with them against the same model in FP16, by the reference operators on the CPU. The other half of the paper's trade-off,
 * latency, is in saved records.
 */
import { checkpointName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { bitsPerWeight, caseLabel, kPlainFormat, type ScaleChoice, weightFormat, weightFormats } from '../formats/index.js';
import { findModel, settingName } from '../models/index.js';
import { throwIfAborted, type TaskOptions } from '../run/options.js';
import type { FormatQuality, ModelFormat, QualityReport, TensorQuality } from './types.js';
import { type CheckpointDesign, type CheckpointRequest, designCheckpoint } from './design.js';
import { readInputs } from './pack/inputs.js';
import { randomWeights } from './pack/random-weights.js';
import type { WeightFile } from './pack/safetensors.js';
import { joined } from './pack/source.js';
import { type Pack, runPacked } from './pack/run-packed.js';
import { isPublished, packOptionsOf, packPublished, publishedTensors } from './pack/weights.js';
import { groupOf } from './request.js';

export interface QualityOptions extends TaskOptions {
  /** Formats besides FP16. Default: all that there are for the model. */
  readonly formats?: readonly ModelFormat[] | undefined;
  /** Opens the float weights, once per format. Default: random ones. */
  readonly weights?: (() => WeightFile) | string | undefined;
  /** Number of the first layer in the file. */
  readonly first?: number | undefined;
  /** safetensors of inputs: [tokens, hidden] of decoder layers, [n, …] of networks. Default: `tokens` random ones. */
  readonly inputs?: string | undefined;
  /** Random tokens that are fed, of one sequence; networks are fed one random input. Default 16. */
  readonly tokens?: number | undefined;
  readonly scale?: ScaleChoice | undefined;
}

const kTokens = 16;
const kPlain: ModelFormat = { weight: kPlainFormat, activation: kPlainFormat, group: -1 };

/**
 * Packs a model's weights in every format, and runs it.
 * @param request of any checkpoint of the model; its batch and number of tokens are not taken over
 * @throws LadderError `UNSUPPORTED` for a model whose weights nothing here packs, or that needs a file of weights; what packing throws
 */
export async function formatQualities(request: CheckpointRequest, options: QualityOptions = {}): Promise<QualityReport> {
  const model = findModel(request)!;
  const isLayer = model.kind === 'layer';
  const plain = designCheckpoint({ ...request, batch: 1, seq: isLayer ? (options.tokens ?? kTokens) : 1, format: kPlain }, null);
  const x = plain.model.tensors.find(({ role }) => role === 'input')!;
  const given = options.inputs === undefined ? null : await readInputs(options.inputs, x.name, x.shape.slice(1));
  const fed = given ? { batch: isLayer ? 1 : given.length, seq: isLayer ? given.length : 1 } : { batch: 1, seq: plain.request.seq };
  const feed = given && joined(given);
  const weights = options.weights ?? randomOf(plain);
  const wanted = options.formats ?? [
    ...everyFormat(),
    ...(model.figure8?.formats ?? []).map((pair) => ({ ...pair, group: groupOf(pair.weight, pair.activation, -1) })),
  ];
  const formats: FormatQuality[] = [];
  const remarks: string[] = [];
  let reference: { x: Float32Array; y: Float32Array } | null = null;
  const todo = [kPlain, ...wanted.filter((one, i) => !isSame(one, kPlain) && wanted.findIndex((other) => isSame(other, one)) === i)];
  for (const [i, format] of todo.entries()) {
    throwIfAborted(options.signal);
    let design: CheckpointDesign;
    try {
      design = designCheckpoint({ ...request, ...fed, format }, null);
    } catch (error) {
      if (!(error instanceof LadderError) || options.formats !== undefined) throw error;
      remarks.push(`${caseLabel(format)} was left out: ${error.message}`);
      continue;
    }
    const onProgress: TaskOptions['onProgress'] = ({ phase, fraction, detail }) =>
      options.onProgress?.({ phase, fraction: (i + (fraction ?? 0)) / todo.length, detail: `${caseLabel(format)} ${detail ?? ''}` });
    const found = await qualityOf(design, weights, feed, { ...options, onProgress });
    reference ??= found;
    const origin = isLayer ? reference.x : null;
    formats.push({
      ...found.quality,
      checkpoint: checkpointName({ ...request, format }),
      outputError: distance(found.y, reference.y) / (distance(reference.y, origin) || 1),
    });
  }
  return {
    model: request.model,
    setting: settingName(model.kind, request),
    subject: caseLabel(request.format),
    inputs: isLayer ? fed.seq : fed.batch,
    formats,
    remarks,
  };
}

/** Weights of every format with the activations that it is paired with. */
function everyFormat(): ModelFormat[] {
  return weightFormats().flatMap(({ id, weight: { groups, pairedWith } }) =>
    groups.map((group) => ({ weight: id, activation: pairedWith, group })),
  );
}

const isSame = (a: ModelFormat, b: ModelFormat): boolean => a.weight === b.weight && a.activation === b.activation && a.group === b.group;

function randomOf(design: CheckpointDesign): () => WeightFile {
  const model = findModel(design.request)!;
  const made = isPublished(model) ? randomWeights(model, publishedTensors(design), design.request.seed) : null;
  if (!made)
    throw new LadderError('UNSUPPORTED', `random weights are made for decoder layers alone: give a file of weights for ${model.id}`);
  return () => made;
}

interface Found {
  readonly quality: Omit<FormatQuality, 'outputError' | 'checkpoint'>;
  readonly x: Float32Array;
  readonly y: Float32Array;
}

/** Packs and runs one checkpoint. */
async function qualityOf(
  design: CheckpointDesign,
  weights: NonNullable<QualityOptions['weights']>,
  feed: Float32Array | null,
  { signal, onProgress, first, scale, inputs }: QualityOptions,
): Promise<Found> {
  const squares = new Map<string, Float64Array>();
  const { tensors } = design.model;
  const how = {
    first,
    choice: scale,
    calibration: tensors.some(({ role }) => role === 'calibration') ? inputs : undefined,
    onMatrix: (name: string, values: Float64Array) => squares.set(name, values),
  };
  const pack: Pack = (one, folder) => packPublished(weights, one, folder, { signal, onProgress }, how);
  return runPacked(design, pack, { signal }, async (prebuilt) => {
    const { name } = tensors.find(({ role }) => role === 'input')!;
    if (feed) await prebuilt.setInput(name, feed);
    await prebuilt.run();
    return {
      quality: weightQuality(design, squares),
      x: await prebuilt.getInput(name, { as: 'float32' }),
      y: await prebuilt.getOutput(0, { as: 'float32' }),
    };
  });
}

function weightQuality(
  { request, model }: CheckpointDesign,
  squares: ReadonlyMap<string, Float64Array>,
): Omit<FormatQuality, 'outputError' | 'checkpoint'> {
  const all = { bits: 0, weights: 0, lost: 0, norm: 0 };
  const tensors = model.tensors.flatMap((tensor): TensorQuality[] => {
    const rows = squares.get(tensor.name);
    if (!rows) return [];
    const { axes } = tensor.value;
    const [format, { group, k = 1 }] = packOptionsOf(tensor.value);
    const own = { lost: 0, norm: 0, worst: { row: 0, error: 0 } };
    for (let row = 0; row < rows.length / 2; ++row) {
      const [lost, norm] = [rows[2 * row]!, rows[2 * row + 1]!];
      own.lost += lost;
      own.norm += norm;
      const error = norm === 0 ? 0 : Math.sqrt(lost / norm);
      if (error > own.worst.error) own.worst = { row, error };
    }
    const count = (rows.length / 2) * k;
    all.bits += count * bitsPerWeight(weightFormat(format), group, k);
    all.weights += count;
    all.lost += own.lost;
    all.norm += own.norm;
    return [
      {
        name: tensor.name,
        shape: axes.map(({ extent }) => extent),
        format,
        error: own.norm === 0 ? 0 : Math.sqrt(own.lost / own.norm),
        worst: own.worst,
      },
    ];
  });
  return {
    label: caseLabel(request.format),
    format: request.format,
    bitsPerWeight: all.bits / all.weights,
    error: all.norm === 0 ? 0 : Math.sqrt(all.lost / all.norm),
    tensors,
  };
}

/** ‖a − b‖₂, of a alone where b is null. */
function distance(a: Float32Array, b: Float32Array | null): number {
  let sum = 0;
  a.forEach((value, i) => {
    sum += (value - (b ? b[i]! : 0)) ** 2;
  });
  return Math.sqrt(sum);
}

/**
 * The builder's part of the public API: options checked once, then handed to the builder, the packer and the tuner.
 * Loaded by lib/index.ts when first called.
 */
import { existsSync, statSync } from 'node:fs';
import { z } from 'zod';
import { readManifest } from '../artifact/checkpoint.js';
import { locateCheckpoint } from '../artifact/locate.js';
import type { Manifest } from '../artifact/manifest.js';
import { LadderError } from '../errors.js';
import { type Group, isMx, kScaleChoices, type WeightFormat, weightFormat, weightFormats } from '../formats/index.js';
import { digitSchema } from '../operators/check.js';
import { rowMajor } from '../operators/layout.js';
import { flag, integer, parseOptions, taskShape } from '../run/option-checks.js';
import { describeValue, type TaskOptions } from '../run/options.js';
import { resolveCheckpoint } from '../run/package.js';
import type {
  BuildCheckpointOptions,
  BuildResult,
  CheckpointQualityOptions,
  FloatSource,
  FloatWeights,
  PackMatrixOptions,
  PackedWeights,
  QualityReport,
  TuneCheckpointOptions,
  TuneProgress,
  Tuned,
} from './types.js';
import { buildCheckpoint as build } from './build.js';
import { type CheckpointDesign, type CheckpointRequest, designStored, requestOf } from './design.js';
import { packMatrix as pack, type PackOptions } from './pack/pack.js';
import { isOwnModel, ownWords, readOwnModel } from './own-model.js';
import { parseRequest } from './request.js';
import { tuneCheckpoint as tune } from './tune/tuner.js';
import { openFolder } from './pack/folder.js';
import type { WeightFile } from './pack/safetensors.js';
import { packFloats } from './pack/weights.js';
import { formatQualities } from './quality.js';
import { writeDescription } from './write.js';

const text = z.string({ error: 'a string' });
const scaleChoice = z.enum(kScaleChoices, { error: "'absmax' or 'mse'" });
const whole = z.number({ error: 'a number' });
const buildSchema = z.strictObject({
  ...taskShape,
  root: text.min(1, { error: "a folder's path" }),
  weights: text.optional(),
  calibrate: text.optional(),
  scale: scaleChoice.optional(),
  compile: flag.optional(),
  layer: integer(0).optional(),
  batch: whole.default(1),
  seq: whole.default(1),
  layers: whole.optional(),
  weight: text.optional(),
  act: text.optional(),
  group: whole.optional(),
  format: text.optional(),
  seed: whole.optional(),
  mask: text.optional(),
});
const layout = z.array(digitSchema, { error: 'an array of digits {axis, stride, size}' }).optional();
const packSchema = z.strictObject({
  k: integer(1),
  group: z.custom<Group>((value) => [-1, 32, 64, 128].includes(value as number), { error: '-1, 32, 64 or 128' }).default(-1),
  layout,
  scaleLayout: layout,
  scale: scaleChoice.optional(),
  signal: taskShape.signal,
});
const qualitySchema = z.strictObject({
  ...taskShape,
  weights: text.optional(),
  layer: integer(0).optional(),
  inputs: text.optional(),
  tokens: integer(1).optional(),
  scale: scaleChoice.optional(),
});
const tuneSchema = z.strictObject({
  device: text.regex(/^cuda(:(0|[1-9][0-9]{0,3}))?$/, { error: "'cuda' or 'cuda:<ordinal>'" }).default('cuda'),
  candidates: integer(1, 1000).optional(),
  signal: taskShape.signal,
  onProgress: z.custom<(progress: TuneProgress) => void>((value) => typeof value === 'function', { error: 'a function' }).optional(),
});

export async function buildCheckpoint(model: string, options: BuildCheckpointOptions): Promise<BuildResult> {
  const { root, weights, calibrate, scale, compile, layer, signal, onProgress, ...words } = parseOptions(buildSchema, options);
  const own = isOwnModel(model) ? readOwnModel(model, { layer, layers: words.layers }) : undefined;
  if (layer !== undefined && !own) throw new LadderError('BAD_ARGUMENT', `\`layer\` is of a model's folder, which ${model} is not`);
  if (own && weights !== undefined)
    throw new LadderError('BAD_ARGUMENT', `the weights of ${model} are in its folder: leave \`weights\` out`);
  return build(parseRequest(own ? ownWords(own, words) : { model, ...words }), {
    root,
    own,
    ...(weights !== undefined && { weights }),
    ...(calibrate !== undefined && { calibrate }),
    scale,
    ...(compile !== undefined && { compile }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress: (fraction: number, label: string) => onProgress({ phase: 'build', fraction, detail: label }) }),
  });
}

export async function packWeights(path: string, weights: FloatWeights, options?: TaskOptions): Promise<void> {
  const task = parseOptions(z.strictObject(taskShape), options);
  const { folder, manifest } = await described(path);
  const design = await designStored(requestOf(manifest), folder, manifest.build.tuning);
  const hash = await packFloats(typeof weights === 'function' ? weights : sourceOf(weights, design), design, folder, task);
  // What graph.params is packed for: the kernels of this package, whatever the folder was described for.
  await writeDescription(folder, design, hash);
}

/** A checkpoint of ours. */
async function described(path: string): Promise<{ readonly folder: string; readonly manifest: Manifest }> {
  const folder = await locateCheckpoint(resolveCheckpoint(path));
  const manifest = await readManifest(folder);
  if (manifest) return { folder, manifest };
  throw new LadderError(
    'UNSUPPORTED',
    `${folder} has no checkpoint.json, which says how weights are stored: that is known of checkpoints that this package built`,
    { folder },
  );
}

/** Looks parameters up; a name too many or too few is found before anything is packed. */
function sourceOf(weights: Readonly<Record<string, Float32Array>>, { model }: CheckpointDesign): FloatSource {
  if (typeof weights !== 'object' || weights === null)
    throw new LadderError('BAD_ARGUMENT', `expected an object or a function for \`weights\` but received ${describeValue(weights)}`);
  const wanted = model.tensors.filter(({ role }) => role !== 'input' && role !== 'scale').map(({ name }) => name);
  const missing = wanted.filter((name) => !Object.hasOwn(weights, name));
  if (missing.length > 0)
    throw new LadderError(
      'MISSING_PARAMETER',
      `expected ${missing.slice(0, 8).join(', ')}${missing.length > 8 ? `, … (${missing.length} in all)` : ''} in \`weights\` as well`,
      { tensors: missing },
    );
  const odd = Object.keys(weights).find((name) => !wanted.includes(name));
  if (odd !== undefined)
    throw new LadderError(
      'UNKNOWN_INPUT',
      `expected only ${wanted.slice(0, 8).join(', ')}${wanted.length > 8 ? ', …' : ''} in \`weights\` but received ${JSON.stringify(odd)}`,
      { name: odd },
    );
  return (name) => weights[name]!;
}

export async function packMatrix(matrix: Float32Array, format: WeightFormat, options: PackMatrixOptions): Promise<PackedWeights> {
  if (!(matrix instanceof Float32Array))
    throw new LadderError('WRONG_TYPE', `expected a Float32Array for \`matrix\` but received ${describeValue(matrix)}`);
  const ids = weightFormats().map(({ id }) => id);
  if (!ids.includes(format))
    throw new LadderError('BAD_ARGUMENT', `expected one of ${ids.join(', ')} for \`format\` but received ${describeValue(format)}`);
  const { k, group: wanted, layout: given, scaleLayout, scale, signal } = parseOptions(packSchema, options);
  const record = weightFormat(format);
  const { groups } = record.weight;
  // MX prescribes its group, which need not be said.
  const allowed: readonly Group[] = isMx(record) ? [-1, ...groups] : groups;
  const group = isMx(record) ? groups[0]! : wanted;
  if (!allowed.includes(wanted))
    throw new LadderError('BAD_ARGUMENT', `expected ${allowed.join(' or ')} for \`group\` with ${format} but received ${wanted}`, {
      group: wanted,
    });
  const n = matrix.length / k;
  if (n < 1 || !Number.isInteger(n))
    throw new LadderError('BAD_ARGUMENT', `expected a whole number of rows of \`k\` = ${k} weights but received ${matrix.length} weights`, {
      k,
    });
  const plain = (columns: number): PackOptions['layout'] =>
    rowMajor([
      { name: 'n', extent: n },
      { name: 'k', extent: columns },
    ]);
  return pack(
    matrix,
    format,
    { group, choice: scale, layout: given ?? plain(k), scaleLayout: scaleLayout ?? (group === -1 ? null : plain(Math.floor(k / group))) },
    { signal },
  );
}

export async function checkpointQuality(path: string, options: CheckpointQualityOptions = {}): Promise<QualityReport> {
  const { weights, layer, ...rest } = parseOptions(qualitySchema, options);
  const request = requestOf((await described(path)).manifest);
  if (layer !== undefined && weights === undefined)
    throw new LadderError('BAD_ARGUMENT', '`layer` is of a file or folder of weights: give `weights` as well');
  return formatQualities(request, {
    ...rest,
    first: layer,
    weights: weights === undefined ? undefined : floatsOf(weights, layer, request),
  });
}

/** The float weights of a file, or of the decoder layers of a model's folder. */
function floatsOf(path: string, layer: number | undefined, { layers }: CheckpointRequest): string | (() => WeightFile) {
  if (!existsSync(path) || !statSync(path).isDirectory()) return path;
  const own = readOwnModel(path, { layer, layers });
  if (own.stored)
    throw new LadderError('UNSUPPORTED', `${path} holds weights that are quantised already, by ${own.stored.method}: errors are of floats`);
  return () => openFolder(path, own.first, layers, null);
}

export async function tuneCheckpoint(path: string, options?: TuneCheckpointOptions): Promise<Tuned> {
  const { device, candidates, signal, onProgress } = parseOptions(tuneSchema, options);
  return tune(await locateCheckpoint(resolveCheckpoint(path)), {
    deviceOrdinal: Number(device.split(':')[1] ?? 0),
    ...(candidates !== undefined && { candidates }),
    ...(signal && { signal }),
    ...(onProgress && {
      onProgress: (fraction: number, label: string, remainingSeconds: number | null) =>
        onProgress({ phase: 'tune', fraction, detail: label, remainingSeconds }),
    }),
  });
}

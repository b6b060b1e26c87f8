/**
 * Real weights → graph.params of a checkpoint, quantised and stored as its kernels read them: float matrices by our names, or a
 * safetensors file with the names of the library that a model comes from.
 */
import { join } from 'node:path';
import { parseDataType } from '../../artifact/dtype.js';
import { type ParamInput, writeParams } from '../../artifact/params.js';
import { LadderError } from '../../errors.js';
import { refuseSpecial } from '../../files.js';
import { describeValue, throwIfAborted, type TaskOptions } from '../../run/options.js';
import type { CheckpointDesign } from '../design.js';
import { floatToHalf } from '../../formats/codes.js';
import { type Group, kPlainFormat, type ScaleChoice } from '../../formats/index.js';
import { findModel, type Model, models } from '../../models/index.js';
import type { LoweredTensor } from '../graph/lower.js';
import { rowMajor } from '../../operators/layout.js';
import { isQuantised, lastAxis, scaleAxes, type Value } from '../../operators/program.js';
import { calibrate } from './calibrate.js';
import type { PackedWeights } from '../types.js';
import { type MatrixRows, packMatrix, type PackOptions } from './pack.js';
import { Safetensors, type ScaledMatrix, type WeightFile } from './safetensors.js';
import { type PublishedModel, PublishedWeights } from './source.js';

/** The same, of which matrices may be in codes already, or rows that are read when they are wanted. */
type ParameterSource = (name: string, shape: readonly number[]) => MaybePromise<Float32Array | ScaledMatrix | readonly MatrixRows[]>;
type MaybePromise<T> = T | Promise<T>;
/** What is packed, of one kind or the other. */
type Found = { readonly numbers: Float32Array | readonly MatrixRows[]; readonly scales?: Float32Array | undefined };

/**
 * Packs float parameters into graph.params of the checkpoint's folder. `source` is asked for one at a time.
 * @returns SHA-256 of graph.params
 * @throws LadderError `WRONG_TYPE`, `WRONG_LENGTH`, `BAD_ARGUMENT` for weights that the format cannot hold, `IO`, `ABORTED`; what `source` throws
 */
export async function packFloats(
  source: ParameterSource,
  design: CheckpointDesign,
  folder: string,
  task: TaskOptions = {},
  how: PackingOptions = {},
): Promise<string> {
  const path = join(folder, 'graph.params');
  await refuseSpecial(path);
  return writeParams(path, [...paramsOf(design, source, task, how)]);
}

/** How weights are packed. */
interface PackingOptions {
  /** How scales of weights are chosen; default: what is better for the format. */
  readonly choice?: ScaleChoice | undefined;
  /** Told of each matrix [n, k] Σ (w − stored)² and Σ w² of its rows, [n, 2]. */
  readonly onMatrix?: ((name: string, squares: Float64Array) => void) | undefined;
}

/** How public weights are packed. */
export interface PublishedOptions extends PackingOptions {
  /** Number of the first layer in the folder. */
  readonly first?: number | undefined;
  /** Inputs that decide static scales of activations (calibrate.ts). */
  readonly calibration?: string | undefined;
}

/**
 * The same from public weights: a safetensors file with decoder layers, taken in ascending order, or a whole network; or an opened folder.
 * @throws LadderError also `UNSUPPORTED` for a model without public names, `MISSING_PARAMETER`, `UNKNOWN_INPUT`, `BAD_PARAMS` for a
 *   damaged file
 */
export async function packPublished(
  from: string | (() => WeightFile),
  design: CheckpointDesign,
  folder: string,
  task: TaskOptions = {},
  { first, calibration, ...how }: PublishedOptions = {},
): Promise<string> {
  const model = findModel(design.request)!;
  if (!isPublished(model)) {
    const known = models
      .all()
      .filter(isPublished)
      .map(({ id }) => id)
      .join(', ');
    throw new LadderError('UNSUPPORTED', `weights can be packed for ${known}, whose tensor names are known, not for ${model.id}`);
  }
  const isCalibrated = design.model.tensors.some(({ role }) => role === 'calibration');
  if (calibration !== undefined && !isCalibrated)
    throw new LadderError('BAD_ARGUMENT', `nothing of ${model.id} has a scale that inputs decide: leave \`calibrate\` out`);
  const tensors = publishedTensors(design).map(({ name }) => name);
  const file = typeof from === 'string' ? new Safetensors(from) : from();
  try {
    const weights = new PublishedWeights(file, model, tensors, { layers: design.request.layers, first });
    const read = (name: string, shape: readonly number[]) => weights.read(name, shape);
    const scales = isCalibrated
      ? await calibrate(design, (plain, where) => packFloats(read, plain, where, task), calibration, task)
      : new Map<string, number>();
    return await packFloats(
      (name, shape) => (scales.has(name) ? Float32Array.of(scales.get(name)!) : read(name, shape)),
      design,
      folder,
      task,
      how,
    );
  } finally {
    file.close();
  }
}

/** What public weights are packed into: scales follow from them. */
export function publishedTensors({ model }: CheckpointDesign): readonly LoweredTensor[] {
  return model.tensors.filter(({ role }) => role !== 'input' && role !== 'scale' && role !== 'calibration');
}

export const isPublished = (model: Model): model is PublishedModel => model.source !== undefined;

/** How a weight's value is packed: its format, and the order of its codes and scales. */
export function packOptionsOf(value: Value): readonly [format: string, options: PackOptions] {
  const { axes, type, layout, scaleLayout } = value;
  const group = isQuantised(type) ? ((type.scale?.per['k'] ?? -1) as Group) : -1;
  const scales = isQuantised(type) && group !== -1 ? (scaleLayout?.digits ?? rowMajor(scaleAxes(value, type.scale!))) : null;
  return [
    isQuantised(type) ? type.format : kPlainFormat,
    { group, layout: layout?.digits ?? rowMajor(axes), scaleLayout: scales, k: lastAxis(value).extent },
  ];
}

/** One input of writeParams per parameter; a matrix and its scales are packed together, when the first of them is written. */
function* paramsOf(
  { model }: CheckpointDesign,
  source: ParameterSource,
  { signal, onProgress }: TaskOptions,
  { choice, onMatrix }: PackingOptions,
): Generator<ParamInput> {
  const parameters = model.tensors.filter(({ role }) => role !== 'input');
  const weightOf = (scale: LoweredTensor): LoweredTensor => parameters.find(({ name }) => name === scale.name.replace(/scale$/, 'weight'))!;
  const progress = (name: string, within = 0): void =>
    onProgress?.({
      phase: 'pack',
      fraction: (parameters.findIndex((one) => one.name === name) + within) / parameters.length,
      detail: within > 0 ? `${name}, ${Math.round(100 * within)} %` : name,
    });
  const read = async ({ name }: LoweredTensor, shape: readonly number[]): Promise<Found> => {
    throwIfAborted(signal);
    progress(name);
    const found = await source(name, shape);
    if (isRows(found)) return { numbers: found };
    const { values, scales } = found instanceof Float32Array ? { values: found } : ((found ?? {}) as Partial<ScaledMatrix>);
    if (!(values instanceof Float32Array))
      throw new LadderError('WRONG_TYPE', `expected a Float32Array for \`${name}\` but received ${describeValue(found)}`, { name });
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (values.length !== elements)
      throw new LadderError(
        'WRONG_LENGTH',
        `expected [${shape.join(', ')}], ${elements} values, for \`${name}\` but received ${values.length}`,
        { name },
      );
    return { numbers: values, scales };
  };
  let latest: { name: string; packed: PackedWeights } | null = null;
  const matrixOf = async (weight: LoweredTensor): Promise<PackedWeights> => {
    if (latest?.name !== weight.name) {
      // The one before is let go first: one of either is in memory.
      latest = null;
      const { axes } = weight.value;
      const { numbers, scales } = await read(
        weight,
        axes.map(({ extent }) => extent),
      );
      const [format, options] = packOptionsOf(weight.value);
      const squares = onMatrix && new Float64Array(2 * axes[0]!.extent);
      const packed = await packMatrix(
        numbers,
        format,
        { ...options, scales, choice, name: weight.name },
        { signal, onFraction: (fraction) => progress(weight.name, fraction), squares },
      );
      if (squares) onMatrix(weight.name, squares);
      latest = { name: weight.name, packed };
    }
    return latest.packed;
  };
  const vectorOf = async (tensor: LoweredTensor): Promise<Uint8Array> => {
    const { numbers } = await read(tensor, tensor.shape);
    if (isRows(numbers)) throw new LadderError('INTERNAL', `${tensor.name}: rows of no matrix`);
    const values = numbers;
    if (tensor.role === 'calibration') return scalesOf(tensor.name, values);
    const halves = Uint16Array.from(values, floatToHalf);
    const odd = halves.findIndex((code) => (code & 0x7c00) === 0x7c00);
    if (odd >= 0)
      throw new LadderError(
        'BAD_ARGUMENT',
        `expected finite values of at most 65504 for \`${tensor.name}\`, which is float16; element ${odd} is not`,
        { name: tensor.name },
      );
    return new Uint8Array(halves.buffer);
  };
  for (const tensor of parameters) {
    const { name, role, shape, dtype } = tensor;
    const bytes = async (): Promise<Uint8Array> =>
      role === 'weight' ? (await matrixOf(tensor)).weight : role === 'scale' ? (await matrixOf(weightOf(tensor))).scale : vectorOf(tensor);
    yield { name, shape, dtype: parseDataType(dtype), chunks: lazily(bytes) };
  }
}

function isRows(found: unknown): found is readonly MatrixRows[] {
  return Array.isArray(found) && found.every((one) => typeof one === 'object' && one !== null && 'read' in one);
}

/** Static scales as they are stored, float32. */
function scalesOf(name: string, values: Float32Array): Uint8Array {
  const odd = values.find((value) => !(value > 0 && Number.isFinite(value)));
  if (odd !== undefined) throw new LadderError('BAD_ARGUMENT', `expected a positive scale for \`${name}\` but received ${odd}`, { name });
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

async function* lazily(produce: () => Promise<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield await produce();
}

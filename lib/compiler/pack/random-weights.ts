/**
 * Random weights of a model's decoder layers, by the names of public files, for what has no file: matrices of normal numbers of the
 * standard deviation k^−½, gains about 1, biases about 0. Rows are stretches of one pool, so that a layer of billions costs no more than
 * copying.
 */
import type { LoweredTensor } from '../graph/lower.js';
import type { PublishedModel } from './source.js';
import type { MatrixRows } from './pack.js';
import type { WeightFile } from './safetensors.js';

const kPool = 1 << 22;
/** Of gains and biases. */
const kSpread = 0.1;

/** Numbers from 0 to 1, from a seed (Mulberry32). */
function uniformFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The tensors that `tensors` are made of, unless one is a convolution. @returns null for a model that has any */
export function randomWeights(model: PublishedModel, tensors: readonly LoweredTensor[], seed: number): WeightFile | null {
  const shapes = new Map<string, readonly number[]>();
  for (const { name, role, shape, value } of tensors) {
    const source = model.source(name);
    if (!('stack' in source)) return null;
    const extents = role === 'weight' ? value.axes.map(({ extent }) => extent) : shape;
    for (const part of source.stack) shapes.set(part.name, [part.rows, ...extents.slice(1)]);
  }
  const uniform = uniformFrom(seed);
  // Box and Muller's method.
  const pool = Float32Array.from({ length: kPool }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
  const names = [...shapes.keys()];
  /** Where a row starts in the pool. */
  const startOf = (name: string, row: number, length: number): number =>
    Math.floor(uniformFrom(seed ^ Math.imul(names.indexOf(name) + 1, 0x9e3779b1) ^ Math.imul(row + 1, 0x85ebca6b))() * (kPool - length));
  const fill = (name: string, first: number, count: number, into: Float32Array): void => {
    const [, k] = shapes.get(name)!;
    const length = into.length / count;
    const [factor, shift] = k === undefined ? [kSpread, name.endsWith('.weight') ? 1 : 0] : [1 / Math.sqrt(k), 0];
    for (let row = 0; row < count; ++row) {
      const start = startOf(name, first + row, length);
      for (let i = 0; i < length; ++i) into[row * length + i] = pool[start + i]! * factor + shift;
    }
  };
  return {
    name: 'random weights',
    shapes,
    async read(name) {
      const shape = shapes.get(name)!;
      const values = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
      fill(name, 0, shape.length > 1 ? shape[0]! : 1, values);
      return values;
    },
    rows(name): MatrixRows {
      const [rows = 1, k = 1] = shapes.get(name)!;
      return {
        type: 'F32',
        rows,
        async read(first, count, room) {
          const values = new Float32Array(room.buffer, room.byteOffset, count * k);
          fill(name, first, count, values);
          return room.subarray(0, values.byteLength);
        },
      };
    },
    close: () => undefined,
  };
}

/**
 * What every `null` node of the graph holds before the first run: bytes of graph.params, the manifest's seeded fills, or,
 * for a foreign checkpoint, random values of its types ("fake weights": right for timing, meaningless as numbers).
 * Only plans; the executor copies and generates.
 */
import type { Manifest } from '../artifact/manifest.js';
import { fp8Fill } from '../formats/fp8.js';
import type { DataType, Fill } from '../native.js';

const kMask64 = (1n << 64n) - 1n;

/** 64-bit FNV-1a over UTF-8 bytes. */
function fnv1a64(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & kMask64;
  return hash;
}

/** One step of SplitMix64 from state `x`. */
function splitmix64(x: bigint): bigint {
  let z = (x + 0x9e3779b97f4a7c15n) & kMask64;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & kMask64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & kMask64;
  return z ^ (z >> 31n);
}

/** The generator's key of a tensor: splitmix64(seed XOR fnv1a64(name)), as artifact/manifest.ts defines it. */
export function fillKey(seed: number, name: string): bigint {
  return splitmix64(BigInt(seed) ^ fnv1a64(name));
}

/** A tensor as far as its fake values depend on it. */
export type TensorShape = Pick<ArgumentTensor, 'shape' | 'dtype'>;

/**
 * How many products of a weight's elements are summed for one result, or more. Of a matrix the longer side, as it may be stored
 * either way round; of a convolution's kernel all but the output channels, which are first unless height and width are.
 */
function reductionOf(shape: readonly number[]): number {
  if (shape.length < 2 || shape.includes(0)) return 1;
  if (shape.length === 2) return Math.max(...shape);
  const outputs = shape.length === 4 && shape[0] === shape[1] && shape[2] !== shape[3] ? shape[3]! : shape[0]!;
  return elementsOf({ shape }) / outputs;
}

/** Integers that carry what is multiplied: more than a vector, and no indices. */
export function isPacked({ shape, dtype }: TensorShape): boolean {
  return dtype.code < 2 && dtype.bits <= 8 && shape.filter((extent) => extent > 1).length > 1;
}

export function elementsOf({ shape }: Pick<TensorShape, 'shape'>): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Root mean square of packed integers at most, about: that of random bytes is 74. */
const kPackedRms = 64;

/** All bytes zero. */
const kZeroFill: Fill = { kind: 'code', base: 0, mask: 0, signed: false };

/** Names of tensors that stay zero until they are set, for want of random values of their type. */
export function zeroFilled(fills: readonly PlannedFill[]): readonly string[] {
  return fills.filter(({ fill }) => fill === kZeroFill).map(({ name }) => name);
}

/**
 * Where a foreign tensor's random values come from: finite, never all zero, safe where integers are indices, and so small that
 * sums over a weight's elements keep the size of what they multiply, through any number of layers. Types for which no random
 * values are defined (float64, handles, odd widths) are zero.
 * @param packed the largest packed weight that an operator which reads it is given as well
 */
export function foreignFill({ dtype, shape }: TensorShape, packed: TensorShape | null = null): Fill {
  const reduction = reductionOf(shape);
  // One byte per element: a bool is 0 or 1, an int2 has two bits.
  if (dtype.code < 2 && dtype.bits < 8 && dtype.lanes === 1) return { kind: 'code', base: 0, mask: (1 << dtype.bits) - 1, signed: false };
  if (dtype.code === 2 && dtype.bits === 8) return fp8Fill(dtype.name, reduction);
  if ((dtype.code === 2 && (dtype.bits === 16 || dtype.bits === 32)) || (dtype.code === 4 && dtype.bits === 16)) {
    // Scales of packed integers make up for their size as well.
    if (packed && elementsOf(packed) >= 8 * elementsOf({ shape })) {
      const limit = 1 / (kPackedRms * Math.sqrt(reductionOf(packed.shape)));
      return { kind: 'uniform', low: limit / 2, high: limit };
    }
    // Vectors may be variances, so that they are positive; matrices get a mean square of at most 1/reduction.
    if (shape.length < 2) return { kind: 'uniform', low: 0.5, high: 1 };
    const limit = Math.min(1, Math.sqrt(3 / reduction));
    return { kind: 'uniform', low: -limit, high: limit };
  }
  // Packed weights are bytes; wider integers may be indices, for which 0 and 1 are nearly always valid.
  if (dtype.code < 2 && (dtype.bits <= 8 || dtype.lanes > 1)) return { kind: 'bits' };
  return dtype.code < 2 && [16, 32, 64].includes(dtype.bits) ? { kind: 'uniform', low: 0, high: 2 } : kZeroFill;
}

/** One `null` node of the graph. */
export interface ArgumentTensor {
  readonly name: string;
  readonly entry: number;
  readonly shape: readonly number[];
  readonly dtype: DataType;
  /** The largest packed weight among the inputs of the operators that read it. */
  readonly packed?: TensorShape | null;
}

/** What is generated into an entry. */
export interface PlannedFill {
  readonly name: string;
  readonly entry: number;
  readonly fill: Fill;
  readonly key: bigint;
}

/** Where the weights came from; `file`: all of them; `fake`: random values, because no file and no manifest says what they, or some of them, are. */
export type WeightSource = 'file' | 'seeded' | 'fake' | 'none';

/**
 * Where a checkpoint's weights come from. Its parts are as `readCheckpoint` checked them.
 * @param inFile whether graph.params is there and holds all of them
 */
export function weightSource(manifest: Manifest | null, inFile: boolean): WeightSource {
  if (inFile) return 'file';
  if (!manifest) return 'fake';
  return Object.values(manifest.tensors).some(({ role }) => role !== 'input') ? 'seeded' : 'none';
}

/**
 * Plans what fills each argument that graph.params does not hold.
 * @param inFile names that graph.params holds
 * @param seed default: the manifest's, or 0
 */
export function planFills(
  tensors: readonly ArgumentTensor[],
  manifest: Manifest | null,
  inFile: ReadonlySet<string>,
  seed: number | undefined,
): readonly PlannedFill[] {
  const usedSeed = seed ?? manifest?.seed ?? 0;
  const described = new Map(Object.entries(manifest?.tensors ?? {}));
  return tensors
    .filter(({ name }) => !inFile.has(name))
    .map(({ name, entry, shape, dtype, packed }) => ({
      name,
      entry,
      fill: described.get(name)?.fill ?? foreignFill({ dtype, shape }, packed),
      key: fillKey(usedSeed, name),
    }));
}

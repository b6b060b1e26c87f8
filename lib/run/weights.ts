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

/** Where a foreign tensor's random values come from: finite, never all zero, and safe where integers are indices. */
export function foreignFill(type: DataType, shape: readonly number[]): Fill {
  if (type.code === 2 && type.bits === 8) {
    return fp8Fill(type.name);
  }
  if (type.code === 2 || type.code === 4) {
    // Matrices get a mean square of about 1/k, so that activations keep their size through any number of layers.
    const k = shape[shape.length - 1] ?? 1;
    const limit = shape.length >= 2 && k >= 64 ? Math.sqrt(3 / k) : 1;
    return { kind: 'uniform', low: -limit, high: limit };
  }
  // Packed weights are bytes; wider integers may be indices, for which 0 and 1 are nearly always valid.
  return type.bits === 8 || type.bits === 4 ? { kind: 'bits' } : { kind: 'uniform', low: 0, high: 2 };
}

/** One `null` node of the graph. */
export interface ArgumentTensor {
  readonly name: string;
  readonly entry: number;
  readonly shape: readonly number[];
  readonly dtype: DataType;
}

/** What is generated into an entry. */
export interface PlannedFill {
  readonly name: string;
  readonly entry: number;
  readonly fill: Fill;
  readonly key: bigint;
}

/** Where the weights came from; `fake`: random values, because no file and no manifest says what they are. */
export type WeightSource = 'file' | 'seeded' | 'fake' | 'none';

/** Where a checkpoint's weights come from. Its parts are as `readCheckpoint` checked them. */
export function weightSource(manifest: Manifest | null, hasParams: boolean): WeightSource {
  if (hasParams) return 'file';
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
    .map(({ name, entry, shape, dtype }) => ({
      name,
      entry,
      fill: described.get(name)?.fill ?? foreignFill(dtype, shape),
      key: fillKey(usedSeed, name),
    }));
}

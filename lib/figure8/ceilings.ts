/**
 * What a number stands against. Published cases of decoder layers have no record: their floors are what one layer must read
 * and compute, over what an A100's data sheet promises. Our records carry bytes, FLOPs and ceilings; where cuBLASLt's
 * products were measured on the same GPU, they are the ceiling of the arithmetic.
 */
import { arithmeticRate, denseShapes, type LibraryCeilings } from '../baselines/ceilings.js';
import { bitsPerWeight, formatsOfLabel } from '../formats/index.js';
import { models, parseSetting } from '../models/index.js';
import type { Entry, EntryRoofline } from './entry.js';
import { sameGpu } from './names.js';

/** NVIDIA's data sheet for the A100 80GB PCIe. */
const kA100BytesPerSecond = 1.935e12;
/** Dense rates by activations, or by their arithmetic. It has no FP8 units: such products run at the FP16 rate. */
const kA100Rates: Readonly<Record<string, number>> & { readonly fp16: number } = { fp16: 312e12, int8: 624e12, int4: 1248e12 };

/** What one decoder layer reads and computes; null for models that are none, or that Figure 8 lacks. */
function layerOf(id: string): { readonly weights: number; readonly hidden: number } | null {
  const weights = denseShapes()
    .filter(({ model }) => model === id)
    .reduce((sum, { n, k }) => sum + n * k, 0);
  const hidden = models
    .find(id)
    ?.graph?.(1, 1, 1)
    .values.find(({ role }) => role === 'input')
    ?.axes.at(-1)?.extent;
  // Four digits: more than the data sheet has.
  return weights === 0 || hidden === undefined ? null : { weights: Number(weights.toPrecision(4)), hidden };
}

/** The roofline with another ceiling of arithmetic. */
function withArithmetic(roofline: EntryRoofline, ceilingFlopsPerSecond: number): EntryRoofline {
  const fraction = Math.max(roofline.bytesPerSecond / roofline.ceilingBytesPerSecond, roofline.flopsPerSecond / ceilingFlopsPerSecond);
  return { ...roofline, ceilingFlopsPerSecond, fraction, ceilings: 'measured, cuBLASLt' };
}

/** An entry of ours under what cuBLASLt reached on the same GPU, where that was measured; else as it is. */
export function underLibrary(entry: Entry, all: readonly LibraryCeilings[]): Entry {
  if (entry.roofline === null) return entry;
  const ceilings = newestCeilings(all, entry.gpu);
  const rate = ceilings === null ? null : arithmeticRate(ceilings, entry.format);
  return rate === null ? entry : { ...entry, roofline: withArithmetic(entry.roofline, rate) };
}

/** The newest measurement of a GPU's library. */
export function newestCeilings(all: readonly LibraryCeilings[], gpu: string | null): LibraryCeilings | null {
  return all.filter(({ device }) => sameGpu(device.name, gpu)).sort((a, b) => (a.date < b.date ? 1 : -1))[0] ?? null;
}

/** How a published A100 case stands under the data sheet's ceilings; null for models whose bytes, and formats, are not known here. */
export function publishedRoofline(model: string, setting: string, format: string, latencyMs: number): EntryRoofline | null {
  const layer = layerOf(model);
  const shape = parseSetting(setting);
  const { weight, activation } = formatsOfLabel(format);
  if (layer === null || shape === null || weight === null || activation === null) return null;
  const { seq } = shape;
  const tokens = shape.batch * seq;
  // Scales of whole channels weigh nothing.
  const bytes = (layer.weights * bitsPerWeight(weight, weight.weight.groups[0] ?? -1, Infinity)) / 8;
  // Attention: two products of S × S per token and hidden element.
  const flops = 2 * layer.weights * tokens + 4 * tokens * seq * layer.hidden;
  const ceilingFlopsPerSecond = kA100Rates[activation.id] ?? kA100Rates[activation.activation.arithmetic] ?? kA100Rates.fp16;
  const seconds = latencyMs / 1000;
  return {
    bytesPerSecond: bytes / seconds,
    flopsPerSecond: flops / seconds,
    ceilingBytesPerSecond: kA100BytesPerSecond,
    ceilingFlopsPerSecond,
    fraction: Math.max(bytes / kA100BytesPerSecond, flops / ceilingFlopsPerSecond) / seconds,
    coldL2: false,
    ceilings: 'data sheet',
  };
}

/** What a share of the roofline rests on: where the ceilings come from, and the cache that the time was measured with. */
export function describeCeilings({ ceilings, coldL2 }: EntryRoofline): string {
  return `${ceilings}${coldL2 ? '; L2 cold' : ''}`;
}

/** Whether the memory's ceiling binds a case, or the arithmetic's. */
export function boundBy(roofline: EntryRoofline): 'memory' | 'arithmetic' {
  const memory = roofline.bytesPerSecond / roofline.ceilingBytesPerSecond;
  const arithmetic = roofline.ceilingFlopsPerSecond === null ? 0 : roofline.flopsPerSecond / roofline.ceilingFlopsPerSecond;
  return memory >= arithmetic ? 'memory' : 'arithmetic';
}

/** An entry with a number that stands under ceilings. */
export type RatedEntry = Entry & { readonly roofline: EntryRoofline; readonly latencyMs: number };

/** Entries that stand under ceilings. */
export function ratedEntries(entries: readonly Entry[]): readonly RatedEntry[] {
  return entries.filter((entry): entry is RatedEntry => entry.roofline !== null && entry.latencyMs !== null);
}

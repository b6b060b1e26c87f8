/**
 * What a number stands against. Published language-model cases have no record: their floors are what one decoder layer
 * must read and compute, over what an A100's data sheet promises. Our records carry bytes, FLOPs and ceilings; where
 * cuBLASLt's products were measured on the same GPU, they are the ceiling of the arithmetic.
 */
import { arithmeticRate, type LibraryCeilings } from '../baselines/ceilings.js';
import type { Entry } from './entries.js';
import { sameGpu } from './names.js';

/** NVIDIA's data sheet for the A100 80GB PCIe: dense rates. It has no FP8 units: such products run at the FP16 rate. */
const a100 = { bytesPerSecond: 1.935e12, fp16: 312e12, int8: 624e12, int4: 1248e12 };

const layers: Readonly<Record<string, { readonly weights: number; readonly hidden: number }>> = {
  'llama2-70b': { weights: 855.6e6, hidden: 8192 }, 'bloom-176b': { weights: 2466e6, hidden: 14336 },
};

/** Bits of a stored weight; MX adds one 8-bit scale per 32. */
function weightBits(format: string): number | null {
  const match = /^W_(MXFP|FP|INT|NF)(\d+) /.exec(format);
  return match === null ? null : Number(match[2]) + (match[1] === 'MXFP' ? 8 / 32 : 0);
}

/** Achieved rates of a case and the ceilings they stand against. */
export interface Roof {
  readonly bytesPerSecond: number;
  readonly flopsPerSecond: number;
  readonly ceilingBytesPerSecond: number;
  readonly ceilingFlopsPerSecond: number | null;
  /** Floor over measured time. */
  readonly fraction: number;
  /** Bandwidth from the record and arithmetic from the table of known GPUs (lib/run/ceilings.ts); arithmetic from cuBLASLt's products on that GPU; neither measured. */
  readonly ceilings: 'measured' | 'measured, cuBLASLt' | 'data sheet';
}

/** The roof with another ceiling of arithmetic. */
function withArithmetic(roof: Roof, ceilingFlopsPerSecond: number): Roof {
  const fraction = Math.max(roof.bytesPerSecond / roof.ceilingBytesPerSecond, roof.flopsPerSecond / ceilingFlopsPerSecond);
  return { ...roof, ceilingFlopsPerSecond, fraction, ceilings: 'measured, cuBLASLt' };
}

/** An entry of ours under what cuBLASLt reached on the same GPU, where that was measured; else as it is. */
export function underLibrary(entry: Entry, all: readonly LibraryCeilings[]): Entry {
  if (entry.roof === null) return entry;
  const ceilings = newestCeilings(all, entry.gpu);
  const rate = ceilings === null ? null : arithmeticRate(ceilings, entry.format);
  return rate === null ? entry : { ...entry, roof: withArithmetic(entry.roof, rate) };
}

/** The newest measurement of a GPU's library. */
export function newestCeilings(all: readonly LibraryCeilings[], gpu: string | null): LibraryCeilings | null {
  return all.filter(({ device }) => sameGpu(device.name, gpu)).sort((a, b) => (a.date < b.date ? 1 : -1))[0] ?? null;
}

/** The roof of a published A100 case; null for models whose bytes are not known here. */
export function publishedRoof(model: string, setting: string, format: string, latencyMs: number): Roof | null {
  const layer = layers[model];
  const shape = /^bs(\d+)_seq(\d+)$/.exec(setting);
  const bits = weightBits(format);
  if (layer === undefined || shape === null || bits === null) return null;
  const [batch, sequence] = [Number(shape[1]), Number(shape[2])];
  const tokens = batch * sequence;
  const bytes = (layer.weights * bits) / 8;
  // Attention: two products of S × S per token and hidden element.
  const flops = 2 * layer.weights * tokens + 4 * tokens * sequence * layer.hidden;
  const ceilingFlopsPerSecond = format.endsWith('A_INT8') ? a100.int8 : format.endsWith('A_INT4') ? a100.int4 : a100.fp16;
  const seconds = latencyMs / 1000;
  return {
    bytesPerSecond: bytes / seconds, flopsPerSecond: flops / seconds,
    ceilingBytesPerSecond: a100.bytesPerSecond, ceilingFlopsPerSecond,
    fraction: Math.max(bytes / a100.bytesPerSecond, flops / ceilingFlopsPerSecond) / seconds, ceilings: 'data sheet',
  };
}

/** Whether a case stands under the memory's roof or the arithmetic's. */
export function boundBy(roof: Roof): 'memory' | 'arithmetic' {
  const memory = roof.bytesPerSecond / roof.ceilingBytesPerSecond;
  const arithmetic = roof.ceilingFlopsPerSecond === null ? 0 : roof.flopsPerSecond / roof.ceilingFlopsPerSecond;
  return memory >= arithmetic ? 'memory' : 'arithmetic';
}

/** Entries that have a roof. */
export function roofed(entries: readonly Entry[]): readonly (Entry & { readonly roof: Roof; readonly latencyMs: number })[] {
  return entries.filter((entry): entry is Entry & { readonly roof: Roof; readonly latencyMs: number } => entry.roof !== null && entry.latencyMs !== null);
}

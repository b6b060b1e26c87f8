/**
 * Floors of the published language-model cases: what one decoder layer must read and compute, over what an A100's data
 * sheet promises. Only for numbers that were measured elsewhere and have no record of their own; our records carry
 * bytes, FLOPs and ceilings measured on their own device.
 */
import type { Entry } from './entries.js';

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
  readonly ceilings: 'measured' | 'data sheet';
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

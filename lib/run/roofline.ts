/**
 * Where a latency stands against the device's ceilings: bytes against the read bandwidth measured here, arithmetic
 * against the table of ceilings.ts. The floor is the larger of both times; the fraction is floor over measured time.
 */
import type { Manifest } from '../artifact/manifest.js';
import { operators as primitives } from '../operators/index.js';
import { isQuantised, type Program } from '../operators/program.js';
import { LadderError } from '../errors.js';
import { kPlainFormat } from '../formats/index.js';
import { native } from '../native.js';
import { arithmeticCeiling } from './ceilings.js';
import { ordinalOf, type DeviceInfo } from './device.js';
import type { BenchRecord } from './record-types.js';

export type Roofline = NonNullable<BenchRecord['roofline']>;

/** Far above any L2 cache, so that the reads come from device memory. */
const kReadBytes = 2 ** 31;
const kReadRepeats = 10;

const bandwidths = new Map<number, Promise<number>>();

/**
 * Bytes/s that reading device memory reaches, measured once per process and device.
 * @returns null for the CPU, whose clock and cores are shared
 * @throws LadderError `OUT_OF_MEMORY` when no two gigabytes are free for the measurement, CUDA errors
 */
export async function readBandwidth(device: DeviceInfo): Promise<number | null> {
  if (device.kind === 'cpu') return null;
  const ordinal = ordinalOf(device);
  const measuring = bandwidths.get(ordinal) ?? native().measureReadBandwidth(ordinal, kReadBytes, kReadRepeats);
  bandwidths.set(ordinal, measuring);
  try {
    return await measuring;
  } catch (error) {
    bandwidths.delete(ordinal);
    throw error;
  }
}

/** The format that an operator multiplies in: its products' activations', or FP16 for everything else. */
function arithmeticOf({ values, nodes }: Program): string {
  const types = nodes.flatMap(({ kind, inputs }) => (primitives.get(kind).anchor ? [values[inputs[0]!]!.type] : []));
  return types.find(isQuantised)?.format ?? kPlainFormat;
}

/** FLOP/s that the operators could reach one after another, each at its format's ceiling; null on an unknown GPU or without arithmetic. */
export function mixedCeiling(
  deviceName: string,
  operators: readonly { readonly program: Program; readonly flops: number }[],
): number | null {
  let flops = 0;
  let seconds = 0;
  for (const operator of operators) {
    const ceiling = arithmeticCeiling(deviceName, arithmeticOf(operator.program));
    if (ceiling === null) return null;
    flops += operator.flops;
    seconds += operator.flops / ceiling;
  }
  return seconds > 0 ? flops / seconds : null;
}

/** Rates a time against the ceilings. */
export function rooflineOf(
  work: { readonly bytes: number; readonly flops: number },
  latencyMs: number,
  ceilingBytesPerSecond: number,
  ceilingFlopsPerSecond: number | null,
): Roofline {
  if (!(latencyMs > 0)) throw new LadderError('INTERNAL', `expected a latency above 0 but received ${latencyMs}`);
  const seconds = latencyMs / 1000;
  const memorySeconds = work.bytes / ceilingBytesPerSecond;
  const arithmeticSeconds = ceilingFlopsPerSecond === null ? 0 : work.flops / ceilingFlopsPerSecond;
  return {
    bytes: work.bytes,
    flops: work.flops,
    bytesPerSecond: work.bytes / seconds,
    flopsPerSecond: work.flops / seconds,
    ceilingBytesPerSecond,
    ceilingFlopsPerSecond,
    fraction: Math.max(memorySeconds, arithmeticSeconds) / seconds,
  };
}

/**
 * What says how near a case comes to its ceilings: the rates with a cold L2 cache, where that was measured, since a hot one may keep
 * some of what is read; else the headline's.
 */
export function ratedRoofline({ roofline, cold }: Pick<BenchRecord, 'roofline' | 'cold'>): {
  readonly roofline: Roofline | null;
  readonly coldL2: boolean;
} {
  return cold?.roofline ? { roofline: cold.roofline, coldL2: true } : { roofline, coldL2: false };
}

/** The roofline of a whole checkpoint; null without a manifest or on the CPU. */
export async function checkpointRoofline(manifest: Manifest | null, device: DeviceInfo, latencyMs: number): Promise<Roofline | null> {
  if (!manifest) return null;
  const bandwidth = await readBandwidth(device);
  return bandwidth === null ? null : rooflineOf(manifest, latencyMs, bandwidth, mixedCeiling(device.name, manifest.operators));
}

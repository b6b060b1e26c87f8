/**
 * Time per operator: each alone between two events, many times. The sum exceeds the latency of the whole, because
 * operators that follow each other overlap there; shares are what a profile is for.
 */
import type { Loaded } from './load.js';
import { cancellable } from './benchmark.js';
import type { DeviceInfo } from './device.js';
import type { CheckedProfileOptions } from './options.js';
import { mixedCeiling, readBandwidth, rooflineOf, type Roofline } from './roofline.js';
import { median } from './statistics.js';

/** One operator's time. */
export interface ProfiledOperator {
  readonly node: string;
  /** Shapes of its outputs. */
  readonly shapes: readonly (readonly number[])[];
  readonly inputs: number;
  readonly outputs: number;
  readonly medianMs: number;
  readonly minMs: number;
  /** Of the operators' sum, 0…1. */
  readonly share: number;
  /** Against the device's ceilings; null without a manifest or on the CPU. */
  readonly roofline: Roofline | null;
}

export interface ProfileReport {
  readonly operators: readonly ProfiledOperator[];
  readonly samples: number;
  /** Sum of the medians. */
  readonly totalMs: number;
  readonly device: DeviceInfo;
}

/**
 * Profiles a loaded checkpoint.
 * @throws LadderError `ABORTED`, what operators throw
 */
export async function profileLoaded(loaded: Loaded, options: CheckedProfileOptions): Promise<ProfileReport> {
  const { executor, plan, device, checkpoint } = loaded;
  const wanted = options.samples ?? (device.kind === 'cuda' ? 50 : 2);
  const progress = (fraction: number): void => options.onProgress?.({ phase: 'profile', fraction, detail: null });
  progress(0);
  const { operatorMs, samples } = await cancellable(executor, options.signal, () => executor.profile(wanted, progress));
  const bandwidth = checkpoint.manifest ? await readBandwidth(device) : null;
  const work = new Map(checkpoint.manifest?.operators.map((operator) => [operator.node, operator]));
  const timed = plan.operators.map(({ node, inputs, outputs }, i) => {
    const times = operatorMs.subarray(i * samples, (i + 1) * samples);
    const medianMs = median(times);
    const described = work.get(node);
    return {
      node,
      shapes: outputs.map((entry) => plan.entries[entry]!.shape),
      inputs: inputs.length,
      outputs: outputs.length,
      medianMs,
      minMs: Math.min(...times),
      roofline:
        described && bandwidth !== null && medianMs > 0
          ? rooflineOf(described, medianMs, bandwidth, mixedCeiling(device.name, [described]))
          : null,
    };
  });
  const totalMs = timed.reduce((sum, { medianMs }) => sum + medianMs, 0);
  return {
    operators: timed.map((operator) => ({ ...operator, share: totalMs > 0 ? operator.medianMs / totalMs : 0 })),
    samples,
    totalMs,
    device,
  };
}

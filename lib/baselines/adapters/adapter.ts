/**
 * What a rival system's adapter is: it says whether it can run here, and runs one case of Figure 8 into one record.
 * A case that fails is a record with `status: 'failed'` and its reason; only an abort throws. Which adapters there are,
 * and running many of them: index.ts. Logs of earlier runs are read elsewhere (../scan.ts).
 */
import { kPlainLabel } from '../../artifact/names.js';
import { LadderError } from '../../errors.js';
import { figure8Models, figure8Settings } from '../../models/index.js';
import { isComputeBound } from '../../run/conditions.js';
import type { BenchmarkOptions } from '../../run/options.js';
import { packageCommit } from '../../run/package.js';
import type { BenchRecord, ClockKind } from '../../run/record-types.js';
import { unmeasured } from '../../run/record.js';

/** One place of Figure 8: what every system is given. */
export interface BaselineCase {
  /** As in lib/models. */
  readonly model: string;
  /** bs1_seq1, bs32_seq1, bs1_seq4096 for layers; bs1, bs128 for networks. */
  readonly setting: string;
}

/** Whether a system can run on this machine. The reason says what is missing and how to get it. */
export type Availability = { readonly ok: true; readonly version: string } | { readonly ok: false; readonly reason: string };

/** How far a case is. */
export interface BaselineProgress {
  /** import, build, reference, compile, capture, warmup, samples, paper; a system's own words otherwise. */
  readonly stage: string;
  /** 0…1, or null where nothing can be counted. */
  readonly fraction: number | null;
  readonly detail: string | null;
}

/**
 * What a run may be told. Defaults are those of our own measurements, so that both sides follow one protocol; a system that
 * measures in both modes records both, and `mode` is the headline. `signal` also kills child processes.
 */
export interface AdapterOptions
  extends Pick<
    BenchmarkOptions,
    | 'signal'
    | 'mode'
    | 'warmupMs'
    | 'minSamples'
    | 'maxSamples'
    | 'maxMs'
    | 'recoveryMs'
    | 'sustained'
    | 'number'
    | 'repeat'
    | 'minRepeatMs'
  > {
  readonly onProgress?: ((progress: BaselineProgress) => void) | undefined;
  /** CUDA ordinal. Default 0. */
  readonly ordinal?: number | undefined;
  /** Wall-clock limit of one case, ms; each adapter has its own default. */
  readonly timeoutMs?: number | undefined;
}

export interface BaselineAdapter {
  /** As in records: `pytorch-eager`, `tensorrt`, … */
  readonly system: string;
  /** Whether the system has the case at all; default: every case of Figure 8. */
  covers?(case_: BaselineCase): boolean;
  /** Whether an earlier, valid record of a case still says what a new one would; default: it does. */
  stands?(record: BenchRecord, case_: BaselineCase): Promise<boolean>;
  /** Looks for the system; asked once and remembered. Never throws. */
  available(): Promise<Availability>;
  /**
   * Runs one case.
   * @throws LadderError `ABORTED`; `BAD_ARGUMENT` for a case that Figure 8 does not have
   */
  run(case_: BaselineCase, options?: AdapterOptions): Promise<BenchRecord>;
}

/** Batch and tokens per sequence of a case. @throws LadderError `BAD_ARGUMENT` */
export function shapeOf(case_: BaselineCase): { readonly batch: number; readonly seq: number } {
  const known = figure8Models();
  const found = known.find(({ id }) => id === case_.model);
  const layer = found?.kind === 'layer';
  const match = (layer ? /^bs([1-9]\d{0,5})_seq([1-9]\d{0,5})$/ : /^bs([1-9]\d{0,5})$/).exec(case_.setting);
  if (found === undefined || match === null) {
    const example = figure8Settings(found ?? known.at(-1)!).at(-1);
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected a setting such as ${example} of one of ${known.map(({ id }) => id).join(', ')} for \`case\` but received ${case_.model} ${case_.setting}`,
      { model: case_.model, setting: case_.setting },
    );
  }
  return { batch: Number(match[1]), seq: Number(match[2] ?? 1) };
}

/** Whether a system's samples are taken in bursts, and whether under lasting load as well: as our own (run/benchmark.ts). */
export function conditionsOf(
  { setting }: BaselineCase,
  { recoveryMs, sustained = 'auto' }: AdapterOptions,
): { readonly burst: boolean; readonly sustained: boolean } {
  const burst = recoveryMs !== 0;
  return { burst, sustained: burst && (sustained === 'on' || (sustained === 'auto' && isComputeBound(setting))) };
}

/** A device that nothing could be learnt of: a system that failed before it saw one. */
const unknownDevice: BenchRecord['device'] = {
  kind: 'cuda',
  name: 'unknown',
  computeCapability: null,
  driverVersion: null,
  multiprocessors: null,
  memoryBytes: 0,
  l2Bytes: null,
};

/** What a record holds before anything was measured: identity, date and commit. */
export function emptyRecord(system: string, systemVersion: string, case_: BaselineCase, clock: ClockKind): BenchRecord {
  return {
    schema: 'ladder-record/1',
    system,
    systemVersion,
    model: case_.model,
    setting: case_.setting,
    format: kPlainLabel,
    checkpoint: null,
    status: 'failed',
    reason: 'not run',
    warnings: [],
    clock,
    mode: 'samples',
    launch: 'stream',
    l2: 'hot',
    ...unmeasured,
    device: unknownDevice,
    stateBefore: null,
    stateAfter: null,
    date: new Date().toISOString(),
    commit: packageCommit(),
  };
}

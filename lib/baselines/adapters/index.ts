/**
 * The rival systems that `ladder bench --reproduce` measures on this machine, beside our checkpoints, and the loop over
 * their cases. One file per case, written before the next begins, so that an interrupted run goes on where it stopped; what is taken over
 * goes by content (run/bench-content.ts), never by dates.
 */
import { join } from 'node:path';
import { writeRecord } from '../../run/bench.js';
import { readEarlier, rivalContentOf, sealRecord, type BenchContent } from '../../run/bench-content.js';
import type { DeviceInfo } from '../../run/device.js';
import { throwIfAborted } from '../../run/options.js';
import type { BenchRecord } from '../../run/record-types.js';
import {
  shapeOf,
  type AdapterOptions,
  type Availability,
  type BaselineAdapter,
  type BaselineCase,
  type BaselineProgress,
} from './adapter.js';
import { runnableSystems } from '../systems/index.js';

export type { AdapterOptions, Availability, BaselineAdapter, BaselineCase, BaselineProgress } from './adapter.js';

/** The systems that can be measured without a search of days, in the figure's order. */
export async function baselineAdapters(): Promise<readonly BaselineAdapter[]> {
  return Promise.all(runnableSystems(false).map(({ adapter }) => adapter.load()));
}

/** Those that search first: `--force-tune`. */
export async function tunerAdapters(): Promise<readonly BaselineAdapter[]> {
  return Promise.all(runnableSystems(true).map(({ adapter }) => adapter.load()));
}

/** The file of a rival's record: `pytorch-eager.llama2-70b.bs1_seq1.json`. */
export function baselineFileName(system: string, case_: BaselineCase): string {
  return `${system}.${case_.model}.${case_.setting}.json`;
}

export interface ReproduceOptions extends Omit<AdapterOptions, 'onProgress'> {
  /** Where the records go; made if missing. */
  readonly folder: string;
  /** Default: {@link baselineAdapters}. */
  readonly adapters?: readonly BaselineAdapter[] | undefined;
  /** Measures again what is there already. Failed and invalid records are always tried again. Default false. */
  readonly again?: boolean | undefined;
  /** What is at `ordinal`; null where nobody looked. */
  readonly device?: DeviceInfo | null | undefined;
  /** Told why an earlier record is not taken over. */
  readonly onStale?: ((system: string, case_: BaselineCase, reason: string) => void) | undefined;
  /** Told of every case; `cases` counts all of all available systems. */
  readonly onProgress?: ((progress: ReproduceProgress) => void) | undefined;
}

export interface ReproduceProgress extends BaselineProgress {
  readonly system: string;
  readonly case: BaselineCase;
  /** Position of this case, from 0, and how many there are. */
  readonly index: number;
  readonly cases: number;
}

export interface ReproduceResult {
  /** One per system and case, the resumed ones included; failed ones too. */
  readonly records: readonly { readonly path: string; readonly record: BenchRecord; readonly resumed: boolean }[];
  /** Systems that cannot run here, with what is missing. */
  readonly unavailable: readonly { readonly system: string; readonly reason: string }[];
}

/** An earlier record that stands for its case: valid, and of the very same content; or why there is none. */
async function standing(
  path: string,
  content: BenchContent,
  adapter: BaselineAdapter,
  case_: BaselineCase,
): Promise<ReturnType<typeof readEarlier>> {
  const earlier = readEarlier(path, content);
  if (!earlier?.record) return earlier;
  const { system, model, setting } = earlier.record;
  if (system !== adapter.system || model !== case_.model || setting !== case_.setting)
    return { record: null, reason: `its record is of ${system} ${model} ${setting}` };
  const stands = (await adapter.stands?.(earlier.record, case_)) ?? true;
  return stands ? earlier : { record: null, reason: 'what it was sampled in turn with is another' };
}

/**
 * Measures every case with every system that is here, and leaves one record each in `options.folder`. A system that
 * fails leaves a record that says why; one that is not here is only listed.
 * @throws LadderError `ABORTED`, after which the same call resumes; `BAD_ARGUMENT` for a case without such a setting; `IO`
 * @example
 * const { records, unavailable } = await reproduceBaselines([{ model: 'llama2-70b', setting: 'bs1_seq1' }], { folder: 'out' });
 */
export async function reproduceBaselines(cases: readonly BaselineCase[], options: ReproduceOptions): Promise<ReproduceResult> {
  for (const case_ of cases) shapeOf(case_);
  const { folder, adapters = await baselineAdapters(), again = false, onProgress, onStale, device = null, ...adapterOptions } = options;
  // The limit of a case and the signal say nothing of what is measured.
  const { signal: _, timeoutMs: __, ordinal: ___, ...timing } = adapterOptions;
  throwIfAborted(options.signal);
  const here: { adapter: BaselineAdapter; version: string }[] = [];
  const unavailable: { system: string; reason: string }[] = [];
  for (const adapter of adapters) {
    const found: Availability = await adapter.available();
    if (found.ok) here.push({ adapter, version: found.version });
    else unavailable.push({ system: adapter.system, reason: found.reason });
  }
  const records: { path: string; record: BenchRecord; resumed: boolean }[] = [];
  const covers = (adapter: BaselineAdapter, case_: BaselineCase): boolean => adapter.covers?.(case_) ?? true;
  const total = cases.reduce((sum, case_) => sum + here.filter(({ adapter }) => covers(adapter, case_)).length, 0);
  // Systems inside cases: figures that are compared with each other are measured minutes apart, not hours.
  for (const case_ of cases) {
    for (const { adapter, version } of here) {
      throwIfAborted(options.signal);
      if (!covers(adapter, case_)) continue;
      const path = join(folder, baselineFileName(adapter.system, case_));
      const content = rivalContentOf(version, device, timing);
      const earlier = again ? null : await standing(path, content, adapter, case_);
      if (earlier?.record) {
        records.push({ path, record: earlier.record, resumed: true });
        continue;
      }
      if (earlier) onStale?.(adapter.system, case_, earlier.reason);
      const index = records.length;
      const record = sealRecord(
        await adapter.run(case_, {
          ...adapterOptions,
          onProgress: onProgress && ((progress) => onProgress({ ...progress, system: adapter.system, case: case_, index, cases: total })),
        }),
        content,
      );
      await writeRecord(path, record);
      records.push({ path, record, resumed: false });
    }
  }
  return { records, unavailable };
}

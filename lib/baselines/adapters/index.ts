/**
 * The rival systems that `ladder bench --reproduce` measures on this machine, beside our checkpoints, and the loop over
 * their cases. One file per case, written before the next begins, so that an interrupted run goes on where it stopped.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeRecord } from '../../run/bench.js';
import { throwIfAborted } from '../../run/options.js';
import { packageRoot } from '../../run/package.js';
import { parseRecord, type BenchRecord } from '../../run/record.js';
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

/** When the scripts that do the measuring were last changed: an older record is not theirs. */
function scriptsChangedMs(): number {
  const folder = join(packageRoot, 'bench', 'baselines');
  const scripts = readdirSync(folder).filter((name) => name.endsWith('.py'));
  return Math.max(0, ...scripts.map((name) => statSync(join(folder, name)).mtimeMs));
}

/** An earlier record that stands for its case: valid, of the same version of the system, and of today's scripts; else null. */
function readEarlier(path: string, system: string, version: string, case_: BaselineCase, mode: 'samples' | 'paper'): BenchRecord | null {
  let record: BenchRecord;
  try {
    record = parseRecord(readFileSync(path, 'utf8'), path);
  } catch {
    // Absent, or of an older schema: measured anew.
    return null;
  }
  const same =
    record.system === system && record.systemVersion === version && record.model === case_.model && record.setting === case_.setting;
  return same && record.status === 'ok' && record.mode === mode && Date.parse(record.date) >= scriptsChangedMs() ? record : null;
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
  const { folder, adapters = await baselineAdapters(), again = false, onProgress, ...adapterOptions } = options;
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
      const known = again ? null : readEarlier(path, adapter.system, version, case_, options.mode ?? 'samples');
      if (known && ((await adapter.stands?.(known, case_)) ?? true)) {
        records.push({ path, record: known, resumed: true });
        continue;
      }
      const index = records.length;
      const record = await adapter.run(case_, {
        ...adapterOptions,
        onProgress: onProgress && ((progress) => onProgress({ ...progress, system: adapter.system, case: case_, index, cases: total })),
      });
      await writeRecord(path, record);
      records.push({ path, record, resumed: false });
    }
  }
  return { records, unavailable };
}

/**
 * Entries (entry.ts) of published sets, logs of other systems and our saved records: reading them, choosing the newest, and
 * the figure's order.
 */
import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { readSmallFile } from '../artifact/regular-file.js';
import { LadderError } from '../errors.js';
import { decodeText } from '../files.js';
import { ceilingsMark, parseCeilings, type LibraryCeilings } from '../baselines/ceilings.js';
import { scanLogs, type BaselineEntry } from '../baselines/scan.js';
import { systemNamed } from '../baselines/systems/index.js';
import { figure8Models, figure8Settings } from '../models/index.js';
import { isUnedited } from '../run/bench-content.js';
import { parseAs } from '../run/record-schema.js';
import type { BenchRecord } from '../run/record-types.js';
import { parseRecord } from '../run/record.js';
import { ratedRoofline } from '../run/roofline.js';
import { publishedRoofline } from './ceilings.js';
import { figure8Folder, loadArchiveLogs, loadFigureSet, setNames, type FigureSet, type SetName } from './data.js';
import type { Entry, EntrySet, Interval } from './entry.js';
import { subject, systemFamily } from './names.js';

/** More than a list of records of every case takes. */
const kMaxRecordsBytes = 256 << 20;

/**
 * Nonparametric 95 % confidence interval of the median: ranks n/2 − 0.98·√n and 1 + n/2 + 0.98·√n of
 * the sorted samples, rounded outwards. Null below
 * six samples, where no such pair of ranks exists.
 */
export function medianInterval(samples: readonly number[]): Interval | null {
  const n = samples.length;
  if (n < 6) return null;
  const sorted = [...samples].sort((a, b) => a - b);
  const half = (1.96 * Math.sqrt(n)) / 2;
  const low = sorted[Math.max(0, Math.floor(n / 2 - half) - 1)];
  const high = sorted[Math.min(n - 1, Math.ceil(n / 2 + half))];
  return low === undefined || high === undefined ? null : { lowMs: low, highMs: high, kind: 'median-ci95' };
}

/** The entries of a published set. */
export function entriesOfSet(set: FigureSet): Entry[] {
  return set.models.flatMap((model) =>
    model.rows.flatMap((row) =>
      model.settings.map((setting): Entry => {
        const latencyMs = row.latencyMs[setting] ?? null;
        return {
          system: row.system,
          family: systemFamily(row.system),
          model: model.model,
          setting,
          format: row.format,
          latencyMs,
          reason: latencyMs === null ? 'not supported' : null,
          interval: null,
          clock: set.systems[row.system]?.clock ?? null,
          gpu: set.gpu,
          l2: systemNamed(row.system)?.l2 ?? null,
          coldMs: null,
          condition: null,
          meanState: null,
          roofline: latencyMs === null ? null : publishedRoofline(model.model, setting, row.format, latencyMs),
          marks: row.marks.filter((mark) => mark.setting === setting),
          source: `${set.set} (OSDI 2024)`,
          date: null,
          commit: null,
        };
      }),
    ),
  );
}

/** The entry of a log. @param gpu where the log does not say it */
export function entryOfLog(log: BaselineEntry, gpu: string | null): Entry | null {
  if (log.system === null || log.model === null || log.setting === null || log.format === null) return null;
  const { result } = log;
  return {
    system: log.system,
    family: systemFamily(log.system),
    model: log.model,
    setting: log.setting,
    format: log.format,
    latencyMs: result?.latencyMs ?? null,
    reason: log.result === null ? log.reason : null,
    interval:
      result?.range === null || result?.range === undefined
        ? null
        : { lowMs: result.range.lowMs, highMs: result.range.highMs, kind: 'range' },
    clock: result?.clock ?? null,
    gpu,
    l2: systemNamed(log.system)?.l2 ?? null,
    coldMs: null,
    condition: null,
    meanState: null,
    roofline: null,
    marks: [],
    source: log.path,
    date: null,
    commit: null,
  };
}

/** The entries of a saved record: its headline, and where there is one the figure under lasting load. @param source its file */
export function entriesOfRecord(record: BenchRecord, source: string): Entry[] {
  const headline = entryOfRecord(record, source);
  const { sustained, verified, status } = record;
  if (!sustained) return [headline];
  // What the power limit did to the bursts is no fault of this one; wrong results are.
  const reason = sustained.reason ?? (verified === false || status === 'failed' ? headline.reason : null);
  return [
    headline,
    {
      ...headline,
      condition: 'sustained',
      coldMs: null,
      meanState: sustained.meanState,
      latencyMs: reason === null ? sustained.latencyMs : null,
      reason,
      interval: reason === null ? medianInterval(sustained.rawMs) : null,
      roofline: null,
    },
  ];
}

/** The entry of a record's headline. */
export function entryOfRecord(record: BenchRecord, source: string): Entry {
  const ok = record.status === 'ok';
  const { roofline, coldL2 } = ratedRoofline(record);
  const interval =
    record.mode === 'samples' && record.rawMs !== null
      ? medianInterval(record.rawMs)
      : record.paper !== null
        ? { lowMs: record.paper.minMs, highMs: record.paper.maxMs, kind: 'range' as const }
        : null;
  return {
    system: record.system,
    family: systemFamily(record.system),
    model: record.model,
    setting: record.setting,
    format: record.format,
    latencyMs: ok ? record.latencyMs : null,
    reason: ok ? null : `${record.status}: ${record.reason ?? 'no reason recorded'}`,
    interval: ok ? interval : null,
    clock: record.clock,
    gpu: record.device.name,
    l2: record.l2,
    coldMs: ok ? (record.cold?.latencyMs ?? null) : null,
    condition: record.condition ?? null,
    meanState: record.meanState ?? null,
    roofline: roofline === null || !ok ? null : { ...roofline, coldL2, ceilings: 'measured' },
    marks: [],
    source,
    date: record.date,
    commit: record.commit,
  };
}

/** A saved record and its file. */
export interface SavedRecord {
  readonly record: BenchRecord;
  readonly path: string;
}

/** A JSON file that was read. */
interface JsonFile {
  readonly path: string;
  readonly text: string;
  readonly json: unknown;
}

/**
 * Every `*.json`, in whatever case, below a folder, or one file, that has `mark` in it.
 * @returns the files, and errors of those that cannot be read or are no JSON: what they were to say, nobody knows
 * @throws LadderError `IO` for the folder
 */
async function filesWith(
  mark: string,
  path: string,
): Promise<{ readonly files: readonly JsonFile[]; readonly broken: readonly LadderError[] }> {
  let paths: string[] = [path];
  try {
    if (statSync(path).isDirectory())
      paths = (await readdir(path, { recursive: true }))
        .filter((name) => /\.json$/i.test(name))
        .sort()
        .map((name) => join(path, name));
  } catch (cause) {
    throw new LadderError('IO', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
  const files: JsonFile[] = [];
  const broken: LadderError[] = [];
  for (const file of paths) {
    try {
      const bytes = await readSmallFile(file, kMaxRecordsBytes, 'BAD_RECORD');
      const text = decodeText(bytes ?? new Uint8Array(0));
      // A single file may be a log.
      if (!/\.json$/i.test(file) && !text.includes(mark)) continue;
      const json = parseAs(z.unknown(), text, file);
      if (text.includes(mark)) files.push({ path: file, text, json });
    } catch (error) {
      if (!(error instanceof LadderError)) throw error;
      broken.push(error);
    }
  }
  return { files, broken };
}

/** Records that were found, and what is wrong with those that are passed over. */
export interface FoundRecords {
  readonly records: readonly SavedRecord[];
  readonly remarks: readonly string[];
}

/**
 * Every record (`*.json` with our schema) below a folder, or in one file: one record or a list of them. Other JSON files are passed
 * over; so is a broken record, and a file that is cut short, empty or no regular file, which is remarked, as is one that was changed after it
 * was written.
 * @throws LadderError `IO`; `BAD_RECORD` for one file that is a broken record
 */
export async function loadRecords(path: string): Promise<FoundRecords> {
  const records: SavedRecord[] = [];
  const { files, broken: unreadable } = await filesWith('"ladder-record/', path);
  const broken = [...unreadable];
  const remarks: string[] = [];
  for (const { path: file, text, json } of files) {
    for (const item of Array.isArray(json) ? json.map((one) => JSON.stringify(one)) : [text]) {
      try {
        const record = parseRecord(item, file);
        records.push({ record, path: file });
        if (isUnedited(record) === false)
          remarks.push(`${file} was changed after it was written: its figures are not as they were measured`);
      } catch (error) {
        if (!(error instanceof LadderError)) throw error;
        broken.push(error);
      }
    }
  }
  if (records.length === 0 && broken.length > 0 && !statSync(path).isDirectory()) throw broken[0]!;
  return { records, remarks: [...broken.map(passedOver), ...remarks] };
}

function passedOver(error: LadderError): string {
  return `passed over: ${error.message}`;
}

/** Every file of cuBLASLt's products below a folder; a broken one is remarked. @throws LadderError `IO` */
export async function loadCeilings(
  path: string,
): Promise<{ readonly ceilings: readonly LibraryCeilings[]; readonly remarks: readonly string[] }> {
  const ceilings: LibraryCeilings[] = [];
  // Files that are no JSON are remarked with the records.
  const { files } = await filesWith(ceilingsMark, path);
  const remarks: string[] = [];
  for (const { path: file, text } of files) {
    try {
      ceilings.push(parseCeilings(text, file));
    } catch (error) {
      if (!(error instanceof LadderError)) throw error;
      remarks.push(passedOver(error));
    }
  }
  return { ceilings, remarks };
}

/** Of several records of one case under one condition, the newest valid one; without a valid one, the newest. */
export function newest(entries: readonly Entry[]): Entry[] {
  const best = new Map<string, Entry>();
  for (const entry of entries) {
    const key = [entry.system, entry.model, entry.setting, entry.format, entry.gpu, entry.condition === 'sustained'].join('|');
    const old = best.get(key);
    const better =
      old === undefined ||
      (entry.latencyMs !== null && old.latencyMs === null) ||
      ((entry.latencyMs !== null) === (old.latencyMs !== null) && (entry.date ?? '') >= (old.date ?? ''));
    if (better) best.set(key, entry);
  }
  return [...best.values()];
}

/** Entries in the figure's order: model, setting, other systems before Ladder's, format. What the figure lacks comes last. */
export function inFigureOrder(entries: readonly Entry[]): Entry[] {
  const models = figure8Models().map(({ id }) => id);
  const settings = figure8Models().flatMap(figure8Settings);
  const formats = loadFigureSet('paper').models.flatMap(({ rows }) => rows.map(({ format }) => format));
  const place = (list: readonly string[], item: string): number => (list.includes(item) ? list.indexOf(item) : list.length);
  const keysOf = (entry: Entry): number[] => [
    place(models, entry.model),
    place(settings, entry.setting),
    entry.family === subject ? 1 : 0,
    place(formats, entry.format),
    entry.condition === 'sustained' ? 1 : 0,
  ];
  return entries
    .map((entry) => ({ entry, keys: keysOf(entry) }))
    .sort((a, b) => a.keys.map((key, i) => key - (b.keys[i] ?? 0)).find((difference) => difference !== 0) ?? 0)
    .map(({ entry }) => entry);
}

/** A published set; the artifact's AMOS and TensorIR values come from the logs below checkpoints/Figure8. */
export async function loadSet(name: SetName, folder = figure8Folder): Promise<Entry[]> {
  const set = loadFigureSet(name);
  const entries = entriesOfSet(set);
  if (name === 'paper') return entries;
  const logs = (await loadArchiveLogs(folder)).map((log) => entryOfLog(log, set.gpu));
  return entries.map((entry) => {
    const log = logs.find(
      (l) => l !== null && l.system === entry.system && l.model === entry.model && l.setting === entry.setting && l.format === entry.format,
    );
    return log === undefined || log === null ? entry : { ...log, marks: entry.marks };
  });
}

/**
 * What an argument of `ladder compare` means: `paper`, `artifact`, a record file, a folder of records, or a folder of
 * logs.
 * @param gpu of logs, which do not say it; those that lie with the published data are the A100's
 * @throws LadderError `BAD_ARGUMENT`, `IO`, `BAD_RECORD`
 */
export async function loadEntries(spec: string, gpu: string | null = null): Promise<EntrySet> {
  if ((setNames as readonly string[]).includes(spec) && !existsSync(spec))
    return { name: spec, entries: await loadSet(spec as SetName), remarks: [] };
  if (!existsSync(spec))
    throw new LadderError('BAD_ARGUMENT', `expected paper, artifact, a record file or a folder of records or logs but received "${spec}"`, {
      spec,
    });
  const { records, remarks: found } = await loadRecords(spec);
  if (records.length > 0)
    return { name: spec, entries: newest(records.flatMap(({ record, path }) => entriesOfRecord(record, path))), remarks: found };
  const where = resolve(spec).startsWith(figure8Folder) ? loadFigureSet('artifact').gpu : gpu;
  const remarks = [...found];
  const entries: Entry[] = [];
  for (const log of await scanLogs(spec)) {
    const entry = entryOfLog(log, where);
    if (entry === null) remarks.push(`${log.path}: ${log.result === null ? log.reason : 'its name does not say which case it is'}`);
    else entries.push(entry);
  }
  if (entries.length === 0) {
    const why = remarks.length === 0 ? '' : `: ${remarks[0]!}${remarks.length > 1 ? `, and ${remarks.length - 1} more` : ''}`;
    throw new LadderError('BAD_ARGUMENT', `${spec} holds no usable record and no usable log${why}`, { spec, remarks });
  }
  return { name: spec, entries, remarks };
}

/**
 * The tables of report.html: every number with its provenance, and what else a reader needs to judge the figures. Rows
 * only; how a table looks is report.ts's.
 */
import type { LibraryCeilings } from '../baselines/ceilings.js';
import type { BaselineEntry } from '../baselines/scan.js';
import { loadCompileTimes, loadFigureSet, type SetName } from './data.js';
import { entriesOfSet } from './entries.js';
import { describeMeanState } from '../run/conditions.js';
import { describeCeilings } from './ceilings.js';
import type { Entry } from './entry.js';
import { formatSignificant } from '../table.js';
import { clockLabel, modelLabel, settingLabel, shortCommit, shortLabel, systemLabel } from './names.js';
import { numberCell, type ReportCell, type ReportTable } from './report.js';

/** Every number with its provenance. `family` names the system that speed-ups are over, `reference` gives its entry of a case, or none. */
export function provenanceTable(
  title: string,
  note: string,
  entries: readonly Entry[],
  family: string,
  reference: (entry: Entry) => Entry | undefined,
): ReportTable {
  return {
    title,
    note,
    columns: [
      'model',
      'setting',
      'system',
      'format',
      'ms',
      'interval, ms',
      `over ${shortLabel(family)}`,
      'clock',
      'GPU',
      'L2',
      'L2 cold, ms',
      'condition',
      'clock, power',
      'of roofline',
      'date',
      'commit',
      'source',
      'remark',
    ],
    rows: entries.map((entry): ReportCell[] => {
      const base = reference(entry)?.latencyMs;
      const speedUp = base === null || base === undefined || entry.latencyMs === null ? null : base / entry.latencyMs;
      return [
        { text: modelLabel(entry.model) },
        { text: settingLabel(entry.setting) },
        { text: systemLabel(entry.system) },
        { text: entry.format },
        numberCell(entry.latencyMs),
        {
          text:
            entry.interval === null
              ? '—'
              : `${formatSignificant(entry.interval.lowMs)} … ${formatSignificant(entry.interval.highMs)} (${entry.interval.kind})`,
        },
        numberCell(speedUp, (value) => `${value.toPrecision(4)}×`),
        { text: clockLabel(entry.clock) },
        { text: entry.gpu ?? 'not stated' },
        { text: entry.l2 ?? 'not stated' },
        numberCell(entry.coldMs),
        { text: entry.condition ?? '—' },
        { text: describeMeanState(entry.meanState) },
        numberCell(
          entry.roofline?.fraction,
          (value) => `${(value * 100).toFixed(1)} % (${entry.roofline ? describeCeilings(entry.roofline) : ''})`,
        ),
        { text: entry.date ?? '—' },
        { text: entry.commit === null ? '—' : shortCommit(entry.commit) },
        { text: entry.source },
        { text: [entry.reason, ...entry.marks.map((mark) => mark.note)].filter((part) => part !== null).join('; ') },
      ];
    }),
  };
}

/** cuBLASLt's products, by GPU, library and date. */
export function ceilingsTable(all: readonly LibraryCeilings[]): ReportTable {
  return {
    title: "The vendor's library: products of the dense layers",
    note: "cuBLASLt's fastest algorithm of each; its best rate at 1024 rows or more is the arithmetic ceiling of what multiplies in that type on that GPU.",
    columns: ['model', 'layer', 'rows', 'n', 'k', 'type', 'ms', 'TOP/s', 'GB/s', 'GPU', 'driver', 'library', 'date', 'commit', 'remark'],
    rows: all.flatMap(({ products, device, libraryVersion, date, commit }) =>
      products.map(({ shape, m, type, result, reason, stateAfter }) => [
        { text: modelLabel(shape.model) },
        { text: shape.name },
        numberCell(m),
        numberCell(shape.n),
        numberCell(shape.k),
        { text: type },
        numberCell(result?.ms),
        numberCell(result && result.flopsPerSecond / 1e12),
        numberCell(result && result.bytesPerSecond / 1e9),
        { text: device.name },
        { text: device.driverVersion ?? 'not stated' },
        { text: String(libraryVersion) },
        { text: date },
        { text: shortCommit(commit) },
        { text: reason ?? stateAfter?.throttleReasons?.filter((name) => name !== 'gpu_idle').join(', ') ?? '' },
      ]),
    ),
  };
}

/** Numbers that differ by more than a tenth between the paper and the artifact. */
export function disagreementsTable(): ReportTable {
  const [paper, artifact] = [entriesOfSet(loadFigureSet('paper')), entriesOfSet(loadFigureSet('artifact'))];
  const rows = paper.flatMap((entry) => {
    const other = artifact.find(
      (a) => a.system === entry.system && a.format === entry.format && a.model === entry.model && a.setting === entry.setting,
    );
    if (entry.latencyMs === null || other?.latencyMs === null || other?.latencyMs === undefined) return [];
    const change = other.latencyMs / entry.latencyMs - 1;
    return Math.abs(change) <= 0.1
      ? []
      : [
          [
            { text: modelLabel(entry.model) },
            { text: settingLabel(entry.setting) },
            { text: `${entry.system} ${entry.format}` },
            numberCell(entry.latencyMs),
            numberCell(other.latencyMs),
            numberCell(change, (value) => `${(value * 100).toFixed(1)} %`),
            { text: [...entry.marks, ...other.marks].map((mark) => mark.note).join('; ') },
          ],
        ];
  });
  return {
    title: 'Where the paper and its artifact differ by more than 10 %',
    note: 'Both sets are kept as published. Same GPU, same systems.',
    columns: ['model', 'setting', 'system', 'paper, ms', 'artifact, ms', 'change', 'remark'],
    rows,
  };
}

/** What each system's clock saw. */
export function clocksTable(set: SetName): ReportTable {
  return {
    title: 'What each clock saw',
    note: 'The systems of Figure 8 were timed in different ways; ratios between them carry that difference.',
    columns: ['system', 'kind', 'what it is'],
    rows: Object.entries(loadFigureSet(set).systems).map(([system, { clock, clockNote }]) => [
      { text: system },
      { text: clock ?? 'not stated' },
      { text: clockNote },
    ]),
  };
}

/** Table 2. */
export function compileTimesTable(): ReportTable {
  const { title, note, rows } = loadCompileTimes();
  return {
    title: 'Compile times',
    note: `${title}. ${note}`,
    columns: ['model', 'setting', 'system', 'minutes'],
    rows: rows.flatMap((row) =>
      Object.entries(row.minutes).map(([system, minutes]) => [
        { text: modelLabel(row.model) },
        { text: settingLabel(row.setting) },
        { text: system },
        numberCell(minutes),
      ]),
    ),
  };
}

/** Logs that hold no number, and why. */
export function failedLogsTable(logs: readonly BaselineEntry[]): ReportTable {
  return {
    title: 'Logs without a result',
    note: 'Nothing is filled in from elsewhere.',
    columns: ['log', 'reason'],
    rows: logs.flatMap((log) => (log.result === null ? [[{ text: log.path }, { text: log.reason }]] : [])),
  };
}

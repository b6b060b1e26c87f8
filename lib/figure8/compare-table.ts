/**
 * Comparisons as text: the table of `ladder compare`, and the one that ends a bench (the compilers of Table 2 with their
 * compile times, then every system where numbers exist). Each number stands beside its kind of clock. Pure.
 */
import { kPlainLabel } from '../artifact/names.js';
import { csvOf, formatMs, renderTable, type Column } from '../table.js';
import { geometricMean, isSustained, type Comparison, type Mean } from './compare.js';
import type { CompileTimes } from './data.js';
import { describeCeilings } from './ceilings.js';
import type { Entry } from './entry.js';
import { clockLabel, modelLabel, paperReference, references, settingLabel, shortLabel, subject, systemLabel } from './names.js';

const times = (ratio: number): string => `${ratio.toFixed(2)}×`;
const percent = (fraction: number): string => `${(fraction * 100).toFixed(1)} %`;

/** System and format, and the condition that is not the usual one. */
function whoCell(entry: Entry): string {
  return `${systemLabel(entry.system)} ${entry.format}${isSustained(entry) ? ', sustained' : ''}`;
}

/** One value with its interval. */
function valueCell(entry: Entry, basis: 'time' | 'roofline'): string {
  const spread = entry.interval === null ? '' : ` [${formatMs(entry.interval.lowMs)}, ${formatMs(entry.interval.highMs)}]`;
  const fraction =
    basis === 'roofline' && entry.roofline !== null
      ? ` = ${percent(entry.roofline.fraction)} of ceiling (${describeCeilings(entry.roofline)})`
      : '';
  const cold = entry.coldMs === null ? '' : `, L2 cold ${formatMs(entry.coldMs)}`;
  return `${formatMs(entry.latencyMs)}${spread}${cold}${fraction}`;
}

function meanLine(label: string, list: readonly Mean[]): string[] {
  return list.length === 0 ? [] : [`${label}: ${list.map((mean) => `${mean.name} ${times(mean.ratio)} (${mean.pairs})`).join(', ')}`];
}

/** The table of two sets. */
export function comparisonTable(comparison: Comparison): string {
  const columns: Column[] = [
    { title: 'model' },
    { title: 'setting' },
    { title: 'A' },
    { title: 'A ms', align: 'right' },
    { title: 'clock A' },
    { title: 'B' },
    { title: 'B ms', align: 'right' },
    { title: 'clock B' },
    { title: 'A over B', align: 'right' },
    { title: 'verdict' },
    { title: 'differs in' },
  ];
  const rows = comparison.pairs.map((pair) => [
    modelLabel(pair.a.model),
    settingLabel(pair.a.setting),
    whoCell(pair.a),
    valueCell(pair.a, pair.basis),
    clockLabel(pair.a.clock),
    whoCell(pair.b),
    valueCell(pair.b, pair.basis),
    clockLabel(pair.b.clock),
    pair.basis === 'time' ? times(pair.ratio) : `${times(pair.ratio)} of roofline`,
    pair.verdict,
    pair.differences.join('; '),
  ]);
  const lines = [`A = ${comparison.a}, B = ${comparison.b}; above 1×, A is better.`, renderTable(columns, rows)];
  lines.push(
    ...meanLine('Geometric means by system', comparison.bySystem),
    ...meanLine(
      'Geometric means by model',
      comparison.byModel.map((m) => ({ ...m, name: modelLabel(m.name) })),
    ),
  );
  if (comparison.overall !== null)
    lines.push(
      `Overall ${times(comparison.overall.ratio)} over ${comparison.overall.pairs} pairs${comparison.refused > 0 ? `; ${comparison.refused} refused pairs are left out` : ''}.`,
    );
  if (comparison.unpaired.length > 0) {
    lines.push(
      '',
      'Without a partner:',
      renderTable(
        [{ title: 'set' }, { title: 'model' }, { title: 'setting' }, { title: 'system' }, { title: 'reason', maxWidth: 100 }],
        comparison.unpaired.map(({ side, entry, reason }) => [
          side.toUpperCase(),
          modelLabel(entry.model),
          settingLabel(entry.setting),
          whoCell(entry),
          reason,
        ]),
      ),
    );
  }
  return lines.join('\n');
}

/** The pairs of two sets as CSV: latencies in ms, ratio of A over B. */
export function comparisonCsv({ pairs }: Comparison): string {
  const side = (entry: Entry): (string | number | null)[] => [
    entry.system,
    entry.format,
    entry.condition,
    entry.latencyMs,
    entry.interval?.lowMs ?? null,
    entry.interval?.highMs ?? null,
    entry.coldMs,
    entry.clock,
    entry.gpu,
    entry.source,
  ];
  const titles = ['system', 'format', 'condition', 'ms', 'low ms', 'high ms', 'L2 cold ms', 'clock', 'GPU', 'source'];
  return csvOf([
    [
      'model',
      'setting',
      ...titles.map((title) => `A ${title}`),
      ...titles.map((title) => `B ${title}`),
      'A over B',
      'of',
      'verdict',
      'differs in',
    ],
    ...pairs.map(({ a, b, ratio, basis, verdict, differences }) => [
      a.model,
      a.setting,
      ...side(a),
      ...side(b),
      ratio,
      basis,
      verdict,
      differences.join('; '),
    ]),
  ]);
}

/** One entry of a case: latency, and how many times faster than the case's reference. */
function speedUp(entry: Entry, reference: Entry | undefined): string {
  return entry.latencyMs === null || reference?.latencyMs === null || reference?.latencyMs === undefined
    ? '—'
    : times(reference.latencyMs / entry.latencyMs);
}

/** Settings of a model in the order of the published data. */
function settingsOf(entries: readonly Entry[], model: string): string[] {
  return [...new Set(entries.filter((entry) => entry.model === model).map((entry) => entry.setting))];
}

/**
 * The systems of Table 2 for its networks, with compile times.
 * @param logs those systems' entries that were read from logs in checkpoints/Figure8
 */
export function compilerTable(published: readonly Entry[], logs: readonly Entry[], compile: CompileTimes): string {
  const rows: string[][] = [];
  const fromLogs = new Set(logs.map(({ system }) => system));
  const timed = new Set(compile.rows.flatMap(({ minutes }) => Object.keys(minutes)).filter((system) => !fromLogs.has(system)));
  for (const model of new Set(compile.rows.map((row) => row.model))) {
    for (const setting of settingsOf(published, model)) {
      const at = (list: readonly Entry[]): Entry[] => list.filter((entry) => entry.model === model && entry.setting === setting);
      const reference = at(published).find((entry) => entry.system === subject && entry.format === kPlainLabel);
      const shown = [...at(logs), ...at(published).filter((entry) => timed.has(entry.system))];
      for (const entry of shown) {
        const minutes =
          entry.format === kPlainLabel
            ? compile.rows.find((row) => row.model === model && row.setting === setting)?.minutes[entry.system]
            : undefined;
        const faster =
          reference?.latencyMs !== null && reference?.latencyMs !== undefined && entry.latencyMs !== null
            ? times(entry.latencyMs / reference.latencyMs)
            : '—';
        rows.push([
          modelLabel(model),
          settingLabel(setting),
          systemLabel(entry.system),
          entry.format,
          formatMs(entry.latencyMs),
          clockLabel(entry.clock),
          entry.gpu ?? 'not stated',
          faster,
          minutes === undefined ? '—' : `${minutes} min`,
          entry.latencyMs === null ? (entry.reason ?? '') : entry.source,
        ]);
      }
    }
  }
  return renderTable(
    [
      { title: 'model' },
      { title: 'setting' },
      { title: 'system' },
      { title: 'format' },
      { title: 'ms', align: 'right' },
      { title: 'clock' },
      { title: 'GPU' },
      { title: 'Ladder FP16 faster by', align: 'right' },
      { title: 'compile time', align: 'right' },
      { title: 'source', maxWidth: 60 },
    ],
    rows,
  );
}

/**
 * Every system of a set, one row per system and format, one column per setting: ms, and the speed-up over the first of
 * the references (names.ts) that was measured.
 */
export function systemsTable(entries: readonly Entry[], model: string): string {
  const settings = settingsOf(entries, model);
  const here = entries.filter((entry) => entry.model === model);
  const isBase =
    (family: string) =>
    (entry: Entry): boolean =>
      entry.family === family && entry.format === kPlainLabel;
  const base = references.find((family) => here.some((entry) => entry.latencyMs !== null && isBase(family)(entry))) ?? paperReference;
  const keys = [...new Set(here.map((entry) => `${entry.system}|${entry.format}`))];
  const rows = keys.map((key) => {
    const own = here.filter((entry) => `${entry.system}|${entry.format}` === key);
    const first = own[0];
    return [
      systemLabel(first?.system ?? ''),
      first?.format ?? '',
      clockLabel(first?.clock ?? null),
      ...settings.flatMap((setting) => {
        const entry = own.find((e) => e.setting === setting);
        const reference = here.find((e) => isBase(base)(e) && e.setting === setting);
        if (entry === undefined) return ['—', '—'];
        return [
          entry.latencyMs === null ? (entry.reason ?? '—') : `${formatMs(entry.latencyMs)}${entry.marks.length > 0 ? '*' : ''}`,
          speedUp(entry, reference),
        ];
      }),
    ];
  });
  return renderTable(
    [
      { title: modelLabel(model) },
      { title: 'format' },
      { title: 'clock' },
      ...settings.flatMap((setting): Column[] => [
        { title: `${settingLabel(setting)} ms`, align: 'right' },
        { title: `over ${shortLabel(base)}`, align: 'right' },
      ]),
    ],
    rows,
  );
}

/** Geometric means of Ladder FP16 over each system's FP16, per model. */
function ladderMeans(
  entries: readonly Entry[],
): { readonly system: string; readonly model: string; readonly cases: number; readonly ratio: number }[] {
  const found: { system: string; model: string; cases: number; ratio: number }[] = [];
  for (const model of [...new Set(entries.map((entry) => entry.model))]) {
    const here = entries.filter((entry) => entry.model === model);
    for (const system of [...new Set(here.filter((entry) => entry.family !== subject).map((entry) => entry.system))]) {
      const ratios = here.flatMap((rival) => {
        if (rival.system !== system || rival.format !== kPlainLabel || rival.latencyMs === null) return [];
        const ladder = here.find((e) => e.system === subject && e.setting === rival.setting && e.format === kPlainLabel);
        return ladder?.latencyMs === null || ladder?.latencyMs === undefined ? [] : [rival.latencyMs / ladder.latencyMs];
      });
      if (ratios.length > 0) found.push({ system, model, cases: ratios.length, ratio: geometricMean(ratios) });
    }
  }
  return found;
}

/** Geometric means of Ladder FP16 over each system: systems down, models across. */
export function ladderMeansTable(entries: readonly Entry[]): string {
  const list = ladderMeans(entries);
  const models = [...new Set(list.map((mean) => mean.model))];
  const systems = [...new Set(list.map((mean) => mean.system))];
  const rows = systems.map((system) => {
    const own = list.filter((mean) => mean.system === system);
    const all = geometricMean(own.flatMap((mean) => Array.from({ length: mean.cases }, () => mean.ratio)));
    const clock = entries.find((entry) => entry.system === system)?.clock ?? null;
    return [
      systemLabel(system),
      clockLabel(clock),
      ...models.map((model) => {
        const mean = own.find((m) => m.model === model);
        return mean === undefined ? '—' : times(mean.ratio);
      }),
      times(all),
    ];
  });
  return renderTable(
    [
      { title: `${subject} ${kPlainLabel} over` },
      { title: 'clock' },
      ...models.map((model): Column => ({ title: modelLabel(model), align: 'right' })),
      { title: 'all', align: 'right' },
    ],
    rows,
  );
}

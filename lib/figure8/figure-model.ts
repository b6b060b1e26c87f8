/**
 * What Figure 8 shows, before anything is drawn: rows, panels, groups, slots and their bars as speed-ups over a
 * reference, and for every empty slot the reason. From a published set, or from records measured on this machine with
 * the paper's bars beside them. Numbers are divided here and nowhere else.
 */
import { kPlainLabel } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { figure8Models } from '../models/index.js';
import type { Entry } from './entry.js';
import { paperReference, references, subject, systemFamily } from './names.js';

export interface FigureBar {
  readonly entry: Entry & { readonly latencyMs: number };
  /** Time of the reference over time of this entry; the reference is on the same GPU and of the same case. */
  readonly speedUp: number;
  /** The paper's bar beside one of ours. */
  readonly greyed: boolean;
}

export interface FigureSlot {
  readonly system: string;
  readonly format: string;
  readonly bars: readonly FigureBar[];
  /** Why the slot, or its half of ours, is empty. */
  readonly missing: { readonly kind: 'unsupported' | 'note'; readonly reason: string; readonly mark: string } | null;
}

export interface FigureGroup {
  /** As in lib/models. */
  readonly model: string;
  readonly setting: string;
  readonly slots: readonly FigureSlot[];
}

/** Groups that share an axis. */
export interface FigurePanel {
  readonly groups: readonly FigureGroup[];
}

export interface FigureRow {
  readonly panels: readonly FigurePanel[];
  /** Systems and formats in the order of their bars. */
  readonly legend: readonly { readonly system: string; readonly format: string }[];
}

export interface Figure {
  readonly rows: readonly FigureRow[];
  /** The system at 1×. */
  readonly reference: { readonly system: string; readonly format: string };
  /** Whether each slot has room for a grey bar beside the coloured one. */
  readonly paired: boolean;
  /** What the red letters in empty places stand for. */
  readonly notes: readonly { readonly mark: string; readonly reason: string }[];
  /** One line of provenance. */
  readonly caption: string;
}

const withNumber = (entry: Entry | undefined): (Entry & { latencyMs: number }) | undefined =>
  entry?.latencyMs === null || entry === undefined ? undefined : { ...entry, latencyMs: entry.latencyMs };

const keyOf = (entry: { readonly system: string; readonly format: string }): string => `${systemFamily(entry.system)}|${entry.format}`;

/** Row, panel and group structure of the paper: one panel per LLM case, one per network. */
function arrange(settings: ReadonlyMap<string, readonly string[]>, slotsOf: (model: string, setting: string) => FigureSlot[]): FigureRow[] {
  const rows: FigureRow[] = [];
  for (const kind of ['layer', 'network'] as const) {
    const panels: FigurePanel[] = [];
    for (const { id: model } of figure8Models().filter((one) => one.kind === kind && settings.has(one.id))) {
      const groups = (settings.get(model) ?? []).map((setting): FigureGroup => ({ model, setting, slots: slotsOf(model, setting) }));
      if (kind === 'layer') panels.push(...groups.map((group) => ({ groups: [group] })));
      else panels.push({ groups });
    }
    const legend: { system: string; format: string }[] = [];
    const slots = panels.flatMap((panel) => panel.groups.flatMap((group) => group.slots));
    for (const slot of slots)
      if (!legend.some((known) => keyOf(known) === keyOf(slot))) legend.push({ system: slot.system, format: slot.format });
    // Rivals first, as in the paper: a row's models do not all have the same ones.
    const ordered = [
      ...legend.filter((item) => systemFamily(item.system) !== subject),
      ...legend.filter((item) => systemFamily(item.system) === subject),
    ];
    if (panels.length > 0) rows.push({ panels, legend: ordered });
  }
  return rows;
}

function settingsOf(entries: readonly Entry[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { id: model } of figure8Models()) {
    const own = [...new Set(entries.filter((entry) => entry.model === model).map((entry) => entry.setting))];
    if (own.length > 0) found.set(model, own);
  }
  return found;
}

/**
 * Figure 8 from a published set: every system over the paper's reference.
 * @throws LadderError `BAD_RECORD` when a case has no value of it
 */
export function publishedFigure(entries: readonly Entry[], caption: string): Figure {
  const rows = arrange(settingsOf(entries), (model, setting) => {
    const here = entries.filter((entry) => entry.model === model && entry.setting === setting);
    const reference = withNumber(here.find((entry) => entry.system === paperReference));
    if (reference === undefined)
      throw new LadderError('BAD_RECORD', `no ${paperReference} value for ${model} ${setting}: there is nothing to compare with`);
    return here
      .filter((entry) => entry.system !== paperReference)
      .map((entry): FigureSlot => {
        const measured = withNumber(entry);
        return {
          system: entry.system,
          format: entry.format,
          bars: measured === undefined ? [] : [{ entry: measured, speedUp: reference.latencyMs / measured.latencyMs, greyed: false }],
          missing: measured === undefined ? { kind: 'unsupported', reason: entry.reason ?? 'not supported', mark: '' } : null,
        };
      });
  });
  return { rows, reference: { system: paperReference, format: kPlainLabel }, paired: false, notes: [], caption };
}

/** The system measured here in the most cases that have any measurement and a published counterpart; ties by order. */
export function chooseReference(paper: readonly Entry[], own: readonly Entry[]): string {
  const cases = (family: string): number =>
    new Set(
      own
        .filter(
          (entry) =>
            entry.family === family &&
            entry.format === kPlainLabel &&
            entry.latencyMs !== null &&
            paper.some((p) => p.family === family && p.model === entry.model && p.setting === entry.setting),
        )
        .map((entry) => `${entry.model}|${entry.setting}`),
    ).size;
  return [...references].sort((a, b) => cases(b) - cases(a) || references.indexOf(a) - references.indexOf(b))[0] ?? subject;
}

/**
 * Figure 8 from records of one GPU, with the paper's A100 bars greyed beside ours. Both sides are speed-ups over the
 * same system, each on its own GPU: the first of the references (names.ts), in FP16, that was measured here most.
 * @throws LadderError `BAD_ARGUMENT` without any record
 */
export function reproducedFigure(paper: readonly Entry[], own: readonly Entry[], caption: string): Figure {
  if (own.length === 0) throw new LadderError('BAD_ARGUMENT', 'no record of a Figure 8 case: run `ladder bench --reproduce` first');
  const family = chooseReference(paper, own);
  const isReference = (entry: Entry): boolean => entry.family === family && entry.format === kPlainLabel;
  const marks = new Map<string, string>();
  const markOf = (reason: string): string => {
    const known = marks.get(reason);
    if (known !== undefined) return known;
    const letter = String.fromCharCode(97 + (marks.size % 26));
    marks.set(reason, letter);
    return letter;
  };
  const rows = arrange(settingsOf(paper), (model, setting) => {
    const here = (list: readonly Entry[]): Entry[] => list.filter((entry) => entry.model === model && entry.setting === setting);
    const [published, measured] = [here(paper), here(own)];
    const paperReference = withNumber(published.find(isReference));
    const ownReference = withNumber(measured.find(isReference));
    const keys = [...measured.filter((entry) => !published.some((p) => keyOf(p) === keyOf(entry))), ...published];
    return keys
      .filter((entry) => !isReference(entry))
      .map((entry): FigureSlot => {
        const bars: FigureBar[] = [];
        const old = withNumber(published.find((p) => keyOf(p) === keyOf(entry)));
        if (old !== undefined && paperReference !== undefined)
          bars.push({ entry: old, speedUp: paperReference.latencyMs / old.latencyMs, greyed: true });
        const record = measured.find((m) => keyOf(m) === keyOf(entry));
        const ours = withNumber(record);
        if (ours !== undefined && ownReference !== undefined)
          bars.push({ entry: ours, speedUp: ownReference.latencyMs / ours.latencyMs, greyed: false });
        const reason =
          ours === undefined
            ? (record?.reason ?? 'not measured on this machine')
            : ownReference === undefined
              ? `measured, but ${family} was not: no ratio`
              : null;
        return {
          system: systemFamily(entry.system),
          format: entry.format,
          bars,
          missing: reason === null ? null : { kind: 'note', reason, mark: markOf(reason) },
        };
      });
  });
  return {
    rows,
    reference: { system: family, format: kPlainLabel },
    paired: true,
    notes: [...marks].map(([reason, mark]) => ({ mark, reason })),
    caption,
  };
}

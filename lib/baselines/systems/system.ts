/**
 * What a system of Figure 8 is: how data and logs call it, what its bars look like, how its logs are found and read, and what
 * runs it here. One record per system in this folder; everything else looks it up (index.ts).
 */
import { basename } from 'node:path';
import type { CaseName } from '../../artifact/names.js';
import type { FormatPair } from '../../models/index.js';
import type { ClockKind } from '../../run/record-types.js';
import type { BaselineAdapter } from '../adapters/adapter.js';
import type { LogResult, LogSource } from '../log.js';

/** Directions of the hatch lines; `dots` are short dashes. */
export type Hatch = 'none' | 'rising' | 'falling' | 'level' | 'upright' | 'cross' | 'grid' | 'dots';

/** What a bar is filled with; drawing is figure8/palette.ts's. */
export interface Fill {
  readonly color: string;
  readonly hatch: Hatch;
  readonly hatchColor: string;
}

/** Colours of hatches that most bars have. */
export const kDarkHatch = '#3a3a3a';
export const kLightHatch = '#ffffff';

/** What bars look like. Hue tells other systems from Ladder, lightness and hatch tell formats of one system apart. */
export interface Bars {
  /** Of formats that are not listed. */
  readonly fill: Fill;
  readonly byFormat?: readonly (FormatPair & { readonly fill: Fill })[];
}

/** What a parser may need beside its log. */
export interface LogContext {
  /** Another file of the log's folder; null where there is none. */
  sibling(name: string): LogSource | null;
  /** Take a bare number without line end as whole. */
  readonly allowUnterminated: boolean;
}

/** Whether a path's last part is one of these names, in whatever case: copies from other file systems come in capitals. */
export function isCalled(path: string, ...names: readonly string[]): boolean {
  return names.includes(basename(path).toLowerCase());
}

/** Where all logs of a system have one name, in small letters: the folder then says the case. */
export interface LogFileName {
  readonly name: string;
  /** No other system's logs are called so. */
  readonly telling: boolean;
  /** Files beside it that are no logs of their own. */
  readonly beside: readonly string[];
}

/** How logs of a system are found and what they say. */
export interface SystemLog<R extends LogResult = LogResult> {
  /** What a folder of its logs is called. */
  readonly folder: RegExp;
  /** What only its logs print; null where another system's print the same. */
  readonly mark: RegExp | null;
  /** Others may print the mark, too: it counts on lines that have no other. */
  readonly weak?: true;
  readonly file?: LogFileName;
  /** What the clock of its latencies sees; null where neither logs nor documentation say. */
  readonly clock: ClockKind | null;
  /** The folder of its published logs below checkpoints/Figure8. */
  readonly published?: string;
  /**
   * The formats that a log's name says.
   * @param stem the name without its ending, or the folder's, see `file`
   * @returns null where the name leaves them open; absent: all are FP16
   */
  formatsOf?(stem: string): FormatPair | null;
  /**
   * What a line says that begins a run: the case, as far as it names it; null for any other line. A log of several runs has a
   * result per case, that of the case's last run. Absent: runs do not say that they begin.
   */
  startOf?(text: string): CaseName | null;
  /** Reads one run. @throws LadderError `BAD_LOG` with `context.reason` */
  parse(source: LogSource, name: string, context: LogContext): Promise<R>;
  /** What a result says besides its latency, for tables. */
  remarks?(result: R): readonly string[];
}

/** How a system is measured on this machine. */
export interface SystemAdapter {
  /** Systems are measured in the order of their places in the figure, from the left. */
  readonly place: number;
  /** It searches for hours to days before it has anything to time: measured under `--force-tune` only. */
  readonly searches?: true;
  load(): Promise<BaselineAdapter>;
}

/** One system. */
export interface System {
  /** As in records and options: `pytorch-inductor`. */
  readonly id: string;
  /** As Figure 8 spells it in its data, legends and tables: `PyTorch-Inductor`. */
  readonly label: string;
  /** Other names for it in data. */
  readonly aliases?: readonly string[];
  /** Where there is little room. */
  readonly short?: string;
  /** The label of the system in whose place it stands in figures. */
  readonly family?: string;
  readonly bars: Bars;
  /** No system that computes a case by itself, but what one is held against: in tables, not in the figure. */
  readonly tablesOnly?: true;
  /** State of the L2 cache in its own measurements, where its documentation says one. */
  readonly l2?: 'hot' | 'cold';
  readonly log?: SystemLog;
  readonly adapter?: SystemAdapter;
}

/**
 * What every log below a folder says: `ladder baselines`. Finds each log's system (by folder, else by what it prints), its runs,
 * and the case of each, by the log's name and by what it prints. A run without a result is an entry with its reason, never a gap
 * and never an older number; so is a log whose name and text speak of different cases.
 */
import { dirname, resolve } from 'node:path';
import type { CaseName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { caseOfLog, formatOfLog } from './case-names.js';
import { logFiles, type LogFile } from './files.js';
import { readLines, type LogResult, type LogSource } from './log.js';
import { loggingSystems, systemNamed, type LoggingSystem } from './systems/index.js';
import { isCalled, type LogContext } from './systems/system.js';

/** One case of a log: its result, or why it has none. What name and text disagree on is null. */
export type BaselineEntry = CaseName & {
  readonly path: string;
  /** As Figure 8 spells it. */
  readonly system: string | null;
} & ({ readonly result: LogResult } | { readonly result: null; readonly reason: string });

/** The system of a name whose logs can be read. @throws LadderError `BAD_ARGUMENT` naming all of them */
export function loggingSystem(name: string): LoggingSystem {
  const system = systemNamed(name);
  const found = loggingSystems().find((one) => one === system);
  if (!found)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected one of ${loggingSystems()
        .map(({ label }) => label)
        .join(', ')} for \`system\` but received ${JSON.stringify(name)}`,
      { system: name },
    );
  return found;
}

/** A log that stands alone. */
const kAlone: LogContext = { sibling: () => null, allowUnterminated: false };

/** Parses one log of a known system. @throws LadderError `BAD_LOG` with `context.reason`; `BAD_ARGUMENT` for an unknown system */
export async function parseLog(system: string, source: LogSource, name: string): Promise<LogResult> {
  return loggingSystem(system).log.parse(source, name, kAlone);
}

/**
 * Which system wrote a log: the one whose logs alone have such a name, else the innermost folder that names one, else what is
 * printed in it, else the folder asked for (`…/amos/logs`), whose own name must be the system's: a project may lie in a folder
 * called anything. Null where none says.
 * @param path relative to `folder`
 * @returns its label
 */
export async function systemOf(path: string, open: () => LogSource, folder = ''): Promise<string | null> {
  const all = loggingSystems();
  const telling = all.find(({ log: { file } }) => file?.telling === true && isCalled(path, file.name));
  if (telling) return telling.label;
  for (const part of dirname(path).split('/').reverse()) {
    const named = all.find(({ log }) => log.folder.test(part));
    if (named) return named.label;
  }
  const byMark = [...all.filter(({ log }) => !log.weak), ...all.filter(({ log }) => log.weak)];
  for await (const line of readLines(open())) {
    const marked = byMark.find(({ log }) => log.mark?.test(line.text));
    if (marked) return marked.label;
  }
  for (const part of folder.split('/').slice(-2).reverse()) {
    const named = all.find(({ log }) => new RegExp(`^(?:${log.folder.source})(?:-benchmark)?$`, 'i').test(part));
    if (named) return named.label;
  }
  return null;
}

/** What the log's parser may ask for: of files beside it those that its system leaves there. */
function contextOf({ path }: LogFile, { log: { file } }: LoggingSystem, files: readonly LogFile[], allowUnterminated: boolean): LogContext {
  return {
    allowUnterminated,
    sibling: (name) =>
      file !== undefined && isCalled(path, file.name) && file.beside.includes(name)
        ? (files.find((other) => dirname(other.path) === dirname(path) && isCalled(other.path, name))?.open() ?? null)
        : null,
  };
}

const kUnnamed: CaseName = { model: null, setting: null, format: null };
const kFields = ['model', 'setting', 'format'] as const;

/** A run of a log: lines from `first` up to `end`, exclusive, and what its first line says of its case. */
interface LogRun {
  readonly first: number;
  readonly end: number;
  readonly said: CaseName;
}

/** The runs of a log, of each case the last one, in the order of the cases. Lines before the first beginning belong to the first run. */
async function runsOf(log: LogFile, { log: { startOf } }: LoggingSystem, named: CaseName): Promise<readonly LogRun[]> {
  const starts: { first: number; said: CaseName }[] = [];
  let count = 0;
  for await (const { text } of readLines(log.open())) {
    const said = startOf?.(text) ?? null;
    if (said !== null) starts.push({ first: count, said });
    count += 1;
  }
  const runs = starts.map(({ first, said }, i): LogRun => ({ first: i === 0 ? 0 : first, end: starts[i + 1]?.first ?? Infinity, said }));
  if (runs.length === 0) return [{ first: 0, end: Infinity, said: kUnnamed }];
  const last = new Map(runs.map((run) => [kFields.map((field) => run.said[field] ?? named[field]).join('|'), run]));
  return [...last.values()];
}

/** The lines of a run. */
async function* linesOf(log: LogFile, { first, end }: LogRun): AsyncGenerator<string, void, void> {
  let at = 0;
  for await (const { text, terminated } of readLines(log.open())) {
    if (at >= end) return;
    if (at >= first) yield terminated ? `${text}\n` : text;
    at += 1;
  }
}

/** A case by name and by text, and where they disagree. */
function mergeCases(named: CaseName, said: CaseName): { readonly case: CaseName; readonly conflict: string | null } {
  const odd = kFields.filter((field) => named[field] !== null && said[field] !== null && named[field] !== said[field]);
  const merged = { ...kUnnamed };
  for (const field of kFields) if (!odd.includes(field)) Object.assign(merged, { [field]: said[field] ?? named[field] });
  return {
    case: merged,
    conflict: odd.length === 0 ? null : odd.map((field) => `its name says ${field} ${named[field]}, its text ${said[field]}`).join('; '),
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
  const { reason, detail } = error.context;
  return `${String(reason)}${detail === '' ? '' : `: ${String(detail)}`}`;
}

/**
 * Reads every log below `folder`.
 * @param options.system the label of the system of all of them, where neither folders nor contents tell
 * @param options.allowUnterminated take a bare number without line end as whole (TensorIR)
 * @throws LadderError `IO` when the folder cannot be read, `BAD_ARGUMENT` for an unknown system; a bad log is an entry
 */
export async function scanLogs(
  folder: string,
  options: { readonly system?: string; readonly allowUnterminated?: boolean } = {},
): Promise<BaselineEntry[]> {
  if (options.system !== undefined) loggingSystem(options.system);
  const files = await logFiles(folder);
  const beside = loggingSystems().flatMap(({ log }) => log.file?.beside ?? []);
  const entries: BaselineEntry[] = [];
  for (const file of files) {
    if (isCalled(file.path, ...beside)) continue;
    const { path } = file;
    let name: string | null = options.system ?? null;
    try {
      name ??= await systemOf(path, () => file.open(), resolve(folder));
      if (name === null) {
        entries.push({ path, system: null, ...kUnnamed, result: null, reason: 'no system known by its folder or its lines' });
        continue;
      }
      entries.push(...(await entriesOf(file, loggingSystem(name), files, options.allowUnterminated === true)));
    } catch (error) {
      entries.push({ path, system: name, ...(name === null ? kUnnamed : caseOfLog(path, name)), result: null, reason: reasonOf(error) });
    }
  }
  return entries;
}

/** The entries of one log, one per case. @throws LadderError `BAD_LOG` for a file that cannot be read */
async function entriesOf(
  file: LogFile,
  system: LoggingSystem,
  files: readonly LogFile[],
  allowUnterminated: boolean,
): Promise<readonly BaselineEntry[]> {
  const named = caseOfLog(file.path, system.label);
  const head = { path: file.path, system: system.label };
  const entries: BaselineEntry[] = [];
  for (const run of await runsOf(file, system, named)) {
    const { model, format } = run.said;
    // A log whose name says no model may still say what it ran in.
    const merged = mergeCases(named, {
      ...run.said,
      format: format ?? (model && named.format === null ? formatOfLog(file.path, system.label) : null),
    });
    try {
      const result = await system.log.parse(linesOf(file, run), file.path, contextOf(file, system, files, allowUnterminated));
      entries.push({
        ...head,
        ...merged.case,
        ...(merged.conflict === null ? { result } : { result: null, reason: `conflict: ${merged.conflict}` }),
      });
    } catch (error) {
      entries.push({ ...head, ...merged.case, result: null, reason: reasonOf(error) });
    }
  }
  return entries;
}

/**
 * What every log below a folder says: `ladder baselines`. Finds each log's system (by folder, else by what it prints),
 * parses it, names its case. A log without a result is an entry with its reason, never a gap and never an older number.
 */
import { basename, dirname, join, resolve } from 'node:path';
import { caseOfPath, type CaseName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { caseOfLog } from './case-names.js';
import { logFiles, type LogFile } from './files.js';
import { readLines, type LogResult, type LogSource } from './log.js';
import { loggingSystems, systemNamed, type LoggingSystem } from './systems/index.js';
import type { LogContext } from './systems/system.js';

/** One log: its case and its result, or why it has none. */
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
  const telling = all.find(({ log: { file } }) => file?.telling === true && file.name === basename(path));
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
      file?.name === basename(path) && file.beside.includes(name)
        ? (files.find((other) => other.path === join(dirname(path), name))?.open() ?? null)
        : null,
  };
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
  const files = await logFiles(folder);
  const beside = loggingSystems().flatMap(({ log }) => log.file?.beside ?? []);
  const entries: BaselineEntry[] = [];
  for (const file of files) {
    if (beside.includes(basename(file.path))) continue;
    const name = options.system ?? (await systemOf(file.path, () => file.open(), resolve(folder)));
    if (name === null) {
      entries.push({
        path: file.path,
        system: null,
        model: null,
        setting: null,
        format: null,
        result: null,
        reason: 'no system known by its folder or its lines',
      });
      continue;
    }
    const system = loggingSystem(name);
    const named = caseOfLog(file.path, system.label);
    const head = { path: file.path, system: system.label };
    try {
      const result = await system.log.parse(file.open(), file.path, contextOf(file, system, files, options.allowUnterminated === true));
      const checkpoint = system.log.checkpointOf?.(result) ?? null;
      const better = checkpoint === null ? named : caseOfPath(checkpoint);
      entries.push({ ...head, ...better, setting: better.setting ?? named.setting, result });
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
      const { reason, detail } = error.context;
      entries.push({ ...head, ...named, result: null, reason: `${String(reason)}${detail === '' ? '' : `: ${String(detail)}`}` });
    }
  }
  return entries;
}

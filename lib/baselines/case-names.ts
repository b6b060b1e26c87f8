/**
 * From the name of a log to the case it belongs to: model, setting, format. The systems spell them differently
 * (`llama-70b-layer1-seq1-bs32`, `resnet50_b1`, `vit-b1-(1, 3, 224, 224)`), so names are taken apart, never looked up. What a
 * name does not say is null. How a system's names say formats is its record's (systems/), names of checkpoints are
 * artifact/names.ts's.
 */
import { type CaseName, kPlainFormats, settingOfText } from '../artifact/names.js';
import { formatLabel } from '../formats/index.js';
import { modelOfText } from '../models/index.js';
import { loggingSystems, systemNamed } from './systems/index.js';
import { isCalled } from './systems/system.js';

/** What of a log's path names its case: its own name, or its folder's where all of a system's logs have one name. */
function stemOf(path: string): string {
  const parts = path
    .replace(/\.gz$/i, '')
    .split('/')
    .filter((part) => part !== '');
  const last = parts.at(-1) ?? '';
  const isNamedByFolder = loggingSystems().some(({ log }) => log.file !== undefined && isCalled(last, log.file.name));
  return (isNamedByFolder ? (parts.at(-2) ?? last) : last).replace(/\.log$/i, '');
}

/** The format that a log's name says; null where it leaves it open. */
export function formatOfLog(path: string, system: string): string | null {
  const log = systemNamed(system)?.log;
  const pair = log?.formatsOf === undefined ? kPlainFormats : log.formatsOf(stemOf(path));
  return pair && formatLabel(pair.weight, pair.activation);
}

/**
 * The case of a log, from its path relative to the folder of logs; what it prints of its case is startOf's of its system's record.
 */
export function caseOfLog(path: string, system: string): CaseName {
  const stem = stemOf(path);
  const model = modelOfText(stem);
  return model === null
    ? { model: null, setting: null, format: null }
    : { model: model.id, setting: settingOfText(stem, model), format: formatOfLog(path, system) };
}

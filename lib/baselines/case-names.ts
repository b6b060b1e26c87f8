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

/**
 * The case of a log, from its path relative to the folder of logs. Where a log prints its checkpoint's path, that is the
 * better witness (artifact/names.ts).
 */
export function caseOfLog(path: string, system: string): CaseName {
  const parts = path
    .replace(/\.gz$/, '')
    .split('/')
    .filter((part) => part !== '');
  const last = parts.at(-1) ?? '';
  const isNamedByFolder = loggingSystems().some(({ log }) => log.file?.name === last);
  const stem = (isNamedByFolder ? (parts.at(-2) ?? last) : last).replace(/\.log$/, '');
  const model = modelOfText(stem);
  if (model === null) return { model: null, setting: null, format: null };
  const log = systemNamed(system)?.log;
  const pair = log?.formatsOf === undefined ? kPlainFormats : log.formatsOf(stem);
  return { model: model.id, setting: settingOfText(stem, model), format: pair && formatLabel(pair.weight, pair.activation) };
}

/**
 * Model, setting and format of a checkpoint as records name them: from checkpoint.json, or else from the folder's name
 * (artifact/names.ts reads the authors' names), or else 'unknown'.
 */
import { basename, dirname } from 'node:path';
import type { Manifest } from '../artifact/manifest.js';
import { parseCheckpointName } from '../artifact/names.js';
import { formatLabel } from '../formats/index.js';

/** What a checkpoint is a case of. */
export interface CheckpointCase {
  /** As in Figure 8; for a foreign checkpoint of another make its folder's name. */
  readonly model: string;
  /** bs1_seq1 for LLM layers, bs1 for networks. */
  readonly setting: string;
  /** As the paper writes it: `W_INT4 A_FP16`. */
  readonly format: string;
}

/** `bs1_seq1` for LLM layers, `bs1` for networks. */
function settingOf(model: string, batch: number, seq: number): string {
  return /^(llama2|bloom)-/.test(model) || seq > 1 ? `bs${batch}_seq${seq}` : `bs${batch}`;
}

/** Names the case of the checkpoint in `folder`. */
export function caseOf(folder: string, manifest: Manifest | null): CheckpointCase {
  if (manifest) {
    return { model: manifest.model, setting: settingOf(manifest.model, manifest.batch, manifest.seq), format: manifest.format.label };
  }
  const name = parseCheckpointName(basename(folder), basename(dirname(folder)));
  if (!name) return { model: basename(folder), setting: 'unknown', format: 'unknown' };
  const label = name.weight === 'int8' ? `W_INT8 A_${name.activation.toUpperCase()}` : formatLabel(name.weight, name.activation);
  const isLanguageModel = basename(folder).startsWith('llama2_');
  return {
    model: name.model ?? basename(folder),
    setting: isLanguageModel ? `bs${name.batch}_seq${name.seq}` : settingOf(name.model ?? '', name.batch, name.seq),
    format: label,
  };
}

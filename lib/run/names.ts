/**
 * Model, setting and format of a checkpoint as records name them: from checkpoint.json, or else from the folder's name
 * (artifact/names.ts reads the authors' names), or else 'unknown'.
 */
import { basename, dirname } from 'node:path';
import type { Manifest } from '../artifact/manifest.js';
import { caseOfName, parseCheckpointName } from '../artifact/names.js';
import { caseLabel } from '../formats/index.js';
import { findModel, settingName } from '../models/index.js';

/** What a checkpoint is a case of. */
export interface CheckpointCase {
  /** As in Figure 8; for a foreign checkpoint of another make its folder's name. */
  readonly model: string;
  /** bs1_seq1 for LLM layers, bs1 for networks. */
  readonly setting: string;
  /** As the paper writes it, `W_INT4 A_FP16`, with the kind or group that the figure's has not: `W_INT4 A_FP16 g128`. */
  readonly format: string;
}

/** Names the case of the checkpoint in `folder`. */
export function caseOf(folder: string, manifest: Manifest | null): CheckpointCase {
  if (manifest) {
    const kind = findModel(manifest)?.kind ?? 'network';
    return { model: manifest.model, setting: settingName(kind, manifest), format: caseLabel(manifest.format) };
  }
  const name = parseCheckpointName(basename(folder), basename(dirname(folder)));
  if (!name) return { model: basename(folder), setting: 'unknown', format: 'unknown' };
  const { model, setting, format } = caseOfName(name);
  return { model: model ?? basename(folder), setting, format };
}

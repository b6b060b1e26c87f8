/**
 * From the name of a log or of a checkpoint to the case it belongs to: model, setting, format. The systems spell them
 * differently (`llama-70b-layer1-seq1-bs32`, `llama2_bs32_seq1_async`, `resnet50_b1`, `vit-b1-(1, 3, 224, 224)`),
 * so names are taken apart, never looked up. What a name does not say is null.
 */

/** As Figure 8's data spell them. */
export const models = ['llama2-70b', 'bloom-176b', 'resnet-50', 'shufflenet-v2', 'conformer', 'vit'] as const;
export type Model = (typeof models)[number];

export interface CaseName {
  readonly model: Model | null;
  /** bs1_seq1, bs32_seq1, bs1_seq4096, bs1, bs128. */
  readonly setting: string | null;
  /** `W_FP16 A_FP16`, …; null where the name does not say. */
  readonly format: string | null;
}

const modelPatterns: readonly (readonly [RegExp, Model])[] = [
  [/bloom/i, 'bloom-176b'], [/llama/i, 'llama2-70b'], [/resnet/i, 'resnet-50'], [/shufflenet/i, 'shufflenet-v2'],
  [/conformer/i, 'conformer'], [/(?:^|[^a-z])vit(?:[^a-z]|$)/i, 'vit'],
];

export function isModel(name: string): name is Model {
  return (models as readonly string[]).includes(name);
}

/** The settings in which Figure 8 shows a model. */
export function settingsOf(model: Model): readonly string[] {
  return isLlm(model) ? ['bs1_seq1', 'bs32_seq1', 'bs1_seq4096'] : ['bs1', 'bs128'];
}

export function isLlm(model: Model): boolean {
  return model === 'llama2-70b' || model === 'bloom-176b';
}

/** The model that a name or path speaks of; of a path, the innermost part that names one. */
function modelOf(name: string): Model | null {
  for (const part of name.split('/').reverse()) {
    const found = modelPatterns.find(([pattern]) => pattern.test(part));
    if (found !== undefined) return found[1];
  }
  return null;
}

/** Batch and sequence length in a name. */
function settingOf(name: string, model: Model): string | null {
  const batch = /(?:^|[-_])(?:batch|bs|b)(\d+)(?![a-z\d])/i.exec(name)?.[1];
  if (batch === undefined) return null;
  if (!isLlm(model)) return `bs${batch}`;
  const sequence = /(?:^|[-_])(?:seq|s)(\d+)(?![a-z\d])/i.exec(name)?.[1];
  return sequence === undefined ? null : `bs${batch}_seq${sequence}`;
}

/** Weights and activations of a quantised checkpoint, from its format, its weight bits and whether activations are INT8. */
function quantisedFormat(format: string, bits: string, convertInt: boolean): string | null {
  switch (format) {
    case 'int': return `W_INT${bits} A_${convertInt ? 'INT8' : 'FP16'}`;
    case 'int4b': return `W_INT${bits} A_INT4`;
    case 'nf': return `W_NF${bits} A_FP16`;
    case 'fp_e5m2': case 'fp_e4m3': return `W_FP${bits} A_FP${bits}`;
    case 'mxfp': return `W_MXFP${bits} A_MXFP${bits}`;
    default: return null;
  }
}

/**
 * The case of a checkpoint, from its path: the folder's name says formats and shape, the folder above it the model
 * (BLOOM's checkpoints, too, are called `llama2_…`).
 * @example caseOfCheckpoint('…/bloom-176b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async').format // 'W_INT4 A_FP16'
 */
export function caseOfCheckpoint(path: string): CaseName {
  const parts = path.split('/').filter((part) => part !== '');
  const name = parts.at(-1) ?? '';
  const own = modelOf(name);
  const above = modelOf(parts.at(-2) ?? '');
  const model = own === 'llama2-70b' ? above ?? own : own ?? above;
  const quantised = /_fq_-?\d+_(int4b|int|nf|mxfp|fp_e\dm\d)_(\d+)(?=_).*?_ci_(True|False)/.exec(name);
  const format = quantised === null ? (name.includes('_fq_') ? null : 'W_FP16 A_FP16')
    : quantisedFormat(quantised[1] ?? '', quantised[2] ?? '', quantised[3] === 'True');
  if (model === null) return { model, setting: null, format };
  // The networks' folders name batch 1 and leave 128 out.
  const setting = settingOf(name.replace(/_fq_.*?(?=_bs\d|$)/, ''), model) ?? (isLlm(model) ? null : 'bs128');
  return { model, setting, format };
}

/** Suffixes of the file names that Ladder's own scripts write. */
const ladderSuffixes: readonly (readonly [RegExp, string])[] = [
  [/_q-1(?![\d])/, 'W_FP16 A_FP16'], [/_b1_int$/, 'W_INT1 A_INT8'], [/_b8_int$/, 'W_INT8 A_INT8'], [/_q0_b4$/, 'W_INT4 A_FP16'],
  [/_nf4$/, 'W_NF4 A_FP16'], [/mxfp8/, 'W_MXFP8 A_MXFP8'], [/fp_e5m2|fp8/, 'W_FP8 A_FP8'],
  [/_int4bxint1$/, 'W_INT1 A_INT4'], [/_int8xint4$/, 'W_INT4 A_INT8'], [/_int4b$/, 'W_INT4 A_INT4'],
];

/**
 * The case of a log, from its path relative to the folder of logs. Where a log of Ladder prints its checkpoint's path,
 * that is the better witness: {@link caseOfCheckpoint}.
 */
export function caseOfLog(path: string, system: string): CaseName {
  const parts = path.replace(/\.gz$/, '').split('/').filter((part) => part !== '');
  // TensorIR and Welder name the folder, the others the file.
  const last = parts.at(-1) ?? '';
  const stem = (/^(latency\.txt|run\.log)$/.test(last) ? parts.at(-2) ?? last : last).replace(/\.log$/, '');
  const model = modelOf(stem);
  if (model === null) return { model, setting: null, format: null };
  const setting = settingOf(stem, model);
  if (system === 'Ladder') {
    const known = ladderSuffixes.find(([pattern]) => pattern.test(stem));
    return { model, setting, format: known?.[1] ?? (/^[A-Za-z\d-]+$/.test(stem) ? 'W_FP16 A_FP16' : null) };
  }
  return { model, setting, format: system === 'vLLM' && /_int4$/.test(stem) ? 'W_INT4 A_FP16' : 'W_FP16 A_FP16' };
}

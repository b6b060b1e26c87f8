/** Turns the words of the command line (`--weight fp8 --format e4m3 …`) into a checkpoint request. */
import { type ActivationFormat, activationFormats, isMxFormat, kMxBlock, type WeightFormat, weightFormats } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import type { CheckpointRequest } from './design.js';
import { pairedActivation, scaleGroups } from './formats.js';
import type { ModelFormat } from './lower.js';
import { modelFactory } from './models/index.js';

/** Options as a user writes them. */
export interface RequestWords {
  readonly model: string;
  readonly batch: number;
  readonly seq: number;
  readonly layers?: number | undefined;
  /** fp16, int4, nf4, fp8, mxfp8, int1; fp8 and mxfp8 take their kind from `format`, or have it in the name (fp8_e4m3). */
  readonly weight: string;
  /** Default: what Figure 8 pairs with the weight format. */
  readonly act?: string | undefined;
  /** −1 (per output channel; MX has blocks of 32 by itself), 64 or 128. */
  readonly group?: number | undefined;
  /** FP8 kind: e5m2 (as in Ladder, the default) or e4m3. */
  readonly format?: 'e5m2' | 'e4m3' | undefined;
  readonly seed?: number | undefined;
}

/** Seed of the fake weights of the committed checkpoints. */
export const kDefaultSeed = 2024;

/** More than any model has; a slip of the finger should not describe a million operators. */
const kMaxLayers = 256;

/** @throws LadderError `BAD_ARGUMENT` naming the option, `UNSUPPORTED` for a pair of formats that no kernel multiplies */
export function parseRequest(words: RequestWords): CheckpointRequest {
  const { model, batch, seq, layers = 1, seed = kDefaultSeed } = words;
  modelFactory(model);
  const kind = words.format === undefined ? 'e5m2' : oneOf('format', words.format, ['e5m2', 'e4m3'] as const);
  const full = (format: string): string => (format === 'fp8' || format === 'mxfp8' ? `${format}_${kind}` : format);
  const weight = oneOf('weight', full(words.weight), weightFormats);
  const activation = words.act === undefined ? pairedActivation(weight) : oneOf('act', full(words.act), activationFormats);
  if (words.format !== undefined && !weight.endsWith(`fp8_${kind}`)) {
    throw new LadderError('BAD_ARGUMENT', `expected \`format\` with fp8 or mxfp8 weights only, and of their kind, but received ${kind} with ${weight}`);
  }
  integerFrom(1, 'batch', batch);
  integerFrom(1, 'seq', seq);
  integerFrom(1, 'layers', layers, kMaxLayers);
  integerFrom(0, 'seed', seed);
  return { model, batch, seq, layers, seed, format: { weight, activation, group: groupOf(weight, activation, words.group ?? -1) } };
}

function groupOf(weight: WeightFormat, activation: ActivationFormat, group: number): ModelFormat['group'] {
  if (isMxFormat(weight) !== isMxFormat(activation)) {
    throw new LadderError('BAD_ARGUMENT', `MX weights and MX activations go together: received ${weight} with ${activation}`);
  }
  if (activation !== pairedActivation(weight)) {
    throw new LadderError('UNSUPPORTED', `expected ${pairedActivation(weight)} for \`act\` with ${weight} weights but received ${activation}: no kernel multiplies these`, { weight, activation });
  }
  if (isMxFormat(weight)) {
    if (group !== -1 && group !== kMxBlock) throw new LadderError('BAD_ARGUMENT', `expected -1 or ${kMxBlock}, which MX prescribes, for \`group\` but received ${group}`);
    return kMxBlock;
  }
  if (group !== -1 && group !== 64 && group !== 128) throw new LadderError('BAD_ARGUMENT', `expected -1, 64 or 128 for \`group\` but received ${group}`);
  if (!scaleGroups(weight).includes(group)) throw new LadderError('BAD_ARGUMENT', `group scales exist for int4 and nf4 weights, not for ${weight}`);
  return group;
}

function integerFrom(least: number, name: string, value: number, most = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new LadderError('BAD_ARGUMENT', `expected an integer ${range} for \`${name}\` but received ${value}`);
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (!found) throw new LadderError('BAD_ARGUMENT', `expected one of ${allowed.join(', ')} for \`${name}\` but received ${JSON.stringify(value)}`);
  return found;
}

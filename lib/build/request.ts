/** Turns the words of the command line (`--weight fp8 --format e4m3 …`) into a checkpoint request. */
import { type ActivationFormat, activationFormats, isMxFormat, kMxBlock, type WeightFormat, weightFormats } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import type { CheckpointRequest } from './design.js';
import type { ModelFormat } from './lower.js';

/** Options as a user writes them. */
export interface RequestWords {
  readonly model: string;
  readonly batch: number;
  readonly seq: number;
  readonly layers?: number;
  /** fp16, int4, nf4, fp8, mxfp8, int1; fp8 and mxfp8 take their kind from `format`. */
  readonly weight: string;
  /** Default: what Figure 8 pairs with the weight format. */
  readonly act?: string;
  /** −1 (per output channel), 64 or 128. */
  readonly group?: number;
  /** FP8 kind: e5m2 (as in Ladder) or e4m3. */
  readonly format?: 'e5m2' | 'e4m3';
  readonly seed?: number;
}

/** Seed of the fake weights of the committed checkpoints. */
export const kDefaultSeed = 2024;

const kPaired: Readonly<Record<string, string>> = { fp16: 'fp16', int4: 'fp16', nf4: 'fp16', fp8: 'fp8', mxfp8: 'mxfp8', int1: 'int8' };

/** @throws LadderError `BAD_ARGUMENT` naming the option */
export function parseRequest(words: RequestWords): CheckpointRequest {
  const kind = words.format ?? 'e5m2';
  const full = (format: string): string => (format === 'fp8' || format === 'mxfp8' ? `${format}_${kind}` : format);
  const weight = oneOf('weight', full(words.weight), weightFormats);
  const activation = oneOf('act', full(words.act ?? kPaired[words.weight] ?? 'fp16'), activationFormats);
  for (const [name, value] of [['batch', words.batch], ['seq', words.seq], ['layers', words.layers ?? 1], ['seed', words.seed ?? kDefaultSeed]] as const) {
    if (!Number.isSafeInteger(value) || value < (name === 'seed' ? 0 : 1)) {
      throw new LadderError('BAD_ARGUMENT', `expected a positive integer for \`${name}\` but received ${value}`);
    }
  }
  return {
    model: words.model, batch: words.batch, seq: words.seq, layers: words.layers ?? 1, seed: words.seed ?? kDefaultSeed,
    format: { weight, activation, group: groupOf(weight, activation, words.group ?? -1) },
  };
}

function groupOf(weight: WeightFormat, activation: ActivationFormat, group: number): ModelFormat['group'] {
  if (isMxFormat(weight) !== isMxFormat(activation)) {
    throw new LadderError('BAD_ARGUMENT', `MX weights and MX activations go together: received ${weight} with ${activation}`);
  }
  if (isMxFormat(weight)) return kMxBlock;
  if (group !== -1 && group !== 64 && group !== 128) throw new LadderError('BAD_ARGUMENT', `expected -1, 64 or 128 for \`group\` but received ${group}`);
  if (group !== -1 && weight !== 'int4' && weight !== 'nf4') throw new LadderError('BAD_ARGUMENT', `group scales exist for int4 and nf4 weights, not for ${weight}`);
  return group;
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (!found) throw new LadderError('BAD_ARGUMENT', `expected one of ${allowed.join(', ')} for \`${name}\` but received ${JSON.stringify(value)}`);
  return found;
}

/** Turns the words of the command line (`--weight fp8 --format e4m3 …`) into a checkpoint request. */
import { LadderError } from '../errors.js';
import { activationFormat, activationFormats, type Group, isMx, kPlainFormat, weightFormat, weightFormats } from '../formats/index.js';
import { findModel, modelGraph, type NamedModel } from '../models/index.js';
import { kMasks } from '../operators/mask.js';
import type { CheckpointRequest } from './design.js';

/** Options as a user writes them. */
export interface RequestWords extends NamedModel {
  readonly batch: number;
  readonly seq: number;
  readonly layers?: number | undefined;
  /** fp16 (the default), int4, nf4, fp8, mxfp8, int1; fp8 and mxfp8 take their kind from `format`, or have it in the name (fp8_e4m3). */
  readonly weight?: string | undefined;
  /** Default: what Figure 8 pairs with the weight format. */
  readonly act?: string | undefined;
  /** −1 (per output channel; MX has blocks of 32 by itself), 64 or 128. */
  readonly group?: number | undefined;
  /** FP8 kind: e5m2 (as in Ladder, the default) or e4m3. */
  readonly format?: string | undefined;
  readonly seed?: number | undefined;
  /** Which tokens attention sees: none (all of the sequence, the default of Figure 8's models) or causal (the default of others). */
  readonly mask?: string | undefined;
}

/** Seed of the fake weights of the committed checkpoints. */
export const kDefaultSeed = 2024;

/** More than any model has; a slip of the finger should not describe a million operators. */
const kMaxLayers = 256;

/** @throws LadderError `BAD_ARGUMENT` naming the option, `UNSUPPORTED` for a pair of formats that no checkpoint's name says */
export function parseRequest(words: RequestWords): CheckpointRequest {
  const { model, config, batch, seq, layers = 1, seed = kDefaultSeed, mask = config ? 'causal' : 'none' } = words;
  modelGraph(words);
  const weight = oneOf(
    'weight',
    withKind(words.weight ?? kPlainFormat, words.format),
    weightFormats().map(({ id }) => id),
  );
  const activation =
    words.act === undefined
      ? weightFormat(weight).weight.pairedWith
      : oneOf(
          'act',
          withKind(words.act, words.format),
          activationFormats().map(({ id }) => id),
        );
  if (words.format !== undefined && !weight.endsWith(`_${words.format}`)) {
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected \`format\` with weights that have kinds, and of theirs, but received ${words.format} with ${weight}`,
    );
  }
  integerFrom(1, 'batch', batch);
  integerFrom(1, 'seq', seq);
  integerFrom(1, 'layers', layers, kMaxLayers);
  integerFrom(0, 'seed', seed);
  const attention = oneOf('mask', mask, findModel(words)!.masked ? kMasks : ['none']);
  return {
    model,
    ...(config && { config }),
    batch,
    seq,
    layers,
    seed,
    format: { weight, activation, group: groupOf(weight, activation, words.group ?? -1) },
    ...(attention !== 'none' && { mask: attention }),
  };
}

/** A format that comes in kinds (`fp8`) with its kind; the first that there is where none is asked for. */
function withKind(word: string, kind: string | undefined): string {
  const ids = [...weightFormats(), ...activationFormats()].map(({ id }) => id);
  if (ids.includes(word)) return word;
  return (kind === undefined ? ids.find((id) => id.startsWith(`${word}_`)) : `${word}_${kind}`) ?? word;
}

/** The group of a pair of formats; −1 where none is said. @throws LadderError `BAD_ARGUMENT` */
export function groupOf(weightId: string, activationId: string, group: number): Group {
  const weight = weightFormat(weightId);
  const { groups, pairedWith } = weight.weight;
  // MX prescribes its group, which need not be said.
  const found = group === -1 && isMx(weight) ? groups[0] : groups.find((one) => one === group);
  if (found === undefined)
    throw new LadderError('BAD_ARGUMENT', `expected ${groups.join(', ')} for \`group\` with ${weightId} weights but received ${group}`);
  const blocks = activationFormat(activationId).activation.group;
  if (blocks > 0 && blocks !== found)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected weights in blocks of ${blocks}, as ${activationId} activations come, but received ${weightId}`,
    );
  if (isMx(weight) && activationId !== pairedWith)
    throw new LadderError('BAD_ARGUMENT', `MX weights and MX activations go together: received ${weightId} with ${activationId}`);
  return found;
}

function integerFrom(least: number, name: string, value: number, most = Number.MAX_SAFE_INTEGER): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new LadderError('BAD_ARGUMENT', `expected an integer ${range} for \`${name}\` but received ${value}`);
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (!found)
    throw new LadderError('BAD_ARGUMENT', `expected one of ${allowed.join(', ')} for \`${name}\` but received ${JSON.stringify(value)}`);
  return found;
}

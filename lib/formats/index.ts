/**
 * The formats: one record each, looked up by id. A new one is a file beside this one and a line in `shipped`
 * (or `formats.add` at run time); its codes go to the reference and its words to names, labels and options from there.
 */
import { LadderError } from '../errors.js';
import { Registry } from '../registry.js';
import type { ActivationFormatRecord, Format, Group, WeightFormatRecord } from './format.js';
import { fp16 } from './fp16.js';
import { fp8E4m3, fp8E5m2, mxfp8E4m3, mxfp8E5m2 } from './fp8.js';
import { int1, int4, int8 } from './integers.js';
import { nf4 } from './nf4.js';

const shipped = [fp16, int4, nf4, fp8E5m2, fp8E4m3, mxfp8E5m2, mxfp8E4m3, int1, int8] as const;
type Shipped = (typeof shipped)[number];

/** How weights are stored. */
export type WeightFormat = Extract<Shipped, { weight: object }>['id'];
/** What activations are multiplied as. */
export type ActivationFormat = Extract<Shipped, { activation: object }>['id'];

/** A format as the builder takes it: its id, or, of formats that have kinds, its name without one (`fp8`). */
export type FormatWord<F extends string> = F | (F extends `${infer Name}_${string}` ? Name : never);
/** Kinds of formats that have them. */
export type FormatKind = WeightFormat extends infer F ? (F extends `${string}_${infer Kind}` ? Kind : never) : never;

export { kScaleChoices, type ScaleChoice } from './format.js';

export type WeightFormatOf = Format & { readonly weight: WeightFormatRecord };
export type ActivationFormatOf = Format & { readonly activation: ActivationFormatRecord };

export const formats = new Registry<Format>('format', shipped);

/** Of numbers as they are: what is not quantised is stored and multiplied in it. */
export const kPlainFormat: string = fp16.id;

const isWeight = (format: Format): format is WeightFormatOf => format.weight !== undefined;
const isActivation = (format: Format): format is ActivationFormatOf => format.activation !== undefined;

/** Formats that weights can have, in the order of registration. */
export function weightFormats(): readonly WeightFormatOf[] {
  return formats.all().filter(isWeight);
}

export function activationFormats(): readonly ActivationFormatOf[] {
  return formats.all().filter(isActivation);
}

/** @throws LadderError `BAD_ARGUMENT` for an unknown format, or one that weights do not have */
export function weightFormat(id: string): WeightFormatOf {
  const format = formats.get(id);
  if (!isWeight(format))
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected one of ${weightFormats()
        .map((one) => one.id)
        .join(', ')} for weights but received ${id}`,
      { format: id },
    );
  return format;
}

/** @throws LadderError `BAD_ARGUMENT` */
export function activationFormat(id: string): ActivationFormatOf {
  const format = formats.get(id);
  if (!isActivation(format))
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected one of ${activationFormats()
        .map((one) => one.id)
        .join(', ')} for activations but received ${id}`,
      { format: id },
    );
  return format;
}

/** Whether weights of a format come in blocks that share a power of two (OCP MX). */
export function isMx({ weight }: WeightFormatOf): boolean {
  return weight.scale?.fit.kind === 'mx';
}

/** As the paper writes it: `W_INT4 A_FP16`; FP8's kind is not part of it. */
export function formatLabel(weight: string, activation: string): string {
  return `W_${formats.get(weight).label} A_${formats.get(activation).label}`;
}

/**
 * The same as cases of records are called, which shall not be taken for each other: with the kind of FP8 unless it is the first, and the
 * group where the format leaves a choice: `W_FP8 A_FP8 (e4m3)`, `W_INT4 A_FP16 g128`.
 */
export function caseLabel({
  weight,
  activation,
  group,
}: {
  readonly weight: string;
  readonly activation: string;
  readonly group: number;
}): string {
  const { id, label, weight: record } = weightFormat(weight);
  const isFirst = weightFormats().find((one) => one.label === label)!.id === id;
  const kind = isFirst ? '' : ` (${id.slice(id.lastIndexOf('_') + 1)})`;
  return `${formatLabel(weight, activation)}${kind}${group > 0 && record.groups.length > 1 ? ` g${group}` : ''}`;
}

/** A case's label as the paper would write it. */
export function figureLabel(label: string): string {
  return /^W_\S+ A_\S+/.exec(label)?.[0] ?? label;
}

/** The formats of a label, of kinds that share one the first unless it says which; null for what no record is called. */
export function formatsOfLabel(label: string): { readonly weight: WeightFormatOf | null; readonly activation: ActivationFormatOf | null } {
  const [, weight, activation, kind] = /^W_(\S+) A_(\S+)(?: \((\w+)\))?(?: g\d+)?$/.exec(label) ?? [];
  const named = (word: string | undefined) => (one: Format) =>
    one.label === word && (kind === undefined || !one.id.includes('_') || one.id.endsWith(`_${kind}`));
  return { weight: weightFormats().find(named(weight)) ?? null, activation: activationFormats().find(named(activation)) ?? null };
}

/** Weights and activations by a checkpoint's words; null where no formats have them. */
export function formatsOfWords(
  format: string,
  bits: number,
  convertsToInt8: boolean,
): { readonly weight: string; readonly activation: string } | null {
  for (const weight of weightFormats()) {
    if (weight.weight.word?.bits !== bits) continue;
    for (const { id, activation } of activationFormats()) {
      const word = activation.word(weight);
      if (word?.format === format && word.convertsToInt8 === convertsToInt8) return { weight: weight.id, activation: id };
    }
  }
  return null;
}

/**
 * The words of a checkpoint's name for a pair of formats; null for weights as they are, which names pass over.
 * @throws LadderError `UNSUPPORTED` for a pair that no name says
 */
export function wordsOfFormats(
  weightId: string,
  activationId: string,
): { readonly format: string; readonly bits: number; readonly convertsToInt8: boolean } | null {
  const weight = weightFormat(weightId);
  const { activation } = activationFormat(activationId);
  if (weight.weight.word === null && activation.scale === null) return null;
  const word = activation.word(weight);
  if (!word || !weight.weight.word)
    throw new LadderError('UNSUPPORTED', `no checkpoint name says weights ${weightId} with activations ${activationId}`, {
      weight: weightId,
      activation: activationId,
    });
  return { ...word, bits: weight.weight.word.bits };
}

/** Stored bits per weight with its scales, `k` input channels to an output channel. */
export function bitsPerWeight({ element, weight }: WeightFormatOf, group: Group, k: number): number {
  if (weight.scale === null) return element.bits;
  const sharing = group === -1 ? k : group;
  return element.bits + (weight.scale.type === 'e8m0' ? 8 : 16) / sharing;
}

export type { ActivationFormatRecord, Format, Group, WeightFormatRecord };

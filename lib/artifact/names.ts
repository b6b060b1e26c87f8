/**
 * The one grammar of checkpoints' names, as Ladder's authors write them, both ways: what a name says, and the name of a
 * checkpoint. Words of formats and what names of a model begin with are the records' (lib/formats, lib/models).
 *
 *   layers     <prefix>_bs<B>_seq<S>[_layers<L>][_causal][_async]
 *              <prefix>_fq_0_<format>_<bits>_<group>_bs<B>_seq<S>_ci_<True|False>[_cmxfp][_layers<L>][_causal][_async]
 *   networks   <prefix>[-<pixels>][-b<B>][_fq_0_<format>_<bits>[_<weight>]_ci_<True|False>][_async][_holistic_fp16]   (B up to 1024; unsaid: 128)
 *
 * `fq` is fake quantisation, `ci` converts activations to INT8, `cmxfp` to MXFP, which the format says as well. With `_<weight>`,
 * format and bits are the activations': `int_8_int4`. What their scripts write themselves begins with the script's name instead of
 * the prefix, `ladder_with_fake_dense_dequantize_bs1_seq1`. `_layers<L>` for more than one layer and `_causal` for attention with
 * that mask are additions of this project. Paths in logs may hold names that are not quite the authors': {@link caseOfPath} takes
 * from those what they say.
 */
import { LadderError } from '../errors.js';
import { caseLabel, formatLabel, formats, formatsOfWords, weightFormat, weightFormats, wordsOfFormats } from '../formats/index.js';
import type { Mask } from '../operators/mask.js';
import { type FormatPair, findModel, type Model, modelOfText, models, type NamedModel, settingName } from '../models/index.js';

/** What a checkpoint's name says. */
export interface CheckpointName {
  /** As in lib/models; null where models share the name, and the folder above is none of theirs. */
  readonly model: string | null;
  readonly batch: number;
  /** Tokens per sequence; 1 for networks. */
  readonly seq: number;
  readonly layers: number;
  readonly mask: Mask;
  readonly weight: string;
  readonly activation: string;
  /** Elements along K that share a scale; −1: per output channel, or what the format itself prescribes. */
  readonly group: number;
  readonly async: boolean;
  readonly holistic: boolean;
}

/** What a name is made from. */
export interface NamedCheckpoint extends NamedModel {
  readonly batch: number;
  readonly seq: number;
  readonly layers?: number | undefined;
  readonly mask?: Mask | undefined;
  readonly format: FormatPair & { readonly group: number };
}

/** The case of Figure 8 that a name speaks of; null where it does not say. */
export interface CaseName {
  /** As in lib/models. */
  readonly model: string | null;
  /** bs1_seq1 for layers, bs1 for networks (models/model.ts). */
  readonly setting: string | null;
  /** As the paper writes it: `W_INT4 A_FP16`. */
  readonly format: string | null;
}

const plain = weightFormats().find(({ weight }) => weight.word === null)!;
/** Weights and activations that names pass over: FP16, which also is what a system runs in where nothing else is said. */
export const kPlainFormats: FormatPair = { weight: plain.id, activation: plain.weight.pairedWith };
/** As the paper writes them. */
export const kPlainLabel = formatLabel(kPlainFormats.weight, kPlainFormats.activation);

/** Networks' names say their batch, but leave this one out; the authors have no others than it and 1. */
const kUnsaidBatch = 128;
/** What networks are built for at most. */
const kMaxNetworkBatch = 1024;

const kFormat = '_fq_0_(?<format>[a-z0-9]+(?:_[a-z0-9]+)*?)_(?<bits>[1-9][0-9]?)';
/** Scripts that write checkpoints of layers. */
const kScripts = 'ladder_(?:from|with)_[a-z_]+?';
const kShape = '_bs(?<batch>[1-9][0-9]{0,8})_seq(?<seq>[1-9][0-9]{0,8})';
const kConversion = '_ci_(?<ci>True|False)';
const kEndings: Readonly<Record<Model['kind'], string>> = {
  layer: `(?:${kFormat}_(?<group>-1|[1-9][0-9]{0,5}))?${kShape}(?:${kConversion}(?:_cmxfp)?)?(?:_layers(?<layers>[2-9]|[1-9][0-9]{1,3}))?(?<causal>_causal)?(?<async>_async)?`,
  network: `(?:-(?<image>[1-9][0-9]{1,3}))?(?:-b(?<batch>[1-9][0-9]{0,3}))?(?:${kFormat}(?:_(?<stored>[a-z]+[0-9]+))?${kConversion})?(?<async>_async)?(?<holistic>_holistic_fp16)?`,
};
const kKinds = ['layer', 'network'] as const;

/** The parts of a name of one kind of model. */
function partsOf(name: string, kind: Model['kind']): Readonly<Record<string, string | undefined>> | null {
  const prefixes = new Set(
    models
      .all()
      .filter((model) => model.kind === kind)
      .map(({ checkpoint }) => checkpoint.prefix.replace(/[^\w-]/g, '\\$&')),
  );
  if (kind === 'layer') prefixes.add(kScripts);
  return new RegExp(`^(?<prefix>${[...prefixes].join('|')})${kEndings[kind]}$`).exec(name)?.groups ?? null;
}

/** The formats that the parts of a name say; null for words that no record has. */
function pairOf({ format, bits, stored, ci }: Readonly<Record<string, string | undefined>>): FormatPair | null {
  if (format === undefined) return kPlainFormats;
  if (stored === undefined) return formatsOfWords(format, Number(bits), ci === 'True');
  const [weight, activation] = [formats.find(stored), formats.find(`${format}${bits}`)];
  return weight?.weight && activation?.activation ? { weight: weight.id, activation: activation.id } : null;
}

/**
 * Reads a checkpoint's name.
 * @param name the folder's name
 * @param parent the name of the folder above, which says which of the models that share a name it is
 * @returns null for a name of another make
 *
 * @example parseCheckpointName('llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', 'llama2-70b')?.weight // 'int4'
 */
export function parseCheckpointName(name: string, parent: string): CheckpointName | null {
  for (const kind of kKinds) {
    const parts = partsOf(name, kind);
    if (!parts || (parts['format'] === undefined) !== (parts['ci'] === undefined)) continue;
    const pair = pairOf(parts);
    if (!pair || (kind === 'network' && Number(parts['batch'] ?? 1) > kMaxNetworkBatch)) continue;
    const ofKind = models.all().filter((model) => model.kind === kind);
    const sharing = ofKind.filter((model) => model.checkpoint.prefix === parts['prefix']);
    // A script's name says no model: then the folder above does, or nothing.
    const model =
      (sharing.length > 0 ? sharing : ofKind).find(({ id }) => id === parent) ?? sharing.find(({ checkpoint }) => !checkpoint.shared);
    const image = parts['image'] === undefined ? '' : `-${parts['image']}`;
    if (image !== '' && !(model && findModel({ model: `${model.id}${image}` }))) continue;
    return {
      model: model ? `${model.id}${image}` : null,
      batch: Number(parts['batch'] ?? kUnsaidBatch),
      seq: Number(parts['seq'] ?? 1),
      layers: Number(parts['layers'] ?? 1),
      mask: parts['causal'] === undefined ? 'none' : 'causal',
      group: Number(parts['group'] ?? -1),
      weight: pair.weight,
      activation: pair.activation,
      async: parts['async'] !== undefined,
      holistic: parts['holistic'] !== undefined,
    };
  }
  return null;
}

/**
 * The name of a checkpoint's folder, as the authors would write it.
 * @throws LadderError `UNSUPPORTED` for a model, batch or pair of formats that their names cannot say, `BAD_ARGUMENT` for an
 *   unknown format
 */
export function checkpointName(named: NamedCheckpoint): string {
  const { model: id, batch, seq, layers = 1, mask = 'none', format } = named;
  const words = wordsOfFormats(format.weight, format.activation);
  const model = findModel(named);
  if (!model)
    throw new LadderError('UNSUPPORTED', `expected a model among ${models.ids().join(', ')} but received ${JSON.stringify(id)}`, {
      model: id,
    });
  const { prefix, quantisedSuffix = '' } = model.checkpoint;
  const conversion = words?.convertsToInt8 ? 'True' : 'False';
  const group = saidGroup(format);
  if (model.kind === 'layer') {
    const shape = `bs${batch}_seq${seq}`;
    const suffix = `${layers > 1 ? `_layers${layers}` : ''}${mask === 'none' ? '' : `_${mask}`}_async`;
    return words
      ? `${prefix}_fq_0_${words.format}_${words.bits}_${group}_${shape}_ci_${conversion}${suffix}`
      : `${prefix}_${shape}${suffix}`;
  }
  if (batch > kMaxNetworkBatch)
    throw new LadderError('UNSUPPORTED', `checkpoints of ${id} have a batch from 1 to ${kMaxNetworkBatch}, not ${batch}`, {
      model: id,
      batch,
    });
  if (seq !== 1 || layers !== 1 || group !== -1)
    throw new LadderError('UNSUPPORTED', `names of ${id}'s checkpoints have no room for a sequence, layers or groups`, {
      model: id,
      seq,
      layers,
      group,
    });
  const base = `${prefix}${batch === kUnsaidBatch ? '' : `-b${batch}`}`;
  return words ? `${base}_fq_0_${words.format}_${words.bits}_ci_${conversion}${batch === 1 ? quantisedSuffix : ''}` : base;
}

/**
 * Where a checkpoint's folder stands below a folder of checkpoints: in one of its model's name, but for networks, whose own names
 * say which they are.
 * @throws LadderError as {@link checkpointName}
 */
export function checkpointPlace(named: NamedCheckpoint): string {
  const name = checkpointName(named);
  const { kind, checkpoint } = findModel(named)!;
  return kind === 'network' && !checkpoint.shared ? name : `${named.model}/${name}`;
}

/** The authors write −1 for a group that a format leaves no choice of, as MX does. */
function saidGroup({ weight, group }: NamedCheckpoint['format']): number {
  const { groups } = weightFormat(weight).weight;
  return groups.length === 1 && group === groups[0] ? -1 : group;
}

/** The case that a name says, as records and Figure 8 write it. */
export function caseOfName({
  model,
  batch,
  seq,
  layers,
  mask,
  weight,
  activation,
  group,
}: CheckpointName): CaseName & { readonly setting: string; readonly format: string } {
  // A name that leaves its model open is one of layers.
  const kind = findModel({ model: model ?? '' })?.kind ?? 'layer';
  return { model, setting: settingName(kind, { batch, seq, layers, mask }), format: caseLabel({ weight, activation, group }) };
}

/**
 * The case of a checkpoint, from its path as a log prints it. Names that are not the authors' say what can be found in them.
 * @example caseOfPath('…/bloom-176b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async').format // 'W_INT4 A_FP16'
 */
export function caseOfPath(path: string): CaseName {
  const [name = '', parent = ''] = path
    .split('/')
    .filter((part) => part !== '')
    .reverse();
  const parsed = parseCheckpointName(name, parent);
  const model = parsed?.model ? findModel({ model: parsed.model }) : spokenModel(name, parent);
  const format = parsed ? caseOfName(parsed).format : spokenFormat(name);
  if (!model) return { model: null, setting: null, format };
  const unsaid = model.kind === 'network' ? settingName(model.kind, { batch: kUnsaidBatch, seq: 1 }) : null;
  const setting = parsed ? caseOfName(parsed).setting : (settingOfText(name.replace(/_fq_.*?(?=_bs\d|$)/, ''), model) ?? unsaid);
  return { model: model.id, setting, format };
}

/** The name's model, unless it says no more than what several share: then the folder's goes first. */
function spokenModel(name: string, parent: string): Model | null {
  const own = modelOfText(name);
  const open = own === null || (own.checkpoint.shared && own.pattern?.test(own.checkpoint.prefix));
  return open ? (modelOfText(parent) ?? own) : own;
}

/** Batch and tokens anywhere in a text, as systems spell them: `bs32_seq1`, `b1_s4096`, `batch1_seq1`; null where it lacks one. */
export function settingOfText(text: string, { kind }: Model): string | null {
  const batch = /(?:^|[-_])(?:batch|bs|b)(\d+)(?![a-z\d])/i.exec(text)?.[1];
  const seq = kind === 'layer' ? /(?:^|[-_])(?:seq|s)(\d+)(?![a-z\d])/i.exec(text)?.[1] : '1';
  return batch === undefined || seq === undefined ? null : settingName(kind, { batch: Number(batch), seq: Number(seq) });
}

/** The format that a name's words speak of, whatever else the name holds. */
function spokenFormat(name: string): string | null {
  if (!name.includes('_fq_')) return kPlainLabel;
  const words = /_fq_-?\d+_(?<format>[a-z0-9]+(?:_[a-z0-9]+)*?)_(?<bits>\d+)(?=_).*?_ci_(?<ci>True|False)/.exec(name)?.groups;
  if (!words) return null;
  const { format = '', bits = '', ci } = words;
  // Activations that say themselves are not converted, too.
  for (const converts of ci === 'True' ? [true, false] : [false]) {
    const pair = formatsOfWords(format, Number(bits), converts);
    if (pair) return formatLabel(pair.weight, pair.activation);
    const other = otherWidth(format, bits, converts);
    if (other !== null) return other;
  }
  return null;
}

/** The label of weights of a width that no record has, by a record of the same word. */
function otherWidth(format: string, bits: string, converts: boolean): string | null {
  for (const { id, label, weight } of weightFormats()) {
    const pair = weight.word && formatsOfWords(format, weight.word.bits, converts);
    if (pair?.weight !== id) continue;
    const widened = label.replace(/\d+$/, bits);
    const ownKind = pair.activation === id && weight.word?.format === format && !converts;
    return `W_${widened} A_${ownKind ? widened : formats.get(pair.activation).label}`;
  }
  return null;
}

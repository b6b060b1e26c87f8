/**
 * Names of checkpoint folders as Ladder's authors write them, both ways: what a name says, and the name of a checkpoint.
 *
 *   LLM layers   llama2_bs<B>_seq<S>_async
 *                llama2_fq_0_<format>_<bits>_<group>_bs<B>_seq<S>_ci_<True|False>_async      (for BLOOM as well)
 *   networks     <net>[-b1][_fq_0_<format>_<bits>_ci_<True|False>][_async][_holistic_fp16]   (without -b1: batch 128)
 *
 * `fq` is fake quantisation, `ci` converts activations to INT8, format `int4b` means INT4 activations. The authors' `mxfp`
 * is E5M2; E4M3 (`fp_e4m3`, `mxfp_e4m3`) and `_layers<L>` for more than one layer are additions of this project.
 */
import { LadderError } from '../errors.js';
import type { ActivationFormat, WeightFormat } from '../formats/index.js';

/** Models by the name of the folder that holds their checkpoints: Figure 8's (and small ones for tests), and what names below begin with. */
const kLanguageModels: readonly string[] = ['llama2-70b', 'bloom-176b', 'llama2-tiny', 'bloom-tiny'];
const kNetworks = new Map([['resnet-50', 'resnet-50'], ['shufflenet', 'shufflenet-v2'], ['Conformer', 'conformer'], ['vit', 'vit']]);

/** What a checkpoint's name says. */
export interface CheckpointName {
  /** As in Figure 8: llama2-70b, bloom-176b, resnet-50, shufflenet-v2, conformer, vit; null for an LLM in a folder of unknown name. */
  readonly model: string | null;
  readonly batch: number;
  /** Tokens per sequence; 1 for networks. */
  readonly seq: number;
  readonly layers: number;
  /** `int8` is one of the authors' formats that this project does not build. */
  readonly weight: WeightFormat | 'int8';
  readonly activation: ActivationFormat;
  /** Elements along K that share a scale; −1: per output channel, or what the format itself prescribes. */
  readonly group: number;
  readonly async: boolean;
  readonly holistic: boolean;
}

/** What a name is made from. */
export interface NamedCheckpoint {
  readonly model: string;
  readonly batch: number;
  readonly seq: number;
  readonly layers?: number;
  readonly format: { readonly weight: string; readonly activation: string; readonly group: number };
}

interface FormatWords {
  readonly format: string;
  readonly bits: number;
  /** ci_True */
  readonly int8: boolean;
}

const kWeights: readonly (readonly [string, number, WeightFormat | 'int8'])[] = [
  ['int', 1, 'int1'], ['int', 4, 'int4'], ['int', 8, 'int8'], ['int4b', 1, 'int1'], ['int4b', 4, 'int4'], ['nf', 4, 'nf4'],
  ['fp_e5m2', 8, 'fp8_e5m2'], ['fp_e4m3', 8, 'fp8_e4m3'], ['mxfp', 8, 'mxfp8_e5m2'], ['mxfp_e4m3', 8, 'mxfp8_e4m3'],
];

/** Floating-point weights of 8 bits are multiplied by activations of their own format. */
function activationOf(words: FormatWords, weight: WeightFormat | 'int8'): ActivationFormat | null {
  if (words.format === 'int4b') return words.int8 ? null : 'int4';
  if (words.int8) return 'int8';
  switch (weight) {
    case 'fp8_e5m2': case 'fp8_e4m3': case 'mxfp8_e5m2': case 'mxfp8_e4m3': return weight;
    default: return 'fp16';
  }
}

const kFormat = '_fq_0_(?<format>[a-z0-9]+(?:_e[0-9]m[0-9])?)_(?<bits>[1-9][0-9]?)';
const kShape = '_bs(?<batch>[1-9][0-9]{0,8})_seq(?<seq>[1-9][0-9]{0,8})';
const kLayers = '(?:_layers(?<layers>[2-9]|[1-9][0-9]{1,3}))?';
const kLanguageName = new RegExp(`^llama2(?:${kShape}|${kFormat}_(?<group>-1|[1-9][0-9]{0,5})${kShape.replaceAll('?<', '?<q')}_ci_(?<ci>True|False))${kLayers}(?<async>_async)?$`);
const kNetworkName = new RegExp(`^(?<net>${[...kNetworks.keys()].join('|')})(?<one>-b1)?(?:${kFormat}_ci_(?<ci>True|False))?(?<async>_async)?(?<holistic>_holistic_fp16)?$`);

/**
 * Reads a checkpoint's name.
 * @param name the folder's name
 * @param parent the name of the folder above, which says which LLM it is
 * @returns null for a name of another make
 *
 * @example parseCheckpointName('llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', 'llama2-70b')?.weight // 'int4'
 */
export function parseCheckpointName(name: string, parent: string): CheckpointName | null {
  const language = kLanguageName.exec(name)?.groups;
  const groups = language ?? kNetworkName.exec(name)?.groups;
  if (!groups) return null;
  const format = formatOf(groups['format'], groups['bits'], groups['ci']);
  if (!format) return null;
  const common = { ...format, async: groups['async'] !== undefined, holistic: groups['holistic'] !== undefined };
  if (!language) {
    const batch = groups['one'] ? 1 : 128;
    return { model: kNetworks.get(groups['net']!)!, batch, seq: 1, layers: 1, group: -1, ...common };
  }
  return {
    model: kLanguageModels.includes(parent) ? parent : null,
    batch: Number(groups['batch'] ?? groups['qbatch']), seq: Number(groups['seq'] ?? groups['qseq']),
    layers: Number(groups['layers'] ?? 1), group: Number(groups['group'] ?? -1), ...common,
  };
}

function formatOf(format: string | undefined, bits: string | undefined, ci: string | undefined): Pick<CheckpointName, 'weight' | 'activation'> | null {
  if (format === undefined) return { weight: 'fp16', activation: 'fp16' };
  const weight = kWeights.find(([name, width]) => name === format && width === Number(bits))?.[2];
  if (!weight) return null;
  const activation = activationOf({ format, bits: Number(bits), int8: ci === 'True' }, weight);
  return activation && { weight, activation };
}

/**
 * The name of a checkpoint's folder, as the authors would write it.
 * @throws LadderError `UNSUPPORTED` for a model, batch or pair of formats that their names cannot say
 */
export function checkpointName({ model, batch, seq, layers = 1, format }: NamedCheckpoint): string {
  const words = wordsOf(format.weight as WeightFormat, format.activation as ActivationFormat);
  const language = kLanguageModels.includes(model);
  // MX prescribes its group; the authors write −1.
  const group = format.weight.startsWith('mxfp8') ? -1 : format.group;
  if (language) {
    const suffix = `${layers > 1 ? `_layers${layers}` : ''}_async`;
    return words
      ? `llama2_fq_0_${words.format}_${words.bits}_${group}_bs${batch}_seq${seq}_ci_${words.int8 ? 'True' : 'False'}${suffix}`
      : `llama2_bs${batch}_seq${seq}${suffix}`;
  }
  const net = [...kNetworks].find(([, id]) => id === model)?.[0];
  if (!net) throw new LadderError('UNSUPPORTED', `expected a model among ${[...kLanguageModels, ...kNetworks.values()].join(', ')} but received ${JSON.stringify(model)}`, { model });
  if (batch !== 1 && batch !== 128) throw new LadderError('UNSUPPORTED', `checkpoints of ${model} have batch 1 or 128, not ${batch}`, { model, batch });
  if (seq !== 1 || layers !== 1 || group !== -1) throw new LadderError('UNSUPPORTED', `names of ${model}'s checkpoints have no room for a sequence, layers or groups`, { model, seq, layers, group });
  const base = `${net}${batch === 1 ? '-b1' : ''}`;
  if (!words) return base;
  const suffix = batch !== 1 ? '' : model === 'vit' ? '_holistic_fp16' : '_async';
  return `${base}_fq_0_${words.format}_${words.bits}_ci_${words.int8 ? 'True' : 'False'}${suffix}`;
}

/** The name's words for a pair of formats; null for FP16 throughout. */
function wordsOf(weight: WeightFormat | 'int8', activation: ActivationFormat): FormatWords | null {
  if (weight === 'fp16' && activation === 'fp16') return null;
  for (const [format, bits, candidate] of kWeights) {
    if (candidate !== weight) continue;
    for (const int8 of [false, true]) {
      const words = { format, bits, int8 };
      if (activationOf(words, weight) === activation) return words;
    }
  }
  throw new LadderError('UNSUPPORTED', `no checkpoint name says weights ${weight} with activations ${activation}`, { weight, activation });
}

/**
 * What a numeric format is: its codes, how weights and activations of it are stored and scaled, and its words. One record per
 * format in this folder; everything else looks it up (index.ts).
 */
import type { Fill, ScaleFit } from '../native.js';
import type { Element } from './codes.js';

/** Numbers along the contracted axis that share a scale; −1: all of an output channel, or of a token. */
export type Group = -1 | 32 | 64 | 128;

/**
 * How scales of weights are chosen: so that the largest magnitude becomes the largest code (of one bit: by the mean magnitude), or, of
 * scales from there down to half of it, by the least squared error of the numbers that share it.
 */
export const kScaleChoices = ['absmax', 'mse'] as const;
export type ScaleChoice = (typeof kScaleChoices)[number];

/** Scales of weights: float16, or E8M0 for MX. */
export interface WeightScale {
  readonly type: 'f16' | 'e8m0';
  readonly fit: ScaleFit;
  /** What is done where nothing is said. */
  readonly choice: ScaleChoice;
}

/** Scales of activations: float32 per token, or E8M0 per block for MX. */
export interface ActivationScale {
  readonly type: 'f32' | 'e8m0';
  readonly fit: ScaleFit;
}

/** The format as weights are stored in it. */
export interface WeightFormatRecord {
  /** TVM's type of the stored tensor; codes of less than 16 bits are packed into bytes from the low bits up. */
  readonly tvm: 'float16' | 'uint8';
  /** null: values are stored as they are. */
  readonly scale: WeightScale | null;
  /** Which groups may share a scale; the first is what is meant where nothing is said. */
  readonly groups: readonly Group[];
  /** The activations that Figure 8 pairs with such weights. */
  readonly pairedWith: string;
  /** What checkpoints' names say: `_fq_0_<format>_<bits>_`; null: FP16, which names pass over. */
  readonly word: { readonly format: string; readonly bits: number } | null;
  /** Fake codes, random and never all zero. `k`: input channels; unscaled weights get a mean square of about 1/k. */
  readonly fill: (k: number) => Fill;
  /** Mean square of a fake weight before its scale, from which the fake scales follow. */
  readonly meanSquare: number;
  /** Enumerator of `WeightFormat` in native/kernels/formats/records.cuh; absent: only the simple kernels take such weights. */
  readonly enumerator?: string;
}

/** The format as activations are multiplied in it. */
export interface ActivationFormatRecord {
  /** TVM's type of the codes, one per element. */
  readonly tvm: 'float16' | 'int8' | 'uint8';
  /** null: values are multiplied as they are. */
  readonly scale: ActivationScale | null;
  readonly group: Group;
  /** Whose ceiling products are rated against (lib/run/ceilings.ts). */
  readonly arithmetic: 'fp16' | 'fp8' | 'int8';
  /** How a checkpoint's name says these activations beside weights of `weight`; null: it cannot. */
  readonly word: (weight: Format) => { readonly format: string; readonly convertsToInt8: boolean } | null;
  /** What verification feeds to an operator whose input comes quantised: codes, and their scales. */
  readonly probe: Fill;
  readonly scaleProbe: Fill;
  /** Enumerator of `ActivationFormat` in native/kernels/formats/records.cuh. */
  readonly enumerator?: string;
}

/** One numeric format. */
export interface Format {
  /** How options, manifests and the API call it: `int4`. */
  readonly id: string;
  /** How the paper writes it: `INT4`. */
  readonly label: string;
  readonly element: Element;
  readonly weight?: WeightFormatRecord;
  readonly activation?: ActivationFormatRecord;
}

/** Keeps a record's literal types, from which the public unions follow. */
export function defineFormat<const F extends Format>(record: F): F {
  return record;
}

/** The word of activations that names convert nothing for: what the weights' own word says. */
export function plainWord({ weight }: Format): { readonly format: string; readonly convertsToInt8: boolean } | null {
  return weight?.word ? { format: weight.word.format, convertsToInt8: false } : null;
}

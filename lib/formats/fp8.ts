/**
 * FP8 (OCP FP8 v1.0) with one scale per channel and token, and MXFP8 (OCP MX v1.0) with one E8M0 scale per 32. Ladder's are
 * E5M2; E4M3 is this project's addition.
 */
import type { Fill, FloatCodes } from '../native.js';
import { defineFormat, type Format, plainWord } from './format.js';

/** Elements that share one E8M0 scale. */
export const kMxBlock = 32;

/** A kind of 8-bit element: its codes, fake codes of magnitude 1/8 … 15/8, and what follows for scales. */
interface Kind {
  readonly codes: FloatCodes;
  readonly fill: Fill;
  readonly meanSquare: number;
  /** Largest finite value, and exponent of the largest power of two (OCP MX v1.0, table 1). */
  readonly top: number;
  readonly emax: number;
}

const kE5m2: Kind = {
  codes: { kind: 'float', exponentBits: 5, mantissaBits: 2, bias: 15, maxCode: 0x7b, infinities: true, saturates: true, nanCode: 0x7f },
  fill: { kind: 'code', base: 0x30, mask: 0x0f, signed: true },
  meanSquare: 0.654,
  top: 57344,
  emax: 15,
};
const kE4m3: Kind = {
  codes: { kind: 'float', exponentBits: 4, mantissaBits: 3, bias: 7, maxCode: 0x7e, infinities: false, saturates: true, nanCode: 0x7f },
  fill: { kind: 'code', base: 0x20, mask: 0x1f, signed: true },
  meanSquare: 0.713,
  top: 448,
  emax: 8,
};

/** Its own weights only, whose word says the kind of both. */
const ownWord =
  (id: string) =>
  (weight: Format): ReturnType<typeof plainWord> =>
    weight.id === id ? plainWord(weight) : null;

/** Weights map their largest magnitude to 448 for E5M2 too: FP16 could not hold amax / 57344 of ordinary weights with full precision. */
const kWeightTop = 448;

function fp8<const Id extends string>(id: Id, word: string, { codes, fill, meanSquare, top }: Kind, enumerator: string) {
  return defineFormat({
    id,
    label: 'FP8',
    element: { bits: 8, codes },
    weight: {
      tvm: 'uint8',
      scale: { type: 'f16', fit: { kind: 'absmax', top: kWeightTop }, choice: 'absmax' },
      groups: [-1],
      pairedWith: id,
      word: { format: word, bits: 8 },
      fill: () => fill,
      meanSquare,
      enumerator,
    },
    activation: {
      tvm: 'uint8',
      scale: { type: 'f32', fit: { kind: 'absmax', top } },
      group: -1,
      arithmetic: 'fp8',
      word: ownWord(id),
      probe: fill,
      scaleProbe: { kind: 'uniform', low: 0.005, high: 0.02 },
      enumerator,
    },
  });
}

/** MXFP8 products may be rescaled partial sums of FP8, so that their ceiling is FP8's. */
function mxfp8<const Id extends string>(
  id: Id,
  word: string,
  { codes, fill, meanSquare, emax }: Kind,
  weightEnumerator: string,
  enumerator: string,
) {
  return defineFormat({
    id,
    label: 'MXFP8',
    element: { bits: 8, codes },
    weight: {
      tvm: 'uint8',
      scale: { type: 'e8m0', fit: { kind: 'mx', emax }, choice: 'absmax' },
      groups: [kMxBlock],
      pairedWith: id,
      word: { format: word, bits: 8 },
      fill: () => fill,
      meanSquare,
      enumerator: weightEnumerator,
    },
    activation: {
      tvm: 'uint8',
      scale: { type: 'e8m0', fit: { kind: 'mx', emax }, choice: 'absmax' },
      group: kMxBlock,
      arithmetic: 'fp8',
      word: ownWord(id),
      // 2⁻⁴ … 2³
      probe: fill,
      scaleProbe: { kind: 'code', base: 123, mask: 7, signed: false },
      enumerator,
    },
  });
}

export const fp8E5m2 = fp8('fp8_e5m2', 'fp_e5m2', kE5m2, 'kFp8E5m2');
export const fp8E4m3 = fp8('fp8_e4m3', 'fp_e4m3', kE4m3, 'kFp8E4m3');
export const mxfp8E5m2 = mxfp8('mxfp8_e5m2', 'mxfp', kE5m2, 'kMxE5m2', 'kMxfp8E5m2');
export const mxfp8E4m3 = mxfp8('mxfp8_e4m3', 'mxfp_e4m3', kE4m3, 'kMxE4m3', 'kMxfp8E4m3');

/**
 * Fake codes of TVM's 8-bit floating-point types, for checkpoints that say nothing of themselves: no NaN, no infinity, and as
 * small as the codes allow up to 1/√reduction, so that a product over so many keeps the size of what it multiplies.
 */
export function fp8Fill(tvmType: string, reduction: number): Fill {
  const { codes, fill } = tvmType.startsWith('e5m2') ? kE5m2 : kE4m3;
  if (fill.kind !== 'code') return fill;
  const steps = Math.floor(Math.log2(Math.sqrt(Math.max(1, reduction))));
  const base = Math.max(1 << codes.mantissaBits, fill.base - (steps << codes.mantissaBits));
  return { ...fill, base };
}

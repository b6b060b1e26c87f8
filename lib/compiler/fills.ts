/**
 * What fake tensors are filled with: random, never zero, and scaled so that a layer's outputs keep the size of its inputs
 * (weights get a mean square of about 1/k, k = input channels). Generators: `Fill` in artifact/manifest.ts.
 */
import type { Fill } from '../artifact/manifest.js';
import { type ActivationFormat, isMxFormat, type WeightFormat } from '../artifact/operators.js';

/** FP8 codes of magnitude 1/8 … 15/8, both signs. */
export const kE5m2Codes: Fill = { kind: 'code', base: 0x30, mask: 0x0f, signed: true };
export const kE4m3Codes: Fill = { kind: 'code', base: 0x20, mask: 0x1f, signed: true };

/** Mean square of a stored weight, before its scale, under the fills below. */
const kMeanSquare: Readonly<Record<Exclude<WeightFormat, 'fp16'>, number>> = {
  int4: 21.5, nf4: 0.2675, fp8_e5m2: 0.654, fp8_e4m3: 0.713, mxfp8_e5m2: 0.654, mxfp8_e4m3: 0.713, int1: 1,
};

export function weightFill(format: WeightFormat, k: number): Fill {
  switch (format) {
    case 'fp16': return { kind: 'uniform', low: -Math.sqrt(3 / k), high: Math.sqrt(3 / k) };
    case 'int4': case 'nf4': case 'int1': return { kind: 'bits' };
    case 'fp8_e5m2': case 'mxfp8_e5m2': return kE5m2Codes;
    case 'fp8_e4m3': case 'mxfp8_e4m3': return kE4m3Codes;
  }
}

/** Scales of a quantised weight; E8M0 codes for MX. */
export function scaleFill(format: Exclude<WeightFormat, 'fp16'>, k: number): Fill {
  const scale = 1 / Math.sqrt(kMeanSquare[format] * k);
  if (format === 'mxfp8_e5m2' || format === 'mxfp8_e4m3') {
    return { kind: 'code', base: 126 + Math.round(Math.log2(scale)), mask: 1, signed: false };
  }
  return { kind: 'uniform', low: 0.8 * scale, high: 1.2 * scale };
}

export const kGainFill: Fill = { kind: 'uniform', low: 0.5, high: 1.5 };
export const kShiftFill: Fill = { kind: 'uniform', low: -0.1, high: 0.1 };
/** FP16 activations: the model's input, and what verification feeds to an operator. */
export const kActivationFill: Fill = { kind: 'uniform', low: -1, high: 1 };

/** What verification feeds to an operator whose input comes quantised: the codes. */
export function quantisedProbe(format: Exclude<ActivationFormat, 'fp16'>): Fill {
  switch (format) {
    case 'int8': return { kind: 'uniform', low: -127, high: 128 };
    case 'int4': return { kind: 'uniform', low: -7, high: 8 };
    case 'fp8_e5m2': case 'mxfp8_e5m2': return kE5m2Codes;
    case 'fp8_e4m3': case 'mxfp8_e4m3': return kE4m3Codes;
  }
}

/** The same, for its scales: float32 per token, or E8M0 codes 2⁻⁴ … 2³ per block. */
export function quantisedScaleProbe(format: Exclude<ActivationFormat, 'fp16'>): Fill {
  return isMxFormat(format) ? { kind: 'code', base: 123, mask: 7, signed: false } : { kind: 'uniform', low: 0.005, high: 0.02 };
}

/**
 * Quantisation, all steps in FP32 from the values h: int s=amax/127 (int4: /7), q=rne(h/s); fp8 s=amax/448 (E4M3) or amax/57344
 * (E5M2), q=rne to FP8(h/s), saturating; MX: per 32, shared exponent floor(log2 amax)−emax (8 or 15), q = saturating rne.
 * amax = 0, or so small that its scale is 0 in FP32, gives scale 1 (E8M0: code 127) and q = 0. With a scale as second operand, a
 * parameter for all numbers alike (found by calibration), s is that, and what lies beyond the largest code becomes it.
 */
import { z } from 'zod';
import { formats, type Group } from '../formats/index.js';
import type { Codes } from '../native.js';
import { chainedError, definePrimitive, ensure, ensureVector, type ErrorTerms } from './primitive.js';
import { isQuantised, lastAxis, type Quantised, type Value, type ValueType } from './program.js';

/** A step of a floating-point code is relative to the element: 2^−mantissa at most; elements up to 4 rms count most. */
export function stepsPerRms(codes: Codes): number {
  switch (codes.kind) {
    // Normal data whose largest of many elements (about 4 σ) is the format's maximum.
    case 'integer':
      return codes.max / 4;
    case 'float':
      return 2 ** codes.mantissaBits / 4;
    case 'table':
      return codes.values.length / 8;
  }
}

/**
 * Largest effect on a product of quantising inputs that differ a little: as if every code were rounded anew, independently.
 * Two rounding errors of 1/√12 step each differ by √2/√12 = 0.41 steps in root mean square. A step of a floating-point code
 * is on average 0.75·2^-mantissa of the element.
 */
export function requantisationNoise(codes: Codes): number {
  return Math.sqrt(2 / 12) * (codes.kind === 'float' ? 0.75 / 2 ** codes.mantissaBits : 1 / stepsPerRms(codes));
}

/**
 * The error of codes of numbers that have an error e themselves, all relative: one that errs by δ, |δ| = t·d for steps d, moves by a step
 * with probability t, or by whole steps and one more so that its mean is t. The mean square is at most E(|δ|·d) + E(δ²), and, as
 * t ≤ t² + ¼, at most E(δ²) + E(d²)/4, whatever δ. E(|δ|) is 0.8·e for normal errors; a row's scale errs as its largest number does, of 4
 * rms, which moves all others in proportion, by e/4 at most: together e. This is in place of what the numbers erred by.
 */
export function requantisedError(error: number, codes: Codes): number {
  const step = Math.sqrt(6) * requantisationNoise(codes);
  return Math.min(Math.sqrt(error * step + error ** 2), Math.hypot(error, step / 2));
}

/** Sums of a norm's squares, divisions: what an error is at least where anything was computed. */
const kLeastError = 2 ** -21;

/** Expected number of codes of a row that move by one step because a sum was done in another order; far above what occurs. */
const kFlipsPerRow = 4;

/**
 * The type of a value quantised to `format` per token, or in blocks where the format prescribes them.
 * @throws LadderError `BAD_MANIFEST` for a format that activations do not have, or blocks that do not divide the channels
 */
export function activationType(format: string, { axes }: Pick<Value, 'axes'>): Value['type'] {
  const activation = formats.find(format)?.activation;
  ensure(activation !== undefined, 'quantise', 'format', 'a format of activations', format);
  const { scale, group } = activation!;
  if (!scale) return 'f16';
  const outer = Object.fromEntries(axes.slice(0, -1).map(({ name }) => [name, 1]));
  const last = lastAxis({ axes });
  if (group > 0) ensure(last.extent % group === 0, 'quantise', last.name, `a multiple of ${group}`, last.extent);
  return { format, as: 'activation', scale: { type: scale.type, per: group > 0 ? { ...outer, [last.name]: group } : outer } };
}

/**
 * The type of a value quantised to `format` by one scale for all its numbers.
 * @throws LadderError `BAD_MANIFEST` for a format that activations do not have, or one that prescribes blocks or no scales
 */
export function staticType(format: string): Quantised {
  const activation = formats.find(format)?.activation;
  ensure(activation?.scale?.fit.kind === 'absmax', 'quantise', 'format', 'a format with scales by the largest magnitude', format);
  return { format, as: 'activation', scale: { type: activation!.scale!.type, per: {} } };
}

/**
 * The type of weights in a format with scales per output channel, or per `group` along k.
 * @throws LadderError `BAD_MANIFEST` for a format that weights do not have
 */
export function weightType(id: string, group: Group): ValueType {
  const weight = formats.find(id)?.weight;
  ensure(weight !== undefined, 'dense', 'weight', 'a format of weights', id);
  const { scale } = weight!;
  if (!scale) return 'f16';
  return { format: id, as: 'weight', scale: { type: scale.type, per: group === -1 ? { n: 1 } : { n: 1, k: group } } };
}

export const quantise = definePrimitive({
  id: 'quantise',
  params: z.strictObject({ format: z.string() }),
  anchor: false,
  // A row's scale comes before its codes; a norm's kernel still has the row's numbers then.
  rereads: ({ format }, inputs, maker) => inputs === 1 && maker !== 'norm' && (formats.get(format).activation?.group ?? -1) <= 0,
  operands: [{ role: 'x' }, { role: 'scale', optional: true }],
  infer({ format }, [x, scale]) {
    ensure(x !== undefined && !isQuantised(x.type), 'quantise', 'x', 'numbers', 'codes');
    if (scale) {
      ensureVector('quantise', 'scale', scale, 1);
      ensure(scale.type === 'f32', 'quantise', 'scale', 'a float32 number', isQuantised(scale.type) ? 'codes' : scale.type);
      return [{ axes: x!.axes, type: staticType(format) }];
    }
    const type = activationType(format, x!);
    ensure(isQuantised(type), 'quantise', 'format', 'a quantised format', format);
    return [{ axes: x!.axes, type }];
  },
  flops: (_, [x]) => 4 * x!.axes.reduce((product, { extent }) => product * extent, 1),
  // Where h/s lies within rounding error of a tie the code moves by one step: with codes of root mean square r steps, F flips in a
  // row of k move a product by √F / (r·√k) of its rms.
  error: ({ format }, [x], [own]): ErrorTerms => {
    const { codes } = formats.get(format).element;
    const flips = Math.sqrt(kFlipsPerRow / lastAxis(x!).extent) / stepsPerRms(codes);
    // The same float16 numbers have the same codes: all steps are those of IEEE 754.
    if (own!.terms.length === 0 && x!.type === 'f16') return { ...own!, terms: [['flips', flips, 0]] };
    const before = chainedError(own!);
    const after = requantisedError(Math.max(before, kLeastError), codes);
    return {
      ...own!,
      terms: [...own!.terms, ['flips', flips, Math.sqrt(Math.max(0, after ** 2 - before ** 2))]],
      anew: Math.hypot(own!.anew ?? 0, requantisationNoise(codes)),
    };
  },
});

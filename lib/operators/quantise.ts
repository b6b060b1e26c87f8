/**
 * Quantisation, all steps in FP32 from the values h: int s=amax/127 (int4: /7), q=rne(h/s); fp8 s=amax/448 (E4M3) or amax/57344
 * (E5M2), q=rne to FP8(h/s), saturating; MX: per 32, shared exponent floor(log2 amax)−emax (8 or 15), q = saturating rne.
 * amax = 0, or so small that its scale is 0 in FP32, gives scale 1 (E8M0: code 127) and q = 0. With a scale as second operand, a
 * parameter for all numbers alike (found by calibration), s is that, and what lies beyond the largest code becomes it.
 */
import { z } from 'zod';
import { formats, type Group } from '../formats/index.js';
import type { Codes } from '../native.js';
import { definePrimitive, ensure, ensureVector } from './primitive.js';
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
  error: ({ format }, [x], [own]) => ({
    ...own!,
    terms: [...own!.terms, ['flips', Math.sqrt(kFlipsPerRow / lastAxis(x!).extent) / stepsPerRms(formats.get(format).element.codes)]],
  }),
});

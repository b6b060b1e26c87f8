/**
 * Dense (matrix) product: y[m, n] = Σ_k x[m, k] · w[n, k]. Operands are real numbers here: what a scale or code stands for is
 * their values' types. Accumulated in FP32 (INT32 for integers; FP8 in the tensor cores' own way, then FP32); scales of whole channels and tokens are applied to the sum.
 */
import { z } from 'zod';
import { floatToHalf, halfToFloat } from '../formats/codes.js';
import { definePrimitive, ensure, type ErrorTerms, kHalfUnit, matrixOf, real } from './primitive.js';
import { isQuantised, recordOf, type Value } from './program.js';

/** Kernels decode into FP16: a table's values, and weights times group scales, are rounded to it. */
function decodesInexactly(weight: Value, x: Value): boolean {
  if (!isQuantised(weight.type)) return false;
  const { codes } = recordOf(weight.type).format.element;
  if (codes.kind === 'table' && codes.values.some((value) => halfToFloat(floatToHalf(value)) !== value)) return true;
  return Object.hasOwn(weight.type.scale?.per ?? {}, 'k') && !isQuantised(x.type);
}

/** Of k: how far FP8 products are summed in the tensor cores' own accumulators before FP32 takes over. */
export const kPromotedSpan = 256;

/**
 * Relative error, root mean square, of sums of FP8 products as Hopper's tensor cores add them (wgmma): some n products and the
 * running sum at a time, aligned to the largest of them, of each of which is lost what lies below 2⁻¹³ of that largest; after
 * `span` products the sum goes to FP32, where nothing is lost by comparison.
 *
 * For products of random signs and any sizes, with E_t the mean square of the sum after step t, S = span / n steps, and
 * v² the largest addend's square, at most the sum of all their squares, whose mean is E_t:
 *
 *   products   each loses less than u = 2⁻¹³·v, evenly between 0 and u, in the direction of its own sign, which is random: mean
 *              squares add up to Σ_t n·u²/3 ≤ S·n·2⁻²⁶·E_S / 3.
 *   sum        loses as much, but keeps its sign from step to step, so that root mean squares add up: ≤ S·2⁻¹³·√E_S / √3.
 *
 * Together 2⁻¹³·(√(span / 3) + S / √3), relative to √E_S; spans are independent, so that it is the same for any k. n is 32, or 16
 * inside the unit; the smaller one gives the larger bound. The bound is loose (measured: 2.1e-4 for spans of 256), as products
 * of two FP8 numbers have 6 to 8 bits and lose nothing where they are near the largest. Products of one sign lose more, in
 * proportion to n; verification draws signs at random.
 */
export function fp8SumError(span: number = kPromotedSpan): number {
  const kSummedAtOnce = 16;
  return 2 ** -13 * (Math.sqrt(span / 3) + span / kSummedAtOnce / Math.sqrt(3));
}

/**
 * Tensor cores add exact products of other types in FP32 and truncate once per 16 terms, a drift towards zero of at most 2⁻²³ of
 * the partial sum per step: (k/16)·2⁻²³ = k·2⁻²⁷; twice that covers split-K and shuffles. FP8 products may be summed that way, too.
 */
export function sumError(x: Value, k: number): number {
  const inFp32 = k * 2 ** -26;
  const arithmetic = isQuantised(x.type) ? recordOf(x.type).format.activation?.arithmetic : undefined;
  return arithmetic === 'fp8' ? Math.max(inFp32, fp8SumError()) : inFp32;
}

/** Decoding rounds each weight independently, so that half a unit relative to the sum's root mean square is its share. */
export function decodeError(weight: Value, x: Value): ErrorTerms['terms'] {
  return decodesInexactly(weight, x) ? [['decode', kHalfUnit]] : [];
}

export const dense = definePrimitive({
  id: 'dense',
  params: z.strictObject({}),
  anchor: true,
  operands: [{ role: 'x' }, { role: 'weight' }],
  infer(_, [x, weight]) {
    const [rows, channels] = matrixOf('dense', 'x', x);
    const [n, k] = matrixOf('dense', 'weight', weight);
    ensure(n.name === 'n' && k.name === 'k', 'dense', 'weight', 'axes n, k', `${n.name}, ${k.name}`);
    ensure(k.extent === channels.extent, 'dense', 'k', `${channels.extent}, the channels of x,`, k.extent);
    return [real([rows, { name: channels.name, extent: n.extent }])];
  },
  flops: (_, [x, weight]) => 2 * x!.axes[0]!.extent * weight!.axes[0]!.extent * weight!.axes[1]!.extent,
  error: (_, [x, weight], [own]) => ({
    ...own!,
    terms: [['sum', sumError(x!, weight!.axes[1]!.extent)], ...own!.terms, ...decodeError(weight!, x!)],
  }),
});

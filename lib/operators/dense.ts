/**
 * Dense (matrix) product: y[m, n] = Σ_k x[m, k] · w[n, k]. Operands are real numbers here: what a scale or code stands for is
 * their values' types. Accumulated in FP32 (INT32 for integers); scales of whole channels and tokens are applied to the sum.
 */
import { z } from 'zod';
import { floatToHalf, halfToFloat } from '../formats/codes.js';
import { definePrimitive, ensure, kHalfUnit, matrixOf, real } from './primitive.js';
import { isQuantised, recordOf, type Value } from './program.js';

/** Kernels decode into FP16: a table's values, and weights times group scales, are rounded to it. */
function decodesInexactly(weight: Value, x: Value): boolean {
  if (!isQuantised(weight.type)) return false;
  const { codes } = recordOf(weight.type).format.element;
  if (codes.kind === 'table' && codes.values.some((value) => halfToFloat(floatToHalf(value)) !== value)) return true;
  return Object.hasOwn(weight.type.scale?.per ?? {}, 'k') && !isQuantised(x.type);
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
  // Tensor cores add exact products in FP32 and truncate once per 16 terms, a drift towards zero of at most 2⁻²³ of the partial
  // sum per step: (k/16)·2⁻²³ = k·2⁻²⁷; twice that covers split-K and shuffles.
  // Decoding rounds each weight independently, so that half a unit relative to the sum's root mean square is its share.
  error: (_, [x, weight], [own]) => ({
    ...own!,
    terms: [
      ['sum', weight!.axes[1]!.extent * 2 ** -26],
      ...own!.terms,
      ...(decodesInexactly(weight!, x!) ? [['decode', kHalfUnit] as const] : []),
    ],
  }),
});

/**
 * Attention over the `seq` tokens of the input, no KV cache: softmax(q·kᵀ/√d + bias)·v per head.
 * Input qkv [batch·seq, (heads+2·kvHeads)·headDim]; output [batch·seq, heads·headDim].
 * `order` concatenated: all q heads, all k heads, all v heads. interleaved: per head q, k, v (BLOOM's fused QKV).
 * `position` rope: rotate-half rotary embedding on q and k at position = token index in its sequence, base `ropeBase`;
 * alibi: bias slope(head)·key position, slopes as in Press et al. 2022; none: neither, as where positions are added before.
 * `mask` none (the default): a query sees all keys of its sequence; causal: those up to its own token.
 */
import { z } from 'zod';
import { kMasks } from './mask.js';
import { definePrimitive, dimension, ensure, kHalfUnit, matrixOf, real } from './primitive.js';

/** How tokens' positions reach the scores. */
export const kPositions = ['rope', 'alibi', 'none'] as const;
export type Position = (typeof kPositions)[number];

export const attention = definePrimitive({
  id: 'attention',
  anchor: true,
  params: z.strictObject({
    batch: dimension,
    seq: dimension,
    heads: dimension,
    kvHeads: dimension,
    headDim: dimension,
    order: z.enum(['concatenated', 'interleaved']),
    position: z.enum(kPositions),
    ropeBase: z.number().positive(),
    mask: z.enum(kMasks).default('none'),
  }),
  operands: [{ role: 'qkv' }],
  infer({ batch, seq, heads, kvHeads, headDim, order, position }, [qkv]) {
    ensure(heads % kvHeads === 0, 'attention', 'kvHeads', `a divisor of ${heads} heads`, kvHeads);
    ensure(
      order !== 'interleaved' || heads === kvHeads,
      'attention',
      'kvHeads',
      `${heads}, as q, k and v are interleaved per head`,
      kvHeads,
    );
    ensure(position !== 'rope' || headDim % 2 === 0, 'attention', 'headDim', 'an even number, for rotary embedding', headDim);
    const [rows, columns] = matrixOf('attention', 'qkv', qkv);
    ensure(rows.extent === batch * seq, 'attention', 'qkv', `${batch * seq} rows`, rows.extent);
    ensure(
      columns.extent === (heads + 2 * kvHeads) * headDim,
      'attention',
      'qkv',
      `${(heads + 2 * kvHeads) * headDim} columns`,
      columns.extent,
    );
    return [real([rows, { name: columns.name, extent: heads * headDim }])];
  },
  flops: ({ batch, seq, heads, headDim, mask }) => 4 * batch * (mask === 'causal' ? (seq * (seq + 1)) / 2 : seq * seq) * heads * headDim,
  // One token: softmax is 1 and the output is V itself. More: q, k and the probabilities may be rounded to FP16 for the tensor cores.
  error: ({ seq }, _, [qkv]) =>
    seq === 1
      ? qkv!
      : { ...qkv!, terms: [...qkv!.terms, ['scores', 4 * kHalfUnit], ['probabilities', 2 * kHalfUnit], ['sum', seq * 2 ** -26]] },
});

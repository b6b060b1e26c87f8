/**
 * Queries and keys before attention, per head of qkv [batch·seq, (heads+2·kvHeads)·headDim] (all q heads, all k heads, all v heads, which
 * stay as they are): with gains, x·rsqrt(mean(x²)+eps)·gain over each head (Qwen3); then, with `position` rope, the rotary embedding of
 * attention.ts with frequencies scaled for long contexts. A frequency f = ropeBase^(−2i/headDim) that makes t = originalPositions·f/2π
 * turns becomes f/factor for t ≤ lowFactor, f for t ≥ highFactor, and between them what lies between in t (Llama 3.1). With
 * originalPositions 0 all are divided: linear scaling (Chen et al. 2023).
 */
import { z } from 'zod';
import { definePrimitive, dimension, ensure, ensureVector, kHalfUnit, matrixOf, real } from './primitive.js';

export const queryKey = definePrimitive({
  id: 'query_key',
  anchor: false,
  params: z.strictObject({
    seq: dimension,
    heads: dimension,
    kvHeads: dimension,
    headDim: dimension,
    position: z.enum(['rope', 'none']),
    ropeBase: z.number().positive(),
    factor: z.number().positive(),
    lowFactor: z.number().positive(),
    highFactor: z.number().positive(),
    originalPositions: z.number().int().min(0),
    eps: z.number().positive().max(1),
  }),
  operands: [{ role: 'qkv' }, { role: 'queryGain', optional: true }, { role: 'keyGain', optional: true }],
  infer({ seq, heads, kvHeads, headDim }, [qkv, ...gains]) {
    const [rows, columns] = matrixOf('query_key', 'qkv', qkv);
    ensure(headDim % 2 === 0, 'query_key', 'headDim', 'an even number', headDim);
    ensure(rows.extent % seq === 0, 'query_key', 'qkv', `rows of sequences of ${seq}`, rows.extent);
    ensure(
      columns.extent === (heads + 2 * kvHeads) * headDim,
      'query_key',
      'qkv',
      `${(heads + 2 * kvHeads) * headDim} columns`,
      columns.extent,
    );
    if (gains.length > 0) for (const i of [0, 1]) ensureVector('query_key', ['queryGain', 'keyGain'][i]!, gains[i], headDim);
    return [real([rows, columns])];
  },
  flops: (_, [qkv]) => 10 * qkv!.axes.reduce((product, { extent }) => product * extent, 1),
  error: (_, __, [qkv], output) => (output.type === 'f16' ? { ...qkv!, terms: [...qkv!.terms, ['queries and keys', kHalfUnit]] } : qkv!),
});

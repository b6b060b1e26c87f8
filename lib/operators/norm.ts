/**
 * Norm over the last axis, in FP32: rms x·rsqrt(mean(x²)+eps)·gain; layer (x−mean)·rsqrt(var+eps)·gain+beta.
 */
import { z } from 'zod';
import { definePrimitive, ensure, ensureVector, kHalfUnit, real } from './primitive.js';
import { lastAxis } from './program.js';

export const norm = definePrimitive({
  id: 'norm',
  params: z.strictObject({ kind: z.enum(['rms', 'layer']), eps: z.number().positive().max(1) }),
  anchor: false,
  rereads: true,
  operands: [{ role: 'x' }, { role: 'gain' }, { role: 'beta', optional: true }],
  infer({ kind }, [x, gain, beta]) {
    ensure(x !== undefined && x.axes.length > 0, 'norm', 'x', 'a value with axes', 'none');
    const { extent } = lastAxis(x!);
    ensureVector('norm', 'gain', gain, extent);
    if (kind === 'layer') ensureVector('norm', 'beta', beta, extent);
    else ensure(beta === undefined, 'norm', 'beta', 'nothing, as there is no shift in an RMS norm,', 'an operand');
    return [real(x!.axes)];
  },
  flops: (_, [x]) => 8 * x!.axes.reduce((product, { extent }) => product * extent, 1),
  // Rounded to FP16; a different summation order moves some values by one unit.
  error: (_, __, [x], output) => (output.type === 'f16' ? { ...x!, terms: [...x!.terms, ['norm', kHalfUnit]] } : x!),
});

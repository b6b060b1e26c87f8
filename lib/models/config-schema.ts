/** The schema of a user's own model in checkpoint.json (config.ts). */
import { z } from 'zod';
import type { ModelConfig } from './config.js';

const count = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
const eps = z.number().positive().max(1);

export const modelConfigSchema: z.ZodType<ModelConfig> = z.discriminatedUnion('family', [
  z.strictObject({
    family: z.literal('llama'),
    hidden: count,
    heads: count,
    kvHeads: count,
    headDim: count,
    intermediate: count,
    eps,
    ropeBase: z.number().positive(),
    ropeScaling: z
      .strictObject({
        factor: z.number().positive(),
        lowFactor: z.number().positive(),
        highFactor: z.number().positive(),
        originalPositions: z.number().int().min(0),
      })
      .optional(),
    qkvBias: z.boolean().optional(),
    outputBias: z.boolean().optional(),
    mlpBias: z.boolean().optional(),
    headNorm: z.boolean().optional(),
  }),
  z.strictObject({ family: z.literal('bloom'), hidden: count, heads: count, eps }),
]);

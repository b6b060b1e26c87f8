/** Sizes of a user's own model, as checkpoint.json keeps them: a family of decoder layers and its options. */
import { z } from 'zod';
import { bloomModel } from './bloom.js';
import { llamaModel } from './llama.js';
import type { Model } from './model.js';

const count = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
const eps = z.number().positive().max(1);

export const modelConfigSchema = z.discriminatedUnion('family', [
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
export type ModelConfig = z.infer<typeof modelConfigSchema>;

/** The model of that name and those sizes. */
export function configuredModel(id: string, config: ModelConfig): Model {
  if (config.family === 'bloom') return bloomModel(id, id, config);
  return llamaModel(id, id, config);
}

/** The record of a user's own model. */
import { bloomModel } from './bloom.js';
import { llamaModel } from './llama.js';
import type { ModelConfig } from './config-types.js';
import type { Model } from './model.js';

/** The model of that name and those sizes. */
export function configuredModel(id: string, config: ModelConfig): Model {
  if (config.family === 'bloom') return bloomModel(id, id, config);
  return llamaModel(id, id, config);
}

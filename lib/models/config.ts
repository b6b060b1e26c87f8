/** A user's own model: a family of decoder layers and its sizes, as checkpoint.json keeps them (config-schema.ts). */
import { type BloomConfig, bloomModel } from './bloom.js';
import { type LlamaConfig, llamaModel } from './llama.js';
import type { Model } from './model.js';

export type ModelConfig = ({ readonly family: 'llama' } & LlamaConfig) | ({ readonly family: 'bloom' } & BloomConfig);

/** The model of that name and those sizes. */
export function configuredModel(id: string, config: ModelConfig): Model {
  if (config.family === 'bloom') return bloomModel(id, id, config);
  return llamaModel(id, id, config);
}

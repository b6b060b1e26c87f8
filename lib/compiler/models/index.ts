/** The models that the builder knows, by Figure 8's names; `-tiny` ones are for tests. */
import { LadderError } from '../../errors.js';
import type { IrGraph } from '../ir.js';
import { bloom, kBloom176b, kBloomTiny } from './bloom.js';
import { kLlama2_70b, kLlama2Tiny, llama } from './llama.js';

/** Makes a model's graph for `batch` sequences of `seq` tokens and `layers` layers. */
export type ModelFactory = (batch: number, seq: number, layers: number) => IrGraph;

const kModels: ReadonlyMap<string, ModelFactory> = new Map<string, ModelFactory>([
  ['llama2-70b', (batch, seq, layers) => llama(kLlama2_70b, batch, seq, layers)],
  ['bloom-176b', (batch, seq, layers) => bloom(kBloom176b, batch, seq, layers)],
  ['llama2-tiny', (batch, seq, layers) => llama(kLlama2Tiny, batch, seq, layers)],
  ['bloom-tiny', (batch, seq, layers) => bloom(kBloomTiny, batch, seq, layers)],
]);

/** Names that `modelFactory` accepts. */
export function modelNames(): readonly string[] {
  return [...kModels.keys()];
}

/** @throws LadderError `BAD_ARGUMENT` for a model that the builder does not know */
export function modelFactory(name: string): ModelFactory {
  const factory = kModels.get(name);
  if (!factory) throw new LadderError('BAD_ARGUMENT', `expected one of ${modelNames().join(', ')} for \`model\` but received ${JSON.stringify(name)}`);
  return factory;
}

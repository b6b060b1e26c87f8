/**
 * The models: one record each, looked up by id. A new one is a file beside this one and a line here (or `models.add` at run
 * time); names, labels, settings and the builder take it from there.
 */
import { LadderError } from '../errors.js';
import { Registry } from '../registry.js';
import { bloom176b, bloomTiny } from './bloom.js';
import type { ModelConfig } from './config.js';
import { configuredModel } from './config.js';
import { conformer12, conformerTiny } from './conformer.js';
import { llama2_70b, llama2Tiny } from './llama.js';
import { type Model, settingName } from './model.js';
import { otherResnets, resnet50, resnetTiny } from './resnet.js';
import { shufflenetTiny, shufflenetV2 } from './shufflenet.js';
import { otherVits, vitSmall, vitTiny } from './vit.js';

/** In the figure's order. */
export const models = new Registry<Model>('model', [
  llama2_70b,
  bloom176b,
  resnet50,
  shufflenetV2,
  conformer12,
  vitSmall,
  ...otherResnets,
  ...otherVits,
  llama2Tiny,
  bloomTiny,
  resnetTiny,
  shufflenetTiny,
  conformerTiny,
  vitTiny,
]);

/** A model that Figure 8 shows. */
export type Figure8Model = Model & { readonly figure8: NonNullable<Model['figure8']> };

/** The models of Figure 8, in its order. */
export function figure8Models(): readonly Figure8Model[] {
  return models.all().filter((model): model is Figure8Model => model.figure8 !== null);
}

/** The settings in which Figure 8 shows a model, as records name them. */
export function figure8Settings({ kind, figure8 }: Figure8Model): readonly string[] {
  return figure8.settings.map((setting) => settingName(kind, setting));
}

/** Models that the builder makes. */
export function buildableModels(): readonly string[] {
  return models
    .all()
    .filter(({ graph }) => graph !== undefined)
    .map(({ id }) => id);
}

/** A known model by its name, or one of a user's own, whose sizes stand beside its name. */
export interface NamedModel {
  readonly model: string;
  readonly config?: ModelConfig | undefined;
}

/** The model that is meant, or null. */
export function findModel({ model, config }: NamedModel): Model | null {
  return config ? configuredModel(model, config) : (models.find(model) ?? resizedModel(model));
}

/** Pixels of an image along each side, at most. */
const kMaxImage = 2048;

/** A known network for images of the size that stands behind its name, or null: `resnet-50-288`. */
function resizedModel(id: string): Model | null {
  const [, word = '', pixels = ''] = /^(.+)-([1-9]\d{1,3})$/.exec(id) ?? [];
  const image = Number(pixels);
  const model = models.find(word);
  if (!model?.resized || image > kMaxImage || image % model.resized.step !== 0) return null;
  const checkpoint = { ...model.checkpoint, prefix: `${model.checkpoint.prefix}-${image}` };
  return { ...model, id, label: `${model.label} ${image}`, figure8: null, checkpoint, pattern: null, graph: model.resized.graph(image) };
}

/** @throws LadderError `BAD_ARGUMENT` for a model that is unknown, or that nothing here builds */
export function modelGraph(named: NamedModel): NonNullable<Model['graph']> {
  const id = named.model;
  const graph = findModel(named)?.graph;
  if (!graph)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected one of ${buildableModels().join(', ')} for \`model\`, a network of images perhaps with another size of theirs (resnet-50-288), but received ${JSON.stringify(id)}`,
    );
  return graph;
}

/** The model that a name or path speaks of; of a path, the innermost part that names one. BLOOM's are called llama, too: the last match counts. */
export function modelOfText(text: string): Model | null {
  for (const part of text.split('/').reverse()) {
    const found = models.all().findLast(({ pattern }) => pattern?.test(part));
    if (found) return found;
  }
  return null;
}

export { type FormatPair, type Model, type NodeFormats, type Setting, parseSetting, settingName } from './model.js';
export type { ModelConfig } from './config.js';
export { type ConfiguredLayers, readModelConfig, type StoredQuantisation } from './huggingface.js';

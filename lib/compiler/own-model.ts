/** A user's own model: its folder, or its config alone, as a request's model and the weights that are packed for it. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { readRegularText } from '../artifact/regular-file.js';
import { LadderError } from '../errors.js';
import { type ConfiguredLayers, models, type NamedModel, readModelConfig } from '../models/index.js';
import type { CheckpointRequest } from './design.js';

/** What is meant to be built of a model that has a config.json. */
export interface OwnModel extends ConfiguredLayers {
  /** As folders and records call it. */
  readonly model: string;
  /** Null: sizes alone. */
  readonly folder: string | null;
  /** Number of the first layer. */
  readonly first: number;
}

/**
 * Reads the config of a model's folder, or a config by itself. Layer 0 of `Llama-3.1-8B/` is called `llama-3.1-8b`, layer 5 `llama-3.1-8b-layer5`.
 * @param path the folder, or config.json
 * @param wanted number and count of the layers
 * @throws LadderError `IO`, `BAD_ARGUMENT`, `UNSUPPORTED` as `readModelConfig`
 */
export function readOwnModel(
  path: string,
  { layer = 0, layers = 1 }: { readonly layer?: number | undefined; readonly layers?: number | undefined } = {},
): OwnModel {
  const full = resolve(path);
  const isFolder = existsSync(full) && statSync(full).isDirectory();
  const config = isFolder ? join(full, 'config.json') : full;
  if (!existsSync(config))
    throw new LadderError(
      'BAD_ARGUMENT',
      full.endsWith('.gguf')
        ? `${path} is a GGUF file; expected a folder with config.json and safetensors files`
        : `${isFolder ? `${path} has no config.json` : `there is no ${path}`}; expected a model's folder as Hugging Face lays it out`,
      { path },
    );
  const found = readModelConfig(readRegularText(config), config);
  if (!Number.isSafeInteger(layer) || layer < 0 || layer + layers > found.layers)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected layers from 0 to ${found.layers - 1} but received ${layers} from \`layer\` ${layer} on`,
      {
        layer,
      },
    );
  const word = basename(isFolder ? full : dirname(full))
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[._-]+/, '');
  const name = `${models.has(word) || word === '' ? `own-${word}` : word}${layer > 0 ? `-layer${layer}` : ''}`;
  return { ...found, model: name, folder: isFolder ? full : null, first: layer };
}

/** Whether a model's word is a path, and not the name of a known model. */
export function isOwnModel(word: string): boolean {
  return !models.has(word) && (/[/\\]|^\.|\.(?:json|gguf)$/.test(word) || existsSync(word));
}

/** The words of a request for it: in the format that its weights are stored in, where they are and nothing else is asked for. */
export function ownWords<T extends { readonly weight?: string | undefined; readonly group?: number | undefined }>(
  { model, config, stored }: OwnModel,
  words: T,
): T & NamedModel {
  const format = stored && words.weight === undefined ? { weight: stored.weight, group: words.group ?? stored.group } : {};
  return { ...words, ...format, model, config };
}

/** @throws LadderError `BAD_ARGUMENT` for another format than the weights are stored in */
export function checkStored({ stored }: OwnModel, { format }: CheckpointRequest): void {
  if (!stored || (format.weight === stored.weight && format.group === stored.group)) return;
  throw new LadderError(
    'BAD_ARGUMENT',
    `the weights are stored in ${stored.method}: expected \`weight\` ${stored.weight} with \`group\` ${stored.group} but received ${format.weight} with ${format.group}`,
    { method: stored.method },
  );
}

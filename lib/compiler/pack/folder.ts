/**
 * A model's folder in Hugging Face's layout: config.json, and model.safetensors or several files with model.safetensors.index.json.
 * Of several only those are opened that hold tensors of the layers that are asked for.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readRegularText } from '../../artifact/regular-file.js';
import { LadderError } from '../../errors.js';
import type { StoredQuantisation } from '../../models/index.js';
import { dequantised } from './quantised.js';
import { Safetensors, type StoredFile, type WeightFile } from './safetensors.js';

const kIndex = 'model.safetensors.index.json';
const kSingle = 'model.safetensors';

/** Files of weights that nothing here reads, by how their names end. */
const kOtherFiles: readonly (readonly [ending: string, what: string])[] = [
  ['.gguf', 'GGUF'],
  ['.bin', 'PyTorch'],
  ['.pth', 'PyTorch'],
  ['.pt', 'PyTorch'],
];

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string().regex(/^[^/\\]+$/, { error: 'a file beside the index' })) });

/**
 * Opens the files of a folder that hold the decoder layers from `first` on.
 * @throws LadderError `MISSING_PARAMETER` for a file that is not there, `UNSUPPORTED` for weights in other kinds of files, `BAD_PARAMS` for an
 *   index that does not fit its files; what opening a file throws
 */
export function openFolder(folder: string, first: number, layers: number, stored: StoredQuantisation | null): WeightFile {
  const files = existsSync(join(folder, kIndex)) ? openIndexed(folder, first, layers) : openSingle(folder);
  return stored ? dequantised(files, stored) : files;
}

function openSingle(folder: string): StoredFile {
  const names = readdirSync(folder);
  const found = names.filter((name) => name.endsWith('.safetensors'));
  if (found.includes(kSingle) || found.length === 1) return new Safetensors(join(folder, found.includes(kSingle) ? kSingle : found[0]!));
  if (found.length > 1)
    throw new LadderError(
      'MISSING_PARAMETER',
      `${folder} has ${found.length} safetensors files but no ${kIndex}, which says what is in them`,
      {
        folder,
      },
    );
  const [, other] = kOtherFiles.find(([ending]) => names.some((name) => name.endsWith(ending))) ?? [];
  if (other) throw new LadderError('UNSUPPORTED', `${folder} has weights in ${other} files; convert them to safetensors`, { folder });
  throw new LadderError('MISSING_PARAMETER', `${folder} has no safetensors file; expected ${kSingle}, or several and ${kIndex}`, {
    folder,
  });
}

function openIndexed(folder: string, first: number, layers: number): StoredFile {
  const path = join(folder, kIndex);
  const bad = (what: string): LadderError => new LadderError('BAD_PARAMS', `${path}: ${what}`, { path });
  const map = readIndex(path, bad);
  const meant = (name: string): boolean => {
    const number = /(?:^|\.)(?:layers|h)\.(\d+)\./.exec(name)?.[1];
    return number !== undefined && Number(number) >= first && Number(number) < first + layers;
  };
  const shardNames = [...new Set([...map].flatMap(([name, shard]) => (meant(name) ? [shard] : [])))].sort();
  const shards = new Map<string, Safetensors>();
  const close = (): void => shards.forEach((shard) => shard.close());
  const shapes = new Map<string, readonly number[]>();
  const at = (name: string): Safetensors => {
    const shard = shards.get(map.get(name) ?? '');
    if (!shard) throw new LadderError('MISSING_PARAMETER', `${folder} has no tensor ${JSON.stringify(name)}`, { name });
    return shard;
  };
  try {
    for (const shardName of shardNames) {
      const file = join(folder, shardName);
      if (!existsSync(file)) throw new LadderError('MISSING_PARAMETER', `${path} names ${shardName}, which is not there`, { path: file });
      const shard = new Safetensors(file);
      shards.set(shardName, shard);
      for (const [name, shape] of shard.shapes) {
        if (map.get(name) !== shardName)
          throw bad(`${shardName} holds ${name}, which is ${map.has(name) ? `in ${map.get(name)}` : 'nowhere'} by the index`);
        shapes.set(name, shape);
      }
    }
    const absent = [...map].find(([name, shard]) => shards.has(shard) && !shapes.has(name));
    if (absent) throw bad(`${absent[1]} does not hold ${absent[0]}`);
  } catch (error) {
    close();
    throw error;
  }
  return {
    name: folder,
    shapes,
    read: (name) => at(name).read(name),
    rows: (name) => at(name).rows(name),
    raw: (name) => at(name).raw(name),
    close,
  };
}

function readIndex(path: string, bad: (what: string) => LadderError): ReadonlyMap<string, string> {
  let json: unknown;
  try {
    json = JSON.parse(readRegularText(path));
  } catch (cause) {
    if (cause instanceof LadderError) throw cause;
    throw bad(`it is not JSON (${(cause as Error).message})`);
  }
  const parsed = indexSchema.safeParse(json);
  if (!parsed.success) throw bad(`${parsed.error.issues[0]?.path.join('.') ?? ''}: ${parsed.error.issues[0]?.message ?? ''}`);
  return new Map(Object.entries(parsed.data.weight_map));
}

/**
 * The tensors of a loaded checkpoint as a graph.params file: what a run here computes with, seeded and set tensors too, so that
 * another TVM computes the same.
 */
import { inputNames } from '../artifact/checkpoint.js';
import { type ParamInput, writeParams } from '../artifact/params.js';
import { argumentTensors, type Loaded } from './load.js';
import { type CheckedExportOptions, throwIfAborted } from './options.js';

/** What is read from the device at a time. */
const kChunkBytes = 16 << 20;

/** What was written. */
export interface ExportedParams {
  readonly tensors: number;
  /** Of the tensors' data. */
  readonly sizeBytes: number;
}

/**
 * Writes graph.params: all but the inputs; of a checkpoint that says nowhere which are inputs, everything.
 * @throws LadderError `IO`, `ABORTED`
 */
export async function exportLoaded(loaded: Loaded, path: string, options: CheckedExportOptions): Promise<ExportedParams> {
  const { checkpoint, plan, executor } = loaded;
  const all = argumentTensors(checkpoint);
  const inputs = new Set(inputNames(checkpoint));
  const tensors = options.inputs || inputs.size === all.length ? all : all.filter(({ name }) => !inputs.has(name));
  const sizeBytes = tensors.reduce((sum, { entry }) => sum + plan.entries[entry]!.sizeBytes, 0);
  let done = 0;
  const params = tensors.map(({ name, entry, dtype, shape }): ParamInput => {
    const bytes = plan.entries[entry]!.sizeBytes;
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < bytes; at += kChunkBytes) {
        throwIfAborted(options.signal);
        options.onProgress?.({ phase: 'export', fraction: done / sizeBytes, detail: name });
        const chunk = await executor.read(entry, at, Math.min(kChunkBytes, bytes - at));
        done += chunk.byteLength;
        yield new Uint8Array(chunk);
      }
    }
    return { name, dtype, shape, chunks: chunks() };
  });
  await writeParams(path, params);
  return { tensors: params.length, sizeBytes };
}

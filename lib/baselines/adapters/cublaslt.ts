/**
 * cuBLASLt's matrix product for the dense layers of the decoder layers: the ceiling that a kernel of that shape is
 * compared with. Not a system of Figure 8, so no record; the measuring is native (native/cuda/cublaslt.h).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LadderError } from '../../errors.js';
import { native, type NativeMatmul, type NativeMatmulResult } from '../../native.js';
import { throwIfAborted } from '../../run/options.js';
import type { Availability } from './adapter.js';
import { findProgram, runChild } from './process.js';

export type MatmulType = NativeMatmul['type'];

/** A dense layer: weights [n, k]. Products that our checkpoints fuse are one shape. */
export interface DenseShape {
  readonly model: 'llama2-70b' | 'bloom-176b';
  readonly name: string;
  readonly n: number;
  readonly k: number;
}

/** The dense layers of Figure 8's decoder layers. */
export const denseShapes: readonly DenseShape[] = [
  { model: 'llama2-70b', name: 'qkv', n: 10240, k: 8192 },
  { model: 'llama2-70b', name: 'o', n: 8192, k: 8192 },
  { model: 'llama2-70b', name: 'gate_up', n: 57344, k: 8192 },
  { model: 'llama2-70b', name: 'down', n: 8192, k: 28672 },
  { model: 'bloom-176b', name: 'qkv', n: 43008, k: 14336 },
  { model: 'bloom-176b', name: 'dense', n: 14336, k: 14336 },
  { model: 'bloom-176b', name: 'up', n: 57344, k: 14336 },
  { model: 'bloom-176b', name: 'down', n: 14336, k: 57344 },
];

/** Rows of activations in Figure 8: BS1, BS32, SEQ4096. */
export const denseRows: readonly number[] = [1, 32, 4096];

export interface MatmulCeiling {
  readonly shape: DenseShape;
  readonly m: number;
  readonly type: MatmulType;
  /** null: the library has no such product here; `reason` says so. */
  readonly result: NativeMatmulResult | null;
  readonly reason: string | null;
}

export interface CeilingOptions {
  readonly ordinal?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default: all of {@link denseShapes}. */
  readonly shapes?: readonly DenseShape[] | undefined;
  readonly rows?: readonly number[] | undefined;
  readonly types?: readonly MatmulType[] | undefined;
  /** Told of each product before it is timed. */
  readonly onProgress?: ((fraction: number, detail: string) => void) | undefined;
}

/** PyTorch's wheels bring the library along, outside the linker's path. */
const wheelPaths = [['nvidia', 'cu13', 'lib', 'libcublasLt.so.13'], ['nvidia', 'cublas', 'lib', 'libcublasLt.so.12']] as const;
const kPythonTimeoutMs = 20_000;

/** `LADDER_CUBLASLT`, else the library of the Python at hand, so that both rivals use the same one; null: the linker's. */
async function libraryPath(): Promise<string | null> {
  if (process.env.LADDER_CUBLASLT) return process.env.LADDER_CUBLASLT;
  const python = findProgram(process.env.LADDER_PYTHON ?? 'python3');
  if (python === null) return null;
  const result = await runChild(python, ['-c', 'import json, sys; print(json.dumps(sys.path))'], { timeoutMs: kPythonTimeoutMs });
  if (result.status !== 0) return null;
  const folders = (JSON.parse(result.stdout) as string[]).filter((folder) => folder !== '');
  return folders.flatMap((folder) => wheelPaths.map((parts) => join(folder, ...parts))).find((path) => existsSync(path)) ?? null;
}

/** Whether products can be timed here: tries the smallest. */
export async function cublasLtAvailable(ordinal = 0): Promise<Availability> {
  try {
    const { libraryVersion } = await native().measureMatmul(ordinal, { m: 32, n: 256, k: 256, type: 'fp16', library: await libraryPath() });
    return { ok: true, version: String(libraryVersion) };
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    return { ok: false, reason: error.message };
  }
}

/**
 * Times every product.
 * @throws LadderError `ABORTED` between two products; `NO_DRIVER`, `NO_DEVICE`, `OUT_OF_MEMORY`, `CUDA`; `UNSUPPORTED` without the library
 */
export async function matmulCeilings(options: CeilingOptions = {}): Promise<readonly MatmulCeiling[]> {
  const { ordinal = 0, shapes = denseShapes, rows = denseRows, types = ['fp16', 'fp8_e4m3', 'int8'] } = options;
  const here = await cublasLtAvailable(ordinal);
  if (!here.ok) throw new LadderError('UNSUPPORTED', here.reason);
  const library = await libraryPath();
  const products = shapes.flatMap((shape) => rows.flatMap((m) => types.map((type) => ({ shape, m, type }))));
  const ceilings: MatmulCeiling[] = [];
  for (const { shape, m, type } of products) {
    throwIfAborted(options.signal);
    options.onProgress?.(ceilings.length / products.length, `${shape.model} ${shape.name} ${m}×${shape.n}×${shape.k} ${type}`);
    try {
      const result = await native().measureMatmul(ordinal, { m, n: shape.n, k: shape.k, type, library });
      ceilings.push({ shape, m, type, result, reason: null });
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'UNSUPPORTED') throw error;
      ceilings.push({ shape, m, type, result: null, reason: error.message });
    }
  }
  return ceilings;
}

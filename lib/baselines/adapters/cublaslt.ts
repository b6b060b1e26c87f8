/**
 * Measures cuBLASLt's matrix products, and keeps them in one file: the ceilings (../ceilings.ts) that the kernels of those
 * shapes are compared with. The measuring is native (native/cuda/cublaslt.h).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readRegularText } from '../../artifact/regular-file.js';
import { LadderError } from '../../errors.js';
import { findProgram, replaceFile } from '../../files.js';
import { native, type NativeDeviceState, type NativeMatmul, type NativeMatmulResult } from '../../native.js';
import { throwIfAborted } from '../../run/options.js';
import { addonHash } from '../../run/bench-content.js';
import { packageCommit } from '../../run/package.js';
import type { BenchRecord } from '../../run/record-types.js';
import { ceilingsFileName, parseCeilings, sameProduct, type LibraryCeilings, type MatmulCeiling, type MatmulProduct } from '../ceilings.js';
import type { Availability } from './adapter.js';
import { runChild } from './process.js';

/** What measures: the addon; a stand-in in tests. */
export interface MatmulMeasurer {
  measureMatmul(ordinal: number, matmul: NativeMatmul): Promise<NativeMatmulResult>;
  deviceState(ordinal: number): NativeDeviceState | null;
}

export interface CeilingOptions {
  /** CUDA ordinal. Default 0. */
  readonly ordinal?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told of each product before it is timed. */
  readonly onProgress?: ((fraction: number, detail: string) => void) | undefined;
  /** Measures again what the file has. Default false. */
  readonly again?: boolean | undefined;
  readonly measurer?: MatmulMeasurer | undefined;
}

/** PyTorch's wheels bring the library along, outside the linker's path. */
const wheelPaths = [
  ['nvidia', 'cu13', 'lib', 'libcublasLt.so.13'],
  ['nvidia', 'cublas', 'lib', 'libcublasLt.so.12'],
] as const;
const kPythonTimeoutMs = 20_000;

/** Python's sys.path as it printed it; nothing where it printed something else (a wrapper's words, say). */
function foldersIn(text: string): readonly string[] {
  try {
    return z
      .array(z.string())
      .parse(JSON.parse(text.trimEnd().split('\n').at(-1)!))
      .filter((folder) => folder !== '');
  } catch {
    return [];
  }
}

/** `LADDER_CUBLASLT`, else the library of the Python at hand, so that both rivals use the same one; null: the linker's. */
async function libraryPath(): Promise<string | null> {
  if (process.env.LADDER_CUBLASLT) return process.env.LADDER_CUBLASLT;
  const python = findProgram(process.env.LADDER_PYTHON ?? 'python3');
  if (python === null) return null;
  const result = await runChild(python, ['-c', 'import json, sys; print(json.dumps(sys.path))'], { timeoutMs: kPythonTimeoutMs });
  if (result.status !== 0) return null;
  const folders = foldersIn(result.stdout);
  return folders.flatMap((folder) => wheelPaths.map((parts) => join(folder, ...parts))).find((path) => existsSync(path)) ?? null;
}

/** Whether products can be timed here: tries the smallest. The version is cublasLtGetVersion's number. */
export async function cublasLtAvailable(ordinal = 0, measurer: MatmulMeasurer = native()): Promise<Availability> {
  try {
    const { libraryVersion } = await measurer.measureMatmul(ordinal, { m: 32, n: 256, k: 256, type: 'fp16', library: await libraryPath() });
    return { ok: true, version: String(libraryVersion) };
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    return { ok: false, reason: error.message };
  }
}

/** Times one product; one that the library lacks is a result, too. */
async function measureProduct(
  product: MatmulProduct,
  ordinal: number,
  library: string | null,
  measurer: MatmulMeasurer,
): Promise<MatmulCeiling> {
  const {
    shape: { n, k },
    m,
    type,
  } = product;
  try {
    const result = await measurer.measureMatmul(ordinal, { m, n, k, type, library });
    const state = measurer.deviceState(ordinal);
    return {
      ...product,
      result,
      reason: null,
      stateAfter: state && { ...state, throttleReasons: state.throttleReasons && [...state.throttleReasons] },
    };
  } catch (error) {
    if (!(error instanceof LadderError) || error.code !== 'UNSUPPORTED') throw error;
    return { ...product, result: null, reason: error.message, stateAfter: null };
  }
}

/** Measurements of this GPU, driver and library by this very addon; else null. Dates and commits say nothing of that. */
function readEarlier(path: string, libraryVersion: number, device: BenchRecord['device']): LibraryCeilings | null {
  let earlier: LibraryCeilings;
  try {
    earlier = parseCeilings(readRegularText(path), path);
  } catch {
    // Absent, or of an older schema: measured anew.
    return null;
  }
  const same =
    earlier.libraryVersion === libraryVersion &&
    earlier.device.name === device.name &&
    earlier.device.driverVersion === device.driverVersion;
  return same && earlier.addon === addonHash() ? earlier : null;
}

/**
 * Brings the file of ceilings in `folder` up to `products`: measures what it lacks, and writes it after each one, so that an
 * interrupted run goes on where it stopped.
 * @param device the GPU at `options.ordinal`
 * @returns all that the file holds then, and how many were measured now
 * @throws LadderError `UNSUPPORTED` without the library or a GPU; `ABORTED` between two products; `OUT_OF_MEMORY`, `CUDA`, `IO`
 * @example
 * const { ceilings } = await libraryCeilings(productsFor(['llama2-70b'], ['bs1_seq1'], ['W_FP16 A_FP16']), 'out', device);
 */
export async function libraryCeilings(
  products: readonly MatmulProduct[],
  folder: string,
  device: BenchRecord['device'],
  options: CeilingOptions = {},
): Promise<{ readonly ceilings: LibraryCeilings; readonly measured: number }> {
  const { ordinal = 0, measurer = native() } = options;
  const here = await cublasLtAvailable(ordinal, measurer);
  if (!here.ok) throw new LadderError('UNSUPPORTED', here.reason);
  const path = join(folder, ceilingsFileName);
  const libraryVersion = Number(here.version);
  let ceilings: LibraryCeilings = (options.again === true ? null : readEarlier(path, libraryVersion, device)) ?? {
    schema: 'ladder-cublaslt/1',
    libraryVersion,
    device,
    date: new Date().toISOString(),
    commit: packageCommit(),
    addon: addonHash(),
    products: [],
  };
  const lacking = products.filter((product) => !ceilings.products.some((known) => sameProduct(known, product)));
  const library = await libraryPath();
  for (const [index, product] of lacking.entries()) {
    throwIfAborted(options.signal);
    const {
      shape: { model, name, n, k },
      m,
      type,
    } = product;
    options.onProgress?.(index / lacking.length, `${model} ${name} ${m}×${n}×${k} ${type}`);
    ceilings = { ...ceilings, products: [...ceilings.products, await measureProduct(product, ordinal, library, measurer)] };
    await replaceFile(path, `${JSON.stringify(ceilings)}\n`);
  }
  return { ceilings, measured: lacking.length };
}

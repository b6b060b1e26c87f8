/**
 * Where this room gets a model.so from that is missing or stale: the compiler builds it, which uses this room and is therefore
 * handed over (lib/compiler/provide.ts) instead of imported.
 */
import { LadderError } from '../errors.js';

export interface ModuleBuildOptions {
  /** Of the device that it is to run on. */
  readonly computeCapability: readonly [number, number];
  /** Called with 0…1 and what is being compiled. */
  readonly onProgress: (fraction: number, label: string) => void;
  readonly signal: AbortSignal | undefined;
}

export interface ModuleBuildResult {
  /** Wall-clock time, milliseconds; 0 when nothing had to be built. */
  readonly buildMs: number;
  /** What to know of a model.so that is used although it is stale; else null. */
  readonly warning: string | null;
}

/** Makes sure that the checkpoint in `folder` has a model.so that fits its description. */
export type ModuleBuilder = (folder: string, options: ModuleBuildOptions) => Promise<ModuleBuildResult>;

let provided: (() => Promise<ModuleBuilder>) | undefined;

/** Hands over the builder; it is loaded when it is first needed, since most processes never build. */
export function provideModuleBuilder(load: () => Promise<ModuleBuilder>): void {
  provided = load;
}

export async function buildModuleIfStale(folder: string, options: ModuleBuildOptions): Promise<ModuleBuildResult> {
  if (!provided)
    throw new LadderError('INTERNAL', 'no builder was handed over: import lib/compiler/provide.js before checkpoints are loaded', {
      folder,
    });
  return (await provided())(folder, options);
}

/**
 * Kernels of one launch: what their plans and their text have in common.
 */
import type { KernelArgument, KernelPlan } from './plan.js';

/** Of one row of blocks. */
interface OneLaunch {
  readonly name: string;
  readonly blocks: number;
  readonly threads: number;
  readonly dynamicSharedBytes: number;
}

/** A plan of one launch. */
export function launchOf(
  include: string,
  definitions: string,
  { name, blocks, threads, dynamicSharedBytes, arguments: args }: OneLaunch & { readonly arguments: readonly KernelArgument[] },
): KernelPlan {
  return {
    includes: [include],
    definitions,
    launches: [{ name, grid: [blocks, 1, 1], block: [threads, 1, 1], dynamicSharedBytes, arguments: args, programmatic: true }],
    workspaceBytes: 0,
  };
}

/** The same whose parameters are all inputs, then all outputs. */
export function singleLaunch(
  include: string,
  definitions: string,
  { inputs, outputs, ...launch }: OneLaunch & { readonly inputs: number; readonly outputs: number },
): KernelPlan {
  const list = (kind: 'input' | 'output', count: number): KernelArgument[] =>
    Array.from({ length: count }, (_, index) => ({ kind, index }));
  return launchOf(include, definitions, { ...launch, arguments: [...list('input', inputs), ...list('output', outputs)] });
}

/** Enumerators of norms, by what programs call them. */
export const kNormNames = { none: 'kNone', rms: 'kRms', layer: 'kLayer' } as const;

/** Pointers without `__restrict__`: storages of a checkpoint's tensors may be shared. */
export function parameters(inputs: readonly string[], outputs: readonly string[]): string {
  return [...inputs.map((input) => `const void* ${input}`), ...outputs.map((output) => `void* ${output}`)].join(', ');
}

export function doubleLiteral(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

export function floatLiteral(value: number): string {
  return `${doubleLiteral(value)}f`;
}

/**
 * Kernels of one launch whose parameters are the operator's tensors in order: what their plans have in common.
 */
import type { KernelArgument, KernelPlan } from './plan.js';

export interface SingleLaunch {
  readonly name: string;
  readonly blocks: number;
  readonly threads: number;
  readonly dynamicSharedBytes: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** A plan of one launch whose parameters are all inputs, then all outputs. */
export function singleLaunch(include: string, definitions: string, launch: SingleLaunch): KernelPlan {
  const { name, blocks, threads, dynamicSharedBytes, inputs, outputs } = launch;
  const list = (kind: 'input' | 'output', count: number): KernelArgument[] =>
    Array.from({ length: count }, (_, index) => ({ kind, index }));
  return {
    includes: [include],
    definitions,
    launches: [
      {
        name,
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        dynamicSharedBytes,
        arguments: [...list('input', inputs), ...list('output', outputs)],
        programmatic: true,
      },
    ],
    workspaceBytes: 0,
  };
}

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

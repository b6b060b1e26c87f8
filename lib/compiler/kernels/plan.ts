/**
 * What a kernel planner returns: CUDA C++ text that instantiates templates of native/kernels, and how to launch it.
 * Shapes are template arguments; kernels take pointers only, so that the generated host code needs no arithmetic.
 */

/** Where a kernel parameter points. */
export type KernelArgument =
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'output'; readonly index: number }
  | { readonly kind: 'workspace'; readonly offsetBytes: number };

/** One launch; an operator's launches run in order on one stream. */
export interface KernelLaunch {
  /** Name of the `extern "C" __global__` function, unique in its checkpoint. */
  readonly name: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly dynamicSharedBytes: number;
  readonly arguments: readonly KernelArgument[];
  /** Launched with programmatic stream serialisation: the kernel waits by itself (`griddepcontrol.wait`). */
  readonly programmatic: boolean;
}

/** Where a kernel's blocks begin to read weights: `runs` places, spread evenly over `tiles` tiles of `tileBytes`. */
export interface WeightRuns {
  readonly runs: number;
  readonly tiles: number;
  readonly tileBytes: number;
}

/** One operator as kernels. */
export interface KernelPlan {
  /** Headers, relative to native/kernels. */
  readonly includes: readonly string[];
  /** One `extern "C" __global__` definition per launch. */
  readonly definitions: string;
  readonly launches: readonly KernelLaunch[];
  /** Scratch on the device, contents undefined. */
  readonly workspaceBytes: number;
  /** Dense products: what the product before may read ahead. */
  readonly reads?: WeightRuns | undefined;
}

/** Parameters of a template, by name: the point of the tuner's search space. */
export type Tuning = Readonly<Record<string, number>>;

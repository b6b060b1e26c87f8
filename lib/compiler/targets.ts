/** What kernels are compiled for: nvcc's targets, and what of the GPU behind each a plan depends on. */

export interface Target {
  /** nvcc's name: `sm_90a`, `sm_80`, or `compute_80` for PTX that the driver compiles for whatever GPU there is. */
  readonly id: string;
  readonly gencode: string;
  /** Compute capability that its images run on as they are; null: any from 8.0 on. */
  readonly capability: readonly [major: number, minor: number] | null;
}

/** nvcc's flags beside its targets. */
export const nvccFlags: readonly string[] = ['-std=c++17', '-O3'];

/** Portable ones first. */
export const buildTargets: readonly Target[] = [
  { id: 'compute_80', gencode: 'arch=compute_80,code=compute_80', capability: null },
  { id: 'sm_80', gencode: 'arch=compute_80,code=sm_80', capability: [8, 0] },
  { id: 'sm_90a', gencode: 'arch=compute_90a,code=sm_90a', capability: [9, 0] },
];

/** The target that weights are laid out for, and whose tuning is taken unless another is asked for. */
export const layoutTarget: Target = buildTargets.at(-1)!;

/** The target whose kernels a GPU of an architecture runs: its own, or the portable one. @param arch nvcc's name, `sm_86` */
export function targetOf(arch: string): Target {
  return buildTargets.find(({ id }) => id === arch) ?? buildTargets[0]!;
}

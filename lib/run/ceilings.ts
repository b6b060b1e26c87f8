/**
 * Arithmetic ceilings of known GPUs, by the format that a product multiplies in. Memory ceilings are not here: they are
 * measured on the device at hand, once per process (roofline.ts).
 *
 * Provenance: vendor-library matrix products of 4096×28672×8192, measured on one H100 80GB HBM3, driver 580, CUDA 13.0,
 * by CUDA events. They are what a tuned kernel reaches on that shape, not the data sheet's peak; a GPU that is not
 * listed has no arithmetic ceiling here rather than a guessed one.
 */

/** FLOP/s (integer: OP/s) per multiplication format. */
interface ArithmeticCeilings {
  readonly fp16: number;
  readonly fp8: number;
  readonly int8: number;
}

const byDevice: Readonly<Record<string, ArithmeticCeilings>> = {
  'NVIDIA H100 80GB HBM3': { fp16: 710e12, fp8: 1258e12, int8: 925e12 },
};

/**
 * The ceiling for products whose activations are multiplied as `activation`, or null for an unknown GPU.
 * MXFP8 may be multiplied in FP8 with rescaled partial sums, so its ceiling is FP8's. INT4 has no tensor-core rate of its
 * own since compute capability 9.0 and is multiplied as INT8.
 */
export function arithmeticCeiling(deviceName: string, activation: string): number | null {
  const ceilings = byDevice[deviceName];
  if (!ceilings) return null;
  switch (activation) {
    case 'fp16': return ceilings.fp16;
    case 'int8': case 'int4': return ceilings.int8;
    default: return ceilings.fp8;
  }
}

/**
 * Arithmetic ceilings of known GPUs, by the arithmetic that a product multiplies in. Memory ceilings are not here: they are
 * measured on the device at hand, once per process (roofline.ts).
 *
 * Provenance: vendor-library matrix products of 4096×28672×8192, measured on one H100 80GB HBM3, driver 580, CUDA 13.0,
 * by CUDA events. They are what a tuned kernel reaches on that shape, not the data sheet's peak; a GPU that is not
 * listed has no arithmetic ceiling here rather than a guessed one.
 */
import { activationFormat, type ActivationFormatRecord } from '../formats/index.js';

/** FLOP/s (integer: OP/s) by arithmetic; which one a format is multiplied in, its record says. */
type ArithmeticCeilings = Readonly<Record<ActivationFormatRecord['arithmetic'], number>>;

const byDevice: Readonly<Record<string, ArithmeticCeilings>> = {
  'NVIDIA H100 80GB HBM3': { fp16: 710e12, fp8: 1258e12, int8: 925e12 },
};

/**
 * The ceiling for products whose activations are multiplied as `activation`, or null for an unknown GPU.
 * @throws LadderError `BAD_ARGUMENT` for an unknown format
 */
export function arithmeticCeiling(deviceName: string, activation: string): number | null {
  return byDevice[deviceName]?.[activationFormat(activation).activation.arithmetic] ?? null;
}

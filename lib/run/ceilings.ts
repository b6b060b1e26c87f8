/**
 * Arithmetic ceilings of known GPUs, by the arithmetic that a product multiplies in. Memory ceilings are not here: they are
 * measured on the device at hand, once per process (roofline.ts).
 *
 * Provenance: the tensor cores' instruction alone (wgmma, 64 rows × 256 tokens, operands resident in shared memory or registers, two
 * warpgroups on each of 132 multiprocessors, random data, a burst of 20 ms), measured on one H100 80GB HBM3, driver 580, CUDA
 * 13.0, by CUDA events: of each arithmetic the fastest pair of operand types, BF16 (FP16 reaches 890), E5M2, INT8 with a weight in
 * {0, 1}. No kernel is faster there; a GPU that is not listed has no arithmetic ceiling here rather than a guessed one.
 */
import { activationFormat, type ActivationFormatRecord } from '../formats/index.js';

/** FLOP/s (integer: OP/s) by arithmetic; which one a format is multiplied in, its record says. */
type ArithmeticCeilings = Readonly<Record<ActivationFormatRecord['arithmetic'], number>>;

const byDevice: Readonly<Record<string, ArithmeticCeilings>> = {
  'NVIDIA H100 80GB HBM3': { fp16: 931e12, fp8: 1870e12, int8: 1975e12 },
};

/**
 * The ceiling for products whose activations are multiplied as `activation`, or null for an unknown GPU.
 * @throws LadderError `BAD_ARGUMENT` for an unknown format
 */
export function arithmeticCeiling(deviceName: string, activation: string): number | null {
  return byDevice[deviceName]?.[activationFormat(activation).activation.arithmetic] ?? null;
}

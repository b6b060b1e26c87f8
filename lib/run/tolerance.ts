/**
 * How far a device's output may lie from the reference's: every tolerance of the project, derived per format, here.
 *
 * The reference computes in FP32/FP64 on the very inputs that the device read, so only the device's own roundings count:
 *
 *   output     rounding to FP16: at most u = 2⁻¹¹ of each element, on both sides.
 *   sum        FP32 accumulation over k terms. Tensor cores truncate once per 16 terms, a drift towards zero of at most
 *              2⁻²³ of the partial sum per step: (k/16)·2⁻²³ = k·2⁻²⁷; twice that covers split-K and shuffles.
 *   norm       h = norm(x) is rounded to FP16; a different summation order moves some h by one unit: u at most.
 *   decode     NF4's table, and weights multiplied by group scales, may be rounded to FP16 in the kernel: u per weight,
 *              independent, so u relative to the sum's root mean square.
 *   function   __expf and tanh.approx: 2⁻¹⁰ at most; SiLU(gate)·up has two products' errors.
 *   flips      activations quantised in the prologue: where h/s lies within rounding error of a tie the code moves by one
 *              step. With codes of root mean square r steps, F flips in a row of k move y by √F / (r·√k) of its rms.
 *              F = 4 is far above the expected number (k·|q|·2⁻²¹ < 1 for INT8, less for coarser steps).
 *
 * Relative L2 is the sum of the terms that apply. A defect is far above it: one missed tile of 64 along k = 8192 gives 0.09.
 * The largest single error is compared with the output's rms: normally distributed errors stay below 8 times their rms;
 * SiLU(gate)·up has heavy tails (a product of two normals), where the largest element is up to 40 rms.
 */
import type { VerifyOutput } from '../native.js';
import type { ActivationFormat, DenseOperator, Operator } from '../artifact/operators.js';

/** Half a unit in the last place of FP16, relative. */
const halfUnit = 2 ** -11;
const flipsPerRow = 4;

/** The bounds for one output of one operator. */
export interface Tolerance {
  /** Numbers: ‖device − reference‖₂ / ‖reference‖₂ and max |device − reference| / rms(reference). */
  readonly kind: 'numbers' | 'codes';
  readonly relativeL2: number;
  readonly maxOverRms: number;
  /** Codes: share of elements that may differ by one step; none may differ by more. */
  readonly differing: number;
  /** The terms that made it, for the reader. */
  readonly terms: readonly string[];
}

/** Root mean square of quantised activations in steps: normal data whose largest of many elements (about 4 σ) is the format's maximum. */
function stepsPerRms(activation: ActivationFormat): number {
  switch (activation) {
    case 'fp16': return Infinity;
    case 'int8': return 127 / 4;
    case 'int4': return 7 / 4;
    // A step of a floating-point code is relative to the element: 2^-mantissa at most; elements up to 4 rms count most.
    case 'fp8_e4m3': case 'mxfp8_e4m3': return 8 / 4;
    case 'fp8_e5m2': case 'mxfp8_e5m2': return 4 / 4;
  }
}

function numbers(terms: readonly (readonly [string, number])[], tails: number): Tolerance {
  const used = terms.filter(([, value]) => value > 0);
  const relativeL2 = used.reduce((sum, [, value]) => sum + value, 0);
  return { kind: 'numbers', relativeL2, maxOverRms: tails * relativeL2, differing: 0, terms: used.map(([name, value]) => `${name} ${value.toExponential(1)}`) };
}

function codes(differing: number, why: string): Tolerance {
  return { kind: 'codes', relativeL2: 0, maxOverRms: 0, differing, terms: [why] };
}

function denseTolerance(operator: DenseOperator): Tolerance {
  const { k, weight, activation, group, input, norm } = operator;
  const quantisesHere = activation !== 'fp16' && input === 'fp16';
  const roundsWeights = weight === 'nf4' || (group > 0 && activation === 'fp16');
  const inner: [string, number][] = [
    ['sum', k * 2 ** -26],
    ['norm', norm.kind !== 'none' && activation === 'fp16' ? halfUnit : 0],
    ['decode', roundsWeights ? halfUnit : 0],
    ['flips', quantisesHere ? Math.sqrt(flipsPerRow / k) / stepsPerRms(activation) : 0],
  ];
  const gated = operator.function === 'silu_mul';
  return numbers([
    ['output', halfUnit],
    ...inner.map(([name, value]): [string, number] => [name, gated ? 2 * value : value]),
    ['function', operator.function === 'none' ? 0 : 2 * halfUnit],
  ], gated ? 40 : 8);
}

/**
 * The tolerance of one output of an operator.
 * @param output its position: quantising operators have the codes first, then the scales
 */
export function toleranceOf(operator: Operator, output: number): Tolerance {
  switch (operator.op) {
    case 'dense':
      return denseTolerance(operator);
    case 'norm':
      if (operator.activation === 'fp16') return numbers([['output', 2 * halfUnit]], 8);
      return quantisedTolerance(operator.activation, output);
    case 'quantise':
      return quantisedTolerance(operator.activation, output);
    case 'attention':
      // One token: softmax is 1 and the output is V itself. More: q, k and the probabilities may be rounded to FP16 for the tensor cores.
      return operator.seq === 1
        ? numbers([['output', halfUnit]], 8)
        : numbers([['output', halfUnit], ['scores', 4 * halfUnit], ['probabilities', 2 * halfUnit], ['sum', operator.seq * 2 ** -26]], 8);
  }
}

function quantisedTolerance(activation: ActivationFormat, output: number): Tolerance {
  const microscaled = activation === 'mxfp8_e4m3' || activation === 'mxfp8_e5m2';
  if (output === 0) return codes(1e-3, 'ties of h/s that another summation order breaks');
  return microscaled
    ? codes(1e-3, 'amax at a power of two that another summation order crosses')
    : numbers([['scale in FP32', 2 ** -20]], 8);
}

/** Whether one output is within its tolerance, and each reason why not. NaN never is. */
export function judge(tolerance: Tolerance, result: VerifyOutput): readonly string[] {
  const failures: string[] = [];
  if (!(result.unwritten === 0)) failures.push(`${result.unwritten} of ${result.elements} elements were never written`);
  if (!(result.nonFinite === 0)) failures.push(`${result.nonFinite} elements are not finite`);
  if (!(result.compared > 0)) failures.push('nothing was compared');
  if (tolerance.kind === 'codes') {
    // In a small tensor two flips exceed any share.
    const allowed = Math.max(tolerance.differing, 2 / Math.max(1, result.compared));
    if (!(result.differing <= allowed)) failures.push(`${percent(result.differing)} of the codes differ; ${percent(allowed)} may`);
    if (!(result.differingByMore === 0)) failures.push(`${percent(result.differingByMore)} of the codes differ by more than one step; none may`);
    return failures;
  }
  if (!(result.relativeL2 <= tolerance.relativeL2)) failures.push(`relative L2 error ${result.relativeL2.toExponential(2)} exceeds ${tolerance.relativeL2.toExponential(2)}`);
  if (!(result.maxOverRms <= tolerance.maxOverRms)) failures.push(`largest error is ${result.maxOverRms.toExponential(2)} of the output's rms, above ${tolerance.maxOverRms.toExponential(2)}`);
  return failures;
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(3)} %`;
}

/** What the operator multiplies its activations as when it, or the one before it, quantised them; null where nothing is quantised. */
function quantisation(operator: Operator): ActivationFormat | null {
  return operator.op === 'attention' || operator.activation === 'fp16' ? null : operator.activation;
}

/**
 * Largest effect on a product of quantising inputs that differ a little: as if every code were rounded anew, independently.
 * Two rounding errors of 1/√12 step each differ by √2/√12 = 0.41 steps in root mean square. A step of a floating-point code
 * is on average 0.75·2^-mantissa of the element.
 */
function requantisationNoise(activation: ActivationFormat): number {
  const stepOverRms = (): number => {
    switch (activation) {
      case 'fp16': return 0;
      case 'int8': case 'int4': return 1 / stepsPerRms(activation);
      case 'fp8_e4m3': case 'mxfp8_e4m3': return 0.75 / 8;
      case 'fp8_e5m2': case 'mxfp8_e5m2': return 0.75 / 4;
    }
  };
  return Math.sqrt(2 / 12) * stepOverRms();
}

/**
 * End to end. The inputs of later operators differ by the errors of earlier ones, which add up (residual connections keep
 * their gain near 1); where activations are quantised, a small difference may move any code by one step. Independent
 * errors, so their squares add; the factor 1.25 is for gains that vary between layers.
 */
export function endToEndTolerance(operators: readonly Operator[]): Tolerance {
  let rounding = 0;
  let requantisation = 0;
  for (const operator of operators) {
    rounding += toleranceOf(operator, 0).relativeL2;
    const format = operator.op === 'dense' ? quantisation(operator) : null;
    if (format) requantisation = Math.hypot(requantisation, requantisationNoise(format));
  }
  return numbers([['rounding', rounding], ['requantisation', 1.25 * requantisation]], 40);
}

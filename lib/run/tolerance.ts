/**
 * How far a device's output may lie from the reference's: what operators' own errors (lib/operators) come to.
 *
 * The reference computes in FP32/FP64 on the very inputs that the device read, so only the device's own roundings count:
 *
 *   output     rounding to FP16: at most u = 2⁻¹¹ of each element, on both sides.
 *   sum        FP32 accumulation over k terms. Tensor cores truncate once per 16 terms, a drift towards zero of at most
 *              2⁻²³ of the partial sum per step: (k/16)·2⁻²³ = k·2⁻²⁷; twice that covers split-K and shuffles. FP8 products are
 *              summed with 13 bits over spans of 256, and only then in FP32: 2.3e-3 for any k (lib/operators/dense.ts).
 *   norm       h = norm(x) is rounded to FP16; a different summation order moves some h by one unit: u at most.
 *   decode     NF4's table, and weights multiplied by group scales, may be rounded to FP16 in the kernel: u per weight,
 *              independent, so u relative to the sum's root mean square.
 *   function   approximate exponentials, tanh, divisions: 2⁻¹⁰ at most; SiLU(gate)·up has two products' errors.
 *   flips      activations quantised in the prologue: where h/s lies within rounding error of a tie the code moves by one
 *              step. With codes of root mean square r steps, F flips in a row of k move y by √F / (r·√k) of its rms.
 *              F = 4 is far above the expected number (k·|q|·2⁻²¹ < 1 for INT8, less for coarser steps).
 *   ties, rows where an operator has several products, see below.
 *
 * Relative L2 is the sum of the terms that apply. A defect is far above it: one missed tile of 64 along k = 8192 gives 0.09.
 * Where an operator has several products, one after the other or added to each other, terms arise apart from each other, behind weights of random signs: their squares add
 * up. In place of flips there is what an error makes of ties (requantisedError in lib/operators/quantise.ts), more with every product, up
 * to codes that are all rounded anew; numbers that were read have none, as their codes are the reference's. Where errors are so small that
 * ties are rare, one moves later codes of its row, and of no other: `rows` allows for some of them.
 * The largest single error is compared with the output's rms: normally distributed errors stay below 8 times their rms;
 * SiLU(gate)·up has heavy tails (a product of two normals), where the largest element is up to 40 rms.
 */
import type { Codes, VerifyOutput } from '../native.js';
import { operators as primitives } from '../operators/index.js';
import { chainedError, type ErrorTerms, kHalfUnit, kNoError } from '../operators/primitive.js';
import { isQuantised, type Program, recordOf, tensorsOf } from '../operators/program.js';
import { requantisationNoise, stepsPerRms } from '../operators/quantise.js';

/** The bounds for one output of one operator. */
export interface Tolerance {
  /** Numbers: ‖device − reference‖₂ / ‖reference‖₂ and max |device − reference| / rms(reference). */
  readonly kind: 'numbers' | 'codes';
  readonly relativeL2: number;
  readonly maxOverRms: number;
  /** Numbers: what a few elements that moved by a step add to the mean square, times how many were compared. */
  readonly chance: number;
  /** Codes: share of elements that may differ by one step; none may differ by more. */
  readonly differing: number;
  /** The terms that made it, for the reader. */
  readonly terms: readonly string[];
}

function numbers({ terms, tails }: ErrorTerms): Tolerance {
  const used = terms.filter(([, value]) => value > 0);
  const relativeL2 = used.reduce((sum, [, value]) => sum + value, 0);
  return {
    kind: 'numbers',
    relativeL2,
    maxOverRms: tails * relativeL2,
    chance: 0,
    differing: 0,
    terms: used.map(([name, value]) => `${name} ${value.toExponential(1)}`),
  };
}

/**
 * Rows whose codes may all have been rounded anew since a chance flip. Sums in FP32 differ by some 2⁻²³; one of about 2¹¹ such falls to the
 * other side of a tie of float16, by a unit, and one of some 2⁹ units moves an INT4 code, one of 2⁵ an INT8 code: of 50 rows of 384 less
 * than one, which is then off by a part of what whole rows are. Two, however few there are, and one of 64.
 */
const [kFewRows, kRowsShare] = [2, 1 / 64];

/**
 * Of what several products make. Of two that are added each one's error is relative to its own sum; sums and errors of both are independent,
 * so that squares add up in either, and the whole's relative error is at most the larger of the two: less than the root of both squares.
 */
function chainedNumbers(own: ErrorTerms, rows: number): Tolerance {
  const { anew = 0, terms, tails } = own;
  const few = anew * Math.sqrt(Math.min(1, kFewRows / rows + kRowsShare));
  const sum = numbers({ terms: [['output', kHalfUnit], ...terms], tails });
  const used = [...terms, ['rows', few] as const].filter(([, value, chained = value]) => chained > 0);
  return {
    ...sum,
    relativeL2: kHalfUnit + chainedError({ terms: used }),
    maxOverRms: Math.max(sum.maxOverRms, tails * anew),
    terms: [
      `output ${kHalfUnit.toExponential(1)}`,
      ...used.map(([name, value, chained = value]) => `${name === 'flips' ? 'ties' : name} ${chained.toExponential(1)}`),
    ],
  };
}

/** Whether there are several products. */
function isChained({ nodes }: Program): boolean {
  return nodes.filter(({ kind }) => primitives.get(kind).operands.some(({ role }) => role === 'weight')).length > 1;
}

/** How seldom an honest kernel may fail by codes that happened to move. */
const kChance = 1e-4;

/**
 * Codes of numbers that have an error of their own, such as a product's: one that lies as near to a tie moves by a step. Steps of whole
 * numbers are larger than any error, and a share of the codes that the error is of a step may move. Steps of floating-point codes shrink
 * with the number: near zero an error is many of them, so that codes are compared by what they stand for. There an element of error e
 * and step d moves by d with probability e / d: a mean square of e·d.
 *
 * Of some 10⁵ elements so few move, one or two, that one large one among them is above that mean. For steps d = s·|y| of normally
 * distributed y of rms 1, N elements' squares S have E(exp(θS)) = exp(N·e/s·∫ (exp(θs²y²) − 1)/y dF), with θ = 3/8 s⁻² at most
 * exp(0.56·N·e/s), so that S is above 1.5·N·e·s + 8/3·s²·ln(1/p) with probability p at most. Sums err by less than two thirds of their
 * bound e, and the rest is `chance`.
 */
function codesOf({ terms, tails }: ErrorTerms, format: Codes): Tolerance {
  const error = terms.reduce((sum, [, value]) => sum + value, 0);
  if (format.kind !== 'float' || error === 0)
    return codes(Math.max(1e-3, error * stepsPerRms(format)), 'ties of h/s that another summation order breaks');
  const step = 2 ** -format.mantissaBits;
  // The largest element moves by one step.
  return {
    ...numbers({ terms: [...terms, ['ties', Math.sqrt(error * step)]], tails }),
    maxOverRms: tails * (error + step),
    chance: (8 / 3) * step ** 2 * Math.log(1 / kChance),
  };
}

function codes(differing: number, why: string): Tolerance {
  return { kind: 'codes', relativeL2: 0, maxOverRms: 0, chance: 0, differing, terms: [why] };
}

/** The errors of a program's values, each from those of what it is made of. */
function errorsOf({ values, nodes }: Program): ReadonlyMap<number, ErrorTerms> {
  const errors = new Map<number, ErrorTerms>();
  for (const { kind, params, inputs, outputs } of nodes) {
    const own = inputs.map((value) => errors.get(value) ?? kNoError);
    for (const output of outputs)
      errors.set(
        output,
        primitives.get(kind).error(
          params,
          inputs.map((value) => values[value]!),
          own,
          values[output]!,
        ),
      );
  }
  return errors;
}

/** The error of what a quantised value is made of. */
function sourceError(program: Program, value: number): ErrorTerms {
  const { inputs } = program.nodes.find(({ outputs }) => outputs.includes(value))!;
  return errorsOf(program).get(inputs[0]!) ?? kNoError;
}

/**
 * The tolerance of one output of an operator.
 * @param output the tensor's position: a quantised value has its codes first, then its scales
 */
export function toleranceOf(program: Program, output: number): Tolerance {
  const tensors = program.outputs.flatMap((value) => tensorsOf(program.values[value]!).map(({ part }) => ({ value, part })));
  const { value, part } = tensors[output]!;
  const { type } = program.values[value]!;
  if (!isQuantised(type)) {
    const own = errorsOf(program).get(value) ?? kNoError;
    if (isChained(program)) return chainedNumbers(own, program.values[value]!.axes[0]!.extent);
    return numbers({ terms: [['output', kHalfUnit], ...own.terms], tails: own.tails });
  }
  if (part === 'codes') return codesOf(sourceError(program, value), recordOf(type).format.element.codes);
  // The largest of 32 normally distributed numbers, of rms 1, has up to 1.5 of its logarithms to an octave, and is 2.2 itself: an error e crosses a
  // power of two with probability 0.8·e / 2.2·1.44·1.5, less than e.
  return recordOf(type).fit?.kind === 'mx'
    ? codes(
        Math.max(
          1e-3,
          sourceError(program, value).terms.reduce((sum, [, term]) => sum + term, 0),
        ),
        'amax that an error moves across a power of two',
      )
    : numbers({ terms: [['scale in FP32', 2 ** -20]], tails: 8 });
}

/** What holds for so many elements: of numbers the relative L2 error, of codes the share that may differ. */
export function allowanceOf({ kind, relativeL2, chance, differing }: Tolerance, compared: number): number {
  const elements = Math.max(1, compared);
  // In a small tensor two flips exceed any share.
  return kind === 'codes' ? Math.max(differing, 2 / elements) : Math.hypot(relativeL2, Math.sqrt(chance / elements));
}

/** Whether one output is within its tolerance, and each reason why not. NaN never is. */
export function judge(tolerance: Tolerance, result: VerifyOutput): readonly string[] {
  const failures: string[] = [];
  if (!(result.unwritten === 0)) failures.push(`${result.unwritten} of ${result.elements} elements were never written`);
  if (!(result.nonFinite === 0)) failures.push(`${result.nonFinite} elements are not finite`);
  if (!(result.compared > 0)) failures.push('nothing was compared');
  const allowed = allowanceOf(tolerance, result.compared);
  if (tolerance.kind === 'codes') {
    if (!(result.differing <= allowed)) failures.push(`${percent(result.differing)} of the codes differ; ${percent(allowed)} may`);
    if (!(result.differingByMore === 0))
      failures.push(`${percent(result.differingByMore)} of the codes differ by more than one step; none may`);
    return failures;
  }
  if (!(result.relativeL2 <= allowed))
    failures.push(`relative L2 error ${result.relativeL2.toExponential(2)} exceeds ${allowed.toExponential(2)}`);
  if (!(result.maxOverRms <= tolerance.maxOverRms))
    failures.push(
      `largest error is ${result.maxOverRms.toExponential(2)} of the output's rms, above ${tolerance.maxOverRms.toExponential(2)}`,
    );
  return failures;
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(3)} %`;
}

/**
 * End to end. The inputs of later operators differ by the errors of earlier ones, which add up (residual connections keep
 * their gain near 1); where activations are quantised, a small difference may move any code by one step. Independent
 * errors, so their squares add; the factor 1.25 is for gains that vary between layers.
 */
export function endToEndTolerance(programs: readonly Program[]): Tolerance {
  let rounding = 0;
  let requantisation = 0;
  for (const program of programs) {
    rounding += toleranceOf(program, 0).relativeL2;
    for (const { kind, inputs } of program.nodes) {
      const type = program.values[inputs[0]!]?.type;
      // A product's activations, quantised by it or by the operator before it.
      if (!primitives.get(kind).anchor || type === undefined || !isQuantised(type)) continue;
      requantisation = Math.hypot(requantisation, requantisationNoise(recordOf(type).format.element.codes));
    }
  }
  return numbers({
    terms: [
      ['rounding', rounding],
      ['requantisation', 1.25 * requantisation],
    ],
    tails: 40,
  });
}

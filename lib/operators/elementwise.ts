/**
 * Elementwise operators, each one expression: sums with a bias or a residual, activation functions. A new one is a record like
 * these; kernels that have a function of their own for it say so where they are planned.
 */
import { z } from 'zod';
import {
  type Expression,
  add as plus,
  gelu,
  geluTanh,
  input,
  inputsOf,
  isApproximate,
  max,
  mul,
  operationsOf,
  sigmoid,
  silu,
} from './expression.js';
import { definePrimitive, ensure, type ErrorTerms, kHalfUnit, type Primitive, real } from './primitive.js';

interface Elementwise {
  readonly id: string;
  readonly expression: Expression;
  /** Names of its inputs; the first one has the output's axes. */
  readonly operands?: readonly string[];
  /** By how much errors of the inputs grow: 2 for a product of two of them. Default 1. */
  readonly gain?: number;
  /** As `ErrorTerms.tails`; default: the largest input's. */
  readonly tails?: number;
}

/** The primitive that an expression is. */
export function elementwise({ id, expression, operands, gain = 1, tails }: Elementwise): Primitive {
  const parts = inputsOf(expression);
  const roles = operands ?? parts.map((_, i) => (i === 0 ? 'x' : `x${i}`));
  return definePrimitive({
    id,
    params: z.strictObject({}),
    anchor: false,
    expression,
    operands: roles.map((role) => ({ role })),
    infer(_, inputs) {
      ensure(inputs.length === parts.length, id, 'inputs', `${parts.length} operands`, inputs.length);
      const [x] = inputs;
      ensure(x !== undefined && x.axes.length > 0, id, roles[0]!, 'a value with axes', 'none');
      const axes = x!.axes.map((axis, i) => {
        if (i + 1 < x!.axes.length) return axis;
        ensure(axis.extent % parts[0]! === 0, id, axis.name, `a multiple of ${parts[0]!}`, axis.extent);
        return { ...axis, extent: axis.extent / parts[0]! };
      });
      // Others have some of the axes: a vector of channels is added to every row.
      inputs.forEach(({ axes: own }, i) => {
        if (i === 0) return;
        own.forEach(({ name, extent }, j) => {
          const factor = j + 1 === own.length ? parts[i]! : 1;
          const wanted = axes.find((axis) => axis.name === name);
          ensure(
            wanted !== undefined && extent === wanted.extent * factor,
            id,
            roles[i]!,
            wanted ? `${wanted.extent * factor} along ${name}` : `axes among ${axes.map((axis) => axis.name).join(', ')}`,
            wanted ? extent : name,
          );
        });
      });
      return [real(axes)];
    },
    flops: (_, __, [y]) => operationsOf(expression) * y!.axes.reduce((product, { extent }) => product * extent, 1),
    // Approximate exponentials, tanh and divisions: 2⁻¹⁰ at most.
    error: (_, __, errors): ErrorTerms => ({
      terms: [
        ...errors.flatMap(({ terms }) => terms.map(([name, value, chained = value]) => [name, gain * value, gain * chained] as const)),
        ...(isApproximate(expression) ? [['function', 2 * kHalfUnit] as const] : []),
      ],
      tails: tails ?? Math.max(...errors.map((one) => one.tails)),
      anew: gain * Math.hypot(...errors.map((one) => one.anew ?? 0)),
    }),
  });
}

/** x + skip: a residual, or a bias where the other has channels only. */
export const add = elementwise({ id: 'add', expression: plus(input(0), input(1)), operands: ['x', 'skip'] });
/** The same numbers in another stored order: what the compiler puts between operators that do not agree on one. */
export const relayout = elementwise({ id: 'relayout', expression: input(0) });
export const relu = elementwise({ id: 'relu', expression: max(input(0), 0) });
export const geluOperator = elementwise({ id: 'gelu', expression: gelu(input(0)) });
export const geluTanhOperator = elementwise({ id: 'gelu_tanh', expression: geluTanh(input(0)) });
export const siluOperator = elementwise({ id: 'silu', expression: silu(input(0)) });
/** ½·x + skip: the residual of a feed-forward half (Gulati et al. 2020). */
export const addHalf = elementwise({ id: 'add_half', expression: plus(mul(0.5, input(0)), input(1)), operands: ['x', 'skip'] });
/** [m, 2f] (value, gate) → [m, f]: value·sigmoid(gate) (Dauphin et al. 2017). A gate is ½ in the mean: the largest element is up to 16 rms. */
export const glu = elementwise({ id: 'glu', expression: mul(input(0, 0, 2), sigmoid(input(0, 1, 2))), gain: 2, tails: 16 });
/** [m, 2f] (gate, up) → [m, f]: SiLU(gate)·up. A product of two normals has heavy tails: its largest element is up to 40 rms. */
export const siluMul = elementwise({ id: 'silu_mul', expression: mul(silu(input(0, 0, 2)), input(0, 1, 2)), gain: 2, tails: 40 });

/**
 * What a kind of operation is: its parameters, the shapes that follow from it, its work and its error. One record per kind in
 * this folder; the compiler, the reference and verification look everything up (index.ts).
 */
import { z } from 'zod';
import { LadderError } from '../errors.js';
import type { Expression } from './expression.js';
import type { Axis, Parameters, Value } from './program.js';

/** What parameters count: rows, heads, patches. */
export const dimension = z
  .number()
  .int()
  .min(1)
  .max(2 ** 31 - 1);

/** Half a unit in the last place of FP16, relative. */
export const kHalfUnit = 2 ** -11;

/** A part of an error. `chained`: what it is where a product's results are multiplied again, if that differs. */
export type ErrorTerm = readonly [name: string, value: number, chained?: number];

/** What a value's relative L2 error may consist of. */
export interface ErrorTerms {
  /** By name, in the order in which they arise. */
  readonly terms: readonly ErrorTerm[];
  /** Largest single error over rms error: normally distributed errors stay below 8 times their rms. */
  readonly tails: number;
  /** The error of a row all of whose codes, since the first product, were rounded anew. */
  readonly anew?: number;
}

export const kNoError: ErrorTerms = { terms: [], tails: 8 };

/** Where products follow each other: errors that arise apart from each other, so that their squares add up. */
export function chainedError({ terms }: Pick<ErrorTerms, 'terms'>): number {
  return Math.hypot(...terms.map(([, value, chained = value]) => chained));
}

/** Operand of a kind, for messages and for what a parameter is filled with. */
export interface OperandSpec {
  readonly role: string;
  readonly optional?: boolean;
}

/**
 * One kind of operation.
 * @typeParam P its parameters, flat: strings, numbers and booleans
 */
export interface Primitive<P extends Parameters = Parameters> {
  /** As nodes name it. */
  readonly id: string;
  readonly params: z.ZodType<P>;
  readonly operands: readonly OperandSpec[];
  /**
   * The values that come of these inputs, as real numbers (`f32`) or, for `quantise`, as what the parameters say.
   * @throws LadderError `BAD_MANIFEST` for inputs that do not fit
   */
  infer(params: P, inputs: readonly Value[]): readonly Value[];
  flops(params: P, inputs: readonly Value[], outputs: readonly Value[]): number;
  /** The error of the result, from those of the inputs. `rounded`: it is rounded to float16 before it is used. */
  error(params: P, inputs: readonly Value[], errors: readonly ErrorTerms[], output: Value): ErrorTerms;
  /** Work that fusion starts from; others are taken in by it where a kernel family has them. */
  readonly anchor: boolean;
  /**
   * Whether it reads a number several times, so that a kernel in which it is not the first step keeps them, as float16. Anchors do.
   * Some do so by their parameters, how many operands they have, and the kind of operation that made the first of them.
   */
  readonly rereads?: boolean | ((params: P, inputs: number, maker: string) => boolean);
  /** Elementwise operators: the whole of what they compute. Others have C++ of their own in native/reference. */
  readonly expression?: Expression;
  /** How names of graph nodes call it; default: its id. */
  readonly word?: string;
}

/** Keeps the type of a record's parameters. */
export function definePrimitive<P extends Parameters>(record: Primitive<P>): Primitive {
  return record as unknown as Primitive;
}

/** Throws what a node says of itself that cannot be. */
export function ensure(holds: boolean, kind: string, field: string, expected: string, received: string | number): void {
  if (!holds)
    throw new LadderError('BAD_MANIFEST', `${kind}: expected ${expected} for \`${field}\` but received ${received}`, { op: kind, field });
}

/** Rows and channels of an activation matrix. @throws LadderError `BAD_MANIFEST` */
export function matrixOf(kind: string, role: string, value: Value | undefined): readonly [rows: Axis, columns: Axis] {
  const [rows, columns, ...rest] = value?.axes ?? [];
  if (!rows || !columns || rest.length > 0) {
    throw new LadderError(
      'BAD_MANIFEST',
      `${kind}: expected two axes for \`${role}\` but received ${value ? value.axes.map(({ name }) => name).join(', ') || 'none' : 'no such operand'}`,
      { op: kind, field: role },
    );
  }
  return [rows, columns];
}

/** A vector of one number per channel. @throws LadderError `BAD_MANIFEST` */
export function ensureVector(kind: string, role: string, value: Value | undefined, extent: number): void {
  ensure(
    value?.axes.length === 1 && value.axes[0]!.extent === extent,
    kind,
    role,
    `${extent} numbers`,
    value ? value.axes.map((axis) => axis.extent).join(' × ') : 'no such operand',
  );
}

export function real(axes: readonly Axis[]): Value {
  return { axes, type: 'f32' };
}

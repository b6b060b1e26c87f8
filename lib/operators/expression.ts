/**
 * Expressions of elementwise operators as data: the reference interprets them, CUDA text is written from them, and their error
 * is counted by them. An input is read at the output's coordinates, or at one of `parts` equal blocks of its last axis.
 */
import { LadderError } from '../errors.js';
import type { NativeInstruction } from '../native.js';

export type Binary = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max';
export type Unary = 'neg' | 'exp' | 'tanh' | 'erf';

export type Expression =
  | { readonly op: 'input'; readonly index: number; readonly part: number; readonly parts: number }
  | { readonly op: 'constant'; readonly value: number }
  | { readonly op: Unary; readonly of: Expression }
  | { readonly op: Binary; readonly left: Expression; readonly right: Expression };

type Term = Expression | number;

function term(value: Term): Expression {
  return typeof value === 'number' ? { op: 'constant', value } : value;
}

const binary =
  (op: Binary) =>
  (left: Term, right: Term): Expression => ({ op, left: term(left), right: term(right) });
const unary =
  (op: Unary) =>
  (of: Term): Expression => ({ op, of: term(of) });

/** Input `index`; `part` of `parts` blocks of its last axis. */
export function input(index: number, part = 0, parts = 1): Expression {
  return { op: 'input', index, part, parts };
}
export const [add, sub, mul, div, min, max] = [
  binary('add'),
  binary('sub'),
  binary('mul'),
  binary('div'),
  binary('min'),
  binary('max'),
] as const;
export const [neg, exp, tanh, erf] = [unary('neg'), unary('exp'), unary('tanh'), unary('erf')] as const;

/** x / (1 + e^−x) */
export function silu(x: Term): Expression {
  return div(x, add(1, exp(neg(x))));
}

/** 1 / (1 + e^−x) */
export function sigmoid(x: Term): Expression {
  return div(1, add(1, exp(neg(x))));
}

/** ½·x·(1 + erf(x / √2)) */
export function gelu(x: Term): Expression {
  return mul(mul(0.5, x), add(1, erf(mul(Math.SQRT1_2, x))));
}

/** ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) */
export function geluTanh(x: Term): Expression {
  const inner = mul(Math.sqrt(2 / Math.PI), add(x, mul(0.044715, mul(x, mul(x, x)))));
  return mul(mul(0.5, x), add(1, tanh(inner)));
}

function fold<T>(
  expression: Expression,
  leaf: (leaf: Extract<Expression, { op: 'input' | 'constant' }>) => T,
  join: (op: Unary | Binary, parts: readonly T[]) => T,
): T {
  if ('of' in expression) return join(expression.op, [fold(expression.of, leaf, join)]);
  if ('left' in expression) return join(expression.op, [fold(expression.left, leaf, join), fold(expression.right, leaf, join)]);
  return leaf(expression);
}

/** The same in postfix order. */
export function instructionsOf(expression: Expression): readonly NativeInstruction[] {
  return fold<readonly NativeInstruction[]>(
    expression,
    (leaf) => [leaf],
    (op, parts) => [...parts.flat(), { op }],
  );
}

/** How many inputs there are, and into how many blocks each one's last axis falls. */
export function inputsOf(expression: Expression): readonly number[] {
  const parts: number[] = [];
  fold<void>(
    expression,
    (leaf) => {
      if (leaf.op === 'input') parts[leaf.index] = Math.max(parts[leaf.index] ?? 1, leaf.parts);
    },
    () => undefined,
  );
  for (let i = 0; i < parts.length; ++i) {
    if (parts[i] === undefined) throw new LadderError('INTERNAL', `an expression reads input ${parts.length - 1} but not input ${i}`);
  }
  return parts;
}

/** Operations per element. */
export function operationsOf(expression: Expression): number {
  return fold<number>(
    expression,
    () => 0,
    (_, parts) => 1 + parts.reduce((a, b) => a + b, 0),
  );
}

/** Whether it has a function or division that kernels may approximate. */
export function isApproximate(expression: Expression): boolean {
  return fold<boolean>(
    expression,
    () => false,
    (op, parts) => op === 'exp' || op === 'tanh' || op === 'erf' || op === 'div' || parts.some(Boolean),
  );
}

/**
 * The expression of an element as C text; `name` says how an input is written.
 * @param functions what operations are called instead of C's own functions and signs
 */
export function expressionText(
  expression: Expression,
  name: (index: number, part: number) => string,
  functions: Readonly<Record<string, string>> = {},
): string {
  const calls: Readonly<Partial<Record<Unary | Binary, string>>> = { min: 'fminf', max: 'fmaxf', exp: 'expf', tanh: 'tanhf', erf: 'erff' };
  const signs: Readonly<Partial<Record<Binary | Unary, string>>> = { add: '+', sub: '-', mul: '*', div: '/' };
  return fold<string>(
    expression,
    (leaf) => (leaf.op === 'input' ? name(leaf.index, leaf.part) : floatLiteral(leaf.value)),
    (op, parts) => {
      if (op === 'neg') return `(-${parts[0]!})`;
      const call = functions[op] ?? calls[op];
      return call ? `${call}(${parts.join(', ')})` : `(${parts.join(` ${signs[op]} `)})`;
    },
  );
}

function floatLiteral(value: number): string {
  const text = String(Math.fround(value));
  return `${/[.e]/.test(text) ? text : `${text}.0`}f`;
}

/**
 * Checked access to parsed JSON that nobody has vouched for: objects become maps (so that a key such as `__proto__` is
 * a key like any other), numbers must be integers in range, and what was received is quoted short in messages.
 */

/** Throws the caller's kind of error for a field; never returns. */
export type Reject = (field: string, expected: string, received: unknown) => never;

/** A short description of a value, safe for values of any size and depth. */
export function describeJson(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  return String(value);
}

/** The own members of a JSON object, in order. */
export function members(value: unknown, field: string, reject: Reject): ReadonlyMap<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return reject(field, 'an object', value);
  return new Map(Object.entries(value));
}

export function array(value: unknown, field: string, reject: Reject): readonly unknown[] {
  return Array.isArray(value) ? value : reject(field, 'an array', value);
}

export function text(value: unknown, field: string, reject: Reject): string {
  return typeof value === 'string' ? value : reject(field, 'a string', value);
}

/** An integer from 0 to `max`. */
export function natural(value: unknown, max: number, field: string, reject: Reject): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) {
    return reject(field, `an integer from 0 to ${max}`, value);
  }
  return value + 0; // −0 becomes 0
}

/** The product of extents, or null when a double cannot hold it exactly. */
export function safeProduct(factors: readonly number[], start = 1): number | null {
  if (factors.includes(0)) return 0;
  let product = start;
  for (const factor of factors) {
    product *= factor;
    if (product > Number.MAX_SAFE_INTEGER) return null;
  }
  return product;
}

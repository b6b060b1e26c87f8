/**
 * Stored order of values: checking that a layout's digits are a bijection, and the offset tables that they come down to, one
 * per axis. What layouts are good for is the kernels' and the compiler's business. Definition: `Layout` in program.ts.
 */
import { LadderError } from '../errors.js';
import type { LayoutDigit } from '../native.js';

/**
 * Places along one axis.
 *
 * Sums of value × stride hit each of 0…extent−1 exactly once if, and only if, the digits of an axis (those of size 1
 * aside, which contribute nothing), in order of stride, have stride 1, size₀, size₀·size₁, …
 *
 * @throws LadderError `BAD_MANIFEST` for a layout that is no bijection
 * @example axisExtent([{ axis: 'n', stride: 1, size: 4 }, { axis: 'k', stride: 1, size: 8 }], 'k') // 8
 */
export function axisExtent(digits: readonly LayoutDigit[], axis: string): number {
  const own = digits.filter((digit) => digit.axis === axis && digit.size > 1).sort((a, b) => a.stride - b.stride);
  let extent = 1;
  for (const { stride, size } of own) {
    if (stride !== extent) {
      throw new LadderError(
        'BAD_MANIFEST',
        `layout is no bijection: axis ${axis} has a digit of stride ${stride} where ${extent} would continue it`,
        { axis, stride, expected: extent },
      );
    }
    extent *= size;
  }
  if (extent > Number.MAX_SAFE_INTEGER) throw new LadderError('BAD_MANIFEST', `layout: axis ${axis} has more than 2^53 places`, { axis });
  return extent;
}

/**
 * What a coordinate along one axis adds to the stored index, which is the sum over all axes.
 * @returns one offset per place of the axis
 */
export function axisOffsets(digits: readonly LayoutDigit[], axis: string): Float64Array {
  const offsets = new Float64Array(axisExtent(digits, axis));
  let weight = 1;
  for (const digit of [...digits].reverse()) {
    if (digit.axis === axis && digit.size > 1) {
      for (let i = 0; i < offsets.length; i++) offsets[i]! += (Math.floor(i / digit.stride) % digit.size) * weight;
    }
    weight *= digit.size;
  }
  return offsets;
}

/** Whether two values are stored in one order; absent: row-major. */
export function isSameLayout(
  one: { readonly digits: readonly LayoutDigit[] } | null | undefined,
  other: { readonly digits: readonly LayoutDigit[] } | null | undefined,
): boolean {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}

/** The plain order: the last axis varies fastest. */
export function rowMajor(axes: readonly { readonly name: string; readonly extent: number }[]): readonly LayoutDigit[] {
  return axes.map(({ name, extent }) => ({ axis: name, stride: 1, size: extent }));
}

/**
 * Whether a layout has a place for every coordinate, and no digit of another axis.
 * @throws LadderError `BAD_MANIFEST` naming the axis
 */
export function checkLayout(digits: readonly LayoutDigit[], axes: readonly { readonly name: string; readonly extent: number }[]): void {
  const odd = digits.find(({ axis }) => !axes.some(({ name }) => name === axis));
  if (odd)
    throw new LadderError(
      'BAD_MANIFEST',
      `layout: expected digits of ${axes.map(({ name }) => name).join(', ')} but received one of ${odd.axis}`,
      { axis: odd.axis },
    );
  for (const { name, extent } of axes) {
    const places = axisExtent(digits, name);
    if (places < extent)
      throw new LadderError('BAD_MANIFEST', `layout: expected at least ${extent} places along ${name} but received ${places}`, {
        axis: name,
        places,
        extent,
      });
  }
}

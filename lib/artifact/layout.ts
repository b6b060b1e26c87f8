/**
 * Stored order of packed weights and block scales: checking that a `Digit` layout is a bijection, and the two offset
 * tables that it comes down to. What layouts are good for is the kernels' and the builder's business.
 * Definition: `digitSchema` in operators.ts.
 */
import { LadderError } from '../errors.js';
import type { Digit } from './operators.js';

export type Axis = Digit['axis'];

/** Logical extents that a layout enumerates; `n` may be padded past the operator's. */
export interface LayoutExtents {
  readonly n: number;
  readonly k: number;
}

/**
 * The extents of a layout.
 *
 * Sums of value × stride hit each of 0…extent−1 exactly once if, and only if, the digits of an axis (those of size 1
 * aside, which contribute nothing), in order of stride, have stride 1, size₀, size₀·size₁, …
 *
 * @throws LadderError `BAD_MANIFEST` for a layout that is no bijection
 * @example layoutExtents([{ axis: 'n', stride: 1, size: 4 }, { axis: 'k', stride: 1, size: 8 }]) // { n: 4, k: 8 }
 */
export function layoutExtents(layout: readonly Digit[]): LayoutExtents {
  return { n: axisExtent(layout, 'n'), k: axisExtent(layout, 'k') };
}

function axisExtent(layout: readonly Digit[], axis: Axis): number {
  const digits = layout.filter((digit) => digit.axis === axis && digit.size > 1).sort((a, b) => a.stride - b.stride);
  let extent = 1;
  for (const { stride, size } of digits) {
    if (stride !== extent) {
      throw new LadderError('BAD_MANIFEST', `layout is no bijection: axis ${axis} has a digit of stride ${stride} where ${extent} would continue it`, { axis, stride, expected: extent });
    }
    extent *= size;
  }
  if (extent > Number.MAX_SAFE_INTEGER) throw new LadderError('BAD_MANIFEST', `layout: axis ${axis} has more than 2^53 places`, { axis });
  return extent;
}

/**
 * What a coordinate along one axis adds to the stored index: storedIndex(n, k) = offsets('n')[n] + offsets('k')[k].
 * @returns one offset per coordinate, as many as the axis' extent
 */
export function layoutOffsets(layout: readonly Digit[], axis: Axis): Float64Array {
  const offsets = new Float64Array(axisExtent(layout, axis));
  let weight = 1;
  for (const digit of [...layout].reverse()) {
    if (digit.axis === axis && digit.size > 1) {
      for (let i = 0; i < offsets.length; i++) offsets[i]! += (Math.floor(i / digit.stride) % digit.size) * weight;
    }
    weight *= digit.size;
  }
  return offsets;
}

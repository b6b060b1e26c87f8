/**
 * Axes: powers of ten, and vertical ones of bar charts, broken where a few bars tower over the rest: the lower part keeps most of the height,
 * the upper part shows where the towers end. Maps values to heights; drawing is the charts'.
 */
/** A stretch of the axis: values `from`…`to` lie between `bottom` and `top` (smaller y is higher). */
export interface Segment {
  readonly from: number;
  readonly to: number;
  readonly bottom: number;
  readonly top: number;
}

export interface Axis {
  /** From the bottom up: one, or two when broken. */
  readonly segments: readonly Segment[];
  readonly ticks: readonly number[];
}

/** Where a value stands; values in the gap stand at its lower edge. */
export function position(axis: Axis, value: number): number {
  const segment = [...axis.segments].reverse().find((s) => value >= s.from) ?? axis.segments[0];
  if (segment === undefined) return 0;
  const share = Math.min(1, Math.max(0, (value - segment.from) / (segment.to - segment.from)));
  return segment.bottom - share * (segment.bottom - segment.top);
}

/** Steps of 0.5, 1, 2, 5, … that give at most `most` ticks. */
function stepFor(span: number, most: number): number {
  for (let scale = 0.1; ; scale *= 10) {
    for (const unit of [1, 2, 5]) {
      const step = unit * scale;
      if (span / step <= most) return step;
    }
  }
}

const multiples = (from: number, to: number, step: number): number[] => {
  const found: number[] = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + 1e-9; i += 1) found.push(Math.round(i * step * 1e6) / 1e6);
  return found;
};

/**
 * The axis for bars of these values, from 0.
 * @param gap height of the break
 * @param headroom what must stay free above the tallest bar, in units of the picture
 */
export function makeAxis(values: readonly number[], bottom: number, top: number, gap = 7, headroom = 4): Axis {
  const sorted = values.filter((value) => Number.isFinite(value) && value > 0).sort((a, b) => b - a);
  const highest = Math.max(sorted[0] ?? 1, 1.1);
  const height = bottom - top;
  // The largest jump among the first three: what stands above it are the towers.
  let towers = 0;
  let jump = 1.6;
  for (let i = 0; i < Math.min(3, sorted.length - 1); i += 1) {
    const ratio = (sorted[i] ?? 1) / (sorted[i + 1] ?? 1);
    if (ratio > jump) [towers, jump] = [i + 1, ratio];
  }
  if (towers === 0 || highest < 4) {
    const to = (highest * height) / (height - headroom);
    return { segments: [{ from: 0, to, bottom, top }], ticks: multiples(0, to, stepFor(to, 5)) };
  }
  const lowerHeight = (height - gap) * 0.64;
  const lowerHighest = Math.max(sorted[towers] ?? 1, 1.1);
  // What stands above the tallest of the lower bars (a mark, a value) stays below the break.
  const lowerTo = (lowerHighest * lowerHeight) / (lowerHeight - headroom * 0.7);
  const lowest = sorted[towers - 1] ?? highest;
  // Whole numbers round the towers' ends, so that the upper part can be read at a tick on either side.
  let from = Math.floor(lowest) - 1;
  let to = Math.ceil(highest + 0.1);
  if (from <= lowerTo) from = lowerTo + 0.1;
  to = Math.max(to, from + 2);
  const lower: Segment = { from: 0, to: lowerTo, bottom, top: bottom - lowerHeight };
  const upper: Segment = { from, to, bottom: lower.top - gap, top };
  const upperHeight = upper.bottom - upper.top;
  const reach = to - from;
  if (((to - highest) / reach) * upperHeight < headroom) to += (headroom / upperHeight) * reach;
  const fitted: Segment = { ...upper, to };
  return {
    segments: [lower, fitted],
    ticks: [...multiples(0, lowerTo, stepFor(lowerTo, 4)), ...multiples(Math.ceil(from + 0.3), to, Math.max(1, stepFor(to - from, 3)))],
  };
}

/** Powers of ten around positive values, two at least. */
export function decades(values: readonly number[]): { readonly from: number; readonly to: number } {
  const from = Math.floor(Math.log10(Math.min(...values)));
  return { from, to: Math.max(from + 1, Math.ceil(Math.log10(Math.max(...values)))) };
}

/**
 * Two sets of numbers side by side: which pairs belong together, the speed-up of each, what makes a pair unfit for a
 * verdict (another GPU, clock or L2 mode), and geometric means per system and per model. Across GPUs fractions of each
 * GPU's roofline take the place of times. Prints nothing: tables are compare-table.ts.
 */
import { LadderError } from '../errors.js';
import type { Entry, EntrySet, Interval } from './entry.js';
import { clockLabel, sameGpu } from './names.js';

export type Verdict =
  /** A is faster or slower, and the intervals lie apart. */
  | 'faster'
  | 'slower'
  /** The intervals overlap. */
  | 'ambiguous'
  /** A number without an interval: the ratio is all there is. */
  | 'no interval'
  /** The measurements differ in kind. */
  | 'refused';

export interface Pair {
  readonly a: Entry;
  readonly b: Entry;
  /** What is compared: times, or fractions of each GPU's roofline. */
  readonly basis: 'time' | 'roofline';
  /** How many times better A is: time of B over time of A, or fraction of A over fraction of B. */
  readonly ratio: number;
  /** The bounds of the ratio that the two intervals allow; null without both. */
  readonly ratioRange: readonly [low: number, high: number] | null;
  /** What forbids a verdict, in words. */
  readonly differences: readonly string[];
  readonly verdict: Verdict;
}

export interface Mean {
  readonly name: string;
  readonly pairs: number;
  readonly ratio: number;
}

export interface Comparison {
  readonly a: string;
  readonly b: string;
  readonly pairs: readonly Pair[];
  /** Entries that have no number, or no partner in the other set. */
  readonly unpaired: readonly { readonly side: 'a' | 'b'; readonly entry: Entry; readonly reason: string }[];
  /** Geometric means over the pairs that were not refused; under lasting load by system only, and named so. */
  readonly bySystem: readonly Mean[];
  readonly byModel: readonly Mean[];
  readonly overall: Mean | null;
  readonly refused: number;
}

/** Geometric mean. @throws LadderError `BAD_ARGUMENT` for an empty list or a value that is not above 0 */
export function geometricMean(values: readonly number[]): number {
  if (values.length === 0 || values.some((value) => !(value > 0))) {
    throw new LadderError('BAD_ARGUMENT', 'expected numbers above 0 for a geometric mean');
  }
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** Figures under lasting load have partners under lasting load only, and a mean of their own. */
export const isSustained = (entry: Entry): boolean => entry.condition === 'sustained';
const caseKey = (entry: Entry): string => `${entry.model}|${entry.setting}|${isSustained(entry)}`;
const identityKey = (entry: Entry): string => `${caseKey(entry)}|${entry.family}|${entry.format}`;

/** What forbids comparing two times. `acrossGpus`: the fractions of the rooflines are compared, so the GPU may differ. */
function differencesOf(a: Entry, b: Entry, acrossGpus: boolean): string[] {
  const found: string[] = [];
  if (!acrossGpus && !sameGpu(a.gpu, b.gpu)) found.push(`GPU: ${a.gpu ?? 'not stated'} / ${b.gpu ?? 'not stated'}`);
  // Two clocks that are not stated are the same one only within one system.
  if (a.clock !== b.clock || (a.clock === null && a.family !== b.family))
    found.push(`clock: ${clockLabel(a.clock)} / ${clockLabel(b.clock)}`);
  if (a.l2 !== b.l2) found.push(`L2: ${a.l2 ?? 'not stated'} / ${b.l2 ?? 'not stated'}`);
  return found;
}

function rangeOf(a: Interval | null, b: Interval | null, scale: number): readonly [number, number] | null {
  return a === null || b === null || !(a.lowMs > 0) ? null : [(b.lowMs / a.highMs) * scale, (b.highMs / a.lowMs) * scale];
}

function pairOf(a: Entry & { latencyMs: number }, b: Entry & { latencyMs: number }, force: boolean): Pair {
  const acrossGpus = !sameGpu(a.gpu, b.gpu) && a.roofline !== null && b.roofline !== null;
  const timeRatio = b.latencyMs / a.latencyMs;
  const ratio = acrossGpus && a.roofline !== null && b.roofline !== null ? a.roofline.fraction / b.roofline.fraction : timeRatio;
  const ratioRange = rangeOf(a.interval, b.interval, ratio / timeRatio);
  const differences = differencesOf(a, b, acrossGpus);
  const verdict: Verdict =
    differences.length > 0 && !force
      ? 'refused'
      : ratioRange === null
        ? 'no interval'
        : ratioRange[0] <= 1 && ratioRange[1] >= 1
          ? 'ambiguous'
          : ratio > 1
            ? 'faster'
            : 'slower';
  return { a, b, basis: acrossGpus ? 'roofline' : 'time', ratio, ratioRange, differences, verdict };
}

function means(pairs: readonly Pair[], nameOf: (pair: Pair) => string): Mean[] {
  const groups = new Map<string, number[]>();
  for (const pair of pairs) groups.set(nameOf(pair), [...(groups.get(nameOf(pair)) ?? []), pair.ratio]);
  return [...groups].map(([name, ratios]) => ({ name, pairs: ratios.length, ratio: geometricMean(ratios) }));
}

/** The systems of a pair, as a mean is named. */
function pairName(pair: Pair): string {
  const name = (entry: Entry): string => `${entry.family} ${entry.format}`;
  const names = pair.a.family === pair.b.family && pair.a.format === pair.b.format ? name(pair.a) : `${name(pair.a)} over ${name(pair.b)}`;
  return isSustained(pair.a) ? `${names}, sustained` : names;
}

/**
 * Compares two sets. Entries of one system, format and case are partners; where the sets share none at all (two
 * systems side by side), every entry of a case is compared with every entry of that case in the other set.
 * @param options.force give verdicts, and include in the means, what differs in GPU, clock or L2 mode
 */
export function compareSets(a: EntrySet, b: EntrySet, options: { readonly force?: boolean } = {}): Comparison {
  const force = options.force === true;
  const shared = new Set(b.entries.map(identityKey));
  const key = a.entries.some((entry) => shared.has(identityKey(entry))) ? identityKey : caseKey;
  const partners = new Map<string, Entry[]>();
  for (const entry of b.entries) partners.set(key(entry), [...(partners.get(key(entry)) ?? []), entry]);
  const pairs: Pair[] = [];
  const unpaired: Comparison['unpaired'][number][] = [];
  // A stale value is another model's: it stands in its set as published, and is no number of this case.
  const staleness = (entry: Entry): string | null => entry.marks.find((mark) => mark.kind === 'stale')?.note ?? null;
  const hasNumber = (entry: Entry): entry is Entry & { latencyMs: number } => entry.latencyMs !== null && staleness(entry) === null;
  const lack = (entry: Entry): string => staleness(entry) ?? entry.reason ?? 'no number';
  for (const entry of a.entries) {
    const others = partners.get(key(entry)) ?? [];
    if (!hasNumber(entry)) unpaired.push({ side: 'a', entry, reason: lack(entry) });
    else if (!others.some(hasNumber))
      unpaired.push({ side: 'a', entry, reason: others[0] === undefined ? `no such case in ${b.name}` : lack(others[0]) });
    else for (const other of others.filter(hasNumber)) pairs.push(pairOf(entry, other, force));
  }
  const known = new Set(a.entries.map(key));
  for (const entry of b.entries) {
    if (!known.has(key(entry))) unpaired.push({ side: 'b', entry, reason: entry.reason ?? `no such case in ${a.name}` });
  }
  const counted = pairs.filter((pair) => pair.verdict !== 'refused');
  const bursts = counted.filter((pair) => !isSustained(pair.a));
  return {
    a: a.name,
    b: b.name,
    pairs,
    unpaired,
    bySystem: means(counted, pairName),
    byModel: means(bursts, (pair) => pair.a.model),
    overall: means(bursts, () => 'all')[0] ?? null,
    refused: pairs.length - counted.length,
  };
}

/** @throws LadderError `NOT_COMPARABLE` when pairs were refused: call it after the table was shown */
export function requireComparable(comparison: Comparison): void {
  if (comparison.refused === 0) return;
  const reasons = [...new Set(comparison.pairs.flatMap((pair) => (pair.verdict === 'refused' ? pair.differences : [])))];
  throw new LadderError(
    'NOT_COMPARABLE',
    `${comparison.refused} of ${comparison.pairs.length} pairs differ in ${reasons.slice(0, 4).join('; ')}${reasons.length > 4 ? '; …' : ''}: no verdict; --force compares them all the same`,
    { refused: comparison.refused, pairs: comparison.pairs.length },
  );
}

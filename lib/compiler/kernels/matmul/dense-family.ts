/** What the families of decoding products have in common: the match, the order of weights, the key, reading ahead. */
import { type Family, Refusal, defineFamily } from '../family.js';
import type { KernelPlan, Tuning, WeightRuns } from '../plan.js';
import { denseStorage, withStorage } from './layouts.js';
import { type DenseMatch, type DenseShape, denseKey, matchDense, refuseLayouts, refuseShape } from './shape.js';
import { kTileRows, readsAhead, unitK } from './template.js';

const kMostTokens = 64;

/** How one of them differs. */
interface DenseFamily {
  readonly id: string;
  readonly version: number;
  /** Tiles in pairs, and k in the order of wgmma's operands. */
  readonly paired: boolean;
  /** Why its kernel does not take a product that the others may take; null: it does. */
  readonly refuse: (shape: DenseShape) => Refusal | null;
  readonly configurations: (shape: DenseShape) => readonly Tuning[];
  readonly plan: (match: DenseMatch, name: string, tuning: Tuning, next: WeightRuns | null) => KernelPlan;
}

export function denseFamily({ id, version, paired, refuse, configurations, plan }: DenseFamily): Family {
  return defineFamily<DenseMatch>({
    id,
    version,
    accepts(program) {
      const match = matchDense(program);
      if (match instanceof Refusal) return match;
      const { shape } = match;
      if (shape.m > kMostTokens) return new Refusal('m', `expected at most ${kMostTokens} tokens but received ${shape.m}`);
      return (
        refuseLayouts(program, [match.weight]) ??
        refuseShape(shape, unitK(shape.weight), kTileRows) ??
        refuse(shape) ??
        withStorage(program, match, denseStorage(match, paired))
      );
    },
    storage: (match) => denseStorage(match, paired),
    configurations: ({ shape }) => configurations(shape),
    key: ({ shape }) => denseKey(shape),
    plan: (match, name, tuning, { next }) => plan(match, name, tuning, next),
    readAhead: { wanted: ({ shape }) => readsAhead(shape), weight: ({ weight }) => weight },
  });
}

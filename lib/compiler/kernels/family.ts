/**
 * What a family of kernels is: which programs it takes on which target, how it wants weights stored, which configurations are
 * worth trying, and the plan of one. One record per family in this folder, ranked in index.ts; the simple kernels, which take
 * every program of one node, come last.
 */
import { isSameLayout } from '../../operators/layout.js';
import type { Layout, Program } from '../../operators/program.js';
import type { Target } from '../targets.js';
import type { KernelPlan, Tuning, WeightRuns } from './plan.js';

/** Why a family does not take a program. */
export class Refusal {
  /**
   * @param dimension what of it: `m`, `k`, `seq`, …; empty where the program is not of the family's kind at all
   * @param message expected X but received Y
   */
  constructor(
    readonly dimension: string,
    readonly message: string,
  ) {}
}

/** Of no kind that a family has: nothing worth telling a user. */
export const kOtherKind = new Refusal('', 'another kind of operator');

/** How the tensors of one value are stored. */
export interface Storage {
  readonly layout?: Layout | undefined;
  readonly scaleLayout?: Layout | undefined;
}

/** Whether a value and its scales are stored in the same orders. */
export function isSameStorage(one: Storage, other: Storage): boolean {
  return isSameLayout(one.layout, other.layout) && isSameLayout(one.scaleLayout, other.scaleLayout);
}

/** What a plan depends on beside its configuration. */
export interface PlanContext {
  readonly target: Target;
  /** Where the product after this one begins to read its weights; null: nothing is read ahead. */
  readonly next: WeightRuns | null;
}

/** @typeParam M what the family sees in a program: a flat view of it */
export interface Family<M = unknown> {
  /** Also the folder of its kernels in native/kernels: `matmul/vector`. */
  readonly id: string;
  /** Of its tunings: raised by hand when a parameter's meaning changes. */
  readonly version: number;
  accepts(program: Program, target: Target): M | Refusal;
  /** Values (by index in the program) that are stored in an order of the family's own; others are row-major. */
  storage(match: M): ReadonlyMap<number, Storage>;
  /** Activations (by index in the program) that are best read in an order of the family's own; others row-major. */
  reads?(match: M): ReadonlyMap<number, Storage>;
  /** Whether a result (by index in the program) can be written in that order instead of row-major. */
  writes?(match: M, value: number, storage: Storage): boolean;
  /** Configurations for the tuner, the default first; all fit. */
  configurations(match: M, target: Target): readonly Tuning[];
  /** The match as text, defaults left out: tunings are kept by it. */
  key(match: M): string;
  /**
   * @param name C identifier that the kernels' names begin with
   * @throws LadderError `BAD_ARGUMENT` for a tuning that does not fit
   */
  plan(match: M, name: string, tuning: Tuning, context: PlanContext): KernelPlan;
  /** Products whose memory would stand still while one kernel ends and the next one starts. */
  readonly readAhead?: {
    /** Whether the kernel takes the next product's weights as its last input, to read ahead. */
    wanted(match: M): boolean;
    /** The value (by index in the program) that an operator before it may read ahead. */
    weight(match: M): number;
  };
}

/** A family and what it sees in a program. */
export interface Selection {
  readonly family: Family;
  readonly match: unknown;
}

/** The first of some families that takes the program, or null. */
export function firstTaking(families: readonly Family[], program: Program, target: Target): Selection | null {
  for (const family of families) {
    const match = family.accepts(program, target);
    if (!(match instanceof Refusal)) return { family, match };
  }
  return null;
}

/** Keeps the type of a family's match. */
export function defineFamily<M>(family: Family<M>): Family {
  return family as unknown as Family;
}

/**
 * The kernel families, ranked: the first that accepts a program on a target plans it. A new one is a record beside these and a
 * line here (or `families.addBefore` at run time).
 */
import { LadderError } from '../../errors.js';
import { type Program, stepsText } from '../../operators/program.js';
import type { Target } from '../targets.js';
import { activation } from './activation.js';
import { attention } from './attention.js';
import { attentionRows } from './attention-rows.js';
import { depthwise } from './depthwise.js';
import { type Family, firstTaking, Refusal, type Selection } from './family.js';
import { flash } from './flash.js';
import { chain } from './matmul/chain.js';
import { rows } from './matmul/rows.js';
import { thin } from './matmul/thin.js';
import { tile } from './matmul/tile.js';
import { vector } from './matmul/vector.js';
import { warpgroup } from './matmul/warpgroup.js';
import { wide } from './matmul/wide.js';
import { maxPool, meanRows } from './pool.js';
import { separable } from './separable.js';
import { simpleFamilies } from './simple/index.js';
import { tokens } from './tokens.js';

/** Families in the order in which they are asked. */
class RankedFamilies {
  private readonly specific: Family[] = [
    separable,
    chain,
    rows,
    tile,
    vector,
    thin,
    warpgroup,
    wide,
    activation,
    depthwise,
    maxPool,
    meanRows,
    tokens,
    attentionRows,
    attention,
    flash,
  ];

  /** Adds one before all others. @throws LadderError `BAD_ARGUMENT` for an id that is taken */
  add(family: Family): void {
    if (this.all().some(({ id }) => id === family.id))
      throw new LadderError('BAD_ARGUMENT', `there is a kernel family ${JSON.stringify(family.id)} already`, { id: family.id });
    this.specific.unshift(family);
  }

  /** Asks one of them before all others, so that it plans what others rank before. @throws LadderError `BAD_ARGUMENT` for an unknown id */
  prefer(id: string): void {
    const at = this.specific.findIndex((family) => family.id === id);
    if (at < 0)
      throw new LadderError('BAD_ARGUMENT', `expected one of ${this.specific.map((one) => one.id).join(', ')} but received ${id}`, { id });
    this.specific.unshift(...this.specific.splice(at, 1));
  }

  all(): readonly Family[] {
    return [...this.specific, ...simpleFamilies];
  }

  rank(family: Family): number {
    return this.all().indexOf(family);
  }
}

export const families = new RankedFamilies();

/** The first family that takes the program, or null. */
export function select(program: Program, target: Target): Selection | null {
  return firstTaking(families.all(), program, target);
}

/**
 * The first family that takes the program.
 * @throws LadderError `UNSUPPORTED` naming the dimension that each family of its kind refuses
 */
export function selectOrThrow(program: Program, target: Target): Selection {
  const selection = select(program, target);
  if (selection) return selection;
  const refusals = families
    .all()
    .map((family) => [family.id, family.accepts(program, target)] as const)
    .filter((entry): entry is [string, Refusal] => entry[1] instanceof Refusal && entry[1].dimension !== '');
  throw new LadderError(
    'UNSUPPORTED',
    `no kernel for ${stepsText(program)} on ${target.id}: ${refusals.map(([id, { message }]) => `${id}: ${message}`).join('; ') || 'no family has operators of this kind'}`,
    { dimension: refusals[0]?.[1].dimension ?? '', target: target.id },
  );
}

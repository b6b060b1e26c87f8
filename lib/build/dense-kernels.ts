/**
 * Plans the dense decoding products (m ≤ 64): the layout in which each format's weights are stored, which kernel runs, and
 * its tuning. The kernels are native/kernels/gemv; what they compute is denseSchema's. Layouts depend on format and function
 * alone, never on the tuning, so that tuning anew needs no repacking.
 */
import { type DenseOperator, type Digit, isMxFormat, weightBits } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import { gemvFits, gemvPlan, gemvTunables } from './dense-gemv.js';
import { unitK } from './dense-template.js';
import { thinPlan, thinTunables } from './dense-thin.js';
import type { KernelPlan, Tuning } from './kernel.js';

/** A dense operator before its layouts are chosen. */
export type DenseShape = Omit<DenseOperator, 'weightLayout' | 'scaleLayout'>;

/** Weight rows of a tile: the rows of the tensor cores' A operand. */
const kTileRows = 16;

const k = (stride: number, size: number): Digit => ({ axis: 'k', stride, size });
const n = (stride: number, size: number): Digit => ({ axis: 'n', stride, size });

/**
 * Layouts in the order in which the kernels consume: 16-row tiles, each contiguous over k; within, units of what one warp reads
 * at once, drawn in native/kernels/common/decode.cuh. n is padded to whole tiles; with silu_mul a tile holds eight gate rows and
 * their eight up rows.
 * @throws LadderError `UNSUPPORTED` naming the dimension that no kernel handles
 */
export function denseLayouts(shape: DenseShape): { weightLayout: readonly Digit[]; scaleLayout: readonly Digit[] | null } {
  checkShape(shape);
  const silu = shape.function === 'silu_mul';
  const tile = n(silu ? 8 : kTileRows, Math.ceil(shape.n / kTileRows));
  /** Rows g and g + 8 of a tile. */
  const half = n(silu ? shape.n / 2 : 8, 2);
  const row = n(1, 8);
  const weightLayout = ((): Digit[] => {
    switch (shape.weight) {
      case 'fp16': return [tile, k(32, shape.k / 32), half, row, k(8, 4), k(1, 8)];
      case 'int4': return [tile, k(64, shape.k / 64), row, k(8, 4), k(32, 2), half, k(1, 2), k(2, 4)];
      case 'nf4': return [tile, k(64, shape.k / 64), row, k(8, 4), k(32, 2), half, k(1, 8)];
      case 'int1': return [tile, k(256, shape.k / 256), row, k(16, 4), k(128, 2), half, k(1, 4), k(64, 2), k(4, 4)];
      default: return [tile, k(32, shape.k / 32), row, k(8, 4), half, k(1, 8)];
    }
  })();
  return { weightLayout, scaleLayout: shape.group === -1 ? null : [tile, k(1, shape.k / shape.group), row, half] };
}

/**
 * Plans the kernel of a dense operator.
 * @param name C identifier that the kernel's name begins with
 * @throws LadderError `UNSUPPORTED` naming the dimension that no kernel handles, `BAD_ARGUMENT` for a tuning that does not fit
 */
export function planDense(operator: DenseOperator, name: string, tuning: Tuning): KernelPlan {
  checkShape(operator);
  const { weightLayout, scaleLayout } = denseLayouts(operator);
  if (JSON.stringify([weightLayout, scaleLayout]) !== JSON.stringify([operator.weightLayout, operator.scaleLayout])) {
    throw unsupported('weightLayout', 'no kernel reads this layout; take the one that denseLayouts() gives');
  }
  return holdsToken(operator) ? gemvPlan(operator, name, tuning) : thinPlan(operator, name, tuning);
}

/** Tunings worth trying, the default first. */
export function denseTunables(operator: DenseOperator): readonly Tuning[] {
  checkShape(operator);
  return holdsToken(operator) ? gemvTunables(operator) : thinTunables(operator);
}

/** One token goes to the kernel that holds its activations, unless they are too many and need no preparation. */
function holdsToken(operator: DenseOperator): boolean {
  return operator.m === 1 && (operator.activation !== 'fp16' || operator.norm.kind !== 'none' || gemvFits(operator));
}

function unsupported(dimension: string, message: string): LadderError {
  return new LadderError('UNSUPPORTED', `dense product, \`${dimension}\`: ${message}`, { dimension });
}

function checkShape(shape: DenseShape): void {
  const { m, weight, activation, group } = shape;
  if (m > 64) throw unsupported('m', `expected at most 64 tokens but received ${m}`);
  if (shape.function === 'silu_mul' && shape.n % kTileRows !== 0) throw unsupported('n', `expected a multiple of ${kTileRows} with silu_mul but received ${shape.n}`);
  const unit = Math.max(unitK(weight), group);
  if (shape.k % unit !== 0) throw unsupported('k', `expected a multiple of ${unit} for ${weight}${group > 0 ? ` with groups of ${group}` : ''} but received ${shape.k}`);
  const wanted = weight === 'int1' ? 'int8' : weight.includes('fp8') ? weight : 'fp16';
  if (activation !== wanted) throw unsupported('activation', `expected ${wanted} with ${weight} weights but received ${activation}`);
  const groups: readonly number[] = isMxFormat(weight) ? [32] : weightBits(weight) === 4 ? [-1, 64, 128] : [-1];
  if (!groups.includes(group)) throw unsupported('group', `expected ${groups.join(' or ')} for ${weight} but received ${group}`);
  if (shape.input === 'quantised' && activation === 'fp16') throw unsupported('input', 'fp16 activations do not come quantised');
  if (shape.input === 'quantised' && shape.norm.kind !== 'none') throw unsupported('norm', 'a norm goes before the quantisation');
  if (m > 1 && shape.norm.kind !== 'none') throw unsupported('norm', `fused for one token only, not for m = ${m}`);
  if (m > 1 && shape.input === 'fp16' && activation !== 'fp16') throw unsupported('input', `activations are quantised in the product for one token only, not for m = ${m}`);
}

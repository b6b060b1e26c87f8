/**
 * Plans the dense decoding products (m ≤ 64): the layout in which each format's weights are stored, which kernel runs, and
 * its tuning. The kernels are native/kernels/matmul; what they compute is denseSchema's. Layouts depend on format, function and
 * kernel alone, never on the tuning, so that tuning anew needs no repacking.
 */
import { type DenseOperator, type Digit, isMxFormat, weightBits } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import { gemvFits, gemvPlan, gemvTunables } from './dense-gemv.js';
import { type DenseShape, kPairRows, kTileRows, unitK } from './dense-template.js';
import { thinPlan, thinTunables } from './dense-thin.js';
import { warpgroupPlan, warpgroupTunables } from './dense-warpgroup.js';
import { pairedActivation, scaleGroups } from './formats.js';
import type { KernelPlan, Tuning, WeightRuns } from './kernel.js';

/** How a dense product is planned, and what its layouts are for. */
interface DenseKernel {
  readonly plan: (operator: DenseOperator, name: string, tuning: Tuning, next: WeightRuns | null) => KernelPlan;
  readonly tunables: (operator: DenseOperator) => readonly Tuning[];
  /** Tiles in pairs, and k in the order of wgmma's operands (native/kernels/formats/decode.cuh). */
  readonly paired: boolean;
}

const kGemv: DenseKernel = { plan: gemvPlan, tunables: gemvTunables, paired: false };
const kThin: DenseKernel = { plan: thinPlan, tunables: thinTunables, paired: false };
const kWarpgroup: DenseKernel = { plan: warpgroupPlan, tunables: warpgroupTunables, paired: true };

const k = (stride: number, size: number): Digit => ({ axis: 'k', stride, size });
const n = (stride: number, size: number): Digit => ({ axis: 'n', stride, size });

/**
 * Layouts in the order in which the kernels consume: 16-row tiles, each contiguous over k, or pairs of them; within, units of what
 * one warp reads at once, drawn in native/kernels/formats/decode.cuh. n is padded to whole tiles or pairs; with silu_mul a tile
 * holds eight gate rows and their eight up rows.
 * @throws LadderError `UNSUPPORTED` naming the dimension that no kernel handles
 */
export function denseLayouts(shape: DenseShape): { weightLayout: readonly Digit[]; scaleLayout: readonly Digit[] | null } {
  const { paired } = kernelOf(shape);
  const silu = shape.function === 'silu_mul';
  const tileRows = silu ? kTileRows / 2 : kTileRows;
  const pairs = Math.ceil(shape.n / kPairRows);
  const tile = n(tileRows, paired ? 2 * pairs : Math.ceil(shape.n / kTileRows));
  /** Rows g and g + 8 of a tile. */
  const half = n(silu ? shape.n / 2 : 8, 2);
  const row = n(1, 8);
  const units = k(unitK(shape.weight), shape.k / unitK(shape.weight));
  const [first, second] = paired ? [n(2 * tileRows, pairs), [units, n(tileRows, 2)]] : [tile, [units]];
  const unit = ((): Digit[] => {
    switch (shape.weight) {
      case 'fp16': return [half, row, k(8, 4), k(1, 8)];
      case 'int4': return paired ? [row, k(2, 4), k(32, 2), half, k(1, 2), k(8, 4)] : [row, k(8, 4), k(32, 2), half, k(1, 2), k(2, 4)];
      case 'nf4': return paired ? [row, k(2, 4), k(32, 2), half, k(8, 4), k(1, 2)] : [row, k(8, 4), k(32, 2), half, k(1, 8)];
      case 'int1': return paired ? [row, k(4, 4), k(128, 2), half, k(1, 4), k(64, 2), k(16, 4)] : [row, k(16, 4), k(128, 2), half, k(1, 4), k(64, 2), k(4, 4)];
      default: return paired ? [row, k(2, 4), k(16, 2), half, k(1, 2), k(8, 2)] : [row, k(8, 4), half, k(1, 8)];
    }
  })();
  return { weightLayout: [first, ...second, ...unit], scaleLayout: shape.group === -1 ? null : [tile, k(1, shape.k / shape.group), row, half] };
}

/**
 * Plans the kernel of a dense operator.
 * @param name C identifier that the kernel's name begins with
 * @param next where the product after this one begins to read, where `prefetch` says that there is one
 * @throws LadderError `UNSUPPORTED` naming the dimension that no kernel handles, `BAD_ARGUMENT` for a tuning that does not fit
 */
export function planDense(operator: DenseOperator, name: string, tuning: Tuning, next: WeightRuns | null = null): KernelPlan {
  const { weightLayout, scaleLayout } = denseLayouts(operator);
  if (JSON.stringify([weightLayout, scaleLayout]) !== JSON.stringify([operator.weightLayout, operator.scaleLayout])) {
    throw unsupported('weightLayout', 'no kernel reads this layout; take the one that denseLayouts() gives');
  }
  if ((operator.prefetch === undefined) !== (next === null)) throw new LadderError('INTERNAL', `${name} has weights to read ahead, or a place to begin there, but not both`);
  return kernelOf(operator).plan(operator, name, tuning, next);
}

/** Tunings worth trying, the default first. */
export function denseTunables(operator: DenseOperator): readonly Tuning[] {
  return kernelOf(operator).tunables(operator);
}

/**
 * One token goes to the kernel that holds its activations, unless they are too many and need no preparation. More tokens:
 * weights of less than a byte, and MX, whose scales are multiplied in, are decoded for warpgroups.
 * @throws LadderError `UNSUPPORTED`
 */
function kernelOf(shape: DenseShape): DenseKernel {
  checkShape(shape);
  if (shape.m === 1 && (shape.activation !== 'fp16' || shape.norm.kind !== 'none' || gemvFits(shape))) return kGemv;
  if (weightBits(shape.weight) >= 8 && !isMxFormat(shape.weight)) return kThin;
  if (isMxFormat(shape.weight) && shape.k % 64 !== 0) throw unsupported('k', `expected a multiple of 64 with ${shape.weight} weights and ${shape.m} tokens but received ${shape.k}`);
  if (shape.function === 'silu_mul' && shape.n % kPairRows !== 0) {
    throw unsupported('n', `expected a multiple of ${kPairRows} with silu_mul, ${shape.weight} weights and ${shape.m} tokens but received ${shape.n}`);
  }
  return kWarpgroup;
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
  const wanted = pairedActivation(weight);
  if (activation !== wanted) throw unsupported('activation', `expected ${wanted} with ${weight} weights but received ${activation}`);
  const groups = scaleGroups(weight);
  if (!groups.includes(group)) throw unsupported('group', `expected ${groups.join(' or ')} for ${weight} but received ${group}`);
  if (shape.input === 'quantised' && activation === 'fp16') throw unsupported('input', 'fp16 activations do not come quantised');
  if (shape.input === 'quantised' && shape.norm.kind !== 'none') throw unsupported('norm', 'a norm goes before the quantisation');
  if (m > 1 && shape.norm.kind !== 'none') throw unsupported('norm', `fused for one token only, not for m = ${m}`);
  if (m > 1 && shape.input === 'fp16' && activation !== 'fp16') throw unsupported('input', `activations are quantised in the product for one token only, not for m = ${m}`);
}

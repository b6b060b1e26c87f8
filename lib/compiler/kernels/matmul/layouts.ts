/**
 * The order in which the decoding products' weights are stored. It depends on format, function and kernel alone, never on the
 * tuning, so that tuning anew needs no repacking.
 */
import type { LayoutDigit } from '../../../native.js';
import { isSameLayout } from '../../../operators/layout.js';
import type { Program } from '../../../operators/program.js';
import { Refusal, type Storage } from '../family.js';
import { kPairRows, kTileRows, unitK } from './template.js';
import type { DenseMatch, DenseShape } from './shape.js';

const k = (stride: number, size: number): LayoutDigit => ({ axis: 'k', stride, size });
const n = (stride: number, size: number): LayoutDigit => ({ axis: 'n', stride, size });

/**
 * Layouts in the order in which the kernels consume: 16-row tiles, each contiguous over k, or pairs of them; within, units of what
 * one warp reads at once, drawn in native/kernels/formats/decode.cuh. n is padded to whole tiles or pairs; with silu_mul a tile
 * holds eight gate rows and their eight up rows.
 * @param paired tiles in pairs, and k in the order of wgmma's operands
 */
export function denseLayouts(
  shape: DenseShape,
  paired: boolean,
): { readonly weightLayout: readonly LayoutDigit[]; readonly scaleLayout: readonly LayoutDigit[] | null } {
  const silu = shape.function === 'silu_mul';
  const tileRows = silu ? kTileRows / 2 : kTileRows;
  const pairs = Math.ceil(shape.n / kPairRows);
  const tile = n(tileRows, paired ? 2 * pairs : Math.ceil(shape.n / kTileRows));
  /** Rows g and g + 8 of a tile. */
  const half = n(silu ? shape.n / 2 : 8, 2);
  const row = n(1, 8);
  const units = k(unitK(shape.weight), shape.k / unitK(shape.weight));
  const [first, second] = paired ? [n(2 * tileRows, pairs), [units, n(tileRows, 2)]] : [tile, [units]];
  const unit = ((): LayoutDigit[] => {
    switch (shape.weight) {
      case 'fp16':
        return [half, row, k(8, 4), k(1, 8)];
      case 'int4':
        return paired ? [row, k(2, 4), k(32, 2), half, k(1, 2), k(8, 4)] : [row, k(8, 4), k(32, 2), half, k(1, 2), k(2, 4)];
      case 'nf4':
        return paired ? [row, k(2, 4), k(32, 2), half, k(8, 4), k(1, 2)] : [row, k(8, 4), k(32, 2), half, k(1, 8)];
      case 'int1':
        return paired
          ? [row, k(4, 4), k(128, 2), half, k(1, 4), k(64, 2), k(16, 4)]
          : [row, k(16, 4), k(128, 2), half, k(1, 4), k(64, 2), k(4, 4)];
      default:
        return paired ? [row, k(2, 4), k(16, 2), half, k(1, 2), k(8, 2)] : [row, k(8, 4), half, k(1, 8)];
    }
  })();
  return {
    weightLayout: [first, ...second, ...unit],
    scaleLayout: shape.group === -1 ? null : [tile, k(1, shape.k / shape.group), row, half],
  };
}

/** A match whose weights, where their stored orders are known already, are stored as `storage` says. */
export function withStorage<M>({ values }: Program, match: M, storage: ReadonlyMap<number, Storage>): M | Refusal {
  const isOther = (given: Storage['layout'], own: Storage['layout']): boolean => given !== undefined && !isSameLayout(given, own);
  const isElsewhere = ([weight, wanted]: readonly [number, Storage]): boolean => {
    const { layout, scaleLayout } = values[weight]!;
    return isOther(layout, wanted.layout) || isOther(scaleLayout, wanted.scaleLayout);
  };
  return [...storage].some(isElsewhere) ? new Refusal('layout', 'expected weights and scales in the order of the kernel') : match;
}

/** The same for the values of a matched program. */
export function denseStorage({ shape, weight }: DenseMatch, paired: boolean): ReadonlyMap<number, Storage> {
  const { weightLayout, scaleLayout } = denseLayouts(shape, paired);
  return new Map([[weight, { layout: { digits: weightLayout }, ...(scaleLayout && { scaleLayout: { digits: scaleLayout } }) }]]);
}

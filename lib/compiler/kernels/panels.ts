/**
 * Panels: the stored order of activations that tensor cores read in large tiles. 128 bytes of the channels for all rows, then the
 * next 128; in a panel 8 rows × 16 bytes lie together, which is a core matrix of wgmma (no swizzle) and of ldmatrix, so that a tile's
 * share of a panel is one run of memory. Rows are padded to a multiple of 8.
 */
import { isSameLayout } from '../../operators/layout.js';
import { cellBits, type Layout, type Value } from '../../operators/program.js';
import type { Storage } from './family.js';

/** Bytes of a row in a panel. */
export const kPanelBytes = 128;
/** Rows of a core matrix: panels have a multiple of them. */
const kMatrixRows = 8;
/** Pieces of 16 bytes that a row has in a panel. */
const kPieces = 8;

/** Channels in a panel: 64 of float16, 128 of a byte. */
export function panelChannels({ type }: Pick<Value, 'type'>): number {
  return (kPanelBytes * 8) / cellBits(type);
}

/** The order for a matrix of activations; null where its channels do not fill panels. */
export function panelLayout(value: Pick<Value, 'axes' | 'type'>): Layout | null {
  const [rows, channels, ...others] = value.axes;
  const panel = panelChannels(value);
  if (!rows || !channels || others.length > 0 || channels.extent % panel !== 0) return null;
  const piece = panel / kPieces;
  return {
    digits: [
      { axis: channels.name, stride: panel, size: channels.extent / panel },
      { axis: rows.name, stride: kMatrixRows, size: Math.ceil(rows.extent / kMatrixRows) },
      { axis: channels.name, stride: piece, size: kPieces },
      { axis: rows.name, stride: 1, size: kMatrixRows },
      { axis: channels.name, stride: 1, size: piece },
    ],
  };
}

/** Whether a value's own layout is that order. */
export function isInPanels(value: Value): boolean {
  return value.layout !== undefined && isSameLayout(value.layout, panelLayout(value));
}

/** Whether a storage asks for that order, and no order of scales. */
export function isPanelStorage({ layout, scaleLayout }: Storage, panels: Layout | null): boolean {
  return panels !== null && scaleLayout === undefined && isSameLayout(layout, panels);
}

/** Tunings. */
import type { TileShape, TileTuning } from './tile-kernel.js';
export const tileTunings: readonly TileTuning[] = [];
export const portableTunings: readonly TileTuning[] = [];
export function defaultTuning(_shape: TileShape, hopper: boolean, _processors: number): TileTuning {
  return { rows: 128, outputs: 128, warpRows: 64, warpOutputs: 64, stages: 3, split: 1, resident: hopper ? 2 : 1, wgmma: 0 };
}

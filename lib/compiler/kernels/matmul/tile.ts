/**
 * native/kernels/matmul/tile: products of many rows in tiles, dense and as implicit products of convolutions, with whatever elementwise
 * steps follow them; by wgmma on sm_90a, by mma.sync elsewhere.
 */
import { isMx, weightFormat } from '../../../formats/index.js';
import type { Target } from '../../targets.js';
import { defineFamily, Refusal, type Storage } from '../family.js';
import type { KernelPlan, Tuning } from '../plan.js';
import { withStorage } from './layouts.js';
import { contractedOf, rowsOf, type TileShape, type TileTuning, tileKernel, tileLayouts, tileMisfit } from './tile-kernel.js';
import { matchTile, type TileMatch } from './tile-shape.js';
import { defaultTuning, portableTunings, tileTunings } from './tile-tunings.js';

/** Rows from which on tiles are not mostly empty. */
const kLeastRows = 17;

function storageOf({ shape, weight }: TileMatch): ReadonlyMap<number, Storage> {
  const { weightLayout, scaleLayout } = tileLayouts({ ...shape, k: contractedOf(shape) });
  return new Map([[weight, { layout: { digits: weightLayout }, ...(scaleLayout && { scaleLayout: { digits: scaleLayout } }) }]]);
}

/** What a target's multiprocessors are, and whether they have wgmma and clusters. */
function deviceOf({ capability }: Target): { readonly processors: number; readonly hopper: boolean } {
  const hopper = capability?.[0] === 9;
  return { processors: hopper ? 132 : 108, hopper };
}

function complete(shape: TileShape, given: Tuning, target: Target): TileTuning {
  const { hopper, processors } = deviceOf(target);
  return { ...defaultTuning(shape, hopper, processors), ...given };
}

function plan({ shape, operands }: TileMatch, name: string, given: Tuning, target: Target): KernelPlan {
  const kernel = tileKernel(shape, name, complete(shape, given, target), deviceOf(target).processors);
  return {
    includes: [kernel.header],
    definitions: kernel.text,
    launches: [
      {
        name,
        grid: [kernel.blocks, 1, 1],
        block: [kernel.threads, 1, 1],
        dynamicSharedBytes: kernel.sharedBytes,
        arguments: kernel.members.map((member) => operands[member]!),
        programmatic: true,
      },
    ],
    workspaceBytes: 0,
  };
}

export const tile = defineFamily<TileMatch>({
  id: 'matmul/tile',
  version: 1,
  accepts(program) {
    const match = matchTile(program);
    if (match instanceof Refusal) return match;
    if (rowsOf(match.shape) < kLeastRows)
      return new Refusal('m', `expected at least ${kLeastRows} rows but received ${rowsOf(match.shape)}`);
    return withStorage(program, match, storageOf(match));
  },
  storage: storageOf,
  configurations({ shape }, target) {
    const { hopper, processors } = deviceOf(target);
    const tunings = hopper && !isMx(weightFormat(shape.weight)) ? tileTunings : portableTunings;
    return [defaultTuning(shape, hopper, processors), ...tunings].filter((tuning) => tileMisfit(shape, tuning) === null).map((tuning) => ({ ...tuning }));
  },
  key(match) {
    return match.toString();
  },
  plan: (match, name, tuning, { target }) => plan(match, name, tuning, target),
});

/**
 * native/kernels/matmul/tile: products of many rows in tiles, dense and as implicit products of convolutions, with whatever elementwise
 * steps follow them; by wgmma on sm_90a, by mma.sync elsewhere.
 */
import type { Program } from '../../../operators/program.js';
import type { Target } from '../../targets.js';
import { defineFamily, Refusal, type Storage } from '../family.js';
import type { KernelPlan, Tuning } from '../plan.js';
import { resultsKey } from '../results.js';
import { withStorage } from './layouts.js';
import { kSlabWgmma, slabKernel } from './slab-kernel.js';
import { stemKernel, stemLayout } from './stem-kernel.js';
import {
  contractedOf,
  rowsOf,
  type TileKernel,
  type TileShape,
  type TileTuning,
  tileKernel,
  tileLayouts,
  tilePlan,
} from './tile-kernel.js';
import { matchTwo } from './tile-second.js';
import { kLeastRows, kMostWeights, matchTile, type TileMatch } from './tile-shape.js';
import { defaultTuning, tuningsToTry } from './tile-tunings.js';

function storageOf({ shape, weight, weight2, stem }: TileMatch): ReadonlyMap<number, Storage> {
  if (stem) return new Map([[weight, { layout: { digits: stemLayout(shape) } }]]);
  const stored = (k: number): Storage => {
    const { weightLayout, scaleLayout } = tileLayouts({ ...shape, k });
    return { layout: { digits: weightLayout }, ...(scaleLayout && { scaleLayout: { digits: scaleLayout } }) };
  };
  return new Map([
    [weight, stored(contractedOf(shape))],
    ...(weight2 === undefined ? [] : ([[weight2, stored(shape.second!.channels)]] as const)),
  ]);
}

/** Whether another family's kernels are better for a dense product of such sizes. */
function isOthers({ shape, kind }: TileMatch): boolean {
  return (kind === 'dense' || shape.patches) && (rowsOf(shape) < kLeastRows || shape.n * contractedOf(shape) >= kMostWeights);
}

function accepts(program: Program): TileMatch | Refusal {
  const match = matchTwo(program) ?? matchTile(program);
  if (match instanceof Refusal) return match;
  const { shape } = match;
  if (isOthers(match))
    return new Refusal(
      'm',
      `expected at least ${kLeastRows} rows and fewer than ${kMostWeights} weights but received ${rowsOf(shape)} and ${shape.n * contractedOf(shape)}`,
    );
  return withStorage(program, match, storageOf(match));
}

/** What a target's multiprocessors are, and whether they have wgmma and clusters. */
function deviceOf({ capability }: Target): { readonly processors: number; readonly hopper: boolean } {
  const hopper = capability?.[0] === 9;
  return { processors: hopper ? 132 : 108, hopper };
}

/** A tuning by wgmma is none for a target without it, which has its default. */
function complete(shape: TileShape, given: Tuning, target: Target): TileTuning {
  const { hopper, processors } = deviceOf(target);
  return { ...defaultTuning(shape, hopper, processors), ...((given['wgmma'] ?? 0) > 0 && !hopper ? {} : given) };
}

function plan({ shape, operands, stem }: TileMatch, name: string, given: Tuning, target: Target): KernelPlan {
  const { processors } = deviceOf(target);
  const kernelOf = (tuning: TileTuning): TileKernel =>
    (tuning.wgmma === kSlabWgmma ? slabKernel : tileKernel)(shape, name, tuning, processors);
  const kernel = stem ? stemKernel(shape, name, stem, processors) : kernelOf(complete(shape, given, target));
  return tilePlan(kernel, name, operands);
}

export const tile = defineFamily<TileMatch>({
  id: 'matmul/tile',
  version: 1,
  accepts,
  storage: storageOf,
  configurations({ shape, stem }, target) {
    if (stem) return [{}];
    const { hopper, processors } = deviceOf(target);
    return tuningsToTry(shape, hopper, processors).map((tuning) => ({ ...tuning }));
  },
  key: ({ shape, after, stem }) => {
    const { height, width, kernelY, kernelX, strideY, paddingY, paddingX, weight, activation, xScale, second } = shape;
    const image =
      kernelY * kernelX * strideY > 1
        ? [`image=${height}x${width} kernel=${kernelY}x${kernelX} stride=${strideY} around=${paddingY}x${paddingX}`]
        : [];
    return [
      `m=${rowsOf(shape)} n=${shape.n} k=${contractedOf(shape)}`,
      ...image,
      `w=${weight} x=${activation}${xScale === 'one' ? ' per tensor' : ''}`,
      ...(shape.patches ? ['x=patches'] : stem ? ['x=planes', ...(stem.pooled ? ['pooled'] : [])] : []),
      ...(second ? [`+ k=${second.channels} image=${second.height}x${second.width} stride=${second.stride}`] : []),
      ...(after.length > 0 ? [`post=${after.join('+')}`] : []),
      ...resultsKey(shape),
    ].join(' ');
  },
  plan: (match, name, tuning, { target }) => plan(match, name, tuning, target),
});

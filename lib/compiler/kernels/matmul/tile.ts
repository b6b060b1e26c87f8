/**
 * native/kernels/matmul/tile: products of many rows in tiles, dense and as implicit products of convolutions, with whatever elementwise
 * steps follow them; by wgmma on sm_90a, by mma.sync elsewhere.
 */
import type { Target } from '../../targets.js';
import { defineFamily, Refusal, type Storage } from '../family.js';
import type { KernelPlan, Tuning } from '../plan.js';
import { resultsKey } from '../results.js';
import { withStorage } from './layouts.js';
import { stemKernel, stemLayout } from './stem-kernel.js';
import { contractedOf, rowsOf, type TileShape, type TileTuning, tileKernel, tileLayouts, tilePlan } from './tile-kernel.js';
import { kLeastRows, kMostWeights, matchTile, type TileMatch } from './tile-shape.js';
import { defaultTuning, tileCandidates } from './tile-tunings.js';

function storageOf({ shape, weight, stem }: TileMatch): ReadonlyMap<number, Storage> {
  if (stem) return new Map([[weight, { layout: { digits: stemLayout(shape) } }]]);
  const { weightLayout, scaleLayout } = tileLayouts({ ...shape, k: contractedOf(shape) });
  return new Map([[weight, { layout: { digits: weightLayout }, ...(scaleLayout && { scaleLayout: { digits: scaleLayout } }) }]]);
}

/** What a target's multiprocessors are, and whether they have wgmma and clusters. */
function deviceOf({ capability }: Target): { readonly processors: number; readonly hopper: boolean } {
  const hopper = capability?.[0] === 9;
  return { processors: hopper ? 132 : 108, hopper };
}

/** A tuning by wgmma is none for a target without it, which has its default. */
function complete(shape: TileShape, given: Tuning, target: Target): TileTuning {
  const { hopper, processors } = deviceOf(target);
  return { ...defaultTuning(shape, hopper, processors), ...(given['wgmma'] === 1 && !hopper ? {} : given) };
}

function plan({ shape, operands, stem }: TileMatch, name: string, given: Tuning, target: Target): KernelPlan {
  const { processors } = deviceOf(target);
  const kernel = stem ? stemKernel(shape, name, stem, processors) : tileKernel(shape, name, complete(shape, given, target), processors);
  return tilePlan(kernel, name, operands);
}

export const tile = defineFamily<TileMatch>({
  id: 'matmul/tile',
  version: 1,
  accepts(program) {
    const match = matchTile(program);
    if (match instanceof Refusal) return match;
    const { shape } = match;
    if (
      (program.nodes[0]!.kind === 'dense' || shape.patches) &&
      (rowsOf(shape) < kLeastRows || shape.n * contractedOf(shape) >= kMostWeights)
    )
      return new Refusal(
        'm',
        `expected at least ${kLeastRows} rows and fewer than ${kMostWeights} weights but received ${rowsOf(shape)} and ${shape.n * contractedOf(shape)}`,
      );
    return withStorage(program, match, storageOf(match));
  },
  storage: storageOf,
  configurations({ shape, stem }, target) {
    if (stem) return [{}];
    const { hopper, processors } = deviceOf(target);
    const first = defaultTuning(shape, hopper, processors);
    return [first, ...tileCandidates(shape, hopper)].map((tuning) => ({ ...tuning }));
  },
  key: ({ shape, after, stem }) => {
    const { height, width, kernelY, kernelX, strideY, paddingY, paddingX, weight, activation, xScale } = shape;
    const image =
      kernelY * kernelX * strideY > 1
        ? [`image=${height}x${width} kernel=${kernelY}x${kernelX} stride=${strideY} around=${paddingY}x${paddingX}`]
        : [];
    return [
      `m=${rowsOf(shape)} n=${shape.n} k=${contractedOf(shape)}`,
      ...image,
      `w=${weight} x=${activation}${xScale === 'one' ? ' per tensor' : ''}`,
      ...(shape.patches ? ['x=patches'] : stem ? ['x=planes', ...(stem.pooled ? ['pooled'] : [])] : []),
      ...(after.length > 0 ? [`post=${after.join('+')}`] : []),
      ...resultsKey(shape),
    ].join(' ');
  },
  plan: (match, name, tuning, { target }) => plan(match, name, tuning, target),
});

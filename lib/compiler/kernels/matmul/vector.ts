/**
 * Configurations of native/kernels/matmul/vector/gemv.cuh (one token): defaults, candidates for the tuner, generated text, and the
 * shared memory that a configuration takes, mirrored from the kernel (the generated text asserts that both agree).
 */
import { LadderError } from '../../../errors.js';
import { Refusal } from '../family.js';
import {
  activationBytes,
  alignShared,
  densePlan,
  fittingTunings,
  isMxWeight,
  kBlocksByCluster,
  kNf4TableBytes,
  kSharedBudgetBytes,
  kSharedLimitBytes,
  kSharedPortableBytes,
  kTileRows,
  ringBytes,
  type RingSizes,
  scaleBytesPerUnit,
  stagesWithin,
  tileRuns,
  unitBytes,
  unitK,
} from './template.js';
import type { KernelPlan, Tuning, WeightRuns } from '../plan.js';
import { denseFamily } from './dense-family.js';
import type { DenseMatch, DenseShape } from './shape.js';

interface GemvTuning {
  readonly blocks: number;
  readonly warps: number;
  readonly stageUnits: number;
  readonly stages: number;
  readonly prefetchBytes: number;
}

/** Shared memory beside the ring, and of one stage. */
function sharedBytes(operator: DenseShape, { blocks, warps, stageUnits }: Pick<GemvTuning, 'blocks' | 'warps' | 'stageUnits'>): RingSizes {
  const { weight, n, k } = operator;
  const maxTiles = Math.ceil(Math.ceil(n / 16) / blocks);
  const activations = alignShared(k * activationBytes(weight) + (isMxWeight(weight) ? k / 32 : 0));
  return {
    stage: alignShared(stageUnits * (unitBytes(weight) + scaleBytesPerUnit(operator))),
    fixed:
      (weight === 'nf4' ? kNf4TableBytes : 0) +
      activations +
      (weight === 'int1' ? k : 0) +
      maxTiles * warps * 64 +
      alignShared(4 * warps * 4),
  };
}

function totalBytes(operator: DenseShape, tuning: GemvTuning): number {
  return ringBytes(sharedBytes(operator, tuning), tuning.stages);
}

/** Warps, and units of a stage for each: tiles end where stages end if possible, and a stage has 16 KB of weights. */
function warpsAndUnits(operator: DenseShape): readonly [number, number] {
  const units = operator.k / unitK(operator.weight);
  // More warps hide the latency of the table (NF4), of the prologue (INT1, which is over soonest).
  const many = operator.weight === 'nf4' || operator.weight === 'int1';
  const perWarp = many ? [2, 1] : operator.weight === 'fp16' ? [2, 1] : [4, 2];
  for (const warps of many ? [16, 14, 8] : [8, 14, 16]) {
    for (const each of perWarp) if (units % (warps * each) === 0) return [warps, each];
  }
  return [8, perWarp[0]!];
}

function defaults(operator: DenseShape, given: Tuning): GemvTuning {
  const [bestWarps, unitsPerWarp] = warpsAndUnits(operator);
  const blocks = given['blocks'] ?? Math.min(kBlocksByCluster[1]!, Math.ceil(operator.n / 16));
  const warps = given['warps'] ?? bestWarps;
  const stageUnits = given['stageUnits'] ?? unitsPerWarp * warps;
  const fitting = stagesWithin(kSharedBudgetBytes, sharedBytes(operator, { blocks, warps, stageUnits }));
  return {
    blocks,
    warps,
    stageUnits,
    stages: given['stages'] ?? Math.max(2, Math.min(8, fitting)),
    prefetchBytes: given['prefetchBytes'] ?? 65536,
  };
}

/** Whether a token's activations, two stages and what else it takes fit on any GPU since compute capability 8.0. */
function fits(operator: DenseShape): boolean {
  return totalBytes(operator, defaults(operator, {})) <= kSharedPortableBytes;
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit the operator or the shared memory */
function plan(match: DenseMatch, name: string, given: Tuning, next: WeightRuns | null): KernelPlan {
  const operator = match.shape;
  const tuning = defaults(operator, given);
  const { blocks, warps, stageUnits, stages, prefetchBytes } = tuning;
  const shared = totalBytes(operator, tuning);
  if (stageUnits % warps !== 0 || blocks > Math.ceil(operator.n / 16) || shared > kSharedLimitBytes) {
    throw new LadderError(
      'BAD_ARGUMENT',
      `tuning of ${name} does not fit: ${shared} bytes of shared memory (at most ${kSharedLimitBytes}), ${stageUnits} units in a stage for ${warps} warps, ${blocks} blocks`,
      { ...tuning },
    );
  }
  return densePlan(
    match,
    name,
    {
      header: 'matmul/vector/gemv.cuh',
      kernel: 'gemv',
      type: 'Gemv',
      blocks,
      cluster: 1,
      threads: (warps + 1) * 32,
      sharedBytes: shared,
      constants: [
        `static constexpr int kBlocks = ${blocks}, kWarps = ${warps}, kStageUnits = ${stageUnits}, kStages = ${stages}, kPrefetchBytes = ${prefetchBytes};`,
      ],
      reads: { ...tileRuns(operator, kTileRows, 1), runs: blocks },
    },
    next,
  );
}

/** Candidates for the tuner, the default first; all fit. */
function configurations(operator: DenseShape): readonly Tuning[] {
  const perWarp = operator.weight === 'fp16' ? [1, 2] : [2, 4];
  const shapes = [8, 16].flatMap((warps) => perWarp.map((units) => ({ warps, stageUnits: warps * units })));
  const given = [{}, { prefetchBytes: 0 }, { prefetchBytes: 131072 }, ...shapes, { stages: 3 }] as readonly Tuning[];
  return fittingTunings(
    given,
    (one) => defaults(operator, one),
    (tuning) => totalBytes(operator, tuning) <= kSharedLimitBytes,
  );
}

/** One token, whose activations lie in each block's shared memory: with norm and quantisation before the product. */
export const vector = denseFamily({
  id: 'matmul/vector',
  version: 1,
  paired: false,
  refuse(shape) {
    if (shape.m !== 1) return new Refusal('m', `expected one token but received ${shape.m}`);
    return fits(shape) ? null : new Refusal('k', `a token of ${shape.k} ${shape.activation} activations does not fit in shared memory`);
  },
  configurations,
  plan,
});

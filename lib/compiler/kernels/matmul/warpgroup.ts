/**
 * Configurations of native/kernels/matmul/thin/warpgroup.cuh (weights of 4 or 1 bits, or MX; 2 to 64 tokens, or one whose activations
 * gemv.cuh cannot hold): defaults, candidates for the tuner, generated text, and the shared memory that a configuration takes,
 * mirrored from the kernel (the generated text asserts that both agree).
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
  kFragmentBytes,
  kNf4TableBytes,
  kPairRows,
  kSharedBudgetBytes,
  kSharedLimitBytes,
  ringBytes,
  type RingSizes,
  scaleBytesPerUnit,
  stagesWithin,
  tileRuns,
  unitBytes,
  unitK,
  unitsPerScale,
  weightBits,
} from './template.js';
import type { KernelPlan, Tuning, WeightRuns } from '../plan.js';
import { denseFamily } from './dense-family.js';
import { type DenseMatch, type DenseShape, refusePrologue } from './shape.js';

interface WarpgroupTuning {
  readonly blocks: number;
  readonly cluster: number;
  readonly passPairs: number;
  readonly groupsN: number;
  readonly groupsK: number;
  readonly stageUnits: number;
  readonly stages: number;
  readonly prefetchStages: number;
}

/** Registers of a multiprocessor, and what a thread of the producers keeps of them. */
const kRegisters = 65536,
  kProducerRegisters = 56,
  kMxProducerRegisters = 104;
/** What a consumer needs beside its sums. */
const kOperandRegisters = 72;
/** With so many pairs to a block its tokens are few beside its weights, and sharing k is not worth an exchange of sums. */
const kManyPairs = 8;
/** A candidate: fewer blocks than an H100 has multiprocessors, among which the widest products' rows divide into whole tiles per warp. */
const kFewerBlocks = 112;
/** Registers of sums that a thread of two warpgroups can have. */
const kMostSums = 112;
/** A stage is fetched in pieces as large as possible, while the ring has three stages and k has some more. */
const kStageTargetBytes = 52 * 1024,
  kLeastStages = 3,
  kLeastStagesOfK = 8;

/** Units of a warp's step along k: MX weights become BF16, of which a block of tokens holds 64. */
function stepUnits(weight: string): number {
  return isMxWeight(weight) ? 2 : 1;
}

/** Groups of 8 tokens that wgmma takes here: 8, 16, 32 or 64 tokens. */
function tokenTiles(m: number): number {
  return m <= 8 ? 1 : m <= 16 ? 2 : m <= 32 ? 4 : 8;
}

/** 16-row tiles of each warp. */
function warpTiles({ passPairs, groupsN }: Pick<WarpgroupTuning, 'passPairs' | 'groupsN'>): number {
  return Math.ceil((2 * passPairs) / (4 * groupsN));
}

function sumsPerThread({ m }: DenseShape, tuning: Pick<WarpgroupTuning, 'passPairs' | 'groupsN'>): number {
  return warpTiles(tuning) * tokenTiles(m) * 4;
}

/** Bytes of one stage, and of what lies beside the ring. */
function sharedBytes(
  operator: DenseShape,
  { blocks, cluster, passPairs, groupsN, groupsK, stageUnits }: Omit<WarpgroupTuning, 'stages' | 'prefetchStages'>,
): RingSizes {
  const { weight, m, n, group, bias, input } = operator;
  const tokens = 8 * tokenTiles(m);
  const stage =
    stageUnits *
    (tokens * unitK(weight) * (isMxWeight(weight) ? 2 : activationBytes(weight)) +
      passPairs * 2 * (unitBytes(weight) + scaleBytesPerUnit(operator)));
  return {
    stage: Math.ceil(stage / 1024) * 1024,
    fixed:
      (weight === 'nf4' ? kNf4TableBytes : 0) +
      Math.floor(groupsK / 2) * 4 * groupsN * tokenTiles(m) * kFragmentBytes +
      (bias || group === -1 ? 2 * Math.ceil((Math.ceil(n / kPairRows) * cluster) / blocks) * 128 : 0) +
      (input === 'quantised' && !isMxWeight(weight) ? alignShared(tokens * 4) : 0) +
      16,
  };
}

function totalBytes(operator: DenseShape, tuning: WarpgroupTuning): number {
  return ringBytes(sharedBytes(operator, tuning), tuning.stages);
}

function blockThreads({ groupsN, groupsK }: WarpgroupTuning): number {
  return (groupsN * groupsK + 1) * 128;
}

/** Registers of a consumer, mirrored from warpgroup_block.cuh. */
function consumerRegisters({ weight }: DenseShape, tuning: WarpgroupTuning): number {
  const groups = blockThreads(tuning) / 128;
  const entry = Math.min(Math.floor(kRegisters / blockThreads(tuning) / 8) * 8, 248);
  const producers = Math.min(entry, isMxWeight(weight) ? kMxProducerRegisters : kProducerRegisters);
  return Math.min(Math.floor((entry * groups - producers) / (groups - 1) / 8) * 8, 240);
}

/** Why a tuning does not fit, or null. */
function misfit(operator: DenseShape, tuning: WarpgroupTuning): string | null {
  const { blocks, cluster, passPairs, groupsN, groupsK, stageUnits, stages } = tuning;
  const pairs = Math.ceil(operator.n / kPairRows),
    units = operator.k / unitK(operator.weight);
  if (blocks % cluster !== 0 || blocks / cluster > pairs) return `${blocks} blocks in clusters of ${cluster} for ${pairs} pairs of tiles`;
  if (units % (cluster * stageUnits) !== 0) return `${units} units of k for clusters of ${cluster} and stages of ${stageUnits}`;
  if ((groupsK & (groupsK - 1)) !== 0) return `${groupsK} warpgroups along k is no power of two`;
  if (stageUnits % (groupsK * stepUnits(operator.weight)) !== 0 || stageUnits % unitsPerScale(operator) !== 0)
    return `${stageUnits} units in a stage for ${groupsK} warpgroups along k`;
  if (blockThreads(tuning) > 1024 || stages < 2) return `${groupsN} × ${groupsK} warpgroups, ${stages} stages`;
  if (sumsPerThread(operator, tuning) + kOperandRegisters > consumerRegisters(operator, tuning))
    return `${passPairs} pairs of tiles at once for ${groupsN} × ${groupsK} warpgroups`;
  if (cluster > 1 && Math.ceil(pairs / (blocks / cluster)) > passPairs)
    return `clusters of ${cluster} take one pass, not ${passPairs} pairs of tiles at once`;
  const { stage } = sharedBytes(operator, tuning);
  if (cluster > 1 && cluster * Math.ceil((2 * passPairs) / cluster) * tokenTiles(operator.m) * kFragmentBytes > stages * stage)
    return `${stages} stages do not hold the sums of ${passPairs} pairs of tiles`;
  const shared = totalBytes(operator, tuning);
  return shared > kSharedLimitBytes ? `${shared} bytes of shared memory (at most ${kSharedLimitBytes})` : null;
}

function defaults(operator: DenseShape, given: Tuning): WarpgroupTuning {
  const { weight, n, k, m } = operator;
  const pairs = Math.ceil(n / kPairRows),
    units = k / unitK(weight),
    least = unitsPerScale(operator),
    step = stepUnits(weight);
  const most = Math.floor(kMostSums / (4 * tokenTiles(m))) * 2; // pairs of tiles that one warpgroup can sum
  const shared = pairs / kBlocksByCluster[1]! < kManyPairs && units % (2 * Math.max(least, step)) === 0;
  const cluster = given['cluster'] ?? (shared ? 2 : 1);
  const blocks = given['blocks'] ?? cluster * Math.min(pairs, Math.floor((kBlocksByCluster[cluster] ?? 128) / cluster));
  const groupPairs = Math.ceil(pairs / (blocks / cluster));
  const passes = cluster > 1 ? 1 : Math.ceil(groupPairs / (given['passPairs'] ?? (groupPairs > most ? 2 * most : most)));
  const passPairs = Math.ceil(groupPairs / passes);
  const blockUnits = units / cluster;
  const sizes = (groupsN: number, groupsK: number, stageUnits: number): RingSizes =>
    sharedBytes(operator, { blocks, cluster, passPairs, groupsN, groupsK, stageUnits });
  const fits = (groupsN: number, groupsK: number, stageUnits: number): boolean =>
    blockUnits % stageUnits === 0 && stagesWithin(kSharedBudgetBytes, sizes(groupsN, groupsK, stageUnits)) >= kLeastStages;
  // Two warpgroups, so that one decodes while the other's products run: along k if there is enough of it, one can sum all, and
  // each gets whole groups of the units that share a scale.
  const alongK =
    passPairs <= most &&
    blockUnits % Math.max(2 * step, least) === 0 &&
    ((least === 1 && step === 1) || fits(1, 2, 2 * Math.max(least, step)));
  const groupsN = given['groupsN'] ?? (alongK ? 1 : Math.max(2, Math.ceil(passPairs / most)));
  const groupsK = given['groupsK'] ?? (groupsN === 1 && alongK ? 2 : 1);
  const whole = groupsK * Math.max(least, step);
  let stageUnits = given['stageUnits'] ?? (fits(groupsN, groupsK, whole) ? whole : Math.max(groupsK * step, least));
  while (
    given['stageUnits'] === undefined &&
    blockUnits >= kLeastStagesOfK * 2 * stageUnits &&
    fits(groupsN, groupsK, 2 * stageUnits) &&
    sizes(groupsN, groupsK, 2 * stageUnits).stage <= kStageTargetBytes
  )
    stageUnits *= 2;
  const fitting = stagesWithin(kSharedBudgetBytes, sizes(groupsN, groupsK, stageUnits));
  return {
    blocks,
    cluster,
    passPairs,
    groupsN,
    groupsK,
    stageUnits,
    stages: given['stages'] ?? Math.max(2, Math.min(8, fitting)),
    prefetchStages: given['prefetchStages'] ?? 1,
  };
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit the operator, registers or shared memory */
function plan(match: DenseMatch, name: string, given: Tuning, next: WeightRuns | null): KernelPlan {
  const operator = match.shape;
  const tuning = defaults(operator, given);
  const reason = misfit(operator, tuning);
  if (reason !== null) throw new LadderError('BAD_ARGUMENT', `tuning of ${name} does not fit: ${reason}`, { ...tuning });
  const { blocks, cluster, passPairs, groupsN, groupsK, stageUnits, stages, prefetchStages } = tuning;
  const shared = totalBytes(operator, tuning);
  return densePlan(
    match,
    name,
    {
      header: 'matmul/thin/warpgroup.cuh',
      kernel: 'warpgroup',
      type: 'Warpgroup',
      blocks,
      cluster,
      threads: blockThreads(tuning),
      sharedBytes: shared,
      constants: [
        `static constexpr int kBlocks = ${blocks}, kCluster = ${cluster}, kPassPairs = ${passPairs}, kGroupsN = ${groupsN}, kGroupsK = ${groupsK};`,
        `static constexpr int kStageUnits = ${stageUnits}, kStages = ${stages}, kPrefetchStages = ${prefetchStages};`,
      ],
      reads: tileRuns(operator, kPairRows, cluster),
    },
    next,
  );
}

/** Candidates for the tuner, the default first; all fit. */
function configurations(operator: DenseShape): readonly Tuning[] {
  /** With as many stages as an H100 holds. */
  const deep = (given: Tuning): Tuning => ({
    ...given,
    stages: Math.min(8, stagesWithin(kSharedLimitBytes, sharedBytes(operator, defaults(operator, given)))),
  });
  const { stageUnits } = defaults(operator, {});
  const fewer = { blocks: kFewerBlocks };
  const given = [
    {},
    deep({}),
    deep({ stageUnits: 2 * stageUnits }),
    deep({ groupsN: 2, groupsK: 1, stageUnits: 2 * stageUnits }),
    { cluster: 1 },
    { cluster: 2 },
    { stageUnits: stageUnits / 2 },
    { groupsN: 2, groupsK: 1 },
    { prefetchStages: 0 },
    fewer,
    deep(fewer),
    deep({ groupsN: 1, groupsK: 2, stageUnits: 2 * stageUnits }),
    deep({ stageUnits: 4 * stageUnits }),
  ] as readonly Tuning[];
  return fittingTunings(
    given,
    (one) => defaults(operator, one),
    (tuning) => misfit(operator, tuning) === null,
  );
}

/** A few tokens with weights of less than a byte, or MX, decoded in registers for warpgroups. */
export const warpgroup = denseFamily({
  id: 'matmul/warpgroup',
  version: 1,
  paired: true,
  refuse(shape) {
    const { m, n, k, weight } = shape;
    const isMx = isMxWeight(weight);
    const prologue = refusePrologue(shape);
    if (prologue) return prologue;
    if (weightBits(weight) >= 8 && !isMx) return new Refusal('weight', `${weight} weights need no decoding for warpgroups`);
    if (isMx && k % 64 !== 0) return new Refusal('k', `expected a multiple of 64 with ${weight} weights and ${m} tokens but received ${k}`);
    if (shape.function === 'silu_mul' && n % kPairRows !== 0) {
      return new Refusal('n', `expected a multiple of ${kPairRows} with silu_mul, ${weight} weights and ${m} tokens but received ${n}`);
    }
    return null;
  },
  configurations,
  plan,
});

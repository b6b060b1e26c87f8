/**
 * Attention without positions that reads and writes rows, as networks have it: native/kernels/attention/rows.cuh, and of many tokens on sm_90a
 * rows_groups.cuh.
 */
import { LadderError } from '../../errors.js';
import type { Program } from '../../operators/program.js';
import type { Target } from '../targets.js';
import { type AttentionMatch, attentionConstants, attentionKey, matchAttentionInRows } from './attention.js';
import { defineFamily, type PlanContext, Refusal } from './family.js';
import { parameters, singleLaunch } from './launch.js';
import { kReservedBytes } from './matmul/tile-kernel.js';
import type { KernelPlan, Tuning } from './plan.js';

const kHeadDims: readonly number[] = [64, 128];
/** Fewer tokens than a tile of mma.sync has rows are another kernel's. */
const kLeastSeq = 16;
/** Keys of a block. */
const kKeys = 64;
/** Blocks that occupy every multiprocessor of an A100 or H100 several times over. */
const kManyBlocks = 512;

/** Multiprocessors that blocks of warpgroups loop on. */
const kProcessors = 132;

/** Warps of a block, and tiles of 16 queries that each of them takes. */
interface Blocks {
  readonly warps: number;
  readonly tiles: number;
}

/** Of rows_groups.cuh: warpgroups of a block, which take 64 queries each, keys of a stage, blocks on a multiprocessor. */
interface Groups {
  readonly groups: number;
  readonly keys: number;
  readonly resident: number;
}

/** Those whose registers suffice, the quickest first. */
const kGroups: readonly Groups[] = [
  { groups: 4, keys: 64, resident: 1 },
  { groups: 2, keys: 64, resident: 2 },
  { groups: 2, keys: 128, resident: 1 },
];
/** Fewer tokens leave their tiles half empty. */
const kLeastGroupSeq = 128;

function accepts(program: Program): AttentionMatch | Refusal {
  const match = matchAttentionInRows(program);
  if (match instanceof Refusal) return match;
  const { seq, headDim, position, causal } = match;
  if (position !== 'none' || causal) return new Refusal('position', 'expected neither positions nor a mask');
  if (seq < kLeastSeq) return new Refusal('seq', `expected at least ${kLeastSeq} but received ${seq}`);
  if (!kHeadDims.includes(headDim)) return new Refusal('headDim', `expected ${kHeadDims.join(' or ')} but received ${headDim}`);
  return match;
}

function blocksOf({ batch, seq, heads }: AttentionMatch, { warps, tiles }: Blocks): number {
  return batch * heads * Math.ceil(seq / (16 * warps * tiles));
}

/** Two tiles per warp where there are blocks enough, and heads whose sums leave registers for them; four warps, fewer for few queries. */
function defaultBlocks(match: AttentionMatch): Blocks {
  const { seq, headDim } = match;
  const large: Blocks = { warps: 4, tiles: 2 };
  if (headDim === 64 && seq > 64 && blocksOf(match, large) >= kManyBlocks) return large;
  const middle: Blocks = { warps: 4, tiles: 1 };
  return seq > 32 && (seq <= 64 || blocksOf(match, middle) >= 132) ? middle : { warps: 2, tiles: 1 };
}

/** Keys and values, twice where another block of them follows: AttentionRows in attention/rows.cuh. */
function sharedBytes({ seq, headDim }: AttentionMatch): number {
  return (seq > kKeys ? 2 : 1) * 2 * kKeys * headDim * 2;
}

/** Whether rows_groups.cuh is a choice: on sm_90a, heads of 64. */
function hasGroups({ headDim }: AttentionMatch, { capability }: Target): boolean {
  return headDim === 64 && capability?.[0] === 9;
}

/** Whether rows_groups.cuh is the default: where every multiprocessor has queries for four warpgroups. */
function isByGroups(match: AttentionMatch, target: Target): boolean {
  const { batch, heads, seq } = match;
  return hasGroups(match, target) && seq >= kLeastGroupSeq && batch * heads * Math.ceil(seq / (64 * kGroups[0]!.groups)) >= kProcessors;
}

/** Configurations whose registers suffice, the default first: two tiles leave none for what two warps fetch, or for heads of 128. */
function configurations(match: AttentionMatch, target: Target): readonly Tuning[] {
  const first = defaultBlocks(match);
  const others = [2, 4, 8]
    .flatMap((warps) => [1, 2].map((tiles): Blocks => ({ warps, tiles })))
    .filter(({ warps, tiles }) => tiles === 1 || (warps > 2 && match.headDim === 64))
    .filter(({ warps, tiles }) => warps !== first.warps || tiles !== first.tiles);
  const groups = match.seq >= kLeastGroupSeq && hasGroups(match, target) ? kGroups : [];
  const rows = [first, ...others];
  return (isByGroups(match, target) ? [...groups, ...rows] : [...rows, ...groups]).map((one) => ({ ...one }));
}

/** As many stages of keys and values as there is shared memory for, and their barriers: AttentionGroups in attention/rows_groups.cuh. */
function groupsSharedBytes({ headDim }: AttentionMatch, { keys, resident }: Groups): number {
  const stage = 2 * keys * headDim * 2;
  const limit = (228 * 1024) / resident - kReservedBytes;
  const barriers = 16;
  return Math.floor(limit / (stage + barriers)) * (stage + barriers);
}

function planGroups(match: AttentionMatch, name: string, tuning: Tuning): KernelPlan {
  const own = kGroups.find(
    ({ groups, keys, resident }) => groups === tuning['groups'] && keys === tuning['keys'] && resident === tuning['resident'],
  );
  if (!own)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected one of ${kGroups.map((one) => JSON.stringify(one)).join(', ')} for tuning \`groups\`, \`keys\` and \`resident\` but received ${JSON.stringify(tuning)}`,
      { ...tuning },
    );
  const { groups, keys, resident } = own;
  const { batch, seq, heads } = match;
  const threads = 128 * groups;
  const blocks = Math.min(batch * heads * Math.ceil(seq / (64 * groups)), kProcessors * resident);
  const dynamicSharedBytes = groupsSharedBytes(match, own);
  const definitions = `struct ${name}_config {
${attentionConstants(match, { kGroups: groups, kKeys: keys, kResident: resident })}
};
static_assert(ladder::AttentionGroups<${name}_config>::kBlocks == ${blocks} && ladder::AttentionGroups<${name}_config>::kSharedBytes == ${dynamicSharedBytes});
extern "C" __global__ void __launch_bounds__(${threads}, ${resident}) ${name}(${parameters(['qkv'], ['y'])}) {
  ladder::attentionGroupsKernel<${name}_config>(qkv, y);
}
`;
  return singleLaunch('attention/rows_groups.cuh', definitions, { name, blocks, threads, dynamicSharedBytes, inputs: 1, outputs: 1 });
}

/** A tuning by warpgroups is none for a target or a head without them, which has its default. */
function plan(match: AttentionMatch, name: string, given: Tuning, { target }: PlanContext): KernelPlan {
  const chosen = Object.keys(given).length === 0 && isByGroups(match, target) ? { ...kGroups[0]! } : given;
  const byGroups = chosen['groups'] !== undefined;
  if (byGroups && hasGroups(match, target)) return planGroups(match, name, chosen);
  const tuning = byGroups ? {} : chosen;
  const { warps, tiles } = { ...defaultBlocks(match), ...tuning };
  if (![2, 4, 8].includes(warps) || ![1, 2].includes(tiles))
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected 2, 4 or 8 for tuning \`warps\` and 1 or 2 for \`tiles\` but received ${warps}, ${tiles}`,
      {
        warps,
        tiles,
      },
    );
  const threads = 32 * warps;
  const [blocks, dynamicSharedBytes] = [blocksOf(match, { warps, tiles }), sharedBytes(match)];
  const definitions = `struct ${name}_config {
${attentionConstants(match, { kWarps: warps, kTiles: tiles })}
};
static_assert(ladder::AttentionRows<${name}_config>::kBlocks == ${blocks} && ladder::AttentionRows<${name}_config>::kSharedBytes == ${dynamicSharedBytes});
extern "C" __global__ void __launch_bounds__(${threads}) ${name}(${parameters(['qkv'], ['y'])}) {
  ladder::attentionRowsKernel<${name}_config>(qkv, y);
}
`;
  return singleLaunch('attention/rows.cuh', definitions, { name, blocks, threads, dynamicSharedBytes, inputs: 1, outputs: 1 });
}

export const attentionRows = defineFamily<AttentionMatch>({
  id: 'attention/rows',
  version: 1,
  accepts,
  storage: () => new Map(),
  configurations,
  key: attentionKey,
  plan,
});

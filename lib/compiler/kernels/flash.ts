/**
 * Attention of any length in tiles: native/kernels/attention/flash. A kernel that prepares keys where they rotate, or where heads do
 * not begin panels, and the attention itself: warpgroups on sm_90a, mma.sync elsewhere.
 */
import { LadderError } from '../../errors.js';
import type { Layout, Program } from '../../operators/program.js';
import type { Target } from '../targets.js';
import { type AttentionMatch, attentionConstants, attentionKey, matchAttention } from './attention.js';
import { defineFamily, kOtherKind, type PlanContext, Refusal, type Storage } from './family.js';
import { isInPanels, isPanelStorage, panelChannels, panelLayout } from './panels.js';
import type { KernelArgument, KernelLaunch, KernelPlan, Tuning } from './plan.js';

const kHeadDims: readonly number[] = [64, 96, 128];
/** Positions are exact in float32 up to there. */
const kMostRows = 2 ** 24;
/** Queries of a tile, keys of a block. */
const kTile = 128;
/** Blocks that loop over tiles: the multiprocessors of an H100. */
const kMostBlocks = 132;
const kPrepareThreads = 128;
/** Blocks of the kernel that prepares which share the key heads, at most. */
const kPrepareShares = 4;

interface FlashMatch extends AttentionMatch {
  /** Values of qkv and of the result, and their orders in panels; null: the result is in rows alone. */
  readonly qkv: number;
  readonly y: number;
  readonly qkvPanels: Layout;
  readonly yPanels: Layout | null;
  readonly inPanels: boolean;
  readonly panelResult: boolean;
}

function accepts(program: Program): FlashMatch | Refusal {
  const match = matchAttention(program);
  if (!match) return kOtherKind;
  const [qkv, y] = [program.inputs[0]!, program.outputs[0]!];
  const [input, output] = [program.values[qkv]!, program.values[y]!];
  const [inPanels, panelResult] = [isInPanels(input), isInPanels(output)];
  if (input.type !== 'f16' || output.type !== 'f16' || (input.layout && !inPanels) || (output.layout && !panelResult))
    return new Refusal('qkv', 'expected float16 in rows or panels');
  const { batch, seq, headDim } = match;
  if (!kHeadDims.includes(headDim)) return new Refusal('headDim', `expected ${kHeadDims.join(', ')} but received ${headDim}`);
  if (batch * seq > kMostRows) return new Refusal('m', `expected at most ${kMostRows} tokens but received ${batch * seq}`);
  const qkvPanels = panelLayout(input);
  if (!qkvPanels) return new Refusal('qkv', `expected a multiple of ${panelChannels(input)} columns but received ${input.axes[1]!.extent}`);
  return { ...match, qkv, y, qkvPanels, yPanels: panelLayout(output), inPanels, panelResult };
}

/** Query heads to a key head from which on values are copied, too. */
const kManyShared = 4;

/** Rotary table, keys and values, where they are prepared: FlashShape in attention/flash/shape.cuh. */
function workspaceBytes({ batch, seq, heads, kvHeads, headDim, position }: AttentionMatch): number {
  const moved = kvHeads * Math.ceil((batch * seq) / 8) * 8 * headDim * 2;
  const rope = position === 'rope';
  const aligned = headDim % 64 === 0;
  return (rope ? seq * headDim * 4 : 0) + (rope || !aligned ? moved : 0) + (!aligned || heads / kvHeads >= kManyShared ? moved : 0);
}

/** What depends on the target: the template of native/kernels/attention/flash, and what it takes. */
function kernelOf({ headDim }: AttentionMatch, { id }: Target) {
  const block = kTile * headDim * 2;
  return id === 'sm_90a'
    ? {
        file: 'warpgroup.cuh',
        layout: 'FlashWarpgroups',
        kernel: 'flashWarpgroupKernel',
        threads: 384,
        shared: 4 * block + 64,
        loops: true,
      }
    : { file: 'mma.cuh', layout: 'FlashMma', kernel: 'flashMmaKernel', threads: 256, shared: 3 * block, loops: false };
}

/** Tiles of queries, which begin at multiples of 8 rows. */
function tiles({ batch, seq, heads }: AttentionMatch): number {
  return batch * heads * Math.ceil((seq + (batch > 1 && seq % 8 !== 0 ? 7 : 0)) / kTile);
}

function plan(match: FlashMatch, name: string, _tuning: Tuning, { target }: PlanContext): KernelPlan {
  if (!match.inPanels) throw new LadderError('INTERNAL', 'attention/flash is planned for qkv in rows, though it reads panels');
  const { batch, seq, kvHeads, headDim } = match;
  const { file, layout, kernel, threads, shared, loops } = kernelOf(match, target);
  const workspace = workspaceBytes(match);
  const prepares = workspace > 0;
  const config = `${name}_config`;
  const definitions = `struct ${config} {
${attentionConstants(match)}
  static constexpr bool kCausal = ${match.causal}, kPanelResult = ${match.panelResult};
};
static_assert(ladder::FlashShape<${config}>::kWorkspaceBytes == ${workspace} && ladder::${layout}<${config}>::kSharedBytes == ${shared});
${
  prepares
    ? `extern "C" __global__ void __launch_bounds__(${kPrepareThreads}) ${name}_prepare(const void* qkv, void* workspace) {
  ladder::flashPrepareKernel<${config}>(qkv, workspace);
}
`
    : ''
}extern "C" __global__ void __launch_bounds__(${threads}, 1) ${name}(const void* qkv, ${prepares ? 'const void* workspace, ' : ''}void* y) {
  ladder::${kernel}<${config}>(qkv, ${prepares ? 'workspace' : 'nullptr'}, y);
}
`;
  const [qkv, y, scratch]: KernelArgument[] = [
    { kind: 'input', index: 0 },
    { kind: 'output', index: 0 },
    { kind: 'workspace', offsetBytes: 0 },
  ];
  const launch = (own: Omit<KernelLaunch, 'programmatic'>): KernelLaunch => ({ ...own, programmatic: true });
  const items = (Math.ceil((batch * seq) / 8) * 8 * headDim) / 16;
  return {
    includes: [`attention/flash/${file}`, ...(prepares ? ['attention/flash/prepare.cuh'] : [])],
    definitions,
    launches: [
      ...(prepares
        ? [
            launch({
              name: `${name}_prepare`,
              grid: [Math.ceil(items / kPrepareThreads), Math.min(kvHeads, kPrepareShares), 1],
              block: [kPrepareThreads, 1, 1],
              dynamicSharedBytes: 0,
              arguments: [qkv!, scratch!],
            }),
          ]
        : []),
      launch({
        name,
        grid: [loops ? Math.min(tiles(match), kMostBlocks) : tiles(match), 1, 1],
        block: [threads, 1, 1],
        dynamicSharedBytes: shared,
        arguments: [qkv!, ...(prepares ? [scratch!] : []), y!],
      }),
    ],
    workspaceBytes: workspace,
  };
}

export const flash = defineFamily<FlashMatch>({
  id: 'attention/flash',
  version: 1,
  accepts,
  storage: () => new Map(),
  reads: ({ qkv, qkvPanels }) => new Map<number, Storage>([[qkv, { layout: qkvPanels }]]),
  writes: ({ y, yPanels }, value, storage) => value === y && isPanelStorage(storage, yPanels),
  configurations: () => [{}],
  key: (match) => `${attentionKey(match)}${match.panelResult ? ' panels' : ''}`,
  plan,
});

/**
 * native/kernels/matmul/chain: products of few rows one after the other, with the norms, quantisations and residuals between them, in one
 * kernel of clusters. Elsewhere than on sm_90a the same by a kernel per product.
 */
import { LadderError } from '../../../errors.js';
import { formats } from '../../../formats/index.js';
import { isQuantised, lastAxis, type Node, type Program, tensorPositions } from '../../../operators/program.js';
import { activation } from '../activation.js';
import { attentionRows } from '../attention-rows.js';
import type { Target } from '../../targets.js';
import { defineFamily, type Family, firstTaking, kOtherKind, type PlanContext, Refusal, type Storage } from '../family.js';
import { floatLiteral, kNormNames, launchOf } from '../launch.js';
import type { KernelArgument, KernelPlan, Tuning } from '../plan.js';
import { argumentOf, type Part, partOf, planSequence, type TensorArgument, tensorOf } from '../sequence.js';
import { simpleFamilies } from '../simple/index.js';
import { withStorage } from './layouts.js';
import { kMostK, rows as rowsFamily } from './rows.js';
import { tile } from './tile.js';
import { kSharedLimitBytes, weightBits } from './template.js';
import {
  configurationText,
  contractedOf,
  isScaled,
  kPanelBytes,
  kReservedBytes,
  kTurnPadBytes,
  panelK,
  panelsOf,
  rowsOf,
  tileLayouts,
  type TileShape,
} from './tile-kernel.js';
import { kLeastRows, kMostWeights, matchTile } from './tile-shape.js';

/** Blocks of a cluster, and clusters that an H100 SXM has room for. */
const kClusterBlocks = 8;
const kClusters = 15;
/** Rows up to which what blocks give each other takes less time than launches do. */
const kMostRows = 128;
/** What half a warp norms in registers. */
const kMostNormed = 1024;
const kMostStages = 12;
/** Weight rows of a warp's products: two chunks. */
const kPairRows = 16;
/** Channels of a head, where attention comes first. */
const kHeadDim = 64;
/** Steps of the tensor cores along a panel. */
const kPanelSteps = 4;
/** Two, in shared memory. */
const kBarrierBytes = 16;
/** Of a slot in a warp's ring, at most. */
const kUnitBytes = 2048;

type From = 'kInput' | 'kAttention' | 'kStream' | 'kHidden';
type To = 'kNowhere' | 'kStream' | 'kHidden';

interface NormOf {
  readonly kind: keyof typeof kNormNames;
  readonly eps: number;
}

const kNoNorm: NormOf = { kind: 'none', eps: 1 };

/** A product with what stands before and after it. */
interface Stage {
  readonly shape: TileShape;
  /** The weight's value. */
  readonly weight: number;
  readonly after: readonly string[];
  readonly norm: NormOf;
  /** Before the norm, another one, whose result takes the stream's place. */
  readonly outer: NormOf;
  readonly from: From;
  readonly to: To;
  readonly residual: 'kNone' | 'kGiven' | 'kStream';
  /** By member of ChainStageArguments. */
  readonly operands: Readonly<Partial<Record<string, KernelArgument>>>;
}

interface ChainMatch {
  readonly program: Program;
  readonly stages: readonly Stage[];
  readonly x: KernelArgument;
  /** Of the attention that makes the first product's source; 0: there is none. */
  readonly heads: number;
  /** Channels of the stream, and of float16 that one product makes and the next multiplies. */
  readonly width: number;
  readonly hidden: number;
}

/** Nodes of a stage. */
interface Cut {
  readonly outer: Node | null;
  /** [norm] [quantise] dense, then steps. */
  readonly nodes: readonly Node[];
}

/** Cuts what follows attention, if that is there, before whatever leads to the next product. */
function cut(program: Program): readonly Cut[] | null {
  const nodes = program.nodes.slice(attentionOf(program) ? 1 : 0);
  const stages: Node[][] = [];
  for (const node of nodes) {
    const current = stages.at(-1);
    const begins = ['norm', 'quantise', 'dense'].includes(node.kind) && (current?.some(({ kind }) => kind === 'dense') ?? true);
    if (begins) stages.push([node]);
    else current?.push(node);
  }
  if (stages.flat().length !== nodes.length || stages.some((stage) => !stage.some(({ kind }) => kind === 'dense'))) return null;
  return stages.map((stage) =>
    stage[0]!.kind === 'norm' && stage[1]!.kind === 'norm' ? { outer: stage[0]!, nodes: stage.slice(1) } : { outer: null, nodes: stage },
  );
}

function normOf(node: Node | null): NormOf {
  return node ? { kind: node.params['kind'] as 'rms' | 'layer', eps: Number(node.params['eps']) } : kNoNorm;
}

/** The attention that a program begins with. */
function attentionOf({ nodes }: Program): Node | null {
  return nodes[0]?.kind === 'attention' ? nodes[0] : null;
}

/** Why a block does not have a head of an attention, or null. */
function refuseAttention({ params }: Node): Refusal | null {
  const { batch, heads, kvHeads, headDim, order, position, mask = 'none' } = params;
  const plain = batch === 1 && heads === kvHeads && Number(heads) <= kClusterBlocks && headDim === kHeadDim;
  return plain && order === 'concatenated' && position === 'none' && mask === 'none'
    ? null
    : new Refusal('heads', `expected one sequence of at most ${kClusterBlocks} heads of ${kHeadDim}, without positions or mask`);
}

function accepts(program: Program): ChainMatch | Refusal {
  const attention = attentionOf(program);
  const cuts = cut(program);
  if (!cuts || cuts.length < 2 || cuts.length > kMostStages || (program.hints?.length ?? 0) > 0) return kOtherKind;
  // Without norms between them there is little that a launch each would not do as well (ResNet's last stages were no faster).
  if (!program.nodes.some(({ kind }) => kind === 'norm')) return kOtherKind;
  const refused = attention && refuseAttention(attention);
  if (refused) return refused;
  const { values, inputs, outputs } = program;
  const stages: Stage[] = [];
  /** Values that blocks of a cluster hold. */
  let [stream, hidden]: [number | null, number | null] = [null, null];
  const [streamed, passed]: [Set<number>, Set<number>] = [new Set(), new Set()];
  const positions = tensorPositions(program);
  const argument = (value: number): KernelArgument => ({ kind: 'input', index: positions.get(value)! });
  for (const [i, { outer, nodes }] of cuts.entries()) {
    const norm = nodes[0]!.kind === 'norm' ? nodes[0]! : null;
    const quantise = nodes[norm ? 1 : 0]!.kind === 'quantise' ? nodes[norm ? 1 : 0]! : null;
    if (quantise && quantise.inputs.length > 1) return new Refusal('scale', 'expected scales of rows, not one of all');
    const part = partOf(program, nodes);
    const matched = matchTile(part.program, (norm ? 1 : 0) + (quantise ? 1 : 0));
    if (matched instanceof Refusal) return matched;
    const { shape } = matched;
    const reason = refuse(shape, rowsOf(stages[0]?.shape ?? shape));
    if (matched.stem || reason) return reason ?? kOtherKind;
    const source = (outer ?? nodes[0]!).inputs[0]!;
    if (values[source]!.type !== 'f16') return new Refusal('x', 'expected float16 in rows');
    if ((outer || norm || (i === 0 && !attention)) && contractedOf(shape) > kMostNormed)
      return new Refusal('k', `expected at most ${kMostNormed} that are normed but received ${contractedOf(shape)}`);
    const from = ((): From | null => {
      if (i === 0 && attention) return source === attention.outputs[0] && !outer && !norm ? 'kAttention' : null;
      if (i === 0) return inputs.includes(source) && !outer ? 'kInput' : null;
      if (source === stream) return 'kStream';
      return source === hidden && !outer && !norm ? 'kHidden' : null;
    })();
    if (from === null) return new Refusal('x', 'expected each product to read what one before it made');
    if (outer) stream = outer.outputs[0]!;
    const residual = matched.operands['residual'] ? tensorOf(part, matched.operands['residual'] as TensorArgument).value : null;
    if (residual !== null && !inputs.includes(residual) && (residual !== stream || outer))
      return new Refusal('residual', 'expected an operand, or what was normed last');
    const result = nodes.at(-1)!.outputs[0]!;
    const readers = cuts
      .slice(i + 1)
      .flatMap((later) => [...(later.outer ? [later.outer] : []), ...later.nodes])
      .filter((node) => node.inputs.includes(result));
    const straight = readers.filter((node) => node.inputs[0] === result && ['quantise', 'dense'].includes(node.kind));
    if (straight.length > 0 && straight.length < readers.length) return new Refusal('x', 'expected results that are normed, or multiplied');
    const to: To = readers.length === 0 ? 'kNowhere' : straight.length > 0 ? 'kHidden' : 'kStream';
    // Blocks may still norm what the stream was before, unless they have exchanged something since.
    if (to === 'kStream' && from === 'kStream') return new Refusal('x', 'expected a result that is multiplied between two that are normed');
    if (to === 'kStream') streamed.add(result);
    if (to === 'kHidden') passed.add(result);
    stream = to === 'kStream' ? result : stream;
    hidden = to === 'kHidden' ? result : hidden;
    const own = (member: string): Partial<Record<string, KernelArgument>> => {
      const of = matched.operands[member];
      return of && of.kind !== 'workspace' ? { [member]: argumentOf(program, part, of)! } : {};
    };
    const given = (value: number | undefined, kind: 'gain' | 'beta' | 'outerGain' | 'outerBeta') =>
      value === undefined ? {} : { [kind]: argument(value) };
    const written = (value: number, member: 'y' | 'outer'): Partial<Record<string, KernelArgument>> =>
      outputs.includes(value) ? { [member]: { kind: 'output', index: outputs.indexOf(value) } } : {};
    stages.push({
      shape,
      weight: part.values[matched.weight]!,
      after: matched.after,
      norm: normOf(norm),
      outer: normOf(outer),
      from,
      to,
      residual: residual === null ? 'kNone' : inputs.includes(residual) ? 'kGiven' : 'kStream',
      operands: {
        ...own('weight'),
        ...own('scale'),
        ...own('bias'),
        ...given(norm?.inputs[1], 'gain'),
        ...given(norm?.inputs[2], 'beta'),
        ...given(outer?.inputs[1], 'outerGain'),
        ...given(outer?.inputs[2], 'outerBeta'),
        ...(residual !== null && inputs.includes(residual) && { residual: argument(residual) }),
        ...(outer && written(outer.outputs[0]!, 'outer')),
        ...written(result, 'y'),
      },
    });
  }
  const widths = (held: ReadonlySet<number>): readonly number[] => [...new Set([...held].map((value) => lastAxis(values[value]!).extent))];
  const [width, between] = [widths(streamed), widths(passed)];
  const results = cuts.flatMap(({ outer, nodes }) => [...(outer ? outer.outputs : []), ...nodes.at(-1)!.outputs]);
  if (width.length > 1 || between.length > 1 || outputs.some((value) => !results.includes(value) || isQuantised(values[value]!.type)))
    return new Refusal('n', 'expected results of one width that are normed, and of one width that are multiplied');
  const match: ChainMatch = {
    program,
    stages,
    x: argument((attention ?? cuts[0]!.nodes[0]!).inputs[0]!),
    heads: attention ? Number(attention.params['heads']) : 0,
    width: width[0] ?? 0,
    hidden: stages.some(isDirect) ? between[0]! : 0,
  };
  if (!tuningsOf(match).some((tuning) => fits(match, tuning)))
    return new Refusal('m', 'expected rows that fit into the shared memory of a cluster');
  return withStorage(program, match, storageOf(match));
}

function refuse(shape: TileShape, m: number): Refusal | null {
  const [k, unit] = [contractedOf(shape), Math.max(panelK(shape.weight), kClusterBlocks * kPairRows)];
  if (rowsOf(shape) !== m || m < kLeastRows || m > kMostRows)
    return new Refusal('m', `expected ${kLeastRows} to ${kMostRows} rows but received ${m}`);
  if (k % unit !== 0 || k > kMostK) return new Refusal('k', `expected a multiple of ${unit}, at most ${kMostK}, but received ${k}`);
  // Whole warps have the eights of a block's outputs, in 16 rows.
  const outputs = kClusterBlocks * kPairRows * (shape.pairs ? 2 : 1);
  if (shape.n % outputs !== 0) return new Refusal('n', `expected a multiple of ${outputs} but received ${shape.n}`);
  if (shape.n * k >= kMostWeights) return new Refusal('n', `expected fewer than ${kMostWeights} weights but received ${shape.n * k}`);
  if (isCoded(shape) !== (shape.xScale === 'row')) return new Refusal('scale', 'expected a scale per row');
  return shape.codes === null && shape.halves ? null : kOtherKind;
}

function isCoded({ activation: id }: TileShape): boolean {
  return id !== 'fp16';
}

// ---- Tunings --------------------------------------------------------------------------------------------------------------------

interface ChainTuning {
  /** Of a cluster. */
  readonly rows: number;
  /** Of a block. */
  readonly warps: number;
  /** Of each warp's ring. */
  readonly slots: number;
  /** What a byte of sums counts beside one of operands, where warps share out a product. */
  readonly sumCost: number;
}

/** Whether a product's operand stays in the blocks that made it, float16 as it is: they share out k then. */
function isDirect({ from, shape }: Stage): boolean {
  return from === 'kHidden' && !isCoded(shape);
}

/** How a stage's warps share out its work. */
interface Split {
  /** That share out k. */
  readonly kWarps: number;
  /** Steps of a unit. */
  readonly steps: number;
  readonly unitBytes: number;
  readonly sumsBytes: number;
}

function splitOf(stage: Stage, { rows, warps, sumCost }: Omit<ChainTuning, 'slots'>): Split | null {
  const { shape } = stage;
  // Blocks share out outputs, or k.
  const slice = isDirect(stage) ? shape.n : shape.n / kClusterBlocks;
  const pairs = slice / kPairRows;
  const steps = (panelsOf(shape) * kPanelSteps) / (isDirect(stage) ? kClusterBlocks : 1);
  const stepBytes = (2 * panelK(shape.weight) * weightBits(shape.weight)) / 8;
  let best: Split | null = null;
  let least = Infinity;
  for (let kWarps = 1; kWarps <= warps; ++kWarps) {
    const own = (pairs * kWarps) / warps;
    if (warps % kWarps !== 0 || !Number.isInteger(own) || own === 0 || steps % kWarps !== 0) continue;
    const unit = [4, 3, 2, 1].find((count) => (steps / kWarps) % count === 0 && 2 * own * count * stepBytes <= kUnitBytes);
    if (unit === undefined) continue;
    // Bytes that go through shared memory: operands of all warps' products, then their sums, in whose place rings could be.
    const sumsBytes = kWarps * rows * (slice * 4 + kTurnPadBytes);
    const cost = warps * (steps / kWarps) * (rows / 16 + own) * 512 + sumCost * sumsBytes;
    if (cost >= least) continue;
    least = cost;
    best = { kWarps, steps: unit, unitBytes: 2 * own * unit * stepBytes, sumsBytes };
  }
  return best;
}

/** Of an attention's queries, keys, values, weights and scores: chain_attention.cuh. */
function attentionBytes(tokens: number, rows: number): number {
  const keys = Math.ceil(tokens / 32) * 32;
  return (rows + 2 * keys) * (kHeadDim * 2 + 16) + rows * (keys * 2 + 16 + keys * 4 + 16);
}

/** Bytes of shared memory, mirrored from the kernel; null where warps cannot share out a stage. */
function sharedBytes({ stages, heads, width, hidden }: ChainMatch, tuning: ChainTuning): number | null {
  const { rows, warps, slots } = tuning;
  const splits = stages.map((stage) => splitOf(stage, tuning));
  if (splits.some((split) => split === null)) return null;
  const align = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit;
  const first = stages[0]!.shape;
  const attention = heads > 0 ? attentionBytes(rowsOf(first), rows) : 0;
  const received = Math.max(0, ...stages.filter(isDirect).map(({ shape }) => rows * (shape.n * 4 + kClusterBlocks * kTurnPadBytes)));
  const hiddenBytes = Math.max((rows * hidden * 2) / kClusterBlocks + received, isCoded(first) ? 0 : attention);
  const operand = Math.max(
    ...stages.map((stage) => (isDirect(stage) ? 0 : panelsOf(stage.shape) * rows * kPanelBytes)),
    ...stages.map((stage, i) => splits[i]!.sumsBytes - (stage.to === 'kHidden' || isDirect(stage) ? 0 : hiddenBytes)),
    attention - hiddenBytes,
  );
  const partials = Math.max(
    ...stages.map(({ shape, from }) => {
      if (!isCoded(shape) || from === 'kInput' || from === 'kStream') return 0;
      return rows * (from === 'kAttention' ? kHeadDim : contractedOf(shape) / kClusterBlocks);
    }),
  );
  const parameters = stages.reduce((sum, { shape, norm, outer }) => {
    const terms = ((isScaled(shape.weight) ? 1 : 0) + (shape.bias ? 1 : 0)) * (shape.n / kClusterBlocks) * 2;
    const vectors = [norm, outer].reduce((count, { kind }) => count + { none: 0, rms: 1, layer: 2 }[kind], 0);
    return sum + align(terms, 16) + vectors * contractedOf(shape) * 2;
  }, 0);
  const stream = rows * (width + width / kClusterBlocks) * 2;
  const known = 2 * (partials + rows * kClusterBlocks * 4) + rows * 4;
  const before = hiddenBytes + align(operand, 16) + stream + known + parameters;
  return align(before + kBarrierBytes, 128) + warps * slots * Math.max(...splits.map((split) => split!.unitBytes));
}

/** Of a cluster. */
const kRows = [16, 32, 64];

/** What a kernel is by its tuning: others may come to the same. */
function kernelOf({ stages }: ChainMatch, tuning: ChainTuning): string {
  return JSON.stringify([tuning.rows, tuning.warps, tuning.slots, stages.map((stage) => splitOf(stage, tuning))]);
}

/** The likeliest first: as few rows as all clusters at once allow, twelve warps, deep rings. */
function tuningsOf({ stages }: ChainMatch): readonly ChainTuning[] {
  const m = rowsOf(stages[0]!.shape);
  const least = kRows.find((rows) => Math.ceil(m / rows) <= kClusters);
  return kRows
    .filter((rows) => least !== undefined && rows >= least)
    .flatMap((rows) => [12, 8, 16, 4].flatMap((warps) => [6, 2, 20].map((sumCost) => ({ rows, warps, sumCost }))))
    .flatMap((tuning) => [8, 6, 5, 4, 3].map((slots): ChainTuning => ({ ...tuning, slots })));
}

function fits(match: ChainMatch, tuning: ChainTuning): boolean {
  return (sharedBytes(match, tuning) ?? Infinity) + kReservedBytes <= kSharedLimitBytes;
}

/** Tunings that fit, one per kernel, the default first. */
function candidates(match: ChainMatch): readonly ChainTuning[] {
  const byKernel = new Map<string, ChainTuning>();
  for (const tuning of tuningsOf(match).filter((one) => fits(match, one))) {
    const kernel = kernelOf(match, tuning);
    if (!byKernel.has(kernel)) byKernel.set(kernel, tuning);
  }
  return [...byKernel.values()];
}

// ---- Plan -----------------------------------------------------------------------------------------------------------------------

function storageOf({ stages }: ChainMatch): ReadonlyMap<number, Storage> {
  return new Map(
    stages.map(({ shape, weight }) => [weight, { layout: { digits: tileLayouts({ ...shape, k: contractedOf(shape) }).weightLayout } }]),
  );
}

const kMembers: readonly (readonly [member: string, type: string])[] = [
  ['weight', 'const uint8_t*'],
  ['scale', 'const __half*'],
  ['bias', 'const __half*'],
  ['gain', 'const __half*'],
  ['beta', 'const __half*'],
  ['outerGain', 'const __half*'],
  ['outerBeta', 'const __half*'],
  ['residual', 'const __half*'],
  ['outer', '__half*'],
  ['y', '__half*'],
];

function stageText(stage: Stage, name: string, tuning: ChainTuning): string {
  const { shape, norm, outer, from, to, residual, operands } = stage;
  const split = splitOf(stage, tuning)!;
  return configurationText(
    shape,
    name,
    { rows: tuning.rows, outputs: shape.n / kClusterBlocks, warpRows: tuning.rows, warpOutputs: kPairRows, stages: 2, split: 1, wgmma: 0 },
    kClusterBlocks,
    [
      `static constexpr int kKWarps = ${split.kWarps}, kUnitSteps = ${split.steps};`,
      `static constexpr ladder::ChainFrom kFrom = ladder::ChainFrom::${from};`,
      `static constexpr ladder::ChainTo kTo = ladder::ChainTo::${to};`,
      `static constexpr ladder::ChainResidual kResidualFrom = ladder::ChainResidual::${residual};`,
      `static constexpr ladder::NormKind kNorm = ladder::NormKind::${kNormNames[norm.kind]}, kOuterNorm = ladder::NormKind::${kNormNames[outer.kind]};`,
      `static constexpr float kEps = ${floatLiteral(norm.eps)}, kOuterEps = ${floatLiteral(outer.eps)};`,
      `static constexpr ladder::ActivationFormat kActivation = ladder::ActivationFormat::${formats.get(shape.activation).activation!.enumerator!};`,
      `static constexpr bool kStores = ${operands['y'] !== undefined}, kStoresOuter = ${operands['outer'] !== undefined};`,
    ],
  );
}

function plan(match: ChainMatch, name: string, given: Tuning, { target }: PlanContext): KernelPlan {
  const { program, stages, x, heads, width, hidden } = match;
  if (target.capability?.[0] !== 9) return planSequence(program, partsOf(program, target), kOthers, name, target);
  const all = candidates(match);
  const tuning: ChainTuning = { ...all[0]!, ...given };
  if (!all.some((one) => kernelOf(match, one) === kernelOf(match, tuning)))
    throw new LadderError('BAD_ARGUMENT', `expected one of ${JSON.stringify(all)} for the tuning but received ${JSON.stringify(tuning)}`);
  const { rows, warps, slots } = tuning;
  const threads = warps * 32;
  const shared = sharedBytes(match, tuning)!;
  const members = stages.flatMap(({ operands }, stage) =>
    kMembers.filter(([member]) => operands[member]).map(([member, type]) => ({ member, type, stage, argument: operands[member]! })),
  );
  const configurations = [`${name}_config`, ...stages.map((_, i) => `${name}_stage${i}`)].join(', ');
  const definitions = [
    `struct ${name}_config {`,
    `  static constexpr int kM = ${rowsOf(stages[0]!.shape)}, kRows = ${rows}, kWarps = ${warps}, kBlocks = ${kClusterBlocks};`,
    `  static constexpr int kHeads = ${heads}, kWidth = ${width}, kHidden = ${hidden}, kSlots = ${slots};`,
    '};',
    ...stages.map((stage, i) => stageText(stage, `${name}_stage${i}`, tuning)),
    `using ${name}_chain = ladder::Chain<${configurations}>;`,
    `static_assert(${name}_chain::kSharedBytes == ${shared} && ${name}_chain::kBlockThreads == ${threads});`,
    `extern "C" __global__ void LADDER_TILE_CLUSTER(${kClusterBlocks}) __launch_bounds__(${threads}, 1) ${name}(${['const __half* x', ...members.map(({ member, type, stage }) => `${type} ${member}${stage}`)].join(', ')}) {`,
    `  ${name}_chain::Arguments p{};`,
    '  p.x = x;',
    ...members.map(({ member, stage }) => `  p.stages[${stage}].${member} = ${member}${stage};`),
    `  ladder::chainedProducts<${configurations}>(p);`,
    '}',
  ].join('\n');
  return launchOf('matmul/chain/chain.cuh', definitions, {
    name,
    blocks: Math.ceil(rowsOf(stages[0]!.shape) / rows) * kClusterBlocks,
    threads,
    dynamicSharedBytes: shared,
    arguments: [x, ...members.map(({ argument }) => argument)],
  });
}

/** What the products are elsewhere. */
const kOthers: readonly Family[] = [rowsFamily, tile, activation, attentionRows, ...simpleFamilies];

/** A kernel each: norms before norms, and products with what belongs to them; their norms as well where no product's kernel does that. */
function partsOf(program: Program, target: Target): readonly Part[] {
  const attention = attentionOf(program);
  const products = cut(program)!.flatMap(({ outer, nodes }) => {
    const product = partOf(program, nodes);
    return [
      ...(outer ? [partOf(program, [outer])] : []),
      ...(firstTaking(kOthers, product.program, target)
        ? [product]
        : [partOf(program, nodes.slice(0, 1)), partOf(program, nodes.slice(1))]),
    ];
  });
  return [...(attention ? [partOf(program, [attention])] : []), ...products];
}

export const chain = defineFamily<ChainMatch>({
  id: 'matmul/chain',
  version: 1,
  accepts,
  storage: storageOf,
  configurations: (match, { capability }) => (capability?.[0] === 9 ? candidates(match).map((tuning) => ({ ...tuning })) : [{}]),
  key: ({ stages, heads }) =>
    `m=${rowsOf(stages[0]!.shape)} ${heads > 0 ? `heads=${heads} ` : ''}${stages
      .map(({ shape, norm, outer, from, to, after }) =>
        [
          ...(outer.kind === 'none' ? [] : [outer.kind]),
          ...(norm.kind === 'none' ? [] : [norm.kind]),
          `n=${shape.n} k=${contractedOf(shape)} w=${shape.weight} x=${shape.activation}`,
          ...(after.length > 0 ? [after.join('+')] : []),
          `${from.slice(1)}-${to.slice(1)}`,
        ].join(' '),
      )
      .join(', ')}`,
  plan,
});

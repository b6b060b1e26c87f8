/**
 * native/kernels/matmul/rows: products of few rows, with the norm and the quantisation per row that come before them and the
 * elementwise steps that follow. For rows so few that kernels wait for each other more than for memory.
 */
import { formats } from '../../../formats/index.js';
import { isQuantised, type Program, tensorPositions } from '../../../operators/program.js';
import { defineFamily, kOtherKind, Refusal, type Storage } from '../family.js';
import { floatLiteral, kNormNames } from '../launch.js';
import type { KernelArgument, KernelPlan, Tuning } from '../plan.js';
import { withStorage } from './layouts.js';
import { kSharedLimitBytes, weightBits } from './template.js';
import {
  contractedOf,
  instantiate,
  isScaled,
  kPanelBytes,
  kReservedBytes,
  kTurnPadBytes,
  panelK,
  panelsOf,
  rowsOf,
  tileLayouts,
  tilePlan,
  tilesOf,
} from './tile-kernel.js';
import { kLeastRows, kMostWeights, matchTile, type TileMatch } from './tile-shape.js';

/** Rows up to which there are not so many tiles that every one's own norm costs more than a kernel of its own; of FP16 fewer, as wgmma's tiles (matmul/tile) are the faster ones. */
const kMostRows = 640;
const kMostHalfRows = 64;
/** k that is in shared memory at once. */
export const kMostK = 2048;
const kVector = 8;
const kProcessors = 132;

interface RowsMatch extends Omit<TileMatch, 'stem'> {
  readonly norm: keyof typeof kNormNames;
  readonly eps: number;
}

interface RowsTuning {
  /** Of a tile; all of a tile's rows are each warp's. */
  readonly rows: number;
  readonly outputs: number;
  readonly warpOutputs: number;
  /** Warps that share out k. */
  readonly kWarps: number;
}

/** Tiles from the smallest on. */
const kTunings: readonly RowsTuning[] = (
  [
    [16, 32, 4],
    [16, 32, 8],
    [16, 32, 16],
    [16, 64, 4],
    [16, 64, 8],
    [16, 128, 2],
    [16, 128, 4],
    [32, 32, 4],
    [32, 64, 4],
    [32, 64, 8],
    [32, 128, 4],
    [64, 64, 4],
    [64, 128, 4],
  ] as const
).map(([rows, outputs, kWarps]) => ({ rows, outputs, warpOutputs: 32, kWarps }));

/** Bytes of shared memory, mirrored from the kernel. */
function sharedBytes({ shape, norm }: RowsMatch, { rows, outputs, kWarps }: RowsTuning): number {
  const panels = panelsOf(shape);
  const weights = (outputs / 8) * panels * panelK(shape.weight) * weightBits(shape.weight);
  const sums = kWarps * rows * (outputs * 4 + kTurnPadBytes);
  const terms = ((isScaled(shape.weight) ? 1 : 0) + (shape.bias ? 1 : 0)) * outputs * 2;
  const parameters = { none: 0, rms: 1, layer: 2 }[norm] * contractedOf(shape) * 2;
  return (
    Math.max(panels * rows * kPanelBytes + weights, sums) +
    Math.ceil(terms / 16) * 16 +
    (shape.xScale === 'row' ? rows * 4 : 0) +
    parameters
  );
}

function fits(match: RowsMatch, tuning: RowsTuning): boolean {
  return sharedBytes(match, tuning) + kReservedBytes <= kSharedLimitBytes && (!match.shape.pairs || tuning.outputs % 32 === 0);
}

/**
 * What a tuning takes, roughly, in microseconds: rounds of blocks, each a wait for memory, copies at a multiprocessor's share of L2, rows
 * that its warps prepare one after the other, and products that wait for each other or share the tensor cores.
 */
function costOf(match: RowsMatch, tuning: RowsTuning): number {
  const { shape, norm } = match;
  const { rows, outputs, kWarps, warpOutputs } = tuning;
  const warps = (outputs / warpOutputs) * kWarps;
  const limits = [kSharedLimitBytes / (sharedBytes(match, tuning) + kReservedBytes), 32 / warps].map(Math.floor);
  const perProcessor = Math.ceil(tilesOf(shape, tuning) / kProcessors);
  const resident = Math.max(1, Math.min(...limits, perProcessor));
  const steps = (panelsOf(shape) * 4) / kWarps;
  const products = steps * (rows / 16) * (warpOutputs / 8) * Math.max(0.012, (warps * resident * 0.0095) / 4);
  const values = (rows / warps) * (contractedOf(shape) / 32);
  const prepared = norm !== 'none' || shape.xScale === 'row' ? 0.3 + values * 0.008 * Math.max(1, (warps * resident) / 8) : 0;
  const copies = (sharedBytes(match, tuning) * resident) / 110e3;
  return Math.ceil(perProcessor / resident) * (1 + products + prepared + copies + kWarps * 0.03);
}

function candidates(match: RowsMatch): readonly RowsTuning[] {
  return kTunings.filter((tuning) => fits(match, tuning)).sort((a, b) => costOf(match, a) - costOf(match, b));
}

function accepts(program: Program): RowsMatch | Refusal {
  const { values, nodes } = program;
  const norm = nodes[0]?.kind === 'norm' ? nodes[0] : null;
  const quantise = nodes[norm ? 1 : 0]?.kind === 'quantise' ? nodes[norm ? 1 : 0]! : null;
  const before = (norm ? 1 : 0) + (quantise ? 1 : 0);
  if (nodes[before]?.kind !== 'dense') return kOtherKind;
  if (quantise && quantise.inputs.length > 1) return new Refusal('scale', 'expected scales of rows, not one of all');
  const match = matchTile(program, before);
  if (match instanceof Refusal) return match;
  const { shape, stem, ...rest } = match;
  const [m, k] = [rowsOf(shape), contractedOf(shape)];
  const x = values[nodes[0]!.inputs[0]!]!;
  if (stem || x.type !== 'f16') return new Refusal('x', 'expected float16 in rows');
  if (isQuantised(values[nodes[before]!.inputs[0]!]!.type) && shape.xScale !== 'row')
    return new Refusal('scale', 'expected a scale per row');
  const mostRows = shape.xScale === 'row' ? kMostRows : kMostHalfRows;
  if (m < kLeastRows || m > mostRows) return new Refusal('m', `expected ${kLeastRows} to ${mostRows} rows but received ${m}`);
  if (k % kVector !== 0 || k > kMostK) return new Refusal('k', `expected a multiple of ${kVector}, at most ${kMostK}, but received ${k}`);
  if (shape.n * k >= kMostWeights) return new Refusal('n', `expected fewer than ${kMostWeights} weights but received ${shape.n * k}`);
  const positions = tensorPositions(program);
  const parameter = (i: number): KernelArgument => ({ kind: 'input', index: positions.get(norm!.inputs[i]!)! });
  const rows: RowsMatch = {
    ...rest,
    shape,
    operands: {
      ...rest.operands,
      ...(norm && { gain: parameter(1) }),
      ...(norm?.params['kind'] === 'layer' && { beta: parameter(2) }),
    } as RowsMatch['operands'],
    norm: norm ? (norm.params['kind'] as 'rms' | 'layer') : 'none',
    eps: norm ? Number(norm.params['eps']) : 1,
  };
  if (candidates(rows).length === 0) return new Refusal('k', 'expected rows and weights that fit into shared memory');
  return withStorage(program, rows, storageOf(rows));
}

function storageOf({ shape, weight }: Pick<RowsMatch, 'shape' | 'weight'>): ReadonlyMap<number, Storage> {
  const { weightLayout } = tileLayouts({ ...shape, k: contractedOf(shape) });
  return new Map([[weight, { layout: { digits: weightLayout } }]]);
}

function plan(match: RowsMatch, name: string, given: Tuning): KernelPlan {
  const { shape, norm, eps, operands } = match;
  const tuning: RowsTuning = { ...candidates(match)[0]!, ...given };
  const { rows, outputs, warpOutputs, kWarps } = tuning;
  const kernel = instantiate(
    shape,
    name,
    { rows, outputs, warpRows: rows, warpOutputs, stages: 2, split: 1, resident: 1, wgmma: 0 },
    {
      header: 'matmul/rows/rows.cuh',
      kernel: 'rowsProduct',
      type: 'Rows',
      blocks: tilesOf(shape, tuning),
      threads: (outputs / warpOutputs) * kWarps * 32,
      sharedBytes: sharedBytes(match, tuning),
    },
    {
      constants: [
        `static constexpr ladder::NormKind kNorm = ladder::NormKind::${kNormNames[norm]};`,
        `static constexpr float kEps = ${floatLiteral(eps)};`,
        `static constexpr ladder::ActivationFormat kActivation = ladder::ActivationFormat::${formats.get(shape.activation).activation!.enumerator!};`,
        `static constexpr int kKWarps = ${kWarps};`,
      ],
      members: ['gain', 'beta'].filter((member) => operands[member]),
      arguments: 'RowsArguments',
    },
  );
  return tilePlan(kernel, name, operands);
}

export const rows = defineFamily<RowsMatch>({
  id: 'matmul/rows',
  version: 1,
  accepts,
  storage: storageOf,
  configurations: (match) => candidates(match).map((tuning) => ({ ...tuning })),
  key: ({ shape: { weight, activation, n }, shape, norm, after }) =>
    [
      `m=${rowsOf(shape)} n=${n} k=${contractedOf(shape)} w=${weight} x=${activation}`,
      ...(norm === 'none' ? [] : [`norm=${norm}`]),
      ...(after.length > 0 ? [`post=${after.join('+')}`] : []),
    ].join(' '),
  plan,
});

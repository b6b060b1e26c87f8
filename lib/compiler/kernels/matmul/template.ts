/**
 * What the dense decoding kernels have in common on the builder's side: names of the C++ enumerators, constants of an operator,
 * kernel parameters, sizes of units (native/kernels/formats/decode.cuh) and of shared memory.
 */
import { LadderError } from '../../../errors.js';
import { formats, isMx, weightFormat } from '../../../formats/index.js';
import { kNormNames, launchOf } from '../launch.js';
import type { KernelArgument, KernelPlan, Tuning, WeightRuns } from '../plan.js';
import { type DenseMatch, type DenseShape, kFunctionNames } from './shape.js';

/** Weight rows of a tile, the rows of the tensor cores' A operand that one warp holds; and of a pair of tiles. */
export const kTileRows = 16;
export const kPairRows = 2 * kTileRows;
/** Bytes of sums of one tile and 8 tokens. */
export const kFragmentBytes = 512;
/** Multiprocessors of an H100 SXM that clusters of this size can fill, one block each. Other GPUs are tuned for. */
export const kBlocksByCluster: Readonly<Record<number, number>> = { 1: 132, 2: 132, 4: 112, 8: 112 };

/**
 * What a block takes at most and at least. At least half of a multiprocessor's, so that two never share one: the next kernel's
 * blocks start (programmatic dependent launch) wherever a block of this one ends, and if two could crowd onto the
 * multiprocessor that is free first, others would stay idle. The rest is for small kernels between the products.
 */
export const kSharedBudgetBytes = 160 * 1024;
const kSharedAloneBytes = 116 * 1024;
/** The most that a block can have, on an H100 and on an A100. */
export const kSharedLimitBytes = 227 * 1024;
export const kSharedPortableBytes = 163 * 1024;
export const kNf4TableBytes = 256 * 128;

/** k that one unit covers. */
export function unitK(weight: string): number {
  const bits = weightBits(weight);
  return bits === 1 ? 256 : bits === 4 ? 64 : 32;
}

/** Stored bits of a weight, scales not counted. */
export function weightBits(weight: string): number {
  return weightFormat(weight).element.bits;
}

/** Whether weights come in blocks that share a power of two. */
export function isMxWeight(weight: string): boolean {
  return isMx(weightFormat(weight));
}

/** Bytes of a unit of 16 rows. */
export function unitBytes(weight: string): number {
  return weight === 'fp16' ? 1024 : 512;
}

/** Bytes of one activation in shared memory. */
export function activationBytes(weight: string): number {
  return weight === 'int1' || weightBits(weight) === 8 ? 1 : 2;
}

/** Units that share a scale along k. */
export function unitsPerScale({ weight, group }: Pick<DenseShape, 'weight' | 'group'>): number {
  return group === -1 ? 1 : Math.max(1, group / unitK(weight));
}

/** Bytes of scales that travel with one unit of 16 rows. */
export function scaleBytesPerUnit(operator: Pick<DenseShape, 'weight' | 'group'>): number {
  return operator.group === -1 ? 0 : (isMxWeight(operator.weight) ? 16 : 32) / unitsPerScale(operator);
}

/** Sizes in shared memory are multiples of 128 bytes. */
export function alignShared(bytes: number): number {
  return Math.ceil(bytes / 128) * 128;
}

/** Shared memory of a kernel with a ring: bytes of a stage, and of what lies beside the ring. */
export interface RingSizes {
  readonly stage: number;
  readonly fixed: number;
}

/** Two barriers of a stage. */
const kBarrierBytes = 16;

export function ringBytes({ stage, fixed }: RingSizes, stages: number): number {
  return fixed + stages * (stage + kBarrierBytes);
}

/** Stages that `bytes` hold. */
export function stagesWithin(bytes: number, { stage, fixed }: RingSizes): number {
  return Math.floor((bytes - fixed) / (stage + kBarrierBytes));
}

/** The different complete tunings that come of partial ones and fit, in order. */
export function fittingTunings<T extends object>(
  given: readonly Tuning[],
  complete: (given: Tuning) => T,
  fits: (tuning: T) => boolean,
): readonly Tuning[] {
  const tunings: Tuning[] = [];
  for (const tuning of given.map(complete)) {
    const known = tunings.some((other) => Object.entries(tuning).every(([name, value]) => other[name] === value));
    if (fits(tuning) && !known) tunings.push({ ...tuning } as Tuning);
  }
  return tunings;
}

/** The operator's part of a configuration, as members of the C++ struct. */
export function operatorConstants(operator: DenseShape): string[] {
  const { m, n, k, weight, group, input, norm, bias, residual } = operator;
  return [
    `static constexpr ladder::WeightFormat kWeight = ladder::WeightFormat::${formats.get(weight).weight!.enumerator!};`,
    `static constexpr int kM = ${m}, kN = ${n}, kK = ${k}, kGroup = ${group};`,
    `static constexpr bool kQuantisedInput = ${input === 'quantised'}, kBias = ${bias}, kResidual = ${residual};`,
    `static constexpr ladder::Norm kNorm = ladder::Norm::${kNormNames[norm.kind]};`,
    `static constexpr float kEps = ${norm.eps.toExponential()}f;`,
    `static constexpr ladder::Function kFunction = ladder::Function::${kFunctionNames[operator.function] ?? 'kNone'};`,
  ];
}

/** Where blocks begin to read that may each begin at any tile of `rows` rows, and share out k as clusters of `cluster`. */
export function tileRuns({ n, k, weight }: DenseShape, rows: number, cluster: number): WeightRuns {
  const tiles = Math.ceil(n / rows) * cluster;
  return { runs: tiles, tiles, tileBytes: ((rows / kTileRows) * (k / unitK(weight)) * unitBytes(weight)) / cluster };
}

/** Whether a product reads the weights of the next one ahead: with 8 bits the gap between two is no longer seen. */
export function readsAhead({ weight }: DenseShape): boolean {
  return weightBits(weight) < 8;
}

/** Weights that memory delivers while one product ends and the next one starts, bytes, on an H100. */
const kNextBytes = 6 * 1024 * 1024;

/** What a kernel reads ahead of the product after it, as members of the C++ struct. */
function nextConstants(next: WeightRuns | null): string {
  const { runs, tiles, tileBytes } = next ?? { runs: 0, tiles: 0, tileBytes: 0 };
  const bytes = runs === 0 ? 0 : Math.min(Math.floor(kNextBytes / runs / 1024) * 1024, Math.floor(tiles / runs) * tileBytes);
  return `static constexpr int kNextRuns = ${bytes === 0 ? 0 : runs}, kNextTiles = ${tiles}, kNextTileBytes = ${tileBytes}, kNextBytes = ${bytes};`;
}

/** Members of DenseArguments in the order of a kernel's parameters. */
const kMembers = ['x', 'xScale', 'weight', 'scale', 'gain', 'beta', 'bias', 'residual', 'next'] as const;

/** Parameters of a dense kernel: members of DenseArguments, and the operator's tensor behind each. */
export function operatorArguments({ operands }: Pick<DenseMatch, 'operands'>): {
  members: readonly string[];
  kernelArguments: readonly KernelArgument[];
} {
  const members = kMembers.filter((member) => operands[member] !== undefined);
  return { members: [...members, 'y'], kernelArguments: [...members.map((member) => operands[member]!), { kind: 'output', index: 0 }] };
}

const kMemberTypes: Readonly<Record<string, string>> = {
  x: 'const void*',
  xScale: 'const void*',
  weight: 'const uint8_t*',
  scale: 'const void*',
  gain: 'const __half*',
  beta: 'const __half*',
  bias: 'const __half*',
  residual: 'const __half*',
  next: 'const uint8_t*',
  y: '__half*',
};

/** An `extern "C"` kernel that hands its parameters to the template `kernel` of `ladder`. */
export function kernelText(
  name: string,
  kernel: string,
  constants: readonly string[],
  members: readonly string[],
  threads: number,
  attributes: string,
): string {
  return [
    `struct ${name}_config {`,
    ...constants.map((line) => `  ${line}`),
    '};',
    `extern "C" __global__ void ${attributes}__launch_bounds__(${threads}, 1) ${name}(${members.map((member) => `${kMemberTypes[member]} ${member}`).join(', ')}) {`,
    '  ladder::DenseArguments p{};',
    ...members.map((member) => `  p.${member} = ${member};`),
    `  ladder::${kernel}<${name}_config>(p);`,
    '}',
  ].join('\n');
}

/** A kernel of native/kernels/matmul with its tuning: what kernelText and the launch need. */
interface DenseInstance {
  /** Below native/kernels. */
  readonly header: string;
  /** Function and class of the kernel: `gemv`, `Gemv`. */
  readonly kernel: string;
  readonly type: string;
  /** The tuning as members of the C++ struct. */
  readonly constants: readonly string[];
  readonly blocks: number;
  readonly cluster: number;
  readonly threads: number;
  /** Mirrored from the kernel; the generated text asserts that both agree. */
  readonly sharedBytes: number;
  readonly reads: WeightRuns;
}

/** The plan of an operator that is one launch of a dense kernel. */
export function densePlan(
  match: DenseMatch,
  name: string,
  { header, kernel, type, constants, blocks, cluster, threads, sharedBytes, reads }: DenseInstance,
  next: WeightRuns | null,
): KernelPlan {
  const { members, kernelArguments } = operatorArguments(match);
  if ((match.operands.next === undefined) !== (next === null))
    throw new LadderError('INTERNAL', `${name} has weights to read ahead, or a place to begin there, but not both`);
  const definitions = [
    kernelText(
      name,
      kernel,
      [...operatorConstants(match.shape), ...constants, nextConstants(next)],
      members,
      threads,
      cluster > 1 ? `LADDER_CLUSTER(${cluster}) ` : '',
    ),
    `static_assert(ladder::${type}<${name}_config>::kSharedBytes == ${sharedBytes} && ladder::${type}<${name}_config>::kBlockThreads == ${threads});`,
  ].join('\n');
  const dynamicSharedBytes = Math.max(sharedBytes, kSharedAloneBytes);
  return { ...launchOf(header, definitions, { name, blocks, threads, dynamicSharedBytes, arguments: kernelArguments }), reads };
}

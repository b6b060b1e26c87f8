/**
 * Configurations of native/kernels/gemv/gemv.cuh (one token): defaults, candidates for the tuner, generated text, and the
 * shared memory that a configuration takes, mirrored from the kernel (the generated text asserts that both agree).
 */
import type { DenseOperator, WeightFormat } from '../artifact/operators.js';
import { LadderError } from '../errors.js';
import { unitK } from './dense-kernels.js';
import { isMxFormat } from './formats.js';
import type { KernelArgument, KernelPlan, Tuning } from './kernel.js';

/** Multiprocessors of an H100 SXM: one block each. Other GPUs are tuned for. */
const kDefaultBlocks = 132;
/** Two kernels side by side on a multiprocessor (227 KB), so that one loads while the other drains. */
const kSharedBudgetBytes = 112 * 1024;
/** The most that a block can have. */
const kSharedLimitBytes = 227 * 1024;

const kWeightNames: Readonly<Record<WeightFormat, string>> = {
  fp16: 'kFp16', int4: 'kInt4', nf4: 'kNf4', fp8_e5m2: 'kFp8E5m2', fp8_e4m3: 'kFp8E4m3', mxfp8_e5m2: 'kMxE5m2', mxfp8_e4m3: 'kMxE4m3', int1: 'kInt1',
};
const kNormNames = { none: 'kNone', rms: 'kRms', layer: 'kLayer' } as const;
const kFunctionNames = { none: 'kNone', silu_mul: 'kSiluMul', gelu_tanh: 'kGeluTanh' } as const;

/** The operator's part of a configuration, as members of the C++ struct. */
export function operatorConstants(operator: DenseOperator): string[] {
  const { m, n, k, weight, group, input, norm, bias, residual } = operator;
  return [
    `static constexpr ladder::WeightFormat kWeight = ladder::WeightFormat::${kWeightNames[weight]};`,
    `static constexpr int kM = ${m}, kN = ${n}, kK = ${k}, kGroup = ${group};`,
    `static constexpr bool kQuantisedInput = ${input === 'quantised'}, kBias = ${bias}, kResidual = ${residual};`,
    `static constexpr ladder::Norm kNorm = ladder::Norm::${kNormNames[norm.kind]};`,
    `static constexpr float kEps = ${norm.eps.toExponential()}f;`,
    `static constexpr ladder::Function kFunction = ladder::Function::${kFunctionNames[operator.function]};`,
  ];
}

/** Parameters of a dense kernel: which member of DenseArguments each tensor of the operator is, in the order of the inputs. */
export function operatorArguments(operator: DenseOperator): { members: readonly string[]; kernelArguments: readonly KernelArgument[] } {
  const members = [
    'x',
    ...(operator.input === 'quantised' ? ['xScale'] : []),
    'weight',
    ...(operator.weight === 'fp16' ? [] : ['scale']),
    ...(operator.norm.kind === 'none' ? [] : ['gain']),
    ...(operator.norm.kind === 'layer' ? ['beta'] : []),
    ...(operator.bias ? ['bias'] : []),
    ...(operator.residual ? ['residual'] : []),
  ];
  const inputs = members.map((_, index): KernelArgument => ({ kind: 'input', index }));
  return { members: [...members, 'y'], kernelArguments: [...inputs, { kind: 'output', index: 0 }] };
}

const kMemberTypes: Readonly<Record<string, string>> = {
  x: 'const void*', xScale: 'const void*', weight: 'const uint8_t*', scale: 'const void*', gain: 'const __half*', beta: 'const __half*',
  bias: 'const __half*', residual: 'const __half*', y: '__half*',
};

/** An `extern "C"` kernel that hands its parameters to the template `kernel` of `ladder`. */
export function kernelText(name: string, kernel: string, constants: readonly string[], members: readonly string[], threads: number, attributes: string): string {
  return [
    `struct ${name}_config {`,
    ...constants.map((line) => `  ${line}`),
    '};',
    `extern "C" __global__ void ${attributes}__launch_bounds__(${threads}, 2) ${name}(${members.map((member) => `${kMemberTypes[member]} ${member}`).join(', ')}) {`,
    '  ladder::DenseArguments p{};',
    ...members.map((member) => `  p.${member} = ${member};`),
    `  ladder::${kernel}<${name}_config>(p);`,
    '}',
  ].join('\n');
}

interface GemvTuning {
  readonly blocks: number;
  readonly warps: number;
  readonly stageUnits: number;
  readonly stages: number;
  readonly prefetchBytes: number;
}

const unitBytes = (weight: WeightFormat): number => (weight === 'fp16' ? 1024 : 512);
const align = (bytes: number): number => Math.ceil(bytes / 128) * 128;

/** Shared memory beside the ring, and of one stage. */
function sharedBytes(operator: DenseOperator, { blocks, warps, stageUnits }: Omit<GemvTuning, 'stages'>): { stage: number; fixed: number } {
  const { weight, group, n, k } = operator;
  const mx = isMxFormat(weight);
  const scaleBytesPerUnit = group === -1 ? 0 : ((mx ? 16 : 32) * unitK(weight)) / group;
  const activationBytes = weight === 'int1' || weight.includes('fp8') ? 1 : 2;
  const maxTiles = Math.ceil(n / 16 / blocks);
  return {
    stage: align(stageUnits * (unitBytes(weight) + scaleBytesPerUnit)),
    fixed: (weight === 'nf4' ? 256 * 128 : 0) + align(k * activationBytes + (mx ? k / 32 : 0)) + (weight === 'int1' ? k : 0)
      + maxTiles * warps * 64 + align(4 * warps * 4),
  };
}

function totalBytes(operator: DenseOperator, tuning: GemvTuning): number {
  const { stage, fixed } = sharedBytes(operator, tuning);
  return fixed + tuning.stages * (stage + 16);
}

function defaults(operator: DenseOperator, given: Tuning): GemvTuning {
  const blocks = given['blocks'] ?? Math.min(kDefaultBlocks, operator.n / 16);
  const warps = given['warps'] ?? 8;
  const stageUnits = given['stageUnits'] ?? (operator.weight === 'fp16' ? 2 * warps : 4 * warps);
  const prefetchBytes = given['prefetchBytes'] ?? 32768;
  const { stage, fixed } = sharedBytes(operator, { blocks, warps, stageUnits, prefetchBytes });
  const fitting = Math.floor((kSharedBudgetBytes - 1024 - fixed) / (stage + 16));
  return { blocks, warps, stageUnits, prefetchBytes, stages: given['stages'] ?? Math.max(3, Math.min(6, fitting)) };
}

/** @throws LadderError `BAD_ARGUMENT` when the tuning does not fit the operator or the shared memory */
export function gemvPlan(operator: DenseOperator, name: string, given: Tuning): KernelPlan {
  const tuning = defaults(operator, given);
  const { blocks, warps, stageUnits, stages, prefetchBytes } = tuning;
  const shared = totalBytes(operator, tuning);
  if (stageUnits % warps !== 0 || blocks > operator.n / 16 || shared > kSharedLimitBytes) {
    throw new LadderError('BAD_ARGUMENT', `tuning of ${name} does not fit: ${shared} bytes of shared memory (at most ${kSharedLimitBytes}), ${stageUnits} units in a stage for ${warps} warps, ${blocks} blocks`, { ...tuning });
  }
  const { members, kernelArguments } = operatorArguments(operator);
  const constants = [
    ...operatorConstants(operator),
    `static constexpr int kBlocks = ${blocks}, kWarps = ${warps}, kStageUnits = ${stageUnits}, kStages = ${stages}, kPrefetchBytes = ${prefetchBytes};`,
  ];
  const threads = (warps + 1) * 32;
  return {
    includes: ['gemv/gemv.cuh'],
    definitions: [
      kernelText(name, 'gemv', constants, members, threads, ''),
      `static_assert(ladder::Gemv<${name}_config>::kSharedBytes == ${shared} && ladder::Gemv<${name}_config>::kBlockThreads == ${threads});`,
    ].join('\n'),
    launches: [{ name, grid: [blocks, 1, 1], block: [threads, 1, 1], dynamicSharedBytes: shared, arguments: kernelArguments, programmatic: true }],
    workspaceBytes: 0,
  };
}

/** Candidates for the tuner, the default first; all fit. */
export function gemvTunables(operator: DenseOperator): readonly Tuning[] {
  const candidates: Tuning[] = [{ ...defaults(operator, {}) }];
  for (const warps of [4, 8]) {
    for (const unitsPerWarp of operator.weight === 'fp16' ? [1, 2] : [1, 2, 4]) {
      for (const stages of [3, 4, 6, 8]) {
        for (const prefetchBytes of [0, 32768, 65536]) {
          const tuning = defaults(operator, { warps, stageUnits: unitsPerWarp * warps, stages, prefetchBytes });
          if (totalBytes(operator, tuning) <= kSharedLimitBytes) candidates.push({ ...tuning });
        }
      }
    }
  }
  return candidates;
}

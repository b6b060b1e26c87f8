/**
 * PyTorch, eager, compiled by Inductor, and compiled with linear layers at low precision: runs bench/baselines/pytorch.py, which
 * follows our protocol (CUDA events, warm-up, hot L2), and turns its answer into a record. Statistics and the judgement of throttling
 * are ours, the same as for our own checkpoints. The Python is `LADDER_PYTHON`, else python3 of the PATH.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { kPlainLabel } from '../../artifact/names.js';
import { sustainedFigures } from '../../run/benchmark.js';
import { setAsideWarnings } from '../../run/bursts.js';
import { formatLabel, kPlainFormat } from '../../formats/index.js';
import { models, type FormatPair } from '../../models/index.js';
import { isComputeBound, meanState } from '../../run/conditions.js';
import { judgeMeasurement } from '../../run/judgement.js';
import { packageRoot } from '../../run/package.js';
import { deviceStateSchema, recordSchema } from '../../run/record-schema.js';
import type { BenchRecord } from '../../run/record-types.js';
import { median, summarisePaper, summariseSamples } from '../../run/statistics.js';
import {
  conditionsOf,
  emptyRecord,
  shapeOf,
  type AdapterOptions,
  type Availability,
  type BaselineAdapter,
  type BaselineCase,
  type BaselineProgress,
} from './adapter.js';
import { findProgram } from '../../files.js';
import { lastLine, runChild, type ChildResult } from './process.js';

export type PyTorchMode = 'eager' | 'inductor';

/** In what the linear layers multiply, where not in FP16: bench/baselines/low_precision.py, systems/pytorch-low-precision.ts. */
export interface PyTorchPrecision {
  /** As in records. */
  readonly system: string;
  /** What the script calls it. */
  readonly name: string;
  readonly format: FormatPair;
  readonly bytesPerWeight: number;
  /** What of PyTorch multiplies, and on what. */
  readonly products: string;
}

/** Autotuning a network's convolutions takes minutes. */
const kTimeoutMs: Readonly<Record<PyTorchMode, number>> = { eager: 10 * 60_000, inductor: 30 * 60_000 };
const kProbeTimeoutMs = 3 * 60_000;

const environmentShape = {
  torchVersion: z.string(),
  cudaVersion: z.string(),
  cudnnVersion: z.number().nullable(),
  tritonVersion: z.string().nullable(),
  device: recordSchema.shape.device,
};
const probeSchema = z.object({ schema: z.literal('ladder-pytorch-probe/1'), ok: z.literal(true), ...environmentShape });
const failureSchema = z.object({ ok: z.literal(false), reason: z.string().min(1) });
const answerSchema = z.object({
  schema: z.literal('ladder-pytorch/1'),
  ok: z.literal(true),
  ...environmentShape,
  mode: z.enum(['eager', 'inductor']),
  precision: z.string(),
  model: z.string(),
  batch: z.number(),
  seq: z.number(),
  seed: z.number(),
  launch: z.enum(['stream', 'graph']),
  memoryFormat: z.string(),
  foldedBatchNorms: z.number(),
  compileMs: z.number().nullable(),
  compileCached: z.boolean().nullable(),
  parameters: z.number().positive(),
  outputShape: z.array(z.number()),
  relativeL2: z.number().nullable(),
  tolerance: z.number(),
  numericsOk: z.boolean().nullable(),
  samples: z.object({
    rawMs: z.array(z.number().nonnegative()).min(1),
    enqueueMs: z.array(z.number().nonnegative()).min(1),
    hostMsPerInference: z.number(),
    setAsideMs: z.array(z.number().nonnegative()),
  }),
  sustained: z.object({ rawMs: z.array(z.number().nonnegative()).min(1), states: z.array(deviceStateSchema) }).nullable(),
  paper: z.object({ valuesMs: z.array(z.number().nonnegative()).min(1), numbers: z.array(z.number().positive()) }),
  stateBefore: deviceStateSchema.nullable(),
  statesDuring: z.array(deviceStateSchema),
  stateAfter: deviceStateSchema.nullable(),
  warnings: z.array(z.string()),
});
type Answer = z.infer<typeof answerSchema>;
type Probe = z.infer<typeof probeSchema>;

const script = join(packageRoot, 'bench', 'baselines', 'pytorch.py');

/** What the script's stdout says: its answer, or why there is none. */
function readAnswer<T>(schema: z.ZodType<T>, result: ChildResult): T | string {
  let json: unknown;
  try {
    json = JSON.parse(result.stdout.trimEnd().split('\n').at(-1) ?? '');
  } catch {
    const said = lastLine(result.stderr);
    return `python ${result.ended ?? `ended with status ${result.status}`} without an answer${said === '' ? '' : `; it last said: ${said}`}`;
  }
  const failure = failureSchema.safeParse(json);
  if (failure.success) return failure.data.reason;
  const answer = schema.safeParse(json);
  if (answer.success) return answer.data;
  const issue = answer.error.issues[0];
  return `the answer of pytorch.py does not fit: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
}

const progressPrefix = 'ladder-progress ';
const progressSchema = z.object({ stage: z.string(), fraction: z.number().min(0).max(1).nullable(), detail: z.string().nullable() });

/** A line of the script's stderr, where it is one of progress. */
export function progressOf(line: string): BaselineProgress | null {
  if (!line.startsWith(progressPrefix)) return null;
  try {
    return progressSchema.parse(JSON.parse(line.slice(progressPrefix.length)));
  } catch {
    return null;
  }
}

/** Both modes share one look at the Python, which takes seconds; a failed look is not remembered for ever. */
const probes = new Map<string, Promise<Probe | string>>();

function pythonPath(): string | null {
  return findProgram(process.env.LADDER_PYTHON ?? 'python3');
}

/** What the Python at hand says of itself, or why it cannot be used. */
export async function probePython(): Promise<Probe | string> {
  const python = pythonPath();
  if (python === null)
    return `no ${process.env.LADDER_PYTHON ?? 'python3'} on the PATH; install Python 3 with PyTorch, or name one with LADDER_PYTHON`;
  let probing = probes.get(python);
  if (!probing) {
    probing = runChild(python, [script, '--probe'], { timeoutMs: kProbeTimeoutMs }).then((result) => readAnswer(probeSchema, result));
    probes.set(python, probing);
  }
  const found = await probing;
  if (typeof found === 'string') probes.delete(python);
  return found;
}

function versionOf(mode: PyTorchMode, environment: Pick<Answer, 'torchVersion' | 'cudaVersion' | 'tritonVersion'>): string {
  const { torchVersion, cudaVersion, tritonVersion } = environment;
  return `${torchVersion} (CUDA ${cudaVersion}${mode === 'inductor' ? `, Triton ${tritonVersion}, max-autotune` : ''})`;
}

/** `pytorch-eager`, `pytorch-inductor`; compiled at low precision `pytorch-fp8`, `pytorch-int4`. */
export class PyTorchAdapter implements BaselineAdapter {
  readonly system: string;

  /** @param precision of the linear layers, null: FP16 */
  constructor(
    private readonly mode: PyTorchMode,
    private readonly precision: PyTorchPrecision | null = null,
  ) {
    this.system = precision?.system ?? `pytorch-${mode}`;
  }

  covers({ model }: BaselineCase): boolean {
    return this.precision === null || models.find(model)?.kind === 'layer';
  }

  async available(): Promise<Availability> {
    const found = await probePython();
    if (typeof found === 'string') return { ok: false, reason: found };
    if (this.mode === 'inductor' && found.tritonVersion === null) {
      return {
        ok: false,
        reason: `PyTorch ${found.torchVersion} has no Triton, without which Inductor cannot compile for a GPU; install triton for the same Python`,
      };
    }
    return { ok: true, version: versionOf(this.mode, found) };
  }

  async run(case_: BaselineCase, options: AdapterOptions = {}): Promise<BenchRecord> {
    const { batch, seq } = shapeOf(case_);
    const python = pythonPath();
    const failed = (reason: string, environment?: Probe): BenchRecord => ({
      ...emptyRecord(this.system, environment ? versionOf(this.mode, environment) : 'unknown', case_, 'gpu-events'),
      ...(environment ? { device: environment.device } : {}),
      format: labelOf(this.precision),
      mode: options.mode ?? 'samples',
      status: 'failed',
      reason,
    });
    const probe = await probePython();
    if (python === null || typeof probe === 'string') return failed(typeof probe === 'string' ? probe : 'no Python');
    const result = await runChild(python, [script, ...scriptArguments(this.mode, this.precision, case_, batch, seq, options)], {
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? kTimeoutMs[this.mode],
      onErrorLine: (line) => {
        const progress = progressOf(line);
        if (progress) options.onProgress?.(progress);
      },
    });
    const answer = readAnswer(answerSchema, result);
    if (typeof answer === 'string') return failed(answer, probe);
    if (
      answer.mode !== this.mode ||
      answer.precision !== (this.precision?.name ?? kPlainFormat) ||
      answer.model !== case_.model ||
      answer.batch !== batch ||
      answer.seq !== seq
    ) {
      return failed(
        `pytorch.py was asked for ${case_.model} batch ${batch} seq ${seq} but answered for ${answer.model} batch ${answer.batch} seq ${answer.seq}`,
        probe,
      );
    }
    return recordOf(this.system, this.precision, case_, answer, options);
  }
}

function labelOf(precision: PyTorchPrecision | null): string {
  return precision === null ? kPlainLabel : formatLabel(precision.format.weight, precision.format.activation);
}

function scriptArguments(
  mode: PyTorchMode,
  precision: PyTorchPrecision | null,
  case_: BaselineCase,
  batch: number,
  seq: number,
  options: AdapterOptions,
): string[] {
  const args = [
    '--mode',
    mode,
    ...(precision === null ? [] : ['--precision', precision.name]),
    '--model',
    case_.model,
    '--batch',
    String(batch),
    '--seq',
    String(seq),
    '--device',
    String(options.ordinal ?? 0),
  ];
  const flags = {
    '--warmup-ms': options.warmupMs,
    '--min-samples': options.minSamples,
    '--max-samples': options.maxSamples,
    '--max-ms': options.maxMs,
    '--recovery-ms': options.recoveryMs,
    '--number': options.number,
    '--repeat': options.repeat,
    '--min-repeat-ms': options.minRepeatMs,
  };
  for (const [flag, value] of Object.entries(flags)) if (value !== undefined) args.push(flag, String(value));
  if (isComputeBound(case_.setting)) args.push('--rests');
  if (conditionsOf(case_, options).sustained) args.push('--sustained');
  return args;
}

function recordOf(
  system: string,
  precision: PyTorchPrecision | null,
  case_: BaselineCase,
  answer: Answer,
  options: AdapterOptions,
): BenchRecord {
  const { mode = 'samples' } = options;
  const condition = mode === 'samples' && conditionsOf(case_, options).burst ? 'burst' : null;
  const samples = summariseSamples(answer.samples.rawMs);
  const paper = summarisePaper(answer.paper.valuesMs, answer.paper.numbers);
  const latencyMs = mode === 'samples' ? samples.medianMs : paper.meanMs;
  const enqueueMedianMs = median(answer.samples.enqueueMs);
  const evidence = {
    launch: answer.launch,
    l2: 'hot',
    bytes: (precision?.bytesPerWeight ?? 2) * answer.parameters,
    l2Bytes: answer.device.l2Bytes,
  } as const;
  const { statesDuring } = answer;
  const verdict = judgeMeasurement({ ...evidence, condition, latencyMs, enqueueMedianMs, statesDuring, roofline: null });
  const reasons = verdict.invalid === null ? [] : [verdict.invalid];
  if (answer.numericsOk === false) {
    reasons.push(
      `its output differs from an FP32 evaluation of the same weights by ${answer.relativeL2} (relative L2), more than ${answer.tolerance}`,
    );
  }
  return {
    ...emptyRecord(system, versionOf(answer.mode, answer), case_, 'gpu-events'),
    format: labelOf(precision),
    status: reasons.length === 0 ? 'ok' : 'invalid',
    reason: reasons.length === 0 ? null : reasons.join('; '),
    warnings: [...answer.warnings, ...setAsideWarnings(answer.samples.setAsideMs), ...verdict.warnings],
    mode,
    launch: answer.launch,
    latencyMs,
    samples,
    paper,
    rawMs: answer.samples.rawMs,
    condition,
    meanState: meanState(statesDuring),
    sustained: answer.sustained && sustainedFigures({ gpuMs: answer.sustained.rawMs, states: answer.sustained.states }, evidence),
    enqueueMedianMs,
    hostMsPerInference: answer.samples.hostMsPerInference,
    verified: answer.numericsOk,
    device: answer.device,
    stateBefore: answer.stateBefore,
    stateAfter: answer.stateAfter,
    provenance: {
      torch: answer.torchVersion,
      cuda: answer.cudaVersion,
      cudnn: answer.cudnnVersion,
      triton: answer.tritonVersion,
      compile: answer.mode === 'inductor' ? 'torch.compile(mode="max-autotune-no-cudagraphs", fullgraph=True, dynamic=False)' : null,
      products: precision?.products ?? null,
      compileMs: answer.compileMs,
      compileCached: answer.compileCached,
      memoryFormat: answer.memoryFormat,
      foldedBatchNorms: answer.foldedBatchNorms,
      parameters: answer.parameters,
      relativeL2: answer.relativeL2,
      seed: answer.seed,
    },
  };
}

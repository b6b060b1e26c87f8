/**
 * The vendor's layer: cuBLASLt's products of one type and cuDNN's attention as one sequence (bench/baselines/vendor.py), sampled in
 * turn with our checkpoint of the format that it rivals, A B A B, in bursts and under lasting load. Both are processes of their own;
 * the rules, the clock's readings and the statistics are ours for both.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { LadderError } from '../../errors.js';
import { readManifest } from '../../artifact/checkpoint.js';
import { findProgram } from '../../files.js';
import { formatLabel } from '../../formats/index.js';
import { models, type FormatPair } from '../../models/index.js';
import { native, type NativeDeviceState } from '../../native.js';
import { measureSustained, sampleLimits, sustainedFigures, type SustainedSamples, type SustainedSource } from '../../run/benchmark.js';
import { sampleInTurn, setAsideWarnings, type BurstResult, type BurstSource } from '../../run/bursts.js';
import { isComputeBound, meanState } from '../../run/conditions.js';
import { judgeMeasurement } from '../../run/judgement.js';
import { caseOf } from '../../run/names.js';
import { throwIfAborted } from '../../run/options.js';
import { listCheckpoints, packageRoot } from '../../run/package.js';
import { recordSchema } from '../../run/record-schema.js';
import type { BenchRecord } from '../../run/record-types.js';
import { median, summariseSamples } from '../../run/statistics.js';
import {
  conditionsOf,
  emptyRecord,
  shapeOf,
  type AdapterOptions,
  type Availability,
  type BaselineAdapter,
  type BaselineCase,
} from './adapter.js';
import { probePython, progressOf } from './pytorch.js';
import { openSession, type SampleSession } from './session.js';

/** The vendor's layer in one type: what the records of systems/vendor.ts say of it. */
export interface VendorLayer {
  /** As in records. */
  readonly system: string;
  /** What vendor.py calls the type. */
  readonly type: string;
  readonly format: FormatPair;
  /** The format of our checkpoint that is sampled beside it. */
  readonly rivals: FormatPair;
  readonly bytesPerWeight: number;
  /** PyTorch's name of the product. */
  readonly product: string;
}

const kTimeoutMs = 10 * 60_000;
/** Runs under lasting load of each side, in turn. */
const kRounds = 2;
/** Between two readings of the clock under lasting load. */
const kLookMs = 100;

const environmentShape = {
  torchVersion: z.string(),
  cudaVersion: z.string(),
  cudnnVersion: z.number().nullable(),
  device: recordSchema.shape.device,
};
const vendorSchema = z.object({
  schema: z.literal('ladder-vendor/1'),
  ok: z.literal(true),
  ...environmentShape,
  type: z.string(),
  model: z.string(),
  batch: z.number(),
  seq: z.number(),
  rows: z.number().int().positive(),
  products: z.array(z.tuple([z.number(), z.number(), z.number()])).min(1),
  attention: z.string().nullable(),
});
type Description = z.infer<typeof vendorSchema>;
const servedSchema = z.object({ schema: z.literal('ladder-serve/1'), ok: z.literal(true), launch: z.enum(['stream', 'graph']) });

const script = join(packageRoot, 'bench', 'baselines', 'vendor.py');
const cli = join(packageRoot, 'dist', 'cli', 'main.js');

/** What a test puts in the place of this machine. */
export interface VendorSurroundings {
  /** Our checkpoint of a case and format; null where there is none. */
  checkpointOf(case_: BaselineCase, format: string): string | null | Promise<string | null>;
  /** What its kernels are built from (`build.sources`); null where nobody says. */
  sourcesOf(path: string): string | null | Promise<string | null>;
  /** What serves its samples (session.ts). */
  serverOf(path: string, ordinal: number): { readonly program: string; readonly args: readonly string[] };
  readState(ordinal: number): NativeDeviceState | null;
}

const surroundings: VendorSurroundings = {
  checkpointOf: async ({ model, setting }, format) =>
    (await listCheckpoints()).find(({ path }) => {
      const found = caseOf(path, null);
      return found.model === model && found.setting === setting && found.format === format;
    })?.path ?? null,
  sourcesOf: async (path) => (await readManifest(path))?.build.sources ?? null,
  serverOf: (path, ordinal) => ({ program: process.execPath, args: [cli, 'bench-serve', path, '--device', `cuda:${ordinal}`] }),
  readState: (ordinal) => native().deviceState(ordinal),
};

/** One side of the comparison. */
interface Side {
  readonly name: string;
  /** As `sourcesOf`; null of the vendor's. */
  readonly sources: string | null;
  readonly session: SampleSession<unknown>;
}

export class VendorAdapter implements BaselineAdapter {
  readonly system: string;

  constructor(
    private readonly layer: VendorLayer,
    private readonly here: VendorSurroundings = surroundings,
  ) {
    this.system = layer.system;
  }

  covers({ model }: BaselineCase): boolean {
    return models.find(model)?.kind === 'layer';
  }

  /** A record stands as long as the kernels of ours that were sampled in turn do. */
  async stands({ provenance }: BenchRecord, case_: BaselineCase): Promise<boolean> {
    const path = await this.here.checkpointOf(case_, labelOf(this.layer.rivals));
    return (provenance?.['inTurnSources'] ?? null) === (path === null ? null : await this.here.sourcesOf(path));
  }

  async available(): Promise<Availability> {
    const found = await probePython();
    return typeof found === 'string' ? { ok: false, reason: found } : { ok: true, version: versionOf(found) };
  }

  async run(case_: BaselineCase, options: AdapterOptions = {}): Promise<BenchRecord> {
    const { batch, seq } = shapeOf(case_);
    const empty: BenchRecord = {
      ...emptyRecord(this.system, 'unknown', case_, 'gpu-events'),
      format: labelOf(this.layer.format),
      launch: 'graph',
    };
    const sides: Side[] = [];
    try {
      const python = findProgram(process.env.LADDER_PYTHON ?? 'python3');
      if (python === null) return { ...empty, reason: 'no Python' };
      const args = ['--type', this.layer.type, '--model', case_.model, '--batch', batch, '--seq', seq, '--device', options.ordinal ?? 0];
      const vendor = await openSession(python, [script, ...args.map(String)], vendorSchema, {
        signal: options.signal,
        timeoutMs: options.timeoutMs ?? kTimeoutMs,
        onErrorLine: (line) => {
          const progress = progressOf(line);
          if (progress) options.onProgress?.(progress);
        },
      });
      sides.push({ name: this.system, sources: null, session: vendor });
      const warnings: string[] = [];
      const ours = await this.openOurs(case_, options, warnings);
      if (ours) sides.push(ours);
      const [bursts, lasting] = await this.sample(sides, case_, options);
      const condition = conditionsOf(case_, options).burst ? 'burst' : null;
      return recordOf({ ...empty, condition }, this.layer, vendor.description, sides, bursts, lasting, warnings);
    } catch (error) {
      if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
      return { ...empty, reason: error.message };
    } finally {
      await Promise.all(sides.map(({ session }) => session.close()));
    }
  }

  /** Our checkpoint in a process of its own; null, with a warning, where there is none or it cannot run. */
  private async openOurs(case_: BaselineCase, options: AdapterOptions, warnings: string[]): Promise<Side | null> {
    const format = labelOf(this.layer.rivals);
    const path = await this.here.checkpointOf(case_, format);
    if (path === null) {
      warnings.push(`measured alone: there is no checkpoint of ours in ${format}`);
      return null;
    }
    options.onProgress?.({ stage: 'load', fraction: null, detail: path });
    try {
      const { program, args } = this.here.serverOf(path, options.ordinal ?? 0);
      const session = await openSession(program, args, servedSchema, {
        signal: options.signal,
        timeoutMs: options.timeoutMs ?? kTimeoutMs,
      });
      // As it was described and built when it was loaded.
      return { name: path, sources: await this.here.sourcesOf(path), session };
    } catch (error) {
      if (!(error instanceof LadderError) || error.code === 'ABORTED') throw error;
      warnings.push(`measured alone: our checkpoint in ${format} does not run here: ${error.message}`);
      return null;
    }
  }

  /** Bursts of all sides in turn; then, where arithmetic decides, lasting load of each in turn. */
  private async sample(
    sides: readonly Side[],
    case_: BaselineCase,
    options: AdapterOptions,
  ): Promise<readonly [bursts: readonly BurstResult[], lasting: readonly SustainedSamples[] | null]> {
    const read = (): NativeDeviceState | null => this.here.readState(options.ordinal ?? 0);
    const limits = sampleLimits(options, true);
    const bursts = await sampleInTurn(
      sides.map(
        ({ name, session }): BurstSource => ({
          take: async (request) => typed(await session.take(request)),
          read,
          pause: (ms) => sleep(ms, undefined, { signal: options.signal }).catch(() => throwIfAborted(options.signal)),
          onProgress: (fraction) => options.onProgress?.({ stage: 'samples', fraction, detail: name }),
        }),
      ),
      { ...limits, recoveryMs: options.recoveryMs ?? 250, rests: isComputeBound(case_.setting) },
    );
    if (!conditionsOf(case_, options).sustained) return [bursts, null];
    const lasting = sides.map((): SustainedSamples[] => []);
    const round = {
      ...limits,
      minSamples: Math.ceil(limits.minSamples / kRounds),
      maxSamples: Math.ceil(limits.maxSamples / kRounds),
      maxMs: limits.maxMs / kRounds,
    };
    for (let turn = 0; turn < kRounds; turn += 1) {
      for (const [i, { name, session }] of sides.entries()) {
        options.onProgress?.({ stage: 'sustained', fraction: (turn * sides.length + i) / (kRounds * sides.length), detail: name });
        lasting[i]!.push(await measureSustained(sustainedSource(session, read), round, () => undefined));
      }
    }
    return [
      bursts,
      lasting.map((rounds) => ({ gpuMs: rounds.flatMap(({ gpuMs }) => gpuMs), states: rounds.flatMap(({ states }) => states) })),
    ];
  }
}

function labelOf({ weight, activation }: FormatPair): string {
  return formatLabel(weight, activation);
}

function versionOf({
  torchVersion,
  cudaVersion,
  cudnnVersion,
}: Pick<Description, 'torchVersion' | 'cudaVersion' | 'cudnnVersion'>): string {
  return `cuBLASLt of CUDA ${cudaVersion}, cuDNN ${cudnnVersion} (PyTorch ${torchVersion})`;
}

function typed({ gpuMs, enqueueMs, hostMsPerInference }: Awaited<ReturnType<SampleSession<unknown>['take']>>) {
  return { gpuMs: Float64Array.from(gpuMs), enqueueMs: Float64Array.from(enqueueMs), hostMsPerInference };
}

/** A session says nothing until it is done: the clock is looked at by time, once the load is over. */
function sustainedSource(session: SampleSession<unknown>, read: () => NativeDeviceState | null): SustainedSource {
  return {
    read,
    take: async (limits, onProgress) => {
      let looking: NodeJS.Timeout | undefined;
      const begin = setTimeout(() => {
        looking = setInterval(() => onProgress(0), kLookMs);
      }, limits.warmupMs);
      try {
        return await session.take(limits);
      } finally {
        clearTimeout(begin);
        clearInterval(looking);
      }
    },
  };
}

function recordOf(
  empty: BenchRecord,
  layer: VendorLayer,
  description: Description,
  sides: readonly Side[],
  bursts: readonly BurstResult[],
  lasting: readonly SustainedSamples[] | null,
  warnings: readonly string[],
): BenchRecord {
  const { gpuMs, enqueueMs, hostMsPerInference, states, setAsideMs } = bursts[0]!;
  const samples = summariseSamples(gpuMs);
  const enqueueMedianMs = median(enqueueMs);
  const weights = description.products.reduce((sum, [, n, k]) => sum + n * k, 0);
  const evidence = {
    launch: 'graph',
    l2: 'hot',
    bytes: layer.bytesPerWeight * weights,
    l2Bytes: description.device.l2Bytes,
  } as const;
  const { invalid, warnings: more } = judgeMeasurement({
    ...evidence,
    condition: empty.condition ?? null,
    latencyMs: samples.medianMs,
    enqueueMedianMs,
    statesDuring: states,
    roofline: null,
  });
  const ours = sides[1];
  return {
    ...empty,
    systemVersion: versionOf(description),
    device: description.device,
    status: invalid === null ? 'ok' : 'invalid',
    reason: invalid,
    warnings: [...warnings, ...setAsideWarnings(setAsideMs), ...more],
    latencyMs: samples.medianMs,
    samples,
    rawMs: [...gpuMs],
    meanState: meanState(states),
    sustained: lasting && sustainedFigures(lasting[0]!, evidence),
    enqueueMedianMs,
    hostMsPerInference,
    stateAfter: forRecord(states.at(-1) ?? null),
    provenance: {
      torch: description.torchVersion,
      cuda: description.cudaVersion,
      cudnn: description.cudnnVersion,
      products: layer.product,
      rows: description.rows,
      attention: description.attention,
      weights,
      inTurnWith: ours ? ours.name.split('/').slice(-2).join('/') : null,
      inTurnSources: ours?.sources ?? null,
      inTurnMs: ours ? median(bursts[1]!.gpuMs) : null,
      inTurnSustainedMs: ours && lasting ? median(lasting[1]!.gpuMs) : null,
    },
  };
}

function forRecord(state: NativeDeviceState | null): BenchRecord['stateAfter'] {
  return state && { ...state, throttleReasons: state.throttleReasons && [...state.throttleReasons] };
}

/**
 * From a path to a checkpoint that is ready to run: device, model.so (built where it is ours and missing or stale), plan,
 * executor, weights. What can be done with it is prebuilt.ts's.
 */
import { artifactDeviceType, planExecutor } from '../artifact/plan.js';
import { lackingParams, paramsRemarks, readCheckpoint, readManifest, type Checkpoint } from '../artifact/checkpoint.js';
import { checkArchitectures, checkGlobalFunctions } from '../artifact/checks.js';
import { argumentEntries } from '../artifact/graph.js';
import { locateCheckpoint } from '../artifact/locate.js';
import type { Manifest } from '../artifact/manifest.js';
import { LadderError } from '../errors.js';
import { native, type ExecutorPlan, type NativeExecutor } from '../native.js';
import { cancellable } from './benchmark.js';
import { buildModuleIfStale } from './builder.js';
import { computeCapabilityOf, ordinalOf, selectDevice, type DeviceInfo } from './device.js';
import { type CheckedLoadOptions, type TaskOptions, throwIfAborted } from './options.js';
import { resolveCheckpoint } from './package.js';
import type { BenchRecord } from './record-types.js';
import {
  elementsOf,
  isPacked,
  planFills,
  weightSource,
  zeroFilled,
  type ArgumentTensor,
  type PlannedFill,
  type TensorShape,
  type WeightSource,
} from './weights.js';

export type LoadTimes = NonNullable<BenchRecord['load']>;

/** A checkpoint on a device. Whoever has it disposes of `executor`. */
export interface Loaded {
  readonly checkpoint: Checkpoint;
  readonly device: DeviceInfo;
  readonly plan: ExecutorPlan;
  readonly executor: NativeExecutor;
  /** The operators are the host's reference operators; model.so is not used. */
  readonly usesReference: boolean;
  readonly weights: WeightSource;
  readonly fills: readonly PlannedFill[];
  readonly times: LoadTimes;
  /** What the user should know before believing a result. */
  readonly warnings: readonly string[];
}

/**
 * Loads a checkpoint.
 * @param path its folder, or its name below checkpoints/
 * @throws LadderError what reading, building, planning and loading throw; `ABORTED`
 */
export async function openCheckpoint(path: string, options: CheckedLoadOptions): Promise<Loaded> {
  throwIfAborted(options.signal);
  const folder = await locateCheckpoint(resolveCheckpoint(path));
  const wanted = selectDevice(options.device);
  const warnings: string[] = [];
  let buildMs = 0;
  if (wanted.kind === 'cuda' && options.build && (await readManifest(folder)) !== null) {
    const result = await buildModuleIfStale(folder, {
      computeCapability: computeCapabilityOf(wanted),
      signal: options.signal,
      onProgress: (fraction, label) => options.onProgress?.({ phase: 'build', fraction, detail: label }),
    });
    buildMs = result.buildMs;
    if (result.warning !== null) warnings.push(result.warning);
  }
  options.onProgress?.({ phase: 'load', fraction: null, detail: null });
  const checkpoint = await readCheckpoint(folder);
  const device = deviceFor(checkpoint, wanted, options.device);
  if (device.kind === 'cuda') checkArchitectures(checkpoint.module?.linked?.images ?? [], computeCapabilityOf(device));
  const usesReference = device.kind === 'cpu' && checkpoint.manifest !== null;
  if (checkpoint.module && !usesReference)
    checkGlobalFunctions(checkpoint.graph, checkpoint.module.globalFunctions, native().globalFunctions());
  const plan = planExecutor(checkpoint, {
    deviceType: device.kind === 'cuda' ? 2 : 1,
    deviceOrdinal: ordinalOf(device),
    useReference: usesReference,
  });
  throwIfAborted(options.signal);
  const executor = await native().openExecutor(plan);
  try {
    const started = performance.now();
    const fills = await fillWeights(checkpoint, executor, options.seed, options);
    const fillMs = performance.now() - started;
    const weights = weightSource(checkpoint.manifest, checkpoint.params !== null && lackingParams(checkpoint).length === 0);
    warnings.push(...paramsRemarks(checkpoint));
    const slow = usesReference ? null : simpleKernelsWarning(checkpoint.manifest);
    if (slow !== null) warnings.push(slow);
    const zeros = zeroFilled(fills);
    if (zeros.length > 0)
      warnings.push(`zero, as no random values are defined for their types: ${zeros.join(', ')}; set them with setInput where they matter`);
    if (weights === 'fake')
      warnings.push(
        `fake weights: neither graph.params nor checkpoint.json says what ${checkpoint.params ? 'some of them' : 'they'} are, so that they are random; right for timing, meaningless as numbers`,
      );
    return {
      checkpoint,
      device,
      plan,
      executor,
      usesReference,
      weights,
      fills,
      times: { buildMs, ...executor.loadTimes, fillMs },
      warnings,
    };
  } catch (error) {
    await executor.dispose();
    throw error;
  }
}

/** What to know of a latency that simple kernels make; null where there are none. */
export function simpleKernelsWarning(manifest: Manifest | null): string | null {
  const simple = manifest?.operators.filter(({ kernels }) => kernels?.startsWith('simple/')) ?? [];
  if (simple.length === 0) return null;
  const kinds = [...new Set(simple.map(({ kernels }) => kernels!))].join(', ');
  return `${simple.length} of ${manifest!.operators.length} operators run on kernels that are made to be right, not fast (${kinds}): none that is made for speed takes their sizes and formats`;
}

/** The device to use: a foreign artifact runs only where it was compiled for. */
function deviceFor(checkpoint: Checkpoint, wanted: DeviceInfo, option: string): DeviceInfo {
  if (checkpoint.manifest) return wanted;
  const needs = artifactDeviceType(checkpoint) === 2 ? 'cuda' : 'cpu';
  if (needs === wanted.kind) return wanted;
  if (needs === 'cpu') {
    if (option === 'auto') return selectDevice('cpu');
    throw new LadderError('UNSUPPORTED', `${checkpoint.name} was compiled for the CPU; use device 'cpu'`, { checkpoint: checkpoint.name });
  }
  // The message for a machine without a GPU names what is missing there.
  if (option === 'auto') return selectDevice('cuda');
  throw new LadderError(
    'UNSUPPORTED',
    `${checkpoint.name} was compiled for CUDA and has no checkpoint.json, which says what its operators compute: it cannot run on the CPU`,
    { checkpoint: checkpoint.name },
  );
}

/** The `null` nodes of the graph. */
export function argumentTensors({ graph }: Checkpoint): readonly ArgumentTensor[] {
  const largest = (one: TensorShape | null, other: TensorShape): TensorShape | null =>
    isPacked(other) && (one === null || elementsOf(other) > elementsOf(one)) ? other : one;
  const packed = new Map<number, TensorShape | null>();
  for (const { inputs } of graph.nodes) {
    const own = inputs.map((entry) => graph.entries[entry]!).reduce(largest, null as TensorShape | null);
    if (own) for (const entry of inputs) packed.set(entry, largest(packed.get(entry) ?? null, own));
  }
  return [...argumentEntries(graph)].map(([name, entry]) => {
    const { shape, dtype } = graph.entries[entry]!;
    return { name, entry, shape, dtype, packed: packed.get(entry) ?? null };
  });
}

/** Copies graph.params and generates everything else; returns what was generated. */
export async function fillWeights(
  checkpoint: Checkpoint,
  executor: NativeExecutor,
  seed: number | undefined,
  options: TaskOptions,
): Promise<readonly PlannedFill[]> {
  const tensors = argumentTensors(checkpoint);
  const { params, manifest } = checkpoint;
  const entryOf = new Map(tensors.map(({ name, entry }) => [name, entry]));
  if (params) {
    options.onProgress?.({ phase: 'fill', fraction: 0, detail: params.path });
    const copies = params.tensors.map(({ name, fileOffset, sizeBytes }) => ({ entry: entryOf.get(name)!, fileOffset, sizeBytes }));
    await cancellable(executor, options.signal, () => executor.loadParams(params.path, copies));
  }
  const fills = planFills(tensors, manifest, new Set(params?.tensors.map(({ name }) => name)), seed);
  const sizes = fills.map(({ entry }) => checkpoint.graph.entries[entry]!.sizeBytes);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  let done = 0;
  for (const [i, { name, entry, fill, key }] of fills.entries()) {
    throwIfAborted(options.signal);
    options.onProgress?.({ phase: 'fill', fraction: total > 0 ? done / total : null, detail: name });
    await executor.fill(entry, fill, key);
    done += sizes[i]!;
  }
  return fills;
}

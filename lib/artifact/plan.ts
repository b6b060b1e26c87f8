/**
 * From a checkpoint to the plan that native code executes: buffers, the flat list of calls, device images. Follows TVM
 * 0.12's GraphExecutor::SetupStorage and SetupOpExecs; what is planned here is never looked up again while running.
 */
import { LadderError } from '../errors.js';
import type { ExecutorPlan, PlanEntry, PlanModule, PlanOperator, PlanStorage } from '../native.js';
import type { Checkpoint } from './checkpoint.js';
import type { GraphNode } from './graph.js';
import { nativeProgram } from '../operators/native-program.js';
import type { Program } from '../operators/program.js';

/** Where and how to run. */
export interface PlanOptions {
  /** Device of the entries for which the graph names none, and of its CUDA entries: 1 CPU, 2 CUDA. */
  readonly deviceType: 1 | 2;
  /** Which GPU. */
  readonly deviceOrdinal: number;
  /** Run the reference operators on the host, all tensors on the CPU; model.so is not needed. */
  readonly useReference: boolean;
  /** Every tensor in a buffer of its own, whatever graph.json lets share one: what verification compares with. Default false. */
  readonly ownStorage?: boolean;
}

const kCpu = 1;
const kCuda = 2;
const kMachines: Readonly<Record<string, string>> = { x64: 'x86-64', arm64: 'aarch64' };

/**
 * Plans a checkpoint's execution.
 * @throws LadderError `UNSUPPORTED` (no programs for the reference, a CUDA artifact on the CPU, an unknown device type),
 *   `MISSING_MODULE`, `LOAD_FAILED` (model.so of another machine)
 *
 * @example planExecutor(checkpoint, { deviceType: 2, deviceOrdinal: 0, useReference: false })
 */
export function planExecutor(checkpoint: Checkpoint, options: PlanOptions): ExecutorPlan {
  const { graph, manifest } = checkpoint;
  const { deviceOrdinal, useReference } = options;
  if (useReference && !manifest) {
    throw new LadderError(
      'UNSUPPORTED',
      `${checkpoint.name} has no checkpoint.json, which says what its operators compute: it cannot run on the CPU through the reference operators`,
      { checkpoint: checkpoint.name },
    );
  }
  const deviceType = useReference ? kCpu : options.deviceType;
  const { entries, storages } = planStorage(checkpoint, options);
  // Manifests describe each operator, in the graph's order (checkManifest).
  const described = manifest?.operators.values();
  const operators = graph.nodes.flatMap((node): PlanOperator[] => {
    if (node.functionName === null) return [];
    return planOperator(node, entries, described?.next().value?.program ?? null, useReference);
  });
  return { deviceType, deviceOrdinal, entries, storages, operators, module: useReference ? null : planModule(checkpoint, deviceType) };
}

/** The device that an artifact was compiled for: 2 when any tensor is on CUDA, or, where the graph does not say, when the module carries device code. */
export function artifactDeviceType({ graph, module }: Checkpoint): 1 | 2 {
  if (graph.entries.some(({ deviceType }) => deviceType !== null))
    return graph.entries.some(({ deviceType }) => deviceType === kCuda) ? kCuda : kCpu;
  return (module?.linked ?? null) !== null || (module?.blob?.images.length ?? 0) > 0 ? kCuda : kCpu;
}

/** Bytes that a plan's tensors take; parameters in files and device code come on top. */
export function planMemory(plan: ExecutorPlan): { readonly hostBytes: number; readonly deviceBytes: number } {
  const sum = (deviceType: 1 | 2): number =>
    plan.storages.reduce((total, storage) => total + (storage.deviceType === deviceType ? storage.sizeBytes : 0), 0);
  return { hostBytes: sum(kCpu), deviceBytes: sum(kCuda) };
}

function planStorage(
  { graph, name }: Checkpoint,
  { deviceType, useReference, ownStorage = false }: PlanOptions,
): { entries: readonly PlanEntry[]; storages: readonly PlanStorage[] } {
  const place = (type: number | null): 1 | 2 => {
    if (useReference) return kCpu;
    if (type === null) return deviceType;
    if (type !== kCpu && type !== kCuda)
      throw new LadderError('UNSUPPORTED', `${name} has tensors on device type ${type}; only CPU (1) and CUDA (2) are supported`, {
        deviceType: type,
      });
    if (type === kCuda && deviceType === kCpu) {
      throw new LadderError(
        'UNSUPPORTED',
        `${name} was compiled for CUDA: its operators cannot run on the CPU (checkpoints with a checkpoint.json can, through the reference operators)`,
        { checkpoint: name },
      );
    }
    return type;
  };
  const storages: { sizeBytes: number; deviceType: 1 | 2 }[] = [];
  // Storage ids may be sparse; indices are not.
  const indexOf = new Map<number, number>();
  const entries = graph.entries.map(({ shape, dtype, sizeBytes, storageId, deviceType: type }): PlanEntry => {
    let index = ownStorage ? undefined : indexOf.get(storageId);
    if (index === undefined) {
      index = storages.push({ sizeBytes: 0, deviceType: place(type) }) - 1;
      indexOf.set(storageId, index);
    }
    const storage = storages[index]!;
    storage.sizeBytes = Math.max(storage.sizeBytes, sizeBytes);
    return { shape, dtype, storage: index, sizeBytes };
  });
  return { entries, storages };
}

function planOperator(node: GraphNode, entries: readonly PlanEntry[], program: Program | null, useReference: boolean): PlanOperator[] {
  const step = {
    node: node.name,
    functionName: node.functionName!,
    inputs: node.inputs,
    outputs: node.outputs,
    flatten: node.flatten,
    program: program && nativeProgram(program),
  };
  if (useReference) return [{ ...step, kind: 'reference' }];
  const [input] = node.inputs;
  const [output] = node.outputs;
  if (node.functionName === '__nop') {
    // With storage of its own (which TVM never plans) the output would stay unset: a copy makes it right.
    return entries[input!]!.storage === entries[output!]!.storage ? [] : [{ ...step, inputs: [input!], kind: 'copy' }];
  }
  return [{ ...step, kind: node.functionName === '__copy' ? 'copy' : 'packed' }];
}

function planModule({ module, name, folder, manifest }: Checkpoint, deviceType: 1 | 2): PlanModule {
  if (!module) {
    const remedy = manifest ? 'build it with `ladder build`, which needs nvcc' : 'copy it from where the checkpoint was made';
    throw new LadderError('MISSING_MODULE', `${name} has no model.so; ${remedy}`, { folder });
  }
  if (module.elf.machine !== kMachines[process.arch]) {
    throw new LadderError('LOAD_FAILED', `${module.path} is for ${module.elf.machine} but this process runs on ${process.arch}`, {
      path: module.path,
    });
  }
  const launch = new Map(Object.entries(manifest?.launch ?? {}));
  const images = deviceType === kCpu ? [] : (module.blob?.images ?? []);
  return {
    path: module.path,
    images: images.map(({ format, bytes, kernels }) => ({
      format,
      bytes,
      onDemand: kernels.some(({ name }) => launch.get(name)?.targets !== undefined),
      kernels: kernels.map((kernel) => ({
        ...kernel,
        programmaticStreamSerialization: launch.get(kernel.name)?.programmaticStreamSerialization ?? false,
      })),
    })),
    constants: module.blob?.constants ?? [],
    constantUsers: module.blob?.constantUsers ?? [],
    launchesItself: module.linked !== null,
    lastErrorAddress: module.linked?.lastErrorAddress ?? null,
  };
}

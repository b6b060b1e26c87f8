/**
 * What a checkpoint folder holds, as plain data for people and machines: no GPU is needed, nothing is loaded. Problems are listed instead of
 * thrown, each with the code that loading would throw.
 */
import { basename, dirname } from 'node:path';
import { type ErrorCode, LadderError } from '../errors.js';
import { stepsText } from '../operators/program.js';
import { native, type NativeDevice } from '../native.js';
import {
  checkArchitectures,
  checkGlobalFunctions,
  checkManifest,
  checkModule,
  checkParams,
  checkParamsComplete,
  reshapedParams,
} from './checks.js';
import {
  type Checkpoint,
  type CheckpointModule,
  inputNames,
  moduleParams,
  lackingParams,
  readGraph,
  readManifest,
  readModule,
  readParamsIndex,
  refuseDamagedModule,
} from './checkpoint.js';
import { imageArchitectures } from './fatbin.js';
import type { Graph } from './graph.js';
import { locateCheckpoint, modelOfFolder } from './locate.js';
import type { Manifest } from './manifest.js';
import { type CheckpointName, parseCheckpointName } from './names.js';
import { measureStorage, storageConflicts } from './storage.js';

/** Something that would keep the checkpoint from loading, or make its results wrong. */
export interface InspectedProblem {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface InspectedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** input: set by the caller; operator: computed; params: read from graph.params; fill: made by a generator. */
  readonly source: 'input' | 'params' | 'fill' | 'operator';
}

export interface InspectedOperator {
  readonly node: string;
  readonly functionName: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** What it computes, of our own checkpoints, step by step: `norm, dense, add`. */
  readonly steps: string | null;
  /** The family of kernels that it runs on, of our own checkpoints: `matmul/vector`, `simple/dense`. */
  readonly kernels: string | null;
}

export interface InspectedModule {
  readonly sizeBytes: number;
  readonly machine: string;
  /** 1: kernels are launched by the object itself; 2: by the loader, from the blob; cpu: no device code. */
  readonly route: '1' | '2' | '1 and 2' | 'cpu';
  readonly architectures: readonly string[];
  readonly kernels: readonly { readonly name: string; readonly arguments: number; readonly launchTags: readonly string[] }[];
  readonly constants: number;
  readonly undefinedSymbols: readonly string[];
  /** Global packed functions that it names, e.g. `tvm.contrib.cudnn.conv2d.forward`, and whether this runtime has them; null: the addon is not built. */
  readonly globalFunctions: readonly { readonly name: string; readonly provided: boolean | null }[];
  readonly needed: readonly string[];
}

/** What `inspectPrebuilt` says: plain data, fit for JSON. */
export interface Inspection {
  readonly folder: string;
  readonly name: string;
  readonly model: string;
  readonly parsedName: CheckpointName | null;
  /** Null parts are absent from the folder, or unreadable: then `problems` says why. */
  readonly graph: {
    readonly nodes: number;
    readonly inputs: readonly InspectedTensor[];
    readonly outputs: readonly InspectedTensor[];
    readonly operators: readonly InspectedOperator[];
    /** Device types that the graph names: 1 CPU, 2 CUDA. */
    readonly deviceTypes: readonly number[];
    readonly storages: number;
    readonly sharedBytes: number;
    readonly unsharedBytes: number;
  } | null;
  readonly params: {
    readonly tensors: number;
    readonly sizeBytes: number;
    /** Held by graph.params, and not by the graph. */
    readonly unused: readonly string[];
  } | null;
  readonly module: InspectedModule | null;
  readonly manifest: Pick<
    Manifest,
    'config' | 'layers' | 'batch' | 'seq' | 'mask' | 'format' | 'seed' | 'bytes' | 'flops' | 'targets' | 'build'
  > | null;
  readonly problems: readonly InspectedProblem[];
  /** What keeps nothing from running, and is worth knowing: parameters of another shape than the graph's. */
  readonly remarks: readonly string[];
}

/**
 * Inspects a checkpoint.
 * @param path the folder, or a file in it
 * @throws LadderError `NOT_A_CHECKPOINT`; all else is in `problems`
 *
 * @example (await inspectPrebuilt(path)).module?.architectures // ['compute_80', 'sm_80', 'sm_90a']
 */
export async function inspectPrebuilt(path: string): Promise<Inspection> {
  const folder = await locateCheckpoint(path);
  const problems: InspectedProblem[] = [];
  const attempt = async <T>(read: () => T | Promise<T>): Promise<T | null> => {
    try {
      return await read();
    } catch (cause) {
      if (!(cause instanceof LadderError)) throw cause;
      problems.push({ code: cause.code, message: cause.message });
      return null;
    }
  };
  const graph = await attempt(() => readGraph(folder));
  const manifest = await attempt(() => readManifest(folder));
  const module = await attempt(() => readModule(folder));
  const params = await attempt(async () => (await readParamsIndex(folder, graph)) ?? moduleParams(module, graph));
  if (graph && manifest) await attempt(() => checkManifest(graph, manifest));
  if (graph && params) await attempt(() => checkParams(graph, params.tensors, manifest));
  if (params && manifest) await attempt(() => checkParamsComplete(manifest, params.tensors));
  for (const name of graph && params ? lackingParams({ graph, manifest, params }) : [])
    problems.push({
      code: 'MISSING_PARAMETER',
      message: `graph.params lacks ${JSON.stringify(name)}, one of a series that it holds: a run fills it with random values`,
    });
  if (graph && module) await attempt(() => checkModule(graph, module.elf));
  if (module && manifest) await attempt(() => refuseDamagedModule(module.path));
  const provided = providedFunctions();
  if (graph && module && provided) await attempt(() => checkGlobalFunctions(graph, module.globalFunctions, provided));
  if (module) await attempt(() => checkDevices(module, manifest));
  if (graph) for (const message of storageConflicts(graph)) problems.push({ code: 'BAD_GRAPH', message });
  const name = basename(folder);
  const parsedName = parseCheckpointName(name, basename(dirname(folder)));
  return {
    folder,
    name,
    model: manifest?.model ?? parsedName?.model ?? modelOfFolder(folder),
    parsedName,
    graph: graph && describeGraph({ graph, manifest, params }),
    params: params && {
      tensors: params.tensors.length,
      sizeBytes: params.tensors.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      unused: params.unused,
    },
    module: module && describeModule(module),
    manifest: manifest && summarise(manifest),
    problems,
    remarks: graph && params ? reshapedParams(graph, params.tensors) : [],
  };
}

/**
 * Where this machine has GPUs, one of them must be able to run the device code. Our own checkpoints have an image per target, of
 * which any may be another GPU's.
 * @throws LadderError `WRONG_ARCHITECTURE`, of the first GPU
 */
function checkDevices({ linked, blob }: CheckpointModule, manifest: Manifest | null): void {
  const carried = manifest ? [] : (blob?.images ?? []).map((image) => ({ architectures: imageArchitectures(image) }));
  const images = [...(linked?.images ?? []), ...carried.filter(({ architectures }) => architectures.length > 0)];
  const devices = images.length > 0 ? cudaDevices() : [];
  const refusals: unknown[] = [];
  for (const { computeCapability } of devices) {
    try {
      checkArchitectures(images, computeCapability);
    } catch (refusal) {
      refusals.push(refusal);
    }
  }
  if (refusals.length > 0 && refusals.length === devices.length) throw refusals[0];
}

/** None where the addon is not built: inspecting does without. */
function cudaDevices(): readonly NativeDevice[] {
  return ifBuilt(() => native().devices()) ?? [];
}

function providedFunctions(): readonly string[] | null {
  return ifBuilt(() => native().globalFunctions());
}

function ifBuilt<T>(ask: () => T): T | null {
  try {
    return ask();
  } catch {
    return null;
  }
}

function describeGraph({ graph, manifest, params }: Pick<Checkpoint, 'graph' | 'manifest' | 'params'>): NonNullable<Inspection['graph']> {
  const inputs = new Set(inputNames({ graph, manifest, params }));
  const stored = new Set(params?.tensors.map(({ name }) => name));
  const described = new Map(manifest?.operators.map((operator) => [operator.node, operator]));
  const stepsOf = (name: string): string | null => {
    const operator = described.get(name);
    return operator ? stepsText(operator.program) : null;
  };
  const sourceOf = (name: string): InspectedTensor['source'] => (stored.has(name) ? 'params' : inputs.has(name) ? 'input' : 'fill');
  const { storages, sharedBytes, unsharedBytes } = measureStorage(graph);
  return {
    nodes: graph.nodes.length,
    inputs: graph.argumentNodes.map((index) => tensor(graph, graph.nodes[index]!.outputs[0]!, sourceOf(graph.nodes[index]!.name))),
    outputs: graph.heads.map((entry) => tensor(graph, entry, 'operator')),
    operators: graph.nodes.flatMap((node): InspectedOperator[] =>
      node.functionName === null
        ? []
        : [
            {
              node: node.name,
              functionName: node.functionName,
              inputs: node.inputs.map((entry) => describeEntry(graph, entry)),
              outputs: node.outputs.map((entry) => describeEntry(graph, entry)),
              steps: stepsOf(node.name),
              kernels: described.get(node.name)?.kernels ?? null,
            },
          ],
    ),
    deviceTypes: [...new Set(graph.entries.flatMap(({ deviceType }) => deviceType ?? []))].sort((a, b) => a - b),
    storages,
    sharedBytes,
    unsharedBytes,
  };
}

function tensor(graph: Graph, id: number, source: InspectedTensor['source']): InspectedTensor {
  const { node, dtype, shape, sizeBytes } = graph.entries[id]!;
  return { name: graph.nodes[node]!.name, dtype: dtype.name, shape, sizeBytes, source };
}

function describeEntry(graph: Graph, id: number): string {
  const { dtype, shape } = graph.entries[id]!;
  return `${dtype.name}[${shape.join(', ')}]`;
}

function describeModule({ sizeBytes, elf, blob, linked, globalFunctions }: CheckpointModule): InspectedModule {
  const images = blob?.images ?? [];
  const architectures = new Set([...images.flatMap(imageArchitectures), ...(linked?.images ?? []).flatMap((image) => image.architectures)]);
  return {
    sizeBytes,
    machine: elf.machine,
    route: linked ? (images.length > 0 ? '1 and 2' : '1') : images.length > 0 ? '2' : 'cpu',
    architectures: [...architectures].sort(),
    kernels: images.flatMap(({ kernels }) =>
      kernels.map(({ name, argumentTypes, launchTags }) => ({ name, arguments: argumentTypes.length, launchTags })),
    ),
    constants: blob?.constants.length ?? 0,
    globalFunctions: globalFunctions.map(({ name }) => ({ name, provided: providedFunctions()?.includes(name) ?? null })),
    undefinedSymbols: elf.undefined.filter(({ weak }) => !weak).map(({ name }) => name),
    needed: elf.needed,
  };
}

function summarise({ config, layers, batch, seq, mask, format, seed, bytes, flops, targets, build }: Manifest): Inspection['manifest'] {
  return { ...(config && { config }), layers, batch, seq, ...(mask !== undefined && { mask }), format, seed, bytes, flops, targets, build };
}

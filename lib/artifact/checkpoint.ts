/**
 * A checkpoint read from its folder: all four files parsed and checked against each other, nothing loaded or run.
 * Parsers are in graph.ts, params.ts, elf.ts, module-blob.ts and manifest.ts; checks between files in checks.ts.
 */
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LadderError } from '../errors.js';
import { decodeText } from '../files.js';
import { checkStorage, checkManifest, checkModule, checkParams, checkParamsComplete, listNames, reshapedParams } from './checks.js';
import { FileSource } from './byte-source.js';
import { type ElfObject, type FileRange, fileRangeAt, localFunctionAddress, parseElf, readExportedString } from './elf.js';
import { type LinkedImage, linkedImages } from './fatbin.js';
import { type NamedFunction, namedGlobalFunctions } from './global-functions.js';
import { argumentEntries, type Graph, parseGraph } from './graph.js';
import { kGraphFile, kManifestFile, kModuleFile, kParamsFile, locateCheckpoint, modelOfFolder } from './locate.js';
import { type Manifest, parseManifest } from './manifest.js';
import { type ModuleBlob, parseModuleBlob } from './module-blob.js';
import { type CheckpointName, parseCheckpointName } from './names.js';
import { type ParamTensor, readParams } from './params.js';
import { readSmallFile } from './regular-file.js';
import { hashOfFile, readSeal } from './seal.js';

/** graph.json and checkpoint.json are parsed at once, on JavaScript's thread: larger ones would hold it up for seconds. */
const kMaxTextBytes = 32 << 20;

export const kBlobSymbol = '__tvm_dev_mblob';

/** Stored parameters, of graph.params or, where there is none, of model.so: where the tensors lie. */
export interface CheckpointParams {
  readonly path: string;
  /** Those that the graph has. */
  readonly tensors: readonly ParamTensor[];
  /** Names of those that the graph lacks: skipped, as TVM does. */
  readonly unused: readonly string[];
}

/** Device code that model.so launches by itself (route 1), through a CUDA runtime inside it or one that it needs. */
export interface LinkedCode {
  /** Empty where the code is in libraries that model.so needs, or not understood. */
  readonly images: readonly LinkedImage[];
  /** Address of the CUDA runtime's `cudaGetLastError` in the object; null where its symbols were stripped. */
  readonly lastErrorAddress: number | null;
}

/** model.so, unloaded. */
export interface CheckpointModule {
  readonly path: string;
  readonly sizeBytes: number;
  readonly elf: ElfObject;
  /** null: there is none; then it runs on the CPU, or on what `linked` says. */
  readonly blob: ModuleBlob | null;
  /** Global packed functions that it names. */
  readonly globalFunctions: readonly NamedFunction[];
  /** null: nothing in it launches by itself. An object may have both. */
  readonly linked: LinkedCode | null;
}

/** A checkpoint, read and checked. */
export interface Checkpoint {
  /** Absolute. */
  readonly folder: string;
  /** The folder's name. */
  readonly name: string;
  /** What the name says, if it is one of the authors' kind. */
  readonly parsedName: CheckpointName | null;
  /** The manifest's model, or that of the name, or what the folder's place says. */
  readonly model: string;
  readonly graph: Graph;
  /** null: weights are filled, not read. */
  readonly params: CheckpointParams | null;
  /** null: model.so is absent. */
  readonly module: CheckpointModule | null;
  /** null: a foreign checkpoint. */
  readonly manifest: Manifest | null;
}

/**
 * Reads a checkpoint.
 * @param path the folder, or a file in it; `ladder/checkpoint/` and `ladder/checkpoints/` both do
 * @throws LadderError `NOT_A_CHECKPOINT`, `BAD_GRAPH`, `BAD_PARAMS`, `MISSING_PARAMETER`, `BAD_MODULE`, `MISSING_SYMBOL`, `BAD_MANIFEST`, `IO`
 *
 * @example const checkpoint = await readCheckpoint('checkpoints/Figure8/ladder/checkpoint/llama2-70b/llama2_bs1_seq1_async');
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const folder = await locateCheckpoint(path);
  const graph = await readGraph(folder);
  checkStorage(graph);
  const manifest = await readManifest(folder);
  if (manifest) checkManifest(graph, manifest);
  const module = await readModule(folder);
  const params = (await readParamsIndex(folder, graph)) ?? moduleParams(module, graph);
  if (params) checkParams(graph, params.tensors, manifest);
  if (params && manifest) checkParamsComplete(manifest, params.tensors);
  if (module) checkModule(graph, module.elf);
  if (module && manifest) await refuseDamagedModule(module.path);
  const name = basename(folder);
  const parsedName = parseCheckpointName(name, basename(dirname(folder)));
  return {
    folder,
    name,
    parsedName,
    model: manifest?.model ?? parsedName?.model ?? modelOfFolder(folder),
    graph,
    params,
    module,
    manifest,
  };
}

/**
 * Names of the graph's inputs that the caller sets, in order: those that the manifest calls inputs; without one, those that
 * graph.params does not hold (all, where there is no graph.params: nothing then tells weights from inputs).
 */
export function inputNames({ graph, manifest, params }: Pick<Checkpoint, 'graph' | 'manifest' | 'params'>): readonly string[] {
  const stored = new Set(params?.tensors.map(({ name }) => name));
  const names = graph.argumentNodes.map((node) => graph.nodes[node]!.name);
  if (!manifest) return names.filter((name) => !stored.has(name));
  const roles = new Map(Object.entries(manifest.tensors));
  return names.filter((name) => roles.get(name)?.role === 'input');
}

/** Reads graph.json of a folder. @throws LadderError `BAD_GRAPH`, `IO` */
export async function readGraph(folder: string): Promise<Graph> {
  const text = await readText(join(folder, kGraphFile), 'BAD_GRAPH');
  if (text === null) throw new LadderError('NOT_A_CHECKPOINT', `${folder} holds no graph.json`, { path: folder });
  return parseGraph(text);
}

/** Reads checkpoint.json of a folder; null when there is none. @throws LadderError `BAD_MANIFEST`, `IO` */
export async function readManifest(folder: string): Promise<Manifest | null> {
  const text = await readText(join(folder, kManifestFile), 'BAD_MANIFEST');
  return text === null ? null : parseManifest(text);
}

/**
 * Reads the headers of graph.params; null when there is none.
 * @param graph null: not known, so that nothing is told apart
 * @throws LadderError `BAD_PARAMS`, also for a file that has nothing of the graph; `IO`
 */
export async function readParamsIndex(folder: string, graph: Graph | null): Promise<CheckpointParams | null> {
  const path = join(folder, kParamsFile);
  return (await fileSize(path)) === null ? null : usableParams(path, kParamsFile, readParams(path), graph);
}

/** Parameters, and the names of those that the graph lacks. @throws LadderError `BAD_PARAMS` where it lacks all */
function usableParams(path: string, file: string, all: readonly ParamTensor[], graph: Graph | null): CheckpointParams {
  const entries = graph && argumentEntries(graph);
  const known = (tensor: ParamTensor): boolean => entries?.has(tensor.name) ?? true;
  const unused = all.filter((tensor) => !known(tensor)).map(({ name }) => name);
  if (unused.length > 0 && unused.length === all.length)
    throw new LadderError(
      'BAD_PARAMS',
      `${file} is of another graph: it holds ${quoted(unused)}, none of which is an input of graph.json`,
      { tensors: unused },
    );
  return { path, tensors: all.filter(known), unused };
}

/** Names of a foreign file for a message. */
function quoted(names: readonly string[]): string {
  return listNames(names.map((name) => JSON.stringify(name)));
}

/** A name but for its numbers: tensors of one kind, `p0` and `p12`, have it in common. */
function seriesOf(name: string): string {
  return name.replace(/\d+/g, '#');
}

/**
 * Inputs of a foreign graph that graph.params should hold and does not: those whose names are one of a series that it holds
 * (TVM calls parameters p0, p1, …). Others are what a caller sets.
 */
export function lackingParams({ graph, manifest, params }: Pick<Checkpoint, 'graph' | 'manifest' | 'params'>): readonly string[] {
  if (!params) return [];
  const series = new Set(params.tensors.map(({ name }) => seriesOf(name)).filter((text) => text.includes('#')));
  return inputNames({ graph, manifest, params }).filter((name) => !manifest && series.has(seriesOf(name)));
}

/** What to know of graph.params before believing a result: tensors too many, and too few. */
export function paramsRemarks(checkpoint: Pick<Checkpoint, 'graph' | 'manifest' | 'params'>): readonly string[] {
  const unused = checkpoint.params?.unused ?? [];
  const lacking = lackingParams(checkpoint);
  const file = basename(checkpoint.params?.path ?? kParamsFile);
  return [
    ...reshapedParams(checkpoint.graph, checkpoint.params?.tensors ?? []),
    ...(unused.length > 0 ? [`${file} holds ${quoted(unused)}, which the graph lacks: skipped, as TVM does`] : []),
    ...(lacking.length > 0 ? [`${file} lacks ${quoted(lacking)}: filled with random values`] : []),
  ];
}

/** The parameters that TVM's `export_library` put into model.so; null when there are none. @throws LadderError `BAD_PARAMS` */
export function moduleParams(module: CheckpointModule | null, graph: Graph | null): CheckpointParams | null {
  const tensors = module?.blob?.params ?? [];
  return module && tensors.length > 0 ? usableParams(module.path, kModuleFile, tensors, graph) : null;
}

/** Reads model.so's symbols and module blob; null when there is none. @throws LadderError `BAD_MODULE`, `IO` */
export async function readModule(folder: string): Promise<CheckpointModule | null> {
  const path = join(folder, kModuleFile);
  const sizeBytes = await fileSize(path);
  if (sizeBytes === null) return null;
  const source = new FileSource(path);
  try {
    const elf = parseElf(source);
    const range = blobRange(source, elf);
    return {
      path,
      sizeBytes,
      elf,
      blob: range && parseModuleBlob(source, range),
      globalFunctions: namedGlobalFunctions(source, elf, range),
      linked: readLinkedCode(source, elf),
    };
  } finally {
    source.close();
  }
}

/** NVIDIA's libraries that launch kernels, or let the object do so. */
const kLaunchingLibraries = /^lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|curand|cusparse|cusolver|nvrtc|nccl)\b/;

function readLinkedCode(source: FileSource, elf: ElfObject): LinkedCode | null {
  const fatbin = elf.sections.find(({ name }) => name === '.nv_fatbin');
  if (!fatbin && !elf.needed.some((library) => kLaunchingLibraries.test(library))) return null;
  return {
    images: fatbin ? linkedImages(source, fatbin) : [],
    lastErrorAddress: localFunctionAddress(source, elf, 'cudaGetLastError'),
  };
}

/** A file of the folder against its hash, or model.so's kernel sources against the manifest's. */
export interface HashCheck {
  readonly file: string;
  readonly matches: boolean;
  /** The hashes, in words, or why there is nothing to compare. */
  readonly detail: string;
}

/**
 * Compares the folder's files, read whole as streams, with their hashes: those of the manifest, and that which model.so carries
 * of itself (seal.ts); then the sources that model.so names with the manifest's. Empty for a foreign checkpoint.
 * @throws LadderError `IO`
 */
export async function checkHashes({ folder, manifest, params, module }: Checkpoint): Promise<readonly HashCheck[]> {
  if (!manifest) return [];
  const results: HashCheck[] = [];
  for (const [file, expected] of Object.entries(manifest.files))
    results.push(compareHashes(file, expected, await hashIfThere(join(folder, file)), kManifestFile));
  if (params && !Object.hasOwn(manifest.files, kParamsFile))
    results.push({
      file: kParamsFile,
      matches: true,
      detail: `not compared: ${kManifestFile} holds no hash of it, as those who pack it with \`ladder build … --weights\` get`,
    });
  if (module) {
    results.push(
      await checkModuleHash(module.path),
      compareHashes(
        `${kModuleFile} (sources)`,
        manifest.build.sources,
        await readExportedString(module.path, '__ladder_sources'),
        kManifestFile,
      ),
    );
  }
  return results;
}

/** Compares a model.so of ours with the hash that it carries. @throws LadderError `IO` */
export async function checkModuleHash(path: string): Promise<HashCheck> {
  const seal = await readSeal(path);
  const check: HashCheck = seal
    ? compareHashes(kModuleFile, seal.expected, seal.actual, 'its last line')
    : { file: kModuleFile, matches: false, detail: 'it carries no SHA-256 of itself: cut short, changed, or of an earlier version' };
  return check.matches ? check : { ...check, detail: `${check.detail}; remove it, and it is built anew` };
}

function compareHashes(file: string, expected: string, actual: string | null, source: string): HashCheck {
  const matches = actual === expected;
  return {
    file,
    matches,
    detail: matches
      ? `SHA-256 ${expected.slice(0, 12)}… as in ${source}`
      : `SHA-256 is ${actual?.slice(0, 12) ?? 'absent'}, ${source} says ${expected.slice(0, 12)}`,
  };
}

/**
 * Code that is not what was compiled must not run.
 * @param path of a model.so of ours
 * @throws LadderError `BAD_MODULE`, `IO`
 */
export async function refuseDamagedModule(path: string): Promise<void> {
  const { matches, detail } = await checkModuleHash(path);
  if (!matches) throw new LadderError('BAD_MODULE', `${path} is not as it was built: ${detail}`, { path });
}

async function hashIfThere(path: string): Promise<string | null> {
  try {
    return await hashOfFile(path);
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw ioError(path, cause);
  }
}

/** Where the module blob lies in the file; null when the module has none. */
function blobRange(source: FileSource, elf: ElfObject): FileRange | null {
  const symbol = elf.exported.get(kBlobSymbol);
  if (!symbol) return null;
  const range = fileRangeAt(elf, symbol.address);
  if (!range || symbol.sizeBytes > range.sizeBytes) {
    const { name: path } = source;
    throw new LadderError('BAD_MODULE', `${path}: ${kBlobSymbol} does not lie in the file`, { path, symbol: kBlobSymbol });
  }
  // A symbol without a size is as long as the prefix says.
  return { offset: range.offset, sizeBytes: symbol.sizeBytes || range.sizeBytes };
}

async function readText(path: string, code: 'BAD_GRAPH' | 'BAD_MANIFEST'): Promise<string | null> {
  const bytes = await readSmallFile(path, kMaxTextBytes, code);
  if (bytes === null) return null;
  try {
    return decodeText(bytes, true);
  } catch (cause) {
    throw new LadderError(code, `${path} is neither UTF-8 nor, with a byte order mark, UTF-16`, { path }, { cause });
  }
}

async function fileSize(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw ioError(path, cause);
  }
}

function isMissing(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException).code === 'ENOENT';
}

function ioError(path: string, cause: unknown): LadderError {
  return new LadderError('IO', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
}

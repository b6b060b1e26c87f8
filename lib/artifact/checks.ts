/**
 * Whether a checkpoint's files fit each other: graph against parameters, module and manifest. Each file by itself is
 * checked by its parser. All are pure; readCheckpoint throws what they throw, inspectPrebuilt collects it.
 */
import { LadderError } from '../errors.js';
import { checkProgram } from '../operators/check.js';
import { kTensorBytes, programTensors, type TensorSpec, tensorsOf } from '../operators/program.js';
import { parseDataType, sameDataType } from './dtype.js';
import type { ElfObject } from './elf.js';
import { type LinkedImage, runsOn } from './fatbin.js';
import type { NamedFunction } from './global-functions.js';
import { argumentEntries, type Graph, type GraphNode } from './graph.js';
import type { Manifest } from './manifest.js';
import type { ParamTensor } from './params.js';
import { storageConflicts } from './storage.js';

/** Functions that the executor provides itself. */
const kExecutorFunctions = new Set(['__nop', '__copy']);
const kMaxListed = 10;

/** Every function that the graph calls must be exported. @throws LadderError `MISSING_SYMBOL`, with all that are missing */
export function checkModule(graph: Graph, elf: ElfObject): void {
  const missing = [...new Set(graph.nodes.flatMap(({ functionName }) => functionName ?? []))].filter(
    (name) => !kExecutorFunctions.has(name) && (elf.exported.get(name)?.kind ?? 'object') === 'object',
  );
  if (missing.length === 0) return;
  throw new LadderError(
    'MISSING_SYMBOL',
    `model.so does not export ${missing.length} function(s) that graph.json calls: ${listNames(missing)}; the two are not of one build`,
    { symbols: missing },
  );
}

/**
 * Every global packed function that the graph's operators call must be one that this runtime has. What only code that nobody calls
 * may call is no reason to refuse; of what cannot be told who calls it, an operator may.
 * @param provided names of those that there are
 * @throws LadderError `MISSING_SYMBOL`, with all that are missing
 */
export function checkGlobalFunctions(graph: Graph, named: readonly NamedFunction[], provided: readonly string[]): void {
  const called = new Set(graph.nodes.map(({ functionName }) => functionName));
  const missing = named.flatMap(({ name, callers }) => {
    if (provided.includes(name)) return [];
    if (callers === null) return [`${name} (named in its code)`];
    const operators = callers.filter((caller) => called.has(caller));
    return operators.length > 0 ? [`${name} (called by ${operators.join(', ')})`] : [];
  });
  if (missing.length === 0) return;
  throw new LadderError(
    'MISSING_SYMBOL',
    `model.so calls ${missing.length} global function(s) that this runtime does not have: ${listNames(missing)}; compile the model without the libraries that they are of (for \`tvm.contrib.cublas\`: without \`-libs=cublas\` in the target)`,
    { symbols: missing },
  );
}

/**
 * No tensor that is still to be read may be overwritten: an executor that believes such a graph computes something else.
 * @throws LadderError `BAD_GRAPH`
 */
export function checkStorage(graph: Graph): void {
  const conflicts = storageConflicts(graph, kMaxListed);
  if (conflicts.length === 0) return;
  throw new LadderError(
    'BAD_GRAPH',
    `graph.json lets tensors share storage while they are still needed: ${conflicts.join('; ')}; compile the model again, with \`attrs.storage_id\` as TVM plans it`,
    { conflicts },
  );
}

/**
 * Device code that model.so launches by itself must have a form for the device: where it has not, the launch fails in silence.
 * Of images in the blob the driver says so.
 * @throws LadderError `WRONG_ARCHITECTURE`
 */
export function checkArchitectures(images: readonly LinkedImage[], computeCapability: readonly [number, number]): void {
  const usable = usableArchitectures();
  const lacking = images.filter(({ architectures }) => !architectures.some((name) => usable(name) && runsOn(name, computeCapability)));
  if (lacking.length === 0) return;
  const device = `sm_${computeCapability.join('')}`;
  const found = [...new Set(lacking.flatMap(({ architectures }) => architectures))].sort();
  throw new LadderError(
    'WRONG_ARCHITECTURE',
    `model.so has no code for this GPU (${device}) in ${lacking.length} of its ${images.length} images with kernels: they are for ${listNames(found)}; compile them again with \`-gencode arch=compute_${computeCapability.join('')},code=${device}\`, or with PTX (code=compute_80)`,
    { architecture: device, found },
  );
}

/** Which kinds of code the driver may take: its environment can forbid either. */
function usableArchitectures(): (name: string) => boolean {
  if (process.env['CUDA_FORCE_PTX_JIT'] === '1') return (name) => name.startsWith('compute_');
  if (process.env['CUDA_DISABLE_PTX_JIT'] === '1') return (name) => name.startsWith('sm_');
  return () => true;
}

/**
 * Tensors of graph.params that the graph has must have as many bytes; where checkpoint.json describes them also its shape and
 * type. TVM copies the bytes whatever these are, which `reshapedParams` remarks on.
 * @throws LadderError `BAD_PARAMS`
 */
export function checkParams(graph: Graph, tensors: readonly ParamTensor[], manifest: Manifest | null): void {
  const entries = argumentEntries(graph);
  for (const tensor of tensors) {
    const id = entries.get(tensor.name);
    if (id === undefined) continue;
    const entry = graph.entries[id]!;
    if (manifest ? !sameTensor(tensor, entry) : tensor.sizeBytes !== entry.sizeBytes)
      throw new LadderError('BAD_PARAMS', differenceText(tensor, entry), { tensor: tensor.name });
  }
}

/** Parameters that the graph takes for tensors of another shape or type with as many bytes, in words. */
export function reshapedParams(graph: Graph, tensors: readonly ParamTensor[]): readonly string[] {
  const entries = argumentEntries(graph);
  return tensors.flatMap((tensor) => {
    const entry = graph.entries[entries.get(tensor.name) ?? -1];
    if (!entry || sameTensor(tensor, entry)) return [];
    return [`${differenceText(tensor, entry)}: the same bytes are taken, as TVM does`];
  });
}

function sameTensor({ dtype, shape }: ParamTensor, entry: Graph['entries'][number]): boolean {
  return sameDataType(dtype, entry.dtype) && String(shape) === String(entry.shape);
}

function differenceText({ name, dtype, shape }: ParamTensor, entry: Graph['entries'][number]): string {
  return `graph.params holds ${quote(name)} as ${dtype.name} [${shape.join(', ')}], but the graph wants ${entry.dtype.name} [${entry.shape.join(', ')}]`;
}

/**
 * A checkpoint of ours that has graph.params has all its parameters there: they are never half real, half made up.
 * @throws LadderError `MISSING_PARAMETER`, with all that are missing
 */
export function checkParamsComplete(manifest: Manifest, tensors: readonly ParamTensor[]): void {
  const present = new Set(tensors.map(({ name }) => name));
  const missing = Object.entries(manifest.tensors)
    .filter(([name, { role }]) => role !== 'input' && !present.has(name))
    .map(([name]) => name);
  if (missing.length === 0) return;
  throw new LadderError(
    'MISSING_PARAMETER',
    `graph.params lacks ${missing.length} parameter(s): ${listNames(missing)}; pack all of them with \`ladder build … --weights\`, or remove graph.params to run with made-up weights`,
    { tensors: missing },
  );
}

/**
 * checkpoint.json must describe exactly this graph: its tensors, its operators in order, and operands of the right number,
 * type and size.
 * @throws LadderError `BAD_MANIFEST` naming node or tensor
 */
export function checkManifest(graph: Graph, manifest: Manifest): void {
  const entries = argumentEntries(graph);
  const described = new Map(Object.entries(manifest.tensors));
  for (const name of entries.keys())
    if (!described.has(name)) throw bad(`the graph's input ${quote(name)} is not among \`tensors\``, { tensor: name });
  for (const name of described.keys()) {
    if (!entries.has(name)) throw bad(`\`tensors\` describes ${quote(name)}, which is no input of the graph`, { tensor: name });
  }
  for (const name of Object.keys(manifest.files)) {
    if (name === '' || name === '.' || name === '..' || /[/\\\0]/.test(name))
      throw bad(`\`files\` names ${quote(name)}, which is no file of the folder`, { file: name });
  }
  const nodes = graph.nodes.filter(({ op }) => op === 'tvm_op');
  if (nodes.length !== manifest.operators.length)
    throw bad(`\`operators\` describes ${manifest.operators.length} operators but the graph has ${nodes.length}`);
  const stored = new Map<string, string>();
  manifest.operators.forEach((operator, i) => {
    const node = nodes[i]!;
    if (operator.node !== node.name)
      throw bad(`operators.${i} describes ${quote(operator.node)} but the graph has ${quote(node.name)} there`, { node: node.name });
    if (operator.probe.length !== node.inputs.length)
      throw bad(`operators.${i}.probe has ${operator.probe.length} items for ${node.inputs.length} inputs of ${quote(node.name)}`, {
        node: node.name,
      });
    within(node.name, () => checkProgram(operator.program));
    const tensors = programTensors(operator.program);
    checkOperands(graph, node.name, 'input', node.inputs, tensors.inputs);
    checkOperands(graph, node.name, 'output', node.outputs, tensors.outputs);
    checkStored(graph, operator, node, stored);
  });
}

function checkOperands(
  graph: Graph,
  node: string,
  side: 'input' | 'output',
  entries: readonly number[],
  operands: readonly TensorSpec[],
): void {
  if (entries.length !== operands.length)
    throw bad(`${quote(node)} has ${entries.length} ${side}s where its program has ${operands.length}`, { node });
  operands.forEach(({ part, dtype, elements }, i) => {
    const entry = graph.entries[entries[i]!]!;
    const sizeBytes = elements * kTensorBytes[dtype];
    if (!sameDataType(entry.dtype, parseDataType(dtype)) || entry.sizeBytes !== sizeBytes) {
      throw bad(
        `${quote(node)}: ${side} ${i} (${part}) is ${entry.dtype.name} [${entry.shape.join(', ')}], ${entry.sizeBytes} bytes, where its program wants ${dtype}, ${sizeBytes} bytes`,
        { node, operand: part },
      );
    }
  });
}

/**
 * A tensor is one value, stored in one order, for all operators that write or read it.
 * @param known what earlier operators said, by tensor
 */
function checkStored(graph: Graph, { program }: Manifest['operators'][number], node: GraphNode, known: Map<string, string>): void {
  for (const [indices, entries] of [
    [program.inputs, node.inputs],
    [program.outputs, node.outputs],
  ] as const) {
    let at = 0;
    for (const index of indices) {
      const value = program.values[index]!;
      const { axes, type, layout, scaleLayout } = value;
      const text = JSON.stringify([axes.map(({ extent }) => extent), type, layout, scaleLayout]);
      for (const _ of tensorsOf(value)) {
        const entry = entries[at]!;
        at += 1;
        const name = `${graph.nodes[graph.entries[entry]!.node]!.name}:${graph.entries[entry]!.output}`;
        const before = known.get(name);
        if (before !== undefined && before !== text)
          throw bad(`${quote(node.name)} takes ${quote(name)} for another value, or stored in another order, than an operator before it`, {
            node: node.name,
            tensor: name,
          });
        known.set(name, text);
      }
    }
  }
}

/** Prefixes what a pure check of part of the manifest throws. */
function within<T>(place: string, check: () => T): T {
  try {
    return check();
  } catch (cause) {
    if (cause instanceof LadderError) throw bad(`${quote(place)}: ${cause.message}`, cause.context);
    throw cause;
  }
}

function bad(message: string, context: LadderError['context'] = {}): LadderError {
  return new LadderError('BAD_MANIFEST', `checkpoint.json: ${message}; rebuild it with \`ladder build\``, context);
}

function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}

/** Names for a message, the first few of many. */
export function listNames(names: readonly string[]): string {
  return `${names
    .slice(0, kMaxListed)
    .map((name) => name.slice(0, 120))
    .join(', ')}${names.length > kMaxListed ? ` and ${names.length - kMaxListed} more` : ''}`;
}

/**
 * graph.json of TVM's graph executor: reading and checking. What the graph means for memory and calls is plan.ts's;
 * writing it is serialise-graph.ts's. Follows TVM 0.12's GraphExecutor::Load (keys, what is skipped and what is refused),
 * and refuses besides what TVM would run into later: bad indices, cycles, sizes past 2⁵³, ambiguous names.
 */
import { LadderError } from '../errors.js';
import type { DataType } from '../native.js';
import { elementBytes, parseDataType } from './dtype.js';
import { array, describeJson, members, natural, type Reject, safeProduct, text } from './json.js';

/** A node: an input or parameter (`null`), or a call of a packed function. */
export interface GraphNode {
  readonly op: 'null' | 'tvm_op';
  readonly name: string;
  /** Entry ids. */
  readonly inputs: readonly number[];
  /** Entry ids. */
  readonly outputs: readonly number[];
  /** Nodes that must run before. */
  readonly controlDependencies: readonly number[];
  /** null for a `null` node; `__nop` and `__copy` are the executor's own. */
  readonly functionName: string | null;
  /** The function gets its tensors as 1-D. */
  readonly flatten: boolean;
  /** Further attributes: `hash`, … */
  readonly attributes: ReadonlyMap<string, string>;
}

/** A tensor: one output of one node. */
export interface GraphEntry {
  readonly node: number;
  /** Which output of the node. */
  readonly output: number;
  readonly shape: readonly number[];
  readonly dtype: DataType;
  readonly elements: number;
  readonly sizeBytes: number;
  readonly storageId: number;
  /** DLPack's device type (1 CPU, 2 CUDA), or null where the graph does not say. */
  readonly deviceType: number | null;
  /** "" or "global" for plain memory; null where the graph does not say. */
  readonly storageScope: string | null;
}

/** A checked graph. Nodes are in an order in which they can run. */
export interface Graph {
  readonly nodes: readonly GraphNode[];
  /** By entry id. */
  readonly entries: readonly GraphEntry[];
  /** The `null` nodes, in the order of the graph's inputs. */
  readonly argumentNodes: readonly number[];
  /** Entry ids of the graph's outputs. */
  readonly heads: readonly number[];
}

const kMaxIndex = 2 ** 31 - 1;
/** Networks have thousands; a run would spend its time on the host long before. */
const kMaxNodes = 100_000;
const kTopLevelKeys = new Set(['nodes', 'arg_nodes', 'heads', 'node_row_ptr', 'attrs', 'metadata']);
const kNodeKeys = new Set(['op', 'name', 'inputs', 'attr', 'attrs', 'control_deps']);

/**
 * Parses and checks graph.json.
 * @throws LadderError `BAD_GRAPH` naming the node and the field
 */
export function parseGraph(source: string): Graph {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (cause) {
    throw new LadderError('BAD_GRAPH', `graph.json is not JSON: ${(cause as Error).message}`, {}, { cause });
  }
  const root = members(json, 'the document', reject);
  for (const key of root.keys()) {
    if (!kTopLevelKeys.has(key)) reject(key.slice(0, 80), 'no such key, which TVM does not know either', root.get(key));
  }
  const nodesJson = array(root.get('nodes'), 'nodes', reject);
  if (nodesJson.length > kMaxNodes) reject('nodes', `at most ${kMaxNodes} nodes`, nodesJson);
  const attributes = members(root.get('attrs'), 'attrs', reject);
  const rowPointers = parseRowPointers(root.get('node_row_ptr'), nodesJson.length, attributeList(attributes, 'dltype', 'list_str').length);
  const nodes = nodesJson.map((node, index) => parseNode(node, index, rowPointers));
  const entries = parseEntries(attributes, nodes);
  const heads = array(root.get('heads'), 'heads', reject).map((head, i) =>
    parseEntryReference(head, `heads[${i}]`, nodes.length, rowPointers),
  );
  const graph = { nodes, entries, argumentNodes: parseArgumentNodes(root.get('arg_nodes'), nodes), heads };
  checkExecutorFunctions(graph);
  return graph;
}

/** The `null` nodes by name, in input order: node names to entry ids. */
export function argumentEntries(graph: Graph): ReadonlyMap<string, number> {
  return new Map(graph.argumentNodes.map((node) => [graph.nodes[node]!.name, graph.nodes[node]!.outputs[0]!]));
}

const reject: Reject = (field, expected, received) => {
  throw new LadderError('BAD_GRAPH', `graph.json: expected ${expected} for \`${field}\` but received ${describeJson(received)}`, { field });
};

/** A graph attribute's list: `[type, list]`. */
function attributeList(attributes: ReadonlyMap<string, unknown>, key: string, type: string): readonly unknown[] {
  const pair = array(attributes.get(key), `attrs.${key}`, reject);
  if (pair.length !== 2 || pair[0] !== type) reject(`attrs.${key}`, `["${type}", [...]]`, pair[0]);
  return array(pair[1], `attrs.${key}[1]`, reject);
}

/** node_row_ptr: where each node's entries begin; one more than there are nodes, the last being the number of entries. */
function parseRowPointers(value: unknown, nodeCount: number, entryCount: number): readonly number[] {
  const pointers = array(value, 'node_row_ptr', reject).map((item, i) => natural(item, kMaxIndex, `node_row_ptr[${i}]`, reject));
  if (pointers.length !== nodeCount + 1) reject('node_row_ptr', `${nodeCount + 1} items, one more than there are nodes`, value);
  pointers.forEach((pointer, i) => {
    if (i === 0 ? pointer !== 0 : pointer <= pointers[i - 1]!)
      reject(`node_row_ptr[${i}]`, i === 0 ? '0' : 'a larger value than before, every node having an output', pointer);
  });
  // Checked before anything is made per entry: one number must not cost gigabytes.
  if (pointers.at(-1) !== entryCount) reject(`node_row_ptr[${nodeCount}]`, `${entryCount}, the length of attrs.dltype`, pointers.at(-1));
  return pointers;
}

/** `[node, output]` or `[node, output, version]`, naming an entry of one of the first `nodeLimit` nodes. */
function parseEntryReference(value: unknown, field: string, nodeLimit: number, rowPointers: readonly number[]): number {
  const items = array(value, field, reject);
  if (items.length !== 2 && items.length !== 3) reject(field, '[node, output, version]', value);
  items.forEach((item, i) => natural(item, kMaxIndex, `${field}[${i}]`, reject));
  const [node, output] = items as number[];
  if (node! >= nodeLimit) reject(`${field}[0]`, nodeLimit === 0 ? 'no input, as no node comes before' : `a node before ${nodeLimit}`, node);
  const entry = rowPointers[node!]! + output!;
  if (entry >= rowPointers[node! + 1]!)
    reject(`${field}[1]`, `an output of node ${node}, which has ${rowPointers[node! + 1]! - rowPointers[node!]!}`, output);
  return entry;
}

function parseNode(value: unknown, index: number, rowPointers: readonly number[]): GraphNode {
  const field = (name: string): string => `nodes[${index}].${name}`;
  const node = members(value, `nodes[${index}]`, reject);
  for (const key of node.keys()) {
    if (!kNodeKeys.has(key)) reject(field(key.slice(0, 80)), 'no such key, which TVM does not know either', node.get(key));
  }
  const op = text(node.get('op'), field('op'), reject);
  if (op !== 'null' && op !== 'tvm_op') reject(field('op'), '"null" or "tvm_op"', op);
  const name = text(node.get('name'), field('name'), reject);
  if (name === '') reject(field('name'), 'a name', name);
  const inputs = array(node.get('inputs'), field('inputs'), reject).map((item, i) =>
    parseEntryReference(item, field(`inputs[${i}]`), index, rowPointers),
  );
  const controlDependencies = node.has('control_deps')
    ? array(node.get('control_deps'), field('control_deps'), reject).map((item, i) =>
        natural(item, index - 1, field(`control_deps[${i}]`), reject),
      )
    : [];
  if (node.has('attr') && node.has('attrs')) reject(field('attr'), 'either `attr` or `attrs`', node.get('attr'));
  const attributes = new Map<string, string>();
  const attributesKey = node.has('attr') ? 'attr' : 'attrs';
  if (node.has(attributesKey)) {
    for (const [key, item] of members(node.get(attributesKey), field(attributesKey), reject)) {
      attributes.set(key, text(item, field(`${attributesKey}.${key.slice(0, 80)}`), reject));
    }
  }
  const first = rowPointers[index]!;
  const outputs = Array.from({ length: rowPointers[index + 1]! - first }, (_, i) => first + i);
  const base = { name, inputs, outputs, controlDependencies };
  if (op === 'null') {
    if (inputs.length > 0) reject(field('inputs'), 'no inputs of a "null" node', inputs);
    if (outputs.length !== 1) reject(`node_row_ptr[${index + 1}]`, `${first + 1}, as a "null" node has one output`, rowPointers[index + 1]);
    return { op, ...base, functionName: null, flatten: false, attributes };
  }
  const take = (key: string): string => {
    const item = attributes.get(key) ?? reject(field(`${attributesKey}.${key}`), 'a string', undefined);
    attributes.delete(key);
    return item;
  };
  const takeCount = (key: string): number => {
    const item = take(key);
    return /^[0-9]{1,9}$/.test(item) ? Number(item) : reject(field(`${attributesKey}.${key}`), 'a decimal number in a string', item);
  };
  const functionName = take('func_name');
  if (functionName === '') reject(field(`${attributesKey}.func_name`), "a function's name", functionName);
  const inputCount = takeCount('num_inputs');
  if (inputCount !== inputs.length) reject(field(`${attributesKey}.num_inputs`), `${inputs.length}, the length of \`inputs\``, inputCount);
  const outputCount = takeCount('num_outputs');
  if (outputCount !== outputs.length)
    reject(field(`${attributesKey}.num_outputs`), `${outputs.length}, which is what node_row_ptr leaves room for`, outputCount);
  return { op: 'tvm_op', ...base, functionName, flatten: takeCount('flatten_data') !== 0, attributes };
}

/** The graph's `attrs`: per entry its type, shape, storage and device. */
function parseEntries(attributes: ReadonlyMap<string, unknown>, nodes: readonly GraphNode[]): readonly GraphEntry[] {
  const dtypes = attributeList(attributes, 'dltype', 'list_str');
  const count = dtypes.length;
  const list = (key: string, type: string): readonly unknown[] => {
    const items = attributeList(attributes, key, type);
    return items.length === count ? items : reject(`attrs.${key}[1]`, `${count} items, one per entry`, items);
  };
  for (const [key, item] of attributes) checkSkippedAttribute(key, item);
  const shapes = list('shape', 'list_shape');
  const storageIds = list('storage_id', 'list_int');
  const deviceTypes = attributes.has('device_index') ? list('device_index', 'list_int') : null;
  const scopes = attributes.has('storage_scope') ? list('storage_scope', 'list_str') : null;
  const deviceOfStorage = new Map<number, number | null>();
  const types = new Map<string, DataType>();
  return nodes.flatMap((node, nodeIndex) =>
    node.outputs.map((entry, output): GraphEntry => {
      const dtype = parseEntryType(dtypes[entry], `attrs.dltype[1][${entry}]`, types);
      const shapeField = `attrs.shape[1][${entry}]`;
      const shape = array(shapes[entry], shapeField, reject).map((extent, i) =>
        natural(extent, Number.MAX_SAFE_INTEGER, `${shapeField}[${i}]`, reject),
      );
      const elements = safeProduct(shape);
      const sizeBytes = safeProduct(shape, elementBytes(dtype));
      if (elements === null || sizeBytes === null) return reject(shapeField, 'fewer than 2^53 bytes', shape.join('×').slice(0, 80));
      const storageId = natural(storageIds[entry], kMaxIndex, `attrs.storage_id[1][${entry}]`, reject);
      const deviceType = deviceTypes ? natural(deviceTypes[entry], kMaxIndex, `attrs.device_index[1][${entry}]`, reject) : null;
      if ((deviceOfStorage.get(storageId) ?? deviceType) !== deviceType) {
        reject(`attrs.device_index[1][${entry}]`, `${deviceOfStorage.get(storageId)}, where storage ${storageId} lies`, deviceType);
      }
      deviceOfStorage.set(storageId, deviceType);
      const storageScope = scopes ? text(scopes[entry], `attrs.storage_scope[1][${entry}]`, reject) : null;
      return { node: nodeIndex, output, shape, dtype, elements, sizeBytes, storageId, deviceType, storageScope };
    }),
  );
}

function parseEntryType(value: unknown, field: string, known: Map<string, DataType>): DataType {
  const name = text(value, field, reject);
  let dtype = known.get(name);
  if (!dtype) {
    try {
      dtype = parseDataType(name);
    } catch {
      return reject(field, 'a TVM type such as "float16"', value);
    }
    known.set(name, dtype);
  }
  return dtype;
}

/** Attributes that TVM reads past: lists of integers and single sizes; of any other type it refuses. */
function checkSkippedAttribute(key: string, value: unknown): void {
  if (['dltype', 'shape', 'storage_id', 'device_index', 'storage_scope'].includes(key)) return;
  const field = `attrs.${key.slice(0, 80)}`;
  const pair = array(value, field, reject);
  if (pair.length !== 2) reject(field, '[type, value]', value);
  if (pair[0] === 'list_int') {
    array(pair[1], `${field}[1]`, reject).forEach((item, i) => {
      if (!Number.isInteger(item)) reject(`${field}[1][${i}]`, 'an integer', item);
    });
  } else if (pair[0] === 'size_t') {
    natural(pair[1], Number.MAX_SAFE_INTEGER, `${field}[1]`, reject);
  } else {
    reject(`${field}[0]`, '"list_int" or "size_t", the only types that can be skipped', pair[0]);
  }
}

/** arg_nodes must list every `null` node once, and their names must be distinct: inputs and weights are found by name. */
function parseArgumentNodes(value: unknown, nodes: readonly GraphNode[]): readonly number[] {
  const seen = new Set<number>();
  const names = new Set<string>();
  const result = array(value, 'arg_nodes', reject).map((item, i) => {
    const index = natural(item, kMaxIndex, `arg_nodes[${i}]`, reject);
    const node = nodes[index];
    if (node?.op !== 'null') return reject(`arg_nodes[${i}]`, 'the index of a "null" node', item);
    if (seen.has(index)) reject(`arg_nodes[${i}]`, 'each node once', item);
    if (names.has(node.name)) reject(`nodes[${index}].name`, 'a name that no other "null" node has', node.name);
    seen.add(index);
    names.add(node.name);
    return index;
  });
  const missing = nodes.findIndex((node, index) => node.op === 'null' && !seen.has(index));
  if (missing >= 0) reject('arg_nodes', `node ${missing} (${nodes[missing]!.name.slice(0, 80)}) among the "null" nodes`, value);
  return result;
}

/** `__nop` passes its first input on, `__copy` moves it to another device: both keep its size. */
function checkExecutorFunctions(graph: Graph): void {
  graph.nodes.forEach((node, index) => {
    if (node.functionName !== '__nop' && node.functionName !== '__copy') return;
    if (node.outputs.length !== 1 || node.inputs.length < 1 || (node.functionName === '__copy' && node.inputs.length !== 1)) {
      reject(`nodes[${index}].inputs`, `one input and one output of ${node.functionName}`, node.inputs);
    }
    const from = graph.entries[node.inputs[0]!]!;
    const to = graph.entries[node.outputs[0]!]!;
    if (from.sizeBytes !== to.sizeBytes)
      reject(`attrs.shape[1][${node.outputs[0]}]`, `${from.sizeBytes} bytes, the size of what ${node.functionName} gets`, to.sizeBytes);
  });
}

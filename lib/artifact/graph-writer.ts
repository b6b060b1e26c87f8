/**
 * Writes graph.json as TVM's relay compiler does: nodes, entries, and a memory plan in which activations share storage.
 * What the functions compute is the builder's; reading is graph.ts's.
 */
import { LadderError } from '../errors.js';
import { elementBytes, parseDataType } from './dtype.js';
import { safeProduct } from './json.js';

/** A tensor of the graph to write. */
export interface TensorDescription {
  /** Unique among inputs and operators' outputs. */
  readonly name: string;
  readonly shape: readonly number[];
  /** TVM's type string. */
  readonly dtype: string;
}

export interface OperatorDescription {
  /** The node's name. */
  readonly name: string;
  readonly functionName: string;
  /** Names of tensors; each made by an earlier operator, or an input. */
  readonly inputs: readonly string[];
  readonly outputs: readonly TensorDescription[];
  readonly flatten?: boolean;
  /** Further attributes of the node, such as `hash`. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface GraphDescription {
  /** `null` nodes: inputs and parameters, in the order of the graph's inputs. */
  readonly inputs: readonly TensorDescription[];
  readonly operators: readonly OperatorDescription[];
  /** Names of the graph's outputs. */
  readonly outputs: readonly string[];
  /** Where all tensors live: 1 CPU, 2 CUDA. Default: 2. */
  readonly deviceType?: 1 | 2;
}

/**
 * Writes graph.json.
 * @throws LadderError `BAD_ARGUMENT` for a name that is unknown or used twice
 *
 * @example
 * serialiseGraph({ inputs: [{ name: 'x', shape: [4], dtype: 'float32' }], outputs: ['y'],
 *   operators: [{ name: 'relu', functionName: 'relu', inputs: ['x'], outputs: [{ name: 'y', shape: [4], dtype: 'float32' }] }] })
 */
export function serialiseGraph(description: GraphDescription): string {
  const { inputs, operators, outputs, deviceType = 2 } = description;
  const tensors: TensorDescription[] = [];
  const entryOf = new Map<string, number>();
  const placeOf = new Map<string, readonly [number, number, number]>();
  const define = (tensor: TensorDescription, node: number, output: number): void => {
    if (entryOf.has(tensor.name))
      throw new LadderError('BAD_ARGUMENT', `two tensors are called ${JSON.stringify(tensor.name)}`, { tensor: tensor.name });
    entryOf.set(tensor.name, tensors.length);
    placeOf.set(tensor.name, [node, output, 0]);
    tensors.push(tensor);
  };
  const find = <T>(map: ReadonlyMap<string, T>, name: string): T => {
    const value = map.get(name);
    if (value === undefined)
      throw new LadderError('BAD_ARGUMENT', `expected a tensor made before but received ${JSON.stringify(name)}`, { tensor: name });
    return value;
  };
  inputs.forEach((tensor, node) => define(tensor, node, 0));
  const rowPointers = inputs.map((_, i) => i);
  const reads: number[][] = [];
  const nodes: object[] = inputs.map(({ name }) => ({ op: 'null', name, inputs: [] }));
  for (const operator of operators) {
    nodes.push({
      op: 'tvm_op',
      name: operator.name,
      attrs: {
        ...operator.attributes,
        func_name: operator.functionName,
        num_inputs: String(operator.inputs.length),
        num_outputs: String(operator.outputs.length),
        flatten_data: operator.flatten ? '1' : '0',
      },
      inputs: operator.inputs.map((name) => find(placeOf, name)),
    });
    reads.push(operator.inputs.map((name) => find(entryOf, name)));
    rowPointers.push(tensors.length);
    operator.outputs.forEach((tensor, output) => define(tensor, nodes.length - 1, output));
  }
  rowPointers.push(tensors.length);
  const heads = outputs.map((name) => find(placeOf, name));
  const storageIds = planStorages(
    tensors,
    inputs.length,
    operators.map(({ outputs: { length } }) => length),
    reads,
    outputs.map((name) => find(entryOf, name)),
  );
  return `${JSON.stringify(
    {
      nodes,
      arg_nodes: inputs.map((_, i) => i),
      heads,
      attrs: {
        dltype: ['list_str', tensors.map(({ dtype }) => dtype)],
        device_index: ['list_int', tensors.map(() => deviceType)],
        storage_id: ['list_int', storageIds],
        shape: ['list_shape', tensors.map(({ shape }) => shape)],
      },
      node_row_ptr: rowPointers,
    },
    null,
    2,
  )}\n`;
}

/**
 * Storage per entry. Inputs, parameters and the graph's outputs keep theirs: they are set once and read after a run.
 * An operator's outputs are placed before its inputs are released, so that none is computed in place; of the free
 * storages the smallest that suffices is taken, else the largest grows.
 */
function planStorages(
  tensors: readonly TensorDescription[],
  inputCount: number,
  outputCounts: readonly number[],
  reads: readonly (readonly number[])[],
  heads: readonly number[],
): readonly number[] {
  const sizes = tensors.map(({ name, shape, dtype }) => {
    const size = safeProduct(shape, elementBytes(parseDataType(dtype)));
    if (size === null) throw new LadderError('BAD_ARGUMENT', `tensor ${name} has more than 2^53 bytes`, { tensor: name });
    return size;
  });
  const kept = new Set(heads);
  for (let entry = 0; entry < inputCount; entry++) kept.add(entry);
  const pending = new Array<number>(tensors.length).fill(0);
  for (const entry of reads.flat()) pending[entry]!++;
  const storageIds = tensors.slice(0, inputCount).map((_, entry) => entry);
  const capacity = sizes.slice(0, inputCount);
  const free: number[] = [];
  const release = (entry: number): void => {
    if (!kept.has(entry)) free.push(storageIds[entry]!);
  };
  outputCounts.forEach((count, operator) => {
    const made: number[] = [];
    for (let i = 0; i < count; i++) {
      const entry = storageIds.length;
      free.sort((a, b) => capacity[a]! - capacity[b]!);
      const fit = free.findIndex((storage) => capacity[storage]! >= sizes[entry]!);
      const [taken] = kept.has(entry) || free.length === 0 ? [] : free.splice(fit < 0 ? free.length - 1 : fit, 1);
      const storage = taken ?? capacity.push(0) - 1;
      capacity[storage] = Math.max(capacity[storage]!, sizes[entry]!);
      storageIds.push(storage);
      made.push(entry);
    }
    for (const entry of reads[operator]!) if (--pending[entry]! === 0) release(entry);
    for (const entry of made) if (pending[entry] === 0) release(entry);
  });
  return storageIds;
}

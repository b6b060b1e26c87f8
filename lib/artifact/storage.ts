/**
 * What a graph's storage ids mean: how many bytes they save, and whether sharing is sound — TVM's executor believes the
 * graph, so that a wrong id silently gives wrong numbers.
 */
import type { Graph } from './graph.js';

/** Bytes of all tensors as planned, and as they would be without sharing. */
export interface StorageBytes {
  readonly storages: number;
  readonly sharedBytes: number;
  readonly unsharedBytes: number;
}

/** Sums the graph's memory. An output of `__nop` never has bytes of its own. */
export function measureStorage(graph: Graph): StorageBytes {
  const largest = new Map<number, number>();
  let unsharedBytes = 0;
  for (const { storageId, sizeBytes, node } of graph.entries) {
    largest.set(storageId, Math.max(largest.get(storageId) ?? 0, sizeBytes));
    if (graph.nodes[node]!.functionName !== '__nop') unsharedBytes += sizeBytes;
  }
  let sharedBytes = 0;
  for (const size of largest.values()) sharedBytes += size;
  return { storages: largest.size, sharedBytes, unsharedBytes };
}

/**
 * Follows one inference: every tensor that is read must still be what its node wrote, outputs must survive to the end, and
 * so must inputs and parameters, as the next inference reads them again.
 * @returns one sentence per violation, at most `limit`
 */
export function storageConflicts(graph: Graph, limit = 20): readonly string[] {
  const problems: string[] = [];
  /** Which value each storage holds: the entry that was computed, `__nop` outputs being their input. */
  const holds = new Map<number, number>();
  const valueOf: number[] = [];
  const name = (entry: number): string => {
    const { node, output } = graph.entries[entry]!;
    return `${graph.nodes[node]!.name.slice(0, 80)}:${output}`;
  };
  const check = (entry: number, reader: string): void => {
    const { storageId } = graph.entries[entry]!;
    const held = holds.get(storageId);
    if (held !== valueOf[entry] && problems.length < limit)
      problems.push(`${reader} reads ${name(entry)} from storage ${storageId}, which then holds ${name(held!)}`);
  };
  const write = (entry: number): void => {
    valueOf[entry] = entry;
    holds.set(graph.entries[entry]!.storageId, entry);
  };
  for (const node of graph.nodes) if (node.op === 'null') node.outputs.forEach(write);
  for (const node of graph.nodes) {
    if (node.op === 'null') continue;
    for (const entry of node.inputs) check(entry, node.name.slice(0, 80));
    const [output] = node.outputs;
    const [source] = node.inputs;
    if (node.functionName === '__nop' && graph.entries[output!]!.storageId === graph.entries[source!]!.storageId)
      valueOf[output!] = valueOf[source!]!;
    else {
      for (const made of node.outputs) {
        const clash = node.inputs.find((entry) => graph.entries[entry]!.storageId === graph.entries[made]!.storageId);
        if (clash !== undefined && problems.length < limit)
          problems.push(`${node.name.slice(0, 80)} writes ${name(made)} over its own input ${name(clash)}`);
        write(made);
      }
    }
  }
  for (const entry of graph.heads) check(entry, 'the output');
  for (const node of graph.argumentNodes) check(graph.nodes[node]!.outputs[0]!, 'the next inference');
  return problems;
}

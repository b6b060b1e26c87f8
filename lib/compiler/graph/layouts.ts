/**
 * In which order activations are stored between operators: consumers propose, producers accept. Where all readers of a value want
 * one order and its producer writes it, it is stored so; else it is stored row-major, and those that want another order read a
 * copy, which readers that want the same one share. Inputs and outputs of the model are row-major.
 */
import { LadderError } from '../../errors.js';
import type { Graph, GraphNode, GraphValue } from '../../operators/graph.js';
import type { Program, Value } from '../../operators/program.js';
import { Refusal, type Storage } from '../kernels/family.js';
import { selectOrThrow } from '../kernels/index.js';
import type { Target } from '../targets.js';
import type { Group } from './fuse.js';

/** A group that reads a value, and how it wants it stored; null: row-major. */
interface Reader {
  readonly group: number;
  readonly storage: Storage | null;
}

/** The graph, with a value per copy, and the groups, with one per copy, whose programs say how activations are stored. */
export interface LaidOut {
  readonly graph: Graph;
  readonly groups: readonly Group[];
}

/** @throws LadderError `UNSUPPORTED` where no kernel makes a copy */
export function layOut(graph: Graph, groups: readonly Group[], target: Target): LaidOut {
  const values: GraphValue[] = [...graph.values];
  const readers = readersOf(graph, groups);
  /** By graph value: its stored order where that is not row-major. */
  const stored = new Map<number, Storage>();
  /** By group and graph value: the copy that it reads instead. */
  const copies = new Map<string, number>();
  const made: Group[][] = groups.map(() => []);
  for (const [value, all] of readers) {
    const wanted = all.filter((reader): reader is Reader & { storage: Storage } => reader.storage !== null);
    if (wanted.length === 0) continue;
    const [first] = wanted;
    const agreed = wanted.length === all.length && wanted.every(({ storage }) => same(storage, first!.storage));
    if (agreed && !graph.outputs.includes(value) && producerWrites(groups, value, first!.storage)) {
      stored.set(value, first!.storage);
      continue;
    }
    for (const { group, storage } of wanted) {
      const known = wanted.find((other) => copies.has(`${other.group} ${value}`) && same(other.storage, storage));
      const copy = known
        ? copies.get(`${known.group} ${value}`)!
        : values.push({ axes: values[value]!.axes, type: values[value]!.type }) - 1;
      copies.set(`${group} ${value}`, copy);
      if (known) continue;
      stored.set(copy, storage);
      made[group]!.push(copyGroup(values, value, copy, storage, target));
    }
  }
  if (stored.size === 0) return { graph, groups };
  return {
    graph: { ...graph, values },
    groups: groups.flatMap((group, i) => [...made[i]!, restored(group, (value) => copies.get(`${i} ${value}`) ?? value, stored, target)]),
  };
}

/** Who reads each activation that a group makes or the caller sets. */
function readersOf(graph: Graph, groups: readonly Group[]): ReadonlyMap<number, readonly Reader[]> {
  const readers = new Map<number, Reader[]>();
  groups.forEach(({ program, values, selection: { family, match } }, group) => {
    const wishes = family.reads?.(match);
    for (const index of program.inputs) {
      const value = values[index]!;
      const { role } = graph.values[value]!;
      if (role !== undefined && role !== 'input') continue;
      readers.set(value, [...(readers.get(value) ?? []), { group, storage: wishes?.get(index) ?? null }]);
    }
  });
  return readers;
}

function producerWrites(groups: readonly Group[], value: number, storage: Storage): boolean {
  const producer = groups.find(({ program, values }) => program.outputs.some((index) => values[index] === value));
  if (!producer) return false;
  const {
    selection: { family, match },
    program,
    values,
  } = producer;
  return family.writes?.(match, program.outputs.find((index) => values[index] === value)!, storage) ?? false;
}

function same(one: Storage, other: Storage): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function copyGroup(values: readonly GraphValue[], from: number, to: number, storage: Storage, target: Target): Group {
  const { axes, type } = values[from]!;
  const program: Program = {
    values: [
      { axes, type },
      { axes, type, ...storage },
    ],
    nodes: [{ kind: 'relayout', params: {}, inputs: [0], outputs: [1] }],
    inputs: [0],
    outputs: [1],
  };
  const head: GraphNode = { kind: 'relayout', name: `value${from}_${to}`, params: {}, inputs: [from], outputs: [to] };
  return { nodes: [], head, program, values: [from, to], selection: selectOrThrow(program, target) };
}

/** The group with the values that it reads now, stored as was agreed. */
function restored(group: Group, valueOf: (value: number) => number, stored: ReadonlyMap<number, Storage>, target: Target): Group {
  const values = group.values.map(valueOf);
  const program = { ...group.program, values: group.program.values.map((value, i): Value => ({ ...value, ...stored.get(values[i]!) })) };
  const { family } = group.selection;
  const match = family.accepts(program, target);
  if (match instanceof Refusal)
    throw new LadderError('INTERNAL', `${family.id} refuses the stored order that was agreed on: ${match.message}`);
  return { ...group, values, program, selection: { family, match } };
}

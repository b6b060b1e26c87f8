/**
 * In which order activations are stored between operators: consumers propose, producers accept. Where all readers of a value want
 * one order and its producer writes it, it is stored so; else it is stored row-major, and those that want another order read a
 * copy, which readers that want the same one share. Quantised values are not copied but made once more, in the other order. Inputs
 * and outputs of the model are row-major.
 */
import { LadderError } from '../../errors.js';
import type { Graph, GraphNode, GraphValue } from '../../operators/graph.js';
import { isQuantised, type Program, type Value } from '../../operators/program.js';
import { isSameStorage, Refusal, type Storage } from '../kernels/family.js';
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

/** A group that stores a value a second time, and which of the given groups it does again; null: it copies. */
interface Copy {
  readonly group: Group;
  readonly again: number | null;
}

/** @throws LadderError `UNSUPPORTED` where no kernel makes a copy */
export function layOut(graph: Graph, groups: readonly Group[], target: Target): LaidOut {
  const values: GraphValue[] = [...graph.values];
  const readers = readersOf(graph, groups);
  /** By graph value: its stored order where that is not row-major. */
  const stored = new Map<number, Storage>();
  /** By group and graph value: the copy that it reads instead. */
  const copies = new Map<string, number>();
  const made: Copy[][] = groups.map(() => []);
  for (const [value, all] of readers) {
    const wanted = all.filter((reader): reader is Reader & { storage: Storage } => reader.storage !== null);
    if (wanted.length === 0) continue;
    const [first] = wanted;
    const agreed = wanted.length === all.length && wanted.every(({ storage }) => isSameStorage(storage, first!.storage));
    if (agreed && !graph.outputs.includes(value) && writer(groups, value, first!.storage) >= 0) {
      stored.set(value, first!.storage);
      continue;
    }
    for (const { group, storage } of wanted) {
      const known = wanted.find((other) => copies.has(`${other.group} ${value}`) && isSameStorage(other.storage, storage));
      const copy = known
        ? copies.get(`${known.group} ${value}`)!
        : values.push({ axes: values[value]!.axes, type: values[value]!.type }) - 1;
      copies.set(`${group} ${value}`, copy);
      if (known) continue;
      stored.set(copy, storage);
      const again = isQuantised(values[value]!.type) ? writer(groups, value, storage) : -1;
      made[group]!.push(
        again < 0
          ? { group: copyGroup(values, value, copy, storage, target), again: null }
          : { group: repeated(groups[again]!, value, copy), again },
      );
    }
  }
  if (stored.size === 0) return { graph, groups };
  const reads = (i: number, group: Group): Group => restored(group, (value) => copies.get(`${i} ${value}`) ?? value, stored, target);
  return {
    graph: { ...graph, values },
    groups: groups.flatMap((group, i) => [
      ...made[i]!.map(({ group: copy, again }) => (again === null ? copy : reads(again, copy))),
      reads(i, group),
    ]),
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

/** The group that makes a value and can store it so; −1: none. */
function writer(groups: readonly Group[], value: number, storage: Storage): number {
  return groups.findIndex(({ selection: { family, match }, program, values }) => {
    const made = program.outputs.find((index) => values[index] === value);
    return made !== undefined && (family.writes?.(match, made, storage) ?? false);
  });
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

/** The group once more, making `to` instead of `from`. */
function repeated({ head, values, ...group }: Group, from: number, to: number): Group {
  return {
    ...group,
    head: { ...head, name: `${head.name}_value${to}` },
    values: values.map((value) => (value === from ? to : value)),
  };
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

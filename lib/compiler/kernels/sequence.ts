/**
 * Programs cut into parts: stretches of nodes that are programs of their own, and plans that launch one part's kernels after the
 * other's, with what passes between them in the workspace.
 */
import { LadderError } from '../../errors.js';
import { kTensorBytes, type Node, type Program, stepsText, tensorPositions, tensorsOf, type Value } from '../../operators/program.js';
import type { Target } from '../targets.js';
import { type Family, firstTaking } from './family.js';
import type { KernelArgument, KernelLaunch, KernelPlan } from './plan.js';

/** Some nodes of a program. */
export interface Part {
  readonly program: Program;
  /** The whole program's values behind the part's. */
  readonly values: readonly number[];
}

/** Nodes that follow each other, as a program. What other nodes read, or the whole gives back, are its outputs. */
export function partOf({ values, nodes: all, outputs: given }: Program, nodes: readonly Node[]): Part {
  const made = nodes.flatMap(({ outputs }) => outputs);
  const inputs = [...new Set(nodes.flatMap((node) => node.inputs))].filter((value) => !made.includes(value));
  const isReadOutside = (value: number): boolean => all.some((node) => !nodes.includes(node) && node.inputs.includes(value));
  const order = [...inputs, ...made];
  const at = (value: number): number => order.indexOf(value);
  return {
    values: order,
    program: {
      values: order.map((value): Value => values[value]!),
      nodes: nodes.map((node) => ({ ...node, inputs: node.inputs.map(at), outputs: node.outputs.map(at) })),
      inputs: inputs.map(at),
      outputs: made.filter((value) => given.includes(value) || isReadOutside(value)).map(at),
    },
  };
}

export type TensorArgument = Exclude<KernelArgument, { kind: 'workspace' }>;

/** The whole program's value that a part's kernel has as an argument, and which of its tensors. */
export function tensorOf({ program, values }: Part, { kind, index }: TensorArgument): { readonly value: number; readonly tensor: number } {
  const all = (kind === 'input' ? program.inputs : program.outputs).flatMap((value) =>
    tensorsOf(program.values[value]!).map((_, tensor) => ({ value: values[value]!, tensor })),
  );
  return all[index]!;
}

/** An argument of a part's kernel as one of the whole's; null: it is neither an input nor an output there. */
export function argumentOf(whole: Program, part: Part, argument: TensorArgument): TensorArgument | null {
  const { value, tensor } = tensorOf(part, argument);
  const input = tensorPositions(whole).get(value);
  if (input !== undefined) return { kind: 'input', index: input + tensor };
  const output = tensorPositions({ ...whole, inputs: whole.outputs }).get(value);
  return output === undefined ? null : { kind: 'output', index: output + tensor };
}

function placeKey({ value, tensor }: { readonly value: number; readonly tensor: number }): string {
  return `${value} ${tensor}`;
}

/** Of places in the workspace. */
const kAlignBytes = 256;

/**
 * One part after the other, each by the first of `families` that takes it, with its default tuning.
 * @throws LadderError `UNSUPPORTED` for a part that none of them takes
 */
export function planSequence(
  whole: Program,
  parts: readonly Part[],
  families: readonly Family[],
  name: string,
  target: Target,
): KernelPlan {
  const includes = new Set<string>();
  const definitions: string[] = [];
  const launches: KernelLaunch[] = [];
  /** By value and tensor of it: where it is in the workspace. */
  const places = new Map<string, number>();
  let bytes = 0;
  const take = (size: number): number => {
    const at = bytes;
    bytes += Math.ceil(size / kAlignBytes) * kAlignBytes;
    return at;
  };
  // Parts' own workspaces take turns behind what passes between parts.
  for (const { program, values } of parts)
    for (const output of program.outputs) {
      const value = values[output]!;
      if (whole.outputs.includes(value)) continue;
      tensorsOf(whole.values[value]!).forEach(({ dtype, elements }, tensor) =>
        places.set(placeKey({ value, tensor }), take(elements * kTensorBytes[dtype])),
      );
    }
  const shared = bytes;
  let workspaceBytes = shared;
  parts.forEach((part, i) => {
    const plan = planPart(part.program, families, `${name}_${i}`, target);
    for (const header of plan.includes) includes.add(header);
    definitions.push(plan.definitions);
    workspaceBytes = Math.max(workspaceBytes, shared + plan.workspaceBytes);
    const move = (argument: KernelArgument): KernelArgument => {
      if (argument.kind === 'workspace') return { kind: 'workspace', offsetBytes: shared + argument.offsetBytes };
      return argumentOf(whole, part, argument) ?? { kind: 'workspace', offsetBytes: places.get(placeKey(tensorOf(part, argument)))! };
    };
    for (const launch of plan.launches) launches.push({ ...launch, arguments: launch.arguments.map(move) });
  });
  return { includes: [...includes], definitions: definitions.join('\n'), launches, workspaceBytes };
}

function planPart(program: Program, families: readonly Family[], name: string, target: Target): KernelPlan {
  const selection = firstTaking(families, program, target);
  if (!selection) throw new LadderError('UNSUPPORTED', `no kernel for ${stepsText(program)} on ${target.id}`, { target: target.id });
  return selection.family.plan(selection.match, name, {}, { target, next: null });
}

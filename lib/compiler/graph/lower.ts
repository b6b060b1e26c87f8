/**
 * From a model's graph to a checkpoint's operators: quantised, fused, stored in the families' orders, named. Pure: graph.json,
 * checkpoint.json and the generated sources are all written from what this returns.
 */
import { LadderError } from '../../errors.js';
import type { Fill } from '../../native.js';
import { operators as primitives } from '../../operators/index.js';
import { isSameLayout } from '../../operators/layout.js';
import type { Graph, GraphValue, Role } from '../../operators/graph.js';
import {
  kTensorBytes,
  type Program,
  tensorPositions,
  tensorsOf,
  type TensorType,
  type Value,
  valueBytes,
} from '../../operators/program.js';
import { type Family, Refusal } from '../kernels/family.js';
import type { Target } from '../targets.js';
import { parameterFill, probeFill } from './fills.js';
import { fuse, type Group } from './fuse.js';
import { layOut } from './layouts.js';

/** A `null` node: an input or a tensor of a parameter. */
export interface LoweredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: TensorType;
  readonly role: Role;
  readonly fill: Fill;
  /** The value that it is a tensor of, as its operators see it. */
  readonly value: Value;
}

/** An output of an operator. */
export interface LoweredOutput {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: TensorType;
}

export interface LoweredOperator {
  /** Node and function name, a C identifier. */
  readonly node: string;
  readonly program: Program;
  readonly family: Family;
  readonly match: unknown;
  /** Names of tensors and outputs. */
  readonly inputs: readonly string[];
  readonly outputs: readonly LoweredOutput[];
  readonly probe: readonly (Fill | null)[];
  /** Of what it needs: without the weights that it reads ahead. */
  readonly bytes: number;
  readonly flops: number;
}

export interface LoweredModel {
  readonly tensors: readonly LoweredTensor[];
  readonly operators: readonly LoweredOperator[];
  readonly outputs: readonly string[];
}

/**
 * Fuses and lays out a graph whose quantisation has been decided.
 * @throws LadderError `UNSUPPORTED` for a node that no kernel takes
 */
export function lower(graph: Graph, target: Target): LoweredModel {
  return new Lowering(graph, target).run();
}

class Lowering {
  private readonly tensors = new Map<string, LoweredTensor>();
  private readonly operators: LoweredOperator[] = [];
  private readonly names = new Map<number, readonly string[]>();

  private readonly groups: readonly Group[];
  private readonly graph: Graph;

  constructor(
    graph: Graph,
    private readonly target: Target,
  ) {
    ({ graph: this.graph, groups: this.groups } = layOut(graph, fuse(graph, target), target));
  }

  run(): LoweredModel {
    for (const index of this.graph.inputs) {
      const value = this.graph.values[index]!;
      if (value.role === 'input') this.argument(index, value);
    }
    for (const group of this.groups) this.operator(group);
    this.readAhead();
    return {
      tensors: [...this.tensors.values()],
      operators: this.operators,
      outputs: this.graph.outputs.flatMap((value) => this.namesOf(value)),
    };
  }

  private operator({ head, program, values, selection: { family, match } }: Group): void {
    const node = `ladder_${head.kind}_${identifier(head.name)}`;
    const storage = family.storage(match);
    const stored: Program = { ...program, values: program.values.map((value, i) => ({ ...value, ...storage.get(i) })) };
    for (const index of stored.inputs) {
      const value = this.graph.values[values[index]!]!;
      if (value.role !== undefined && value.role !== 'input') this.argument(values[index]!, { ...value, ...storage.get(index) });
    }
    const made = stored.outputs.map((index, i) => this.output(`${node}${i === 0 ? '' : `_${i}`}`, values[index]!, stored.values[index]!));
    const inputs = stored.inputs.flatMap((index) => this.namesOf(values[index]!));
    const outputs = made.flat();
    this.operators.push({
      node,
      program: stored,
      family,
      match: this.matchOf(family, stored),
      inputs,
      outputs,
      probe: stored.inputs.flatMap((index) => this.probes(values[index]!, stored.values[index]!)),
      bytes: [...stored.inputs, ...stored.outputs].reduce((sum, index) => sum + valueBytes(stored.values[index]!), 0),
      flops: flopsOf(stored),
    });
  }

  private matchOf(family: Family, program: Program): unknown {
    const match = family.accepts(program, this.target);
    if (match instanceof Refusal)
      throw new LadderError('INTERNAL', `${family.id} refuses in its own storage what it took before: ${match.message}`);
    return match;
  }

  /** The tensors of an input or a parameter. Who reads it first says how it is stored; others must agree. */
  private argument(index: number, value: GraphValue): void {
    const { name, role } = value;
    if (name === undefined || role === undefined)
      throw new LadderError('INTERNAL', `value ${index} of the graph is an argument without a name`);
    const known = this.names.get(index)?.[0];
    if (known !== undefined) {
      if (isSameLayout(this.tensors.get(known)!.value.layout, value.layout)) return;
      throw new LadderError('UNSUPPORTED', `${name} is read by two operators that want it stored in two orders`, { tensor: name });
    }
    this.names.set(
      index,
      tensorsOf(value).map(({ part, dtype, shape }) => {
        const tensor = role === 'weight' ? `${name}.${part === 'scales' ? 'scale' : 'weight'}` : name;
        this.tensors.set(tensor, {
          name: tensor,
          shape: value.shape ?? shape,
          dtype,
          role: part === 'scales' ? 'scale' : role,
          fill: value.fill ?? parameterFill(role, value, part),
          value,
        });
        return tensor;
      }),
    );
  }

  private output(name: string, index: number, value: Value): readonly LoweredOutput[] {
    const made = tensorsOf(value).map(
      ({ part, dtype, shape }): LoweredOutput => ({
        name: part === 'scales' ? `${name}_scale` : name,
        shape: this.graph.values[index]!.shape ?? shape,
        dtype,
      }),
    );
    this.names.set(
      index,
      made.map((one) => one.name),
    );
    return made;
  }

  private namesOf(index: number): readonly string[] {
    const names = this.names.get(index);
    if (!names) throw new LadderError('INTERNAL', `fusion left value ${index} of the graph without an operator`);
    return names;
  }

  /** Parameters keep their values under verification; activations are drawn anew. */
  private probes(index: number, value: Value): readonly (Fill | null)[] {
    const { role } = this.graph.values[index]!;
    return tensorsOf(value).map(({ part }) => (role === undefined || role === 'input' ? probeFill(value, part) : null));
  }

  /** Operators that are soon over get the weights of the next one to read ahead. */
  private readAhead(): void {
    let next: LoweredTensor | null = null;
    for (let i = this.operators.length - 1; i >= 0; --i) {
      const operator = this.operators[i]!;
      const { family, match, program } = operator;
      if (!family.readAhead) continue;
      if (next !== null && family.readAhead.wanted(match)) {
        const hinted: Program = { ...program, hints: [next.shape.reduce((product, extent) => product * extent, kTensorBytes[next.dtype])] };
        this.operators[i] = {
          ...operator,
          program: hinted,
          match: this.matchOf(family, hinted),
          inputs: [...operator.inputs, next.name],
          probe: [...operator.probe, null],
        };
      }
      next = this.tensors.get(operator.inputs[tensorPositions(program).get(family.readAhead.weight(match))!]!) ?? null;
    }
  }
}

/** Work of all nodes of a program. */
function flopsOf({ values, nodes }: Program): number {
  return nodes.reduce(
    (sum, { kind, params, inputs, outputs }) =>
      sum +
      primitives.get(kind).flops(
        params,
        inputs.map((index) => values[index]!),
        outputs.map((index) => values[index]!),
      ),
    0,
  );
}

function identifier(name: string): string {
  return name.replace(/[^A-Za-z0-9]+/g, '_');
}

/**
 * Two products whose results are added, as a block's last one and the projection of its residual, seen as one of native/kernels/matmul/tile:
 * the second's k follows the first's, so that its results are neither written nor read.
 */
import type { Node, Program } from '../../../operators/program.js';
import { Refusal } from '../family.js';
import type { KernelArgument } from '../plan.js';
import { argumentOf, type Part, partOf } from '../sequence.js';
import { isGathered, placeBytes, type TileShape } from './tile-kernel.js';
import { isLinear, matchTile, type TileMatch } from './tile-shape.js';

/** A program cut at the sum of two products. */
interface Cut {
  /** With that sum, to which the second's result comes as a residual. */
  readonly first: Part;
  readonly second: Part;
}

/** The node that made a value, and all before it by their first operands. */
function lineTo(nodes: readonly Node[], value: number): readonly Node[] {
  const maker = nodes.find(({ outputs }) => outputs.includes(value));
  return maker ? [...lineTo(nodes, maker.inputs[0]!), maker] : [];
}

/** Cuts at the first sum of two values that are made inside; null: there is none, or the second one is a result as well. */
function cut(program: Program): Cut | null {
  const { nodes, outputs } = program;
  const sum = nodes.find(({ kind, inputs }) => kind === 'add' && inputs.every((value) => lineTo(nodes, value).length > 0));
  const residual = sum?.inputs[1];
  if (residual === undefined || outputs.includes(residual)) return null;
  const line = lineTo(nodes, residual);
  const second = partOf(program, line);
  const first = partOf(
    program,
    nodes.filter((node) => !line.includes(node)),
  );
  return { first: asHalves(first, residual), second: asHalves(second, residual) };
}

/** A part in which a value of the whole passes as float16. */
function asHalves(part: Part, value: number): Part {
  const at = part.values.indexOf(value);
  return { ...part, program: { ...part.program, values: part.program.values.map((one, i) => (i === at ? { ...one, type: 'f16' } : one)) } };
}

/** Rows of x of whole 16 bytes. */
function isWhole(shape: TileShape): boolean {
  return placeBytes(shape) % 16 === 0;
}

/** Why two products are not summed by one kernel, or null. */
function refuse(first: TileMatch, second: TileMatch): Refusal | null {
  const [one, other] = [first.shape, second.shape];
  if (second.after.length > (other.bias ? 1 : 0) || first.after[one.bias ? 1 : 0] !== 'add')
    return new Refusal('steps', 'expected products that are added as they are, but for a bias');
  if (first.stem || second.stem || one.pairs || !isWhole(one) || !isWhole(other))
    return new Refusal('x', 'expected rows of whole 16 bytes, and no pairs of outputs');
  if (one.weight !== other.weight || one.activation !== other.activation || one.xScale !== other.xScale || one.xScale === 'row')
    return new Refusal('weight', 'expected two products of the same formats, and no scales of rows');
  if (!isLinear({ ...other, strideY: 1, strideX: 1 }) || !isGathered(one))
    return new Refusal('kernel', 'expected a second product of a kernel of one place, and a first one of few');
  return null;
}

/**
 * The flat view of two products whose results are added, or why there is none; null: the program is another one.
 */
export function matchTwo(program: Program): TileMatch | Refusal | null {
  const parts = cut(program);
  if (!parts) return null;
  const [first, second] = [matchTile(parts.first.program), matchTile(parts.second.program)];
  if (first instanceof Refusal) return first;
  if (second instanceof Refusal) return second;
  const refusal = refuse(first, second);
  if (refusal) return refusal;
  const { channels, height, width, strideY, bias } = second.shape;
  const operands = (part: Part, { operands: own }: TileMatch, suffix: string): TileMatch['operands'] =>
    Object.fromEntries(
      Object.entries(own).flatMap(([member, argument]): readonly (readonly [string, KernelArgument])[] => {
        const given = argument && argument.kind !== 'workspace' ? argumentOf(program, part, argument) : null;
        return given ? [[`${member}${suffix}`, given]] : [];
      }),
    );
  return {
    kind: first.kind,
    after: first.after,
    stem: null,
    shape: {
      ...first.shape,
      residual: false,
      second: { channels, height, width, stride: strideY, bias },
      steps: first.shape.steps.slice(1),
    },
    weight: parts.first.values[first.weight]!,
    weight2: parts.second.values[second.weight]!,
    operands: { ...operands(parts.second, second, '2'), ...operands(parts.first, first, '') },
  };
}

// Programs cut into parts and planned one after the other: what passes between them, by values and by tensors, of which codes and weights
// with scales have two.
import { describe, expect, it } from 'vitest';
import { defineFamily, type Family, kOtherKind } from '../../lib/compiler/kernels/family.js';
import type { KernelArgument } from '../../lib/compiler/kernels/plan.js';
import { argumentOf, partOf, planSequence } from '../../lib/compiler/kernels/sequence.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { checkProgram } from '../../lib/operators/check.js';
import { type Program, programTensors, stepsText, tensorPositions, valueBytes } from '../../lib/operators/program.js';
import { chainProgram, type Written } from '../fixtures/chains.js';

const matrix = { rows: 40, width: 128 };
/** Two products with a norm between them; what the norm reads is an output and the last residual. */
const written: Written = (graph) => {
  const x = graph.input('x', [
    { name: 'm', extent: matrix.rows },
    { name: 'c', extent: matrix.width },
  ]);
  const y = graph.dense('a', x, matrix.width, true);
  const z = graph.dense('b', graph.norm('norm', y, 'layer', 1e-5), matrix.width, true);
  return [y, graph.node('add', 'residual', [z, y])];
};
const whole = chainProgram(written, ['int4', 'int8']);
const named = (kinds: readonly string[], from = 0) => {
  const at = whole.nodes.findIndex((_, i) => i >= from && kinds.every((kind, j) => whole.nodes[i + j]?.kind === kind));
  return whole.nodes.slice(at, at + kinds.length);
};
/** quantise, dense, add; norm, quantise; dense, add, add. */
const first = named(['quantise', 'dense', 'add']);
const second = named(['norm', 'quantise']);
const third = named(['dense', 'add', 'add'], 3);
const parts = [first, second, third].map((nodes) => partOf(whole, nodes));
const [a, b, c] = parts as [(typeof parts)[number], (typeof parts)[number], (typeof parts)[number]];

/** Plans any program as one kernel that has all its tensors, and a place of its own in the workspace, as arguments. */
function recording(workspaceBytes = 1000): { readonly family: Family; readonly planned: Program[] } {
  const planned: Program[] = [];
  const family = defineFamily<Program>({
    id: 'test/recording',
    version: 1,
    accepts: (program) => program,
    storage: () => new Map(),
    configurations: () => [{}],
    key: () => '',
    plan(program, name) {
      planned.push(program);
      const { inputs, outputs } = programTensors(program);
      return {
        includes: ['one.cuh'],
        definitions: name,
        launches: [
          {
            name,
            grid: [1, 1, 1],
            block: [32, 1, 1],
            dynamicSharedBytes: 0,
            programmatic: true,
            arguments: [
              ...inputs.map((_, index): KernelArgument => ({ kind: 'input', index })),
              ...outputs.map((_, index): KernelArgument => ({ kind: 'output', index })),
              { kind: 'workspace', offsetBytes: 0 },
            ],
          },
        ],
        workspaceBytes,
      };
    },
  });
  return { family, planned };
}

describe('a part', () => {
  it('is a program that means something', () => {
    expect(parts.map(({ program }) => stepsText(program))).toEqual(['quantise, dense, add', 'norm, quantise', 'dense, add, add']);
    expect(stepsText(whole)).toBe(parts.map(({ program }) => stepsText(program)).join(', '));
    for (const { program } of parts) checkProgram(program);
  });

  it('has values of the whole, each once', () => {
    for (const { program, values } of parts) {
      expect(new Set(values).size).toBe(values.length);
      expect(program.values).toEqual(values.map((value) => whole.values[value]));
    }
  });

  it('reads what others made, and makes what others read or the whole gives back', () => {
    const outside = ({ program, values }: (typeof parts)[number]) => program.outputs.map((output) => values[output]);
    const [y, last] = whole.outputs;
    expect(outside(a)).toEqual([y]);
    expect(outside(b)).toEqual(second[1]!.outputs);
    expect(outside(c)).toEqual([last]);
    const inside = ({ program, values }: (typeof parts)[number]) => program.inputs.map((input) => values[input]);
    expect(inside(b)).toEqual(second[0]!.inputs);
    expect(inside(c)).toEqual([...third[0]!.inputs, third[1]!.inputs[1], y]);
  });

  it('of all nodes is the whole', () => {
    const { program, values } = partOf(whole, whole.nodes);
    expect(program.outputs.map((output) => values[output])).toEqual(whole.outputs);
    expect([...program.inputs.map((input) => values[input]!)].sort()).toEqual([...whole.inputs].sort());
  });

  it('reads twice what it reads twice, as one input', () => {
    const square = chainProgram((graph) => {
      const x = graph.input('x', [
        { name: 'm', extent: 4 },
        { name: 'c', extent: 8 },
      ]);
      return [graph.node('add', 'double', [x, x])];
    });
    expect(partOf(square, square.nodes).program.inputs).toEqual([0]);
  });
});

describe('an argument', () => {
  it('is of tensors, not of values', () => {
    const positions = tensorPositions(whole);
    // There is a value whose first tensor has another index than it has among the inputs.
    const shifted = whole.inputs.filter((value, i) => positions.get(value) !== i);
    expect(shifted.length).toBeGreaterThan(0);
    const wanted = (part: (typeof parts)[number]) =>
      programTensors(part.program).inputs.map((_, index) => argumentOf(whole, part, { kind: 'input', index }));
    const at = (value: number, tensor = 0): KernelArgument => ({ kind: 'input', index: positions.get(value)! + tensor });
    const [quantised, product, biased] = first;
    expect(wanted(a)).toEqual([at(quantised!.inputs[0]!), at(product!.inputs[1]!), at(product!.inputs[1]!, 1), at(biased!.inputs[1]!)]);
    // What was made before is an output, or nothing of the whole.
    expect(wanted(b)).toEqual([{ kind: 'output', index: 0 }, at(second[0]!.inputs[1]!), at(second[0]!.inputs[2]!)]);
    expect(wanted(c)).toEqual([
      null,
      null,
      at(third[0]!.inputs[1]!),
      at(third[0]!.inputs[1]!, 1),
      at(third[1]!.inputs[1]!),
      { kind: 'output', index: 0 },
    ]);
    expect(argumentOf(whole, a, { kind: 'output', index: 0 })).toEqual({ kind: 'output', index: 0 });
    expect(argumentOf(whole, c, { kind: 'output', index: 0 })).toEqual({ kind: 'output', index: 1 });
  });
});

describe('a sequence', () => {
  it('hands on what one part makes and another reads', () => {
    const { family, planned } = recording();
    const plan = planSequence(whole, parts, [family], 'f', layoutTarget);
    expect(planned).toEqual(parts.map(({ program }) => program));
    expect(plan.includes).toEqual(['one.cuh']);
    expect(plan.launches.map(({ name }) => name)).toEqual(['f_0', 'f_1', 'f_2']);
    const [one, two, three] = plan.launches.map((launch) => launch.arguments);
    // The first sum is an output of the whole: made there, read there.
    expect(one!.at(-2)).toEqual({ kind: 'output', index: 0 });
    expect(two![0]).toEqual({ kind: 'output', index: 0 });
    expect(three!.at(-3)).toEqual({ kind: 'output', index: 0 });
    // Codes and scales pass from one to the other.
    expect(two!.slice(3, 5).map(({ kind }) => kind)).toEqual(['workspace', 'workspace']);
    expect(three!.slice(0, 2)).toEqual(two!.slice(3, 5));
  });

  it('has places of their own for codes and for their scales', () => {
    const { family } = recording();
    const [, two] = planSequence(whole, parts, [family], 'f', layoutTarget).launches;
    const [codes, scales] = two!.arguments.slice(3, 5);
    expect(codes).not.toEqual(scales);
  });

  it('has no two things in one place', () => {
    const { family } = recording();
    const plan = planSequence(whole, parts, [family], 'f', layoutTarget);
    const own = plan.launches.map((launch) => launch.arguments.at(-1)!);
    // Parts' own workspaces take turns behind all that passes.
    expect(new Set(own.map((argument) => JSON.stringify(argument))).size).toBe(1);
    const [ownAt] = own.map((argument) => (argument.kind === 'workspace' ? argument.offsetBytes : -1));
    const passed = valueBytes(whole.values[second[1]!.outputs[0]!]!);
    expect(ownAt).toBeGreaterThanOrEqual(passed);
    expect(ownAt! % 256).toBe(0);
    expect(plan.workspaceBytes).toBe(ownAt! + 1000);
  });

  it('is by the first family that takes a part, and by none where there is none', () => {
    const { family, planned } = recording();
    const other = recording();
    const picky: Family = { ...other.family, accepts: (program) => (program.nodes[0]!.kind === 'norm' ? program : kOtherKind) };
    planSequence(whole, parts, [picky, family], 'f', layoutTarget);
    expect([other.planned, planned]).toEqual([[b.program], [a.program, c.program]]);
    expect(() => planSequence(whole, parts, [picky], 'f', layoutTarget)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });
});

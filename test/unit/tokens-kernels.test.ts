// Which of a vision transformer's first and last rows the kernels of tokens take, what they leave to the simple ones, and the first row
// that a product reads by itself.
import { describe, expect, it } from 'vitest';
import { fuse } from '../../lib/compiler/graph/fuse.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { select } from '../../lib/compiler/kernels/index.js';
import { matchDense } from '../../lib/compiler/kernels/matmul/shape.js';
import { vector } from '../../lib/compiler/kernels/matmul/vector.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import { GraphBuilder, type Graph } from '../../lib/operators/graph.js';
import { type Program, stepsText } from '../../lib/operators/program.js';
import { storedProgram } from '../fixtures/programs.js';
import { tokenOperators } from '../fixtures/images.js';
import { tokens } from '../../lib/compiler/kernels/tokens.js';

describe('kernels of tokens', () => {
  it('take patches, tokens with positions and first rows of multiples of eight numbers', () => {
    const operators = tokenOperators(2, 224, 32);
    expect(operators.map((program) => select(program, layoutTarget)?.family)).toEqual([tokens, tokens, tokens]);
    const [patches, embed, first] = operators.map((program) => storedProgram(program, [tokens]).plan('f', {}));
    expect([patches, embed, first].map((plan) => plan!.launches[0]!.grid[0])).toEqual([147, 150, 3]);
    expect(embed!.definitions).toContain('kImages = 2, kPatches = 49, kChannels = 3072;');
  });

  it('leave others to the simple kernels', () => {
    const [patches] = tokenOperators(1, 20, 4);
    expect(select(patches!, layoutTarget)?.family.id).toBe('simple/tokens');
    expect(tokens.accepts(patches!, layoutTarget)).toMatchObject({
      message: 'expected a multiple of 8 numbers side by side but received 4',
    });
  });
});

/** What a classifier reads of tokens: the first row of each image, normed or not. */
function classifier(batch: number, normed = true): Graph {
  const graph = new GraphBuilder();
  const x = graph.input('x', [
    { name: 'm', extent: 50 * batch },
    { name: 'c', extent: 384 },
  ]);
  const first = graph.node('first_rows', 'class_row', [x], { batch });
  return graph.finish([graph.dense('head', normed ? graph.norm('norm', first, 'layer', 1e-6) : first, 1000, true)]);
}
/** The whole as one program, numbers between its nodes as kernels keep them. */
function whole(graph: Graph): Program {
  const { values, nodes, inputs, outputs } = graph;
  const isRead = (value: number): boolean => nodes.some(({ kind, inputs: from }) => kind === 'dense' && from.includes(value));
  return {
    values: values.map(({ axes, type }, i) => ({ axes, type: inputs.includes(i) || outputs.includes(i) || isRead(i) ? type : 'f32' })),
    nodes: nodes.map(({ kind, params, inputs: from, outputs: to }) => ({ kind, params, inputs: from, outputs: to })),
    inputs,
    outputs,
  };
}

describe('first rows before a product', () => {
  it.each([true, false])('of one image are where it begins to read: it has one row (normed: %s)', (normed) => {
    const program = whole(classifier(1, normed));
    const match = matchDense(program);
    if (match instanceof Refusal) throw new Error(match.message);
    expect(match.shape).toMatchObject({ m: 1, n: 1000, k: 384, input: 'fp16', norm: { kind: normed ? 'layer' : 'none' }, bias: true });
    expect(program.values[program.inputs[0]!]!.axes[0]!.extent).toBe(50);
    expect(match.operands.x).toEqual({ kind: 'input', index: 0 });
    expect(match.operands.gain?.kind).toBe(normed ? 'input' : undefined);
    expect(vector.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
  });

  it('of several images are left to the kernel of tokens', () => {
    for (const batch of [2, 3]) {
      expect(matchDense(whole(classifier(batch)))).toBeInstanceOf(Refusal);
      const [first, ...others] = fuse(classifier(batch), layoutTarget);
      expect([stepsText(first!.program), first!.selection.family]).toEqual(['first_rows', tokens]);
      expect(others.map(({ program }) => stepsText(program)).join(', ')).toBe('norm, dense, add');
    }
  });

  it('of one image are part of the operator, and of its plan on every target', () => {
    const fused = fuse(classifier(1), layoutTarget);
    expect(fused.map(({ program }) => stepsText(program))).toEqual(['first_rows, norm, dense, add']);
    expect(fused[0]!.selection.family).toBe(vector);
    // As if a row were given: kernels, and keys of tunings, are the same.
    const one = new GraphBuilder();
    const row = one.input('x', [
      { name: 'm', extent: 1 },
      { name: 'c', extent: 384 },
    ]);
    const [alone] = fuse(one.finish([one.dense('head', one.norm('norm', row, 'layer', 1e-6), 1000, true)]), layoutTarget);
    expect(alone!.selection.family).toBe(vector);
    expect(vector.key(fused[0]!.selection.match)).toBe(vector.key(alone!.selection.match));
    for (const target of buildTargets) {
      const [plan, other] = [fused[0]!, alone!].map(({ selection: { family, match } }) =>
        family.plan(match, 'f', {}, { target, next: null }),
      );
      expect(plan).toEqual(other);
    }
  });

  it('stand nowhere else', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 50 },
      { name: 'c', extent: 384 },
    ]);
    const after = graph.node('first_rows', 'class_row', [graph.norm('norm', x, 'layer', 1e-6)], { batch: 1 });
    expect(matchDense(whole(graph.finish([graph.dense('head', after, 1000, true)])))).toBeInstanceOf(Refusal);
  });
});

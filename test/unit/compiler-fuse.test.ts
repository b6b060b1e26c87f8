// Numbers between the nodes of one operator: where kernels keep them, as float16, and where they pass as they are.
import { describe, expect, it } from 'vitest';
import { fuse } from '../../lib/compiler/graph/fuse.js';
import { quantiseGraph } from '../../lib/compiler/graph/quantise.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { resnet50 } from '../../lib/models/resnet.js';
import { type Graph, GraphBuilder } from '../../lib/operators/graph.js';
import { isQuantised, stepsText } from '../../lib/operators/program.js';
import type { NodeFormats } from '../../lib/models/index.js';

/** By the kinds of the node that makes a number and of one that reads it, within operators: how it passes. */
function edges(graph: Graph): readonly string[] {
  return fuse(graph, layoutTarget).flatMap(({ program: { values, nodes } }) =>
    nodes.flatMap((maker) =>
      nodes.flatMap((reader) => {
        const value = reader.inputs.find((one) => maker.outputs.includes(one));
        if (value === undefined || isQuantised(values[value]!.type)) return [];
        return [`${maker.kind} ${reader.kind}: ${values[value]!.type}`];
      }),
    ),
  );
}

/** [norm] dense relu, and a product of that. */
function twoProducts(rows: number, formats: NodeFormats | null, normed = false): Graph {
  const graph = new GraphBuilder();
  const x = graph.input('x', [
    { name: 'm', extent: rows },
    { name: 'c', extent: 256 },
  ]);
  const first = graph.node('relu', 'relu', [graph.dense('first', normed ? graph.norm('norm', x, 'layer', 1e-5) : x, 256, true)]);
  const plain = graph.finish([graph.dense('second', first, 256, true)]);
  return quantiseGraph(plain, ({ kind }) => (kind === 'dense' ? formats : null), -1);
}
const steps = (graph: Graph): readonly string[] => fuse(graph, layoutTarget).map(({ program }) => stepsText(program));

/** relu(last(relu(first(x))) + projection(x)), the projection before the last product or after it. */
function projected(formats: NodeFormats | null, isFirst: boolean, stride = 2, isRead = false): Graph {
  const graph = new GraphBuilder();
  const x = graph.input('x', [
    { name: 'm', extent: 4 * 16 * 16 },
    { name: 'c', extent: 64 },
  ]);
  const sizes = { batch: 4, height: 16, width: 16, groups: 1 };
  const inner = graph.conv('first', x, 64, { ...sizes, kernelY: 3, kernelX: 3, stride, paddingY: 1, paddingX: 1 });
  const first = graph.node('relu', 'relu', [inner]);
  const project = (): number => graph.conv('projection', x, 256, { ...sizes, kernelY: 1, kernelX: 1, stride, paddingY: 0, paddingX: 0 });
  const before = isFirst ? project() : null;
  const last = graph.dense('last', first, 256, true);
  const residual = before ?? project();
  const y = graph.node('relu', 'out', [graph.node('add', 'sum', [last, residual])]);
  const outputs = isRead ? [y, residual] : [y];
  return quantiseGraph(graph.finish(outputs), ({ kind }) => (['dense', 'conv'].includes(kind) ? formats : null), -1);
}

describe('two products whose results are added', () => {
  const groups = (graph: Graph): readonly (readonly [string, string])[] =>
    fuse(graph, layoutTarget).map(({ head, program }) => [head.name, stepsText(program)] as const);

  it('are one operator, named after the one that is no residual', () => {
    const coded = { weight: 'fp8_e5m2', input: 'fp8_e5m2', inputScale: 'tensor' } as const;
    for (const formats of [null, coded]) {
      expect(groups(projected(formats, true)).at(-1)).toEqual(['last', 'conv, add, dense, add, add, relu']);
      expect(groups(projected(formats, false)).at(-1)).toEqual(['last', 'dense, add, conv, add, add, relu']);
      expect(edges(projected(formats, true)).filter((edge) => edge.endsWith('add: f16'))).toEqual([]);
    }
  });

  it('stay two where another reads the residual, too', () => {
    expect(groups(projected(null, true, 2, true)).map(([, steps]) => steps)).toEqual([
      'conv, add, relu',
      'conv, add',
      'dense, add, add, relu',
    ]);
  });

  it('are so in every first block of a network, and its other operators as they were', () => {
    const names = groups(resnet50.graph!(1, 1, 1)).map(([name]) => name);
    expect(names.filter((name) => name.endsWith('downsample'))).toEqual([]);
    expect(names.filter((name) => name.endsWith('conv3'))).toHaveLength(16);
    expect(names).toHaveLength(1 + 3 * 16 + 2);
  });
});

describe('numbers inside an operator', () => {
  it('are rounded where a quantisation per row reads them: it looks for the largest first', () => {
    for (const format of ['int8', 'int4', 'fp8_e5m2', 'fp8_e4m3']) {
      const weight = format.startsWith('int') ? 'int4' : format;
      const graph = twoProducts(50, { weight, input: format }, true);
      expect(steps(graph)).toEqual(['norm, quantise, dense, add, relu, quantise, dense, add']);
      expect(edges(graph)).toEqual(['norm quantise: f32', 'dense add: f32', 'add relu: f32', 'relu quantise: f16', 'dense add: f32']);
      // Without a norm they are no chain, and what passes between operators is float16 anyway.
      expect(steps(twoProducts(50, { weight, input: format }))).toEqual(['quantise, dense, add, relu', 'quantise, dense, add']);
    }
  });

  it('are as they are on their way from a norm to a quantisation, and rounded on the way to a product', () => {
    expect(edges(twoProducts(50, { weight: 'int4', input: 'int8' }, true))).toContain('norm quantise: f32');
    expect(edges(twoProducts(50, null, true))).toEqual([
      'norm dense: f16',
      'dense add: f32',
      'add relu: f32',
      'relu dense: f16',
      'dense add: f32',
    ]);
  });

  it('are rounded where a norm reads them', () => {
    const graph = new GraphBuilder();
    const x = graph.input('x', [
      { name: 'm', extent: 50 },
      { name: 'c', extent: 256 },
    ]);
    const first = graph.norm('outer', graph.dense('first', x, 256, true), 'layer', 1e-5);
    const finished = graph.finish([graph.dense('second', graph.norm('inner', first, 'layer', 1e-5), 256, false)]);
    expect(steps(finished)).toEqual(['dense, add, norm, norm, dense']);
    expect(edges(finished)).toEqual(['dense add: f32', 'add norm: f16', 'norm norm: f16', 'norm dense: f16']);
  });

  it('are as they are where the scale is known before, or of blocks', () => {
    for (const formats of [
      { weight: 'int4', input: 'int8', inputScale: 'tensor' },
      { weight: 'fp8_e4m3', input: 'fp8_e4m3', inputScale: 'tensor' },
      { weight: 'mxfp8_e4m3', input: 'mxfp8_e4m3' },
    ] as const) {
      const graph = twoProducts(256, formats);
      expect(steps(graph)).toContain('dense, add, relu, quantise');
      expect(edges(graph)).toContain('relu quantise: f32');
      expect(edges(graph).filter((edge) => edge.endsWith('f16'))).toEqual([]);
    }
  });
});

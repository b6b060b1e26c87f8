import { describe, expect, it } from 'vitest';
import { dataTypeOf, elementBytes, parseDataType } from '../../lib/artifact/dtype.js';
import { argumentEntries, parseGraph } from '../../lib/artifact/graph.js';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { measureStorage, storageConflicts } from '../../lib/artifact/storage.js';
import { LadderError } from '../../lib/errors.js';
import { fixtureGraph, fixtureTensors } from '../fixtures/artifact/checkpoint.js';
import { foreignGraph } from '../fixtures/artifact/foreign-graph.js';

const parse = (graph: unknown) => parseGraph(JSON.stringify(graph));

describe('parseGraph', () => {
  it('reads every feature of the format', () => {
    const graph = parse(foreignGraph());
    expect(
      graph.nodes.map(({ name, inputs, outputs, flatten, functionName }) => ({ name, inputs, outputs, flatten, functionName })),
    ).toEqual([
      { name: 'data', inputs: [], outputs: [0], flatten: false, functionName: null },
      { name: '__proto__', inputs: [], outputs: [1], flatten: false, functionName: null },
      { name: 'split', inputs: [0, 1], outputs: [2, 3], flatten: true, functionName: 'fused_split' },
      { name: 'reshape', inputs: [3], outputs: [4], flatten: false, functionName: '__nop' },
      { name: 'to_host', inputs: [4], outputs: [5], flatten: false, functionName: '__copy' },
    ]);
    expect(graph.nodes[2]!.attributes).toEqual(new Map([['hash', 'ff']]));
    expect(graph.nodes[3]!.controlDependencies).toEqual([0]);
    expect(graph.heads).toEqual([5, 2]);
    expect([...argumentEntries(graph)]).toEqual([
      ['data', 0],
      ['__proto__', 1],
    ]);
    expect(graph.entries[1]).toEqual({
      node: 1,
      output: 0,
      shape: [6],
      dtype: { name: 'int4', code: 0, bits: 4, lanes: 1 },
      elements: 6,
      sizeBytes: 6,
      storageId: 7,
      deviceType: 2,
      storageScope: '',
    });
    expect(graph.entries[5]).toMatchObject({ node: 4, output: 0, sizeBytes: 16, storageId: 1000000, deviceType: 1 });
    expect(storageConflicts(graph)).toEqual([]);
    expect(measureStorage(graph)).toEqual({ storages: 5, sharedBytes: 12 + 6 + 12 + 16 + 16, unsharedBytes: 12 + 6 + 12 + 16 + 16 });
  });

  it('does without device_index and storage_scope', () => {
    const graph = foreignGraph();
    delete graph.attrs['device_index'];
    delete graph.attrs['storage_scope'];
    expect(parse(graph).entries.every(({ deviceType, storageScope }) => deviceType === null && storageScope === null)).toBe(true);
  });

  // Each: what is done to the valid graph, and what the message must name.
  const damage: readonly [string, (graph: ReturnType<typeof foreignGraph>) => void, RegExp][] = [
    [
      'unknown key',
      (g) => {
        g['extra'] = 1;
      },
      /extra/,
    ],
    [
      'unknown key of a node',
      (g) => {
        g.nodes[0]!['extra'] = 1;
      },
      /nodes\[0\]\.extra/,
    ],
    [
      'no nodes',
      (g) => {
        delete (g as Record<string, unknown>)['nodes'];
      },
      /nodes/,
    ],
    [
      'unknown op',
      (g) => {
        g.nodes[0]!['op'] = 'conv';
      },
      /nodes\[0\]\.op/,
    ],
    [
      'reference to a later node',
      (g) => {
        g.nodes[2]!['inputs'] = [
          [0, 0, 0],
          [3, 0, 0],
        ];
      },
      /nodes\[2\]\.inputs\[1\]/,
    ],
    [
      'reference to itself',
      (g) => {
        g.nodes[3]!['inputs'] = [[3, 0, 0]];
      },
      /nodes\[3\]\.inputs\[0\]/,
    ],
    [
      'output that a node has not',
      (g) => {
        g.nodes[3]!['inputs'] = [[2, 2, 0]];
      },
      /inputs\[0\]\[1\]/,
    ],
    [
      'fractional index',
      (g) => {
        g['heads'] = [[4.5, 0, 0]];
      },
      /heads\[0\]\[0\]/,
    ],
    [
      'negative index',
      (g) => {
        g['heads'] = [[-1, 0, 0]];
      },
      /heads\[0\]\[0\]/,
    ],
    [
      'number attribute',
      (g) => {
        (g.nodes[2]!['attrs'] as Record<string, unknown>)['num_inputs'] = 2;
      },
      /nodes\[2\]\.attrs\.num_inputs/,
    ],
    [
      'wrong num_inputs',
      (g) => {
        (g.nodes[2]!['attrs'] as Record<string, unknown>)['num_inputs'] = '1';
      },
      /num_inputs/,
    ],
    [
      'wrong num_outputs',
      (g) => {
        (g.nodes[2]!['attrs'] as Record<string, unknown>)['num_outputs'] = '3';
      },
      /num_outputs/,
    ],
    [
      'no func_name',
      (g) => {
        delete (g.nodes[2]!['attrs'] as Record<string, unknown>)['func_name'];
      },
      /func_name/,
    ],
    [
      'both spellings of attrs',
      (g) => {
        g.nodes[2]!['attr'] = {};
      },
      /nodes\[2\]\.attr/,
    ],
    [
      'row pointers that go back',
      (g) => {
        g['node_row_ptr'] = [0, 1, 1, 4, 5, 6];
      },
      /node_row_ptr\[2\]/,
    ],
    [
      'a row pointer of two thousand million',
      (g) => {
        g['node_row_ptr'] = [0, 1, 2, 4, 5, 2 ** 31 - 1];
      },
      /node_row_ptr\[5\]/,
    ],
    [
      'too few shapes',
      (g) => {
        (g.attrs['shape']![1] as unknown[]).pop();
      },
      /attrs\.shape/,
    ],
    [
      'list of another type',
      (g) => {
        g.attrs['storage_id']![0] = 'list_str';
      },
      /attrs\.storage_id/,
    ],
    [
      'negative extent',
      (g) => {
        (g.attrs['shape']![1] as unknown[])[0] = [2, -3];
      },
      /attrs\.shape\[1\]\[0\]\[1\]/,
    ],
    [
      'more than 2^53 bytes',
      (g) => {
        (g.attrs['shape']![1] as unknown[])[0] = [2 ** 31, 2 ** 31];
      },
      /2\^53/,
    ],
    [
      'negative storage',
      (g) => {
        (g.attrs['storage_id']![1] as unknown[])[0] = -1;
      },
      /storage_id/,
    ],
    [
      'one storage on two devices',
      (g) => {
        (g.attrs['storage_id']![1] as unknown[])[5] = 0;
      },
      /device_index/,
    ],
    [
      'unknown type',
      (g) => {
        (g.attrs['dltype']![1] as unknown[])[0] = 'floaty16';
      },
      /attrs\.dltype\[1\]\[0\]/,
    ],
    [
      'an attribute that cannot be skipped',
      (g) => {
        g.attrs['mystery'] = ['list_str', []];
      },
      /mystery/,
    ],
    [
      'an argument that is no null node',
      (g) => {
        g['arg_nodes'] = [0, 1, 2];
      },
      /arg_nodes\[2\]/,
    ],
    [
      'an argument twice',
      (g) => {
        g['arg_nodes'] = [0, 0];
      },
      /arg_nodes\[1\]/,
    ],
    [
      'a null node that is no argument',
      (g) => {
        g['arg_nodes'] = [0];
      },
      /arg_nodes/,
    ],
    [
      'two inputs of one name',
      (g) => {
        g.nodes[1]!['name'] = 'data';
      },
      /nodes\[1\]\.name/,
    ],
    [
      'a null node with inputs',
      (g) => {
        g.nodes[1]!['inputs'] = [[0, 0, 0]];
      },
      /nodes\[1\]\.inputs/,
    ],
    [
      'a __nop that changes the size',
      (g) => {
        (g.attrs['shape']![1] as unknown[])[4] = [5];
      },
      /__nop/,
    ],
  ];
  it.each(damage)('refuses: %s', (_, change, named) => {
    const graph = foreignGraph();
    change(graph);
    let error: unknown;
    try {
      parse(graph);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(LadderError);
    expect((error as LadderError).code).toBe('BAD_GRAPH');
    expect((error as LadderError).message).toMatch(named);
  });

  it('survives documents of absurd depth', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(() => parseGraph(deep)).toThrow(LadderError);
    expect(() => parseGraph(JSON.stringify({ ...foreignGraph(), nodes: 0 }).replace('"nodes":0', `"nodes":${deep}`))).toThrow(LadderError);
    expect(parseGraph(JSON.stringify({ ...foreignGraph(), metadata: 0 }).replace('"metadata":0', `"metadata":${deep}`)).nodes).toHaveLength(
      5,
    );
  });

  it('takes time in proportion to the graph', () => {
    const description = (operators: number) => ({
      inputs: [{ name: 'x', shape: [8], dtype: 'float32' }],
      operators: Array.from({ length: operators }, (_, i) => ({
        name: `n${i}`,
        functionName: 'f',
        inputs: [i === 0 ? 'x' : `t${i - 1}`],
        outputs: [{ name: `t${i}`, shape: [8], dtype: 'float32' }],
      })),
      outputs: [`t${operators - 1}`],
    });
    const text = serialiseGraph(description(40_000));
    const started = performance.now();
    const graph = parseGraph(text);
    expect(storageConflicts(graph)).toEqual([]);
    // Quadratic work would take minutes.
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(measureStorage(graph).storages).toBe(4);
  });
});

describe('serialiseGraph', () => {
  it('writes what parseGraph reads', () => {
    const graph = parseGraph(fixtureGraph());
    expect(graph.argumentNodes.map((node) => graph.nodes[node]!.name)).toEqual(fixtureTensors.map(({ name }) => name));
    expect(graph.nodes[5]).toMatchObject({ name: 'op_a', functionName: 'op_a', inputs: [0, 1, 2, 3], outputs: [5] });
    expect(graph.nodes[5]!.attributes.get('hash')).toBe('b0a7');
    expect(graph.heads).toEqual([6]);
  });

  it('shares storage between activations, never weights, inputs or outputs', () => {
    const f = (name: string, size: number) => ({ name, shape: [size], dtype: 'float32' });
    const graph = parseGraph(
      serialiseGraph({
        inputs: [f('x', 4), f('w', 4)],
        operators: [
          { name: 'a', functionName: 'a', inputs: ['x', 'w'], outputs: [f('a', 64)] },
          { name: 'b', functionName: 'b', inputs: ['a', 'w'], outputs: [f('b', 8), f('unused', 8)] },
          { name: 'c', functionName: 'c', inputs: ['b'], outputs: [f('c', 32)] },
          { name: 'd', functionName: 'd', inputs: ['c', 'b'], outputs: [f('d', 16)] },
        ],
        outputs: ['d', 'a'],
      }),
    );
    const ids = graph.entries.map(({ storageId }) => storageId);
    expect(new Set(ids.slice(0, 2)).size).toBe(2);
    expect(ids.filter((id) => id === ids[2])).toHaveLength(1); // a is an output: kept
    expect(ids.filter((id) => id === ids[6])).toHaveLength(1); // so is d
    expect(ids[5]).toBe(ids[4]); // c takes what `unused` left
    expect(storageConflicts(graph)).toEqual([]);
  });

  it('refuses unknown and repeated names', () => {
    const x = { name: 'x', shape: [1], dtype: 'int8' };
    expect(() => serialiseGraph({ inputs: [x, x], operators: [], outputs: [] })).toThrow(/"x"/);
    expect(() => serialiseGraph({ inputs: [x], operators: [], outputs: ['y'] })).toThrow(/"y"/);
  });
});

it('a graph of a million nodes is refused before anything is made of them', () => {
  const nodes = `[${Array(1_000_000).fill('{}').join(',')}]`;
  const started = performance.now();
  expect(() => parseGraph(`{"nodes":${nodes},"arg_nodes":[],"heads":[],"node_row_ptr":[],"attrs":{}}`)).toThrow(
    expect.objectContaining({ code: 'BAD_GRAPH', message: expect.stringMatching(/at most 100000 nodes.*an array of 1000000/) }),
  );
  expect(performance.now() - started).toBeLessThan(2000);
});

describe('storageConflicts', () => {
  it('finds a tensor overwritten before it is read', () => {
    const graph = foreignGraph();
    // `split`'s second output, which `reshape` reads, over the weight.
    (graph.attrs['storage_id']![1] as number[])[3] = 7;
    (graph.attrs['storage_id']![1] as number[])[4] = 7;
    expect(storageConflicts(parse(graph)).join('\n')).toMatch(
      /writes split:1 over its own input __proto__:0[\s\S]*next inference reads __proto__:0/,
    );
  });

  it('finds an output that does not survive', () => {
    const text = serialiseGraph({
      inputs: [{ name: 'x', shape: [4], dtype: 'int8' }],
      operators: ['a', 'b', 'c'].map((name, i) => ({
        name,
        functionName: name,
        inputs: [['x', 'a', 'b'][i]!],
        outputs: [{ name, shape: [4], dtype: 'int8' }],
      })),
      outputs: ['c'],
    });
    const json = JSON.parse(text) as { heads: number[][] };
    json.heads.push([1, 0, 0]);
    expect(storageConflicts(parse(json))).toEqual([]); // c has a storage of its own, as an output
    (json as unknown as { attrs: { storage_id: [string, number[]] } }).attrs.storage_id[1][3] = 1;
    expect(storageConflicts(parse(json))).toEqual(['the output reads a:0 from storage 1, which then holds c:0']);
  });
});

describe('data types', () => {
  it.each([
    ['float16', 2],
    ['bool', 1],
    ['int4', 1],
    ['uint1', 1],
    ['float16x4', 8],
    ['e5m2_float8', 1],
    ['int32', 4],
    ['bfloat16', 2],
    ['handle', 8],
    ['int4x8', 4],
  ])('%s has %i bytes', (name, bytes) => {
    expect(elementBytes(parseDataType(name))).toBe(bytes);
  });

  it('names what DLPack numbers mean', () => {
    for (const name of ['float16', 'bool', 'int4', 'uint8', 'float16x4', 'handle', 'bfloat16', 'uint1x8']) {
      const type = parseDataType(name);
      expect(dataTypeOf(type.code, type.bits, type.lanes)).toEqual(type);
    }
    for (const [code, bits, lanes] of [
      [5, 8, 1],
      [0, 0, 1],
      [0, 65, 1],
      [0, 8, 0],
    ] as const)
      expect(dataTypeOf(code, bits, lanes)).toBeNull();
  });
});

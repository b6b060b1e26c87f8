// Operators whose kernels are the same but for their names: one image for all of them, host functions of their own that launch it with
// their own tensors.
import { describe, expect, it } from 'vitest';
import { type CheckpointDesign, designCheckpoint, designGraph } from '../../lib/compiler/design.js';
import { defineFamily, kOtherKind } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { chain } from '../../lib/compiler/kernels/matmul/chain.js';
import type { KernelArgument, KernelLaunch } from '../../lib/compiler/kernels/plan.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import type { Tuned } from '../../lib/compiler/types.js';
import { tuningKey } from '../../lib/compiler/tune/tuned.js';
import { GraphBuilder } from '../../lib/operators/graph.js';
import type { Program } from '../../lib/operators/program.js';

const kOthers = buildTargets.map(({ id }) => id).filter((id) => id !== layoutTarget.id);
const kVit = parseRequest({ model: 'vit', batch: 1, seq: 1 });
const kTiny = parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'fp16' });

/** The host function of a node. */
function functionOf({ sources: { host } }: CheckpointDesign, node: string): string {
  const at = host.indexOf(`EXPORT int ${node}(`);
  expect(at).toBeGreaterThanOrEqual(0);
  const end = host.indexOf('EXPORT int ', at + 1);
  return host.slice(at, end < 0 ? undefined : end);
}

/** Names of the kernels that a host function launches, and the pointers that each gets. */
function launchesOf(design: CheckpointDesign, node: string): readonly (readonly [name: string, pointers: readonly string[]])[] {
  return [...functionOf(design, node).matchAll(/void\* pointers\[\] = \{([^}]*)\};[\s\S]*?launch\(&handle, "(\w+)"/g)].map(
    ([, pointers, name]) => [name!, pointers!.split(', ')],
  );
}

/** Kernels that sources define. */
function kernelsIn(source: string): readonly string[] {
  return [...source.matchAll(/extern "C" __global__ [^{]*?\b(\w+)\([^()]*\)\s*\{/g)].map(([, name]) => name!);
}

function pointersOf({ arguments: all }: KernelLaunch, inputs: number): readonly string[] {
  const pointer = (argument: KernelArgument): string =>
    argument.kind === 'workspace'
      ? `(char*)workspace + ${argument.offsetBytes}`
      : `data[${argument.index + (argument.kind === 'output' ? inputs : 0)}]`;
  return all.map(pointer);
}

describe('a vision transformer at one image', () => {
  const design = designCheckpoint(kVit, null);
  const chains = design.planned.filter(({ operator: { family } }) => family === chain);
  const nameOn90 = ({ plan: { launches } }: (typeof chains)[number]): string => launches[0]!.name;

  it('has twelve chains of two kernels: the last has no next layer', () => {
    expect(chains).toHaveLength(12);
    const [first, last] = [chains[0]!.operator.node, chains[11]!.operator.node];
    expect(chains.map(nameOn90)).toEqual([...Array.from({ length: 11 }, () => first), last]);
    // One image of each for sm_90a, and of each for the others.
    const ofChains = design.sources.kernels.flatMap((source, image) =>
      [first, last].some((node) => source.includes(` ${node}, one instantiation per launch`)) ? [design.sources.kernelTargets[image]] : [],
    );
    expect(ofChains).toEqual([[layoutTarget.id], kOthers, [layoutTarget.id], kOthers]);
    expect(design.sources.kernels.filter((source) => source.includes('chainedProducts<'))).toHaveLength(2);
  });

  it('shares on every target', () => {
    const [first, ...others] = chains.map(({ alternatives }) => alternatives!);
    for (const alternatives of others.slice(0, -1)) expect(alternatives).toEqual(first);
    expect(others.at(-1)).not.toEqual(first);
    expect(first!.map(({ targets }) => targets)).toEqual([kOthers]);
  });

  it('defines each kernel once, and all that are launched', () => {
    const defined = design.sources.kernels.flatMap(kernelsIn);
    expect(new Set(defined).size).toBe(defined.length);
    const launched = design.model.operators.flatMap(({ node }) => launchesOf(design, node).map(([name]) => name));
    expect(new Set(launched)).toEqual(new Set(defined));
    expect(launched.length).toBeGreaterThan(defined.length);
  });

  it('names each kernel once in the manifest, with its targets', () => {
    const names = Object.keys(design.manifest.launch);
    expect([...names].sort()).toEqual(design.sources.kernels.flatMap(kernelsIn).sort());
    const own = chains.map(({ operator: { node } }) => node);
    expect(names.filter((name) => own.includes(name))).toEqual([own[0], own[11]]);
    design.sources.kernels.forEach((source, image) => {
      const targets = design.sources.kernelTargets[image]!;
      for (const name of kernelsIn(source))
        expect(design.manifest.launch[name]!.targets ?? buildTargets.map(({ id }) => id)).toEqual([...targets]);
    });
  });

  it('has a host function per operator, which launches what was planned for each target', () => {
    for (const { operator, plan, alternatives = [] } of design.planned) {
      const wanted = [plan, ...alternatives.map((one) => one.plan)].flatMap(({ launches }) =>
        launches.map((launch) => [launch.name, pointersOf(launch, operator.inputs.length)] as const),
      );
      expect(launchesOf(design, operator.node)).toEqual(wanted);
    }
    expect(design.sources.host.match(/^EXPORT int \w+\(TVMValue\* args, int\* codes, int count/gm)).toHaveLength(
      design.model.operators.length,
    );
    const body = functionOf(design, chains[5]!.operator.node);
    expect(body).toMatch(/if \(capability == 90\) \{/);
    // What is wrong with its arguments is said of the operator itself.
    expect(body).toContain(`unpack("${chains[5]!.operator.node}"`);
  });

  it('gives each chain its own tensors', () => {
    const { nodes } = JSON.parse(design.graphText) as {
      nodes: { op: string; name: string; attrs?: { func_name: string }; inputs: [number, number, number][] }[];
    };
    const seen = new Set<string>();
    chains.forEach(({ operator, plan }, layer) => {
      const called = nodes.filter(({ attrs }) => attrs?.func_name === operator.node);
      expect(called).toHaveLength(1);
      const given = called[0]!.inputs.map(([node]) => nodes[node]!);
      expect(given.length).toBe(operator.inputs.length);
      // Tensors of the kernel's parameters, by the products' order.
      const [launch] = plan.launches;
      const [, list] = new RegExp(`\\b${launch!.name}\\(([^)]*)\\)\\s*\\{`).exec(plan.definitions)!;
      const parameters = list!.split(', ').map((parameter) => /(\w+)$/.exec(parameter)![1]!);
      const weights = parameters.flatMap((parameter, i) => {
        const argument = launch!.arguments[i]!;
        return parameter.startsWith('weight') && argument.kind === 'input' ? [given[argument.index]!.name] : [];
      });
      const next = layer < 11 ? [`layer${layer + 1}.qkv.weight`] : [];
      expect(weights).toEqual([...['proj', 'up', 'down'].map((product) => `layer${layer}.${product}.weight`), ...next]);
      for (const weight of weights) seen.add(weight);
    });
    expect(seen.size).toBe(12 * 3 + 11);
  });

  it('shares in no other way when tuned for one target', () => {
    const [{ operator }] = chains as [(typeof chains)[number]];
    const configurations = operator.family.configurations(operator.match, layoutTarget);
    const tuned: Tuned = {
      schema: 'ladder-tuned/2',
      arch: layoutTarget.id,
      gpu: 'a GPU',
      date: '2024-01-01T00:00:00.000Z',
      commit: '',
      seconds: 0,
      operators: { [tuningKey(operator)]: { parameters: configurations.at(-1)!, latencyMs: 1, defaultLatencyMs: 2, candidates: 3 } },
    };
    const other = designCheckpoint(kVit, null, new Map([[layoutTarget.id, tuned]]));
    expect(other.sources.kernels).toHaveLength(design.sources.kernels.length);
    expect(Object.keys(other.manifest.launch)).toEqual(Object.keys(design.manifest.launch));
    const own = other.planned.filter(({ operator: { family } }) => family === chain);
    expect(own[3]!.plan.definitions).not.toBe(chains[3]!.plan.definitions);
    expect(own.map(({ alternatives }) => alternatives)).toEqual(chains.map(({ alternatives }) => alternatives));
  });
});

describe('a network whose operators all differ', () => {
  it('shares nothing: an image per operator and kind of target, in its own name', () => {
    const { planned, sources, manifest } = designCheckpoint(kTiny, null);
    const own = planned.flatMap(({ operator: { node }, plan, alternatives = [] }) =>
      [plan, ...alternatives.map((one) => one.plan)].map((one) => [node, one] as const),
    );
    expect(sources.kernels).toHaveLength(own.length);
    for (const [node, { launches }] of own) for (const { name } of launches) expect(name.startsWith(node)).toBe(true);
    expect(Object.keys(manifest.launch)).toHaveLength(own.flatMap(([, { launches }]) => launches).length);
  });
});

/** Sums of five rows; of those whose rows are called `r`, the second operand's tensor is the kernel's first argument. */
const sums = defineFamily<Program>({
  id: 'test/sums',
  version: 1,
  accepts({ nodes, values, inputs, ...program }) {
    const [node] = nodes;
    return nodes.length === 1 && node!.kind === 'add' && values[inputs[0]!]!.axes[0]!.extent === 5 && inputs.length === 2
      ? { nodes, values, inputs, ...program }
      : kOtherKind;
  },
  storage: () => new Map(),
  configurations: () => [{}],
  key: () => '',
  plan({ values, inputs }, name) {
    const order = values[inputs[0]!]!.axes[0]!.name === 'r' ? [1, 0] : [0, 1];
    return {
      includes: [],
      definitions: `extern "C" __global__ void ${name}(const void* a, const void* b, void* y) {}`,
      launches: [
        {
          name,
          grid: [1, 1, 1],
          block: [40, 1, 1],
          dynamicSharedBytes: 0,
          programmatic: false,
          arguments: [...order.map((index): KernelArgument => ({ kind: 'input', index })), { kind: 'output', index: 0 }],
        },
      ],
      workspaceBytes: 0,
    };
  },
});

describe('operators that differ only in', () => {
  families.add(sums);
  /** Sums of two inputs of their own each, named by their rows' axes. */
  const design = (axes: readonly string[], columns: readonly number[] = axes.map(() => 8)): CheckpointDesign => {
    const graph = new GraphBuilder();
    const matrix = (name: string, rows: string, extent: number): number =>
      graph.input(name, [
        { name: rows, extent: 5 },
        { name: 'c', extent },
      ]);
    const outputs = axes.map((rows, i) =>
      graph.node('add', `sum${i}`, [matrix(`x${i}`, rows, columns[i]!), matrix(`y${i}`, rows, columns[i]!)]),
    );
    return designGraph(kTiny, graph.finish(outputs), null);
  };
  const namesOf = ({ planned }: CheckpointDesign): readonly string[] => planned.map(({ plan }) => plan.launches[0]!.name);
  const node = (i: number): string => `ladder_add_sum${i}`;

  it('their tensors share', () => {
    const shared = design(['m', 'm', 'm']);
    expect(shared.planned.map(({ operator }) => operator.node)).toEqual([node(0), node(1), node(2)]);
    expect(namesOf(shared)).toEqual([node(0), node(0), node(0)]);
    expect(shared.sources.kernels).toHaveLength(1);
    expect(Object.keys(shared.manifest.launch)).toEqual([node(0)]);
    for (const i of [0, 1, 2]) expect(launchesOf(shared, node(i))).toEqual([[node(0), ['data[0]', 'data[1]', 'data[2]']]]);
  });

  it('the order of their arguments do not', () => {
    const mixed = design(['m', 'r', 'm', 'r']);
    expect(namesOf(mixed)).toEqual([node(0), node(1), node(0), node(1)]);
    expect(mixed.sources.kernels.flatMap(kernelsIn)).toEqual([node(0), node(1)]);
    expect(Object.keys(mixed.manifest.launch)).toEqual([node(0), node(1)]);
    expect(launchesOf(mixed, node(2))).toEqual([[node(0), ['data[0]', 'data[1]', 'data[2]']]]);
    expect(launchesOf(mixed, node(3))).toEqual([[node(1), ['data[1]', 'data[0]', 'data[2]']]]);
  });

  it('sizes that the kernel does not know share it, and each checks its own', () => {
    const sizes = design(['m', 'm'], [8, 16]);
    expect(namesOf(sizes)).toEqual([node(0), node(0)]);
    expect(functionOf(sizes, node(0))).toContain('{INT64_C(40), 2, 16}');
    expect(functionOf(sizes, node(1))).toContain('{INT64_C(80), 2, 16}');
  });

  it('their names share, also where one begins like another', () => {
    const many = design(Array.from({ length: 12 }, (_, i) => (i === 1 || i > 9 ? 'r' : 'm')));
    expect(namesOf(many)).toEqual(Array.from({ length: 12 }, (_, i) => node(i === 1 || i > 9 ? 1 : 0)));
  });
});

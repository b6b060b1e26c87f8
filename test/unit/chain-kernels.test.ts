// Plans of chains of products of few rows: what is taken and what is refused, attention before them too; fusion of a transformer's blocks;
// operands by what they are; shared memory that fits; elsewhere than on sm_90a a sequence of kernels; nvcc, where there is one, compiles
// two chains of every format, without spills.
import { describe, expect, it } from 'vitest';
import { quantisedGraph } from '../../lib/compiler/design.js';
import { fuse } from '../../lib/compiler/graph/fuse.js';
import { lower, type LoweredOperator } from '../../lib/compiler/graph/lower.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { attentionRows } from '../../lib/compiler/kernels/attention-rows.js';
import { chain } from '../../lib/compiler/kernels/matmul/chain.js';
import type { KernelLaunch } from '../../lib/compiler/kernels/plan.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import type { GraphBuilder } from '../../lib/operators/graph.js';
import { isQuantised, type Parameters, type Program, programTensors, stepsText } from '../../lib/operators/program.js';
import {
  attentionChain,
  blockChain,
  chainGraph,
  chainProgram,
  conformerChain,
  gluChain,
  kChainFormats,
  kVit,
  kVitHeads,
  normFirstChain,
  type Written,
} from '../fixtures/chains.js';
import { compileKernels, hasNvcc } from '../fixtures/nvcc.js';
import { storedProgram } from '../fixtures/programs.js';

const kSmall = { rows: 50, width: 128, hidden: 256, last: 384 };
const kWritten: Readonly<Record<string, Written>> = {
  vit: blockChain(kVit),
  rms: blockChain({ ...kSmall, rows: 33 }, 'rms'),
  many: blockChain({ ...kVit, rows: 128 }),
  normFirst: normFirstChain({ ...kVit, rows: 100 }),
  twoNorms: conformerChain(kSmall),
  glu: gluChain({ ...kSmall, rows: 64, last: 512 }),
  attention: attentionChain(kVit, kVitHeads),
  twoHeads: attentionChain({ ...kSmall, rows: 33 }, 2),
  eightHeads: attentionChain({ ...kSmall, rows: 64 }, 8),
};
const kPortable = buildTargets.filter(({ capability }) => capability?.[0] !== 9);

function refusal(program: Program): Refusal {
  const match = chain.accepts(program, layoutTarget);
  if (match instanceof Refusal) return match;
  throw new Error('expected a refusal');
}
const dimension = (program: Program): string => refusal(program).dimension;
const rowsOf = (graph: GraphBuilder, name: string, columns: number, rows = 50): number =>
  graph.input(name, [
    { name: 'm', extent: rows },
    { name: 'c', extent: columns },
  ]);

/** The parameters of the `extern "C"` kernel that a plan defines, in order. */
function parametersOf(definitions: string, { name }: KernelLaunch): readonly string[] {
  const [, list = ''] = new RegExp(`\\b${name}\\(([^)]*)\\)\\s*\\{`).exec(definitions) ?? [];
  return list.split(', ').map((parameter) => /(\w+)$/.exec(parameter)![1]!);
}

describe('chains', () => {
  it.each(Object.entries(kWritten))('take %s in every format', (_, written) => {
    for (const format of kChainFormats) expect(chain.accepts(chainProgram(written, format), layoutTarget)).not.toBeInstanceOf(Refusal);
  });

  it.each(Object.entries(kWritten))('are what fusion makes of %s', (_, written) => {
    for (const format of kChainFormats) {
      const graph = chainGraph(written, format);
      const [whole, ...others] = fuse(graph, layoutTarget);
      const program = chainProgram(written, format);
      expect(others).toEqual([]);
      expect(whole!.selection.family).toBe(chain);
      expect(whole!.program.values.map(({ axes, type }) => ({ axes, type }))).toEqual(whole!.values.map((value) => program.values[value]));
      expect(whole!.program.nodes.map(({ kind, params }) => ({ kind, params }))).toEqual(
        program.nodes.map(({ kind, params }) => ({ kind, params })),
      );
    }
  });

  it('are of 33 to 128 rows', () => {
    for (const [rows, taken] of [
      [32, false],
      [33, true],
      [64, true],
      [100, true],
      [128, true],
      [129, false],
    ] as const) {
      const program = chainProgram(blockChain({ ...kSmall, rows }));
      if (taken) expect(chain.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
      else expect(dimension(program)).toBe('m');
    }
  });

  it('have products of whole shares of eight blocks, of weights that memory does not decide about', () => {
    expect(dimension(chainProgram(normFirstChain({ ...kSmall, last: 384 + 64 })))).toBe('n');
    expect(dimension(chainProgram(normFirstChain({ ...kSmall, hidden: 256 + 64 })))).toBe('n');
    // Pairs' results are half as many.
    for (const format of kChainFormats)
      for (const [last, taken] of [
        [256, true],
        [384, false],
        [512, true],
        [640, false],
      ] as const) {
        const program = chainProgram(gluChain({ ...kSmall, last }), format);
        if (taken) expect(chain.accepts(program, layoutTarget)).not.toBeInstanceOf(Refusal);
        else expect(dimension(program)).toBe('n');
      }
    expect(dimension(chainProgram(blockChain({ ...kSmall, width: 192 })))).toMatch(/^[kn]$/);
    expect(
      dimension(
        chainProgram((graph) => [
          graph.dense('b', graph.norm('norm', graph.dense('a', rowsOf(graph, 'x', 192), 128, true), 'layer', 1e-5), 128, true),
        ]),
      ),
    ).toBe('k');
    // Half a warp has a row's channels.
    expect(chain.accepts(chainProgram(blockChain({ ...kSmall, width: 1024 }), ['int4', 'int4']), layoutTarget)).not.toBeInstanceOf(Refusal);
    expect(dimension(chainProgram(blockChain({ ...kSmall, width: 1024 + 128 })))).toBe('k');
    expect(dimension(chainProgram(attentionChain({ ...kSmall, rows: 50, width: 1024 + 512 }, 8)))).toBe('k');
    // FP8 and integers have panels of 128 of k.
    expect(dimension(chainProgram(normFirstChain({ ...kSmall, width: 2048 + 128 })))).toMatch(/^[kn]$/);
    expect(dimension(chainProgram(normFirstChain({ ...kSmall, width: 1536, hidden: 1536 })))).toBe('n');
  });

  it('have a norm among them: without one a launch each does as well', () => {
    const written =
      (normed: boolean): Written =>
      (graph) => {
        const x = rowsOf(graph, 'x', 128);
        return [
          graph.dense(
            'b',
            graph.node('relu', 'relu', [graph.dense('a', normed ? graph.norm('norm', x, 'rms', 1e-5) : x, 256, true)]),
            128,
            true,
          ),
        ];
      };
    for (const format of kChainFormats) {
      expect(chain.accepts(chainProgram(written(true), format), layoutTarget)).not.toBeInstanceOf(Refusal);
      expect(dimension(chainProgram(written(false), format))).toBe('');
    }
  });

  it('leave one product alone to others, and nodes that are none of theirs', () => {
    expect(
      refusal(chainProgram((graph) => [graph.dense('a', graph.norm('norm', rowsOf(graph, 'x', 128), 'layer', 1e-5), 128, true)])).dimension,
    ).toBe('');
    expect(
      refusal(chainProgram((graph) => [graph.norm('norm', graph.dense('a', rowsOf(graph, 'x', 128), 128, true), 'layer', 1e-5)])).dimension,
    ).toBe('');
    expect(
      refusal(chainProgram((graph) => [graph.dense('b', graph.node('relu', 'relu', [rowsOf(graph, 'x', 128)]), 128, true)])).dimension,
    ).toBe('');
  });

  it('have scales per row', () => {
    const program = chainProgram(normFirstChain(kSmall), ['int4', 'int8']);
    // The same with one scale for all rows of what the second product reads.
    const [, second] = program.nodes.filter(({ kind }) => kind === 'quantise');
    const scale = program.values.length;
    const codes = second!.outputs[0]!;
    const type = program.values[codes]!.type;
    if (!isQuantised(type)) throw new Error('expected codes');
    const given: Program = {
      ...program,
      values: [
        ...program.values.map((value, i) => (i === codes ? { ...value, type: { ...type, scale: { ...type.scale!, per: {} } } } : value)),
        { axes: [{ name: 'one', extent: 1 }], type: 'f32' },
      ],
      nodes: program.nodes.map((node) => (node === second ? { ...node, inputs: [...node.inputs, scale] } : node)),
      inputs: [...program.inputs, scale],
    };
    expect(dimension(given)).toBe('scale');
    // Blocks of MX have scales of their own, and as few rows others.
    expect(chain.accepts(chainProgram(normFirstChain(kSmall), ['mxfp8_e4m3', 'mxfp8_e4m3']), layoutTarget)).toBeInstanceOf(Refusal);
  });

  it('add operands, or what was normed last', () => {
    const sum = (graph: GraphBuilder, y: number, skip: number): number => graph.node('add', 'sum', [y, skip]);
    const written =
      (skipOf: (x: number, hidden: number, given: number) => number): Written =>
      (graph) => {
        const given = rowsOf(graph, 'given', 128);
        const x = graph.dense('a', rowsOf(graph, 'x', 128), 128, true);
        const hidden = graph.node('relu', 'relu', [graph.dense('b', graph.norm('norm', x, 'layer', 1e-5), 128, true)]);
        const y = sum(graph, graph.dense('c', hidden, 128, true), skipOf(x, hidden, given));
        return [graph.dense('d', graph.norm('last', y, 'layer', 1e-5), 128, true)];
      };
    expect(chain.accepts(chainProgram(written((x) => x)), layoutTarget)).not.toBeInstanceOf(Refusal);
    expect(chain.accepts(chainProgram(written((_, __, given) => given)), layoutTarget)).not.toBeInstanceOf(Refusal);
    expect(chain.accepts(chainProgram(written((_, hidden) => hidden)), layoutTarget)).toBeInstanceOf(Refusal);
    // The stream is another one by then.
    const late: Written = (graph) => {
      const x = graph.dense('a', rowsOf(graph, 'x', 128), 128, true);
      const hidden = graph.node('relu', 'relu', [graph.dense('b', graph.norm('norm', x, 'layer', 1e-5), 128, true)]);
      const y = graph.dense('c', hidden, 128, true);
      return [sum(graph, graph.dense('d', graph.norm('norm2', y, 'layer', 1e-5), 128, true), x)];
    };
    expect(dimension(chainProgram(late))).toBe('residual');
  });

  it('have a result that is multiplied between two that are normed', () => {
    const written =
      (multiplied: boolean): Written =>
      (graph) => {
        const x = graph.dense('a', rowsOf(graph, 'x', 128), 128, true);
        const y = graph.dense('b', graph.norm('norm', x, 'layer', 1e-5), 128, true);
        const z = multiplied ? graph.dense('c', graph.node('relu', 'relu', [y]), 128, true) : y;
        return [graph.dense('d', graph.norm('norm2', z, 'layer', 1e-5), 128, true)];
      };
    for (const format of kChainFormats) {
      expect(chain.accepts(chainProgram(written(true), format), layoutTarget)).not.toBeInstanceOf(Refusal);
      expect(dimension(chainProgram(written(false), format))).toBe('x');
    }
  });

  it('have results that are normed or multiplied, not both', () => {
    const both: Written = (graph) => {
      const x = graph.dense('a', rowsOf(graph, 'x', 128), 128, true);
      const y = graph.dense('b', x, 128, true);
      return [y, graph.dense('c', graph.norm('norm', x, 'layer', 1e-5), 128, true)];
    };
    for (const format of kChainFormats) expect(dimension(chainProgram(both, format))).toBe('x');
  });

  it.each(Object.entries(kWritten))('offer the tuner what fits, all of which is planned, and nothing else: %s', (_, written) => {
    for (const format of kChainFormats) {
      const stored = storedProgram(chainProgram(written, format), [chain]);
      const tunings = stored.configurations();
      expect(tunings.length).toBeGreaterThan(1);
      expect(new Set(tunings.map((tuning) => JSON.stringify(tuning))).size).toBe(tunings.length);
      for (const tuning of tunings) {
        const { launches, workspaceBytes, definitions } = stored.plan('f', tuning);
        expect(launches.length).toBe(1);
        expect(launches[0]!.dynamicSharedBytes).toBeLessThanOrEqual(227 * 1024);
        expect(launches[0]!.grid[0] % 8).toBe(0);
        expect(launches[0]!.block[0]).toBeLessThanOrEqual(512);
        expect(workspaceBytes).toBe(0);
        // The compiler holds the kernel to the same bytes.
        expect(definitions).toContain(`kSharedBytes == ${launches[0]!.dynamicSharedBytes} `);
        expect(definitions).toContain(`kSlots = ${tuning['slots']};`);
      }
      expect(new Set(tunings.map((tuning) => stored.plan('f', tuning).definitions)).size).toBe(tunings.length);
      const [first, second] = tunings;
      expect(stored.plan('f')).toEqual(stored.plan('f', first));
      expect(stored.plan('f', Object.fromEntries(Object.entries(second!).reverse()))).toEqual(stored.plan('f', second));
      for (const misfit of [{ rows: 24 }, { warps: 5 }, { slots: 1000 }])
        expect(() => stored.plan('f', misfit)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
    }
  });

  it('have a key of their own by sizes, formats, norms and what is kept', () => {
    const keys = kChainFormats.flatMap((format) =>
      Object.values(kWritten).map((written) => {
        const { match } = storedProgram(chainProgram(written, format), [chain]);
        return chain.key(match);
      }),
    );
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('a chain that begins with attention', () => {
  /** Of as many heads as the width has, by default. */
  const program = (over: Parameters, heads = 4, rows = 64): Program => chainProgram(attentionChain({ ...kSmall, rows }, heads, over));

  it('has up to eight heads of 64 of one sequence', () => {
    for (const rows of [33, 50, 64, 100, 128])
      for (const heads of [2, 4, 6, 8]) expect(chain.accepts(program({}, heads, rows), layoutTarget)).not.toBeInstanceOf(Refusal);
    // Products have whole shares of eight blocks.
    expect(dimension(program({}, 3))).toBe('k');
    expect(dimension(program({}, 4, 32))).toBe('m');
    expect(dimension(program({}, 4, 129))).toBe('m');
  });

  it.each<[string, Parameters, number?]>([
    ['nine heads', {}, 9],
    ['ten heads', {}, 10],
    ['heads of 128', { headDim: 128 }],
    ['heads of 32', { headDim: 32 }],
    ['two sequences', { batch: 2 }],
    ['a causal mask', { mask: 'causal' }],
    ['rotary positions', { position: 'rope' }],
    ['positions by slopes', { position: 'alibi' }],
    ['shared keys and values', { kvHeads: 2 }],
    ['heads beside each other', { order: 'interleaved' }],
  ])('is none with %s: the attention is by itself, the chain behind it', (_, over, heads = 4) => {
    expect(dimension(program(over, heads))).toBe('heads');
    const fused = fuse(chainGraph(attentionChain({ ...kSmall, rows: 64 }, heads, over)), layoutTarget);
    expect(stepsText(fused[0]!.program)).toBe('attention');
    // Nine heads' channels are not whole shares.
    if (heads !== 9) expect(fused.map(({ selection: { family } }) => family).slice(1)).toEqual([chain]);
  });

  it('gives what it attends to to a product, and to nobody else', () => {
    const attended = (graph: GraphBuilder): number =>
      graph.node('attention', 'attention', [rowsOf(graph, 'qkv', 768)], {
        batch: 1,
        seq: 50,
        heads: 4,
        kvHeads: 4,
        headDim: 64,
        order: 'concatenated',
        position: 'none',
        ropeBase: 10000,
      });
    const productsOf = (graph: GraphBuilder, x: number): number =>
      graph.dense('b', graph.norm('norm', graph.dense('a', x, 256, true), 'layer', 1e-5), 256, true);
    const taken = chainProgram((graph) => [productsOf(graph, attended(graph))]);
    expect(chain.accepts(taken, layoutTarget)).not.toBeInstanceOf(Refusal);
    const normed = chainProgram((graph) => [productsOf(graph, graph.norm('first', attended(graph), 'layer', 1e-5))]);
    expect(dimension(normed)).toBe('x');
    const shown = chainProgram((graph) => {
      const x = attended(graph);
      return [productsOf(graph, x), x];
    });
    expect(chain.accepts(shown, layoutTarget)).toBeInstanceOf(Refusal);
    const second = chainProgram((graph) => {
      const qkv = graph.dense('qkv', graph.norm('norm0', rowsOf(graph, 'x', 256), 'layer', 1e-5), 768, true);
      const params = { batch: 1, seq: 50, heads: 4, kvHeads: 4, headDim: 64, order: 'concatenated', position: 'none', ropeBase: 10000 };
      return [productsOf(graph, graph.node('attention', 'attention', [qkv], params))];
    });
    expect(dimension(second)).toBe('');
  });

  it.each(kChainFormats)('says how many heads it has, and that its first product reads them, %s × %s', (...format) => {
    for (const [heads, rows] of [
      [2, 33],
      [6, 50],
      [8, 64],
    ] as const) {
      const stored = storedProgram(chainProgram(attentionChain({ ...kSmall, rows }, heads), format), [chain]);
      const { definitions, launches } = stored.plan('f');
      expect(definitions).toContain(`kHeads = ${heads},`);
      expect(definitions.match(/ChainFrom::kAttention/g)).toHaveLength(1);
      expect(definitions.indexOf('ChainFrom::kAttention')).toBeLessThan(definitions.indexOf('struct f_stage1'));
      // Attention's operand, with a third of its channels for queries.
      expect(launches[0]!.arguments[0]).toEqual({ kind: 'input', index: 0 });
      expect(stored.program.values[stored.program.inputs[0]!]!.axes[1]!.extent).toBe(3 * heads * 64);
      expect(chain.key(stored.match)).toMatch(new RegExp(`^m=${rows} heads=${heads} .* Attention-Stream, `));
    }
    expect(storedProgram(chainProgram(kWritten['vit']!, format), [chain]).plan('f').definitions).toContain('kHeads = 0,');
  });

  it.each(kChainFormats)("elsewhere begins with attention's own kernel, %s × %s", (...format) => {
    const stored = storedProgram(chainProgram(kWritten['attention']!, format), [chain]);
    for (const target of kPortable) {
      const { launches, definitions } = stored.plan('f', {}, null, target);
      const [first, ...others] = launches;
      const { nodes, values } = stored.program;
      const match = attentionRows.accepts(
        {
          values,
          nodes: nodes.slice(0, 1),
          inputs: nodes[0]!.inputs,
          outputs: nodes[0]!.outputs,
        },
        target,
      );
      const own = attentionRows.plan(match, 'f_0', {}, { target, next: null });
      expect(definitions.startsWith(own.definitions)).toBe(true);
      const [qkv, result] = first!.arguments;
      expect(first).toEqual({ ...own.launches[0]!, arguments: [{ kind: 'input', index: 0 }, result] });
      expect([qkv, result!.kind]).toEqual([{ kind: 'input', index: 0 }, 'workspace']);
      // Whoever comes next reads what it wrote, and nobody else qkv.
      expect(others[0]!.arguments).toContainEqual(result);
      expect(others.flatMap((launch) => launch.arguments)).not.toContainEqual(qkv);
    }
  });
});

describe('a vision transformer at one image', () => {
  const lowered = (weight: string, act: string): readonly LoweredOperator[] =>
    lower(quantisedGraph(parseRequest({ model: 'vit', batch: 1, seq: 1, weight, act, layers: 12 })), layoutTarget).operators;

  it.each(kChainFormats)('is a chain from each attention to the next, %s × %s', (weight, act) => {
    const all = lowered(weight, act);
    const chains = all.filter(({ family }) => family === chain);
    expect(chains.length).toBe(12);
    const others = all.filter(({ family, program }) => family !== chain && program.nodes.some(({ kind }) => kind === 'dense'));
    expect(others.map(({ inputs }) => inputs.filter((name) => name.endsWith('.weight')))).toEqual([
      ['patch_embed.weight'],
      ['layer0.qkv.weight'],
      ...(chains.at(-1)!.inputs.includes('head.weight') ? [] : [['head.weight']]),
    ]);
  });

  it.each(kChainFormats)('names its operands, %s × %s', (weight, act) => {
    for (const operator of lowered(weight, act).filter(({ family }) => family === chain)) {
      const { definitions, launches } = chain.plan(operator.match, 'f', {}, { target: layoutTarget, next: null });
      const [launch] = launches;
      const names = parametersOf(definitions, launch!);
      expect(names.length).toBe(launch!.arguments.length);
      const given = Object.fromEntries(
        launch!.arguments.map((argument, i) => {
          if (argument.kind === 'workspace') throw new Error('expected no workspace');
          return [names[i]!, argument.kind === 'input' ? operator.inputs[argument.index]! : operator.outputs[argument.index]!.name];
        }),
      );
      // Of each product, in order: what stands in the model's names for what the kernel calls its arguments.
      const products = operator.inputs.filter((name) => name.endsWith('.weight')).map((name) => name.slice(0, -'.weight'.length));
      products.forEach((product, stage) => {
        const layer = product.split('.')[0]!;
        const norm = { qkv: `${layer}.norm1`, up: `${layer}.norm2` }[product.split('.')[1]!];
        expect(given[`weight${stage}`]).toBe(`${product}.weight`);
        expect(given[`bias${stage}`]).toBe(`${product}.bias`);
        expect(given[`scale${stage}`]).toBe(weight === 'fp16' ? undefined : `${product}.scale`);
        expect(given[`gain${stage}`]).toBe(norm && `${norm}.gain`);
        expect(given[`beta${stage}`]).toBe(norm && `${norm}.beta`);
      });
      const stages = new Set(names.flatMap((name) => /^weight(\d+)$/.exec(name)?.slice(1) ?? []));
      expect(stages.size).toBe(products.length);
      // Each tensor is some argument, and none of two kinds.
      const tensors = [...operator.inputs, ...operator.outputs.map(({ name }) => name)];
      expect(Object.values(given).sort()).toEqual([...tensors].sort());
    }
  });
});

describe('elsewhere', () => {
  it.each(Object.entries(kWritten))('%s is a sequence of kernels', (_, written) => {
    for (const format of kChainFormats) {
      const stored = storedProgram(chainProgram(written, format), [chain]);
      const { inputs, outputs } = programTensors(stored.program);
      for (const target of kPortable) {
        const { launches, workspaceBytes, definitions } = stored.plan('f', {}, null, target);
        const products = stored.program.nodes.filter(({ kind }) => kind === 'dense').length;
        expect(launches.length).toBeGreaterThanOrEqual(products);
        expect(new Set(launches.map(({ name }) => name)).size).toBe(launches.length);
        for (const launch of launches) {
          expect(parametersOf(definitions, launch).length).toBe(launch.arguments.length);
          const [own, places] = [launch.arguments, new Set(launch.arguments.map((argument) => JSON.stringify(argument)))];
          expect(places.size).toBe(own.length);
          for (const argument of launch.arguments) {
            if (argument.kind === 'workspace') {
              expect(argument.offsetBytes % 256).toBe(0);
              expect(argument.offsetBytes).toBeLessThan(workspaceBytes);
            } else expect((argument.kind === 'input' ? inputs : outputs)[argument.index]).toBeDefined();
          }
        }
        const all = launches.flatMap((launch) => launch.arguments.map((argument) => JSON.stringify(argument)));
        inputs.forEach((_tensor, index) => expect(all).toContain(JSON.stringify({ kind: 'input', index })));
        outputs.forEach((_tensor, index) => expect(all).toContain(JSON.stringify({ kind: 'output', index })));
      }
    }
  });
});

if (!hasNvcc) console.log('skipped: compiling kernels needs nvcc');

describe.skipIf(!hasNvcc)('compiled', () => {
  /** By format: a chain that is small beside a vision transformer's. */
  const others = ['glu', 'rms', 'normFirst', 'twoNorms', 'eightHeads'] as const;
  it.each(kChainFormats.map((format, i) => [...format, others[i]!] as const))(
    '%s × %s: attention and %s, as planned, without spills',
    { timeout: 120_000 },
    (weight, act, other) => {
      const plans = ['attention', other].map((name, i) =>
        storedProgram(chainProgram(kWritten[name]!, [weight, act]), [chain]).plan(`f${i}`),
      );
      const { status, log, spills } = compileKernels(plans, layoutTarget.gencode);
      expect(status, log).toBe(0);
      expect(spills).toEqual(plans.map(() => ['0', '0']));
    },
  );

  it('elsewhere', { timeout: 120_000 }, () => {
    const plans = (['fp16', 'int4'] as const).map((act, i) =>
      storedProgram(chainProgram(kWritten['twoHeads']!, [act, act]), [chain]).plan(`f${i}`, {}, null, kPortable[0]),
    );
    const { status, log } = compileKernels(plans, buildTargets.find(({ id }) => id === 'sm_80')!.gencode);
    expect(status, log).toBe(0);
  });
});

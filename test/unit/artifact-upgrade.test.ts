// checkpoint.json of version 1 reads as the present one. Fixtures are what the builder wrote when version 1 was the present one
// (commit 26e0559): manifests of both small models in all formats, and tolerances of single operators.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { checkManifest } from '../../lib/artifact/checks.js';
import { parseGraph } from '../../lib/artifact/graph.js';
import { type Manifest, parseManifest } from '../../lib/artifact/manifest.js';
import { type OperatorV1, programOfV1, upgradeManifest } from '../../lib/artifact/upgrade.js';
import { type CheckpointDesign, designCheckpoint } from '../../lib/compiler/design.js';
import { Refusal } from '../../lib/compiler/kernels/family.js';
import { matchDense } from '../../lib/compiler/kernels/matmul/shape.js';
import { parseRequest, type RequestWords } from '../../lib/compiler/request.js';
import { weightFormats } from '../../lib/formats/index.js';
import type { LayoutDigit } from '../../lib/native.js';
import { checkProgram } from '../../lib/operators/check.js';
import { operators as primitives } from '../../lib/operators/index.js';
import { type Program, programTensors } from '../../lib/operators/program.js';
import { endToEndTolerance, type Tolerance, toleranceOf } from '../../lib/run/tolerance.js';
import { fixtureManifest, fixtureManifestV1, fixtureOperators } from '../fixtures/artifact/checkpoint.js';

const read = (name: string): Buffer => readFileSync(join(fileURLToPath(new URL('../fixtures/artifact/v1', import.meta.url)), name));

interface ManifestV1 {
  readonly tensors: Readonly<
    Record<
      string,
      { readonly role: string; readonly fill: unknown; readonly logicalShape?: readonly number[]; readonly layout?: readonly LayoutDigit[] }
    >
  >;
  readonly operators: readonly {
    readonly node: string;
    readonly semantics: OperatorV1;
    readonly bytes: number;
    readonly flops: number;
    readonly probe: readonly unknown[];
  }[];
  readonly flops: number;
}
interface Golden {
  readonly words: RequestWords;
  readonly manifest: ManifestV1;
  /** Relative L2 that verification allowed end to end. */
  readonly endToEnd: number;
}
const goldens = JSON.parse(gunzipSync(read('manifests.json.gz')).toString()) as readonly Golden[];
const nameOf = ({ words: { model, weight, group, batch } }: Golden): string => `${model} ${weight} ${group} bs${batch}`;

/** The same program with its values in the order of its inputs, then of what its nodes make. */
function ordered({ values, nodes, inputs, outputs, hints }: Program): Program {
  const order = [...inputs, ...nodes.flatMap((node) => node.outputs)];
  const at = (value: number): number => order.indexOf(value);
  return {
    values: order.map((value) => values[value]!),
    nodes: nodes.map((node) => ({ ...node, inputs: node.inputs.map(at), outputs: node.outputs.map(at) })),
    inputs: inputs.map(at),
    outputs: outputs.map(at),
    ...(hints && { hints }),
  };
}
/** Sums of FP8 have a tolerance of their own since: that of the tensor cores which multiply it as it is. */
const isFp8 = (weight: string): boolean => weight.includes('fp8');
const written = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

describe('manifests of version 1', () => {
  it('are of both small models, in all formats that were shipped, for one token and for 32', () => {
    const formats = weightFormats().filter(({ weight }) => weight.enumerator !== undefined);
    const pairs = formats.flatMap(({ id, weight }) => weight.groups.map((group) => [id, weight.scale?.fit.kind === 'mx' ? -1 : group]));
    expect(
      goldens
        .map(({ words: { weight, group } }) => [weight, group])
        .filter((_, i) => i % 2 === 0)
        .slice(0, pairs.length),
    ).toEqual(pairs);
    expect(new Set(goldens.map(nameOf)).size).toBe(2 * 2 * pairs.length);
  });

  describe.each(goldens.map((golden) => [nameOf(golden), golden] as const))('%s', (_, { words, manifest: old, endToEnd }) => {
    const upgraded: Manifest = parseManifest(JSON.stringify(old));
    const design: CheckpointDesign = designCheckpoint(parseRequest(words), null);
    const { manifest: present } = design;
    const pairs = upgraded.operators.map((operator, i) => [operator, present.operators[i]!] as const);

    it('fits the graph that is built now', () => checkManifest(parseGraph(design.graphText), upgraded));

    it('says the same of the whole and of its tensors', () => {
      const { operators: _old, flops: _oldFlops, build: _oldBuild, launch: oldLaunch, ...same } = upgraded;
      const { operators: _new, flops: _newFlops, build: _newBuild, launch, ...now } = written(present);
      expect(same).toEqual(now);
      // Each operator had kernels of its own; those that are the same have one operator's now.
      expect(oldLaunch).toMatchObject(launch);
      const shared = Object.keys(oldLaunch).filter((name) => !(name in launch));
      for (const { operator, plan } of design.planned)
        expect(shared.includes(operator.node)).toBe(!plan.launches[0]!.name.startsWith(operator.node));
      // Which weights are stored how was said twice; programs say it now.
      for (const [name, { layout }] of Object.entries(old.tensors)) {
        if (!layout) continue;
        const values = design.model.operators
          .filter(({ inputs }) => inputs.includes(name))
          .flatMap(({ program }) => program.inputs.map((value) => program.values[value]!));
        expect(values.flatMap((value) => [value.layout?.digits, value.scaleLayout?.digits])).toContainEqual(layout);
      }
    });

    it('has the programs that are built now, up to the order of values', () => {
      expect(upgraded.operators.map(({ node }) => node)).toEqual(present.operators.map(({ node }) => node));
      for (const [{ program }, { program: now }] of pairs) {
        checkProgram(program);
        expect(ordered(program)).toEqual(ordered(written(now)));
        expect(programTensors(program)).toEqual(programTensors(now));
        const [match, wanted] = [matchDense(program), matchDense(now)];
        expect(match instanceof Refusal).toBe(wanted instanceof Refusal);
        if (!(match instanceof Refusal) && !(wanted instanceof Refusal))
          expect([match.shape, match.operands]).toEqual([wanted.shape, wanted.operands]);
      }
      expect(pairs.filter(([{ program }]) => !(matchDense(program) instanceof Refusal))).toHaveLength(
        old.operators.filter(({ semantics }) => semantics.op === 'dense').length,
      );
    });

    it('has their probes, bytes and tolerances, and the FLOPs of the step that names each', () => {
      for (const [i, [operator, now]] of pairs.entries()) {
        expect([operator.probe, operator.bytes]).toEqual([now.probe, now.bytes]);
        expect([operator.probe, operator.bytes, operator.flops]).toEqual([
          old.operators[i]!.probe,
          old.operators[i]!.bytes,
          old.operators[i]!.flops,
        ]);
        programTensors(operator.program).outputs.forEach((_tensor, output) =>
          expect(toleranceOf(operator.program, output)).toEqual(toleranceOf(now.program, output)),
        );
        const { kind, params, inputs, outputs } = now.program.nodes.find((node) => node.kind === old.operators[i]!.semantics.op)!;
        const { values } = now.program;
        expect(
          primitives.get(kind).flops(
            params,
            inputs.map((value) => values[value]!),
            outputs.map((value) => values[value]!),
          ),
        ).toBe(operator.flops);
        expect(now.flops).toBeGreaterThanOrEqual(operator.flops);
      }
      const ratio = endToEndTolerance(upgraded.operators.map(({ program }) => program)).relativeL2 / endToEnd;
      if (isFp8(words.weight!)) expect(ratio > 1 && ratio < 1.25).toBe(true);
      else expect(ratio).toBeCloseTo(1, 12);
    });
  });

  it('read as the same as a file of theirs, and as the present version once they are written', () => {
    const text = read('checkpoint.json').toString();
    const golden = goldens.find(({ words: { model, weight, batch } }) => model === 'bloom-tiny' && weight === 'int1' && batch === 32)!;
    expect(JSON.parse(text)).toEqual(golden.manifest);
    const manifest = parseManifest(text);
    expect(manifest.schema).toBe('ladder-checkpoint/2');
    expect(parseManifest(JSON.stringify(manifest))).toEqual(manifest);
    expect(upgradeManifest(manifest)).toBe(manifest);
  });
});

describe('what version 1 does not say', () => {
  type Json = Record<string, unknown>;
  const refused = (change: (manifest: { tensors: Record<string, Json>; operators: Json[] } & Json) => void, message: RegExp): void => {
    const manifest = fixtureManifestV1() as Parameters<typeof change>[0];
    change(manifest);
    expect(() => parseManifest(JSON.stringify(manifest))).toThrow(
      expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(message) }),
    );
  };
  it('the fixture is read', () => expect(parseManifest(JSON.stringify(fixtureManifestV1()))).toEqual(fixtureManifest()));

  it.each<[string, Parameters<typeof refused>[0], RegExp]>([
    [
      'a field of a tensor',
      (m) => {
        m.tensors['x']!['shape'] = [1];
      },
      /tensors\.x: /,
    ],
    [
      'a tensor that is none',
      (m) => {
        (m.tensors as Json)['x'] = null;
      },
      /tensors\.x: /,
    ],
    [
      'an operator that is none',
      (m) => {
        (m.operators as unknown[])[1] = null;
      },
      /operators\.1: /,
    ],
    [
      'a list of operators that is none',
      (m) => {
        (m as Json)['operators'] = {};
      },
      /operators: /,
    ],
    [
      'tensors that are a list',
      (m) => {
        (m as Json)['tensors'] = [];
      },
      /tensors: /,
    ],
    [
      'no tensors',
      (m) => {
        delete (m as Json)['tensors'];
      },
      /tensors: /,
    ],
    [
      'a field of an operator',
      (m) => {
        m.operators[0]!['kind'] = 'dense';
      },
      /operators\.0: /,
    ],
    [
      'a program',
      (m) => {
        m.operators[0]!['program'] = fixtureManifest().operators[0]!.program;
      },
      /operators\.0: /,
    ],
    [
      'an operator of another kind',
      (m) => {
        m.operators[0]!['semantics'] = { ...fixtureOperators[0], op: 'convolution' };
      },
      /operators\.0\.program/,
    ],
    [
      'a field of what it computes',
      (m) => {
        m.operators[0]!['semantics'] = { ...fixtureOperators[0], alpha: 1 };
      },
      /operators\.0\.program/,
    ],
    [
      'a format that there is not',
      (m) => {
        m.operators[1]!['semantics'] = { ...fixtureOperators[1], weight: 'int5' };
      },
      /operators\.1: dense: expected a format of weights for `weight` but received int5/,
    ],
    [
      'halves of an odd width',
      (m) => {
        m.operators[1]!['semantics'] = { ...fixtureOperators[1], n: 15, function: 'silu_mul' };
      },
      /operators\.1: silu_mul: expected a multiple of 2/,
    ],
    [
      'a version after it',
      (m) => {
        (m as Json)['schema'] = 'ladder-checkpoint/3';
      },
      /schema: /,
    ],
  ])('is refused: %s', (_, change, message) => refused(change, message));
});

describe('tolerances', () => {
  const kTolerances = JSON.parse(read('tolerances.json').toString()) as readonly {
    readonly operator: OperatorV1;
    readonly outputs: readonly Omit<Tolerance, 'terms'>[];
  }[];
  it.each(kTolerances.map(({ operator, outputs }, i) => [`${i}: ${operator.op}`, operator, outputs] as const))(
    '%s: as they were',
    (_, operator, outputs) => {
      const program = programOfV1(operator);
      checkProgram(program);
      expect(programTensors(program).outputs).toHaveLength(outputs.length);
      outputs.forEach((wanted, output) => {
        const { kind, relativeL2, maxOverRms, differing } = toleranceOf(program, output);
        expect([kind, differing]).toEqual([wanted.kind, wanted.differing]);
        // Terms may be added in another order.
        for (const [now, old] of [
          [relativeL2, wanted.relativeL2],
          [maxOverRms, wanted.maxOverRms],
        ] as const) {
          if (operator.op === 'dense' && isFp8(operator.weight)) expect(now).toBeGreaterThan(old);
          else expect(Math.abs(now - old)).toBeLessThanOrEqual(1e-12 * old);
        }
      });
    },
  );
  it('are of 20 operators at least, of all kinds', () => {
    expect(kTolerances.length).toBeGreaterThanOrEqual(20);
    expect(new Set(kTolerances.map(({ operator }) => operator.op))).toEqual(new Set(['dense', 'norm', 'quantise', 'attention']));
  });
});

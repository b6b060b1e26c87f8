// Tunings are kept by kernel family, its version, shape and formats: they survive what changes none of these, and are found by
// nothing else. Also that the committed ones belong to the operators that are there.
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { type OperatorV1, programOfV1 } from '../../lib/artifact/upgrade.js';
import { designCheckpoint } from '../../lib/compiler/design.js';
import type { PlannedOperator } from '../../lib/compiler/emit/codegen.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { type Family, Refusal } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { chain } from '../../lib/compiler/kernels/matmul/chain.js';
import { vector } from '../../lib/compiler/kernels/matmul/vector.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import type { Tuned } from '../../lib/compiler/types.js';
import { parseTuned, readTuned, tuningKey, tuningOf } from '../../lib/compiler/tune/tuned.js';
import type { Program } from '../../lib/operators/program.js';
import { packageRoot } from '../../lib/run/package.js';
import { denseShape, type DenseShapeV1, plainDense, storedProgram } from '../fixtures/programs.js';

const kRoot = join(packageRoot, 'checkpoints', 'Figure8', 'ladder', 'checkpoint');
const cases = figure8Requests().map((request) => [checkpointPlace(request), request] as const);

/** Products that are newer than the last tuning, by their keys: they have the defaults until `ladder tune --missing` finds their winners. */
const kSince = [/ \+ k=\d+ image=/, / x=patches /];

describe('committed tunings', () => {
  const files = cases.filter(([name]) => existsSync(join(kRoot, name, 'tuned')));
  it('are of 55 checkpoints; the others have the defaults', () => {
    expect(files.map(([name]) => readdirSync(join(kRoot, name, 'tuned')))).toEqual(files.map(() => ['sm_90a.json']));
    expect(files).toHaveLength(55);
  });

  it.each(files)('%s: each is found by an operator, and each product but the newest finds one', async (name, request) => {
    const tuned = (await readTuned(join(kRoot, name), 'sm_90a'))!;
    const { model, planned, manifest } = designCheckpoint(request, tuned);
    const products = model.operators.filter(({ family, match }) => family.configurations(match, layoutTarget).length > 1);
    expect(products.length).toBeGreaterThan(0);
    const isSince = (key: string): boolean => kSince.some((since) => since.test(key));
    const known = products.filter((operator) => tuned.operators[tuningKey(operator)] || !isSince(tuningKey(operator)));
    expect(new Set(known.map(tuningKey))).toEqual(new Set(Object.keys(tuned.operators)));
    for (const operator of model.operators) {
      const entry = tuned.operators[tuningKey(operator)];
      expect(entry !== undefined).toBe(known.includes(operator));
      expect(tuningOf(tuned, operator)).toEqual(entry?.parameters ?? {});
    }
    expect(manifest.build.tuning).toBe('sm_90a');
    // Where a winner is another than the default, the kernel is another, too; its name is of the first operator that has it.
    const kernelsOf = (all: readonly PlannedOperator[]): readonly string[] =>
      all.map(({ plan }) =>
        plan.definitions.replaceAll(all.find((one) => one.plan === plan)!.operator.node, 'f').replace(/kNext\w+ = \d+/g, ''),
      );
    const [own, plain] = [kernelsOf(planned), kernelsOf(designCheckpoint(request, null).planned)];
    planned.forEach(({ operator }, i) => {
      const { family, match } = operator;
      const defaults = family.configurations(match, layoutTarget)[0]!;
      const isDefault = Object.entries(tuningOf(tuned, operator)).every(([parameter, value]) => defaults[parameter] === value);
      // Of a chain, different costs of sums may share out the products alike.
      if (isDefault || family !== chain) expect(own[i] === plain[i]).toBe(isDefault);
    });
  });
});

const entry = (parameters: Record<string, number>): Tuned['operators'][string] => ({
  parameters,
  latencyMs: 1,
  defaultLatencyMs: 2,
  candidates: 3,
});
const tunedFor = (...keys: readonly string[]): Tuned => ({
  schema: 'ladder-tuned/2',
  arch: 'sm_90a',
  gpu: 'a GPU',
  date: '2024-01-01T00:00:00.000Z',
  commit: '',
  seconds: 0,
  operators: Object.fromEntries(keys.map((key, i) => [key, entry({ stages: 3 + i })])),
});

const shape = denseShape('int4', {
  n: 256,
  k: 1024,
  group: 128,
  norm: { kind: 'rms', eps: 1e-5 },
  bias: true,
  function: 'silu_mul',
  residual: true,
  prefetch: 4096,
});
const key = tuningKey(storedProgram(shape));
const tuned = tunedFor(key);
const takes = (program: Program, family: Family = vector): { family: Family; match: unknown } => {
  const match = family.accepts(program, layoutTarget);
  if (match instanceof Refusal) throw new Error(match.message);
  return { family, match };
};

describe('a tuning', () => {
  it('has a key that a reader understands', () => {
    expect(key).toBe('matmul/vector@1 m=1 n=256 k=1024 w=int4 g=128 x=fp16 pre=rms post=bias+silu_mul+residual next');
    expect(tuningKey(storedProgram(denseShape('int1', { n: 256, k: 1024 })))).toBe(
      'matmul/vector@1 m=1 n=256 k=1024 w=int1 x=int8 pre=quantise',
    );
    expect(tuningKey(storedProgram(denseShape('mxfp8_e4m3', { m: 9 })))).toBe(
      'matmul/warpgroup@1 m=9 n=176 k=1280 w=mxfp8_e4m3 g=32 x=mxfp8_e4m3',
    );
  });

  it('is found by the same product, whatever else is said of it', () => {
    const { program } = storedProgram(shape);
    const found = (other: Program): void => expect(tuningOf(tuned, takes(other))).toEqual({ stages: 3 });
    found(program);
    // A manifest of another builder: read back, stored orders not yet given, values and inputs in another order.
    found(JSON.parse(JSON.stringify(program)) as Program);
    found(plainDense(shape));
    const last = program.values.length - 1;
    const flip = (value: number): number => last - value;
    found({
      ...program,
      values: [...program.values].reverse(),
      nodes: program.nodes.map((node) => ({ ...node, inputs: node.inputs.map(flip), outputs: node.outputs.map(flip) })),
      inputs: program.inputs.map(flip).reverse(),
      outputs: program.outputs.map(flip),
    });
    // Optional fields that later schemas have, as a parameter with a default.
    found({
      ...program,
      nodes: program.nodes.map((node) => ({ ...node, params: { ...node.params, transposed: false, alpha: 1 }, name: 'layer0.qkv' })),
    });
    found({ ...program, values: program.values.map((value) => ({ ...value, name: 'x', zeroPoint: null })), ...({ version: 2 } as object) });
    found({
      ...program,
      nodes: program.nodes.map((node) => (node.kind === 'norm' ? { ...node, params: { ...node.params, eps: 1e-6 } } : node)),
    });
    // Bytes that are read ahead follow from the next product.
    found({ ...program, hints: [8192] });
  });

  it.each<[string, Partial<DenseShapeV1>]>([
    ['more rows', { n: 512 }],
    ['more channels', { k: 2048 }],
    ['another format', { weight: 'nf4' }],
    ['scales per channel', { group: -1 }],
    ['smaller groups', { group: 64 }],
    ['another norm', { norm: { kind: 'layer', eps: 1e-5 } }],
    ['no norm', { norm: { kind: 'none', eps: 1e-5 } }],
    ['no bias', { bias: false }],
    ['another function', { function: 'gelu_tanh' }],
    ['no function', { function: 'none' }],
    ['no residual', { residual: false }],
    ['nothing to read ahead', { prefetch: undefined }],
  ])('is not found by a product with %s', (_, change) => {
    const other = storedProgram({ ...shape, ...change });
    expect(other.family).toBe(vector);
    expect(tuningKey(other)).not.toBe(key);
    expect(tuningOf(tuned, other)).toEqual({});
  });

  it('is not found by products of other numbers of tokens, or of other activations', () => {
    const several = storedProgram(denseShape('int4', { m: 2, n: 256, k: 1024 }));
    const more = storedProgram(denseShape('int4', { m: 3, n: 256, k: 1024 }));
    expect(tuningOf(tunedFor(tuningKey(several)), several)).toEqual({ stages: 3 });
    expect(tuningOf(tunedFor(tuningKey(several)), more)).toEqual({});
    const [before, comes] = [denseShape('fp8_e5m2', { m: 1, input: 'fp16' }), denseShape('fp8_e5m2', { m: 1, input: 'quantised' })].map(
      (one) => takes(plainDense(one)),
    );
    expect(tuningOf(tunedFor(tuningKey(before!)), comes!)).toEqual({});
  });

  it('is not found by another family, nor by a later version of its own', () => {
    const { match } = storedProgram(shape);
    expect(tuningOf(tuned, { family: vector, match })).toEqual({ stages: 3 });
    expect(tuningOf(tuned, { family: { ...vector, version: vector.version + 1 }, match })).toEqual({});
    expect(tuningOf(tuned, { family: { ...vector, id: 'matmul/other' }, match })).toEqual({});
    expect(tuningKey({ family: { ...vector, version: 2 }, match })).toBe(key.replace('@1', '@2'));
  });

  it('of small operators is told apart by what they compute', () => {
    const attention: OperatorV1 = {
      op: 'attention',
      batch: 2,
      seq: 1,
      heads: 8,
      kvHeads: 2,
      headDim: 128,
      order: 'concatenated',
      position: 'rope',
      ropeBase: 10000,
    };
    const norm: OperatorV1 = { op: 'norm', m: 2, k: 64, norm: { kind: 'rms', eps: 1e-5 }, activation: 'fp16' };
    const all: OperatorV1[] = [
      attention,
      { ...attention, batch: 3 },
      { ...attention, seq: 2 },
      { ...attention, heads: 16 },
      { ...attention, kvHeads: 4 },
      { ...attention, headDim: 64 },
      { ...attention, kvHeads: 8, order: 'interleaved' },
      { ...attention, position: 'alibi' },
      norm,
      { ...norm, m: 3 },
      { ...norm, k: 128 },
      { ...norm, norm: { kind: 'layer', eps: 1e-5 } },
      { ...norm, activation: 'int8' },
      { op: 'quantise', m: 2, k: 64, activation: 'int8' },
      { op: 'quantise', m: 2, k: 64, activation: 'int4' },
    ];
    const keys = all.map((operator) => {
      const program = programOfV1(operator);
      const family = families.all().find((one) => !(one.accepts(program, layoutTarget) instanceof Refusal))!;
      return tuningKey(takes(program, family));
    });
    expect(new Set(keys).size).toBe(all.length);
  });

  it('that is not there means the defaults', () => {
    const operator = storedProgram(shape);
    expect(tuningOf(null, operator)).toEqual({});
    expect(tuningOf(tunedFor(), operator)).toEqual({});
    expect(tuningOf(tunedFor('constructor', '__proto__'), operator)).toEqual({});
  });
});

describe('tuned/<arch>.json', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ladder-tuned-'));
  afterAll(() => rm(folder, { recursive: true }));

  it('is read where it is, and null where it is not', async () => {
    await mkdir(join(folder, 'tuned'));
    await writeFile(join(folder, 'tuned', 'sm_90a.json'), JSON.stringify(tuned));
    expect(await readTuned(folder, 'sm_90a')).toEqual(tuned);
    expect(await readTuned(folder, 'sm_80')).toBeNull();
    await mkdir(join(folder, 'tuned', 'sm_89.json'));
    await expect(readTuned(folder, 'sm_89')).rejects.toMatchObject({ code: 'IO' });
    await symlink('/dev/zero', join(folder, 'tuned', 'sm_86.json'));
    await expect(readTuned(folder, 'sm_86')).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('no regular file') });
  });

  it.each<[string, object, RegExp]>([
    ['another version', { schema: 'ladder-tuned/1' }, /schema/],
    ['a parameter that is no number', { operators: { [key]: { ...entry({}), parameters: { stages: '3' } } } }, /operators/],
    ['no latency', { operators: { [key]: { ...entry({}), latencyMs: 0 } } }, /latencyMs/],
    ['a field too many', { host: 'here' }, /host/],
  ])('with %s is refused', (_, change, message) => {
    expect(() => parseTuned(JSON.stringify({ ...tuned, ...change }), 'tuned/sm_90a.json')).toThrow(
      expect.objectContaining({ code: 'BAD_RECORD', message: expect.stringMatching(message) }),
    );
  });
});

// `ladder build` as a user calls it: every option, both models of Figure 8, all formats; and what it refuses, in which words.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Manifest, parseManifest } from '../../lib/artifact/manifest.js';
import { requestOf } from '../../lib/compiler/design.js';
import type { Value } from '../../lib/operators/program.js';
import { ladderHere } from '../fixtures/cli.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-cli-build-'));
afterAll(() => rm(root, { recursive: true, force: true }));

const build = (...args: string[]) => ladderHere('build', ...args, '--out', root);

const kFormats: readonly (readonly [string, string, string])[] = [
  ['--weight fp16', 'llama2_bs1_seq1_async', 'W_FP16 A_FP16'],
  ['--weight int4 --act fp16', 'llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', 'W_INT4 A_FP16'],
  ['--weight int4 --group 64', 'llama2_fq_0_int_4_64_bs1_seq1_ci_False_async', 'W_INT4 A_FP16'],
  ['--weight int4 --group 128', 'llama2_fq_0_int_4_128_bs1_seq1_ci_False_async', 'W_INT4 A_FP16'],
  ['--weight nf4', 'llama2_fq_0_nf_4_-1_bs1_seq1_ci_False_async', 'W_NF4 A_FP16'],
  ['--weight nf4 --group 64', 'llama2_fq_0_nf_4_64_bs1_seq1_ci_False_async', 'W_NF4 A_FP16'],
  ['--weight fp8 --act fp8', 'llama2_fq_0_fp_e5m2_8_-1_bs1_seq1_ci_False_async', 'W_FP8 A_FP8'],
  ['--weight fp8 --format e4m3', 'llama2_fq_0_fp_e4m3_8_-1_bs1_seq1_ci_False_async', 'W_FP8 A_FP8'],
  ['--weight fp8_e4m3', 'llama2_fq_0_fp_e4m3_8_-1_bs1_seq1_ci_False_async', 'W_FP8 A_FP8'],
  ['--weight mxfp8 --act mxfp8', 'llama2_fq_0_mxfp_8_-1_bs1_seq1_ci_False_async', 'W_MXFP8 A_MXFP8'],
  ['--weight mxfp8 --group 32 --format e4m3', 'llama2_fq_0_mxfp_e4m3_8_-1_bs1_seq1_ci_False_async', 'W_MXFP8 A_MXFP8'],
  ['--weight int1 --act int8', 'llama2_fq_0_int_1_-1_bs1_seq1_ci_True_async', 'W_INT1 A_INT8'],
  // Pairs that only the kernels for any format take.
  ['--weight int8', 'llama2_fq_0_int_8_-1_bs1_seq1_ci_True_async', 'W_INT8 A_INT8'],
  ['--weight int4 --act int8', 'llama2_fq_0_int_4_-1_bs1_seq1_ci_True_async', 'W_INT4 A_INT8'],
  ['--weight int4 --act int4 --group 64', 'llama2_fq_0_int4b_4_64_bs1_seq1_ci_False_async', 'W_INT4 A_INT4'],
  ['--weight int1 --act int4', 'llama2_fq_0_int4b_1_-1_bs1_seq1_ci_False_async', 'W_INT1 A_INT4'],
  ['--weight nf4 --act int8', 'llama2_fq_0_nf_4_-1_bs1_seq1_ci_True_async', 'W_NF4 A_INT8'],
];

describe.each(['llama2-70b', 'bloom-176b'])('%s', (model) => {
  it.each(kFormats)('%s is %s', async (options, name, label) => {
    const { status, out } = await build(model, ...options.split(' '), '--no-compile', '--json');
    const folder = join(root, model, name);
    expect(status).toBe(0);
    expect(JSON.parse(out)).toEqual([{ folder, compiled: false, buildMs: 0, warnings: [] }]);
    const manifest = parseManifest(await readFile(join(folder, 'checkpoint.json'), 'utf8'));
    expect(manifest).toMatchObject({ model, batch: 1, seq: 1, layers: 1, seed: 2024, format: { label } });
  });

  it('takes --batch, --seq, --layers and --seed', async () => {
    const { status } = await build(
      model,
      '--batch',
      '4',
      '--seq',
      '16',
      '--layers',
      '2',
      '--seed',
      '0',
      '--weight',
      'int4',
      '--no-compile',
    );
    expect(status).toBe(0);
    const manifest = parseManifest(
      await readFile(join(root, model, 'llama2_fq_0_int_4_-1_bs4_seq16_ci_False_layers2_async', 'checkpoint.json'), 'utf8'),
    );
    expect(manifest).toMatchObject({ batch: 4, seq: 16, layers: 2, seed: 0 });
    expect(manifest.operators.filter(({ program }) => program.nodes.some(({ kind }) => kind === 'dense'))).toHaveLength(8);
  });

  it('takes --mask, which the folder, the manifest and every attention say', async () => {
    const described = async (folder: string) => parseManifest(await readFile(join(root, model, folder, 'checkpoint.json'), 'utf8'));
    const masks = ({ operators }: Manifest) =>
      operators.flatMap(({ program }) => program.nodes.filter(({ kind }) => kind === 'attention').map(({ params }) => params['mask']));
    expect((await build(model, '--seq', '70', '--mask', 'causal', '--layers', '2', '--no-compile')).status).toBe(0);
    const causal = await described('llama2_bs1_seq70_layers2_causal_async');
    expect([causal.mask, masks(causal)]).toEqual(['causal', ['causal', 'causal']]);
    expect(requestOf(causal)).toMatchObject({ seq: 70, layers: 2, mask: 'causal' });
    expect((await build(model, '--seq', '70', '--mask', 'none', '--no-compile')).status).toBe(0);
    const all = await described('llama2_bs1_seq70_async');
    expect([all.mask, masks(all)]).toEqual([undefined, [undefined]]);
    expect(causal.flops).toBeLessThan(2 * all.flops);
  });

  it.each([
    ['--batch 65', 'llama2_bs65_seq1_async'],
    ['--seq 65', 'llama2_bs1_seq65_async'],
    ['--batch 33 --seq 2', 'llama2_bs33_seq2_async'],
  ])('%s, more rows than the kernels for few tokens take', async (options, name) => {
    const { status, err } = await build(model, ...options.split(' '), '--no-compile');
    expect([status, err]).toEqual([0, expect.any(String)]);
    const manifest = parseManifest(await readFile(join(root, model, name, 'checkpoint.json'), 'utf8'));
    const kernelsOf = (kind: string) =>
      new Set(manifest.operators.filter(({ program }) => program.nodes.some((node) => node.kind === kind)).map(({ kernels }) => kernels));
    expect(kernelsOf('dense')).toEqual(new Set(['matmul/wide']));
    expect(kernelsOf('attention')).toEqual(new Set([options === '--seq 65' ? 'attention/flash' : 'attention']));
  });
});

describe('refuses', () => {
  it.each([
    ['--batch 1.5', 2, /whole number/],
    ['--batch 0x10', 2, /whole number/],
    ['--batch 0', 2, /at least 1 for `batch`/],
    ['--seq many', 2, /whole number/],
    ['--layers 0', 2, /from 1 to 256 for `layers`/],
    ['--layers 100000', 2, /from 1 to 256 for `layers`/],
    ['--mask sliding', 2, /expected one of none, causal for `mask` but received "sliding"/],
    ['--seed -1', 2, /whole number/],
    ['--weight int5', 2, /`weight`/],
    ['--weight fp8_e3m4', 2, /`weight`/],
    ['--weight int4 --act fp7', 2, /`act`/],
    ['--weight int4 --act nf4', 2, /`act`/],
    ['--weight int4 --group 32', 2, /expected -1, 64, 128 for `group` with int4 weights but received 32/],
    ['--weight int1 --group 128', 2, /expected -1 for `group` with int1/],
    ['--weight fp8 --group 64', 2, /expected -1 for `group` with fp8_e5m2/],
    ['--weight mxfp8 --group 128', 2, /expected 32 for `group` with mxfp8_e5m2/],
    ['--weight mxfp8 --act fp8', 2, /go together/],
    ['--weight int4 --act mxfp8', 2, /blocks of 32/],
    ['--weight int4 --act fp8', 1, /no checkpoint name says weights int4 with activations fp8_e5m2.*\[UNSUPPORTED\]/],
    ['--weight fp16 --act fp8', 1, /weights fp16 with activations fp8_e5m2.*\[UNSUPPORTED\]/],
    ['--weight fp8 --act fp16', 1, /weights fp8_e5m2 with activations fp16.*\[UNSUPPORTED\]/],
    ['--weight fp8 --format e3m4', 2, /fp8_e5m2.*for `weight` but received "fp8_e3m4"/],
    ['--weight int4 --format e4m3', 2, /expected `format` with weights that have kinds/],
    ['--weight fp8_e5m2 --format e4m3', 2, /`format`.*of theirs, but received e4m3 with fp8_e5m2/],
    ['--weight int4 --weights nowhere.safetensors', 1, /nowhere\.safetensors.*\[IO\]/],
  ])('%s', async (options, status, message) => {
    const result = await build('llama2-70b', ...options.split(' '), '--no-compile');
    expect(result.err).toMatch(message);
    expect([result.status, result.out]).toEqual([status, '']);
  });

  it.each(['graph.json', 'checkpoint.json', 'tuned/sm_90a.json', 'model.so'])('%s that is a pipe, without waiting for it', async (file) => {
    const folder = join(root, 'llama2-tiny', 'llama2_bs1_seq1_async');
    await rm(folder, { recursive: true, force: true });
    await mkdir(dirname(join(folder, file)), { recursive: true });
    spawnSync('mkfifo', [join(folder, file)]);
    const result = await build('llama2-tiny', '--no-compile');
    expect(result).toMatchObject({ status: 1, out: '', err: expect.stringMatching(/no regular file.*\[IO\]/s) });
    await rm(folder, { recursive: true });
  });

  it('a model that it does not know, naming those it knows', async () => {
    expect(await build('gpt-2', '--no-compile')).toMatchObject({ status: 2, err: expect.stringMatching(/llama2-70b, bloom-176b/) });
  });

  it('to describe anew what lies beside weights packed in another layout', async () => {
    const folder = join(root, 'llama2-tiny', 'llama2_bs1_seq1_async');
    await build('llama2-tiny', '--no-compile');
    const path = join(folder, 'checkpoint.json');
    const text = await readFile(path, 'utf8');
    await writeFile(join(folder, 'graph.params'), '');
    expect((await build('llama2-tiny', '--no-compile')).status).toBe(0);
    const manifest = parseManifest(text);
    const [product] = manifest.operators;
    const weight = product!.program.values.findIndex(({ layout }) => layout !== undefined);
    const stored = (change: (value: Value) => Value): string =>
      JSON.stringify({
        ...manifest,
        operators: manifest.operators.map((operator) =>
          operator === product
            ? {
                ...operator,
                program: { ...operator.program, values: operator.program.values.map((value, i) => (i === weight ? change(value) : value)) },
              }
            : operator,
        ),
      });
    const others = [
      text.replace('"role": "weight"', '"role": "scale"'),
      stored(({ layout, ...value }) => ({ ...value, layout: { digits: [...layout!.digits].reverse() } })),
      stored(({ layout: _, ...value }) => value),
    ];
    for (const other of others) {
      expect(parseManifest(other)).not.toEqual(manifest);
      await writeFile(path, other);
      expect(await build('llama2-tiny', '--no-compile')).toMatchObject({
        status: 1,
        err: expect.stringMatching(/pack it again.*\[BAD_PARAMS\]/),
      });
      expect(await readFile(path, 'utf8')).toBe(other);
    }
    // What is computed may change, and which kernels do it.
    const same = { ...manifest, operators: manifest.operators.map(({ kernels: _, ...operator }) => operator) };
    await writeFile(path, JSON.stringify(same));
    expect((await build('llama2-tiny', '--no-compile')).status).toBe(0);
    await rm(join(folder, 'graph.params'));
    expect((await build('llama2-tiny', '--no-compile')).status).toBe(0);
    expect(await readFile(path, 'utf8')).toBe(text);
    expect(existsSync(join(folder, 'model.so'))).toBe(false);
  });
});

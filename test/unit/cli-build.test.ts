// `ladder build` as a user calls it: every option, both models of Figure 8, all formats; and what it refuses, in which words.
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseManifest } from '../../lib/artifact/manifest.js';
import { runCli } from '../../lib/cli/main.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-cli-build-'));
afterAll(() => rm(root, { recursive: true, force: true }));

async function build(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const status = await runCli(['build', ...args, '--out', root], { write: (text: string) => { out += text; } }, { write: (text: string) => { err += text; } }, new AbortController().signal);
  return { status, out, err };
}

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
];

describe.each(['llama2-70b', 'bloom-176b'])('%s', (model) => {
  it.each(kFormats)('%s is %s', async (options, name, label) => {
    const { status, out } = await build(model, ...options.split(' '), '--no-compile', '--json');
    const folder = join(root, model, name);
    expect(status).toBe(0);
    expect(JSON.parse(out)).toEqual([{ folder, compiled: false, buildMs: 0 }]);
    const manifest = parseManifest(await readFile(join(folder, 'checkpoint.json'), 'utf8'));
    expect(manifest).toMatchObject({ model, batch: 1, seq: 1, layers: 1, seed: 2024, format: { label } });
  });

  it('takes --batch, --seq, --layers and --seed', async () => {
    const { status } = await build(model, '--batch', '4', '--seq', '16', '--layers', '2', '--seed', '0', '--weight', 'int4', '--no-compile');
    expect(status).toBe(0);
    const manifest = parseManifest(await readFile(join(root, model, 'llama2_fq_0_int_4_-1_bs4_seq16_ci_False_layers2_async', 'checkpoint.json'), 'utf8'));
    expect(manifest).toMatchObject({ batch: 4, seq: 16, layers: 2, seed: 0 });
    expect(manifest.operators.filter(({ semantics }) => semantics.op === 'dense')).toHaveLength(8);
  });
});

describe('refuses', () => {
  it.each([
    ['--batch 65', 1, /at most 64 tokens but received 65 \[UNSUPPORTED\]/], ['--seq 65', 1, /at most 64 tokens but received 65 \[UNSUPPORTED\]/],
    ['--batch 1.5', 2, /whole number/], ['--batch 0x10', 2, /whole number/], ['--batch 0', 2, /at least 1 for `batch`/], ['--seq many', 2, /whole number/],
    ['--layers 0', 2, /from 1 to 256 for `layers`/], ['--layers 100000', 2, /from 1 to 256 for `layers`/], ['--seed -1', 2, /whole number/],
    ['--weight int8', 2, /`weight`/], ['--weight int4 --act fp7', 2, /`act`/],
    ['--weight int4 --group 32', 2, /expected -1, 64 or 128 for `group`/], ['--weight int1 --group 128', 2, /not for int1/], ['--weight fp8 --group 64', 2, /not for fp8_e5m2/],
    ['--weight mxfp8 --group 128', 2, /which MX prescribes, for `group`/], ['--weight mxfp8 --act fp8', 2, /go together/],
    ['--weight int4 --act int8', 1, /expected fp16 for `act` with int4 weights but received int8.*\[UNSUPPORTED\]/], ['--weight fp16 --act fp8', 1, /for `act` with fp16.*\[UNSUPPORTED\]/],
    ['--weight int1 --act int4', 1, /expected int8 for `act`.*\[UNSUPPORTED\]/], ['--weight fp8 --format e3m4', 2, /`format`/], ['--weight int4 --format e4m3', 2, /`format` with fp8 or mxfp8/],
    ['--weight fp8_e5m2 --format e4m3', 2, /of their kind/], ['--weight int4 --weights nowhere.safetensors', 1, /nowhere\.safetensors.*\[IO\]/],
  ])('%s', async (options, status, message) => {
    const result = await build('llama2-70b', ...options.split(' '), '--no-compile');
    expect(result.err).toMatch(message);
    expect([result.status, result.out]).toEqual([status, '']);
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
    const other = text.replace('"role": "weight"', '"role": "scale"');
    expect(other).not.toBe(text);
    await writeFile(path, other);
    expect(await build('llama2-tiny', '--no-compile')).toMatchObject({ status: 1, err: expect.stringMatching(/pack it again.*\[BAD_PARAMS\]/) });
    expect(await readFile(path, 'utf8')).toBe(other);
    await rm(join(folder, 'graph.params'));
    expect((await build('llama2-tiny', '--no-compile')).status).toBe(0);
    expect(await readFile(path, 'utf8')).toBe(text);
    expect(existsSync(join(folder, 'model.so'))).toBe(false);
  });
});

// The authors' archive as it is unpacked: networks beside folders of layers, both spellings, folders above and below, links, names of
// their scripts, and what a mistyped name may have meant.
import { cp, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { inspectPrebuilt } from '../../lib/artifact/inspect.js';
import { findCheckpoints, likeliest, locateCheckpoint, nameOfFolder } from '../../lib/artifact/locate.js';
import { caseOfName, parseCheckpointName } from '../../lib/artifact/names.js';
import { listCheckpoints, resolveCheckpoint } from '../../lib/run/package.js';
import { ladderHere } from '../fixtures/cli.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-archive-'));
afterAll(() => rm(root, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());
const ladderFolder = join(root, 'checkpoints', 'Figure8', 'ladder');
const folder = join(ladderFolder, 'checkpoints');

const layers = ['llama2_bs1_seq1_async', 'llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', 'llama2_fq_0_nf_4_-1_bs1_seq1_ci_False_async'];
const networks = ['Conformer-b1_fq_0_int_8_int4_ci_False_holistic_fp16', 'resnet-50-b1', 'vit_fq_0_int4b_4_ci_False'];
const names = [...networks, ...['bloom-176b', 'llama2-70b'].flatMap((model) => layers.map((name) => `${model}/${name}`))].sort();

beforeAll(async () => {
  const tensor = (name: string) => ({ name, shape: [4], dtype: 'float32' });
  const graph = serialiseGraph({
    inputs: [tensor('x')],
    operators: [{ name: 'op', functionName: 'op', inputs: ['x'], outputs: [tensor('y')] }],
    outputs: ['y'],
  });
  for (const name of names) {
    await mkdir(join(folder, name), { recursive: true });
    await writeFile(join(folder, name, 'graph.json'), graph);
  }
});

describe('the layout', () => {
  it.each([
    ['the folder itself', folder],
    ['its other spelling', join(ladderFolder, 'checkpoint')],
    ['the folder above', ladderFolder],
    ['far above', root],
  ])('%s has all, by name', async (_, path) => {
    expect((await listCheckpoints(path)).map(({ name }) => name)).toEqual(names);
  });

  it('folders below have their part, by the same names', async () => {
    expect((await listCheckpoints(join(folder, 'bloom-176b'))).map(({ name }) => name)).toEqual(layers.map((name) => `bloom-176b/${name}`));
    expect((await listCheckpoints(join(folder, 'resnet-50-b1'))).map(({ name }) => name)).toEqual(['resnet-50-b1']);
    await expect(listCheckpoints(join(root, 'absent'))).rejects.toMatchObject({ code: 'IO' });
    const wide = await mkdtemp(join(root, 'wide-'));
    for (let i = 0; i < 4000; ++i) mkdirSync(join(wide, `folder-${i}`));
    const remarks: string[] = [];
    await listCheckpoints(wide, (remark) => remarks.push(remark));
    expect(remarks).toEqual([expect.stringMatching(/^only the first 4000 folders below .*wide-.* were searched: there may be more/)]);
    rmdirSync(join(wide, 'folder-0'));
    execFileSync('mkfifo', [join(wide, 'folder-1', 'graph.json')]);
    remarks.length = 0;
    await listCheckpoints(wide, (remark) => remarks.push(remark));
    expect(remarks).toEqual([expect.stringMatching(/folder-1 holds a graph\.json that is no regular file/)]);
    await expect(listCheckpoints(join(wide, 'folder-1', 'graph.json'))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/is no folder/) as string,
    });
    expect(await listCheckpoints(await mkdtemp(join(root, 'empty-')))).toEqual([]);
  });

  it('list names model, setting and format of each', async () => {
    const { status, out } = await ladderHere('list', folder, '--json');
    expect(status).toBe(0);
    const listed = JSON.parse(out) as { name: string; model: string; setting: string; format: string }[];
    expect(listed.filter(({ name }) => networks.includes(name)).map(({ model, setting, format }) => [model, setting, format])).toEqual([
      ['conformer', 'bs1', 'W_INT4 A_INT8'],
      ['resnet-50', 'bs1', 'W_FP16 A_FP16'],
      ['vit', 'bs128', 'W_INT4 A_INT4'],
    ]);
    expect(listed.find(({ name }) => name === `bloom-176b/${layers[1]!}`)).toMatchObject({
      model: 'bloom-176b',
      setting: 'bs1_seq1',
      format: 'W_INT4 A_FP16',
    });
    expect((await ladderHere('list', folder)).out).toMatch(/^resnet-50-b1 +bs1 +W_FP16 A_FP16 +resnet-50/m);
  });

  it('inspect names a network, though it lies in no folder of its model', async () => {
    expect(await inspectPrebuilt(join(folder, networks[0]!))).toMatchObject({
      model: 'conformer',
      parsedName: { model: 'conformer', weight: 'int4', activation: 'int8' },
    });
    expect((await ladderHere('inspect', join(folder, networks[0]!))).out).toMatch(/by its name +W_INT4 A_INT8, batch 1/);
    // One of another make is its own model, not that of the folder of all.
    const other = await mkdtemp(join(root, 'other-'));
    const path = join(other, 'ladder', 'checkpoints', "a net's 100 %");
    await cp(join(folder, networks[0]!), path, { recursive: true });
    expect(await inspectPrebuilt(path)).toMatchObject({ model: "a net's 100 %", parsedName: null });
    await rm(other, { recursive: true });
  });

  it('links to archives elsewhere are followed, each folder once', async () => {
    const linked = await mkdtemp(join(root, 'linked-'));
    await symlink(folder, join(linked, 'there'));
    await symlink('.', join(linked, 'again'));
    expect((await findCheckpoints(linked)).map((path) => basename(path))).toHaveLength(names.length);
  });

  it('a file or folder in a checkpoint stands for it', async () => {
    const copy = join(root, 'inside', 'one');
    await cp(join(folder, 'resnet-50-b1'), copy, { recursive: true });
    await mkdir(join(copy, 'tuned'));
    for (const path of [copy, join(copy, 'graph.json'), join(copy, 'tuned')]) expect(await locateCheckpoint(path)).toBe(copy);
  });

  it.each([
    ['/a/ladder/checkpoints/resnet-50-b1', 'resnet-50-b1'],
    ['/a/ladder/checkpoint/llama2-70b/one', 'llama2-70b/one'],
    ['/a/checkpoints/mine/one', 'mine/one'],
    ['/a/b/ladder/checkpoints', 'ladder/checkpoints'],
  ])('%s is called %s', (path, name) => expect(nameOfFolder(path)).toBe(name));
});

describe('names on the command line', () => {
  it('mean checkpoints, not folders that happen to be called so', async () => {
    vi.spyOn(process, 'cwd').mockReturnValue(root);
    await mkdir(join(root, 'resnet-50-b1'));
    expect(resolveCheckpoint('resnet-50-b1')).toBe(join(folder, 'resnet-50-b1'));
    expect(resolveCheckpoint(`bloom-176b/${layers[0]!}`)).toBe(join(folder, 'bloom-176b', layers[0]!));
    await rename(join(root, 'resnet-50-b1'), join(root, 'other'));
  });

  it.each([
    ['a letter among sixty', 'llama2-70b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_asinc', `llama2-70b/${layers[1]!}`],
    ['an ending left out', 'bloom-176b/llama2_fq_0_nf_4_-1_bs1_seq1_ci_False', `bloom-176b/${layers[2]!}`],
    ['a network', 'resnet50-b1', 'resnet-50-b1'],
    ['a long network', 'Conformer-b1_fq_0_int_8_int4_ci_True_holistic_fp16', networks[0]!],
  ])('mistyped by %s name the likeliest first', async (_, typed, meant) => {
    vi.spyOn(process, 'cwd').mockReturnValue(root);
    await expect(locateCheckpoint(resolveCheckpoint(typed))).rejects.toMatchObject({
      code: 'NOT_A_CHECKPOINT',
      message: expect.stringMatching(/did you mean one of these\?/) as string,
      context: { nearby: expect.arrayContaining([join(folder, meant)]) as string[] },
    });
    const error = (await locateCheckpoint(resolveCheckpoint(typed)).catch((thrown: unknown) => thrown)) as {
      context: { nearby: string[] };
    };
    expect(error.context.nearby[0]).toBe(join(folder, meant));
  });

  it('likeliest sorts by what differs', () => {
    expect(likeliest(['llama2_bs32', 'llama2_bs1', 'vit'], 'llama2_bs2')).toEqual(['llama2_bs1', 'llama2_bs32', 'vit']);
  });
});

// As the scripts of Figures 8, 11 and 12 and of the transform study write and read them.
describe('names of the authors’ scripts', () => {
  it.each<[string, string, string | null, string, string]>([
    ['Conformer-b1_fq_0_int_8_int4_ci_False_holistic_fp16', '', 'conformer', 'bs1', 'W_INT4 A_INT8'],
    ['Conformer-b1_fq_0_int4b_4_ci_False_async', '', 'conformer', 'bs1', 'W_INT4 A_INT4'],
    ['Conformer_fq_0_int4b_1_ci_False', '', 'conformer', 'bs128', 'W_INT1 A_INT4'],
    ['resnet-50-b1_fq_0_fp_e5m2_8_ci_False_async_holistic_fp16', '', 'resnet-50', 'bs1', 'W_FP8 A_FP8'],
    ['resnet-50-b1_fq_0_int4b_1_ci_False_async_holistic_fp16', '', 'resnet-50', 'bs1', 'W_INT1 A_INT4'],
    ['resnet-50-b128_fq_0_mxfp_8_ci_False_async', '', 'resnet-50', 'bs128', 'W_MXFP8 A_MXFP8'],
    ['shufflenet_fq_0_int4b_4_ci_False', '', 'shufflenet-v2', 'bs128', 'W_INT4 A_INT4'],
    ['vit-b1_fq_0_int4b_4_ci_False_holistic_fp16', '', 'vit', 'bs1', 'W_INT4 A_INT4'],
    ['vit-b128', '', 'vit', 'bs128', 'W_FP16 A_FP16'],
    ['Conformer-b1_fq_0_int_4_ci_True_async', '', 'conformer', 'bs1', 'W_INT4 A_INT8'],
    ['llama2_fq_0_int_8_-1_bs1_seq4096_ci_True_async', 'bloom-176b', 'bloom-176b', 'bs1_seq4096', 'W_INT8 A_INT8'],
    ['ladder_from_onnx_transform_bs1_seq4096', 'transform', null, 'bs1_seq4096', 'W_FP16 A_FP16'],
    ['ladder_from_onnx_transform_fq_0_int_4_-1_bs1_seq1_ci_False', 'llama2-70b', 'llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16'],
    ['ladder_from_onnx_transform_fq_0_mxfp_8_-1_bs1_seq1_ci_False_cmxfp_async', 'transform', null, 'bs1_seq1', 'W_MXFP8 A_MXFP8'],
    ['ladder_from_onnx_transform_fq_0_int_1_-1_bs1_seq1_ci_True', 'transform', null, 'bs1_seq1', 'W_INT1 A_INT8'],
    ['ladder_with_fake_dense_dequantize_fq_0_nf_4_-1_bs32_seq1_ci_False', 'bloom-176b', 'bloom-176b', 'bs32_seq1', 'W_NF4 A_FP16'],
    ['ladder_with_fake_dense_dequantize_bs1_seq1', 'llama2-70b', 'llama2-70b', 'bs1_seq1', 'W_FP16 A_FP16'],
  ])('%s', (name, parent, model, setting, format) => {
    const parsed = parseCheckpointName(name, parent);
    expect(parsed).not.toBeNull();
    expect(caseOfName(parsed!)).toEqual({ model, setting, format });
  });

  it.each(['Conformer-b1_fq_0_int_8_int5_ci_False', 'Conformer-b1_fq_0_int_9_int4_ci_False', 'ladder_from_onnx', 'vit-b0'])(
    '%s is none',
    (name) => expect(parseCheckpointName(name, '')).toBeNull(),
  );
});

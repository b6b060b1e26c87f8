// Targets with kernels or tunings of their own: images, the host code that chooses, launch attributes, and one image where plans are equal.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CheckpointDesign, designCheckpoint, designStored, selectionOn } from '../../lib/compiler/design.js';
import { defineFamily, kOtherKind } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { simpleFamilies } from '../../lib/compiler/kernels/simple/index.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { buildTargets, layoutTarget } from '../../lib/compiler/targets.js';
import type { Tuned } from '../../lib/compiler/types.js';
import { tuningKey } from '../../lib/compiler/tune/tuned.js';
import { packageRoot } from '../../lib/run/package.js';

const kRequest = parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'fp16' });

/** Attention that only sm_90a has a kernel of its own for: everyone else's with twice the threads. */
const hopperAttention = defineFamily({
  ...simpleFamilies.find(({ id }) => id === 'simple/attention')!,
  id: 'test/hopper-attention',
  accepts: (program, target) =>
    target.id === 'sm_90a' ? simpleFamilies.find(({ id }) => id === 'simple/attention')!.accepts(program, target) : kOtherKind,
});

describe('tunings of targets', () => {
  const untuned = designCheckpoint(kRequest, null);
  const operator = untuned.model.operators.find(({ node }) => node === 'ladder_dense_layer0_down')!;
  const configurations = operator.family.configurations(operator.match, layoutTarget);
  const tuned = (arch: string, parameters: Record<string, number>): Tuned => ({
    schema: 'ladder-tuned/2',
    arch,
    gpu: 'a GPU',
    date: '2024-01-01T00:00:00.000Z',
    commit: '',
    seconds: 0,
    operators: { [tuningKey(operator)]: { parameters, latencyMs: 1, defaultLatencyMs: 2, candidates: 3 } },
  });
  const planOf = ({ planned }: CheckpointDesign, node = operator.node) => planned.find((one) => one.operator.node === node)!;
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ladder-tunings-'));
    await mkdir(join(folder, 'tuned'));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const keep = (record: Tuned): Promise<void> => writeFile(join(folder, 'tuned', `${record.arch}.json`), JSON.stringify(record));

  it('without files are the defaults, whatever the GPU', async () => {
    for (const arch of ['sm_80', 'sm_89', 'sm_90a', 'default'])
      expect((await designStored(kRequest, folder, arch)).manifest).toEqual(untuned.manifest);
  });

  it('of one GPU serve the targets that have none', async () => {
    await keep(tuned('sm_90a', configurations[1]!));
    const design = await designStored(kRequest, folder, 'sm_90a');
    expect(design.manifest.build.tuning).toBe('sm_90a');
    expect(planOf(design).plan.definitions).not.toBe(planOf(untuned).plan.definitions);
    expect(planOf(design).alternatives).toEqual([]);
    expect(design.sources.kernels).toHaveLength(untuned.sources.kernels.length);
  });

  it('of a target make an image of its own where they differ, and none where they do not', async () => {
    await keep(tuned('sm_80', configurations[2]!));
    const design = await designStored(kRequest, folder, 'sm_90a');
    expect(planOf(design).alternatives!.map(({ targets }) => targets)).toEqual([['sm_80']]);
    expect(planOf(design).alternatives![0]!.plan.definitions).not.toBe(planOf(design).plan.definitions);
    expect(planOf(design, 'ladder_dense_layer0_qkv').alternatives).toEqual([]);
    expect(design.manifest.launch[operator.node]?.targets).toEqual(['compute_80', 'sm_90a']);
    expect(design.manifest.launch[`${operator.node}__sm_80`]?.targets).toEqual(['sm_80']);
    await keep(tuned('sm_80', configurations[1]!));
    expect(planOf(await designStored(kRequest, folder, 'sm_90a')).alternatives).toEqual([]);
  });

  it('by instructions that a target lacks leave it its default', async () => {
    const request = parseRequest({ model: 'vit', batch: 1, seq: 1 });
    const { planned } = await designStored(request, join(packageRoot, 'checkpoints/Figure8/ladder/checkpoint/vit-b1'), 'sm_90a');
    const { plan, alternatives } = planned.find((one) => one.operator.node === 'ladder_dense_patch_embed')!;
    expect(plan.definitions).toContain('kWgmma = true');
    expect(alternatives!.map(({ targets, plan: other }) => [targets, other.definitions.includes('kWgmma = true')])).toEqual([
      [['compute_80', 'sm_80'], false],
    ]);
  });

  it('stay with their target when another GPU is at hand', async () => {
    await keep(tuned('sm_80', configurations[2]!));
    const there = await designStored(kRequest, folder, 'sm_80');
    expect(there.manifest.build.tuning).toBe('sm_80');
    expect(planOf(there).plan.definitions).toBe(planOf(await designStored(kRequest, folder, 'sm_90a')).plan.definitions);
    // The portable image is tuned for the GPU at hand.
    expect(planOf(there).alternatives!.map(({ targets }) => targets)).toEqual([['compute_80', 'sm_80']]);
  });
});

describe('targets', () => {
  let before: CheckpointDesign;
  let after: CheckpointDesign;
  beforeAll(() => {
    before = designCheckpoint(kRequest, null);
    families.add(hopperAttention);
    after = designCheckpoint(kRequest, null);
  });

  it('share an image where their plans are equal', () => {
    expect(before.sources.kernels).toHaveLength(5);
    expect(before.sources.kernelTargets).toEqual(Array.from({ length: 5 }, () => ['compute_80', 'sm_80', 'sm_90a']));
    expect(before.sources.host).not.toContain('GetDeviceAttr');
    expect(Object.values(before.manifest.launch).every(({ targets }) => targets === undefined)).toBe(true);
  });

  it('have images of their own where they differ, chosen by the compute capability', () => {
    expect(after.sources.kernelTargets[1]).toEqual(['sm_90a']);
    expect(after.sources.kernelTargets[2]).toEqual(['compute_80', 'sm_80']);
    expect(after.sources.kernels).toHaveLength(6);
    const node = 'ladder_attention_layer0_attention';
    expect(after.sources.kernels[1]).toContain(`__global__ void __launch_bounds__(128) ${node}(`);
    expect(after.sources.kernels[2]).toContain(`${node}__compute_80(`);
    const host = after.sources.host.slice(after.sources.host.indexOf(`EXPORT int ${node}(`));
    const chosen = /capability == 90\) \{[\s\S]*?"(\w+)"[\s\S]*?else \{[\s\S]*?"(\w+)"/.exec(host)!;
    expect(chosen.slice(1)).toEqual([node, `${node}__compute_80`]);
    expect(after.manifest.launch[node]?.targets).toEqual(['sm_90a']);
    expect(after.manifest.launch[`${node}__compute_80`]?.targets).toEqual(['compute_80', 'sm_80']);
    expect(after.manifest.launch['ladder_dense_layer0_qkv']).not.toHaveProperty('targets');
  });

  it('whose kernels want another order of activations than was laid out are planned by a family that reads the one there is', () => {
    const { planned } = designCheckpoint(parseRequest({ model: 'bloom-tiny', batch: 1, seq: 80, weight: 'fp16' }), null);
    const { operator } = planned.find(({ operator: { node } }) => node === 'ladder_attention_layer0_attention')!;
    expect(operator.family.id).toBe(hopperAttention.id);
    for (const target of buildTargets.filter(({ id }) => id !== layoutTarget.id))
      expect(selectionOn(operator, target).family.id).not.toBe('attention/flash');
  });

  it('make another hash, and another one only where something differs', () => {
    expect(after.manifest.build.sources).not.toBe(before.manifest.build.sources);
    expect(designCheckpoint(kRequest, null).manifest.build.sources).toBe(after.manifest.build.sources);
  });
});

// Targets with kernels of their own: images, the host code that chooses, launch attributes, and one image where plans are equal.
import { beforeAll, describe, expect, it } from 'vitest';
import { type CheckpointDesign, designCheckpoint } from '../../lib/compiler/design.js';
import { defineFamily, kOtherKind } from '../../lib/compiler/kernels/family.js';
import { families } from '../../lib/compiler/kernels/index.js';
import { simpleFamilies } from '../../lib/compiler/kernels/simple/index.js';
import { parseRequest } from '../../lib/compiler/request.js';

const kRequest = parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'fp16' });

/** Attention that only sm_90a has a kernel of its own for: everyone else's with twice the threads. */
const hopperAttention = defineFamily({
  ...simpleFamilies.find(({ id }) => id === 'simple/attention')!,
  id: 'test/hopper-attention',
  accepts: (program, target) =>
    target.id === 'sm_90a' ? simpleFamilies.find(({ id }) => id === 'simple/attention')!.accepts(program, target) : kOtherKind,
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

  it('make another hash, and another one only where something differs', () => {
    expect(after.manifest.build.sources).not.toBe(before.manifest.build.sources);
    expect(designCheckpoint(kRequest, null).manifest.build.sources).toBe(after.manifest.build.sources);
  });
});

// Real weights of the networks of Figure 8 on a GPU, against PyTorch: random ones under the public names of torchvision, timm and torchaudio
// (whose own modules take them by name, where they are installed), norms away from 1 and 0, packed in every format of the figure.
// Needs nvcc and python3 with PyTorch.
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { buildCheckpoint, buildCheckpoints } from '../../lib/compiler/build.js';
import type { CheckpointRequest } from '../../lib/compiler/design.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { buildTargets } from '../../lib/compiler/targets.js';
import { loadPrebuilt } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { missingForOperators } from './operator-checkpoint.js';

/**
 * The most that a result may differ, in relative L2, from PyTorch's in FP16 with the same weights: for FP16 1 %, where either differs from
 * FP32 by 0.1 to 0.4 %; for the others what their formats imply through all layers of random weights, 1.5 times what the reference
 * on the host has (2026-11-26): `host`.
 */
// biome-ignore format: a table
const kCases = [
  { model: 'resnet-50', most: 0.01 },
  { model: 'resnet-50', weight: 'fp8', host: 0.140, isStatic: true },
  { model: 'resnet-50', weight: 'mxfp8', host: 0.181 },
  { model: 'resnet-50', weight: 'int1', act: 'int4', host: 0.663, isStatic: true },
  { model: 'shufflenet-v2', most: 0.01 },
  { model: 'shufflenet-v2', weight: 'fp8', host: 0.133, isStatic: true },
  { model: 'vit', most: 0.01 },
  { model: 'vit', weight: 'fp8', host: 0.116 },
  { model: 'vit', weight: 'int4', act: 'int4', host: 0.262 },
  { model: 'conformer', most: 0.01 },
  { model: 'conformer', weight: 'int4', act: 'int8', host: 0.134 },
  { model: 'conformer', weight: 'int4', act: 'int4', host: 0.376 },
] as const satisfies readonly NetworkCase[];

interface NetworkCase {
  readonly model: string;
  readonly weight?: string;
  readonly act?: string;
  readonly most?: number;
  readonly host?: number;
  /** Scales of whole tensors, which inputs decide. */
  readonly isStatic?: boolean;
}

const root = await mkdtemp(join(tmpdir(), 'ladder-gpu-networks-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const python = process.env['LADDER_PYTHON'] ?? 'python3';
const torch = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], { encoding: 'utf8' });
const missing = (await missingForOperators()) ?? (torch.status === 0 ? null : 'python3 with PyTorch');
if (missing) console.log(`skipped: the GPU tests of networks' weights need ${missing}`);

/** What network_states.py says of one. */
const stateSchema = z.object({ model: z.string(), tensors: z.number(), library: z.union([z.number(), z.string()]), half: z.number() });

const floats = async (path: string): Promise<Float32Array> => new Float32Array(Uint8Array.from(await readFile(path)).buffer);
const file = (model: string, what: string): string => join(root, `${model}.${what}`);

const titleOf = ({ model, weight = 'fp16', act }: NetworkCase): string => `${model}, ${weight} weights${act ? `, ${act} activations` : ''}`;

function relativeL2(values: ArrayLike<number>, wanted: Float32Array): number {
  expect(values).toHaveLength(wanted.length);
  let [error, size] = [0, 0];
  wanted.forEach((value, i) => {
    error += (value - values[i]!) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(error / size);
}

describe.skipIf(missing)(`against PyTorch ${(torch.stdout ?? '').trim()}`, { timeout: 600_000 }, () => {
  const requestOf = ({ model, weight, act }: NetworkCase): CheckpointRequest => parseRequest({ model, batch: 1, seq: 1, weight, act });
  beforeAll(async () => {
    const script = fileURLToPath(new URL('network_states.py', import.meta.url));
    const made = spawnSync(python, [script, root], { encoding: 'utf8' });
    expect(made.status, made.stderr).toBe(0);
    for (const line of made.stdout.trim().split('\n')) {
      const { model, tensors, library, half } = stateSchema.parse(JSON.parse(line));
      console.log(`${model}: ${tensors} tensors; its library's own module differs by ${library}, FP16 from FP32 by ${half}`);
      if (typeof library === 'number') expect(library, `${model} of its library`).toBeLessThan(1e-4);
    }
    // All kernels at once, for the GPU at hand; weights are packed beside them.
    const own = native().devices()[0]!.computeCapability;
    const target = buildTargets.find(({ capability }) => String(capability) === String(own))?.id ?? 'compute_80';
    await buildCheckpoints(kCases.map(requestOf), { root, compile: true, targets: [target] });
  }, 600_000);

  it.each<[string, NetworkCase]>(kCases.map((one) => [titleOf(one), one]))('%s', async (title, one) => {
    const { model, most = 1.5 * one.host!, host = 0, isStatic = false } = one;
    const { folder } = await buildCheckpoint(requestOf(one), {
      root,
      compile: false,
      weights: file(model, 'weights.safetensors'),
      ...(isStatic && { calibrate: file(model, 'inputs.safetensors') }),
    });
    await using network = await loadPrebuilt(folder, { build: false });
    expect(network.weights).toBe('file');
    await network.setInput('x', await floats(file(model, 'x.bin')));
    await network.run();
    const error = relativeL2(await network.getOutput(0, { as: 'float32' }), await floats(file(model, 'y.bin')));
    console.log(`${title}: relative L2 ${error.toExponential(2)}, at most ${most.toPrecision(2)}`);
    expect(error).toBeLessThan(most);
    // Coarse formats are far from exact.
    expect(error).toBeGreaterThan(host / 3);
  });
});

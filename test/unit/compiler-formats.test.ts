// One small checkpoint per format: described, compiled by nvcc where there is one, its structure verified; and every
// format run through the reference operators on the CPU.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkHashes, readCheckpoint } from '../../lib/artifact/checkpoint.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { findNvcc } from '../../lib/compiler/emit/compile.js';
import { ensureModules } from '../../lib/compiler/ensure.js';
import { parseRequest, type RequestWords } from '../../lib/compiler/request.js';
import { loadPrebuilt } from '../../lib/index.js';

const nvcc = await findNvcc();
if (!nvcc) console.log('skipping the compiled part of compiler-formats.test.ts: nvcc is not on this machine');

const kCases: readonly (RequestWords & { name: string })[] = [
  ...['fp16', 'int4', 'nf4', 'fp8', 'mxfp8', 'int1'].map((weight) => ({ name: weight, model: 'llama2-tiny', batch: 1, seq: 1, weight })),
  { name: 'int4, groups of 128', model: 'llama2-tiny', batch: 1, seq: 1, weight: 'int4', group: 128 },
  { name: 'fp8 E4M3', model: 'llama2-tiny', batch: 1, seq: 1, weight: 'fp8', format: 'e4m3' },
  { name: 'BLOOM, 32 sequences, int1', model: 'bloom-tiny', batch: 32, seq: 1, weight: 'int1' },
];

const root = await mkdtemp(join(tmpdir(), 'ladder-formats-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const built = await buildCheckpoints(
  kCases.map((words) => parseRequest(words)),
  { root, compile: false },
);

describe('on the CPU, through the reference operators', () => {
  it.each(kCases.map(({ name }, i) => [name, built[i]!.folder]))(
    '%s gives finite, repeatable output that depends on the input',
    async (_, folder) => {
      const prebuilt = await loadPrebuilt(folder, { device: 'cpu' });
      try {
        await prebuilt.run();
        const first = await prebuilt.getOutput(0, { as: 'float32' });
        expect(first.every((value) => Number.isFinite(value))).toBe(true);
        expect(first.some((value) => value !== 0)).toBe(true);
        await prebuilt.run();
        expect(await prebuilt.getOutput(0, { as: 'float32' })).toEqual(first);
        const name = prebuilt.inputNames[0]!;
        await prebuilt.setInput(
          name,
          Float32Array.from({ length: first.length }, (_value, i) => Math.sin(i)),
        );
        await prebuilt.run();
        expect(await prebuilt.getOutput(0, { as: 'float32' })).not.toEqual(first);
      } finally {
        await prebuilt.dispose();
      }
    },
  );
});

describe.skipIf(!nvcc)('compiled', () => {
  it('every format builds, and its files are what the manifest says', async () => {
    const folders = built.map(({ folder }) => folder);
    const targets = ['compute_80', 'sm_90a'];
    const results = await ensureModules(folders, { targets });
    expect(results.every(({ built: now }) => now)).toBe(true);
    for (const folder of folders) {
      const checkpoint = await readCheckpoint(folder);
      const hashes = await checkHashes(checkpoint);
      expect(hashes.map(({ file, matches }) => [file, matches])).toEqual([
        ['graph.json', true],
        ['model.so', true],
        ['model.so (sources)', true],
      ]);
      const kernels = checkpoint.module!.blob!.images.flatMap(({ kernels: all }) => all.map(({ name }) => name));
      expect(new Set(kernels)).toEqual(new Set(Object.keys(checkpoint.manifest!.launch)));
    }
    const again = await ensureModules(folders, { targets });
    expect(again.some(({ built: now }) => now)).toBe(false);
  }, 600_000);
});

// The tuner's modules: every operator of every checkpoint of Figure 8 finds its candidates, all of which fit, and the
// generated module of a small one compiles with all of them in it.
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readExportedString } from '../../lib/artifact/elf.js';
import { checkpointName } from '../../lib/artifact/names.js';
import { compileModules, findNvcc } from '../../lib/compiler/emit/compile.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { planVariants } from '../../lib/compiler/tune/variants.js';

describe("the tuner's variants", () => {
  it.each(figure8Requests().map((request) => [`${request.model}/${checkpointName(request)}`, request] as const))(
    '%s: every node has a choice of its own candidates',
    (_, request) => {
      const { choices, manifest, sources, graphText } = planVariants(request, 4);
      const nodes = choices.flatMap((choice) => choice.nodes);
      expect([...nodes].sort((a, b) => a - b)).toEqual(manifest.operators.map((_, index) => index));
      expect(new Set(choices.map(({ key }) => key)).size).toBe(choices.length);
      expect(choices.map((choice) => choice.nodes.map((node) => manifest.operators[node]!.kernels))).toEqual(
        choices.map((choice) => choice.nodes.map(() => choice.key.split('@')[0])),
      );
      for (const {
        nodes: [first],
        candidates,
      } of choices) {
        const isProduct = manifest.operators[first!]!.program.nodes.some(({ kind }) => kind === 'dense');
        expect(candidates.length > 1).toBe(isProduct);
        expect(candidates[0]!.parameters).toEqual(isProduct ? expect.objectContaining({ stages: expect.any(Number) }) : {});
        expect(candidates.length).toBeLessThanOrEqual(4);
        for (const { functionName, image } of candidates) {
          expect(sources.kernels[image]).toContain(functionName);
          expect(sources.host).toContain(`EXPORT int ${functionName}(`);
        }
      }
      expect(new Set(choices.flatMap(({ candidates }) => candidates.map(({ image }) => image))).size).toBe(sources.kernels.length);
      const called = (JSON.parse(graphText) as { nodes: { attrs?: { func_name: string } }[] }).nodes.flatMap(
        ({ attrs }) => attrs?.func_name ?? [],
      );
      expect(called).toEqual(
        manifest.operators.map((_, index) => choices.find((choice) => choice.nodes.includes(index))!.candidates[0]!.functionName),
      );
    },
  );

  it('compile, together (skipped without nvcc)', async ({ skip }) => {
    if ((await findNvcc()) === null) skip('nvcc was not found: model.so cannot be built here');
    const { sources, sourcesHash } = planVariants(parseRequest({ model: 'llama2-tiny', batch: 32, seq: 1, weight: 'int4' }), 2);
    let built = 0;
    await compileModules([{ name: 'variants', sources }], { targets: ['compute_80'] }, async (_, path) => {
      expect(existsSync(path)).toBe(true);
      expect(await readExportedString(path, '__ladder_sources')).toBe(sourcesHash);
      ++built;
    });
    expect(built).toBe(1);
  }, 180_000);
});

// The tuner's modules: every operator of every checkpoint of Figure 8 finds its candidates, all of which fit, and the
// generated module of a small one compiles with all of them in it.
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readExportedString } from '../../lib/artifact/elf.js';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { compileModules, findNvcc } from '../../lib/compiler/emit/compile.js';
import { designCheckpoint, selectionOn } from '../../lib/compiler/design.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { targetOf } from '../../lib/compiler/targets.js';
import { tuningKey } from '../../lib/compiler/tune/tuned.js';
import { planVariants } from '../../lib/compiler/tune/variants.js';

/** Parameters, one of which each tuning has, of the families that have something to tune, by how they begin. */
const kTuned = {
  'matmul/rows': ['kWarps'],
  'matmul/chain': ['sumCost'],
  'matmul/': ['stages'],
  'attention/rows': ['warps', 'groups'],
  'conv/depthwise': ['run', 'banded'],
  'conv/separable': ['warps'],
};

describe("the tuner's variants", () => {
  it.each(figure8Requests().map((request) => [checkpointPlace(request), request] as const))(
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
        key,
        nodes: [first],
        candidates,
      } of choices) {
        const { kernels } = manifest.operators[first!]!;
        // A convolution that reads the planes of an image has one kernel.
        const parameters = key.includes(' x=planes')
          ? undefined
          : Object.entries(kTuned).find(([family]) => kernels!.startsWith(family))?.[1];
        expect(candidates.length > 1).toBe(parameters !== undefined);
        if (parameters) expect(parameters.filter((name) => typeof candidates[0]!.parameters[name] === 'number')).toHaveLength(1);
        else expect(candidates[0]!.parameters).toEqual({});
        expect(candidates.length).toBeLessThanOrEqual(4);
        expect(new Set(candidates.map((candidate) => JSON.stringify(candidate.parameters))).size).toBe(candidates.length);
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

  it('are of the GPU that tunes: portable kernels where there are no others', () => {
    const request = parseRequest({ model: 'llama2-tiny', batch: 1, seq: 70, weight: 'int4' });
    const includesOn = (arch: string): string => planVariants(request, 4, targetOf(arch)).sources.kernels.join('\n');
    for (const arch of ['sm_80', 'sm_86', 'sm_120a']) {
      const text = includesOn(arch);
      expect([text.includes('wide/portable.cuh'), text.includes('flash/mma.cuh')]).toEqual([true, true]);
      expect(text).not.toMatch(/wide\/wide\.cuh|flash\/warpgroup\.cuh/);
    }
    expect(includesOn('sm_90a')).not.toMatch(/portable\.cuh|mma\.cuh/);
    // What the tuner finds there is found again by its key.
    const { choices } = planVariants(request, 4, targetOf('sm_86'));
    const design = designCheckpoint(request, null);
    expect(choices.map(({ key }) => key)).toEqual([
      ...new Set(design.model.operators.map((operator) => tuningKey(selectionOn(operator, targetOf('sm_86'))))),
    ]);
  });

  it('are a spread over all that there are, the first and the last among them', () => {
    const request = figure8Requests().find((one) => checkpointPlace(one) === 'resnet-50')!;
    const few = planVariants(request, 5, targetOf('sm_90a')).choices;
    const all = planVariants(request, 1000, targetOf('sm_90a')).choices;
    expect(Math.max(...all.map(({ candidates }) => candidates.length))).toBeGreaterThan(8);
    for (const [i, { candidates }] of few.entries()) {
      expect(candidates[0]!.parameters).toEqual(all[i]!.candidates[0]!.parameters);
      expect(candidates.at(-1)!.parameters).toEqual(all[i]!.candidates.at(-1)!.parameters);
      expect(candidates.length).toBe(Math.min(5, all[i]!.candidates.length));
    }
  });

  it('of an operator that has a winner are that one alone', () => {
    const request = parseRequest({ model: 'llama2-tiny', batch: 32, seq: 1, weight: 'int4' });
    const all = planVariants(request, 4).choices;
    const { key, candidates } = all.find((choice) => choice.candidates.length > 1)!;
    const { parameters } = candidates.at(-1)!;
    const winner = { parameters, latencyMs: 1, defaultLatencyMs: 1, candidates: 4 };
    const tuned = {
      schema: 'ladder-tuned/2',
      arch: 'sm_90a',
      gpu: '',
      date: '',
      commit: '',
      seconds: 0,
      operators: { [key]: winner },
    } as const;
    const kept = planVariants(request, 4, undefined, tuned).choices;
    expect(kept.find((choice) => choice.key === key)!.candidates.map((one) => one.parameters)).toEqual([parameters]);
    const others = (choices: typeof all): readonly (readonly [string, number])[] =>
      choices.filter((choice) => choice.key !== key).map((choice) => [choice.key, choice.candidates.length]);
    expect(others(kept)).toEqual(others(all));
  });

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

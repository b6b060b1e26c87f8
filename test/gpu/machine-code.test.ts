// What nvcc says of every kernel of the twelve checkpoints of 4096 tokens, of one of each template, format, batch and target of the 24
// networks, and of all choices that the tuner has for their attention and depthwise convolutions: nothing spilled, no product of a warpgroup serialised (C75xx), none empty, as those of wgmma are where there is none. Needs
// nvcc and the cores of a GPU box; no GPU works here.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { type CheckpointRequest, designCheckpoint, designStored } from '../../lib/compiler/design.js';
import { findNvcc, kernelsFolder } from '../../lib/compiler/emit/compile.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { attentionRows } from '../../lib/compiler/kernels/attention-rows.js';
import { depthwise } from '../../lib/compiler/kernels/depthwise.js';
import type { Family } from '../../lib/compiler/kernels/family.js';
import type { KernelPlan } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, nvccFlags } from '../../lib/compiler/targets.js';
import { models } from '../../lib/models/index.js';
import { packageRoot } from '../../lib/run/package.js';
import { missingForOperators } from './operator-checkpoint.js';

interface Unit {
  readonly name: string;
  readonly source: string;
  readonly target: (typeof buildTargets)[number];
}

const root = join(packageRoot, 'checkpoints', 'Figure8', 'ladder', 'checkpoint');

/** As tuned, one per target and `kindOf`; the last of them. */
async function units(
  requests: readonly CheckpointRequest[],
  kindOf: (plan: KernelPlan, request: CheckpointRequest) => string,
): Promise<readonly Unit[]> {
  const all = new Map<string, Unit>();
  for (const request of requests) {
    const { planned } = await designStored(request, join(root, checkpointPlace(request)), 'sm_90a');
    for (const { operator, plan, alternatives = [] } of planned) {
      const planFor = (id: string): KernelPlan => alternatives.find(({ targets }) => targets.includes(id))?.plan ?? plan;
      for (const target of buildTargets.filter(({ capability }) => capability !== null)) {
        const own = planFor(target.id);
        all.set(`${target.id} ${kindOf(own, request)}`, {
          name: `${checkpointPlace(request)} ${operator.node} ${target.id}`,
          source: textOf(own),
          target,
        });
      }
    }
  }
  return [...all.values()];
}

/** Families of few configurations, which are the tuner's to choose from. */
const kChosen: readonly Family[] = [attentionRows, depthwise];

/** Every configuration of those families, once per target and kernel. */
function choices(requests: readonly CheckpointRequest[]): readonly Unit[] {
  const all = new Map<string, Unit>();
  for (const request of requests) {
    for (const { family, match, node } of designCheckpoint(request, null).model.operators) {
      if (!kChosen.includes(family)) continue;
      for (const target of buildTargets.filter(({ capability }) => capability !== null)) {
        for (const tuning of family.configurations(match, target)) {
          const source = textOf(family.plan(match, 'kernel', tuning, { target, next: null }));
          all.set(`${target.id} ${source}`, {
            name: `${checkpointPlace(request)} ${node} ${JSON.stringify(tuning)} ${target.id}`,
            source,
            target,
          });
        }
      }
    }
  }
  return [...all.values()];
}

const textOf = ({ includes, definitions }: KernelPlan): string =>
  [...includes.map((header) => `#include "${header}"`), definitions].join('\n');

/** Template, formats and batch. */
const kindOf = (plan: KernelPlan, { batch }: CheckpointRequest): string =>
  [batch, ...plan.includes, ...new Set(plan.definitions.match(/Format::\w+/g) ?? [])].join(' ');

/** An empty kernel uses four; the least of the others, fourteen. */
const kLeastRegisters = 8;

/** What is left to mend: tiles of MXFP8 for 128 images spill so many bytes at most. */
const kSpilling = { name: /^resnet-50_fq_0_mxfp_8/, bytes: 176 };

/** Whether nvcc says more of spills than is known. */
function spills(name: string, line: string): boolean {
  const bytes = [...line.matchAll(/(\d+) bytes spill/g)].map(([, count]) => Number(count));
  return Math.max(0, ...bytes) > (kSpilling.name.test(name) ? kSpilling.bytes : 0);
}

/** What nvcc should not say of a unit. */
async function faultsOf(nvcc: string, { name, source, target }: Unit, file: string): Promise<readonly string[]> {
  await writeFile(file, source);
  const { stderr } = await promisify(execFile)(
    nvcc,
    [...nvccFlags, '-cubin', '-Xptxas', '-v', '-gencode', target.gencode, '-I', kernelsFolder, '-o', `${file}.cubin`, file],
    { maxBuffer: 2 ** 26 },
  );
  const registers = [...stderr.matchAll(/Used (\d+) registers/g)].map(([, count]) => Number(count));
  expect(registers.length).toBeGreaterThan(0);
  return [
    ...stderr.split('\n').filter((line) => /C75\d\d/.test(line) || spills(name, line)),
    ...(Math.min(...registers) < kLeastRegisters ? ['an empty kernel'] : []),
  ].map((fault) => `${name}: ${fault.trim()}`);
}

const kSets: readonly (readonly [string, () => Promise<readonly Unit[]>])[] = [
  [
    'checkpoints of 4096 tokens',
    () =>
      units(
        figure8Requests().filter(({ seq }) => seq === 4096),
        textOf,
      ),
  ],
  [
    'networks, sampled',
    () =>
      units(
        figure8Requests().filter(({ model }) => models.get(model).kind === 'network'),
        kindOf,
      ),
  ],
  ['networks, choices of the tuner', async () => choices(figure8Requests().filter(({ model }) => models.get(model).kind === 'network'))],
];

describe('machine code', { timeout: 600_000 }, () => {
  let missing: string | null = null;
  let folder = '';
  beforeAll(async () => {
    missing = await missingForOperators();
    folder = await mkdtemp(join(tmpdir(), 'ladder-machine-code-'));
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

  it.for(kSets)('of %s has no spills, no serialised products and no empty kernels', async ([what, find], { skip }) => {
    if (missing) skip(missing);
    const nvcc = (await findNvcc())!;
    const left = [...(await find()).entries()];
    const said: string[] = [];
    const compile = async (): Promise<void> => {
      for (let next = left.pop(); next; next = left.pop())
        said.push(...(await faultsOf(nvcc, next[1], join(folder, `${what}-${next[0]}.cu`))));
    };
    await Promise.all(Array.from({ length: availableParallelism() }, compile));
    expect(said).toEqual([]);
  });
});

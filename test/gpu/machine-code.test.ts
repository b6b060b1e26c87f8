// What nvcc says of every kernel of the twelve checkpoints of 4096 tokens: nothing spilled, no product of a warpgroup serialised (C75xx),
// for every target. Needs nvcc and the cores of a GPU box; no GPU works here.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { designStored } from '../../lib/compiler/design.js';
import { findNvcc, kernelsFolder } from '../../lib/compiler/emit/compile.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import type { KernelPlan } from '../../lib/compiler/kernels/plan.js';
import { buildTargets, nvccFlags } from '../../lib/compiler/targets.js';
import { packageRoot } from '../../lib/run/package.js';
import { missingForOperators } from './operator-checkpoint.js';

interface Unit {
  readonly name: string;
  readonly source: string;
  readonly target: (typeof buildTargets)[number];
}

const root = join(packageRoot, 'checkpoints', 'Figure8', 'ladder', 'checkpoint');

/** One per target and kernel text, as tuned. */
async function units(): Promise<readonly Unit[]> {
  const all = new Map<string, Unit>();
  for (const request of figure8Requests().filter(({ seq }) => seq === 4096)) {
    const { planned } = await designStored(request, join(root, checkpointPlace(request)), 'sm_90a');
    for (const { operator, plan, alternatives = [] } of planned) {
      const planFor = (id: string): KernelPlan => alternatives.find(({ targets }) => targets.includes(id))?.plan ?? plan;
      for (const target of buildTargets.filter(({ capability }) => capability !== null)) {
        const { includes, definitions } = planFor(target.id);
        const source = [...includes.map((header) => `#include "${header}"`), definitions].join('\n');
        all.set(`${target.id} ${source}`, {
          name: `${request.model} ${request.format.weight} ${operator.node} ${target.id}`,
          source,
          target,
        });
      }
    }
  }
  return [...all.values()];
}

describe('machine code of the checkpoints of 4096 tokens', { timeout: 600_000 }, () => {
  let missing: string | null = null;
  let folder = '';
  beforeAll(async () => {
    missing = await missingForOperators();
    folder = await mkdtemp(join(tmpdir(), 'ladder-machine-code-'));
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

  it('has no spills and no serialised products', async ({ skip }) => {
    if (missing) skip(missing);
    const nvcc = (await findNvcc())!;
    const left = [...(await units()).entries()];
    const said: string[] = [];
    const compile = async (): Promise<void> => {
      for (let next = left.pop(); next; next = left.pop()) {
        const [index, { name, source, target }] = next;
        const file = join(folder, `${index}.cu`);
        await writeFile(file, source);
        const { stderr } = await promisify(execFile)(
          nvcc,
          [...nvccFlags, '-cubin', '-Xptxas', '-v', '-gencode', target.gencode, '-I', kernelsFolder, '-o', `${file}.cubin`, file],
          { maxBuffer: 2 ** 26 },
        );
        const faults = stderr.split('\n').filter((line) => /C75\d\d|[1-9]\d* bytes spill/.test(line));
        expect(stderr).toMatch(/Used \d+ registers/);
        said.push(...faults.map((line) => `${name}: ${line.trim()}`));
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, compile));
    expect(said).toEqual([]);
  });
});

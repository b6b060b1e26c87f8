// bench/sanitize.mjs as far as that needs no GPU: its arguments, the pass that is run under the tool, and how it reads what
// compute-sanitizer writes.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { buildCheckpoint } from '../../lib/compiler/build.js';
import { type CheckpointRequest, designCheckpoint } from '../../lib/compiler/design.js';
import type { Tuning } from '../../lib/compiler/kernels/plan.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { parseRequest, type RequestWords } from '../../lib/compiler/request.js';
import { models } from '../../lib/models/index.js';
// @ts-expect-error plain JavaScript
import { checkpointsOf, judge, kChoices, kDefaults } from '../../bench/sanitize.mjs';

const script = fileURLToPath(new URL('../../bench/sanitize.mjs', import.meta.url));
const empty = mkdtempSync(join(tmpdir(), 'ladder-sanitize-test-'));
afterAll(() => rmSync(empty, { recursive: true, force: true }));

const memcheck = `========= COMPUTE-SANITIZER
llama2-tiny/llama2_bs1_seq1_async on a GPU, seed 1
========= Invalid __global__ read of size 16 bytes
=========     at ladder_dense_layer0_qkv+0x1a0
=========     by thread (3,0,0) in block (7,0,0)
========= 
========= ERROR SUMMARY: 2 errors
`;

describe('the small networks', () => {
  const headersOf = (requests: readonly CheckpointRequest[]): Set<string> =>
    new Set(requests.flatMap((request) => designCheckpoint(request, null).planned.flatMap(({ plan }) => plan.includes)));
  const listed = (option: string): string[] => kDefaults[option].split(',');
  const small = (): readonly CheckpointRequest[] =>
    checkpointsOf({
      formats: listed('formats'),
      models: listed('models').filter((model) => models.get(model).kind === 'network'),
      batches: listed('batches').map(Number),
      networkBatches: listed('network-batches').map(Number),
    }).map(({ words }: { words: RequestWords }) => parseRequest(words));

  it('run every template of kernels that those of Figure 8 run: by default, or by the choices of one of them', () => {
    const networks = figure8Requests().filter(({ model }) => models.get(model).kind === 'network');
    expect(networks).toHaveLength(24);
    const { model, parameters } = kChoices as { model: string; parameters: Record<string, Tuning> };
    // Attention of one recording is part of a chain, that of several has kernels to choose from.
    const operators = small()
      .filter((request) => request.model === model && request.format.weight === 'fp16')
      .flatMap((request) => designCheckpoint(request, null).model.operators);
    const chosen = operators.flatMap(({ family, match }) =>
      family.id in parameters ? family.plan(match, 'f', parameters[family.id]!, { target: layoutTarget, next: null }).includes : [],
    );
    expect(new Set(chosen)).toEqual(new Set(['attention/rows_groups.cuh', 'conv/depthwise_frames.cuh']));
    const run = new Set([...headersOf(small()), ...chosen]);
    expect([...headersOf(networks)].filter((header) => !run.has(header))).toEqual([]);
  });
});

describe('reading the tool', () => {
  const of = (output: string, status: number | null = 0, timedOut = false): Record<string, unknown> =>
    judge({ status, output, timedOut }, 60_000);
  it('a clean run is ok, and only that', () => {
    expect(of('========= COMPUTE-SANITIZER\nverified\n========= ERROR SUMMARY: 0 errors\n')).toEqual({
      status: 'ok',
      reason: null,
      errors: 0,
      lines: [],
    });
    expect(of('========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n')).toMatchObject({
      status: 'ok',
    });
    expect(of('verified\n')).toMatchObject({ status: 'failed', reason: expect.stringContaining('no summary') });
    expect(
      of(
        '========= COMPUTE-SANITIZER\n========= Target application terminated before first instrumented API call\n========= ERROR SUMMARY: 0 errors\n',
      ),
    ).toMatchObject({ status: 'failed', reason: expect.stringContaining('not attached') });
    expect(of('========= ERROR SUMMARY: 0 errors\n', 3)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('does not verify'),
    });
    expect(of('ladder: no device [NO_DEVICE]\n========= ERROR SUMMARY: 0 errors\n', 1)).toMatchObject({
      status: 'failed',
      lines: ['ladder: no device [NO_DEVICE]'],
    });
  });

  it('errors, hazards and time limits fail, with the first lines', () => {
    expect(of(memcheck, 9)).toEqual({
      status: 'failed',
      reason: '2 error(s)',
      errors: 2,
      lines: ['Invalid __global__ read of size 16 bytes', 'at ladder_dense_layer0_qkv+0x1a0', 'by thread (3,0,0) in block (7,0,0)'],
    });
    expect(of(memcheck, 0)).toMatchObject({ status: 'failed' });
    expect(
      of(
        '========= Warning: Race reported between Write access and Read access\n========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n',
      ),
    ).toMatchObject({ status: 'failed', errors: 1 });
    expect(of('========= COMPUTE-SANITIZER\n', null, true)).toMatchObject({ status: 'failed', reason: 'took longer than 60 s' });
  });
});

describe('the command line', () => {
  const ran = (...args: string[]): { status: number | null; stderr: string } =>
    spawnSync(process.execPath, [script, ...args], {
      encoding: 'utf8',
      env: { ...process.env, PATH: empty, CUDA_HOME: empty, CUDA_PATH: empty },
    });
  it.each([
    [['--tools', 'lint'], /--tools but received "lint"/],
    [['--formats', ''], /--formats/],
    [['--batches', '0'], /--batches/],
    [['--total-s', 'long'], /--total-s/],
    [['--fast'], /--fast/],
  ])('%j is status 2', (args, message) => {
    const { status, stderr } = ran(...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  it('--pass runs a checkpoint once, and says why it could not', async () => {
    const { folder } = await buildCheckpoint(parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'int4' }), {
      root: empty,
      compile: false,
    });
    expect(ran('--pass', folder, '--device', 'cpu')).toMatchObject({ status: 0, stderr: '' });
    writeFileSync(join(folder, 'graph.json'), '{}');
    const { status, stderr } = ran('--pass', folder, '--device', 'cpu');
    expect([status, stderr]).toEqual([1, expect.stringMatching(/^sanitize: .*\[BAD_GRAPH\]\n$/)]);
  });
});

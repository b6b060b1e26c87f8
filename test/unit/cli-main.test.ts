// The command line in-process: exit statuses, where output goes, the authors' way of calling, and what tables say.
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { readParams } from '../../lib/artifact/params.js';
import { parseLadder } from '../../lib/baselines/systems/ladder.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { makeIo } from '../../lib/cli/io.js';
import { rewriteAuthorsCall, runCli } from '../../lib/cli/main.js';
import { renderAuthors } from '../../lib/cli/run.js';
import { formatBytes, formatMs, formatRate, renderTable, shorten } from '../../lib/table.js';
import { native } from '../../lib/native.js';
import type { ProfileReport } from '../../lib/run/profile.js';
import type { RunResult } from '../../lib/run/run-prebuilt.js';
import { summarisePaper } from '../../lib/run/statistics.js';
import { ladderHere } from '../fixtures/cli.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-cli-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const [tiny] = await buildCheckpoints([parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'int4' })], { root, compile: false });
const folder = tiny!.folder;

const ladder = ladderHere;

describe('--force-ptx', () => {
  it.each(['run', 'verify', 'profile', 'params'])('of %s tells the driver before it starts; on the CPU it is an error', async (command) => {
    vi.stubEnv('CUDA_FORCE_PTX_JIT', undefined);
    const rest = command === 'params' ? ['--output', join(root, 'never')] : [];
    const { status, out, err } = await ladder(command, folder, '--device', 'cpu', '--force-ptx', ...rest);
    expect([status, out, err]).toEqual([1, '', expect.stringMatching(/--force-ptx but the CPU is used.*\[UNSUPPORTED\]\n$/)]);
    expect(process.env['CUDA_FORCE_PTX_JIT']).toBe('1');
    vi.unstubAllEnvs();
  });
});

describe('usage', () => {
  it('help goes to stdout with status 0 and names every command', async () => {
    const { status, out } = await ladder('--help');
    expect(status).toBe(0);
    for (const command of [
      'list',
      'inspect',
      'run',
      'profile',
      'verify',
      'params',
      'bench',
      'baselines',
      'compare',
      'plot',
      'build',
      'tune',
      'doctor',
    ])
      expect(out).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
    expect(out).not.toContain('bench-case');
  });

  it('params writes the weights of a run', async () => {
    const file = join(root, 'written.params');
    const { status, out } = await ladder('params', folder, '--device', 'cpu', '--seed', '3', '--output', file, '--inputs');
    expect({ status, out }).toEqual({ status: 0, out: expect.stringMatching(/written\.params: \d+ tensors, .*weights: seeded/) });
    expect(readParams(file).map(({ name }) => name)).toContain('x');
    expect(await ladder('params', folder, '--device', 'cpu', '--output', root)).toMatchObject({
      status: 1,
      err: expect.stringContaining('IO'),
    });
  });

  it('prints its version', async () => {
    expect((await ladder('--version')).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([
    ['an unknown command', ['fly'], /unknown command 'fly'/],
    ['an unknown option', ['list', '--fast'], /unknown option '--fast'/],
    ['no checkpoint', ['run'], /expected one checkpoint/],
    ['two checkpoints', ['run', 'a', '--prebuilt_path', 'b'], /expected one checkpoint/],
    ['a bad number', ['profile', folder, '--samples', 'many'], /expected a whole number but received "many"/],
    ['a bad device', ['run', folder, '--device', 'tpu'], /for `device` but received "tpu"/],
  ])('%s is status 2, on stderr alone', async (_, args, message) => {
    const { status, out, err } = await ladder(...args);
    expect(err).toMatch(message);
    expect([status, out]).toEqual([2, '']);
  });

  const absent = join(tmpdir(), 'ladder-no-such-checkpoint');
  it.each<[string, string[], RegExp]>([
    ['a seed', ['run', absent, '--seed', '-1'], /option '--seed <n>' argument '-1' is invalid\. expected a whole number but received "-1"/],
    ['milliseconds', ['run', absent, '--max-ms', '1s'], /option '--max-ms <ms>' argument '1s' is invalid\. expected milliseconds/],
    ['candidates', ['tune', absent, '--candidates', 'all'], /option '--candidates <n>' argument 'all' is invalid/],
    ['a group', ['build', 'llama2-tiny', '--group', 'x'], /option '--group <n>' argument 'x' is invalid/],
    ['a system', ['baselines', absent, '--system', 'dos'], /expected one of AMOS, TensorIR.* for --system but received "dos"/],
    ['a mode', ['run', absent, '--mode', 'fast'], /expected 'samples' or 'paper' for `mode` but received "fast"/],
    ['a device', ['run', absent, '--device', 'gpu'], /for `device` but received "gpu"/],
    [
      'a case’s time',
      ['bench', absent, '--case-timeout', '0'],
      /option '--case-timeout <s>' argument '0' is invalid\. expected at least 1/,
    ],
    [
      'what to measure',
      ['bench', absent, '--checkpoints', absent, '--device', 'cpu'],
      /expected checkpoints or --checkpoints but received both/,
    ],
    ['a launch', ['bench', absent, '--device', 'cpu', '--launch', 'graphs'], /for `launch` but received "graphs"/],
    ['no samples', ['run', absent, '--device', 'cpu', '--min-samples', '0'], /for `minSamples` but received 0/],
    [
      'fewer at most than at least',
      ['run', absent, '--device', 'cpu', '--min-samples', '9', '--max-samples', '3'],
      /at least 9, `minSamples`, for `maxSamples` but received 3/,
    ],
    ['an extent', ['verify', absent, '--device', 'cpu', '--end-to-end', 'some'], /expected 'auto', 'full' or 'off' for `endToEnd`/],
    ['samples of a profile', ['profile', absent, '--device', 'cpu', '--samples', '0'], /for `samples` but received 0/],
    [
      'the paper’s rule with samples',
      ['run', absent, '--device', 'cpu', '--mode', 'paper', '--min-samples', '5'],
      /expected no `minSamples` in mode 'paper': it is an option of mode 'samples'/,
    ],
    [
      'samples with the paper’s rule',
      ['run', absent, '--device', 'cpu', '--repeat', '3'],
      /expected no `repeat` in mode 'samples': it is an option of mode 'paper'/,
    ],
    [
      'the authors’ call with samples',
      ['--prebuilt_path', absent, '--device', 'cpu', '--recovery-ms', '0'],
      /expected no `recoveryMs` in mode 'paper'/,
    ],
    [
      'a bench with both',
      ['bench', absent, '--device', 'cpu', '--mode', 'paper', '--warmup-ms', '5'],
      /expected no `warmupMs` in mode 'paper'/,
    ],
    [
      'a cold cache by the paper’s rule',
      ['run', absent, '--device', 'cpu', '--mode', 'paper', '--l2', 'cold'],
      /expected 'hot' for `l2` in mode 'paper'/,
    ],
  ])('%s is refused before the checkpoint is looked for', async (_, args, message) => {
    expect(await ladder(...args)).toMatchObject({ status: 2, out: '', err: expect.stringMatching(message) as string });
  });

  it('what the device lacks is refused before the checkpoint is looked for, too', async () => {
    expect(await ladder('run', absent, '--device', 'cpu', '--launch', 'graph')).toMatchObject({
      status: 1,
      err: expect.stringMatching(/the CPU has no CUDA graphs.*\[UNSUPPORTED\]/) as string,
    });
  });

  it('an unknown option or command is answered with those that there are', async () => {
    const { status, err } = await ladder('run', folder, '--minsamples', '3');
    expect([status, err]).toEqual([2, expect.stringMatching(/unknown option '--minsamples'/)]);
    for (const name of ['--min-samples', '--device', '--save', '--prebuilt_path', '--no-build']) expect(err).toContain(name);
    const unknown = (await ladder('lits')).err;
    expect(unknown).toMatch(/unknown command 'lits'/);
    for (const name of ['list', 'inspect', 'bench', 'doctor']) expect(unknown).toContain(name);
    expect(unknown).not.toContain('bench-case');
    const json = await ladder('run', folder, '--minsamples', '3', '--json');
    expect([json.status, JSON.parse(json.out)]).toEqual([
      2,
      { error: { code: 'BAD_ARGUMENT', message: expect.stringMatching(/^unknown option '--minsamples'/) as string, context: {} } },
    ]);
  });

  it('baselines of an empty folder have one status in both forms', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'ladder-empty-'));
    const message = /holds no logs/;
    expect(await ladder('baselines', empty)).toMatchObject({ status: 2, out: '', err: expect.stringMatching(message) as string });
    expect(await ladder('baselines', empty, '--json')).toMatchObject({ status: 2, out: expect.stringMatching(message) as string });
    await rm(empty, { recursive: true });
  });

  it('an error is status 1, and JSON on request', async () => {
    const missing = await ladder('inspect', join(root, 'nothing'));
    expect(missing.status).toBe(1);
    expect(missing.err).toMatch(/\[NOT_A_CHECKPOINT\]/);
    const json = await ladder('inspect', join(root, 'nothing'), '--json');
    expect(JSON.parse(json.out)).toMatchObject({ error: { code: 'NOT_A_CHECKPOINT' } });
    const tuned = await ladder('tune', join(root, 'nothing'));
    expect([tuned.status, tuned.err]).toEqual([1, expect.stringMatching(/does not exist.*\[NOT_A_CHECKPOINT\]/s)]);
  });

  it.skipIf(native().cudaStatus().available)('tuning says that it needs a GPU', async () => {
    const { status, err } = await ladder('tune', folder);
    expect(status).toBe(1);
    expect(err).toMatch(/tuning needs a GPU.*\[NO_DRIVER\]/);
  });

  it('an aborted command is status 130', async () => {
    const status = await runCli(
      ['run', folder, '--device', 'cpu'],
      { write: () => undefined },
      { write: () => undefined },
      AbortSignal.abort(),
    );
    expect(status).toBe(130);
  });
});

describe('without a GPU and without loading anything', () => {
  it('lists checkpoints of a folder', async () => {
    const { status, out } = await ladder('list', root);
    expect(status).toBe(0);
    expect(out).toMatch(/llama2-tiny\/\S+ +bs1_seq1 +W_INT4 A_FP16 .* built on first use +seeded/);
    const [listed] = JSON.parse((await ladder('list', root, '--json')).out);
    expect(listed).toMatchObject({ model: 'llama2-tiny', described: true, hasModule: false, path: folder });
  });

  it('lists a checkpoint that is broken beside the others, and says what is wrong with it', async () => {
    const broken = await mkdtemp(join(tmpdir(), 'ladder-broken-'));
    try {
      await cp(root, broken, { recursive: true });
      await cp(folder, join(broken, 'llama2-tiny', 'cut'), { recursive: true });
      await writeFile(join(broken, 'llama2-tiny', 'cut', 'checkpoint.json'), '{"sch');
      const { status, out, err } = await ladder('list', broken);
      expect(status).toBe(0);
      expect(out).toMatch(/llama2-tiny\/llama2\S+ +bs1_seq1 +W_INT4 A_FP16 .* seeded/);
      expect(out).toMatch(/^llama2-tiny\/cut .* unreadable$/m);
      expect(err).toMatch(/^llama2-tiny\/cut: checkpoint\.json is not JSON/m);
    } finally {
      await rm(broken, { recursive: true });
    }
  });

  it('inspects, by argument or --prebuilt_path', async () => {
    const { status, out } = await ladder('inspect', folder);
    expect(status).toBe(0);
    expect(out).toMatch(/W_INT4 A_FP16, batch 1, 1 token, 1 layer/);
    expect(out).toMatch(/layer0_attention +attention +attention +float16\[/);
    expect(out).toMatch(/layer0_qkv +norm, dense +matmul\/vector +float16\[/);
    expect((await ladder('inspect', '--prebuilt_path', folder)).out).toBe(out);
    expect(JSON.parse((await ladder('inspect', folder, '--json')).out)).toMatchObject({ problems: [] });
  });

  it('a checkpoint with problems is status 1 and says them', async () => {
    const broken = join(root, 'broken', 'one');
    await mkdir(broken, { recursive: true });
    await writeFile(join(broken, 'graph.json'), '{}');
    const { status, out } = await ladder('inspect', broken);
    expect([status, /PROBLEM BAD_GRAPH: /.test(out)]).toEqual([1, true]);
  });
});

describe("the authors' way of calling", () => {
  it("is run by the paper's rule", () => {
    expect(rewriteAuthorsCall(['--prebuilt_path', 'p'])).toEqual(['run', '--authors', '--prebuilt_path', 'p']);
    expect(rewriteAuthorsCall(['--prebuilt_path=p', '--json'])).toEqual(['run', '--authors', '--prebuilt_path=p', '--json']);
    for (const args of [['run', '--prebuilt_path', 'p'], ['--help'], []]) expect(rewriteAuthorsCall(args)).toEqual(args);
  });

  it('prints what the parser of their logs reads', async () => {
    const operator = (node: string, medianMs: number, shapes: number[][]): ProfileReport['operators'][number] => ({
      node,
      shapes,
      inputs: 2,
      outputs: shapes.length,
      medianMs,
      minMs: medianMs,
      share: medianMs / 0.04,
      roofline: null,
    });
    const profile = {
      operators: [operator('a', 0.03, [[1, 8192]]), operator('b', 0.01, [[1], [1, 64, 128]])],
      samples: 1,
      totalMs: 0.04,
    } as unknown as ProfileReport;
    const result = { paper: summarisePaper([0.157, 0.158, 0.157, 0.1575, 0.1572], [3000, 3000, 3000, 3000, 3000]) } as RunResult;
    const parsed = await parseLadder([`${renderAuthors('/some/checkpoint', result, profile)}\n`], 'ours');
    expect(parsed).toMatchObject({
      checkpointPath: '/some/checkpoint',
      meanMs: 0.1573,
      minMs: 0.157,
      maxMs: 0.158,
      medianMs: 0.1572,
      complete: true,
    });
    expect(parsed.operators.map(({ name, microseconds, outputs, inputCount }) => [name, microseconds, outputs, inputCount])).toEqual([
      ['a', 30, [[1, 8192]], 2],
      ['b', 10, [[1], [1, 64, 128]], 2],
    ]);
  });
});

describe('io', () => {
  const io = (isTTY: boolean): { io: ReturnType<typeof makeIo>; text: () => string } => {
    let text = '';
    return {
      io: makeIo(
        { write: () => undefined },
        {
          write: (chunk: string) => {
            text += chunk;
          },
          isTTY,
          columns: 40,
        },
        new AbortController().signal,
      ),
      text: () => text,
    };
  };

  it('prints each label once where stderr is no terminal', () => {
    const { io: plain, text } = io(false);
    for (const fraction of [0, 0.5, 1]) plain.progress('measuring', fraction);
    plain.progress('verifying', null);
    expect(text()).toBe('measuring…\nverifying…\n');
  });

  it('rewrites one line on a terminal and clears it', () => {
    const { io: terminal, text } = io(true);
    terminal.progress('a label that is much longer than the forty columns there are', 0.25);
    terminal.endProgress();
    const line = text().split('\r\x1b[K')[1]!;
    expect(line).toBe('a label that is m…olumns there are 25 %');
    expect(text().endsWith('\r\x1b[K')).toBe(true);
  });
});

describe('tables', () => {
  it('keep a message of several lines in one cell', () => {
    expect(
      renderTable([{ title: 'what' }, { title: 'found', maxWidth: 12 }], [['addon', 'one\n  two\r\nthree four five']]).split('\n')[2],
    ).toMatch(/^addon {2}one tw… five$/);
  });

  it('align, shorten in the middle, and fill short rows', () => {
    expect(
      renderTable(
        [
          { title: 'name', maxWidth: 5 },
          { title: 'n', align: 'right' },
        ],
        [['abcdefgh', '1'], ['x', '23'], ['y']],
      ),
    ).toBe('name    n\n─────  ──\nab…gh   1\nx      23\ny');
    expect(shorten('abc', 3)).toBe('abc');
  });

  it('format with units', () => {
    expect([formatMs(0.58512), formatMs(12345.6), formatMs(null), formatMs(0)]).toEqual(['0.5851', '12346', '—', '0']);
    expect([formatBytes(512), formatBytes(1.7e9)]).toEqual(['512 B', '1.58 GiB']);
    expect(formatRate(3.1e12, 'B/s')).toBe('3.10 TB/s');
  });
});

describe('verify', () => {
  it('takes several checkpoints, and one that cannot be read costs the others nothing', async () => {
    const { status, out, err } = await ladder(
      'verify',
      folder,
      join(root, 'nothing', 'here'),
      folder,
      '--device',
      'cpu',
      '--end-to-end',
      'off',
    );
    expect(out.match(/^verified$/gm)).toHaveLength(2);
    expect(err).toMatch(/\n2 of 3 checkpoints verified\nnothing\/here: .*\[NOT_A_CHECKPOINT\]\n$/);
    expect(status).toBe(1);
    const json = await ladder('verify', folder, folder, '--device', 'cpu', '--end-to-end', 'off', '--json');
    expect([
      json.status,
      json.out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).passed),
    ]).toEqual([0, [true, true]]);
  });
});

// `ladder` as a process: the bench survives SIGKILL and crashes, resumes, and aborts in order; exit statuses of real runs. What a process
// of its own adds nothing to runs in this one; a bench's cases have theirs all the same.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { packWeights } from '../../lib/index.js';
import { sealRecord } from '../../lib/run/bench-content.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { ladderHere } from '../fixtures/cli.js';
import { isRunning } from '../fixtures/processes.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const root = await mkdtemp(join(tmpdir(), 'ladder-bench-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const checkpoints = join(root, 'checkpoints');
const weights = ['fp16', 'int4', 'nf4', 'int1'];
const built = await buildCheckpoints(
  weights.map((weight) => parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight })),
  { root: checkpoints, compile: false },
);

// A commit of its own, so that a commit made while the tests run does not make records stale.
const env = { ...process.env, LADDER_COMMIT: 'test' };
const timing = ['--device', 'cpu', '--min-samples', '2', '--max-samples', '2', '--warmup-ms', '0'];
const quick = ['--no-figures', ...timing];

// Many processes on what may be a busy machine.
vi.setConfig({ testTimeout: 240_000 });

interface Said {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** The command line in this process. */
function here(...args: string[]): Promise<Said> {
  vi.stubEnv('LADDER_COMMIT', env.LADDER_COMMIT);
  return ladderHere(...args);
}
afterEach(() => vi.unstubAllEnvs());

/** In a process of its own. */
async function ladder(...args: string[]): Promise<Said> {
  const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const { status } = await ended(child);
  return { status, out, err };
}

function recordFiles(results: string): string[] {
  return existsSync(results)
    ? (readdirSync(results, { recursive: true }) as string[])
        .filter((name) => name.endsWith('.json'))
        .map((name) => join(results, name))
        .sort()
    : [];
}

function readRecords(results: string): BenchRecord[] {
  return recordFiles(results).map((path) => parseRecord(readFileSync(path, 'utf8'), path));
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 50_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function ended(child: ChildProcess): Promise<{ status: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => child.on('close', (status, signal) => resolve({ status, signal })));
}

/** The cases that run below `pid`, by /proc: a child that is not yet its own program cannot be told to have started. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => {
      try {
        return (
          Number(readFileSync(`/proc/${candidate}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]) === pid &&
          readFileSync(`/proc/${candidate}/cmdline`, 'utf8').includes('bench-case')
        );
      } catch {
        return false;
      }
    });
}

describe('ladder bench', () => {
  it('measures every checkpoint of a folder, writes records, and prints device, clock and mode', async () => {
    const results = join(root, 'all');
    const { status, out, err } = await ladder('bench', '--checkpoints', checkpoints, '--results', results, ...quick);
    expect([status, err]).toEqual([0, expect.stringMatching(/no GPU is used/)]);
    expect(out).toMatch(/^device {2}\S/m);
    expect(out).toMatch(/^clock {3}host clock of the CPU: no GPU was used/m);
    expect(out).toMatch(/^mode {4}samples: latency is the median/m);
    for (const format of ['W_FP16 A_FP16', 'W_INT4 A_FP16', 'W_NF4 A_FP16', 'W_INT1 A_INT8'])
      expect(out).toMatch(new RegExp(`${format} .*\\bok$`, 'm'));
    const records = readRecords(results);
    expect(records).toHaveLength(4);
    for (const record of records)
      expect(record).toMatchObject({ status: 'ok', clock: 'cpu-host', commit: 'test', samples: { count: 2 }, device: { kind: 'cpu' } });

    const again = await here('bench', '--checkpoints', checkpoints, '--results', results, ...quick);
    expect(again.out.match(/ok \(earlier\)$/gm)).toHaveLength(4);
    const dates = readRecords(results).map(({ date }) => date);
    expect(dates).toEqual(records.map(({ date }) => date));
    await here('bench', '--checkpoints', checkpoints, '--results', results, ...quick, '--fresh');
    expect(
      readRecords(results)
        .map(({ date }) => date)
        .filter((date) => dates.includes(date)),
    ).toEqual([]);
  });

  it('a checkpoint whose files cannot be read is a failed record, and the rest is measured', async () => {
    const mixed = join(root, 'mixed');
    for (const name of ['a', 'b', 'c']) cpSync(built[0]!.folder, join(mixed, name), { recursive: true });
    rmSync(join(mixed, 'b', 'checkpoint.json'));
    spawnSync('mkfifo', [join(mixed, 'b', 'checkpoint.json')]);
    const { status, out } = await here('bench', '--checkpoints', mixed, '--results', join(root, 'of-mixed'), ...quick);
    expect(status).toBe(1);
    for (const name of ['a', 'c']) expect(out).toMatch(new RegExp(`^mixed/${name} .*\\bok$`, 'm'));
    expect(out).toMatch(/^mixed\/b: failed: IO: .*checkpoint\.json is no regular file/m);
  });

  it('shards share the cases out, at once and in one folder', async () => {
    const results = join(root, 'shards');
    const shard = (part: string): string[] => [
      ...['bench', '--checkpoints', checkpoints, '--results', results, '--shard', part, '--json'],
      ...quick,
    ];
    const parts = await Promise.all(['1/2', '2/2'].map((part) => ladder(...shard(part))));
    expect(parts.map(({ status }) => status)).toEqual([0, 0]);
    const names = parts.map(({ out }) => (JSON.parse(out) as BenchRecord[]).map(({ checkpoint }) => checkpoint));
    expect(names.map(({ length }) => length)).toEqual([2, 2]);
    expect(names.flat().sort()).toEqual(built.map(({ folder }) => basename(folder)).sort());
    expect(readRecords(results)).toHaveLength(4);
    for (const wrong of ['0/2', '3/2', '1', 'a/b'])
      expect(await here(...shard(wrong))).toMatchObject({ status: 2, err: expect.stringContaining('expected i/n') as string });
  });

  it('takes more samples than its cases ask for, and the paper’s rule instead', async () => {
    const results = join(root, 'asked');
    const bench = (...more: string[]): Promise<Said> =>
      here('bench', built[0]!.folder, '--results', results, '--device', 'cpu', '--no-figures', ...more);
    expect((await bench('--min-samples', '30')).status).toBe(0);
    expect(readRecords(results)).toMatchObject([{ samples: { count: 30 } }]);
    expect((await bench('--mode', 'paper', '--min-repeat-ms', '1', '--fresh')).status).toBe(0);
    expect(readRecords(results).find(({ mode }) => mode === 'paper')).toMatchObject({ paper: { valuesMs: { length: 5 } } });
  });

  it('takes over what was measured by content, not by dates, and says what is another', async () => {
    const folder = join(root, 'resumed', 'llama2-tiny', basename(built[0]!.folder));
    mkdirSync(join(root, 'resumed', 'llama2-tiny'), { recursive: true });
    cpSync(built[0]!.folder, folder, { recursive: true });
    await packWeights(folder, (_, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.25));
    const results = join(root, 'resumed-results');
    const again = async (...more: string[]): Promise<string> => {
      const { status, out, err } = await here('bench', folder, '--results', results, ...quick, ...more);
      expect(status).toBe(0);
      return /ok \(earlier\)$/m.test(out) ? 'earlier' : (/ is measured again: (.*)$/m.exec(err)?.[1] ?? 'measured');
    };
    const [params, graph, record] = [join(folder, 'graph.params'), join(folder, 'graph.json'), () => recordFiles(results)[0]!];
    const edit = (path: string, change: (text: string) => string): void => {
      const { mtime } = statSync(path);
      writeFileSync(path, change(readFileSync(path, 'latin1')), 'latin1');
      // As of a copy or an archive: the date is the old one.
      utimesSync(path, mtime, mtime);
    };
    expect(await again()).toBe('measured');
    // New dates, old contents.
    for (const path of [params, graph, join(folder, 'checkpoint.json')]) utimesSync(path, new Date(), new Date());
    expect(await again()).toBe('earlier');
    edit(params, (text) => `${text.slice(0, -2)}\x11${text.slice(-1)}`);
    expect(await again()).toBe('its record is of another graph.params');
    expect(await again()).toBe('earlier');
    edit(graph, (text) => `${text} `);
    expect(await again()).toBe('its record is of another graph.json');
    edit(record(), (text) => text.replace(/"latencyMs":[\d.]+/, '"latencyMs":0.001'));
    expect(await again()).toBe('its record was changed after it was written');
    edit(record(), (text) => JSON.stringify(JSON.parse(text), null, 2));
    expect(await again()).toBe('earlier');
    edit(record(), (text) => text.slice(0, 100));
    expect(await again()).toMatch(/is not JSON/);
    // A record of another machine, or of an earlier version, in its place.
    edit(record(), (text) => {
      const { content, sha256: _, ...rest } = JSON.parse(text) as BenchRecord;
      return JSON.stringify(sealRecord(rest, { ...content, device: 'a'.repeat(64), driver: '1.0' }));
    });
    expect(await again()).toBe('its record is of another device, driver');
    edit(record(), (text) => {
      const { content: _, sha256: __, ...rest } = JSON.parse(text) as BenchRecord;
      return JSON.stringify(rest);
    });
    expect(await again()).toBe('its record does not say what was measured');
    expect(await again()).toBe('earlier');
  });

  it('a checkpoint that is written while it is measured is invalid', async () => {
    const folder = join(root, 'rewritten', 'llama2-tiny', basename(built[0]!.folder));
    mkdirSync(join(root, 'rewritten', 'llama2-tiny'), { recursive: true });
    cpSync(built[0]!.folder, folder, { recursive: true });
    const results = join(root, 'rewritten-results');
    const slow = ['--device', 'cpu', '--no-figures', '--min-samples', '2', '--max-samples', '100000', '--max-ms', '1000'];
    const child = spawn(process.execPath, [cli, 'bench', folder, '--results', results, ...slow], { env, stdio: 'ignore' });
    await until(() => childrenOf(child.pid!).length > 0, 'a case that runs');
    writeFileSync(join(folder, 'checkpoint.json'), `${readFileSync(join(folder, 'checkpoint.json'), 'utf8')} `);
    expect(await ended(child)).toEqual({ status: 0, signal: null });
    expect(readRecords(results)).toMatchObject([{ status: 'invalid', reason: 'checkpoint.json changed while it was measured' }]);
  });

  it('killed by SIGKILL at any moment it loses nothing, leaves no process, and completes the rest', async () => {
    const results = join(root, 'killed');
    const bench = ['bench', '--checkpoints', checkpoints, '--results', results, '--device', 'cpu', '--no-figures', '--warmup-ms', '0'];
    const args = [...bench, '--min-samples', '2', '--max-samples', '200', '--max-ms', '50'];
    // Its case does not end by itself while anybody waits.
    const forever = [...bench, '--min-samples', '100000', '--max-samples', '100000'];
    // Killed once while the first case runs, and once after each record that appears.
    for (const records of [0, 1, 2]) {
      const child = spawn(process.execPath, [cli, ...(records === 0 ? forever : args)], { env, stdio: 'ignore' });
      await until(
        () => recordFiles(results).length >= records && childrenOf(child.pid!).length > 0,
        `record ${records} and a case that runs`,
      );
      const below = childrenOf(child.pid!);
      const kept = recordFiles(results).map((path) => [path, readFileSync(path, 'utf8')] as const);
      child.kill('SIGKILL');
      expect((await ended(child)).signal).toBe('SIGKILL');
      await until(() => below.every((pid) => !isRunning(pid)), 'the case to end with its bench');
      for (const [path, text] of kept) expect(readFileSync(path, 'utf8')).toBe(text);
      // Whatever is there is whole.
      readRecords(results);
    }
    const before = new Map(recordFiles(results).map((path) => [path, statSync(path).mtimeMs]));
    expect(before.size).toBeGreaterThanOrEqual(2);
    // Left over by a process that is gone; and by one that lives, which is still writing.
    const gone = spawnSync('true').pid;
    const living = `living.json.${process.pid}.0123abcd.partial`;
    for (const name of [`left-over.json.${gone}.0123abcd.partial`, living]) writeFileSync(join(root, 'killed', name), '{');
    const { status, out } = await ladder(...args);
    expect(status).toBe(0);
    expect(readRecords(results)).toHaveLength(4);
    expect(out.match(/ok \(earlier\)$/gm)).toHaveLength(before.size);
    for (const [path, mtime] of before) expect(statSync(path).mtimeMs).toBe(mtime);
    expect((readdirSync(results, { recursive: true }) as string[]).filter((name) => name.endsWith('.partial'))).toEqual([living]);
  });

  it('aborted by SIGINT it keeps what it has and exits 130', async () => {
    const results = join(root, 'aborted');
    const child = spawn(
      process.execPath,
      [
        cli,
        'bench',
        '--checkpoints',
        checkpoints,
        '--results',
        results,
        '--device',
        'cpu',
        '--no-figures',
        '--min-samples',
        '100000',
        '--max-samples',
        '100000',
      ],
      { env, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    await until(() => childrenOf(child.pid!).length > 0, 'a case that runs');
    child.kill('SIGINT');
    expect(await ended(child)).toEqual({ status: 130, signal: null });
    expect(err).toMatch(/ladder: aborted/);
    expect(recordFiles(results)).toEqual([]);
  });

  it('a case that crashes or takes too long is a failed record, and the rest is measured', async () => {
    const results = join(root, 'crashed');
    const child = spawn(
      process.execPath,
      [
        cli,
        'bench',
        built[0]!.folder,
        built[1]!.folder,
        '--results',
        results,
        '--device',
        'cpu',
        '--no-figures',
        '--min-samples',
        '100000',
        '--max-samples',
        '100000',
        '--case-timeout',
        '1',
      ],
      { env, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    await until(() => childrenOf(child.pid!).length > 0, 'a case that runs');
    process.kill(childrenOf(child.pid!)[0]!, 'SIGSEGV');
    expect((await ended(child)).status).toBe(1);
    const records = readRecords(results);
    expect(records.map(({ status, latencyMs }) => [status, latencyMs])).toEqual([
      ['failed', null],
      ['failed', null],
    ]);
    expect(out).toMatch(/failed: INTERNAL: the measuring process was ended by SIGSEGV/);
    expect(out).toMatch(/failed: INTERNAL: the measuring process took longer than 1 s/);
  });

  it.each([['--force_tune'], ['--force-tune']])(
    '%s with --reproduce says what is missing of every system that was asked for',
    async (flag) => {
      const results = join(root, `reproduced${flag}`);
      vi.stubEnv('LADDER_PYTHON', join(root, 'no-python'));
      for (const name of ['LADDER_AMOS_HOME', 'LADDER_TENSORIR_HOME']) vi.stubEnv(name, '');
      const { status, out } = await here(
        'bench',
        built[0]!.folder,
        '--results',
        results,
        ...quick,
        '--reproduce',
        flag,
        '--reproduce-systems',
        'pytorch-eager,amos,tensorir,cublaslt',
      );
      expect(status).toBe(0);
      expect(out).toMatch(/^pytorch-eager: not run: no \S*no-python on the PATH/m);
      expect(out).toMatch(/^amos: not run: LADDER_AMOS_HOME is not set; .*3852 min \(2\.7 days\)/m);
      expect(out).toMatch(/^tensorir: not run: LADDER_TENSORIR_HOME is not set/m);
      expect(out).toMatch(/^cublaslt: not run: it multiplies on a GPU/m);
      expect(out).not.toMatch(/^(pytorch-inductor|tensorrt|onnxruntime): /m);
      const alone = await here('bench', built[0]!.folder, '--results', results, ...quick, flag);
      expect(alone.out.match(/^\S+: not run: /gm)).toEqual(['amos: not run: ', 'tensorir: not run: ']);
    },
  );

  it.each([
    [
      '--reproduce-systems',
      'pytorch-eager,dos',
      /expected some of pytorch-eager, pytorch-inductor, onnxruntime, tensorrt, pytorch-fp8, pytorch-int4, vendor-fp16, vendor-fp8, vendor-fp8-fast, vendor-int8, cublaslt for --reproduce-systems but received "dos"/,
    ],
    ['--reproduce-systems', 'amos', /received "amos"/],
    [
      '--reproduce-settings',
      'bs1_seq1,bs2',
      /expected some of bs1_seq1, bs32_seq1, bs1_seq4096, bs1, bs128 for --reproduce-settings but received "bs2"/,
    ],
  ])('%s %s is refused before anything is measured', async (option, list, message) => {
    const results = join(root, 'refused');
    expect(await here('bench', built[0]!.folder, '--results', results, ...quick, '--reproduce', option, list)).toMatchObject({
      status: 2,
      out: '',
      err: expect.stringMatching(message),
    });
    expect(await here('bench', built[0]!.folder, '--results', results, ...quick, option, list)).toMatchObject({
      status: 2,
      err: expect.stringMatching(/add --reproduce/),
    });
    expect(recordFiles(results)).toEqual([]);
  });

  it('a checkpoint that cannot be loaded is a failed record with the code', async () => {
    const folder = join(root, 'broken', 'model', 'one');
    spawnSync('cp', ['-r', built[0]!.folder, folder.replace(/\/one$/, '')]);
    spawnSync('mkdir', ['-p', folder]);
    writeFileSync(join(folder, 'graph.json'), '{"nodes": 1}');
    const results = join(root, 'broken-results');
    const { status, out } = await here('bench', folder, '--results', results, ...quick);
    expect([status, readRecords(results)[0]!.reason]).toEqual([1, expect.stringMatching(/^BAD_GRAPH: /)]);
    expect(out).toMatch(/failed: BAD_GRAPH/);
  });
});

describe('other commands as processes', () => {
  const folder = built[1]!.folder;

  it('run prints the result, and --json the record', async () => {
    const { status, out } = await ladder('run', folder, ...timing);
    expect(status).toBe(0);
    expect(out).toMatch(/W_INT4 A_FP16, 5 operators, seeded weights/);
    expect(out).toMatch(/reference operators on the CPU, host clock/);
    expect(parseRecord((await here('run', folder, ...timing, '--json')).out, 'stdout')).toMatchObject({
      status: 'ok',
      format: 'W_INT4 A_FP16',
    });
  });

  it("--prebuilt_path alone prints the authors' summary and operators", async () => {
    const { status, out } = await here('--prebuilt_path', folder, '--device', 'cpu', '--min-repeat-ms', '5');
    expect(status).toBe(0);
    expect(out).toMatch(/^Running from prebuilt model: .*\nExecution time summary:\n +mean \(ms\)/);
    expect(out.match(/^Op #\d \S+:\nIteration: 0: \S+ us\/iter$/gm)).toHaveLength(5);
  });

  it('verify passes, and is status 3 when a file is not what its hash says', async () => {
    expect(await ladder('verify', folder, '--device', 'cpu')).toMatchObject({ status: 0, out: expect.stringMatching(/\nverified\n$/) });
    const copy = join(root, 'mismatch', 'm', 'one');
    spawnSync('mkdir', ['-p', join(root, 'mismatch', 'm')]);
    spawnSync('cp', ['-r', folder, copy]);
    writeFileSync(join(copy, 'graph.json'), `${readFileSync(join(copy, 'graph.json'), 'utf8')}\n\n`);
    const { status, out } = await here('verify', copy, '--device', 'cpu');
    expect([status, /\nMISMATCH\n$/.test(out)]).toEqual([3, true]);
  });

  it('doctor says what is there', async () => {
    const { status, out } = await ladder('doctor', '--json');
    expect(status).toBe(0);
    const findings = JSON.parse(out) as { name: string; state: string; remedy: string | null }[];
    expect(findings.find(({ name }) => name === 'addon')).toMatchObject({ state: 'ok' });
    expect(findings.filter(({ state, remedy }) => state !== 'ok' && typeof remedy !== 'string')).toEqual([]);
  });

  it('bench-case by hand is refused', async () => {
    expect(await ladder('bench-case')).toMatchObject({ status: 2, err: expect.stringMatching(/a part of `ladder bench`/) });
  });

  it('a reader that goes away is no error', async () => {
    const { status, stderr } = spawnSync(
      'bash',
      ['-c', `set -o pipefail; '${process.execPath}' '${cli}' inspect '${folder}' --json | head -c 10 > /dev/null`],
      { encoding: 'utf8', env },
    );
    expect([status, stderr]).toEqual([0, '']);
  });
});

// Output is not lost: files are checked before measuring and written whole, streams that are gone end nothing, benches know of each
// other, a broken record is passed over with a word, Ctrl-C ends soon, and nothing outlives its parent.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { sealRecord } from '../../lib/run/bench-content.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { isRunning } from '../fixtures/processes.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const root = await mkdtemp(join(tmpdir(), 'ladder-output-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const checkpoints = join(root, 'checkpoints');
const built = await buildCheckpoints(
  ['fp16', 'int4'].map((weight) => parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight })),
  { root: checkpoints, compile: false },
);
const folder = built[0]!.folder;
// A folder for temporary files of its own: the device's lock lies there, and other tests run benches, too.
const env = { ...process.env, LADDER_COMMIT: 'test', TMPDIR: root };
const timing = ['--device', 'cpu', '--min-samples', '2', '--max-samples', '2', '--warmup-ms', '0'];
const forever = ['--device', 'cpu', '--no-figures', '--min-samples', '100000', '--max-samples', '100000'];
vi.setConfig({ testTimeout: 240_000 });

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

async function ladder(args: readonly string[], environment: NodeJS.ProcessEnv = env): Promise<Ended> {
  const child = spawn(process.execPath, [cli, ...args], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return { status: await ended(child), out, err };
}

function shell(script: string): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-c', `set -o pipefail; ladder() { '${process.execPath}' '${cli}' "$@"; }; ${script}`],
    {
      encoding: 'utf8',
      env,
    },
  );
  return { status, out: stdout, err: stderr };
}

const ended = (child: ChildProcess): Promise<number | null> => new Promise((resolve) => child.on('close', resolve));

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 50_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function recordsIn(results: string): BenchRecord[] {
  return (readdirSync(results, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.json'))
    .map((name) => parseRecord(readFileSync(join(results, name), 'utf8'), name));
}

describe('--save', () => {
  it('makes folders, writes through a link, and to what is no file', async () => {
    const file = join(root, 'saved', 'deep', 'record.json');
    expect((await ladder(['run', folder, ...timing, '--save', file])).status).toBe(0);
    expect(parseRecord(readFileSync(file, 'utf8'), file)).toMatchObject({ status: 'ok' });
    expect(readdirSync(join(root, 'saved', 'deep'))).toEqual(['record.json']);
    const link = join(root, 'saved', 'link.json');
    writeFileSync(join(root, 'saved', 'target.json'), 'old');
    symlinkSync('target.json', link);
    expect((await ladder(['run', folder, ...timing, '--save', link])).status).toBe(0);
    expect([lstatSync(link).isSymbolicLink(), readFileSync(join(root, 'saved', 'target.json'), 'utf8')]).toEqual([
      true,
      expect.stringMatching(/ladder-record/),
    ]);
    const { out } = shell(`ladder run '${folder}' ${timing.join(' ')} --save /dev/stdout | cat`);
    expect(out).toMatch(/median ms[\s\S]*ladder-record/);
  });

  it.each([
    ['below a file', () => join(folder, 'graph.json', 'record.json')],
    ['a folder', () => folder],
    ['where nothing may be made', () => '/proc/record.json'],
  ])('%s is refused before anything is loaded', async (_, path) => {
    const { status, out, err } = await ladder(['run', join(root, 'no-checkpoint'), ...timing, '--save', path()]);
    expect([status, out, err]).toEqual([1, '', expect.stringMatching(/could not be written: .*\[IO\]/)]);
  });

  it('that fails in the end costs the file, not the figures', async () => {
    const { status, out, err } = await ladder(['run', folder, ...timing, '--save', '/dev/full']);
    expect([status, err]).toEqual([1, expect.stringMatching(/\/dev\/full could not be written: ENOSPC/)]);
    expect(out).toMatch(/median ms/);
  });
});

describe('streams that are gone', () => {
  it.each([
    [
      'stderr and stdout',
      (results: string) =>
        `ladder bench '${checkpoints}'/llama2-tiny/* --results '${results}' --no-figures ${timing.join(' ')} 2>&1 | head -1 > /dev/null`,
    ],
    [
      'stderr',
      (results: string) =>
        `ladder bench --checkpoints '${checkpoints}' --results '${results}' --no-figures ${timing.join(' ')} 2> >(exec 0<&-; true) > /dev/null`,
    ],
  ])('%s end no bench', (name, script) => {
    const results = join(root, `gone-${name.length}`);
    expect(shell(script(results)).status).toBe(0);
    expect(recordsIn(results).map(({ status }) => status)).toEqual(['ok', 'ok']);
  });

  it('a full disk below stdout: everything is measured and saved, and the status says what was lost', () => {
    const results = join(root, 'full');
    const { status, err } = shell(
      `ladder bench --checkpoints '${checkpoints}' --results '${results}' --no-figures ${timing.join(' ')} > /dev/full`,
    );
    expect([status, err]).toEqual([1, expect.stringMatching(/the output could not be written: ENOSPC/)]);
    expect(recordsIn(results)).toHaveLength(2);
  });

  it('a reader that has seen enough is no error', () => {
    expect(shell(`ladder list '${checkpoints}' | head -1`)).toMatchObject({ status: 0, err: '' });
    expect(shell(`ladder inspect '${folder}' --json | head -c 10`)).toMatchObject({ status: 0, err: '' });
  });
});

describe('records that cannot be saved', () => {
  it('are shown all the same', async () => {
    const results = join(root, 'unsaved');
    // Folders stand where the records are to be.
    expect((await ladder(['bench', folder, '--results', results, '--no-figures', ...timing])).status).toBe(0);
    for (const name of readdirSync(results, { recursive: true }) as string[])
      if (name.endsWith('.json')) {
        await rm(join(results, name));
        mkdirSync(join(results, name, 'x'), { recursive: true });
      }
    const { status, out, err } = await ladder(['bench', folder, '--results', results, '--no-figures', ...timing]);
    expect([status, out]).toEqual([1, expect.stringMatching(/ok$/m)]);
    expect(err).toMatch(/the record is not saved: .*could not be written/);
  });
});

describe('figures that have no place', () => {
  it('are left out, with a word before anything is measured, and the bench is none the worse', async () => {
    const copy = join(root, 'package');
    mkdirSync(join(copy, 'bench'), { recursive: true });
    const from = fileURLToPath(new URL('../..', import.meta.url));
    cpSync(join(from, 'dist'), join(copy, 'dist'), { recursive: true });
    for (const name of ['package.json', 'bench/cases.json']) cpSync(join(from, name), join(copy, name));
    for (const name of ['node_modules', 'build', 'native', 'checkpoints']) symlinkSync(join(from, name), join(copy, name));
    // As of an installation that another user owns; root may write anywhere, but not into a file.
    writeFileSync(join(copy, 'bench', 'out'), '');
    const child = spawn(
      process.execPath,
      [join(copy, 'dist', 'cli', 'main.js'), 'bench', folder, '--results', join(root, 'no-figures'), ...timing],
      {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    expect(await ended(child)).toBe(0);
    expect(err).toMatch(/could not be written: .*; comparison and figures are left out/);
    expect(err.indexOf('left out')).toBeLessThan(err.indexOf('[1/1]'));
    expect(recordsIn(join(root, 'no-figures'))).toMatchObject([{ status: 'ok' }]);
  });
});

describe('two benches', () => {
  it('in one folder: the second is refused and says who is there; after the first one’s death it runs', async () => {
    const results = join(root, 'shared');
    const first = spawn(process.execPath, [cli, 'bench', folder, '--results', results, ...forever], { env, stdio: 'ignore' });
    await until(() => existsSync(join(results, '.bench.lock')), 'the lock');
    const second = await ladder(['bench', folder, '--results', results, '--no-figures', ...timing]);
    expect(second).toMatchObject({
      status: 1,
      out: '',
      err: expect.stringMatching(
        new RegExp(`the folder of records ${results} is in use by process ${first.pid}: wait for its end, or remove`),
      ) as string,
    });
    // Elsewhere they share the CPU, and say so.
    const elsewhere = await ladder(['bench', folder, '--results', join(root, 'elsewhere'), '--no-figures', ...timing]);
    expect(elsewhere).toMatchObject({
      status: 0,
      err: expect.stringMatching(/\(cpu\) is in use by .*the latencies of both will be too long/) as string,
    });
    first.kill('SIGKILL');
    await ended(first);
    expect((await ladder(['bench', folder, '--results', results, '--no-figures', ...timing])).status).toBe(0);
    expect(existsSync(join(results, '.bench.lock'))).toBe(false);
  });

  it('a lock of another machine holds', async () => {
    const results = join(root, 'remote');
    mkdirSync(results);
    writeFileSync(join(results, '.bench.lock'), JSON.stringify({ host: `not-${hostname()}`, pid: 1, start: '1' }));
    expect(await ladder(['bench', folder, '--results', results, '--no-figures', ...timing])).toMatchObject({
      status: 1,
      err: expect.stringMatching(/in use by process 1 on not-/) as string,
    });
  });
});

describe('broken records', () => {
  // By plot: figure8-cli.test.ts.
  it('are passed over by compare, with a word; an edited one is named', async () => {
    const results = join(root, 'some-broken');
    expect((await ladder(['bench', '--checkpoints', checkpoints, '--results', results, '--no-figures', ...timing])).status).toBe(0);
    const [whole] = recordsIn(results);
    writeFileSync(join(results, 'cut.json'), JSON.stringify(whole).slice(0, 300));
    writeFileSync(join(results, 'older.json'), '{"schema":"ladder-record/1","system":"x"}');
    writeFileSync(join(results, 'edited.json'), JSON.stringify({ ...sealRecord(whole!, {}), format: 'W_NF4 A_FP16', latencyMs: 0.001 }));
    const compared = await ladder(['compare', results, results]);
    expect(compared.err).toMatch(/passed over: .*cut\.json is not JSON/);
    expect(compared.err).toMatch(/passed over: .*older\.json: systemVersion/);
    expect(compared.err).toMatch(/edited\.json was changed after it was written/);
    expect(compared).toMatchObject({ status: 0, out: expect.stringMatching(/W_INT4 A_FP16/) as string });
    // Nothing but broken ones is an error.
    expect(await ladder(['compare', join(results, 'cut.json'), 'paper'])).toMatchObject({
      status: 1,
      err: expect.stringMatching(/\[BAD_RECORD\]/) as string,
    });
  });

  it.each([
    ['UTF-16', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')],
    ['a byte order mark', (text: string) => Buffer.from(`\ufeff${text}`)],
  ])('%s is read', async (name, encode) => {
    const saved = join(root, `${name.length}.json`);
    const { out } = await ladder(['run', folder, ...timing, '--json']);
    writeFileSync(saved, encode(out));
    expect(await ladder(['compare', saved, saved])).toMatchObject({ status: 0, err: '' });
  });
});

describe('Ctrl-C', () => {
  // A second on a machine of its own; this one may have others to serve.
  const kSoonMs = 3000;

  it.each([
    [
      'a bench',
      ['bench', folder, '--results', join(root, 'interrupted'), ...forever],
      () => existsSync(join(root, 'interrupted', '.bench.lock')),
    ],
    ['a plot', ['plot', '--out', join(root, 'interrupted-plot')], () => existsSync(join(root, 'interrupted-plot', 'svg'))],
  ] as const)('ends %s soon, with nothing half written', async (_, args, runs) => {
    const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    await until(runs, 'the work');
    const started = performance.now();
    child.kill('SIGINT');
    expect(await ended(child)).toBe(130);
    expect(performance.now() - started).toBeLessThan(kSoonMs);
    expect(err).toMatch(/ladder: aborted/);
    const out = args[args.indexOf('--results') + 1] ?? args[2];
    expect(
      (readdirSync(args[0] === 'plot' ? args[2] : out, { recursive: true }) as string[]).filter((name) => /partial|lock/.test(name)),
    ).toEqual([]);
  });
});

describe('compilers', () => {
  it('end with a build that is killed, and its folder goes with the next one', async () => {
    const pids = join(root, 'nvcc.pids');
    const nvcc = join(root, 'nvcc');
    writeFileSync(nvcc, `#!/bin/sh\necho $$ >> '${pids}'\nexec sleep 300\n`);
    chmodSync(nvcc, 0o755);
    const scratch = join(root, 'tmp');
    mkdirSync(scratch);
    const environment = { ...env, LADDER_NVCC: nvcc, TMPDIR: scratch };
    const args = ['build', 'llama2-tiny', '--out', join(root, 'built')];
    const child = spawn(process.execPath, [cli, ...args], { env: environment, stdio: 'ignore' });
    const started = (): number[] => (existsSync(pids) ? readFileSync(pids, 'utf8').trim().split('\n').map(Number) : []);
    await until(() => started().length > 0 && started()[0]! > 0, 'nvcc to start');
    child.kill('SIGKILL');
    await ended(child);
    await until(() => started().every((pid) => !isRunning(pid)), 'nvcc to end with its parent');
    const left = readdirSync(scratch);
    expect(left).toEqual([expect.stringMatching(new RegExp(`^ladder-build-${child.pid}-`))]);
    writeFileSync(nvcc, '#!/bin/sh\nexit 1\n');
    expect((await ladder(args, environment)).status).toBe(1);
    expect(readdirSync(scratch)).toEqual([]);
  });
});

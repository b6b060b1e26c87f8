// `--device cuda:all` of bench and tune, on stand-ins for GPUs and for nvcc: every GPU gets work, records and lines name it, what fails
// or is aborted costs nothing that is finished, and locks hold between benches, not between the GPUs of one. `tune --shard`.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { encodeModuleBlob } from '../../lib/artifact/module-blob.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import type { Tuned } from '../../lib/compiler/types.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { fatbin, cubinEntry, ptxEntry } from '../fixtures/artifact/fatbin.js';
import { buildFakeCuda } from '../fixtures/native/fake-cuda-run.js';
import { Workshop } from '../fixtures/native/objects.js';
import { ladderHere } from '../fixtures/cli.js';
import { isRunning } from '../fixtures/processes.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const workshop = new Workshop();
afterAll(() => workshop.remove());
const root = workshop.folder;
const temporary = join(root, 'tmp');
mkdirSync(temporary);
/** GPUs of one kind; a folder for temporary files of its own, since the GPUs' locks lie there. */
const env: NodeJS.ProcessEnv = {
  ...process.env,
  LD_LIBRARY_PATH: dirname(buildFakeCuda(workshop)),
  FAKE_CUDA_NAME: 'Fake GPU',
  FAKE_CUDA_DEVICES: '2',
  LADDER_COMMIT: 'test',
  TMPDIR: temporary,
};
vi.setConfig({ testTimeout: 240_000 });

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Those of one test: where it fails, none may go on without end. */
const started = new Set<ChildProcess>();
afterEach(() => {
  for (const child of started) child.kill('SIGKILL');
  started.clear();
});

function start(args: readonly string[], more: NodeJS.ProcessEnv = {}): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [cli, ...args], { env: { ...env, ...more }, stdio: ['ignore', 'pipe', 'pipe'] });
  started.add(child);
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return { child, ended: new Promise((resolve) => child.on('close', (status) => resolve({ status, out, err }))) };
}

const ladder = (args: readonly string[], more?: NodeJS.ProcessEnv): Promise<Ended> => start(args, more).ended;

/** In this process, which knows no stand-in for GPUs: for what is refused before one is looked for. */
const here = ladderHere;

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 100_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function filesBelow(folder: string, end: string): string[] {
  return existsSync(folder) ? (readdirSync(folder, { recursive: true }) as string[]).filter((name) => name.endsWith(end)).sort() : [];
}

function recordsIn(results: string): BenchRecord[] {
  return filesBelow(results, '.json').map((name) => parseRecord(readFileSync(join(results, name), 'utf8'), name));
}

const deviceOf = ({ device }: BenchRecord): string | undefined => device.id;

/** A checkpoint of another maker whose kernel the stand-in computes. */
function foreign(...path: readonly string[]): string {
  const tensor = (name: string): { name: string; shape: number[]; dtype: string } => ({ name, shape: [64], dtype: 'float32' });
  const folder = join(root, ...path);
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'graph.json'),
    serialiseGraph({
      inputs: [tensor('x'), tensor('w')],
      operators: [{ name: 'op', functionName: 'fused_scale_add', inputs: ['x', 'w'], outputs: [tensor('y')] }],
      outputs: ['y'],
    }),
  );
  copyFileSync(foreignModule, join(folder, 'model.so'));
  return folder;
}

const foreignModule = (() => {
  const handle = parseDataType('handle');
  const blob = encodeModuleBlob({
    images: [
      {
        format: 'ptx',
        bytes: new TextEncoder().encode('.version 7.0\n.target sm_80\n.address_size 64\n'),
        kernels: [
          {
            name: 'scale_add',
            argumentTypes: [handle, handle, handle, parseDataType('int32'), parseDataType('float32')],
            launchTags: ['blockIdx.x', 'threadIdx.x'],
          },
        ],
      },
    ],
  });
  const source = join(root, 'blob.c');
  writeFileSync(source, `const unsigned char __tvm_dev_mblob[${blob.length}] = {${[...blob].join(',')}};\n`);
  return workshop.compile('route2_host.c', [source]);
})();

describe('ladder bench --device cuda:all', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const name of names) foreign('cases', name);
  const bench = (results: string, ...more: readonly string[]): string[] => [
    ...['bench', '--checkpoints', join(root, 'cases'), '--results', results, '--no-figures', '--warmup-ms', '0'],
    ...(more.includes('--device') ? more : ['--device', 'cuda:all', ...more]),
  ];
  const quick = ['--min-samples', '50', '--max-samples', '50'];
  /** Two fifths of a second for each case: every kernel takes 2 ms. */
  const slow = ['--min-samples', '200', '--max-samples', '200'];
  const slowly = { FAKE_CUDA_SLOW: '1' };

  it('gives every GPU cases, in one folder; records, lines and table name it; what one measured another takes over', async () => {
    const results = join(root, 'both');
    const { status, out, err } = await ladder(bench(results, ...quick), slowly);
    expect([status, err]).toEqual([0, expect.stringMatching(/^cuda:1 \[\d\/6\] cases\/[a-f]…$/m)]);
    expect(err).toMatch(/^cuda:0 \[\d\/6\] cases\/[a-f]…$/m);
    // Each case is begun once, by one GPU.
    expect(err.match(/^cuda:[01] \[\d\/6\]/gm)).toHaveLength(6);
    const records = recordsIn(results);
    expect(records.map(({ status: each }) => each)).toEqual(Array(6).fill('ok'));
    expect(new Set(records.map(deviceOf))).toEqual(new Set(['cuda:0', 'cuda:1']));
    expect(out).toMatch(/^device {2}Fake GPU: cuda:0, cuda:1$/m);
    // In the order of the list, whoever came first.
    expect(out.match(/^cases\/[a-f](?= )/gm)).toEqual(names.map((name) => `cases/${name}`));
    for (const { checkpoint, device } of records) expect(out).toMatch(new RegExp(`^cases/${checkpoint} .* ${device.id} `, 'm'));

    for (const gpus of ['2', '3']) {
      const again = await ladder(bench(results, ...quick), { ...slowly, FAKE_CUDA_DEVICES: gpus });
      expect(again.out.match(/ok \(earlier\)$/gm)).toHaveLength(6);
    }
    expect(recordsIn(results)).toEqual(records);
  });

  it('takes a shard of the cases', async () => {
    const results = join(root, 'shard');
    const { status, out } = await ladder(bench(results, ...quick, '--shard', '2/3', '--json'), slowly);
    expect([status, (JSON.parse(out) as BenchRecord[]).map(({ checkpoint }) => checkpoint)]).toEqual([0, ['b', 'e']]);
    expect(new Set(recordsIn(results).map(deviceOf))).toEqual(new Set(['cuda:0', 'cuda:1']));
  });

  it('a case that fails is a failed record, and the others are measured', async () => {
    const results = join(root, 'failing');
    const good = ['p', 'q', 'r'].map((name) => foreign('mixed', name));
    const bad = foreign('mixed', 'bad');
    writeFileSync(join(bad, 'graph.json'), '{"nodes": 1}');
    const { status, out } = await ladder(['bench', bad, ...good, '--results', results, '--no-figures', '--device', 'cuda:all', ...quick]);
    expect([status, out]).toEqual([1, expect.stringMatching(/^mixed\/bad: failed: BAD_GRAPH/m)]);
    const records = recordsIn(results);
    expect(records.map(({ checkpoint, status: each }) => `${checkpoint} ${each}`).sort()).toEqual(['bad failed', 'p ok', 'q ok', 'r ok']);
  });

  it('aborted, it ends all GPUs’ processes, keeps what is finished, and goes on there', async () => {
    const results = join(root, 'aborted');
    const { child, ended } = start(bench(results, ...slow), slowly);
    await until(() => recordsIn(results).length >= 2, 'two records');
    const kept = filesBelow(results, '.json').map((name) => [name, readFileSync(join(results, name), 'utf8')] as const);
    const below = (readdirSync('/proc') as string[]).filter((pid) => /^\d+$/.test(pid) && parentOf(pid) === child.pid);
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ status: 130, err: expect.stringMatching(/ladder: aborted/) });
    await until(() => below.every((pid) => !isRunning(pid)), 'the cases to end with the bench');
    for (const [name, text] of kept) expect(readFileSync(join(results, name), 'utf8')).toBe(text);
    const finished = recordsIn(results).length;
    expect(finished).toBeLessThan(names.length);
    expect((readdirSync(results, { recursive: true }) as string[]).filter((name) => /partial|lock/.test(name))).toEqual([]);
    const { status, out } = await ladder(bench(results, ...slow), slowly);
    expect([status, out.match(/ok \(earlier\)$/gm)?.length, recordsIn(results).length]).toEqual([0, finished, 6]);
  });

  it('two benches on one GPU or in one folder refuse each other, and give everything back', async () => {
    const results = join(root, 'locked');
    const endless = ['--min-samples', '100000', '--max-samples', '100000'];
    const { child, ended } = start(bench(results, ...endless), slowly);
    await until(() => filesBelow(temporary, '.lock').length === 2, 'both GPUs’ locks');
    const elsewhere = join(root, 'elsewhere');
    for (const device of ['cuda:0', 'cuda:1', 'cuda:all'])
      expect(await ladder(bench(elsewhere, '--device', device))).toMatchObject({
        status: 1,
        err: expect.stringMatching(/^ladder: Fake GPU \(cuda:[01]\) is in use by process \d+.*\[BUSY\]$/m) as string,
      });
    // What a bench that was refused had taken is free again.
    expect(filesBelow(elsewhere, '.lock')).toEqual([]);
    expect(await ladder(bench(results, '--device', 'cpu'))).toMatchObject({
      status: 1,
      err: expect.stringMatching(/the folder of records .* is in use.*\[BUSY\]$/m) as string,
    });
    child.kill('SIGINT');
    expect((await ended).status).toBe(130);
    expect(filesBelow(temporary, '.lock')).toEqual([]);
  });

  it('of one GPU is that GPU; of none, and of two kinds, is said', async () => {
    const results = join(root, 'one');
    const { status, out } = await ladder(bench(results, ...quick), { FAKE_CUDA_DEVICES: '1' });
    expect(status).toBe(0);
    expect(out).toMatch(/^device {2}Fake GPU$/m);
    expect(out).not.toMatch(/cuda:0/);
    expect(new Set(recordsIn(results).map(deviceOf))).toEqual(new Set(['cuda:0']));
    const none = await ladder(bench(results), { FAKE_CUDA_DEVICES: '0' });
    expect(none).toMatchObject({ status: 1, err: expect.stringMatching(/\[NO_DEVICE\]/) as string });
    expect(none.err).toBe((await ladder(bench(results, '--device', 'cuda'), { FAKE_CUDA_DEVICES: '0' })).err);
    const { FAKE_CUDA_NAME: _, ...named } = env;
    const unlike = spawn(process.execPath, [cli, ...bench(results)], { env: named, stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    unlike.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    expect(await new Promise((resolve) => unlike.on('close', resolve))).toBe(2);
    expect(err).toMatch(/GPUs of one kind .* Fake GPU 0 \(cuda:0\) and Fake GPU 1 \(cuda:1\); choose one, e\.g\. --device cuda:1/);
  });

  it.each([['bench'], ['tune']])('%s names what --device may be', async (command) => {
    const { status, err } = await here(command, 'any', '--device', 'cuda:some');
    expect([status, err]).toEqual([2, expect.stringMatching(/expected 'auto', .* or 'cuda:all' but received "cuda:some"/)]);
  });
});

function parentOf(pid: string): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[1]);
  } catch {
    return null;
  }
}

describe('ladder tune', async () => {
  // Whatever it is asked to compile: machine code that only the stand-in for the driver takes.
  const image = join(root, 'image.fatbin');
  writeFileSync(image, fatbin(cubinEntry(90), ptxEntry(80)));
  const nvcc = join(root, 'nvcc');
  writeFileSync(nvcc, `#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp '${image}' "$2"\n`);
  chmodSync(nvcc, 0o755);
  const withNvcc = { LADDER_NVCC: nvcc };
  /** Checkpoints of ours below a folder of their own. */
  const ours = async (folder: string, weights: readonly string[] = ['fp16', 'int1']): Promise<string[]> => {
    const requests = weights.map((weight) => parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight }));
    const built = await buildCheckpoints(requests, { root: join(root, folder), compile: false });
    return built.map((one) => one.folder);
  };
  const tune = (...args: readonly string[]): string[] => ['tune', '--candidates', '2', '--json', ...args];
  const tunedOf = (out: string): (Tuned & { readonly checkpoint: string; readonly device: string })[] =>
    out
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Tuned & { checkpoint: string; device: string });
  const isTuned = (folder: string): boolean => existsSync(join(folder, 'tuned', 'sm_90a.json'));

  it('--device cuda:all gives every GPU checkpoints; one that cannot be tuned is said, and the others are', async () => {
    const folders = await ours('tuned');
    const odd = foreign('tuned', 'odd');
    const { status, out, err } = await ladder(tune('--device', 'cuda:all', odd, ...folders, folders[0]!), withNvcc);
    const found = tunedOf(out);
    expect(found.map(({ checkpoint }) => checkpoint).sort()).toEqual([...folders].sort());
    expect(new Set(found.map(({ device }) => device))).toEqual(new Set(['cuda:0', 'cuda:1']));
    expect(found.map(({ gpu }) => gpu)).toEqual(Array(2).fill('Fake GPU'));
    expect([status, err]).toEqual([
      1,
      expect.stringMatching(/^\S+odd: not tuned: .*only checkpoints that this package built.*\[UNSUPPORTED\]$/m),
    ]);
    for (const id of ['cuda:0', 'cuda:1']) expect(err).toMatch(new RegExp(`^${id} \\S+@.*…$`, 'm'));
    for (const folder of folders) expect([isTuned(folder), existsSync(join(folder, 'model.so'))]).toEqual([true, true]);
    expect(filesBelow(join(root, 'tuned'), '.partial')).toEqual([]);
  });

  it('aborted, it ends all GPUs’ processes and keeps what is found', async () => {
    const folders = await ours('stopped', ['fp16', 'int4', 'int1']);
    const { child, ended } = start(tune('--device', 'cuda:all', ...folders), { ...withNvcc, FAKE_CUDA_SLOW: '1' });
    await until(() => folders.some(isTuned), 'a checkpoint’s winners');
    const below = (readdirSync('/proc') as string[]).filter((pid) => /^\d+$/.test(pid) && parentOf(pid) === child.pid);
    expect(below.length).toBeGreaterThan(0);
    child.kill('SIGINT');
    const { status, out, err } = await ended;
    expect([status, err]).toEqual([130, expect.stringMatching(/ladder: aborted/)]);
    await until(() => below.every((pid) => !isRunning(pid)), 'the searches to end with the command');
    expect(folders.filter(isTuned).length).toBeLessThan(folders.length);
    for (const { checkpoint } of tunedOf(out)) expect(isTuned(checkpoint)).toBe(true);
  });

  it('a GPU’s process that dies costs the checkpoint that it was at', async () => {
    const folders = await ours('dying');
    const { child, ended } = start(tune('--device', 'cuda:all', ...folders), { ...withNvcc, FAKE_CUDA_SLOW: '1' });
    // A search has begun when its journal is there.
    await until(() => filesBelow(join(root, 'dying'), 'sm_90a.json.partial').length > 0, 'a search');
    const below = (readdirSync('/proc') as string[]).filter((pid) => /^\d+$/.test(pid) && parentOf(pid) === child.pid);
    process.kill(Number(below[0]), 'SIGKILL');
    const { status, out, err } = await ended;
    expect([status, err.match(/^\S+: not tuned: .*was ended by SIGKILL.*\[INTERNAL\]$/gm)?.length]).toEqual([1, 1]);
    expect(tunedOf(out)).toHaveLength(folders.length - 1);
    expect(folders.filter(isTuned)).toHaveLength(folders.length - 1);
  });

  it('bench --force-tune tunes on every GPU first', async () => {
    const folders = await ours('forced');
    const args = ['bench', ...folders, '--results', join(root, 'forced-results'), '--no-figures', '--force-tune', '--device', 'cuda:all'];
    const { err } = await ladder([...args, '--min-samples', '2', '--max-samples', '2'], withNvcc);
    for (const id of ['cuda:0', 'cuda:1']) expect(err).toMatch(new RegExp(`^${id} tuning \\[\\d/2\\] \\S+@.*…$`, 'm'));
    expect(folders.every(isTuned)).toBe(true);
  });

  it('--missing leaves winners alone and searches for what has none', async () => {
    const [folder] = await ours('missing', ['fp16']);
    const path = join(folder!, 'tuned', 'sm_90a.json');
    const whole = tunedOf((await ladder(tune('--device', 'cuda:0', folder!), withNvcc)).out)[0]!;
    const [first, ...others] = Object.keys(whole.operators);
    const { checkpoint: _, device: __, ...tuned } = whole;
    const kept = { ...whole.operators[first!]!, latencyMs: 123 };
    writeFileSync(path, JSON.stringify({ ...tuned, operators: { [first!]: kept, gone: kept } }));
    const { status, out } = await ladder(tune('--missing', '--device', 'cuda:0', folder!), withNvcc);
    const { operators } = tunedOf(out)[0]!;
    expect([status, Object.keys(operators)]).toEqual([0, [first, ...others]]);
    expect(operators[first!]).toEqual(kept);
    for (const other of others) expect(operators[other]!.candidates).toBe(2);
  });

  it('--device is one GPU, and the CPU is refused', async () => {
    const [folder] = await ours('single');
    const { status, out } = await ladder(tune('--device', 'cuda:1', folder!), withNvcc);
    expect([status, tunedOf(out).map(({ device }) => device)]).toEqual([0, ['cuda:1']]);
    expect(await here(...tune('--device', 'cpu', folder!))).toMatchObject({ status: 2, err: expect.stringMatching(/expected a GPU/) });
    for (const device of ['auto', 'cuda', 'cuda:all'])
      expect(await ladder(tune('--device', device, folder!), { LD_LIBRARY_PATH: '' })).toMatchObject({
        status: 1,
        err: expect.stringMatching(/tuning needs a GPU.*\[NO_DRIVER\]/) as string,
      });
  });

  it('--shard takes parts that share nothing and together are all', async () => {
    const folders = await ours('shards');
    const parts: string[][] = [];
    for (const part of ['1/2', '2/2']) {
      const { status, out } = await ladder(tune('--shard', part, '--device', 'cuda', ...folders), withNvcc);
      expect(status).toBe(0);
      parts.push(tunedOf(out).map(({ checkpoint }) => checkpoint));
    }
    expect(parts).toEqual([[folders[0]], [folders[1]]]);
    expect(folders.every(isTuned)).toBe(true);
    // More parts than checkpoints: some have nothing to do.
    expect(await ladder(tune('--shard', '5/5', '--device', 'cuda', ...folders), withNvcc)).toMatchObject({ status: 0, out: '' });
  });

  it.each(['0/2', '3/2', 'a/b'])('--shard %s is refused before anything is tuned', async (wrong) => {
    const [folder] = await ours('refused');
    expect(await here(...tune('--shard', wrong, folder!))).toMatchObject({
      status: 2,
      err: expect.stringContaining('expected i/n with i from 1 to n') as string,
    });
    expect(isTuned(folder!)).toBe(false);
  });

  it('tune-lane by hand is refused', async () => {
    expect(await ladder(['tune-lane'])).toMatchObject({ status: 2, err: expect.stringMatching(/a part of `ladder tune`/) });
  });
});

// What a record of a bench is a record of: every part of its content is seen, dates are not, and an edited record shows.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import type { BenchCase } from '../../lib/run/bench-cases.js';
import {
  contentOf,
  differingContent,
  fileStamps,
  isUnedited,
  readEarlier,
  sealRecord,
  type BenchContent,
} from '../../lib/run/bench-content.js';
import type { DeviceInfo } from '../../lib/run/device.js';
import { failedRecord } from '../../lib/run/run-prebuilt.js';

const folder = await mkdtemp(join(tmpdir(), 'ladder-content-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const gpu: DeviceInfo = {
  id: 'cuda:0',
  kind: 'cuda',
  name: 'A GPU',
  computeCapability: '9.0',
  driverVersion: '580.1',
  multiprocessors: 132,
  memoryBytes: 8e10,
  l2Bytes: 5e7,
  uuid: 'GPU-1',
};
const cpu: DeviceInfo = { ...gpu, id: 'cpu', kind: 'cpu', driverVersion: null, uuid: null };
const one: BenchCase = {
  name: 'model/one',
  path: folder,
  verify: false,
  timing: { mode: 'samples', launch: 'auto', l2: 'hot', minSamples: 5 },
};
const files = ['graph.json', 'checkpoint.json', 'graph.params', 'model.so'];
for (const name of files) await writeFile(join(folder, name), name);
const content = (change: Partial<BenchCase> = {}, device = gpu): Promise<BenchContent> =>
  contentOf({ ...one, ...change }, device, new AbortController().signal);
const first = await content();
const differing = async (change?: Partial<BenchCase>, device?: DeviceInfo): Promise<readonly string[]> =>
  differingContent(first, await content(change, device));

describe('a record to take over', () => {
  it('is no pipe, which is not waited for', () => {
    const pipe = join(folder, 'record-pipe');
    spawnSync('mkfifo', [pipe]);
    expect(readEarlier(pipe, first)).toEqual({ record: null, reason: expect.stringContaining('no regular file') });
    expect(readEarlier(join(folder, 'absent'), first)).toBeNull();
  });
});

describe('content', () => {
  it('is the same for the same, whatever the dates and the order of options', async () => {
    for (const name of files) await utimes(join(folder, name), new Date(0), new Date(0));
    expect(await differing({ timing: { minSamples: 5, l2: 'hot', launch: 'auto', mode: 'samples' } })).toEqual([]);
  });

  it.each(files)('sees a change of %s of the same length and date, and its absence', async (name) => {
    const path = join(folder, name);
    await writeFile(path, name.toUpperCase());
    await utimes(path, new Date(0), new Date(0));
    expect(await differing()).toEqual([name]);
    await rm(path);
    expect(await differing()).toEqual([name]);
    await writeFile(path, name);
  });

  it('sees another board of the same kind, driver, verification, timing, way to machine code', async () => {
    expect(await differing({}, { ...gpu, uuid: 'GPU-2' })).toEqual(['device']);
    expect(await differing({}, { ...gpu, driverVersion: '580.2' })).toEqual(['driver']);
    expect(await differing({ verify: true })).toEqual(['options']);
    expect(await differing({ timing: { ...one.timing, minSamples: 6 } })).toEqual(['options']);
    vi.stubEnv('CUDA_FORCE_PTX_JIT', '1');
    expect(await differing()).toEqual(['options']);
  });

  it('leaves out a model.so that the CPU does not use, and takes in a foreign one', async () => {
    expect((await content({}, cpu))['model.so']).toBeNull();
    await rm(join(folder, 'checkpoint.json'));
    expect((await content({}, cpu))['model.so']).toBe(first['model.so']);
    await writeFile(join(folder, 'checkpoint.json'), 'checkpoint.json');
  });

  it('ends with ABORTED, and names a file that cannot be read', async () => {
    await expect(contentOf(one, gpu, AbortSignal.abort())).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(content({ path: join(folder, 'graph.json') })).rejects.toMatchObject({ code: 'IO' });
  });

  it('stamps tell a file that was written meanwhile', async () => {
    const before = fileStamps(one);
    expect(fileStamps(one)).toBe(before);
    await writeFile(join(folder, 'graph.params'), 'graph.params');
    expect(fileStamps(one)).not.toBe(before);
  });
});

describe('a record', () => {
  const record = failedRecord(folder, { code: 'IO', message: 'no' }, gpu, { mode: 'samples', launch: 'stream', l2: 'hot' });
  const sealed = sealRecord(record, first);

  it('is seen to be unedited, also with its keys in another order, and after JSON', () => {
    expect(isUnedited(sealed)).toBe(true);
    expect(isUnedited(JSON.parse(JSON.stringify(Object.fromEntries(Object.entries(sealed).reverse()))) as typeof sealed)).toBe(true);
    expect(isUnedited(record)).toBeNull();
    expect(isUnedited(sealRecord(sealed, first))).toBe(true);
  });

  it.each<[string, Partial<typeof sealed>]>([
    ['its latency', { latencyMs: 1 }],
    ['its status', { status: 'ok' }],
    ['a warning', { warnings: ['x'] }],
    ['its content', { content: { ...first, 'graph.params': null } }],
    ['its device', { device: { ...record.device, name: 'Another GPU' } }],
  ])('shows a change of %s', (_, change) => {
    expect(isUnedited({ ...sealed, ...change })).toBe(false);
  });
});

// Files appear whole or not at all, also with several writers; programs are found where they are, and only if they can run.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { spawn, spawnSync } from 'node:child_process';
import { hostname, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { LadderError } from '../../lib/errors.js';
import {
  acquireLock,
  atomically,
  checkWritable,
  decodeText,
  findProgram,
  produceWhole,
  refuseSpecial,
  removePartials,
  replaceFile,
  writeWhole,
} from '../../lib/files.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-files-'));
afterAll(() => rm(root, { recursive: true, force: true }));

describe('writing', () => {
  it('makes folders, and leaves one whole file however many write at once', async () => {
    const path = join(root, 'a', 'b', 'file');
    await Promise.all(Array.from({ length: 8 }, (_, i) => writeWhole(path, String(i).repeat(1 << 16))));
    const text = await readFile(path, 'utf8');
    expect(text).toBe(text[0]!.repeat(1 << 16));
    expect(await readdir(join(root, 'a', 'b'))).toEqual(['file']);
  });

  it('keeps the old file when the new one fails, and clears the half of it away', async () => {
    const path = join(root, 'kept');
    await writeWhole(path, 'old');
    const failing = async (partial: string): Promise<void> => {
      await writeFile(partial, 'ne');
      throw new LadderError('BAD_ARGUMENT', 'no more data');
    };
    await expect(atomically(path, failing)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await readFile(path, 'utf8')).toBe('old');
    expect((await readdir(root)).filter((name) => name.endsWith('.partial'))).toEqual([]);
    await expect(writeWhole(join(path, 'below a file'), 'x')).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('below a file'),
    });
  });
});

describe('what was left half written', () => {
  it('is removed where its writer is gone, or is this process, and left where it lives', async () => {
    const folder = join(root, 'partials');
    const names = [
      `a.json.${spawnSync('true').pid}.0123abcd.partial`,
      `b.${process.pid}.0123abcd.partial`,
      `c.${process.ppid}.0123abcd.partial`,
      'd.json.partial',
      'e.0123abcd.partial',
    ];
    await mkdir(join(folder, 'below'), { recursive: true });
    for (const name of names) for (const where of [folder, join(folder, 'below')]) await writeFile(join(where, name), '');
    removePartials(folder);
    expect((await readdir(folder)).sort()).toEqual(['below', ...names.slice(2)]);
    expect(await readdir(join(folder, 'below'))).toHaveLength(names.length);
    removePartials(folder, true);
    expect((await readdir(join(folder, 'below'))).sort()).toEqual(names.slice(2));
    removePartials(join(root, 'absent'));
  });

  it('a lock below a file is refused with a reason', async () => {
    await writeFile(join(root, 'no-folder'), '');
    expect(() => acquireLock(join(root, 'no-folder', '.lock'), 'it')).toThrow(expect.objectContaining({ code: 'IO' }));
  });

  it('a pipe in the place of a lock is not waited for', () => {
    const path = join(root, 'lock-pipe');
    spawnSync('mkfifo', [path]);
    expect(() => acquireLock(path, 'it')).toThrow(expect.objectContaining({ code: 'BUSY' }));
  });

  it('nothing takes the place of a pipe, a device or a folder: they are written to, or refused', async () => {
    const pipe = join(root, 'kept-pipe');
    spawnSync('mkfifo', [pipe]);
    const link = join(root, 'kept-link');
    await symlink(pipe, link);
    for (const [write, data] of [
      [(path: string) => writeWhole(path, 'text'), 'text'],
      [(path: string) => produceWhole(path, (where) => writeFile(where, 'pieces')), 'pieces'],
    ] as const)
      for (const path of [pipe, link]) {
        const [read] = await Promise.all([readFile(pipe, 'utf8'), write(path)]);
        expect(read).toBe(data);
        expect((await stat(pipe)).isFIFO()).toBe(true);
      }
    for (const path of [pipe, link, root])
      for (const refused of [
        () => atomically(path, (partial) => writeFile(partial, 'x')),
        () => replaceFile(path, 'x'),
        () => refuseSpecial(path),
      ])
        await expect(refused()).rejects.toMatchObject({ code: 'IO' });
    await refuseSpecial(join(root, 'absent'));
    expect((await stat(pipe)).isFIFO()).toBe(true);
    expect((await readdir(root)).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });

  it('a place is tried before anything is made for it, and nothing is left of the trial', async () => {
    await checkWritable(join(root, 'tried', 'x', 'file'));
    expect(await readdir(join(root, 'tried', 'x'))).toEqual([]);
    await writeFile(join(root, 'tried', 'file'), 'old');
    await checkWritable(join(root, 'tried', 'file'));
    expect(await readFile(join(root, 'tried', 'file'), 'utf8')).toBe('old');
    await checkWritable('/dev/null');
    // In /proc nobody makes folders, and asking for one must end.
    for (const path of [join(root, 'tried'), join(root, 'tried', 'file', 'below'), '/proc/none/below/file'])
      await expect(checkWritable(path)).rejects.toMatchObject({ code: 'IO', context: { path } });
  });
});

describe('locks', () => {
  const path = join(root, 'locks', 'one.lock');
  const busy = (): unknown => {
    try {
      acquireLock(path, 'the thing')();
      return null;
    } catch (error) {
      return error;
    }
  };

  it('are had by one at a time, and can be given back', () => {
    const release = acquireLock(path, 'the thing');
    expect(busy()).toMatchObject({
      code: 'BUSY',
      context: { pid: process.pid },
      message: expect.stringMatching(/^the thing is in use by process \d+: .*remove/),
    });
    release();
    release();
    expect(busy()).toBeNull();
  });

  it.each([
    ['a process that is gone', { pid: spawnSync('true').pid, start: '1' }, true],
    ['another process with its id', { pid: process.ppid, start: '1' }, true],
    ['a process of another machine', { pid: 1, start: '1', host: 'elsewhere' }, false],
  ])('of %s', async (_, holder, free) => {
    await writeFile(path, JSON.stringify({ host: hostname(), ...holder }));
    if (free) expect(busy()).toBeNull();
    else expect(busy()).toMatchObject({ code: 'BUSY' });
    expect((await readdir(join(root, 'locks'))).filter((name) => name !== 'one.lock')).toEqual([]);
    await rm(path, { force: true });
  });

  it('of many that want a stale one, one gets it', async () => {
    await writeFile(path, JSON.stringify({ host: hostname(), pid: spawnSync('true').pid, start: '1' }));
    const script = `import { acquireLock } from '${new URL('../../dist/files.js', import.meta.url).href}';
      try { acquireLock('${path}', 'x'); console.log('got'); } catch (error) { console.log(error.code); }
      await new Promise((resolve) => setTimeout(resolve, 1500));`;
    const results = await Promise.all(
      Array.from(
        { length: 6 },
        () =>
          new Promise<string>((resolve) => {
            const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
            let out = '';
            child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
            child.on('close', () => resolve(out.trim()));
          }),
      ),
    );
    expect(results.sort()).toEqual(['BUSY', 'BUSY', 'BUSY', 'BUSY', 'BUSY', 'got']);
  }, 60_000);
});

describe('text', () => {
  it.each<[string, Uint8Array]>([
    ['UTF-8', Buffer.from('é{}')],
    ['UTF-8 with a mark', Buffer.from('\ufeffé{}')],
    ['UTF-16, little-endian', Buffer.from('\ufeffé{}', 'utf16le')],
    ['UTF-16, big-endian', Buffer.from('\ufeffé{}', 'utf16le').swap16()],
  ])('in %s', (_, bytes) => {
    expect(decodeText(bytes)).toBe('é{}');
    expect(decodeText(bytes, true)).toBe('é{}');
  });

  it('that is none is an error where it must be text', () => {
    expect(() => decodeText(Uint8Array.of(0xff), true)).toThrow(TypeError);
    expect(decodeText(Uint8Array.of(0xff))).toBe('\ufffd');
  });
});

describe('finding programs', () => {
  it('takes the first executable file of the PATH, then of further folders', async () => {
    const [first, second] = [join(root, 'first'), join(root, 'second')];
    await mkdir(join(first, 'tool'), { recursive: true });
    await mkdir(second);
    await writeFile(join(second, 'tool'), '#!/bin/sh\n');
    vi.stubEnv('PATH', ['', first].join(delimiter));
    expect(findProgram('tool', [second])).toBeNull();
    await chmod(join(second, 'tool'), 0o755);
    expect(findProgram('tool', [second])).toBe(join(second, 'tool'));
    expect(findProgram('tool')).toBeNull();
    expect(findProgram(join(second, 'tool'))).toBe(join(second, 'tool'));
    vi.unstubAllEnvs();
  });
});

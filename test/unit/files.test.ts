// Files appear whole or not at all, also with several writers; programs are found where they are, and only if they can run.
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { LadderError } from '../../lib/errors.js';
import { atomically, findProgram, writeWhole } from '../../lib/files.js';

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

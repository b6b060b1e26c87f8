// Loading of the addon: one that is absent, or cut short by a full disk or a broken copy, is an error with the remedy.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const addon = process.env['LADDER_ADDON'] ?? fileURLToPath(new URL('../../build/Release/ladder.node', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ladder-addon-'));
afterAll(() => rmSync(folder, { recursive: true }));

const whole = readFileSync(addon);
test.each([0, 10, 100, 5000, Math.floor(whole.length / 2)])('an addon of which %i bytes are there', (length) => {
  const path = join(folder, 'ladder.node');
  writeFileSync(path, whole.subarray(0, length));
  const env = { ...process.env, LADDER_ADDON: path };
  const { status, signal, stdout } = spawnSync(process.execPath, [cli, 'doctor', '--json'], { encoding: 'utf8', env });
  expect({ status, signal }).toEqual({ status: 1, signal: null });
  const findings = JSON.parse(stdout) as { name: string; state: string; found: string; remedy: string }[];
  expect(findings.find(({ name }) => name === 'addon')).toMatchObject({
    state: 'missing',
    found: expect.stringMatching(/could not be loaded.*(cut short|file too short)/),
    remedy: expect.stringContaining('node native/build.mjs'),
  });
});

test('a pipe under the addon’s name is not waited for', () => {
  const path = join(folder, 'pipe.node');
  spawnSync('mkfifo', [path]);
  const env = { ...process.env, LADDER_ADDON: path };
  const { signal, stdout } = spawnSync(process.execPath, [cli, 'doctor', '--json'], {
    encoding: 'utf8',
    env,
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  expect(signal).toBeNull();
  expect(stdout).toMatch(/pipe\.node is no regular file/);
});

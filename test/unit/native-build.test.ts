// The addon's build: what it exports, that it is skipped when nothing changed, and what it says when tools are missing. No GPU.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { addonRemedy } from '../../lib/native.js';
import { hasCommand } from '../fixtures/native/objects.js';

const kRoot = fileURLToPath(new URL('../..', import.meta.url));
const kAddon = process.env['LADDER_ADDON'] ?? join(kRoot, 'build/Release/ladder.node');

if (!hasCommand('nm')) console.log('skipped: reading the addon’s symbols needs nm');
test.skipIf(!hasCommand('nm'))('the addon shows Node.js its entry and model.so TVM’s symbols, and nothing else', () => {
  const lines = spawnSync('nm', ['-D', '--defined-only', kAddon], { encoding: 'utf8' }).stdout.trim().split('\n');
  const names = lines.map((line) => line.split(' ').pop()!).sort();
  expect(names).toEqual([
    'TVMAPISetLastError',
    'TVMArrayAlloc',
    'TVMArrayFree',
    'TVMBackendAllocWorkspace',
    'TVMBackendFreeWorkspace',
    'TVMBackendGetFuncFromEnv',
    'TVMBackendParallelBarrier',
    'TVMBackendParallelLaunch',
    'TVMBackendRegisterSystemLibSymbol',
    'TVMBackendRunOnce',
    'TVMDeviceAllocDataSpace',
    'TVMDeviceFreeDataSpace',
    'TVMFuncCall',
    'TVMFuncFree',
    'TVMFuncGetGlobal',
    'TVMGetLastError',
    '_ZN3tvm7runtime6detail8LogFatal8GetEntryEv',
    '_ZN3tvm7runtime9BacktraceB5cxx11Ev',
    '__gnu_f2h_ieee',
    '__gnu_h2f_ieee',
    'napi_register_module_v1',
    'node_api_module_get_api_version_v1',
  ]);
});

test('the addon needs neither CUDA nor NVML to be loaded', () => {
  const needed = spawnSync('ldd', [kAddon], { encoding: 'utf8' }).stdout;
  expect(needed).toContain('libc.so');
  expect(needed).not.toMatch(/cuda|nvidia/i);
});

test('kernels are not part of the addon', () => {
  const { stdout } = spawnSync(process.execPath, [join(kRoot, 'native/build.mjs'), '--list-sources'], { encoding: 'utf8' });
  expect(stdout).toContain('native/addon.cc');
  expect(stdout).not.toContain('native/kernels');
});

test('a machine without compiler is told what to install', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ladder-build-'));
  mkdirSync(join(folder, 'native'));
  for (const path of ['binding.gyp', 'package.json', 'native/build.mjs', 'native/addon.cc', 'native/exports.map'])
    cpSync(join(kRoot, path), join(folder, path));
  const result = spawnSync(process.execPath, [join(folder, 'native/build.mjs')], { encoding: 'utf8', env: { PATH: folder } });
  expect(result.status).toBe(1);
  expect(result.stderr).toContain('a C++17 compiler (c++), make, python3');
  expect(result.stderr).toContain('apt-get install g++ make python3');
  expect(result.stderr).toContain('Then run `node native/build.mjs`');
  rmSync(folder, { recursive: true });
});

test.each([
  ['npm', 'node_modules/ladder-checkpoints', 'Then run `npm rebuild ladder-checkpoints`'],
  ['pnpm', 'node_modules/.pnpm/ladder-checkpoints@0.1.0/node_modules/ladder-checkpoints', 'Then run `pnpm rebuild ladder-checkpoints`'],
])('a dependent of %s is told what builds it again', (_, where, advice) => {
  const root = mkdtempSync(join(tmpdir(), 'ladder-build-'));
  const folder = join(root, where);
  mkdirSync(join(folder, 'native'), { recursive: true });
  for (const path of ['binding.gyp', 'package.json', 'native/build.mjs', 'native/addon.cc', 'native/exports.map'])
    cpSync(join(kRoot, path), join(folder, path));
  const result = spawnSync(process.execPath, [join(folder, 'native/build.mjs')], { encoding: 'utf8', env: { PATH: folder } });
  expect(result).toMatchObject({ status: 1, stderr: expect.stringContaining(advice) as string });
  rmSync(root, { recursive: true });
});

test('an addon that is not there is built by what its package manager has', () => {
  expect(addonRemedy('/home/me/clone/')).toBe("build it with `node native/build.mjs` in the package's folder");
  expect(addonRemedy('/p/node_modules/ladder-checkpoints/')).toBe('build it with `npm rebuild ladder-checkpoints`');
  expect(addonRemedy('/p/node_modules/.pnpm/l@1/node_modules/ladder-checkpoints/')).toMatch(
    /^build it with `pnpm approve-builds` and `pnpm rebuild/,
  );
});

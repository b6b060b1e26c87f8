// The published package: packed, installed with neither compiler nor Python into another folder's TypeScript project, type-checked
// there, and run on the CPU.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const root = await mkdtemp(join(tmpdir(), 'ladder-package-'));
afterAll(() => rm(root, { recursive: true, force: true }));

// A PATH as of a small container: Node.js, a shell, and what npm's own scripts call.
const bin = join(root, 'bin');
await mkdir(bin);
for (const [name, path] of [
  ['node', process.execPath],
  ...['npm', 'npx'].map((tool) => [tool, join(dirname(process.execPath), tool)]),
  ...['sh', 'env', 'uname', 'getconf', 'git'].map((tool) => [tool, join('/usr/bin', tool)]),
] as [string, string][])
  if (existsSync(path)) await symlink(path, join(bin, name));

function run(cwd: string, command: string, ...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    // Not the variables that `npm test` set for this package.
    const env = {
      ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(package|lifecycle|command)|CXX|PYTHON)/.test(name))),
      ...(cwd !== repository && { PATH: bin, XDG_CACHE_HOME: join(root, 'cache') }),
    };
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out, err }));
  });
}

const program = `
import { buildCheckpoint, inspectPrebuilt, LadderError, listDevices, loadPrebuilt, packMatrix, packWeights, runPrebuilt, verifyPrebuilt, type BenchRecord, type BuildResult, type PackedWeights, type RunResult } from 'ladder-checkpoints';

const path = process.argv[2]!;
const result: RunResult = await runPrebuilt(path, { device: 'cpu', minSamples: 2, maxSamples: 2, warmupMs: 0 });
const median: number | undefined = result.samples?.medianMs;
await using layer = await loadPrebuilt(path, { device: 'cpu' });
await layer.setInput(layer.inputNames[0]!, new Float32Array(512).fill(0.5));
await layer.run();
const output: Float32Array = await layer.getOutput(0, { as: 'float32' });
let code = '';
try {
  await layer.setInput('nothing', new Uint16Array(1));
} catch (error) {
  if (error instanceof LadderError && error.code === 'UNKNOWN_INPUT') code = error.code;
}
const record: Pick<BenchRecord, 'latencyMs'> = { latencyMs: result.latencyMs };
const { passed } = await verifyPrebuilt(path, { device: 'cpu' });
const { problems } = await inspectPrebuilt(path);
const built: BuildResult = await buildCheckpoint('llama2-tiny', { root: 'built', weight: 'nf4', group: 64, compile: false });
await packWeights(built.folder, (_name, shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.01));
await using real = await loadPrebuilt(built.folder, { device: 'cpu' });
const packed: PackedWeights = await packMatrix(new Float32Array(64).fill(1), 'int4', { k: 64 });
console.log(JSON.stringify({ median, finite: output.every(Number.isFinite), code, record, passed, problems: problems.length, devices: listDevices().length, weights: real.weights, packed: packed.weight[0] }));
`;

it('installs, type-checks and runs in a TypeScript project of its own', async (context) => {
  const packed = await run(repository, 'npm', 'pack', '--json', '--pack-destination', root);
  expect(packed.status, packed.err).toBe(0);
  // Scripts that run before packing may print, too.
  const [listing] = JSON.parse(packed.out.slice(packed.out.indexOf('[\n'))) as [{ filename: string; files: { path: string }[] }];
  const files = listing.files.map(({ path }) => path);
  for (const path of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/cli/main.js',
    'binding.gyp',
    'build/Release/ladder.node',
    'build/Release/fingerprint',
    'native/addon.cc',
    'native/build.mjs',
    'bench/cases.json',
    'package.json',
  ])
    expect(files).toContain(path);
  expect(
    files.filter((path) => /^(lib|test|node_modules|build\/(?!Release\/(ladder\.node|fingerprint)$)|bench\/(out|results))\/?/.test(path)),
  ).toEqual([]);

  const project = join(root, "it's a 100% project");
  await mkdir(project);
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }));
  const versions = (JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> })
    .devDependencies;
  const installed = await run(
    project,
    'npm',
    'install',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    join(root, listing.filename),
    `typescript@${versions['typescript']}`,
    `@types/node@${versions['@types/node']}`,
  );
  if (installed.status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH/.test(installed.err)) {
    console.log('skipping the installation of the package: no package registry can be reached');
    context.skip('no package registry can be reached');
  }
  expect(installed.status, installed.err).toBe(0);

  await writeFile(
    join(project, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        target: 'ES2022',
        lib: ['ES2023', 'ESNext.Disposable'],
        module: 'NodeNext',
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        types: ['node'],
      },
      files: ['main.ts'],
    }),
  );
  await writeFile(join(project, 'main.ts'), program);
  const checked = await run(project, 'npx', 'tsc');
  expect([checked.status, checked.out]).toEqual([0, '']);

  const [checkpoint] = await buildCheckpoints([parseRequest({ model: 'llama2-tiny', batch: 1, seq: 1, weight: 'int4' })], {
    root: join(root, 'checkpoints'),
    compile: false,
  });
  const ran = await run(project, process.execPath, 'main.js', checkpoint!.folder);
  expect(ran.status, ran.err).toBe(0);
  expect(JSON.parse(ran.out)).toEqual({
    median: expect.any(Number),
    finite: true,
    code: 'UNKNOWN_INPUT',
    record: { latencyMs: expect.any(Number) },
    passed: true,
    problems: 0,
    devices: expect.any(Number),
    weights: 'file',
    packed: 0x77,
  });

  const cli = await run(project, 'npx', 'ladder', 'run', checkpoint!.folder, '--device', 'cpu', '--max-samples', '2', '--json');
  expect([cli.status, JSON.parse(cli.out).status]).toEqual([0, 'ok']);

  // A checkpoint of the package is built in the cache folder, not in node_modules.
  const named = await run(project, 'npx', 'ladder', 'inspect', 'llama2-70b/llama2_bs1_seq1_async', '--json');
  expect(named.out).toContain(join(root, 'cache', 'ladder-checkpoints'));

  // Packages that are optional.
  await rm(join(project, 'node_modules', 'pdfkit'), { recursive: true });
  expect(await run(project, 'npx', 'ladder', 'plot')).toMatchObject({
    status: 1,
    err: expect.stringMatching(/npm install --include=optional.*pdfkit/s) as string,
  });

  // A glibc that lacks a version which the addon was linked with.
  const installedPackage = join(project, 'node_modules', 'ladder-checkpoints');
  const addon = join(installedPackage, 'build', 'Release', 'ladder.node');
  const bytes = (await readFile(addon)).toString('latin1');
  expect(bytes).toContain('GLIBC_2.34');
  await writeFile(addon, Buffer.from(bytes.replaceAll('GLIBC_2.34', 'GLIBC_9.34'), 'latin1'));
  expect(await run(installedPackage, process.execPath, 'native/build.mjs')).toMatchObject({
    status: 1,
    err: expect.stringMatching(/does not load here \(.*GLIBC_9\.34.*needs a C\+\+17 compiler .*, make, python3/s) as string,
  });
}, 600_000);

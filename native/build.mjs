// Builds the addon with node-gyp, only when its sources changed or what is there does not load, and without any network. The npm
// package brings the addon built; Node-API serves every Node.js that it is loaded by.
//
//   node native/build.mjs              build/Release/ladder.node
//   node native/build.mjs --sanitize   build/Sanitize/ladder.node, with AddressSanitizer and UBSan; use it by
//     LADDER_ADDON=$PWD/build/Sanitize/ladder.node LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
//     ASAN_OPTIONS=detect_leaks=0 node …   (V8 keeps memory until the process ends: leaks are read from allocatedBytes() instead)
//   --force builds in any case; --list-sources prints the translation units (binding.gyp asks for them).
//   LADDER_WERROR=1 asks for more warnings and makes each an error: continuous integration's compiler is known, a user's is not.
//
// Plain Node.js: it runs before anything is compiled.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const kRoot = join(dirname(fileURLToPath(import.meta.url)), '..');
const kBuild = join(kRoot, 'build');
const require = createRequire(import.meta.url);

/** Files below native/ with that ending, without the kernels, sorted. */
function nativeFiles(pattern) {
  return readdirSync(join(kRoot, 'native'), { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && pattern.test(file.name))
    .map((file) => relative(kRoot, join(file.parentPath ?? file.path, file.name)))
    .filter((path) => !path.startsWith(join('native', 'kernels')))
    .sort();
}

/** Paths that make and gyp pass on as they are: neither quotes a space, an apostrophe or a percent sign everywhere. */
const isPlain = (path) => /^[\w@./+,:=-]+$/.test(path);

/** How to come back here: as a dependency, or in a clone. */
function again() {
  if (!kRoot.split(sep).includes('node_modules')) return '`node native/build.mjs`';
  return kRoot.split(sep).includes('.pnpm') ? '`pnpm rebuild ladder-checkpoints`' : '`npm rebuild ladder-checkpoints`';
}

function fail(message) {
  process.stderr.write(`ladder: ${message}\n`);
  process.exit(1);
}

/** What the binary depends on; equal fingerprints need no build. */
function fingerprint(variant) {
  const hash = createHash('sha256');
  hash.update([variant, process.arch, JSON.parse(readFileSync(join(kRoot, 'package.json'), 'utf8')).version].join('\0'));
  for (const path of ['binding.gyp', 'native/build.mjs', 'native/exports.map', ...nativeFiles(/\.(cc|h)$/)]) {
    hash.update(`\0${path}\0`);
    hash.update(readFileSync(join(kRoot, path)));
  }
  return hash.digest('hex');
}

/**
 * The folder with Node's headers: npm's `nodedir`, the headers beside this Node.js, or a folder made from the package
 * node-api-headers, which suffices since the addon uses Node-API only.
 */
function nodeDirectory(workspace) {
  const configured = process.env.npm_config_nodedir;
  if (configured && isPlain(configured)) return configured;
  const prefix = join(dirname(process.execPath), '..');
  const hasHeaders = existsSync(join(prefix, 'include/node/common.gypi')) && existsSync(join(prefix, 'include/node/node_api.h'));
  if (hasHeaders && isPlain(prefix)) return prefix;
  const made = join(workspace, 'node-headers');
  const include = join(made, 'include/node');
  mkdirSync(include, { recursive: true });
  const headers = require('node-api-headers').include_dir;
  for (const name of readdirSync(headers)) copyFileSync(join(headers, name), join(include, name));
  writeFileSync(
    join(include, 'common.gypi'),
    `{
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': { 'Release': { 'cflags': ['-O3'] }, 'Debug': { 'cflags': ['-O0', '-g'] } },
    'cflags': ['-fPIC', '-pthread'], 'ldflags': ['-pthread'],
    'defines': ['_FILE_OFFSET_BITS=64', 'BUILDING_NODE_EXTENSION'],
  }
}
`,
  );
  writeFileSync(
    join(include, 'config.gypi'),
    JSON.stringify({ target_defaults: {}, variables: { host_arch: process.arch, target_arch: process.arch } }),
  );
  return made;
}

function works(command, argument) {
  return spawnSync(command, [argument], { stdio: 'ignore' }).status === 0;
}

function requireTools() {
  const compiler = process.env.CXX?.split(' ')[0] ?? 'c++';
  const missing = [];
  if (!works(compiler, '--version')) missing.push(`a C++17 compiler (${compiler})`);
  if (!works('make', '--version')) missing.push('make');
  if (!works(process.env.PYTHON ?? 'python3', '--version')) missing.push('python3');
  if (missing.length === 0) return;
  fail(
    `building the native addon needs ${missing.join(', ')}; on Debian and Ubuntu: apt-get install g++ make python3. Then run ${again()}`,
  );
}

/** Why a binary does not load here, e.g. by an older glibc than the one that it was linked with; null where it does. */
function loadFailure(target) {
  try {
    require(target);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** Two builds at once would write over each other: the second waits. */
async function locked(body) {
  const lock = join(kBuild, 'addon.lock');
  mkdirSync(kBuild, { recursive: true });
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      const holder = Number(existsSync(lock) ? readFileSync(lock, 'utf8') : 0);
      if (holder && !existsSync(`/proc/${holder}`)) rmSync(lock, { force: true });
      else await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  try {
    return await body();
  } finally {
    rmSync(lock, { force: true });
  }
}

function runNodeGyp(directory, sanitize, strict) {
  const gyp = require.resolve('node-gyp/bin/node-gyp.js');
  const options = [
    'rebuild',
    '--release',
    '--loglevel=warn',
    `--directory=${directory}`,
    `--nodedir=${nodeDirectory(directory)}`,
    '--jobs=max',
  ];
  const definitions = [...(sanitize ? ['-Dsanitize=true'] : []), ...(strict ? ['-Dwerror=true'] : [])];
  if (definitions.length > 0) options.push('--', ...definitions);
  const result = spawnSync(process.execPath, [gyp, ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }, // binding.gyp asks `node`: this one
  });
  if (result.status === 0) return;
  process.stderr.write(result.stdout + result.stderr);
  fail(`building the native addon failed; the compiler's output is above. When what it names is mended, run ${again()}`);
}

/**
 * The folder that is built in. node-gyp's `build` folder is fixed, and `rebuild` empties it, so that sources are copied and the result
 * is copied back; where this package lies in a path that is not plain, the folder is a temporary one.
 */
function makeWorkspace(variant) {
  const beside = join(kBuild, `gyp-${variant.toLowerCase()}`);
  const temporary = isPlain(tmpdir()) ? tmpdir() : '/tmp';
  // What a build that was killed left there.
  for (const name of isPlain(beside) ? [] : readdirSync(temporary)) {
    const pid = /^ladder-addon-(\d+)-/.exec(name)?.[1];
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(join(temporary, name), { recursive: true, force: true });
  }
  const workspace = isPlain(beside) ? beside : mkdtempSync(join(temporary, `ladder-addon-${process.pid}-`));
  rmSync(workspace, { recursive: true, force: true });
  const kernels = join(kRoot, 'native', 'kernels');
  cpSync(join(kRoot, 'native'), join(workspace, 'native'), { recursive: true, filter: (path) => path !== kernels });
  for (const name of ['binding.gyp', 'package.json']) copyFileSync(join(kRoot, name), join(workspace, name));
  const headers = dirname(require.resolve('node-addon-api/package.json'));
  mkdirSync(join(workspace, 'node-addon-api'));
  for (const name of readdirSync(headers))
    if (name.endsWith('.h')) copyFileSync(join(headers, name), join(workspace, 'node-addon-api', name));
  return { workspace, isTemporary: workspace !== beside };
}

function build(variant, target, strict) {
  const { workspace, isTemporary } = makeWorkspace(variant);
  try {
    runNodeGyp(workspace, variant === 'Sanitize', strict);
    mkdirSync(dirname(target), { recursive: true });
    rmSync(target, { force: true }); // a new file: processes that use the old one keep it
    copyFileSync(join(workspace, 'build/Release/ladder.node'), target);
  } finally {
    if (isTemporary) rmSync(workspace, { recursive: true, force: true });
  }
}

async function main() {
  const flags = new Set(process.argv.slice(2));
  if (flags.has('--list-sources')) {
    process.stdout.write(nativeFiles(/\.cc$/).join('\n') + '\n');
    return;
  }
  const variant = flags.has('--sanitize') ? 'Sanitize' : 'Release';
  const target = join(kBuild, variant, 'ladder.node');
  const stamp = join(kBuild, variant, 'fingerprint');
  const strict = process.env.LADDER_WERROR === '1';
  await locked(() => {
    const wanted = fingerprint(variant);
    // What was built without a warning is the same binary: it serves where warnings are allowed, too, but not the other way round.
    const enough = strict ? [`${wanted} strict`] : [wanted, `${wanted} strict`];
    if (!flags.has('--force') && existsSync(target) && existsSync(stamp) && enough.includes(readFileSync(stamp, 'utf8'))) {
      // The sanitized one loads only where LD_PRELOAD says so.
      const failure = variant === 'Release' ? loadFailure(target) : null;
      if (failure === null) return;
      process.stderr.write(`ladder: the native addon that was built elsewhere does not load here (${failure})\n`);
    }
    requireTools();
    process.stderr.write(`ladder: building the native addon (${variant})…\n`);
    const start = performance.now();
    build(variant, target, strict);
    writeFileSync(stamp, enough[0]);
    process.stderr.write(`ladder: built ${relative(process.cwd(), target)} in ${((performance.now() - start) / 1000).toFixed(0)} s\n`);
  });
}

await main();

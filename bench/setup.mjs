// Makes a fresh clone ready: `npm test`, `npm run bench` and `npm pack` call it first. Three steps, each skipped in
// milliseconds when nothing has changed: dependencies (npm ci), the native addon (native/build.mjs), TypeScript (dist/).
// --dependencies: the first only, which is all that `npm run lint` needs.
// Plain Node, since nothing is installed yet. The published package ships dist/ and does not come here.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}

/** Runs a program in the package's folder; its output is shown on stderr, so that stdout stays the command's own. */
function run(what, command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.error) throw new Error(`${what} failed: ${command} could not be started (${result.error.message})`);
  if (result.status !== 0) throw new Error(`${what} failed (${result.signal ?? `status ${result.status}`}); its output is above`);
}

/** Packages that package-lock.json wants and node_modules lacks or has in another version. Optional ones may be absent. */
function staleDependencies() {
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installedPath = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedPath)) return ['node_modules'];
  const installed = JSON.parse(readFileSync(installedPath, 'utf8')).packages;
  return Object.entries(wanted)
    .filter(([path, entry]) => path !== '' && !entry.optional && !entry.peer && installed[path]?.version !== entry.version)
    .map(([path]) => path);
}

function ensureDependencies() {
  const stale = staleDependencies();
  if (stale.length === 0) return;
  say(`installing dependencies (${stale.length === 1 ? stale[0] : `${stale.length} packages`})`);
  // Install scripts are not run: the only one that matters is our own, which is the next step.
  run('npm ci', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** SHA-256 over names and contents of what tsc reads. */
function sourcesHash() {
  const hash = createHash('sha256');
  const files = readdirSync(join(root, 'lib'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const file of [...files, join(root, 'tsconfig.json'), join(root, 'package-lock.json')]) {
    hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

/** What a compilation that was killed left behind. */
function removeStale() {
  for (const name of readdirSync(root)) {
    const pid = /^dist(?:-old)?\.(\d+)\.partial$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(root, name), { recursive: true, force: true });
  }
}

function ensureTypeScript() {
  const stampPath = join(root, 'dist', '.sources');
  const hash = sourcesHash();
  if (existsSync(stampPath) && readFileSync(stampPath, 'utf8') === hash) return;
  say('compiling TypeScript');
  removeStale();
  // Into a folder of its own, then swapped: a failed or interrupted compilation leaves the old dist/ as it was.
  const partial = join(root, `dist.${process.pid}.partial`);
  const old = join(root, `dist-old.${process.pid}.partial`);
  rmSync(partial, { recursive: true, force: true });
  try {
    run('tsc', process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-p', '.', '--outDir', partial]);
    mkdirSync(partial, { recursive: true });
    writeFileSync(join(partial, '.sources'), hash);
    if (existsSync(join(root, 'dist'))) renameSync(join(root, 'dist'), old);
    renameSync(partial, join(root, 'dist'));
  } finally {
    rmSync(partial, { recursive: true, force: true });
    rmSync(old, { recursive: true, force: true });
  }
}

try {
  ensureDependencies();
  if (!process.argv.includes('--dependencies')) {
    run('building the native addon', process.execPath, [join('native', 'build.mjs')]);
    ensureTypeScript();
  }
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}

// Whether a change leaves the device code of the committed checkpoints as it was: compiles every unit for sm_90a, sm_80 and PTX and
// writes the SHA-256 of each; with --against, compares them with what another tree gave. Needs nvcc; 156 units take minutes.
// Usage: node bench/kernels/machine-code.mjs OUT.json [--against BEFORE.json] [--only REGEX] [--jobs N]     (after npm run build)
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    against: { type: 'string' },
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: String(availableParallelism()) },
  },
});
const [out] = positionals;
if (!out) {
  process.stderr.write('usage: node bench/kernels/machine-code.mjs OUT.json [--against BEFORE.json] [--only REGEX] [--jobs N]\n');
  process.exit(2);
}
const modules = ['compiler/design.js', 'compiler/targets.js', 'compiler/emit/compile.js', 'artifact/checkpoint.js', 'run/package.js'];
const [
  { designStored, requestOf },
  { buildTargets, nvccFlags, layoutTarget },
  { findNvcc, kernelsFolder },
  { readManifest },
  { listCheckpoints },
] = await Promise.all(modules.map((name) => import(join(root, 'dist', name))));

const nvcc = await findNvcc();
if (nvcc === null) throw new Error('nvcc was not found');
const folder = await mkdtemp(join(tmpdir(), 'ladder-code-'));
const units = [];
for (const { name, path } of await listCheckpoints()) {
  const manifest = await readManifest(path);
  if (manifest === null || !new RegExp(values.only).test(name)) continue;
  const { sources } = await designStored(requestOf(manifest), path, layoutTarget.id);
  sources.kernels.forEach((text, i) => {
    for (const target of buildTargets)
      if (sources.kernelTargets[i].includes(target.id)) units.push({ key: `${name} kernels${i} ${target.id}`, text, target });
  });
}
const hashes = {};
const queue = [...units.entries()];
await Promise.all(
  Array.from({ length: Math.max(1, Number(values.jobs)) }, async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [i, { key, text, target }] = next;
      // One name for all: PTX and cubins hold it.
      const at = await mkdtemp(join(folder, 'unit-'));
      await writeFile(join(at, 'kernels.cu'), text);
      await promisify(execFile)(
        nvcc,
        [
          target.capability === null ? '-ptx' : '-cubin',
          ...nvccFlags,
          '-gencode',
          target.gencode,
          '-I',
          kernelsFolder,
          '-o',
          'code',
          'kernels.cu',
        ],
        { cwd: at },
      );
      hashes[key] = createHash('sha256')
        .update(await readFile(join(at, 'code')))
        .digest('hex');
      process.stderr.write(`\r${i + 1} of ${units.length}`);
    }
  }),
);
await rm(folder, { recursive: true });
process.stderr.write('\n');
await writeFile(out, `${JSON.stringify(hashes, Object.keys(hashes).sort(), 1)}\n`);
if (values.against !== undefined) {
  const before = JSON.parse(await readFile(values.against, 'utf8'));
  const other = Object.keys(hashes).filter((key) => before[key] !== hashes[key]);
  process.stdout.write(
    other.length === 0 ? `all ${units.length} are as before\n` : `${other.length} of ${units.length} differ:\n${other.join('\n')}\n`,
  );
  process.exitCode = other.length === 0 ? 0 : 1;
}

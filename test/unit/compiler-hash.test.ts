// What makes a model.so stale: the kernel files that its sources include, directly or through others, and nothing else of
// native/kernels. A copy of the kernels is changed, file by file, and the hashes of all committed checkpoints are compared.
import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkpointPlace } from '../../lib/artifact/names.js';
import { type CheckpointDesign, designStored } from '../../lib/compiler/design.js';
import { generateSources } from '../../lib/compiler/emit/codegen.js';
import { kernelsFolder } from '../../lib/compiler/emit/compile.js';
import { hashOfSources, KernelFiles } from '../../lib/compiler/emit/sources.js';
import { figure8Requests } from '../../lib/compiler/figure8.js';
import { packageRoot } from '../../lib/run/package.js';

const folder = mkdtempSync(join(tmpdir(), 'ladder-hash-'));
cpSync(kernelsFolder, folder, { recursive: true });
afterAll(() => rmSync(folder, { recursive: true }));

const kRoot = join(packageRoot, 'checkpoints', 'Figure8', 'ladder', 'checkpoint');
const designs = new Map<string, CheckpointDesign>(
  await Promise.all(
    figure8Requests().map(async (request) => {
      const name = checkpointPlace(request);
      return [name, await designStored(request, join(kRoot, name), 'sm_90a')] as const;
    }),
  ),
);
const names = [...designs.keys()];
/** What is generated does not depend on the kernel files: it is made once, and hashed with each copy of them. */
const drafts = new Map([...designs].map(([name, { model, planned }]) => [name, generateSources(model, planned, '')]));
const headers = readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.cuh'))
  .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
  .sort();

/** The checkpoints of which changes are observed: of networks those of one image, which the others' kernels are. */
const observed = names.filter((name) => name.includes('/') || /-b1(_|$)/.test(name));

const hashes = (of: readonly string[] = observed): ReadonlyMap<string, string> => {
  const files = new KernelFiles(folder);
  return new Map(of.map((name) => [name, hashOfSources(drafts.get(name)!, files)]));
};
const before = hashes(names);

/** The checkpoints whose hashes change with the copy. */
function changedBy(change: () => void, undo: () => void): readonly string[] {
  change();
  try {
    const after = hashes();
    return observed.filter((name) => after.get(name) !== before.get(name));
  } finally {
    undo();
  }
}

/** Those that a comment more in a file changes. */
function commented(file: string): readonly string[] {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  return changedBy(
    () => appendFileSync(path, '// another comment\n'),
    () => writeFileSync(path, text),
  );
}

/** Files that a text includes with quotation marks, by the plainest reading: each line by itself, until nothing is new. */
function reachedFrom(texts: readonly string[]): ReadonlySet<string> {
  const reached = new Set<string>();
  for (let rest = [...texts]; rest.length > 0; ) {
    const found = rest
      .flatMap((text) => text.split('\n'))
      .filter((line) => line.trim().startsWith('#include "'))
      .map((line) => line.split('"')[1]!)
      .filter((name) => !reached.has(name));
    for (const name of found) reached.add(name);
    rest = found.map((name) => readFileSync(join(folder, name), 'utf8'));
  }
  return reached;
}
const reached = new Map([...designs].map(([name, { sources }]) => [name, reachedFrom(sources.kernels)]));

describe('the hash of a model.so', () => {
  it("is that of the package's own kernels, where nothing is changed", () => {
    for (const [name, { manifest, sources }] of designs) {
      expect(before.get(name)).toBe(manifest.build.sources);
      expect(sources.host).toContain(`__ladder_sources[65] = "${manifest.build.sources}"`);
    }
    expect(new Set(before.values()).size).toBe(names.length);
    expect(hashes(names)).toEqual(before);
  });

  it('changes with a comment in matmul/thin/warpgroup.cuh where that is included, and nowhere else', () => {
    const changed = commented('matmul/thin/warpgroup.cuh');
    expect(changed).toEqual(observed.filter((name) => reached.get(name)!.has('matmul/thin/warpgroup.cuh')));
    // 32 tokens, in INT4, NF4, INT1 and MXFP8, of both models; and of one token BLOOM's NF4, whose widest row a block does not hold.
    expect(changed).toEqual(observed.filter((name) => /_fq_0_(int_4|nf_4|int_1|mxfp_8)_.*_bs32_|^bloom.*_nf_4_-1_bs1_seq1_/.test(name)));
    expect(changed).toHaveLength(9);
  });

  it('changes everywhere with a comment in core/ptx.cuh', () => {
    expect(commented('core/ptx.cuh')).toEqual(observed);
  });

  it.each(headers)('changes with %s where that is included, directly or through others', (file) => {
    expect(commented(file)).toEqual(observed.filter((name) => reached.get(name)!.has(file)));
  });

  it('changes with nothing that nobody includes: new files, other files of the folder', () => {
    const path = join(folder, 'matmul/thin/later.cuh');
    expect(
      changedBy(
        () => writeFileSync(path, '#include "core/ptx.cuh"\n'),
        () => rmSync(path),
      ),
    ).toEqual([]);
    expect(commented('README.md')).toEqual([]);
    const simple = headers.filter((file) => file.startsWith('simple/'));
    expect(simple.length).toBeGreaterThan(0);
    // Decoder layers have kernels made for speed alone.
    for (const file of simple) expect(commented(file).filter((name) => name.includes('/'))).toEqual([]);
  });

  it('changes when a file includes another one, and with that one from then on', () => {
    const [path, later] = [join(folder, 'matmul/thin/thin.cuh'), join(folder, 'matmul/thin/later.cuh')];
    const text = readFileSync(path, 'utf8');
    const users = observed.filter((name) => reached.get(name)!.has('matmul/thin/thin.cuh'));
    expect(users.length).toBeGreaterThan(0);
    const include = (): void => {
      writeFileSync(later, '// later\n');
      writeFileSync(path, `#include "matmul/thin/later.cuh"\n${text}`);
    };
    const undo = (): void => {
      writeFileSync(path, text);
      rmSync(later);
    };
    expect(changedBy(include, undo)).toEqual(users);
    include();
    try {
      const with_ = hashes();
      appendFileSync(later, '// another comment\n');
      const after = hashes();
      expect(observed.filter((name) => after.get(name) !== with_.get(name))).toEqual(users);
    } finally {
      undo();
    }
  });

  it('follows paths that begin beside the file, and files that include each other', () => {
    const [one, two] = [join(folder, 'core/one.cuh'), join(folder, 'core/two.cuh')];
    writeFileSync(one, '#include "./two.cuh"\n');
    writeFileSync(two, '#include "core/one.cuh"\n#include <cstdint>\n// #include "core/none.cuh"\n');
    try {
      const text = '#include "core/one.cuh"\n';
      const hash = new KernelFiles(folder).hashIncludes(text);
      expect(new KernelFiles(folder).hashIncludes(text)).toBe(hash);
      appendFileSync(two, '\n');
      expect(new KernelFiles(folder).hashIncludes(text)).not.toBe(hash);
    } finally {
      rmSync(one);
      rmSync(two);
    }
  });

  it('is refused where a file is not there, naming it', () => {
    expect(() => new KernelFiles(folder).hashIncludes('#include "core/nowhere.cuh"\n')).toThrow(
      expect.objectContaining({ code: 'IO', message: expect.stringContaining('core/nowhere.cuh') }),
    );
  });
});

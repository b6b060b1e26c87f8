/**
 * What makes a model.so stale: the SHA-256 over its generated sources, the kernel files that these include, directly or through
 * others, and nvcc's flags and targets. Files that a checkpoint does not include leave it alone. model.so carries the hash as the exported
 * string `__ladder_sources`.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { LadderError } from '../../errors.js';
import type { LoweredModel } from '../graph/lower.js';
import { buildTargets, nvccFlags } from '../targets.js';
import { generateSources, type ModuleSources, type PlannedOperator } from './codegen.js';
import { kernelsFolder } from './compile.js';

/** Generated sources and their hash. */
export interface HashedSources {
  readonly sources: ModuleSources;
  readonly hash: string;
}

interface KernelFile {
  readonly text: string;
  /** As paths below the folder. */
  readonly includes: readonly string[];
}

/** The kernel files below one folder, each read once, and each set of them hashed once: many sources include the same. */
export class KernelFiles {
  private readonly files = new Map<string, KernelFile>();
  private readonly hashes = new Map<string, string>();

  constructor(private readonly folder: string) {}

  /**
   * SHA-256 over the files that `text` includes with quotation marks, directly or through others, names included.
   * @throws LadderError `IO` for a file that is not there
   */
  hashIncludes(text: string): string {
    const reached = new Set<string>();
    const visit = (path: string): void => {
      if (reached.has(path)) return;
      reached.add(path);
      this.read(path).includes.forEach(visit);
    };
    includesOf(text).forEach(visit);
    const paths = [...reached].sort();
    const key = paths.join('\0');
    const known = this.hashes.get(key);
    if (known !== undefined) return known;
    const hash = createHash('sha256');
    for (const path of paths) hash.update(path).update('\0').update(this.read(path).text).update('\0');
    const digest = hash.digest('hex');
    this.hashes.set(key, digest);
    return digest;
  }

  private read(path: string): KernelFile {
    const known = this.files.get(path);
    if (known) return known;
    let text: string;
    try {
      text = readFileSync(join(this.folder, path), 'utf8');
    } catch (cause) {
      throw new LadderError('IO', `${join(this.folder, path)} could not be read: ${(cause as Error).message}`, { path }, { cause });
    }
    // As the compiler looks: beside the file that includes, then below the folder; all of ours are written from the folder on.
    const file = { text, includes: includesOf(text).map((name) => (name.startsWith('.') ? normalize(join(dirname(path), name)) : name)) };
    this.files.set(path, file);
    return file;
  }
}

function includesOf(text: string): readonly string[] {
  return [...text.matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"/gm)].map((match) => match[1]!);
}

const packageKernels = new KernelFiles(kernelsFolder);

/** The hash of sources that do not carry it yet. @param kernels where the files lie that they include */
export function hashOfSources(draft: ModuleSources, kernels: KernelFiles): string {
  return createHash('sha256')
    .update(
      [
        ...draft.kernels.flatMap((text, i) => [text, kernels.hashIncludes(text), draft.kernelTargets[i]!.join()]),
        draft.host,
        draft.blob,
        ...nvccFlags,
        ...buildTargets.map(({ gencode }) => gencode),
      ].join('\0'),
    )
    .digest('hex');
}

/** Generates the sources of a model.so and puts their hash into them. */
export function hashSources(model: LoweredModel, planned: readonly PlannedOperator[]): HashedSources {
  const hash = hashOfSources(generateSources(model, planned, ''), packageKernels);
  return { sources: generateSources(model, planned, hash), hash };
}

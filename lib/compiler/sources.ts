/**
 * What makes a model.so stale: the SHA-256 over the kernel templates, the generated sources and the nvcc targets.
 * model.so carries it as the exported string `__ladder_sources`.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { generateSources, type ModuleSources, type PlannedOperator } from './codegen.js';
import { buildTargets, kernelsFolder } from './compile.js';
import type { LoweredModel } from './lower.js';

/** Generated sources and their hash. */
export interface HashedSources {
  readonly sources: ModuleSources;
  readonly hash: string;
}

let templates: string | undefined;

/** SHA-256 over every file below native/kernels, names included; read once per process. */
function templatesHash(): string {
  if (templates) return templates;
  const hash = createHash('sha256');
  const files = readdirSync(kernelsFolder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const file of files) hash.update(relative(kernelsFolder, file)).update('\0').update(readFileSync(file)).update('\0');
  templates = hash.digest('hex');
  return templates;
}

/** Generates the sources of a model.so and puts their hash into them. */
export function hashSources(model: LoweredModel, planned: readonly PlannedOperator[]): HashedSources {
  const draft = generateSources(model, planned, '');
  const hash = createHash('sha256')
    .update([templatesHash(), ...draft.kernels, draft.host, draft.blob, ...buildTargets.map(({ gencode }) => gencode)].join('\0'))
    .digest('hex');
  return { sources: generateSources(model, planned, hash), hash };
}

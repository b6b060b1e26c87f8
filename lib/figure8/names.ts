/** How the figures and tables call models, settings and systems, and which spellings mean the same. */
import { ladder, ladderNode, pyTorchInductor, systemNamed, welder } from '../baselines/systems/index.js';
import { models } from '../models/index.js';
import type { Entry } from './entry.js';

/** LLAMA, BLOOM, …; another model keeps its name. */
export function modelLabel(model: string): string {
  return models.find(model)?.label ?? model;
}

/** `bs1_seq4096` → `BS1 SEQ4096`. */
export function settingLabel(setting: string): string {
  return setting.replaceAll('_', ' ').toUpperCase();
}

/** A system as Figure 8 spells it: our own records stand where Ladder stands. */
export function systemFamily(system: string): string {
  const found = systemNamed(system);
  return found?.family ?? found?.label ?? system;
}

/** A system in a table: ours is told from the authors'. */
export function systemLabel(system: string): string {
  return systemNamed(system)?.label ?? system;
}

/** A system where there is little room. */
export function shortLabel(system: string): string {
  return systemNamed(system)?.short ?? system;
}

/** The system whose records are this package's own. */
export const ownSystem = ladderNode.id;

/** The figure's subject: the authors' bars and ours. */
export const subject = ladder.label;

/** What speed-ups are over, the first that was measured. */
export const references: readonly string[] = [welder, pyTorchInductor, ladder].map(({ label }) => label);
/** The paper's. */
export const paperReference = welder.label;

/** `NVIDIA H100 80GB HBM3` → `h100`: for file names. */
export function gpuSlug(name: string): string {
  const geforce = /\b(RTX|GTX)\s*(?:A?\d{3,4})\s*(?:Ti|SUPER)?/i.exec(name)?.[0];
  const token = geforce ?? /\b([A-Z]{1,3}\d{1,4}[A-Z]?)\b/.exec(name.replace(/-/g, ' '))?.[1] ?? name;
  return token.toLowerCase().replace(/[^a-z0-9]+/g, '') || 'gpu';
}

/** GPU names differ in blanks and hyphens between tools. */
export function sameGpu(a: string | null, b: string | null): boolean {
  const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');
  return a !== null && b !== null && plain(a) === plain(b);
}

/** A kind of clock in words. */
export function clockLabel(clock: string | null): string {
  return clock ?? 'not stated';
}

/** A commit's first twelve digits, and whether there was more than it. */
export function shortCommit(commit: string): string {
  return commit.replace(/^([0-9a-f]{12})[0-9a-f]{28}/, '$1');
}

/** Where a number comes from, for a hover: GPU, day, commit, file. */
export function describeSource({ gpu, date, commit, source }: Pick<Entry, 'gpu' | 'date' | 'commit' | 'source'>): string {
  return [gpu ?? 'GPU not stated', date?.slice(0, 10), commit === null ? undefined : `commit ${shortCommit(commit)}`, source]
    .filter((part) => part !== undefined)
    .join(', ');
}

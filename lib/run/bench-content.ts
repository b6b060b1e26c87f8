/**
 * What a record of a bench is a record of, by content: the checkpoint's files (of another system: its version), this package's code,
 * device, driver and options.
 * A bench takes an earlier record over only where all of it is still the same, and the record as it was written. Dates say
 * nothing: a clone, a copy or an unpacked archive has new ones for old files, and old ones for new files.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { kGraphFile, kManifestFile, kModuleFile, kParamsFile } from '../artifact/locate.js';
import { readRegularText } from '../artifact/regular-file.js';
import { hashOfFile } from '../artifact/seal.js';
import { LadderError } from '../errors.js';
import type { BenchCase } from './bench-cases.js';
import type { DeviceInfo } from './device.js';
import { throwIfAborted } from './options.js';
import { packageRoot } from './package.js';
import type { BenchRecord } from './record-types.js';
import { parseRecord } from './record.js';

/** Hash by name of what it is of; null: absent. */
export type BenchContent = Readonly<Record<string, string | null>>;

/** The manifest before model.so, of which it says whether it is ours. */
const kFiles = [kGraphFile, kManifestFile, kParamsFile, kModuleFile];
/** What of the environment changes which machine code runs. */
const kVariables = ['CUDA_FORCE_PTX_JIT', 'CUDA_DISABLE_PTX_JIT', 'CUDA_MODULE_LOADING'];

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** SHA-256 over files of this package, their names and what is in them. @param paths absolute, in an order of their own */
function hashOfFiles(paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths) hash.update(path.slice(packageRoot.length)).update('\0').update(readFileSync(path)).update('\0');
  return hash.digest('hex');
}

const addonPath = (): string => process.env['LADDER_ADDON'] ?? join(packageRoot, 'build', 'Release', 'ladder.node');

/** SHA-256 of the addon. */
export function addonHash(): string {
  return hashOfFiles([addonPath()]);
}

let code: string | undefined;

/** SHA-256 over what runs of this package: compiled TypeScript and the addon. */
function codeHash(): string {
  if (code !== undefined) return code;
  const dist = join(packageRoot, 'dist');
  const scripts = (readdirSync(dist, { recursive: true }) as string[]).filter((name) => name.endsWith('.js')).sort();
  code = hashOfFiles([...scripts.map((name) => join(dist, name)), addonPath()]);
  return code;
}

/** What times a rival: its scripts and adapters, and the rules that all systems share. Searches of days stand when other code changes. */
const kRivalCode = [
  ['bench/baselines', /\.py$/],
  ['dist/baselines/adapters', /\.js$/],
  ['dist/run', /^(bursts|conditions|judgement|statistics)\.js$/],
] as const;

/**
 * What a record of another system is a record of.
 * @param version of the system, with those of the libraries that it says
 * @param device that it runs on; null: none was found
 * @param options how it is timed
 */
export function rivalContentOf(version: string, device: DeviceInfo | null, options: Readonly<Record<string, unknown>>): BenchContent {
  const files = kRivalCode.flatMap(([folder, pattern]) =>
    readdirSync(join(packageRoot, folder))
      .filter((name) => pattern.test(name))
      .sort()
      .map((name) => join(packageRoot, folder, name)),
  );
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { code: hashOfFiles(files), system: version, ...deviceContent(device), options: sha256(JSON.stringify(given.sort())) };
}

function deviceContent(device: DeviceInfo | null): { readonly device: string | null; readonly driver: string | null } {
  if (device === null) return { device: null, driver: null };
  const { driverVersion, ...hardware } = device;
  return { device: sha256(JSON.stringify(hardware)), driver: driverVersion };
}

/**
 * Hashes what a case is about to measure. graph.params, which may be large, is streamed.
 * @throws LadderError `ABORTED`, `IO`
 */
export async function contentOf(one: BenchCase, device: DeviceInfo, signal: AbortSignal): Promise<BenchContent> {
  const files: Record<string, string | null> = {};
  for (const name of kFiles) {
    // On the CPU the operators of our own checkpoints are the reference's.
    const unused = name === kModuleFile && device.kind === 'cpu' && files[kManifestFile] !== null;
    files[name] = unused ? null : await hashIfThere(join(one.path, name), signal);
  }
  const variables = kVariables.map((name) => process.env[name] ?? null);
  return {
    ...files,
    code: codeHash(),
    ...deviceContent(device),
    options: sha256(JSON.stringify([one.verify, Object.entries(one.timing).sort(), variables])),
  };
}

/** What the same case is on another device of the same kind. */
export function onDevice(content: BenchContent, device: DeviceInfo): BenchContent {
  return { ...content, ...deviceContent(device) };
}

async function hashIfThere(path: string, signal: AbortSignal): Promise<string | null> {
  try {
    return await hashOfFile(path, { signal });
  } catch (cause) {
    throwIfAborted(signal);
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    if (cause instanceof LadderError) throw cause;
    throw new LadderError('IO', `cannot read ${path}: ${(cause as Error).message}`, { path }, { cause });
  }
}

/** Tells whether a checkpoint's files were written meanwhile, so that they are hashed again: cheap, and no more than that. */
export function fileStamps({ path }: BenchCase): string {
  return kFiles
    .map((name) => {
      const stats = statSync(join(path, name), { bigint: true, throwIfNoEntry: false });
      return stats ? `${stats.ino} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}` : '';
    })
    .join();
}

/** Names of what differs. */
export function differingContent(a: BenchContent, b: BenchContent): readonly string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name]);
}

/** A valid record of the very same content, or why there is none; null where nothing was measured yet. */
export function readEarlier(
  path: string,
  content: BenchContent,
): { readonly record: BenchRecord } | { readonly record: null; readonly reason: string } | null {
  if (!existsSync(path)) return null;
  const because = (reason: string): { record: null; reason: string } => ({ record: null, reason });
  let record: BenchRecord;
  try {
    record = parseRecord(readRegularText(path), path);
  } catch (error) {
    return because((error as Error).message);
  }
  if (record.status !== 'ok') return because(`its record says ${record.status}`);
  if (record.content === undefined) return because('its record does not say what was measured');
  if (!isUnedited(record)) return because('its record was changed after it was written');
  const differing = differingContent(record.content, content);
  return differing.length === 0 ? { record } : because(`its record is of another ${differing.join(', ')}`);
}

/** The record with its content and its own hash. */
export function sealRecord(record: BenchRecord, content: BenchContent): BenchRecord {
  const { sha256: _, ...rest } = { ...record, content: { ...content } };
  return { ...rest, sha256: recordHash(rest) };
}

/** Whether a record is as it was written; null for one that says nothing of it. */
export function isUnedited({ sha256: said, ...rest }: BenchRecord): boolean | null {
  return said === undefined ? null : said === recordHash(rest);
}

function recordHash(record: BenchRecord): string {
  return sha256(JSON.stringify(record, sortedKeys));
}

/** Objects with their keys in order, so that the order in a file means nothing. */
function sortedKeys(_: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}

/**
 * Which global packed functions (`tvm.contrib.cudnn.conv2d.forward`) a model.so calls, so far as that shows without running it: their
 * names are strings in its read-only data, and on x86-64 every use of one is an instruction with its distance as a 32-bit number.
 */
import type { ByteSource } from './byte-source.js';
import type { ElfObject, FileRange } from './elf.js';

/** Where TVM keeps its global functions. Kernels and functions of the object have other names. */
const kGlobalName = /^(?:tvm|runtime|vm|relay|topi|device_api)\.[A-Za-z_][\w.]*$/;
/** How an object can ask for a function by name. */
const kLookups = ['TVMBackendGetFuncFromEnv', '__TVMBackendGetFuncFromEnv', 'TVMFuncGetGlobal'];
const kMaxNameBytes = 256;
/** Code and data past this are not searched. */
const kMaxSearchedBytes = 64 << 20;

/** A global function that is named in model.so. */
export interface NamedFunction {
  readonly name: string;
  /** The exported functions that name it; null where that cannot be told: one that is not exported does, or none is seen to. */
  readonly callers: readonly string[] | null;
}

/** @param exclude what is no data of the host code: the module blob */
export function namedGlobalFunctions(source: ByteSource, elf: ElfObject, exclude: FileRange | null): readonly NamedFunction[] {
  const asks = kLookups.some((name) => elf.exported.has(name) || elf.undefined.some((symbol) => symbol.name === name));
  if (!asks) return [];
  const nameAt = new Map(
    elf.sections.filter(({ name }) => name.startsWith('.rodata')).flatMap((section) => namesIn(source, elf, section, exclude)),
  );
  if (nameAt.size === 0) return [];
  const callers = new Map<string, Set<string | null>>();
  for (const name of nameAt.values()) callers.set(name, new Set());
  for (const section of elf.sections.filter(({ name }) => name === '.text')) {
    if (elf.machine === 'x86-64' && section.sizeBytes <= kMaxSearchedBytes) findCallers(source, elf, section, nameAt, callers);
  }
  return [...callers].map(([name, found]) => ({
    name,
    callers: found.size === 0 || found.has(null) ? null : ([...found] as string[]).sort(),
  }));
}

/** Pairs of address and name. */
function namesIn(source: ByteSource, elf: ElfObject, section: FileRange, exclude: FileRange | null): [number, string][] {
  const found: [number, string][] = [];
  for (const { offset, sizeBytes } of without(section, exclude)) {
    if (sizeBytes > kMaxSearchedBytes) continue;
    const text = Buffer.from(source.read(offset, sizeBytes)).toString('latin1');
    for (const { 0: name, index } of text.matchAll(/[\w.]+\0/g)) {
      const trimmed = name.slice(0, -1);
      const address = addressOf(elf, offset + index);
      if (trimmed.length <= kMaxNameBytes && kGlobalName.test(trimmed) && address !== null) found.push([address, trimmed]);
    }
  }
  return found;
}

function without(range: FileRange, exclude: FileRange | null): readonly FileRange[] {
  const end = range.offset + range.sizeBytes;
  if (!exclude || exclude.offset >= end || exclude.offset + exclude.sizeBytes <= range.offset) return [range];
  const after = exclude.offset + exclude.sizeBytes;
  return [
    { offset: range.offset, sizeBytes: Math.max(0, exclude.offset - range.offset) },
    { offset: after, sizeBytes: Math.max(0, end - after) },
  ];
}

function addressOf(elf: ElfObject, offset: number): number | null {
  const segment = elf.segments.find((candidate) => offset >= candidate.offset && offset < candidate.offset + candidate.fileBytes);
  return segment ? segment.address + (offset - segment.offset) : null;
}

/** Looks at every place of the code as if a distance stood there: from the byte after it to a name. */
function findCallers(
  source: ByteSource,
  elf: ElfObject,
  section: FileRange,
  nameAt: ReadonlyMap<number, string>,
  callers: ReadonlyMap<string, Set<string | null>>,
): void {
  const base = addressOf(elf, section.offset);
  if (base === null) return;
  const code = Buffer.from(source.read(section.offset, section.sizeBytes));
  const functions = [...elf.exported.values()].filter(({ kind }) => kind === 'function');
  for (let at = 0; at + 4 <= code.length; at++) {
    const name = nameAt.get(base + at + 4 + code.readInt32LE(at));
    if (name === undefined) continue;
    const caller = functions.find(({ address, sizeBytes }) => base + at >= address && base + at < address + sizeBytes);
    callers.get(name)!.add(caller?.name ?? null);
  }
}

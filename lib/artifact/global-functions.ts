/**
 * Which global packed functions (`tvm.contrib.cudnn.conv2d.forward`) a model.so calls, so far as that shows without running it: their
 * names are strings in its read-only data, and on x86-64 every use of one, as of a function of the object, is an instruction with
 * its distance as a 32-bit number.
 */
import type { ByteSource } from './byte-source.js';
import { definedFunctions, type ElfObject, type FileRange } from './elf.js';

/** Where TVM keeps its global functions. Kernels and functions of the object have other names. */
const kGlobalName = /^(?:__tvm_set_device|(?:tvm|runtime|vm|relay|topi|device_api)\.[A-Za-z_][\w.+]*)$/;
/** How an object can ask for a function by name. */
const kLookups = ['TVMBackendGetFuncFromEnv', '__TVMBackendGetFuncFromEnv', 'TVMFuncGetGlobal'];
const kMaxNameBytes = 256;
/** Code and data past this are not searched. */
const kMaxSearchedBytes = 64 << 20;

/** A global function that is named in model.so. */
export interface NamedFunction {
  readonly name: string;
  /** The exported functions whose code, or code that they refer to, names it; null where that cannot be told. */
  readonly callers: readonly string[] | null;
}

/** By name. @param exclude what is no data of the host code: the module blob */
export function namedGlobalFunctions(source: ByteSource, elf: ElfObject, exclude: FileRange | null): readonly NamedFunction[] {
  const asks = kLookups.some((name) => elf.exported.has(name) || elf.undefined.some((symbol) => symbol.name === name));
  if (!asks) return [];
  const nameAt = new Map(
    elf.sections.filter(({ name }) => name.startsWith('.rodata')).flatMap((section) => namesIn(source, elf, section, exclude)),
  );
  if (nameAt.size === 0) return [];
  const code = elf.sections.filter(({ name, sizeBytes }) => name === '.text' && sizeBytes <= kMaxSearchedBytes);
  const functions = elf.machine === 'x86-64' ? functionsOf(source, elf) : [];
  const users = usersOf(source, elf, code, functions, new Set(nameAt.keys()));
  const addresses = new Map<string, number[]>();
  for (const [address, name] of nameAt) addresses.set(name, [...(addresses.get(name) ?? []), address]);
  return [...addresses.keys()].sort().map((name) => ({ name, callers: callersOf(addresses.get(name)!, users) }));
}

/** A stretch of code. */
interface CodeFunction {
  readonly address: number;
  readonly sizeBytes: number;
  /** Null for a function of the object's own. */
  readonly exportedAs: string | null;
}

function functionsOf(source: ByteSource, elf: ElfObject): readonly CodeFunction[] {
  const exported = [...elf.exported.values()].filter(({ kind }) => kind === 'function');
  const known = new Set(exported.map(({ address }) => address));
  return [
    ...exported.map(({ address, sizeBytes, name }) => ({ address, sizeBytes, exportedAs: name })),
    ...definedFunctions(source, elf)
      .filter(({ address }) => !known.has(address))
      .map((found) => ({ ...found, exportedAs: null })),
  ].sort((a, b) => a.address - b.address);
}

/** The exported functions from which references lead to one of the addresses; null where one comes from elsewhere, or none does. */
function callersOf(addresses: readonly number[], users: ReadonlyMap<number, ReadonlySet<CodeFunction | null>>): readonly string[] | null {
  const callers = new Set<string>();
  const seen = new Set(addresses);
  for (const address of seen) {
    const found = users.get(address);
    if (!found) return null;
    for (const user of found) {
      if (!user) return null;
      if (user.exportedAs !== null) callers.add(user.exportedAs);
      else seen.add(user.address);
    }
  }
  return [...callers].sort();
}

/** Pairs of address and name. */
function namesIn(source: ByteSource, elf: ElfObject, section: FileRange, exclude: FileRange | null): [number, string][] {
  const found: [number, string][] = [];
  for (const { offset, sizeBytes } of without(section, exclude)) {
    if (sizeBytes > kMaxSearchedBytes) continue;
    const text = Buffer.from(source.read(offset, sizeBytes)).toString('latin1');
    for (const { 0: name, index } of text.matchAll(/[\w.+]+\0/g)) {
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

/** By address of a name, or of a function that is not exported: the functions that refer to it, null for code of none. */
function usersOf(
  source: ByteSource,
  elf: ElfObject,
  sections: readonly FileRange[],
  functions: readonly CodeFunction[],
  names: ReadonlySet<number>,
): ReadonlyMap<number, ReadonlySet<CodeFunction | null>> {
  const users = new Map<number, Set<CodeFunction | null>>();
  const wanted = new Set([...names, ...functions.filter(({ exportedAs }) => exportedAs === null).map(({ address }) => address)]);
  for (const section of functions.length > 0 ? sections : []) {
    const base = addressOf(elf, section.offset);
    if (base === null) continue;
    const code = Buffer.from(source.read(section.offset, section.sizeBytes));
    // Every place of the code, as if a distance stood there: from the byte after it to what is referred to.
    for (let at = 0; at + 4 <= code.length; at++) {
      const target = base + at + 4 + code.readInt32LE(at);
      if (!wanted.has(target)) continue;
      const user = functionAt(functions, base + at);
      if (user?.address !== target) users.set(target, (users.get(target) ?? new Set()).add(user)); // recursion tells nothing
    }
  }
  return users;
}

/** @param functions in the order of their addresses */
function functionAt(functions: readonly CodeFunction[], address: number): CodeFunction | null {
  let [low, high] = [0, functions.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (functions[middle]!.address <= address) low = middle + 1;
    else high = middle;
  }
  const found = functions[low - 1];
  return found && address < found.address + found.sizeBytes ? found : null;
}

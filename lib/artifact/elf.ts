/**
 * What of model.so can be known without loading it: machine, exported and undefined symbols, libraries needed, and the
 * bytes behind a symbol. Follows the System V ABI (ELF64, little-endian) and reads what the dynamic linker reads: program
 * headers and the dynamic section; section headers (which may be stripped) only to find device code by section name.
 */
import { access } from 'node:fs/promises';
import { LadderError } from '../errors.js';
import { ByteReader, type ByteSource, FileSource } from './byte-source.js';

/** An exported symbol. */
export interface ElfSymbol {
  readonly name: string;
  readonly kind: 'function' | 'object' | 'other';
  readonly address: number;
  /** 0 where the object does not say. */
  readonly sizeBytes: number;
}

/** A range of the file. */
export interface FileRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface ElfSection extends FileRange {
  readonly name: string;
}

export interface ElfObject {
  readonly machine: 'x86-64' | 'aarch64';
  /** By name. */
  readonly exported: ReadonlyMap<string, ElfSymbol>;
  /** What the process must provide; weak ones may be missing. */
  readonly undefined: readonly { readonly name: string; readonly weak: boolean }[];
  /** DT_NEEDED, in order. */
  readonly needed: readonly string[];
  /** Empty where section headers are stripped. */
  readonly sections: readonly ElfSection[];
  /** PT_LOAD segments: where addresses lie in the file. */
  readonly segments: readonly {
    readonly address: number;
    readonly offset: number;
    readonly fileBytes: number;
    readonly memoryBytes: number;
  }[];
}

const kMachines: Readonly<Record<number, ElfObject['machine']>> = { 62: 'x86-64', 183: 'aarch64' };
const enum Segment {
  Load = 1,
  Dynamic = 2,
}
const enum Tag {
  Null = 0,
  Needed = 1,
  Hash = 4,
  StringTable = 5,
  SymbolTable = 6,
  StringTableBytes = 10,
  SymbolBytes = 11,
  GnuHash = 0x6ffffef5,
}
const kHeaderBytes = 64;
const kProgramHeaderBytes = 56;
const kSectionHeaderBytes = 64;
const kDynamicBytes = 16;
const kSymbolBytes = 24;
/** DT_NEEDED entries or sections past this are damage. */
const kMaxTableEntries = 1 << 16;
const kNoBits = 8;
const kMaxStringTableBytes = 256 << 20;
/** Names may share tails in the string table; a damaged one must not make every symbol's name the whole table. */
const kMaxNameSharing = 16;
const kMinNameBytes = 1 << 16;

/**
 * Reads a shared object's dynamic symbols.
 * @throws LadderError `BAD_MODULE` for what is no ELF shared object of x86-64 or aarch64, or is damaged
 */
export function parseElf(source: ByteSource): ElfObject {
  return new ElfParser(source).parse();
}

/** Reads the shared object at `path`. @throws LadderError `BAD_MODULE`, `IO` */
export function readElf(path: string): ElfObject {
  const source = new FileSource(path);
  try {
    return parseElf(source);
  } finally {
    source.close();
  }
}

/** Where an address lies in the file, and how many bytes of its segment follow; null for memory that is only zeroed. */
export function fileRangeAt(elf: ElfObject, address: number): FileRange | null {
  const segment = elf.segments.find((candidate) => address >= candidate.address && address < candidate.address + candidate.fileBytes);
  if (!segment) return null;
  const within = address - segment.address;
  return { offset: segment.offset + within, sizeBytes: segment.fileBytes - within };
}

/** Tables past this size are not searched. */
const kMaxSymbolTableBytes = 64 << 20;

/** A function of the symbol table, exported or not. */
export interface DefinedFunction {
  readonly address: number;
  /** 0 where the object does not say. */
  readonly sizeBytes: number;
}

/** All functions that the object defines, its own ones too; none where its symbol table was stripped. */
export function definedFunctions(source: ByteSource, elf: ElfObject): readonly DefinedFunction[] {
  return [...symbolTableFunctions(source, elf)];
}

/** The address of a function that the object does not export, where its symbol table was not stripped; else null. */
export function localFunctionAddress(source: ByteSource, elf: ElfObject, name: string): number | null {
  const strings = searchedSection(elf, '.strtab');
  if (!strings) return null;
  const text = Buffer.from(source.read(strings.offset, strings.sizeBytes));
  // A name may be the tail of another.
  const places = new Set<number>();
  for (let at = text.indexOf(`${name}\0`); at >= 0; at = text.indexOf(`${name}\0`, at + 1)) places.add(at);
  for (const { nameOffset, address } of symbolTableFunctions(source, elf)) if (places.has(nameOffset)) return address;
  return null;
}

function searchedSection(elf: ElfObject, name: string): ElfSection | null {
  const section = elf.sections.find((candidate) => candidate.name === name);
  return section && section.sizeBytes <= kMaxSymbolTableBytes ? section : null;
}

/** Functions whose address lies in the file. */
function* symbolTableFunctions(source: ByteSource, elf: ElfObject): Generator<DefinedFunction & { readonly nameOffset: number }> {
  const table = searchedSection(elf, '.symtab');
  if (!table) return;
  const symbols = Buffer.from(source.read(table.offset, table.sizeBytes));
  for (let at = 0; at + kSymbolBytes <= symbols.length; at += kSymbolBytes) {
    const isDefinedFunction = (symbols[at + 4]! & 15) === 2 && symbols.readUInt16LE(at + 6) !== 0;
    if (!isDefinedFunction) continue;
    const address = symbols.readBigUInt64LE(at + 8);
    const sizeBytes = symbols.readBigUInt64LE(at + 16);
    if (!elf.segments.some((segment) => address >= segment.address && address + sizeBytes <= segment.address + segment.fileBytes)) continue;
    yield { nameOffset: symbols.readUInt32LE(at), address: Number(address), sizeBytes: Number(sizeBytes) };
  }
}

/**
 * The exported C string `symbol` of the shared object at `path`; null when there is no such file or no such symbol.
 * @throws LadderError `BAD_MODULE`
 */
export async function readExportedString(path: string, symbol: string): Promise<string | null> {
  try {
    await access(path);
  } catch {
    return null;
  }
  const source = new FileSource(path);
  try {
    const elf = parseElf(source);
    const found = elf.exported.get(symbol);
    const range = found && fileRangeAt(elf, found.address);
    if (!range) return null;
    const bytes = Buffer.from(source.read(range.offset, Math.min(range.sizeBytes, found.sizeBytes || 4096)));
    const end = bytes.indexOf(0);
    if (end < 0) throw new LadderError('BAD_MODULE', `${path}: ${symbol} is no terminated string`, { path, symbol });
    return bytes.toString('utf8', 0, end);
  } finally {
    source.close();
  }
}

class ElfParser {
  private readonly segments: ElfObject['segments'][number][] = [];
  private readonly dynamic = new Map<number, number>();
  private readonly neededOffsets: number[] = [];
  private strings: Buffer = Buffer.alloc(0);
  private nameBytesLeft = 0;

  constructor(private readonly source: ByteSource) {}

  parse(): ElfObject {
    const header = this.reader(0, kHeaderBytes, 'ELF header');
    if (header.u32('magic') !== 0x464c457f) throw header.fail('not an ELF file; model.so is the shared object that the compiler made');
    if (header.u8('class') !== 2 || header.u8('byte order') !== 1) throw header.fail('not a 64-bit little-endian ELF file');
    header.skip(10, 'identification');
    const type = header.u16('type');
    if (type !== 3) throw header.fail(`expected a shared object (ELF type 3) but received type ${type}`);
    const machineCode = header.u16('machine');
    const machine = kMachines[machineCode];
    if (!machine) throw header.fail(`machine ${machineCode} is neither x86-64 nor aarch64`);
    header.skip(12, 'version and entry');
    const programOffset = header.u64('program header offset');
    const sectionOffset = header.u64('section header offset');
    header.skip(6, 'flags and header size');
    const programSize = header.u16('program header size');
    const programCount = header.u16('number of program headers');
    const sectionSize = header.u16('section header size');
    const sectionCount = header.u16('number of section headers');
    const sectionNames = header.u16('section name table');
    if (programSize !== kProgramHeaderBytes) throw header.fail(`program headers of ${programSize} bytes`);
    this.readSegments(programOffset, programCount);
    this.readStrings();
    const { exported, undefinedSymbols } = this.readSymbols();
    return {
      machine,
      exported,
      undefined: undefinedSymbols,
      needed: this.neededOffsets.map((offset) => this.string(offset, 'needed library')),
      sections: sectionOffset === 0 || sectionCount === 0 ? [] : this.readSections(sectionOffset, sectionSize, sectionCount, sectionNames),
      segments: this.segments,
    };
  }

  private fail(message: string): LadderError {
    return new LadderError('BAD_MODULE', `${this.source.name}: ${message}`, { source: this.source.name });
  }

  /** A cursor over a range of the file. */
  private reader(offset: number, length: number, what: string): ByteReader {
    if (offset + length > this.source.sizeBytes) {
      throw this.fail(`cut short: ${what} lies at ${offset}…${offset + length} but the file has ${this.source.sizeBytes} bytes`);
    }
    return new ByteReader(this.source, 'BAD_MODULE', offset, offset + length);
  }

  /** File offset of `length` bytes at an address. */
  private locate(address: number, length: number, what: string): number {
    const segment = this.segments.find(
      (candidate) => address >= candidate.address && address + length <= candidate.address + candidate.fileBytes,
    );
    if (!segment) throw this.fail(`${what} (address ${address}, ${length} bytes) lies in no segment of the file`);
    return segment.offset + (address - segment.address);
  }

  private readSegments(offset: number, count: number): void {
    const headers = this.reader(offset, count * kProgramHeaderBytes, 'program headers');
    let dynamic: FileRange | null = null;
    for (let i = 0; i < count; i++) {
      const type = headers.u32('segment type');
      headers.skip(4, 'segment flags');
      const fileOffset = headers.u64('segment offset');
      const address = headers.u64('segment address');
      headers.skip(8, 'physical address');
      const fileBytes = headers.u64('segment file size');
      const memoryBytes = headers.u64('segment memory size');
      headers.skip(8, 'segment alignment');
      if (type !== Segment.Load && type !== Segment.Dynamic) continue;
      this.reader(fileOffset, fileBytes, `segment ${i}`);
      if (type === Segment.Dynamic) dynamic = { offset: fileOffset, sizeBytes: fileBytes };
      else this.segments.push({ address, offset: fileOffset, fileBytes, memoryBytes });
    }
    if (!dynamic) throw this.fail('no dynamic section; a shared object that dlopen takes has one');
    this.readDynamic(dynamic);
  }

  private readDynamic({ offset, sizeBytes }: FileRange): void {
    const entries = this.reader(offset, sizeBytes, 'dynamic section');
    while (entries.remaining >= kDynamicBytes) {
      const tag = entries.bigU64('dynamic tag');
      const value = entries.bigU64('dynamic value');
      if (tag === BigInt(Tag.Null)) return;
      if (tag > 0xffffffffn || value > BigInt(Number.MAX_SAFE_INTEGER)) continue;
      if (tag === BigInt(Tag.Needed)) this.neededOffsets.push(Number(value));
      else this.dynamic.set(Number(tag), Number(value));
      if (this.neededOffsets.length > kMaxTableEntries) throw this.fail('too many needed libraries');
    }
    throw this.fail('the dynamic section has no end');
  }

  private dynamicValue(tag: Tag, what: string): number {
    const value = this.dynamic.get(tag);
    if (value === undefined) throw this.fail(`the dynamic section gives no ${what}`);
    return value;
  }

  private readStrings(): void {
    const length = this.dynamicValue(Tag.StringTableBytes, 'string table size');
    const offset = this.locate(this.dynamicValue(Tag.StringTable, 'string table'), length, 'string table');
    if (length > kMaxStringTableBytes) throw this.fail(`a string table of ${length} bytes; at most ${kMaxStringTableBytes} are accepted`);
    this.strings = Buffer.from(this.source.read(offset, length));
    this.nameBytesLeft = length * kMaxNameSharing + kMinNameBytes;
  }

  private string(offset: number, what: string): string {
    const end = this.strings.indexOf(0, offset);
    if (offset >= this.strings.length || end < 0) throw this.fail(`name of ${what} lies outside the string table`);
    this.nameBytesLeft -= end - offset;
    if (this.nameBytesLeft < 0) throw this.fail("the symbols' names overlap without end");
    return this.strings.toString('utf8', offset, end);
  }

  /** The number of dynamic symbols is written nowhere: the hash tables, of which every shared object has one, tell it. */
  private symbolCount(): number {
    const hash = this.dynamic.get(Tag.Hash);
    if (hash !== undefined) {
      const table = this.reader(this.locate(hash, 8, 'hash table'), 8, 'hash table');
      table.skip(4, 'number of buckets');
      return table.u32('number of chains');
    }
    const gnuHash = this.dynamicValue(Tag.GnuHash, 'hash table');
    const table = this.reader(this.locate(gnuHash, 16, 'hash table'), 16, 'hash table');
    const bucketCount = table.u32('number of buckets');
    const firstSymbol = table.u32('first hashed symbol');
    const bloomWords = table.u32('size of the filter');
    const bucketsAt = gnuHash + 16 + bloomWords * 8;
    const buckets = this.reader(this.locate(bucketsAt, bucketCount * 4, 'hash buckets'), bucketCount * 4, 'hash buckets');
    let last = 0;
    for (let i = 0; i < bucketCount; i++) last = Math.max(last, buckets.u32('hash bucket'));
    if (last < firstSymbol) return firstSymbol;
    // The last chain ends with a hash whose lowest bit is set.
    const chainsAt = this.locate(bucketsAt + bucketCount * 4 + (last - firstSymbol) * 4, 4, 'hash chains');
    const chains = new ByteReader(this.source, 'BAD_MODULE', chainsAt);
    for (let symbol = last; ; symbol++) if (chains.u32('hash chain') & 1) return symbol + 1;
  }

  private readSymbols(): { exported: Map<string, ElfSymbol>; undefinedSymbols: { name: string; weak: boolean }[] } {
    const count = this.symbolCount();
    if (this.dynamicValue(Tag.SymbolBytes, 'symbol size') !== kSymbolBytes) throw this.fail('dynamic symbols are not 24 bytes each');
    const at = this.locate(this.dynamicValue(Tag.SymbolTable, 'symbol table'), count * kSymbolBytes, 'symbol table');
    const symbols = this.reader(at, count * kSymbolBytes, 'symbol table');
    const exported = new Map<string, ElfSymbol>();
    const undefinedSymbols: { name: string; weak: boolean }[] = [];
    for (let i = 0; i < count; i++) {
      const nameOffset = symbols.u32('symbol name');
      const info = symbols.u8('symbol info');
      symbols.skip(1, 'symbol visibility');
      const section = symbols.u16('symbol section');
      const address = symbols.bigU64('symbol address');
      const sizeBytes = symbols.bigU64('symbol size');
      const binding = info >> 4;
      // Local symbols and section or file symbols are not looked up by name.
      if (i === 0 || binding === 0) continue;
      const name = this.string(nameOffset, `symbol ${i}`);
      if (section === 0) {
        undefinedSymbols.push({ name, weak: binding === 2 });
        continue;
      }
      if (address > BigInt(Number.MAX_SAFE_INTEGER) || sizeBytes > BigInt(Number.MAX_SAFE_INTEGER))
        throw this.fail(`symbol ${name.slice(0, 80)} has an impossible address`);
      const type = info & 15;
      exported.set(name, {
        name,
        kind: type === 2 || type === 10 ? 'function' : type === 1 ? 'object' : 'other',
        address: Number(address),
        sizeBytes: Number(sizeBytes),
      });
    }
    return { exported, undefinedSymbols };
  }

  private readSections(offset: number, size: number, count: number, namesIndex: number): readonly ElfSection[] {
    if (size !== kSectionHeaderBytes) throw this.fail(`section headers of ${size} bytes`);
    const headers = this.reader(offset, count * size, 'section headers');
    const raw = Array.from({ length: count }, () => {
      const nameOffset = headers.u32('section name');
      const type = headers.u32('section type');
      headers.skip(16, 'section flags and address');
      const fileOffset = headers.u64('section offset');
      const sizeBytes = headers.u64('section size');
      headers.skip(24, 'rest of the section header');
      if (type !== kNoBits) this.reader(fileOffset, sizeBytes, 'section');
      return { nameOffset, type, offset: fileOffset, sizeBytes };
    });
    const namesSection = raw[namesIndex];
    if (!namesSection || namesSection.type === kNoBits) throw this.fail('there is no section name table');
    if (namesSection.sizeBytes > kMaxStringTableBytes) throw this.fail(`a section name table of ${namesSection.sizeBytes} bytes`);
    const names = Buffer.from(this.source.read(namesSection.offset, namesSection.sizeBytes));
    return raw.flatMap(({ nameOffset, type, offset: at, sizeBytes }) => {
      const end = names.indexOf(0, nameOffset);
      if (nameOffset >= names.length || end < 0) throw this.fail("a section's name lies outside the section name table");
      return type === kNoBits ? [] : [{ name: names.toString('utf8', nameOffset, end), offset: at, sizeBytes }];
    });
  }
}

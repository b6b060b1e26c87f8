/**
 * Which GPU architectures a device image was built for: PTX by its `.target`, cubins by their ELF flags, fat binaries by
 * their entries' headers. NVIDIA documents neither container; the layout below was read off nvcc 13.0's output, so that
 * what is not understood is left out rather than guessed.
 *
 *   fatbin: u32 magic │ u16 version │ u16 header bytes │ u64 bytes of entries │ entries
 *   entry:  u16 kind (1 PTX, 2 ELF) │ u16 version │ u32 header bytes │ u64 payload bytes │ 12 bytes │ u32 architecture │ 8 bytes │ u32 flags │
 *           12 bytes │ u64 payload bytes before compression │ … │ payload
 */
import { BufferSource, ByteReader, type ByteSource } from './byte-source.js';
import type { FileRange } from './elf.js';
import type { BlobImage } from './module-blob.js';

const kFatbinMagic = 0xba55ed50;
const kElfMagic = 0x464c457f;
const kCudaMachine = 190;
/** Flags of an entry: the architecture's own (a) or its family's (f) features are used. */
const kArchitectureSpecific = 1 << 20;
const kFamilySpecific = 1 << 21;
/** The payload is compressed, by LZ4 or Zstandard. */
const kCompressed = 0xa000;
const kPtxEntry = 1;
const kElfEntry = 2;
/** nvcc 13.0's payloads without a kernel take 1456 to 1632 and 56 bytes, those of an empty kernel 2984 and 94. */
const kLargestEmptyCubin = 2048;
const kLargestEmptyPtx = 64;
const kMaxPtxHeaderBytes = 1 << 16;

/** Architectures of one image, e.g. `["sm_80", "compute_80"]`: sm is machine code, compute is PTX. Empty when unknown. */
export function imageArchitectures(image: Pick<BlobImage, 'format' | 'bytes'>): readonly string[] {
  const { format, bytes } = image;
  if (format === 'ptx') return ptxArchitecture(bytes);
  return format === 'cubin' ? cubinArchitecture(bytes) : fatbinArchitectures(bytes);
}

function ptxArchitecture(bytes: Uint8Array): readonly string[] {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, kMaxPtxHeaderBytes)).toString('latin1');
  const target = /^[ \t]*\.target[ \t]+sm_([0-9]{2,3}[af]?)\b/m.exec(head);
  return target ? [`compute_${target[1]}`] : [];
}

function cubinArchitecture(bytes: Uint8Array): readonly string[] {
  if (bytes.length < 64) return [];
  const header = new DataView(bytes.buffer, bytes.byteOffset, 64);
  if (header.getUint32(0, true) !== kElfMagic || header.getUint16(18, true) !== kCudaMachine) return [];
  const flags = header.getUint32(48, true);
  // ABI version 8 (CUDA 13) moved the architecture one byte up.
  const architecture = bytes[8]! >= 8 ? (flags >>> 8) & 0xff : flags & 0xff;
  return architecture >= 50 ? [`sm_${architecture}`] : [];
}

/** Code of one translation unit in a fat binary: the same kernels for each of the architectures. */
export interface LinkedImage {
  /** e.g. `["compute_80", "sm_90a"]`: of the entries that hold kernels. */
  readonly architectures: readonly string[];
}

/** Architectures of all fat binaries in `bytes`, sorted. */
export function fatbinArchitectures(bytes: Uint8Array): readonly string[] {
  const source = new BufferSource(bytes);
  return [...new Set(linkedImages(source, { offset: 0, sizeBytes: bytes.length }).flatMap(({ architectures }) => architectures))].sort();
}

/**
 * The fat binaries that lie one after the other in a range of a file (the section `.nv_fatbin`), without those that hold no
 * kernel: nvcc's device link adds such a stub, of an architecture of its own choice.
 */
export function linkedImages(source: ByteSource, { offset, sizeBytes }: FileRange): readonly LinkedImage[] {
  const images: LinkedImage[] = [];
  const reader = new ByteReader(source, 'BAD_MODULE', offset, offset + sizeBytes);
  try {
    while (reader.remaining >= 16) {
      if (reader.u32('magic') !== kFatbinMagic) {
        reader.skip(4, 'padding');
        continue;
      }
      reader.skip(2, 'version');
      const headerBytes = reader.u16('header size');
      const entriesBytes = reader.u64('size of the entries');
      reader.skip(headerBytes - 16, 'rest of the header');
      const end = reader.offset + entriesBytes;
      const architectures = new Set<string>();
      while (reader.offset + 64 <= end) readEntry(reader, architectures);
      if (architectures.size > 0) images.push({ architectures: [...architectures].sort() });
      reader.offset = offset + Math.ceil((end - offset) / 8) * 8;
    }
  } catch {
    // Best effort: what was understood so far is reported.
  }
  return images;
}

function readEntry(reader: ByteReader, found: Set<string>): void {
  const start = reader.offset;
  const kind = reader.u16('kind');
  reader.skip(2, 'version');
  const headerBytes = Math.max(reader.u32('header size'), 64);
  const payloadBytes = reader.u64('payload size');
  reader.skip(12, 'compression');
  const architecture = reader.u32('architecture');
  reader.skip(8, 'identifier');
  const flags = reader.u32('flags');
  reader.skip(12, 'identifier');
  const uncompressedBytes = reader.u64('size of the payload before compression');
  const suffix = flags & kArchitectureSpecific ? 'a' : flags & kFamilySpecific ? 'f' : '';
  reader.offset = start;
  reader.skip(headerBytes, 'entry header');
  const known = (kind === kPtxEntry || kind === kElfEntry) && architecture >= 50 && architecture < 1000;
  if (known && holdsKernels(reader, kind, payloadBytes, flags & kCompressed ? uncompressedBytes : 0))
    found.add(`${kind === kPtxEntry ? 'compute' : 'sm'}_${architecture}${suffix}`);
  reader.offset = start + headerBytes;
  reader.skip(payloadBytes, 'entry');
}

/** Whether an entry's payload, where the reader stands, holds a kernel; of compressed ones only the size tells. */
function holdsKernels(reader: ByteReader, kind: number, payloadBytes: number, uncompressedBytes: number): boolean {
  if (uncompressedBytes > 0) return uncompressedBytes > (kind === kPtxEntry ? kLargestEmptyPtx : kLargestEmptyCubin);
  if (payloadBytes > kLargestEmptyCubin) return true;
  const text = Buffer.from(reader.bytes(payloadBytes, 'entry')).toString('latin1');
  return text.includes(kind === kPtxEntry ? '.entry' : '.text.');
}

/**
 * Whether code of an architecture runs on a device of that compute capability. Machine code runs on its own major version
 * from its minor version on; PTX on all later ones; both with `a` on exactly theirs, with `f` within the family.
 */
export function runsOn(architecture: string, [major, minor]: readonly [number, number]): boolean {
  const parts = /^(sm|compute)_([0-9]+)([0-9])([af]?)$/.exec(architecture);
  if (!parts) return false;
  const [codeMajor, codeMinor] = [Number(parts[2]), Number(parts[3])];
  if (parts[4] === 'a') return codeMajor === major && codeMinor === minor;
  if (parts[1] === 'compute' && parts[4] === '') return codeMajor < major || (codeMajor === major && codeMinor <= minor);
  return codeMajor === major && codeMinor <= minor;
}

/**
 * Which GPU architectures a device image was built for: PTX by its `.target`, cubins by their ELF flags, fat binaries by
 * their entries' headers. NVIDIA documents neither container; the layout below was read off nvcc 13.0's output, so that
 * what is not understood is left out rather than guessed.
 *
 *   fatbin: u32 magic │ u16 version │ u16 header bytes │ u64 bytes of entries │ entries
 *   entry:  u16 kind (1 PTX, 2 ELF) │ u16 version │ u32 header bytes │ u64 payload bytes │ 12 bytes │ u32 architecture │ 8 bytes │ u32 flags │ …
 */
import { BufferSource, ByteReader } from './byte-source.js';
import type { BlobImage } from './module-blob.js';

const kFatbinMagic = 0xba55ed50;
const kElfMagic = 0x464c457f;
const kCudaMachine = 190;
/** Flags of an entry: the architecture's own (a) or its family's (f) features are used. */
const kArchitectureSpecific = 1 << 20;
const kFamilySpecific = 1 << 21;
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

/** Architectures of all fat binaries in `bytes`, which lie one after the other, padded to 8 bytes (as in `.nv_fatbin`). */
export function fatbinArchitectures(bytes: Uint8Array): readonly string[] {
  const found = new Set<string>();
  const reader = new ByteReader(new BufferSource(bytes), 'BAD_MODULE');
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
      while (reader.offset + 64 <= end) readEntry(reader, found);
      reader.offset = Math.ceil(end / 8) * 8;
    }
  } catch {
    // Best effort: what was understood so far is reported.
  }
  return [...found].sort();
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
  const suffix = flags & kArchitectureSpecific ? 'a' : flags & kFamilySpecific ? 'f' : '';
  if ((kind === 1 || kind === 2) && architecture >= 50 && architecture < 1000)
    found.add(`${kind === 1 ? 'compute' : 'sm'}_${architecture}${suffix}`);
  reader.offset = start;
  reader.skip(headerBytes + payloadBytes, 'entry');
}

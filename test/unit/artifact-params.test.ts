import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BufferSource, ByteWriter } from '../../lib/artifact/byte-source.js';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { parseParams, readParams, writeParams } from '../../lib/artifact/params.js';
import { fixtureParams } from '../fixtures/artifact/checkpoint.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ladder-params-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A file of one tensor, written field by field from the format's description, not by the writer under test. */
function handmade(
  change: Partial<
    Record<'listMagic' | 'names' | 'count' | 'magic' | 'deviceType' | 'ndim' | 'code' | 'extent' | 'size', number | bigint>
  > = {},
): Uint8Array {
  const writer = new ByteWriter()
    .u64(change.listMagic ?? 0xf7e58d4f05049cb7n)
    .u64(0)
    .u64(change.names ?? 1)
    .string('wé');
  writer
    .u64(change.count ?? 1)
    .u64(change.magic ?? 0xdd5e40f096b4a13fn)
    .u64(0);
  writer
    .i32(Number(change.deviceType ?? 1))
    .i32(0)
    .i32(Number(change.ndim ?? 2))
    .u8(Number(change.code ?? 2))
    .u8(16)
    .u16(1);
  return writer
    .u64(change.extent ?? 2)
    .u64(3)
    .u64(change.size ?? 12)
    .bytes(Uint8Array.from({ length: 12 }, (_, i) => i))
    .finish();
}

const parse = (bytes: Uint8Array) => parseParams(new BufferSource(bytes, 'graph.params'));

describe('graph.params', () => {
  it('reads a file made by hand', () => {
    const bytes = handmade();
    expect(parse(bytes)).toEqual([
      { name: 'wé', dtype: parseDataType('float16'), shape: [2, 3], sizeBytes: 12, fileOffset: bytes.length - 12 },
    ]);
  });

  it('writes what it reads, every byte in its place', async () => {
    const path = join(folder, 'a.params');
    await writeParams(path, fixtureParams());
    const bytes = await readFile(path);
    const tensors = readParams(path);
    expect(tensors).toEqual(parse(bytes));
    expect(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(
      fixtureParams().map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    );
    tensors.forEach(({ fileOffset, sizeBytes }, i) => {
      expect(bytes.subarray(fileOffset, fileOffset + sizeBytes)).toEqual(Buffer.concat(fixtureParams()[i]!.chunks));
    });
  });

  it('reads past data without reading them', async () => {
    const path = join(folder, 'big.params');
    const chunk = new Uint8Array(1 << 20);
    async function* chunks() {
      for (let i = 0; i < 24; i++) yield chunk;
    }
    await writeParams(path, [
      { name: 'big', dtype: parseDataType('int8'), shape: [24, 1 << 20], chunks: chunks() },
      { name: 'last', dtype: parseDataType('int8'), shape: [], chunks: [Uint8Array.of(5)] },
    ]);
    expect(readParams(path).map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([
      ['big', 24 << 20],
      ['last', 1],
    ]);
  });

  it('leaves nothing behind when a tensor has the wrong number of bytes', async () => {
    const path = join(folder, 'short.params');
    await expect(
      writeParams(path, [{ name: 'w', dtype: parseDataType('int8'), shape: [4], chunks: [new Uint8Array(3)] }]),
    ).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expect((await readdir(folder)).filter((name) => name.startsWith('short'))).toEqual([]);
  });

  it('says that a folder is no file', () => {
    expect(() => readParams(folder)).toThrow(expect.objectContaining({ code: 'IO' }));
  });

  it.each([
    ['list magic', handmade({ listMagic: 1 }), /not a graph\.params file/],
    ['more names than bytes', handmade({ names: 2n ** 60n }), /out of range|number of names/],
    ['two thousand million names', handmade({ names: 2 ** 31 }), /number of names/],
    ['another count', handmade({ count: 0 }), /1 names but 0 tensors/],
    ['array magic', handmade({ magic: 1 }), /wé: no NDArray/],
    ['a GPU tensor', handmade({ deviceType: 2 }), /CPU tensor/],
    ['negative dimensions', handmade({ ndim: -1 }), /-1 dimensions/],
    ['too many dimensions', handmade({ ndim: 2 ** 31 - 1 }), /dimensions/],
    ['unknown type', handmade({ code: 9 }), /type code 9/],
    ['negative extent', handmade({ extent: 2n ** 64n - 1n }), /out of range/],
    ['another size', handmade({ size: 11 }), /takes 12 bytes but 11/],
    ['trailing bytes', Buffer.concat([handmade(), Uint8Array.of(0)]), /1 bytes are left over/],
  ])('refuses: %s', (_, bytes, named) => {
    expect(() => parse(bytes)).toThrow(expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(named) }));
  });
});

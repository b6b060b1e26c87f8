import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BufferSource, ByteWriter } from '../../lib/artifact/byte-source.js';
import { readModule } from '../../lib/artifact/checkpoint.js';
import { checkArchitectures } from '../../lib/artifact/checks.js';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { fileRangeAt, parseElf, readElf, readExportedString } from '../../lib/artifact/elf.js';
import { fatbinArchitectures, imageArchitectures, linkedImages, runsOn } from '../../lib/artifact/fatbin.js';
import { type BlobContents, encodeModuleBlob, type ModuleBlob, parseModuleBlob } from '../../lib/artifact/module-blob.js';
import { cubinEntry, fatbin, fatbinEntry, ptxEntry } from '../fixtures/artifact/fatbin.js';
import { compileModule, factoryBlob, fixtureBlob, fixtureParams, fixtureSources } from '../fixtures/artifact/checkpoint.js';

const exec = promisify(execFile);
let folder: string;
let path: string;
const blob = encodeModuleBlob(fixtureBlob());
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ladder-module-'));
  path = join(folder, 'model.so');
  await compileModule(path, ['op_a', 'op_b'], blob);
});
afterAll(() => rm(folder, { recursive: true }));

/** A blob written field by field from the format's description. `info` is what FunctionInfo records as the name. */
function handmade(
  options: { key?: string; format?: string; info?: string; tags?: readonly string[]; children?: readonly number[]; extra?: number } = {},
): Uint8Array {
  const { key = 'cuda', format = 'ptx', info = '', tags = ['blockIdx.x', 'threadIdx.x'], children = [1], extra = 0 } = options;
  const body = new ByteWriter().u64(3).string('_lib').string(key).string(format).u64(1).string('k').string(info);
  body.u64(2).u8(3).u8(64).u16(1).u8(0).u8(32).u16(1).u64(tags.length);
  for (const tag of tags) body.string(tag);
  body.string('image').string('_import_tree').u64(3).u64(0).u64(1).u64(1).u64(children.length);
  for (const child of children) body.u64(child);
  const bytes = body.bytes(new Uint8Array(extra)).finish();
  return new ByteWriter().u64(bytes.length).bytes(bytes).finish();
}

/** Parses a blob in memory; constants with their contents, as the encoder takes them. */
function parsed(bytes: Uint8Array): Required<BlobContents> & Pick<ModuleBlob, 'params'> {
  const { constants, ...rest } = parseModuleBlob(new BufferSource(bytes, 'blob'));
  return {
    ...rest,
    constants: constants.map(({ name, dtype, shape, fileOffset, sizeBytes }) => ({
      name,
      dtype,
      shape,
      bytes: bytes.subarray(fileOffset, fileOffset + sizeBytes),
    })),
  };
}

describe('module blob', () => {
  it('reads a blob made by hand', () => {
    expect(parsed(handmade())).toEqual({
      images: [
        {
          format: 'ptx',
          bytes: new TextEncoder().encode('image'),
          kernels: [
            { name: 'k', argumentTypes: [parseDataType('handle'), parseDataType('int32')], launchTags: ['blockIdx.x', 'threadIdx.x'] },
          ],
        },
      ],
      constants: [],
      constantUsers: [],
      params: [],
    });
  });

  it('writes exactly the format', () => {
    expect(encodeModuleBlob(parsed(handmade()))).toEqual(handmade({ info: 'k' }));
  });

  it('reads what it writes: constants, several images, none', () => {
    expect(parsed(blob)).toEqual({ ...fixtureBlob(), params: [] });
    const second = {
      ...fixtureBlob().images[0]!,
      format: 'cubin',
      kernels: [{ name: 'other', argumentTypes: [], launchTags: [] }],
    } as const;
    const many = { ...fixtureBlob(), images: [fixtureBlob().images[0]!, second] };
    expect(parsed(encodeModuleBlob(many))).toEqual({ ...many, params: [] });
    expect(parsed(encodeModuleBlob({ images: [] }))).toEqual({ images: [], constants: [], constantUsers: [], params: [] });
  });

  it('reads what export_library writes: the parameters stay where they are', () => {
    for (const key of ['GraphExecutorFactory', 'GraphRuntimeFactory']) {
      const bytes = factoryBlob(key);
      const { params, images, constants } = parseModuleBlob(new BufferSource(bytes));
      expect({ images, constants }).toEqual({ images: [], constants: [] });
      const wanted = fixtureParams();
      expect(params.map(({ name }) => name)).toEqual(wanted.map(({ name }) => name));
      params.forEach(({ fileOffset, sizeBytes }, i) =>
        expect(Buffer.from(bytes.subarray(fileOffset, fileOffset + sizeBytes))).toEqual(Buffer.concat(wanted[i]!.chunks)),
      );
    }
  });

  it('reads modules without code: the older name of the constants’ loader, and descriptions', () => {
    const blobOf = (write: (body: ByteWriter) => ByteWriter): Uint8Array => {
      const body = write(new ByteWriter().u64(3)).string('_lib').string('_import_tree').u64(3).u64(0).u64(1).u64(1).u64(1).u64(1).finish();
      return new ByteWriter().u64(body.length).bytes(body).finish();
    };
    expect(parsed(blobOf((body) => body.string('metadata').u64(0).u64(0).u64(1).string('f').u64(1).u64(0)))).toMatchObject({
      constants: [],
      constantUsers: [{ symbol: 'f', constants: [] }],
    });
    expect(parsed(blobOf((body) => body.string('metadata_module')))).toMatchObject({ images: [], constants: [] });
  });

  it.each([
    ['a module of another kind', handmade({ key: 'vulkan' }), /"vulkan"/],
    ['an image of another format', handmade({ format: 'metal' }), /"metal"/],
    ['an unknown launch tag', handmade({ tags: ['blockIdx.w'] }), /blockIdx\.w/],
    ['a launch tag twice', handmade({ tags: ['blockIdx.x', 'blockIdx.x'] }), /blockIdx\.x/],
    ['dynamic shared memory not last', handmade({ tags: ['tir.use_dyn_shared_memory', 'threadIdx.x'] }), /dyn_shared/],
    ['a cyclic import tree', handmade({ children: [0] }), /imports module 0/],
    ['an import tree that points outside', handmade({ children: [2] }), /imports module 2/],
    ['children without rows', handmade({ children: [1, 1] }), /row pointers/],
    ['bytes left over', handmade({ extra: 3 }), /3 bytes are left over/],
    ['two kernels of one name', encodeModuleBlob({ images: [fixtureBlob().images[0]!, fixtureBlob().images[0]!] }), /op_a_kernel/],
    [
      'a count that no blob could hold',
      new ByteWriter()
        .u64(8)
        .u64(2 ** 40)
        .finish(),
      /number of modules/,
    ],
    ['a size past the end', new ByteWriter().u64(9).u64(0).finish(), /size/],
  ])('refuses: %s', (_, bytes, named) => {
    expect(() => parsed(bytes)).toThrow(expect.objectContaining({ code: 'BAD_MODULE', message: expect.stringMatching(named) }));
  });
});

describe('ELF', () => {
  it('agrees with nm and readelf', async () => {
    const elf = readElf(path);
    const names = async (...flags: string[]): Promise<string[]> =>
      (await exec('nm', ['-D', '-f', 'posix', ...flags, path])).stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/[ @]/)[0]!)
        .sort();
    expect([...elf.exported.keys()].sort()).toEqual(await names('--defined-only'));
    expect(elf.undefined.map(({ name }) => name).sort()).toEqual(await names('--undefined-only'));
    expect(elf.undefined.find(({ name }) => name === 'TVMAPISetLastError')).toEqual({ name: 'TVMAPISetLastError', weak: false });
    expect(elf.exported.get('op_a')?.kind).toBe('function');
    expect(elf.exported.get('__tvm_dev_mblob')).toMatchObject({ kind: 'object', sizeBytes: blob.length });
    const sections = (await exec('readelf', ['-SW', path])).stdout;
    for (const { name } of elf.sections.filter(({ name: n }) => n !== '')) expect(sections).toContain(name);
    expect(elf.machine).toBe(process.arch === 'x64' ? 'x86-64' : 'aarch64');
    const needed = [...(await exec('readelf', ['-d', path])).stdout.matchAll(/NEEDED.*\[(.*)\]/g)].map((match) => match[1]);
    expect(elf.needed).toEqual(needed);
  });

  it('finds the bytes of a symbol', async () => {
    const elf = readElf(path);
    const range = fileRangeAt(elf, elf.exported.get('__tvm_dev_mblob')!.address)!;
    expect(new Uint8Array((await readFile(path)).subarray(range.offset, range.offset + blob.length))).toEqual(blob);
    expect(await readExportedString(path, '__ladder_sources')).toBe(fixtureSources);
    expect(await readExportedString(path, 'absent')).toBeNull();
    expect(await readExportedString(join(folder, 'absent.so'), '__ladder_sources')).toBeNull();
  });

  it('reads both kinds of hash table, and stripped objects', async () => {
    for (const flags of [['-Wl,--hash-style=sysv'], ['-Wl,--hash-style=gnu'], ['-s']]) {
      const other = join(folder, 'other.so');
      await compileModule(other, ['op_a', 'op_b'], blob, flags);
      expect([...readElf(other).exported.keys()].sort()).toEqual([...readElf(path).exported.keys()].sort());
    }
    const unsectioned = await readFile(path);
    unsectioned.fill(0, 0x28, 0x30); // section header offset
    unsectioned.fill(0, 0x3c, 0x40); // their number and the index of their names
    const elf = parseElf(new BufferSource(unsectioned));
    expect(elf.sections).toEqual([]);
    expect(elf.exported).toEqual(readElf(path).exported);
  });

  it('knows aarch64, and refuses others', async () => {
    const bytes = await readFile(path);
    bytes.writeUInt16LE(183, 18);
    expect(parseElf(new BufferSource(bytes)).machine).toBe('aarch64');
    bytes.writeUInt16LE(8, 18);
    expect(() => parseElf(new BufferSource(bytes))).toThrow(/machine 8/);
  });

  it('refuses text, executables and empty files', async () => {
    await writeFile(join(folder, 'text.so'), 'int main() { return 0; }'.repeat(10));
    await writeFile(join(folder, 'empty.so'), '');
    for (const name of ['text.so', 'empty.so'])
      expect(() => readElf(join(folder, name))).toThrow(expect.objectContaining({ code: 'BAD_MODULE' }));
    expect(() => parseElf(new BufferSource(new Uint8Array(64)))).toThrow(/not an ELF/);
  });
});

describe('architectures of images', () => {
  const text = (source: string) => ({ format: 'ptx' as const, bytes: new TextEncoder().encode(source) });
  it('reads PTX', () => {
    expect(imageArchitectures(text('.version 8.0\n.target sm_80\n'))).toEqual(['compute_80']);
    expect(imageArchitectures(text('.version 8.0\n.target sm_90a, debug\n'))).toEqual(['compute_90a']);
    expect(imageArchitectures(text('nothing'))).toEqual([]);
  });

  it('reads cubins of both ABI versions', () => {
    const cubin = (abi: number, flags: number): Uint8Array => {
      const bytes = Buffer.alloc(64);
      bytes.writeUInt32LE(0x464c457f, 0);
      bytes[8] = abi;
      bytes.writeUInt16LE(190, 18);
      bytes.writeUInt32LE(flags, 48);
      return bytes;
    };
    expect(imageArchitectures({ format: 'cubin', bytes: cubin(8, 0x6005004) })).toEqual(['sm_80']);
    expect(imageArchitectures({ format: 'cubin', bytes: cubin(7, 0x500550) })).toEqual(['sm_80']);
    expect(imageArchitectures({ format: 'cubin', bytes: new Uint8Array(10) })).toEqual([]);
  });

  it('reads fat binaries, several in a row, and stops where it understands nothing', () => {
    const bytes = Buffer.concat([
      fatbin(ptxEntry(80), cubinEntry(90, { flags: 0x100011 })),
      Buffer.alloc(8),
      fatbin(cubinEntry(100, { flags: 0x200011 }), fatbinEntry(9, 80, 0, '.text.k')),
    ]);
    expect(fatbinArchitectures(bytes)).toEqual(['compute_80', 'sm_100f', 'sm_90a']);
    expect(fatbinArchitectures(bytes.subarray(0, 20))).toEqual([]);
    expect(fatbinArchitectures(Buffer.from('no fat binary at all, but long enough'))).toEqual([]);
  });

  it('leaves out what holds no kernel: the stub of the device link, compressed or not', () => {
    const images = (...parts: Buffer[]) => {
      const bytes = Buffer.concat(parts);
      return linkedImages(new BufferSource(bytes), { offset: 0, sizeBytes: bytes.length });
    };
    const stub = fatbin(cubinEntry(75, { payload: '.nv.info' }));
    expect(images(stub, fatbin(ptxEntry(80)), fatbin(cubinEntry(90)))).toEqual([
      { architectures: ['compute_80'] },
      { architectures: ['sm_90'] },
    ]);
    expect(images(fatbin())).toEqual([]);
    expect(images(fatbin(cubinEntry(75, { flags: 0x8011, uncompressedBytes: 1456 })))).toEqual([]);
    expect(images(fatbin(cubinEntry(75, { flags: 0x8011, uncompressedBytes: 2984 })))).toEqual([{ architectures: ['sm_75'] }]);
    expect(images(fatbin(ptxEntry(80, { flags: 0x8011, uncompressedBytes: 1201 })))).toEqual([{ architectures: ['compute_80'] }]);
  });

  it('knows which code runs on which device', () => {
    const on = (major: number, minor: number) =>
      ['sm_80', 'sm_86', 'sm_90', 'sm_90a', 'sm_100f', 'sm_120', 'compute_80', 'compute_90a', 'compute_100', 'compute_100f', 'else'].filter(
        (name) => runsOn(name, [major, minor]),
      );
    expect(on(8, 0)).toEqual(['sm_80', 'compute_80']);
    expect(on(8, 9)).toEqual(['sm_80', 'sm_86', 'compute_80']);
    expect(on(9, 0)).toEqual(['sm_90', 'sm_90a', 'compute_80', 'compute_90a']);
    expect(on(10, 3)).toEqual(['sm_100f', 'compute_80', 'compute_100', 'compute_100f']);
    expect(on(12, 0)).toEqual(['sm_120', 'compute_80', 'compute_100']);
    expect(on(7, 5)).toEqual([]);
  });

  it('agrees with nvcc on what is linked in: per translation unit, without the stub of the device link', async ({ skip }) => {
    const found = await exec('nvcc', ['--version']).then(
      () => true,
      () => false,
    );
    if (!found) skip('no nvcc on the PATH');
    const route1 = new URL('../fixtures/native/route1.cu', import.meta.url).pathname;
    const other = join(folder, 'other.cu');
    await writeFile(other, '__global__ void k(float* p) { p[threadIdx.x] += 1; }\nextern "C" void go(float* p) { k<<<1, 32>>>(p); }\n');
    const compile = (source: string, arch: string, code: string, object: string): Promise<unknown> =>
      exec('nvcc', ['-c', '-std=c++17', '-Xcompiler', '-fPIC', '-gencode', `arch=compute_${arch},code=${code}`, '-o', object, source]);
    const [a, b] = [join(folder, 'a.o'), join(folder, 'b.o')];
    await Promise.all([compile(route1, '80', 'compute_80', a), compile(other, '120', 'sm_120', b)]);
    for (const [name, flags] of [
      ['linked', []],
      ['stripped', ['-Xlinker', '-s']],
    ] as const) {
      const folderOf = join(folder, name);
      await mkdir(folderOf);
      await exec('nvcc', ['-shared', '-cudart', 'static', ...flags, '-o', join(folderOf, 'model.so'), a, b]);
      const module = await readModule(folderOf);
      expect(module!.linked!.images).toEqual([{ architectures: ['compute_80'] }, { architectures: ['sm_120'] }]);
      expect(module!.linked!.lastErrorAddress !== null).toBe(name === 'linked');
      expect(() => checkArchitectures(module!.linked!.images, [9, 0])).toThrow(
        expect.objectContaining({ code: 'WRONG_ARCHITECTURE', message: expect.stringMatching(/1 of its 2 images.*sm_120/) }),
      );
      checkArchitectures(module!.linked!.images, [12, 0]);
    }
  });

  it('agrees with nvcc, where there is one', async ({ skip }) => {
    const found = await exec('nvcc', ['--version']).then(
      () => true,
      () => false,
    );
    if (!found) skip('no nvcc on the PATH');
    const source = join(folder, 'k.cu');
    await writeFile(source, 'extern "C" __global__ void k(float* p) { p[threadIdx.x] += 1; }');
    await exec('nvcc', [
      '-fatbin',
      '-gencode',
      'arch=compute_80,code=[compute_80,sm_80]',
      '-gencode',
      'arch=compute_90a,code=sm_90a',
      source,
      '-o',
      join(folder, 'k.fatbin'),
    ]);
    expect(fatbinArchitectures(await readFile(join(folder, 'k.fatbin')))).toEqual(['compute_80', 'sm_80', 'sm_90a']);
    await exec('nvcc', ['-cubin', '-arch=sm_90a', source, '-o', join(folder, 'k.cubin')]);
    expect(imageArchitectures({ format: 'cubin', bytes: await readFile(join(folder, 'k.cubin')) })).toEqual(['sm_90']);
  });
});

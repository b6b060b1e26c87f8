// From generated sources to a model.so: compiled by nvcc where there is one, read back by the artifact parsers.
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { BufferSource } from '../../lib/artifact/byte-source.js';
import { fileRangeAt, readElf, readExportedString } from '../../lib/artifact/elf.js';
import { readSeal } from '../../lib/artifact/seal.js';
import { parseModuleBlob } from '../../lib/artifact/module-blob.js';
import { generateSources, type PlannedOperator } from '../../lib/compiler/emit/codegen.js';
import { compileModules, findNvcc } from '../../lib/compiler/emit/compile.js';
import type { LoweredModel, LoweredOperator } from '../../lib/compiler/graph/lower.js';
import { selectOrThrow } from '../../lib/compiler/kernels/index.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import type { Program, Value } from '../../lib/operators/program.js';

const nvcc = await findNvcc();
if (!nvcc) console.log('skipping the compiled part of compiler-module.test.ts: nvcc is not on this machine');

const value: Value = { axes: [{ name: 'c', extent: 8 }], type: 'f32' };
const program: Program = {
  values: [value, value],
  nodes: [{ kind: 'relu', params: {}, inputs: [0], outputs: [1] }],
  inputs: [0],
  outputs: [1],
};

function scaleOperator(node: string, input: string, output: string): LoweredOperator {
  return {
    node,
    inputs: [input],
    outputs: [{ name: output, shape: [8], dtype: 'float32' }],
    probe: [null],
    bytes: 64,
    flops: 8,
    program,
    ...selectOrThrow(program, layoutTarget),
  };
}

function planned(operator: LoweredOperator, factor: number, dynamicSharedBytes: number): PlannedOperator {
  return {
    operator,
    plan: {
      includes: [],
      workspaceBytes: 16,
      definitions: `extern "C" __global__ void ${operator.node}_kernel(const float* x, float* y, float* scratch) { y[threadIdx.x] = ${factor}.0f * x[threadIdx.x]; }`,
      launches: [
        {
          name: `${operator.node}_kernel`,
          grid: [1, 1, 1],
          block: [8, 1, 1],
          dynamicSharedBytes,
          programmatic: false,
          arguments: [
            { kind: 'input', index: 0 },
            { kind: 'output', index: 0 },
            { kind: 'workspace', offsetBytes: 0 },
          ],
        },
      ],
    },
  };
}

const first = scaleOperator('twice', 'x', 'y');
const second = scaleOperator('thrice', 'y', 'z');
const model: LoweredModel = {
  tensors: [{ name: 'x', shape: [8], dtype: 'float32', role: 'input', fill: { kind: 'bits' }, value }],
  operators: [first, second],
  outputs: ['z'],
};
const plans = [planned(first, 2, 0), planned(second, 3, 1024)];
const hash = 'ab'.repeat(32);

describe('generated sources', () => {
  it('are the same for the same plan, and name no machine or time', () => {
    expect(generateSources(model, plans, hash)).toEqual(generateSources(model, plans, hash));
  });

  it('pass data pointers, then launch tags, with the dynamic shared memory last', () => {
    const { host } = generateSources(model, plans, hash);
    expect(host).toContain('static const int64_t tags[] = {1, 1, 1, 8, 1, 1, 1024};');
    expect(host).toContain('(char*)workspace + 0');
  });
});

it('gives nvcc no path that its shell would take apart, wherever the package and temporary files lie', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ladder-test-'));
  const odd = join(folder, "it's 100% odd");
  await mkdir(odd);
  const fake = join(folder, 'nvcc');
  await writeFile(fake, `#!/bin/sh\nprintf '%s\\n' "$@" >> '${folder}/arguments'\nexit 1\n`);
  await chmod(fake, 0o755);
  vi.stubEnv('LADDER_NVCC', fake);
  vi.stubEnv('TMPDIR', odd);
  const units = [{ name: 'unit', sources: generateSources(model, plans, hash) }];
  await expect(compileModules(units, {}, async () => undefined)).rejects.toMatchObject({ code: 'BUILD_FAILED' });
  const given = (await readFile(join(folder, 'arguments'), 'utf8')).trim().split('\n');
  const paths = given.filter((argument) => argument.startsWith('/'));
  expect(paths.some((path) => /\/ladder-build-\d+-\w+\/kernels$/.test(path))).toBe(true);
  expect(paths.filter((path) => !/^[\w./-]+$/.test(path))).toEqual([]);
  await rm(folder, { recursive: true });
  vi.unstubAllEnvs();
});

describe.skipIf(!nvcc)('a compiled model.so', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ladder-test-'));
    const labels: string[] = [];
    const options = { targets: ['compute_80', 'sm_90a'], onProgress: (_: number, label: string) => labels.push(label) };
    await compileModules([{ name: 'unit', sources: generateSources(model, plans, hash) }], options, (_, path) =>
      copyFile(path, join(folder, 'model.so')),
    );
    expect(labels.some((label) => label.includes('nvcc'))).toBe(true);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('carries its own hash before anybody reads it', async () => {
    const { expected, actual } = (await readSeal(join(folder, 'model.so')))!;
    expect(actual).toBe(expected);
  });

  it('exports the operators, the context and the hash of its sources', async () => {
    const elf = readElf(join(folder, 'model.so'));
    for (const name of ['twice', 'thrice', '__tvm_module_ctx', '__TVMFuncCall', '__tvm_dev_mblob'])
      expect(elf.exported.has(name)).toBe(true);
    expect(elf.exported.has('launch')).toBe(false);
    expect(await readExportedString(join(folder, 'model.so'), '__ladder_sources')).toBe(hash);
  });

  it('needs nothing of TVM at link time: the loader sets its pointers', () => {
    const elf = readElf(join(folder, 'model.so'));
    expect(elf.undefined.filter(({ name }) => name.includes('TVM'))).toEqual([]);
  });

  it('carries one image per operator, whose lengths the assembler filled in', async () => {
    const path = join(folder, 'model.so');
    const elf = readElf(path);
    const symbol = elf.exported.get('__tvm_dev_mblob')!;
    const range = fileRangeAt(elf, symbol.address)!;
    const bytes = (await readFile(path)).subarray(range.offset, range.offset + symbol.sizeBytes);
    const { images } = parseModuleBlob(new BufferSource(bytes));
    expect(images.map(({ kernels }) => kernels.map(({ name }) => name))).toEqual([['twice_kernel'], ['thrice_kernel']]);
    for (const { bytes: image } of images) expect(Buffer.from(image).readUInt32LE(0)).toBe(0xba55ed50);
    expect(images[1]!.kernels[0]!.launchTags.at(-1)).toBe('tir.use_dyn_shared_memory');
  });
});

describe('compileModules', () => {
  it.skipIf(!nvcc)("hands on the compiler's words when a kernel is wrong", async () => {
    const broken = [
      { ...plans[0]!, plan: { ...plans[0]!.plan, definitions: 'extern "C" __global__ void twice_kernel() { no_such_thing(); }' } },
      plans[1]!,
    ];
    const units = [{ name: 'broken', sources: generateSources(model, broken, hash) }];
    await expect(compileModules(units, { targets: ['compute_80'] }, async () => {})).rejects.toMatchObject({
      code: 'BUILD_FAILED',
      message: expect.stringContaining('no_such_thing'),
    });
  });

  it.skipIf(!nvcc)('refuses targets that it does not know, instead of compiling for none', async () => {
    await expect(compileModules([], { targets: ['sm_99'] }, async () => {})).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('sm_90a'),
    });
  });

  it('ends before it begins when it was aborted', async () => {
    await expect(compileModules([], { signal: AbortSignal.abort() }, async () => {})).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('says what to install where nvcc is missing', async () => {
    vi.stubEnv('LADDER_NVCC', '');
    await expect(compileModules([], {}, async () => {})).rejects.toMatchObject({
      code: 'NO_COMPILER',
      message: expect.stringContaining('CUDA toolkit'),
    });
    vi.unstubAllEnvs();
  });
});

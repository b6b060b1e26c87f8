import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkHashes, type Checkpoint, inputNames, lackingParams, paramsRemarks, readCheckpoint } from '../../lib/artifact/checkpoint.js';
import { checkManifest } from '../../lib/artifact/checks.js';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { parseGraph } from '../../lib/artifact/graph.js';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { inspectPrebuilt } from '../../lib/artifact/inspect.js';
import { findCheckpoints } from '../../lib/artifact/locate.js';
import { type Manifest, parseManifest } from '../../lib/artifact/manifest.js';
import { encodeModuleBlob } from '../../lib/artifact/module-blob.js';
import { writeParams } from '../../lib/artifact/params.js';
import { artifactDeviceType, planExecutor, planMemory } from '../../lib/artifact/plan.js';
import { readSeal, sealModule } from '../../lib/artifact/seal.js';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import type { Program, Value } from '../../lib/operators/program.js';
import {
  compileModule,
  factoryBlob,
  fixtureBlob,
  fixtureGraph,
  fixtureManifest,
  fixtureManifestV1,
  fixtureOperators,
  fixtureParams,
  fixtureSources,
  makeCheckpoint,
} from '../fixtures/artifact/checkpoint.js';
import { foreignGraph } from '../fixtures/artifact/foreign-graph.js';
import { rowMajor } from '../fixtures/programs.js';

let master: string;
let root: string;
let folder: string;
beforeAll(async () => {
  master = await mkdtemp(join(tmpdir(), 'ladder-checkpoint-'));
  await makeCheckpoint(join(master, 'ladder', 'checkpoint'));
});
afterAll(() => rm(master, { recursive: true }));
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ladder-copy-'));
  await cp(master, root, { recursive: true });
  folder = (await findCheckpoints(root))[0]!;
});
afterEach(() => rm(root, { recursive: true }));

const file = (name: string) => join(folder, name);
const cuda = { deviceType: 2, deviceOrdinal: 1, useReference: false } as const;
const reference = { deviceType: 1, deviceOrdinal: 0, useReference: true } as const;

describe('readCheckpoint', () => {
  it('reads all four files', async () => {
    const checkpoint = await readCheckpoint(folder);
    expect(checkpoint).toMatchObject({
      folder,
      name: basename(folder),
      model: 'llama2-70b',
      parsedName: { weight: 'int4', activation: 'fp16', batch: 1 },
    });
    expect(checkpoint.graph).toEqual(parseGraph(fixtureGraph()));
    const files = { ...fixtureManifest().files, 'graph.params': expect.stringMatching(/^[0-9a-f]{64}$/) as string };
    expect(checkpoint.manifest).toEqual({ ...fixtureManifest(), files });
    expect(checkpoint.params?.tensors).toHaveLength(4);
    expect(checkpoint.module?.blob?.images).toEqual(fixtureBlob().images);
    expect(inputNames(checkpoint)).toEqual(['x']);
  });

  it('reads checkpoint.json of version 1 as the same', async () => {
    await writeFile(file('checkpoint.json'), JSON.stringify(fixtureManifestV1()));
    expect((await readCheckpoint(folder)).manifest).toEqual(fixtureManifest());
  });

  it('takes a file of the folder, and both spellings of ladder/checkpoint', async () => {
    expect((await readCheckpoint(file('graph.json'))).folder).toBe(folder);
    expect((await readCheckpoint(folder.replace('ladder/checkpoint/', 'ladder/checkpoints/'))).folder).toBe(folder);
    await rename(join(root, 'ladder', 'checkpoint'), join(root, 'ladder', 'checkpoints'));
    expect((await readCheckpoint(folder)).folder).toBe(folder.replace('ladder/checkpoint/', 'ladder/checkpoints/'));
  });

  it('says what is nearby when there is no checkpoint', async () => {
    await expect(readCheckpoint(root)).rejects.toMatchObject({ code: 'NOT_A_CHECKPOINT', context: { nearby: [folder] } });
    await expect(readCheckpoint(join(folder, '..', 'llama2_bs2_seq1_async'))).rejects.toMatchObject({
      code: 'NOT_A_CHECKPOINT',
      context: { nearby: [folder] },
    });
    await expect(readCheckpoint(join(root, 'no', 'such', 'place'))).rejects.toMatchObject({
      code: 'NOT_A_CHECKPOINT',
      context: { nearby: [] },
    });
  });

  it('does without model.so, graph.params and checkpoint.json', async () => {
    for (const name of ['model.so', 'graph.params', 'checkpoint.json']) await rm(file(name));
    const checkpoint = await readCheckpoint(folder);
    expect([checkpoint.module, checkpoint.params, checkpoint.manifest]).toEqual([null, null, null]);
    expect(inputNames(checkpoint)).toHaveLength(5);
    expect(await checkHashes(checkpoint)).toEqual([]);
  });

  it('names every function that model.so lacks', async () => {
    await compileModule(file('model.so'), ['op_other'], encodeModuleBlob(fixtureBlob()));
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ code: 'MISSING_SYMBOL', context: { symbols: ['op_a', 'op_b'] } });
  });

  it('refuses parameters that do not fit', async () => {
    const params = fixtureParams();
    const zeros = { ...params[0]!, chunks: [new Uint8Array(params[0]!.shape.reduce((a, b) => a * b))] };
    await writeParams(file('graph.params'), [{ ...zeros, dtype: parseDataType('int8') }, ...params.slice(1)]);
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ code: 'BAD_PARAMS', context: { tensor: 'a.weight' } });
    await writeParams(file('graph.params'), params.slice(2));
    await expect(readCheckpoint(folder)).rejects.toMatchObject({
      code: 'MISSING_PARAMETER',
      context: { tensors: ['a.weight', 'a.scale'] },
    });
    await rm(file('checkpoint.json'));
    expect(inputNames(await readCheckpoint(folder))).toEqual(['x', 'a.weight', 'a.scale']);
  });

  it('skips parameters that the graph lacks, as TVM does, and says so', async () => {
    const params = fixtureParams();
    const stranger = { name: 'stranger', dtype: parseDataType('float16'), shape: [3], chunks: [new Uint8Array(6)] };
    await writeParams(file('graph.params'), [stranger, ...params]);
    const checkpoint = await readCheckpoint(folder);
    expect(checkpoint.params).toMatchObject({ unused: ['stranger'], tensors: params.map(({ name }) => ({ name })) });
    expect(paramsRemarks(checkpoint)).toEqual([expect.stringMatching(/holds "stranger", which the graph lacks: skipped/)]);
    // Without a manifest as well.
    await rm(file('checkpoint.json'));
    expect(paramsRemarks(await readCheckpoint(folder))).toHaveLength(1);
    expect((await inspectPrebuilt(folder)).params).toMatchObject({ tensors: 4, unused: ['stranger'] });
  });

  it.each<[string, readonly string[], readonly string[], readonly string[]]>([
    ['TVM’s names', ['data', 'p0', 'p1', 'p12'], ['p0', 'p1'], ['p12']],
    ['a framework’s names', ['x', 'h.0.weight', 'h.1.weight', 'h.1.bias'], ['h.0.weight'], ['h.1.weight']],
    ['inputs with numbers', ['input0', 'input1', 'p0'], ['p0'], []],
    ['names without numbers', ['mask', 'weight', 'bias'], ['weight'], []],
    ['nothing stored', ['data', 'p0'], [], []],
  ])('of a foreign graph with %s it knows which parameters are lacking', async (_, inputs, stored, lacking) => {
    const tensor = (name: string) => ({ name, shape: [4], dtype: 'float32' });
    const graph = parseGraph(
      serialiseGraph({
        inputs: inputs.map(tensor),
        operators: [{ name: 'op', functionName: 'op', inputs: [...inputs], outputs: [tensor('y')] }],
        outputs: ['y'],
      }),
    );
    const tensors = stored.map((name) => ({ name, dtype: parseDataType('float32'), shape: [4], fileOffset: 0, sizeBytes: 16 }));
    const checkpoint = { graph, manifest: null, params: { path: '', tensors, unused: [] } };
    expect(lackingParams(checkpoint)).toEqual(lacking);
    expect(paramsRemarks(checkpoint)).toEqual(
      lacking.map((name) => expect.stringContaining(`lacks "${name}": filled with random values`) as string),
    );
  });

  it('reads a blob whose symbol has no size', async () => {
    const bytes = encodeModuleBlob(fixtureBlob());
    await compileModule(file('model.so'), ['op_a', 'op_b'], null);
    await writeFile(
      file('blob.s'),
      `.section .rodata\n.globl __tvm_dev_mblob\n__tvm_dev_mblob:\n.byte ${[...bytes].join(',')}\n.section .note.GNU-stack,"",%progbits\n`,
    );
    await compileModule(file('model.so'), ['op_a', 'op_b'], null, [file('blob.s')]);
    await sealModule(file('model.so'));
    const { module } = await readCheckpoint(folder);
    expect(module?.elf.exported.get('__tvm_dev_mblob')?.sizeBytes).toBe(0);
    const { images, constantUsers, constants } = fixtureBlob();
    expect(module?.blob).toMatchObject({ images, constantUsers, constants: constants.map(({ bytes, ...constant }) => constant) });
  });

  it('refuses a blob that is longer than its symbol', async () => {
    const bytes = encodeModuleBlob(fixtureBlob());
    new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length), true);
    await compileModule(file('model.so'), ['op_a', 'op_b'], bytes);
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ code: 'BAD_MODULE' });
  });

  it('wants UTF-8 and files, not folders', async () => {
    await writeFile(file('graph.json'), Uint8Array.of(0xff, 0xfe));
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ code: 'BAD_GRAPH' });
    await writeFile(file('graph.json'), fixtureGraph());
    await rm(file('model.so'));
    await mkdir(file('model.so'));
    await expect(readCheckpoint(folder)).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('what export_library writes', () => {
  it('has its parameters in model.so: they are read from there unless graph.params says otherwise', async () => {
    const folder = await makeCheckpoint(await mkdtemp(join(tmpdir(), 'ladder-export-')), { params: false, module: false });
    const path = join(folder, 'model.so');
    await compileModule(path, ['op_a', 'op_b'], factoryBlob());
    await sealModule(path);
    const names = fixtureParams().map(({ name }) => name);
    const read = async (): Promise<{ path: string | undefined; names: readonly string[] | undefined }> => {
      const { params } = await readCheckpoint(folder);
      return { path: params?.path, names: params?.tensors.map(({ name }) => name) };
    };
    expect(await read()).toEqual({ path, names });
    expect(await inspectPrebuilt(folder)).toMatchObject({ problems: [], params: { tensors: names.length } });
    await writeParams(join(folder, 'graph.params'), fixtureParams());
    expect(await read()).toEqual({ path: join(folder, 'graph.params'), names });
    await rm(join(folder, '..', '..'), { recursive: true });
  });
});

describe('checkManifest', () => {
  const graph = parseGraph(fixtureGraph());
  const refuses = (change: (manifest: Manifest) => void, named: RegExp): void => {
    const manifest = structuredClone(fixtureManifest());
    change(manifest);
    expect(() => checkManifest(graph, parseManifest(JSON.stringify(manifest)))).toThrow(
      expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(named) }),
    );
  };
  const [, op] = fixtureOperators;
  /** Stores the result of an operator otherwise. */
  const stored = (manifest: Manifest, index: number, change: (value: Value) => Value): void => {
    const operator = manifest.operators[index]!;
    const [output] = operator.program.outputs;
    operator.program = { ...operator.program, values: operator.program.values.map((value, i) => (i === output ? change(value) : value)) };
  };
  it('accepts the fixture, of both versions', () => {
    checkManifest(graph, fixtureManifest());
    checkManifest(graph, parseManifest(JSON.stringify(fixtureManifestV1())));
  });
  it.each<[string, (manifest: Manifest) => void, RegExp]>([
    [
      'a tensor too few',
      (m) => {
        delete m.tensors['x'];
      },
      /"x"/,
    ],
    [
      'a tensor too many',
      (m) => {
        m.tensors['constructor'] = m.tensors['x']!;
      },
      /"constructor"/,
    ],
    [
      'a layout that is no bijection',
      (m) => {
        m.operators[1]!.program = programOfV1({ ...op, weightLayout: [{ axis: 'n', stride: 2, size: 16 }, op.weightLayout[1]!] });
      },
      /"op_b": values\.1: .*no bijection/,
    ],
    [
      'operators in another order',
      (m) => {
        m.operators.reverse();
      },
      /operators\.0/,
    ],
    [
      'an operator too few',
      (m) => {
        m.operators.pop();
      },
      /1 operators/,
    ],
    [
      'probes too few',
      (m) => {
        m.operators[0]!.probe.pop();
      },
      /probe/,
    ],
    [
      'a program of another size',
      (m) => {
        m.operators[1]!.program = programOfV1({ ...op, m: 2 });
      },
      /"op_b": input 0 \(numbers\) is float16 \[1, 16\], 32 bytes, where its program wants float16, 64 bytes/,
    ],
    [
      'a program with another operand',
      (m) => {
        m.operators[1]!.program = programOfV1({ ...op, bias: true });
      },
      /"op_b" has 3 inputs where its program has 4/,
    ],
    [
      'a program of another type',
      (m) => {
        m.operators[0]!.program = programOfV1({ ...fixtureOperators[0], weight: 'fp8_e5m2', activation: 'fp16' });
      },
      /"op_a": input 1 \(codes\) is uint8 \[16, 16\], 256 bytes, where its program wants uint8, 512 bytes/,
    ],
    [
      'a program that contradicts itself',
      (m) => {
        m.operators[1]!.program = { ...m.operators[1]!.program, outputs: [0] };
      },
      /"op_b": the program's output is value 0/,
    ],
    [
      'a result read in another order than it is written',
      (m) => {
        stored(m, 0, (value) => ({
          ...value,
          layout: {
            digits: [
              { axis: 'c', stride: 1, size: 16 },
              { axis: 'm', stride: 1, size: 1 },
            ],
          },
        }));
      },
      /"op_b" takes "op_a:0" for another value, or stored in another order/,
    ],
    [
      'a file outside the folder',
      (m) => {
        m.files['../graph.json'] = 'a'.repeat(64);
      },
      /\.\.\/graph\.json/,
    ],
  ])('refuses %s', (_, change, named) => refuses(change, named));

  describe('of a weight that two operators read', () => {
    const product = { ...fixtureOperators[0], norm: { kind: 'none', eps: 1e-5 } } as const;
    const tensor = (name: string, shape: number[], dtype: string) => ({ name, shape, dtype });
    const shared = parseGraph(
      serialiseGraph({
        inputs: [tensor('x', [1, 32], 'float16'), tensor('w', [16, 16], 'uint8'), tensor('s', [16], 'float16')],
        operators: ['one', 'two'].map((name) => ({
          name,
          functionName: name,
          inputs: ['x', 'w', 's'],
          outputs: [tensor(`${name}_y`, [1, 16], 'float16')],
        })),
        outputs: ['one_y', 'two_y'],
      }),
    );
    const check = (programs: readonly Program[]): void => {
      const { tensors, operators, ...rest } = fixtureManifest();
      checkManifest(shared, {
        ...rest,
        tensors: { x: tensors['x']!, w: tensors['a.weight']!, s: tensors['a.scale']! },
        operators: programs.map((program, i) => ({ ...operators[0]!, node: ['one', 'two'][i]!, program, probe: [null, null, null] })),
      });
    };
    const first = programOfV1(product);
    it('takes one value in one order', () => check([first, first]));
    it.each([
      ['another order', programOfV1({ ...product, weightLayout: rowMajor(16, 32) })],
      ['another format of as many bits', programOfV1({ ...product, weight: 'nf4' })],
      [
        'no order, which is rows',
        { ...first, values: first.values.map((value, i) => (i === 1 ? { ...value, layout: undefined } : value)) },
      ],
    ])('refuses %s', (_, second) => {
      expect(() => check([first, second])).toThrow(
        expect.objectContaining({ code: 'BAD_MANIFEST', context: { node: 'two', tensor: 'w:0' } }),
      );
    });
  });

  it('refuses a record key that the schema library would drop', () => {
    const text = JSON.stringify(fixtureManifest()).replace('"op_a_kernel"', '"__proto__"');
    expect(() => parseManifest(text)).toThrow(/launch\.__proto__/);
  });
});

describe('checkHashes', () => {
  const failing = async (): Promise<readonly string[]> =>
    (await checkHashes(await readCheckpoint(folder)))
      .filter(({ matches }) => !matches)
      .map(({ file: name, detail }) => `${name}: ${detail}`);
  const flip = async (name: string, at: number): Promise<void> => {
    const bytes = await readFile(file(name));
    bytes[at < 0 ? bytes.length + at : at]! ^= 1;
    await writeFile(file(name), bytes);
  };

  it('compares every file, and the sources of model.so', async () => {
    const hashes = await checkHashes(await readCheckpoint(folder));
    expect(hashes.map(({ file: name, matches }) => [name, matches])).toEqual([
      ['graph.json', true],
      ['graph.params', true],
      ['model.so', true],
      ['model.so (sources)', true],
    ]);
  });

  it('finds a flipped bit in the data of graph.params', async () => {
    await flip('graph.params', -1);
    expect(await failing()).toEqual([expect.stringMatching(/^graph\.params: SHA-256 is [0-9a-f]{12}, checkpoint\.json says/)]);
  });

  it('finds a change of graph.json that means nothing, a missing file, and other sources', async () => {
    await writeFile(file('graph.json'), `${fixtureGraph()} `);
    const manifest = fixtureManifest();
    manifest.files['graph.params'] = 'b'.repeat(64);
    manifest.build.sources = 'c'.repeat(64);
    await writeFile(file('checkpoint.json'), JSON.stringify(manifest));
    const changed = await readCheckpoint(folder);
    await rm(file('graph.params'));
    const after = (await checkHashes(changed)).map(({ matches, detail }) => [matches, detail]);
    expect(after).toEqual([
      [false, expect.stringMatching(/^SHA-256 is/)],
      [false, expect.stringMatching(/^SHA-256 is absent/)],
      [true, expect.stringMatching(/as in its last line/)],
      [false, `SHA-256 is ${fixtureSources.slice(0, 12)}, checkpoint.json says cccccccccccc`],
    ]);
  });

  it('says of a graph.params that was put there that it is not compared', async () => {
    await writeFile(file('checkpoint.json'), JSON.stringify(fixtureManifest()));
    expect((await checkHashes(await readCheckpoint(folder)))[1]).toMatchObject({
      file: 'graph.params',
      matches: true,
      detail: expect.stringMatching(/^not compared: checkpoint\.json holds no hash of it/) as string,
    });
  });

  it('model.so: a flipped bit of code, of its hash, of the line’s mark', async () => {
    const whole = await readFile(file('model.so'));
    for (const [at, why] of [
      [0x400, 'SHA-256 is'],
      [-5, 'SHA-256 is'],
      [-70, 'it carries no SHA-256 of itself'],
    ] as const) {
      await writeFile(file('model.so'), whole);
      await flip('model.so', at);
      const refused = {
        code: 'BAD_MODULE',
        message: expect.stringMatching(new RegExp(`not as it was built: ${why}.*remove it, and it is built anew$`)) as string,
      };
      await expect(readCheckpoint(folder)).rejects.toMatchObject(refused);
      expect((await inspectPrebuilt(folder)).problems).toEqual([refused]);
    }
    // One that another maker built carries none, and needs none.
    await rm(file('checkpoint.json'));
    expect(await checkHashes(await readCheckpoint(folder))).toEqual([]);
  });

  it('the line at the end of model.so is the hash of all before it, and changes nothing of the object', async () => {
    const path = join(root, 'other.so');
    await compileModule(path, ['op_a'], null);
    const object = await readFile(path);
    expect(await readSeal(path)).toBeNull();
    await sealModule(path);
    const hash = createHash('sha256').update(object).digest('hex');
    expect(await readFile(path, 'latin1')).toBe(`${object.toString('latin1')}\nladder-sha256 ${hash}\n`);
    expect(await readSeal(path)).toEqual({ expected: hash, actual: hash });
    for (const text of ['', '\n', 'x'.repeat(80)]) {
      await writeFile(path, text);
      expect(await readSeal(path)).toBeNull();
    }
    await expect(readSeal(join(root, 'absent'))).rejects.toMatchObject({ code: 'IO' });
    await expect(sealModule(join(root, 'absent'))).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('planExecutor', () => {
  it('plans packed calls on the GPU', async () => {
    const checkpoint = await readCheckpoint(folder);
    expect(artifactDeviceType(checkpoint)).toBe(2);
    const plan = planExecutor(checkpoint, cuda);
    expect(plan).toMatchObject({ deviceType: 2, deviceOrdinal: 1 });
    expect(plan.operators.map(({ node, kind, inputs, outputs }) => ({ node, kind, inputs, outputs }))).toEqual([
      { node: 'op_a', kind: 'packed', inputs: [0, 1, 2, 3], outputs: [5] },
      { node: 'op_b', kind: 'packed', inputs: [5, 4, 5], outputs: [6] },
    ]);
    expect(plan.operators.map(({ program }) => program)).toEqual(fixtureManifest().operators.map(({ program }) => nativeProgram(program)));
    expect(plan.storages.every(({ deviceType }) => deviceType === 2)).toBe(true);
    expect(planMemory(plan)).toEqual({ hostBytes: 0, deviceBytes: 64 + 256 + 32 + 64 + 512 + 32 + 32 });
    expect(
      plan.module?.images[0]?.kernels.map(({ name, programmaticStreamSerialization }) => [name, programmaticStreamSerialization]),
    ).toEqual([
      ['op_a_kernel', true],
      ['op_b_kernel', false],
    ]);
    expect(plan.module?.constants[0]?.name).toBe('table');
  });

  it('plans reference operators on the CPU, without model.so', async () => {
    await rm(file('model.so'));
    const checkpoint = await readCheckpoint(folder);
    expect(() => planExecutor(checkpoint, cuda)).toThrow(expect.objectContaining({ code: 'MISSING_MODULE' }));
    const plan = planExecutor(checkpoint, reference);
    expect(plan.operators.map(({ kind }) => kind)).toEqual(['reference', 'reference']);
    expect(plan.module).toBeNull();
    expect(planMemory(plan)).toEqual({ hostBytes: 992, deviceBytes: 0 });
    expect(() => planExecutor({ ...checkpoint, manifest: null }, reference)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });

  it('follows storage ids, __nop, __copy, flattening and device types as TVM does', async () => {
    const base = await readCheckpoint(folder);
    const foreign = (change: (graph: ReturnType<typeof foreignGraph>) => void = () => {}): Checkpoint => {
      const graph = foreignGraph();
      change(graph);
      return { ...base, manifest: null, params: null, graph: parseGraph(JSON.stringify(graph)) };
    };
    const plan = planExecutor(foreign(), cuda);
    expect(plan.entries.map(({ storage }) => storage)).toEqual([0, 1, 2, 3, 3, 4]);
    expect(plan.storages.map(({ sizeBytes, deviceType }) => [sizeBytes, deviceType])).toEqual([
      [12, 2],
      [6, 2],
      [12, 2],
      [16, 2],
      [16, 1],
    ]);
    expect(plan.operators.map(({ node, kind, flatten }) => [node, kind, flatten])).toEqual([
      ['split', 'packed', true],
      ['to_host', 'copy', false],
    ]);
    const unshared = planExecutor(
      foreign((graph) => {
        (graph.attrs['storage_id']![1] as number[])[4] = 6;
      }),
      cuda,
    );
    expect(unshared.operators.map(({ node, kind }) => [node, kind])).toEqual([
      ['split', 'packed'],
      ['reshape', 'copy'],
      ['to_host', 'copy'],
    ]);
    expect(() => planExecutor(foreign(), { ...cuda, deviceType: 1 })).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
    expect(() =>
      planExecutor(
        foreign((graph) => {
          (graph.attrs['device_index']![1] as number[])[5] = 8;
        }),
        cuda,
      ),
    ).toThrow(/device type 8/);
    const silent = foreign((graph) => {
      delete graph.attrs['device_index'];
    });
    expect(planExecutor(silent, { ...cuda, deviceType: 1 }).storages.every(({ deviceType }) => deviceType === 1)).toBe(true);
    expect(artifactDeviceType(silent)).toBe(2);
    expect(artifactDeviceType({ ...silent, module: { ...base.module!, blob: null } })).toBe(1);
  });

  it('refuses an object of another machine', async () => {
    const bytes = await readFile(file('model.so'));
    bytes.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18);
    await writeFile(file('model.so'), bytes);
    await sealModule(file('model.so'));
    const checkpoint = await readCheckpoint(folder);
    expect(() => planExecutor(checkpoint, cuda)).toThrow(expect.objectContaining({ code: 'LOAD_FAILED' }));
  });
});

describe('inspectPrebuilt', () => {
  it('describes a checkpoint as plain data', async () => {
    const inspection = await inspectPrebuilt(folder);
    expect(JSON.parse(JSON.stringify(inspection))).toEqual(inspection);
    expect(inspection).toMatchObject({
      model: 'llama2-70b',
      problems: [],
      graph: { nodes: 7, deviceTypes: [2], outputs: [{ name: 'op_b', dtype: 'float16', shape: [1, 16] }] },
      params: { tensors: 4, sizeBytes: 864 },
      module: { route: '2', architectures: ['compute_80'], constants: 1 },
      manifest: { format: { label: 'W_INT4 A_FP16' } },
    });
    expect(inspection.graph?.inputs.map(({ name, source }) => [name, source])).toEqual([
      ['x', 'input'],
      ['a.weight', 'params'],
      ['a.scale', 'params'],
      ['a.gain', 'params'],
      ['b.weight', 'params'],
    ]);
    expect(inspection.graph?.operators[0]).toEqual({
      node: 'op_a',
      functionName: 'op_a',
      inputs: ['float16[1, 32]', 'uint8[16, 16]', 'float16[16]', 'float16[32]'],
      outputs: ['float16[1, 16]'],
      steps: 'norm, dense',
      kernels: null,
    });
    expect(inspection.module?.undefinedSymbols).toContain('TVMAPISetLastError');
    expect(inspection.module?.kernels.map(({ name }) => name)).toEqual(['op_a_kernel', 'op_b_kernel']);
  });

  it('lists what is wrong instead of throwing', async () => {
    await writeFile(file('graph.params'), 'damaged');
    await compileModule(file('model.so'), ['op_a'], null);
    const graph = JSON.parse(fixtureGraph()) as { attrs: { storage_id: [string, number[]] } };
    graph.attrs.storage_id[1][6] = 4;
    await writeFile(file('graph.json'), JSON.stringify(graph));
    const inspection = await inspectPrebuilt(folder);
    expect(inspection.problems.map(({ code }) => code)).toEqual(['BAD_PARAMS', 'MISSING_SYMBOL', 'BAD_MODULE', 'BAD_GRAPH', 'BAD_GRAPH']);
    expect(inspection.params).toBeNull();
    expect(inspection.module?.route).toBe('cpu');
    await writeFile(file('graph.json'), '{');
    await writeFile(file('checkpoint.json'), '{}');
    const worse = await inspectPrebuilt(folder);
    expect(worse.graph).toBeNull();
    expect(worse.problems.map(({ code }) => code)).toEqual(['BAD_GRAPH', 'BAD_MANIFEST', 'BAD_PARAMS']);
  });
});

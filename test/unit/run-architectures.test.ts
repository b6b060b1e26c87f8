// Foreign checkpoints that would compute nothing, or something else, are refused with the reason and an exit status, by
// `inspect`, `run` and `verify`: code for another GPU, graphs that destroy live data. The stand-in for the driver is a GPU
// of compute capability 9.0; the objects are made by the C compiler.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { encodeModuleBlob } from '../../lib/artifact/module-blob.js';
import { cubinEntry, fatbin, ptxEntry } from '../fixtures/artifact/fatbin.js';
import { buildFakeCuda } from '../fixtures/native/fake-cuda-run.js';
import { Workshop } from '../fixtures/native/objects.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const workshop = new Workshop();
let library: string;
beforeAll(() => {
  library = buildFakeCuda(workshop);
});
afterAll(() => workshop.remove());

const tensor = (name: string) => ({ name, shape: [8], dtype: 'float32' });

/** x → … → y, one embedded operator after the other; `storage` are the graph's storage ids. */
function checkpoint(name: string, object: string, functions: readonly string[], storage?: readonly number[]): string {
  const folder = join(workshop.folder, name);
  mkdirSync(folder);
  const graph = JSON.parse(
    serialiseGraph({
      inputs: [tensor('x')],
      operators: functions.map((functionName, i) => ({
        name: `op${i}`,
        functionName,
        inputs: [i === 0 ? 'x' : `y${i - 1}`],
        outputs: [tensor(`y${i}`)],
      })),
      outputs: [`y${functions.length - 1}`],
    }),
  ) as { attrs: { storage_id: [string, readonly number[]] } };
  if (storage) graph.attrs.storage_id[1] = storage;
  writeFileSync(join(folder, 'graph.json'), JSON.stringify(graph));
  copyFileSync(object, join(folder, 'model.so'));
  return folder;
}

/** The object of embedded launches with these fat binaries in it. */
function objectWith(name: string, ...binaries: readonly Buffer[]): string {
  const data = join(workshop.folder, `${name}.fatbin`);
  writeFileSync(data, Buffer.concat(binaries));
  return workshop.compile('with_fatbin.c', ['-ldl', `-DFATBIN="${data}"`], name);
}

interface Said {
  readonly command: string;
  readonly status: number;
  readonly text: string;
}

/** Runs commands of `ladder` on a folder one after another, in one process that has the stand-in for the driver. */
function ladder(commands: readonly string[], folder: string, environment: NodeJS.ProcessEnv = {}): readonly Said[] {
  const script = `
    import { runCli } from ${JSON.stringify(main)};
    const said = [];
    for (const command of ${JSON.stringify(commands)}) {
      const options = command === 'run' ? ['--min-samples', '2', '--max-samples', '2', '--warmup-ms', '0'] : [];
      let text = '';
      const stream = { write: (part) => (text += part) };
      const status = await runCli([command, ${JSON.stringify(folder)}, ...options], stream, stream, new AbortController().signal);
      said.push({ command, status, text });
    }
    console.log(JSON.stringify(said));`;
  const env = { ...process.env, LD_LIBRARY_PATH: dirname(library), ...environment };
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as readonly Said[];
}

const kAll = ['inspect', 'run', 'verify'];

describe('code for another GPU', () => {
  const stub = fatbin(cubinEntry(75, { payload: '.nv.info' }));
  test.each([
    ['machine code of another generation', [stub, fatbin(cubinEntry(120))], /sm_120.*code=sm_90/],
    [
      'one of three translation units',
      [stub, fatbin(ptxEntry(80)), fatbin(cubinEntry(80), cubinEntry(86)), fatbin(cubinEntry(90))],
      /1 of its 3.*sm_80, sm_86/,
    ],
    ['PTX of a later GPU', [fatbin(ptxEntry(100))], /compute_100/],
    ['another GPU’s own features', [fatbin(cubinEntry(100, { flags: 0x100011 }))], /sm_100a/],
  ])('%s is refused by inspect, run and verify', (what, binaries, named) => {
    const folder = checkpoint(what.replaceAll(/\W/g, '-'), objectWith(what.replaceAll(/\W/g, '_'), ...binaries), ['embedded_add_one']);
    for (const { command, status, text } of ladder(kAll, folder)) {
      expect(text, command).toMatch(/WRONG_ARCHITECTURE|no code for this GPU/);
      expect(text).toMatch(named);
      expect(status).toBe(1);
    }
  });
  test('machine code of another GPU in the module blob is seen by inspect, without loading it', () => {
    const cubin = Buffer.alloc(64);
    cubin.writeUInt32LE(0x464c457f, 0);
    cubin[8] = 8;
    cubin.writeUInt16LE(190, 18);
    const blobOf = (architecture: number): Uint8Array => {
      cubin.writeUInt32LE(architecture << 8, 48);
      return encodeModuleBlob({ images: [{ format: 'cubin', bytes: cubin, kernels: [{ name: 'k', argumentTypes: [], launchTags: [] }] }] });
    };
    for (const [architecture, status] of [
      [120, 1],
      [90, 0],
    ] as const) {
      const source = join(workshop.folder, `blob${architecture}.c`);
      const bytes = [...blobOf(architecture)];
      writeFileSync(source, `const unsigned char __tvm_dev_mblob[${bytes.length}] = {${bytes.join(',')}};\n`);
      const object = workshop.compile('embedded_launches.c', ['-ldl', source], `carried${architecture}`);
      const [result] = ladder(['inspect'], checkpoint(`carried ${architecture}`, object, ['embedded_add_one']));
      expect(result!.status).toBe(status);
      if (status === 1) expect(result!.text).toMatch(/WRONG_ARCHITECTURE.*1 of its 1 images.*sm_120/);
    }
  });
  test('code for this GPU, and PTX of an earlier one, run', () => {
    for (const [name, entry] of [
      ['own', cubinEntry(90)],
      ['earlier', ptxEntry(80)],
    ] as const) {
      const folder = checkpoint(name, objectWith(`object_${name}`, stub, fatbin(entry)), ['embedded_add_one', 'embedded_add_one']);
      const said = ladder(kAll, folder);
      expect(said.map(({ status }) => status)).toEqual([0, 0, 0]);
      const { text } = said[0]!;
      expect(text).toMatch(name === 'own' ? /route 1.*sm_90/ : /route 1.*compute_80/);
      expect(text).not.toContain('sm_75');
    }
    const [forced] = ladder(['run'], join(workshop.folder, 'own'), { CUDA_FORCE_PTX_JIT: '1' });
    expect(forced).toMatchObject({ status: 1, text: expect.stringContaining('no code for this GPU') });
    expect(ladder(['run'], join(workshop.folder, 'earlier'), { CUDA_DISABLE_PTX_JIT: '1' })).toMatchObject([{ status: 1 }]);
  });
  test('what only the launch tells is found in the first run', () => {
    const folder = checkpoint('launch', objectWith('object_launch', fatbin(cubinEntry(90))), ['embedded_add_one', 'embedded_add_one']);
    for (const { command, status, text } of ladder(['run', 'verify'], folder, { FAKE_LAST_ERROR: '209' })) {
      expect(text, command).toMatch(/WRONG_ARCHITECTURE|embedded_add_one.*launching its kernel failed/);
      expect(status).toBe(1);
    }
    const nothing = checkpoint('nothing', objectWith('object_nothing', fatbin(cubinEntry(90))), ['embedded_add_one', 'embedded_nothing']);
    const refused = { status: 1, text: expect.stringMatching(/embedded_nothing.*launched nothing/) as string };
    expect(ladder(['run', 'verify'], nothing)).toMatchObject([refused, refused]);
  });
});

describe('storage that destroys live data', () => {
  test.each([
    ['an input', [0, 1, 0], /next inference reads x:0 from storage 0, which then holds op1:0/],
    ['an operator’s own input', [0, 0, 1], /op0 writes op0:0 over its own input x:0/],
    ['an output', [0, 1, 1], /op1 writes op1:0 over its own input op0:0/],
  ])('%s: refused by inspect, run and verify', (what, storage, named) => {
    const object = objectWith(`clobber_${what.replaceAll(/\W/g, '_')}`, fatbin(cubinEntry(90)));
    const folder = checkpoint(`clobber ${what}`, object, ['embedded_add_one', 'embedded_add_one'], storage);
    for (const { command, status, text } of ladder(kAll, folder)) {
      expect(text, command).toMatch(named);
      expect(status).toBe(1);
    }
  });
});

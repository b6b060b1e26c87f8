/**
 * Foreign checkpoints of route 1 on a GPU, through the command line: code for another GPU, whole or one translation unit of two,
 * and code for this one beside an image in the module blob. Needs a GPU and nvcc; skips itself, saying which is missing.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { encodeModuleBlob } from '../../lib/artifact/module-blob.js';
import { loadPrebuilt } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { hasCommand, Workshop } from '../fixtures/native/objects.js';

const kMissing = !native().cudaStatus().available
  ? `a GPU (${native().cudaStatus().reason})`
  : !hasCommand('nvcc')
    ? 'nvcc on the PATH'
    : null;
if (kMissing) console.log(`skipped: the GPU tests of foreign checkpoints need ${kMissing}`);

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/native/${name}`, import.meta.url));
const kLength = 5000;

const workshop = new Workshop();
afterAll(() => workshop.remove());

/** The route 1 object from one translation unit per architecture; the first has the operators. */
function compile(name: string, architectures: readonly string[], ...more: readonly string[]): string {
  const objects = architectures.map((architecture, i) => {
    const source = join(workshop.folder, `${name}${i}.cu`);
    writeFileSync(
      source,
      i === 0
        ? `#include "${fixture('route1.cu')}"\n`
        : '__global__ void k(float* p) { p[threadIdx.x] += 1; }\nextern "C" void other(float* p) { k<<<1, 32>>>(p); }\n',
    );
    const object = join(workshop.folder, `${name}${i}.o`);
    const code = architecture.replace('compute_', '').replace('sm_', '');
    workshop.execute('nvcc', [
      '-c',
      '-std=c++17',
      '-Xcompiler',
      '-fPIC',
      '-gencode',
      `arch=compute_${code},code=${architecture}`,
      '-o',
      object,
      source,
    ]);
    return object;
  });
  const output = join(workshop.folder, `${name}.so`);
  workshop.execute('nvcc', ['-shared', '-cudart', 'static', '-o', output, ...objects, ...more]);
  return output;
}

function checkpoint(name: string, object: string, functionName: string): string {
  const folder = join(workshop.folder, name);
  mkdirSync(folder);
  const tensor = (tensorName: string) => ({ name: tensorName, shape: [kLength], dtype: 'float32' });
  const operators = [{ name: 'op', functionName, inputs: ['x'], outputs: [tensor('y')] }];
  writeFileSync(join(folder, 'graph.json'), serialiseGraph({ inputs: [tensor('x')], operators, outputs: ['y'] }));
  writeFileSync(join(folder, 'model.so'), readFileSync(object));
  return folder;
}

function ladder(command: string, folder: string, ...options: readonly string[]): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, command, folder, ...options], { encoding: 'utf8' });
  return { status, text: `${stdout}${stderr}` };
}

describe.skipIf(kMissing !== null)('a foreign checkpoint of route 1', () => {
  const other = (native().devices()[0]?.computeCapability[0] ?? 0) >= 12 ? 'sm_80' : 'sm_120';

  test.each([
    ['all of another architecture', [other]],
    ['one translation unit of two', ['compute_80', other]],
  ])('%s: inspect, run and verify say so and exit 1', (what, architectures) => {
    const name = what.replaceAll(' ', '-');
    const folder = checkpoint(name, compile(`object-${name}`, architectures), 'add_one');
    for (const command of ['inspect', 'run', 'verify']) {
      const { status, text } = ladder(command, folder);
      expect(text).toContain(other);
      expect(text).toMatch(/no code for this GPU/);
      expect(status).toBe(1);
    }
  });

  test('of this GPU: runs, and its time is that of its kernel, beside an image that nobody calls', async () => {
    const blob = encodeModuleBlob({
      images: [
        {
          format: 'ptx',
          bytes: readFileSync(workshop.nvcc('route2_kernels.cu', 'unused.ptx', ['-ptx', '-arch=compute_80'])),
          kernels: [{ name: 'reverse', argumentTypes: ['handle', 'handle', 'int64'].map(parseDataType), launchTags: ['threadIdx.x'] }],
        },
      ],
    });
    const source = join(workshop.folder, 'blob.c');
    writeFileSync(source, `const unsigned char __tvm_dev_mblob[${blob.length}] = {${[...blob].join(',')}};\n`);
    workshop.execute('cc', ['-c', '-fPIC', '-o', join(workshop.folder, 'blob.o'), source]);
    const folder = checkpoint('both-routes', compile('object-both', ['compute_80'], join(workshop.folder, 'blob.o')), 'add_one_slowly');
    expect(ladder('inspect', folder)).toMatchObject({ status: 0, text: expect.stringContaining('route 1 and 2') });
    expect(ladder('verify', folder)).toMatchObject({ status: 0 });
    const { status, text } = ladder('run', folder, '--json', '--min-samples', '5', '--max-samples', '5');
    expect(status).toBe(0);
    const record = JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)) as { latencyMs: number };
    expect(record.latencyMs).toBeGreaterThan(5);
    const layer = await loadPrebuilt(folder);
    const x = Float32Array.from({ length: kLength }, (_, i) => Math.fround(Math.sin(i)));
    await layer.setInput('x', x);
    await layer.run();
    expect(await layer.getOutput(0)).toEqual(x.map((value) => value + 1));
    await layer.dispose();
  });
});

/**
 * Foreign checkpoints of route 1 on a GPU, through the command line: code for another GPU, whole or one translation unit of two,
 * code for this one beside an image in the module blob, weights that nobody trained, and an output of gigabytes. Needs a GPU and
 * nvcc; skips itself, saying which is missing.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDataType } from '../../lib/artifact/dtype.js';
import { type OperatorDescription, serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { encodeModuleBlob } from '../../lib/artifact/module-blob.js';
import { writeParams } from '../../lib/artifact/params.js';
import { loadPrebuilt } from '../../lib/index.js';
import { type Fill, native } from '../../lib/native.js';
import { hasCommand, rejection, Workshop } from '../fixtures/native/objects.js';

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

interface Watched {
  readonly tookMs: number;
  /** The longest that the event loop was held up meanwhile. */
  readonly gapMs: number;
  readonly result: unknown;
}

async function watched(task: () => Promise<unknown>): Promise<Watched> {
  const started = performance.now();
  let last = started;
  let gapMs = 0;
  const look = (): void => {
    gapMs = Math.max(gapMs, performance.now() - last);
    last = performance.now();
  };
  const timer = setInterval(look, 5);
  const result = await task();
  look();
  clearInterval(timer);
  return { tookMs: performance.now() - started, gapMs, result };
}

describe.skipIf(kMissing !== null)('a foreign network with weights of random numbers', () => {
  const kWidth = 1024;
  let object: string;
  beforeAll(() => {
    const flags = ['-std=c++17', '-shared', '-Xcompiler', '-fPIC', '-cudart', 'static', '-gencode', 'arch=compute_80,code=compute_80'];
    object = workshop.nvcc('foreign_layers.cu', 'layers.so', flags);
  });

  const half = (name: string, ...shape: number[]) => ({ name, shape, dtype: 'float16' });
  const kinds = [
    { functionName: 'product_halves', weights: (i: number) => [half(`w${i}`, kWidth, kWidth)] },
    { functionName: 'product_fp8', weights: (i: number) => [{ name: `w${i}`, shape: [kWidth, kWidth], dtype: 'e5m2_float8' }] },
    {
      functionName: 'product_int4',
      weights: (i: number) => [{ name: `w${i}`, shape: [kWidth, kWidth / 2], dtype: 'uint8' }, half(`scale${i}`, kWidth)],
    },
  ];
  /** Three layers of each kind, then as many operators as are named, each [1, kWidth] → the same. */
  function network(name: string, ...more: readonly string[]) {
    const layers = [...kinds, ...kinds, ...kinds].map(({ functionName, weights }, i) => ({ functionName, weights: weights(i) }));
    const operators = [...layers, ...more.map((functionName) => ({ functionName, weights: [] }))].map(
      ({ functionName, weights }, i): OperatorDescription => ({
        name: `op${i}`,
        functionName,
        inputs: [i === 0 ? 'x' : `y${i - 1}`, ...weights.map((weight) => weight.name)],
        outputs: [half(`y${i}`, 1, kWidth)],
      }),
    );
    const parameters = [half('x', 1, kWidth), ...layers.flatMap(({ weights }) => weights)];
    const folder = join(workshop.folder, name);
    mkdirSync(folder);
    writeFileSync(join(folder, 'graph.json'), serialiseGraph({ inputs: parameters, operators, outputs: [`y${operators.length - 1}`] }));
    writeFileSync(join(folder, 'model.so'), readFileSync(object));
    return { folder, parameters };
  }

  test('its sums stay finite through layers of every kind, where weights of the size of 1 overflow', async () => {
    const { folder, parameters } = network('finite');
    const { status, text } = ladder('verify', folder);
    expect(text).toMatch(/verified as far as an unknown checkpoint can be: structure, completeness, finiteness, repeatability/);
    expect(text).not.toContain('overflow');
    expect(status).toBe(0);
    const layer = await loadPrebuilt(folder);
    await layer.run();
    const outputs = await layer.getOutput(0, { as: 'float32' });
    await layer.dispose();
    expect(outputs.every(Number.isFinite)).toBe(true);
    const rms = Math.hypot(...outputs) / Math.sqrt(kWidth);
    console.log(`nine layers of fake weights: root mean square ${rms.toExponential(1)}`);
    expect(rms).toBeGreaterThan(1e-6);

    const fills: Record<string, Fill> = { float16: { kind: 'uniform', low: -1, high: 1 }, uint8: { kind: 'bits' } };
    const stored = parameters.map(({ name, shape, dtype: typeName }, i) => {
      const dtype = parseDataType(typeName);
      const bytes = new Uint8Array((shape.reduce((product, extent) => product * extent, 1) * dtype.bits) / 8);
      // Codes of E5M2 from 2^-14 to 2^2, of either sign.
      const fill = fills[typeName] ?? { kind: 'code', base: 4, mask: 0x3f, signed: true };
      native().fillBytes(fill, BigInt(i), dtype, 0, bytes);
      return { name, shape, dtype, chunks: [bytes] };
    });
    await writeParams(join(folder, 'graph.params'), stored);
    const real = ladder('verify', folder);
    expect(real.text).toMatch(/elements are not finite/);
    expect(real.status).toBe(3);
  });

  test('what overflows on them is no mismatch', () => {
    const { status, text } = ladder('verify', network('overflows', 'overflow').folder);
    expect(text).toMatch(/op9: fake weights overflow: \d+ of 1024 elements are not finite/);
    expect(text).not.toContain('MISMATCH');
    expect(status).toBe(0);
  });

  test('an output of 2 GiB is looked through in a second, the event loop free, and given up within one', async () => {
    const folder = join(workshop.folder, 'large');
    mkdirSync(folder);
    const shape = [64, 4096, 4096];
    const operators = [{ name: 'op', functionName: 'spread', inputs: ['x'], outputs: [half('y', ...shape)] }];
    writeFileSync(join(folder, 'graph.json'), serialiseGraph({ inputs: [half('x', 1, 4096)], operators, outputs: ['y'] }));
    writeFileSync(join(folder, 'model.so'), readFileSync(object));
    const layer = await loadPrebuilt(folder);
    try {
      await layer.verify(); // the first run of all, which captures
      const whole = await watched(() => layer.verify());
      expect(whole.result).toMatchObject({
        passed: true,
        operators: [{ elements: 2 ** 30, deterministic: true }],
        endToEnd: [{ bitEqual: true }],
      });

      const [first, second] = [new Uint8Array(2 ** 31).fill(0x3c), new Uint8Array(2 ** 31).fill(0x3c)];
      first[2 ** 31 - 1] = second[2 ** 31 - 1] = 0x7c; // infinite
      const compare = () => watched(() => native().compareTensors(parseDataType('float16'), first, second, null));
      const counted = await compare();
      expect(counted.result).toMatchObject({ nonFinite: 1, equal: true });
      second[0] = 0x3d;
      const compared = await compare();
      expect(compared.result).toMatchObject({ nonFinite: 1, equal: false });

      const abortMs: number[] = [];
      for (const share of [0.1, 0.25, 0.4, 0.55, 0.7]) {
        const controller = new AbortController();
        const verification = rejection(layer.verify({ signal: controller.signal }));
        await new Promise((resolve) => setTimeout(resolve, share * whole.tookMs));
        const aborted = performance.now();
        controller.abort();
        expect((await verification).code).toBe('ABORTED');
        abortMs.push(performance.now() - aborted);
      }
      const inWords = ({ tookMs, gapMs }: Watched) => `${tookMs.toFixed(0)} ms (event loop held for ${gapMs.toFixed(0)} at most)`;
      console.log(
        `[64, 4096, 4096]: verified in ${inWords(whole)}, counted in ${inWords(counted)}, compared in ${inWords(compared)}, ` +
          `given up after ${abortMs.map((ms) => ms.toFixed(0)).join(', ')} ms`,
      );
      expect(counted.tookMs).toBeLessThan(1000);
      expect(Math.max(...abortMs)).toBeLessThan(1000);
      expect(Math.max(whole.gapMs, counted.gapMs, compared.gapMs)).toBeLessThan(200);
    } finally {
      await layer.dispose();
    }
  }, 180_000);
});

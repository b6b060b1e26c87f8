// model.so with a module blob of 5 GB, as TVM leaves it where kernels are external modules: only headers are read, and only
// the constants that an operator asks for. The file is sparse; no GPU needed.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readModule } from '../../lib/artifact/checkpoint.js';
import { serialiseGraph } from '../../lib/artifact/graph-writer.js';
import { inspectPrebuilt, loadPrebuilt, verifyPrebuilt } from '../../lib/index.js';
import { native } from '../../lib/native.js';
import { writeBigModule } from '../fixtures/native/big-module.js';
import { Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
const folder = join(workshop.folder, 'big');
const kBigBytes = 5_000_000_000;
let offset: number;

beforeAll(() => {
  mkdirSync(folder);
  const tensor = (name: string) => ({ name, shape: [64], dtype: 'float32' });
  writeFileSync(
    join(folder, 'graph.json'),
    serialiseGraph({
      inputs: [tensor('x')],
      operators: [{ name: 'op', functionName: 'uses_constants', inputs: ['x'], outputs: [tensor('y')] }],
      outputs: ['y'],
      deviceType: 1,
    }),
  );
  const blobSymbol = new URL('../fixtures/native/blob_symbol.c', import.meta.url).pathname;
  const object = workshop.compile('cpu_operators.c', [blobSymbol, '-Wl,--build-id']);
  offset = writeBigModule(object, join(folder, 'model.so'), kBigBytes, 'uses_constants', Float32Array.of(3, 4));
});
afterAll(() => workshop.remove());

describe('a module blob of 5 GB', () => {
  it('is read in pieces', async () => {
    const module = await readModule(folder);
    expect(module!.sizeBytes).toBeGreaterThan(kBigBytes);
    expect(module!.blob!.constants).toMatchObject([
      { name: 'big', shape: [kBigBytes], sizeBytes: kBigBytes },
      { name: 'a', shape: [2], sizeBytes: 8, fileOffset: offset },
    ]);
    expect(offset).toBeGreaterThan(kBigBytes);
    expect(await inspectPrebuilt(folder)).toMatchObject({ problems: [], module: { constants: 2 } });
  });

  it('costs a run only the constants that its operators ask for', async () => {
    const before = native().allocatedBytes().host;
    const memory = process.memoryUsage().rss;
    const layer = await loadPrebuilt(folder);
    expect(native().allocatedBytes().host - before).toBeLessThan(1 << 20);
    expect(process.memoryUsage().rss - memory).toBeLessThan(100e6);
    const x = Float32Array.from({ length: 64 }, (_, i) => i);
    await layer.setInput('x', x);
    await layer.run();
    expect(await layer.getOutput(0)).toEqual(x.map((value) => value + 7));
    await layer.dispose();
    expect((await verifyPrebuilt(folder)).passed).toBe(true);
  });
});

// The addon's embedded device code is PTX that the assembler accepts, for the least and for the usual target. No GPU.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasCommand, Workshop } from '../fixtures/native/objects.js';

const workshop = new Workshop();
const kPtx = join(workshop.folder, 'embedded.ptx');
let text = '';

beforeAll(() => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const program = join(workshop.folder, 'print_ptx');
  workshop.execute(process.env['CXX'] ?? 'c++', [
    '-std=c++17',
    '-o',
    program,
    join(root, 'test/fixtures/native/print_ptx.cc'),
    join(root, 'native/cuda/embedded_ptx.cc'),
  ]);
  text = workshop.execute(program, []);
  writeFileSync(kPtx, text);
});
afterAll(() => workshop.remove());

test('the embedded code has every kernel that is launched by name', () => {
  const kernels = [...text.matchAll(/\.visible \.entry (\w+)/g)].map((match) => match[1]);
  const fills = ['words', 'f16', 'bf16', 'f32', 'i8', 'i16', 'i32', 'i64'].map((type) => `ladder_fill_${type}`);
  expect(kernels.sort()).toEqual([...fills, 'ladder_delay', 'ladder_read'].sort());
  expect(text).toContain('.target sm_80');
});

if (!hasCommand('ptxas')) console.log('skipped: assembling the embedded PTX needs ptxas on the PATH');
test.skipIf(!hasCommand('ptxas')).each(['sm_80', 'sm_90'])('ptxas accepts the embedded code for %s without spills', (target) => {
  const output = workshop.execute('sh', ['-c', `ptxas -v -arch=${target} -o ${join(workshop.folder, 'out.cubin')} ${kPtx} 2>&1`]);
  expect(output.match(/Compiling entry function/g)).toHaveLength(10);
  expect(output).not.toMatch(/[1-9][0-9]* bytes spill/);
  expect(output).not.toMatch(/warning/i);
});

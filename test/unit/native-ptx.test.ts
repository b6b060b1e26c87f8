// The addon's embedded device code is PTX that the assembler accepts, for the least and for the usual target; what stands in for cuDNN
// computes what it should, interpreted. No GPU.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { type ConvolutionCase, convolve, kConvolutions, softmax } from '../fixtures/native/contrib.js';
import { hasCommand, Workshop } from '../fixtures/native/objects.js';
import { runPtx } from '../fixtures/native/ptx.js';
import { random } from '../fixtures/random.js';

const workshop = new Workshop();
const kModules = ['embedded', 'contrib'] as const;
const text: Record<string, string> = {};
const pathOf = (module: string): string => join(workshop.folder, `${module}.ptx`);

beforeAll(() => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const program = join(workshop.folder, 'print_ptx');
  workshop.execute(process.env['CXX'] ?? 'c++', [
    '-std=c++17',
    '-o',
    program,
    join(root, 'test/fixtures/native/print_ptx.cc'),
    ...kModules.map((module) => join(root, `native/cuda/${module}_ptx.cc`)),
  ]);
  for (const module of kModules) {
    text[module] = workshop.execute(program, [module]);
    writeFileSync(pathOf(module), text[module]);
  }
});
afterAll(() => workshop.remove());

const kernelsOf = (module: string): string[] => [...text[module]!.matchAll(/\.visible \.entry (\w+)/g)].map((match) => match[1]!).sort();

test('the embedded code has every kernel that is launched by name', () => {
  const fills = ['words', 'f16', 'bf16', 'f32', 'i8', 'i16', 'i32', 'i64'].map((type) => `ladder_fill_${type}`);
  expect(kernelsOf('embedded')).toEqual([...fills, 'ladder_delay', 'ladder_read'].sort());
  expect(kernelsOf('contrib')).toEqual(['convolution', 'softmax'].flatMap((name) => [`ladder_${name}_f16`, `ladder_${name}_f32`]));
  for (const module of kModules) expect(text[module]).toContain('.target sm_80');
});

if (!hasCommand('ptxas')) console.log('skipped: assembling the embedded PTX needs ptxas on the PATH');
describe.skipIf(!hasCommand('ptxas')).each(kModules)('ptxas accepts the code of %s without spills', (module) => {
  test.each(['sm_80', 'sm_90'])('for %s', (target) => {
    const output = workshop.execute('sh', ['-c', `ptxas -v -arch=${target} -o ${pathOf(module)}.cubin ${pathOf(module)} 2>&1`]);
    expect(output.match(/Compiling entry function/g)).toHaveLength(kernelsOf(module).length);
    expect(output).not.toMatch(/[1-9][0-9]* bytes spill/);
    expect(output).not.toMatch(/warning/i);
  });
});

/** Memory with some float tensors, one after another, each at a multiple of 16. */
class Memory {
  private readonly offsets: number[] = [];
  readonly bytes: Uint8Array;
  constructor(
    private readonly half: boolean,
    private readonly tensors: readonly Float32Array[],
  ) {
    let end = 0;
    for (const { length } of tensors) {
      this.offsets.push(end);
      end = Math.ceil((end + length * this.size) / 16) * 16;
    }
    this.bytes = new Uint8Array(end).fill(0xff);
    tensors.forEach((tensor, i) => this.view(i).set(half ? Array.from(tensor, floatToHalf) : tensor));
  }
  get size(): number {
    return this.half ? 2 : 4;
  }
  at(index: number): bigint {
    return BigInt(this.offsets[index]!);
  }
  private view(index: number): Uint16Array | Float32Array {
    const [offset, length] = [this.offsets[index]!, this.tensors[index]!.length];
    return this.half ? new Uint16Array(this.bytes.buffer, offset, length) : new Float32Array(this.bytes.buffer, offset, length);
  }
  read(index: number): number[] {
    return Array.from(this.view(index), (value) => (this.half ? halfToFloat(value) : value));
  }
}

const next = random(5);
const values = (length: number, half: boolean): Float32Array =>
  Float32Array.from({ length }, () => {
    const value = Math.fround(2 * next() - 1);
    return half ? halfToFloat(floatToHalf(value)) : value;
  });
const words = (...numbers: readonly (bigint | number)[]): Uint8Array => new Uint8Array(BigInt64Array.from(numbers.map(BigInt)).buffer);
const product = (extents: readonly number[]): number => extents.reduce((total, extent) => total * extent, 1);

describe.each([true, false])('interpreted, half: %s', (half) => {
  const close = half ? 2 ** -10 : 1e-5;
  const type = half ? 'f16' : 'f32';

  test.each(kConvolutions)('a convolution: $name', (shape: ConvolutionCase) => {
    const { x, w, y, stride, padding, dilation, groups, channelsLast } = shape;
    const memory = new Memory(half, [values(product(x), half), values(product(w), half), new Float32Array(product(y)).fill(Number.NaN)]);
    const at = channelsLast ? [0, 3, 1, 2] : [0, 1, 2, 3];
    const strides = (extents: readonly number[]): number[] => at.map((axis) => memory.size * product(extents.slice(axis + 1)));
    const [kernelHeight, kernelWidth] = [w[at[2]!]!, w[at[3]!]!];
    const wStrides = strides(w);
    let first = memory.at(1);
    if (shape.backwards) {
      first += BigInt((kernelHeight - 1) * wStrides[2]! + (kernelWidth - 1) * wStrides[3]!);
      wStrides[2]! *= -1;
      wStrides[3]! *= -1;
    }
    const parameters = words(
      ...[memory.at(0), first, memory.at(2)],
      ...[product(y), ...y.slice(1), channelsLast ? 1 : 0],
      ...[w[0]! / groups, w[at[1]!]!, x[at[2]!]!, x[at[3]!]!, kernelHeight, kernelWidth],
      ...[...stride, ...padding, ...dilation, ...strides(x), ...wStrides],
    );
    runPtx(text['contrib']!, `ladder_convolution_${type}`, { grid: 2, block: 32, parameters, memory: memory.bytes });
    const expected = convolve(shape, memory.read(0), memory.read(1));
    memory.read(2).forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(close * (1 + Math.abs(expected[i]!))));
  });

  test.each([
    { shape: [3, 50], axis: 1 },
    { shape: [2, 3, 4], axis: 1 },
    { shape: [40, 1], axis: 0 },
  ])('a softmax: $shape along $axis', ({ shape, axis }) => {
    const x = values(product(shape), half).map((value) => Math.fround(8 * value));
    const memory = new Memory(half, [x, new Float32Array(x.length).fill(Number.NaN)]);
    const inner = product(shape.slice(axis + 1));
    const parameters = words(memory.at(0), memory.at(1), x.length / shape[axis]!, shape[axis]!, inner);
    runPtx(text['contrib']!, `ladder_softmax_${type}`, { grid: 2, block: 32, parameters, memory: memory.bytes });
    const expected = softmax(shape, axis, memory.read(0));
    memory.read(1).forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(close * expected[i]! + 2 ** -24));
  });
});

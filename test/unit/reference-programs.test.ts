// Programs that no operator of version 1 is: other orders of steps, inner quantised values, toy codes, padded layouts, several
// outputs; each computed whole, and compared by the sampling FP64 side too. And refusals of programs that cannot be.
import { describe, expect, it } from 'vitest';
import { floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { formats } from '../../lib/formats/index.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import { native, type NativeNode, type NativeProgram, type NativeValue } from '../../lib/native.js';
import { bytesOf, Random } from './reference-naive.js';
import {
  axesOf,
  coordinatesOf,
  erf,
  naiveProgram,
  numbersValue,
  plain,
  postfix,
  ProgramBuilder,
  quantisedValue,
  readBits,
  readStored,
  scaleAxes,
  storedAt,
  tensorBytes,
} from './reference-naive-program.js';
import { checkSampled } from './reference-sampled.js';

const kPoison = 0xa5;
const kInt8 = formats.get('int8').element;
const kInt4 = formats.get('int4').element;
const kE4m3 = formats.get('fp8_e4m3').element;
const kToken = { type: 'f32', per: [{ axis: 'm', count: 1 }], fit: { kind: 'absmax', top: 127 } } as const;
const kMx = {
  type: 'e8m0',
  per: [
    { axis: 'm', count: 1 },
    { axis: 'c', count: 32 },
  ],
  fit: { kind: 'mx', emax: 8 },
} as const;
const kChannel = { type: 'f16', per: [{ axis: 'n', count: 1 }], fit: { kind: 'absmax', top: 7 } } as const;
const kToy = { bits: 2, codes: { kind: 'table', values: [-1.5, -0.5, 0.5, 1.5], tie: 'lower' } } as const;

/** Eighths of small integers: sums of their products with codes are exact in FP32, so that codes of results are the same in any order of sums. */
const eighths = (random: Random, count: number): Uint8Array =>
  bytesOf(Uint16Array.from({ length: count }, () => floatToHalf((random.integer(33) - 16) / 8)));
const powers = (random: Random, count: number): Uint8Array =>
  bytesOf(Uint16Array.from({ length: count }, () => floatToHalf(2 ** -random.integer(3))));

/** Any layout with at least an axis' extent, padding on every axis. */
function paddedLayout(random: Random, axes: NativeValue['axes'], most = 5): NativeValue['layout'] {
  const digits = axes.flatMap(({ name, extent }) => {
    const padded = extent + random.integer(most);
    const inner = random.pick(Array.from({ length: padded }, (_, i) => i + 1).filter((size) => padded % size === 0));
    return [
      { axis: name, stride: 1, size: inner },
      { axis: name, stride: inner, size: padded / inner },
    ];
  });
  return digits
    .map((digit) => ({ digit, order: random.next() }))
    .sort((a, b) => a.order - b.order)
    .map(({ digit }) => digit);
}

const halfDistance = (one: Uint8Array, other: Uint8Array): number => {
  const [a, b] = [one, other].map((bytes) => Array.from(new Uint16Array(bytes.slice().buffer), halfToFloat)) as [number[], number[]];
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
};

const outputsOf = (program: NativeProgram): Uint8Array[] =>
  program.outputs.flatMap((value) => tensorBytes(program.values[value]!).map((size) => new Uint8Array(size).fill(kPoison)));

/** Runs the program and holds every output against the naive one: numbers by a tolerance, codes and scales bit by bit, padding zero. */
async function check(program: NativeProgram, inputs: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const outputs = outputsOf(program);
  await native().referenceRun({ program, inputs, outputs });
  let next = 0;
  naiveProgram(program, inputs).forEach((expected, index) => {
    const value = program.values[program.outputs[index]!]!;
    const tensors = outputs.slice(next, (next += value.scale ? 2 : 1));
    const actual = readStored(value, tensors);
    if (expected.cells) {
      expect(actual.cells).toEqual(expected.cells);
      expect(actual.scales).toEqual(expected.scales);
    } else {
      const rms = Math.sqrt(expected.numbers.reduce((sum, number) => sum + number * number, 0) / expected.numbers.length);
      expected.numbers.forEach((wanted, i) => {
        const tolerance = Math.abs(wanted) * (value.type === 'f16' ? 2 ** -11 : 2 ** -21) + rms * 2 ** -18 + 2 ** -25;
        if (!(Math.abs(actual.numbers[i]! - wanted) <= tolerance))
          expect.fail(`output ${index}, element ${i}: ${actual.numbers[i]} instead of ${wanted} in ${JSON.stringify(program)}`);
      });
    }
    const used = new Set(coordinatesOf(value.axes).map((coordinates) => storedAt(value.layout, value.axes, coordinates)));
    const places = value.layout.reduce((product, { size }) => product * size, 1);
    for (let place = 0; place < places; ++place) if (!used.has(place)) expect(readBits(tensors[0]!, place, value.cellBits)).toBe(0);
  });
  await checkSampled(program, inputs);
  return outputs;
}

describe('programs', () => {
  it('adds before relu, and after it', async () => {
    for (const first of ['x0 x1 add', 'x0 0 max']) {
      const program = new ProgramBuilder();
      const [x, skip] = [program.input(numbersValue({ m: 3, c: 300 })), program.input(numbersValue({ m: 3, c: 300 }))];
      const adds = first.includes('add');
      const inner = program.node('map', adds ? [x, skip] : [x], numbersValue({ m: 3, c: 300 }, 'f32'), { expression: postfix(first) });
      const y = program.node('map', adds ? [inner] : [inner, skip], numbersValue({ m: 3, c: 300 }), {
        expression: postfix(adds ? 'x0 0 max' : 'x0 x1 add'),
      });
      const random = new Random(1);
      await check(program.finish(y), [random.halves(900), random.halves(900)]);
    }
  });

  it('maps three inputs, vectors of either axis among them, by every operation', async () => {
    const program = new ProgramBuilder();
    const inputs = [{ m: 5, c: 7 }, { c: 7 }, { m: 5 }].map((extents) => program.input(numbersValue(extents)));
    const y = program.node('map', inputs, numbersValue({ m: 5, c: 7 }, 'f32'), {
      expression: postfix('x0 x1 mul x2 sub 0.5 max x2 neg exp 1 add div x1 tanh 3 min add x0 0.25 mul erf add'),
    });
    const random = new Random(2);
    await check(program.finish(y), [random.halves(35), random.halves(7), random.halves(5)]);
  });

  it('maps parts of a last axis, a value read twice, a scalar, and more axes than two', async () => {
    const program = new ProgramBuilder();
    const x = program.input(numbersValue({ b: 2, h: 3, c: 3 * 270 }));
    const one = program.input(numbersValue({}, 'f32'));
    const y = program.node('map', [x, x, one], numbersValue({ b: 2, h: 3, c: 270 }), { expression: postfix('x0.2/3 x1.0/3 mul x2 add') });
    const random = new Random(3);
    await check(program.finish(y), [random.halves(2 * 3 * 810), bytesOf(Float32Array.of(0.75))]);
  });

  it('keeps NaN in minima and maxima', async () => {
    const program = new ProgramBuilder();
    const x = program.input(numbersValue({ c: 4 }));
    const y = program.node('map', [x], numbersValue({ c: 4 }), { expression: postfix('x0 0 max 1 min') });
    const output = new Uint8Array(8);
    await native().referenceRun({
      program: program.finish(y),
      inputs: [bytesOf(Uint16Array.of(0x7e00, 0xc000, 0x3800, 0x4200))],
      outputs: [output],
    });
    expect([...new Uint16Array(output.buffer)]).toEqual([0x7e00, 0, 0x3800, 0x3c00]);
  });

  it('quantises inside, per token and in MX blocks, between two products', async () => {
    for (const [element, scale] of [
      [kInt8, kToken],
      [kE4m3, { ...kToken, fit: { kind: 'absmax', top: 448 } }],
      [kE4m3, kMx],
      [{ ...kInt4 }, { ...kToken, per: [], fit: { kind: 'absmax', top: 7 } }],
    ] as const) {
      const program = new ProgramBuilder();
      const x = program.input(numbersValue({ m: 70, c: 40 }));
      const w = program.input(quantisedValue({ n: 64, k: 40 }, kInt4, kChannel));
      const v = program.input(
        quantisedValue({ n: 9, k: 64 }, kToy, {
          ...kChannel,
          per: [
            { axis: 'n', count: 1 },
            { axis: 'k', count: 16 },
          ],
        }),
      );
      const inner = program.node('dense', [x, w], numbersValue({ m: 70, c: 64 }, 'f32'));
      const q = program.node('quantise', [inner], quantisedValue({ m: 70, c: 64 }, element, scale, 8));
      const y = program.node('dense', [q, v], numbersValue({ m: 70, c: 9 }));
      const random = new Random(4);
      // Some numbers are no codes at all here: what they multiply comes from FP32 sums that are exact.
      await check(program.finish(y), [
        eighths(random, 70 * 40),
        random.bytes(64 * 20),
        powers(random, 64),
        random.bytes(9 * 16),
        powers(random, 9 * 4),
      ]);
    }
  });

  it('quantises to two bits with ties, and takes them as the table says', async () => {
    for (const tie of ['lower', 'upper'] as const) {
      const program = new ProgramBuilder();
      const x = program.input(numbersValue({ m: 1, c: 9 }));
      const q = program.node(
        'quantise',
        [x],
        quantisedValue({ m: 1, c: 9 }, { bits: 2, codes: { ...kToy.codes, tie } }, { ...kToken, fit: { kind: 'absmax', top: 1.5 } }),
      );
      const numbers = [-1.5, -1.25, -1, -0.5, 0, 0.25, 1, 1.25, 1.5];
      const [cells] = await check(program.finish(q), [bytesOf(Uint16Array.from(numbers, floatToHalf))]);
      expect(numbers.map((_, i) => readBits(cells!, i, 2))).toEqual(
        tie === 'lower' ? [0, 0, 0, 1, 1, 2, 2, 3, 3] : [0, 0, 1, 1, 2, 2, 3, 3, 3],
      );
    }
  });

  it('writes and reads padded layouts on every axis, cells of every width', async () => {
    for (let seed = 0; seed < 30; ++seed) {
      const random = new Random(seed);
      const extents = { m: 1 + random.integer(9), c: 1 + random.integer(40) };
      const axes = axesOf(extents);
      const bits = 1 + random.integer(9);
      const element = { bits, codes: { kind: 'integer', min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 } } as const;
      const cells = bits + random.integer(4);
      const scale = {
        type: random.pick(['f32', 'f16'] as const),
        per: random.pick([
          [],
          [{ axis: 'm', count: 2 }],
          [{ axis: 'c', count: 3 }],
          [
            { axis: 'c', count: 7 },
            { axis: 'm', count: 1 },
          ],
        ]),
        fit: { kind: 'absmax', top: 2 ** (bits - 1) },
      } as const;
      const program = new ProgramBuilder();
      const x = program.input(numbersValue(extents, 'f16', [...paddedLayout(random, axes)]));
      const q = program.node(
        'quantise',
        [x],
        quantisedValue(extents, element, random.integer(4) === 0 ? null : scale, cells, [...paddedLayout(random, axes)], undefined),
      );
      const y = program.node('map', [q, x], numbersValue(extents, random.pick(['f16', 'f32'] as const), [...paddedLayout(random, axes)]), {
        expression: postfix('x0 x1 sub'),
      });
      const made = program.finish(y, q);
      const quantised = made.values[q]!;
      const scaleLayout = quantised.scale ? paddedLayout(random, scaleAxes(axes, quantised.scale)) : [];
      const padded = { ...made, values: made.values.map((value, i) => (i === q ? { ...value, scaleLayout } : value)) };
      await check(padded, [random.halves(tensorBytes(padded.values[x]!)[0]! / 2, -3, 3)]);
      // And back, as an input.
      const reader = new ProgramBuilder();
      const stored = reader.input(padded.values[q]!);
      const numbers = reader.node('map', [stored], numbersValue(extents, 'f32'), { expression: postfix('x0') });
      const inputs = tensorBytes(padded.values[q]!).map((size, i) =>
        i === 0
          ? random.bytes(size)
          : scale.type === 'f32'
            ? bytesOf(Float32Array.from({ length: size / 4 }, () => random.next()))
            : random.halves(size / 2, 0, 1),
      );
      await check(reader.finish(numbers), inputs);
    }
  });

  it('gives several outputs, some of which other nodes read as they are stored', async () => {
    const program = new ProgramBuilder();
    const x = program.input(numbersValue({ m: 130, c: 64 }));
    const gain = program.input(numbersValue({ c: 64 }));
    const w = program.input(numbersValue({ n: 10, k: 64 }));
    const h = program.node('norm', [x, gain], numbersValue({ m: 130, c: 64 }), { numbers: { eps: 1e-5 }, strings: { kind: 'rms' } });
    const q = program.node('quantise', [h], quantisedValue({ m: 130, c: 64 }, kE4m3, kMx, 8));
    const y = program.node('dense', [h, w], numbersValue({ m: 130, c: 10 }, 'f32'));
    const z = program.node('map', [q, h], numbersValue({ m: 130, c: 64 }), { expression: postfix('x0 x1 sub') });
    const random = new Random(6);
    await check(program.finish(y, h, z, q), [random.halves(130 * 64), random.halves(64, 0.5, 1.5), random.halves(640)]);
  });

  it('samples a product before attention without all of its rows and columns', async () => {
    const program = new ProgramBuilder();
    const [batch, seq, heads, kvHeads, headDim] = [30, 5, 4, 2, 8];
    const x = program.input(numbersValue({ m: batch * seq, c: 24 }));
    const w = program.input(numbersValue({ n: (heads + 2 * kvHeads) * headDim, k: 24 }));
    const qkv = program.node('dense', [x, w], numbersValue({ m: batch * seq, c: (heads + 2 * kvHeads) * headDim }));
    const y = program.node('attention', [qkv], numbersValue({ m: batch * seq, c: heads * headDim }), {
      numbers: { batch, seq, heads, kvHeads, headDim, ropeBase: 10000 },
      strings: { order: 'concatenated', position: 'rope' },
    });
    const random = new Random(7);
    const inputs = [random.halves(batch * seq * 24), random.halves(64 * 24)];
    const made = program.finish(y);
    const output = new Uint8Array(batch * seq * heads * headDim * 2);
    await native().referenceRun({ program: made, inputs, outputs: [output] });
    const expected = naiveProgram(made, inputs)[0]!.numbers;
    // Where the sum of a product lies beside a tie of FP16, the two may round it to different neighbours.
    readStored(made.values[y]!, [output]).numbers.forEach((value, i) =>
      expect(!(Math.abs(value - expected[i]!) <= 2 ** -9), `element ${i}`).toBe(false),
    );
    await checkSampled(made, inputs);
  });

  it('attends without positions', async () => {
    const program = new ProgramBuilder();
    const [batch, seq, heads, headDim] = [3, 7, 2, 6];
    const qkv = program.input(numbersValue({ m: batch * seq, c: 3 * heads * headDim }));
    const y = program.node('attention', [qkv], numbersValue({ m: batch * seq, c: heads * headDim }), {
      numbers: { batch, seq, heads, kvHeads: heads, headDim, ropeBase: 10000 },
      strings: { order: 'concatenated', position: 'none' },
    });
    const random = new Random(11);
    const values = Uint8Array.from(random.halves(batch * seq * 3 * heads * headDim, -2, 2));
    const [first] = await check(program.finish(y), [values]);
    // Two tokens that change places change nothing but their own places.
    const [own, result] = [3 * heads * headDim * 2, heads * headDim * 2];
    const swapped = Uint8Array.from(values);
    swapped.set(values.subarray(2 * own, 3 * own), 0);
    swapped.set(values.subarray(0, own), 2 * own);
    const [second] = await check(program.finish(y), [swapped]);
    expect(halfDistance(second!.subarray(0, result), first!.subarray(2 * result, 3 * result))).toBeLessThan(1e-3);
  });

  it('convolves images and frames: kernels, strides, padding, groups, quantised weights', async () => {
    type Shape = readonly [batch: number, c: number, n: number, groups: number, height: number, width: number, ...kernel: number[]];
    const shapes: readonly Shape[] = [
      [2, 3, 5, 1, 6, 7, 3, 3, 1, 1, 1],
      [1, 4, 6, 1, 7, 5, 3, 3, 2, 1, 1],
      [2, 8, 4, 1, 4, 3, 1, 1, 1, 0, 0],
      [1, 3, 4, 1, 9, 9, 7, 7, 2, 3, 3],
      // Depthwise over images, and over frames alone; groups of several channels; more padding than kernel.
      [2, 6, 6, 6, 5, 4, 3, 3, 2, 1, 1],
      [2, 5, 5, 5, 12, 1, 7, 1, 1, 3, 0],
      [1, 6, 4, 2, 5, 5, 3, 2, 1, 0, 1],
      [1, 2, 2, 1, 2, 2, 1, 1, 1, 2, 2],
    ];
    for (const [batch, c, n, groups, height, width, kernelY = 1, kernelX = 1, stride = 1, paddingY = 0, paddingX = 0] of shapes) {
      for (const quantised of [false, true]) {
        const program = new ProgramBuilder();
        const k = (kernelY * kernelX * c) / groups;
        const x = program.input(numbersValue({ m: batch * height * width, c }));
        const w = program.input(quantised ? quantisedValue({ n, k }, kE4m3, kChannel) : numbersValue({ n, k }));
        const rows = batch * (Math.floor((height + 2 * paddingY - kernelY) / stride) + 1);
        const across = Math.floor((width + 2 * paddingX - kernelX) / stride) + 1;
        const numbers = { batch, height, width, kernelY, kernelX, stride, paddingY, paddingX, groups };
        const y = program.node('conv', [x, w], numbersValue({ m: rows * across, c: n }), { numbers });
        const random = new Random(14);
        const codes = Uint8Array.from({ length: n * k }, () => 0x20 + random.integer(32));
        const weight = quantised ? [codes, powers(random, n)] : [random.halves(n * k)];
        await check(program.finish(y), [random.halves(batch * height * width * c), ...weight]);
      }
    }
  });

  it('takes largest numbers of images, means of them, and channels of matrices by turns', async () => {
    for (const [height, width, kernel, stride, padding] of [
      [8, 6, 3, 2, 1],
      [5, 7, 2, 2, 0],
      [1, 9, 3, 1, 1],
    ] as const) {
      const program = new ProgramBuilder();
      const places = (extent: number): number => Math.floor((extent + 2 * padding - kernel) / stride) + 1;
      const rows = 2 * places(height) * places(width);
      const x = program.input(numbersValue({ m: 2 * height * width, c: 6 }));
      const pool = program.node('max_pool', [x], numbersValue({ m: rows, c: 6 }), {
        numbers: { batch: 2, height, width, kernel, stride, padding },
      });
      const other = program.input(numbersValue({ m: rows, c: 3 }));
      const part = program.node('channels', [pool], numbersValue({ m: rows, c: 3 }), { numbers: { first: 2, count: 3 } });
      const mixed = program.node('interleave', [part, other], numbersValue({ m: rows, c: 6 }));
      const mean = program.node('mean_rows', [mixed], numbersValue({ m: 2, c: 6 }), { numbers: { batch: 2 } });
      const random = new Random(15);
      const inputs = [random.halves(2 * height * width * 6), random.halves(rows * 3)];
      await check(program.finish(pool, part, mixed, mean), inputs);
      await check(program.finish(mean), inputs);
    }
  });

  it('quantises by a scale that is given: numbers beyond the largest code become it', async () => {
    for (const [element, top] of [
      [{ bits: 4, codes: { kind: 'integer', min: -7, max: 7 } }, 7],
      [kE4m3, 448],
    ] as const) {
      const program = new ProgramBuilder();
      const x = program.input(numbersValue({ m: 37, c: 130 }));
      const scale = program.input(numbersValue({ one: 1 }, 'f32'));
      const type = { type: 'f32', fit: { kind: 'absmax', top }, per: [] } as const;
      const y = program.node('quantise', [x, scale], quantisedValue({ m: 37, c: 130 }, element, type, 8));
      const random = new Random(16);
      await check(program.finish(y), [random.halves(37 * 130), new Uint8Array(Float32Array.of(0.7 / top).buffer)]);
    }
  });

  it('cuts images into patches, into padded orders as well', async () => {
    for (const [size, height, width] of [
      [4, 8, 12],
      [1, 3, 2],
      [6, 6, 6],
    ] as const) {
      const program = new ProgramBuilder();
      const image = program.input(numbersValue({ b: 3, c: 2, y: height, x: width }));
      const extents = { m: (3 * height * width) / (size * size), c: 2 * size * size };
      const random = new Random(12);
      const y = program.node('patches', [image], numbersValue(extents, 'f16', [...paddedLayout(random, axesOf(extents))]), {
        numbers: { size },
      });
      await check(program.finish(y), [random.halves(3 * 2 * height * width)]);
    }
  });

  it('puts a token before those of every image, adds positions, and takes the first rows', async () => {
    for (const patches of [1, 4]) {
      const program = new ProgramBuilder();
      const x = program.input(numbersValue({ m: 3 * patches, c: 10 }));
      const token = program.input(numbersValue({ c: 10 }));
      const positions = program.input(numbersValue({ t: patches + 1, c: 10 }));
      const y = program.node('embed_tokens', [x, token, positions], numbersValue({ m: 3 * (patches + 1), c: 10 }), {
        numbers: { batch: 3 },
      });
      const first = program.node('first_rows', [y], numbersValue({ m: 3, c: 10 }), { numbers: { batch: 3 } });
      const random = new Random(13);
      await check(program.finish(y, first), [random.halves(30 * patches), random.halves(10), random.halves(10 * (patches + 1))]);
      // The first rows alone need no patches.
      await check(program.finish(first), [random.halves(30 * patches), random.halves(10), random.halves(10 * (patches + 1))]);
    }
  });

  it('multiplies with weights that are computed', async () => {
    const program = new ProgramBuilder();
    const x = program.input(numbersValue({ m: 3, c: 20 }));
    const w = program.input(numbersValue({ n: 6, k: 20 }));
    const doubled = program.node('map', [w], numbersValue({ n: 6, k: 20 }, 'f32'), { expression: postfix('x0 2 mul') });
    const y = program.node('dense', [x, doubled], numbersValue({ m: 3, c: 6 }));
    const random = new Random(8);
    await check(program.finish(y), [random.halves(60), random.halves(120)]);
  });
});

describe('elementwise operators', () => {
  it.each<[string, number, (x: number, other: number) => number]>([
    ['gelu', 1, (x) => 0.5 * x * (1 + erf(x / Math.SQRT2))],
    ['gelu_tanh', 1, (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))],
    ['silu', 1, (x) => x / (1 + Math.exp(-x))],
    ['glu', 2, (x, gate) => x / (1 + Math.exp(-gate))],
    ['silu_mul', 2, (gate, x) => (gate / (1 + Math.exp(-gate))) * x],
    ['add_half', 0, (x, skip) => 0.5 * x + skip],
  ])('%s is what its formula says, to FP32', async (kind, parts, formula) => {
    const width = 64;
    const x = { axes: axesOf({ m: 3, c: width * Math.max(1, parts) }), type: 'f32' } as const;
    const inputs = parts === 0 ? [x, x] : [x];
    const program = nativeProgram({
      values: [...inputs, { axes: axesOf({ m: 3, c: width }), type: 'f32' }],
      nodes: [{ kind, params: {}, inputs: inputs.map((_, i) => i), outputs: [inputs.length] }],
      inputs: inputs.map((_, i) => i),
      outputs: [inputs.length],
    });
    const random = new Random(15);
    const values = inputs.map(({ axes }) => Float32Array.from({ length: 3 * axes[1]!.extent }, () => random.uniform(-6, 6)));
    const output = new Uint8Array(3 * width * 4);
    await native().referenceRun({ program, inputs: values.map(bytesOf), outputs: [output] });
    new Float32Array(output.buffer).forEach((value, i) => {
      const [row, column] = [Math.floor(i / width), i % width];
      const first = values[0]![row * width * Math.max(1, parts) + column]!;
      const other = parts === 2 ? values[0]![row * 2 * width + width + column]! : (values[1]?.[i] ?? 0);
      expect(Math.abs(value - formula(first, other))).toBeLessThan(1e-5);
    });
  });
});

describe('programs that cannot be', () => {
  const builder = new ProgramBuilder();
  const x = builder.input(numbersValue({ m: 2, c: 32 }));
  const w = builder.input(quantisedValue({ n: 8, k: 32 }, kInt4, kChannel));
  const inner = builder.node('dense', [x, w], numbersValue({ m: 2, c: 8 }, 'f32'));
  const skip = builder.input(numbersValue({ c: 8 }));
  const y = builder.node('map', [inner, skip], numbersValue({ m: 2, c: 8 }), { expression: postfix('x0 x1 add') });
  const good = builder.finish(y);
  const inputs = [new Uint8Array(128), new Uint8Array(128), new Uint8Array(16), new Uint8Array(16)];
  const run = (program: unknown, buffers = inputs): Promise<void> =>
    native().referenceRun({ program: program as NativeProgram, inputs: buffers, outputs: [new Uint8Array(32)] });
  const value = (index: number, change: object): unknown => ({
    ...good,
    values: good.values.map((one, i) => (i === index ? { ...one, ...change } : one)),
  });
  const node = (index: number, change: object): unknown => ({
    ...good,
    nodes: good.nodes.map((one, i) => (i === index ? { ...one, ...change } : one)),
  });
  const bad = (message: RegExp, code = 'BAD_ARGUMENT'): object => ({ code, message: expect.stringMatching(message) });

  it('are not that one', () => run(good));

  const cases: readonly [string, unknown, object][] = [
    ['a node that reads what is made after it', node(0, { inputs: [y, w] }), bad(/nodes\[0\]\.inputs/)],
    ['a node that reads its own result', node(0, { inputs: [inner, w] }), bad(/nodes\[0\]\.inputs/)],
    ['an index beyond the values', node(0, { inputs: [x, 9] }), bad(/nodes\[0\]\.inputs/)],
    ['an index that is none', node(0, { inputs: [x, -1] }), bad(/nodes\[0\]\.inputs\[1\]/)],
    ['a result that is an input', node(0, { outputs: [x] }), bad(/nodes\[0\]\.outputs/)],
    ['two nodes with one result', node(1, { outputs: [inner] }), bad(/nodes\[1\]\.outputs/)],
    ['a node without a result', node(1, { outputs: [] }), bad(/outputs/)],
    ['an output that is an input', { ...good, outputs: [x] }, bad(/outputs/)],
    ['no output', { ...good, outputs: [] }, bad(/outputs/)],
    ['an output twice', { ...good, outputs: [y, y] }, bad(/outputs/)],
    ['an input twice', { ...good, inputs: [x, x, w, skip] }, bad(/inputs/)],
    ['a product of three', node(0, { inputs: [x, w, x] }), bad(/`inputs` of `nodes\[0\]` \(dense\)/)],
    ['an expression of a product', node(0, { expression: [] }), bad(/`expression`/)],
    ['a map without an expression', node(1, { expression: null }), bad(/`expression` of `nodes\[1\]` \(map\)/)],
    ['an expression without instructions', node(1, { expression: [] }), bad(/`expression`/)],
    ['an operation without operands', node(1, { expression: postfix('x0 x1 add add') }), bad(/operands/)],
    ['an expression with two results', node(1, { expression: postfix('x0 x1') }), bad(/one result/)],
    ['an input beyond', node(1, { expression: postfix('x0 x2 add') }), bad(/`expression`/)],
    ['a part beyond', node(1, { expression: postfix('x0.2/2 x1 add') }), bad(/part/)],
    ['parts that the input does not have', node(1, { expression: postfix('x0.0/2 x1 add') }), bad(/inputs\[0\]/)],
    ['an input that is not read', node(1, { expression: postfix('x0') }), bad(/inputs\[1\]/)],
    ['an unknown operation', node(1, { expression: [{ op: 'sqrt' }] }), bad(/sqrt/)],
    ['an instruction without its fields', node(1, { expression: [{ op: 'input', index: 0, part: 0 }] }), bad(/parts/)],
    ['a constant that is no number', node(1, { expression: [{ op: 'constant', value: NaN }] }), bad(/value/)],
    ['axes that the result lacks', value(skip, { axes: [{ name: 'k', extent: 8 }], layout: plain(axesOf({ k: 8 })) }), bad(/axis k/)],
    ['another extent', value(skip, { axes: [{ name: 'c', extent: 7 }] }), bad(/extent of 8/)],
    ['a kind that is not there', node(1, { kind: 'softmax' }), bad(/softmax/, 'UNSUPPORTED')],
    ['numbers that are none', node(1, { numbers: { a: 'x' } }), bad(/numbers\.a/)],
    ['a value of another type', value(x, { type: 'bf16' }), bad(/bf16/)],
    [
      'an axis twice',
      value(x, {
        axes: [
          { name: 'm', extent: 2 },
          { name: 'm', extent: 32 },
        ],
      }),
      bad(/values\[0\]\.axes/),
    ],
    [
      'an extent of 0',
      value(x, {
        axes: [
          { name: 'm', extent: 0 },
          { name: 'c', extent: 32 },
        ],
      }),
      bad(/values\[0\]\.axes/),
    ],
    [
      'extents whose product overflows',
      value(inner, { axes: axesOf({ a: 2 ** 31 - 1, b: 2 ** 31 - 1, c: 2 ** 31 - 1 }) }),
      bad(/overflows/),
    ],
    ['codes of numbers', value(x, { element: kInt4 }), bad(/values\[0\]\.element/)],
    ['no codes of a quantised value', value(w, { element: null }), bad(/values\[1\]\.element/)],
    ['cells narrower than their codes', value(w, { cellBits: 3 }), bad(/cellBits/)],
    ['cells of too many bits', value(w, { cellBits: 32 }), bad(/cellBits/)],
    ['integers that do not fit', value(w, { element: { bits: 4, codes: { kind: 'integer', min: -9, max: 7 } } }), bad(/min/)],
    [
      'a table of too many values',
      value(w, { element: { bits: 1, codes: { kind: 'table', values: [0, 1, 2], tie: 'lower' } } }),
      bad(/values/),
    ],
    ['a table in no order', value(w, { element: { bits: 1, codes: { kind: 'table', values: [1, 0], tie: 'lower' } } }), bad(/ascending/)],
    ['a tie that is none', value(w, { element: { bits: 1, codes: { kind: 'table', values: [0, 1], tie: 'even' } } }), bad(/tie/)],
    ['floats of other bits', value(w, { element: { ...kE4m3, bits: 4 } }), bad(/exponentBits/)],
    [
      'floats beyond FP32',
      value(w, {
        element: {
          bits: 16,
          codes: {
            kind: 'float',
            exponentBits: 8,
            mantissaBits: 7,
            bias: 127,
            maxCode: 0x7fff,
            infinities: false,
            saturates: true,
            nanCode: 0,
          },
        },
        cellBits: 16,
      }),
      bad(/FP32/, 'UNSUPPORTED'),
    ],
    ['floats with a bias beyond FP32', value(w, { element: { bits: 8, codes: { ...kE4m3.codes, bias: 128 } }, cellBits: 8 }), bad(/bias/)],
    [
      'a largest code beyond the bits',
      value(w, { element: { bits: 8, codes: { ...kE4m3.codes, maxCode: 128 } }, cellBits: 8 }),
      bad(/maxCode/),
    ],
    ['scales of an axis that is not there', value(w, { scale: { ...kChannel, per: [{ axis: 'm', count: 1 }] } }), bad(/"m"/)],
    [
      'scales of an axis twice',
      value(w, {
        scale: {
          ...kChannel,
          per: [
            { axis: 'n', count: 1 },
            { axis: 'n', count: 2 },
          ],
        },
      }),
      bad(/"n"/),
    ],
    ['scales of which one serves none', value(w, { scale: { ...kChannel, per: [{ axis: 'n', count: 0 }] } }), bad(/count/)],
    ['a top of 0', value(w, { scale: { ...kChannel, fit: { kind: 'absmax', top: 0 } } }), bad(/top/)],
    ['a fit that is none', value(w, { scale: { ...kChannel, fit: { kind: 'percentile' } } }), bad(/percentile/)],
    ['fewer scales than are needed', value(w, { scaleLayout: [{ axis: 'n', stride: 1, size: 4 }] }), bad(/scaleLayout/)],
    ['a layout of no scales', value(x, { scaleLayout: [{ axis: 'm', stride: 1, size: 2 }] }), bad(/scaleLayout/)],
    ['no program', null, bad(/program/)],
    ['no values', { ...good, values: undefined }, bad(/values/)],
    ['a field that is missing', value(x, { cellBits: undefined }), bad(/cellBits/)],
  ];
  for (const [name, program, expected] of cases) it(name, () => expect(run(program)).rejects.toMatchObject(expected));

  it('lead nowhere outside the buffers, whatever is changed in them', async () => {
    const odd = [
      -1,
      0,
      1,
      2,
      3,
      7,
      8,
      31,
      2 ** 31 - 1,
      2 ** 31,
      2 ** 52,
      2 ** 53 - 1,
      1.5,
      NaN,
      null,
      'n',
      'c',
      'f16',
      'quantised',
      [],
      {},
      undefined,
    ];
    const outcomes = new Map<string, number>();
    for (let seed = 0; seed < 1500; ++seed) {
      const random = new Random(seed);
      const program = JSON.parse(JSON.stringify(good)) as Record<string, unknown>;
      for (let changes = 1 + random.integer(2); changes > 0; --changes) {
        let at: Record<string, unknown> = program;
        let key = random.pick(Object.keys(at));
        while (typeof at[key] === 'object' && at[key] !== null && Object.keys(at[key] as object).length > 0 && random.integer(12) > 0) {
          at = at[key] as Record<string, unknown>;
          key = random.pick(Object.keys(at));
        }
        at[key] = random.pick(odd);
      }
      const outcome = await run(program).then(
        () => 'ran',
        (error: { code: string }) => error.code,
      );
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    expect([...outcomes.keys()].filter((code) => !['ran', 'BAD_ARGUMENT', 'UNSUPPORTED', 'WRONG_LENGTH'].includes(code))).toEqual([]);
    expect(outcomes.get('BAD_ARGUMENT')).toBeGreaterThan(500);
  });

  it('is an error of the plan, too, that names the operator', async () => {
    const dtype = { name: 'uint8', code: 1, bits: 8, lanes: 1 } as const;
    const sizes = [128, 128, 16, 16, 32];
    const open = (program: unknown) =>
      native().openExecutor({
        deviceType: 1,
        deviceOrdinal: 0,
        module: null,
        entries: sizes.map((sizeBytes, storage) => ({ shape: [sizeBytes], dtype, storage, sizeBytes })),
        storages: sizes.map((sizeBytes) => ({ sizeBytes, deviceType: 1 as const })),
        operators: [
          {
            node: 'the_node',
            functionName: 'f',
            flatten: false,
            kind: 'reference',
            program: program as NativeProgram,
            inputs: [0, 1, 2, 3],
            outputs: [4],
          },
        ],
      });
    await (await open(good)).dispose();
    await expect(open(node(0, { kind: 'unheard_of' } satisfies Partial<NativeNode>))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('the_node'),
    });
    await expect(open(value(x, { layout: plain(axesOf({ m: 3, c: 32 })) }))).rejects.toMatchObject({ code: 'WRONG_LENGTH' });
  });
});

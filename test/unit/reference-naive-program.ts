// Programs once more, as plainly as they can be written: every value whole, in FP64, coordinate by coordinate, by the words of
// lib/native.ts. Nothing is shared with the C++ code. Also small builders of programs for the tests.
import { decode, e8m0ToFloat, encode, floatToHalf, halfToFloat, mxScaleCode } from '../../lib/formats/codes.js';
import type { LayoutDigit, NativeInstruction, NativeNode, NativeProgram, NativeValue } from '../../lib/native.js';
import { naiveAttention } from './reference-naive.js';

type Axes = NativeValue['axes'];
type Scale = NonNullable<NativeValue['scale']>;

/** A value's numbers in logical order, and, where it is quantised here, its cells and its scales as they are stored. */
export interface NaiveValue {
  numbers: number[];
  cells?: number[];
  scales?: number[];
}

export function axesOf(extents: Readonly<Record<string, number>>): Axes {
  return Object.entries(extents).map(([name, extent]) => ({ name, extent }));
}

export function plain(axes: Axes): LayoutDigit[] {
  return axes.map(({ name, extent }) => ({ axis: name, stride: 1, size: extent }));
}

export function numbersValue(
  extents: Readonly<Record<string, number>>,
  type: 'f16' | 'f32' = 'f16',
  layout = plain(axesOf(extents)),
): NativeValue {
  return { axes: axesOf(extents), type, element: null, cellBits: type === 'f16' ? 16 : 32, scale: null, layout, scaleLayout: [] };
}

export function scaleAxes(axes: Axes, { per }: Scale): Axes {
  return per.map(({ axis, count }) => ({ name: axis, extent: Math.ceil(axes.find(({ name }) => name === axis)!.extent / count) }));
}

export function quantisedValue(
  extents: Readonly<Record<string, number>>,
  element: NonNullable<NativeValue['element']>,
  scale: Scale | null,
  cellBits = element.bits,
  layout = plain(axesOf(extents)),
  scaleLayout?: LayoutDigit[],
): NativeValue {
  const axes = axesOf(extents);
  return {
    axes,
    type: 'quantised',
    element,
    cellBits,
    scale,
    layout,
    scaleLayout: scaleLayout ?? (scale ? plain(scaleAxes(axes, scale)) : []),
  };
}

/** Puts programs together by hand. */
export class ProgramBuilder {
  private readonly values: NativeValue[] = [];
  private readonly nodes: NativeNode[] = [];
  private readonly inputs: number[] = [];
  input(value: NativeValue): number {
    this.inputs.push(this.values.push(value) - 1);
    return this.values.length - 1;
  }
  node(
    kind: string,
    inputs: readonly number[],
    output: NativeValue,
    { numbers = {}, strings = {}, expression = null }: Partial<Pick<NativeNode, 'numbers' | 'strings' | 'expression'>> = {},
  ): number {
    const index = this.values.push(output) - 1;
    this.nodes.push({ kind, numbers, strings, expression, inputs, outputs: [index] });
    return index;
  }
  finish(...outputs: number[]): NativeProgram {
    return { values: this.values, nodes: this.nodes, inputs: this.inputs, outputs };
  }
}

const places = (layout: readonly LayoutDigit[]): number => layout.reduce((product, { size }) => product * size, 1);

export function tensorBytes(value: NativeValue): number[] {
  const bytes = [Math.ceil((places(value.layout) * value.cellBits) / 8)];
  if (value.scale) bytes.push(places(value.scaleLayout) * { f16: 2, f32: 4, e8m0: 1 }[value.scale.type]);
  return bytes;
}

/** All coordinates, the last axis fastest. */
export function coordinatesOf(axes: Axes): number[][] {
  return axes.reduce<number[][]>(
    (list, { extent }) => list.flatMap((head) => Array.from({ length: extent }, (_, i) => [...head, i])),
    [[]],
  );
}

export function storedAt(layout: readonly LayoutDigit[], axes: Axes, coordinates: readonly number[]): number {
  let index = 0;
  for (const { axis, stride, size } of layout)
    index = index * size + (Math.floor(coordinates[axes.findIndex(({ name }) => name === axis)]! / stride) % size);
  return index;
}

export function readBits(bytes: Uint8Array, index: number, bits: number): number {
  let code = 0;
  for (let bit = 0; bit < bits; ++bit) {
    const at = index * bits + bit;
    code |= ((bytes[at >> 3]! >> (at & 7)) & 1) << bit;
  }
  return code;
}

function cellValue({ element, cellBits }: NativeValue, cell: number): number {
  if (element!.codes.kind === 'integer') return (cell << (32 - cellBits)) >> (32 - cellBits);
  if (element!.codes.kind === 'table') return element!.codes.values[cell] ?? NaN;
  return cell < 2 ** element!.bits ? decode(element!, cell) : NaN;
}

/** Which scale the number at some coordinates has, in logical order of the scales. */
function scaleIndex(axes: Axes, scale: Scale, coordinates: readonly number[]): number[] {
  return scale.per.map(({ axis, count }) => Math.floor(coordinates[axes.findIndex(({ name }) => name === axis)]! / count));
}

const logical = (axes: Axes, coordinates: readonly number[]): number =>
  coordinates.reduce((index, coordinate, i) => index * axes[i]!.extent + coordinate, 0);

/** Cells (or numbers) and scales of a stored value, in logical order. */
export function readStored(value: NativeValue, tensors: readonly Uint8Array[]): NaiveValue {
  const { axes, layout, type, scale } = value;
  const view = tensors.map((bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const all = coordinatesOf(axes).map((coordinates) => storedAt(layout, axes, coordinates));
  if (type === 'f16') return { numbers: all.map((at) => halfToFloat(view[0]!.getUint16(2 * at, true))) };
  if (type === 'f32') return { numbers: all.map((at) => view[0]!.getFloat32(4 * at, true)) };
  const cells = all.map((at) => readBits(tensors[0]!, at, value.cellBits));
  const scales =
    scale &&
    coordinatesOf(scaleAxes(axes, scale)).map((coordinates) => {
      const at = storedAt(value.scaleLayout, scaleAxes(axes, scale), coordinates);
      return scale.type === 'e8m0'
        ? e8m0ToFloat(tensors[1]![at]!)
        : scale.type === 'f32'
          ? view[1]!.getFloat32(4 * at, true)
          : halfToFloat(view[1]!.getUint16(2 * at, true));
    });
  return dequantised(value, cells, scales);
}

function dequantised(value: NativeValue, cells: number[], scales: number[] | null): NaiveValue {
  const { axes, scale } = value;
  const numbers = coordinatesOf(axes).map(
    (coordinates, i) =>
      cellValue(value, cells[i]!) * (scale ? scales![logical(scaleAxes(axes, scale), scaleIndex(axes, scale, coordinates))]! : 1),
  );
  return { numbers, cells, ...(scales && { scales }) };
}

function quantise(value: NativeValue, x: readonly number[], given?: number): NaiveValue {
  const { axes, element, scale, cellBits } = value;
  const cellOf = (number: number): number => {
    const code = encode(element!, number);
    return element!.codes.kind === 'integer' ? ((code << (32 - element!.bits)) >> (32 - element!.bits)) & (2 ** cellBits - 1) : code;
  };
  const h = x.map(Math.fround);
  if (!scale) return dequantised(value, h.map(cellOf), null);
  const group = coordinatesOf(axes).map((coordinates) => logical(scaleAxes(axes, scale), scaleIndex(axes, scale, coordinates)));
  const largest = new Array<number>(places(plain(scaleAxes(axes, scale)))).fill(0);
  h.forEach((number, i) => {
    largest[group[i]!] = Math.max(largest[group[i]!]!, Math.abs(number));
  });
  const { fit } = scale;
  if (fit.kind === 'mx') {
    const codes = largest.map((amax) => mxScaleCode(fit.emax, amax));
    return dequantised(
      value,
      h.map((number, i) => cellOf(number / 2 ** (codes[group[i]!]! - 127))),
      codes.map(e8m0ToFloat),
    );
  }
  if (fit.kind !== 'absmax') throw new Error('means are not made here');
  const { top } = fit;
  if (given !== undefined)
    return dequantised(
      value,
      h.map((number) => cellOf(Math.max(-top, Math.min(top, Math.fround(number / given))))),
      [given],
    );
  const scales = largest.map((amax) =>
    scale.type === 'f16' ? halfToFloat(floatToHalf(Math.fround(amax / fit.top))) : Math.fround(amax / fit.top),
  );
  const cells = h.map((number, i) => {
    const s = scales[group[i]!]!;
    return cellOf(s === 0 ? 0 : Math.max(-fit.top, Math.min(fit.top, Math.fround(number / s))));
  });
  return dequantised(
    value,
    cells,
    scales.map((s) => s || 1),
  );
}

/** The error function: 2/√π·e^(−x²)·Σ 2ⁿ·x^(2n+1) / (1·3·5…(2n+1)), terms of one sign. */
export function erf(x: number): number {
  let [sum, term] = [0, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); ++n) {
    sum += term;
    term *= (2 * x * x) / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function interpret(expression: readonly NativeInstruction[], read: (index: number, part: number, parts: number) => number): number {
  const stack: number[] = [];
  const pop = (): number => stack.pop()!;
  for (const instruction of expression) {
    switch (instruction.op) {
      case 'input':
        stack.push(read(instruction.index, instruction.part, instruction.parts));
        break;
      case 'constant':
        stack.push(instruction.value);
        break;
      case 'neg':
        stack.push(-pop());
        break;
      case 'exp':
        stack.push(Math.exp(pop()));
        break;
      case 'tanh':
        stack.push(Math.tanh(pop()));
        break;
      case 'erf':
        stack.push(erf(pop()));
        break;
      default: {
        const right = pop();
        const left = pop();
        stack.push(
          {
            add: left + right,
            sub: left - right,
            mul: left * right,
            div: left / right,
            min: Math.min(left, right),
            max: Math.max(left, right),
          }[instruction.op],
        );
      }
    }
  }
  return pop();
}

function compute(node: NativeNode, values: readonly NativeValue[], inputs: readonly (readonly number[])[]): NaiveValue {
  const output = values[node.outputs[0]!]!;
  const [x, second, third] = inputs;
  const axes = node.inputs.map((value) => values[value]!.axes);
  switch (node.kind) {
    case 'dense': {
      const k = axes[0]![1]!.extent;
      return {
        numbers: coordinatesOf(output.axes).map(([m, n]) => {
          let sum = 0;
          for (let i = 0; i < k; ++i) sum += x![m! * k + i]! * second![n! * k + i]!;
          return sum;
        }),
      };
    }
    case 'norm': {
      const k = axes[0]!.at(-1)!.extent;
      return {
        numbers: Array.from({ length: x!.length / k }, (_, row) => {
          const values = x!.slice(row * k, (row + 1) * k);
          const mean = node.strings['kind'] === 'layer' ? values.reduce((a, b) => a + b, 0) / k : 0;
          const factor = 1 / Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / k + node.numbers['eps']!);
          return values.map((value, i) => (value - mean) * factor * second![i]! + (third?.[i] ?? 0));
        }).flat(),
      };
    }
    case 'quantise':
      return quantise(output, x!, second?.[0]);
    case 'attention': {
      const { batch, seq, heads, kvHeads, headDim, ropeBase } = node.numbers as Record<string, number>;
      const halves = new Uint8Array(Uint16Array.from(x!, floatToHalf).buffer);
      return {
        numbers: naiveAttention(
          {
            op: 'attention',
            batch: batch!,
            seq: seq!,
            heads: heads!,
            kvHeads: kvHeads!,
            headDim: headDim!,
            ropeBase: ropeBase!,
            order: node.strings['order'] as 'concatenated',
            position: node.strings['position'] as 'rope',
            mask: node.strings['mask'] === 'causal' ? 'causal' : 'none',
          },
          halves,
        ),
      };
    }
    case 'conv': {
      const { height, width, kernelY, kernelX, stride, paddingY, paddingX, groups } = node.numbers as Record<string, number>;
      const inputs = axes[0]![1]!.extent;
      const [own, outputs] = [inputs / groups!, output.axes[1]!.extent / groups!];
      const down = Math.floor((height! + 2 * paddingY! - kernelY!) / stride!) + 1;
      const across = Math.floor((width! + 2 * paddingX! - kernelX!) / stride!) + 1;
      return {
        numbers: coordinatesOf(output.axes).map(([row, n]) => {
          const [j, i, image] = [row! % across, Math.floor(row! / across) % down, Math.floor(row! / (across * down))];
          const group = Math.floor(n! / outputs);
          let sum = 0;
          for (const [ky, kx, c] of coordinatesOf(axesOf({ kernelY: kernelY!, kernelX: kernelX!, c: own }))) {
            const [y, x0] = [i * stride! + ky! - paddingY!, j * stride! + kx! - paddingX!];
            if (y < 0 || y >= height! || x0 < 0 || x0 >= width!) continue;
            const weight = second![((n! * kernelY! + ky!) * kernelX! + kx!) * own + c!]!;
            sum += x![((image * height! + y) * width! + x0) * inputs + group * own + c!]! * weight;
          }
          return sum;
        }),
      };
    }
    case 'max_pool': {
      const { height, width, kernel, stride, padding } = node.numbers as Record<string, number>;
      const down = Math.floor((height! + 2 * padding! - kernel!) / stride!) + 1;
      const across = Math.floor((width! + 2 * padding! - kernel!) / stride!) + 1;
      const channels = output.axes[1]!.extent;
      return {
        numbers: coordinatesOf(output.axes).map(([row, c]) => {
          const [j, i, image] = [row! % across, Math.floor(row! / across) % down, Math.floor(row! / (across * down))];
          let most = -Infinity;
          for (const [ky, kx] of coordinatesOf(axesOf({ ky: kernel!, kx: kernel! }))) {
            const [y, x0] = [i * stride! + ky! - padding!, j * stride! + kx! - padding!];
            if (y >= 0 && y < height! && x0 >= 0 && x0 < width!)
              most = Math.max(most, x![((image * height! + y) * width! + x0) * channels + c!]!);
          }
          return most;
        }),
      };
    }
    case 'mean_rows': {
      const rows = axes[0]![0]!.extent / node.numbers['batch']!;
      const width = output.axes[1]!.extent;
      return {
        numbers: coordinatesOf(output.axes).map(([image, c]) => {
          let sum = 0;
          for (let row = 0; row < rows; ++row) sum += x![(image! * rows + row) * width + c!]!;
          return sum / rows;
        }),
      };
    }
    case 'channels': {
      const width = axes[0]![1]!.extent;
      return { numbers: coordinatesOf(output.axes).map(([row, c]) => x![row! * width + node.numbers['first']! + c!]!) };
    }
    case 'interleave': {
      const width = axes[0]![1]!.extent;
      return { numbers: coordinatesOf(output.axes).map(([row, c]) => (c! % 2 === 0 ? x! : second!)[row! * width + Math.floor(c! / 2)]!) };
    }
    case 'patches': {
      const size = node.numbers['size']!;
      const [, channels, height, width] = axes[0]!.map(({ extent }) => extent) as [number, number, number, number];
      const across = width / size;
      return {
        numbers: coordinatesOf(output.axes).map(([row, column]) => {
          const patch = row! % ((height / size) * across);
          const image = (row! - patch) / ((height / size) * across);
          const channel = Math.floor(column! / (size * size));
          const y = Math.floor(patch / across) * size + Math.floor((column! % (size * size)) / size);
          const x0 = (patch % across) * size + (column! % size);
          return x![((image * channels + channel) * height + y) * width + x0]!;
        }),
      };
    }
    case 'embed_tokens': {
      const width = output.axes[1]!.extent;
      const patches = axes[0]![0]!.extent / node.numbers['batch']!;
      const images = Array.from({ length: node.numbers['batch']! }, (_, i) => [
        ...second!,
        ...x!.slice(i * patches * width, (i + 1) * patches * width),
      ]);
      return { numbers: images.flatMap((image) => image.map((value, i) => value + third![i]!)) };
    }
    case 'first_rows': {
      const { batch } = node.numbers as { batch: number };
      const width = output.axes[1]!.extent;
      return {
        numbers: Array.from({ length: batch }, (_, i) => x!.slice((i * x!.length) / batch, (i * x!.length) / batch + width)).flat(),
      };
    }
    case 'map':
      return {
        numbers: coordinatesOf(output.axes).map((coordinates) =>
          interpret(node.expression!, (index, part, parts) => {
            const own = axes[index]!.map(({ name }, i) => {
              const coordinate = coordinates[output.axes.findIndex((axis) => axis.name === name)]!;
              return parts > 1 && i + 1 === axes[index]!.length ? part * output.axes.at(-1)!.extent + coordinate : coordinate;
            });
            return inputs[index]![logical(axes[index]!, own)]!;
          }),
        ),
      };
    default:
      throw new Error(`no naive ${node.kind}`);
  }
}

/** Every output: numbers before any rounding to their type, or codes and scales. */
export function naiveProgram(program: NativeProgram, inputs: readonly Uint8Array[]): NaiveValue[] {
  const results: NaiveValue[] = [];
  const rounded: number[][] = [];
  let next = 0;
  for (const value of program.inputs) {
    const count = program.values[value]!.scale ? 2 : 1;
    rounded[value] = readStored(program.values[value]!, inputs.slice(next, next + count)).numbers;
    next += count;
  }
  for (const node of program.nodes) {
    const [output] = node.outputs;
    const result = compute(
      node,
      program.values,
      node.inputs.map((value) => rounded[value]!),
    );
    results[output!] = result;
    rounded[output!] =
      program.values[output!]!.type === 'f16'
        ? result.numbers.map((value) => halfToFloat(floatToHalf(Math.fround(value))))
        : result.numbers;
  }
  return program.outputs.map((value) => results[value]!);
}

/** Postfix expressions, a word per instruction: `x0`, `x0.1/2` for part 1 of 2, numbers, operators. */
export function postfix(text: string): NativeInstruction[] {
  return text.split(' ').map((word): NativeInstruction => {
    const read = /^x(\d+)(?:\.(\d+)\/(\d+))?$/.exec(word);
    if (read) return { op: 'input', index: Number(read[1]), part: Number(read[2] ?? 0), parts: Number(read[3] ?? 1) };
    if (!Number.isNaN(Number(word))) return { op: 'constant', value: Number(word) };
    return { op: word as 'add' };
  });
}

// A transformer's block between two attentions, as a device may compute it: each error where it arises, at a size that is given. Also
// defects that a chain's kernel could have.
import { decode, encode, floatToHalf, halfToFloat } from '../../lib/formats/codes.js';
import { activationFormat } from '../../lib/formats/index.js';
import type { BlockSizes } from '../fixtures/chains.js';
import type { Random } from './reference-naive.js';

type Matrix = readonly Float64Array[];

/** Relative errors, root mean square: of sums, of functions, of norms and steps in FP32. */
export interface DeviceErrors {
  readonly sum: number;
  readonly function: number;
  readonly norm: number;
}

export const kExact: DeviceErrors = { sum: 0, function: 0, norm: 0 };

/** A slip: 32 of k missing of a product, neighbours' scales of rows, a bias or the last residual forgotten. */
export type Defect = 'proj' | 'up' | 'down' | 'last' | 'scales' | 'bias' | 'residual';

const half = (value: number): number => halfToFloat(floatToHalf(value));
const map = (x: Matrix, f: (value: number, row: number, column: number) => number): Matrix =>
  x.map((row, i) => row.map((value, j) => f(value, i, j)));
const rounded = (x: Matrix): Matrix => map(x, half);

export function rmsOf(x: Matrix): number {
  return Math.sqrt(x.reduce((sum, row) => sum + row.reduce((all, value) => all + value ** 2, 0) / row.length, 0) / x.length);
}

/** ‖got − wanted‖₂ / ‖wanted‖₂, and the largest difference over rms(wanted). */
export function differenceOf(got: Matrix, wanted: Matrix): { readonly relativeL2: number; readonly maxOverRms: number } {
  const difference = map(got, (value, i, j) => value - wanted[i]![j]!);
  const largest = difference.reduce((most, row) => row.reduce((all, value) => Math.max(all, Math.abs(value)), most), 0);
  return { relativeL2: rmsOf(difference) / rmsOf(wanted), maxOverRms: largest / rmsOf(wanted) };
}

/** Operands of a block, as verification fills them in, and what comes of them: the second sum, and the last product. */
export class Block {
  private readonly operands: Readonly<Record<'attended' | 'skip' | 'proj' | 'up' | 'down' | 'last', Matrix>>;
  private readonly vectors: Readonly<Record<'proj' | 'up' | 'down' | 'last' | 'gain1' | 'beta1' | 'gain2' | 'beta2', Float64Array>>;

  /** @param activation the format of all products' activations */
  constructor(
    private readonly activation: string,
    { rows, width, hidden, last }: BlockSizes,
    private readonly random: Random,
  ) {
    const vector = (n: number, low: number, high: number): Float64Array =>
      Float64Array.from({ length: n }, () => half(random.uniform(low, high)));
    const matrix = (m: number, n: number, largest: number): Matrix => Array.from({ length: m }, () => vector(n, -largest, largest));
    const weight = (n: number, k: number): Matrix => matrix(n, k, Math.sqrt(3 / k));
    this.operands = {
      attended: matrix(rows, width, 1),
      skip: matrix(rows, width, 1),
      proj: weight(width, width),
      up: weight(hidden, width),
      down: weight(width, hidden),
      last: weight(last, width),
    };
    this.vectors = {
      proj: vector(width, -0.1, 0.1),
      up: vector(hidden, -0.1, 0.1),
      down: vector(width, -0.1, 0.1),
      last: vector(last, -0.1, 0.1),
      gain1: vector(width, 0.5, 1.5),
      beta1: vector(width, -0.1, 0.1),
      gain2: vector(width, 0.5, 1.5),
      beta2: vector(width, -0.1, 0.1),
    };
  }

  run(errors: DeviceErrors, defect: Defect | null = null): readonly [sum: Matrix, last: Matrix] {
    const { attended, skip } = this.operands;
    const { gain1, beta1, gain2, beta2 } = this.vectors;
    const product = (name: 'proj' | 'up' | 'down' | 'last', x: Matrix): Matrix => {
      const codes = this.quantised(x, name === 'down' && defect === 'scales');
      const sums = codes.map((row) => Float64Array.from(this.operands[name], (w) => dot(row, w, name === defect ? 32 : 0)));
      const bias = this.vectors[name];
      return map(this.off(sums, errors.sum), (value, _, j) => value + (name === 'up' && defect === 'bias' ? 0 : bias[j]!));
    };
    const x = rounded(map(product('proj', attended), (value, i, j) => value + skip[i]![j]!));
    const up = this.off(map(product('up', this.norm(x, gain1, beta1, errors)), gelu), errors.function);
    const down = product('down', rounded(up));
    const y = rounded(map(down, (value, i, j) => value + (defect === 'residual' ? 0 : x[i]![j]!)));
    return [y, rounded(product('last', this.norm(y, gain2, beta2, errors)))];
  }

  private normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.random.next()));
    return radius * Math.cos(2 * Math.PI * this.random.next());
  }

  private off(x: Matrix, error: number): Matrix {
    const size = error * rmsOf(x);
    return size === 0 ? x : map(x, (value) => value + size * this.normal());
  }

  private norm(x: Matrix, gain: Float64Array, beta: Float64Array, { norm }: DeviceErrors): Matrix {
    return x.map((row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
      const scale = (1 + (norm && norm * this.normal())) / Math.sqrt(variance + 1e-6);
      return row.map((value, j) => (value - mean) * scale * gain[j]! + beta[j]!);
    });
  }

  private quantised(x: Matrix, neighbours: boolean): Matrix {
    const { element, activation } = activationFormat(this.activation);
    const fit = activation.scale?.fit;
    if (fit?.kind !== 'absmax') return rounded(x);
    const scales = x.map((row) => Math.fround(row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / fit.top));
    return map(x, (value, i) => {
      const code = decode(element, encode(element, Math.fround(value / scales[i]!)));
      return code * scales[neighbours ? (i + 1) % x.length : i]!;
    });
  }
}

function dot(a: Float64Array, b: Float64Array, from: number): number {
  let sum = 0;
  for (let k = from; k < a.length; k += 1) sum += a[k]! * b[k]!;
  return sum;
}

function gelu(value: number): number {
  return 0.5 * value * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3)));
}

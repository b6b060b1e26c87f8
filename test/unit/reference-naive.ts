// The operators of version 1 once more, as plainly as they can be written, in FP64: what the tests hold native/reference
// against. Formats come from lib/formats; nothing is shared with the C++ code. Also random operands and layouts for the tests.
import type { OperatorV1, DenseV1 } from '../../lib/artifact/upgrade.js';
import { decode, e8m0ToFloat, encode, floatToHalf, halfToFloat, mxScaleCode, roundHalfEven } from '../../lib/formats/codes.js';
import { formats, isMx, weightFormat } from '../../lib/formats/index.js';
import { kMxBlock } from '../../lib/formats/fp8.js';
import type { LayoutDigit } from '../../lib/native.js';
import type { Mask } from '../../lib/operators/mask.js';
import type { Position } from '../../lib/operators/attention.js';

export type DenseOperator = DenseV1;
export type NormOperator = Extract<OperatorV1, { op: 'norm' }>;
export type QuantiseOperator = Extract<OperatorV1, { op: 'quantise' }>;
export type AttentionOperator = Omit<Extract<OperatorV1, { op: 'attention' }>, 'position'> & {
  readonly position: Position;
  readonly mask?: Mask;
};
type Digit = { axis: 'n' | 'k'; stride: number; size: number };

/** A seeded generator of uniform numbers in [0, 1). */
export class Random {
  constructor(private state: number) {}
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }
  integer(below: number): number {
    return Math.floor(this.next() * below);
  }
  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(choices.length)]!;
  }
  uniform(low: number, high: number): number {
    return low + (high - low) * this.next();
  }
  halves(count: number, low = -1, high = 1): Uint8Array {
    return bytesOf(Uint16Array.from({ length: count }, () => floatToHalf(this.uniform(low, high))));
  }
  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.integer(256));
  }
}

export function bytesOf(array: Uint16Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

export function halvesOf(bytes: Uint8Array): number[] {
  return Array.from(new Uint16Array(bytes.slice().buffer), halfToFloat);
}

export function rowMajor(n: number, k: number): Digit[] {
  return [
    { axis: 'n', stride: 1, size: n },
    { axis: 'k', stride: 1, size: k },
  ];
}

/** A random bijection of [0, n) × [0, k): both extents split into factors, the digits in random order. */
export function randomLayout(random: Random, n: number, k: number): Digit[] {
  const digits: Digit[] = [];
  for (const [axis, extent] of [
    ['n', n],
    ['k', k],
  ] as const) {
    let stride = 1;
    for (let rest = extent; rest > 1; ) {
      const divisors = Array.from({ length: rest }, (_, i) => i + 1).filter((d) => d > 1 && rest % d === 0);
      const size = random.pick(divisors);
      digits.push({ axis, stride, size });
      stride *= size;
      rest /= size;
    }
    if (random.integer(4) === 0) digits.push({ axis, stride: 1, size: 1 });
  }
  for (let i = digits.length - 1; i > 0; --i) {
    const j = random.integer(i + 1);
    [digits[i], digits[j]] = [digits[j]!, digits[i]!];
  }
  return digits.length > 0 ? digits : [{ axis: 'n', stride: 1, size: 1 }];
}

/** Stored index of (n, k), by the definition in program.ts: walks the digits, innermost last. */
export function storedIndex(layout: readonly LayoutDigit[], n: number, k: number): number {
  let index = 0;
  for (const { axis, stride, size } of layout) index = index * size + (Math.floor((axis === 'n' ? n : k) / stride) % size);
  return index;
}

/** Whether activations of a format come in blocks that share a power of two. */
export function isMxActivation(id: string): boolean {
  return formats.get(id).activation?.scale?.fit.kind === 'mx';
}

/** Codes and scales of a row (or of blocks of it), all steps in FP32. */
export function quantiseRow(id: string, row: Float32Array): { codes: Uint8Array; scales: Uint8Array | Float32Array } {
  const { element, activation } = formats.get(id);
  const { fit } = activation!.scale!;
  const codes = new Uint8Array(row.length);
  const largest = (from: number, to: number): number => row.subarray(from, to).reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  if (fit.kind === 'mx') {
    const scales = Uint8Array.from({ length: row.length / kMxBlock }, (_, block) =>
      mxScaleCode(fit.emax, largest(block * kMxBlock, (block + 1) * kMxBlock)),
    );
    row.forEach((value, i) => {
      codes[i] = encode(element, value / 2 ** (scales[Math.floor(i / kMxBlock)]! - 127));
    });
    return { codes, scales };
  }
  if (fit.kind !== 'absmax') throw new Error(`no activations have scales by ${fit.kind}`);
  const { top } = fit;
  const scale = Math.fround(largest(0, row.length) / top);
  if (scale === 0) return { codes, scales: Float32Array.of(1) };
  row.forEach((value, i) => {
    const quotient = Math.fround(value / scale);
    codes[i] = element.codes.kind === 'integer' ? Math.max(-top, Math.min(top, roundHalfEven(quotient))) & 0xff : encode(element, quotient);
  });
  return { codes, scales: Float32Array.of(scale) };
}

/** Value of a stored byte of activations, before its scale. */
export function activationCodeToFloat(id: string, code: number): number {
  const { element } = formats.get(id);
  return element.codes.kind === 'integer' ? (code << 24) >> 24 : decode(element, code);
}

/** Norm (or plain conversion) of rows of x, FP32 values. */
export function naiveNorm(
  x: readonly number[],
  k: number,
  kind: 'none' | 'rms' | 'layer',
  eps: number,
  gain: readonly number[],
  beta: readonly number[],
): Float32Array {
  const h = Float32Array.from(x);
  for (let row = 0; kind !== 'none' && row < x.length / k; ++row) {
    const values = x.slice(row * k, (row + 1) * k);
    const mean = kind === 'layer' ? values.reduce((a, b) => a + b, 0) / k : 0;
    const factor = 1 / Math.sqrt(values.reduce((a, b) => a + (b - mean) * (b - mean), 0) / k + eps);
    values.forEach((value, i) => {
      h[row * k + i] = (value - mean) * factor * gain[i]! + (beta[i] ?? 0);
    });
  }
  return h;
}

/** Outputs of norm and quantise as bytes. */
export function naiveActivation(operator: NormOperator | QuantiseOperator, inputs: readonly Uint8Array[]): Uint8Array[] {
  const { m, k, activation } = operator;
  const norm = operator.op === 'norm' ? operator.norm : { kind: 'none' as const, eps: 1 };
  const h = naiveNorm(
    halvesOf(inputs[0]!),
    k,
    norm.kind,
    norm.eps,
    inputs[1] ? halvesOf(inputs[1]) : [],
    inputs[2] ? halvesOf(inputs[2]) : [],
  );
  if (activation === 'fp16') return [bytesOf(Uint16Array.from(h, floatToHalf))];
  const rows = Array.from({ length: m }, (_, row) => quantiseRow(activation, h.subarray(row * k, (row + 1) * k)));
  const scales = rows.map(({ scales }) => (scales instanceof Uint8Array ? scales : bytesOf(scales)));
  return [Buffer.concat(rows.map(({ codes }) => codes)), Buffer.concat(scales)];
}

/** Output of a dense product before its rounding to FP16; accumulated in FP64. */
export function naiveDense(operator: DenseOperator, inputs: readonly Uint8Array[]): number[] {
  const { m, n, k, weight, activation, norm, weightLayout, scaleLayout } = operator;
  const group = isMx(weightFormat(weight)) ? kMxBlock : operator.group;
  const rest = [...inputs];
  const take = (): Uint8Array => rest.shift()!;
  const xBytes = take();
  const xScaleBytes = operator.input === 'quantised' ? take() : null;
  const stored = take();
  const scaleBytes = weight === 'fp16' ? null : take();
  const gain = norm.kind === 'none' ? [] : halvesOf(take());
  const beta = norm.kind === 'layer' ? halvesOf(take()) : [];
  const bias = operator.bias ? halvesOf(take()) : null;
  const residual = operator.residual ? halvesOf(take()) : null;

  // Activations: values to multiply, and one factor per row.
  const x = new Float64Array(m * k);
  const rowScale = new Float64Array(m).fill(1);
  const h = operator.input === 'fp16' ? naiveNorm(halvesOf(xBytes), k, norm.kind, norm.eps, gain, beta) : null;
  for (let row = 0; row < m; ++row) {
    if (activation === 'fp16') {
      for (let i = 0; i < k; ++i) x[row * k + i] = halfToFloat(floatToHalf(h![row * k + i]!));
      continue;
    }
    const quantised = h
      ? quantiseRow(activation, h.subarray(row * k, (row + 1) * k))
      : {
          codes: xBytes.subarray(row * k, (row + 1) * k),
          scales: isMxActivation(activation)
            ? xScaleBytes!.subarray((row * k) / kMxBlock, ((row + 1) * k) / kMxBlock)
            : new Float32Array(xScaleBytes!.slice(4 * row, 4 * row + 4).buffer),
        };
    if (quantised.scales instanceof Float32Array) rowScale[row] = quantised.scales[0]!;
    for (let i = 0; i < k; ++i) {
      const block = quantised.scales instanceof Uint8Array ? e8m0ToFloat(quantised.scales[Math.floor(i / kMxBlock)]!) : 1;
      x[row * k + i] = activationCodeToFloat(activation, quantised.codes[i]!) * block;
    }
  }

  // Weights.
  const { element } = weightFormat(weight);
  const { bits } = element;
  const w = new Float64Array(n * k);
  const channel = new Float64Array(n).fill(1);
  const scaleAt = (index: number): number =>
    isMx(weightFormat(weight))
      ? e8m0ToFloat(scaleBytes![index]!)
      : halfToFloat(scaleBytes![2 * index]! | (scaleBytes![2 * index + 1]! << 8));
  for (let row = 0; row < n; ++row) {
    if (scaleBytes && group === -1) channel[row] = scaleAt(row);
    for (let i = 0; i < k; ++i) {
      let code = 0;
      const first = storedIndex(weightLayout, row, i) * bits;
      for (let bit = 0; bit < bits; ++bit) code |= ((stored[(first + bit) >> 3]! >> ((first + bit) & 7)) & 1) << bit;
      const scale = scaleBytes && group !== -1 ? scaleAt(storedIndex(scaleLayout!, row, Math.floor(i / group))) : 1;
      w[row * k + i] = decode(element, code) * scale;
    }
  }

  const width = operator.function === 'silu_mul' ? n / 2 : n;
  const y: number[] = [];
  for (let row = 0; row < m; ++row) {
    const product = (column: number): number => {
      let sum = 0;
      for (let i = 0; i < k; ++i) sum += x[row * k + i]! * w[column * k + i]!;
      return sum * rowScale[row]! * channel[column]! + (bias ? bias[column]! : 0);
    };
    for (let column = 0; column < width; ++column) {
      let value = product(column);
      if (operator.function === 'silu_mul') value = (value / (1 + Math.exp(-value))) * product(column + width);
      if (operator.function === 'gelu_tanh')
        value = 0.5 * value * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3)));
      y.push(value + (residual ? residual[row * width + column]! : 0));
    }
  }
  return y;
}

/** ALiBi slopes by the recursion that Press et al. published. */
export function alibiSlopes(heads: number): number[] {
  const powerOfTwo = (count: number): number[] => Array.from({ length: count }, (_, i) => (2 ** (-8 / count)) ** (i + 1));
  if (Number.isInteger(Math.log2(heads))) return powerOfTwo(heads);
  const closest = 2 ** Math.floor(Math.log2(heads));
  return [
    ...powerOfTwo(closest),
    ...alibiSlopes(2 * closest)
      .filter((_, i) => i % 2 === 0)
      .slice(0, heads - closest),
  ];
}

/** Output of attention before its rounding to FP16. */
export function naiveAttention(operator: AttentionOperator, input: Uint8Array): number[] {
  const { batch, seq, heads, kvHeads, headDim: d, order, position, ropeBase, mask } = operator;
  const width = (heads + 2 * kvHeads) * d;
  const qkv = halvesOf(input);
  const slopes = alibiSlopes(heads);
  const head = (row: number, part: 0 | 1 | 2, index: number): number[] => {
    const column = order === 'interleaved' ? (3 * index + part) * d : part === 0 ? index * d : (heads + (part - 1) * kvHeads + index) * d;
    const v = qkv.slice(row * width + column, row * width + column + d);
    if (part === 2 || position !== 'rope') return v;
    return v.map((value, i) => {
      const angle = (row % seq) * ropeBase ** ((-2 * (i % (d / 2))) / d);
      const other = i < d / 2 ? -v[i + d / 2]! : v[i - d / 2]!;
      return value * Math.cos(angle) + other * Math.sin(angle);
    });
  };
  const y: number[] = [];
  for (let b = 0; b < batch; ++b) {
    for (let t = 0; t < seq; ++t) {
      for (let h = 0; h < heads; ++h) {
        const kv = Math.floor(h / (heads / kvHeads));
        const q = head(b * seq + t, 0, h);
        const scores = Array.from({ length: mask === 'causal' ? t + 1 : seq }, (_, s) => {
          const key = head(b * seq + s, 1, kv);
          return q.reduce((sum, value, i) => sum + value * key[i]!, 0) / Math.sqrt(d) + (position === 'alibi' ? slopes[h]! * s : 0);
        });
        const largest = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((a, c) => a + c, 0);
        const out = new Array<number>(d).fill(0);
        weights.forEach((weight, s) =>
          head(b * seq + s, 2, kv).forEach((value, i) => {
            out[i]! += (weight / total) * value;
          }),
        );
        y.push(...out);
      }
    }
  }
  return y;
}

/**
 * The tensors that an operator of ours takes and makes: how many, of what type and how many bytes. With it a manifest is
 * checked against its graph, so that neither kernels nor reference operators ever see a tensor smaller than they read.
 * Follows the contracts in operators.ts.
 */
import { LadderError } from '../errors.js';
import { layoutExtents } from './layout.js';
import { type ActivationFormat, type DenseOperator, type Digit, isMxFormat, kMxBlock, type Operator, weightBits } from './operators.js';

export type OperandRole = 'x' | 'xScale' | 'weight' | 'scale' | 'gain' | 'beta' | 'bias' | 'residual' | 'next' | 'qkv' | 'y' | 'q';

/** One tensor of an operator's signature. */
export interface Operand {
  readonly role: OperandRole;
  /** TVM type; packed weights are bytes. */
  readonly dtype: 'float16' | 'float32' | 'int8' | 'uint8';
  readonly sizeBytes: number;
}

export interface Signature {
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
}

const kBytes = { float16: 2, float32: 4, int8: 1, uint8: 1 } as const;

/**
 * What `operator` takes and makes, in order.
 * @throws LadderError `BAD_MANIFEST` for an operator that contradicts itself
 */
export function signatureOf(operator: Operator): Signature {
  switch (operator.op) {
    case 'dense': return denseSignature(operator);
    case 'norm': {
      const { m, k, norm, activation } = operator;
      const beta = norm.kind === 'layer' ? [operand('beta', 'float16', k)] : [];
      return { inputs: [operand('x', 'float16', m * k), operand('gain', 'float16', k), ...beta], outputs: activationOperands(m, k, activation) };
    }
    case 'quantise': {
      const { m, k, activation } = operator;
      ensure(activation !== 'fp16', 'quantise', 'activation', 'a quantised format', activation);
      return { inputs: [operand('x', 'float16', m * k)], outputs: activationOperands(m, k, activation) };
    }
    case 'attention': {
      const { batch, seq, heads, kvHeads, headDim, order, position } = operator;
      ensure(heads % kvHeads === 0, 'attention', 'kvHeads', `a divisor of ${heads} heads`, kvHeads);
      ensure(order !== 'interleaved' || heads === kvHeads, 'attention', 'kvHeads', `${heads}, as q, k and v are interleaved per head`, kvHeads);
      ensure(position !== 'rope' || headDim % 2 === 0, 'attention', 'headDim', 'an even number, for rotary embedding', headDim);
      const rows = batch * seq;
      return { inputs: [operand('qkv', 'float16', rows * (heads + 2 * kvHeads) * headDim)], outputs: [operand('y', 'float16', rows * heads * headDim)] };
    }
  }
}

function denseSignature(operator: DenseOperator): Signature {
  const { m, n, k, weight, activation, group, norm, function: epilogue } = operator;
  ensure(isMxFormat(weight) === (group === kMxBlock), 'dense', 'group', isMxFormat(weight) ? `${kMxBlock} for MX weights` : '-1, 64 or 128', group);
  ensure(group === -1 || k % group === 0, 'dense', 'group', `a divisor of k = ${k}`, group);
  ensure(weight !== 'fp16' || group === -1, 'dense', 'group', '-1 for FP16 weights, which have no scales', group);
  ensure(epilogue !== 'silu_mul' || n % 2 === 0, 'dense', 'n', 'an even number, for gate and up', n);
  ensure(operator.input === 'fp16' || activation !== 'fp16', 'dense', 'activation', 'a quantised format, as the input comes quantised', activation);
  ensure(operator.input === 'fp16' || norm.kind === 'none', 'dense', 'norm', 'none, as the input comes quantised', norm.kind);
  const x = operator.input === 'fp16' ? [operand('x', 'float16', m * k)] : activationOperands(m, k, activation);
  const weightElements = storedElements('weightLayout', operator.weightLayout, n, k);
  const inputs = [...x, weight === 'fp16'
    ? operand('weight', 'float16', weightElements)
    : operand('weight', 'uint8', Math.ceil((weightElements * weightBits(weight)) / 8))];
  if (weight !== 'fp16') {
    const scaled = group !== -1;
    ensure(scaled === (operator.scaleLayout !== null), 'dense', 'scaleLayout', scaled ? 'a layout of the scales' : 'null, as scales are per channel', operator.scaleLayout === null ? 'null' : 'a layout');
    const elements = operator.scaleLayout ? storedElements('scaleLayout', operator.scaleLayout, n, k / group) : n;
    inputs.push(operand('scale', isMxFormat(weight) ? 'uint8' : 'float16', elements));
  } else {
    ensure(operator.scaleLayout === null, 'dense', 'scaleLayout', 'null, as FP16 weights have no scales', 'a layout');
  }
  if (norm.kind !== 'none') inputs.push(operand('gain', 'float16', k));
  if (norm.kind === 'layer') inputs.push(operand('beta', 'float16', k));
  if (operator.bias) inputs.push(operand('bias', 'float16', n));
  const width = epilogue === 'silu_mul' ? n / 2 : n;
  if (operator.residual) inputs.push(operand('residual', 'float16', m * width));
  if (operator.prefetch !== undefined) inputs.push(operand('next', 'uint8', operator.prefetch));
  return { inputs, outputs: [operand('y', 'float16', m * width)] };
}

/** A quantised activation and its scales, or plain FP16. */
function activationOperands(m: number, k: number, activation: ActivationFormat): readonly Operand[] {
  if (activation === 'fp16') return [operand('y', 'float16', m * k)];
  const codes = operand('q', activation === 'int8' || activation === 'int4' ? 'int8' : 'uint8', m * k);
  if (!isMxFormat(activation)) return [codes, operand('xScale', 'float32', m)];
  ensure(k % kMxBlock === 0, 'activation', 'k', `a multiple of ${kMxBlock}`, k);
  return [codes, operand('xScale', 'uint8', m * (k / kMxBlock))];
}

function storedElements(field: string, layout: readonly Digit[], n: number, k: number): number {
  const extents = layoutExtents(layout);
  // Rows may be padded to whole tiles.
  ensure(extents.n >= n, 'dense', field, `at least ${n} places along n`, extents.n);
  ensure(extents.k === k, 'dense', field, `${k} places along k`, extents.k);
  return extents.n * extents.k;
}

function operand(role: OperandRole, dtype: Operand['dtype'], elements: number): Operand {
  const sizeBytes = elements * kBytes[dtype];
  ensure(sizeBytes <= Number.MAX_SAFE_INTEGER, 'operator', role, 'fewer than 2^53 bytes', sizeBytes);
  return { role, dtype, sizeBytes };
}

function ensure(holds: boolean, op: string, field: string, expected: string, received: string | number): void {
  if (!holds) throw new LadderError('BAD_MANIFEST', `${op}: expected ${expected} for \`${field}\` but received ${received}`, { op, field });
}

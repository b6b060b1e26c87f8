/**
 * checkpoint.json of schema ladder-checkpoint/1 as the present one. Its operators were of four fixed kinds, each with its
 * prologue and epilogue as fields; as programs they are the same steps, one by one. Read only: nothing writes version 1.
 */
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { activationType, weightType } from '../operators/quantise.js';
import { operators } from '../operators/index.js';
import { isQuantised, type Parameters, type Program, type Value, type ValueType } from '../operators/program.js';

const dimension = z
  .number()
  .int()
  .min(1)
  .max(2 ** 31 - 1);
const format = z.string().min(1);
const digits = z
  .array(z.strictObject({ axis: z.enum(['n', 'k']), stride: dimension, size: dimension }))
  .min(1)
  .max(16);
const epsilon = z.number().positive().max(1);

/** y = epilogue(quantise(norm(x)) · dequantise(W)ᵀ): bias, function, residual, in this order. */
const denseSchema = z.strictObject({
  op: z.literal('dense'),
  m: dimension,
  n: dimension,
  k: dimension,
  weight: format,
  activation: format,
  group: z.union([z.literal(-1), z.literal(32), z.literal(64), z.literal(128)]),
  input: z.enum(['fp16', 'quantised']),
  norm: z.strictObject({ kind: z.enum(['none', 'rms', 'layer']), eps: epsilon }),
  bias: z.boolean(),
  function: z.enum(['none', 'silu_mul', 'gelu_tanh']),
  residual: z.boolean(),
  prefetch: dimension.optional(),
  weightLayout: digits,
  scaleLayout: digits.nullable(),
});
const normSchema = z.strictObject({
  op: z.literal('norm'),
  m: dimension,
  k: dimension,
  norm: z.strictObject({ kind: z.enum(['rms', 'layer']), eps: epsilon }),
  activation: format,
});
const quantiseSchema = z.strictObject({ op: z.literal('quantise'), m: dimension, k: dimension, activation: format });
const attentionSchema = z.strictObject({
  op: z.literal('attention'),
  batch: dimension,
  seq: dimension,
  heads: dimension,
  kvHeads: dimension,
  headDim: dimension,
  order: z.enum(['concatenated', 'interleaved']),
  position: z.enum(['rope', 'alibi']),
  ropeBase: z.number().positive(),
});

/** What version 1 says of an operator. */
export const operatorV1Schema = z.discriminatedUnion('op', [denseSchema, normSchema, quantiseSchema, attentionSchema]);
export type OperatorV1 = z.infer<typeof operatorV1Schema>;
export type DenseV1 = z.infer<typeof denseSchema>;

/** Puts a program together, a step after the other. */
class ProgramWriter {
  private readonly values: Value[] = [];
  private readonly nodes: { kind: string; params: Parameters; inputs: number[]; outputs: number[] }[] = [];
  private readonly inputs: number[] = [];

  input(value: Value): number {
    const index = this.values.push(value) - 1;
    this.inputs.push(index);
    return index;
  }

  /** @param type of the result, where it is rounded on its way to the next step */
  step(kind: string, inputs: readonly number[], params: Parameters = {}, type?: ValueType): number {
    const [made] = operators.get(kind).infer(
      params,
      inputs.map((value) => this.values[value]!),
    );
    const index = this.values.push({ ...made!, ...(type && !isQuantised(made!.type) && { type }) }) - 1;
    this.nodes.push({ kind, params, inputs: [...inputs], outputs: [index] });
    return index;
  }

  /** The last step's result is the program's, as float16 unless it is quantised. */
  finish(hints: readonly number[] = []): Program {
    const output = this.values.length - 1;
    const last = this.values[output]!;
    if (!isQuantised(last.type)) this.values[output] = { ...last, type: 'f16' };
    // Inputs come first, so that every step finds its own before it.
    return { values: this.values, nodes: this.nodes, inputs: this.inputs, outputs: [output], ...(hints.length > 0 && { hints }) };
  }
}

const matrix = (m: number, c: number): Value['axes'] => [
  { name: 'm', extent: m },
  { name: 'c', extent: c },
];
const halves = (axes: Value['axes']): Value => ({ axes, type: 'f16' });
const vector = (extent: number): Value => halves([{ name: 'c', extent }]);

const kUpgrades: { readonly [K in OperatorV1['op']]: (operator: Extract<OperatorV1, { op: K }>) => Program } = {
  dense({ m, n, k, weight, activation, group, input, norm, bias, function: fn, residual, prefetch, weightLayout, scaleLayout }) {
    const program = new ProgramWriter();
    const quantised = activationType(activation, { axes: matrix(m, k) });
    let x = program.input({ axes: matrix(m, k), type: input === 'quantised' ? quantised : 'f16' });
    const w = program.input({
      axes: [
        { name: 'n', extent: n },
        { name: 'k', extent: k },
      ],
      type: weightType(weight, group),
      layout: { digits: weightLayout },
      ...(scaleLayout && { scaleLayout: { digits: scaleLayout } }),
    });
    const parameters = [
      ...(norm.kind === 'none' ? [] : [program.input(vector(k))]),
      ...(norm.kind === 'layer' ? [program.input(vector(k))] : []),
    ];
    const biases = bias ? [program.input(vector(n))] : [];
    const width = fn === 'silu_mul' ? n / 2 : n;
    const residuals = residual ? [program.input(halves(matrix(m, width)))] : [];
    const quantises = input === 'fp16' && isQuantised(quantised);
    if (norm.kind !== 'none') x = program.step('norm', [x, ...parameters], { kind: norm.kind, eps: norm.eps }, quantises ? 'f32' : 'f16');
    if (quantises) x = program.step('quantise', [x], { format: activation });
    let y = program.step('dense', [x, w]);
    for (const one of biases) y = program.step('add', [y, one]);
    if (fn !== 'none') y = program.step(fn, [y]);
    for (const one of residuals) y = program.step('add', [y, one]);
    return program.finish(prefetch === undefined ? [] : [prefetch]);
  },
  norm({ m, k, norm, activation }) {
    const program = new ProgramWriter();
    const x = program.input(halves(matrix(m, k)));
    const parameters = [program.input(vector(k)), ...(norm.kind === 'layer' ? [program.input(vector(k))] : [])];
    const h = program.step('norm', [x, ...parameters], norm);
    if (isQuantised(activationType(activation, { axes: matrix(m, k) }))) program.step('quantise', [h], { format: activation });
    return program.finish();
  },
  quantise({ m, k, activation }) {
    const program = new ProgramWriter();
    program.step('quantise', [program.input(halves(matrix(m, k)))], { format: activation });
    return program.finish();
  },
  attention({ op: _, ...params }) {
    const { batch, seq, heads, kvHeads, headDim } = params;
    const program = new ProgramWriter();
    program.step('attention', [program.input(halves(matrix(batch * seq, (heads + 2 * kvHeads) * headDim)))], params);
    return program.finish();
  },
};

/**
 * What an operator of version 1 computes, as a program.
 * @throws LadderError `BAD_MANIFEST` for one that contradicts itself
 */
export function programOfV1(operator: OperatorV1): Program {
  return (kUpgrades[operator.op] as (operator: OperatorV1) => Program)(operator);
}

type Json = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Stored orders are said by the programs now. */
function upgradeTensor(tensor: unknown): unknown {
  if (!isObject(tensor)) return tensor;
  const { logicalShape: _, layout: __, ...rest } = tensor;
  return rest;
}

function upgradeOperator(operator: unknown, index: number): unknown {
  // One that has a program already has a key too many for either version.
  if (!isObject(operator) || Object.hasOwn(operator, 'program')) return operator;
  const { semantics, ...rest } = operator;
  const parsed = operatorV1Schema.safeParse(semantics);
  if (!parsed.success) return { ...rest, program: semantics };
  try {
    return { ...rest, program: programOfV1(parsed.data) };
  } catch (cause) {
    if (cause instanceof LadderError)
      throw new LadderError(
        'BAD_MANIFEST',
        `checkpoint.json: operators.${index}: ${cause.message}; rebuild it with \`ladder build\``,
        cause.context,
      );
    throw cause;
  }
}

/**
 * A version 1 manifest, parsed but not checked, as a present one; what does not fit is left for the present schema to refuse.
 * @throws LadderError `BAD_MANIFEST` for an operator that contradicts itself
 */
export function upgradeManifest(json: unknown): unknown {
  if (!isObject(json) || json['schema'] !== 'ladder-checkpoint/1') return json;
  const { tensors, operators: described } = json;
  return {
    ...json,
    schema: 'ladder-checkpoint/2',
    tensors: isObject(tensors)
      ? Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, upgradeTensor(tensor)]))
      : tensors,
    operators: Array.isArray(described) ? described.map(upgradeOperator) : described,
  };
}

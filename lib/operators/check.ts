/**
 * Whether a program means anything: its schema, then that every node is of a known kind, reads values that are made before it,
 * and makes what its kind infers. Programs come from files; what passes here never makes kernels or reference operators see a
 * tensor smaller than they read.
 */
import { z } from 'zod';
import { LadderError } from '../errors.js';
import { formats } from '../formats/index.js';
import { operators } from './index.js';
import { checkLayout } from './layout.js';
import { cellBits, isQuantised, type Layout, type Node, type Program, recordOf, scaleAxes, type Value, valueBytes } from './program.js';

const dimension = z
  .number()
  .int()
  .min(1)
  .max(2 ** 31 - 1);
const index = z.number().int().min(0);
/** Names are keys of objects, too. */
const name = z
  .string()
  .min(1)
  .max(32)
  .refine((text) => !(text in Object.prototype), { error: 'not a possible name' });
/** The schema library drops this key from records without a word; nothing may vanish from a program. */
const withoutPrototype = z.unknown().refine((json) => typeof json !== 'object' || json === null || !Object.hasOwn(json, '__proto__'), {
  error: '__proto__ is not a possible name',
});

export const digitSchema = z.strictObject({ axis: name, stride: dimension, size: dimension });
export const layoutSchema = z.strictObject({ digits: z.array(digitSchema).min(1).max(24) });
const quantisedSchema = z.strictObject({
  format: z.string(),
  as: z.enum(['weight', 'activation']),
  scale: z.strictObject({ type: z.enum(['f16', 'f32', 'e8m0']), per: withoutPrototype.pipe(z.record(name, dimension)) }).nullable(),
});
const valueSchema = z.strictObject({
  axes: z
    .array(z.strictObject({ name, extent: dimension }))
    .min(1)
    .max(8),
  type: z.union([z.enum(['f16', 'f32']), quantisedSchema]),
  layout: layoutSchema.optional(),
  scaleLayout: layoutSchema.optional(),
});
const nodeSchema = z.strictObject({
  kind: name,
  params: withoutPrototype.pipe(z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]))),
  inputs: z.array(index),
  outputs: z.array(index),
});
/** A program as it is written in checkpoint.json. */
export const programSchema: z.ZodType<Program> = z.strictObject({
  values: z.array(valueSchema).min(1).max(65536),
  nodes: z.array(nodeSchema).min(1).max(4096),
  inputs: z.array(index),
  outputs: z.array(index).min(1),
  hints: z.array(dimension).min(1).max(16).optional(),
});

function bad(message: string, context: LadderError['context'] = {}): LadderError {
  return new LadderError('BAD_MANIFEST', message, context);
}

/** @throws LadderError `BAD_MANIFEST` saying what of the program cannot be */
export function checkProgram(program: Program): void {
  const { values, nodes, inputs, outputs } = program;
  values.forEach((value, i) => checkValue(value, `values.${i}`));
  const made = new Set<number>();
  const make = (value: number, place: string): void => {
    if (value >= values.length) throw bad(`${place} is value ${value} of ${values.length}`);
    if (made.has(value)) throw bad(`${place} is value ${value}, which is made already`);
    made.add(value);
  };
  inputs.forEach((value, i) => make(value, `inputs.${i}`));
  nodes.forEach((node, i) => {
    for (const value of node.inputs) if (!made.has(value)) throw bad(`nodes.${i} (${node.kind}) reads value ${value} before it is made`);
    node.outputs.forEach((value, j) => make(value, `nodes.${i}.outputs.${j}`));
    checkNode(program, node, `nodes.${i}`);
  });
  for (const value of outputs) {
    if (!made.has(value) || inputs.includes(value)) throw bad(`the program's output is value ${value}, which no node makes`);
  }
}

function checkNode({ values }: Program, { kind, params, inputs, outputs }: Node, place: string): void {
  const primitive = operators.find(kind);
  if (!primitive)
    throw bad(`${place}: expected one of ${operators.ids().join(', ')} for \`kind\` but received ${JSON.stringify(kind)}`, { kind });
  const parsed = primitive.params.safeParse(params);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw bad(`${place} (${kind}): ${issue?.path.join('.') || 'params'}: ${issue?.message ?? 'does not fit'}`, { kind });
  }
  const { operands } = primitive;
  if (inputs.length > operands.length)
    throw bad(
      `${place} (${kind}) reads ${inputs.length} values, of which there are ${operands.length} at most: ${operands.map(({ role }) => role).join(', ')}`,
      { kind },
    );
  const inferred = primitive.infer(
    params,
    inputs.map((value) => values[value]!),
  );
  if (inferred.length !== outputs.length) throw bad(`${place} (${kind}) makes ${inferred.length} values, not ${outputs.length}`, { kind });
  inferred.forEach((wanted, i) => {
    const value = values[outputs[i]!]!;
    const shapes = [wanted, value].map(({ axes }) => axes.map((axis) => `${axis.name} ${axis.extent}`).join(', '));
    if (shapes[0] !== shapes[1]) throw bad(`${place} (${kind}) makes [${shapes[0]}], but value ${outputs[i]} has [${shapes[1]}]`, { kind });
    const types = [wanted.type, value.type].map((type) =>
      isQuantised(type)
        ? JSON.stringify([type.format, type.as, type.scale?.type, Object.entries(type.scale?.per ?? {}).sort()])
        : 'numbers',
    );
    if (types[0] !== types[1]) throw bad(`${place} (${kind}) makes ${types[0]}, but value ${outputs[i]} is ${types[1]}`, { kind });
  });
}

function checkValue(value: Value, place: string): void {
  const { axes, type, layout, scaleLayout } = value;
  if (new Set(axes.map((axis) => axis.name)).size !== axes.length) throw bad(`${place}: two axes have one name`);
  within(place, layout, axes);
  if (isQuantised(type)) {
    if (!formats.has(type.format))
      throw bad(`${place}: expected one of ${formats.ids().join(', ')} for \`format\` but received ${JSON.stringify(type.format)}`, {
        format: type.format,
      });
    const { record } = recordOf(type);
    if (record.scale && type.scale && record.scale.type !== type.scale.type)
      throw bad(`${place}: scales of ${type.format} ${type.as}s are ${record.scale.type}, not ${type.scale.type}`);
    if ((record.scale === null) !== (type.scale === null))
      throw bad(`${place}: ${type.format} ${type.as}s have ${record.scale ? '' : 'no '}scales`);
    if (type.scale) {
      const odd = Object.keys(type.scale.per).find((axis) => !axes.some((one) => one.name === axis));
      if (odd !== undefined) throw bad(`${place}: scales vary along ${odd}, which is no axis`);
      within(`${place}: scales`, scaleLayout, scaleAxes(value, type.scale));
    } else if (scaleLayout) throw bad(`${place}: a layout of scales that it does not have`);
  } else if (scaleLayout) throw bad(`${place}: a layout of scales that it does not have`);
  if (!(valueBytes(value) * (8 / cellBits(type)) <= Number.MAX_SAFE_INTEGER)) throw bad(`${place}: expected fewer than 2^53 bytes`);
}

function within(place: string, layout: Layout | undefined, axes: Value['axes']): void {
  if (!layout) return;
  try {
    checkLayout(layout.digits, axes);
  } catch (cause) {
    if (cause instanceof LadderError) throw bad(`${place}: ${cause.message}`, cause.context);
    throw cause;
  }
}

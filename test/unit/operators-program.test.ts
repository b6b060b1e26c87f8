// Programs: each kind of contradiction is refused, and where it is is said; what is built as programs are meant passes, and
// whatever is changed of its text afterwards gives a program that means something or a LadderError.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { selectOrThrow } from '../../lib/compiler/kernels/index.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { LadderError } from '../../lib/errors.js';
import { activationFormats, formats, weightFormat, weightFormats } from '../../lib/formats/index.js';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import { checkProgram, programSchema } from '../../lib/operators/check.js';
import { operators } from '../../lib/operators/index.js';
import { nativeProgram } from '../../lib/operators/native-program.js';
import {
  isQuantised,
  type Layout,
  type Node,
  type Parameters,
  type Program,
  programTensors,
  stepsText,
  type Value,
  valueBytes,
} from '../../lib/operators/program.js';
import { activationType, weightType } from '../../lib/operators/quantise.js';
import { endToEndTolerance, toleranceOf } from '../../lib/run/tolerance.js';
import { jsonMutations, mutateJson } from '../fixtures/artifact/mutate.js';
import { denseInRows } from '../fixtures/programs.js';

/** Norm, quantisation, product in INT4 and INT8, bias, function and residual: every part that a program can have. */
const whole: Program = programOfV1(
  denseInRows('int4', {
    m: 2,
    n: 32,
    k: 64,
    activation: 'int8',
    input: 'fp16',
    group: 64,
    norm: { kind: 'layer', eps: 1e-5 },
    bias: true,
    function: 'gelu_tanh',
    residual: true,
    prefetch: 512,
  }),
);
const [x, weight, gain, , , residual] = whole.inputs as [number, number, number, number, number, number];
const output = whole.outputs[0]!;
const at = (kind: string): number => whole.nodes.findIndex((node) => node.kind === kind);
const [norm, quantise, dense] = [at('norm'), at('quantise'), at('dense')];
const [normed, codes] = [whole.nodes[norm]!.outputs[0]!, whole.nodes[quantise]!.outputs[0]!];

const withValue = (index: number, change: Partial<Value>): Program => ({
  ...whole,
  values: whole.values.map((value, i) => (i === index ? { ...value, ...change } : value)),
});
const withNode = (index: number, change: Partial<Node>): Program => ({
  ...whole,
  nodes: whole.nodes.map((node, i) => (i === index ? { ...node, ...change } : node)),
});
const withInput = (index: number, operand: number, value: number): Program =>
  withNode(index, { inputs: whole.nodes[index]!.inputs.map((one, i) => (i === operand ? value : one)) });
const withType = (index: number, change: object): Program =>
  withValue(index, { type: { ...(whole.values[index]!.type as object), ...change } as Value['type'] });
const axes = (...extents: readonly (readonly [string, number])[]): Value['axes'] => extents.map(([name, extent]) => ({ name, extent }));
const layout = (...digits: readonly (readonly [string, number, number])[]): Layout => ({
  digits: digits.map(([axis, stride, size]) => ({ axis, stride, size })),
});
/** One step from x, the rest of what it reads given. */
const step = (kind: string, params: Parameters, values: readonly Value[], made: Value): Program => ({
  values: [...values, made],
  nodes: [{ kind, params, inputs: values.map((_, i) => i), outputs: [values.length] }],
  inputs: values.map((_, i) => i),
  outputs: [values.length],
});
const rows = (m: number, c: number, type: Value['type'] = 'f16'): Value => ({ axes: axes(['m', m], ['c', c]), type });
const vector = (c: number): Value => ({ axes: axes(['c', c]), type: 'f16' });
const attention = { batch: 2, seq: 3, heads: 4, kvHeads: 2, headDim: 8, order: 'concatenated', position: 'rope', ropeBase: 10000 };
const image: Value = { axes: axes(['b', 2], ['h', 3], ['w', 3], ['c', 8]), type: 'f16' };

describe('checkProgram', () => {
  it('takes a program as it is meant, and as checkpoint.json has it', () => {
    expect(stepsText(whole)).toBe('norm, quantise, dense, add, gelu_tanh, add');
    checkProgram(whole);
    checkProgram(programSchema.parse(JSON.parse(JSON.stringify(whole))));
    expect(programSchema.parse(JSON.parse(JSON.stringify(whole)))).toEqual(whole);
  });

  it('takes values of other axes, several readers and several results', () => {
    const shared: Program = {
      values: [
        image,
        { axes: axes(['c', 8]), type: 'f16' },
        { axes: image.axes, type: 'f32' },
        { axes: image.axes, type: 'f16' },
        { axes: image.axes, type: 'f16', layout: layout(['c', 1, 8], ['b', 1, 2], ['h', 1, 4], ['w', 1, 3]) },
      ],
      nodes: [
        { kind: 'norm', params: { kind: 'rms', eps: 1e-5 }, inputs: [0, 1], outputs: [2] },
        { kind: 'relu', params: {}, inputs: [2], outputs: [3] },
        { kind: 'add', params: {}, inputs: [2, 3], outputs: [4] },
      ],
      inputs: [0, 1],
      outputs: [4, 2],
    };
    checkProgram(shared);
    expect(programTensors(shared).outputs.map(({ dtype, elements }) => [dtype, elements])).toEqual([
      ['float16', 2 * 4 * 3 * 8],
      ['float32', 144],
    ]);
  });

  it.each<[string, Program, RegExp]>([
    // What nodes read and make.
    [
      'an unknown kind',
      withNode(dense, { kind: 'convolution' }),
      /^nodes\.2: expected one of dense, norm,.* for `kind` but received "convolution"$/,
    ],
    ['a parameter too few', withNode(norm, { params: { kind: 'layer' } }), /^nodes\.0 \(norm\): eps: /],
    ['a parameter of another type', withNode(norm, { params: { kind: 'layer', eps: '1e-5' } }), /^nodes\.0 \(norm\): eps: /],
    ['a parameter out of range', withNode(norm, { params: { kind: 'layer', eps: 0 } }), /^nodes\.0 \(norm\): eps: /],
    ['a parameter that is no number', withNode(norm, { params: { kind: 'layer', eps: Number.NaN } }), /^nodes\.0 \(norm\): eps: /],
    ['a choice that there is not', withNode(norm, { params: { kind: 'batch', eps: 1e-5 } }), /^nodes\.0 \(norm\): kind: /],
    ['a parameter too many', withNode(dense, { params: { transposed: true } }), /^nodes\.2 \(dense\): params: .*transposed/],
    [
      'a quantisation to a format that there is not',
      withNode(quantise, { params: { format: 'int3' } }),
      /quantise: expected a format of activations for `format` but received int3/,
    ],
    [
      'a quantisation to a format of weights',
      withNode(quantise, { params: { format: 'nf4' } }),
      /a format of activations for `format` but received nf4/,
    ],
    ['a value that is read before it is made', withInput(quantise, 0, codes), /^nodes\.1 \(quantise\) reads value \d+ before it is made$/],
    ['a value of a later node', withInput(norm, 0, output), /^nodes\.0 \(norm\) reads value \d+ before it is made$/],
    ['a value that there is not', withInput(norm, 0, 99), /^nodes\.0 \(norm\) reads value 99 before it is made$/],
    ['an input that there is not', { ...whole, inputs: [...whole.inputs, 99] }, /^inputs\.6 is value 99 of \d+$/],
    ['an input twice', { ...whole, inputs: [...whole.inputs, x] }, /^inputs\.6 is value 0, which is made already$/],
    ['a result that is an input', withNode(norm, { outputs: [gain] }), /^nodes\.0\.outputs\.0 is value \d+, which is made already$/],
    [
      'a result that was made before',
      withNode(quantise, { outputs: [normed] }),
      /^nodes\.1\.outputs\.0 is value \d+, which is made already$/,
    ],
    ['a result that there is not', withNode(norm, { outputs: [99] }), /^nodes\.0\.outputs\.0 is value 99 of \d+$/],
    ['a result too few', withNode(norm, { outputs: [] }), /^nodes\.0 \(norm\) makes 1 values, not 0$/],
    [
      'a result too many',
      {
        ...whole,
        values: [...whole.values, rows(2, 64)],
        nodes: whole.nodes.map((node, i) => (i === norm ? { ...node, outputs: [normed, whole.values.length] } : node)),
      },
      /^nodes\.0 \(norm\) makes 1 values, not 2$/,
    ],
    ['an operand too few', withNode(dense, { inputs: [codes] }), /^dense: expected two axes for `weight` but received no such operand$/],
    ['no operand at all', withNode(quantise, { inputs: [] }), /^quantise: expected numbers for `x`/],
    [
      'an operand too many',
      withNode(dense, { inputs: [codes, weight, gain] }),
      /^nodes\.2 \(dense\) reads 3 values, of which there are 2 at most: x, weight$/,
    ],
    [
      'a sum of three',
      withNode(whole.nodes.length - 1, { inputs: [whole.nodes.at(-1)!.inputs[0]!, residual, residual] }),
      /^nodes\.5 \(add\) reads 3 values/,
    ],
    [
      'a layer norm without its shift',
      withNode(norm, { inputs: [x, gain] }),
      /^norm: expected 64 numbers for `beta` but received no such operand$/,
    ],
    ['an RMS norm with one', withNode(norm, { params: { kind: 'rms', eps: 1e-5 } }), /^norm: expected nothing/],
    ['a program whose result is an input', { ...whole, outputs: [x] }, /^the program's output is value 0, which no node makes$/],
    [
      'a program whose result nothing makes',
      { ...whole, values: [...whole.values, rows(2, 32)], outputs: [whole.values.length] },
      /^the program's output is value \d+, which no node makes$/,
    ],
    ['a program whose result is not there', { ...whole, outputs: [99] }, /^the program's output is value 99, which no node makes$/],
    // Shapes and types.
    [
      'axes of another length',
      withValue(output, { axes: axes(['m', 2], ['c', 33]) }),
      /^nodes\.5 \(add\) makes \[m 2, c 32\], but value \d+ has \[m 2, c 33\]$/,
    ],
    [
      'axes of another name',
      withValue(output, { axes: axes(['m', 2], ['k', 32]) }),
      /^nodes\.5 \(add\) makes \[m 2, c 32\], but value \d+ has \[m 2, k 32\]$/,
    ],
    ['axes in another order', withValue(output, { axes: axes(['c', 32], ['m', 2]) }), /^nodes\.5 \(add\) makes/],
    ['an axis less', withValue(output, { axes: axes(['m', 64]) }), /^nodes\.5 \(add\) makes/],
    ['two axes of one name', withValue(output, { axes: axes(['m', 2], ['m', 32]) }), /^values\.\d+: two axes have one name$/],
    [
      'weights of other axes',
      withValue(weight, { axes: axes(['n', 32], ['c', 64]) }),
      /^values\.1: .*digits of n, c but received one of k/,
    ],
    [
      'weights the wrong way round',
      withValue(weight, { axes: axes(['k', 64], ['n', 32]) }),
      /^dense: expected axes n, k for `weight` but received k, n$/,
    ],
    [
      'weights of other channels',
      withValue(weight, { axes: axes(['n', 32], ['k', 32]), layout: layout(['n', 1, 32], ['k', 1, 32]) }),
      /^dense: expected 64, the channels of x, for `k` but received 32$/,
    ],
    [
      'a residual of another width',
      withValue(residual, { axes: axes(['m', 2], ['c', 16]) }),
      /^add: expected 32 along c for `skip` but received 16$/,
    ],
    [
      'a residual along another axis',
      withValue(residual, { axes: axes(['m', 2], ['d', 32]) }),
      /^add: expected axes among m, c for `skip` but received d$/,
    ],
    ['a gain of another length', withValue(gain, { axes: axes(['c', 32]) }), /^norm: expected 64 numbers for `gain` but received 32$/],
    ['a gain per row', withValue(gain, { axes: axes(['m', 1], ['c', 64]) }), /^norm: expected 64 numbers for `gain` but received 1 × 64$/],
    [
      'numbers that are declared to be codes',
      withValue(normed, { type: activationType('int8', rows(2, 64)) }),
      /^nodes\.0 \(norm\) makes numbers, but value \d+ is \["int8"/,
    ],
    [
      'codes that are declared to be numbers',
      withValue(codes, { type: 'f16' }),
      /^nodes\.1 \(quantise\) makes \["int8".*, but value \d+ is numbers$/,
    ],
    [
      'codes of another format',
      withValue(codes, { type: activationType('fp8_e5m2', rows(2, 64)) }),
      /^nodes\.1 \(quantise\) makes \["int8".*, but value \d+ is \["fp8_e5m2"/,
    ],
    [
      'codes with other scales',
      withType(codes, { scale: { type: 'f32', per: { m: 1, c: 32 } } }),
      /^nodes\.1 \(quantise\) makes \["int8".*, but value \d+ is \["int8".*\["c",32\]/,
    ],
    [
      'codes of weights as activations',
      withType(codes, { as: 'weight', scale: { type: 'f16', per: { m: 1 } } }),
      /^nodes\.1 \(quantise\) makes \["int8","activation"/,
    ],
    [
      'a quantisation of codes',
      step(
        'quantise',
        { format: 'int8' },
        [rows(2, 64, activationType('int4', rows(2, 64)))],
        rows(2, 64, activationType('int8', rows(2, 64))),
      ),
      /^quantise: expected numbers for `x` but received codes$/,
    ],
    [
      'blocks that do not divide the channels',
      step('quantise', { format: 'mxfp8_e4m3' }, [rows(2, 40)], rows(2, 40)),
      /^quantise: expected a multiple of 32 for `c` but received 40$/,
    ],
    [
      'halves of an odd width',
      step('silu_mul', {}, [rows(2, 63)], rows(2, 31)),
      /^silu_mul: expected a multiple of 2 for `c` but received 63$/,
    ],
    [
      'a product of images',
      step('dense', {}, [image, { axes: axes(['n', 4], ['k', 8]), type: 'f16' }], rows(2, 4)),
      /^dense: expected two axes for `x` but received b, h, w, c$/,
    ],
    [
      'attention of other rows',
      step('attention', attention, [rows(5, 64)], rows(5, 32)),
      /^attention: expected 6 rows for `qkv` but received 5$/,
    ],
    [
      'attention of other columns',
      step('attention', attention, [rows(6, 60)], rows(6, 32)),
      /^attention: expected 64 columns for `qkv` but received 60$/,
    ],
    [
      'attention with a vector',
      step('attention', attention, [vector(64)], rows(6, 32)),
      /^attention: expected two axes for `qkv` but received c$/,
    ],
    [
      'heads that do not divide',
      step('attention', { ...attention, kvHeads: 3 }, [rows(6, 80)], rows(6, 32)),
      /^attention: expected a divisor of 4 heads for `kvHeads` but received 3$/,
    ],
    [
      'heads of an odd width in pairs',
      step('attention', { ...attention, headDim: 7 }, [rows(6, 56)], rows(6, 28)),
      /^attention: expected an even number, for rotary embedding for `headDim` but received 7$/,
    ],
    [
      'a mask that there is not',
      step('attention', { ...attention, mask: 'sliding' }, [rows(6, 64)], rows(6, 32)),
      /^nodes\.0 \(attention\): mask: /,
    ],
    [
      'interleaved heads of two kinds',
      step('attention', { ...attention, order: 'interleaved' }, [rows(6, 64)], rows(6, 32)),
      /^attention: expected 4, as q, k and v are interleaved per head for `kvHeads`/,
    ],
    // Formats and scales.
    [
      'a format that there is not',
      withType(weight, { format: 'int5' }),
      /^values\.1: expected one of fp16, int4,.* for `format` but received "int5"$/,
    ],
    [
      'weights in a format of activations only',
      withType(codes, { format: 'nf4', as: 'activation' }),
      /there are no activations of format nf4/,
    ],
    [
      'scales of another type',
      withType(weight, { scale: { type: 'e8m0', per: { n: 1, k: 64 } } }),
      /^values\.1: scales of int4 weights are f16, not e8m0$/,
    ],
    ['no scales', withType(weight, { scale: null }), /^values\.1: int4 weights have scales$/],
    [
      'scales of numbers as they are',
      withValue(weight, { type: { format: 'fp16', as: 'weight', scale: { type: 'f16', per: { n: 1 } } } }),
      /^values\.1: fp16 weights have no scales$/,
    ],
    [
      'scales along no axis of the value',
      withType(weight, { scale: { type: 'f16', per: { n: 1, c: 64 } } }),
      /^values\.1: scales vary along c, which is no axis$/,
    ],
    [
      'a layout of scales that are not there',
      withValue(x, { scaleLayout: layout(['m', 1, 2]) }),
      /^values\.0: a layout of scales that it does not have$/,
    ],
    [
      'a layout of scales that codes do not have',
      withValue(weight, { type: { format: 'fp16', as: 'weight', scale: null }, scaleLayout: layout(['n', 1, 32], ['k', 1, 1]) }),
      /^values\.1: a layout of scales that it does not have$/,
    ],
    // Layouts.
    [
      'digits of a foreign axis',
      withValue(x, { layout: layout(['m', 1, 2], ['c', 1, 64], ['k', 1, 1]) }),
      /^values\.0: layout: expected digits of m, c but received one of k$/,
    ],
    [
      'too few places',
      withValue(x, { layout: layout(['m', 1, 2], ['c', 1, 32]) }),
      /^values\.0: layout: expected at least 64 places along c but received 32$/,
    ],
    [
      'no place along an axis',
      withValue(x, { layout: layout(['c', 1, 64]) }),
      /^values\.0: layout: expected at least 2 places along m but received 1$/,
    ],
    [
      'a gap between digits',
      withValue(x, { layout: layout(['m', 1, 2], ['c', 16, 4], ['c', 1, 8]) }),
      /^values\.0: layout is no bijection: axis c has a digit of stride 16 where 8 would continue it$/,
    ],
    ['digits that overlap', withValue(x, { layout: layout(['m', 1, 2], ['c', 4, 16], ['c', 1, 8]) }), /^values\.0: layout is no bijection/],
    [
      'too few scales',
      withValue(weight, { scaleLayout: layout(['n', 1, 16], ['k', 1, 1]) }),
      /^values\.1: scales: layout: expected at least 32 places along n but received 16$/,
    ],
    [
      'scales along an axis that they do not vary along',
      { ...withType(weight, { scale: { type: 'f16', per: { n: 1 } } }) },
      /^values\.1: scales: layout: expected digits of n but received one of k$/,
    ],
    [
      'more bytes than can be counted',
      withValue(x, { axes: axes(['m', 2 ** 31 - 1], ['c', 2 ** 31 - 1]) }),
      /^values\.0: expected fewer than 2\^53 bytes$/,
    ],
    [
      'more places than can be counted',
      withValue(x, { layout: layout(...Array.from({ length: 6 }, (_, i) => ['m', 2 ** (10 * i), 2 ** 10] as const), ['c', 1, 64]) }),
      /^values\.0: layout: axis m has more than 2\^53 places$/,
    ],
  ])('refuses %s', (_, program, message) => {
    expect(() => checkProgram(program)).toThrow(expect.objectContaining({ code: 'BAD_MANIFEST', message: expect.stringMatching(message) }));
  });

  it.each<[string, (json: Json) => void, string]>([
    [
      'no values',
      (json) => {
        json['values'] = [];
      },
      'values',
    ],
    [
      'no nodes',
      (json) => {
        json['nodes'] = [];
      },
      'nodes',
    ],
    [
      'no result',
      (json) => {
        json['outputs'] = [];
      },
      'outputs',
    ],
    [
      'a value without axes',
      (json) => {
        json['values'][0].axes = [];
      },
      'values.0.axes',
    ],
    [
      'an axis of no length',
      (json) => {
        json['values'][0].axes[0].extent = 0;
      },
      'values.0.axes.0.extent',
    ],
    [
      'half a row',
      (json) => {
        json['values'][0].axes[0].extent = 1.5;
      },
      'values.0.axes.0.extent',
    ],
    [
      'an axis without a name',
      (json) => {
        json['values'][0].axes[0].name = '';
      },
      'values.0.axes.0.name',
    ],
    [
      'an axis that every object has',
      (json) => {
        json['values'][0].axes[0].name = 'constructor';
      },
      'values.0.axes.0.name',
    ],
    [
      'scales along what every object has',
      (json) => {
        json['values'][1].type.scale.per = JSON.parse('{"__proto__":1}');
      },
      'values.1.type',
    ],
    [
      'parameters that every object has',
      (json) => {
        json['nodes'][0].params = JSON.parse('{"kind":"layer","eps":1e-5,"__proto__":1}');
      },
      'nodes.0.params',
    ],
    [
      'a type that there is not',
      (json) => {
        json['values'][0].type = 'f64';
      },
      'values.0.type',
    ],
    [
      'an index below zero',
      (json) => {
        json['inputs'][0] = -1;
      },
      'inputs.0',
    ],
    [
      'a field too many',
      (json) => {
        json['values'][0].name = 'x';
      },
      'values.0',
    ],
    [
      'an empty layout',
      (json) => {
        json['values'][1].layout.digits = [];
      },
      'values.1.layout.digits',
    ],
    [
      'a digit of no size',
      (json) => {
        json['values'][1].layout.digits[0].size = 0;
      },
      'values.1.layout.digits.0.size',
    ],
    [
      'bytes to read ahead that are none',
      (json) => {
        json['hints'] = [];
      },
      'hints',
    ],
    [
      'a parameter that is a list',
      (json) => {
        json['nodes'][0].params.eps = [1];
      },
      'nodes.0.params.eps',
    ],
  ])('the schema refuses %s, naming it', (_, change, place) => {
    const json = JSON.parse(JSON.stringify(whole)) as Json;
    change(json);
    const result = programSchema.safeParse(json);
    expect(result.success).toBe(false);
    expect(result.error!.issues[0]!.path.join('.')).toMatch(new RegExp(`^${place.replaceAll('.', '\\.')}`));
  });
});

// A mutated document has no type.
// biome-ignore lint/suspicious/noExplicitAny: so it is
type Json = Record<string, any>;

/** A step of a random program, by what may follow. */
type Step =
  | { readonly kind: 'norm'; readonly layer: boolean }
  | { readonly kind: 'quantise'; readonly format: string; readonly given: boolean }
  | {
      readonly kind: 'dense';
      readonly weight: string;
      readonly n: number;
      readonly group: number;
      readonly padded: boolean;
      readonly tiled: boolean;
    }
  | { readonly kind: 'sum'; readonly of: string; readonly whole: boolean }
  | { readonly kind: 'map'; readonly of: string }
  | { readonly kind: 'tokens'; readonly embed: boolean }
  | { readonly kind: 'conv'; readonly depthwise: boolean }
  | { readonly kind: 'image'; readonly of: (typeof kImageKinds)[number] }
  | { readonly kind: 'heads'; readonly normed: boolean };
const kImageKinds = ['max_pool', 'mean_rows', 'channels', 'interleave'] as const;
const kSums = ['add', 'add_half'];
/** Of two halves of the channels. */
const kHalving = ['silu_mul', 'glu'];
/** What does not follow a matrix in general. */
const kOthers = ['attention', 'patches'];
const maps = operators
  .all()
  .filter(({ id, expression }) => expression !== undefined && !kSums.includes(id))
  .map(({ id }) => id);
const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    fc.record({ kind: fc.constant('norm' as const), layer: fc.boolean() }),
    fc.record({
      kind: fc.constant('quantise' as const),
      format: fc.constantFrom(
        ...activationFormats()
          .filter(({ activation }) => activation.scale)
          .map(({ id }) => id),
      ),
      given: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant('dense' as const),
      weight: fc.constantFrom(...weightFormats().map(({ id }) => id)),
      n: fc.integer({ min: 1, max: 4 }).map((n) => 32 * n),
      group: fc.nat(2),
      padded: fc.boolean(),
      tiled: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('sum' as const), of: fc.constantFrom(...kSums), whole: fc.boolean() }),
    fc.record({ kind: fc.constant('map' as const), of: fc.constantFrom(...maps) }),
    fc.record({ kind: fc.constant('tokens' as const), embed: fc.boolean() }),
    fc.record({ kind: fc.constant('conv' as const), depthwise: fc.boolean() }),
    fc.record({ kind: fc.constant('image' as const), of: fc.constantFrom(...kImageKinds) }),
    fc.record({ kind: fc.constant('heads' as const), normed: fc.boolean() }),
  ),
  { minLength: 1, maxLength: 7 },
);

/** Puts the steps one after the other; those that do not follow what is there are left out. */
function chainOf(m: number, c: number, all: readonly Step[], rounded: readonly boolean[]): Program | null {
  const values: Value[] = [];
  const nodes: Node[] = [];
  const inputs: number[] = [];
  const add = (value: Value): number => values.push(value) - 1;
  const argument = (value: Value): number => {
    inputs.push(add(value));
    return values.length - 1;
  };
  let at = argument(rows(m, c));
  const make = (kind: string, params: Parameters, read: readonly number[]): void => {
    const [made] = operators.get(kind).infer(
      params,
      read.map((value) => values[value]!),
    );
    at = add(isQuantised(made!.type) || !rounded[nodes.length % rounded.length] ? made! : { ...made!, type: 'f16' });
    nodes.push({ kind, params, inputs: read, outputs: [at] });
  };
  for (const one of all) {
    const width = values[at]!.axes[1]!.extent;
    switch (one.kind) {
      case 'norm':
        make('norm', { kind: one.layer ? 'layer' : 'rms', eps: 1e-5 }, [
          at,
          argument(vector(width)),
          ...(one.layer ? [argument(vector(width))] : []),
        ]);
        break;
      case 'quantise':
        if (!isQuantised(values[at]!.type)) {
          const given = one.given && formats.get(one.format).activation!.group === -1;
          const scale = (): number => argument({ axes: axes(['one', 1]), type: 'f32' });
          make('quantise', { format: one.format }, given ? [at, scale()] : [at]);
        }
        break;
      case 'dense': {
        const { groups } = weightFormat(one.weight).weight;
        const group = groups[one.group % groups.length]!;
        if (group > 0 && width % group !== 0) break;
        const places = one.padded ? one.n + 32 : one.n;
        const digits = one.tiled
          ? ([
              ['n', 16, places / 16],
              ['k', 1, width],
              ['n', 1, 16],
            ] as const)
          : ([
              ['k', 1, width],
              ['n', 1, places],
            ] as const);
        make('dense', {}, [
          at,
          argument({ axes: axes(['n', one.n], ['k', width]), type: weightType(one.weight, group), layout: layout(...digits) }),
        ]);
        break;
      }
      case 'sum':
        make(one.of, {}, [at, argument(one.whole ? rows(values[at]!.axes[0]!.extent, width) : vector(width))]);
        break;
      case 'conv': {
        const height = values[at]!.axes[0]!.extent;
        const groups = one.depthwise ? width : 1;
        const weight = { axes: axes(['n', width], ['k', (3 * width) / groups]), type: 'f16' } as const;
        const params = { batch: 1, height, width: 1, kernelY: 3, kernelX: 1, stride: 1, paddingY: 1, paddingX: 0, groups };
        make('conv', params, [at, argument(weight)]);
        break;
      }
      case 'tokens': {
        const tokens = values[at]!.axes[0]!.extent + 1;
        if (one.embed) make('embed_tokens', { batch: 1 }, [at, argument(vector(width)), argument(rows(tokens, width))]);
        else make('first_rows', { batch: 1 }, [at]);
        break;
      }
      case 'image': {
        const height = values[at]!.axes[0]!.extent;
        if (one.of === 'max_pool') make(one.of, { batch: 1, height, width: 1, kernel: 3, stride: 2, padding: 1 }, [at]);
        if (one.of === 'mean_rows') make(one.of, { batch: 1 }, [at]);
        if (one.of === 'channels' && width > 32) make(one.of, { first: 32, count: width - 32 }, [at]);
        if (one.of === 'interleave') make(one.of, {}, [at, argument(rows(height, width))]);
        break;
      }
      case 'heads': {
        const heads = width / 32 - 2;
        if (heads < 1 || !Number.isInteger(heads)) break;
        const scaling = { factor: 8, lowFactor: 1, highFactor: 4, originalPositions: 64 };
        make('query_key', { seq: 1, heads, kvHeads: 1, headDim: 32, position: 'rope', ropeBase: 1e4, ...scaling, eps: 1e-5 }, [
          at,
          ...(one.normed ? [argument(vector(32)), argument(vector(32))] : []),
        ]);
        break;
      }
      case 'map':
        if (!kHalving.includes(one.of) || width % 64 === 0) make(one.of, {}, [at]);
        break;
    }
  }
  return nodes.length === 0 ? null : { values, nodes, inputs, outputs: [at] };
}

const programs = fc
  .tuple(
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 1, max: 4 }).map((n) => 64 * n),
    steps,
    fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
  )
  .map(([m, c, all, rounded]) => chainOf(m, c, all, rounded))
  .filter((program): program is Program => program !== null);

/** What anything may do with a program that checkProgram passed; throws nothing but LadderErrors. */
function use(program: Program): void {
  const { inputs, outputs } = programTensors(program);
  for (const { elements, shape } of [...inputs, ...outputs]) expect(shape.reduce((product, extent) => product * extent, 1)).toBe(elements);
  outputs.forEach((_, i) => expect(toleranceOf(program, i).relativeL2).toBeGreaterThanOrEqual(0));
  expect(endToEndTolerance([program]).relativeL2).toBeGreaterThanOrEqual(0);
  nativeProgram(program);
  orLadderError(() => selectOrThrow(program, layoutTarget));
}

function orLadderError<T>(attempt: () => T): T | null {
  try {
    return attempt();
  } catch (error) {
    if (!(error instanceof LadderError)) throw error;
    return null;
  }
}

describe('random programs', () => {
  const kSeed = 20241125;

  it('pass, in both forms, and have tensors, tolerances and a native form: 2000', () => {
    const kinds = new Set<string>();
    fc.assert(
      fc.property(programs, (program) => {
        checkProgram(program);
        const read = programSchema.parse(JSON.parse(JSON.stringify(program)));
        expect(read).toEqual(program);
        checkProgram(read);
        use(program);
        expect([...program.inputs, ...program.outputs].reduce((sum, value) => sum + valueBytes(program.values[value]!), 0)).toBeGreaterThan(
          0,
        );
        for (const { kind } of program.nodes) kinds.add(kind);
      }),
      { numRuns: 2000, seed: kSeed },
    );
    expect([...kinds].sort()).toEqual(
      operators
        .ids()
        .filter((id) => !kOthers.includes(id))
        .sort(),
    );
  });

  it('mutated in one place, are programs or LadderErrors: 20000', { timeout: 120_000 }, () => {
    const tally = { schema: 0, refused: 0, passed: 0 };
    fc.assert(
      fc.property(programs, jsonMutations, (program, [mutation]) => {
        const text = mutateJson(JSON.stringify(program), [mutation!]);
        const parsed = programSchema.safeParse(JSON.parse(text));
        if (!parsed.success) {
          tally.schema += 1;
          return;
        }
        // Nothing vanishes on the way.
        expect(JSON.parse(JSON.stringify(parsed.data))).toEqual(JSON.parse(text.replace(/-0(?=[,\]}])/g, '0')));
        const passed = orLadderError(() => {
          checkProgram(parsed.data);
          return true;
        });
        if (!passed) {
          expect(() => checkProgram(parsed.data)).toThrow(expect.objectContaining({ code: 'BAD_MANIFEST' }));
          tally.refused += 1;
          return;
        }
        tally.passed += 1;
        use(parsed.data);
      }),
      { numRuns: 20_000, seed: kSeed },
    );
    // Neither all fatal nor all harmless, or they would test little.
    for (const count of Object.values(tally)) expect(count).toBeGreaterThan(400);
  });

  it('of any two kinds exchanged, are refused or mean something', () => {
    fc.assert(
      fc.property(programs, fc.nat(), fc.constantFrom(...operators.ids()), (program, at_, kind) => {
        const at = at_ % program.nodes.length;
        const other = { ...program, nodes: program.nodes.map((node, i) => (i === at ? { ...node, kind } : node)) };
        if (
          orLadderError(() => {
            checkProgram(other);
            return true;
          })
        )
          use(other);
      }),
      { numRuns: 2000, seed: kSeed },
    );
  });
});

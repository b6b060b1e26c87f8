// The grammar of checkpoints' names: what the authors wrote, what this project adds, what is refused, and what paths in logs
// say where they hold something else.
import { beforeAll, describe, expect, it } from 'vitest';
import { caseOfName, caseOfPath, checkpointName, parseCheckpointName } from '../../lib/artifact/names.js';
import { formats as formatRecords, weightFormats, activationFormats } from '../../lib/formats/index.js';
import { defineFormat, plainWord } from '../../lib/formats/format.js';
import { models } from '../../lib/models/index.js';

const llms = ['llama2-70b', 'bloom-176b'];
const shapes = [
  [1, 1],
  [32, 1],
  [1, 4096],
] as const;
const formats = [
  ['fp16', 'fp16', -1, null],
  ['int4', 'fp16', -1, 'int_4_-1'],
  ['nf4', 'fp16', -1, 'nf_4_-1'],
  ['fp8_e5m2', 'fp8_e5m2', -1, 'fp_e5m2_8_-1'],
  ['mxfp8_e5m2', 'mxfp8_e5m2', 32, 'mxfp_8_-1'],
  ['int1', 'int8', -1, 'int_1_-1'],
] as const;

describe('names of LLM checkpoints', () => {
  const cases = llms.flatMap((model) =>
    shapes.flatMap(([batch, seq]) =>
      formats.map(([weight, activation, group, words]) => ({ model, batch, seq, weight, activation, group, words })),
    ),
  );
  it('are 36', () => expect(cases).toHaveLength(36));
  it.each(cases)('$model bs$batch seq$seq $weight $activation', ({ model, batch, seq, weight, activation, group, words }) => {
    const expected = words
      ? `llama2_fq_0_${words}_bs${batch}_seq${seq}_ci_${activation === 'int8' ? 'True' : 'False'}_async`
      : `llama2_bs${batch}_seq${seq}_async`;
    expect(checkpointName({ model, batch, seq, format: { weight, activation, group } })).toBe(expected);
    expect(parseCheckpointName(expected, model)).toEqual({
      model,
      batch,
      seq,
      layers: 1,
      mask: 'none',
      weight,
      activation,
      group: -1,
      async: true,
      holistic: false,
    });
  });

  it('knows groups, layers and formats beyond the figure', () => {
    const named = { model: 'llama2-70b', batch: 1, seq: 1 };
    for (const [name, request] of [
      ['llama2_fq_0_int_4_128_bs1_seq1_ci_False_async', { ...named, format: { weight: 'int4', activation: 'fp16', group: 128 } }],
      ['llama2_fq_0_int_8_-1_bs1_seq1_ci_True_async', { ...named, format: { weight: 'int8', activation: 'int8', group: -1 } }],
      ['llama2_fq_0_int_8_-1_bs1_seq1_ci_False_async', { ...named, format: { weight: 'int8', activation: 'fp16', group: -1 } }],
      ['llama2_fq_0_nf_4_64_bs1_seq1_ci_False_async', { ...named, format: { weight: 'nf4', activation: 'fp16', group: 64 } }],
      [
        'llama2_fq_0_mxfp_e4m3_8_-1_bs1_seq1_ci_False_async',
        { ...named, format: { weight: 'mxfp8_e4m3', activation: 'mxfp8_e4m3', group: -1 } },
      ],
      ['llama2_fq_0_fp_e5m2_8_-1_bs1_seq1_ci_True_async', { ...named, format: { weight: 'fp8_e5m2', activation: 'int8', group: -1 } }],
      ['llama2_fq_0_fp_e4m3_8_-1_bs1_seq1_ci_False_async', { ...named, format: { weight: 'fp8_e4m3', activation: 'fp8_e4m3', group: -1 } }],
      ['llama2_bs1_seq1_causal_async', { ...named, mask: 'causal', format: { weight: 'fp16', activation: 'fp16', group: -1 } }],
      [
        'llama2_bs1_seq1_layers2_causal_async',
        { ...named, layers: 2, mask: 'causal', format: { weight: 'fp16', activation: 'fp16', group: -1 } },
      ],
      ['llama2_bs1_seq1_layers2_async', { ...named, layers: 2, format: { weight: 'fp16', activation: 'fp16', group: -1 } }],
    ] as const) {
      expect(checkpointName(request)).toBe(name);
      const { format, ...rest } = request;
      expect(parseCheckpointName(name, 'llama2-70b')).toMatchObject({ ...rest, ...format });
    }
  });

  it('are another case with a mask', () => {
    expect(caseOfPath('llama2-70b/llama2_bs1_seq4096_causal_async').setting).toBe('bs1_seq4096_causal');
  });

  it('say the model only through the folder above', () => {
    expect(parseCheckpointName('llama2_bs1_seq1_async', 'somewhere')?.model).toBeNull();
    expect(parseCheckpointName('llama2_bs1_seq1_async', 'bloom-176b')?.model).toBe('bloom-176b');
  });
});

describe('names of networks', () => {
  it.each([
    ['Conformer', 'conformer', 128, 'fp16', 'fp16'],
    ['Conformer-b1', 'conformer', 1, 'fp16', 'fp16'],
    ['Conformer_fq_0_int_4_ci_True', 'conformer', 128, 'int4', 'int8'],
    ['Conformer_fq_0_int4b_4_ci_False', 'conformer', 128, 'int4', 'int4'],
    ['resnet-50', 'resnet-50', 128, 'fp16', 'fp16'],
    ['resnet-50-b1', 'resnet-50', 1, 'fp16', 'fp16'],
    ['resnet-50_fq_0_int4b_1_ci_False', 'resnet-50', 128, 'int1', 'int4'],
    ['resnet-50_fq_0_mxfp_8_ci_False', 'resnet-50', 128, 'mxfp8_e5m2', 'mxfp8_e5m2'],
    ['resnet-50-b1_fq_0_fp_e5m2_8_ci_False_async', 'resnet-50', 1, 'fp8_e5m2', 'fp8_e5m2'],
    ['shufflenet', 'shufflenet-v2', 128, 'fp16', 'fp16'],
    ['shufflenet_fq_0_fp_e5m2_8_ci_False', 'shufflenet-v2', 128, 'fp8_e5m2', 'fp8_e5m2'],
    ['shufflenet-b1_fq_0_fp_e5m2_8_ci_False_async', 'shufflenet-v2', 1, 'fp8_e5m2', 'fp8_e5m2'],
    ['vit-b1', 'vit', 1, 'fp16', 'fp16'],
    ['vit_fq_0_int4b_1_ci_False', 'vit', 128, 'int1', 'int4'],
    ['vit-b1_fq_0_int4b_4_ci_False_holistic_fp16', 'vit', 1, 'int4', 'int4'],
    // Batches, networks and images that the authors do not have.
    ['resnet-50-b2', 'resnet-50', 2, 'fp16', 'fp16'],
    ['shufflenet-b1024_fq_0_fp_e5m2_8_ci_False', 'shufflenet-v2', 1024, 'fp8_e5m2', 'fp8_e5m2'],
    ['resnet-18', 'resnet-18', 128, 'fp16', 'fp16'],
    ['resnet-50-288', 'resnet-50-288', 128, 'fp16', 'fp16'],
    ['shufflenet-64-b7', 'shufflenet-v2-64', 7, 'fp16', 'fp16'],
    ['vit-base-patch16-384-b3_fq_0_int4b_4_ci_False', 'vit-base-patch16-384', 3, 'int4', 'int4'],
  ] as const)('%s', (name, model, batch, weight, activation) => {
    const parsed = parseCheckpointName(name, model);
    expect(parsed).toEqual({
      model,
      batch,
      seq: 1,
      layers: 1,
      mask: 'none',
      weight,
      activation,
      group: -1,
      async: name.includes('_async'),
      holistic: name.includes('_holistic'),
    });
    expect(checkpointName({ model, batch, seq: 1, format: { weight, activation, group: -1 } })).toBe(name);
  });
});

it.each([
  '',
  'llama2',
  'llama2_bs0_seq1_async',
  'llama2_bs1_seq1_async_',
  'llama2_fq_0_int_3_-1_bs1_seq1_ci_False_async',
  'llama2_fq_0_int_4_bs1_seq1_ci_False_async',
  'llama2_fq_0_int4b_4_-1_bs1_seq1_ci_True_async',
  'resnet-51',
  'resnet-50-b0',
  'resnet-50-b1025',
  'resnet-50-289-b1',
  'Conformer-64-b1',
  'vit_fq_0_int_4_ci_Maybe',
  'xresnet-50',
  '__proto__',
])('does not know %j', (name) => {
  expect(parseCheckpointName(name, 'llama2-70b')).toBeNull();
});

it('says each pair of formats in one way, and reads it back', () => {
  const said = weightFormats().flatMap(({ id: weight }) =>
    activationFormats().flatMap(({ id: activation }) => {
      const request = { model: 'llama2-70b', batch: 1, seq: 1, format: { weight, activation, group: -1 } };
      try {
        return [[checkpointName(request), weight, activation] as const];
      } catch {
        return [];
      }
    }),
  );
  expect(said).toHaveLength(20);
  expect(new Set(said.map(([name]) => name)).size).toBe(said.length);
  for (const [name, weight, activation] of said) expect(parseCheckpointName(name, 'llama2-70b')).toMatchObject({ weight, activation });
});

describe('records that are added', () => {
  const toy = defineFormat({
    id: 'toy3_a',
    label: 'TOY3',
    element: { bits: 3, codes: { kind: 'integer', min: -4, max: 3 } },
    weight: {
      tvm: 'uint8',
      scale: { type: 'f16', fit: { kind: 'mean' }, choice: 'absmax' },
      groups: [-1, 64],
      pairedWith: 'fp16',
      word: { format: 'toy_kind', bits: 3 },
      fill: () => ({ kind: 'bits' }),
      meanSquare: 1,
    },
    activation: {
      tvm: 'int8',
      scale: { type: 'f32', fit: { kind: 'absmax', top: 3 } },
      group: -1,
      arithmetic: 'int8',
      word: (weight) => (weight.id === 'toy3_a' ? plainWord(weight) : null),
      probe: { kind: 'bits' },
      scaleProbe: { kind: 'bits' },
    },
  });
  beforeAll(() => {
    formatRecords.add(toy);
    models.add({
      id: 'toy-net',
      label: 'Toy',
      kind: 'network',
      figure8: null,
      checkpoint: { prefix: 'Toy.net', shared: false, quantisedSuffix: '_async' },
      pattern: /toy/i,
    });
  });

  it('are said and read without a change here', () => {
    const name = 'llama2_fq_0_toy_kind_3_64_bs1_seq1_ci_True_async';
    const format = { weight: 'toy3_a', activation: 'int8', group: 64 };
    expect(checkpointName({ model: 'bloom-tiny', batch: 1, seq: 1, format })).toBe(name);
    expect(parseCheckpointName(name, 'bloom-tiny')).toMatchObject({ model: 'bloom-tiny', ...format });
    expect(caseOfPath(`/a/bloom-176b/${name}`)).toEqual({ model: 'bloom-176b', setting: 'bs1_seq1', format: 'W_TOY3 A_INT8 g64' });
    const network = 'Toy.net-b1_fq_0_toy_kind_3_ci_False_async';
    expect(checkpointName({ model: 'toy-net', batch: 1, seq: 1, format: { weight: 'toy3_a', activation: 'toy3_a', group: -1 } })).toBe(
      network,
    );
    expect(parseCheckpointName(network, '')).toMatchObject({ model: 'toy-net', batch: 1, weight: 'toy3_a', activation: 'toy3_a' });
    expect(parseCheckpointName(network.replace('.', 'x'), '')).toBeNull();
    expect(caseOfPath('/a/Toy.net')).toEqual({ model: 'toy-net', setting: 'bs128', format: 'W_FP16 A_FP16' });
  });
});

it("a name as a case: a name that leaves its model open is a layer's", () => {
  expect(caseOfName(parseCheckpointName('llama2_bs1_seq1_async', 'somewhere')!)).toEqual({
    model: null,
    setting: 'bs1_seq1',
    format: 'W_FP16 A_FP16',
  });
  expect(caseOfName(parseCheckpointName('vit-b1', 'somewhere')!)).toEqual({ model: 'vit', setting: 'bs1', format: 'W_FP16 A_FP16' });
});

describe('paths in logs', () => {
  it.each([
    ['/a/bloom-176b/llama2_fq_0_int_1_-1_bs32_seq1_ci_True_async', 'bloom-176b', 'bs32_seq1', 'W_INT1 A_INT8'],
    ['/a/llama2-70b/llama2_bs1_seq4096_async', 'llama2-70b', 'bs1_seq4096', 'W_FP16 A_FP16'],
    ['/a/llama2-70b/llama2_fq_0_mxfp_8_-1_bs1_seq1_ci_False_async', 'llama2-70b', 'bs1_seq1', 'W_MXFP8 A_MXFP8'],
    ['/a/llama2-70b/llama2_fq_0_mxfp_e4m3_8_-1_bs1_seq1_ci_False_async', 'llama2-70b', 'bs1_seq1', 'W_MXFP8 A_MXFP8 (e4m3)'],
    ['/a/llama2-70b/llama2_fq_0_int_4_128_bs1_seq1_ci_False_async', 'llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16 g128'],
    ['/a/resnet-50-b1_fq_0_int4b_1_ci_False_async', 'resnet-50', 'bs1', 'W_INT1 A_INT4'],
    ['/a/vit-b1_fq_0_fp_e5m2_8_ci_False_holistic_fp16', 'vit', 'bs1', 'W_FP8 A_FP8'],
    ['/a/Conformer', 'conformer', 'bs128', 'W_FP16 A_FP16'],
  ])('of the authors: %s', (path, model, setting, format) => {
    expect(caseOfPath(path)).toEqual({ model, setting, format });
  });

  it.each([
    // No group, another word of quantisation, other words for shapes, something else at the end, a folder of another name.
    ['/a/llama2-70b/llama2_fq_0_int_4_bs1_seq1_ci_False_async/', 'llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16'],
    ['/a/llama2-70b/llama2_fq_1_nf_4_-1_bs1_seq1_ci_False', 'llama2-70b', 'bs1_seq1', 'W_NF4 A_FP16'],
    ['bloom-176b-old/llama-layer1-seq1-bs32', 'bloom-176b', 'bs32_seq1', 'W_FP16 A_FP16'],
    ['somewhere/llama2_bs1_seq1_async', 'llama2-70b', 'bs1_seq1', 'W_FP16 A_FP16'],
    ['llama2-70b/bloom_b1_s4096', 'bloom-176b', 'bs1_seq4096', 'W_FP16 A_FP16'],
    ['/a/resnet50_b2_fq_0_fp_e5m2_8_ci_False_copy', 'resnet-50', 'bs2', 'W_FP8 A_FP8'],
    ['/a/shufflenet_v2_fq_0_int4b_4_ci_True', 'shufflenet-v2', 'bs128', 'W_INT4 A_INT4'],
    ['/a/vit/checkpoint', 'vit', 'bs128', 'W_FP16 A_FP16'],
    // Widths that no format has.
    ['/a/llama2-70b/llama2_fq_0_int_2_-1_bs1_seq1_ci_False_async', 'llama2-70b', 'bs1_seq1', 'W_INT2 A_FP16'],
    ['/a/llama2-70b/llama2_fq_0_int_2_-1_bs1_seq1_ci_True_async', 'llama2-70b', 'bs1_seq1', 'W_INT2 A_INT8'],
    ['/a/resnet-50_fq_0_int4b_2_ci_False', 'resnet-50', 'bs128', 'W_INT2 A_INT4'],
    ['/a/resnet-50_fq_0_mxfp_6_ci_False', 'resnet-50', 'bs128', 'W_MXFP6 A_MXFP6'],
    // What a name does not say is null.
    ['/a/llama2-70b/llama2_fq_0_new_3_-1_bs1_seq1_ci_False_async', 'llama2-70b', 'bs1_seq1', null],
    ['/a/llama2-70b/llama2_fq_0_int_4_-1_bs1_seq1', 'llama2-70b', 'bs1_seq1', null],
    ['/a/llama2-70b/llama2_async', 'llama2-70b', null, 'W_FP16 A_FP16'],
    ['/a/unknown', null, null, 'W_FP16 A_FP16'],
    ['', null, null, 'W_FP16 A_FP16'],
  ])('of another make: %s', (path, model, setting, format) => {
    expect(caseOfPath(path)).toEqual({ model, setting, format });
  });
});

it('refuses what no name can say', () => {
  const format = { weight: 'fp16', activation: 'fp16', group: -1 } as const;
  expect(() => checkpointName({ model: 'gpt', batch: 1, seq: 1, format })).toThrow(/gpt/);
  expect(() => checkpointName({ model: 'vit', batch: 1025, seq: 1, format })).toThrow(/batch/);
  expect(() => checkpointName({ model: 'vit', batch: 1, seq: 1, format: { ...format, weight: 'fp8_e5m2', activation: 'int4' } })).toThrow(
    /fp8_e5m2/,
  );
});

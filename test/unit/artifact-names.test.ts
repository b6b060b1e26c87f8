import { describe, expect, it } from 'vitest';
import { checkpointName, parseCheckpointName } from '../../lib/artifact/names.js';

const llms = ['llama2-70b', 'bloom-176b'];
const shapes = [[1, 1], [32, 1], [1, 4096]] as const;
const formats = [
  ['fp16', 'fp16', -1, null],
  ['int4', 'fp16', -1, 'int_4_-1'],
  ['nf4', 'fp16', -1, 'nf_4_-1'],
  ['fp8_e5m2', 'fp8_e5m2', -1, 'fp_e5m2_8_-1'],
  ['mxfp8_e5m2', 'mxfp8_e5m2', 32, 'mxfp_8_-1'],
  ['int1', 'int8', -1, 'int_1_-1'],
] as const;

describe('names of LLM checkpoints', () => {
  const cases = llms.flatMap((model) => shapes.flatMap(([batch, seq]) => formats.map(([weight, activation, group, words]) => ({ model, batch, seq, weight, activation, group, words }))));
  it('are 36', () => expect(cases).toHaveLength(36));
  it.each(cases)('$model bs$batch seq$seq $weight $activation', ({ model, batch, seq, weight, activation, group, words }) => {
    const expected = words ? `llama2_fq_0_${words}_bs${batch}_seq${seq}_ci_${activation === 'int8' ? 'True' : 'False'}_async` : `llama2_bs${batch}_seq${seq}_async`;
    expect(checkpointName({ model, batch, seq, format: { weight, activation, group } })).toBe(expected);
    expect(parseCheckpointName(expected, model)).toEqual({ model, batch, seq, layers: 1, weight, activation, group: -1, async: true, holistic: false });
  });

  it('knows groups, layers and formats beyond the figure', () => {
    const named = { model: 'llama2-70b', batch: 1, seq: 1 };
    for (const [name, request] of [
      ['llama2_fq_0_int_4_128_bs1_seq1_ci_False_async', { ...named, format: { weight: 'int4', activation: 'fp16', group: 128 } }],
      ['llama2_fq_0_int_8_-1_bs1_seq1_ci_True_async', { ...named, format: { weight: 'int8', activation: 'int8', group: -1 } }],
      ['llama2_fq_0_fp_e4m3_8_-1_bs1_seq1_ci_False_async', { ...named, format: { weight: 'fp8_e4m3', activation: 'fp8_e4m3', group: -1 } }],
      ['llama2_bs1_seq1_layers2_async', { ...named, layers: 2, format: { weight: 'fp16', activation: 'fp16', group: -1 } }],
    ] as const) {
      expect(checkpointName(request)).toBe(name);
      const { format, ...rest } = request;
      expect(parseCheckpointName(name, 'llama2-70b')).toMatchObject({ ...rest, ...format });
    }
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
  ] as const)('%s', (name, model, batch, weight, activation) => {
    const parsed = parseCheckpointName(name, model);
    expect(parsed).toEqual({ model, batch, seq: 1, layers: 1, weight, activation, group: -1, async: name.includes('_async'), holistic: name.includes('_holistic') });
    expect(checkpointName({ model, batch, seq: 1, format: { weight, activation, group: -1 } })).toBe(name);
  });
});

it.each(['', 'llama2', 'llama2_bs0_seq1_async', 'llama2_bs1_seq1_async_', 'llama2_fq_0_int_3_-1_bs1_seq1_ci_False_async', 'llama2_fq_0_int_4_bs1_seq1_ci_False_async',
  'llama2_fq_0_int4b_4_-1_bs1_seq1_ci_True_async', 'resnet-51', 'resnet-50-b2', 'vit_fq_0_int_4_ci_Maybe', 'xresnet-50', '__proto__'])('does not know %j', (name) => {
  expect(parseCheckpointName(name, 'llama2-70b')).toBeNull();
});

it('refuses what no name can say', () => {
  const format = { weight: 'fp16', activation: 'fp16', group: -1 } as const;
  expect(() => checkpointName({ model: 'gpt', batch: 1, seq: 1, format })).toThrow(/gpt/);
  expect(() => checkpointName({ model: 'vit', batch: 2, seq: 1, format })).toThrow(/batch/);
  expect(() => checkpointName({ model: 'vit', batch: 1, seq: 1, format: { ...format, weight: 'fp8_e5m2', activation: 'int4' } })).toThrow(/fp8_e5m2/);
});

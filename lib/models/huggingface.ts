/**
 * config.json of Hugging Face's transformers: what a decoder layer is, for the model types that are known here. Every entry is read,
 * known to have no effect on a layer's numbers, or refused by name.
 */
import { LadderError } from '../errors.js';
import type { ModelConfig } from './config.js';
import type { RopeScaling } from './llama.js';

/** How a folder's weights are stored where they are quantised already. */
export interface StoredQuantisation {
  readonly method: 'gptq' | 'awq' | 'fp8';
  /** The format of ours that holds them as they are. */
  readonly weight: string;
  readonly group: number;
}

export interface ConfiguredLayers {
  readonly config: ModelConfig;
  /** Decoder layers that the model has. */
  readonly layers: number;
  /** null: floating-point numbers. */
  readonly stored: StoredQuantisation | null;
}

/** Tokens, embeddings, generation, training and bookkeeping: outside a decoder layer, or without effect on inference. */
const kWithoutEffect = new Set(
  `architectures model_type transformers_version torch_dtype dtype _name_or_path vocab_size bos_token_id eos_token_id pad_token_id
  unk_token_id sep_token_id decoder_start_token_id tie_word_embeddings tie_encoder_decoder use_cache initializer_range
  max_position_embeddings attention_dropout hidden_dropout dropout pretraining_tp slow_but_exact return_dict output_hidden_states
  output_attentions torchscript chunk_size_feed_forward problem_type id2label label2id finetuning_task task_specific_params prefix
  max_window_layers seq_length offset_alibi attention_softmax_in_fp32 masked_softmax_fusion bias_dropout_fusion skip_bias_add
  skip_bias_add_qkv`
    .split(/\s+/)
    .filter((word) => word !== ''),
);

/** Entries with which a layer is what the builder makes; other values are refused. */
const kNeutral: Readonly<Record<string, readonly unknown[]>> = {
  sliding_window: [null],
  use_sliding_window: [false, null],
  is_decoder: [true, false],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  cross_attention_hidden_size: [null],
  partial_rotary_factor: [1, null],
  apply_residual_connection_post_layernorm: [false],
  pruned_heads: [null],
  n_inner: [null],
};

/** The same of quantization_config: how codes were found, and how others run them. Zero points are read from the weights. */
const kQuantisedWithoutEffect = new Set(
  `desc_act damp_percent true_sequential static_groups model_seqlen dataset block_name_to_quantize tokenizer use_cuda_fp16 batch_size
  module_name_preceding_first_block cache_block_outputs pad_token_id modules_in_block_to_quantize use_exllama exllama_config
  disable_exllama max_input_length backend meta model_name_or_path model_file_base_name quantizer zero_point do_fuse modules_to_fuse
  fuse_max_seq_len modules_to_not_convert ignored_layers lm_head`.split(/\s+/),
);

/** Takes entries out of a config, so that what is left over is seen. */
class Entries {
  private readonly left: Map<string, unknown>;

  constructor(
    private readonly json: Readonly<Record<string, unknown>>,
    private readonly where: string,
  ) {
    this.left = new Map(Object.entries(json));
  }

  take(name: string, absent?: unknown): unknown {
    this.left.delete(name);
    return this.json[name] ?? absent;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.json, name);
  }

  number(names: string | readonly string[], absent?: number): number {
    const all = typeof names === 'string' ? [names] : names;
    const values = all.map((name) => this.take(name));
    const value = values.find((one) => one !== undefined) ?? absent;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    throw this.bad(all.join(' or '), 'a positive number', value);
  }

  whole(names: string | readonly string[], absent?: number): number {
    const value = this.number(names, absent);
    if (!Number.isSafeInteger(value)) throw this.bad([names].flat().join(' or '), 'an integer', value);
    return value;
  }

  flag(name: string, absent: boolean): boolean {
    const value = this.take(name, absent);
    if (typeof value !== 'boolean') throw this.bad(name, 'true or false', value);
    return value;
  }

  bad(name: string, expected: string, value: unknown): LadderError {
    return new LadderError('BAD_ARGUMENT', `${this.where}: expected ${expected} for ${name} but received ${JSON.stringify(value)}`, {
      entry: name,
    });
  }

  unsupported(name: string, value: unknown, what = ''): LadderError {
    return new LadderError(
      'UNSUPPORTED',
      `${this.where}: ${name} = ${JSON.stringify(value)} is not what layers are built for here${what}`,
      {
        entry: name,
      },
    );
  }

  /** @throws LadderError `UNSUPPORTED` naming the first entry that nothing here knows */
  finish(withoutEffect: ReadonlySet<string> = kWithoutEffect): void {
    for (const [name, value] of this.left) {
      if (withoutEffect.has(name) || kNeutral[name]?.includes(value)) continue;
      throw this.unsupported(name, value);
    }
  }
}

/**
 * Reads a config.
 * @param text contents of config.json
 * @param where its path, for messages
 * @throws LadderError `BAD_ARGUMENT` for entries that are missing or of another type, `UNSUPPORTED` naming what is not known
 */
export function readModelConfig(text: string, where: string): ConfiguredLayers {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new LadderError('BAD_ARGUMENT', `${where} is not JSON: ${(cause as Error).message}`, {}, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new LadderError('BAD_ARGUMENT', `expected an object in ${where}`);
  const entries = new Entries(json as Record<string, unknown>, where);
  const type = entries.take('model_type');
  const stored = storedQuantisation(entries);
  const read = kFamilies.get(String(type));
  if (!read) throw entries.unsupported('model_type', type, `; known are ${[...kFamilies.keys()].join(', ')}`);
  const { config, layers } = read(entries);
  entries.finish();
  return { config, layers, stored };
}

/** Takes what a layer is made of. */
type Family = (entries: Entries) => { readonly config: ModelConfig; readonly layers: number };

/** By `model_type`. */
const kFamilies: ReadonlyMap<string, Family> = new Map<string, Family>([
  [
    'llama',
    (entries) => {
      const bias = entries.flag('attention_bias', false);
      return llamaLike(entries, { qkvBias: bias, outputBias: bias, mlpBias: entries.flag('mlp_bias', false), manyKeys: true });
    },
  ],
  [
    'mistral',
    (entries) => {
      // Unsaid, it is 4096.
      const window = entries.take('sliding_window', entries.has('sliding_window') ? null : 4096);
      if (window !== null) throw entries.unsupported('sliding_window', window);
      return llamaLike(entries, {});
    },
  ],
  [
    'qwen2',
    (entries) => {
      noWindow(entries);
      return llamaLike(entries, { qkvBias: true });
    },
  ],
  [
    'qwen3',
    (entries) => {
      noWindow(entries);
      const bias = entries.flag('attention_bias', false);
      return llamaLike(entries, { qkvBias: bias, outputBias: bias, headNorm: true, headDim: 128 });
    },
  ],
  [
    'bloom',
    (entries) => {
      const hidden = entries.whole(['hidden_size', 'n_embed']);
      const heads = entries.whole(['n_head', 'num_attention_heads']);
      if (hidden % heads !== 0) throw entries.bad('n_head', `a divisor of ${hidden}`, heads);
      return {
        config: { family: 'bloom', hidden, heads, eps: entries.number('layer_norm_epsilon', 1e-5) },
        layers: entries.whole(['n_layer', 'num_hidden_layers']),
      };
    },
  ],
]);

/** Where no window is used, the size of one says nothing. */
function noWindow(entries: Entries): void {
  if (entries.flag('use_sliding_window', false)) throw entries.unsupported('use_sliding_window', true);
  entries.take('sliding_window');
}

interface LlamaOptions {
  readonly qkvBias?: boolean;
  readonly outputBias?: boolean;
  readonly mlpBias?: boolean;
  readonly headNorm?: boolean;
  /** Unsaid, there are as many key heads as query heads; absent: it is said. */
  readonly manyKeys?: boolean;
  /** Default of transformers; absent: hidden_size / num_attention_heads. */
  readonly headDim?: number;
}

function llamaLike(entries: Entries, { headDim: usualDim, manyKeys, ...options }: LlamaOptions): ReturnType<Family> {
  const hidden = entries.whole('hidden_size');
  const heads = entries.whole('num_attention_heads');
  const kvHeads = entries.whole('num_key_value_heads', manyKeys ? heads : undefined);
  if (heads % kvHeads !== 0) throw entries.bad('num_key_value_heads', `a divisor of ${heads}`, kvHeads);
  const activation = entries.take('hidden_act', 'silu');
  if (activation !== 'silu') throw entries.unsupported('hidden_act', activation);
  const types = entries.take('layer_types');
  if (types !== undefined && !(Array.isArray(types) && types.every((type) => type === 'full_attention')))
    throw entries.unsupported('layer_types', types);
  return {
    config: {
      family: 'llama',
      hidden,
      heads,
      kvHeads,
      headDim: entries.whole('head_dim', usualDim ?? hidden / heads),
      intermediate: entries.whole('intermediate_size'),
      eps: entries.number('rms_norm_eps', 1e-6),
      ...rope(entries),
      ...Object.fromEntries(Object.entries(options).filter(([, value]) => value)),
    },
    layers: entries.whole('num_hidden_layers'),
  };
}

/** Base and scaling, as entries of their own or, since transformers 5, in rope_parameters. */
function rope(entries: Entries): { readonly ropeBase: number; readonly ropeScaling?: RopeScaling } {
  const base = entries.number('rope_theta', 10000);
  const given = entries.take('rope_parameters') ?? entries.take('rope_scaling');
  entries.take('rope_scaling');
  if (given === undefined || given === null) return { ropeBase: base };
  if (typeof given !== 'object') throw entries.bad('rope_scaling', 'an object', given);
  const own = new Entries(given as Record<string, unknown>, 'config.json, rope_scaling');
  const type = own.take('rope_type', own.take('type', 'default'));
  own.take('type');
  const ropeBase = own.number('rope_theta', base);
  const scaling = ((): RopeScaling | undefined => {
    switch (type) {
      case 'default':
        return undefined;
      case 'linear':
        return { factor: own.number('factor'), lowFactor: 1, highFactor: 4, originalPositions: 0 };
      case 'llama3': {
        const [lowFactor, highFactor] = [own.number('low_freq_factor'), own.number('high_freq_factor')];
        if (highFactor <= lowFactor) throw own.bad('high_freq_factor', `more than ${lowFactor}`, highFactor);
        return { factor: own.number('factor'), lowFactor, highFactor, originalPositions: own.whole('original_max_position_embeddings') };
      }
      default:
        throw own.unsupported('rope_type', type, '; known are default, linear and llama3');
    }
  })();
  own.finish();
  return { ropeBase, ...(scaling && { ropeScaling: scaling }) };
}

/** @throws LadderError `UNSUPPORTED` for a method, or an option of one, that cannot be taken over without loss */
function storedQuantisation(entries: Entries): StoredQuantisation | null {
  const given = entries.take('quantization_config');
  if (given === undefined || given === null) return null;
  if (typeof given !== 'object') throw entries.bad('quantization_config', 'an object', given);
  const own = new Entries(given as Record<string, unknown>, 'config.json, quantization_config');
  const method = own.take('quant_method');
  const must = (name: string, value: unknown, ...allowed: readonly unknown[]): void => {
    if (!allowed.includes(value)) throw own.unsupported(name, value);
  };
  const found = ((): StoredQuantisation => {
    switch (method) {
      case 'gptq': {
        must('bits', own.take('bits'), 4);
        must('sym', own.take('sym', true), true);
        must('checkpoint_format', own.take('checkpoint_format', 'gptq'), 'gptq');
        const group = own.take('group_size');
        must('group_size', group, 64, 128);
        return { method, weight: 'int4', group: Number(group) };
      }
      case 'awq': {
        must('bits', own.take('bits', own.take('w_bit')), 4);
        must('version', String(own.take('version', 'gemm')).toLowerCase(), 'gemm');
        const group = own.take('group_size', own.take('q_group_size'));
        must('group_size', group, 64, 128);
        return { method, weight: 'int4', group: Number(group) };
      }
      case 'fp8':
        must('weight_block_size', own.take('weight_block_size', null), null);
        must('fmt', own.take('fmt', 'e4m3'), 'e4m3');
        must('activation_scheme', own.take('activation_scheme', 'dynamic'), 'dynamic');
        return { method, weight: 'fp8_e4m3', group: -1 };
      default:
        throw own.unsupported('quant_method', method, '; gptq, awq and fp8 are taken over, other models need their floating-point weights');
    }
  })();
  own.finish(kQuantisedWithoutEffect);
  return found;
}

/**
 * Decoder layers of Llama 2 70B (Touvron et al. 2023): grouped-query attention, RMSNorm, rotary embedding, SwiGLU.
 * No KV cache and, unless asked for, no mask, as Figure 8 of the Ladder paper times it.
 */
import type { Mask } from '../operators/mask.js';
import { type Graph, GraphBuilder } from '../operators/graph.js';
import { kLanguageModelFormats, kLanguageModelSettings } from './figure8.js';
import { layerModel, type Model } from './model.js';
import { layerSource, type Part } from './source.js';

/** Rotary frequencies for longer contexts than a model was trained on first: lib/operators/query-key.ts. */
export interface RopeScaling {
  readonly factor: number;
  readonly lowFactor: number;
  readonly highFactor: number;
  /** Tokens of the first training; 0: all frequencies are divided. */
  readonly originalPositions: number;
}

/** Sizes of one decoder layer, and what the family's later models add to it. */
export interface LlamaConfig {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly eps: number;
  readonly ropeBase: number;
  /** Llama 3.1, linear; absent: none. */
  readonly ropeScaling?: RopeScaling | undefined;
  /** Biases of q, k and v (Qwen2), of the product behind attention, of the feed-forward's products. */
  readonly qkvBias?: boolean | undefined;
  readonly outputBias?: boolean | undefined;
  readonly mlpBias?: boolean | undefined;
  /** RMS norm of each query and key head (Qwen3). */
  readonly headNorm?: boolean | undefined;
}

const k70b: LlamaConfig = { hidden: 8192, heads: 64, kvHeads: 8, headDim: 128, intermediate: 28672, eps: 1e-5, ropeBase: 10000 };

/** The same layer at a size that tests can afford. */
const kTiny: LlamaConfig = { ...k70b, hidden: 512, heads: 4, kvHeads: 2, intermediate: 1024 };

/** What scaling does nothing. */
const kNoScaling: RopeScaling = { factor: 1, lowFactor: 1, highFactor: 4, originalPositions: 0 };

const qkvRows = ({ heads, kvHeads, headDim }: LlamaConfig): number => (heads + 2 * kvHeads) * headDim;

/**
 * `layers` decoder layers over x [batch·seq, hidden].
 * Weights by layer i: `layer<i>.qkv` [(heads+2·kvHeads)·headDim, hidden], `.o`, `.gate_up` [2·intermediate, hidden], `.down`.
 */
export function llama(config: LlamaConfig, batch: number, seq: number, layers: number, mask: Mask = 'none'): Graph {
  const { hidden, heads, kvHeads, headDim, intermediate, eps, ropeBase, qkvBias = false, outputBias = false, mlpBias = false } = config;
  const graph = new GraphBuilder();
  let x = graph.input('x', [
    { name: 'm', extent: batch * seq },
    { name: 'c', extent: hidden },
  ]);
  // The first token is not rotated.
  const scaling = seq > 1 ? config.ropeScaling : undefined;
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    const h = graph.norm(`${p}.input_norm`, x, 'rms', eps);
    let qkv = graph.dense(`${p}.qkv`, h, qkvRows(config), qkvBias);
    if (config.headNorm || scaling) {
      const normed = config.headNorm ? ['query_norm', 'key_norm'] : [];
      const gains = normed.map((name) => graph.parameter(`${p}.${name}.gain`, 'gain', [{ name: 'd', extent: headDim }]));
      qkv = graph.node('query_key', `${p}.query_key`, [qkv, ...gains], {
        seq,
        heads,
        kvHeads,
        headDim,
        position: scaling ? 'rope' : 'none',
        ropeBase,
        ...(scaling ?? kNoScaling),
        eps,
      });
    }
    const a = graph.node('attention', `${p}.attention`, [qkv], {
      batch,
      seq,
      heads,
      kvHeads,
      headDim,
      order: 'concatenated',
      position: scaling ? 'none' : 'rope',
      ropeBase,
      ...(mask !== 'none' && { mask }),
    });
    x = graph.node('add', `${p}.attention_residual`, [graph.dense(`${p}.o`, a, hidden, outputBias), x]);
    const g = graph.norm(`${p}.post_attention_norm`, x, 'rms', eps);
    const s = graph.node('silu_mul', `${p}.silu_mul`, [graph.dense(`${p}.gate_up`, g, 2 * intermediate, mlpBias)]);
    x = graph.node('add', `${p}.mlp_residual`, [graph.dense(`${p}.down`, s, hidden, mlpBias), x]);
  }
  return graph.finish([x]);
}

/** Hugging Face's modules and their rows, behind `layers.<i>.`. */
function partsOf({ hidden, heads, kvHeads, headDim, intermediate }: LlamaConfig): Readonly<Record<string, readonly Part[]>> {
  const part = (name: string, rows: number): Part => ({ name, rows });
  return {
    qkv: [
      part('self_attn.q_proj', heads * headDim),
      part('self_attn.k_proj', kvHeads * headDim),
      part('self_attn.v_proj', kvHeads * headDim),
    ],
    query_norm: [part('self_attn.q_norm', headDim)],
    key_norm: [part('self_attn.k_norm', headDim)],
    o: [part('self_attn.o_proj', hidden)],
    gate_up: [part('mlp.gate_proj', intermediate), part('mlp.up_proj', intermediate)],
    down: [part('mlp.down_proj', hidden)],
    input_norm: [part('input_layernorm', hidden)],
    post_attention_norm: [part('post_attention_layernorm', hidden)],
  };
}

/** A model of this family. */
export function llamaModel(id: string, label: string, config: LlamaConfig): Model {
  return layerModel(id, label, {
    graph: (batch, seq, layers, mask) => llama(config, batch, seq, layers, mask),
    source: layerSource('layers', partsOf(config)),
    // A buffer of old files, which follows from the config.
    unused: ['self_attn.rotary_emb.inv_freq'],
  });
}

export const llama2_70b: Model = {
  ...llamaModel('llama2-70b', 'LLAMA', k70b),
  figure8: { settings: kLanguageModelSettings, formats: kLanguageModelFormats },
  pattern: /llama/i,
};

export const llama2Tiny = llamaModel('llama2-tiny', 'LLAMA (tiny)', kTiny);

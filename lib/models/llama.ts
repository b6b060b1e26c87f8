/**
 * Decoder layers of Llama 2 70B (Touvron et al. 2023): grouped-query attention, RMSNorm, rotary embedding, SwiGLU.
 * No KV cache and, unless asked for, no mask, as Figure 8 of the Ladder paper times it.
 */
import type { Mask } from '../operators/attention.js';
import { type Graph, GraphBuilder } from '../operators/graph.js';
import { kLanguageModelFormats, kLanguageModelSettings } from './figure8.js';
import type { Model } from './model.js';

/** Sizes of one decoder layer. */
export interface LlamaConfig {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly eps: number;
  readonly ropeBase: number;
}

const k70b: LlamaConfig = { hidden: 8192, heads: 64, kvHeads: 8, headDim: 128, intermediate: 28672, eps: 1e-5, ropeBase: 10000 };

/** The same layer at a size that tests can afford. */
const kTiny: LlamaConfig = { ...k70b, hidden: 512, heads: 4, kvHeads: 2, intermediate: 1024 };

/**
 * `layers` decoder layers over x [batch·seq, hidden].
 * Weights by layer i: `layer<i>.qkv` [(heads+2·kvHeads)·headDim, hidden], `.o`, `.gate_up` [2·intermediate, hidden], `.down`.
 */
export function llama(config: LlamaConfig, batch: number, seq: number, layers: number, mask: Mask = 'none'): Graph {
  const { hidden, heads, kvHeads, headDim, intermediate, eps, ropeBase } = config;
  const graph = new GraphBuilder();
  let x = graph.input('x', [
    { name: 'm', extent: batch * seq },
    { name: 'c', extent: hidden },
  ]);
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    const h = graph.norm(`${p}.input_norm`, x, 'rms', eps);
    const qkv = graph.dense(`${p}.qkv`, h, (heads + 2 * kvHeads) * headDim, false);
    const a = graph.node('attention', `${p}.attention`, [qkv], {
      batch,
      seq,
      heads,
      kvHeads,
      headDim,
      order: 'concatenated',
      position: 'rope',
      ropeBase,
      ...(mask !== 'none' && { mask }),
    });
    x = graph.node('add', `${p}.attention_residual`, [graph.dense(`${p}.o`, a, hidden, false), x]);
    const g = graph.norm(`${p}.post_attention_norm`, x, 'rms', eps);
    const s = graph.node('silu_mul', `${p}.silu_mul`, [graph.dense(`${p}.gate_up`, g, 2 * intermediate, false)]);
    x = graph.node('add', `${p}.mlp_residual`, [graph.dense(`${p}.down`, s, hidden, false), x]);
  }
  return graph.finish([x]);
}

/** Hugging Face's names. */
const kParameters = {
  'qkv.weight': ['self_attn.q_proj.weight', 'self_attn.k_proj.weight', 'self_attn.v_proj.weight'],
  'o.weight': ['self_attn.o_proj.weight'],
  'gate_up.weight': ['mlp.gate_proj.weight', 'mlp.up_proj.weight'],
  'down.weight': ['mlp.down_proj.weight'],
  'input_norm.gain': ['input_layernorm.weight'],
  'post_attention_norm.gain': ['post_attention_layernorm.weight'],
};

export const llama2_70b: Model = {
  id: 'llama2-70b',
  label: 'LLAMA',
  kind: 'layer',
  figure8: { settings: kLanguageModelSettings, formats: kLanguageModelFormats },
  checkpoint: { prefix: 'llama2', shared: true },
  pattern: /llama/i,
  graph: (batch, seq, layers, mask) => llama(k70b, batch, seq, layers, mask),
  masked: true,
  source(tensor) {
    const [, layer, own] = /^layer(\d+)\.(.+)$/.exec(tensor) ?? [];
    return { stack: kParameters[own as keyof typeof kParameters].map((name) => `layers.${layer}.${name}`) };
  },
};

export const llama2Tiny: Model = {
  ...llama2_70b,
  id: 'llama2-tiny',
  label: 'LLAMA (tiny)',
  figure8: null,
  pattern: null,
  graph: (batch, seq, layers, mask) => llama(kTiny, batch, seq, layers, mask),
};

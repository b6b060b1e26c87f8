/**
 * Decoder layers of BLOOM 176B (BigScience 2022): LayerNorm, fused QKV interleaved per head, ALiBi, GELU (tanh), biases.
 */
import type { Mask } from '../operators/mask.js';
import { type Graph, GraphBuilder } from '../operators/graph.js';
import { kLanguageModelFormats, kLanguageModelSettings } from './figure8.js';
import { layerModel, type Model } from './model.js';
import { layerSource, type Part } from './source.js';

/** Sizes of one decoder layer. */
export interface BloomConfig {
  readonly hidden: number;
  readonly heads: number;
  readonly eps: number;
}

const k176b: BloomConfig = { hidden: 14336, heads: 112, eps: 1e-5 };

/** The same layer at a size that tests can afford. */
const kTiny: BloomConfig = { hidden: 512, heads: 4, eps: 1e-5 };

/**
 * `layers` decoder layers over x [batch·seq, hidden].
 * Weights by layer i: `layer<i>.qkv` [3·hidden, hidden] (rows per head: q, k, v), `.dense`, `.up` [4·hidden, hidden], `.down`.
 */
export function bloom(config: BloomConfig, batch: number, seq: number, layers: number, mask: Mask = 'none'): Graph {
  const { hidden, heads, eps } = config;
  const graph = new GraphBuilder();
  let x = graph.input('x', [
    { name: 'm', extent: batch * seq },
    { name: 'c', extent: hidden },
  ]);
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    const h = graph.norm(`${p}.input_norm`, x, 'layer', eps);
    const a = graph.node('attention', `${p}.attention`, [graph.dense(`${p}.qkv`, h, 3 * hidden, true)], {
      batch,
      seq,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      order: 'interleaved',
      position: 'alibi',
      ropeBase: 10000,
      ...(mask !== 'none' && { mask }),
    });
    x = graph.node('add', `${p}.attention_residual`, [graph.dense(`${p}.dense`, a, hidden, true), x]);
    const g = graph.norm(`${p}.post_attention_norm`, x, 'layer', eps);
    const u = graph.node('gelu_tanh', `${p}.gelu`, [graph.dense(`${p}.up`, g, 4 * hidden, true)]);
    x = graph.node('add', `${p}.mlp_residual`, [graph.dense(`${p}.down`, u, hidden, true), x]);
  }
  return graph.finish([x]);
}

/** Hugging Face's modules and their rows, behind `h.<i>.`. */
function partsOf({ hidden }: BloomConfig): Readonly<Record<string, readonly Part[]>> {
  return {
    qkv: [{ name: 'self_attention.query_key_value', rows: 3 * hidden }],
    dense: [{ name: 'self_attention.dense', rows: hidden }],
    up: [{ name: 'mlp.dense_h_to_4h', rows: 4 * hidden }],
    down: [{ name: 'mlp.dense_4h_to_h', rows: hidden }],
    input_norm: [{ name: 'input_layernorm', rows: hidden }],
    post_attention_norm: [{ name: 'post_attention_layernorm', rows: hidden }],
  };
}

/** A model of this family. */
export function bloomModel(id: string, label: string, config: BloomConfig): Model {
  return layerModel(id, label, {
    graph: (batch, seq, layers, mask) => bloom(config, batch, seq, layers, mask),
    source: layerSource('h', partsOf(config)),
  });
}

export const bloom176b: Model = {
  ...bloomModel('bloom-176b', 'BLOOM', k176b),
  figure8: { settings: kLanguageModelSettings, formats: kLanguageModelFormats },
  pattern: /bloom/i,
};

export const bloomTiny = bloomModel('bloom-tiny', 'BLOOM (tiny)', kTiny);

/**
 * Decoder layers of BLOOM 176B (BigScience 2022): LayerNorm, fused QKV interleaved per head, ALiBi, GELU (tanh), biases.
 */
import type { Mask } from '../operators/attention.js';
import { type Graph, GraphBuilder } from '../operators/graph.js';
import { kLanguageModelFormats, kLanguageModelSettings } from './figure8.js';
import type { Model } from './model.js';

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

export const bloom176b: Model = {
  id: 'bloom-176b',
  label: 'BLOOM',
  kind: 'layer',
  figure8: { settings: kLanguageModelSettings, formats: kLanguageModelFormats },
  checkpoint: { prefix: 'llama2', shared: true },
  pattern: /bloom/i,
  graph: (batch, seq, layers, mask) => bloom(k176b, batch, seq, layers, mask),
  masked: true,
};

export const bloomTiny: Model = {
  ...bloom176b,
  id: 'bloom-tiny',
  label: 'BLOOM (tiny)',
  figure8: null,
  pattern: null,
  graph: (batch, seq, layers, mask) => bloom(kTiny, batch, seq, layers, mask),
};

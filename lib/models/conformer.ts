/**
 * Layers of torchaudio's Conformer (Gulati et al. 2020), without dropout: half a feed-forward, attention without positions, the
 * convolution module, half a feed-forward, a norm. The batch norm after the depthwise convolution is part of its weights and bias.
 */
import { type Graph, type GraphNode, GraphBuilder } from '../operators/graph.js';
import { kFp16, kNetworkSettings } from './figure8.js';
import type { FormatPair, Model, NodeFormats } from './model.js';
import { moduleSource, type Source } from './source.js';

/** Sizes of the network. */
export interface ConformerConfig {
  readonly layers: number;
  readonly frames: number;
  readonly hidden: number;
  readonly heads: number;
  readonly feedForward: number;
  /** Frames that the depthwise convolution reaches over; odd. */
  readonly kernel: number;
  readonly eps: number;
}

const kFigure8: ConformerConfig = { layers: 12, frames: 512, hidden: 512, heads: 8, feedForward: 512, kernel: 31, eps: 1e-5 };

/** The same network at a size that tests can afford. */
const kTiny: ConformerConfig = { ...kFigure8, layers: 2, frames: 40, hidden: 128, heads: 2, feedForward: 256, kernel: 7 };

/**
 * Frames x [batch, frames, hidden] to as many. A layer's weights: `layer<i>.ffn1_up` [feedForward, hidden], `.ffn1_down`, `.qkv`
 * [3·hidden, hidden], `.out`, `.pointwise1` [2·hidden, hidden], `.depthwise` [hidden, kernel], `.pointwise2`, `.ffn2_up`,
 * `.ffn2_down`, each with a bias.
 */
export function conformer({ layers, frames, hidden, heads, feedForward, kernel, eps }: ConformerConfig, batch: number): Graph {
  const graph = new GraphBuilder();
  const rows = { name: 'm', extent: batch * frames };
  const shape = [batch, frames, hidden];
  let x = graph.input('x', [rows, { name: 'c', extent: hidden }], shape);
  const halfStep = (p: string): void => {
    const h = graph.dense(`${p}_up`, graph.norm(`${p}_norm`, x, 'layer', eps), feedForward, true);
    const y = graph.dense(`${p}_down`, graph.node('silu', `${p}_silu`, [h]), hidden, true);
    x = graph.node('add_half', `${p}_residual`, [y, x]);
  };
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    halfStep(`${p}.ffn1`);
    const h = graph.norm(`${p}.attention_norm`, x, 'layer', eps);
    const a = graph.node('attention', `${p}.attention`, [graph.dense(`${p}.qkv`, h, 3 * hidden, true)], {
      batch,
      seq: frames,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      order: 'concatenated',
      position: 'none',
      ropeBase: 10000,
    });
    x = graph.node('add', `${p}.attention_residual`, [graph.dense(`${p}.out`, a, hidden, true), x]);
    const c = graph.dense(`${p}.pointwise1`, graph.norm(`${p}.conv_norm`, x, 'layer', eps), 2 * hidden, true);
    const d = graph.conv(`${p}.depthwise`, graph.node('glu', `${p}.glu`, [c]), hidden, {
      batch,
      height: frames,
      width: 1,
      kernelY: kernel,
      kernelX: 1,
      stride: 1,
      paddingY: (kernel - 1) / 2,
      paddingX: 0,
      groups: hidden,
    });
    const s = graph.node('silu', `${p}.conv_silu`, [d]);
    x = graph.node('add', `${p}.conv_residual`, [graph.dense(`${p}.pointwise2`, s, hidden, true), x]);
    halfStep(`${p}.ffn2`);
    x = graph.norm(`${p}.norm`, x, 'layer', eps);
  }
  return graph.finish([x], shape);
}

/** Depthwise convolutions stay float16. */
function policy({ kind }: GraphNode, { weight, activation }: FormatPair): NodeFormats {
  return kind === 'dense' ? { weight, input: activation } : { weight: null, input: null };
}

/** torchaudio's names of a layer's modules; a norm, products and what is between them are numbered in a feed-forward. */
const kModules: Readonly<Record<string, string>> = {
  ffn1_norm: 'ffn1.sequential.0',
  ffn1_up: 'ffn1.sequential.1',
  ffn1_down: 'ffn1.sequential.4',
  attention_norm: 'self_attn_layer_norm',
  out: 'self_attn.out_proj',
  conv_norm: 'conv_module.layer_norm',
  pointwise1: 'conv_module.sequential.0',
  pointwise2: 'conv_module.sequential.5',
  ffn2_norm: 'ffn2.sequential.0',
  ffn2_up: 'ffn2.sequential.1',
  ffn2_down: 'ffn2.sequential.4',
  norm: 'final_layer_norm',
};

/** Where torchaudio keeps a tensor. */
function source(tensor: string): Source {
  const [, layer, module = '', ending = ''] = /^layer(\d+)\.(\w+)\.(\w+)$/.exec(tensor) ?? [];
  const own = `conformer_layers.${layer}`;
  const part = ending === 'weight' ? 'weight' : 'bias';
  // Attention has its parameters of three products in one.
  if (module === 'qkv') return { tensor: `${own}.self_attn.in_proj_${part}` };
  if (module !== 'depthwise') return moduleSource(`${own}.${kModules[module]}`, ending);
  const [conv, norm] = [`${own}.conv_module.sequential.2`, `${own}.conv_module.sequential.3`];
  return { convolution: { weight: `${conv}.weight`, bias: `${conv}.bias`, norm }, part };
}

export const conformer12: Model = {
  id: 'conformer',
  label: 'Conformer',
  kind: 'network',
  figure8: {
    settings: kNetworkSettings,
    formats: [kFp16, { weight: 'int4', activation: 'int8' }, { weight: 'int4', activation: 'int4' }],
  },
  checkpoint: { prefix: 'Conformer', shared: false, quantisedSuffix: '_async' },
  pattern: /conformer/i,
  graph: (batch) => conformer(kFigure8, batch),
  policy,
  source,
};

export const conformerTiny: Model = {
  ...conformer12,
  id: 'conformer-tiny',
  label: 'Conformer (tiny)',
  figure8: null,
  checkpoint: { ...conformer12.checkpoint, shared: true },
  pattern: null,
  graph: (batch) => conformer(kTiny, batch),
};

/**
 * Decoder layers of Llama 2 70B (Touvron et al. 2023): grouped-query attention, RMSNorm, rotary embedding, SwiGLU.
 * No KV cache and no mask, as Figure 8 of the Ladder paper times it.
 */
import { IrBuilder, type IrGraph } from '../ir.js';

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

export const kLlama2_70b: LlamaConfig = {
  hidden: 8192, heads: 64, kvHeads: 8, headDim: 128, intermediate: 28672, eps: 1e-5, ropeBase: 10000,
};

/** The same layer at a size that tests can afford. */
export const kLlama2Tiny: LlamaConfig = { ...kLlama2_70b, hidden: 512, heads: 4, kvHeads: 2, intermediate: 1024 };

/**
 * `layers` decoder layers over x [batch·seq, hidden].
 * Weights by layer i: `layer<i>.qkv` [(heads+2·kvHeads)·headDim, hidden], `.o`, `.gate_up` [2·intermediate, hidden], `.down`.
 */
export function llama(config: LlamaConfig, batch: number, seq: number, layers: number): IrGraph {
  const { hidden, heads, kvHeads, headDim, intermediate, eps, ropeBase } = config;
  const ir = new IrBuilder();
  let x = ir.add({ op: 'input', name: 'x', width: hidden });
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    const dense = (name: string, input: number, n: number, k: number): number =>
      ir.add({ op: 'dense', name: `${p}.${name}`, x: input, weight: { name: `${p}.${name}`, n, k }, bias: false });
    const h = ir.add({ op: 'norm', name: `${p}.input_norm`, x, kind: 'rms', eps });
    const qkv = dense('qkv', h, (heads + 2 * kvHeads) * headDim, hidden);
    const a = ir.add({ op: 'attention', name: `${p}.attention`, x: qkv, heads, kvHeads, headDim, order: 'concatenated', position: 'rope', ropeBase });
    x = ir.add({ op: 'add', name: `${p}.attention_residual`, x: dense('o', a, hidden, heads * headDim), skip: x });
    const g = ir.add({ op: 'norm', name: `${p}.post_attention_norm`, x, kind: 'rms', eps });
    const s = ir.add({ op: 'silu_mul', name: `${p}.silu_mul`, x: dense('gate_up', g, 2 * intermediate, hidden) });
    x = ir.add({ op: 'add', name: `${p}.mlp_residual`, x: dense('down', s, hidden, intermediate), skip: x });
  }
  return ir.finish(batch, seq, x);
}

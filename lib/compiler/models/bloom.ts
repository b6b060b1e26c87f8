/**
 * Decoder layers of BLOOM 176B (BigScience 2022): LayerNorm, fused QKV interleaved per head, ALiBi, GELU (tanh), biases.
 */
import { IrBuilder, type IrGraph } from '../ir.js';

/** Sizes of one decoder layer. */
export interface BloomConfig {
  readonly hidden: number;
  readonly heads: number;
  readonly eps: number;
}

export const kBloom176b: BloomConfig = { hidden: 14336, heads: 112, eps: 1e-5 };

/** The same layer at a size that tests can afford. */
export const kBloomTiny: BloomConfig = { hidden: 512, heads: 4, eps: 1e-5 };

/**
 * `layers` decoder layers over x [batch·seq, hidden].
 * Weights by layer i: `layer<i>.qkv` [3·hidden, hidden] (rows per head: q, k, v), `.dense`, `.up` [4·hidden, hidden], `.down`.
 */
export function bloom(config: BloomConfig, batch: number, seq: number, layers: number): IrGraph {
  const { hidden, heads, eps } = config;
  const ir = new IrBuilder();
  let x = ir.add({ op: 'input', name: 'x', width: hidden });
  for (let i = 0; i < layers; ++i) {
    const p = `layer${i}`;
    const dense = (name: string, input: number, n: number, k: number): number =>
      ir.add({ op: 'dense', name: `${p}.${name}`, x: input, weight: { name: `${p}.${name}`, n, k }, bias: true });
    const h = ir.add({ op: 'norm', name: `${p}.input_norm`, x, kind: 'layer', eps });
    const a = ir.add({
      op: 'attention', name: `${p}.attention`, x: dense('qkv', h, 3 * hidden, hidden),
      heads, kvHeads: heads, headDim: hidden / heads, order: 'interleaved', position: 'alibi', ropeBase: 10000,
    });
    x = ir.add({ op: 'add', name: `${p}.attention_residual`, x: dense('dense', a, hidden, hidden), skip: x });
    const g = ir.add({ op: 'norm', name: `${p}.post_attention_norm`, x, kind: 'layer', eps });
    const u = ir.add({ op: 'gelu_tanh', name: `${p}.gelu`, x: dense('up', g, 4 * hidden, hidden) });
    x = ir.add({ op: 'add', name: `${p}.mlp_residual`, x: dense('down', u, hidden, 4 * hidden), skip: x });
  }
  return ir.finish(batch, seq, x);
}

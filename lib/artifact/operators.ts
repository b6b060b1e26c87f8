/**
 * The operators of our own checkpoints: what each node of the graph computes, as data.
 * This is the contract between the builder (which fuses and lays out), the kernels (native/kernels), the reference
 * operators (native/reference) and verification. Formats: shared in `formats` below; MX: OCP Microscaling v1.0;
 * NF4: QLoRA (Dettmers et al. 2023), Appendix E.
 */
import { z } from 'zod';

/** How weights are stored. */
export const weightFormats = ['fp16', 'int4', 'nf4', 'fp8_e5m2', 'fp8_e4m3', 'mxfp8_e5m2', 'mxfp8_e4m3', 'int1'] as const;
export type WeightFormat = (typeof weightFormats)[number];

/** What activations are multiplied as. */
export const activationFormats = ['fp16', 'fp8_e5m2', 'fp8_e4m3', 'mxfp8_e5m2', 'mxfp8_e4m3', 'int8', 'int4'] as const;
export type ActivationFormat = (typeof activationFormats)[number];

/** Elements that share one E8M0 scale (OCP MX). */
export const kMxBlock = 32;

const kWeightBits: Readonly<Record<WeightFormat, number>> = {
  fp16: 16, int4: 4, nf4: 4, fp8_e5m2: 8, fp8_e4m3: 8, mxfp8_e5m2: 8, mxfp8_e4m3: 8, int1: 1,
};

/** Stored bits of one weight, scales not counted. */
export function weightBits(format: WeightFormat): number {
  return kWeightBits[format];
}

/** Whether a format carries one E8M0 scale per block of 32 along K. */
export function isMxFormat(format: WeightFormat | ActivationFormat): boolean {
  return format.startsWith('mxfp8');
}

const dimension = z.number().int().min(1).max(2 ** 31 - 1);

/**
 * One digit of a mixed-radix layout. A stored element's linear index, written with the digits' sizes as radices (first
 * digit outermost), gives one value per digit; the logical coordinate along `axis` is the sum of value × stride over the
 * digits of that axis. Layouts are bijections: each axis' digits must enumerate 0…extent−1 exactly once.
 *
 * Since every digit belongs to one axis, storedIndex(n, k) = offsetN[n] + offsetK[k]: two small tables describe it.
 *
 * @example row-major [N, K]: [{axis:'n',stride:1,size:N},{axis:'k',stride:1,size:K}]
 */
export const digitSchema = z.strictObject({ axis: z.enum(['n', 'k']), stride: dimension, size: dimension });
export type Digit = z.infer<typeof digitSchema>;
const layoutSchema = z.array(digitSchema).min(1).max(16);

const epsilon = z.number().positive().max(1);
const normSchema = z.strictObject({ kind: z.enum(['none', 'rms', 'layer']), eps: epsilon });

/**
 * Dense (matrix) product with fused prologue and epilogue: y = epilogue(quantise(norm(x)) · dequantise(W)ᵀ).
 *
 * Inputs, in this order, bracketed ones only where they apply:
 *   x float16 [m,k] (`input: 'fp16'`) or quantised [m,k] (int8, or uint8 holding FP8 codes; `input: 'quantised'`),
 *   [xScale: float32 [m], or uint8 E8M0 [m,k/32] for MX; only when the input comes quantised],
 *   weight (stored bits: element (n,k) has bit offset (layout index) × bits; sub-byte elements fill bytes from the low bits up),
 *   [scale: float16 [n] (group −1) or float16 [n, k/group] in scaleLayout; uint8 E8M0 [n, k/32] in scaleLayout for MXFP8; absent for fp16],
 *   [gain float16 [k] if norm≠none], [beta float16 [k] if norm = layer], [bias float16 [n]], [residual float16 [m, n]],
 *   [next: `prefetch` bytes, the weights of the product after this one, which the kernel may read ahead into the L2 cache and never uses].
 * Output: float16 [m, n], or [m, n/2] for silu_mul, whose logical weight rows are gate 0…n/2−1, then up n/2…n−1.
 *
 * Norm: rms x·rsqrt(mean(x²)+eps)·gain; layer (x−mean)·rsqrt(var+eps)·gain+beta; in FP32; rounded to FP16 for fp16 activations.
 * Quantisation per token (row of x), from the FP32 value h: int8 s=amax/127, q=rne(h/s); int4 s=amax/7; fp8 s=amax/448 (E4M3)
 * or amax/57344 (E5M2), q=rne to FP8(h/s), saturating; MX: per 32 along k, shared exponent floor(log2 amax)−emax (8 or 15), q = saturating rne.
 * amax = 0 gives s = 1 (E8M0: 2^0... stored code 127) and q = 0.
 * Accumulation in FP32 (INT32 for integers); y = acc·xScale·scale (+bias) → function → (+residual) → FP16, each step in FP32.
 */
export const denseSchema = z.strictObject({
  op: z.literal('dense'),
  m: dimension, n: dimension, k: dimension,
  weight: z.enum(weightFormats),
  activation: z.enum(activationFormats),
  /** −1: one scale per output channel; 64 or 128 along k; 32 for MX. */
  group: z.union([z.literal(-1), z.literal(32), z.literal(64), z.literal(128)]),
  input: z.enum(['fp16', 'quantised']),
  norm: normSchema,
  bias: z.boolean(),
  function: z.enum(['none', 'silu_mul', 'gelu_tanh']),
  residual: z.boolean(),
  /** Bytes of `next`; absent: there is none. */
  prefetch: dimension.optional(),
  weightLayout: layoutSchema,
  /** Layout of grouped or block scales over (n, k/group); null where scales are per channel or absent. */
  scaleLayout: layoutSchema.nullable(),
});

/** Norm over the last axis: x float16 [m,k], gain float16 [k], [beta] → float16 [m,k], or, quantised, (q [m,k], xScale). */
export const normOpSchema = z.strictObject({
  op: z.literal('norm'), m: dimension, k: dimension,
  norm: z.strictObject({ kind: z.enum(['rms', 'layer']), eps: epsilon }),
  activation: z.enum(activationFormats),
});

/** Per-token quantisation: x float16 [m,k] → (q [m,k] int8/uint8, xScale float32 [m] or uint8 E8M0 [m,k/32]). */
export const quantiseSchema = z.strictObject({
  op: z.literal('quantise'), m: dimension, k: dimension, activation: z.enum(activationFormats),
});

/**
 * Attention over the `seq` tokens of the input, no mask, no KV cache: softmax(q·kᵀ/√d + bias)·v per head.
 * Input qkv float16 [batch·seq, (heads+2·kvHeads)·headDim]; output float16 [batch·seq, heads·headDim].
 * `order` concatenated: all q heads, all k heads, all v heads. interleaved: per head q, k, v (BLOOM's fused QKV).
 * `rope`: rotate-half rotary embedding on q and k at position = token index in its sequence, base `ropeBase`.
 * `alibi`: bias slope(head)·key position, slopes as in Press et al. 2022 (BLOOM).
 */
export const attentionSchema = z.strictObject({
  op: z.literal('attention'),
  batch: dimension, seq: dimension, heads: dimension, kvHeads: dimension, headDim: dimension,
  order: z.enum(['concatenated', 'interleaved']),
  position: z.enum(['rope', 'alibi']),
  ropeBase: z.number().positive(),
});

export const operatorSchema = z.discriminatedUnion('op', [denseSchema, normOpSchema, quantiseSchema, attentionSchema]);
export type Operator = z.infer<typeof operatorSchema>;
export type DenseOperator = z.infer<typeof denseSchema>;
export type NormOperator = z.infer<typeof normOpSchema>;
export type QuantiseOperator = z.infer<typeof quantiseSchema>;
export type AttentionOperator = z.infer<typeof attentionSchema>;

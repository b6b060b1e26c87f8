/** Sizes of a user's own model, as checkpoint.json keeps them: a family of decoder layers and its options. */

/** Llama and what is like it: RMS norms, rotary positions, a gated feed-forward part. */
export interface LlamaConfig {
  readonly family: 'llama';
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly eps: number;
  readonly ropeBase: number;
  readonly ropeScaling?:
    | { readonly factor: number; readonly lowFactor: number; readonly highFactor: number; readonly originalPositions: number }
    | undefined;
  readonly qkvBias?: boolean | undefined;
  readonly outputBias?: boolean | undefined;
  readonly mlpBias?: boolean | undefined;
  readonly headNorm?: boolean | undefined;
}

export interface BloomConfig {
  readonly family: 'bloom';
  readonly hidden: number;
  readonly heads: number;
  readonly eps: number;
}

export type ModelConfig = LlamaConfig | BloomConfig;

/** What callers of the builder see: options and results, without how they are checked and made. */
import type { ActivationFormat, FormatKind, FormatWord, Group, ScaleChoice, WeightFormat } from '../formats/index.js';
import type { LayoutDigit } from '../native.js';
import type { Mask } from '../operators/mask.js';
import type { Progress, TaskOptions } from '../run/options.js';

/** How a model's products are stored and multiplied. */
export interface ModelFormat {
  /** Ids of formats. */
  readonly weight: string;
  readonly activation: string;
  /** −1 per output channel, 64 or 128 along k; 32 for MX. */
  readonly group: Group;
}

/** What to build: as on the command line, `weight: 'fp8', format: 'e4m3'`. Defaults: FP16, one token, one layer, what Figure 8 pairs. */
export interface BuildCheckpointOptions extends TaskOptions {
  /** Batch, tokens per sequence, decoder layers: 1 each by default. */
  readonly batch?: number | undefined;
  readonly seq?: number | undefined;
  readonly layers?: number | undefined;
  /** Seed of the fake weights. */
  readonly seed?: number | undefined;
  /** Default fp16, or what a folder's weights are stored in. */
  readonly weight?: FormatWord<WeightFormat> | undefined;
  /** Default: what Figure 8 pairs with the weight format. */
  readonly act?: FormatWord<ActivationFormat> | undefined;
  /** Weights along k per scale; −1, the default: one scale per output channel. MX has blocks by itself. */
  readonly group?: Group | undefined;
  /** Kind of `weight` and `act` where their names leave it open. Default e5m2. */
  readonly format?: FormatKind | undefined;
  /** Which tokens attention sees: all of the sequence (`none`, the default of known models) or none that is later (`causal`, the default of a folder's). */
  readonly mask?: Mask | undefined;
  /** Folder below which `<model>/<name>/` is made, of networks `<name>/`. */
  readonly root: string;
  /** safetensors file of Llama or BLOOM decoder layers (Hugging Face's names) or a network (timm's, torchaudio's), packed into graph.params. Default: none; weights are then generated from `seed`. */
  readonly weights?: string | undefined;
  /** Of a model's folder: number of the first layer that is built. Default 0. */
  readonly layer?: number | undefined;
  /** safetensors file of inputs, [any number, …], whose largest magnitudes decide static scales of activations; with `weights`. Default: random ones, with a warning. */
  readonly calibrate?: string | undefined;
  /** How scales of real weights are chosen: by the largest magnitude, or by the least squared error. Default: what is better for the format. */
  readonly scale?: ScaleChoice | undefined;
  /** false: graph.json and checkpoint.json only; model.so is then built on first use. Default: whether nvcc is there. */
  readonly compile?: boolean | undefined;
}

export interface BuildResult {
  readonly folder: string;
  /** Whether model.so is there now. */
  readonly compiled: boolean;
  readonly buildMs: number;
  /** What of the weights is not as good as it could be. */
  readonly warnings: readonly string[];
}

/** Stored order and grouping of a packed matrix. */
export interface PackMatrixOptions {
  /** Columns of the matrix: the product's input channels. */
  readonly k: number;
  /** −1: one scale per row; 64 or 128 (INT4, NF4) weights along k per scale. MX has blocks of 32 by itself. Default −1. */
  readonly group?: Group | undefined;
  /** Stored order of the weights, e.g. a manifest's `tensors[name].layout`. Default: row-major. */
  readonly layout?: readonly LayoutDigit[] | undefined;
  /** The same of group or block scales, over [n, k / group]. Default: row-major. */
  readonly scaleLayout?: readonly LayoutDigit[] | undefined;
  /** How scales are chosen: by the largest magnitude, or by the least squared error. Default: what is better for the format. */
  readonly scale?: ScaleChoice | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of the two tensors of a packed matrix. */
export interface PackedWeights {
  /** Codes in the order of the layout; sub-byte ones fill bytes from the low bits up. */
  readonly weight: Uint8Array;
  /** float16, or E8M0 codes for MX; empty for fp16 weights. */
  readonly scale: Uint8Array;
}

/**
 * Float values of one parameter: a matrix [n, k] row by row, or a vector.
 * @param name our name, e.g. `layer0.qkv.weight`
 */
export type FloatSource = (name: string, shape: readonly number[]) => Float32Array | Promise<Float32Array>;

/** Float parameters by name, or a function that is asked for one at a time. */
export type FloatWeights = Readonly<Record<string, Float32Array>> | FloatSource;

/** How a checkpoint is tuned. */
export interface TuneCheckpointOptions {
  /** `cuda` or `cuda:<ordinal>`. Default `cuda`. */
  readonly device?: string | undefined;
  /** Tunings tried per operator, the default among them. Default 12. */
  readonly candidates?: number | undefined;
  /** Ends the search with `ABORTED`; the next one goes on where it stopped. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TuneProgress) => void) | undefined;
}

export interface TuneProgress extends Progress {
  /** What the rest may take; null until a trial was timed. */
  readonly remainingSeconds: number | null;
}

/** tuned/<arch>.json. */
export interface Tuned {
  schema: 'ladder-tuned/2';
  /** nvcc's name of the architecture, e.g. sm_90a. */
  arch: string;
  gpu: string;
  /** ISO 8601, UTC. */
  date: string;
  commit: string;
  /** Wall-clock time of the search, builds included. */
  seconds: number;
  operators: Record<
    string,
    {
      parameters: Record<string, number>;
      /** Median latency of the whole checkpoint with these parameters and with the defaults, in the same run. */
      latencyMs: number;
      defaultLatencyMs: number;
      candidates: number;
    }
  >;
}

/** Of what the errors of formats are taken. */
export interface CheckpointQualityOptions extends TaskOptions {
  /** The float weights: a safetensors file of decoder layers or the network, or a model's folder. Default: random ones, for decoder layers. */
  readonly weights?: string | undefined;
  /** Number of the first decoder layer in them. Default 0 of a folder, the first that is there of a file. */
  readonly layer?: number | undefined;
  /** safetensors file of inputs, [tokens, hidden] of decoder layers, [n, …] of networks. Default: random ones. */
  readonly inputs?: string | undefined;
  /** How many random tokens a decoder layer is fed, as one sequence. Default 16. */
  readonly tokens?: number | undefined;
  /** How scales of weights are chosen. Default: what is better for each format. */
  readonly scale?: ScaleChoice | undefined;
}

/** What a format does to one matrix of weights. */
export interface TensorQuality {
  /** Ours, e.g. `layer0.qkv.weight`. */
  readonly name: string;
  /** [n, k] */
  readonly shape: readonly number[];
  /** Id of the format; fp16 where the model keeps this one as it is. */
  readonly format: string;
  /** ‖w − stored‖₂ / ‖w‖₂ */
  readonly error: number;
  /** The output channel (row) whose error is largest, and that error. */
  readonly worst: { readonly row: number; readonly error: number };
}

/** What a format does to a model. */
export interface FormatQuality {
  /** As records call it: `W_INT4 A_FP16`, `W_INT4 A_FP16 g128`, `W_FP8 A_FP8 (e4m3)`. */
  readonly label: string;
  readonly format: ModelFormat;
  /** What the checkpoint in this format, of the request's batch and tokens, is called. */
  readonly checkpoint: string;
  /** Stored bits over weights, scales counted, over all matrices. */
  readonly bitsPerWeight: number;
  /** ‖w − stored‖₂ / ‖w‖₂ over all matrices. */
  readonly error: number;
  readonly tensors: readonly TensorQuality[];
  /** ‖y − y₁₆‖₂ over ‖y₁₆‖₂ of a network's output, over ‖y₁₆ − x‖₂, what the layers add to their input, of decoder layers'. */
  readonly outputError: number;
}

export interface QualityReport {
  readonly model: string;
  /** Of the request, as records call it: bs1_seq1, …; its checkpoints are the ones that are named. */
  readonly setting: string;
  /** Label of the request's own format. */
  readonly subject: string;
  /** What was fed: tokens of a decoder layer, inputs of a network. */
  readonly inputs: number;
  /** FP16 first. */
  readonly formats: readonly FormatQuality[];
  /** Formats that were left out, and why. */
  readonly remarks: readonly string[];
}

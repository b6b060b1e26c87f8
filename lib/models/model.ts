/**
 * What a model is: its graph, the settings in which Figure 8 shows it, how checkpoints, logs and figures call it, and where its
 * public parameter files keep its weights. One record per model in this folder; everything else looks it up (index.ts).
 */
import type { Mask } from '../operators/mask.js';
import type { Graph, GraphNode } from '../operators/graph.js';
import type { Source } from './source.js';

/** One place along the figure's axis. */
export interface Setting {
  readonly batch: number;
  /** Tokens per sequence; 1 for networks. */
  readonly seq: number;
  /** Which tokens attention sees; the figure's sees all. Default none. */
  readonly mask?: Mask | undefined;
  /** Decoder layers one after another; the figure's cases have one. Default 1. */
  readonly layers?: number | undefined;
}

/** Weights and activations of a checkpoint; group −1: a scale per output channel. */
export interface FormatPair {
  readonly weight: string;
  readonly activation: string;
}

/** What a checkpoint's folder is called. */
export interface CheckpointWords {
  /** What its name begins with; the language models share one, and the folder above says which it is. */
  readonly prefix: string;
  readonly shared: boolean;
  /** What the name of a quantised network of batch 1 ends with. */
  readonly quantisedSuffix?: string;
}

/** What a policy says of one node: the formats that its weight and its input are quantised to. */
export interface NodeFormats {
  readonly weight: string | null;
  readonly input: string | null;
  /** `tensor`: one scale for the whole input, a parameter, in formats without blocks of their own. Default `token`. */
  readonly inputScale?: 'token' | 'tensor';
}

export interface Model {
  /** As in Figure 8's data and in folders: `llama2-70b`. */
  readonly id: string;
  /** As the figure prints it: `LLAMA`. */
  readonly label: string;
  /** `layer`: decoder layers, whose settings are bs<B>_seq<S>; `network`: a whole model, bs<B>. */
  readonly kind: 'layer' | 'network';
  /** Where the figure shows it; null for those that only tests use. */
  readonly figure8: { readonly settings: readonly Setting[]; readonly formats: readonly FormatPair[] } | null;
  readonly checkpoint: CheckpointWords;
  /** A file or folder that speaks of it; null: none does. */
  readonly pattern: RegExp | null;
  /** Its graph for `batch` sequences of `seq` tokens and `layers` layers; absent: checkpoints of it are only run, not built. */
  readonly graph?: (batch: number, seq: number, layers: number, mask?: Mask) => Graph;
  /** Whether its attention can have a mask. */
  readonly masked?: boolean;
  /** Which nodes are quantised, first match wins; absent: every dense product, per output channel and token. */
  readonly policy?: (node: GraphNode, formats: FormatPair) => NodeFormats;
  /**
   * Where public files of weights keep a tensor of ours, by the names of the library that the model comes from; of decoder layers the
   * names from `layers.<i>.` on.
   */
  readonly source?: (tensor: string) => Source;
  /** The same network for images of another size, a multiple of `step` pixels along each side. */
  readonly resized?: { readonly step: number; readonly graph: (image: number) => NonNullable<Model['graph']> };
  /** Tensors of a decoder layer that nothing is made of, by their names behind the layer's. */
  readonly unused?: readonly string[];
}

/** `bs1_seq1` for layers, `bs1` for networks; `bs1_seq1_layers80` for more than one layer, `bs1_seq4096_causal` with a mask. */
export function settingName(kind: Model['kind'], { batch, seq, mask = 'none', layers = 1 }: Setting): string {
  const shape = `bs${batch}${kind === 'layer' || seq > 1 ? `_seq${seq}` : ''}`;
  return `${shape}${layers > 1 ? `_layers${layers}` : ''}${mask === 'none' ? '' : `_${mask}`}`;
}

/** What a setting's name says; null for one that {@link settingName} does not write. */
export function parseSetting(name: string): { batch: number; seq: number; layers: number; mask: Mask } | null {
  const parts = /^bs([1-9]\d*)(?:_seq([1-9]\d*))?(?:_layers([1-9]\d*))?(_causal)?$/.exec(name);
  if (!parts) return null;
  const [batch, seq, layers] = [parts[1], parts[2], parts[3]].map((digits = '1') => Number(digits)) as [number, number, number];
  return { batch, seq, layers, mask: parts[4] === undefined ? 'none' : 'causal' };
}

/** A family's decoder layers in some size, which the figure does not show. */
export function layerModel(id: string, label: string, own: Pick<Model, 'graph' | 'source' | 'unused'>): Model {
  return { id, label, kind: 'layer', figure8: null, checkpoint: { prefix: 'llama2', shared: true }, pattern: null, masked: true, ...own };
}

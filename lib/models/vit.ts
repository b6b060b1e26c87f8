/**
 * timm's vit_small_patch32_224 (Dosovitskiy et al. 2021; Steiner et al. 2022): patches of 32 × 32, a class token, learned positions,
 * 12 blocks of width 384 with norms before attention and MLP, the class token's row to the classifier; and its larger ones.
 */
import { type Graph, type GraphNode, GraphBuilder } from '../operators/graph.js';
import { kFp16, kFp8, kNetworkSettings } from './figure8.js';
import type { FormatPair, Model, NodeFormats } from './model.js';
import { moduleSource, type Source } from './source.js';

/** Sizes of the network. */
export interface VitConfig {
  /** Pixels of an image, and of a patch, along each side. */
  readonly image: number;
  readonly patch: number;
  readonly hidden: number;
  readonly blocks: number;
  readonly heads: number;
  readonly mlp: number;
  readonly classes: number;
  readonly eps: number;
}

const kSmallPatch32: VitConfig = { image: 224, patch: 32, hidden: 384, blocks: 12, heads: 6, mlp: 1536, classes: 1000, eps: 1e-6 };

/** The same network at a size that tests can afford. */
const kTiny: VitConfig = { ...kSmallPatch32, image: 64, hidden: 128, blocks: 2, heads: 2, mlp: 256, classes: 100 };

const [kStem, kClassifier] = ['patch_embed', 'head'] as const;

/**
 * Images x [batch, 3, image, image] to logits [batch, classes]. A block's weights: `layer<i>.qkv` [3·hidden, hidden], `.proj`,
 * `.up` [mlp, hidden], `.down`, each with a bias; `patch_embed` [hidden, 3·patch·patch], `head`.
 */
export function vit({ image, patch, hidden, blocks, heads, mlp, classes, eps }: VitConfig, batch: number): Graph {
  const graph = new GraphBuilder();
  const columns = { name: 'c', extent: hidden };
  const seq = (image / patch) ** 2 + 1;
  const pixels = graph.input('x', [
    { name: 'b', extent: batch },
    { name: 'c', extent: 3 },
    { name: 'y', extent: image },
    { name: 'x', extent: image },
  ]);
  const patches = graph.node('patches', 'patches', [pixels], { size: patch });
  let x = graph.node(
    'embed_tokens',
    'embeddings',
    [
      graph.dense(kStem, patches, hidden, true),
      graph.parameter('class_token', 'embedding', [columns]),
      graph.parameter('positions', 'embedding', [{ name: 't', extent: seq }, columns]),
    ],
    { batch },
  );
  for (let i = 0; i < blocks; ++i) {
    const p = `layer${i}`;
    const h = graph.norm(`${p}.norm1`, x, 'layer', eps);
    const a = graph.node('attention', `${p}.attention`, [graph.dense(`${p}.qkv`, h, 3 * hidden, true)], {
      batch,
      seq,
      heads,
      kvHeads: heads,
      headDim: hidden / heads,
      order: 'concatenated',
      position: 'none',
      ropeBase: 10000,
    });
    x = graph.node('add', `${p}.attention_residual`, [graph.dense(`${p}.proj`, a, hidden, true), x]);
    const g = graph.norm(`${p}.norm2`, x, 'layer', eps);
    const u = graph.node('gelu', `${p}.gelu`, [graph.dense(`${p}.up`, g, mlp, true)]);
    x = graph.node('add', `${p}.mlp_residual`, [graph.dense(`${p}.down`, u, hidden, true), x]);
  }
  // The last norm is of rows: of the one that counts it is the same.
  const token = graph.norm('norm', graph.node('first_rows', 'class_row', [x], { batch }), 'layer', eps);
  return graph.finish([graph.dense(kClassifier, token, classes, true)]);
}

/** Stem and classifier stay float16. */
function policy({ kind, name }: GraphNode, { weight, activation }: FormatPair): NodeFormats {
  const quantised = kind === 'dense' && name !== kStem && name !== kClassifier;
  return { weight: quantised ? weight : null, input: quantised ? activation : null };
}

/** timm's names of modules, those of a block without what stands before. */
const kModules: Readonly<Record<string, string>> = {
  [kStem]: 'patch_embed.proj',
  norm: 'norm',
  [kClassifier]: 'head',
  norm1: 'norm1',
  qkv: 'attn.qkv',
  proj: 'attn.proj',
  norm2: 'norm2',
  up: 'mlp.fc1',
  down: 'mlp.fc2',
};
const kEmbeddings: Readonly<Record<string, string>> = { class_token: 'cls_token', positions: 'pos_embed' };

/** Where timm keeps a tensor. */
function source(tensor: string): Source {
  const embedding = kEmbeddings[tensor];
  if (embedding !== undefined) return { tensor: embedding };
  const [, layer, module = '', ending = ''] = /^(?:layer(\d+)\.)?(\w+)\.(\w+)$/.exec(tensor) ?? [];
  return moduleSource(`${layer === undefined ? '' : `blocks.${layer}.`}${kModules[module]}`, ending);
}

/** A network of these sizes, which the figure does not show. */
function vitModel(id: string, label: string, config: VitConfig, pattern: RegExp | null = null): Model {
  return {
    id,
    label,
    kind: 'network',
    figure8: null,
    checkpoint: { prefix: id, shared: false, quantisedSuffix: '_holistic_fp16' },
    pattern,
    graph: (batch) => vit(config, batch),
    policy,
    source,
    resized: { step: config.patch, graph: (image) => (batch) => vit({ ...config, image }, batch) },
  };
}

export const vitSmall: Model = {
  ...vitModel('vit', 'ViT', kSmallPatch32, /(?:^|[^a-z])vit(?:[^a-z]|$)/i),
  figure8: { settings: kNetworkSettings, formats: [kFp16, kFp8, { weight: 'int4', activation: 'int4' }] },
};

const kBase = { ...kSmallPatch32, hidden: 768, heads: 12, mlp: 3072 };
const kLarge = { ...kSmallPatch32, hidden: 1024, blocks: 24, heads: 16, mlp: 4096 };

export const otherVits: readonly Model[] = (
  [
    ['small', 16, kSmallPatch32],
    ['base', 32, kBase],
    ['base', 16, kBase],
    ['large', 32, kLarge],
    ['large', 16, kLarge],
  ] as const
).map(([size, patch, config]) =>
  vitModel(
    `vit-${size}-patch${patch}`,
    `ViT (${size}, ${patch})`,
    { ...config, patch },
    new RegExp(`vit[-_]${size}[-_]patch${patch}`, 'i'),
  ),
);

export const vitTiny: Model = {
  ...vitModel('vit-tiny', 'ViT (tiny)', kTiny),
  checkpoint: { ...vitSmall.checkpoint, shared: true },
};

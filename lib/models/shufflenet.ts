/**
 * torchvision's shufflenet_v2_x1_0 (Ma et al. 2018): a 3 × 3 stem and pooling, stages of 4, 8 and 4 units, a pointwise convolution, the
 * mean over each image, a classifier. Batch norms are part of the weights and biases before them.
 */
import { type Graph, type GraphNode, GraphBuilder } from '../operators/graph.js';
import { kFp16, kFp8, kNetworkSettings } from './figure8.js';
import type { FormatPair, Model, NodeFormats } from './model.js';
import { pixelRows, square, stemPool } from './resnet.js';
import { moduleSource, type Source } from './source.js';

/** Sizes of the network. */
export interface ShufflenetConfig {
  /** Pixels of an image along each side. */
  readonly image: number;
  readonly stem: number;
  /** Units and channels of each stage. */
  readonly stages: readonly (readonly [units: number, channels: number])[];
  readonly last: number;
  readonly classes: number;
}

const kX1: ShufflenetConfig = {
  image: 224,
  stem: 24,
  stages: [
    [4, 116],
    [8, 232],
    [4, 464],
  ],
  last: 1024,
  classes: 1000,
};

/** The same network at a size that tests can afford. */
const kTiny: ShufflenetConfig = {
  image: 32,
  stem: 8,
  stages: [
    [2, 20],
    [2, 40],
  ],
  last: 64,
  classes: 10,
};

const [kStem, kLast, kClassifier] = ['conv1', 'conv5', 'fc'] as const;

/** Of fake weights: what a ReLU takes of the size is given back (He et al. 2015). */
const kReluGain = Math.SQRT2;

/**
 * Images x [batch, 3, image, image] to logits [batch, classes]. Weights: `conv1` [stem, 3·3·3], of a unit `stage<i>.<j>.pw1`, `.dw`, `.pw2`,
 * of a stage's first one `.left_dw` and `.left_pw`, too, over (row, column, channel of the group); `conv5`, `fc`. Each has a bias.
 */
export function shufflenet({ image, stem, stages, last, classes }: ShufflenetConfig, batch: number): Graph {
  const graph = new GraphBuilder();
  const first = graph.conv(kStem, pixelRows(graph, batch, image), stem, square(batch, image, 3, 2), kReluGain);
  let size = image / 2;
  let x = graph.node('max_pool', 'maxpool', [graph.node('relu', `${kStem}_relu`, [first])], stemPool(batch, size));
  let width = stem;
  size /= 2;
  const pointwise = (name: string, value: number, n: number): number =>
    graph.node('relu', `${name}_relu`, [graph.dense(name, value, n, true, kReluGain)]);
  const depthwise = (name: string, value: number, channels: number, stride: number): number =>
    graph.conv(name, value, channels, square(batch, size, 3, stride, channels));
  stages.forEach(([units, channels], stage) => {
    const half = channels / 2;
    for (let unit = 0; unit < units; ++unit) {
      const p = `stage${stage + 2}.${unit}`;
      const stride = unit === 0 ? 2 : 1;
      const part = (name: string, from: number): number => graph.node('channels', `${p}.${name}`, [x], { first: from, count: half });
      const [left, right] =
        unit > 0 ? [part('left', 0), part('right', half)] : [pointwise(`${p}.left_pw`, depthwise(`${p}.left_dw`, x, width, 2), half), x];
      const inner = depthwise(`${p}.dw`, pointwise(`${p}.pw1`, right, half), half, stride);
      x = graph.node('interleave', `${p}.shuffle`, [left, pointwise(`${p}.pw2`, inner, half)]);
      size /= stride;
    }
    width = channels;
  });
  const mean = graph.node('mean_rows', 'mean', [pointwise(kLast, x, last)], { batch });
  return graph.finish([graph.dense(kClassifier, mean, classes, true)]);
}

/** Stem, classifier and depthwise convolutions stay float16; all others have one scale for their whole input. */
function policy({ kind, name }: GraphNode, { weight, activation }: FormatPair): NodeFormats {
  const quantised = kind === 'dense' && name !== kClassifier;
  return { weight: quantised ? weight : null, input: quantised ? activation : null, inputScale: 'tensor' };
}

/** torchvision's numbers of a unit's convolutions in its branches; the norm of each is the module behind it. */
const kModules: Readonly<Record<string, readonly [branch: string, index: number]>> = {
  left_dw: ['branch1', 0],
  left_pw: ['branch1', 2],
  pw1: ['branch2', 0],
  dw: ['branch2', 3],
  pw2: ['branch2', 5],
};

/** Where torchvision keeps a tensor. */
function source(tensor: string): Source {
  const [, unit = '', module = '', ending = ''] = /^((?:stage\d+\.\d+\.)?)(\w+)\.(\w+)$/.exec(tensor) ?? [];
  if (module === kClassifier) return moduleSource(kClassifier, ending);
  const [branch, index] = unit === '' ? [module, 0] : kModules[module]!;
  const own = `${unit}${branch}`;
  return {
    convolution: { weight: `${own}.${index}.weight`, norm: `${own}.${index + 1}` },
    part: ending === 'weight' ? 'weight' : 'bias',
  };
}

/** How often the stem and the stages halve an image. */
const kReduction = 32;

/** A network of these sizes, which the figure does not show. */
function shufflenetModel(id: string, label: string, config: ShufflenetConfig): Model {
  return {
    id,
    label,
    kind: 'network',
    figure8: null,
    checkpoint: { prefix: id, shared: false, quantisedSuffix: '_async' },
    pattern: null,
    graph: (batch) => shufflenet(config, batch),
    policy,
    source,
    resized: { step: kReduction, graph: (image) => (batch) => shufflenet({ ...config, image }, batch) },
  };
}

export const shufflenetV2: Model = {
  ...shufflenetModel('shufflenet-v2', 'ShuffleNet', kX1),
  figure8: { settings: kNetworkSettings, formats: [kFp16, kFp8] },
  checkpoint: { prefix: 'shufflenet', shared: false, quantisedSuffix: '_async' },
  pattern: /shufflenet/i,
};

export const shufflenetTiny: Model = {
  ...shufflenetModel('shufflenet-tiny', 'ShuffleNet (tiny)', kTiny),
  checkpoint: { ...shufflenetV2.checkpoint, shared: true },
};

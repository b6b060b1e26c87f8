/**
 * torchvision's resnet50 (He et al. 2016): a 7 × 7 stem, 3-4-6-3 bottlenecks whose 3 × 3 convolutions have the stride, the mean over
 * each image, a classifier; and its smaller and larger ones, of which the small have blocks of two 3 × 3 convolutions. Batch norms are
 * part of the weights and biases before them.
 */
import type { ConvParameters } from '../operators/conv-parameters.js';
import { type Graph, type GraphNode, GraphBuilder } from '../operators/graph.js';
import { kFp16, kFp8, kMxfp8, kNetworkSettings } from './figure8.js';
import type { FormatPair, Model, NodeFormats } from './model.js';
import { moduleSource, type Source } from './source.js';

/** Sizes of the network. */
export interface ResnetConfig {
  /** Pixels of an image along each side. */
  readonly image: number;
  /** `bottleneck`: 1 × 1, 3 × 3 and 1 × 1 to four times as many channels; `basic`: two of 3 × 3. */
  readonly block: 'basic' | 'bottleneck';
  /** Channels of the stem, and of the inner convolutions of the first stage; each stage doubles them. */
  readonly width: number;
  /** Blocks of each stage. */
  readonly blocks: readonly number[];
  readonly classes: number;
}

const kResnet50: ResnetConfig = { image: 224, block: 'bottleneck', width: 64, blocks: [3, 4, 6, 3], classes: 1000 };

/** The same network at a size that tests can afford. */
const kTiny: ResnetConfig = { image: 32, block: 'bottleneck', width: 32, blocks: [2, 1], classes: 10 };

const [kStem, kClassifier] = ['conv1', 'fc'] as const;
/** How many times as many channels a bottleneck ends with. */
const kExpansion = 4;

/** Of fake weights: what a ReLU takes of the size is given back (He et al. 2015); sums with residuals grow slowly. */
const kReluGain = Math.SQRT2;
const kResidualGain = 0.5;

/** A square convolution over a square image that keeps its size but for the stride. */
export function square(batch: number, image: number, kernel: number, stride: number, groups = 1): ConvParameters {
  const padding = (kernel - 1) / 2;
  return {
    batch,
    height: image,
    width: image,
    kernelY: kernel,
    kernelX: kernel,
    stride,
    paddingY: padding,
    paddingX: padding,
    groups,
  };
}

/** The pooling behind the stems here: 3 × 3, every second pixel. */
export function stemPool(batch: number, image: number): Readonly<Record<string, number>> {
  return { batch, height: image, width: image, kernel: 3, stride: 2, padding: 1 };
}

/** A float16 image [batch, 3, image, image], as rows of pixels. */
export function pixelRows(graph: GraphBuilder, batch: number, image: number): number {
  const pixels = graph.input('x', [
    { name: 'b', extent: batch },
    { name: 'c', extent: 3 },
    { name: 'y', extent: image },
    { name: 'x', extent: image },
  ]);
  return graph.node('patches', 'pixels', [pixels], { size: 1 });
}

/**
 * Images x [batch, 3, image, image] to logits [batch, classes]. Weights: `conv1` [width, 7·7·3], of a block `layer<i>.<j>.conv1`, `.conv2`,
 * of a bottleneck `.conv3` and, where its residual changes size, `.downsample`, over (row, column, channel); `fc`. Each has a bias.
 */
export function resnet({ image, block: kind, width, blocks, classes }: ResnetConfig, batch: number): Graph {
  const graph = new GraphBuilder();
  const stem = graph.conv(kStem, pixelRows(graph, batch, image), width, square(batch, image, 7, 2), kReluGain);
  let size = image / 2;
  let x = graph.node('max_pool', 'maxpool', [graph.node('relu', `${kStem}_relu`, [stem])], stemPool(batch, size));
  let channels = width;
  size /= 2;
  blocks.forEach((count, stage) => {
    const inner = width * 2 ** stage;
    const outer = kind === 'basic' ? inner : kExpansion * inner;
    for (let block = 0; block < count; ++block) {
      const p = `layer${stage + 1}.${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const relu = (name: string, value: number): number => graph.node('relu', `${p}.${name}`, [value]);
      const shortcut = (): number =>
        stride === 1 && channels === outer ? x : projection(graph, `${p}.downsample`, x, outer, square(batch, size, 1, stride));
      if (kind === 'basic') {
        const c1 = relu('relu1', graph.conv(`${p}.conv1`, x, inner, square(batch, size, 3, stride), kReluGain));
        const residual = shortcut();
        const c2 = graph.conv(`${p}.conv2`, c1, outer, square(batch, size / stride, 3, 1), kResidualGain);
        x = relu('relu2', graph.node('add', `${p}.residual`, [c2, residual]));
      } else {
        const c1 = relu('relu1', graph.dense(`${p}.conv1`, x, inner, true, kReluGain));
        const c2 = relu('relu2', graph.conv(`${p}.conv2`, c1, inner, square(batch, size, 3, stride), kReluGain));
        const residual = shortcut();
        const c3 = graph.dense(`${p}.conv3`, c2, outer, true, kResidualGain);
        x = relu('relu3', graph.node('add', `${p}.residual`, [c3, residual]));
      }
      channels = outer;
      size /= stride;
    }
  });
  return graph.finish([graph.dense(kClassifier, graph.node('mean_rows', 'avgpool', [x], { batch }), classes, true)]);
}

/** A residual of other channels; without a stride it is a product of rows. */
function projection(graph: GraphBuilder, name: string, x: number, n: number, params: ConvParameters): number {
  return params.stride === 1 ? graph.dense(name, x, n, true) : graph.conv(name, x, n, params);
}

/** Stem and classifier stay float16; all others have one scale for their whole input. */
function policy({ kind, name }: GraphNode, { weight, activation }: FormatPair): NodeFormats {
  const quantised = (kind === 'dense' || kind === 'conv') && name !== kStem && name !== kClassifier;
  return { weight: quantised ? weight : null, input: quantised ? activation : null, inputScale: 'tensor' };
}

/** Where torchvision keeps a tensor. */
function source(tensor: string): Source {
  const [, block = '', module = '', ending = ''] = /^((?:layer\d+\.\d+\.)?)(\w+)\.(\w+)$/.exec(tensor) ?? [];
  if (module === kClassifier) return moduleSource(kClassifier, ending);
  const [conv, norm] =
    module === 'downsample' ? [`${block}downsample.0`, `${block}downsample.1`] : [`${block}${module}`, `${block}bn${module.slice(-1)}`];
  return { convolution: { weight: `${conv}.weight`, norm }, part: ending === 'weight' ? 'weight' : 'bias' };
}

/** How often the stem and the stages halve an image. */
const kReduction = 32;

/** A network of these sizes, which the figure does not show. */
function resnetModel(id: string, label: string, config: ResnetConfig, pattern: RegExp | null = null): Model {
  return {
    id,
    label,
    kind: 'network',
    figure8: null,
    checkpoint: { prefix: id, shared: false, quantisedSuffix: '_async' },
    pattern,
    graph: (batch) => resnet(config, batch),
    policy,
    source,
    resized: { step: kReduction, graph: (image) => (batch) => resnet({ ...config, image }, batch) },
  };
}

export const resnet50: Model = {
  ...resnetModel('resnet-50', 'ResNet', kResnet50, /resnet/i),
  figure8: { settings: kNetworkSettings, formats: [kFp16, kFp8, kMxfp8, { weight: 'int1', activation: 'int4' }] },
};

export const otherResnets: readonly Model[] = [
  resnetModel('resnet-18', 'ResNet-18', { ...kResnet50, block: 'basic', blocks: [2, 2, 2, 2] }, /resnet-?18/i),
  resnetModel('resnet-34', 'ResNet-34', { ...kResnet50, block: 'basic' }, /resnet-?34/i),
  resnetModel('resnet-101', 'ResNet-101', { ...kResnet50, blocks: [3, 4, 23, 3] }, /resnet-?101/i),
  resnetModel('resnet-152', 'ResNet-152', { ...kResnet50, blocks: [3, 8, 36, 3] }, /resnet-?152/i),
];

export const resnetTiny: Model = {
  ...resnetModel('resnet-tiny', 'ResNet (tiny)', kTiny),
  checkpoint: { ...resnet50.checkpoint, shared: true },
};

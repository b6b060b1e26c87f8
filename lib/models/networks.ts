/** Networks of convolutions that Figure 8 has: checkpoints of them that others built are run, timed and compared; this package builds none yet. */
import { kFp16, kFp8, kMxfp8, kNetworkSettings } from './figure8.js';
import type { FormatPair, Model } from './model.js';

function network(
  id: string,
  label: string,
  pattern: RegExp,
  prefix: string,
  formats: readonly FormatPair[],
  quantisedSuffix = '_async',
): Model {
  return {
    id,
    label,
    kind: 'network',
    figure8: { settings: kNetworkSettings, formats },
    checkpoint: { prefix, shared: false, quantisedSuffix },
    pattern,
  };
}

export const resnet50 = network('resnet-50', 'ResNet', /resnet/i, 'resnet-50', [
  kFp16,
  kFp8,
  kMxfp8,
  { weight: 'int1', activation: 'int4' },
]);
export const shufflenetV2 = network('shufflenet-v2', 'ShuffleNet', /shufflenet/i, 'shufflenet', [kFp16, kFp8]);

/** What the models of Figure 8 have in common: its settings and its pairs of formats. */
import type { FormatPair, Setting } from './model.js';

export const kLanguageModelSettings: readonly Setting[] = [
  { batch: 1, seq: 1 },
  { batch: 32, seq: 1 },
  { batch: 1, seq: 4096 },
];
export const kNetworkSettings: readonly Setting[] = [
  { batch: 1, seq: 1 },
  { batch: 128, seq: 1 },
];

export const kFp16: FormatPair = { weight: 'fp16', activation: 'fp16' };
export const kFp8: FormatPair = { weight: 'fp8_e5m2', activation: 'fp8_e5m2' };
export const kMxfp8: FormatPair = { weight: 'mxfp8_e5m2', activation: 'mxfp8_e5m2' };

export const kLanguageModelFormats: readonly FormatPair[] = [
  kFp16,
  { weight: 'int4', activation: 'fp16' },
  { weight: 'nf4', activation: 'fp16' },
  kFp8,
  kMxfp8,
  { weight: 'int1', activation: 'int8' },
];

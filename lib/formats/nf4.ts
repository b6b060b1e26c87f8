/** NormalFloat of 4 bits: QLoRA (Dettmers et al. 2023), Appendix E. */
import { defineFormat } from './format.js';

/** The 16 values, ascending, in FP32. */
export const kNf4Values: readonly number[] = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
  0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1.0,
].map(Math.fround);

export const nf4 = defineFormat({
  id: 'nf4',
  label: 'NF4',
  element: { bits: 4, codes: { kind: 'table', values: kNf4Values, tie: 'lower' } },
  weight: {
    tvm: 'uint8',
    scale: { type: 'f16', fit: { kind: 'absmax', top: 1 }, choice: 'mse' },
    groups: [-1, 64, 128],
    pairedWith: 'fp16',
    word: { format: 'nf', bits: 4 },
    fill: () => ({ kind: 'bits' }),
    meanSquare: 0.2675,
    enumerator: 'kNf4',
  },
});

/** Two's complement integers with scales, and the one-bit weights −1 and +1. */
import { defineFormat, plainWord } from './format.js';

const kTokenScaleProbe = { kind: 'uniform', low: 0.005, high: 0.02 } as const;

/** −8…7 × scale; the largest magnitude becomes 7. */
export const int4 = defineFormat({
  id: 'int4',
  label: 'INT4',
  element: { bits: 4, codes: { kind: 'integer', min: -8, max: 7 } },
  weight: {
    tvm: 'uint8',
    scale: { type: 'f16', fit: { kind: 'absmax', top: 7 }, choice: 'mse' },
    groups: [-1, 64, 128],
    pairedWith: 'fp16',
    word: { format: 'int', bits: 4 },
    fill: () => ({ kind: 'bits' }),
    meanSquare: 21.5,
    enumerator: 'kInt4',
  },
  // One code per byte. Multiplied as INT8: tensor cores have no INT4 rate of its own since compute capability 9.0.
  activation: {
    tvm: 'int8',
    scale: { type: 'f32', fit: { kind: 'absmax', top: 7 } },
    group: -1,
    arithmetic: 'int8',
    word: (weight) => (plainWord(weight)?.format === 'int' ? { format: 'int4b', convertsToInt8: false } : null),
    probe: { kind: 'uniform', low: -7, high: 8 },
    scaleProbe: kTokenScaleProbe,
    enumerator: 'kInt4',
  },
});

/** As weights in the authors' names only; no tuned kernel takes them. */
export const int8 = defineFormat({
  id: 'int8',
  label: 'INT8',
  element: { bits: 8, codes: { kind: 'integer', min: -127, max: 127 } },
  weight: {
    tvm: 'uint8',
    scale: { type: 'f16', fit: { kind: 'absmax', top: 127 }, choice: 'absmax' },
    groups: [-1],
    pairedWith: 'int8',
    word: { format: 'int', bits: 8 },
    fill: () => ({ kind: 'bits' }),
    meanSquare: 5461.5,
  },
  activation: {
    tvm: 'int8',
    scale: { type: 'f32', fit: { kind: 'absmax', top: 127 } },
    group: -1,
    arithmetic: 'int8',
    word: (weight) => (weight.weight?.word ? { format: weight.weight.word.format, convertsToInt8: true } : null),
    probe: { kind: 'uniform', low: -127, high: 128 },
    scaleProbe: kTokenScaleProbe,
    enumerator: 'kInt8',
  },
});

/** Codes 0 and 1 mean −1 and +1; × scale. */
export const int1 = defineFormat({
  id: 'int1',
  label: 'INT1',
  element: { bits: 1, codes: { kind: 'table', values: [-1, 1], tie: 'upper' } },
  weight: {
    tvm: 'uint8',
    scale: { type: 'f16', fit: { kind: 'mean' }, choice: 'absmax' },
    groups: [-1],
    pairedWith: 'int8',
    word: { format: 'int', bits: 1 },
    fill: () => ({ kind: 'bits' }),
    meanSquare: 1,
    enumerator: 'kInt1',
  },
});

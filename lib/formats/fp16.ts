/** IEEE 754 binary16: weights as they are, and the activations that weights of 4 bits are multiplied by. */
import { kHalf } from './codes.js';
import { defineFormat, plainWord } from './format.js';

export const fp16 = defineFormat({
  id: 'fp16',
  label: 'FP16',
  element: { bits: 16, codes: kHalf },
  weight: {
    tvm: 'float16',
    scale: null,
    groups: [-1],
    pairedWith: 'fp16',
    word: null,
    fill: (k) => ({ kind: 'uniform', low: -Math.sqrt(3 / k), high: Math.sqrt(3 / k) }),
    meanSquare: 1,
    enumerator: 'kFp16',
  },
  activation: {
    tvm: 'float16',
    scale: null,
    group: -1,
    arithmetic: 'fp16',
    // Weights whose own kind says no more than they do, as FP8's, are multiplied by that where a name says nothing.
    word: (weight) => {
      const [plain, own] = [plainWord(weight), weight.activation?.word(weight)];
      return own && own.format === plain?.format && !own.convertsToInt8 ? null : plain;
    },
    probe: { kind: 'uniform', low: -1, high: 1 },
    scaleProbe: { kind: 'uniform', low: 1, high: 1 },
    enumerator: 'kFp16',
  },
});

// Kernels of networks of images on a real GPU against the reference: units of separable convolutions with and without a product before,
// slices and turns, strides, rows that bands do not divide, FP8, every tuning with and without clusters; pooling, alone and in stems, with codes and means; patches and
// tokens; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { separable } from '../../lib/compiler/kernels/separable.js';
import { poolOperators, stemOperators, tokenOperators, type Unit, unitOperators } from '../fixtures/images.js';
import { storedProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

const units: readonly Unit[] = [
  { batch: 2, size: 28, channels: [58, 58, 58], turns: true },
  { batch: 2, size: 14, channels: [116, 116, 116], turns: true },
  { batch: 3, size: 7, channels: [232, 232, 232], turns: true },
  { batch: 1, size: 12, channels: [24, 58, 58], stride: 2 },
  { batch: 2, size: 9, channels: [24, 24, 58], stride: 2, expand: false },
  { batch: 2, size: 5, channels: [10, 18, 22] },
  { batch: 1, size: 28, channels: [58, 58, 58], turns: true },
  { batch: 1, size: 14, channels: [232, 232, 232], stride: 2 },
  { batch: 1, size: 14, channels: [232, 232, 232], stride: 2, expand: false },
];
const cases = ['fp16', 'fp8_e5m2', 'fp8_e4m3'].flatMap((weight) =>
  units.flatMap((unit, i): OperatorCase[] => {
    const [operator] = unitOperators({ ...unit, weight });
    const tunings = weight === 'fp8_e5m2' ? [{}] : storedProgram(operator!, [separable]).configurations();
    return tunings.map((tuning, j) => ({ name: `unit_${weight}_${i}_${j}`, operator: operator!, among: [separable], tuning }));
  }),
);
const pools = [
  ...poolOperators(3, 16, 64),
  ...poolOperators(2, 11, 24, 'fp8_e5m2'),
  ...poolOperators(2, 12, 64, 'int4'),
  ...poolOperators(2, 12, 64, 'mxfp8_e5m2'),
  ...stemOperators(3, 64, 7, 64),
  // Stems with windows: blocks of a row of them, with 16 and 32 outputs; bands of one tile and of several, with ends.
  ...stemOperators(2, 32, 3, 24),
  ...stemOperators(2, 32, 7, 64, 'mxfp8_e5m2'),
  ...stemOperators(1, 224, 7, 64),
  ...stemOperators(1, 224, 7, 64, 'int4'),
  ...stemOperators(1, 224, 3, 24),
  ...stemOperators(2, 224, 3, 24, 'fp8_e5m2'),
  ...stemOperators(2, 224, 7, 64, 'fp8_e5m2'),
  ...stemOperators(3, 224, 7, 64),
  ...stemOperators(45, 32, 7, 64, 'int4'),
  ...stemOperators(128, 32, 7, 64),
  ...stemOperators(128, 32, 3, 24, 'fp8_e5m2'),
].map((operator, i): OperatorCase => ({ name: `pool_${i}`, operator }));
const tokens = [...tokenOperators(3, 48, 16), ...tokenOperators(1, 40, 8)].map(
  (operator, i): OperatorCase => ({ name: `tokens_${i}`, operator }),
);

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

describe('kernels of images', { timeout: 900_000 }, () => {
  it('separable convolutions, every tuning', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases, ['sm_90a']);
  });
  it('separable convolutions from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(
      cases.filter(({ name }) => name.endsWith('_0')),
      ['compute_80'],
    );
  });
  it.for(['sm_90a', 'compute_80'])('pooling, means, patches and tokens, %s', async (target, { skip }) => {
    if (missing) skip(missing);
    await verifyOperators([...pools, ...tokens], [target]);
  });
});

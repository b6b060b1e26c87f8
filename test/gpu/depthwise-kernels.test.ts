// Depthwise convolutions on a real GPU against the reference: frames and images, strides, padding, runs that end past a line, channels
// that fill no warp, tiles that end past a line and taps of every number of bands; as machine code and, forced, from compute_80 PTX.
import { beforeAll, describe, it } from 'vitest';
import { depthwise } from '../../lib/compiler/kernels/depthwise.js';
import { layoutTarget } from '../../lib/compiler/targets.js';
import { type ConvShape, convProgram } from '../fixtures/programs.js';
import { missingForOperators, type OperatorCase, verifyOperators } from './operator-checkpoint.js';

const square = { kernelY: 3, kernelX: 3, paddingY: 1, paddingX: 1 };
const shapes: readonly ConvShape[] = [
  { channels: 512, groups: 512, batch: 2, height: 512, kernelY: 31, paddingY: 15, bias: true, after: ['silu'] },
  { channels: 512, groups: 512, batch: 40, height: 130, kernelY: 31, paddingY: 15, bias: true, after: ['silu'] },
  ...[1, 2, 3, 9, 10, 17, 18, 25, 26, 33].map((kernelY) => ({
    channels: 64,
    groups: 64,
    batch: 3,
    height: 141,
    kernelY,
    paddingY: kernelY % 4,
    bias: kernelY % 2 === 0,
  })),
  { channels: 66, groups: 66, batch: 3, height: 37, kernelY: 31, paddingY: 15, bias: true },
  { channels: 64, groups: 64, batch: 2, height: 50, kernelY: 5 },
  ...[1, 2].flatMap((stride) => [
    { channels: 58, groups: 58, batch: 3, height: 28, width: 28, ...square, stride, bias: true },
    { channels: 232, groups: 232, batch: 2, height: 7, width: 9, ...square, stride, after: ['relu'] },
    { channels: 10, groups: 10, batch: 2, height: 5, width: 6, kernelY: 7, kernelX: 5, paddingY: 3, paddingX: 0, stride },
  ]),
  { channels: 8, groups: 8, batch: 2, height: 9, width: 1, ...square },
];
const cases = shapes.flatMap((shape, i): OperatorCase[] => {
  const program = convProgram(shape);
  const match = depthwise.accepts(program, layoutTarget);
  return depthwise
    .configurations(match, layoutTarget)
    .map((tuning) => ({ name: `depthwise_${i}_${tuning['run'] ?? 'banded'}`, operator: program, tuning, among: [depthwise] }));
});

let missing: string | null = null;
beforeAll(async () => {
  missing = await missingForOperators();
});

describe('depthwise convolutions', { timeout: 900_000 }, () => {
  it('of frames and images, every run', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases);
  });
  it('the same from compute_80 PTX', async ({ skip }) => {
    if (missing) skip(missing);
    await verifyOperators(cases, ['compute_80']);
  });
});

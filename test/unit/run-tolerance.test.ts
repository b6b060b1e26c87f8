// Tolerances: honest kernels pass, typical defects fail, NaN never passes.
import { describe, expect, it } from 'vitest';
import { programOfV1 } from '../../lib/artifact/upgrade.js';
import type { VerifyOutput } from '../../lib/native.js';
import type { Program } from '../../lib/operators/program.js';
import { endToEndTolerance, judge, toleranceOf } from '../../lib/run/tolerance.js';
import { denseShape, type DenseShapeV1, plainDense } from '../fixtures/programs.js';

const dense = (change: Partial<DenseShapeV1> = {}): Program => plainDense({ ...denseShape('fp16'), n: 8192, k: 8192, ...change });
const quantise = (activation: string): Program => programOfV1({ op: 'quantise', m: 1, k: 8192, activation });

const perfect: VerifyOutput = {
  compared: 8192,
  elements: 8192,
  unwritten: 0,
  nonFinite: 0,
  maxAbsolute: 0,
  relativeL2: 0,
  maxOverRms: 0,
  differing: 0,
  differingByMore: 0,
  deterministic: true,
};

describe('tolerance of products', () => {
  it('allows for one FP16 rounding and is far below one missed tile of 64', () => {
    const { relativeL2 } = toleranceOf(dense(), 0);
    expect(relativeL2).toBeGreaterThanOrEqual(2 ** -11);
    expect(relativeL2).toBeLessThan(Math.sqrt(64 / 8192) / 20);
  });

  it.each([
    ['fp16 with a norm', dense({ norm: { kind: 'rms', eps: 1e-5 } })],
    ['int4', dense({ weight: 'int4' })],
    ['int4 in groups', dense({ weight: 'int4', group: 128 })],
    ['nf4', dense({ weight: 'nf4' })],
    ['int1 × int8', dense({ weight: 'int1', activation: 'int8' })],
    ['fp8', dense({ weight: 'fp8_e5m2', activation: 'fp8_e5m2' })],
    ['SiLU · up', dense({ function: 'silu_mul' })],
    ['k of BLOOM', dense({ k: 57344 })],
  ])('stays sharp for %s', (_, operator) => {
    const { relativeL2, terms } = toleranceOf(operator, 0);
    expect(relativeL2).toBeLessThan(0.03);
    expect(relativeL2).toBeGreaterThanOrEqual(toleranceOf(dense(), 0).relativeL2);
    expect(terms.length).toBeGreaterThan(0);
  });

  it('is exact integers plus rounding where codes come in ready', () => {
    expect(toleranceOf(dense({ weight: 'int1', activation: 'int8', input: 'quantised' }), 0).relativeL2).toBeLessThan(2 ** -10);
  });
});

describe('judge', () => {
  const tolerance = toleranceOf(dense(), 0);
  it('passes the perfect and the rounded', () => {
    expect(judge(tolerance, perfect)).toEqual([]);
    expect(judge(tolerance, { ...perfect, relativeL2: 2 ** -12, maxOverRms: 2 ** -9 })).toEqual([]);
  });

  it.each([
    ['unwritten', { unwritten: 1 }, /1 of 8192 elements were never written/],
    ['not finite', { nonFinite: 2 }, /2 elements are not finite/],
    ['nothing compared', { compared: 0 }, /nothing was compared/],
    ['NaN error', { relativeL2: Number.NaN }, /relative L2/],
    ['large L2', { relativeL2: 0.09 }, /relative L2 error 9.00e-2 exceeds/],
    ['one wrong element', { maxOverRms: 1.2 }, /largest error is 1.20e\+0/],
  ])('fails %s', (_, change, reason) => {
    expect(judge(tolerance, { ...perfect, ...change }).join()).toMatch(reason);
  });

  it('counts codes', () => {
    const codes = toleranceOf(quantise('int8'), 0);
    expect(codes.kind).toBe('codes');
    expect(judge(codes, { ...perfect, differing: 2 / 8192, relativeL2: 1 })).toEqual([]);
    expect(judge(codes, { ...perfect, differing: 0.01 }).join()).toMatch(/1.00 % of the codes differ/);
    expect(judge(codes, { ...perfect, differingByMore: 1 / 8192 }).join()).toMatch(/more than one step/);
    expect(judge(codes, { ...perfect, compared: 64, differing: 2 / 64 })).toEqual([]);
    expect(toleranceOf(quantise('int8'), 1).kind).toBe('numbers');
    expect(toleranceOf(quantise('mxfp8_e4m3'), 1).kind).toBe('codes');
  });
});

it('end to end is looser than each operator and still below an error of the size of the output', () => {
  for (const activation of ['fp16', 'int8', 'fp8_e5m2', 'int4'] as const) {
    const programs = [dense({ activation }), dense({ activation }), dense({ activation }), dense({ activation })];
    const { relativeL2 } = endToEndTolerance(programs);
    expect(relativeL2).toBeGreaterThan(toleranceOf(dense({ activation }), 0).relativeL2);
    expect(relativeL2).toBeLessThan(0.75);
  }
});

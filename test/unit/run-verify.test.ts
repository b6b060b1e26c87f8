// Verification finds what is wrong: the reference's own executor stands in for a device, honest at first, then with
// damaged results.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { planExecutor } from '../../lib/artifact/plan.js';
import { buildCheckpoints } from '../../lib/compiler/build.js';
import { parseRequest } from '../../lib/compiler/request.js';
import { renderVerify } from '../../lib/cli/verify.js';
import { native, type NativeExecutor, type VerifyOutput } from '../../lib/native.js';
import { fillWeights, openCheckpoint, type Loaded } from '../../lib/run/load.js';
import { loadOptionsSchema, parseOptions, verifyOptionsSchema } from '../../lib/run/option-checks.js';
import type { VerifyReport } from '../../lib/run/verdict.js';
import { verifyLoaded } from '../../lib/run/verify.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-verify-'));
afterAll(() => rm(root, { recursive: true, force: true }));
const built = await buildCheckpoints(
  ['fp16', 'fp8', 'int1'].map((weight) => parseRequest({ model: 'llama2-tiny', batch: 2, seq: 1, weight })),
  { root, compile: false },
);

let loaded: Loaded;
const open = async (index: number, seed?: number): Promise<void> => {
  loaded = await openCheckpoint(built[index]!.folder, parseOptions(loadOptionsSchema, { device: 'cpu', seed }));
};
beforeEach(() => open(0));
afterEach(() => loaded.executor.dispose());

const bound = (target: object, name: string | symbol): unknown => {
  const value: unknown = Reflect.get(target, name);
  return typeof value === 'function' ? value.bind(target) : value;
};

/** Verifies with some of the executor's methods replaced, as if it were a device of its own. */
function verify(change: Partial<NativeExecutor> = {}, options: object = {}): Promise<VerifyReport> {
  const executor = new Proxy(loaded.executor, {
    get: (target, name) => change[name as keyof NativeExecutor] ?? bound(target, name),
  });
  return verifyLoaded({ ...loaded, executor, usesReference: false }, parseOptions(verifyOptionsSchema, options));
}

/** Damages the outputs of one operator's comparison. */
const damaged = (operator: number, damage: Partial<VerifyOutput>): Partial<NativeExecutor> => ({
  async verifyOperator(index, options) {
    const results = await loaded.executor.verifyOperator(index, options);
    return index === operator ? results.map((result) => ({ ...result, ...damage })) : results;
  },
});

describe('an honest device', () => {
  it.each([0, 1, 2])('passes, end to end as well (checkpoint %i)', async (index) => {
    await loaded.executor.dispose();
    await open(index);
    const report = await verify({}, { endToEnd: 'full' });
    expect(report.operators.flatMap(({ failures }) => failures)).toEqual([]);
    expect(report.endToEnd).toMatchObject([{ passed: true, bitEqual: true, relativeL2: 0, nonFinite: 0 }]);
    expect(report.endToEnd[0]!.tolerance).toBeGreaterThan(0);
    expect(report.passed).toBe(true);
    expect(renderVerify(built[index]!.folder, report)).toMatch(/\nverified$/);
  });

  it('is compared on the weights of the seed that it was loaded with', async () => {
    await loaded.executor.dispose();
    await open(0, 77);
    expect(await verify({}, { endToEnd: 'full' })).toMatchObject({ passed: true, endToEnd: [{ relativeL2: 0 }] });
  });
});

describe('a damaged one', () => {
  it.each([
    ['an error', { relativeL2: 0.05 }, /relative L2 error 5.00e-2 exceeds/],
    ['NaN', { relativeL2: Number.NaN, maxOverRms: Number.NaN }, /relative L2 error NaN/],
    ['a hole', { unwritten: 3 }, /3 of \d+ elements were never written/],
    ['an infinity', { nonFinite: 1 }, /1 elements are not finite/],
  ])('is found by %s in one operator', async (_, damage, message) => {
    const report = await verify(damaged(2, damage), { endToEnd: 'off' });
    expect(report.passed).toBe(false);
    const { node } = loaded.plan.operators[2]!;
    expect(report.operators.filter(({ passed }) => !passed).map((verdict) => verdict.node)).toEqual([node]);
    const text = renderVerify(built[0]!.folder, report);
    expect(text).toMatch(message);
    expect(text).toMatch(new RegExp(`^${node} .* MISMATCH$`, 'm'));
    expect(text).toMatch(/\nMISMATCH$/);
  });

  it('is found by its output end to end', async () => {
    const report = await verify(
      {
        async read(entry, offset, length) {
          const bytes = await loaded.executor.read(entry, offset, length);
          // Every 50th half to −0: a tile that was missed.
          new Uint16Array(bytes).forEach((_, i, all) => {
            if (i % 50 === 0) all[i] = 0x8000;
          });
          return bytes;
        },
      },
      { endToEnd: 'full' },
    );
    expect(report.operators.every(({ passed }) => passed)).toBe(true);
    expect(report.endToEnd[0]).toMatchObject({ passed: false, bitEqual: true });
    expect(report.passed).toBe(false);
  });

  it('is found where graph.json lets a tensor overwrite another that is still needed', async () => {
    // The first operator's result goes into the buffer of the graph's input, which the residual adds later.
    const { plan, fills } = loaded;
    const { graph } = loaded.checkpoint;
    const { storageId } = graph.entries[plan.operators[0]!.inputs[0]!]!;
    const [output] = plan.operators[0]!.outputs;
    const entries = graph.entries.map((entry, i) => (i === output ? { ...entry, storageId } : entry));
    const checkpoint = { ...loaded.checkpoint, graph: { ...graph, entries } };
    const clobbering = planExecutor(checkpoint, { deviceType: 1, deviceOrdinal: 0, useReference: true });
    const executor = await native().openExecutor(clobbering);
    try {
      await fillWeights(checkpoint, executor, undefined, {});
      const options = parseOptions(verifyOptionsSchema, { endToEnd: 'full' });
      for (const { entry, fill, key } of fills) await executor.fill(entry, fill, key);
      const device = { ...loaded, checkpoint, plan: clobbering, executor, usesReference: false };
      // Operator by operator nothing can be found, or be told: only what happens between them is wrong.
      const honest = new Proxy(executor, {
        get: (target, name) => (name === 'verifyOperator' ? loaded.executor.verifyOperator.bind(loaded.executor) : bound(target, name)),
      });
      const report = await verifyLoaded({ ...device, executor: honest }, options);
      expect(report.operators.every(({ passed }) => passed)).toBe(true);
      expect(report.endToEnd).toMatchObject([{ passed: false, bitEqual: true }]);
    } finally {
      await executor.dispose();
    }
  });

  it('is found by not being finite, and two differing runs are stated', async () => {
    let reads = 0;
    const report = await verify(
      {
        async read(entry, offset, length) {
          const bytes = await loaded.executor.read(entry, offset, length);
          reads += 1;
          new Uint16Array(bytes)[0] = reads === 1 ? 0x7c00 : 0x3c00;
          return bytes;
        },
      },
      { endToEnd: 'auto' },
    );
    expect(report.endToEnd[0]).toMatchObject({ passed: false, bitEqual: false, nonFinite: 1 });
    expect(renderVerify(built[0]!.folder, report)).toMatch(/differ by/);
  });
});

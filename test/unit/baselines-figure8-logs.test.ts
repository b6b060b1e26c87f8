/**
 * Every published log of Figure 8 against the artifact's values. The logs are not part of the project: the folder that
 * holds `logs/` and `ladder-a100-ops.json` is named by LADDER_FIGURE8_LOGS (default: ../shared/data/figure8), and without
 * it these tests are skipped.
 */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { scanLogs, parseLog, type BaselineEntry } from '../../lib/baselines/scan.js';
import { logFiles } from '../../lib/baselines/files.js';
import type { AmosResult } from '../../lib/baselines/systems/amos.js';
import type { LadderResult } from '../../lib/baselines/systems/ladder.js';
import { entriesOfSet } from '../../lib/figure8/entries.js';
import { loadFigureSet } from '../../lib/figure8/data.js';
import { LadderError } from '../../lib/errors.js';
import { packageRoot } from '../../lib/run/package.js';
import { random } from '../fixtures/random.js';

const folder = process.env.LADDER_FIGURE8_LOGS ?? resolve(packageRoot, '../shared/data/figure8');
const logs = resolve(folder, 'logs');
const present = existsSync(logs);
if (!present) console.log(`skipped: the published logs are not in ${logs}; LADDER_FIGURE8_LOGS names another folder`);

/** Logs that have no result, and why. */
const without: Readonly<Record<string, RegExp>> = {
  'tensorrt/vit-b1.log': /^empty$/,
  'ladder-cnn-logs.tar.gz/shufflenet-b128_int4b.log': /^empty$/,
  'ladder-cnn-logs.tar.gz/Conformer-b128_int8xint4.log': /^failed: RuntimeError: No CUDA GPUs/,
  'ladder-cnn-logs.tar.gz/Conformer-b1_int4b.log': /^failed: AssertionError/,
  'ladder-cnn-logs.tar.gz/vit-b128_fp8_e5m2.log': /^failed: .*unrecognized arguments/,
  'ladder-cnn-logs.tar.gz/vit-b128_int4b.log': /^failed: .*unrecognized arguments/,
  'ladder-cnn-logs.tar.gz/Conformer-b128_int4b.log': /^conflict: its name says format W_INT4 A_INT4, its text W_INT1 A_INT4$/,
  'ladder-cnn-logs.tar.gz/Conformer-b128_int4bxint1.log': /^conflict: its name says format W_INT1 A_INT4, its text W_INT4 A_INT4$/,
  'ladder-cnn-logs.tar.gz/resnet-50-b1_int4b.log': /^conflict: its name says format W_INT4 A_INT4, its text W_INT1 A_INT4$/,
};

/** Logs whose result is not the artifact's value, and why. */
const otherwise: Readonly<Record<string, string>> = {
  'pytorch-inductor/vit.log': "names no batch, so it is nobody's case",
  'ladder-cnn-logs.tar.gz/Conformer-b128_fp8_e5m2.log': 'the artifact plots 58.6012 ms, which no published log holds',
  'ladder-cnn-logs.tar.gz/resnet-50-b128_int4bxint1.log': 'the artifact plots the checkpoint with 4-bit weights, 6.1345 ms',
  'ladder-cnn-logs.tar.gz/resnet-50-b1_int4bxint1.log': 'the artifact plots resnet-50-b1_int4b.log, 1.1411 ms',
  'ladder-cnn-logs.tar.gz/resnet-50-b1_mxfp8_e5m2.log': "the authors' script puts a fixed 2.0269 ms in its place",
  'ladder-cnn-logs.tar.gz/vit-b1_fp8_e5m2.log': 'the artifact plots 1.2695 ms, which no published log holds',
};

/** Logs of cases that the artifact does not plot. */
const notPlotted: readonly string[] = [
  'Conformer-b128_mxfp8_e5m2',
  'Conformer-b1_int8xint4',
  'resnet-50-b128_int4b',
  'shufflenet-b128_mxfp8_e5m2',
  'vit-b128_int4bxint1',
  'vit-b128_mxfp8_e5m2',
]
  .map((name) => `ladder-cnn-logs.tar.gz/${name}.log`)
  .concat(['ladder/bloom-176b_b1_s1_q0_b8_int.log', 'ladder/bloom-176b_b1_s4096_q0_b8_int.log']);

describe.skipIf(!present)('the published logs', () => {
  let entries: BaselineEntry[] = [];
  beforeAll(async () => {
    entries = await scanLogs(logs);
  });

  test("each gives the artifact's value, or is listed with its reason", () => {
    const artifact = entriesOfSet(loadFigureSet('artifact'));
    const seen = { matched: 0, without: 0, otherwise: 0, notPlotted: 0 };
    for (const entry of entries) {
      const expected = artifact.find(
        (a) => a.system === entry.system && a.model === entry.model && a.setting === entry.setting && a.format === entry.format,
      );
      const reason = without[entry.path];
      if (reason !== undefined) {
        expect(entry.result, entry.path).toBeNull();
        expect(entry.result === null ? entry.reason : '', entry.path).toMatch(reason);
        seen.without += 1;
      } else if (otherwise[entry.path] !== undefined) {
        expect(entry.result, entry.path).not.toBeNull();
        expect(entry.result?.latencyMs, entry.path).not.toBe(expected?.latencyMs);
        seen.otherwise += 1;
      } else if (notPlotted.includes(entry.path)) {
        expect(entry.result, entry.path).not.toBeNull();
        expect(expected, entry.path).toBeUndefined();
        seen.notPlotted += 1;
      } else {
        expect(entry.result?.latencyMs, entry.path).toBe(expected?.latencyMs);
        expect(entry.result?.complete, entry.path).toBe(true);
        seen.matched += 1;
      }
    }
    // Nothing on the lists is missing from the folder.
    expect(seen).toEqual({
      matched: entries.length - 23,
      without: Object.keys(without).length,
      otherwise: Object.keys(otherwise).length,
      notPlotted: notPlotted.length,
    });
    expect(seen.matched).toBe(97);
  });

  test('Ladder: summary and operators as in ladder-a100-ops.json', () => {
    interface Run {
      log: string;
      latency_ms: Record<'mean' | 'median' | 'max' | 'min' | 'std', number>;
      ops: { name: string; us: number; outputs: number[][]; num_inputs: number }[];
    }
    const { runs } = JSON.parse(readFileSync(resolve(folder, 'ladder-a100-ops.json'), 'utf8')) as { runs: Run[] };
    let compared = 0;
    for (const entry of entries) {
      const run = runs.find((r) => r.log === entry.path.split('/').at(-1));
      if (entry.system !== 'Ladder' || entry.result === null || run === undefined) continue;
      const result = entry.result as LadderResult;
      expect({ mean: result.meanMs, median: result.medianMs, max: result.maxMs, min: result.minMs, std: result.stdMs }, entry.path).toEqual(
        run.latency_ms,
      );
      expect(
        result.operators.map((op) => ({
          index: op.index,
          name: op.name,
          us: op.microseconds,
          outputs: op.outputs,
          num_inputs: op.inputCount,
        })),
        entry.path,
      ).toEqual(run.ops);
      compared += 1;
    }
    expect(compared).toBe(59);
  });

  test("AMOS: subgraphs, mapped ratio and tuning time; the time is Table 2's", () => {
    const amos = entries.flatMap(({ system, result }) => (system === 'AMOS' && result !== null ? [result as AmosResult] : []));
    expect(
      amos.map(({ mappedCount, subgraphCount, subgraphs, tuningTimeSeconds }) => [
        mappedCount,
        subgraphCount,
        subgraphs.length,
        Math.round((tuningTimeSeconds ?? 0) / 60),
      ]),
    ).toEqual([
      [54, 71, 35, 3852],
      [50, 70, 29, 3328],
    ]);
  });

  test('cut at 1,000 random places per system: no untyped error, no other value', { timeout: 600_000 }, async () => {
    const next = random(17);
    const files = await logFiles(logs);
    for (const [system, expectedErrors] of Object.entries({
      AMOS: 986,
      Ladder: 971,
      ONNXRuntime: 999,
      TensorRT: 870,
      'PyTorch-Inductor': 962,
      vLLM: 985,
    })) {
      const own = entries.filter((entry) => entry.system === system && entry.result !== null);
      const cuts = new Map<string, number[]>();
      for (let i = 0; i < 1000; i += 1) {
        const path = own[Math.floor(next() * own.length)]?.path ?? '';
        cuts.set(path, [...(cuts.get(path) ?? []), next()]);
      }
      let errors = 0;
      for (const [path, places] of cuts) {
        const parts: Uint8Array[] = [];
        for await (const part of files.find((file) => file.path === path)?.open() ?? []) parts.push(part);
        const whole = Buffer.concat(parts);
        const expected = own.find((entry) => entry.path === path)?.result?.latencyMs;
        for (const place of places) {
          // Half of the cuts fall where the result is: near the end, or near the beginning for Ladder.
          const at =
            place < 0.5
              ? Math.floor(place * 2 * whole.length)
              : system === 'Ladder'
                ? Math.floor((place - 0.5) * 2 * Math.min(600, whole.length))
                : whole.length - 1 - Math.floor((place - 0.5) * 2 * Math.min(1200, whole.length - 1));
          try {
            expect((await parseLog(system, [whole.subarray(0, at)], path)).latencyMs, `${path} cut at ${at}`).toBe(expected);
          } catch (error) {
            if (!(error instanceof LadderError)) throw error;
            expect(error.code).toBe('BAD_LOG');
            errors += 1;
          }
        }
      }
      expect(errors, system).toBe(expectedErrors);
    }
  });
});

/**
 * Systems that search for hours to days before they have anything to time (AMOS, TensorIR): `--force-tune`. They run only
 * where their toolchain is configured; else the answer is what that would take, with the times of the paper's Table 2.
 *
 * A toolchain is a folder, named by a variable of the environment, with an executable `ladder-tune MODEL BATCH` that tunes,
 * times, and prints the system's usual log to stdout (AMOS: `Whole graph cost is … ms`; TensorIR: the bare milliseconds of its
 * latency.txt, and only them).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LadderError } from '../../errors.js';
import { findProgram } from '../../files.js';
import { packageRoot } from '../../run/package.js';
import type { BenchRecord } from '../../run/record-types.js';
import type { LogResult, LogSource } from '../log.js';
import { emptyRecord, shapeOf, type AdapterOptions, type Availability, type BaselineAdapter, type BaselineCase } from './adapter.js';
import { lastLine, runChild } from './process.js';

/** Longer than the slowest search of Table 2 (2.7 days). */
const kTimeoutMs = 7 * 24 * 3600_000;
const kProgram = 'ladder-tune';

/** A system that searches. */
export interface Tuner {
  /** As in records. */
  readonly system: string;
  /** As in compile-times.json. */
  readonly label: string;
  /** Of the environment: names the toolchain's folder. */
  readonly variable: string;
  /** What the toolchain is, in words. */
  readonly needs: string;
  readonly parse: (source: LogSource, name: string) => Promise<LogResult>;
}

const timesSchema = z.object({
  gpu: z.string(),
  rows: z.array(z.object({ model: z.string(), setting: z.string(), minutes: z.record(z.string(), z.number().nullable()) })),
});

/** The range of search times in Table 2, in words. */
function searchTimes(label: string): string {
  const path = join(packageRoot, 'checkpoints', 'Figure8', 'compile-times.json');
  const times = timesSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  const rows = times.rows.flatMap(({ model, setting, minutes }) => {
    const value = minutes[label];
    return value == null ? [] : [`${model} ${setting} ${value} min${value >= 1440 ? ` (${(value / 1440).toFixed(1)} days)` : ''}`];
  });
  return `the paper's searches took ${rows.join(', ')} on ${times.gpu}`;
}

/** Any of them. */
export class TunerAdapter implements BaselineAdapter {
  readonly system: string;

  constructor(private readonly tuner: Tuner) {
    this.system = tuner.system;
  }

  async available(): Promise<Availability> {
    const { label, variable, needs } = this.tuner;
    const home = process.env[variable];
    if (!home) {
      return {
        ok: false,
        reason: `${variable} is not set; tuning needs ${needs}, and in that folder an executable \`${kProgram} MODEL BATCH\` that prints ${label}'s log; ${searchTimes(label)}`,
      };
    }
    if (findProgram(join(home, kProgram)) === null) {
      return {
        ok: false,
        reason: `${join(home, kProgram)} is not an executable file; ${variable} expects a folder with one that tunes MODEL at BATCH and prints ${label}'s log`,
      };
    }
    return { ok: true, version: `of ${home}` };
  }

  async run(case_: BaselineCase, options: AdapterOptions = {}): Promise<BenchRecord> {
    const { batch, seq } = shapeOf(case_);
    const found = await this.available();
    const record = emptyRecord(this.system, found.ok ? found.version : 'unknown', case_, 'gpu-compute');
    if (!found.ok) return { ...record, reason: found.reason };
    if (seq !== 1) return { ...record, reason: `${kProgram} takes a model and a batch, not sequences of ${seq} tokens` };
    const home = process.env[this.tuner.variable] ?? '';
    const start = performance.now();
    const result = await runChild(join(home, kProgram), [case_.model, String(batch)], {
      signal: options.signal,
      timeoutMs: options.timeoutMs ?? kTimeoutMs,
      cwd: home,
      onErrorLine: (line) => options.onProgress?.({ stage: 'tune', fraction: null, detail: line.slice(0, 200) }),
    });
    const tuneMs = performance.now() - start;
    if (result.ended !== null || result.status !== 0) {
      return {
        ...record,
        reason: `${kProgram} ${result.ended ?? `ended with status ${result.status}`}; it last said: ${lastLine(result.stderr) || lastLine(result.stdout)}`,
      };
    }
    try {
      const log = await this.tuner.parse([result.stdout], `${kProgram} ${case_.model} ${batch}`);
      return {
        ...record,
        status: 'ok',
        reason: null,
        latencyMs: log.latencyMs,
        warnings: [`${this.tuner.label}'s log does not say what its clock saw; TVM's evaluators time kernels on the GPU`],
        provenance: { toolchain: home, tuneMs },
      };
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
      return { ...record, reason: error.message };
    }
  }
}

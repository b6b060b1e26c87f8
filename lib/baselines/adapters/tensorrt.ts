/**
 * TensorRT through its own `trtexec`, which must be on the PATH, and an ONNX file per case, which TensorRT needs and
 * this package does not carry: `LADDER_ONNX_DIR/<model>_<setting>.onnx`, static shapes, FP16. The figure is trtexec's
 * GPU compute time (../systems/tensorrt.ts reads it), another kind of clock than event pairs around whole inferences.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { LadderError } from '../../errors.js';
import { findProgram } from '../../files.js';
import type { BenchRecord } from '../../run/record-types.js';
import type { LogResult, LogSource } from '../log.js';
import { emptyRecord, shapeOf, type AdapterOptions, type Availability, type BaselineAdapter, type BaselineCase } from './adapter.js';
import { lastLine, runChild } from './process.js';

const kTimeoutMs = 30 * 60_000;
const kVersionTimeoutMs = 60_000;

/** The ONNX file of a case, or why there is none. */
function onnxFile(case_: BaselineCase): { readonly path: string } | { readonly reason: string } {
  const folder = process.env.LADDER_ONNX_DIR;
  if (!folder)
    return {
      reason: 'LADDER_ONNX_DIR is not set; expected a folder with <model>_<setting>.onnx (static shapes, FP16), such as resnet-50_bs1.onnx',
    };
  const path = join(folder, `${case_.model}_${case_.setting}.onnx`);
  return existsSync(path) ? { path } : { reason: `${path} does not exist; export the model with static shapes in FP16 to it` };
}

/** Reads what trtexec prints. */
type LogParser = (source: LogSource, name: string) => Promise<LogResult & { readonly medianMs: number | null }>;

/** `tensorrt`. */
export class TensorRtAdapter implements BaselineAdapter {
  readonly system = 'tensorrt';

  constructor(private readonly parse: LogParser) {}

  async available(): Promise<Availability> {
    const missing: string[] = [];
    const trtexec = findProgram('trtexec');
    if (trtexec === null) missing.push('no trtexec on the PATH; install TensorRT and add its bin folder');
    if (!process.env.LADDER_ONNX_DIR)
      missing.push('LADDER_ONNX_DIR is not set; TensorRT reads ONNX files, expected as <model>_<setting>.onnx in that folder');
    if (trtexec === null || missing.length > 0) return { ok: false, reason: missing.join('; ') };
    return { ok: true, version: await this.version(trtexec) };
  }

  /** trtexec prints `[TensorRT v100300]` (or `v8601`) in its first line. */
  private async version(trtexec: string): Promise<string> {
    const result = await runChild(trtexec, ['--help'], { timeoutMs: kVersionTimeoutMs });
    return /TensorRT[.\s]+v(\d+)/.exec(result.stdout)?.[1] ?? 'unknown';
  }

  async run(case_: BaselineCase, options: AdapterOptions = {}): Promise<BenchRecord> {
    shapeOf(case_);
    const found = await this.available();
    const record = emptyRecord(this.system, found.ok ? found.version : 'unknown', case_, 'gpu-compute');
    if (!found.ok) return { ...record, reason: found.reason };
    const onnx = onnxFile(case_);
    if ('reason' in onnx) return { ...record, reason: onnx.reason };
    const result = await runChild(
      findProgram('trtexec') ?? 'trtexec',
      [
        `--onnx=${onnx.path}`,
        '--fp16',
        '--useCudaGraph',
        '--noDataTransfers',
        '--useSpinWait',
        `--device=${options.ordinal ?? 0}`,
        `--warmUp=${Math.round(options.warmupMs ?? 200)}`,
        `--duration=${Math.max(1, Math.round((options.maxMs ?? 3000) / 1000))}`,
      ],
      { signal: options.signal, timeoutMs: options.timeoutMs ?? kTimeoutMs },
    );
    if (result.ended !== null || result.status !== 0) {
      return {
        ...record,
        reason: `trtexec ${result.ended ?? `ended with status ${result.status}`}; it last said: ${lastLine(result.stderr) || lastLine(result.stdout)}`,
      };
    }
    try {
      const log = await this.parse([result.stdout], 'trtexec');
      return {
        ...record,
        status: 'ok',
        reason: null,
        launch: 'graph',
        latencyMs: log.medianMs ?? log.latencyMs,
        warnings: log.medianMs === null ? ['trtexec gave no median: this is the mean'] : [],
        provenance: { onnx: onnx.path, meanMs: log.latencyMs, lowMs: log.range?.lowMs ?? null, highMs: log.range?.highMs ?? null },
      };
    } catch (error) {
      if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
      return { ...record, reason: error.message };
    }
  }
}

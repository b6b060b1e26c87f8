/**
 * ONNXRuntime: says exactly what of it is here. It is not run: a fair figure needs exported models and bound device
 * buffers, and none of ours has been measured that way; logs of other runs are read by ../systems/onnxruntime.ts.
 */
import { z } from 'zod';
import type { BenchRecord } from '../../run/record-types.js';
import { emptyRecord, shapeOf, type Availability, type BaselineAdapter, type BaselineCase } from './adapter.js';
import { findProgram } from '../../files.js';
import { lastLine, runChild } from './process.js';

const kProbeTimeoutMs = 60_000;
const probe = 'import json, onnxruntime as o; print(json.dumps({"version": o.__version__, "providers": o.get_available_providers()}))';
const probeSchema = z.object({ version: z.string(), providers: z.array(z.string()) });

/** `onnxruntime`. */
export class OnnxRuntimeAdapter implements BaselineAdapter {
  readonly system = 'onnxruntime';

  async available(): Promise<Availability> {
    return { ok: false, reason: await this.missing() };
  }

  private async missing(): Promise<string> {
    const name = process.env.LADDER_PYTHON ?? 'python3';
    const python = findProgram(name);
    if (python === null) return `no ${name} on the PATH`;
    const result = await runChild(python, ['-c', probe], { timeoutMs: kProbeTimeoutMs });
    if (result.status !== 0)
      return `${python} cannot import onnxruntime (${result.ended ?? lastLine(result.stderr)}); install onnxruntime-gpu for it`;
    let found: z.infer<typeof probeSchema>;
    try {
      found = probeSchema.parse(JSON.parse(result.stdout));
    } catch {
      return `${python} did not tell onnxruntime's version and providers`;
    }
    const gpu = found.providers.includes('CUDAExecutionProvider');
    return `onnxruntime ${found.version} is installed ${gpu ? 'with' : 'without'} the CUDAExecutionProvider, but this package has no runner for it; \`ladder baselines DIR\` reads the logs of your own runs`;
  }

  async run(case_: BaselineCase): Promise<BenchRecord> {
    shapeOf(case_);
    return { ...emptyRecord(this.system, 'unknown', case_, 'host-copies'), reason: await this.missing() };
  }
}

/** ONNXRuntime: `>> Average time for each run: X ms;`, host time with the copies to and from the GPU. The last one counts. */
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from './log.js';

export interface OnnxRuntimeResult extends LogResult {
  readonly system: 'ONNXRuntime';
}

const pattern = new RegExp(`Average time for each run: ${decimal}${msUnit}`);

/**
 * Reads a log of ONNXRuntime.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseOnnxRuntime(source: LogSource, name: string): Promise<OnnxRuntimeResult> {
  const latencyMs = await lastLatency('ONNXRuntime', source, name, pattern, /Average time|Evaluating Benchmark/);
  return { system: 'ONNXRuntime', latencyMs, clock: 'host-copies', range: null, complete: true };
}

/** vLLM: `vllm llama run b1 s1 avg: X ms`, host time without a synchronisation. The last one counts. */
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from './log.js';

export interface VllmResult extends LogResult {
  readonly system: 'vLLM';
}

const pattern = new RegExp(`vllm \\S+ run b\\d+ s\\d+ avg: ${decimal}${msUnit}`);

/**
 * Reads a log of vLLM.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseVllm(source: LogSource, name: string): Promise<VllmResult> {
  const latencyMs = await lastLatency('vLLM', source, name, pattern, /vllm/);
  return { system: 'vLLM', latencyMs, clock: 'host-nosync', range: null, complete: true };
}

/** PyTorch-Inductor: `avg: X ms`, perhaps after a word, host time with a synchronisation. The last one counts. */
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from './log.js';

export interface InductorResult extends LogResult {
  readonly system: 'PyTorch-Inductor';
}

const pattern = new RegExp(`(?:^|\\s)avg: ${decimal}${msUnit}`);

/**
 * Reads a log of PyTorch-Inductor.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseInductor(source: LogSource, name: string): Promise<InductorResult> {
  const latencyMs = await lastLatency('PyTorch-Inductor', source, name, pattern, /avg/);
  return { system: 'PyTorch-Inductor', latencyMs, clock: 'host-sync', range: null, complete: true };
}

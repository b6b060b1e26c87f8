/** PyTorch-Inductor: `avg: X ms`, perhaps after a word, host time with a synchronisation. The last one counts. */
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from '../log.js';
import { kDarkHatch, type System, type SystemLog } from './system.js';

const kLabel = 'PyTorch-Inductor';
const kClock = 'host-sync';

export interface InductorResult extends LogResult {
  readonly system: typeof kLabel;
}

const pattern = new RegExp(`(?:^|\\s)avg: ${decimal}${msUnit}`);

/**
 * Reads a log of PyTorch-Inductor.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseInductor(source: LogSource, name: string): Promise<InductorResult> {
  const latencyMs = await lastLatency(kLabel, source, name, pattern, /avg/);
  return { system: kLabel, latencyMs, clock: kClock, range: null, complete: true };
}

const log: SystemLog<InductorResult> = {
  folder: /inductor|pytorch/i,
  mark: /(?:^|\s)avg: /,
  weak: true,
  clock: kClock,
  parse: parseInductor,
};

export const pyTorchInductor: System = {
  id: 'pytorch-inductor',
  label: kLabel,
  short: 'Inductor',
  bars: { fill: { color: '#e8743b', hatch: 'none', hatchColor: kDarkHatch } },
  log,
  adapter: { place: 2, load: async () => new (await import('../adapters/pytorch.js')).PyTorchAdapter('inductor') },
};

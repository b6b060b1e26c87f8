/** vLLM: `vllm llama run b1 s1 avg: X ms`, host time without a synchronisation. The last one counts. */
import { kPlainFormats, settingOfText } from '../../artifact/names.js';
import { modelOfText } from '../../models/index.js';
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from '../log.js';
import { kDarkHatch, kLightHatch, type System, type SystemLog } from './system.js';

const kLabel = 'vLLM';
const kClock = 'host-nosync';

export interface VllmResult extends LogResult {
  readonly system: typeof kLabel;
}

const pattern = new RegExp(`vllm \\S+ run b\\d+ s\\d+ avg: ${decimal}${msUnit}`);
const named = /vllm (\S+) run (b\d+ s\d+) /;

/**
 * Reads a log of vLLM.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseVllm(source: LogSource, name: string): Promise<VllmResult> {
  const latencyMs = await lastLatency(kLabel, source, name, pattern, /vllm \S+ run|^\s*vllm[^:]*$/);
  return { system: kLabel, latencyMs, clock: kClock, range: null, complete: true };
}

const log: SystemLog<VllmResult> = {
  folder: /vllm/i,
  mark: /vllm \S+ run /,
  clock: kClock,
  parse: parseVllm,
  startOf: (text) => {
    const [, word, shape] = named.exec(text) ?? [];
    const model = word === undefined ? null : modelOfText(word);
    return shape === undefined
      ? null
      : { model: model?.id ?? null, setting: model && settingOfText(shape.replace(' ', '_'), model), format: null };
  },
  formatsOf: (stem) => (/_int4$/.test(stem) ? { weight: 'int4', activation: 'fp16' } : kPlainFormats),
};

export const vllm: System = {
  id: 'vllm',
  label: kLabel,
  log,
  bars: {
    fill: { color: '#8a6a45', hatch: 'cross', hatchColor: kLightHatch },
    byFormat: [{ ...kPlainFormats, fill: { color: '#dcc9a8', hatch: 'none', hatchColor: kDarkHatch } }],
  },
};

/** ONNXRuntime: `>> Average time for each run: X ms;`, host time with the copies to and from the GPU. The last one counts. */
import { decimal, lastLatency, msUnit, type LogResult, type LogSource } from '../log.js';
import { kDarkHatch, type System, type SystemLog } from './system.js';

const kLabel = 'ONNXRuntime';
const kClock = 'host-copies';

export interface OnnxRuntimeResult extends LogResult {
  readonly system: typeof kLabel;
}

const pattern = new RegExp(`Average time for each run: ${decimal}${msUnit}`);

/**
 * Reads a log of ONNXRuntime.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseOnnxRuntime(source: LogSource, name: string): Promise<OnnxRuntimeResult> {
  const latencyMs = await lastLatency(kLabel, source, name, pattern, /Average time/, />> Evaluating|^Importing ONNX model/);
  return { system: kLabel, latencyMs, clock: kClock, range: null, complete: true };
}

const log: SystemLog<OnnxRuntimeResult> = {
  folder: /onnx/i,
  mark: /Average time for each run:|>> Evaluating Benchmark/,
  clock: kClock,
  parse: parseOnnxRuntime,
};

export const onnxRuntime: System = {
  id: 'onnxruntime',
  label: kLabel,
  bars: { fill: { color: '#f4c95d', hatch: 'falling', hatchColor: kDarkHatch } },
  log,
  adapter: { place: 3, load: async () => new (await import('../adapters/onnxruntime.js')).OnnxRuntimeAdapter() },
};

/**
 * TensorRT's trtexec: `GPU Compute Time: min = … ms, max = … ms, mean = … ms, median = … ms, …`; the mean counts.
 * `&&&& PASSED` or `&&&& FAILED` ends the log. Lines of throughput, latency with copies and totals are others' numbers.
 */
import { badLog, decimal, LogWatch, msUnit, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { kLightHatch, type System, type SystemLog } from './system.js';

const kLabel = 'TensorRT';
const kClock = 'gpu-compute';

export interface TensorRtResult extends LogResult {
  readonly system: typeof kLabel;
  readonly medianMs: number | null;
}

const computeTime = /(?<!Total )GPU Compute Time: (.*)$/;
const field = (name: string): RegExp => new RegExp(`(?:^|[ ,])${name} = ${decimal}${msUnit}`);
const fields = { min: field('min'), max: field('max'), mean: field('mean'), median: field('median') };

/**
 * Reads a log of trtexec.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseTensorRt(source: LogSource, name: string): Promise<TensorRtResult> {
  const watch = new LogWatch(kLabel, name);
  let found: Omit<TensorRtResult, 'complete'> | null = null;
  let ended: 'PASSED' | 'FAILED' | null = null;
  let begun = false;
  let cut = false;
  for await (const line of readLines(source)) {
    watch.see(line);
    const end = /&&&& (PASSED|FAILED)\b/.exec(line.text);
    if (end !== null) ended = end[1] === 'PASSED' ? 'PASSED' : 'FAILED';
    if (line.text.includes('&&&& RUNNING')) begun = true;
    const values = computeTime.exec(line.text)?.[1];
    if (values === undefined) continue;
    const mean = positive(fields.mean.exec(values)?.[1]);
    if (mean === null) {
      cut = !line.terminated;
      continue;
    }
    const [low, high] = [positive(fields.min.exec(values)?.[1]), positive(fields.max.exec(values)?.[1])];
    found = {
      system: kLabel,
      latencyMs: mean,
      clock: kClock,
      range: low === null || high === null ? null : { lowMs: low, highMs: high },
      medianMs: positive(fields.median.exec(values)?.[1]),
    };
  }
  if (ended === 'FAILED') throw badLog(kLabel, name, 'failed', 'trtexec says FAILED');
  if (found === null || cut) throw watch.fail(cut || (begun && ended === null));
  return { ...found, complete: ended === 'PASSED' };
}

const log: SystemLog<TensorRtResult> = {
  folder: /tensorrt|trt/i,
  mark: /TensorRT\.trtexec|GPU Compute Time:/,
  clock: kClock,
  parse: parseTensorRt,
};

export const tensorRt: System = {
  id: 'tensorrt',
  label: kLabel,
  bars: { fill: { color: '#7fa650', hatch: 'level', hatchColor: kLightHatch } },
  log,
  adapter: { place: 4, load: async () => new (await import('../adapters/tensorrt.js')).TensorRtAdapter(parseTensorRt) },
};

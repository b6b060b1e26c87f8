/**
 * TensorRT's trtexec: `GPU Compute Time: min = … ms, max = … ms, mean = … ms, median = … ms, …`, or, up to version 7, a block below
 * `GPU Compute` with a line each: `mean: … ms`; the mean counts. `&&&& RUNNING` begins a run, `&&&& PASSED` or `&&&& FAILED` ends it.
 * Lines of throughput, latency with copies and totals are others' numbers.
 */
import { settingOfText } from '../../artifact/names.js';
import { modelOfText } from '../../models/index.js';
import { decimal, LastWord, msUnit, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { kLightHatch, type System, type SystemLog } from './system.js';

const kLabel = 'TensorRT';
const kClock = 'gpu-compute';

export interface TensorRtResult extends LogResult {
  readonly system: typeof kLabel;
  readonly medianMs: number | null;
}

const kNames = ['min', 'max', 'mean', 'median'] as const;
type Times = Record<(typeof kNames)[number], number | null>;

const running = /&&&& RUNNING\b(?:.*?--(?:onnx|loadEngine|uff|deploy)=(\S+))?/;
const ended = /&&&& (PASSED|FAILED)\b/;
const computeTime = /(?<!Total )GPU Compute Time: (.*)$/;
/** A heading of version 7: words alone, after the stamp and the level. */
const heading = /\[I\] ([A-Z][A-Za-z ]*)$/;
const blockLine = new RegExp(String.raw`\[I\] (min|max|mean|median): (?:${decimal}${msUnit})?`);

/** `name = … ms` of a line. */
function timesOf(text: string): Times {
  const of = (name: string): number | null => positive(new RegExp(`(?:^|[ ,])${name} = ${decimal}${msUnit}`).exec(text)?.[1]);
  return { min: of('min'), max: of('max'), mean: of('mean'), median: of('median') };
}

/**
 * Reads a log of trtexec.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseTensorRt(source: LogSource, name: string): Promise<TensorRtResult> {
  const word = new LastWord<Times>(kLabel, name);
  let state: 'unknown' | 'running' | 'ended' = 'unknown';
  let block: Times | null = null;
  for await (const line of readLines(source)) {
    word.see(line);
    if (running.test(line.text)) {
      word.begin();
      state = 'running';
    }
    const end = ended.exec(line.text)?.[1];
    if (end !== undefined) {
      state = 'ended';
      if (end === 'FAILED') word.fail('trtexec says FAILED');
      else word.finish();
    }
    const title = heading.exec(line.text)?.[1]?.trim();
    if (title !== undefined) block = title === 'GPU Compute' ? { min: null, max: null, mean: null, median: null } : null;
    const item = blockLine.exec(line.text);
    if (block !== null && item !== null) {
      const which = item[1] as keyof Times;
      block = { ...block, [which]: positive(item[2]) };
      if (which === 'mean' || word.said) word.say(block.mean === null ? null : block);
    }
    const values = computeTime.exec(line.text)?.[1];
    if (values !== undefined) {
      const times = timesOf(values);
      word.say(times.mean === null ? null : times);
    }
  }
  const { min, max, mean, median } = word.end(state === 'running' ? 'it ends before trtexec says PASSED' : null);
  return {
    system: kLabel,
    latencyMs: mean!,
    clock: kClock,
    range: min === null || max === null ? null : { lowMs: min, highMs: max },
    complete: state === 'ended',
    medianMs: median,
  };
}

const log: SystemLog<TensorRtResult> = {
  folder: /tensorrt|trt/i,
  mark: /TensorRT\.trtexec|GPU Compute Time:|\[I\] GPU Compute$/,
  clock: kClock,
  parse: parseTensorRt,
  startOf: (text) => {
    const match = running.exec(text);
    if (match === null) return null;
    // A model lies in a folder that says which, `…/resnet-50-b1/model.onnx`, or says so itself.
    const named = (match[1] ?? '')
      .split('/')
      .slice(-2)
      .reverse()
      .find((part) => modelOfText(part) !== null);
    const model = named === undefined ? null : modelOfText(named);
    return { model: model?.id ?? null, setting: model && settingOfText(named!.replace(/\.\w+$/, ''), model), format: null };
  },
};

export const tensorRt: System = {
  id: 'tensorrt',
  label: kLabel,
  bars: { fill: { color: '#7fa650', hatch: 'level', hatchColor: kLightHatch } },
  log,
  adapter: { place: 4, load: async () => new (await import('../adapters/tensorrt.js')).TensorRtAdapter(parseTensorRt) },
};

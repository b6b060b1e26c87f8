/**
 * Welder and Roller: `run.log` of the program that NNFusion generates. One `Iteration time X ms` per run, between
 * CUDA events, then `Summary: [min, max, mean] = [A, B, C] ms`; the mean counts. No log of Figure 8 was published:
 * the format is that of NNFusion's generated `main`.
 */
import { decimal, LastWord, msUnit, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { kDarkHatch, type LogFileName, type System, type SystemLog } from './system.js';

const kLabel = 'Welder';
/** Pairs of events round single iterations. */
export const kWelderClock = 'gpu-events';
/** NNFusion's program calls it so for whatever it generates. */
export const kWelderFile: LogFileName = { name: 'run.log', telling: false, beside: [] };

export interface WelderResult extends LogResult {
  readonly system: string;
  readonly iterationsMs: readonly number[];
}

const iterationTime = new RegExp(`Iteration time ${decimal}${msUnit}`);
const summary = new RegExp(`Summary: \\[min, max, mean\\] = \\[${decimal}, ${decimal}, ${decimal}\\]${msUnit}`);

/**
 * Reads a `run.log`.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseWelder(source: LogSource, name: string, system: string = kLabel): Promise<WelderResult> {
  const word = new LastWord<{ readonly min: number; readonly max: number; readonly mean: number }>(system, name);
  let iterationsMs: number[] = [];
  for await (const line of readLines(source)) {
    word.see(line);
    const one = iterationTime.exec(line.text);
    if (one !== null) {
      if (word.said) {
        // After a summary the next run begins.
        word.begin();
        iterationsMs = [];
      }
      iterationsMs.push(Number(one[1]));
    }
    const match = summary.exec(line.text);
    const mean = positive(match?.[3]);
    if (match !== null && mean !== null) word.say({ min: Number(match[1]), max: Number(match[2]), mean });
    else if (line.text.includes('Summary')) word.say(null);
  }
  // Iterations without a summary: their mean would be ours, not the system's.
  const found = word.end(!word.said && iterationsMs.length > 0 ? 'it ends before its summary' : null);
  return {
    system,
    latencyMs: found.mean,
    clock: kWelderClock,
    range: { lowMs: found.min, highMs: found.max },
    complete: true,
    iterationsMs,
  };
}

const log: SystemLog<WelderResult> = {
  folder: /welder/i,
  mark: /Summary: \[min, max, mean\]|Iteration time [\d.]+ ms/,
  file: kWelderFile,
  clock: kWelderClock,
  parse: (source, name) => parseWelder(source, name),
};

export const welder: System = {
  id: 'welder',
  label: kLabel,
  bars: { fill: { color: '#ffffff', hatch: 'none', hatchColor: kDarkHatch } },
  log,
};

/**
 * TensorIR: `latency.txt` holds a bare number of milliseconds, `tune_time_cost.txt` beside it
 * `Compiler tuning time: N seconds`, written when the run is over. The number has no unit: only a line end, or the
 * second file, shows that it is whole.
 */
import { badLog, decimal, LastWord, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { kLightHatch, type System, type SystemLog } from './system.js';

const kLabel = 'TensorIR';
/** Its files do not say which clock it reads. */
const kClock = null;
const kTuningFile = 'tune_time_cost.txt';

export interface TensorIrResult extends LogResult {
  readonly system: typeof kLabel;
  readonly tuningTimeSeconds: number | null;
}

const bare = new RegExp(`^\\s*${decimal}\\s*$`);
const tuning = new RegExp(`Compiler tuning time: ${decimal} seconds(?![A-Za-z])`);

/**
 * Reads `latency.txt`.
 * @param tuningTimeSeconds of `tune_time_cost.txt`, or null; with it, a number without line end is taken as whole
 * @param allowUnterminated take such a number in any case
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseTensorIr(
  source: LogSource,
  name: string,
  tuningTimeSeconds: number | null = null,
  allowUnterminated = false,
): Promise<TensorIrResult> {
  const word = new LastWord<number>(kLabel, name);
  let numbers = 0;
  let terminated = true;
  for await (const line of readLines(source)) {
    word.see(line);
    const match = bare.exec(line.text);
    if (match !== null) {
      word.say(positive(match[1]));
      numbers += 1;
      terminated = line.terminated;
    } else if (line.text.trim() !== '') {
      // The file holds a number and nothing else.
      word.say(null);
    }
  }
  if (numbers > 1) throw badLog(kLabel, name, 'no result line', `expected one number but found ${numbers}`);
  const latencyMs = word.end();
  const ended = terminated || tuningTimeSeconds !== null;
  if (!ended && !allowUnterminated) {
    throw badLog(kLabel, name, 'cut short', 'the number has no line end, and no tune_time_cost.txt beside it says that the run was over');
  }
  return { system: kLabel, latencyMs, clock: kClock, range: null, complete: ended, tuningTimeSeconds };
}

/** Seconds in `tune_time_cost.txt`; null where it has none. */
async function parseTuningTime(source: LogSource): Promise<number | null> {
  let seconds: number | null = null;
  for await (const line of readLines(source)) {
    const match = tuning.exec(line.text);
    if (match !== null) seconds = positive(match[1]);
  }
  return seconds;
}

const log: SystemLog<TensorIrResult> = {
  folder: /tensorir/i,
  mark: null,
  file: { name: 'latency.txt', telling: true, beside: [kTuningFile] },
  clock: kClock,
  published: 'tensorir/logs',
  async parse(source, name, { sibling, allowUnterminated }) {
    const beside = sibling(kTuningFile);
    return parseTensorIr(source, name, beside && (await parseTuningTime(beside)), allowUnterminated);
  },
  remarks: ({ tuningTimeSeconds }) => (tuningTimeSeconds === null ? [] : [`tuned ${(tuningTimeSeconds / 3600).toFixed(1)} h`]),
};

export const tensorIr: System = {
  id: 'tensorir',
  label: kLabel,
  short: 'TIR',
  bars: { fill: { color: '#b5739d', hatch: 'rising', hatchColor: kLightHatch } },
  log,
  adapter: {
    place: 6,
    searches: true,
    load: async () =>
      new (await import('../adapters/tuners.js')).TunerAdapter({
        system: 'tensorir',
        label: kLabel,
        variable: 'LADDER_TENSORIR_HOME',
        needs: 'TVM with MetaSchedule (built with CUDA and LLVM)',
        parse: (source, name) => parseTensorIr(source, name, null, true),
      }),
  },
};

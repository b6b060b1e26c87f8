/**
 * TensorIR: `latency.txt` holds a bare number of milliseconds, `tune_time_cost.txt` beside it
 * `Compiler tuning time: N seconds`, written when the run is over. The number has no unit: only a line end, or the
 * second file, shows that it is whole.
 */
import { badLog, decimal, LogWatch, positive, readLines, type LogResult, type LogSource } from './log.js';

export interface TensorIrResult extends LogResult {
  readonly system: 'TensorIR';
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
  source: LogSource, name: string, tuningTimeSeconds: number | null = null, allowUnterminated = false,
): Promise<TensorIrResult> {
  const watch = new LogWatch('TensorIR', name);
  let latencyMs: number | null = null;
  let numbers = 0;
  let terminated = true;
  for await (const line of readLines(source)) {
    watch.see(line);
    const match = bare.exec(line.text);
    if (match === null) continue;
    latencyMs = positive(match[1]);
    numbers += 1;
    terminated = line.terminated;
  }
  if (numbers > 1) throw badLog('TensorIR', name, 'no result line', `expected one number but found ${numbers}`);
  if (latencyMs === null) throw watch.fail();
  const ended = terminated || tuningTimeSeconds !== null;
  if (!ended && !allowUnterminated) {
    throw badLog('TensorIR', name, 'cut short', 'the number has no line end, and no tune_time_cost.txt beside it says that the run was over');
  }
  return { system: 'TensorIR', latencyMs, clock: null, range: null, complete: ended, tuningTimeSeconds };
}

/** Seconds in `tune_time_cost.txt` (TensorIR, Welder); null where it has none. */
export async function parseTuningTime(source: LogSource): Promise<number | null> {
  let seconds: number | null = null;
  for await (const line of readLines(source)) {
    const match = tuning.exec(line.text);
    if (match !== null) seconds = positive(match[1]);
  }
  return seconds;
}

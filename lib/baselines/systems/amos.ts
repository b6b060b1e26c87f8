/**
 * AMOS: `…Whole graph cost is X ms`, printed once a tuning round (the last one counts, 10000000000 means failure),
 * `Time taken:  S` in seconds after it, one `Query subgraph task id: …` line per subgraph and pass, and a notice that
 * counts the subgraphs mapped to tensor cores. Any text may stand before the result on its line.
 */
import { decimal, LastWord, msUnit, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { settingName } from '../../models/index.js';
import type { System, SystemLog } from './system.js';

const kLabel = 'AMOS';
/** Its log does not say which clock it reads. */
const kClock = null;

/** One subgraph after its last tuning pass. */
export interface AmosSubgraph {
  readonly taskId: number;
  /** As printed, with the unit that AMOS prints; their sum is not the graph's cost. */
  readonly perfMs: number | null;
  readonly trials: number;
}

export interface AmosResult extends LogResult {
  readonly system: typeof kLabel;
  /** By task id, unique; `perfMs` is null where AMOS prints its value for failure. */
  readonly subgraphs: readonly AmosSubgraph[];
  readonly subgraphCount: number | null;
  readonly mappedCount: number | null;
  /** Mapped to tensor cores, 0…1. */
  readonly mappedRatio: number | null;
  readonly tuningTimeSeconds: number | null;
}

const failedCost = 1e10;
const cost = new RegExp(`Whole graph cost is ${decimal}${msUnit}`);
const begun = /Whole graph/;
const batch = /^Batch (\d+)\s*$/;
const query = new RegExp(`Query subgraph task id: (\\d+), perf=${decimal}${msUnit} after (\\d+) tuning(?![A-Za-z])`);
const notice = /totally (\d+) subgraphs, mapped (\d+) subgraphs, ratio=/;
// The number has no unit, so only the line's end shows that it is whole.
const taken = new RegExp(`Time taken:\\s+${decimal}\\s*$`);

/**
 * Reads a log of AMOS.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseAmos(source: LogSource, name: string): Promise<AmosResult> {
  const word = new LastWord<number>(kLabel, name);
  const subgraphs = new Map<number, AmosSubgraph>();
  let counts: readonly [number, number] | null = null;
  let tuningTimeSeconds: number | null = null;
  let finished = false;
  for await (const line of readLines(source)) {
    word.see(line);
    let match: RegExpExecArray | null;
    if ((match = query.exec(line.text)) !== null) {
      // After a round's cost the next round begins.
      if (word.said) word.begin();
      const perf = Number(match[2]);
      subgraphs.set(Number(match[1]), { taskId: Number(match[1]), perfMs: perf >= failedCost ? null : perf, trials: Number(match[3]) });
    } else if ((match = cost.exec(line.text)) !== null) {
      const value = positive(match[1]);
      if (value !== null && value >= failedCost) word.fail('it prints its value for failure, 10000000000 ms');
      else word.say(value);
      [finished, tuningTimeSeconds] = [false, null];
    } else if (begun.test(line.text)) {
      word.say(null);
    } else if (batch.test(line.text)) {
      word.begin();
      subgraphs.clear();
      counts = null;
    } else if ((match = notice.exec(line.text)) !== null) {
      counts = [Number(match[1]), Number(match[2])];
    } else if (line.text.includes('Time taken:')) {
      word.finish();
      finished = true;
      tuningTimeSeconds = line.terminated ? positive(taken.exec(line.text)?.[1]) : null;
    }
  }
  // Where there were rounds, only this says that the last cost was of the last one.
  const unfinished = subgraphs.size > 0 && !finished;
  const latencyMs = word.end(unfinished ? 'it ends before `Time taken`, which ends the tuning' : null);
  return {
    system: kLabel,
    latencyMs,
    clock: kClock,
    range: null,
    complete: finished,
    subgraphs: [...subgraphs.values()].sort((a, b) => a.taskId - b.taskId),
    subgraphCount: counts?.[0] ?? null,
    mappedCount: counts?.[1] ?? null,
    mappedRatio: counts === null || counts[0] === 0 ? null : counts[1] / counts[0],
    tuningTimeSeconds,
  };
}

const log: SystemLog<AmosResult> = {
  folder: /amos/i,
  mark: /Whole graph cost|Query subgraph task id/,
  clock: kClock,
  published: 'amos/logs',
  parse: parseAmos,
  startOf: (text) => {
    const count = batch.exec(text)?.[1];
    return count === undefined ? null : { model: null, setting: settingName('network', { batch: Number(count), seq: 1 }), format: null };
  },
  remarks: ({ mappedRatio, mappedCount, subgraphCount, tuningTimeSeconds }) => [
    ...(mappedRatio === null
      ? []
      : [`${mappedCount ?? 0} of ${subgraphCount ?? 0} subgraphs mapped (${(mappedRatio * 100).toFixed(1)} %)`]),
    ...(tuningTimeSeconds === null ? [] : [`tuned ${(tuningTimeSeconds / 3600).toFixed(1)} h`]),
  ],
};

export const amos: System = {
  id: 'amos',
  label: kLabel,
  bars: { fill: { color: '#f6dfe4', hatch: 'cross', hatchColor: '#a0526a' } },
  log,
  adapter: {
    place: 5,
    searches: true,
    load: async () =>
      new (await import('../adapters/tuners.js')).TunerAdapter({
        system: 'amos',
        label: kLabel,
        variable: 'LADDER_AMOS_HOME',
        needs: 'AMOS (its own fork of TVM, built with CUDA and LLVM)',
        parse: parseAmos,
      }),
  },
};

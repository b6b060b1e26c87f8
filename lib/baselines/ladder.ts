/**
 * Ladder's own runs: `Running from prebuilt model: PATH`, TVM's execution time summary (one row below its header),
 * then the debug executor's `Op #i NAME:` and `Iteration: 0: X us/iter` pairs, and its table of operators, one row
 * per output, columns two or more blanks apart, closed by `Total_time`.
 */
import { badLog, decimal, LogWatch, positive, readLines, type LogResult, type LogSource } from './log.js';

/** One operator, timed alone by the debug executor. */
export interface LadderOperator {
  readonly index: number;
  readonly name: string;
  /** Mean over the printed iterations. */
  readonly microseconds: number;
  /** Shapes of its outputs, from the table; null where the log ends before it. */
  readonly outputs: readonly (readonly number[])[] | null;
  readonly inputCount: number | null;
}

export interface LadderResult extends LogResult {
  readonly system: 'Ladder';
  /** As printed; null where the model was compiled in this very run. */
  readonly checkpointPath: string | null;
  readonly meanMs: number;
  readonly medianMs: number;
  readonly maxMs: number;
  readonly minMs: number;
  readonly stdMs: number;
  /** Empty where the debug executor did not run. `complete` says whether its table was reached. */
  readonly operators: readonly LadderOperator[];
}

const header = /mean \(ms\)\s+median \(ms\)\s+max \(ms\)\s+min \(ms\)\s+std \(ms\)/;
const row = new RegExp(`^\\s*${decimal}\\s+${decimal}\\s+${decimal}\\s+${decimal}\\s+${decimal}\\s*$`);
const opLine = /Op #(\d+) (\S+):\s*$/;
const iteration = new RegExp(`Iteration: \\d+: ${decimal} us/iter(?![A-Za-z])`);
const shape = /^\(([\d, ]*)\)$/;

interface TableRow {
  readonly outputs: number[][];
  readonly inputCount: number;
}

/** `name  ops  time  percent  (shape)  inputs  outputs  [measurements]`; null for any other line. */
function tableRow(text: string): { name: string; shape: number[]; inputCount: number } | null {
  const cells = text.trim().split(/\s{2,}/);
  const dims = shape.exec(cells[4] ?? '')?.[1];
  if (cells.length < 8 || dims === undefined || !/^\d+$/.test(cells[5] ?? '')) return null;
  const parts = dims.split(',').map((part) => part.trim()).filter((part) => part !== '');
  return { name: cells[0] ?? '', shape: parts.map(Number), inputCount: Number(cells[5]) };
}

/**
 * Reads a log of Ladder.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseLadder(source: LogSource, name: string): Promise<LadderResult> {
  const watch = new LogWatch('Ladder', name);
  let checkpointPath: string | null = null;
  let summary: number[] | null = null;
  let awaitingRow = false;
  const timed: { index: number; name: string; us: number[] }[] = [];
  let open: { index: number; name: string; us: number[] } | null = null;
  const table = new Map<string, TableRow>();
  let totalSeen = false;
  for await (const line of readLines(source)) {
    watch.see(line);
    let match: RegExpExecArray | null;
    if (line.terminated && (match = /Running from prebuilt model: (.+)$/.exec(line.text)) !== null) {
      checkpointPath = (match[1] ?? '').trim();
    } else if (header.test(line.text)) {
      awaitingRow = true;
      summary = null;
    } else if (awaitingRow) {
      match = row.exec(line.text);
      // Five bare numbers: only the line's end shows that the last is whole.
      if (match !== null && line.terminated) {
        summary = match.slice(1, 6).map(Number);
        awaitingRow = false;
      } else if (line.text.trim() !== '') {
        awaitingRow = false;
      }
    } else if (line.terminated && (match = opLine.exec(line.text)) !== null) {
      open = { index: Number(match[1]), name: match[2] ?? '', us: [] };
    } else if (open !== null && (match = iteration.exec(line.text)) !== null) {
      if (open.us.length === 0) timed.push(open);
      open.us.push(Number(match[1]));
    } else if (/^Total_time\s/.test(line.text)) {
      totalSeen = true;
    } else if (line.terminated && timed.length > 0) {
      const cells = tableRow(line.text);
      if (cells !== null) {
        const entry = table.get(cells.name);
        if (entry === undefined) table.set(cells.name, { outputs: [cells.shape], inputCount: cells.inputCount });
        else entry.outputs.push(cells.shape);
      }
    }
  }
  if (summary === null) throw watch.fail(awaitingRow);
  const [meanMs = 0, medianMs = 0, maxMs = 0, minMs = 0, stdMs = 0] = summary;
  if (positive(String(meanMs)) === null) throw badLog('Ladder', name, 'no result line', `a mean of ${meanMs} ms is no latency`);
  const operators = timed.map((op): LadderOperator => {
    const entry = totalSeen ? table.get(op.name) : undefined;
    return {
      index: op.index, name: op.name, microseconds: op.us.reduce((sum, us) => sum + us, 0) / op.us.length,
      outputs: entry?.outputs ?? null, inputCount: entry?.inputCount ?? null,
    };
  });
  return {
    system: 'Ladder', latencyMs: meanMs, clock: 'gpu-events', range: { lowMs: minMs, highMs: maxMs },
    complete: totalSeen || (operators.length === 0 && open === null),
    checkpointPath, meanMs, medianMs, maxMs, minMs, stdMs, operators,
  };
}

/**
 * Ladder's own runs: `Running from prebuilt model: PATH`, TVM's execution time summary (one row below its header),
 * then the debug executor's `Op #i NAME:` and `Iteration: 0: X us/iter` pairs, and its table of operators, one row
 * per output, columns two or more blanks apart, closed by `Total_time`. Our own records stand where Ladder stands.
 */
import { caseOfPath, kPlainFormats } from '../../artifact/names.js';
import type { FormatPair } from '../../models/index.js';
import { decimal, LastWord, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { type Bars, kDarkHatch, kLightHatch, type System, type SystemLog } from './system.js';

const kLabel = 'Ladder';
/** TVM's benchmark. */
const kClock = 'gpu-events';

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
  readonly system: typeof kLabel;
  /** As printed; null where the model was compiled in this very run. */
  readonly checkpointPath: string | null;
  readonly meanMs: number;
  readonly medianMs: number;
  readonly maxMs: number;
  readonly minMs: number;
  readonly stdMs: number;
  /** Empty where the debug executor did not run. */
  readonly operators: readonly LadderOperator[];
}

const started = /Running from prebuilt model: (.+)$/;
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
  const parts = dims
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  return { name: cells[0] ?? '', shape: parts.map(Number), inputCount: Number(cells[5]) };
}

/**
 * Reads a log of Ladder.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseLadder(source: LogSource, name: string): Promise<LadderResult> {
  const word = new LastWord<readonly number[]>(kLabel, name);
  let checkpointPath: string | null = null;
  let awaitingRow = false;
  let timed: { index: number; name: string; us: number[] }[] = [];
  let open: { index: number; name: string; us: number[] } | null = null;
  let table = new Map<string, TableRow>();
  let totalSeen = false;
  const begin = (): void => {
    word.begin();
    [timed, open, table, totalSeen, awaitingRow] = [[], null, new Map(), false, false];
  };
  for await (const line of readLines(source)) {
    word.see(line);
    let match: RegExpExecArray | null;
    if (line.terminated && (match = started.exec(line.text)) !== null) {
      begin();
      checkpointPath = (match[1] ?? '').trim();
    } else if (header.test(line.text)) {
      begin();
      awaitingRow = true;
    } else if (awaitingRow && line.text.trim() !== '') {
      match = row.exec(line.text);
      awaitingRow = false;
      // Five bare numbers: only the line's end shows that the last is whole.
      const whole = match !== null && line.terminated && positive(match[1]) !== null;
      word.say(whole ? match!.slice(1, 6).map(Number) : null);
    } else if (line.terminated && (match = opLine.exec(line.text)) !== null) {
      open = { index: Number(match[1]), name: match[2] ?? '', us: [] };
    } else if (open !== null && (match = iteration.exec(line.text)) !== null) {
      if (open.us.length === 0) timed.push(open);
      open.us.push(Number(match[1]));
    } else if (/^Total_time\s/.test(line.text)) {
      totalSeen = true;
      word.finish();
    } else if (line.terminated && timed.length > 0) {
      const cells = tableRow(line.text);
      if (cells !== null) {
        const entry = table.get(cells.name);
        if (entry === undefined) table.set(cells.name, { outputs: [cells.shape], inputCount: cells.inputCount });
        else entry.outputs.push(cells.shape);
      }
    }
  }
  const endsEarly = !totalSeen && (timed.length > 0 || open !== null);
  const [meanMs = 0, medianMs = 0, maxMs = 0, minMs = 0, stdMs = 0] = word.end(
    awaitingRow ? 'it ends before its result' : endsEarly ? 'it ends before the table of operators' : null,
  );
  const operators = timed.map((op): LadderOperator => {
    const entry = totalSeen ? table.get(op.name) : undefined;
    return {
      index: op.index,
      name: op.name,
      microseconds: op.us.reduce((sum, us) => sum + us, 0) / op.us.length,
      outputs: entry?.outputs ?? null,
      inputCount: entry?.inputCount ?? null,
    };
  });
  return {
    system: kLabel,
    latencyMs: meanMs,
    clock: kClock,
    range: { lowMs: minMs, highMs: maxMs },
    complete: true,
    checkpointPath,
    meanMs,
    medianMs,
    maxMs,
    minMs,
    stdMs,
    operators,
  };
}

const pair = (weight: string, activation: string): FormatPair => ({ weight, activation });

/** What the file names that Ladder's own scripts write say. */
const kSuffixes: readonly (readonly [RegExp, FormatPair])[] = [
  [/_q-1(?![\d])/, kPlainFormats],
  [/_b1_int$/, pair('int1', 'int8')],
  [/_b8_int$/, pair('int8', 'int8')],
  [/_q0_b4$/, pair('int4', 'fp16')],
  [/_nf4$/, pair('nf4', 'fp16')],
  [/mxfp8/, pair('mxfp8_e5m2', 'mxfp8_e5m2')],
  [/fp_e5m2|fp8/, pair('fp8_e5m2', 'fp8_e5m2')],
  [/_int4bxint1$/, pair('int1', 'int4')],
  [/_int8xint4$/, pair('int4', 'int8')],
  [/_int4b$/, pair('int4', 'int4')],
];

const log: SystemLog<LadderResult> = {
  folder: /ladder|bitter/i,
  mark: /Execution time summary:|Running from prebuilt model:|\[ladder:/,
  clock: kClock,
  parse: parseLadder,
  formatsOf: (stem) => kSuffixes.find(([pattern]) => pattern.test(stem))?.[1] ?? (/^[A-Za-z\d-]+$/.test(stem) ? kPlainFormats : null),
  startOf: (text) => {
    const path = started.exec(text)?.[1]?.trim();
    return path === undefined ? null : caseOfPath(path);
  },
  remarks: ({ operators }) => (operators.length === 0 ? [] : [`${operators.length} operators`]),
};

/** Blue, the darker the fewer bits are multiplied. */
const bars: Bars = {
  fill: { color: '#bdbdbd', hatch: 'dots', hatchColor: kDarkHatch },
  byFormat: [
    { ...kPlainFormats, fill: { color: '#cfe6f5', hatch: 'none', hatchColor: kDarkHatch } },
    { ...pair('int4', 'fp16'), fill: { color: '#93c6e8', hatch: 'rising', hatchColor: '#1f4e79' } },
    { ...pair('nf4', 'fp16'), fill: { color: '#5fa5d9', hatch: 'falling', hatchColor: kLightHatch } },
    { ...pair('fp8_e5m2', 'fp8_e5m2'), fill: { color: '#3a82c4', hatch: 'level', hatchColor: kLightHatch } },
    { ...pair('mxfp8_e5m2', 'mxfp8_e5m2'), fill: { color: '#2560a0', hatch: 'cross', hatchColor: kLightHatch } },
    { ...pair('int1', 'int8'), fill: { color: '#0f2f63', hatch: 'none', hatchColor: kLightHatch } },
    { ...pair('int1', 'int4'), fill: { color: '#0f2f63', hatch: 'upright', hatchColor: kLightHatch } },
    { ...pair('int4', 'int8'), fill: { color: '#93c6e8', hatch: 'grid', hatchColor: '#1f4e79' } },
    { ...pair('int4', 'int4'), fill: { color: '#5fa5d9', hatch: 'dots', hatchColor: kLightHatch } },
  ],
};

/** The authors'. TVM's benchmark repeats one inference with its inputs in place. */
export const ladder: System = { id: 'ladder', label: kLabel, aliases: ['bitter'], bars, l2: 'hot', log };

/** This package: what its own records say. */
export const ladderNode: System = { id: 'ladder.node', label: 'Ladder (this package)', family: kLabel, bars };

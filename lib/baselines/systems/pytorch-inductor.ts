/**
 * PyTorch-Inductor: `avg: X ms`, perhaps after words, host time with a synchronisation. The last one counts.
 * Scripts that compare print a second kind of line, `eager avg: X ms`: that is PyTorch without its compiler, and no result here.
 */
import { badLog, decimal, LastWord, msUnit, positive, readLines, type LogResult, type LogSource } from '../log.js';
import { kDarkHatch, type System, type SystemLog } from './system.js';

const kLabel = 'PyTorch-Inductor';
const kClock = 'host-sync';

export interface InductorResult extends LogResult {
  readonly system: typeof kLabel;
}

/** Group 1 is what stands before it. */
const begins = /^(.*?)(?:^|\s)avg:/;
const pattern = new RegExp(`(?:^|\\s)avg: ${decimal}${msUnit}`);

/** Whose line it is, by the words before `avg:`; a stamp or a logger's name in front of them says nothing. */
function kindOf(before: string): 'compiled' | 'eager' | 'unnamed' {
  const words = before.split(/[\]>:|)]/).at(-1) ?? '';
  if (/\b(?:eager|uncompiled|not compiled|vllm)\b/i.test(words)) return 'eager';
  return /inductor|\bcompiled?\b/i.test(words) ? 'compiled' : 'unnamed';
}

/**
 * Reads a log of PyTorch-Inductor.
 * @throws LadderError `BAD_LOG` with `context.reason`
 */
export async function parseInductor(source: LogSource, name: string): Promise<InductorResult> {
  const unnamed = new LastWord<number>(kLabel, name);
  const compiled = new LastWord<number>(kLabel, name);
  let named = false;
  let eager: string | null = null;
  for await (const line of readLines(source)) {
    unnamed.see(line);
    compiled.see(line);
    const before = begins.exec(line.text)?.[1];
    if (before === undefined) continue;
    const kind = kindOf(before);
    named ||= kind === 'compiled';
    if (kind === 'eager') eager = line.text.trim().slice(0, 160);
    else (kind === 'compiled' ? compiled : unnamed).say(positive(pattern.exec(line.text)?.[1]));
    unnamed.finish();
    compiled.finish();
  }
  // Where lines say which kind they are, one without a word may be of either.
  const word = named ? compiled : unnamed;
  if (!word.said && !named && eager !== null)
    throw badLog(kLabel, name, 'no result line', `its latencies are those of PyTorch without its compiler: ${eager}`);
  return { system: kLabel, latencyMs: word.end(), clock: kClock, range: null, complete: true };
}

const log: SystemLog<InductorResult> = {
  folder: /inductor|pytorch/i,
  mark: /(?:^|\s)avg: /,
  weak: true,
  clock: kClock,
  parse: parseInductor,
};

export const pyTorchInductor: System = {
  id: 'pytorch-inductor',
  label: kLabel,
  short: 'Inductor',
  bars: { fill: { color: '#e8743b', hatch: 'none', hatchColor: kDarkHatch } },
  log,
  adapter: { place: 2, load: async () => new (await import('../adapters/pytorch.js')).PyTorchAdapter('inductor') },
};

/** `ladder compare`: two sets of numbers side by side, with a verdict only where they are comparable. */
import { LadderError } from '../errors.js';
import { comparisonCsv, comparisonTable } from '../figure8/compare-table.js';
import { compareSets, requireComparable } from '../figure8/compare.js';
import { loadEntries } from '../figure8/entries.js';
import { exitCodes, type Command } from './command.js';

export const compareCommand: Command = {
  register(program, io) {
    program
      .command('compare')
      .description('compare two sets: speed-ups, geometric means, and which differences are within the noise')
      .argument('<a>', "'paper', 'artifact', a record file, or a folder of records or of logs")
      .argument('<b>', 'the same; above 1×, A is better')
      .option('--force', 'give verdicts although GPU, clock or L2 mode differ')
      .option('--log-gpu <name>', 'the GPU of logs, which do not say it themselves')
      .option('--json', 'machine-readable result')
      .option('--csv', 'the pairs as CSV, numbers in full')
      .action(async (a: string, b: string, options: { force?: boolean; logGpu?: string; json?: boolean; csv?: boolean }) => {
        const [left, right] = [await loadEntries(a, options.logGpu), await loadEntries(b, options.logGpu)];
        const comparison = compareSets(left, right, { force: options.force === true });
        for (const remark of [...left.remarks, ...right.remarks]) io.note(remark);
        if (options.json === true && options.csv === true)
          throw new LadderError('BAD_ARGUMENT', 'expected --json or --csv but received both');
        if (options.json === true || options.csv === true) {
          // One document: it says by itself which pairs were refused.
          io.out(options.csv === true ? comparisonCsv(comparison).trimEnd() : JSON.stringify(comparison));
          if (comparison.refused > 0) io.exit(exitCodes.failed);
          return;
        }
        io.out(comparisonTable(comparison));
        requireComparable(comparison);
      });
  },
};

/** `ladder baselines`: what every log of the other systems below a folder says, or why it says nothing. */
import { LadderError } from '../errors.js';
import { scanLogs, type BaselineEntry } from '../baselines/scan.js';
import { loggingSystems, systemNamed } from '../baselines/systems/index.js';
import { modelLabel, clockLabel, settingLabel } from '../figure8/names.js';
import { formatMs, inWords, renderTable } from '../table.js';
import type { Command } from './command.js';

/** What a log says besides its latency. */
function details(entry: BaselineEntry): string {
  const { result } = entry;
  if (result === null) return entry.reason;
  return [...(systemNamed(result.system)?.log?.remarks?.(result) ?? []), ...(result.complete ? [] : ['the log ends early'])].join(', ');
}

/** The label of a system, in any case. */
function systemOption(text: string): string {
  const labels = loggingSystems().map(({ label }) => label);
  const found = labels.find((label) => label.toLowerCase() === text.toLowerCase());
  if (found === undefined)
    throw new LadderError('BAD_ARGUMENT', `expected one of ${labels.join(', ')} for --system but received ${JSON.stringify(text)}`);
  return found;
}

export const baselinesCommand: Command = {
  register(program, io) {
    program
      .command('baselines')
      .description(`what the logs of ${inWords(loggingSystems().map(({ label }) => label))} say`)
      .argument('<folder>', 'a folder of logs (plain, .gz, or in a .tar.gz), or one log')
      .option('--system <name>', 'the system that wrote them, where neither folders nor contents tell', systemOption)
      .option('--allow-unterminated', "take TensorIR's bare number as whole even without a line end")
      .option('--json', 'machine-readable result')
      .action(async (folder: string, options: { system?: string; allowUnterminated?: boolean; json?: boolean }) => {
        const entries = await scanLogs(folder, {
          ...(options.system === undefined ? {} : { system: options.system }),
          allowUnterminated: options.allowUnterminated === true,
        });
        if (entries.length === 0)
          throw new LadderError('BAD_ARGUMENT', `${folder} holds no logs (*.log, *.log.gz, *.tar, *.tar.gz, latency.txt)`, { folder });
        if (options.json === true) return io.out(JSON.stringify(entries));
        io.out(
          renderTable(
            [
              { title: 'log' },
              { title: 'system' },
              { title: 'model' },
              { title: 'setting' },
              { title: 'format' },
              { title: 'ms', align: 'right' },
              { title: 'clock' },
              { title: 'remark', maxWidth: 110 },
            ],
            entries.map((entry) => [
              entry.path,
              entry.system ?? '—',
              entry.model === null ? '—' : modelLabel(entry.model),
              entry.setting === null ? '—' : settingLabel(entry.setting),
              entry.format ?? '—',
              formatMs(entry.result?.latencyMs ?? null),
              entry.result === null ? '—' : clockLabel(entry.result.clock),
              details(entry),
            ]),
          ),
        );
        const without = entries.filter((entry) => entry.result === null).length;
        io.note(`${entries.length - without} logs with a result, ${without} without`);
      });
  },
};

/** `ladder baselines`: what every log of the other systems below a folder says, or why it says nothing. */
import { LadderError } from '../errors.js';
import { baselineSystems, type BaselineSystem } from '../baselines/log.js';
import { scanLogs, type BaselineEntry } from '../baselines/scan.js';
import { modelLabel, clockLabel, settingLabel } from '../figure8/names.js';
import type { Command } from './command.js';
import { formatMs, renderTable } from './table.js';

/** What a log says besides its latency. */
function details(entry: BaselineEntry): string {
  const { result } = entry;
  if (result === null) return entry.reason;
  const parts: string[] = [];
  if (result.system === 'AMOS') {
    if (result.mappedRatio !== null) parts.push(`${result.mappedCount ?? 0} of ${result.subgraphCount ?? 0} subgraphs mapped (${(result.mappedRatio * 100).toFixed(1)} %)`);
    if (result.tuningTimeSeconds !== null) parts.push(`tuned ${(result.tuningTimeSeconds / 3600).toFixed(1)} h`);
  }
  if (result.system === 'TensorIR' && result.tuningTimeSeconds !== null) parts.push(`tuned ${(result.tuningTimeSeconds / 3600).toFixed(1)} h`);
  if (result.system === 'Ladder' && result.operators.length > 0) parts.push(`${result.operators.length} operators`);
  if (!result.complete) parts.push('the log ends early');
  return parts.join(', ');
}

function systemOption(text: string): BaselineSystem {
  const found = baselineSystems.find((system) => system.toLowerCase() === text.toLowerCase());
  if (found === undefined) throw new LadderError('BAD_ARGUMENT', `expected one of ${baselineSystems.join(', ')} for --system but received "${text}"`);
  return found;
}

export const baselinesCommand: Command = {
  register(program, io) {
    program
      .command('baselines')
      .description("what the logs of AMOS, TensorIR, Ladder, Welder, Roller, ONNXRuntime, TensorRT, PyTorch-Inductor and vLLM say")
      .argument('<folder>', 'a folder of logs (plain, .gz, or in a .tar.gz), or one log')
      .option('--system <name>', 'the system that wrote them, where neither folders nor contents tell', systemOption)
      .option('--allow-unterminated', "take TensorIR's bare number as whole even without a line end")
      .option('--json', 'machine-readable result')
      .action(async (folder: string, options: { system?: BaselineSystem; allowUnterminated?: boolean; json?: boolean }) => {
        const entries = await scanLogs(folder, {
          ...(options.system === undefined ? {} : { system: options.system }), allowUnterminated: options.allowUnterminated === true,
        });
        if (options.json === true) return io.out(JSON.stringify(entries));
        if (entries.length === 0) throw new LadderError('BAD_ARGUMENT', `${folder} holds no logs (*.log, *.log.gz, *.tar.gz, latency.txt)`, { folder });
        io.out(renderTable(
          [{ title: 'log' }, { title: 'system' }, { title: 'model' }, { title: 'setting' }, { title: 'format' }, { title: 'ms', align: 'right' }, { title: 'clock' }, { title: 'remark', maxWidth: 110 }],
          entries.map((entry) => [
            entry.path, entry.system ?? '—', entry.model === null ? '—' : modelLabel(entry.model), entry.setting === null ? '—' : settingLabel(entry.setting), entry.format ?? '—',
            formatMs(entry.result?.latencyMs ?? null), entry.result === null ? '—' : clockLabel(entry.result.clock), details(entry),
          ]),
        ));
        const without = entries.filter((entry) => entry.result === null).length;
        io.note(`${entries.length - without} logs with a result, ${without} without`);
      });
  },
};

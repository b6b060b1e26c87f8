/**
 * What `ladder bench` does round its measurements: tuning before them (`--force_tune`), the other systems of Figure 8
 * after them (`--reproduce`), and at the end the comparison and the figures.
 */
import { join } from 'node:path';
import { isModel, settingsOf } from '../baselines/case-names.js';
import type { FinishedBench } from './bench.js';
import type { CliIo } from './command.js';
import { renderTable } from './table.js';

/** Tunes the checkpoints on the GPU, and says what AMOS and TensorIR would take, which the authors' flag tuned as well. */
export async function tuneFirst(paths: readonly string[], ordinal: number, io: CliIo): Promise<void> {
  const { tuneCheckpoint } = await import('../build/tuner.js');
  for (const [index, path] of paths.entries()) {
    await tuneCheckpoint(path, {
      deviceOrdinal: ordinal, signal: io.signal,
      onProgress: (fraction, label, remaining) =>
        io.progress(`tuning [${index + 1}/${paths.length}] ${label}${remaining === null ? '' : `, about ${Math.ceil(remaining)} s left`}`, fraction),
    });
  }
  io.endProgress();
}

/** Measures the systems that are installed here, over all settings of the models that were measured. */
async function reproduce(bench: FinishedBench, io: CliIo): Promise<void> {
  const { baselineAdapters, reproduceBaselines, tunerAdapters } = await import('../baselines/adapters/index.js');
  const models = [...new Set(bench.outcomes.map(({ record }) => record.model))].filter(isModel);
  const cases = models.flatMap((model) => settingsOf(model).map((setting) => ({ model, setting })));
  const { records, unavailable } = await reproduceBaselines(cases, {
    folder: join(bench.resultsRoot, 'baselines'), signal: io.signal,
    adapters: bench.forceTune ? [...baselineAdapters(), ...tunerAdapters()] : baselineAdapters(),
    onProgress: ({ system, case: { model, setting }, index, cases: count, stage, fraction }) => io.progress(`[${index + 1}/${count}] ${system} ${model} ${setting}: ${stage}`, fraction),
  });
  io.endProgress();
  const rows = records.map(({ record }) => [record.system, record.model, record.setting, record.latencyMs === null ? '—' : record.latencyMs.toPrecision(4), record.clock, record.reason ?? record.status]);
  io.out(renderTable([{ title: 'system' }, { title: 'model' }, { title: 'setting' }, { title: 'ms', align: 'right' }, { title: 'clock' }, { title: 'status' }], rows));
  for (const { system, reason } of unavailable) io.out(`${system}: not run: ${reason}`);
}

/** The other systems, if they are asked for, then tables, figures and report. */
export async function endBench(bench: FinishedBench, io: CliIo): Promise<void> {
  if (bench.reproduce) await reproduce(bench, io);
  io.progress('drawing', null);
  const { finishBench } = await import('../figure8/finish.js');
  const { files, text } = await finishBench({ reproduce: bench.reproduce && bench.device.kind === 'cuda', results: [bench.resultsRoot] });
  io.endProgress();
  io.out(`\n${text}\n\n${files.join('\n')}`);
}

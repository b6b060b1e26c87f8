/** `ladder quality`: what each format costs a checkpoint's model, in a table, and against latency in a chart. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { checkpointQuality } from '../compiler/api.js';
import type { FormatQuality, QualityReport } from '../compiler/types.js';
import { defaultOut, defaultResults } from '../figure8/data.js';
import { findLatencies } from '../figure8/latencies.js';
import type { ScaleChoice } from '../formats/index.js';
import { checkWritable } from '../files.js';
import { formatMs, formatSignificant, renderTable } from '../table.js';
import type { Command } from './command.js';
import { addCheckpointArgument, checkpointOf, loadDrawing, positiveNumber, progressTo, scaleOption, wholeNumber } from './shared.js';

interface QualityOptions {
  readonly prebuilt_path?: string;
  readonly weights?: string;
  readonly layer?: number;
  readonly inputs?: string;
  readonly tokens?: number;
  readonly scale?: ScaleChoice;
  readonly results?: readonly string[];
  readonly gpu?: string;
  readonly out?: string;
  readonly chart: boolean;
  readonly json?: boolean;
}

const percent = (error: number): string => (error === 0 ? '0' : `${formatSignificant(100 * error)} %`);

/** A report for people. @param latencies ms by label */
function renderQuality(report: QualityReport, latencies: ReadonlyMap<string, number>): string {
  const worstOf = ({ tensors }: FormatQuality): string => {
    const worst = tensors.reduce((a, b) => (b.worst.error > a.worst.error ? b : a));
    return worst.worst.error === 0 ? '—' : `${percent(worst.worst.error)}, row ${worst.worst.row} of ${worst.name}`;
  };
  const formats = renderTable(
    [
      { title: 'format' },
      { title: 'bits', align: 'right' },
      { title: 'weights', align: 'right' },
      { title: 'worst channel' },
      { title: 'output', align: 'right' },
      { title: 'ms', align: 'right' },
    ],
    report.formats.map((one) => [
      one.label,
      formatSignificant(one.bitsPerWeight),
      percent(one.error),
      worstOf(one),
      percent(one.outputError),
      formatMs(latencies.get(one.label) ?? null),
    ]),
  );
  const own = report.formats.find(({ label }) => label === report.subject);
  const matrices = own
    ? renderTable(
        [
          { title: `${own.label}: matrix` },
          { title: 'shape' },
          { title: 'error', align: 'right' },
          { title: 'worst channel', align: 'right' },
        ],
        own.tensors.map(({ name, shape, error, worst }) => [
          name,
          shape.join(' × '),
          percent(error),
          worst.error === 0 ? '—' : `${percent(worst.error)}, row ${worst.row}`,
        ]),
      )
    : null;
  return [formats, ...(matrices ? ['', matrices] : [])].join('\n');
}

export const qualityCommand: Command = {
  register(program, io) {
    addCheckpointArgument(program.command('quality'))
      .description('errors of weights and output in every format, and the trade-off against latency')
      .option('--weights <path>', 'float weights: a safetensors file, or a model’s folder (default: random ones)')
      .option('--layer <n>', 'number of the first decoder layer in the weights', wholeNumber)
      .option('--inputs <file>', 'safetensors file of inputs, [tokens, hidden] or [n, …] (default: random ones)')
      .option('--tokens <n>', 'how many random tokens decoder layers are fed (default: 16)', positiveNumber)
      .addOption(scaleOption())
      .option('--results <path...>', 'folders or files of saved records, for latencies (default: results, beside out)')
      .option('--gpu <name>', 'the GPU whose latencies are taken, e.g. h100 (default: that of the newest record)')
      .option('--out <folder>', 'where svg/, png/ and pdf/ of the chart go (default: as of `ladder plot`)')
      .option('--no-chart', 'draw nothing')
      .option('--json', 'machine-readable result')
      .action(async (checkpoint: string | undefined, options: QualityOptions) => {
        const { weights, layer, inputs, tokens, scale, results, gpu, out = defaultOut } = options;
        const drawing = options.chart ? await loadDrawing(() => import('../figure8/quality.js')) : null;
        if (drawing) await checkWritable(join(out, 'svg', 'quality.svg'));
        const path = checkpointOf(checkpoint, options);
        const report = await checkpointQuality(path, {
          ...(weights !== undefined && { weights: resolve(weights) }),
          ...(inputs !== undefined && { inputs: resolve(inputs) }),
          layer,
          tokens,
          scale,
          signal: io.signal,
          onProgress: progressTo(io),
        });
        io.endProgress();
        const found = await findLatencies(report, results ?? (existsSync(defaultResults) ? [defaultResults] : []), gpu);
        const files = drawing ? await drawing.writeQuality({ report, ...found }, out) : [];
        for (const remark of report.remarks) io.note(remark);
        if (options.json) {
          io.out(JSON.stringify({ ...report, gpu: found.gpu, latencyMs: Object.fromEntries(found.latencies), files }));
          return;
        }
        io.out(renderQuality(report, found.latencies));
        const fed = `${report.inputs} ${inputs === undefined ? 'random' : 'given'} ${report.inputs === 1 ? 'input' : 'inputs'}`;
        io.note(`${weights === undefined ? 'random weights' : weights}; ${fed}; ms: ${found.gpu ?? 'no record of these checkpoints'}`);
        if (files.length > 0) io.out(`\n${files.join('\n')}`);
      });
  },
};

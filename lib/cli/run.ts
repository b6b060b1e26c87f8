/**
 * `ladder run`: loads a checkpoint and times it. Called as the authors call their script (`ladder --prebuilt_path PATH`) it
 * measures by the paper's rule and prints what their script prints: the summary of five values and every operator's time.
 */
import { Option, type Command as Program } from 'commander';
import type { LadderError } from '../errors.js';
import { checkWritable, writeWhole } from '../files.js';
import type { Prebuilt } from '../run/prebuilt.js';
import { describeMeanState } from '../run/conditions.js';
import { checkRunOptions, recordOf, runLoaded, withPrebuilt, type RunResult } from '../run/run-prebuilt.js';
import type { BenchmarkOptions } from '../run/options.js';
import { checkpointName } from '../run/package.js';
import type { ProfileReport } from '../run/profile.js';
import { parseSetting } from '../models/index.js';
import { exitCodes, type CliIo, type Command } from './command.js';
import {
  addCheckpointArgument,
  addLoadOptions,
  checkpointOf,
  milliseconds,
  progressTo,
  wholeNumber,
  type CheckpointOptions,
} from './shared.js';
import { ratedRoofline } from '../run/roofline.js';
import { formatMs, formatRate, renderTable } from '../table.js';

/** The timing options of `run` and `bench`. */
export interface TimingOptions {
  readonly mode?: 'samples' | 'paper';
  readonly launch?: 'auto' | 'graph' | 'stream';
  readonly l2?: 'hot' | 'cold';
  readonly warmupMs?: number;
  readonly minSamples?: number;
  readonly maxSamples?: number;
  readonly maxMs?: number;
  readonly recoveryMs?: number;
  readonly sustained?: 'auto' | 'on' | 'off';
  readonly cold?: 'auto' | 'on' | 'off';
  readonly number?: number;
  readonly repeat?: number;
  readonly minRepeatMs?: number;
}

interface RunCliOptions extends CheckpointOptions, TimingOptions {
  readonly roofline: boolean;
  readonly strict?: boolean;
  readonly save?: string;
  readonly authors?: boolean;
}

/** Adds the options of timing. */
export function addTimingOptions(command: Program): Program {
  return command
    .option('--mode <mode>', "'samples': one event pair per inference; 'paper': TVM's rule, five means")
    .option('--launch <how>', "'graph', 'stream', or 'auto': a graph where the checkpoint can be captured")
    .option('--l2 <state>', "'hot', or 'cold': the L2 cache is filled with other data before each inference")
    .option('--warmup-ms <ms>', 'samples: run as long before the first sample', milliseconds)
    .option('--min-samples <n>', 'samples: at least as many', wholeNumber)
    .option('--max-samples <n>', 'samples: at most as many', wholeNumber)
    .option('--max-ms <ms>', 'samples: stop after as long once the least are there', milliseconds)
    .option(
      '--recovery-ms <ms>',
      'samples: rest as long where the power limit holds the clock below 75 %, and set those samples aside; 0: keep them (default 250)',
      milliseconds,
    )
    .option(
      '--sustained <when>',
      "samples: 'on': measure after a second of load, too, with clock and power; 'off'; 'auto': where arithmetic decides (default auto)",
    )
    .option(
      '--cold <when>',
      "samples: 'on': measure with a cold L2 cache, too; 'off'; 'auto': where the cache may keep a tenth or more of what is read (default auto)",
    )
    .option('--number <n>', "paper: TVM's number (default 5)", wholeNumber)
    .option('--repeat <n>', "paper: TVM's repeat (default 5)", wholeNumber)
    .option('--min-repeat-ms <ms>', "paper: TVM's min_repeat_ms (default 500)", milliseconds);
}

/** The options of timing as the API takes them; checked there. */
export function timingOf({
  mode,
  launch,
  l2,
  warmupMs,
  minSamples,
  maxSamples,
  maxMs,
  recoveryMs,
  sustained,
  cold,
  number,
  repeat,
  minRepeatMs,
}: TimingOptions): BenchmarkOptions {
  return { mode, launch, l2, warmupMs, minSamples, maxSamples, maxMs, recoveryMs, sustained, cold, number, repeat, minRepeatMs };
}

/** Words for what was measured and how. */
export function describeMethod({ launch, l2, mode, clock, device, computedBy }: RunResult): string {
  const how =
    device.kind === 'cpu'
      ? `${computedBy === 'reference' ? 'reference operators on the CPU' : 'the CPU code of model.so'}, host clock`
      : `${launch === 'graph' ? 'CUDA graph replay' : 'launches on a stream'}, L2 ${l2}, ${clock === 'gpu-events' ? 'CUDA events' : clock}`;
  return `${device.name}; ${how}; ${mode === 'paper' ? "the paper's rule" : 'one sample per inference'}`;
}

/** The latency of one layer of several; null for what is not several layers, or has no latency. */
export function perLayer({ setting, latencyMs }: { readonly setting: string; readonly latencyMs: number | null }): string | null {
  const { layers } = parseSetting(setting) ?? { layers: 1 };
  return layers === 1 || latencyMs === null ? null : `${formatMs(latencyMs / layers)} ms per layer, ${layers} layers`;
}

/** A result for people. */
export function renderRun(result: RunResult): string {
  const lines = [
    `${checkpointName(result.path)}  ${result.format}, ${result.operators} operators, ${describeWeights(result.weights)}`,
    describeMethod(result),
    '',
  ];
  if (result.samples) {
    const { samples } = result;
    lines.push(
      renderTable(
        ['median ms', 'IQR', 'p5', 'p95', 'p99', 'min', 'max', 'samples'].map((title) => ({ title, align: 'right' })),
        [
          [samples.medianMs, samples.iqrMs, samples.p5Ms, samples.p95Ms, samples.p99Ms, samples.minMs, samples.maxMs]
            .map(formatMs)
            .concat(String(samples.count)),
        ],
      ),
    );
  }
  if (result.sustained) {
    const { latencyMs, reason, samples, meanState } = result.sustained;
    lines.push(
      '',
      `in bursts: ${formatMs(result.latencyMs)} ms (${describeMeanState(result.meanState)}); sustained: ${latencyMs === null ? `INVALID: ${reason}` : `${formatMs(latencyMs)} ms, IQR ${formatMs(samples.iqrMs)}, ${samples.count} samples (${describeMeanState(meanState)})`}`,
    );
  }
  if (result.cold) {
    const { latencyMs, reason, samples } = result.cold;
    lines.push(
      '',
      `L2 cold: ${latencyMs === null ? `INVALID: ${reason}` : `${formatMs(latencyMs)} ms, IQR ${formatMs(samples.iqrMs)}, ${samples.count} samples`}`,
    );
  }
  if (result.paper) {
    const { paper } = result;
    lines.push(
      renderTable(
        ['mean ms', 'median', 'max', 'min', 'std', 'values', 'inferences each'].map((title) => ({ title, align: 'right' })),
        [
          [paper.meanMs, paper.medianMs, paper.maxMs, paper.minMs, paper.stdMs]
            .map(formatMs)
            .concat(String(paper.valuesMs.length), paper.numbers.join(' ')),
        ],
      ),
    );
  }
  const each = perLayer(result);
  if (each !== null) lines.push('', each);
  lines.push('');
  const { roofline, coldL2 } = ratedRoofline(result);
  if (roofline) {
    lines.push(
      `${(100 * roofline.fraction).toFixed(1)} % of the roofline${coldL2 ? ', L2 cold' : ''}: ${formatRate(roofline.bytesPerSecond, 'B/s')} of ${formatRate(roofline.ceilingBytesPerSecond, 'B/s')} measured here, ${formatRate(roofline.flopsPerSecond, 'FLOP/s')}${roofline.ceilingFlopsPerSecond === null ? '' : ` of ${formatRate(roofline.ceilingFlopsPerSecond, 'FLOP/s')}`}`,
    );
  }
  const beside = [
    ...(result.enqueueMedianMs === null ? [] : [`enqueue ${formatMs(result.enqueueMedianMs)} ms`]),
    ...(result.hostMsPerInference === null ? [] : [`host ${formatMs(result.hostMsPerInference)} ms per inference`]),
    `load ${formatMs(result.load.dlopenMs + result.load.moduleMs + result.load.allocateMs)} ms, weights ${formatMs(result.load.fillMs)} ms${result.load.buildMs > 0 ? `, build ${formatMs(result.load.buildMs)} ms` : ''}`,
  ];
  lines.push(beside.join('; '));
  if (result.launchReason !== null && result.device.kind === 'cuda') lines.push(`not a graph: ${result.launchReason}`);
  if (result.reason !== null) lines.push(`INVALID: ${result.reason}`);
  for (const warning of result.warnings) lines.push(`warning: ${warning}`);
  return lines.join('\n');
}

function describeWeights(weights: RunResult['weights']): string {
  return { file: 'weights from graph.params', seeded: 'seeded weights', fake: 'fake weights', none: 'no weights' }[weights];
}

/** The authors' script's own words, so that what reads their logs reads these. */
export function renderAuthors(path: string, result: RunResult, profile: ProfileReport): string {
  const centred = (text: string): string => text.padStart(Math.floor((12 + text.length) / 2)).padEnd(12);
  const summary = result.paper ?? result.samples!;
  const head = ['mean (ms)', 'median (ms)', 'max (ms)', 'min (ms)', 'std (ms)'].map(centred).join(' ');
  const values = [summary.meanMs, summary.medianMs, summary.maxMs, summary.minMs, summary.stdMs]
    .map((value) => centred(value.toFixed(4)))
    .join(' ');
  const operators = profile.operators.flatMap(({ node, medianMs }, i) => [
    `Op #${i} ${node}:`,
    `Iteration: 0: ${(1000 * medianMs).toPrecision(6)} us/iter`,
  ]);
  const shape = (extents: readonly number[]): string => `(${extents.join(', ')}${extents.length === 1 ? ',' : ''})`;
  const rows = [...profile.operators]
    .sort((a, b) => b.medianMs - a.medianMs)
    .flatMap(({ node, medianMs, share, shapes, inputs, outputs }) =>
      shapes.map((extents) => {
        const us = (1000 * medianMs).toFixed(3);
        return [node, node, us, (100 * share).toFixed(3), shape(extents), String(inputs), String(outputs), `[${us}]`];
      }),
    );
  const total = ['Total_time', '-', (1000 * profile.totalMs).toFixed(3), '-', '-', '-', '-', '-'];
  const table = renderTable(
    ['Node Name', 'Ops', 'Time(us)', 'Time(%)', 'Shape', 'Inputs', 'Outputs', 'Measurements(us)'].map((title) => ({ title })),
    [...rows, total],
  ).replace(/^─.*$/m, (rule) => rule.replaceAll('─', '-'));
  return [`Running from prebuilt model: ${path}`, 'Execution time summary:', head, values, '', ...operators, table].join('\n');
}

async function runAction(argument: string | undefined, options: RunCliOptions, io: CliIo): Promise<void> {
  const path = checkpointOf(argument, options);
  const onProgress = progressTo(io);
  const task = { signal: io.signal, onProgress };
  const load = { device: options.device, seed: options.seed, build: options.build };
  const timing: BenchmarkOptions = {
    ...timingOf(options),
    ...task,
    roofline: options.roofline,
    ...(options.authors && { mode: options.mode ?? 'paper', launch: options.launch ?? 'stream' }),
  };
  checkRunOptions({ ...load, ...timing });
  if (options.save !== undefined) await checkWritable(options.save);
  const measured = async (prebuilt: Prebuilt): Promise<{ result: RunResult; profile: ProfileReport | null }> => {
    const result = await runLoaded(prebuilt, timing);
    // The debug executor runs the graph once.
    return { result, profile: options.authors ? await prebuilt.profile({ ...task, samples: 1 }) : null };
  };
  const { result, profile } = await withPrebuilt(path, { ...load, ...task }, measured);
  io.endProgress();
  const record = recordOf(result, null);
  if (options.json) io.out(JSON.stringify(record));
  else if (profile) {
    io.out(renderAuthors(path, result, profile));
    if (result.reason !== null) io.note(`INVALID: ${result.reason}`);
    for (const warning of result.warnings) io.note(`warning: ${warning}`);
  } else io.out(renderRun(result));
  if (options.strict && result.status === 'invalid') io.exit(exitCodes.invalid);
  // Last: what was measured is shown, whatever becomes of the file.
  if (options.save === undefined) return;
  await writeWhole(options.save, `${JSON.stringify(record)}\n`).catch((error: LadderError) => {
    io.note(`ladder: ${error.message} [${error.code}]`);
    io.exit(exitCodes.failed);
  });
}

export const runCommand: Command = {
  register(program, io) {
    const command = program.command('run').description('load a checkpoint and time it');
    addTimingOptions(addLoadOptions(addCheckpointArgument(command)))
      .option('--no-roofline', "do not rate the result against the device's ceilings")
      .option('--save <file>', 'write the record, with every sample, as JSON')
      .option('--strict', 'exit 4 when the measurement is invalid')
      .addOption(new Option('--authors').hideHelp())
      .action((argument: string | undefined, options: RunCliOptions) => runAction(argument, options, io));
  },
};

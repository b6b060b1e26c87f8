/** `ladder tune`: searches the kernels' parameters on the GPUs at hand. */
import { locateCheckpoint } from '../artifact/locate.js';
import { tuneOn } from '../compiler/tune/lanes.js';
import type { Tuned } from '../compiler/types.js';
import { LadderError } from '../errors.js';
import { native } from '../native.js';
import { ordinalOf, selectDevices } from '../run/device.js';
import { resolveCheckpoint } from '../run/package.js';
import { exitCodes, type CliIo, type Command } from './command.js';
import { addDevicesOption, addShardOption, exampleCheckpoint, laneProgress, shareOf, type Shard, wholeNumber } from './shared.js';
import { formatMs, renderTable } from '../table.js';

interface TuneCliOptions {
  readonly device: string;
  readonly candidates: number;
  readonly missing?: boolean;
  readonly json?: boolean;
  readonly shard?: Shard;
}

export const tuneCommand: Command = {
  register(program, io) {
    const command = program
      .command('tune')
      .description("search the kernels' parameters on the GPUs at hand; interrupt and run again to go on")
      .argument('<checkpoint...>', `folders, or names below checkpoints/, e.g. '${exampleCheckpoint()}'`)
      .option('--candidates <n>', 'tunings tried per operator', wholeNumber, 12)
      .option('--missing', 'search only for operators that have no winner yet; the others keep theirs')
      .option('--json', 'machine-readable result');
    addShardOption(addDevicesOption(command)).action((checkpoints: readonly string[], options: TuneCliOptions) =>
      tune(checkpoints, options, io),
    );
  },
};
/** Ordinals of the GPUs to tune on. @throws LadderError `BAD_ARGUMENT`, `NO_DEVICE` */
function gpusOf(wanted: string): readonly number[] {
  if (wanted === 'cpu')
    throw new LadderError('BAD_ARGUMENT', 'expected a GPU for --device but received "cpu": what is tuned is a GPU\'s kernels');
  const { available, deviceCount } = native().cudaStatus();
  // That there is none, the tuner says.
  if (!available || deviceCount === 0) return [0];
  return selectDevices(wanted === 'auto' ? 'cuda' : wanted).map(ordinalOf);
}

async function tune(checkpoints: readonly string[], options: TuneCliOptions, io: CliIo): Promise<void> {
  const share = shareOf(checkpoints, options.shard);
  // A folder that is none is said before a GPU is asked for.
  const folders = await Promise.all(share.map((checkpoint) => locateCheckpoint(resolveCheckpoint(checkpoint))));
  const gpus = gpusOf(options.device);
  const report = laneProgress(io, gpus.length);
  await tuneOn(gpus, folders, {
    candidates: options.candidates,
    missing: options.missing ?? false,
    signal: io.signal,
    onProgress: (ordinal, fraction, label, remaining) =>
      report(
        `cuda:${ordinal}`,
        remaining === null || gpus.length > 1 ? label : `${label} (about ${Math.ceil(remaining)} s left)`,
        fraction,
      ),
    onTuned: (index, tuned, ordinal) => {
      io.endProgress();
      const checkpoint = share[index]!;
      const device = `cuda:${ordinal}`;
      io.out(options.json ? JSON.stringify({ checkpoint, device, ...tuned }) : renderTuned(checkpoint, device, tuned));
    },
    onFailed: (index, error) => {
      io.note(`${share[index]}: not tuned: ${error.message} [${error.code}]`);
      io.exit(exitCodes.failed);
    },
  });
  io.endProgress();
}

/** A checkpoint's winners as a table. */
function renderTuned(checkpoint: string, device: string, { gpu, arch, seconds, operators }: Tuned): string {
  const table = renderTable(
    [
      { title: 'operator' },
      { title: 'candidates', align: 'right' },
      { title: 'default ms', align: 'right' },
      { title: 'tuned ms', align: 'right' },
      { title: 'parameters' },
    ],
    Object.entries(operators).map(([key, { parameters, latencyMs, defaultLatencyMs, candidates }]) => [
      key,
      String(candidates),
      formatMs(defaultLatencyMs),
      formatMs(latencyMs),
      Object.keys(parameters).length === 0 ? 'defaults' : JSON.stringify(parameters),
    ]),
  );
  return `${checkpoint} on ${gpu} (${device}, ${arch}), ${seconds.toFixed(0)} s\n${table}`;
}

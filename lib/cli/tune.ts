/** `ladder tune`: searches the kernels' parameters on this GPU, or on all of them. */
import { InvalidArgumentError } from 'commander';
import type { Tuned } from '../compiler/types.js';
import { tuneCheckpoints } from '../compiler/tune/tuner.js';
import { kAllDevices, selectDevices } from '../run/device.js';
import { resolveCheckpoint } from '../run/package.js';
import type { Command } from './command.js';
import { addShardOption, exampleCheckpoint, shareOf, type Shard, wholeNumber } from './shared.js';
import { formatMs, renderTable } from '../table.js';
import { tuneOnDevices } from './tune-lanes.js';

export const tuneCommand: Command = {
  register(program, io) {
    const command = program
      .command('tune')
      .description("search the kernels' parameters on this GPU; interrupt and run again to go on")
      .argument('<checkpoint...>', `folders, or names below checkpoints/, e.g. '${exampleCheckpoint()}'`)
      .option('--device <device>', "'cuda', 'cuda:<ordinal>' or 'cuda:all', which deals the checkpoints out", tuningDevice, 'cuda')
      .option('--candidates <n>', 'tunings tried per operator', wholeNumber, 12)
      .option('--json', 'machine-readable result');
    addShardOption(command).action(
      async (checkpoints: readonly string[], options: { device: string; candidates: number; json?: boolean; shard?: Shard }) => {
        const share = shareOf(checkpoints, options.shard);
        const paths = share.map(resolveCheckpoint);
        const onTuned = (checkpoint: string, tuned: Tuned): void => {
          io.endProgress();
          io.out(options.json ? JSON.stringify({ checkpoint, ...tuned }) : renderTuned(checkpoint, tuned));
        };
        const { candidates } = options;
        if (options.device === kAllDevices)
          await tuneOnDevices(
            share,
            selectDevices(options.device),
            { candidates, signal: io.signal, onProgress: (label) => io.progress(label, null) },
            onTuned,
          );
        else
          await tuneCheckpoints(
            paths,
            {
              deviceOrdinal: Number(options.device.split(':')[1] ?? 0),
              candidates,
              signal: io.signal,
              onProgress: (fraction, label, remaining) =>
                io.progress(remaining === null ? label : `${label} (about ${Math.ceil(remaining)} s left)`, fraction),
            },
            (index, tuned) => onTuned(share[index]!, tuned),
          );
        io.endProgress();
      },
    );
  },
};

/** Reads the device of the command line, of which a number alone is an ordinal, too. @throws InvalidArgumentError */
function tuningDevice(text: string): string {
  const found = /^(?:(cuda|cuda:all)|(?:cuda:)?(0|[1-9][0-9]{0,3}))$/.exec(text);
  if (!found) throw new InvalidArgumentError(`expected 'cuda', 'cuda:<ordinal>' or 'cuda:all' but received ${JSON.stringify(text)}`);
  return found[1] ?? `cuda:${found[2]}`;
}

/** A checkpoint's winners as a table. */
function renderTuned(checkpoint: string, { gpu, arch, seconds, operators }: Tuned): string {
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
  return `${checkpoint} on ${gpu} (${arch}), ${seconds.toFixed(0)} s\n${table}`;
}

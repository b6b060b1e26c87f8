/** `ladder tune`: searches the kernels' parameters on this GPU. */
import type { Tuned } from '../compiler/tune/tuned.js';
import { tuneCheckpoints } from '../compiler/tune/tuner.js';
import { resolveCheckpoint } from '../run/package.js';
import type { Command } from './command.js';
import { addShardOption, exampleCheckpoint, shareOf, type Shard, wholeNumber } from './shared.js';
import { formatMs, renderTable } from '../table.js';

export const tuneCommand: Command = {
  register(program, io) {
    const command = program
      .command('tune')
      .description("search the kernels' parameters on this GPU; interrupt and run again to go on")
      .argument('<checkpoint...>', `folders, or names below checkpoints/, e.g. '${exampleCheckpoint()}'`)
      .option('--device <ordinal>', 'CUDA device', wholeNumber, 0)
      .option('--candidates <n>', 'tunings tried per operator', wholeNumber, 12)
      .option('--json', 'machine-readable result');
    addShardOption(command).action(
      async (checkpoints: readonly string[], options: { device: number; candidates: number; json?: boolean; shard?: Shard }) => {
        const share = shareOf(checkpoints, options.shard);
        await tuneCheckpoints(
          share.map(resolveCheckpoint),
          {
            deviceOrdinal: options.device,
            candidates: options.candidates,
            signal: io.signal,
            onProgress: (fraction, label, remaining) =>
              io.progress(remaining === null ? label : `${label} (about ${Math.ceil(remaining)} s left)`, fraction),
          },
          (index, tuned) => {
            io.endProgress();
            const checkpoint = share[index]!;
            io.out(options.json ? JSON.stringify({ checkpoint, ...tuned }) : renderTuned(checkpoint, tuned));
          },
        );
        io.endProgress();
      },
    );
  },
};

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

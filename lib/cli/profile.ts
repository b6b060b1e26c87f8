/** `ladder profile`: time per operator, against the device's ceilings where the checkpoint says its bytes and FLOPs. */
import { withPrebuilt } from '../run/run-prebuilt.js';
import type { ProfileReport } from '../run/profile.js';
import { parseOptions, profileOptionsSchema } from '../run/option-checks.js';
import { checkpointName } from '../run/package.js';
import type { Command } from './command.js';
import { addCheckpointArgument, addLoadOptions, checkpointOf, progressTo, wholeNumber, type CheckpointOptions } from './shared.js';
import { formatRate, renderTable } from '../table.js';

/** A profile for people. */
export function renderProfile(report: ProfileReport): string {
  return renderTable(
    [
      { title: 'operator', maxWidth: 60 },
      { title: 'shape' },
      { title: 'median µs', align: 'right' },
      { title: 'min µs', align: 'right' },
      { title: 'share', align: 'right' },
      { title: 'rate', align: 'right' },
      { title: 'of ceiling', align: 'right' },
    ],
    [
      ...report.operators.map(({ node, shapes, medianMs, minMs, share, roofline }) => [
        node,
        shapes.map((shape) => `[${shape.join(', ')}]`).join(' '),
        (1000 * medianMs).toFixed(2),
        (1000 * minMs).toFixed(2),
        `${(100 * share).toFixed(1)} %`,
        roofline ? formatRate(roofline.bytesPerSecond, 'B/s') : '—',
        roofline ? `${(100 * roofline.fraction).toFixed(0)} %` : '—',
      ]),
      ['sum of medians', '', (1000 * report.totalMs).toFixed(2)],
    ],
  );
}

export const profileCommand: Command = {
  register(program, io) {
    addLoadOptions(addCheckpointArgument(program.command('profile').description('time each operator of a checkpoint by itself')))
      .option('--samples <n>', 'times that each operator is timed', wholeNumber)
      .action(async (argument: string | undefined, options: CheckpointOptions & { samples?: number }) => {
        const path = checkpointOf(argument, options);
        parseOptions(profileOptionsSchema, { samples: options.samples });
        const task = { signal: io.signal, onProgress: progressTo(io) };
        const report = await withPrebuilt(path, { device: options.device, seed: options.seed, build: options.build, ...task }, (prebuilt) =>
          prebuilt.profile({ ...task, samples: options.samples }),
        );
        io.endProgress();
        if (options.json) return io.out(JSON.stringify(report));
        io.out(
          `${checkpointName(path)} on ${report.device.name}, ${report.samples} ${report.samples === 1 ? 'sample' : 'samples'} of each operator, alone between two readings of the clock\n`,
        );
        io.out(renderProfile(report));
      });
  },
};

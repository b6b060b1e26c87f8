/** `ladder params`: the weights that a run uses, as graph.params, for another TVM to compute the same. */
import { checkWritable } from '../files.js';
import { formatBytes } from '../table.js';
import { withPrebuilt } from '../run/run-prebuilt.js';
import type { Command } from './command.js';
import { addCheckpointArgument, addLoadOptions, checkpointOf, progressTo, type CheckpointOptions } from './shared.js';

interface ParamsOptions extends CheckpointOptions {
  readonly output: string;
  readonly inputs?: boolean;
}

export const paramsCommand: Command = {
  register(program, io) {
    const command = program.command('params').description('write the weights that a run uses, seeded ones too, as graph.params');
    addLoadOptions(addCheckpointArgument(command))
      .option('--output <file>', 'where to', 'graph.params')
      .option('--inputs', 'the inputs as well')
      .action(async (argument: string | undefined, options: ParamsOptions) => {
        const task = { signal: io.signal, onProgress: progressTo(io) };
        const { device, seed, build, output, inputs } = options;
        const path = checkpointOf(argument, options);
        await checkWritable(output);
        const written = await withPrebuilt(path, { device, seed, build, ...task }, async (prebuilt) => ({
          ...(await prebuilt.exportParams(output, { ...task, inputs })),
          weights: prebuilt.weights,
        }));
        io.endProgress();
        if (options.json) return io.out(JSON.stringify({ path: output, ...written }));
        io.out(`${output}: ${written.tensors} tensors, ${formatBytes(written.sizeBytes)}, weights: ${written.weights}`);
      });
  },
};

/** `ladder bench-serve`, which `ladder bench --reproduce` starts: samples of one checkpoint, a line of JSON for each line of stdin. */
import { createInterface } from 'node:readline';
import { LadderError } from '../errors.js';
import { serveSamples } from '../run/serve.js';
import type { Command } from './command.js';

export const benchServeCommand: Command = {
  register(program, io) {
    program
      .command('bench-serve', { hidden: true })
      .argument('<checkpoint>')
      .option('--device <device>', '', 'auto')
      .action(async (path: string, { device }: { readonly device: string }) => {
        const say = (answer: object): void => io.out(JSON.stringify(answer));
        try {
          await serveSamples(path, { device, signal: io.signal }, () => createInterface({ input: process.stdin }), say);
        } catch (error) {
          if (error instanceof LadderError) say({ ok: false, reason: `${error.message} [${error.code}]` });
          throw error;
        }
      });
  },
};

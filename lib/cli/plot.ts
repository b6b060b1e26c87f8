/** `ladder plot`: Figure 8, the roofline and operator charts, and report.html, from published numbers or saved records. */
import { LadderError } from '../errors.js';
import type { Command } from './command.js';
import { loadDrawing } from './shared.js';

interface PlotOptions {
  readonly artifact?: boolean;
  readonly reproduce?: boolean;
  readonly values?: boolean;
  readonly out?: string;
  readonly results?: readonly string[];
  readonly gpu?: string;
  readonly profile?: string;
  readonly json?: boolean;
}

export const plotCommand: Command = {
  register(program, io) {
    program
      .command('plot')
      .description('draw Figure 8 as SVG, PNG and PDF, and write report.html')
      .option('--artifact', "the artifact's values instead of the paper's")
      .option('--reproduce', "what was measured on this machine, with the paper's bars greyed beside it")
      .option('--values', "print each bar's value")
      .option(
        '--out <folder>',
        'where svg/, png/, pdf/ and report.html go (default: out, below bench of a clone, else below ladder in the working folder)',
      )
      .option('--results <path...>', 'folders or files of saved records (default: results, beside out)')
      .option('--gpu <name>', 'the GPU whose records are drawn, e.g. h100 (default: that of the newest record)')
      .option('--profile <file>', 'what `ladder profile --json` printed, for the operator chart')
      .option('--json', 'machine-readable result')
      .action(async (options: PlotOptions) => {
        if (options.artifact === true && options.reproduce === true)
          throw new LadderError('BAD_ARGUMENT', 'expected --artifact or --reproduce but received both');
        io.progress('drawing', null);
        const { finishInThread } = await loadDrawing(() => import('../figure8/finish-thread.js'));
        const asked = {
          set: options.artifact === true ? 'artifact' : 'paper',
          reproduce: options.reproduce === true,
          values: options.values === true,
          ...(options.out === undefined ? {} : { out: options.out }),
          ...(options.results === undefined ? {} : { results: options.results }),
          ...(options.gpu === undefined ? {} : { gpu: options.gpu }),
          ...(options.profile === undefined ? {} : { profile: options.profile }),
        } as const;
        const { files, reproduced, remarks } = await finishInThread(asked, io.signal);
        io.endProgress();
        for (const remark of remarks) io.note(remark);
        if (options.reproduce === true && reproduced === null)
          throw new LadderError(
            'BAD_ARGUMENT',
            'no record of a GPU to draw from: run `ladder bench --reproduce` on one, or name its records with --results',
          );
        io.out(options.json === true ? JSON.stringify({ files }) : files.join('\n'));
      });
  },
};

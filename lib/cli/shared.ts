/**
 * What several commands share: the checkpoint argument, the device option, numbers, and progress in words.
 */
import { InvalidArgumentError, Option, type Command as Program } from 'commander';
import { checkpointName } from '../artifact/names.js';
import { LadderError } from '../errors.js';
import { kScaleChoices } from '../formats/index.js';
import { figure8Models } from '../models/index.js';
import { selectDevice } from '../run/device.js';
import { resolveCheckpoint } from '../run/package.js';
import type { Progress } from '../run/options.js';
import type { CliIo } from './command.js';

/**
 * What draws, loaded when it is first used: it needs a DOM, sharp and pdfkit, for which other commands shall not wait.
 * @param load imports it
 * @throws LadderError `UNSUPPORTED` where these packages, which are optional, are not installed
 */
export async function loadDrawing<Module>(load: () => Promise<Module>): Promise<Module> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    throw new LadderError(
      'UNSUPPORTED',
      `drawing needs packages that this installation left out: \`npm install --include=optional\` brings them (${(cause as Error).message})`,
      {},
      { cause },
    );
  }
}

/** Options of a command that works on one checkpoint. */
export interface CheckpointOptions {
  readonly prebuilt_path?: string;
  readonly device: string;
  readonly seed?: number;
  readonly build: boolean;
  readonly json?: boolean;
}

/** A checkpoint that there is, for help: the figure's first. */
export function exampleCheckpoint(): string {
  const {
    id: model,
    figure8: {
      settings: [setting],
      formats: [pair],
    },
  } = figure8Models()[0]!;
  return `${model}/${checkpointName({ model, ...setting!, format: { ...pair!, group: -1 } })}`;
}

/** Adds the checkpoint argument and `--prebuilt_path`, either of which names the checkpoint. @param several any number of arguments */
export function addCheckpointArgument(command: Program, several = false): Program {
  return command
    .argument(several ? '[checkpoint...]' : '[checkpoint]', `its folder, or its name below checkpoints/, e.g. '${exampleCheckpoint()}'`)
    .option('--prebuilt_path <path>', "the same, as in the authors' script");
}

/** Adds the options of loading. */
export function addLoadOptions(command: Program): Program {
  return (
    command
      .option('--device <device>', "'auto', 'cpu', 'cuda' or 'cuda:<ordinal>'", 'auto')
      .option('--seed <n>', 'seed of weights and inputs that no file holds', wholeNumber)
      .option('--no-build', 'do not build a missing or stale model.so')
      .option('--force-ptx', "compile the module's PTX for this GPU instead of taking its machine code (CUDA_FORCE_PTX_JIT)")
      // The driver reads its environment when it starts, which is after the command line was read.
      .on('option:force-ptx', () => {
        process.env['CUDA_FORCE_PTX_JIT'] = '1';
      })
      .option('--json', 'machine-readable result')
      .hook('preAction', (_, action) => {
        const { device, forcePtx } = action.opts() as { readonly device: string; readonly forcePtx?: boolean };
        if (forcePtx && selectDevice(device).kind === 'cpu')
          throw new LadderError('UNSUPPORTED', 'expected a GPU for --force-ptx but the CPU is used, which runs no PTX; leave it out');
      })
  );
}

/**
 * The checkpoint's folder from the argument or `--prebuilt_path`.
 * @throws LadderError `BAD_ARGUMENT` for none or both, `NOT_A_CHECKPOINT`
 */
export function checkpointOf(argument: string | undefined, options: { readonly prebuilt_path?: string }): string {
  if ((argument === undefined) === (options.prebuilt_path === undefined)) {
    throw new LadderError(
      'BAD_ARGUMENT',
      'expected one checkpoint, as an argument or with --prebuilt_path; `ladder list` names those that are there',
    );
  }
  return resolveCheckpoint((argument ?? options.prebuilt_path)!);
}

/** Reads a non-negative whole number of the command line. @throws InvalidArgumentError, to which commander adds the option */
export function wholeNumber(text: string): number {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) throw new InvalidArgumentError(`expected a whole number but received ${JSON.stringify(text)}`);
  return Number(text);
}

/** The same, at least 1. @throws InvalidArgumentError */
export function positiveNumber(text: string): number {
  const number = wholeNumber(text);
  if (number === 0) throw new InvalidArgumentError('expected at least 1 but received "0"');
  return number;
}

/** One share of a list of work: the `index`th (from 1) of `count`. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Reads `i/n` of the command line. @throws InvalidArgumentError */
export function shardOf(text: string): Shard {
  const [, index, count] = (/^([0-9]{1,6})\/([0-9]{1,6})$/.exec(text) ?? []).map(Number);
  if (index === undefined || count === undefined || index < 1 || index > count)
    throw new InvalidArgumentError(`expected i/n with i from 1 to n, e.g. 1/4, but received ${JSON.stringify(text)}`);
  return { index, count };
}

/** The list's part of a shard, dealt out in turn: all parts together are the list, and none share anything. */
export function shareOf<T>(list: readonly T[], shard: Shard | undefined): readonly T[] {
  return shard === undefined ? list : list.filter((_, i) => i % shard.count === shard.index - 1);
}

/** `--scale`, of commands that quantise real weights. */
export function scaleOption(): Option {
  return new Option(
    '--scale <how>',
    "scales of real weights: 'absmax', by the largest magnitude; 'mse', by the least squared error (default: what is better for the format)",
  ).choices(kScaleChoices);
}

/** `--shard`, of commands whose work a queue's job array may share out. */
export function addShardOption(command: Program): Program {
  return command.option(
    '--shard <i/n>',
    'only this part of them, dealt out in turn: for job arrays, e.g. $((SLURM_ARRAY_TASK_ID + 1))/$SLURM_ARRAY_TASK_COUNT',
    shardOf,
  );
}

/** Reads non-negative milliseconds of the command line. @throws InvalidArgumentError, to which commander adds the option */
export function milliseconds(text: string): number {
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text)) throw new InvalidArgumentError(`expected milliseconds but received ${JSON.stringify(text)}`);
  return Number(text);
}

/** `--device` of commands that share their work out over GPUs: one process per GPU with `cuda:all`. */
export function addDevicesOption(command: Program): Program {
  return command.option(
    '--device <device>',
    "'auto', 'cpu', 'cuda', 'cuda:<ordinal>', or 'cuda:all': all GPUs, a process each, which share the work out",
    (text) => {
      if (/^(auto|cpu|cuda(:(all|0|[1-9][0-9]{0,3}))?)$/.test(text)) return text;
      throw new InvalidArgumentError(`expected 'auto', 'cpu', 'cuda', 'cuda:<ordinal>' or 'cuda:all' but received ${JSON.stringify(text)}`);
    },
    'auto',
  );
}

/**
 * Progress of lanes that work at once, each of a device. Of one it is told as it comes; of several a lane's line appears when what the
 * lane does changes, since two that take turns could not be read.
 */
export function laneProgress(io: CliIo, lanes: number): (device: string, label: string, fraction: number | null) => void {
  if (lanes === 1) return (_, label, fraction) => io.progress(label, fraction);
  const last = new Map<string, string>();
  return (device, label) => {
    if (last.get(device) === label) return;
    last.set(device, label);
    io.progress(`${device} ${label}`, null);
  };
}

const phases: Readonly<Record<Progress['phase'], string>> = {
  build: 'building model.so',
  load: 'loading',
  fill: 'filling weights',
  capture: 'capturing the graph',
  measure: 'measuring',
  profile: 'profiling',
  verify: 'verifying',
  export: 'writing weights',
  pack: 'packing weights',
  tune: 'tuning',
};

/** Progress as a line of text. */
export function progressTo(io: CliIo): (progress: Progress) => void {
  return ({ phase, fraction, detail }) => {
    // On a terminal the detail changes with the operator; in a log each phase is one line.
    io.progress(detail !== null && io.columns !== null ? `${phases[phase]}: ${detail}` : phases[phase], fraction);
  };
}

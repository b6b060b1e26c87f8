#!/usr/bin/env node
/**
 * `ladder`: parses the command line, runs one command, and turns errors into messages and exit statuses
 * (0 ok, 1 failed, 2 usage, 3 mismatch, 4 invalid measurement under --strict, 130 aborted).
 * The commands themselves are listed in commands.ts.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command as Program, CommanderError } from 'commander';
import '../compiler/provide.js';
import { LadderError } from '../errors.js';
import { packageVersion } from '../run/package.js';
import { exitCodes, type CliIo, type ExitCode } from './command.js';
import { commands } from './commands.js';
import { makeIo, type OutputStream, type ProcessIo } from './io.js';

/** The command line as a commander program, writing through `io`: of all commands, or of the one that `args` begin with. */
async function makeProgram(io: CliIo, args: readonly string[]): Promise<Program> {
  const program = new Program('ladder');
  program
    .description('Runs, times, verifies and builds prebuilt Ladder checkpoints, without TVM or Python')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({ writeOut: (text) => io.out(text.trimEnd()), writeErr: (text) => io.note(text.trimEnd()) });
  const [name = ''] = args;
  for (const load of Object.hasOwn(commands, name) ? [commands[name]!] : Object.values(commands)) (await load()).register(program, io);
  const names = program
    .createHelp()
    .visibleCommands(program)
    .map((command) => command.name());
  program.showHelpAfterError(`(the commands are ${names.join(', ')}; \`ladder <command> --help\` lists their options)`);
  for (const command of program.commands) {
    // Subcommands do not inherit an exitOverride that is set after they are made, nor output settings.
    command.copyInheritedSettings(program);
    const flags = command
      .createHelp()
      .visibleOptions(command)
      .map(({ long, short }) => long ?? short);
    command.showHelpAfterError(`(it has ${flags.join(', ')}; \`ladder ${command.name()} --help\` explains them)`);
  }
  return program;
}

/**
 * The authors' script is called as `--prebuilt_path PATH` without a command: that is `run`, by the paper's rule.
 * @param args without node and script
 */
export function rewriteAuthorsCall(args: readonly string[]): readonly string[] {
  const first = args[0];
  return first !== undefined && /^--prebuilt_path(=|$)/.test(first) ? ['run', '--authors', ...args] : args;
}

/** Runs the command line and returns its exit status. Never throws. */
export async function runCli(args: readonly string[], stdout: OutputStream, stderr: OutputStream, signal: AbortSignal): Promise<ExitCode> {
  const io: ProcessIo = makeIo(stdout, stderr, signal);
  const json = args.includes('--json');
  try {
    const rewritten = rewriteAuthorsCall(args);
    await (await makeProgram(io, rewritten)).parseAsync([...rewritten], { from: 'user' });
    io.endProgress();
    return signal.aborted ? exitCodes.aborted : io.exitCode;
  } catch (error) {
    io.endProgress();
    return report(error, io, json, signal);
  }
}

function report(error: unknown, io: ProcessIo, json: boolean, signal: AbortSignal): ExitCode {
  // commander has printed its message, or the help that was asked for.
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return exitCodes.ok;
    if (json) io.out(JSON.stringify({ error: { code: 'BAD_ARGUMENT', message: error.message.replace(/^error: /, ''), context: {} } }));
    return exitCodes.usage;
  }
  if (signal.aborted || (error instanceof LadderError && error.code === 'ABORTED')) {
    io.note('ladder: aborted');
    return exitCodes.aborted;
  }
  if (error instanceof LadderError) {
    if (json) io.out(JSON.stringify({ error: { code: error.code, message: error.message, context: error.context } }));
    io.note(`ladder: ${error.message} [${error.code}]`);
    return error.code === 'BAD_ARGUMENT' ? exitCodes.usage : exitCodes.failed;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (json) io.out(JSON.stringify({ error: { code: 'INTERNAL', message: text, context: {} } }));
  io.note(`ladder: a defect of this package: ${text} [INTERNAL]`);
  return exitCodes.failed;
}

/** A command that is told to end has as long to do so in order; nothing that it writes is left half written by the end. */
const kEndWithinMs = 900;

/**
 * A reader that has gone (`ladder list | head`), or a disk that is full, ends no command: what a bench measures is worth more than
 * its lines. What is lost on a full disk makes the exit status `failed`, also where that shows after the command's end.
 */
function outliveStreams(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED' || outputLost) return;
    outputLost = true;
    process.stderr.write(`ladder: the output could not be written: ${error.message} [IO]\n`);
    process.exitCode ||= exitCodes.failed;
  });
  process.stderr.on('error', () => undefined);
}

let outputLost = false;

async function main(): Promise<void> {
  const controller = new AbortController();
  // The first signal ends the work in order, if it can be ended soon; the second one ends the process.
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(exitCodes.aborted);
    controller.abort();
    setTimeout(() => {
      process.stderr.write('ladder: aborted\n');
      process.exit(exitCodes.aborted);
    }, kEndWithinMs).unref();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  outliveStreams();
  const status = await runCli(process.argv.slice(2), process.stdout, process.stderr, controller.signal);
  process.exitCode = status === exitCodes.ok && outputLost ? exitCodes.failed : status;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();

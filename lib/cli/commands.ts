/** The commands of `ladder`, in the order in which help lists them. */
import { benchCaseCommand } from './bench-case.js';
import { benchServeCommand } from './bench-serve.js';
import { benchCommand } from './bench.js';
import { baselinesCommand } from './baselines.js';
import { buildCommand } from './build.js';
import type { Command } from './command.js';
import { compareCommand } from './compare.js';
import { doctorCommand } from './doctor.js';
import { inspectCommand } from './inspect.js';
import { listCommand } from './list.js';
import { paramsCommand } from './params.js';
import { plotCommand } from './plot.js';
import { profileCommand } from './profile.js';
import { qualityCommand } from './quality.js';
import { runCommand } from './run.js';
import { tuneLaneCommand } from './tune-lane.js';
import { tuneCommand } from './tune.js';
import { verifyCommand } from './verify.js';

export const commands: readonly Command[] = [
  listCommand,
  inspectCommand,
  runCommand,
  profileCommand,
  verifyCommand,
  paramsCommand,
  benchCommand,
  baselinesCommand,
  compareCommand,
  plotCommand,
  buildCommand,
  qualityCommand,
  tuneCommand,
  doctorCommand,
  benchCaseCommand,
  benchServeCommand,
  tuneLaneCommand,
];

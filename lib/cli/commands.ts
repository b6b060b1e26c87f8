/** The commands of `ladder`, in the order in which help lists them. */
import { buildCommand } from './build.js';
import type { Command } from './command.js';
import { doctorCommand } from './doctor.js';
import { listCommand } from './list.js';

export const commands: readonly Command[] = [listCommand, buildCommand, doctorCommand];

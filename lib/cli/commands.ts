/**
 * The commands of `ladder`, in the order in which help lists them. Each is loaded when it is asked for: a command needs a part of
 * this package, and a bench starts a process for every case.
 */
import type { Command } from './command.js';

export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  list: async () => (await import('./list.js')).listCommand,
  inspect: async () => (await import('./inspect.js')).inspectCommand,
  run: async () => (await import('./run.js')).runCommand,
  profile: async () => (await import('./profile.js')).profileCommand,
  verify: async () => (await import('./verify.js')).verifyCommand,
  params: async () => (await import('./params.js')).paramsCommand,
  bench: async () => (await import('./bench.js')).benchCommand,
  baselines: async () => (await import('./baselines.js')).baselinesCommand,
  compare: async () => (await import('./compare.js')).compareCommand,
  plot: async () => (await import('./plot.js')).plotCommand,
  build: async () => (await import('./build.js')).buildCommand,
  quality: async () => (await import('./quality.js')).qualityCommand,
  tune: async () => (await import('./tune.js')).tuneCommand,
  doctor: async () => (await import('./doctor.js')).doctorCommand,
  'bench-case': async () => (await import('./bench-case.js')).benchCaseCommand,
  'bench-serve': async () => (await import('./bench-serve.js')).benchServeCommand,
  'tune-lane': async () => (await import('./tune-lane.js')).tuneLaneCommand,
};

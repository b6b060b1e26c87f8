/** `ladder doctor`: what of driver, GPU, NVML, nvcc, compilers and addon is there, and the remedy for what is not. */
import { spawnSync } from 'node:child_process';
import { findNvcc } from '../compiler/emit/compile.js';
import { findProgram } from '../files.js';
import { addonRemedy, native, type NativeAddon } from '../native.js';
import { listCheckpoints, packageVersion } from '../run/package.js';
import { exitCodes, type Command } from './command.js';
import { formatBytes, renderTable } from '../table.js';

/** A message that is longer, such as a linker's, stands below the table. */
const kFoundWidth = 110;

/** One thing that was looked for. */
export interface Finding {
  readonly name: string;
  /** `missing`: something that nothing works without; `absent`: something that part of the work needs. */
  readonly state: 'ok' | 'absent' | 'missing';
  readonly found: string;
  /** What to do; null when there is nothing to do. */
  readonly remedy: string | null;
}

function ok(name: string, found: string): Finding {
  return { name, state: 'ok', found, remedy: null };
}

function firstLine(command: string, args: readonly string[], pattern: RegExp): string {
  const output = spawnSync(command, [...args], { encoding: 'utf8' }).stdout ?? '';
  return pattern.exec(output)?.[0] ?? output.split('\n')[0] ?? '';
}

function findTool(name: string, need: string, remedy: string): Finding {
  const path = findProgram(name);
  return path ? ok(name, path) : { name, state: 'absent', found: `not on the PATH; ${need}`, remedy };
}

function findAddon(): { finding: Finding; addon: NativeAddon | null } {
  try {
    return { addon: native(), finding: ok('addon', 'loaded') };
  } catch (error) {
    return { addon: null, finding: { name: 'addon', state: 'missing', found: (error as Error).message, remedy: addonRemedy() } };
  }
}

function findCuda(addon: NativeAddon): readonly Finding[] {
  const status = addon.cudaStatus();
  if (!status.available) {
    return [
      {
        name: 'CUDA driver',
        state: 'absent',
        found: status.reason ?? 'no reason given',
        remedy: `${status.remedy ?? 'install an NVIDIA driver'}; until then checkpoints run on the CPU (--device cpu)`,
      },
    ];
  }
  const api = `CUDA ${Math.floor(status.driverApiVersion / 1000)}.${Math.floor((status.driverApiVersion % 1000) / 10)}`;
  const findings = [
    ok('CUDA driver', `${status.driverVersion ?? 'version unknown'}, ${api}`),
    status.nvml
      ? ok('NVML', 'loaded')
      : {
          name: 'NVML',
          state: 'absent' as const,
          found: 'libnvidia-ml.so.1 could not be loaded',
          remedy:
            'it comes with the driver; in a container `utility` must be among NVIDIA_DRIVER_CAPABILITIES; without it clocks and throttling cannot be seen, so that no measurement is marked invalid for them',
        },
  ];
  if (status.deviceCount === 0) {
    findings.push({ name: 'GPU', state: 'absent', found: status.reason ?? 'none', remedy: status.remedy });
  }
  for (const device of addon.devices()) {
    const capability = device.computeCapability.join('.');
    const text = `${device.name}, compute capability ${capability}, ${device.multiprocessors} multiprocessors, ${formatBytes(device.memoryBytes)}`;
    findings.push(
      device.computeCapability[0] >= 8
        ? ok(`GPU ${device.ordinal}`, text)
        : {
            name: `GPU ${device.ordinal}`,
            state: 'absent',
            found: text,
            remedy: "this package's own checkpoints need compute capability 8.0 or later; foreign ones need what they were built for",
          },
    );
  }
  return findings;
}

/** Looks for everything. */
export async function examine(): Promise<readonly Finding[]> {
  const { finding, addon } = findAddon();
  const nvcc = await findNvcc();
  const checkpoints = await listCheckpoints();
  return [
    ok('ladder', packageVersion()),
    ok('Node.js', process.version),
    finding,
    ...(addon ? findCuda(addon) : []),
    nvcc
      ? ok('nvcc', `${nvcc}, ${firstLine(nvcc, ['--version'], /release [0-9.]+/)}`)
      : {
          name: 'nvcc',
          state: 'absent',
          found: 'neither on the PATH nor in CUDA_HOME or /usr/local/cuda; model.so cannot be built',
          remedy: 'install the CUDA toolkit 12.4 or later, or copy model.so from a machine that has it',
        },
    findTool('g++', 'the addon and model.so cannot be built', 'apt-get install g++'),
    findTool('make', 'the addon cannot be built', 'apt-get install make'),
    findTool('python3', 'node-gyp needs it to build the addon', 'apt-get install python3'),
    findTool('cmake', 'model.so cannot be built', 'apt-get install cmake'),
    checkpoints.length > 0
      ? ok('checkpoints', `${checkpoints.length} below checkpoints/`)
      : {
          name: 'checkpoints',
          state: 'absent',
          found: 'none below checkpoints/Figure8/ladder/',
          remedy: "`ladder build`, or unpack the authors' archive there",
        },
  ];
}

export const doctorCommand: Command = {
  register(program, io) {
    program
      .command('doctor')
      .description('what is there of driver, GPU, compilers and addon, and what to do about the rest')
      .option('--json', 'machine-readable result')
      .action(async (options: { json?: boolean }) => {
        const findings = await examine();
        if (options.json) io.out(JSON.stringify(findings));
        else {
          const marks = { ok: 'ok', absent: '—', missing: 'MISSING' } as const;
          io.out(
            renderTable(
              [{ title: 'what' }, { title: '' }, { title: 'found', maxWidth: kFoundWidth }],
              findings.map(({ name, state, found }) => [name, marks[state], found]),
            ),
          );
          for (const { name, found, remedy } of findings) {
            const whole = found.length > kFoundWidth ? [found] : [];
            const lines = remedy === null ? whole : [...whole, remedy];
            if (lines.length > 0) io.out(`\n${name}: ${lines.join('\n')}`);
          }
        }
        if (findings.some(({ state }) => state === 'missing')) io.exit(exitCodes.failed);
      });
  },
};

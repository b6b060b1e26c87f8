/**
 * Compiles generated sources into model.so files: cmake-js drives one CMake project with a unit per checkpoint, in a
 * temporary folder, so that nothing half-built is ever seen and read-only installations work too.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sealModule } from '../../artifact/seal.js';
import { LadderError } from '../../errors.js';
import { findProgram, isAlive } from '../../files.js';
import { throwIfAborted } from '../../run/options.js';
import { buildTargets, nvccFlags } from '../targets.js';
import type { ModuleSources } from './codegen.js';

/** Folder of the kernel templates. */
export const kernelsFolder = fileURLToPath(new URL('../../../native/kernels', import.meta.url));

/** One model.so to make. */
export interface CompileUnit {
  /** Unique in the call; letters, digits, dot, dash and underscore. Shown in progress. */
  readonly name: string;
  readonly sources: ModuleSources;
}

export interface CompileOptions {
  /** Names of the `buildTargets` to compile for. Default: all. */
  readonly targets?: readonly string[];
  /** Called with 0…1 and what is being compiled. */
  readonly onProgress?: (fraction: number, label: string) => void;
  readonly signal?: AbortSignal;
  /** Compilers that run at once. Default: as many as the machine has cores. */
  readonly jobs?: number | undefined;
}

/** Where a CUDA toolkit may be that is not on the PATH. */
export function cudaHomes(): readonly string[] {
  return [process.env['CUDA_HOME'], process.env['CUDA_PATH'], '/usr/local/cuda'].filter(
    (home): home is string => home !== undefined && home !== '',
  );
}

/**
 * Path of nvcc: what LADDER_NVCC says ("" means none), else on the PATH, below CUDA_HOME or CUDA_PATH, or in
 * /usr/local/cuda; null when there is none.
 */
export async function findNvcc(): Promise<string | null> {
  const chosen = process.env['LADDER_NVCC'];
  if (chosen !== undefined) return chosen || null;
  return findProgram(
    'nvcc',
    cudaHomes().map((home) => join(home, 'bin')),
  );
}

/**
 * Compiles all units, in parallel, and hands each model.so, with its own hash at its end, to `use` before the temporary folder goes.
 * @throws LadderError `NO_COMPILER` when nvcc or cmake is missing, `BUILD_FAILED` with the compilers' output, `ABORTED`
 */
export async function compileModules(
  units: readonly CompileUnit[],
  options: CompileOptions,
  use: (unit: CompileUnit, modulePath: string) => Promise<void>,
): Promise<void> {
  throwIfAborted(options.signal);
  checkTargets(options.targets);
  const nvcc = await findNvcc();
  if (!nvcc)
    throw new LadderError(
      'NO_COMPILER',
      'nvcc was not found on the PATH, below CUDA_HOME or in /usr/local/cuda; install the CUDA toolkit (12.4 or later) to build model.so',
    );
  if (!findProgram('cmake'))
    throw new LadderError('NO_COMPILER', 'cmake was not found on the PATH; install CMake 3.18 or later to build model.so');
  await removeStale();
  const project = await mkdtemp(join(temporaryFolder(), `${kFolderName}${process.pid}-`));
  try {
    const folders = units.map((unit) => join(project, 'units', unit.name));
    await Promise.all(
      units.map(async ({ sources }, i) => {
        await mkdir(folders[i]!, { recursive: true });
        await Promise.all(
          sources.kernels.map(async (text, image) => {
            await writeFile(join(folders[i]!, `kernels${image}.cu`), text);
            await writeFile(
              join(folders[i]!, `kernels${image}.gencode`),
              gencodes(sources.kernelTargets[image]!, options.targets).join('\n'),
            );
          }),
        );
        await writeFile(join(folders[i]!, 'host.c'), sources.host);
        await writeFile(join(folders[i]!, 'blob.S'), sources.blob);
      }),
    );
    // nvcc hands paths to a shell, and does not quote all: it sees a link without spaces, whatever this package's path is.
    const kernels = join(project, 'kernels');
    await symlink(kernelsFolder, kernels);
    // cmake-js asks package.json whether this is a Node-API project; if not, it would download Node's headers.
    await writeFile(join(project, 'package.json'), JSON.stringify({ private: true, binary: { napi_versions: [8] } }));
    await writeFile(
      join(project, 'CMakeLists.txt'),
      [
        'cmake_minimum_required(VERSION 3.18)',
        'project(ladder_checkpoints LANGUAGES C ASM)',
        `set(LADDER_NVCC ${quote(nvcc)})`,
        `set(LADDER_KERNELS ${quote(kernels)})`,
        `set(LADDER_FLAGS ${nvccFlags.map(quote).join(' ')})`,
        `set(LADDER_UNITS ${folders.map(quote).join(' ')})`,
        `include(${quote(join(kernels, 'checkpoints.cmake'))})`,
        '',
      ].join('\n'),
    );
    await runCmake(project, options);
    for (const [i, unit] of units.entries()) {
      const modulePath = join(folders[i]!, 'model.so');
      await sealModule(modulePath);
      await use(unit, modulePath);
    }
  } finally {
    await rm(project, { recursive: true, force: true });
  }
}

const kFolderName = 'ladder-build-';

/** Where it is built: a path that make and nvcc pass on as it is. */
function temporaryFolder(): string {
  return /^[\w@./+,:=-]+$/.test(tmpdir()) ? tmpdir() : '/tmp';
}

/** Build folders of processes that were killed. */
async function removeStale(): Promise<void> {
  for (const name of await readdir(temporaryFolder())) {
    const pid = new RegExp(`^${kFolderName}(\\d+)-`).exec(name)?.[1];
    // Another user's cannot be removed, and is none of ours.
    if (pid !== undefined && !isAlive(Number(pid)))
      await rm(join(temporaryFolder(), name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** The -gencode values of an image: of its targets those that are wanted, or all where none is. */
function gencodes(targets: readonly string[], wanted: readonly string[] | undefined): readonly string[] {
  const both = targets.filter((target) => !wanted || wanted.includes(target));
  return buildTargets.filter(({ id }) => (both.length > 0 ? both : targets).includes(id)).map(({ gencode }) => gencode);
}

function checkTargets(targets: readonly string[] | undefined): void {
  const odd = targets?.find((target) => !buildTargets.some(({ id }) => id === target));
  if (odd !== undefined || targets?.length === 0)
    throw new LadderError(
      'BAD_ARGUMENT',
      `expected some of ${buildTargets.map(({ id }) => id).join(', ')} for \`targets\` but received ${JSON.stringify(odd ?? [])}`,
    );
}

function quote(text: string): string {
  return `"${text.replace(/[\\"$]/g, '\\$&')}"`;
}

/** Ends the whole group, compilers and all, when the channel to this process closes: also where it is killed. */
const kEndWithParent = 'data:text/javascript,process.on("disconnect",()=>process.kill(0,"SIGKILL"));process.channel.unref();';

async function runCmake(project: string, { onProgress, signal, jobs = availableParallelism() }: CompileOptions): Promise<void> {
  const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  const child = spawn(
    process.execPath,
    [
      '--import',
      kEndWithParent,
      cmakeJs,
      'build',
      '--prefer-make',
      '--directory',
      project,
      '--out',
      join(project, 'out'),
      '--parallel',
      String(Math.max(1, jobs)),
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // A group of its own: an abort must end the compilers too.
      detached: true,
    },
  );
  const abort = (): void => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
  };
  signal?.addEventListener('abort', abort, { once: true });
  let log = '';
  const read = (chunk: Buffer): void => {
    log += chunk.toString();
    for (const [, percent, label] of chunk.toString().matchAll(/^\[ *(\d+)%\] (.*)$/gm)) onProgress?.(Number(percent) / 100, label!);
  };
  child.stdout!.on('data', read);
  child.stderr!.on('data', read);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).finally(() => signal?.removeEventListener('abort', abort));
  if (signal?.aborted) throw new LadderError('ABORTED', 'the build was aborted');
  if (status !== 0) {
    const tail = log.trimEnd().split('\n').slice(-25).join('\n');
    throw new LadderError('BUILD_FAILED', `building model.so failed; the end of the compilers' output:\n${tail}`, { log });
  }
}

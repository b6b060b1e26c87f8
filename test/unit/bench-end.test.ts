// What follows a bench's own measurements: the plan of the command line, and the cases that each chosen system is given.
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { endBench, planReproduction, type FinishedBench } from '../../lib/cli/bench-end.js';
import type { CliIo } from '../../lib/cli/command.js';
import type { BenchOutcome } from '../../lib/run/bench.js';
import type { DeviceInfo } from '../../lib/run/device.js';
import { makeRecord } from './figure8-records.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ladder-bench-end-'));
  // An addon on a machine without the library, whatever this one has.
  const addon = join(folder, 'addon.cjs');
  writeFileSync(
    addon,
    `let LadderError;
    module.exports = { setErrorClass(given) { LadderError = given; }, deviceState: () => null, measureMatmul: async () => { throw new LadderError('UNSUPPORTED', 'cuBLASLt could not be loaded'); } };`,
  );
  vi.stubEnv('LADDER_ADDON', addon);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** A Python with a PyTorch that notes what it is asked for, and fails. */
function notingPython(): string {
  const notes = join(folder, 'asked');
  writeFileSync(notes, '');
  const probe = {
    schema: 'ladder-pytorch-probe/1',
    ok: true,
    torchVersion: '2.11.0',
    cudaVersion: '13.0',
    cudnnVersion: null,
    tritonVersion: '3.6.0',
    device: makeRecord({}).device,
  };
  const path = join(folder, 'python');
  writeFileSync(
    path,
    `#!${process.execPath}
    const args = process.argv.slice(3);
    if (args.includes('--probe')) console.log(${JSON.stringify(JSON.stringify(probe))});
    else { require('node:fs').appendFileSync(${JSON.stringify(notes)}, args.join(' ') + '\\n'); console.log('{"ok":false,"reason":"noted"}'); }\n`,
  );
  chmodSync(path, 0o755);
  vi.stubEnv('LADDER_PYTHON', path);
  return notes;
}

const gpu: DeviceInfo = {
  id: 'cuda:1',
  kind: 'cuda',
  name: 'Test GPU',
  computeCapability: '9.0',
  driverVersion: '1',
  multiprocessors: 1,
  memoryBytes: 1,
  l2Bytes: 1,
  uuid: null,
};

async function end(change: Partial<FinishedBench>): Promise<string> {
  let out = '';
  const io: CliIo = {
    out: (text) => {
      out += `${text}\n`;
    },
    note: () => undefined,
    progress: () => undefined,
    endProgress: () => undefined,
    columns: null,
    signal: new AbortController().signal,
    exit: () => undefined,
  };
  const outcomes = ['llama2-70b', 'bloom-176b', 'foreign'].map((model) => ({ record: makeRecord({ model }) }) as BenchOutcome);
  await endBench(
    {
      device: gpu,
      outcomes,
      resultsRoot: folder,
      timing: { mode: 'samples', launch: 'auto', l2: 'hot', minSamples: 7 },
      fresh: false,
      caseTimeoutMs: undefined,
      reproduce: true,
      reproduction: await planReproduction({ reproduce: true, forceTune: false, systems: 'pytorch-eager,pytorch-inductor' }),
      figures: false,
      ...change,
    },
    io,
  );
  return out;
}

it('PyTorch gets all settings of the measured models, on the same GPU and by the same protocol', async () => {
  const notes = notingPython();
  const out = await end({});
  const asked = readFileSync(notes, 'utf8').trim().split('\n');
  const expected = ['llama2-70b', 'bloom-176b'].flatMap((model) =>
    [
      [1, 1],
      [32, 1],
      [1, 4096],
    ].flatMap(([batch, seq]) =>
      ['eager', 'inductor'].map(
        (mode) =>
          `--mode ${mode} --model ${model} --batch ${batch} --seq ${seq} --device 1 --min-samples 7${seq === 4096 ? ' --rests --sustained' : ''}`,
      ),
    ),
  );
  expect(asked).toEqual(expected);
  expect(out).toMatch(/pytorch-inductor +bloom-176b +bs1_seq4096( +—){3} +gpu-events +noted/);
  expect(readdirSync(join(folder, 'baselines'))).toHaveLength(12);
});

it('chosen systems and settings are all that runs', async () => {
  const notes = notingPython();
  await end({
    reproduction: await planReproduction({ reproduce: true, forceTune: false, systems: 'pytorch-eager', settings: 'bs1_seq1, bs32_seq1' }),
  });
  expect(readFileSync(notes, 'utf8').match(/--mode \S+ --model \S+ --batch \d+ --seq \d+/g)).toEqual(
    ['llama2-70b', 'bloom-176b'].flatMap((model) => [1, 32].map((batch) => `--mode eager --model ${model} --batch ${batch} --seq 1`)),
  );
});

it('a library that cannot be used does not stop the bench', async () => {
  notingPython();
  vi.stubEnv('LADDER_CUBLASLT', join(folder, 'none.so'));
  const out = await end({
    reproduction: await planReproduction({ reproduce: true, forceTune: false, systems: 'cublaslt,pytorch-eager', settings: 'bs1_seq1' }),
  });
  expect(out).toMatch(/^cublaslt: not run: cuBLASLt could not be loaded$/m);
  expect(out).toMatch(/^pytorch-eager +llama2-70b +bs1_seq1( +—){3} +gpu-events +noted$/m);
});

it('the plan: nothing, all, or AMOS and TensorIR alone', async () => {
  const names = async (options: Parameters<typeof planReproduction>[0]): Promise<unknown> => {
    const plan = await planReproduction(options);
    return plan && [plan.adapters.map(({ system }) => system).join(' '), plan.library, plan.settings];
  };
  expect(await names({ reproduce: false, forceTune: false })).toBeNull();
  expect(await names({ reproduce: true, forceTune: false })).toEqual([
    'pytorch-eager pytorch-inductor onnxruntime tensorrt pytorch-fp8 pytorch-int4 vendor-fp16 vendor-fp8 vendor-fp8-fast vendor-int8',
    true,
    null,
  ]);
  expect(await names({ reproduce: false, forceTune: true })).toEqual(['amos tensorir', false, null]);
  expect(await names({ reproduce: true, forceTune: true, systems: 'amos', settings: 'bs1' })).toEqual(['amos', false, ['bs1']]);
  await expect(planReproduction({ reproduce: false, forceTune: true, settings: 'bs1' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
});

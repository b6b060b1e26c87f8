// The adapters of rival systems, with stand-ins for Python, trtexec and the tuners: what they run, how failures become
// records, how a child is ended, and how an interrupted reproduction goes on. The real systems: test/gpu/baselines.test.ts.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { emptyRecord, shapeOf, type BaselineAdapter, type BaselineCase } from '../../lib/baselines/adapters/adapter.js';
import { baselineAdapters, baselineFileName, reproduceBaselines, tunerAdapters } from '../../lib/baselines/adapters/index.js';
import { findProgram } from '../../lib/files.js';
import { runChild } from '../../lib/baselines/adapters/process.js';
import { progressOf, PyTorchAdapter } from '../../lib/baselines/adapters/pytorch.js';
import { OnnxRuntimeAdapter } from '../../lib/baselines/adapters/onnxruntime.js';
import { systems } from '../../lib/baselines/systems/index.js';
import { sealRecord } from '../../lib/run/bench-content.js';
import type { BenchRecord } from '../../lib/run/record-types.js';
import { parseRecord } from '../../lib/run/record.js';
import { isRunning } from '../fixtures/processes.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ladder-adapters-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** An executable Node.js program in the test's folder. */
function program(name: string, body: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!${process.execPath}\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** A system's adapter, as its record makes it. */
const adapterOf = (id: string): Promise<BaselineAdapter> => systems.get(id).adapter!.load();

const device = {
  kind: 'cuda',
  name: 'Test GPU',
  computeCapability: '9.0',
  driverVersion: '1.2',
  multiprocessors: 4,
  memoryBytes: 1e9,
  l2Bytes: 100,
};
const state = {
  smClockMHz: 1900,
  memoryClockMHz: 2600,
  maxSmClockMHz: 1980,
  temperatureC: 40,
  powerW: 300,
  throttleReasons: [] as string[],
};
const environment = { torchVersion: '2.11.0', cudaVersion: '13.0', cudnnVersion: 91000, tritonVersion: '3.6.0', device };
const answer = {
  schema: 'ladder-pytorch/1',
  ok: true,
  ...environment,
  mode: 'eager',
  precision: 'fp16',
  model: 'llama2-70b',
  batch: 1,
  seq: 4096,
  tiny: false,
  seed: 0,
  launch: 'stream',
  memoryFormat: 'contiguous',
  foldedBatchNorms: 0,
  compileMs: null,
  compileCached: null,
  parameters: 855654400,
  outputShape: [1, 4096, 8192],
  relativeL2: 4e-4,
  tolerance: 1e-2,
  numericsOk: true,
  samples: { rawMs: [3, 1, 2, 5, 4], enqueueMs: [0.1, 0.3, 0.2], hostMsPerInference: 3.5, setAsideMs: [7, 9, 8] },
  sustained: { rawMs: [6, 4, 5], states: [{ ...state, smClockMHz: 1400, powerW: 700 }] },
  paper: { valuesMs: [2, 4], numbers: [100, 50] },
  stateBefore: state,
  statesDuring: [state],
  stateAfter: state,
  warnings: ['a remark'],
};
const prefill: BaselineCase = { model: 'llama2-70b', setting: 'bs1_seq4096' };

/** A Python that answers the probe, and any run with `reply` (JavaScript source of a statement; `args` are its arguments). */
function fakePython(reply: string, probe: object = { schema: 'ladder-pytorch-probe/1', ok: true, ...environment }): void {
  const path = program(
    `python-${Math.random().toString(36).slice(2)}`,
    `
    const args = process.argv.slice(3);
    if (args.includes('--probe')) { console.log(${JSON.stringify(JSON.stringify(probe))}); process.exit(0); }
    ${reply}`,
  );
  vi.stubEnv('LADDER_PYTHON', path);
}
const replyWith = (changes: object): string => `console.log(${JSON.stringify(JSON.stringify({ ...answer, ...changes }))});`;

describe('cases', () => {
  it('reads shapes and refuses settings that a model does not have', () => {
    expect(shapeOf({ model: 'bloom-176b', setting: 'bs32_seq1' })).toEqual({ batch: 32, seq: 1 });
    expect(shapeOf({ model: 'vit', setting: 'bs128' })).toEqual({ batch: 128, seq: 1 });
    for (const wrong of [
      { model: 'vit', setting: 'bs1_seq1' },
      { model: 'llama2-70b', setting: 'bs1' },
      { model: 'resnet-50', setting: 'bs0' },
      { model: 'vit', setting: 'bs1; rm' },
    ] as const) {
      expect(() => shapeOf(wrong)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
    }
  });
});

describe('child processes', () => {
  it('passes arguments without a shell, gives lines as they come, and keeps both streams apart', async () => {
    const path = program(
      'speak',
      'console.error("one"); process.stderr.write("two\\r\\nrest"); console.log(process.argv[2]); process.exit(7);',
    );
    const lines: string[] = [];
    const result = await runChild(path, ['$(echo no) "*"'], { timeoutMs: 20_000, onErrorLine: (line) => lines.push(line) });
    expect(result).toMatchObject({ status: 7, ended: null, stdout: '$(echo no) "*"\n' });
    expect(lines).toEqual(['one', 'two']);
  });

  it('ends a whole group at the time limit, also the grandchildren', async () => {
    const pidFile = join(folder, 'pid');
    const path = program(
      'parent',
      `
      const { spawn } = require('node:child_process');
      const child = spawn('sleep', ['60']);
      require('node:fs').writeFileSync(${JSON.stringify(pidFile)}, String(child.pid));
      setInterval(() => {}, 1000);`,
    );
    const start = performance.now();
    const result = await runChild(path, [], { timeoutMs: 2000 });
    expect(result.ended).toBe('stopped after its time limit of 2 s');
    expect(performance.now() - start).toBeLessThan(15_000);
    const pid = Number(readFileSync(pidFile, 'utf8'));
    await vi.waitFor(() => expect(isRunning(pid)).toBe(false), 5000);
  });

  it.each([
    ['of its group', false],
    ['of a group of their own', true],
  ])('does not wait for workers %s that hold its streams open', async (_, detached) => {
    const pidFile = join(folder, 'pid');
    const path = program(
      'parent',
      `
      const worker = require('node:child_process').spawn('sleep', ['60'], { stdio: 'inherit', detached: ${String(detached)} });
      require('node:fs').writeFileSync(${JSON.stringify(pidFile)}, String(worker.pid));
      worker.unref();
      console.log('answer');`,
    );
    const start = performance.now();
    try {
      expect(await runChild(path, [], { timeoutMs: 50_000, graceMs: 300 })).toMatchObject({ status: 0, ended: null, stdout: 'answer\n' });
      expect(performance.now() - start).toBeLessThan(20_000);
    } finally {
      const pid = Number(readFileSync(pidFile, 'utf8'));
      if (isRunning(pid)) process.kill(pid);
    }
  });

  it('throws ABORTED, before the start and while it runs, even where SIGTERM is ignored', async () => {
    const path = program('stubborn', 'process.on("SIGTERM", () => {}); console.error("up"); setInterval(() => {}, 1000);');
    await expect(runChild(path, [], { timeoutMs: 60_000, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    const abort = new AbortController();
    const running = runChild(path, [], { timeoutMs: 60_000, graceMs: 300, signal: abort.signal, onErrorLine: () => abort.abort() });
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('reports a program that cannot be started', async () => {
    const result = await runChild(join(folder, 'nothing'), [], { timeoutMs: 1000 });
    expect(result).toEqual({
      status: null,
      ended: `could not be started: spawn ${join(folder, 'nothing')} ENOENT`,
      stdout: '',
      stderr: '',
    });
    expect(findProgram(join(folder, 'nothing'))).toBeNull();
    const path = program('findable', '');
    vi.stubEnv('PATH', `${join(folder, 'absent')}:${folder}`);
    expect([findProgram('findable'), findProgram('sh')]).toEqual([path, null]);
  });
});

describe('pytorch', () => {
  it('asks for the case and fills a record that its own parser accepts', async () => {
    fakePython(`require('node:fs').writeFileSync(${JSON.stringify(join(folder, 'args'))}, args.join(' ')); ${replyWith({})}`);
    const record = await new PyTorchAdapter('eager').run(prefill, { ordinal: 2, minSamples: 7, maxMs: 50 });
    expect(readFileSync(join(folder, 'args'), 'utf8')).toBe(
      '--mode eager --model llama2-70b --batch 1 --seq 4096 --device 2 --min-samples 7 --max-ms 50 --rests --sustained',
    );
    expect(parseRecord(JSON.stringify(record), 'record')).toEqual(record);
    expect(record).toMatchObject({
      system: 'pytorch-eager',
      systemVersion: '2.11.0 (CUDA 13.0)',
      model: 'llama2-70b',
      setting: 'bs1_seq4096',
      format: 'W_FP16 A_FP16',
      status: 'ok',
      reason: null,
      clock: 'gpu-events',
      mode: 'samples',
      launch: 'stream',
      l2: 'hot',
      latencyMs: 3,
      verified: true,
      rawMs: [3, 1, 2, 5, 4],
      enqueueMedianMs: 0.2,
      hostMsPerInference: 3.5,
      warnings: ['a remark', expect.stringMatching(/^3 more samples, their median 8.000 ms, were set aside/)],
      device,
      condition: 'burst',
      meanState: { smClockMHz: state.smClockMHz, powerW: state.powerW },
      sustained: { latencyMs: 5, reason: null, rawMs: [6, 4, 5], meanState: { smClockMHz: 1400, powerW: 700 } },
      stateBefore: state,
    });
    expect(record.samples).toMatchObject({ count: 5, medianMs: 3, iqrMs: 2 });
    expect(record.paper).toMatchObject({ meanMs: 3, numbers: [100, 50] });
    expect(record.provenance).toMatchObject({ torch: '2.11.0', relativeL2: 4e-4 });
  });

  it('asks for sustained figures where arithmetic decides, or where told to, and never beside samples under the power limit', async () => {
    const says = join(folder, 'sustained');
    fakePython(`require('node:fs').writeFileSync(${JSON.stringify(says)}, String(args.includes('--sustained'))); process.exit(1);`);
    const asked = async (setting: string, options: object): Promise<string> => {
      await new PyTorchAdapter('eager').run({ model: 'llama2-70b', setting }, options);
      return readFileSync(says, 'utf8');
    };
    expect(await asked('bs1_seq4096', { sustained: 'off' })).toBe('false');
    expect(await asked('bs1_seq4096', { recoveryMs: 0 })).toBe('false');
    expect(await asked('bs1_seq1', {})).toBe('false');
    expect(await asked('bs1_seq1', { sustained: 'on' })).toBe('true');
  });

  it('at low precision asks for it, and for decoder layers only', async () => {
    const seen = join(folder, 'precision');
    const replied = replyWith({ mode: 'inductor', precision: 'int4', launch: 'graph' });
    fakePython(`require('node:fs').writeFileSync(${JSON.stringify(seen)}, args.slice(0, 4).join(' ')); ${replied}`);
    const adapter = await adapterOf('pytorch-int4');
    expect([adapter.covers!(prefill), adapter.covers!({ model: 'vit', setting: 'bs1' })]).toEqual([true, false]);
    expect(await adapter.run(prefill)).toMatchObject({
      system: 'pytorch-int4',
      format: 'W_INT4 A_FP16',
      status: 'ok',
      provenance: { products: expect.stringContaining('_weight_int4pack_mm') as string },
    });
    expect(readFileSync(seen, 'utf8')).toBe('--mode inductor --precision int4');
    const other = await (await adapterOf('pytorch-fp8')).run(prefill);
    expect(other).toMatchObject({ system: 'pytorch-fp8', format: 'W_FP8 A_FP8', status: 'failed' });
    expect(other.reason).toContain('answered for');

    // Cases that a system does not have are no cases of it.
    const folderOfRecords = join(folder, 'records');
    const { records } = await reproduceBaselines([{ model: 'vit', setting: 'bs1' }, prefill], {
      folder: folderOfRecords,
      adapters: [adapter],
    });
    expect(records.map(({ record }) => record.model)).toEqual(['llama2-70b']);
  });

  it('takes the mean of the paper’s values as the headline in mode paper', async () => {
    fakePython(replyWith({ paper: { valuesMs: [2, 5], numbers: [1, 1] } }));
    expect(await new PyTorchAdapter('eager').run(prefill, { mode: 'paper' })).toMatchObject({ mode: 'paper', latencyMs: 3.5 });
  });

  it('tells progress and ignores everything else on stderr', async () => {
    fakePython(
      `console.error('ladder-progress {"stage":"compile","fraction":null,"detail":"5 s"}'); console.error('AUTOTUNE mm'); ${replyWith({})}`,
    );
    const seen: string[] = [];
    await new PyTorchAdapter('eager').run(prefill, { onProgress: ({ stage, detail }) => seen.push(`${stage} ${detail}`) });
    expect(seen).toEqual(['compile 5 s']);
    expect(progressOf('ladder-progress {"stage":1}')).toBeNull();
    expect(progressOf('ladder-progress {')).toBeNull();
  });

  it.each([
    ['its own words', 'console.log(JSON.stringify({ ok: false, reason: "CUDA out of memory" })); process.exit(1);', 'CUDA out of memory'],
    [
      'a crash',
      'console.error("Segmentation fault"); process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);',
      'python ended by SIGKILL without an answer; it last said: Segmentation fault',
    ],
    ['no answer', 'console.error("bye"); process.exit(3);', 'python ended with status 3 without an answer; it last said: bye'],
    ['an answer of another shape', replyWith({ launch: 'sideways' }), 'the answer of pytorch.py does not fit: launch'],
    [
      'no samples',
      replyWith({ samples: { rawMs: [], enqueueMs: [1], hostMsPerInference: 1 } }),
      'the answer of pytorch.py does not fit: samples.rawMs',
    ],
    ['another case’s answer', replyWith({ seq: 1 }), 'but answered for llama2-70b batch 1 seq 1'],
  ])('records %s as the reason of the failure', async (_, reply, reason) => {
    fakePython(reply);
    const record = await new PyTorchAdapter('eager').run(prefill);
    expect(record).toMatchObject({ status: 'failed', latencyMs: null, samples: null, device });
    expect(record.reason).toContain(reason);
    expect(parseRecord(JSON.stringify(record), 'record')).toEqual(record);
  });

  it('records a time limit', async () => {
    fakePython('setInterval(() => {}, 1000);');
    const record = await new PyTorchAdapter('eager').run(prefill, { timeoutMs: 1000 });
    expect(record).toMatchObject({ status: 'failed' });
    expect(record.reason).toContain('stopped after its time limit of 1 s');
  });

  it('does not accept wrong numbers or a throttled GPU', async () => {
    fakePython(replyWith({ numericsOk: false, relativeL2: 0.3 }));
    const wrong = await new PyTorchAdapter('eager').run(prefill);
    expect(wrong).toMatchObject({ status: 'invalid', verified: false });
    expect(wrong.reason).toContain('0.3');
    fakePython(replyWith({ statesDuring: [{ ...state, throttleReasons: ['hw_thermal_slowdown'] }] }));
    expect((await new PyTorchAdapter('eager').run(prefill)).reason).toContain('hw_thermal_slowdown');
  });

  it('is available where the probe answers, and says what is missing elsewhere', async () => {
    fakePython('');
    expect(await new PyTorchAdapter('eager').available()).toEqual({ ok: true, version: '2.11.0 (CUDA 13.0)' });
    expect(await new PyTorchAdapter('inductor').available()).toEqual({
      ok: true,
      version: '2.11.0 (CUDA 13.0, Triton 3.6.0, max-autotune)',
    });
    fakePython('', { schema: 'ladder-pytorch-probe/1', ok: true, ...environment, tritonVersion: null });
    expect(await new PyTorchAdapter('inductor').available()).toMatchObject({
      ok: false,
      reason: expect.stringContaining('Triton') as string,
    });
    fakePython('', { ok: false, reason: 'no torch here' });
    expect(await new PyTorchAdapter('eager').available()).toEqual({ ok: false, reason: 'no torch here' });
    expect(await new PyTorchAdapter('eager').run(prefill)).toMatchObject({ status: 'failed', reason: 'no torch here' });
    vi.stubEnv('LADDER_PYTHON', join(folder, 'no-python'));
    expect(await new PyTorchAdapter('eager').available()).toMatchObject({
      ok: false,
      reason: expect.stringContaining('no-python') as string,
    });
  });

  /** A PyTorch of which the real script learns this much; the machine's own is not asked. */
  function pretendTorch(source: string): string {
    const python = join(folder, 'real-python');
    writeFileSync(python, '#!/bin/sh\nexec python3 "$@"\n');
    chmodSync(python, 0o755);
    for (const [name, text] of [
      ['torch', source],
      ['triton', '__version__ = "3.6.0"'],
    ] as const) {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, '__init__.py'), text);
    }
    vi.stubEnv('PYTHONPATH', folder);
    vi.stubEnv('PYTHONDONTWRITEBYTECODE', '1');
    vi.stubEnv('LADDER_PYTHON', python);
    return python;
  }
  const torch = (version: string, cuda: string | null, available: boolean): string => `
import contextlib, types
__version__ = ${JSON.stringify(version)}
version = types.SimpleNamespace(cuda=${cuda === null ? 'None' : JSON.stringify(cuda)})
no_grad = contextlib.nullcontext
properties = types.SimpleNamespace(name="Test GPU", major=9, minor=0, multi_processor_count=4, total_memory=10**9, L2_cache_size=100, uuid="none")
cuda = types.SimpleNamespace(is_available=lambda: ${available ? 'True' : 'False'}, get_device_properties=lambda ordinal: properties)
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 91000))
`;

  it.each([
    ['none', 'raise ImportError("none here")', / cannot import torch \(none here\); install PyTorch with CUDA for this Python$/],
    ['one that is too old', torch('2.4.1', '12.1', true), /^PyTorch 2\.4\.1 is too old: expected at least 2\.5$/],
    ['one without CUDA', torch('2.11.0+cpu', null, false), /^PyTorch 2\.11\.0\+cpu was built without CUDA$/],
    [
      'one without a GPU',
      torch('2.11.0', '13.0', false),
      /^PyTorch 2\.11\.0 \(CUDA 13\.0\) finds no usable GPU: torch\.cuda\.is_available\(\) is False$/,
    ],
  ])('understands what the real script says of PyTorch: %s', async (_, source, reason) => {
    pretendTorch(source);
    expect(await new PyTorchAdapter('eager').available()).toEqual({ ok: false, reason: expect.stringMatching(reason) as string });
  });

  it('understands what the real script says of a PyTorch that works', async () => {
    pretendTorch(torch('2.11.0', '13.0', true));
    expect(await new PyTorchAdapter('eager').available()).toEqual({ ok: true, version: '2.11.0 (CUDA 13.0)' });
    expect(await new PyTorchAdapter('inductor').available()).toEqual({
      ok: true,
      version: '2.11.0 (CUDA 13.0, Triton 3.6.0, max-autotune)',
    });
  });
});

describe('tensorrt', () => {
  const line = '[I] GPU Compute Time: min = 1.1 ms, max = 1.9 ms, mean = 1.31 ms, median = 1.3 ms, percentile(99%) = 1.8 ms';

  it('names everything that is missing', async () => {
    vi.stubEnv('PATH', folder);
    const found = await (await adapterOf('tensorrt')).available();
    expect(found).toMatchObject({ ok: false, reason: expect.stringMatching(/trtexec.*LADDER_ONNX_DIR/) as string });
    expect(await (await adapterOf('tensorrt')).run(prefill)).toMatchObject({
      status: 'failed',
      reason: expect.stringContaining('trtexec') as string,
    });
  });

  it('runs trtexec on the case’s ONNX file and reads its log', async () => {
    program(
      'trtexec',
      `
      if (process.argv.includes('--help')) { console.log('&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --help'); process.exit(0); }
      require('node:fs').writeFileSync(${JSON.stringify(join(folder, 'args'))}, process.argv.slice(2).join(' '));
      console.log('&&&& RUNNING TensorRT.trtexec'); console.log(${JSON.stringify(line)}); console.log('&&&& PASSED TensorRT.trtexec');`,
    );
    vi.stubEnv('PATH', folder);
    vi.stubEnv('LADDER_ONNX_DIR', folder);
    expect(await (await adapterOf('tensorrt')).available()).toEqual({ ok: true, version: '100300' });
    const none = await (await adapterOf('tensorrt')).run({ model: 'resnet-50', setting: 'bs1' });
    expect(none).toMatchObject({ status: 'failed', reason: expect.stringContaining('resnet-50_bs1.onnx does not exist') as string });
    writeFileSync(join(folder, 'resnet-50_bs1.onnx'), '');
    const record = await (await adapterOf('tensorrt')).run({ model: 'resnet-50', setting: 'bs1' }, { ordinal: 1 });
    expect(record).toMatchObject({ status: 'ok', clock: 'gpu-compute', latencyMs: 1.3, provenance: { meanMs: 1.31 } });
    expect(parseRecord(JSON.stringify(record), 'record')).toEqual(record);
    expect(readFileSync(join(folder, 'args'), 'utf8')).toContain(`--onnx=${join(folder, 'resnet-50_bs1.onnx')} --fp16`);
  });

  it('records a run without a result', async () => {
    program('trtexec', `console.log('&&&& RUNNING TensorRT.trtexec'); console.log('&&&& FAILED TensorRT.trtexec');`);
    vi.stubEnv('PATH', folder);
    vi.stubEnv('LADDER_ONNX_DIR', folder);
    writeFileSync(join(folder, 'vit_bs1.onnx'), '');
    expect(await (await adapterOf('tensorrt')).run({ model: 'vit', setting: 'bs1' })).toMatchObject({ status: 'failed', latencyMs: null });
  });
});

describe('onnxruntime', () => {
  it.each([
    ['console.error("ModuleNotFoundError: No module named \'onnxruntime\'"); process.exit(1);', 'cannot import onnxruntime'],
    [
      'console.log(JSON.stringify({ version: "1.20", providers: ["CPUExecutionProvider"] }));',
      '1.20 is installed without the CUDAExecutionProvider',
    ],
    ['console.log("?");', 'did not tell'],
  ])('says what is there: %s', async (body, reason) => {
    vi.stubEnv('LADDER_PYTHON', program('python', body));
    expect(await new OnnxRuntimeAdapter().available()).toMatchObject({ ok: false, reason: expect.stringContaining(reason) as string });
  });
});

describe('tuners', () => {
  it('say what a search takes while no toolchain is configured', async () => {
    vi.stubEnv('LADDER_AMOS_HOME', '');
    vi.stubEnv('LADDER_TENSORIR_HOME', '');
    const [amos, tensorir] = await Promise.all((await tunerAdapters()).map((adapter) => adapter.available()));
    expect(amos).toMatchObject({
      ok: false,
      reason: expect.stringMatching(/LADDER_AMOS_HOME.*resnet-50 bs1 3852 min \(2\.7 days\)/) as string,
    });
    expect(tensorir).toMatchObject({ ok: false, reason: expect.stringMatching(/LADDER_TENSORIR_HOME.*bs128 836 min/) as string });
    vi.stubEnv('LADDER_AMOS_HOME', folder);
    expect(await (await adapterOf('amos')).available()).toMatchObject({
      ok: false,
      reason: expect.stringContaining('ladder-tune') as string,
    });
  });

  it('run a configured toolchain and read its log', async () => {
    program(
      'ladder-tune',
      `
      if (process.argv[3] === '1') console.log('x Whole graph cost is 2.5 ms\\nTime taken: 12.5');
      else console.log('x Whole graph cost is 10000000000 ms\\nTime taken: 12.5');`,
    );
    vi.stubEnv('LADDER_AMOS_HOME', folder);
    const record = await (await adapterOf('amos')).run({ model: 'resnet-50', setting: 'bs1' });
    expect(record).toMatchObject({ system: 'amos', status: 'ok', latencyMs: 2.5, provenance: { toolchain: folder } });
    expect(parseRecord(JSON.stringify(record), 'record')).toEqual(record);
    expect(await (await adapterOf('amos')).run({ model: 'resnet-50', setting: 'bs128' })).toMatchObject({
      status: 'failed',
      latencyMs: null,
    });
    program('ladder-tune', `process.stdout.write('1.75');`);
    vi.stubEnv('LADDER_TENSORIR_HOME', folder);
    expect(await (await adapterOf('tensorir')).run({ model: 'vit', setting: 'bs1' })).toMatchObject({
      system: 'tensorir',
      status: 'ok',
      latencyMs: 1.75,
    });
  });
});

describe('reproduceBaselines', () => {
  const cases: readonly BaselineCase[] = [
    { model: 'vit', setting: 'bs1' },
    { model: 'vit', setting: 'bs128' },
  ];

  /** Answers `latencyMs`, or fails where it is null; counts its runs. */
  function adapter(system: string, latencyMs: number | null, onRun?: (count: number) => void): BaselineAdapter & { runs: number } {
    return {
      system,
      runs: 0,
      available: () => Promise.resolve({ ok: true, version: '1' }),
      run(case_, options) {
        this.runs += 1;
        onRun?.(this.runs);
        options?.onProgress?.({ stage: 'samples', fraction: 1, detail: null });
        const record = emptyRecord(system, '1', case_, 'gpu-events');
        return Promise.resolve(
          latencyMs === null ? { ...record, reason: 'broken' } : { ...record, status: 'ok' as const, reason: null, latencyMs },
        );
      },
    };
  }

  it('writes one record per system and case, lists who is not here, and resumes', async () => {
    const good = adapter('good', 2);
    const bad = adapter('bad', null);
    const absent: BaselineAdapter = {
      system: 'absent',
      available: () => Promise.resolve({ ok: false, reason: 'not installed' }),
      run: () => Promise.reject(new Error('never')),
    };
    const seen: string[] = [];
    const options = { folder: join(folder, 'out'), adapters: [good, bad, absent] };
    const first = await reproduceBaselines(cases, {
      ...options,
      onProgress: ({ system, case: { setting }, index, cases: total }) => seen.push(`${index}/${total} ${system} ${setting}`),
    });
    expect(seen).toEqual(['0/4 good bs1', '1/4 bad bs1', '2/4 good bs128', '3/4 bad bs128']);
    expect(first.unavailable).toEqual([{ system: 'absent', reason: 'not installed' }]);
    expect(readdirSync(options.folder).sort()).toEqual([
      'bad.vit.bs1.json',
      'bad.vit.bs128.json',
      'good.vit.bs1.json',
      'good.vit.bs128.json',
    ]);
    for (const { path, record } of first.records) expect(parseRecord(readFileSync(path, 'utf8'), path)).toEqual(record);
    expect(first.records.map(({ record }) => record.status)).toEqual(['ok', 'failed', 'ok', 'failed']);

    const second = await reproduceBaselines(cases, options);
    expect(second.records.map(({ resumed }) => resumed)).toEqual([true, false, true, false]);
    expect([good.runs, bad.runs]).toEqual([2, 4]);
    const picky: BaselineAdapter = { ...adapter('good', 2), stands: (_, { setting }) => Promise.resolve(setting === 'bs1') };
    const third = await reproduceBaselines(cases, { ...options, adapters: [picky] });
    expect(third.records.map(({ resumed }) => resumed)).toEqual([true, false]);
    await reproduceBaselines(cases, { ...options, adapters: [good], again: true });
    expect(good.runs).toBe(4);
    await reproduceBaselines(cases, { ...options, adapters: [good], mode: 'paper' });
    expect(good.runs).toBe(6);
  });

  it('keeps what was measured before an abort', async () => {
    const abort = new AbortController();
    const interrupted = adapter('good', 2, () => abort.abort());
    await expect(reproduceBaselines(cases, { folder, adapters: [interrupted], signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(existsSync(join(folder, 'good.vit.bs1.json'))).toBe(true);
    const after = adapter('good', 2);
    await reproduceBaselines(cases, { folder, adapters: [after] });
    expect(after.runs).toBe(1);
  });

  it('measures anew what is no record of this system, this version, these scripts and options, or was edited; dates say nothing', async () => {
    const good = adapter('good', 2);
    const one = cases.slice(0, 1);
    const path = join(folder, baselineFileName('good', { model: 'vit', setting: 'bs1' }));
    writeFileSync(path, '{}');
    await reproduceBaselines(one, { folder, adapters: [good] });
    expect(good.runs).toBe(1);
    const record = parseRecord(readFileSync(path, 'utf8'), path);
    const { content, sha256: _, ...unsealed } = record;
    const sealed = (change: object, ofContent: object = {}): string =>
      JSON.stringify(sealRecord({ ...unsealed, ...change } as BenchRecord, { ...content, ...ofContent }));
    const changed: [string, RegExp][] = [
      [sealed({ system: 'other' }), /is of other vit bs1$/],
      [sealed({ setting: 'bs128' }), /is of good vit bs128$/],
      [sealed({ status: 'invalid', reason: 'throttled' }), /says invalid/],
      [sealed({}, { system: '0' }), /another system/],
      [sealed({}, { code: '0' }), /another code/],
      [sealed({}, { driver: '0' }), /another driver/],
      // As written before a figure under lasting load was asked for.
      [sealed({}, { options: '0' }), /another options/],
      [JSON.stringify(unsealed), /does not say what was measured/],
      [JSON.stringify({ ...record, latencyMs: 1 }), /changed after it was written/],
    ];
    for (const [index, [text, reason]] of changed.entries()) {
      writeFileSync(path, text);
      const reasons: string[] = [];
      await reproduceBaselines(one, {
        folder,
        adapters: [good],
        onStale: (system, { setting }, why) => reasons.push(`${system} ${setting}: ${why}`),
      });
      expect(reasons).toEqual([expect.stringMatching(reason)]);
      expect(good.runs).toBe(index + 2);
    }
    writeFileSync(path, sealed({ date: '2020-01-01T00:00:00.000Z' }));
    utimesSync(path, new Date(0), new Date(0));
    expect((await reproduceBaselines(one, { folder, adapters: [good] })).records.map(({ resumed }) => resumed)).toEqual([true]);
    await reproduceBaselines(one, { folder, adapters: [good], sustained: 'on' });
    expect(good.runs).toBe(changed.length + 2);
  });

  it('refuses a case that does not exist before any is run', async () => {
    const good = adapter('good', 2);
    await expect(reproduceBaselines([{ model: 'vit', setting: 'bs1_seq1' }], { folder, adapters: [good] })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
    });
    expect(good.runs).toBe(0);
  });

  it('has one adapter per system, by the id of its record', async () => {
    const adapters = [...(await baselineAdapters()), ...(await tunerAdapters())].map(({ system }) => system);
    expect(adapters).toEqual([
      ...['pytorch-eager', 'pytorch-inductor', 'onnxruntime', 'tensorrt', 'pytorch-fp8', 'pytorch-int4'],
      ...['vendor-fp16', 'vendor-fp8', 'vendor-fp8-fast', 'vendor-int8', 'amos', 'tensorir'],
    ]);
    for (const id of adapters) expect((await adapterOf(id)).system).toBe(id);
  });
});

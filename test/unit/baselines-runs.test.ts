// A number counts as its run's last word only: what takes it away in every system's log, several runs and cases in one log, names that
// contradict their text, and where logs lie: archives, links, encodings.
import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { parseLog, scanLogs } from '../../lib/baselines/scan.js';
import { LadderError } from '../../lib/errors.js';

const root = await mkdtemp(join(tmpdir(), 'ladder-runs-'));
afterAll(() => rm(root, { recursive: true, force: true }));
let folder: string;
let folders = 0;
beforeEach(async () => {
  folder = join(root, String(folders++));
  await mkdir(folder);
});

/** What a system prints. */
interface Words {
  /** A whole run of `ms`. */
  readonly run: (ms: string) => string;
  /** A whole run without its beginning, where runs have one. */
  readonly begin?: string;
  /** What a run ends in the middle with. */
  readonly cut: string;
}

const summary = (ms: string): string =>
  `Execution time summary:\n mean (ms)   median (ms)    max (ms)     min (ms)     std (ms)  \n   ${ms}   1.0   1.0   1.0   0.1   \n`;
const trtLine = (ms: string): string =>
  `[I] GPU Compute Time: min = 1 ms, max = 3 ms, mean = ${ms} ms, median = 2 ms, percentile(99%) = 3 ms\n`;
const systems: Readonly<Record<string, Words>> = {
  AMOS: {
    run: (ms) => `Batch 1\nQuery subgraph task id: 0, perf=0.1 ms after 200 tuning\nWhole graph cost is ${ms} ms\nTime taken:  12.5\n`,
    begin: 'Batch 1\n',
    cut: 'Batch 1\nWhole graph cost is 2',
  },
  TensorIR: { run: (ms) => `${ms}\n`, cut: '17.' },
  Ladder: {
    run: (ms) => `Running from prebuilt model: /m/llama2-70b/llama2_bs1_seq1_async\n${summary(ms)}`,
    begin: 'Running from prebuilt model: /m/llama2-70b/llama2_bs1_seq1_async\n',
    cut: `${summary('1.5')}[05:31:41] x.cc:95: Op #0 one:\n[05:31:41] x.cc:95: Iteration: 0: 9.25 us/iter\n`,
  },
  Welder: {
    run: (ms) => `Iteration time 1.25 ms\nSummary: [min, max, mean] = [1.0, 3.0, ${ms}] ms\n`,
    begin: 'Iteration time 1.25 ms\n',
    cut: 'Iteration time 1.25 ms\nSummary: [min, max, mean] = [1.0, ',
  },
  Roller: {
    run: (ms) => `Iteration time 1.25 ms\nSummary: [min, max, mean] = [1.0, 3.0, ${ms}] ms\n`,
    begin: 'Iteration time 1.25 ms\n',
    cut: 'Iteration time 1.25 ms\nSummary: [min, max, mean] = [1.0, ',
  },
  ONNXRuntime: {
    run: (ms) => `Importing ONNX model into ONNX Runtime...\n>> Evaluating Benchmark ...\n>> Average time for each run: ${ms} ms;\n`,
    begin: '>> Evaluating Benchmark ...\n',
    cut: '>> Average time for each run: 3.2',
  },
  TensorRT: {
    run: (ms) => `&&&& RUNNING TensorRT.trtexec [TensorRT v9001] # trtexec --onnx=m.onnx\n${trtLine(ms)}&&&& PASSED TensorRT.trtexec\n`,
    begin: '&&&& RUNNING TensorRT.trtexec [TensorRT v9001] # trtexec --onnx=m.onnx\n',
    // Whole, but trtexec was killed before it said how it went.
    cut: `&&&& RUNNING TensorRT.trtexec [TensorRT v9001] # trtexec --onnx=m.onnx\n${trtLine('1.5')}`,
  },
  'PyTorch-Inductor': { run: (ms) => `torch.float16\nInductor avg: ${ms} ms\n`, cut: 'Inductor avg: 1.5' },
  vLLM: { run: (ms) => `vllm llama run b1 s1 avg: ${ms} ms\n`, cut: 'vllm llama run b1 s1 avg: 1.' },
};

async function outcome(system: string, text: string): Promise<number | string> {
  try {
    return (await parseLog(system, [text], 'log')).latencyMs;
  } catch (error) {
    if (!(error instanceof LadderError) || error.code !== 'BAD_LOG') throw error;
    const { reason, detail } = error.context;
    return `${String(reason)}: ${String(detail)}`;
  }
}

describe.each(Object.entries(systems))('%s', (system, { run, begin, cut }) => {
  const several = system !== 'TensorIR';

  test('the last run’s number counts', async () => {
    expect(await outcome(system, run('1.5'))).toBe(1.5);
    if (several) expect(await outcome(system, run('1.5') + run('2.5'))).toBe(2.5);
    // A failure before it is another run's.
    expect(await outcome(system, `RuntimeError: no GPU\n${run('2.5')}`)).toBe(2.5);
  });

  test.each([
    [
      'a failure',
      'Traceback (most recent call last):\n  File "x"\nRuntimeError: CUDA error: an illegal access\n',
      /^failed: RuntimeError: CUDA error/,
    ],
    ['the end of the process', 'Killed\n', /^failed: Killed$/],
    ['no memory', 'terminate: out of memory\n', /^failed: .*out of memory/],
    ['an exception in C++', "terminate called after throwing an instance of 'dmlc::Error'\n", /^failed: terminate called/],
    ['a check of TVM', 'x.cc:95: Check failed: ret == 0 (-1 vs. 0)\n', /^failed: .*Check failed/],
    ['a corrupt heap', 'free(): invalid pointer\n', /^failed: free/],
    ['a signal', 'Bus error\n', /^failed: Bus error/],
    ['a signal, as a script’s shell reports it', 'run.sh: line 3: 12345 Terminated              python x.py\n', /^failed: .*Terminated/],
    ['an error of the CUDA runtime', '[E] cudaErrorIllegalAddress\n', /^failed: .*cudaError/],
    ['Ctrl-C', 'KeyboardInterrupt\n', /^failed: KeyboardInterrupt/],
    ['an exit status', 'Command exited with non-zero status 1\n', /^failed: .*status 1/],
    ['half a line', 'and th', /^(cut short: it ends in the middle of a line|no result line: .*and th|cut short: it ends before)/],
  ])('%s takes it away', async (_, after, reason) => {
    expect(await outcome(system, run('1.5') + after)).toMatch(reason);
  });

  test.each(['nan', 'inf', '-1.5', '0.0', '1e999', 'NaN', '1,234.5'])('a later %s is no number, and leaves no older one', async (word) => {
    expect(await outcome(system, run(word))).toMatch(/^(no result line|cut short)/);
    if (several) expect(await outcome(system, run('1.5') + run(word))).toMatch(/^(no result line|cut short)/);
  });

  test('an early end takes it away, also after a whole run', async () => {
    expect(await outcome(system, cut)).toMatch(/^cut short/);
    if (several) expect(await outcome(system, run('1.5') + cut)).toMatch(/^cut short/);
  });

  test.skipIf(begin === undefined)('a run that begins and says nothing takes it away', async () => {
    expect(await outcome(system, run('1.5') + begin!)).toMatch(/^cut short/);
  });
});

describe('AMOS', () => {
  test('a round that begins after a cost, and no `Time taken`: that cost was not the last', async () => {
    const round = 'Query subgraph task id: 0, perf=0.1 ms after 200 tuning\nWhole graph cost is 2.5 ms\n';
    expect(await outcome('AMOS', round)).toMatch(/^cut short: it ends before `Time taken`/);
    expect(await outcome('AMOS', `${round}Query subgraph task id: 0, perf=0.1 ms after 400 tuning\nTime taken:  9.5\n`)).toMatch(
      /^cut short: a later run/,
    );
    // The last line of a file often has no end; the tuning was over all the same.
    expect(await outcome('AMOS', `${round}Time taken:  9.5`)).toBe(2.5);
  });
});

describe('PyTorch-Inductor: compiled and eager lines', () => {
  test.each<[string, string, number | RegExp]>([
    ['eager first', 'eager avg: 5.0 ms\ninductor avg: 3.0 ms\n', 3],
    ['eager last', 'Inductor avg: 3.0 ms\nEager avg: 5.0 ms\n', 3],
    ['a word that says neither', 'compiled avg: 3.0 ms\ntorch avg: 5.0 ms\n', 3],
    ['stamps before the words', '12:01 [INFO] bench: compiled avg: 3.0 ms\n12:02 [INFO] bench: eager avg: 5.0 ms\n', 3],
    ['no words', 'avg: 5.0 ms\navg: 4.0 ms\n', 4],
    ['eager alone', 'Eager avg: 5.0 ms\n', /^no result line: its latencies are those of PyTorch without its compiler: Eager avg: 5\.0 ms/],
    ['a compiled one that is no number', 'Inductor avg: nan ms\nEager avg: 5.0 ms\n', /^no result line: its last number cannot be read/],
    ['uncompiled', 'uncompiled avg: 5.0 ms\n', /^no result line/],
  ])('%s', async (_, text, expected) => {
    const found = await outcome('PyTorch-Inductor', text);
    if (typeof expected === 'number') expect(found).toBe(expected);
    else expect(found).toMatch(expected);
  });
});

describe('TensorRT 7', () => {
  const block = (mean: string): string =>
    [
      '&&&& RUNNING TensorRT.trtexec # ./trtexec --onnx=resnet-50-b1/model.onnx',
      '[05/01/2020-10:00:00] [I] Host latency',
      '[05/01/2020-10:00:00] [I] min: 9.1 ms (end to end 9.2 ms)',
      '[05/01/2020-10:00:00] [I] mean: 9.3 ms (end to end 9.4 ms)',
      '[05/01/2020-10:00:00] [I] percentile: 9.9 ms at 99% (end to end 9.9 ms at 99%)',
      '[05/01/2020-10:00:00] [I] throughput: 0 qps',
      '[05/01/2020-10:00:00] [I] Enqueue Time',
      '[05/01/2020-10:00:00] [I] mean: 8.0 ms',
      '[05/01/2020-10:00:00] [I] GPU Compute',
      '[05/01/2020-10:00:00] [I] min: 1.25 ms',
      '[05/01/2020-10:00:00] [I] max: 1.75 ms',
      `[05/01/2020-10:00:00] [I] mean: ${mean} ms`,
      '[05/01/2020-10:00:00] [I] median: 1.4 ms',
      '[05/01/2020-10:00:00] [I] percentile: 1.7 ms at 99%',
      '[05/01/2020-10:00:00] [I] total compute time: 3.0 s',
      '',
    ].join('\n');

  test('the mean below GPU Compute, and only with its end', async () => {
    expect(await parseLog('TensorRT', [`${block('1.5')}&&&& PASSED TensorRT.trtexec\n`], 'log')).toMatchObject({
      latencyMs: 1.5,
      medianMs: 1.4,
      range: { lowMs: 1.25, highMs: 1.75 },
    });
    expect(await outcome('TensorRT', block('1.5'))).toMatch(/^cut short: it ends before trtexec says PASSED/);
    expect(await outcome('TensorRT', `${block('nan')}&&&& PASSED TensorRT.trtexec\n`)).toMatch(/^no result line/);
    expect(await outcome('TensorRT', `${block('1.5')}&&&& FAILED TensorRT.trtexec\n`)).toMatch(/^failed/);
  });

  test('is known by its lines', async () => {
    await writeFile(join(folder, 'x.log'), `${block('1.5')}&&&& PASSED TensorRT.trtexec\n`);
    expect(await scanLogs(folder)).toMatchObject([{ system: 'TensorRT', model: 'resnet-50', setting: 'bs1', result: { latencyMs: 1.5 } }]);
  });
});

describe('cases', () => {
  const brief = async (): Promise<unknown[]> =>
    (await scanLogs(folder)).map((entry) => [
      entry.model,
      entry.setting,
      entry.format,
      entry.result?.latencyMs ?? (entry.result === null ? entry.reason : null),
    ]);
  const prebuilt = (name: string, rest: string): string => `Running from prebuilt model: /m/llama2-70b/${name}\n${rest}`;

  test('two in one log are two results; of one, the last run counts', async () => {
    await writeFile(
      join(folder, 'all.log'),
      [
        prebuilt('llama2_bs1_seq1_async', summary('1.5')),
        prebuilt('llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', summary('0.5')),
        prebuilt('llama2_bs32_seq1_async', 'RuntimeError: no memory\n'),
        prebuilt('llama2_bs1_seq1_async', summary('1.25')),
      ].join(''),
    );
    expect(await brief()).toEqual([
      ['llama2-70b', 'bs1_seq1', 'W_FP16 A_FP16', 1.25],
      ['llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16', 0.5],
      ['llama2-70b', 'bs32_seq1', 'W_FP16 A_FP16', 'failed: RuntimeError: no memory'],
    ]);
  });

  test('vLLM’s lines each name their case; trtexec’s models do', async () => {
    await writeFile(join(folder, 'vllm.log'), 'vllm llama run b1 s1 avg: 1.5 ms\nvllm bloom run b32 s1 avg: 2.5 ms\n');
    expect(await brief()).toEqual([
      ['llama2-70b', 'bs1_seq1', 'W_FP16 A_FP16', 1.5],
      ['bloom-176b', 'bs32_seq1', 'W_FP16 A_FP16', 2.5],
    ]);
    const trt = (name: string, ms: string): string =>
      `&&&& RUNNING TensorRT.trtexec # trtexec --onnx=models/${name}/model.onnx --fp16\n${trtLine(ms)}&&&& PASSED TensorRT.trtexec\n`;
    await writeFile(join(folder, 'vllm.log'), trt('resnet-50-b1', '1.5') + trt('vit-b128', '2.5'));
    expect(await brief()).toEqual([
      ['resnet-50', 'bs1', 'W_FP16 A_FP16', 1.5],
      ['vit', 'bs128', 'W_FP16 A_FP16', 2.5],
    ]);
  });

  test.each([
    [
      'llama2-70b_b1_s1_q0_nf4.log',
      prebuilt('llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async', summary('0.5')),
      'format W_NF4 A_FP16, its text W_INT4 A_FP16',
    ],
    ['vllm_llama_batch32_seq1.log', 'vllm llama run b1 s1 avg: 1.5 ms\n', 'setting bs32_seq1, its text bs1_seq1'],
    ['vllm_bloom_batch1_seq1.log', 'vllm llama run b1 s1 avg: 1.5 ms\n', 'model bloom-176b, its text llama2-70b'],
    ['amos-resnet50_b128.log', `Batch 1\nWhole graph cost is 2.5 ms\n`, 'setting bs128, its text bs1'],
    [
      'resnet-50-b128.log',
      `&&&& RUNNING TensorRT.trtexec # trtexec --onnx=vit-b128/model.onnx\n${trtLine('2')}&&&& PASSED TensorRT.trtexec\n`,
      'model resnet-50, its text vit',
    ],
  ])('a name that contradicts its text is a conflict: %s', async (name, text, conflict) => {
    await writeFile(join(folder, name), text);
    const entries = await scanLogs(folder);
    expect(entries).toMatchObject([{ result: null, reason: `conflict: its name says ${conflict}` }]);
    // What they disagree on is not chosen.
    expect(entries[0]![conflict.split(' ')[0] as 'model']).toBeNull();
  });
});

describe('where logs lie', () => {
  const long = `${'a-folder-with-a-long-name/'.repeat(8)}resnet-50-b1-${'x'.repeat(120)}.log`;
  const onnx = '>> Evaluating Benchmark ...\n>> Average time for each run: 3.25 ms;\n';
  const brief = async (where = folder): Promise<unknown[]> =>
    (await scanLogs(where)).map((entry) => [entry.path, entry.result?.latencyMs ?? (entry.result === null ? entry.reason : null)]);

  test.each(['gnu', 'pax', 'oldgnu'])('long names in an archive of the dialect %s', async (format) => {
    const source = join(root, `long-${format}`);
    await mkdir(join(source, long, '..'), { recursive: true });
    await writeFile(join(source, long), onnx);
    execFileSync('tar', [`--format=${format}`, '-czf', join(folder, 'logs.tgz'), '-C', source, '.']);
    execFileSync('tar', [`--format=${format}`, '-cf', join(folder, 'plain.tar'), '-C', source, '.']);
    expect(await brief()).toEqual([
      [`logs.tgz/${long}`, 3.25],
      [`plain.tar/${long}`, 3.25],
    ]);
  });

  test.each(['ustar', 'v7'])('names as long as the dialect %s has them, links and gzipped logs in archives', async (format) => {
    const source = join(root, `links-${format}`);
    await mkdir(join(source, 'onnx'), { recursive: true });
    await writeFile(join(source, 'onnx', 'vit-b1.log'), onnx);
    await writeFile(join(source, 'onnx', 'resnet-50-b1.log.gz'), gzipSync(onnx));
    await writeFile(join(source, 'onnx', 'data'), onnx);
    await symlink('vit-b1.log', join(source, 'onnx', 'again.log'));
    await symlink('data', join(source, 'onnx', 'vit-b128.log'));
    await symlink('nowhere', join(source, 'onnx', 'lost.log'));
    execFileSync('tar', [`--format=${format}`, '-czf', join(folder, 'logs.tar.gz'), '-C', source, 'onnx']);
    expect(await brief()).toEqual([
      ['logs.tar.gz/onnx/resnet-50-b1.log.gz', 3.25],
      ['logs.tar.gz/onnx/vit-b1.log', 3.25],
      ['logs.tar.gz/onnx/vit-b128.log', 3.25],
    ]);
  });

  test('an archive that is cut says so beside what it still holds; one of another kind is named', async () => {
    const source = join(root, 'cut');
    await mkdir(source);
    // Incompressible noise, so that a cut of the file is a cut of the second log.
    const noise = Array.from({ length: 20_000 }, (_, i) => ((i * 2654435761) >>> 0).toString(36)).join('\n');
    await writeFile(join(source, 'resnet-50-b1.log'), onnx);
    await writeFile(join(source, 'vit-b1.log'), `${noise}\n${onnx}`);
    execFileSync('tar', ['-czf', join(folder, 'logs.tar.gz'), '-C', source, 'resnet-50-b1.log', 'vit-b1.log']);
    const whole = await readFile(join(folder, 'logs.tar.gz'));
    await writeFile(join(folder, 'logs.tar.gz'), whole.subarray(0, whole.length / 2));
    await writeFile(join(folder, 'other.tar.xz'), 'x');
    await writeFile(join(folder, 'none.tar.gz'), gzipSync('no archive at all, but a text of some length that is no header '.repeat(20)));
    expect(await brief()).toEqual([
      ['logs.tar.gz', expect.stringMatching(/^unreadable: the archive is damaged, members may be missing/)],
      ['logs.tar.gz/resnet-50-b1.log', 3.25],
      ['logs.tar.gz/vit-b1.log', expect.stringMatching(/no system known|cut short/)],
      ['none.tar.gz', expect.stringMatching(/^unreadable: the archive is damaged/)],
      ['other.tar.xz', expect.stringMatching(/^unreadable: .*unpack it/)],
    ]);
  });

  test('an archive without its end is damaged wherever it is cut, and a log that is compressed and cut has no last word', async () => {
    const source = join(root, 'cut-anywhere');
    await mkdir(source);
    await writeFile(join(source, 'onnx-vit-b1.log'), onnx);
    execFileSync('tar', ['--format=ustar', '-cf', join(source, 'whole.tar'), '-C', source, 'onnx-vit-b1.log']);
    const whole = await readFile(join(source, 'whole.tar'));
    await writeFile(join(folder, 'WHOLE.TAR'), whole);
    // Before the header, in it, in the log, and right behind it.
    for (const size of [0, 300, 512 + 40, 1024]) await writeFile(join(folder, `${size}.tar`), whole.subarray(0, size));
    await writeFile(join(folder, 'onnx-resnet-50-b1.log.gz'), gzipSync(onnx).subarray(0, -4));
    const damaged = expect.stringMatching(/^unreadable: the archive is damaged/);
    expect(await brief()).toEqual([
      ['0.tar', damaged],
      ['1024.tar', damaged],
      ['1024.tar/onnx-vit-b1.log', 3.25],
      ['300.tar', damaged],
      ['552.tar', damaged],
      ['552.tar/onnx-vit-b1.log', expect.stringMatching(/^cut short/)],
      ['WHOLE.TAR/onnx-vit-b1.log', 3.25],
      ['onnx-resnet-50-b1.log.gz', expect.stringMatching(/^cut short: its compressed data are damaged or end early/)],
    ]);
  });

  test('names in capitals are names all the same', async () => {
    await writeFile(join(folder, 'ONNX-VIT-B1.LOG'), onnx);
    await writeFile(join(folder, 'onnx-vit-b128.Log.GZ'), gzipSync(onnx));
    await mkdir(join(folder, 'TENSORIR', 'resnet-50-b1-(1, 3, 224, 224)'), { recursive: true });
    await writeFile(join(folder, 'TENSORIR', 'resnet-50-b1-(1, 3, 224, 224)', 'LATENCY.TXT'), '17.5');
    await writeFile(
      join(folder, 'TENSORIR', 'resnet-50-b1-(1, 3, 224, 224)', 'TUNE_TIME_COST.TXT'),
      'Compiler tuning time: 3600 seconds\n',
    );
    execFileSync('tar', ['-cf', join(folder, 'ALL.TAR'), '-C', folder, 'ONNX-VIT-B1.LOG']);
    const entries = await scanLogs(folder);
    expect(entries.map(({ path, model, setting, result }) => [path, model, setting, result?.latencyMs])).toEqual([
      ['ALL.TAR/ONNX-VIT-B1.LOG', 'vit', 'bs1', 3.25],
      ['ONNX-VIT-B1.LOG', 'vit', 'bs1', 3.25],
      ['TENSORIR/resnet-50-b1-(1, 3, 224, 224)/LATENCY.TXT', 'resnet-50', 'bs1', 17.5],
      ['onnx-vit-b128.Log.GZ', 'vit', 'bs128', 3.25],
    ]);
  });

  test('pipes and devices under the names of logs, and links to them, are named and not opened', async () => {
    execFileSync('mkfifo', [join(folder, 'onnx-vit-b1.log')]);
    execFileSync('mkfifo', [join(folder, 'logs.tar.gz')]);
    execFileSync('mkfifo', [join(folder, 'no-log')]);
    await symlink('/dev/zero', join(folder, 'onnx-resnet-50-b1.log'));
    const refused = 'unreadable: it is no regular file';
    expect(await brief()).toEqual([
      ['logs.tar.gz', refused],
      ['onnx-resnet-50-b1.log', refused],
      ['onnx-vit-b1.log', refused],
    ]);
    expect(await brief(join(folder, 'onnx-vit-b1.log'))).toEqual([['onnx-vit-b1.log', refused]]);
  });

  test('links to files and folders are followed, each file once; one to nothing is said', async () => {
    const elsewhere = join(root, 'elsewhere');
    await mkdir(join(elsewhere, 'onnx'), { recursive: true });
    await writeFile(join(elsewhere, 'onnx', 'vit-b1.log'), onnx);
    await writeFile(join(elsewhere, 'resnet'), onnx);
    await writeFile(join(folder, 'vit-b128.log'), onnx);
    await symlink(join(elsewhere, 'onnx'), join(folder, 'linked'));
    await symlink(join(elsewhere, 'onnx'), join(folder, 'linked-again'));
    await symlink(join(elsewhere, 'resnet'), join(folder, 'resnet-50-b1.log'));
    await symlink('vit-b128.log', join(folder, 'the-same.log'));
    await symlink('nowhere', join(folder, 'lost.log'));
    await symlink('..', join(elsewhere, 'onnx', 'up'));
    await symlink('.', join(folder, 'self'));
    expect(await brief()).toEqual([
      ['linked/vit-b1.log', 3.25],
      ['lost.log', expect.stringMatching(/^unreadable: ENOENT/)],
      ['resnet-50-b1.log', 3.25],
      ['vit-b128.log', 3.25],
    ]);
    // The folder that is asked for may be a link itself.
    await symlink(folder, join(root, 'to-folder'));
    expect(await brief(join(root, 'to-folder'))).toHaveLength(4);
  });

  test.each<[string, (text: string) => Buffer]>([
    ['UTF-16, little-endian', (text) => Buffer.from(`\ufeff${text}`, 'utf16le')],
    ['UTF-16, big-endian', (text) => Buffer.from(`\ufeff${text}`, 'utf16le').swap16()],
    ['UTF-8 with a byte order mark', (text) => Buffer.from(`\ufeff${text}`)],
  ])('%s', async (_, encode) => {
    await writeFile(join(folder, 'onnx-vit-b1.log'), encode(onnx.replaceAll('\n', '\r\n')));
    await mkdir(join(folder, 'vit-b1-(1, 3, 224, 224)'));
    await writeFile(join(folder, 'vit-b1-(1, 3, 224, 224)', 'latency.txt'), encode('17.5\r\n'));
    await writeFile(join(folder, 'inductor-resnet50-b1.log.gz'), gzipSync(encode('avg: 1.5 ms\r\n')));
    await mkdir(join(folder, 'amos'));
    await writeFile(join(folder, 'amos', 'empty.log'), encode(''));
    expect(await brief()).toEqual([
      ['amos/empty.log', 'empty'],
      ['inductor-resnet50-b1.log.gz', 1.5],
      ['onnx-vit-b1.log', 3.25],
      ['vit-b1-(1, 3, 224, 224)/latency.txt', 17.5],
    ]);
    // In pieces of one byte as well: the mark and every character are cut.
    const pieces = [...encode(onnx)].map((byte) => Uint8Array.of(byte));
    expect((await parseLog('ONNXRuntime', pieces, 'log')).latencyMs).toBe(3.25);
  });

  test('a log that may not be read is an entry, and the others are read', async () => {
    await cp(new URL('../fixtures/logs/onnxruntime', import.meta.url), join(folder, 'onnxruntime'), { recursive: true });
    // A folder that is swapped for the file when it is opened would do as well; root may read anything.
    await symlink('/proc/self/mem', join(folder, 'onnx-mem.log'));
    expect(await brief()).toEqual([
      ['onnx-mem.log', expect.stringMatching(/^(unreadable|empty)/)],
      ['onnxruntime/resnet-50-b1.log', 3.2109],
    ]);
  });
});

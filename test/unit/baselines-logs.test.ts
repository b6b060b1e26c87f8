/** The parsers on short logs of our own in each system's format: values, reasons, truncation, stray bytes. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { parseAmos } from '../../lib/baselines/systems/amos.js';
import { caseOfLog } from '../../lib/baselines/case-names.js';
import { parseLadder } from '../../lib/baselines/systems/ladder.js';
import { readLines, type LogSource } from '../../lib/baselines/log.js';
import { parseLog, scanLogs, systemOf } from '../../lib/baselines/scan.js';
import { parseTensorIr } from '../../lib/baselines/systems/tensorir.js';
import { parseTensorRt } from '../../lib/baselines/systems/tensorrt.js';
import { parseWelder } from '../../lib/baselines/systems/welder.js';
import { LadderError } from '../../lib/errors.js';
import { random } from '../fixtures/random.js';

const folder = fileURLToPath(new URL('../fixtures/logs', import.meta.url));
const bytes = (path: string): Buffer => readFileSync(join(folder, path));

/** Bytes in pieces of random sizes, as a stream delivers them. */
function* pieces(data: Uint8Array, next: () => number): Generator<Uint8Array> {
  for (let at = 0; at < data.length; ) {
    const size = 1 + Math.floor(next() * 97);
    yield data.subarray(at, at + size);
    at += size;
  }
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(LadderError);
  expect((error as LadderError).code).toBe('BAD_LOG');
  return String((error as LadderError).context.reason);
}

const logs: readonly (readonly [string, string, number])[] = [
  ['AMOS', 'amos/resnet50_b1.log', 1.234567],
  ['TensorIR', 'tensorir/toy-resnet-50-b1-(1, 3, 8, 8)/latency.txt', 17.479014873],
  ['Ladder', 'ladder/llama2-70b_b1_s1_q0_b4.log', 0.4321],
  ['Ladder', 'ladder/Conformer-b1_int8xint4.log', 2.5],
  ['Welder', 'welder/vit_b1_cutlass/run.log', 1.276667],
  ['Roller', 'welder/vit_b1_cutlass/run.log', 1.276667],
  ['ONNXRuntime', 'onnxruntime/resnet-50-b1.log', 3.2109],
  ['TensorRT', 'tensorrt/resnet-50-b1.log', 2.03625],
  ['PyTorch-Inductor', 'pytorch-inductor/llama-70b-layer1-seq1-bs32.log', 1.5678901234],
  ['vLLM', 'vllm/llama_layer1_batch1_seq1_int4.log', 0.654321098],
];

describe('each system', () => {
  test.each(logs)('%s: %s', async (system, path, expected) => {
    const next = random(7);
    for (let i = 0; i < 20; i += 1) {
      const result = await parseLog(system, pieces(bytes(path), next), path);
      expect(result).toMatchObject({ system, latencyMs: expected, complete: true });
    }
  });

  test('AMOS: subgraphs after their last pass, mapped ratio, tuning time', async () => {
    const result = await parseAmos([bytes('amos/resnet50_b1.log')], 'log');
    expect(result.subgraphs).toEqual([
      { taskId: 0, perfMs: 0.000123, trials: 200 },
      { taskId: 1, perfMs: 0.004321, trials: 200 },
      { taskId: 2, perfMs: null, trials: 200 },
    ]);
    expect(result).toMatchObject({ subgraphCount: 4, mappedCount: 3, mappedRatio: 0.75, tuningTimeSeconds: 4567.125, clock: null });
  });

  test('AMOS: the last round counts, and its failure is a failure', async () => {
    const round = (ms: string): string => `Whole graph cost is ${ms} ms\nTime taken:  10.5\n`;
    expect((await parseAmos([round('3.5'), round('2.5')], 'log')).latencyMs).toBe(2.5);
    expect(await reasonOf(parseAmos([round('3.5'), round('10000000000.000000')], 'log'))).toBe('failed');
    // A second result that begins and does not end: the first one is not the last.
    expect(await reasonOf(parseAmos([round('3.5'), 'Whole graph cost is 2.'], 'log'))).toBe('cut short');
    expect(await parseAmos([round('3.5'), 'Whole graph cost is 2.5 ms\n'], 'log')).toMatchObject({
      latencyMs: 2.5,
      tuningTimeSeconds: null,
      complete: false,
    });
  });

  test('Ladder: summary, operators and their shapes', async () => {
    const result = await parseLadder([bytes('ladder/llama2-70b_b1_s1_q0_b4.log')], 'log');
    expect(result).toMatchObject({
      meanMs: 0.4321,
      medianMs: 0.4322,
      maxMs: 0.433,
      minMs: 0.431,
      stdMs: 0.0007,
      range: { lowMs: 0.431, highMs: 0.433 },
    });
    expect(result.checkpointPath).toBe('/models/llama2-70b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async');
    expect(result.operators).toEqual([
      {
        index: 0,
        name: 'tvmgen_toy_norm_0',
        microseconds: 9.25,
        outputs: [
          [1, 1, 8192],
          [1, 1],
        ],
        inputCount: 1,
      },
      { index: 1, name: 'tvmgen_toy_linear_1', microseconds: 28.5, outputs: [[1, 8192]], inputCount: 3 },
    ]);
  });

  test('Welder: iterations and the range; iterations alone are no result', async () => {
    const result = await parseWelder([bytes('welder/vit_b1_cutlass/run.log')], 'log');
    expect(result).toMatchObject({ iterationsMs: [1.25, 1.31, 1.27], range: { lowMs: 1.25, highMs: 1.31 }, clock: 'gpu-events' });
    expect(await reasonOf(parseWelder(['Iteration time 1.250000 ms\n'], 'log'))).toBe('cut short');
  });

  test('TensorRT: the compute time, not the latency with copies nor the total', async () => {
    expect(await parseTensorRt([bytes('tensorrt/resnet-50-b1.log')], 'log')).toMatchObject({
      latencyMs: 2.03625,
      medianMs: 2.04395,
      range: { lowMs: 2.00317, highMs: 2.07565 },
    });
    expect(await reasonOf(parseTensorRt([bytes('tensorrt/shufflenet-b1.log')], 'log'))).toBe('failed');
    expect(await reasonOf(parseTensorRt(['[I] Total GPU Compute Time: 2.99906 s\n'], 'log'))).toBe('no result line');
  });

  test('TensorIR: a bare number needs its line end, or the file that ends the run', async () => {
    expect(await reasonOf(parseTensorIr(['17.479'], 'log'))).toBe('cut short');
    expect(await parseTensorIr(['17.479'], 'log', 536)).toMatchObject({ latencyMs: 17.479, tuningTimeSeconds: 536, complete: true });
    expect(await parseTensorIr(['17.479'], 'log', null, true)).toMatchObject({ latencyMs: 17.479, complete: false });
    expect(await reasonOf(parseTensorIr(['1.5\n2.5\n'], 'log'))).toBe('no result line');
  });
});

describe('logs without a result', () => {
  test.each<readonly [string, string, LogSource, string]>([
    ['nothing', 'vLLM', [], 'empty'],
    ['blanks', 'ONNXRuntime', [' \n\r\n'], 'empty'],
    ['another log', 'PyTorch-Inductor', ['hello\n'], 'no result line'],
    ['a traceback', 'vLLM', ['Traceback (most recent call last):\n  File "x"\nRuntimeError: no GPU\n'], 'failed'],
    ['a number without its unit', 'PyTorch-Inductor', ['avg: 1.5'], 'cut short'],
    ['half a unit', 'ONNXRuntime', ['>> Average time for each run: 3.2109 m'], 'cut short'],
    ['another unit', 'PyTorch-Inductor', ['avg: 1.5 msec\n'], 'no result line'],
    ['not a number', 'PyTorch-Inductor', ['avg: nan ms\n'], 'no result line'],
    ['zero', 'vLLM', ['vllm llama run b1 s1 avg: 0.0 ms\n'], 'no result line'],
    ['a header alone', 'Ladder', [' mean (ms)   median (ms)    max (ms)     min (ms)     std (ms)  \n'], 'cut short'],
    ['four of five', 'Ladder', [' mean (ms)   median (ms)    max (ms)     min (ms)     std (ms)  \n 1.0 1.0 1.0 1.0\n'], 'no result line'],
    [
      'a row without its end',
      'Ladder',
      [' mean (ms)   median (ms)    max (ms)     min (ms)     std (ms)  \n 1.0 1.0 1.0 1.0 0.0'],
      'cut short',
    ],
  ])('%s', async (_, system, source, reason) => {
    expect(await reasonOf(parseLog(system, source, 'log'))).toBe(reason);
  });

  test('a later result that has none leaves no older number', async () => {
    expect(await reasonOf(parseLog('vLLM', ['vllm llama run b1 s1 avg: 1.5 ms\nvllm llama run b1 s1 avg: 0.0 ms\n'], 'log'))).toBe(
      'no result line',
    );
  });
});

/** What 1,000 cuts give; the places follow from the seed. */
const kCutOutcomes: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'AMOS amos/resnet50_b1.log': { result: 17, empty: 6, 'cut short': 977 },
  'TensorIR tensorir/toy-resnet-50-b1-(1, 3, 8, 8)/latency.txt': { empty: 66, 'cut short': 934 },
  'Ladder ladder/llama2-70b_b1_s1_q0_b4.log': { result: 104, empty: 2, 'cut short': 894 },
  'Ladder ladder/Conformer-b1_int8xint4.log': { result: 87, empty: 4, 'cut short': 897, 'no result line': 12 },
  'Welder welder/vit_b1_cutlass/run.log': { result: 12, empty: 5, 'cut short': 983 },
  'Roller welder/vit_b1_cutlass/run.log': { result: 12, empty: 5, 'cut short': 983 },
  'ONNXRuntime onnxruntime/resnet-50-b1.log': { result: 14, empty: 3, 'cut short': 971, 'no result line': 12 },
  'TensorRT tensorrt/resnet-50-b1.log': { result: 107, empty: 2, 'cut short': 891 },
  'PyTorch-Inductor pytorch-inductor/llama-70b-layer1-seq1-bs32.log': { result: 26, empty: 18, 'cut short': 931, 'no result line': 25 },
  'vLLM vllm/llama_layer1_batch1_seq1_int4.log': { result: 29, empty: 18, 'cut short': 953 },
};

describe('damage', () => {
  test.each(logs)('%s cut at 1,000 random places: %s', async (system, path, expected) => {
    const data = bytes(path);
    const next = random(11);
    const outcomes: Record<string, number> = {};
    for (let i = 0; i < 1000; i += 1) {
      const cut = data.subarray(0, Math.floor(next() * data.length));
      try {
        const result = await parseLog(system, pieces(cut, next), path);
        expect(result.latencyMs).toBe(expected);
        outcomes.result = (outcomes.result ?? 0) + 1;
      } catch (error) {
        expect(error).toBeInstanceOf(LadderError);
        const {
          code,
          context: { reason },
        } = error as LadderError;
        expect(code).toBe('BAD_LOG');
        outcomes[String(reason)] = (outcomes[String(reason)] ?? 0) + 1;
      }
    }
    expect(outcomes).toEqual(kCutOutcomes[`${system} ${path}`]);
  });

  test.each(logs)('%s with random bytes changed: %s', async (system, path) => {
    const next = random(13);
    for (let i = 0; i < 300; i += 1) {
      const data = Buffer.from(bytes(path));
      for (let k = 0; k < 8; k += 1) data[Math.floor(next() * data.length)] = Math.floor(next() * 256);
      try {
        const { latencyMs } = await parseLog(system, [data], path);
        expect(Number.isFinite(latencyMs) && latencyMs > 0).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(LadderError);
        expect((error as LadderError).code).toBe('BAD_LOG');
      }
    }
  });

  test('lines: every kind of end, colours, NULs, split characters, lines without end', async () => {
    const collect = async (source: LogSource): Promise<string[]> => {
      const found: string[] = [];
      for await (const line of readLines(source)) found.push(`${line.text}${line.terminated ? '|' : '~'}`);
      return found;
    };
    expect(await collect(['a\nb\r\nc\rd'])).toEqual(['a|', 'b|', '|', 'c|', 'd~']);
    expect(await collect(['\u001b[32mgreen\u001b[0m\0\n'])).toEqual(['green|']);
    expect(await collect([Buffer.from('é').subarray(0, 1), Buffer.from('é').subarray(1), Buffer.from([0xff, 0x0a])])).toEqual(['é\ufffd|']);
    const long = Array.from({ length: 40 }, () => 'x'.repeat(1 << 16));
    expect(await collect([...long, '\nend\n'])).toEqual(['end|']);
  });
});

describe('files', () => {
  test('a folder of logs: systems, cases, results and reasons', async () => {
    const entries = await scanLogs(folder);
    const brief = entries.map((entry) => [
      entry.path.split('/').slice(-2).join('/'),
      entry.system,
      entry.model,
      entry.setting,
      entry.format,
      entry.result?.latencyMs ?? null,
    ]);
    expect(brief).toEqual([
      ['amos/resnet50_b1.log', 'AMOS', 'resnet-50', 'bs1', 'W_FP16 A_FP16', 1.234567],
      ['amos/shufflenet_v2_b1.log', 'AMOS', 'shufflenet-v2', 'bs1', 'W_FP16 A_FP16', null],
      ['ladder/Conformer-b1_int8xint4.log', 'Ladder', 'conformer', 'bs1', 'W_INT4 A_INT8', 2.5],
      ['ladder/llama2-70b_b1_s1_q0_b4.log', 'Ladder', 'llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16', 0.4321],
      ['ladder/shufflenet-b128_int4b.log', 'Ladder', 'shufflenet-v2', 'bs128', 'W_INT4 A_INT4', null],
      ['ladder/vit-b128_fp8_e5m2.log', 'Ladder', 'vit', 'bs128', 'W_FP8 A_FP8', null],
      ['onnxruntime/resnet-50-b1.log', 'ONNXRuntime', 'resnet-50', 'bs1', 'W_FP16 A_FP16', 3.2109],
      ['pytorch-inductor/llama-70b-layer1-seq1-bs32.log', 'PyTorch-Inductor', 'llama2-70b', 'bs32_seq1', 'W_FP16 A_FP16', 1.5678901234],
      ['toy-resnet-50-b1-(1, 3, 8, 8)/latency.txt', 'TensorIR', 'resnet-50', 'bs1', 'W_FP16 A_FP16', 17.479014873],
      ['tensorrt/resnet-50-b1.log', 'TensorRT', 'resnet-50', 'bs1', 'W_FP16 A_FP16', 2.03625],
      ['tensorrt/shufflenet-b1.log', 'TensorRT', 'shufflenet-v2', 'bs1', 'W_FP16 A_FP16', null],
      ['vllm/llama_layer1_batch1_seq1_int4.log', 'vLLM', 'llama2-70b', 'bs1_seq1', 'W_INT4 A_FP16', 0.654321098],
      ['vit_b1_cutlass/run.log', 'Welder', 'vit', 'bs1', 'W_FP16 A_FP16', 1.276667],
    ]);
    const reason = (part: string): unknown => {
      const entry = entries.find((e) => e.path.includes(part));
      return entry?.result === null ? entry.reason : undefined;
    };
    expect(reason('amos/shufflenet')).toMatch(/^failed: .*10000000000/);
    expect(reason('ladder/shufflenet')).toBe('empty');
    expect(reason('ladder/vit')).toMatch(/^failed: toy\.py: error/);
  });

  test('gzip, cut gzip and tar.gz', async () => {
    const scratch = await mkdtemp(join(tmpdir(), 'ladder-logs-'));
    try {
      const amos = bytes('amos/resnet50_b1.log');
      const zipped = gzipSync(amos);
      await writeFile(join(scratch, 'amos_resnet50_b1.log.gz'), zipped);
      await writeFile(join(scratch, 'amos_resnet50_b128.log.gz'), zipped.subarray(0, zipped.length - 60));
      const header = Buffer.alloc(512);
      const onnx = bytes('onnxruntime/resnet-50-b1.log');
      header.write('./resnet-50-b128.log', 0);
      header.write(`${onnx.length.toString(8).padStart(11, '0')}\0`, 124);
      header.write('0', 156);
      header.write('ustar\0', 257);
      header.fill(' ', 148, 156);
      header.write(
        `${header
          .reduce((sum, byte) => sum + byte, 0)
          .toString(8)
          .padStart(6, '0')}\0 `,
        148,
      );
      const tar = Buffer.concat([header, onnx, Buffer.alloc(512 - (onnx.length % 512)), Buffer.alloc(1024)]);
      await writeFile(join(scratch, 'some-logs.tar.gz'), gzipSync(tar));
      const entries = await scanLogs(scratch);
      expect(entries.map((entry) => [entry.path, entry.system, entry.result?.latencyMs ?? null])).toEqual([
        ['amos_resnet50_b1.log.gz', 'AMOS', 1.234567],
        ['amos_resnet50_b128.log.gz', 'AMOS', null],
        ['some-logs.tar.gz/resnet-50-b128.log', 'ONNXRuntime', 3.2109],
      ]);
      expect(entries[1]).toMatchObject({ reason: expect.stringMatching(/^cut short/) as string });
    } finally {
      await rm(scratch, { recursive: true });
    }
  });

  test('the system of a log by its folder, else by its lines', async () => {
    const open = (text: string) => () => [text];
    expect(await systemOf('a/TensorRT/x.log', open(''))).toBe('TensorRT');
    expect(await systemOf('x.log', open('noise\nvllm llama run b1 s1 avg: 1 ms\n'))).toBe('vLLM');
    expect(await systemOf('x.log', open('Inductor avg: 1 ms\n'))).toBe('PyTorch-Inductor');
    expect(await systemOf('x.log', open('noise\n'))).toBeNull();
    expect(await systemOf('x.log', open(''), '/home/amos/logs')).toBe('AMOS');
    expect(await systemOf('x.log', open(''), '/home/my-ladder-project')).toBeNull();
    await expect(scanLogs(join(folder, 'absent'))).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('names', () => {
  test.each([
    ['llama2-70b_b1_s4096_q0_fp_mxfp8.log', 'Ladder', 'llama2-70b', 'bs1_seq4096', 'W_MXFP8 A_MXFP8'],
    ['resnet-50-b128.log', 'Ladder', 'resnet-50', 'bs128', 'W_FP16 A_FP16'],
    ['tensorir/logs/vit-b128-(128, 3, 224, 224)/latency.txt', 'TensorIR', 'vit', 'bs128', 'W_FP16 A_FP16'],
    ['shufflenet_v2_b128.log.gz', 'AMOS', 'shufflenet-v2', 'bs128', 'W_FP16 A_FP16'],
    ['llama2_70b_layer1_seq4096_bs1_cutlass/run.log', 'Welder', 'llama2-70b', 'bs1_seq4096', 'W_FP16 A_FP16'],
    ['bloom_layer1_batch32_seq1_int4.log', 'vLLM', 'bloom-176b', 'bs32_seq1', 'W_INT4 A_FP16'],
    ['vit.log', 'PyTorch-Inductor', 'vit', null, 'W_FP16 A_FP16'],
  ])('log %s', (path, system, model, setting, format) => {
    expect(caseOfLog(path, system)).toEqual({ model, setting, format });
  });
});

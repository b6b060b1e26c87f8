/** The systems' records: what the scan, the bench and the figures derive from them, and what a new one takes. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { logFiles } from '../../lib/baselines/files.js';
import { lastLatency, readLines, type LogResult } from '../../lib/baselines/log.js';
import { parseLog, scanLogs, systemOf } from '../../lib/baselines/scan.js';
import {
  fillOfBars,
  ladder,
  ladderNode,
  loggingSystems,
  runnableSystems,
  systemNamed,
  systems,
} from '../../lib/baselines/systems/index.js';
import type { System } from '../../lib/baselines/systems/system.js';
import { loadFigureSet } from '../../lib/figure8/data.js';
import { references, shortLabel, systemFamily, systemLabel } from '../../lib/figure8/names.js';
import { fillOf, greyOf } from '../../lib/figure8/palette.js';
import { formats } from '../../lib/formats/index.js';

const fixtures = fileURLToPath(new URL('../fixtures/logs', import.meta.url));
const open = (text: string) => () => [text];

describe('lists and orders', () => {
  test('of logs, of what is measured, of references', () => {
    expect(loggingSystems().map(({ label }) => label)).toEqual([
      'AMOS',
      'TensorIR',
      'Ladder',
      'Welder',
      'Roller',
      'ONNXRuntime',
      'TensorRT',
      'PyTorch-Inductor',
      'vLLM',
    ]);
    expect(runnableSystems(false).map(({ id }) => id)).toEqual([
      ...['pytorch-eager', 'pytorch-inductor', 'onnxruntime', 'tensorrt', 'pytorch-fp8', 'pytorch-int4'],
      ...['vendor-fp16', 'vendor-fp8', 'vendor-fp8-fast', 'vendor-int8'],
    ]);
    expect(runnableSystems(true).map(({ id }) => id)).toEqual(['amos', 'tensorir']);
    expect(references).toEqual(['Welder', 'PyTorch-Inductor', 'Ladder']);
  });

  test('names in data and records', () => {
    expect(['ladder.node', 'Bitter', 'LADDER', 'pytorch-inductor', 'vllm', 'unheard-of'].map(systemFamily)).toEqual([
      'Ladder',
      'Ladder',
      'Ladder',
      'PyTorch-Inductor',
      'vLLM',
      'unheard-of',
    ]);
    expect(['ladder.node', 'ladder', 'unheard-of'].map(systemLabel)).toEqual(['Ladder (this package)', 'Ladder', 'unheard-of']);
    expect(['TensorIR', 'AMOS', 'unheard-of'].map(shortLabel)).toEqual(['TIR', 'AMOS', 'unheard-of']);
    const names = systems.all().flatMap(({ id, label, aliases = [] }) => [...new Set([id, label.toLowerCase()]), ...aliases]);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  test('clocks are those that the published data state', () => {
    const { systems: published } = loadFigureSet('paper');
    expect(Object.entries(published).map(([name, { clock }]) => [name, clock])).toEqual(
      Object.keys(published).map((name) => [name, systemNamed(name)?.log?.clock]),
    );
  });

  test('of several systems in a folder’s name the first one wrote its logs', async () => {
    const cases: Readonly<Record<string, string>> = {
      'amos-ladder': 'AMOS',
      'tensorir-vs-ladder': 'TensorIR',
      'bitter-welder': 'Ladder',
      'welder-onnx': 'Welder',
      'roller-trt': 'Roller',
      'onnx-tensorrt': 'ONNXRuntime',
      'trt-pytorch': 'TensorRT',
      'pytorch-vllm': 'PyTorch-Inductor',
    };
    for (const [folder, system] of Object.entries(cases)) expect(await systemOf(`${folder}/x.log`, open('')), folder).toBe(system);
  });

  test('a weak mark counts on lines that have no other; no line has two strong ones', async () => {
    expect(
      loggingSystems()
        .filter(({ log }) => log.weak)
        .map(({ id }) => id),
    ).toEqual(['pytorch-inductor']);
    expect(await systemOf('x.log', open('vllm llama run b1 s1 avg: 1 ms\n'))).toBe('vLLM');
    expect(await systemOf('x.log', open('avg: 1 ms\n'))).toBe('PyTorch-Inductor');
    const strong = loggingSystems().filter(({ log }) => !log.weak && log.mark !== null);
    const seen = new Set<string>();
    for (const file of await logFiles(fixtures)) {
      for await (const { text } of readLines(file.open())) {
        const marking = strong.filter(({ log }) => log.mark!.test(text)).map(({ label }) => label);
        expect(marking.slice(1), text).toEqual([]);
        for (const label of marking) seen.add(label);
      }
    }
    expect([...seen].sort()).toEqual(['AMOS', 'Ladder', 'ONNXRuntime', 'TensorRT', 'Welder', 'vLLM']);
  });

  test('an unknown system is named with those that there are', async () => {
    await expect(parseLog('Nothing', [], 'log')).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining('AMOS, TensorIR') as string,
    });
    await expect(parseLog('PyTorch-Eager', [], 'log')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await expect(scanLogs(fixtures, { system: 'Nothing' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });
});

describe('fills', () => {
  test('of our records and the authors’ are the same', () => {
    for (const format of ['W_FP16 A_FP16', 'W_INT1 A_INT8']) expect(fillOfBars(ladderNode, format)).toEqual(fillOfBars(ladder, format));
  });

  test('a format, a system that nobody drew before have one', () => {
    formats.add({ ...formats.get('int4'), id: 'toy5', label: 'TOY5' });
    expect(fillOf('Ladder', 'W_TOY5 A_FP16')).toEqual({ color: '#bdbdbd', hatch: 'dots', hatchColor: '#3a3a3a' });
    expect(fillOf('vLLM', 'W_TOY5 A_FP16')).toEqual(fillOf('vLLM', 'W_INT4 A_FP16'));
    expect(fillOf('unheard-of', 'W_FP16 A_FP16')).toEqual({ color: '#bdbdbd', hatch: 'dots', hatchColor: '#3a3a3a' });
    expect(greyOf('Ladder', 'W_INT4 A_FP16')).toEqual({ color: '#dcdcdc', hatch: 'rising', hatchColor: '#8c8c8c' });
  });
});

test('a new system is one record: its logs are found, read and named, its bars have a fill', async () => {
  const toy: System = {
    id: 'toy-system',
    label: 'ToySystem',
    short: 'Toy',
    l2: 'cold',
    bars: {
      fill: { color: '#123456', hatch: 'grid', hatchColor: '#ffffff' },
      byFormat: [{ weight: 'int4', activation: 'int8', fill: { color: '#654321', hatch: 'none', hatchColor: '#ffffff' } }],
    },
    log: {
      folder: /toysys/i,
      mark: /^toy result/,
      clock: 'gpu-events',
      file: { name: 'toy.out', telling: true, beside: ['toy.notes'] },
      formatsOf: (stem) => (stem.endsWith('_w4a8') ? { weight: 'int4', activation: 'int8' } : null),
      async parse(source, name, { sibling }): Promise<LogResult> {
        const notes = sibling('toy.notes');
        return {
          system: 'ToySystem',
          latencyMs: await lastLatency('ToySystem', source, name, /^toy result (\S+) ms/, /^toy/),
          clock: 'gpu-events',
          range: null,
          complete: notes !== null,
        };
      },
      remarks: ({ complete }) => (complete ? ['with notes'] : []),
    },
  };
  systems.add(toy);
  const scratch = await mkdtemp(join(tmpdir(), 'ladder-toy-'));
  try {
    await mkdir(join(scratch, 'resnet50_b1_w4a8'));
    await writeFile(join(scratch, 'resnet50_b1_w4a8', 'toy.out'), 'toy result 1.5 ms\n');
    await writeFile(join(scratch, 'resnet50_b1_w4a8', 'toy.notes'), 'anything\n');
    await writeFile(join(scratch, 'vit_b128.log'), 'toy result 2.5 ms\n');
    expect(await scanLogs(scratch)).toEqual([
      {
        path: 'resnet50_b1_w4a8/toy.out',
        system: 'ToySystem',
        model: 'resnet-50',
        setting: 'bs1',
        format: 'W_INT4 A_INT8',
        result: { system: 'ToySystem', latencyMs: 1.5, clock: 'gpu-events', range: null, complete: true },
      },
      {
        path: 'vit_b128.log',
        system: 'ToySystem',
        model: 'vit',
        setting: 'bs128',
        format: null,
        result: { system: 'ToySystem', latencyMs: 2.5, clock: 'gpu-events', range: null, complete: false },
      },
    ]);
    expect([fillOf('ToySystem', 'W_INT4 A_INT8').color, fillOf('toy-system', 'W_FP16 A_FP16').color]).toEqual(['#654321', '#123456']);
    expect([systemLabel('toy-system'), shortLabel('toy-system')]).toEqual(['ToySystem', 'Toy']);
  } finally {
    await rm(scratch, { recursive: true });
  }
});

test('no system, model or format is named outside its record', async () => {
  const source = async (path: string): Promise<string> =>
    (await readFile(new URL(`../../lib/${path}`, import.meta.url), 'utf8')).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  for (const path of [
    'artifact/names.ts',
    'run/names.ts',
    'run/ceilings.ts',
    'baselines/scan.ts',
    'baselines/case-names.ts',
    'baselines/files.ts',
    'figure8/entries.ts',
    'figure8/figure-model.ts',
    'figure8/names.ts',
    'figure8/palette.ts',
    'figure8/compare-table.ts',
    'figure8/finish.ts',
    'cli/bench-end.ts',
    'cli/bench.ts',
    'cli/baselines.ts',
  ]) {
    expect(await source(path), path).not.toMatch(
      /W_[A-Z]+\d|llama2-|bloom-|resnet-50|shufflenet|conformer|int4|nf4|fp8_e|'(?:Welder|PyTorch-Inductor|TensorIR|AMOS|vLLM)'/i,
    );
  }
});

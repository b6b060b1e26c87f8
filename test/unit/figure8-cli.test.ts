/** `ladder baselines`, `compare` and `plot` as they are typed: output, exit status, JSON. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Command as Program } from 'commander';
import { baselinesCommand } from '../../lib/cli/baselines.js';
import { compareCommand } from '../../lib/cli/compare.js';
import { exitCodes, type CliIo, type ExitCode } from '../../lib/cli/command.js';
import { plotCommand } from '../../lib/cli/plot.js';
import { makeRecord, measuredCases } from './figure8-records.js';

const logs = fileURLToPath(new URL('../fixtures/logs', import.meta.url));
let scratch = '';
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'figure8-cli-'));
});
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true });
});

/** Runs one command; errors are thrown on. */
async function ladder(...args: string[]): Promise<{ out: string; notes: string; exit: ExitCode }> {
  const result: { out: string; notes: string; exit: ExitCode } = { out: '', notes: '', exit: exitCodes.ok };
  const io: CliIo = {
    out: (text) => {
      result.out += `${text}\n`;
    },
    note: (text) => {
      result.notes += `${text}\n`;
    },
    progress: () => undefined,
    endProgress: () => undefined,
    columns: null,
    signal: new AbortController().signal,
    exit: (code) => {
      result.exit = code;
    },
  };
  const program = new Program('ladder').exitOverride().configureOutput({ writeErr: () => undefined });
  for (const command of [baselinesCommand, compareCommand, plotCommand]) command.register(program, io);
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    (error as { output?: unknown }).output = result.out;
    throw error;
  }
  return result;
}

test('baselines: a table, JSON, one log, a wrong system, no logs', async () => {
  const { out, notes } = await ladder('baselines', logs);
  for (const part of [
    '2.036',
    '75.0 %',
    '1.3 h',
    '2 operators',
    'failed: it prints its value for failure',
    'empty',
    'gpu-compute',
    'tuned 0.1 h',
  ])
    expect(out).toContain(part);
  expect(notes).toContain('9 logs with a result, 4 without');
  const entries = JSON.parse((await ladder('baselines', logs, '--json')).out) as { system: string }[];
  expect(entries).toHaveLength(13);
  expect((await ladder('baselines', join(logs, 'vllm/llama_layer1_batch1_seq1_int4.log'))).out).toContain('vLLM');
  await expect(ladder('baselines', logs, '--system', 'Nothing')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  await expect(ladder('baselines', scratch)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
});

test('compare: a verdict, a refusal after the table, --force, JSON', async () => {
  const files = { a: join(scratch, 'a.json'), b: join(scratch, 'b.json') };
  const raw = (ms: number): number[] => Array.from({ length: 20 }, (_, i) => ms + i * 1e-4);
  await writeFile(files.a, JSON.stringify(makeRecord({ latencyMs: 0.5, rawMs: raw(0.5) })));
  await writeFile(files.b, JSON.stringify(makeRecord({ latencyMs: 0.6, rawMs: raw(0.6) })));
  expect((await ladder('compare', files.a, files.b)).out).toMatch(/1\.20×.*faster/);
  expect((await ladder('compare', files.a, files.a)).out).toContain('ambiguous');

  await writeFile(files.b, JSON.stringify(makeRecord({ latencyMs: 0.6, rawMs: raw(0.6), l2: 'cold' })));
  const refused: unknown = await ladder('compare', files.a, files.b).then(
    () => null,
    (error: unknown) => error,
  );
  expect(refused).toMatchObject({ code: 'NOT_COMPARABLE', output: expect.stringContaining('L2: hot / cold') as string });
  expect((await ladder('compare', files.a, files.b, '--force')).out).toMatch(/1\.20×.*faster/);
  const [titles, row] = (await ladder('compare', files.a, files.b, '--force', '--csv')).out.split('\r\n').map((line) => line.split(','));
  expect(Number(row![titles!.indexOf('A over B')])).toBeCloseTo(1.2, 6);
  await expect(ladder('compare', files.a, files.b, '--json', '--csv')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  const json = await ladder('compare', files.a, files.b, '--json');
  expect([json.exit, (JSON.parse(json.out) as { refused: number }).refused]).toEqual([exitCodes.failed, 1]);
  expect((await ladder('compare', 'paper', 'artifact')).out).toContain('Geometric means by model: LLAMA');
  // Logs do not say their GPU.
  await expect(ladder('compare', join(logs, 'onnxruntime'), 'artifact')).rejects.toMatchObject({ code: 'NOT_COMPARABLE' });
  expect((await ladder('compare', join(logs, 'onnxruntime'), 'artifact', '--log-gpu', 'NVIDIA A100 80GB PCIe')).out).toContain('0.98×');
});

test('compare across GPUs: our record against the paper by fractions of the rooflines', async () => {
  const file = join(scratch, 'h100.json');
  const roofline = {
    bytes: 1.7112e9,
    flops: 1.7112e9,
    bytesPerSecond: 2.85e12,
    flopsPerSecond: 2.85e12,
    ceilingBytesPerSecond: 3.1e12,
    ceilingFlopsPerSecond: null,
    fraction: 0.92,
  };
  await writeFile(file, JSON.stringify(makeRecord({ latencyMs: 0.6, roofline })));
  // 0.92 here, 0.8582 of the data sheet's rate there.
  expect((await ladder('compare', file, 'paper')).out).toMatch(
    /92\.0 % of ceiling \(measured\).*85\.8 % of ceiling \(data sheet\).*1\.07× of roofline/,
  );
});

test('plot: the files, and what cannot be drawn', { timeout: 120_000 }, async () => {
  // A format that the figure has not is in the tables alone.
  const other = makeRecord({ format: 'W_INT4 A_FP16 g128', latencyMs: 0.17, date: '2099-01-01T00:00:00Z' });
  await writeFile(join(scratch, 'records.json'), JSON.stringify([...measuredCases(), other]));
  // Broken ones are passed over, with a word, whether alone in a file or among others.
  const broken = join(scratch, 'broken');
  await mkdir(broken);
  await writeFile(join(broken, 'cut.json'), JSON.stringify(other).slice(0, 300));
  await writeFile(join(broken, 'older.json'), '{"schema":"ladder-record/1","system":"x"}');
  const results = [join(scratch, 'records.json'), broken];
  const { out, notes } = await ladder('plot', '--reproduce', '--results', ...results, '--out', join(scratch, 'out'), '--json');
  expect(notes).toMatch(/passed over: .*cut\.json is not JSON/);
  expect(notes).toMatch(/passed over: .*older\.json: systemVersion/);
  const { files } = JSON.parse(out) as { files: string[] };
  for (const name of ['end2end_a100', 'end2end_h100'])
    for (const kind of ['svg', 'png', 'pdf']) expect(files).toContain(join(scratch, 'out', kind, `${name}.${kind}`));
  expect(files.every((file) => existsSync(file))).toBe(true);
  const svg = await readFile(join(scratch, 'out', 'svg', 'end2end_h100.svg'), 'utf8');
  expect(svg).toContain('data-format="W_INT4 A_FP16"');
  expect(svg).not.toMatch(/g128|2099/);
  expect(await readFile(join(scratch, 'out', 'tables', 'measured-with-this-package.csv'), 'utf8')).toContain('W_INT4 A_FP16 g128');
  await expect(ladder('plot', '--reproduce', '--artifact')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  await expect(ladder('plot', '--out', join(scratch, 'out'), '--results', join(scratch, 'absent.json'))).rejects.toMatchObject({
    code: 'IO',
  });
});

// The vendor library's products as ceilings, with a stand-in for the GPU: which are measured, the file and how it resumes,
// and where chart, report and terminal show them. The real library: test/gpu/baselines.test.ts.
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cublasLtAvailable, libraryCeilings, type MatmulMeasurer } from '../../lib/baselines/adapters/cublaslt.js';
import {
  arithmeticRate,
  ceilingsFileName,
  denseShapes,
  parseCeilings,
  productsFor,
  type LibraryCeilings,
} from '../../lib/baselines/ceilings.js';
import { renderCeilings } from '../../lib/cli/bench-end.js';
import { LadderError } from '../../lib/errors.js';
import { entryOfRecord, loadCeilings } from '../../lib/figure8/entries.js';
import { finishBench } from '../../lib/figure8/finish.js';
import { underLibrary } from '../../lib/figure8/ceilings.js';
import { makeRecord } from './figure8-records.js';

// Words and SVG are what is read here; a report's PNG and PDF, most of its time, are tested in figure8-picture.test.ts.
vi.mock('../../lib/figure8/output.js', async () => ({ writePicture: (await import('../fixtures/pictures.js')).writeSvg }));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ladder-ceilings-'));
  // Not the machine's Python: it is only asked for its library.
  vi.stubEnv('LADDER_CUBLASLT', '/nowhere/libcublasLt.so.13');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

it.each(['null', '{"a": 1}', '[1, 2]', 'a wrapper speaks', ''])('a Python that prints %j for its path has no library', async (text) => {
  const python = join(folder, 'python');
  writeFileSync(python, `#!/bin/sh\nprintf '%s\\n' '${text}'\n`);
  chmodSync(python, 0o755);
  vi.stubEnv('LADDER_CUBLASLT', '');
  vi.stubEnv('LADDER_PYTHON', python);
  const library = fakeLibrary();
  expect(await cublasLtAvailable(0, library)).toEqual({ ok: true, version: '130000' });
  expect(library.calls).toEqual(['0 32×256×256 fp16 null']);
});

const settings = ['bs1_seq1', 'bs32_seq1', 'bs1_seq4096'];
const formats = ['W_FP16 A_FP16', 'W_INT4 A_FP16', 'W_NF4 A_FP16', 'W_FP8 A_FP8', 'W_MXFP8 A_MXFP8', 'W_INT1 A_INT8'];
const device = makeRecord({}).device;

/** A library of version 130000 that reaches 500 TFLOP/s in FP16 and twice that in FP8, and has no INT8. */
function fakeLibrary(version = 130000): MatmulMeasurer & { calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    measureMatmul: (ordinal, { m, n, k, type, library }) => {
      calls.push(`${ordinal} ${m}×${n}×${k} ${type} ${library}`);
      if (type === 'int8') return Promise.reject(new LadderError('UNSUPPORTED', 'cuBLASLt has no int8 algorithm'));
      const flopsPerSecond = type === 'fp16' ? 5e14 : 1e15;
      return Promise.resolve({
        ms: (2e3 * m * n * k) / flopsPerSecond,
        flopsPerSecond,
        bytesPerSecond: 1e12,
        algorithms: 8,
        samples: 50,
        libraryVersion: version,
        weightCopies: 1,
      });
    },
    deviceState: () => ({
      smClockMHz: 1500,
      memoryClockMHz: 2600,
      maxSmClockMHz: 1980,
      temperatureC: 50,
      powerW: 690,
      throttleReasons: ['sw_power_cap'],
    }),
  };
}

describe('products', () => {
  it('cover every matrix weight of the decoder layers', () => {
    const weights = (model: string): number =>
      denseShapes()
        .filter((shape) => shape.model === model)
        .reduce((sum, { n, k }) => sum + n * k, 0);
    expect(weights('llama2-70b')).toBe(855_638_016);
    expect(weights('bloom-176b')).toBe(2_466_250_752);
  });

  it('are what models, settings and formats call for, each once', () => {
    const all = productsFor(['llama2-70b', 'bloom-176b'], settings, formats);
    const of = (m: number, type: string): number => all.filter((product) => product.m === m && product.type === type).length;
    expect([of(1, 'fp16'), of(32, 'fp8_e4m3'), of(1, 'int8'), of(4096, 'fp16')]).toEqual([8, 8, 8, 8]);
    // For the ceiling alone: the largest of each model.
    expect(all.filter(({ m, type }) => m === 4096 && type === 'int8').map(({ shape }) => shape.name)).toEqual(['gate_up', 'up']);
    expect(all).toHaveLength(8 * 2 * 3 + 8 + 2 * 2);
    expect(productsFor(['llama2-70b'], ['bs1_seq1'], ['W_INT4 A_FP16']).map(({ shape, m, type }) => `${shape.name} ${m} ${type}`)).toEqual([
      'qkv 1 fp16',
      'o 1 fp16',
      'gate_up 1 fp16',
      'down 1 fp16',
    ]);
    expect(productsFor(['resnet-50'], ['bs1'], formats)).toEqual([]);
    expect(productsFor(['llama2-70b'], ['bs128'], formats)).toEqual([]);
  });
});

describe('the file', () => {
  const products = productsFor(['llama2-70b'], ['bs1_seq1', 'bs1_seq4096'], ['W_FP16 A_FP16', 'W_INT1 A_INT8']);

  it('says what was measured, where, and what the library lacks; what it has is not measured again', async () => {
    const library = fakeLibrary();
    const seen: string[] = [];
    const { ceilings, measured } = await libraryCeilings(products, folder, device, {
      ordinal: 1,
      measurer: library,
      onProgress: (_, detail) => seen.push(detail),
    });
    expect(measured).toBe(products.length);
    expect(seen[0]).toBe('llama2-70b qkv 1×10240×8192 fp16');
    expect(library.calls[0]).toBe('1 32×256×256 fp16 /nowhere/libcublasLt.so.13');
    const path = join(folder, ceilingsFileName);
    expect(parseCeilings(readFileSync(path, 'utf8'), path)).toEqual(ceilings);
    expect(await loadCeilings(folder)).toEqual({ ceilings: [ceilings], remarks: [] });
    expect(ceilings).toMatchObject({ libraryVersion: 130000, device: { name: 'NVIDIA H100 80GB HBM3' } });
    expect(ceilings.products[0]).toMatchObject({
      m: 1,
      type: 'fp16',
      result: { flopsPerSecond: 5e14 },
      reason: null,
      stateAfter: { throttleReasons: ['sw_power_cap'] },
    });
    expect(ceilings.products.find(({ type }) => type === 'int8')).toMatchObject({ result: null, reason: 'cuBLASLt has no int8 algorithm' });

    const again = fakeLibrary();
    expect(await libraryCeilings(products, folder, device, { measurer: again })).toEqual({ ceilings, measured: 0 });
    expect(again.calls).toHaveLength(1);
    expect((await libraryCeilings(products, folder, device, { measurer: again, again: true })).measured).toBe(products.length);
    // More products: only those are measured.
    const more = await libraryCeilings([...products, ...productsFor(['bloom-176b'], ['bs1_seq1'], ['W_FP16 A_FP16'])], folder, device, {
      measurer: again,
    });
    expect([more.measured, more.ceilings.products.length]).toEqual([4, products.length + 4]);
  });

  it('of another library, GPU, driver or addon, or broken, begins anew; dates and commits say nothing', async () => {
    const { ceilings } = await libraryCeilings(products, folder, device, { measurer: fakeLibrary() });
    const path = join(folder, ceilingsFileName);
    const changes: object[] = [
      { libraryVersion: 120000 },
      { device: { ...device, name: 'NVIDIA H200' } },
      { device: { ...device, driverVersion: '1.0' } },
      { addon: 'other' },
      { addon: undefined },
      { schema: 'ladder-cublaslt/0' },
    ];
    writeFileSync(path, JSON.stringify({ ...ceilings, commit: 'other', date: '2020-01-01T00:00:00.000Z' }));
    expect((await libraryCeilings(products, folder, device, { measurer: fakeLibrary() })).measured).toBe(0);
    for (const change of changes) {
      writeFileSync(path, JSON.stringify({ ...ceilings, ...change }));
      expect((await libraryCeilings(products, folder, device, { measurer: fakeLibrary() })).measured, JSON.stringify(change)).toBe(
        products.length,
      );
    }
    expect(() => parseCeilings(JSON.stringify({ ...ceilings, products: [{ m: 1 }] }), 'x')).toThrow(
      expect.objectContaining({ code: 'BAD_RECORD' }) as Error,
    );
  });

  it('keeps what was measured before an abort or an error', async () => {
    const abort = new AbortController();
    const stop = (fraction: number): void => {
      if (fraction > 0) abort.abort();
    };
    await expect(
      libraryCeilings(products, folder, device, { measurer: fakeLibrary(), signal: abort.signal, onProgress: stop }),
    ).rejects.toMatchObject({ code: 'ABORTED' });
    expect((await loadCeilings(folder)).ceilings[0]?.products).toHaveLength(2);
    expect((await libraryCeilings(products, folder, device, { measurer: fakeLibrary() })).measured).toBe(products.length - 2);
  });

  it('is not begun where the library cannot be used', async () => {
    const absent: MatmulMeasurer = {
      measureMatmul: () => Promise.reject(new LadderError('UNSUPPORTED', 'cuBLASLt could not be loaded')),
      deviceState: () => null,
    };
    expect(await cublasLtAvailable(0, absent)).toEqual({ ok: false, reason: 'cuBLASLt could not be loaded' });
    await expect(libraryCeilings(products, folder, device, { measurer: absent })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'cuBLASLt could not be loaded',
    });
    expect(existsSync(join(folder, ceilingsFileName))).toBe(false);
  });
});

describe('as a ceiling', () => {
  const measure = async (): Promise<LibraryCeilings> =>
    (await libraryCeilings(productsFor(['llama2-70b'], settings, formats), folder, device, { measurer: fakeLibrary() })).ceilings;
  const roofline = {
    bytes: 1e9,
    flops: 1e11,
    bytesPerSecond: 1e12,
    flopsPerSecond: 1e14,
    ceilingBytesPerSecond: 2e12,
    ceilingFlopsPerSecond: null,
    fraction: 0.5,
  };

  it('the best rate at many rows counts, by the type that a format is multiplied in', async () => {
    const ceilings = await measure();
    expect([
      arithmeticRate(ceilings, 'W_NF4 A_FP16'),
      arithmeticRate(ceilings, 'W_MXFP8 A_MXFP8'),
      arithmeticRate(ceilings, 'W_INT1 A_INT8'),
    ]).toEqual([5e14, 1e15, null]);
    expect(arithmeticRate({ ...ceilings, products: ceilings.products.filter(({ m }) => m < 4096) }, 'W_FP16 A_FP16')).toBeNull();
  });

  it('a record of the same GPU stands under it, others as they were', async () => {
    const ceilings = await measure();
    const entry = entryOfRecord(makeRecord({ roofline: { ...roofline, flopsPerSecond: 4e14 } }), 'r.json');
    expect(underLibrary(entry, [ceilings]).roofline).toMatchObject({
      ceilingFlopsPerSecond: 5e14,
      fraction: 0.8,
      ceilings: 'measured, cuBLASLt',
    });
    expect(underLibrary(entry, [])).toBe(entry);
    expect(underLibrary(entry, [{ ...ceilings, device: { ...device, name: 'NVIDIA H200' } }])).toBe(entry);
    const newer = { ...ceilings, date: '2099-01-01T00:00:00.000Z', products: [] };
    expect(underLibrary(entry, [ceilings, newer])).toBe(entry);
    const integer = entryOfRecord(makeRecord({ format: 'W_INT1 A_INT8', roofline }), 'r.json');
    expect(underLibrary(integer, [ceilings])).toBe(integer);
  });

  it('chart, report and terminal show it', { timeout: 120_000 }, async () => {
    const ceilings = await measure();
    writeFileSync(
      join(folder, 'record.json'),
      JSON.stringify(makeRecord({ setting: 'bs32_seq1', roofline: { ...roofline, flopsPerSecond: 4e14 } })),
    );
    const out = join(folder, 'out');
    await finishBench({ out, results: [folder] });
    const chart = readFileSync(join(out, 'svg', 'roofline_h100.svg'), 'utf8');
    expect(chart).toContain('400 TOP/s of 500 TOP/s');
    expect(chart).toContain('cuBLASLt');
    const report = readFileSync(join(out, 'report.html'), 'utf8');
    expect(report).toContain('products of the dense layers');
    expect(report).toContain('80.0 % (measured, cuBLASLt)');
    const table = renderCeilings(ceilings);
    expect(table).toMatch(/llama2-70b +gate_up +4096×57344×8192 +fp8_e4m3 +3\.848 +1\.00 POP\/s +1\.00 TB\/s +sw_power_cap/);
    expect(table).toContain('cuBLASLt has no int8 algorithm');
  });
});

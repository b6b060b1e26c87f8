/** The drawn figures: numbers read back from the SVG, geometry, marks, colours, files, and the report's independence. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test, vi } from 'vitest';
import { makeAxis, position, type Segment } from '../../lib/figure8/axis.js';
import { drawEnd2End } from '../../lib/figure8/end2end.js';
import { entryOfRecord, loadSet } from '../../lib/figure8/entries.js';
import type { Entry } from '../../lib/figure8/entry.js';
import { publishedFigure, reproducedFigure } from '../../lib/figure8/figure-model.js';
import { finishBench } from '../../lib/figure8/finish.js';
import { gpuSlug } from '../../lib/figure8/names.js';
import { drawIntensity } from '../../lib/figure8/intensity-chart.js';
import { drawOperators, parseProfile } from '../../lib/figure8/operators-chart.js';
import { writePicture } from '../../lib/figure8/output.js';
import { fillOf } from '../../lib/figure8/palette.js';
import { escapeHtml } from '../../lib/figure8/report.js';
import { formatLabel, layoutText, plainText, textWidth } from '../../lib/figure8/text.js';
import { writeSvg } from '../fixtures/pictures.js';
import { makeRecord } from './figure8-records.js';
import { measuredCases } from './figure8-records.js';

vi.mock('../../lib/figure8/output.js', { spy: true });

interface DrawnBar {
  readonly data: Readonly<Record<string, string>>;
  readonly rects: readonly { readonly y: number; readonly height: number }[];
  readonly segments: readonly Segment[];
}

const decode = (text: string): string =>
  text
    .replace(/&quot;/g, '"')
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&amp;/g, '&');
const attributesOf = (tag: string): Record<string, string> =>
  Object.fromEntries([...tag.matchAll(/([\w-]+)="([^"]*)"/g)].map((m) => [m[1], decode(m[2] ?? '')]));

/** Bars with their data attributes, their rectangles, and their panel's axis, from the text of the SVG alone. */
function readBars(svg: string): DrawnBar[] {
  return svg
    .split('<g class="panel"')
    .slice(1)
    .flatMap((panel) => {
      const segments = JSON.parse(attributesOf(panel.slice(0, panel.indexOf('>')))['data-axis'] ?? '[]') as Segment[];
      return panel
        .split('<g class="bar"')
        .slice(1)
        .map((part): DrawnBar => {
          const body = part.slice(0, part.indexOf('</g>'));
          const rects = [...body.matchAll(/<rect [^>]*fill="none"[^>]*>/g)]
            .map((m) => attributesOf(m[0]))
            .map((a) => ({ y: Number(a.y), height: Number(a.height) }));
          return { data: attributesOf(part.slice(0, part.indexOf('>'))), rects, segments };
        });
    });
}

const find = (entries: readonly Entry[], data: Readonly<Record<string, string>>): Entry | undefined =>
  entries.find(
    (e) =>
      e.system === data['data-system'] &&
      e.format === data['data-format'] &&
      e.model === data['data-model'] &&
      e.setting === data['data-setting'],
  );

describe.each(['paper', 'artifact'] as const)('Figure 8, %s', (name) => {
  test.each([false, true])('every bar says its number and is as tall as it (values: %s)', async (values) => {
    const entries = await loadSet(name);
    const bars = readBars(drawEnd2End(publishedFigure(entries, 'x'), 'f', { values }).toString());
    expect(bars).toHaveLength(entries.filter((entry) => entry.latencyMs !== null && entry.system !== 'Welder').length);
    for (const { data, rects, segments } of bars) {
      const entry = find(entries, data);
      const welder = entries.find((e) => e.system === 'Welder' && e.model === data['data-model'] && e.setting === data['data-setting']);
      expect(Math.abs(Number(data['data-latency-ms']) - (entry?.latencyMs ?? Number.NaN))).toBeLessThanOrEqual(1e-9);
      const speedUp = (welder?.latencyMs ?? Number.NaN) / (entry?.latencyMs ?? Number.NaN);
      expect(Math.abs(Number(data['data-value']) - speedUp)).toBeLessThanOrEqual(1e-9);
      expect(data['data-clock']).toBe(entry?.clock ?? 'not stated');
      // The drawn height, through the panel's own axis: to the picture's rounding, 1/100 unit.
      const top = Math.min(...rects.map((rect) => rect.y));
      const bottom = Math.max(...rects.map((rect) => rect.y + rect.height));
      expect(Math.abs(top - position({ segments, ticks: [] }, speedUp))).toBeLessThanOrEqual(0.0101);
      expect(Math.abs(bottom - (segments[0]?.bottom ?? 0))).toBeLessThanOrEqual(0.0201);
      expect(rects).toHaveLength(segments.filter((segment) => segment.from === 0 || speedUp > segment.from).length);
    }
  });

  test('places without a value are marked in red with what could not', async () => {
    const svg = drawEnd2End(publishedFigure(await loadSet(name), 'x'), 'f').toString();
    const labels = [...svg.matchAll(/<g class="label"[^>]*>/g)]
      .map((m) => attributesOf(m[0]))
      .filter((a) => a['data-role'] === 'unsupported');
    expect(labels.map((a) => a['data-text'])).toEqual([
      'AMOS/TIR Not Support',
      'AMOS/TIR Not Support',
      'AMOS Not Support',
      'AMOS Not Support',
    ]);
    expect(new Set(labels.map((a) => a.fill))).toEqual(new Set(['#c1121f']));
    expect([...svg.matchAll(/class="missing"/g)]).toHaveLength(6);
  });
});

test('rates against intensities leave out what has no arithmetic, and give a single power of ten room', async () => {
  const rated = (await loadSet('paper')).filter(({ roofline }) => roofline !== null).slice(0, 2) as Entry[];
  const [idle, busy] = rated.map(
    (entry, i): Entry => ({
      ...entry,
      roofline: {
        ...entry.roofline!,
        flopsPerSecond: i * 1e12,
        bytesPerSecond: 1e12,
        ceilingBytesPerSecond: 1e12,
        ceilingFlopsPerSecond: null,
      },
    }),
  ) as [Entry, Entry];
  expect(drawIntensity([idle], 'f', 'x')).toBeNull();
  const svg = drawIntensity([idle, busy], 'f', 'x')!.toString();
  expect(svg.match(/class="point"/g)).toHaveLength(1);
  expect(svg).not.toMatch(/NaN|Infinity/);
});

test('the first panels of LLAMA and BLOOM are broken, the others are not; each has a line at 1', async () => {
  const svg = drawEnd2End(publishedFigure(await loadSet('paper'), 'x'), 'f').toString();
  const axes = svg
    .split('<g class="panel"')
    .slice(1)
    .map((panel) => JSON.parse(attributesOf(panel.slice(0, panel.indexOf('>')))['data-axis'] ?? '[]') as Segment[]);
  expect(axes.map((axis) => axis.length)).toEqual([2, 1, 1, 2, 1, 1, 1, 1, 1, 1]);
  expect([...svg.matchAll(/class="reference"/g)]).toHaveLength(10);
});

test('letters are outlines: nothing in a picture asks for a font, and no character was missing', async () => {
  const svg = drawEnd2End(publishedFigure(await loadSet('paper'), 'NVIDIA A100'), 'f', { values: true }).toString();
  expect(svg).not.toMatch(/<text|font-family|@font-face/);
  const used = new Set([...svg.matchAll(/<use href="#([^"]+)"/g)].map((m) => m[1]));
  const defined = new Set([...svg.matchAll(/<path id="([^"]+)"/g)].map((m) => m[1]));
  expect([...used].filter((id) => !defined.has(id ?? ''))).toEqual([]);
  expect(layoutText('W_×µ−–±…§·').glyphs).toHaveLength(10);
  expect(plainText(formatLabel('W_INT4 A_FP16'))).toBe('W_INT4A_FP16');
  expect(textWidth(formatLabel('W_INT4 A_FP16'), 10)).toBeLessThan(textWidth('WINT4AFP16', 10));
  // A character that the font lacks is a question mark, not an empty box.
  expect(layoutText('漢').glyphs.map((g) => g.key)).toEqual(layoutText('?').glyphs.map((g) => g.key));
});

describe('measured on this machine', () => {
  test("speed-ups over what was measured here, the paper's bars greyed beside them, empty places with their reason", async () => {
    const paper = await loadSet('paper');
    const own = measuredCases().map((record) => entryOfRecord(record, 'r.json'));
    const figure = reproducedFigure(paper, own, 'x');
    expect(figure.reference).toEqual({ system: 'PyTorch-Inductor', format: 'W_FP16 A_FP16' });
    const svg = drawEnd2End(figure, 'f').toString();
    const bars = readBars(svg);
    const grey = bars.filter((bar) => bar.data['data-greyed'] === 'true');
    const ours = bars.filter((bar) => bar.data['data-greyed'] === 'false');
    const reference = (list: readonly Entry[], data: Readonly<Record<string, string>>): number =>
      list.find((e) => e.family === 'PyTorch-Inductor' && e.model === data['data-model'] && e.setting === data['data-setting'])
        ?.latencyMs ?? Number.NaN;
    for (const { data } of grey)
      expect(
        Math.abs(Number(data['data-value']) - reference(paper, data) / (find(paper, data)?.latencyMs ?? Number.NaN)),
      ).toBeLessThanOrEqual(1e-9);
    for (const { data } of ours)
      expect(Math.abs(Number(data['data-value']) - reference(own, data) / (find(own, data)?.latencyMs ?? Number.NaN))).toBeLessThanOrEqual(
        1e-9,
      );
    expect(grey).toHaveLength(138 - 14);
    expect(ours.map((bar) => `${bar.data['data-system']} ${bar.data['data-setting']} ${bar.data['data-format']}`)).toEqual([
      'pytorch-eager bs1_seq1 W_FP16 A_FP16',
      'ladder.node bs1_seq1 W_FP16 A_FP16',
      'ladder.node bs1_seq1 W_INT4 A_FP16',
      'pytorch-eager bs32_seq1 W_FP16 A_FP16',
      'pytorch-eager bs1_seq4096 W_FP16 A_FP16',
    ]);
    const reasons = new Set([...svg.matchAll(/<g class="missing"[^>]*>/g)].map((m) => attributesOf(m[0])['data-reason']));
    expect(reasons).toEqual(
      new Set(['not measured on this machine', 'failed: out of memory', 'measured, but PyTorch-Inductor was not: no ratio']),
    );
    expect(figure.notes.map((note) => note.reason)).toEqual([...reasons]);
  });

  test('without PyTorch, Ladder FP16 is the reference; without records there is no figure', async () => {
    const paper = await loadSet('paper');
    const own = measuredCases()
      .filter((record) => record.system === 'ladder.node')
      .map((record) => entryOfRecord(record, 'r.json'));
    expect(reproducedFigure(paper, own, 'x').reference.system).toBe('Ladder');
    expect(() => reproducedFigure(paper, [], 'x')).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }) as Error);
  });

  test.each([
    ['NVIDIA H100 80GB HBM3', 'h100'],
    ['NVIDIA A100-80GB-PCIe', 'a100'],
    ['NVIDIA GeForce RTX 4090', 'rtx4090'],
    ['NVIDIA L40S', 'l40s'],
    ['NVIDIA H200', 'h200'],
    ['Tesla V100-SXM2-32GB', 'v100'],
    ['???', 'gpu'],
  ])('%s is %s in a file name', (gpu, slug) => {
    expect(gpuSlug(gpu)).toBe(slug);
  });
});

test('axes: zero at the bottom, room above the tallest, a break only for towers', () => {
  const plain = makeAxis([0.5, 1, 2], 100, 0);
  expect(plain.segments).toHaveLength(1);
  expect([position(plain, 0), position(plain, 2)]).toEqual([100, 4]);
  const broken = makeAxis([1, 2, 9], 100, 0);
  expect(broken.segments).toHaveLength(2);
  expect(position(broken, 2)).toBeGreaterThan(position(broken, 9));
  expect(position(broken, 9)).toBeGreaterThanOrEqual(4 - 1e-9);
  const ticks = broken.ticks.map((tick) => position(broken, tick));
  expect([...ticks].sort((a, b) => b - a)).toEqual(ticks);
  expect(makeAxis([], 100, 0).segments).toHaveLength(1);
});

/** Linear RGB of a colour as seen with a missing cone (Machado et al. 2009, severity 1), in CIE L*a*b*. */
function seen(color: string, matrix: readonly (readonly number[])[]): number[] {
  const linear = [1, 3, 5]
    .map((i) => Number.parseInt(color.slice(i, i + 2), 16) / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  const rgb = matrix.map((row) =>
    Math.min(
      1,
      Math.max(
        0,
        row.reduce((sum, k, i) => sum + k * (linear[i] ?? 0), 0),
      ),
    ),
  );
  const toXyz = [
    [0.4124, 0.3576, 0.1805],
    [0.2126, 0.7152, 0.0722],
    [0.0193, 0.1192, 0.9505],
  ];
  const [x = 0, y = 0, z = 0] = toXyz
    .map((row, i) => row.reduce((sum, k, j) => sum + k * (rgb[j] ?? 0), 0) / [0.9505, 1, 1.089][i]!)
    .map((t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const distance = (a: readonly number[], b: readonly number[]): number => Math.hypot(...a.map((value, i) => value - (b[i] ?? 0)));

test('no two fills of a row look alike, with full or reduced colour vision', async () => {
  const visions = {
    full: [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ],
    protanopia: [
      [0.152286, 1.052583, -0.204868],
      [0.114503, 0.786281, 0.099216],
      [-0.003882, -0.048116, 1.051998],
    ],
    deuteranopia: [
      [0.367322, 0.860646, -0.227968],
      [0.280085, 0.672501, 0.047413],
      [-0.01182, 0.04294, 0.968881],
    ],
    tritanopia: [
      [1.255528, -0.076749, -0.178779],
      [-0.078411, 0.930809, 0.147602],
      [0.004733, 0.691367, 0.3039],
    ],
  };
  for (const row of publishedFigure(await loadSet('paper'), 'x').rows) {
    const fills = row.legend.map(({ system, format }) => ({ name: `${system} ${format}`, ...fillOf(system, format) }));
    for (const [vision, matrix] of Object.entries(visions)) {
      // Where colours come near (2.3 is a just noticeable difference), the hatches differ.
      const alike = fills.flatMap((a, i) =>
        fills
          .slice(i + 1)
          .filter(({ hatch, color }) => hatch === a.hatch && distance(seen(a.color, matrix), seen(color, matrix)) < 10)
          .map((b) => `${a.name} and ${b.name}`),
      );
      expect(alike, vision).toEqual([]);
    }
  }
});

test('profiles of `ladder profile --json`, and what is none', () => {
  const json = JSON.stringify({
    operators: Array.from({ length: 40 }, (_, i) => ({ node: `op_${i}`, medianMs: (i + 1) / 1000 })),
    device: { name: 'GPU', kind: 'cuda' },
    totalMs: 1,
  });
  const svg = drawOperators(parseProfile(json, 'x'), 'p').toString();
  expect([...svg.matchAll(/class="bar"/g)]).toHaveLength(30);
  expect(svg).toContain('11 other operators');
  for (const bad of ['{', '{}', '{"operators":[],"device":{"name":"x"}}'])
    expect(() => parseProfile(bad, 'x')).toThrow(expect.objectContaining({ code: 'BAD_RECORD' }) as Error);
});

test('the end of a bench: files, report and comparison, without records and with them', { timeout: 120_000 }, async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'figure8-'));
  try {
    const plain = await finishBench({ out: join(scratch, 'a'), results: [], reproduce: true });
    const names = plain.files.map((file) => file.slice(join(scratch, 'a').length + 1));
    expect(names.slice(0, 3)).toEqual(['svg/end2end_a100.svg', 'png/end2end_a100.png', 'pdf/end2end_a100.pdf']);
    expect(names.at(-1)).toBe('report.html');
    expect(plain.reproduced).toBeNull();
    for (const word of ['AMOS', 'TensorIR', 'ResNet', 'ShuffleNet', 'vLLM', 'host-copies', 'not stated', '3852 min', '96.21'])
      expect(plain.text).toContain(word);
    expect((await sharp(join(scratch, 'a/png/end2end_a100.png')).metadata()).width).toBe(2400);
    const pdf = (await readFile(join(scratch, 'a/pdf/end2end_a100.pdf'))).toString('latin1');
    // Vectors and outlines: neither a picture nor a font inside.
    expect(pdf.startsWith('%PDF-')).toBe(true);
    expect(pdf).not.toMatch(/\/Subtype\s*\/Image|\/FontFile|\/BaseFont/);
    const html = await readFile(plain.html, 'utf8');
    expect(html).toContain("default-src 'none'");
    expect(html.replace(/xmlns="http:\/\/www\.w3\.org\/2000\/svg"/g, '')).not.toMatch(/https?:|src=|url\(|@import/);

    await writeFile(join(scratch, 'records.json'), JSON.stringify(measuredCases()));
    await writeFile(
      join(scratch, 'evil.json'),
      JSON.stringify(makeRecord({ status: 'failed', latencyMs: null, reason: '<script>alert(1)</script>', format: 'W_NF4 A_FP16' })),
    );
    // figure8-cli.test.ts has these as PNG and PDF.
    vi.mocked(writePicture).mockImplementation(writeSvg);
    const measured = await finishBench({
      out: join(scratch, 'b'),
      results: [join(scratch, 'records.json'), join(scratch, 'evil.json')],
      reproduce: true,
    });
    expect(measured.reproduced).toBe('end2end_h100');
    expect(measured.text).toContain('NVIDIA H100 80GB HBM3');
    const page = await readFile(measured.html, 'utf8');
    expect(page).toContain('&lt;script&gt;alert');
    expect(page).not.toContain('<script>alert');
    expect(page).toContain('records.json');
    await expect(finishBench({ out: join(scratch, 'c'), results: [], gpu: 'b200' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  } finally {
    await rm(scratch, { recursive: true });
  }
});

test('escaping', () => {
  expect(escapeHtml(`<a href="x">&'</a>`)).toBe('&lt;a href=&quot;x&quot;&gt;&amp;&#39;&lt;/a&gt;');
});

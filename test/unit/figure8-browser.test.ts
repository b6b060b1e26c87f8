/**
 * The figures as a browser renders them: no label overlaps another or leaves the picture, by boxes and by pixels. Needs
 * Chromium (CHROMIUM names it; default /usr/bin/chromium) and is skipped, saying so, where there is none.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import sharp from 'sharp';
import { loadFigureSet, loadLadderOperators } from '../../lib/figure8/data.js';
import { drawEnd2End } from '../../lib/figure8/end2end.js';
import { entriesOfSet, entryOfRecord } from '../../lib/figure8/entries.js';
import { publishedFigure, reproducedFigure } from '../../lib/figure8/figure-model.js';
import { drawIntensity } from '../../lib/figure8/intensity-chart.js';
import { drawOperators, publishedProfile } from '../../lib/figure8/operators-chart.js';
import { numberCell, reportHtml } from '../../lib/figure8/report.js';
import { drawRoofline } from '../../lib/figure8/roofline-chart.js';
import { Picture } from '../../lib/figure8/svg.js';
import { measuredCases } from './figure8-records.js';

const chromium = process.env.CHROMIUM ?? '/usr/bin/chromium';
const present = existsSync(chromium);
if (!present) console.log(`skipped: no Chromium at ${chromium}; CHROMIUM names another`);

const scale = 2;
let scratch = '';

/** Runs Chromium without a network on a page of ours. */
async function render(html: string, ...args: string[]): Promise<string> {
  const page = join(scratch, 'page.html');
  await writeFile(page, html);
  const profile = await mkdtemp(join(scratch, 'profile-'));
  const run = spawnSync(
    chromium,
    [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--hide-scrollbars',
      `--force-device-scale-factor=${scale}`,
      `--user-data-dir=${profile}`,
      ...args,
      `file://${page}`,
    ],
    { encoding: 'utf8', timeout: 60_000, maxBuffer: 64 << 20 },
  );
  if (run.status !== 0) throw new Error(`chromium ended with ${run.status}: ${run.stderr.slice(-500)}`);
  return run.stdout;
}

const page = (picture: Picture, style: string, script: string): string =>
  `<!doctype html><meta charset="utf-8"><style>html,body{margin:0;background:#fff}svg{display:block}${style}</style>${picture.toString()}<script>${script}</script>`;

interface Box {
  readonly text: string;
  readonly role: string;
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** The boxes of all labels, from the browser's own layout. */
async function labelBoxes(picture: Picture): Promise<Box[]> {
  const script = `document.body.innerHTML = '<pre>' + JSON.stringify([...document.querySelectorAll('.label')].map((e) => {
    const b = e.getBoundingClientRect();
    return { text: e.dataset.text, role: e.dataset.role, left: b.left, top: b.top, right: b.right, bottom: b.bottom };
  })).replace(/&/g, '&amp;').replace(/</g, '&lt;') + '</pre>'`;
  const dom = await render(page(picture, '', script), '--dump-dom');
  const json = /<pre>(.*)<\/pre>/s.exec(dom)?.[1] ?? '[]';
  return JSON.parse(json.replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&')) as Box[];
}

/** Pairs of boxes that share more than `slack` units both ways. */
function overlaps(boxes: readonly Box[], slack = 0.2): string[] {
  return boxes.flatMap((a, i) =>
    boxes
      .slice(i + 1)
      .filter(
        (b) =>
          Math.min(a.right, b.right) - Math.max(a.left, b.left) > slack && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > slack,
      )
      .map((b) => `${a.role} "${a.text}" and ${b.role} "${b.text}"`),
  );
}

/**
 * The darkest grey when nothing but labels is drawn, each at half strength: letters alone give 127 or lighter, two
 * labels over each other 64.
 */
async function darkestLabelPixel(picture: Picture): Promise<number> {
  const style = 'rect{visibility:hidden} path[stroke]{visibility:hidden} .label{fill:#000 !important;opacity:.5}';
  const file = join(scratch, 'labels.png');
  await render(page(picture, style, ''), `--screenshot=${file}`, `--window-size=${Math.ceil(picture.width)},${Math.ceil(picture.height)}`);
  const { data, info } = await sharp(file).removeAlpha().greyscale().raw().toBuffer({ resolveWithObject: true });
  expect(info.width).toBe(Math.ceil(picture.width) * scale);
  return data.reduce((least, value) => Math.min(least, value), 255);
}

const paper = entriesOfSet(loadFigureSet('paper'));
const artifact = entriesOfSet(loadFigureSet('artifact'));
const own = measuredCases().map((record) => entryOfRecord(record, 'r.json'));
const caption = 'NVIDIA A100-80GB-PCIe. Values plotted in the paper (OSDI 2024, Figure 8); each system timed by its own clock.';
const pictures: readonly (readonly [string, () => Picture | null])[] = [
  ['Figure 8', () => drawEnd2End(publishedFigure(paper, caption), 'f')],
  ['Figure 8 with values', () => drawEnd2End(publishedFigure(paper, caption), 'f', { values: true })],
  ['Figure 8 of the artifact', () => drawEnd2End(publishedFigure(artifact, caption), 'f')],
  ['Figure 8 of the artifact with values', () => drawEnd2End(publishedFigure(artifact, caption), 'f', { values: true })],
  ['Figure 8 measured here', () => drawEnd2End(reproducedFigure(paper, own, caption), 'f')],
  ['Figure 8 measured here with values', () => drawEnd2End(reproducedFigure(paper, own, caption), 'f', { values: true })],
  [
    'roofline',
    () =>
      drawRoofline(
        paper.filter((entry) => entry.system === 'Ladder'),
        'f',
        `${caption} ${caption}`,
      ),
  ],
  [
    'rates against intensities',
    () =>
      drawIntensity(
        paper.filter((entry) => entry.system === 'Ladder'),
        'f',
        `${caption} ${caption}`,
      ),
  ],
  [
    'operators',
    () => drawOperators(publishedProfile(loadLadderOperators(), 'llama2-70b', 'llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async'), 'f'),
  ],
  [
    '186 operators',
    () => drawOperators(publishedProfile(loadLadderOperators(), 'vit', 'vit-b1_fq_0_fp_e5m2_8_ci_False_holistic_fp16'), 'f'),
  ],
];

describe.skipIf(!present)('in Chromium', () => {
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'figure8-'));
  });
  afterAll(async () => {
    await rm(scratch, { recursive: true, force: true });
  });

  test('the check itself: two labels over each other are found', { timeout: 60_000 }, async () => {
    const bad = new Picture('bad', 100, 40, 'two labels');
    bad.text(bad.root, 'Ladder', 10, 20, { size: 12 });
    bad.text(bad.root, 'Welder', 14, 21, { size: 12 });
    expect(overlaps(await labelBoxes(bad))).toHaveLength(1);
    expect(await darkestLabelPixel(bad)).toBeLessThan(80);
  });

  test.each(pictures)('%s: no label overlaps another or leaves the picture', { timeout: 120_000 }, async (_, draw) => {
    const picture = draw();
    if (picture === null) throw new Error('nothing was drawn');
    const boxes = await labelBoxes(picture);
    expect(boxes).toHaveLength([...picture.toString().matchAll(/<g class="label"/g)].length);
    expect(overlaps(boxes)).toEqual([]);
    expect(boxes.filter((box) => box.left < 0 || box.top < 0 || box.right > picture.width || box.bottom > picture.height)).toEqual([]);
    expect(await darkestLabelPixel(picture)).toBeGreaterThan(110);
  });

  test.each([390, 1280, 1920])(
    'report.html: no sideways scroll at %i px; contents lead to what there is',
    { timeout: 60_000 },
    async (pixels) => {
      const long = 'checkpoints/Figure8/ladder/checkpoint/llama2-70b/llama2_fq_0_int_4_-1_bs1_seq1_ci_False_async';
      const html = reportHtml({
        title: long,
        summary: [long],
        figures: [{ picture: drawEnd2End(publishedFigure(paper, caption), 'f'), title: 'A figure', caption: long, links: ['svg/a.svg'] }],
        tables: [{ title: 'A table', note: long, columns: Array(20).fill('column'), rows: [Array(20).fill({ text: long })] }],
      });
      await writeFile(join(scratch, 'report.html'), html);
      // A frame: a window has a least width of its own.
      const script = `addEventListener('load', () => {
      const { documentElement: root } = frames[0].document;
      const anchors = [...frames[0].document.querySelectorAll('nav a')].map((a) => frames[0].document.getElementById(a.hash.slice(1)).textContent);
      document.body.innerHTML = '<pre>' + [root.clientWidth, root.scrollWidth, ...anchors].join(' ') + '</pre>';
    })`;
      const frame = `<!doctype html><style>iframe{border:0;width:${pixels}px;height:900px}</style><iframe src="report.html"></iframe><script>${script}</script>`;
      expect(await render(frame, '--allow-file-access-from-files', '--dump-dom')).toContain(
        `<pre>${pixels} ${pixels} A figure A table</pre>`,
      );
    },
  );

  test('report.html: a click on a column sorts by its numbers, the next one turns round', { timeout: 60_000 }, async () => {
    const html = reportHtml({
      title: 'r',
      summary: [],
      figures: [],
      tables: [
        {
          title: 't',
          note: '',
          columns: ['name', 'ms'],
          rows: [
            ['b', 10],
            ['a', 9.5],
            ['c', 0.1],
          ].map(([name, ms]) => [{ text: String(name) }, numberCell(Number(ms))]),
        },
      ],
    });
    const script = `const order = () => [...document.querySelectorAll('tbody tr')].map((row) => row.cells[0].textContent).join('');
      const click = (i) => { document.querySelectorAll('th button')[i].click(); return order() + document.querySelectorAll('th')[i].ariaSort; };
      document.body.innerHTML = '<pre>' + [order(), click(1), click(1), click(0)].join(' ') + '</pre>';`;
    expect(await render(html.replace('</body>', `<script>${script}</script></body>`), '--dump-dom')).toContain(
      '<pre>bac cabascending bacdescending abcascending</pre>',
    );
  });
});

/**
 * The trade-off of formats: the error of a model's output against its latency, or, where there are no records of it, against the bits that
 * a weight takes. One point per format, in the fill of its bar; a line goes through those that no other format beats in both.
 */
import type { QualityReport } from '../compiler/types.js';
import { modelLabel, subject } from './names.js';
import { fillOf, hatchedRect } from './palette.js';
import { coordinate, ink, Picture } from './svg.js';
import { textWidth, wrapText } from './text.js';

const width = 480;
const plot = { left: 48, right: 466, top: 12, bottom: 262 };
const mark = 7;
const size = { tick: 10, label: 10.5, point: 9.5, note: 9 };

/** Formats with their latencies in ms; null: there is no record. */
export interface QualityChart {
  readonly report: QualityReport;
  readonly latencies: ReadonlyMap<string, number>;
  /** Where the latencies are from, e.g. `H100 80GB HBM3, bs1_seq1`. */
  readonly source: string;
}

interface Point {
  readonly label: string;
  readonly across: number;
  readonly error: number;
}

/** A step that gives at most eight ticks. */
function stepFor(span: number): number {
  const power = 10 ** Math.floor(Math.log10(span / 8));
  return [1, 2, 5, 10].map((unit) => unit * power).find((step) => span / step <= 8)!;
}

/** 1, 2 and 5 times powers of ten around the numbers, with some room. */
function ticksAround(least: number, most: number): readonly number[] {
  const all = Array.from({ length: 24 }, (_, i) => [1, 2, 5][i % 3]! * 10 ** (Math.floor(i / 3) - 6));
  const first = all.findLastIndex((tick) => tick <= least / 1.05);
  const last = all.findIndex((tick) => tick >= most * 1.02);
  return all.slice(Math.max(0, first), last < 0 ? undefined : last + 1);
}

interface At {
  readonly x: number;
  readonly y: number;
}

/** Labels right of their points and of those that are close, each on a line of its own. */
function placed<P extends Point & { readonly at: At }>(points: readonly P[]): readonly (P & { readonly text: At })[] {
  const [near, line] = [28, size.point + 1];
  const lines: { readonly from: number; readonly to: number; readonly y: number }[] = [];
  return [...points]
    .sort((a, b) => a.at.y - b.at.y)
    .map((point) => {
      const group = points.filter(({ at }) => Math.abs(at.x - point.at.x) < near && Math.abs(at.y - point.at.y) < near);
      const width = textWidth(point.label, size.point);
      const right = Math.max(...group.map(({ at }) => at.x)) + mark + 2;
      const left = right + width > plot.right ? Math.min(...group.map(({ at }) => at.x)) - mark - 2 - width : right;
      let base = point.at.y + 3;
      const isTaken = (): boolean =>
        lines.some((one) => one.from < left + width && left < one.to && Math.abs(one.y - base) < line) ||
        points.some(({ at }) => left - mark < at.x && at.x < left + width + mark && Math.abs(at.y - base + 3) < line);
      while (isTaken()) base += 1;
      lines.push({ from: left, to: left + width, y: base });
      return { ...point, text: { x: left, y: base } };
    });
}

/** The points that none beats in both. */
function undominated(points: readonly Point[]): readonly Point[] {
  return points
    .filter((one) => !points.some((other) => other !== one && other.across <= one.across && other.error <= one.error))
    .sort((a, b) => a.across - b.across);
}

/** Draws the chart. @param id keeps its glyphs apart @returns null where no format has an error */
export function drawQuality({ report, latencies, source }: QualityChart, id: string): Picture | null {
  const lossy = report.formats.filter(({ outputError }) => outputError > 0);
  const timed = lossy.filter(({ label }) => latencies.has(label));
  const byLatency = timed.length > 1;
  const points = (byLatency ? timed : lossy).map(
    (one): Point => ({
      label: one.label,
      across: byLatency ? latencies.get(one.label)! : one.bitsPerWeight,
      error: one.outputError,
    }),
  );
  if (points.length === 0) return null;
  const exact = report.formats.find(({ outputError }) => outputError === 0);
  const exactAcross = exact && (byLatency ? latencies.get(exact.label) : exact.bitsPerWeight);
  const to = 1.12 * Math.max(...points.map(({ across }) => across), exactAcross ?? 0);
  const errors = points.map(({ error }) => error);
  const ticks = ticksAround(Math.min(...errors), Math.max(...errors));
  const [least, most] = [ticks[0]!, ticks.at(-1)!];
  const x = (across: number): number => plot.left + ((plot.right - plot.left) * across) / to;
  const y = (error: number): number => plot.bottom - ((plot.bottom - plot.top) * Math.log(error / least)) / Math.log(most / least);
  const caption = `${modelLabel(report.model)}: error of the output against the same model in FP16, by the reference; ${byLatency ? source : 'no latency of it is in the records'}. The line: formats that none beats in both.`;
  const notes = wrapText(caption, width - 8, size.note);
  const picture = new Picture(
    id,
    width,
    plot.bottom + 40 + 11 * notes.length,
    `Formats: error against ${byLatency ? 'latency' : 'size'}. ${caption}`,
  );
  const { root } = picture;
  const step = stepFor(to);
  for (let i = 0; i * step <= to; ++i) {
    picture.line(root, x(i * step), plot.top, x(i * step), plot.bottom, '#dedede', 0.5);
    picture.text(root, String(Number((i * step).toPrecision(3))), x(i * step), plot.bottom + 12, {
      size: size.tick,
      anchor: 'middle',
      role: 'tick',
    });
  }
  for (const tick of ticks) {
    picture.line(root, plot.left, y(tick), plot.right, y(tick), '#dedede', 0.5);
    picture.text(root, `${Number((100 * tick).toPrecision(1))} %`, plot.left - 4, y(tick) + 3.5, {
      size: size.tick,
      anchor: 'end',
      role: 'tick',
    });
  }
  picture.text(root, byLatency ? 'latency, ms' : 'bits per weight', (plot.left + plot.right) / 2, plot.bottom + 26, {
    size: size.label,
    anchor: 'middle',
    role: 'axis',
  });
  picture.text(root, 'error of the output, relative L2', 11, (plot.top + plot.bottom) / 2, {
    size: size.label,
    anchor: 'middle',
    rotate: -90,
    role: 'axis',
  });
  picture.line(root, plot.left, plot.bottom, plot.right, plot.bottom, ink, 0.8);
  picture.line(root, plot.left, plot.top, plot.left, plot.bottom, ink, 0.8);
  if (exact && exactAcross !== undefined) {
    picture.line(root, x(exactAcross), plot.top, x(exactAcross), plot.bottom, '#c1121f', 0.9, '3 2');
    picture.text(root, exact.label, x(exactAcross) - 3, plot.top + 8, {
      size: size.point,
      anchor: 'end',
      fill: '#c1121f',
      role: 'reference',
    });
  }
  const front = undominated(points);
  if (front.length > 1)
    root
      .append('path')
      .attr('d', `M${front.map(({ across, error }) => `${coordinate(x(across))} ${coordinate(y(error))}`).join('L')}`)
      .attr('stroke', '#8c8c8c')
      .attr('stroke-width', 0.8)
      .attr('fill', 'none');
  for (const { label, across, error, at, text } of placed(points.map((one) => ({ ...one, at: { x: x(one.across), y: y(one.error) } })))) {
    const point = root
      .append('g')
      .attr('class', 'point')
      .attr('data-label', label)
      .attr('data-value', String(error))
      .attr('data-across', String(across));
    point
      .append('title')
      .text(`${label}: ${(100 * error).toPrecision(3)} % at ${across.toPrecision(4)} ${byLatency ? 'ms' : 'bits per weight'}`);
    picture.line(point, at.x, at.y, text.x - 2, text.y - 3, '#8c8c8c', 0.5);
    hatchedRect(picture, point, { x: at.x - mark / 2, y: at.y - mark / 2, width: mark, height: mark }, fillOf(subject, label), 0.5, 2.4);
    picture.text(point, label, text.x, text.y, { size: size.point, role: 'label' });
  }
  notes.forEach((line, i) => picture.text(root, line, 4, plot.bottom + 45 + 11 * i, { size: size.note, fill: '#4a4a4a', role: 'note' }));
  return picture;
}

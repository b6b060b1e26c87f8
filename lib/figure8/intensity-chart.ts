/**
 * The classical roofline: rate of arithmetic against its intensity, both logarithmic, under the roof of bandwidth and the flat
 * roofs of the arithmetic. One point per checkpoint, in the fill of its bar. (Williams, Waterman and Patterson, 2009.)
 */
import { formatRate } from '../table.js';
import { decades } from './axis.js';
import { ratedEntries } from './ceilings.js';
import { seriesLabel } from './end2end.js';
import type { Entry } from './entry.js';
import { describeSource, modelLabel, settingLabel } from './names.js';
import { fillOf, hatchedRect } from './palette.js';
import { ink, Picture } from './svg.js';
import { wrapText } from './text.js';

const width = 480;
const plot = { left: 46, right: 458, top: 12, bottom: 222 };
/** Measured ceilings that differ by less are drawn as one roof, the highest. */
const kSameRoof = 1.15;
const mark = 7;
const size = { tick: 10, label: 10.5, note: 9 };

/**
 * Draws the points of entries that stand under ceilings; others are passed over, and those of no arithmetic or no bytes, which have no
 * place on logarithmic axes.
 * @returns null when none does
 */
export function drawIntensity(entries: readonly Entry[], id: string, caption: string): Picture | null {
  const points = ratedEntries(entries)
    .filter(({ roofline }) => roofline.flopsPerSecond > 0 && roofline.bytesPerSecond > 0)
    .map((entry) => ({
      entry,
      ...entry.roofline,
      intensity: entry.roofline.flopsPerSecond / entry.roofline.bytesPerSecond,
    }));
  if (points.length === 0) return null;
  const bandwidth = Math.max(...points.map(({ ceilingBytesPerSecond }) => ceilingBytesPerSecond));
  const roofs: number[] = [];
  for (const { ceilingFlopsPerSecond: roof } of [...points].sort((p, q) => (q.ceilingFlopsPerSecond ?? 0) - (p.ceilingFlopsPerSecond ?? 0)))
    if (roof !== null && roof * kSameRoof < (roofs.at(-1) ?? Infinity)) roofs.push(roof);
  const [xs, ys] = [
    decades(points.map(({ intensity }) => intensity)),
    decades([...points.map(({ flopsPerSecond }) => flopsPerSecond), ...roofs]),
  ];
  const x = (intensity: number): number => plot.left + ((plot.right - plot.left) * (Math.log10(intensity) - xs.from)) / (xs.to - xs.from);
  const y = (rate: number): number => plot.bottom - ((plot.bottom - plot.top) * (Math.log10(rate) - ys.from)) / (ys.to - ys.from);

  const series = [...new Map(points.map(({ entry }) => [`${entry.family}|${entry.format}`, entry])).values()];
  const perRow = 3;
  const legendTop = plot.bottom + 40;
  const notesTop = legendTop + 13 * Math.ceil(series.length / perRow) + 4;
  const notes = wrapText(caption, width - 8, size.note);
  const picture = new Picture(
    id,
    width,
    notesTop + 11 * notes.length + 3,
    `Roofline: rate of arithmetic against its intensity. ${caption}`,
  );
  const { root } = picture;
  for (let power = xs.from; power <= xs.to; power += 1) {
    picture.line(root, x(10 ** power), plot.top, x(10 ** power), plot.bottom, '#dedede', 0.5);
    picture.text(root, String(10 ** power), x(10 ** power), plot.bottom + 12, { size: size.tick, anchor: 'middle', role: 'tick' });
  }
  for (let power = ys.from; power <= ys.to; power += 1) {
    picture.line(root, plot.left, y(10 ** power), plot.right, y(10 ** power), '#dedede', 0.5);
    picture.text(root, formatRate(10 ** power, '').replace(/\.0+/, ''), plot.left - 4, y(10 ** power) + 3.5, {
      size: size.tick,
      anchor: 'end',
      role: 'tick',
    });
  }
  picture.text(root, 'operations per byte', (plot.left + plot.right) / 2, plot.bottom + 27, {
    size: size.label,
    anchor: 'middle',
    role: 'axis',
  });
  picture.text(root, 'OP/s', 11, (plot.top + plot.bottom) / 2, { size: size.label, anchor: 'middle', rotate: -90, role: 'axis' });

  // The slope up to the highest roof, or to the edge; each flat roof from where it meets the slope.
  const [left, right] = [10 ** xs.from, 10 ** xs.to];
  const foot = Math.max(left, 10 ** ys.from / bandwidth);
  const knee = Math.min(right, (roofs[0] ?? 10 ** ys.to) / bandwidth);
  picture.line(root, x(foot), y(foot * bandwidth), x(knee), y(knee * bandwidth), '#c1121f', 1.1);
  for (const roof of roofs)
    picture.line(root, x(Math.min(right, Math.max(left, roof / bandwidth))), y(roof), plot.right, y(roof), '#c1121f', 0.9);
  picture.line(root, plot.left, plot.bottom, plot.right, plot.bottom, ink, 0.8);
  picture.line(root, plot.left, plot.top, plot.left, plot.bottom, ink, 0.8);

  for (const { entry, intensity, flopsPerSecond, fraction } of points) {
    const point = root.append('g').attr('class', 'point').attr('data-value', String(fraction));
    point
      .append('title')
      .text(
        `${modelLabel(entry.model)} ${settingLabel(entry.setting)}, ${entry.system} ${entry.format}: ${formatRate(flopsPerSecond, 'OP/s')} at ${intensity.toPrecision(3)} operations per byte, ${(fraction * 100).toFixed(1)} % of its ceiling; ${describeSource(entry)}`,
      );
    const at = { x: x(intensity) - mark / 2, y: y(flopsPerSecond) - mark / 2, width: mark, height: mark };
    hatchedRect(picture, point, at, fillOf(entry.family, entry.format), 0.5, 2.4);
  }
  series.forEach((entry, i) => {
    const at = { x: 12 + ((i % perRow) * width) / perRow, y: legendTop + 13 * Math.floor(i / perRow) };
    hatchedRect(picture, root, { x: at.x - 5, y: at.y - 8, width: 10, height: 8 }, fillOf(entry.family, entry.format), 0.5, 2.4);
    picture.text(root, seriesLabel(entry.system, entry.format), at.x + 8, at.y, { size: size.label, role: 'legend' });
  });
  notes.forEach((line, i) => picture.text(root, line, 4, notesTop + 9 + 11 * i, { size: size.note, fill: '#4a4a4a', role: 'note' }));
  return picture;
}

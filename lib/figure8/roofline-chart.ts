/**
 * The roofline chart: for each checkpoint the rate it achieves (bytes/s where the memory binds it, FLOP/s where the
 * arithmetic does) as a share of that ceiling, with both numbers in words. One bar per checkpoint, grouped by case.
 */
import { formatRate } from '../table.js';
import { boundBy, describeCeilings, ratedEntries } from './ceilings.js';
import type { Entry } from './entry.js';
import { seriesLabel } from './end2end.js';
import { describeSource, modelLabel, settingLabel } from './names.js';
import { fillOf, hatchedRect } from './palette.js';
import { ink, Picture } from './svg.js';
import { capHeight, textWidth, wrapText } from './text.js';

const width = 480;
const rowHeight = 12.5;
const headingHeight = 17;
const size = { label: 10, heading: 10.5, value: 9.5, tick: 10, note: 9 };

/**
 * Draws the roofline chart of entries that stand under ceilings; others are passed over.
 * @returns null when none does
 */
export function drawRoofline(entries: readonly Entry[], id: string, caption: string): Picture | null {
  const bars = ratedEntries(entries);
  const groups = new Map<string, (typeof bars)[number][]>();
  for (const bar of bars) {
    const key = `${modelLabel(bar.model)} ${settingLabel(bar.setting)}`;
    groups.set(key, [...(groups.get(key) ?? []), bar]);
  }
  if (groups.size === 0) return null;
  const values = bars.map(({ roofline }) => {
    const memory = boundBy(roofline) === 'memory';
    return memory
      ? `${formatRate(roofline.bytesPerSecond, 'B/s')} of ${formatRate(roofline.ceilingBytesPerSecond, 'B/s')}${roofline.coldL2 ? ', L2 cold' : ''}`
      : `${formatRate(roofline.flopsPerSecond, 'OP/s')} of ${formatRate(roofline.ceilingFlopsPerSecond ?? roofline.flopsPerSecond, 'OP/s')}`;
  });
  const labelWidth = Math.max(...bars.map((bar) => textWidth(seriesLabel(bar.system, bar.format), size.label))) + 10;
  const valueWidth = Math.max(...values.map((value) => textWidth(value, size.value))) + 8;
  const headings = [...groups.keys()].map((heading) => textWidth(heading, size.heading, 'bold'));
  const left = Math.max(labelWidth + 6, ...headings.map((own) => own + 10));
  const right = width - valueWidth - 6;
  const top = 20;
  const bottom = top + groups.size * headingHeight + bars.length * rowHeight + 3;
  const most = Math.max(1, ...bars.map((bar) => bar.roofline.fraction));
  const x = (share: number): number => left + ((right - left) * share) / most;
  const notes = wrapText(caption, width - 8, size.note);
  const picture = new Picture(id, width, bottom + 32 + 11 * notes.length, `Roofline: achieved rates over their ceilings. ${caption}`);
  const root = picture.root;
  for (let tick = 0; tick <= most + 1e-9; tick += 0.25) {
    picture.line(root, x(tick), top, x(tick), bottom, '#dedede', 0.5);
    picture.text(root, `${Math.round(tick * 100)} %`, x(tick), bottom + 11, { size: size.tick, anchor: 'middle', role: 'tick' });
  }
  let y = top;
  for (const [heading, members] of groups) {
    picture.text(root, heading, 4, y + headingHeight - 4.5, { size: size.heading, weight: 'bold', role: 'heading' });
    y += headingHeight;
    for (const bar of members) {
      const middle = y + rowHeight / 2;
      picture.text(root, seriesLabel(bar.system, bar.format), left - 6, middle + (size.label * capHeight) / 2, {
        size: size.label,
        anchor: 'end',
        role: 'label',
      });
      const group = root
        .append('g')
        .attr('class', 'bar')
        .attr('data-model', bar.model)
        .attr('data-setting', bar.setting)
        .attr('data-system', bar.system)
        .attr('data-format', bar.format)
        .attr('data-value', String(bar.roofline.fraction))
        .attr('data-bound', boundBy(bar.roofline))
        .attr('data-gpu', bar.gpu ?? 'not stated');
      group
        .append('title')
        .text(
          `${bar.roofline.coldL2 ? (bar.coldMs ?? bar.latencyMs) : bar.latencyMs} ms: ${(bar.roofline.fraction * 100).toFixed(1)} % of the ${boundBy(bar.roofline)} ceiling (${describeCeilings(bar.roofline)}); ${describeSource(bar)}`,
        );
      hatchedRect(
        picture,
        group,
        { x: left, y: y + 1.6, width: Math.max(0.5, x(bar.roofline.fraction) - left), height: rowHeight - 3.2 },
        fillOf(bar.family, bar.format),
        0.4,
        4,
      );
      picture.text(root, values[bars.indexOf(bar)] ?? '', width - 4, middle + (size.value * capHeight) / 2, {
        size: size.value,
        anchor: 'end',
        role: 'value',
      });
      y += rowHeight;
    }
  }
  picture.line(root, left, top, left, bottom, ink, 0.8);
  picture.line(root, x(1), top - 4, x(1), bottom, '#c1121f', 1.1);
  picture.text(root, 'ceiling', x(1), top - 7, { size: size.tick, weight: 'bold', anchor: 'middle', fill: '#c1121f', role: 'ceiling' });
  picture.text(root, 'achieved over ceiling', (left + right) / 2, bottom + 23, { size: size.label, anchor: 'middle', role: 'axis' });
  notes.forEach((line, i) => picture.text(root, line, 4, bottom + 37 + 11 * i, { size: size.note, fill: '#4a4a4a', role: 'note' }));
  return picture;
}

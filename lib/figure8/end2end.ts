/**
 * Draws Figure 8: two rows of bar charts, speed-up over the reference with a dashed line at 1, axes broken where a bar
 * towers, one legend per row, red marks where a system has no value. Laid out for one column of a paper: 480 units wide,
 * two units to the point; twice that where every bar carries its value or a grey companion.
 * Each bar carries its numbers as data attributes.
 */
import { kPlainLabel } from '../artifact/names.js';
import { makeAxis, position, type Axis } from './axis.js';
import type { Figure, FigureBar, FigureGroup, FigurePanel, FigureRow, FigureSlot } from './figure-model.js';
import { clockLabel, describeSource, modelLabel, settingLabel, shortLabel, subject, systemFamily } from './names.js';
import { fillOf, greyed, greyOf, hatchedRect } from './palette.js';
import { coordinate, ink, Picture, type Node } from './svg.js';
import { capHeight, formatLabel, runsOf as labelRuns, textWidth, wrapText, type Label } from './text.js';

const red = '#c1121f';
const size = { tick: 10.5, group: 10.5, caption: 12, legend: 10.5, axis: 11, mark: 9.5, value: 8.5, note: 9 };
const margin = { left: 16, right: 4, top: 6, bottom: 5 };
const plotHeight = { published: 112, paired: 150 };
const panelGap = 5;
/** Width of empty places that hold an upright red text. */
const textSlot = 11.5;

export interface End2EndOptions {
  /** Print each bar's speed-up above it. */
  readonly values?: boolean;
}

/** A system and format as legends spell it. */
export function seriesLabel(system: string, format: string): Label {
  const family = systemFamily(system);
  if (family !== subject && format === kPlainLabel) return family;
  return [{ text: `${family} ` }, ...formatLabel(format)];
}

interface Layout {
  readonly pitch: number;
  readonly paired: boolean;
  readonly values: boolean;
  readonly wide: boolean;
}

const isText = (slot: FigureSlot): boolean => slot.missing?.kind === 'unsupported';

/** Neighbouring slots; those that hold one red text together are one run. */
function runsOf(group: FigureGroup): FigureSlot[][] {
  const runs: FigureSlot[][] = [];
  for (const slot of group.slots) {
    const last = runs.at(-1);
    if (isText(slot) && last?.[0] !== undefined && isText(last[0])) last.push(slot);
    else runs.push([slot]);
  }
  return runs;
}

/** Pitches, and units of fixed width, that a panel needs. */
function demand(panel: FigurePanel): { pitches: number; fixed: number } {
  let [pitches, fixed] = [0.6 + (panel.groups.length - 1) * 1.6, 0];
  for (const run of panel.groups.flatMap(runsOf)) {
    if (run[0] !== undefined && isText(run[0])) fixed += textSlot;
    else pitches += run.length;
  }
  return { pitches, fixed };
}

const barsOf = (panel: FigurePanel): readonly FigureBar[] => panel.groups.flatMap((group) => group.slots.flatMap((slot) => slot.bars));

/** Legends in centred lines; returns their height. */
function drawLegend(picture: Picture, row: FigureRow, figure: Figure, top: number): number {
  const swatch = 13;
  const items: { label: Label; draw: (x: number, y: number) => void }[] = [];
  const referenceName: Label =
    figure.reference.system === subject
      ? [...labelRuns(seriesLabel(subject, figure.reference.format)), { text: ' = 1' }]
      : `${figure.reference.system} = 1`;
  const group = picture.root.append('g').attr('class', 'legend');
  items.push({
    label: referenceName,
    draw: (x, y) => {
      picture.line(group, x, y + 4.5, x + swatch, y + 4.5, ink, 1, '3 2');
    },
  });
  if (figure.paired)
    items.push({
      label: 'paper, on its A100',
      draw: (x, y) => {
        hatchedRect(picture, group, { x, y, width: swatch, height: 9 }, greyed);
      },
    });
  for (const { system, format } of row.legend) {
    items.push({
      label: seriesLabel(system, format),
      draw: (x, y) => {
        hatchedRect(picture, group, { x, y, width: swatch, height: 9 }, fillOf(systemFamily(system), format));
      },
    });
  }
  const widths = items.map((item) => swatch + 4 + textWidth(item.label, size.legend));
  const space = 11;
  const room = picture.width - margin.left - margin.right;
  // Columns, so that the lines align: the most that fit.
  let columns = items.length;
  const columnWidths = (count: number): number[] =>
    Array.from({ length: count }, (_, c) => Math.max(...widths.filter((__, i) => i % count === c)));
  while (columns > 1 && columnWidths(columns).reduce((sum, w) => sum + w + space, -space) > room) columns -= 1;
  // As many lines as that takes, evenly filled.
  columns = Math.ceil(items.length / Math.ceil(items.length / columns));
  const fitted = columnWidths(columns);
  const total = fitted.reduce((sum, w) => sum + w + space, -space);
  const starts = fitted.map((_, c) => margin.left + (room - total) / 2 + fitted.slice(0, c).reduce((sum, w) => sum + w + space, 0));
  items.forEach((item, i) => {
    const x = starts[i % columns] ?? 0;
    const y = top + Math.floor(i / columns) * 13.5;
    item.draw(x, y);
    picture.text(group, item.label, x + swatch + 4, y + 8.2, { size: size.legend, role: 'legend' });
  });
  return Math.ceil(items.length / columns) * 13.5;
}

/** What lies over what in a panel: bars, then the reference's line, then text. */
interface Layers {
  readonly bars: Node;
  readonly text: Node;
}

/** One bar: a rectangle per stretch of the axis that it reaches. */
function drawBar(picture: Picture, layers: Layers, axis: Axis, bar: FigureBar, x: number, width: number, layout: Layout): void {
  const { entry } = bar;
  const group = layers.bars
    .append('g')
    .attr('class', 'bar')
    .attr('data-model', entry.model)
    .attr('data-setting', entry.setting)
    .attr('data-system', entry.system)
    .attr('data-format', entry.format)
    .attr('data-value', String(bar.speedUp))
    .attr('data-latency-ms', String(entry.latencyMs))
    .attr('data-clock', clockLabel(entry.clock))
    .attr('data-gpu', entry.gpu ?? 'not stated')
    .attr('data-source', entry.source)
    .attr('data-greyed', String(bar.greyed));
  group
    .append('title')
    .text(
      `${entry.system} ${entry.format}, ${modelLabel(entry.model)} ${settingLabel(entry.setting)}: ${bar.speedUp.toFixed(2)}× (${entry.latencyMs} ms, clock ${clockLabel(entry.clock)}; ${describeSource(entry)})${entry.marks.map((mark) => `; ${mark.note}`).join('')}`,
    );
  const style = bar.greyed ? greyOf(entry.family, entry.format) : fillOf(entry.family, entry.format);
  for (const segment of axis.segments) {
    if (bar.speedUp <= segment.from && segment.from > 0) continue;
    const top = position({ ...axis, segments: [segment] }, bar.speedUp);
    hatchedRect(
      picture,
      group,
      { x, y: top, width, height: Math.max(0.3, segment.bottom - top) },
      style,
      layout.wide ? 0.5 : 0.4,
      layout.wide ? 4 : 3,
    );
  }
  const top = position(axis, bar.speedUp);
  const mark = entry.marks.length === 0 ? '' : entry.marks.some((m) => m.kind === 'repeats-fp16') ? '*' : '§';
  let above = top - 2;
  if (layout.values) {
    const text = bar.speedUp.toFixed(2);
    // Two bars to a place leave room for smaller letters only.
    const valueSize = layout.paired ? size.value * 0.85 : size.value;
    const length = textWidth(text, valueSize);
    const middle = x + width / 2;
    const halo = (valueSize * capHeight) / 2 + (layout.paired ? 0 : 0.6);
    picture.rect(layers.text, middle - halo, above - length - 0.8, 2 * halo, length + 1.2, '#ffffff');
    picture.text(layers.text, text, middle + (valueSize * capHeight) / 2, above, { size: valueSize, rotate: -90, role: 'value' });
    above -= length + 1.5;
  }
  if (mark !== '') {
    const markSize = mark === '*' ? 10 : 7.5;
    picture.text(layers.text, mark, x + width / 2, above + (mark === '*' ? 4.6 : 0), {
      size: markSize,
      anchor: 'middle',
      role: 'footnote-mark',
    });
  }
}

/** Ticks, grid, spines and the breaks of an axis. */
function drawAxis(picture: Picture, parent: Node, axis: Axis, left: number, right: number): void {
  const lowest = axis.segments[0];
  const highest = axis.segments.at(-1);
  if (lowest === undefined || highest === undefined) return;
  for (const tick of axis.ticks) {
    const y = position(axis, tick);
    if (tick !== 0) picture.line(parent, left, y, right, y, '#dedede', 0.5);
    picture.line(parent, left - 2, y, left, y, ink, 0.7);
    picture.text(parent, String(tick), left - 3.2, y + (size.tick * capHeight) / 2, { size: size.tick, anchor: 'end', role: 'tick' });
  }
  for (const segment of axis.segments) {
    picture.line(parent, left, segment.bottom, left, segment.top, ink, 0.8);
    picture.line(parent, right, segment.bottom, right, segment.top, '#b5b5b5', 0.6);
  }
  picture.line(parent, left, lowest.bottom, right, lowest.bottom, ink, 0.8);
  picture.line(parent, left, highest.top, right, highest.top, '#b5b5b5', 0.6);
  if (axis.segments.length > 1) {
    for (const x of [left, right]) {
      for (const y of [lowest.top, highest.bottom]) picture.line(parent, x - 2.6, y + 1.6, x + 2.6, y - 1.6, ink, 0.9);
    }
  }
}

/** The red text of systems that could not compile a model, upright in their places. */
function drawUnsupported(
  picture: Picture,
  layers: Layers,
  run: readonly FigureSlot[],
  group: FigureGroup,
  x: number,
  bottom: number,
): void {
  const names = run.map((slot) => shortLabel(slot.system)).join('/');
  const holder = layers.text.append('g').attr('class', 'unsupported');
  const label = `${names} Not Support`;
  picture.rect(
    holder,
    x + 0.6,
    bottom - 5 - textWidth(label, size.mark, 'bold'),
    textSlot - 1.2,
    textWidth(label, size.mark, 'bold') + 3.5,
    '#ffffff',
  );
  for (const slot of run) {
    holder
      .append('g')
      .attr('class', 'missing')
      .attr('data-model', group.model)
      .attr('data-setting', group.setting)
      .attr('data-system', slot.system)
      .attr('data-format', slot.format)
      .attr('data-reason', slot.missing?.reason ?? '');
  }
  picture.text(holder, label, x + textSlot / 2 + (size.mark * capHeight) / 2, bottom - 3, {
    size: size.mark,
    weight: 'bold',
    rotate: -90,
    fill: red,
    role: 'unsupported',
  });
}

function drawGroup(picture: Picture, layers: Layers, group: FigureGroup, axis: Axis, left: number, layout: Layout): number {
  const bottom = axis.segments[0]?.bottom ?? 0;
  let x = left;
  for (const run of runsOf(group)) {
    const [first] = run;
    if (first !== undefined && isText(first)) {
      drawUnsupported(picture, layers, run, group, x, bottom);
      x += textSlot;
      continue;
    }
    for (const slot of run) {
      const barWidth = layout.paired ? layout.pitch * 0.44 : layout.pitch;
      const offset = layout.paired ? layout.pitch * 0.06 : 0;
      for (const bar of slot.bars)
        drawBar(picture, layers, axis, bar, x + offset + (layout.paired && !bar.greyed ? barWidth : 0), barWidth, layout);
      if (slot.missing !== null) {
        const holder = layers.text
          .append('g')
          .attr('class', 'missing')
          .attr('data-model', group.model)
          .attr('data-setting', group.setting)
          .attr('data-system', slot.system)
          .attr('data-format', slot.format)
          .attr('data-reason', slot.missing.reason);
        holder.append('title').text(`${slot.system} ${slot.format}: ${slot.missing.reason}`);
        picture.text(holder, slot.missing.mark, x + offset + barWidth * 1.5, bottom - 2, {
          size: size.mark,
          weight: 'bold',
          anchor: 'middle',
          fill: red,
          role: 'note-mark',
        });
      }
      x += layout.pitch;
    }
  }
  return x - left;
}

/** One row: legend, panels, captions. Returns the height it took. */
function drawRow(picture: Picture, figure: Figure, row: FigureRow, top: number, letter: number, values: boolean, wide: boolean): number {
  const legend = drawLegend(picture, row, figure, top);
  const height = figure.paired || values ? plotHeight.paired : plotHeight.published;
  const plotTop = top + legend + 6;
  const plotBottom = plotTop + height;
  const headroom = values ? 34 : 11;
  const axes = row.panels.map((panel) =>
    makeAxis(
      barsOf(panel).map((bar) => bar.speedUp),
      plotBottom,
      plotTop,
      7,
      headroom,
    ),
  );
  const gutters = axes.map((axis) => Math.max(...axis.ticks.map((tick) => textWidth(String(tick), size.tick))) + 6);
  const demands = row.panels.map(demand);
  const fixed = demands.reduce((sum, d) => sum + d.fixed, 0) + gutters.reduce((sum, g) => sum + g, 0) + panelGap * (row.panels.length - 1);
  const pitches = demands.reduce((sum, d) => sum + d.pitches, 0);
  const pitch = (picture.width - margin.left - margin.right - fixed) / pitches;
  const layout: Layout = { pitch, paired: figure.paired, values, wide };
  const group = picture.root.append('g').attr('class', 'row');
  const referenceLabel = figure.reference.system === subject ? `${subject} FP16` : figure.reference.system;
  picture.text(group, `Speed-up over ${referenceLabel}`, margin.left - 5, (plotTop + plotBottom) / 2, {
    size: size.axis,
    rotate: -90,
    anchor: 'middle',
    role: 'axis',
  });
  const extent = new Map<string, { left: number; right: number }>();
  let x = margin.left;
  row.panels.forEach((panel, i) => {
    const axis = axes[i];
    const need = demands[i];
    if (axis === undefined || need === undefined) return;
    const left = x + (gutters[i] ?? 0);
    const right = left + need.fixed + need.pitches * pitch;
    const holder = group.append('g').attr('class', 'panel').attr('data-axis', JSON.stringify(axis.segments));
    drawAxis(picture, holder, axis, left, right);
    const layers: Layers = { bars: holder.append('g'), text: holder.append('g').attr('class', 'overlay') };
    let inner = left + 0.3 * pitch;
    for (const part of panel.groups) {
      const taken = drawGroup(picture, layers, part, axis, inner, layout);
      picture.text(layers.text, settingLabel(part.setting), inner + taken / 2, plotBottom + 11.5, {
        size: size.group,
        anchor: 'middle',
        role: 'group',
      });
      inner += taken + 1.6 * pitch;
      const known = extent.get(part.model);
      extent.set(part.model, { left: known?.left ?? left, right });
    }
    const one = position(axis, 1);
    picture.line(layers.bars, left, one, right, one, '#000000', 0.9, '4 2.4').attr('class', 'reference');
    x = right + panelGap;
  });
  let index = letter;
  for (const [model, { left, right }] of extent) {
    picture.text(group, `(${String.fromCharCode(97 + index)}) ${modelLabel(model)}`, (left + right) / 2, plotBottom + 26, {
      size: size.caption,
      weight: 'bold',
      anchor: 'middle',
      role: 'caption',
    });
    index += 1;
  }
  return plotBottom + 31 - top;
}

/** Figure 8 as a picture. */
export function drawEnd2End(figure: Figure, id: string, options: End2EndOptions = {}): Picture {
  const values = options.values === true;
  const wide = values || figure.paired;
  const width = wide ? 1008 : 480;
  const marks = new Set(
    figure.rows
      .flatMap((row) => row.panels.flatMap(barsOf))
      .flatMap((bar) => bar.entry.marks)
      .map((mark) => mark.kind),
  );
  const notes = [
    figure.caption,
    ...(marks.has('repeats-fp16') ? ['* repeats the FP16 value: the quantised model was not faster.'] : []),
    ...([...marks].some((kind) => kind !== 'repeats-fp16') ? ['§ odd in its source; the report says how.'] : []),
    ...figure.notes.map(({ mark, reason }) => `${mark}: ${reason}.`),
  ];
  const lines = wrapText(notes.join(' '), width - margin.left - margin.right, size.note);
  const picture = new Picture(id, width, 1, `Figure 8: speed-up over ${figure.reference.system}. ${figure.caption}`);
  let y = margin.top;
  let letter = 0;
  for (const row of figure.rows) {
    y += drawRow(picture, figure, row, y, letter, values, wide) + 8;
    letter += new Set(row.panels.flatMap((panel) => panel.groups.map((group) => group.model))).size;
  }
  for (const line of lines) {
    y += 11;
    picture.text(picture.root, line, margin.left, y - 3, { size: size.note, fill: '#4a4a4a', role: 'note' });
  }
  picture.setHeight(Number(coordinate(y + margin.bottom)));
  return picture;
}

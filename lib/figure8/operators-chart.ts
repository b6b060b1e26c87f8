/**
 * The per-operator bar chart of one checkpoint: microseconds of each operator, timed alone, in the order of execution.
 * From Ladder's published runs on the A100, or from what `ladder profile --json` printed.
 */
import { z } from 'zod';
import type { Fill } from '../baselines/systems/index.js';
import { shorten } from '../table.js';
import { LadderError } from '../errors.js';
import { parseAs } from '../run/record-schema.js';
import type { LadderOperators } from './data.js';
import { modelLabel } from './names.js';
import { hatchedRect } from './palette.js';
import { ink, Picture } from './svg.js';
import { capHeight, textWidth } from './text.js';

/** Operators of one checkpoint and where the numbers come from. */
export interface OperatorProfile {
  readonly title: string;
  readonly gpu: string;
  readonly clock: string;
  readonly source: string;
  readonly operators: readonly { readonly name: string; readonly microseconds: number }[];
}

const profileSchema = z.object({
  operators: z.array(z.object({ node: z.string(), medianMs: z.number().nonnegative() })).min(1),
  device: z.object({ name: z.string(), kind: z.string().optional() }),
});

/**
 * Reads what `ladder profile --json` printed.
 * @param name of the checkpoint, for the title
 * @throws LadderError `BAD_RECORD`
 */
export function parseProfile(text: string, name: string): OperatorProfile {
  const { operators, device } = parseAs(profileSchema, text, `${name} (expected: what \`ladder profile --json\` prints)`);
  return {
    title: name,
    gpu: device.name,
    clock: device.kind === 'cpu' ? 'cpu-host' : 'gpu-events',
    source: 'ladder profile',
    operators: operators.map(({ node, medianMs }) => ({ name: node, microseconds: medianMs * 1000 })),
  };
}

/**
 * One of Ladder's published runs.
 * @throws LadderError `BAD_ARGUMENT` naming those that exist
 */
export function publishedProfile(data: LadderOperators, model: string, checkpoint: string): OperatorProfile {
  const run = data.runs.find((r) => r.model === model && r.checkpoint === checkpoint);
  if (run === undefined) {
    throw new LadderError(
      'BAD_ARGUMENT',
      `no published operators of ${model}/${checkpoint}; there are ${data.runs
        .map((r) => `${r.model}/${r.checkpoint}`)
        .slice(0, 6)
        .join(', ')}, …`,
      { model, checkpoint },
    );
  }
  return {
    title: `${modelLabel(model)}: ${checkpoint}`,
    gpu: data.gpu,
    clock: data.clock,
    source: "Ladder's artifact, debug executor",
    operators: run.operators.map(([name, microseconds]) => ({ name: name.replace(/^tvmgen_welder_/, ''), microseconds })),
  };
}

const width = 480;
const rowHeight = 12.5;
const most = 30;
const product: Fill = { color: '#3a82c4', hatch: 'none', hatchColor: ink };
const small: Fill = { color: '#f4c95d', hatch: 'falling', hatchColor: '#3a3a3a' };
const isProduct = (name: string): boolean => /dense|linear|conv|matmul|gemm|gemv|product/.test(name);

/** Draws the operators of a checkpoint; of more than 30 the slowest, and the rest as one bar. */
export function drawOperators(profile: OperatorProfile, id: string): Picture {
  const total = profile.operators.reduce((sum, op) => sum + op.microseconds, 0);
  const slowest = [...profile.operators]
    .sort((a, b) => b.microseconds - a.microseconds)
    .slice(0, profile.operators.length > most ? most - 1 : most);
  const shown = profile.operators.filter((op) => slowest.includes(op));
  const rest = profile.operators.filter((op) => !slowest.includes(op));
  const rows = [
    ...shown,
    ...(rest.length > 0
      ? [{ name: `${rest.length} other operators`, microseconds: rest.reduce((sum, op) => sum + op.microseconds, 0) }]
      : []),
  ];
  const labelSize = 9.5;
  const left = 190;
  const values = rows.map(
    (op) =>
      `${op.microseconds >= 100 ? op.microseconds.toFixed(0) : op.microseconds.toPrecision(3)} µs, ${((op.microseconds / total) * 100).toFixed(1)} %`,
  );
  const right = width - Math.max(...values.map((value) => textWidth(value, labelSize))) - 10;
  const top = 34;
  const bottom = top + rows.length * rowHeight + 3;
  const longest = Math.max(...rows.map((op) => op.microseconds));
  const picture = new Picture(id, width, bottom + 21, `Operators of ${profile.title} on ${profile.gpu}`);
  const root = picture.root;
  picture.text(root, profile.title, 4, 13, { size: 11, weight: 'bold', role: 'heading' });
  picture.text(root, `${profile.operators.length} operators, ${total.toFixed(0)} µs in all, in the order of execution`, 4, 26, {
    size: 9.5,
    fill: '#4a4a4a',
    role: 'note',
  });
  const legend = [
    { fill: product, name: 'product' },
    { fill: small, name: 'other' },
  ];
  let x = width - 4;
  for (const item of [...legend].reverse()) {
    x -= textWidth(item.name, 10);
    picture.text(root, item.name, x, 26, { size: 10, role: 'legend' });
    x -= 17;
    hatchedRect(picture, root, { x, y: 17.8, width: 13, height: 9 }, item.fill);
    x -= 10;
  }
  rows.forEach((op, i) => {
    const y = top + i * rowHeight;
    const base = y + rowHeight / 2 + (labelSize * capHeight) / 2;
    let label = op.name;
    for (let length = label.length; textWidth(label, labelSize) > left - 12 && length > 8; length -= 1) label = shorten(op.name, length);
    picture.text(root, label, left - 6, base, { size: labelSize, anchor: 'end', role: 'label' });
    const group = root
      .append('g')
      .attr('class', 'bar')
      .attr('data-name', op.name)
      .attr('data-value', String(op.microseconds))
      .attr('data-gpu', profile.gpu);
    group.append('title').text(`${op.name}: ${op.microseconds} µs`);
    hatchedRect(
      picture,
      group,
      { x: left, y: y + 1.6, width: Math.max(0.5, ((right - left) * op.microseconds) / longest), height: rowHeight - 3.2 },
      isProduct(op.name) ? product : small,
      0.4,
    );
    picture.text(root, values[i] ?? '', width - 4, base, { size: labelSize, anchor: 'end', role: 'value' });
  });
  picture.line(root, left, top, left, bottom, ink, 0.8);
  picture.text(
    root,
    `${profile.gpu}. Each operator launched and timed alone (clock ${profile.clock}); ${profile.source}.`,
    4,
    bottom + 14,
    { size: 9, fill: '#4a4a4a', role: 'note' },
  );
  return picture;
}

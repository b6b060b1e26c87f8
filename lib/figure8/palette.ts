/**
 * One fill per system and format, the same in every figure. The records of the systems have them (baselines/systems): hue
 * tells rivals from Ladder (warm against blue), lightness orders Ladder's formats, and hatches tell neighbours apart in print
 * without colour. A test simulates the three kinds of colour blindness over every pair that stands in one row.
 */
import { type Fill, fillOfBars, type Hatch, systemNamed } from '../baselines/systems/index.js';
import { coordinate, type Node, type Picture } from './svg.js';

/** The paper's bars beside ours, in a legend. */
export const greyed: Fill = { color: '#dcdcdc', hatch: 'none', hatchColor: '#3a3a3a' };
/** Of systems without a record. */
const fallback: Fill = { color: '#bdbdbd', hatch: 'dots', hatchColor: '#3a3a3a' };

/** The fill of a system (as in Figure 8's data) at a format. */
export function fillOf(system: string, format: string): Fill {
  const found = systemNamed(system);
  return found ? fillOfBars(found, format) : fallback;
}

/** The paper's bar of a system: grey, with the system's own hatch. */
export function greyOf(system: string, format: string): Fill {
  return { color: greyed.color, hatch: fillOf(system, format).hatch, hatchColor: '#8c8c8c' };
}

/** Path data of the hatch of a rectangle, clipped to it. `step` is the distance of level lines. */
function hatchLines(hatch: Hatch, x: number, y: number, width: number, height: number, step: number): string {
  const segments: string[] = [];
  // (u, v): from the lower left corner, to the right and up.
  const add = (u1: number, v1: number, u2: number, v2: number): void => {
    segments.push(`M${coordinate(x + u1)} ${coordinate(y + height - v1)}L${coordinate(x + u2)} ${coordinate(y + height - v2)}`);
  };
  const level = (): void => {
    for (let v = step / 2; v < height; v += step) add(0, v, width, v);
  };
  const upright = (): void => {
    for (let u = (width / 2) % step; u < width; u += step) add(u, 0, u, height);
  };
  // A falling diagonal is u + v = c; a rising one is its mirror image.
  const diagonal = (rising: boolean): void => {
    for (let c = step * 0.7; c < width + height; c += step * 1.4) {
      const from = Math.max(0, c - height);
      const to = Math.min(width, c);
      if (to > from) add(rising ? width - from : from, c - from, rising ? width - to : to, c - to);
    }
  };
  switch (hatch) {
    case 'none':
      break;
    case 'level':
      level();
      break;
    case 'upright':
      upright();
      break;
    case 'grid':
      level();
      upright();
      break;
    case 'rising':
      diagonal(true);
      break;
    case 'falling':
      diagonal(false);
      break;
    case 'cross':
      diagonal(true);
      diagonal(false);
      break;
    case 'dots':
      for (let v = step; v < height - step / 3; v += step) add(width / 2 - 0.6, v, width / 2 + 0.6, v);
      break;
  }
  return segments.join('');
}

/**
 * A hatched rectangle with an outline. Hatches are lines clipped by arithmetic, no patterns and no clip paths: every
 * reader of SVG and PDF draws them alike.
 */
export function hatchedRect(
  picture: Picture,
  parent: Node,
  box: { x: number; y: number; width: number; height: number },
  style: Fill,
  outline = 0.5,
  step = 3,
): void {
  picture.rect(parent, box.x, box.y, box.width, box.height, style.color);
  const lines = hatchLines(style.hatch, box.x, box.y, box.width, box.height, step);
  if (lines !== '') {
    parent
      .append('path')
      .attr('class', 'hatch')
      .attr('d', lines)
      .attr('stroke', style.hatchColor)
      .attr('stroke-width', style.hatch === 'dots' ? 1.2 : 0.6)
      .attr('fill', 'none');
  }
  picture.rect(parent, box.x, box.y, box.width, box.height, 'none', { color: '#222222', width: outline });
}

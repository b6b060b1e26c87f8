/**
 * One fill per system and format, the same in every figure. Hue tells rivals from Ladder (warm against blue),
 * lightness orders Ladder's formats, and hatches tell neighbours apart in print without colour. A test simulates the
 * three kinds of colour blindness over every pair that stands in one row.
 */
import { coordinate, type Node, type Picture } from './svg.js';

/** Directions of the hatch lines; `dots` are short dashes. */
export type Hatch = 'none' | 'rising' | 'falling' | 'level' | 'upright' | 'cross' | 'grid' | 'dots';

export interface Fill {
  readonly color: string;
  readonly hatch: Hatch;
  readonly hatchColor: string;
}

const dark = '#3a3a3a';
const light = '#ffffff';
const fill = (color: string, hatch: Hatch, hatchColor: string): Fill => ({ color, hatch, hatchColor });

const rivals: Readonly<Record<string, Fill>> = {
  'PyTorch-Inductor': fill('#e8743b', 'none', dark),
  'PyTorch-Eager': fill('#f2a071', 'rising', dark),
  ONNXRuntime: fill('#f4c95d', 'falling', dark),
  TensorRT: fill('#7fa650', 'level', light),
  AMOS: fill('#f6dfe4', 'cross', '#a0526a'),
  TensorIR: fill('#b5739d', 'rising', light),
  Welder: fill('#ffffff', 'none', dark),
  Roller: fill('#f2f2f2', 'upright', dark),
};

const ladder: Readonly<Record<string, Fill>> = {
  'W_FP16 A_FP16': fill('#cfe6f5', 'none', dark),
  'W_INT4 A_FP16': fill('#93c6e8', 'rising', '#1f4e79'),
  'W_NF4 A_FP16': fill('#5fa5d9', 'falling', light),
  'W_FP8 A_FP8': fill('#3a82c4', 'level', light),
  'W_MXFP8 A_MXFP8': fill('#2560a0', 'cross', light),
  'W_INT1 A_INT8': fill('#0f2f63', 'none', light),
  'W_INT1 A_INT4': fill('#0f2f63', 'upright', light),
  'W_INT4 A_INT8': fill('#93c6e8', 'grid', '#1f4e79'),
  'W_INT4 A_INT4': fill('#5fa5d9', 'dots', light),
};

/** The paper's bars beside ours, in a legend. */
export const greyed: Fill = fill('#dcdcdc', 'none', dark);
const fallback: Fill = fill('#bdbdbd', 'dots', dark);

/** The fill of a system (as in Figure 8's data) at a format. */
export function fillOf(system: string, format: string): Fill {
  if (system === 'Ladder') return ladder[format] ?? fallback;
  if (system === 'vLLM') return format === 'W_FP16 A_FP16' ? fill('#dcc9a8', 'none', dark) : fill('#8a6a45', 'cross', light);
  return rivals[system] ?? fallback;
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
  const level = (): void => { for (let v = step / 2; v < height; v += step) add(0, v, width, v); };
  const upright = (): void => { for (let u = (width / 2) % step; u < width; u += step) add(u, 0, u, height); };
  // A falling diagonal is u + v = c; a rising one is its mirror image.
  const diagonal = (rising: boolean): void => {
    for (let c = step * 0.7; c < width + height; c += step * 1.4) {
      const from = Math.max(0, c - height);
      const to = Math.min(width, c);
      if (to > from) add(rising ? width - from : from, c - from, rising ? width - to : to, c - to);
    }
  };
  switch (hatch) {
    case 'none': break;
    case 'level': level(); break;
    case 'upright': upright(); break;
    case 'grid': level(); upright(); break;
    case 'rising': diagonal(true); break;
    case 'falling': diagonal(false); break;
    case 'cross': diagonal(true); diagonal(false); break;
    case 'dots': for (let v = step; v < height - step / 3; v += step) add(width / 2 - 0.6, v, width / 2 + 0.6, v); break;
  }
  return segments.join('');
}

/**
 * A hatched rectangle with an outline. Hatches are lines clipped by arithmetic, no patterns and no clip paths: every
 * reader of SVG and PDF draws them alike.
 */
export function hatchedRect(picture: Picture, parent: Node, box: { x: number; y: number; width: number; height: number }, style: Fill, outline = 0.5, step = 3): void {
  picture.rect(parent, box.x, box.y, box.width, box.height, style.color);
  const lines = hatchLines(style.hatch, box.x, box.y, box.width, box.height, step);
  if (lines !== '') {
    parent.append('path').attr('class', 'hatch').attr('d', lines).attr('stroke', style.hatchColor).attr('stroke-width', style.hatch === 'dots' ? 1.2 : 0.6).attr('fill', 'none');
  }
  picture.rect(parent, box.x, box.y, box.width, box.height, 'none', { color: '#222222', width: outline });
}

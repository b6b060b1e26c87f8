/**
 * A picture under construction: an SVG made with d3-node, and the few shapes that the figures consist of. Coordinates
 * are in the picture's own units, rounded to 1/100. What is drawn where is the charts' business.
 */
import { D3Node } from 'd3-node';
import { layoutText, plainText, type Label, type Weight } from './text.js';

/** An element that can be added to. d3's selections fit. */
export interface Node {
  append(name: string): Node;
  attr(name: string, value: string | number): Node;
  text(value: string): Node;
}

export interface TextOptions {
  readonly size: number;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly weight?: Weight;
  readonly fill?: string;
  /** Degrees; -90 reads upwards. */
  readonly rotate?: number;
  /** Names what the label is, for tests and for the page: `tick`, `legend`, … */
  readonly role?: string;
}

export const ink = '#1a1a1a';
const round = (value: number): number => Math.round(value * 100) / 100;

/** Numbers for path data and attributes. */
export function coordinate(value: number): string {
  return String(round(value));
}

/** One figure. `id` keeps its glyphs apart from other figures' on the same page. */
export class Picture {
  readonly root: Node;
  private readonly node: D3Node;
  private readonly paper: Node;
  private currentHeight: number;
  private readonly definitions: Node;
  private readonly defined = new Set<string>();

  /** @param description read aloud in place of the picture */
  constructor(
    readonly id: string,
    readonly width: number,
    height: number,
    description: string,
  ) {
    this.node = new D3Node();
    const svg: Node = this.node.createSVG(width, height);
    svg.attr('viewBox', `0 0 ${width} ${height}`).attr('role', 'img').attr('id', id);
    svg.append('title').text(description);
    this.definitions = svg.append('defs');
    this.paper = svg.append('rect').attr('class', 'paper').attr('width', width).attr('height', height).attr('fill', '#ffffff');
    this.root = svg;
    this.currentHeight = height;
  }

  get height(): number {
    return this.currentHeight;
  }

  /** For charts whose height follows from what was drawn. */
  setHeight(height: number): void {
    this.currentHeight = height;
    this.root.attr('height', height).attr('viewBox', `0 0 ${this.width} ${height}`);
    this.paper.attr('height', height);
  }

  /** The finished picture, as XML: d3-node's own writer is HTML's, which leaves `<` in attributes as it is. */
  toString(): string {
    const svg = this.node.document.querySelector('svg');
    const xml = new this.node.window.XMLSerializer().serializeToString(svg);
    // Texts come from logs: XML has no place for most control characters.
    return xml.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '');
  }

  /** Draws a label with its anchor on the baseline at (x, y); returns its width. */
  text(parent: Node, label: Label, x: number, y: number, options: TextOptions): number {
    const { glyphs, width } = layoutText(label, options.weight);
    const shift = options.anchor === 'middle' ? -width / 2 : options.anchor === 'end' ? -width : 0;
    const turn = options.rotate === undefined ? '' : ` rotate(${options.rotate})`;
    const group = parent
      .append('g')
      .attr('class', 'label')
      .attr('data-role', options.role ?? 'text')
      .attr('data-text', plainText(label))
      .attr('fill', options.fill ?? ink)
      .attr('transform', `translate(${coordinate(x)},${coordinate(y)})${turn} scale(${options.size})`);
    for (const glyph of glyphs) {
      const key = `${this.id}-${glyph.key}`;
      if (!this.defined.has(key)) {
        this.defined.add(key);
        this.definitions.append('path').attr('id', key).attr('d', glyph.outline);
      }
      const scale = Number(glyph.scale.toPrecision(6));
      group
        .append('use')
        .attr('href', `#${key}`)
        .attr('transform', `translate(${(glyph.x + shift).toFixed(4)},${(-glyph.y).toFixed(4)}) scale(${scale},${-scale})`);
    }
    return width * options.size;
  }

  rect(parent: Node, x: number, y: number, width: number, height: number, fill: string, stroke?: { color: string; width: number }): Node {
    const rect = parent
      .append('rect')
      .attr('x', coordinate(x))
      .attr('y', coordinate(y))
      .attr('width', coordinate(width))
      .attr('height', coordinate(height))
      .attr('fill', fill);
    if (stroke !== undefined) rect.attr('stroke', stroke.color).attr('stroke-width', stroke.width);
    return rect;
  }

  line(parent: Node, x1: number, y1: number, x2: number, y2: number, color = ink, width = 0.8, dash?: string): Node {
    const line = parent
      .append('path')
      .attr('d', `M${coordinate(x1)} ${coordinate(y1)}L${coordinate(x2)} ${coordinate(y2)}`)
      .attr('stroke', color)
      .attr('stroke-width', width)
      .attr('fill', 'none');
    if (dash !== undefined) line.attr('stroke-dasharray', dash);
    return line;
  }
}

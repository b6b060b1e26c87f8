/**
 * Text as outlines. Every letter of a figure is a glyph of Source Sans 3 (SIL Open Font License, shipped with the npm
 * package @fontsource/source-sans-3), drawn once per picture and referred to: SVG, PNG and PDF look the same on every
 * machine, whatever fonts it has. Also measures, so that layouts need no guesses.
 */
import { createRequire } from 'node:module';
import { openSync, type Font } from 'fontkit';

export type Weight = 'regular' | 'bold';

/** A stretch of text; `sub` stands lower and smaller. */
export interface Run {
  readonly text: string;
  readonly sub?: boolean;
}
export type Label = string | readonly Run[];

/** A glyph placed in a label, in units of the font size: x to the right, y upwards. */
export interface PlacedGlyph {
  readonly key: string;
  /** Outline in font units, y upwards. */
  readonly outline: string;
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

/** Glyphs of a label and its width, for font size 1. */
export interface TextLayout {
  readonly glyphs: readonly PlacedGlyph[];
  readonly width: number;
}

const layouts = new Map<string, TextLayout>();
const subScale = 0.72;
const subDrop = 0.16;
const files: Readonly<Record<Weight, string>> = {
  regular: 'source-sans-3-latin-400-normal.woff',
  bold: 'source-sans-3-latin-600-normal.woff',
};
const fonts = new Map<Weight, Font>();

function font(weight: Weight): Font {
  let found = fonts.get(weight);
  if (found === undefined) {
    const require = createRequire(import.meta.url);
    found = openSync(require.resolve(`@fontsource/source-sans-3/files/${files[weight]}`));
    fonts.set(weight, found);
  }
  return found;
}

export function runsOf(label: Label): readonly Run[] {
  return typeof label === 'string' ? [{ text: label }] : label;
}

/** The label as one line of plain text: `W_INT4 A_FP16` for subscripts. */
export function plainText(label: Label): string {
  return runsOf(label)
    .map((run) => (run.sub === true ? `_${run.text}` : run.text))
    .join('');
}

/**
 * Glyphs of a label from its left end on the baseline, and its width, both for font size 1. Characters that the font
 * (Latin) lacks are drawn as question marks.
 */
export function layoutText(label: Label, weight: Weight = 'regular'): TextLayout {
  const key = `${weight}:${JSON.stringify(label)}`;
  let laid = layouts.get(key);
  if (laid === undefined) {
    laid = layOut(label, weight);
    // Ticks and legends come again and again; names of operators do not.
    if (layouts.size < 2000) layouts.set(key, laid);
  }
  return laid;
}

function layOut(label: Label, weight: Weight): TextLayout {
  const face = font(weight);
  const em = face.unitsPerEm;
  const glyphs: PlacedGlyph[] = [];
  let x = 0;
  for (const run of runsOf(label)) {
    const scale = run.sub === true ? subScale : 1;
    const known = [...run.text].map((character) => (face.hasGlyphForCodePoint(character.codePointAt(0) ?? 0) ? character : '?')).join('');
    const laid = face.layout(known);
    laid.glyphs.forEach((glyph, i) => {
      const position = laid.positions[i];
      const outline = glyph.path.toSVG();
      if (outline !== '') {
        glyphs.push({
          key: `${weight === 'bold' ? 'b' : 'r'}${glyph.id}`,
          outline,
          x: x + ((position?.xOffset ?? 0) * scale) / em,
          y: run.sub === true ? -subDrop : 0,
          scale: scale / em,
        });
      }
      x += ((position?.xAdvance ?? glyph.advanceWidth) * scale) / em;
    });
  }
  return { glyphs, width: x };
}

/** Width of a label at a font size. */
export function textWidth(label: Label, size: number, weight: Weight = 'regular'): number {
  return layoutText(label, weight).width * size;
}

/** Breaks a caption into lines that fit. */
export function wrapText(text: string, width: number, fontSize: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && textWidth(`${last} ${word}`, fontSize) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Height of a capital over the font size, to centre lines of text. */
export const capHeight = 0.66;

/** `W_INT4 A_FP16`, with what stands behind it, as W and A with subscripts; anything else stays as it is. */
export function formatLabel(format: string): readonly Run[] {
  const [, weight, activation, rest] = /^W_(\S+) A_(\S+)( .+)?$/.exec(format) ?? [];
  if (weight === undefined || activation === undefined) return [{ text: format }];
  return [
    { text: 'W' },
    { text: weight, sub: true },
    { text: 'A' },
    { text: activation, sub: true },
    ...(rest === undefined ? [] : [{ text: rest }]),
  ];
}

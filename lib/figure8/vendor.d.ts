/** The parts of untyped packages that the figures use. Declarations only; nothing of them reaches the package's own types. */
declare module 'd3-node' {
  interface Selection {
    append(name: string): Selection;
    attr(name: string, value: string | number): Selection;
    text(value: string): Selection;
  }
  export class D3Node {
    constructor(options?: { styles?: string });
    createSVG(width: number, height: number, attrs?: Record<string, string>): Selection;
    readonly document: { querySelector(selector: string): unknown };
    readonly window: { readonly XMLSerializer: new () => { serializeToString(node: unknown): string } };
  }
}

declare module 'fontkit' {
  interface Glyph {
    readonly id: number;
    readonly advanceWidth: number;
    readonly path: { toSVG(): string };
  }
  interface GlyphRun {
    readonly glyphs: readonly Glyph[];
    readonly positions: readonly { readonly xAdvance: number; readonly xOffset: number }[];
  }
  interface Font {
    readonly unitsPerEm: number;
    readonly capHeight: number;
    readonly xHeight: number;
    layout(text: string): GlyphRun;
    hasGlyphForCodePoint(code: number): boolean;
  }
  export function openSync(path: string): Font;
}

declare module 'svg-to-pdfkit' {
  export default function svgToPdf(document: unknown, svg: string, x: number, y: number, options?: Record<string, unknown>): void;
}

declare module 'pdfkit' {
  export default class PdfDocument {
    constructor(options: Record<string, unknown>);
    on(event: 'data', listener: (chunk: Uint8Array) => void): this;
    on(event: 'end', listener: () => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    end(): void;
  }
}

/**
 * Pictures to files: SVG as it is, PNG through sharp, PDF as vectors through pdfkit. All letters are outlines already,
 * so no font is looked up by anybody. Files are written whole or not at all.
 */
import { join } from 'node:path';
import PdfDocument from 'pdfkit';
import sharp from 'sharp';
import svgToPdf from 'svg-to-pdfkit';
import { writeWhole } from '../files.js';
import type { Picture } from './svg.js';

/** Pixels per unit of the PNG: 480 units in a 3.33 inch column are 720 dots per inch. */
const pngScale = 5;
/** The unit of the pictures is half a point. */
const pointsPerUnit = 0.5;

/** The picture as PNG. */
async function toPng(picture: Picture, scale = pngScale): Promise<Uint8Array> {
  return sharp(Buffer.from(picture.toString()), { density: 72 * scale, limitInputPixels: false })
    .resize(Math.round(picture.width * scale))
    .flatten({ background: '#ffffff' })
    .png({ compressionLevel: 9, palette: true, effort: 1 })
    .toBuffer();
}

/** The picture as a one-page PDF of vectors. */
async function toPdf(picture: Picture, title: string): Promise<Uint8Array> {
  const [width, height] = [picture.width * pointsPerUnit, picture.height * pointsPerUnit];
  const document = new PdfDocument({ size: [width, height], margin: 0, info: { Title: title, Creator: 'ladder' }, compress: true });
  const chunks: Uint8Array[] = [];
  const done = new Promise<void>((resolve, reject) => {
    document
      .on('data', (chunk) => chunks.push(chunk))
      .on('end', resolve)
      .on('error', reject);
  });
  svgToPdf(document, picture.toString(), 0, 0, { width, height, assumePt: true, preserveAspectRatio: 'xMinYMin meet' });
  document.end();
  await done;
  return Buffer.concat(chunks);
}

/** The folders of pictures and tables below `folder`. */
export function outputFolders(folder: string): readonly string[] {
  return ['svg', 'png', 'pdf', 'tables'].map((kind) => join(folder, kind));
}

/**
 * Writes `svg/NAME.svg`, `png/NAME.png` and `pdf/NAME.pdf` below a folder.
 * @returns their paths
 * @throws LadderError `IO`
 */
export async function writePicture(
  picture: Picture,
  folder: string,
  name: string,
  title: string,
): Promise<{ svg: string; png: string; pdf: string }> {
  const paths = {
    svg: join(folder, 'svg', `${name}.svg`),
    png: join(folder, 'png', `${name}.png`),
    pdf: join(folder, 'pdf', `${name}.pdf`),
  };
  await writeWhole(paths.svg, `${picture.toString()}\n`);
  await writeWhole(paths.png, await toPng(picture));
  await writeWhole(paths.pdf, await toPdf(picture, title));
  return paths;
}

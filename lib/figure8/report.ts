/**
 * `report.html`: the figures inline, every number behind them in sortable tables, and each number's provenance. One
 * file that loads nothing: a content security policy forbids it. Text comes from data files and logs and is escaped.
 */
import { csvOf, formatSignificant } from '../table.js';
import type { Picture } from './svg.js';

/** A picture and what stands below it. */
export interface ReportFigure {
  readonly picture: Picture;
  readonly title: string;
  readonly caption: string;
  /** The same as files, relative to the page. */
  readonly links: readonly string[];
}

/** A cell: its text, and what it is sorted by where that is a number. */
export interface ReportCell {
  readonly text: string;
  readonly sort?: number;
}

export interface ReportTable {
  readonly title: string;
  readonly note: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly ReportCell[])[];
}

/** A title as a file's name and an anchor. */
export function slugOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** The files of a table, relative to the page. */
export function tableFiles(table: ReportTable): { readonly csv: string; readonly json: string } {
  return { csv: `tables/${slugOf(table.title)}.csv`, json: `tables/${slugOf(table.title)}.json` };
}

const valueOf = ({ text, sort }: ReportCell): string | number | null => sort ?? (text === '—' ? null : text);

/** A table as CSV, numbers in full. */
export function tableCsv({ columns, rows }: Pick<ReportTable, 'columns' | 'rows'>): string {
  return csvOf([columns, ...rows.map((row) => row.map(valueOf))]);
}

/** A table as JSON: its title, note, and rows as objects, numbers in full. */
export function tableJson({ title, note, columns, rows }: ReportTable): string {
  const objects = rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i] ? valueOf(row[i]) : null])));
  return `${JSON.stringify({ title, note, rows: objects }, null, 2)}\n`;
}

export interface Report {
  readonly title: string;
  /** Paragraphs below the title. */
  readonly summary: readonly string[];
  readonly figures: readonly ReportFigure[];
  readonly tables: readonly ReportTable[];
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Pixels of the page for a unit of a wide picture, at most: its letters are then as large as the page's. */
const kLargest = 1.5;

/** Text as HTML. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => escapes[character] ?? character);
}

const style = `
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #4a4a4a; --rule: #e3e3e3; --paper: #fff; --link: #0b57a4; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #b0b0b0; --rule: #3a3a3a; --paper: #16181b; --link: #8ab8ff; } }
body { margin: 2rem 0; padding: 0 clamp(.8rem, 4vw, 2rem); overflow-wrap: anywhere; }
body > p, nav { max-width: 72rem; }
a { color: var(--link); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
nav ul { columns: 20rem; padding-left: 1.2rem; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; display: block; background: #fff; }
figcaption, .note { color: var(--soft); font-size: .9rem; max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: top; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 14rem; }
td.number, th.number { text-align: right; }
th { position: sticky; top: 0; background: var(--paper); }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: 0; cursor: pointer; color: inherit; }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
@media print { th { position: static; } }
`;

// Sorts by data-sort as a number where every cell of the column has it, else by text; a second click turns round.
const script = `
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') === 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = (row) => { const cell = row.cells[column]; return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort); };
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      const order = typeof x === 'number' && typeof y === 'number' ? x - y : typeof x === 'number' ? -1 : typeof y === 'number' ? 1 : x.localeCompare(y);
      return down ? -order : order;
    });
    body.append(...rows);
  }));
}
`;

const link = (path: string): string => `<a href="${escapeHtml(path)}">${escapeHtml(path.split('.').at(-1)!.toUpperCase())}</a>`;

function tableHtml(table: ReportTable): string {
  const isNumber = (column: number): boolean => table.rows.some((row) => row[column]?.sort !== undefined);
  const numbers = table.columns.map((_, column) => isNumber(column));
  const head = table.columns
    .map(
      (column, i) =>
        `<th scope="col"${numbers[i] === true ? ' class="number"' : ''}><button type="button">${escapeHtml(column)}</button></th>`,
    )
    .join('');
  const cellHtml = ({ text, sort }: ReportCell, i: number): string =>
    `<td${numbers[i] === true ? ' class="number"' : ''}${sort === undefined ? '' : ` data-sort="${sort}"`}>${escapeHtml(text)}</td>`;
  const rows = table.rows.map((row) => `<tr>${row.map(cellHtml).join('')}</tr>`);
  const { csv, json } = tableFiles(table);
  return `<h2 id="${slugOf(table.title)}">${escapeHtml(table.title)}</h2>\n<p class="note">${escapeHtml(table.note)} ${link(csv)}, ${link(json)}</p>\n<div class="scroll"><table>\n<thead><tr>${head}</tr></thead>\n<tbody>\n${rows.join('\n')}\n</tbody>\n</table></div>`;
}

/** The whole page. */
export function reportHtml(report: Report): string {
  const figures = report.figures.map(
    ({ picture, title, caption, links }) =>
      `<h2 id="${slugOf(title)}">${escapeHtml(title)}</h2>\n<figure style="max-width: max(60rem, ${Math.round(picture.width * kLargest)}px)">${picture.toString()}<figcaption>${escapeHtml(caption)} ${links.map(link).join(', ')}</figcaption></figure>`,
  );
  const contents = [...report.figures, ...report.tables].map(
    ({ title }) => `<li><a href="#${slugOf(title)}">${escapeHtml(title)}</a></li>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(report.title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeHtml(report.title)}</h1>
${report.summary.map((text) => `<p>${escapeHtml(text)}</p>`).join('\n')}
<nav aria-label="Contents"><ul>
${contents.join('\n')}
</ul></nav>
${figures.join('\n')}
${report.tables.map(tableHtml).join('\n')}
<script>${script}</script>
</body>
</html>
`;
}

/** A number, sorted by its full value; a dash where there is none. Whole ones as they are, measured ones with four digits. */
export function numberCell(value: number | null | undefined, text: (value: number) => string = formatSignificant): ReportCell {
  return value === null || value === undefined ? { text: '—' } : { text: text(value), sort: value };
}

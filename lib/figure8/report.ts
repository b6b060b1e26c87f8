/**
 * `report.html`: the figures inline, every number behind them in sortable tables, and each number's provenance. One
 * file that loads nothing: a content security policy forbids it. Text comes from data files and logs and is escaped.
 */
import type { Picture } from './svg.js';

/** A picture and what stands below it. */
export interface ReportFigure {
  readonly picture: Picture;
  readonly title: string;
  readonly caption: string;
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

export interface Report {
  readonly title: string;
  /** Paragraphs below the title. */
  readonly summary: readonly string[];
  readonly figures: readonly ReportFigure[];
  readonly tables: readonly ReportTable[];
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text as HTML. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => escapes[character] ?? character);
}

const style = `
:root { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { margin: 2rem 0; padding: 0 2rem; }
body > p, figure { max-width: 72rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
figure { margin: 1.5rem 0; } figure svg { width: 100%; height: auto; max-width: 60rem; display: block; }
figcaption, .note { color: #4a4a4a; font-size: .9rem; max-width: 60rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #e3e3e3; vertical-align: top; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 14rem; }
td.number { text-align: right; }
th { position: sticky; top: 0; background: #fff; }
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

function tableHtml(table: ReportTable): string {
  const head = table.columns.map((column) => `<th scope="col"><button type="button">${escapeHtml(column)}</button></th>`).join('');
  const rows = table.rows.map(
    (row) =>
      `<tr>${row.map((cell) => (cell.sort === undefined ? `<td>${escapeHtml(cell.text)}</td>` : `<td class="number" data-sort="${cell.sort}">${escapeHtml(cell.text)}</td>`)).join('')}</tr>`,
  );
  return `<h2>${escapeHtml(table.title)}</h2>\n<p class="note">${escapeHtml(table.note)}</p>\n<div class="scroll"><table>\n<thead><tr>${head}</tr></thead>\n<tbody>\n${rows.join('\n')}\n</tbody>\n</table></div>`;
}

/** The whole page. */
export function reportHtml(report: Report): string {
  const figures = report.figures.map(
    ({ picture, title, caption }) =>
      `<h2>${escapeHtml(title)}</h2>\n<figure>${picture.toString()}<figcaption>${escapeHtml(caption)}</figcaption></figure>`,
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
${figures.join('\n')}
${report.tables.map(tableHtml).join('\n')}
<script>${script}</script>
</body>
</html>
`;
}

/** A number in words: the binary tails of measured ones are cut, no clock resolves them. */
export function plain(value: number): string {
  const text = String(value);
  return text.length > 12 ? String(Number(value.toPrecision(6))) : text;
}

/** A number, sorted by its full value; a dash where there is none. */
export function numberCell(value: number | null | undefined, text: (value: number) => string = plain): ReportCell {
  return value === null || value === undefined ? { text: '—' } : { text: text(value), sort: value };
}

/** A commit's first twelve digits, and whether there was more than it. */
export function shortCommit(commit: string): string {
  return commit.replace(/^([0-9a-f]{12})[0-9a-f]{28}/, '$1');
}

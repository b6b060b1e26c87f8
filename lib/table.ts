/**
 * Plain-text tables: aligned columns, a rule below the header, nothing else; and numbers with their units. Pure.
 */

export interface Column {
  readonly title: string;
  /** Numbers are right-aligned. */
  readonly align?: 'left' | 'right';
  /** Longest width before a cell is shortened in its middle; absent = as wide as needed. */
  readonly maxWidth?: number;
}

/** Shortens `text` to `width` characters, keeping both ends: operator names differ at either. */
export function shorten(text: string, width: number): string {
  if (text.length <= width) return text;
  if (width <= 1) return '…'.slice(0, width);
  const head = Math.ceil((width - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
}

/**
 * Renders rows of strings below titles. Rows shorter than the header are filled with empty cells.
 * @example renderTable([{ title: 'operator' }, { title: 'µs', align: 'right' }], [['qkv', '12.3']])
 */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cell = (row: readonly string[], i: number): string => {
    // A message of several lines is one cell all the same.
    const text = (row[i] ?? '').replace(/\s*[\r\n]+\s*/g, ' ');
    const maxWidth = columns[i]?.maxWidth;
    return maxWidth === undefined ? text : shorten(text, maxWidth);
  };
  const widths = columns.map((column, i) => Math.max(column.title.length, ...rows.map((row) => cell(row, i).length)));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => (columns[i]?.align === 'right' ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [
    line(columns.map((column) => column.title)),
    widths.map((width) => '─'.repeat(width)).join('  '),
    ...rows.map((row) => line(columns.map((_, i) => cell(row, i)))),
  ].join('\n');
}

/** A list in a sentence: `AMOS, TensorIR and Welder`. */
export function inWords(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

/** Milliseconds with the digits that a measurement carries: four significant ones. */
export function formatMs(ms: number | null): string {
  if (ms === null) return '—';
  return ms === 0 ? '0' : ms >= 1000 ? ms.toFixed(0) : ms.toPrecision(4);
}

/** Bytes with a binary unit: 1.59 GiB. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value.toFixed(0) : value.toPrecision(value >= 1000 ? 4 : 3)} ${units[unit] ?? ''}`;
}

/** A rate with a decimal unit: 3.10 TB/s. */
export function formatRate(perSecond: number, unit: string): string {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];
  let value = perSecond;
  let prefix = 0;
  while (value >= 1000 && prefix < prefixes.length - 1) {
    value /= 1000;
    prefix += 1;
  }
  return `${value.toPrecision(3)} ${prefixes[prefix] ?? ''}${unit}`;
}

/** A number with four significant digits, whole ones in full: no clock resolves more. */
export function formatSignificant(value: number): string {
  return Number.isInteger(value) ? String(value) : Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(4);
}

/** Rows as CSV (RFC 4180); null is an empty field. */
export function csvOf(rows: readonly (readonly (string | number | null)[])[]): string {
  const field = (value: string | number | null): string => {
    const text = String(value ?? '');
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(field).join(',')}\r\n`).join('');
}

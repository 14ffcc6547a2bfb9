import { bytesOf, countOf, make, swatch } from './dom.ts';
import { formatShare } from './format.ts';
import type { UsageSeries } from './usage-series.ts';
import type { WaitingBar } from './waiting.ts';

/** Puts rows into a table; the first cell of each is its header. */
export function fillTable(
  table: HTMLTableElement,
  columns: readonly string[],
  rows: readonly (readonly (string | Node)[])[],
): void {
  const head = make('thead');
  const headRow = make('tr');
  for (const column of columns) {
    const cell = make(column === '' ? 'td' : 'th', column);
    if (column !== '') cell.scope = 'col';
    headRow.append(cell);
  }
  head.append(headRow);
  const body = make('tbody');
  for (const [first = '', ...others] of rows) {
    const row = make('tr');
    const header = make('th');
    header.scope = 'row';
    header.append(first);
    row.append(header);
    for (const other of others) {
      const cell = make('td');
      cell.append(other);
      row.append(cell);
    }
    body.append(row);
  }
  table.replaceChildren(head, body);
}

/** All moods, with what they mean, how often they were and what they brought. */
export function fillMoods(table: HTMLTableElement, series: UsageSeries): void {
  const rows = series.moods
    .filter(({ mood, totalRecords }) => mood.name !== 'other' || totalRecords > 0)
    .map(({ mood, totalRecords, totalBytes }) => {
      const name = make('div', '', 'mood');
      name.append(swatch(mood.colour), make('span', mood.name), make('small', mood.meaning));
      return [
        name,
        countOf(totalRecords),
        formatShare(totalRecords, series.totalRecords),
        bytesOf(totalBytes),
      ];
    });
  fillTable(table, ['Mood', 'Records', 'Share', 'Bytes'], rows);
}

/** The distribution as bars between their label and their share. */
export function fillWaits(table: HTMLTableElement, bars: readonly WaitingBar[]): void {
  const total = bars.reduce((sum, bar) => sum + bar.records, 0);
  const rows = bars.map(({ label, records, share }) => {
    const track = make('div', '', 'track');
    const fill = make('div', '', 'fill');
    fill.style.width = `${100 * share}%`;
    track.append(fill);
    const count = countOf(records);
    count.className = 'soft';
    return [label, track, formatShare(records, total), count];
  });
  fillTable(table, ['Waited', '', 'Share', 'Transfers'], rows);
}

import { formatBytes, formatCount, formatExactBytes } from './format.ts';

/** Returns the element with this id. Throws if it does not exist or has another type. */
export function byId<T extends Element>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} "${id}"`);
}

/** Creates an element with a text and a class. */
export function createElement<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  text = '',
  className = '',
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (text !== '') element.textContent = text;
  if (className !== '') element.className = className;
  return element;
}

/** Changes a text only if it differs, so that it is not announced or drawn again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A formatted count with a machine-readable value. */
export function countElement(count: number): HTMLDataElement {
  const data = createElement('data', formatCount(count), count === 0 ? 'zero' : '');
  data.value = String(count);
  return data;
}

/** A formatted size, with the exact value as a tooltip and machine-readable. */
export function bytesElement(bytes: number): HTMLDataElement {
  const data = createElement('data', formatBytes(bytes), bytes === 0 ? 'zero' : '');
  data.value = String(bytes);
  data.title = formatExactBytes(bytes);
  return data;
}

/** A small square with the colour of a CSS custom property. */
export function colourSwatch(colour: string): HTMLElement {
  const square = createElement('span', '', 'swatch');
  square.style.backgroundColor = `var(${colour})`;
  return square;
}

/** The current value of a CSS custom property, which depends on the colour scheme. */
export function readColour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

/** Fills a table; the first cell of each row is its header. */
export function fillTable(
  table: HTMLTableElement,
  columns: readonly string[],
  rows: readonly (readonly (string | Node)[])[],
): void {
  const head = createElement('thead');
  const headRow = createElement('tr');
  for (const column of columns) {
    const cell = createElement(column === '' ? 'td' : 'th', column);
    if (column !== '') cell.scope = 'col';
    headRow.append(cell);
  }
  head.append(headRow);
  const body = createElement('tbody');
  for (const [first = '', ...others] of rows) {
    const row = createElement('tr');
    const header = createElement('th');
    header.scope = 'row';
    header.append(first);
    row.append(header);
    for (const other of others) {
      const cell = createElement('td');
      cell.append(other);
      row.append(cell);
    }
    body.append(row);
  }
  table.replaceChildren(head, body);
}

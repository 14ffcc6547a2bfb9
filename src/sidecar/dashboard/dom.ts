import { formatBytes, formatCount, formatExactBytes } from './format.ts';

/** The element of the page with that id. Throws when the page has none, or one of another kind. */
export function byId<T extends Element>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${kind.name} "${id}"`);
}

/** A new element with a text and a class. */
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

/** Changes a text only when it is another one, so that nothing is announced or drawn again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A count that scripts can read too. */
export function countElement(count: number): HTMLDataElement {
  const data = createElement('data', formatCount(count), count === 0 ? 'zero' : '');
  data.value = String(count);
  return data;
}

/** Bytes, humane to read, exact for a pointer and for scripts. */
export function bytesElement(bytes: number): HTMLDataElement {
  const data = createElement('data', formatBytes(bytes), bytes === 0 ? 'zero' : '');
  data.value = String(bytes);
  data.title = formatExactBytes(bytes);
  return data;
}

/** A small square in the colour of a custom property. */
export function colourSwatch(colour: string): HTMLElement {
  const square = createElement('span', '', 'swatch');
  square.style.backgroundColor = `var(${colour})`;
  return square;
}

/** What a custom property holds at this moment, in the scheme that is shown. */
export function readColour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

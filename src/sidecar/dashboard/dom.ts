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

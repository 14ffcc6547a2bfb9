import { byId, setText } from './dom.ts';

/** After which a page that lacks a part of itself is loaded again, in milliseconds. */
const RELOAD_MS = 10_000;

try {
  await import('./dashboard.ts');
} catch (error) {
  // A file that did not arrive must not leave a page that looks as if it were still asking.
  byId('status', HTMLElement).dataset['tone'] = 'bad';
  setText(byId('headline', HTMLElement), 'This page did not load completely');
  setText(byId('headline-detail', HTMLElement), `It tries again in ${RELOAD_MS / 1000} s.`);
  setTimeout(() => location.reload(), RELOAD_MS);
  reportError(error);
}

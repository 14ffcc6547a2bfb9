import { byId, setText } from './dom.ts';

/** An incompletely loaded page is reloaded after this time, in milliseconds. */
const RELOAD_MS = 10_000;

try {
  await import('./dashboard.ts');
} catch (error) {
  // If a file is missing, the page must not look as if it were still loading.
  byId('status', HTMLElement).dataset['tone'] = 'bad';
  setText(byId('headline', HTMLElement), 'This page did not load completely');
  setText(byId('headline-detail', HTMLElement), `It reloads in ${RELOAD_MS / 1000} s.`);
  setTimeout(() => location.reload(), RELOAD_MS);
  reportError(error);
}

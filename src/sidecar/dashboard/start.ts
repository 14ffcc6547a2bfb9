/** An incompletely loaded page is reloaded after this time, in milliseconds. */
const RELOAD_MS = 10_000;

try {
  await import('./dashboard.ts');
} catch (error) {
  // If a file is missing, the page must not look as if it were still loading. Any file may be missing, so this
  // one imports none.
  document.querySelector('#status')?.setAttribute('data-tone', 'bad');
  document.querySelector('#headline')?.replaceChildren('This page did not load completely');
  document.querySelector('#headline-detail')?.replaceChildren(`It reloads in ${RELOAD_MS / 1000} s.`);
  setTimeout(() => location.reload(), RELOAD_MS);
  reportError(error);
}

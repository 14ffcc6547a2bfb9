import { deepEqual, match, ok } from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ROOT, read } from './deployment-settings.ts';
import { linksIn } from './markdown.ts';

/** A README that is longer is not read. */
const MAX_LINES = 150;
const MAX_BYTES = 9000;

const PAGES = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));

describe('the README', () => {
  const readme = read('README.md');

  test('is short', () => {
    const lines = readme.split('\n').length - 1;
    ok(lines <= MAX_LINES, `${lines} lines`);
    const bytes = Buffer.byteLength(readme);
    ok(bytes <= MAX_BYTES, `${bytes} bytes`);
  });

  test('has a link to each page', () => {
    const linked = new Set(linksIn(readme).map(({ target }) => target.replace(/#.*$/u, '')));
    const missing = PAGES.filter((name) => !linked.has(`docs/${name}`));
    deepEqual(missing, []);
  });
});

describe('each page', () => {
  test('is found', () => {
    ok(PAGES.length >= 15, `${PAGES.length} pages`);
  });

  for (const name of PAGES) {
    test(`says first for whom it is: ${name}`, () => {
      const [title = '', opening = '', next = ''] = read(`docs/${name}`).split('\n\n');
      match(title, /^# \S[^\n]*$/u);
      match(opening, /^(?:This page is for|For) (?:operators|engineers)\b[^.]*(?:\.\w[^.]*)*\.(?:\s|$)/u);
      ok(next !== '', 'it has content');
    });
  }
});

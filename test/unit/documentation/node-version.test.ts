import { deepEqual } from 'node:assert/strict';
import { globSync } from 'node:fs';
import { test } from 'node:test';
import packageJson from '../../../package.json' with { type: 'json' };
import { ROOT, read } from './deployment-settings.ts';

/** Pages that must state the required version. */
const STATING_PAGES = ['README.md', 'docs/development.md', 'docs/systemd.md'];

test('the pages state the required version of Node.js, the same as package.json', () => {
  const required = packageJson.devEngines.runtime.version.replace('>=', '');
  const stated = globSync(['README.md', 'docs/*.md'], { cwd: ROOT }).flatMap((page) => {
    const versions = [...read(page).matchAll(/\bNode(?:\.js)?\s+(\d[\d.]*)\s+or\s+newer/gu)];
    return versions.map(([, version]) => [page, version]);
  });
  deepEqual(
    stated.filter(([, version]) => version !== required),
    [],
  );
  const stating = new Set(stated.map(([page]) => page));
  deepEqual(
    STATING_PAGES.filter((page) => !stating.has(page)),
    [],
  );
});

import { deepEqual, match, ok } from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..', '..');

/** The pages with `docker run`, and how many of these commands they have at least. */
const PAGES = [
  ['cluster.md', 1],
  ['docker.md', 4],
  ['migration.md', 3],
  ['sidecar.md', 1],
  ['tls.md', 2],
] as const;

function readPage(name: string): string {
  return readFileSync(join(ROOT, 'docs', name), 'utf8');
}

/** The commands in the code blocks of a page, each in one line. */
function commandsIn(page: string): string[] {
  const blocks = [...page.matchAll(/^```sh\n(.*?)^```$/gmsu)].map(([, block = '']) => block);
  return blocks
    .join('')
    .replaceAll(/\s*\\\n\s*/gu, ' ')
    .split('\n');
}

describe('the commands with docker run', () => {
  for (const [name, least] of PAGES) {
    test(`in ${name} name the image by one variable, which is set first`, () => {
      const commands = commandsIn(readPage(name));
      const first = commands.findIndex((command) => command.startsWith('docker run'));
      const names = commands.slice(0, first).filter((command) => command.startsWith('IMAGE='));
      match(names.join(), /^IMAGE=\S+\/transit-relay:\d+$/u);
      const runs = commands.filter((command) => command.startsWith('docker run'));
      ok(runs.length >= least, `${runs.length} commands`);
      for (const command of runs) match(command, / \$IMAGE(?: |$)/u);
    });
  }
});

describe('docs/docker.md', () => {
  test('names compose files that exist, among them all in deploy/compose', () => {
    const page = readPage('docker.md');
    const named = new Set([...page.matchAll(/\bdeploy\/[\w/-]+\.yml\b/gu)].map(([path]) => path));
    for (const path of named) ok(existsSync(join(ROOT, path)), path);
    const all = globSync('deploy/compose/*.yml', { cwd: ROOT });
    ok(all.length > 0);
    deepEqual(
      all.filter((path) => !named.has(path)),
      [],
    );
  });

  test('has the defaults of compose', () => {
    const compose = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
    const [, rest = ''] = readPage('docker.md').split('\n### Settings\n');
    const [section = ''] = rest.split('\n### ');
    const rows = [...section.matchAll(/^\| `(\w+)` \| `(\S+)` \|/gmu)];
    ok(rows.length > 5, `${rows.length} rows`);
    for (const [, variable = '', value = ''] of rows)
      ok(compose.includes(`\${${variable}:-${value}}`), `${variable}=${value}`);
  });
});

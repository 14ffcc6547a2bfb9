import { deepEqual, ok } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { dirname, posix } from 'node:path';
import { describe, test } from 'node:test';
import { ROOT, read } from './deployment-settings.ts';
import { anchorsIn, linksIn } from './markdown.ts';

/** Hosts that readers reach on their own machine, where there is no TLS. */
const LOCAL_URL = /^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)/u;

/**
 * Checks the links of all Markdown files: relative ones against files and headings, external ones for `https`.
 *
 * @param files all files of the repository by path; the content of files that are not Markdown does not matter
 * @returns broken links, each with its place
 */
function brokenLinks(files: ReadonlyMap<string, string>): string[] {
  const directories = new Set([...files.keys()].flatMap(directoriesOf));
  const problemOf = (page: string, target: string): string | null => {
    if (/^[a-z][a-z0-9+.-]*:/iu.test(target))
      return /^http:/iu.test(target) && !LOCAL_URL.test(target) ? 'is not https' : null;
    if (target.startsWith('[')) return 'has no definition';
    const [path = '', anchor] = target.split('#', 2).map(decodeURIComponent);
    const file = path === '' ? page : posix.join(dirname(page), path).replace(/\/$/u, '');
    const text = files.get(file);
    if (text === undefined && (!directories.has(file) || anchor !== undefined)) return 'does not exist';
    if (anchor === undefined) return null;
    return file.endsWith('.md') && anchorsIn(text ?? '').has(anchor) ? null : 'has no such heading';
  };
  return [...files]
    .filter(([page]) => page.endsWith('.md'))
    .flatMap(([page, text]) =>
      linksIn(text).flatMap(({ target, line }) => {
        const problem = problemOf(page, target);
        return problem === null ? [] : [`${page}:${line}: ${target} ${problem}`];
      }),
    );
}

function directoriesOf(path: string): string[] {
  const directory = dirname(path);
  return directory === '.' ? ['.'] : [directory, ...directoriesOf(directory)];
}

/** All tracked files, Markdown files with their content. */
function readRepository(): Map<string, string> {
  const paths = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0');
  const contentOf = (path: string): string => (path.endsWith('.md') ? read(path) : '');
  return new Map(paths.filter((path) => path !== '').map((path) => [path, contentOf(path)]));
}

describe('the links in Markdown files', () => {
  const repository = readRepository();

  test('are found', () => {
    const counts = [...repository].map(([path, text]) => (path.endsWith('.md') ? linksIn(text).length : 0));
    const count = counts.reduce((sum, each) => sum + each, 0);
    ok(count > 100, `${count} links`);
  });

  test('point to files and headings that exist, and external ones use https', () => {
    deepEqual(brokenLinks(repository), []);
  });
});

describe('the check of links', () => {
  const TARGET = `# The \`relay\`, its_name & [more](x.md)

## Twice
## Twice
### /status.json
### RELAY_MAX_CONNECTIONS
### What a client hears: "busy"
\`\`\`sh
# a comment
\`\`\`
`;
  const check = (page: string): string[] =>
    brokenLinks(
      new Map([
        ['docs/page.md', page],
        ['docs/target.md', TARGET.replace('(x.md)', '(page.md)')],
        ['src/main.ts', ''],
      ]),
    );

  const valid = [
    '[a](target.md) [b](../docs/target.md) [c](../src/main.ts) [d](../src) [e](../src/) ![f](../src/main.ts)',
    '# Here\n[a](#here) [text over\ntwo lines](target.md#twice-1 "title")',
    '[a](target.md#the-relay-its_name--more) [b](target.md#statusjson)',
    '[a](target.md#relay_max_connections) [b](target.md#what-a-client-hears-busy)',
    '[a](https://example.org/) <https://example.org> <http://127.0.0.1:4004/> http://localhost:4004',
    '`[a](missing.md)` ``http://example.org/`x`` <!-- [a](missing.md) -->',
    '```sh\ncurl http://example.org\n[a](missing.md)\n```\n[a](target.md)',
    '  ```sh\n  curl http://example.org\n  ```',
    '[text][name], an array[0][1] in prose\n\n[name]: target.md\n[1]: target.md',
  ];
  for (const page of valid) {
    test(`accepts ${JSON.stringify(page)}`, () => {
      deepEqual(check(page), []);
    });
  }

  const broken: readonly (readonly [page: string, problem: string])[] = [
    ['[a](missing.md)', '1: missing.md does not exist'],
    ['text\n\n![a](missing.png)', '3: missing.png does not exist'],
    ['[a](Target.md)', '1: Target.md does not exist'],
    ['[a](target.md#missing)', '1: target.md#missing has no such heading'],
    ['[a](#missing)', '1: #missing has no such heading'],
    ['[a](target.md#twice-2)', '1: target.md#twice-2 has no such heading'],
    ['[a](target.md#Twice)', '1: target.md#Twice has no such heading'],
    ['[a](target.md#a-comment)', '1: target.md#a-comment has no such heading'],
    ['[a](../src/main.ts#L1)', '1: ../src/main.ts#L1 has no such heading'],
    ['[a](../../other/page.md)', '1: ../../other/page.md does not exist'],
    ['[a](/docs/target.md)', '1: /docs/target.md does not exist'],
    ['[a](http://example.org/)', '1: http://example.org/ is not https'],
    ['See http://example.org/a.', '1: http://example.org/a is not https'],
    ['<http://127.0.0.1.example.org>', '1: http://127.0.0.1.example.org is not https'],
    ['```\n```\n[a](missing.md)', '3: missing.md does not exist'],
    ['a ` and [a](missing.md)', '1: missing.md does not exist'],
    ['[`code`](missing.md)', '1: missing.md does not exist'],
    ['[text][name]', '1: [name] has no definition'],
    ['[text][name]\n\n[name]: missing.md', '3: missing.md does not exist'],
    ['<img src="missing.png">', '1: missing.png does not exist'],
  ];
  for (const [page, problem] of broken) {
    test(`rejects ${JSON.stringify(page)}`, () => {
      deepEqual(check(page), [`docs/page.md:${problem}`]);
    });
  }
});

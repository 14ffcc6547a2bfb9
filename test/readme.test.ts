import { deepEqual, equal, ok } from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { RELAY_DEFAULTS, readRelayConfig } from '../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS, readSidecarConfig } from '../src/config/sidecar-config.ts';
import { OpenRelay } from './status/open-relay.ts';
import { scrape } from './support/metrics.ts';

const ROOT = join(import.meta.dirname, '..');

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** What the table says where the environment says nothing, in words. */
const IN_WORDS: ReadonlyMap<string, string> = new Map([
  ['RELAY_QUOTA_STATE', 'the usage database’s path and -quota.json'],
]);

/** What stands between a heading and the next. */
function section(heading: string): string {
  const [, rest = ''] = README.split(`\n${heading}\n`);
  const [text = ''] = rest.split(/\n## /u);
  return text;
}

describe('the README', () => {
  test('has every variable of the relay in its table, once and with its default', () => {
    const rows = [...section('## Configuration').matchAll(/^\| `(RELAY_\w+)` *\| ([^|]*) \|/gmu)];
    const notifications = rows.map(([, variable = '', cell = '']) => [
      variable,
      cell.replaceAll('`', '').replaceAll("'", '’').trim(),
    ]);
    const real = Object.entries(RELAY_DEFAULTS).map(([variable, text]) => [
      variable,
      IN_WORDS.get(variable) ?? text,
    ]);
    deepEqual(notifications, real);
  });

  test('has settings for a public relay that both programs take without a word', () => {
    const [, block = ''] =
      /```sh\n([^`]*RELAY_QUOTA=[^`]*)```/u.exec(section('## Running a public relay')) ?? [];
    const settings = block
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split('=', 2));
    const known = new Set([...Object.keys(RELAY_DEFAULTS), ...Object.keys(SIDECAR_DEFAULTS)]);
    // What compose alone knows is looked for in its own test.
    const own = settings.filter(([variable = '']) => known.has(variable));
    ok(own.length > 10, `${own.length} settings`);
    const environment = { RELAY_USAGE_DB: '/data/usage.sqlite', SIDECAR_USAGE_DB: '/relay/usage.sqlite' };
    const all = { ...environment, ...Object.fromEntries(own) };
    for (const read of [readRelayConfig(all, 1), readSidecarConfig(all)]) {
      equal(read.kind, 'ok');
      deepEqual(read.warnings, []);
    }
  });

  test('says no more of compose than there is', () => {
    const compose = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
    const example = readFileSync(join(ROOT, 'deploy', 'compose', '.env.example'), 'utf8');
    for (const [, variable = ''] of section('## Running a public relay').matchAll(/^([A-Z_]+)=/gmu)) {
      ok(compose.includes(variable), variable);
      ok(example.includes(`#${variable}=`), variable);
    }
  });

  test('has every metric of the relay in its table, and every label', async () => {
    await using relay = await OpenRelay.start();
    const series = [...(await scrape(relay.statusUrl)).keys()];
    const real = new Set(
      series
        .map((each) => each.replace(/^transit_relay_/u, '').replace(/\{.*$/u, ''))
        .map((name) => name.replace(/_(?:bucket|sum|count)$/u, ''))
        .filter((name) => !/^(?:process|nodejs)_/u.test(name)),
    );
    const words = (text: string): string[] => [...text.matchAll(/`(\w+)`/gu)].map(([, word = '']) => word);
    const rows = [...section('## Metrics').matchAll(/^\| (`[^|]*) \| ([^|]*) \|/gmu)];
    deepEqual(new Set(rows.flatMap(([, names = '']) => words(names))), real);
    for (const [, names = '', labels = ''] of rows) {
      const [name = ''] = words(names);
      const ofIt = series.filter((each) => each.startsWith(`transit_relay_${name}{`)).join(' ');
      for (const label of words(labels))
        ok(new RegExp(`\\b${label}\\b`, 'u').test(ofIt), `${name}: ${label}`);
    }
  });

  test('links to files and headings that are there', () => {
    const titles = [...README.matchAll(/^#+ (.+)$/gmu)].map(([, title = '']) => title.toLowerCase());
    const headings = new Set(titles.map((title) => title.replaceAll(/[^\w\s-]/gu, '').replaceAll(' ', '-')));
    const links = [...README.matchAll(/\]\((?!https?:)([^)]+)\)/gu)].map(([, link = '']) => link);
    ok(links.length > 5, `${links.length} links`);
    for (const link of links) {
      const isThere = link.startsWith('#') ? headings.has(link.slice(1)) : existsSync(join(ROOT, link));
      ok(isThere, link);
    }
  });
});

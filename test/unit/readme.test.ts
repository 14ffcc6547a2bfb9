import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { COMPOSE_MARKER } from '../../src/config/deployment.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { RELAY_DEFAULTS, readRelayConfig } from '../../src/config/relay-config.ts';
import { readSidecarConfig } from '../../src/config/sidecar-config.ts';
import { CertificateDirectory } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import { OpenRelay } from '../support/open-relay.ts';
import { scrape } from '../support/metrics.ts';

const ROOT = join(import.meta.dirname, '..', '..');

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** Defaults that the table describes in words. */
const DEFAULTS_IN_WORDS: ReadonlyMap<string, string> = new Map([
  ['RELAY_ACME_STATE', 'acme beside the usage database'],
  ['RELAY_QUOTA_STATE', 'the usage database’s path and -quota.json'],
]);

/** The text between a heading and the next one. */
function section(heading: string): string {
  const [, rest = ''] = README.split(`\n${heading}\n`);
  const [text = ''] = rest.split(/\n## /u);
  return text;
}

describe('the README', () => {
  test('lists every variable of the relay once, with its default', () => {
    const rows = [...section('## Configuration').matchAll(/^\| `(RELAY_\w+)` \|\s*([^|]*?)\s*\|/gmu)];
    const documented = rows.map(([, variable = '', cell = '']) => [
      variable,
      cell.replaceAll('`', '').replaceAll("'", '’').trim(),
    ]);
    const expected = Object.entries(RELAY_DEFAULTS).map(([variable, text]) => [
      variable,
      DEFAULTS_IN_WORDS.get(variable) ?? text,
    ]);
    deepEqual(documented, expected);
  });

  test('has settings for a public relay that both programs accept without warnings', () => {
    const [, block = ''] =
      /```sh\n([^`]*RELAY_QUOTA=[^`]*)```/u.exec(section('## Running a public relay')) ?? [];
    const settings = block
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split('=', 2));
    ok(settings.length > 10, `${settings.length} settings`);
    const environment = {
      [COMPOSE_MARKER]: 'true',
      RELAY_USAGE_DB: '/data/usage.sqlite',
      SIDECAR_USAGE_DB: '/relay/usage.sqlite',
    };
    const all = { ...environment, ...Object.fromEntries(settings) };
    for (const read of [readRelayConfig(all, 1), readSidecarConfig(all)]) {
      equal(read.kind, 'ok');
      deepEqual(read.warnings, []);
    }
  });

  test('names only settings that compose has', () => {
    const example = readFileSync(join(ROOT, 'deploy', 'compose', '.env.example'), 'utf8');
    for (const [, variable = ''] of section('## Running a public relay').matchAll(/^([A-Z_]+)=/gmu))
      ok(example.includes(`#${variable}=`), variable);
  });

  test('lists every metric of the relay with its labels', async (context) => {
    const { files } = await CertificateDirectory.open(context, makeIdentity());
    const tls = `ssl:0:interface=127.0.0.1:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
    await using relay = await OpenRelay.start({ RELAY_LISTEN: `tcp:0:interface=127.0.0.1 ${tls}` });
    const series = [...(await scrape(relay.statusUrl)).keys()];
    const expected = new Set(
      series
        .map((each) => each.replace(/^transit_relay_/u, '').replace(/\{.*$/u, ''))
        .map((name) => name.replace(/_(?:bucket|sum|count)$/u, ''))
        .filter((name) => !/^(?:process|nodejs)_/u.test(name)),
    );
    const words = (text: string): string[] => [...text.matchAll(/`(\w+)`/gu)].map(([, word = '']) => word);
    const rows = [...section('## Metrics').matchAll(/^\| (`[^|]*) \|\s*([^|]*?)\s*\|/gmu)];
    deepEqual(new Set(rows.flatMap(([, names = '']) => words(names))), expected);
    for (const [, names = '', labels = ''] of rows) {
      const [name = ''] = words(names);
      const seriesOfMetric = series.filter((each) => each.startsWith(`transit_relay_${name}{`)).join(' ');
      for (const label of words(labels))
        ok(new RegExp(`\\b${label}\\b`, 'u').test(seriesOfMetric), `${name}: ${label}`);
    }
  });

  test('names the image by one variable, which it sets first', () => {
    const [, code = ''] = /```sh\n(IMAGE=.+\n)/u.exec(README) ?? [];
    match(code, /^IMAGE=\S+\/transit-relay:\d+\n$/u);
    const commands = README.replaceAll('\\\n', ' ').match(/^docker run .+$/gmu) ?? [];
    ok(commands.length >= 5, `${commands.length} commands`);
    for (const command of commands) match(command, / \$IMAGE(?: |$)/u);
    ok(README.indexOf(code) < README.indexOf('docker run'));
  });

  test('and the other pages state the required version of Node.js, the same as package.json', () => {
    const required = packageJson.devEngines.runtime.version.replace('>=', '');
    for (const page of ['README.md', 'docs/systemd.md']) {
      const text = readFileSync(join(ROOT, page), 'utf8');
      const versions = [...text.matchAll(/\bNode(?:\.js)? (\d[\d.]*)\*{0,2} or newer/gu)].map(
        ([, version]) => version,
      );
      deepEqual(versions, [required], page);
    }
  });

  test('links to files and headings that exist', () => {
    const titles = [...README.matchAll(/^#+ (.+)$/gmu)].map(([, title = '']) => title.toLowerCase());
    const headings = new Set(titles.map((title) => title.replaceAll(/[^\w\s-]/gu, '').replaceAll(' ', '-')));
    const links = [...README.matchAll(/\]\((?!https?:)([^)]+)\)/gu)].map(([, link = '']) => link);
    ok(links.length > 5, `${links.length} links`);
    for (const link of links) {
      const exists = link.startsWith('#') ? headings.has(link.slice(1)) : existsSync(join(ROOT, link));
      ok(exists, link);
    }
  });
});

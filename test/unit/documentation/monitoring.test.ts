import { deepEqual, equal, ifError, ok } from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CachedCheck, SidecarMetrics } from '../../../src/sidecar/metrics.ts';
import { NO_TOTALS } from '../../../src/sidecar/usage/usage-totals.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { parseMetrics, scrape } from '../../support/metrics.ts';
import type { Figures } from '../../support/metrics.ts';
import { OpenRelay } from '../../support/open-relay.ts';

const PAGE = readFileSync(join(import.meta.dirname, '..', '..', '..', 'docs', 'monitoring.md'), 'utf8');

/** Metrics that Node.js programs have by default. The page names only some. */
const DEFAULT_METRIC = /^(?:process|nodejs)_/u;

/** The text between a heading of the second level and the next one. */
function chapter(heading: string): string {
  const [, rest = ''] = PAGE.split(`\n## ${heading}\n`);
  const [text = ''] = rest.split('\n## ', 1);
  return text;
}

/** Values by label. Empty: the page does not list them. */
type Labels = Readonly<Record<string, readonly string[]>>;

/** The metrics in the list items of a chapter: "`name` (`label`: `value`, `value`): …" or "`name` (`label`, `label`): …". */
function documentedMetrics(heading: string): Map<string, Labels> {
  const items = chapter(heading).replaceAll(/\n {2}(?=\S)/gu, ' ');
  const metrics = new Map<string, Labels>();
  for (const [, name = '', text = ''] of items.matchAll(/^- `(transit_relay_\w+)`(?: \(([^)]*)\))?: \S/gmu)) {
    equal(metrics.has(name), false, `${name} is listed twice`);
    const [labels = '', values = ''] = text.split(': ', 2);
    metrics.set(name, Object.fromEntries(codeSpans(labels).map((label) => [label, codeSpans(values)])));
  }
  return metrics;
}

function codeSpans(text: string): string[] {
  return [...text.matchAll(/`(\w+)`/gu)].map(([, word = '']) => word);
}

/** Values by label. */
type RealLabels = Record<string, Set<string>>;

/** The metrics of a scrape. Series of a histogram have the name of the histogram, and no label for their bucket. */
function metricsOf(figures: Figures): Map<string, RealLabels> {
  const metrics = new Map<string, RealLabels>();
  for (const series of figures.keys()) {
    const [, name = '', labels = ''] = /^(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})?$/u.exec(series) ?? [];
    const known = metrics.get(name) ?? {};
    for (const [, label = '', value = ''] of labels.matchAll(/(\w+)="([^"]*)"/gu))
      if (label !== 'le') (known[label] ??= new Set()).add(value);
    metrics.set(name, known);
  }
  return metrics;
}

function checkMetrics(
  documented: ReadonlyMap<string, Labels>,
  scraped: ReadonlyMap<string, RealLabels>,
): void {
  const expected = [...scraped.keys()].filter((name) => !DEFAULT_METRIC.test(name));
  deepEqual([...documented.keys()].toSorted(), expected.toSorted());
  for (const [name, labels] of documented) {
    const real = scraped.get(name) ?? {};
    deepEqual(Object.keys(labels).toSorted(), Object.keys(real).toSorted(), `labels of ${name}`);
    for (const [label, values] of Object.entries(labels))
      if (values.length > 0)
        deepEqual(values.toSorted(), [...(real[label] ?? [])].toSorted(), `${name}: ${label}`);
  }
}

describe('docs/monitoring.md', () => {
  test('lists every metric of the relay with its labels', async (context) => {
    const { files } = await CertificateDirectory.open(context, makeIdentity());
    const tls = `ssl:0:interface=127.0.0.1:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
    await using relay = await OpenRelay.start({ RELAY_LISTEN: `tcp:0:interface=127.0.0.1 ${tls}` });
    const scraped = metricsOf(await scrape(relay.statusUrl));
    checkMetrics(documentedMetrics('Metrics of the relay'), scraped);
    const named = [...PAGE.matchAll(/`((?:process|nodejs)_\w+)`/gu)].map(([, name = '']) => name);
    ok(named.length > 5, `${named.length} default metrics`);
    for (const name of named) ok(scraped.has(name), name);
    const transports = /`transport` is ([^(]+)\(/u.exec(PAGE)?.[1] ?? '';
    const moods = /`mood` is ([^;]+);/u.exec(PAGE)?.[1] ?? '';
    const { mood, transport } = scraped.get('transit_relay_connections_ended_total') ?? {};
    deepEqual([codeSpans(transports), codeSpans(moods)], [[...(transport ?? [])], [...(mood ?? [])]]);
  });

  test('lists every metric of the sidecar with its labels', async () => {
    const check = new CachedCheck(() => Promise.resolve(true), ifError);
    const metrics = new SidecarMetrics({
      checks: { relay: check, transfer: check, snapshot: check, database: check },
      totals: () => NO_TOTALS,
      databaseBytes: () => 0,
      snapshots: () => [],
      snapshotCounts: () => ({ taken: 0, failed: 0 }),
      snapshotIntervalMs: 1000,
      warnings: () => 0,
    });
    const figures = parseMetrics(await metrics.render());
    checkMetrics(documentedMetrics('Metrics of the sidecar'), metricsOf(figures));
  });

  test('describes every field of /status.json', async () => {
    await using relay = await OpenRelay.start();
    const text = chapter('/status.json');
    const fields = Object.keys(await relay.status());
    ok(fields.length > 10, `${fields.length} fields`);
    for (const field of fields) ok(text.includes(`\`${field}\``), field);
  });
});

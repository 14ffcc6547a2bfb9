import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at, has, listAt, textAt } from './fields.ts';
import { panelsOf, readDashboard } from './shipped.ts';

/**
 * The unit of an expression: the first pattern that matches. Names of Grafana: `bytes` are KiB and MiB, used for
 * memory; `decbytes` are kB and MB, used for traffic.
 */
const UNITS: readonly (readonly [expr: RegExp, unit: string])[] = [
  [/rate\(\w+relayed_bytes_total/u, 'Bps'],
  [/\} \/ [^/]*(?:quota_limit_bytes|connections_limit|max_fds)/u, 'percentunit'],
  [/^\(\w+_reset_timestamp_seconds/u, 's'],
  [/quota_used_bytes|^\w+quota_limit_bytes|relayed_bytes_total|pair_size_bytes/u, 'decbytes'],
  [/_bytes\{/u, 'bytes'],
  [/cpu_\w*seconds_total|gc_duration_seconds/u, 'percentunit'],
  // Seconds per second: the average number at a time.
  [/paused_seconds_total/u, 'short'],
  [/changes\(/u, 'short'],
  [/snapshot_timestamp_seconds/u, 'dateTimeAsIso'],
  [/_seconds/u, 's'],
  [/rate\(/u, 'cps'],
  [/^\w+build_info|_ready|^up/u, 'none'],
  [/^min.*(?:check_ok|database_up)|^\w+cluster_up/u, 'bool'],
  [/^/u, 'short'],
];

interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

const dashboard = readDashboard();
const panels = panelsOf(dashboard);

/** The unit of a heatmap is that of its buckets. */
function unitOf(panel: unknown): string {
  return textAt(panel, 'type') === 'heatmap'
    ? textAt(panel, 'options', 'yAxis', 'unit')
    : textAt(panel, 'fieldConfig', 'defaults', 'unit');
}

function placeOf(panel: unknown): Place {
  const [x = 0, y = 0, w = 0, h = 0] = ['x', 'y', 'w', 'h'].map((key) => Number(at(panel, 'gridPos', key)));
  return { x, y, w, h };
}

function overlap(a: Place, b: Place): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

describe('the dashboard', () => {
  test('works with Grafana 11 and 12 and any name of the data source', () => {
    equal(at(dashboard, 'schemaVersion'), 39);
    // Grafana only asks for inputs in a manual import. A provisioned file has none.
    equal(has(dashboard, '__inputs'), false);
    const variables = listAt(dashboard, 'templating', 'list');
    deepEqual(
      variables.map((variable) => `${textAt(variable, 'type')} ${textAt(variable, 'name')}`),
      ['datasource DS_PROMETHEUS', 'query job', 'query instance'],
    );
    // eslint-disable-next-line no-template-curly-in-string -- A variable of Grafana.
    const source = '${DS_PROMETHEUS}';
    for (const variable of variables.slice(1)) equal(textAt(variable, 'datasource', 'uid'), source);
    for (const { panel } of panels) {
      for (const part of [panel, ...listAt(panel, 'targets')])
        equal(textAt(part, 'datasource', 'uid'), source);
    }
  });

  test('has a description and the right unit for each panel', () => {
    ok(panels.length > 40, `${panels.length} panels`);
    for (const { title, panel, queries } of panels) {
      match(textAt(panel, 'description'), /^\S.{15,}\.$/u, title);
      ok(queries.length > 0, title);
      for (const expr of queries) {
        equal(unitOf(panel), UNITS.find(([fits]) => fits.test(expr))?.[1], `${title}: ${expr}`);
      }
    }
  });

  test('uses its variables in every query', () => {
    for (const { title, queries } of panels) {
      for (const expr of queries) {
        for (const [selector, metric = ''] of expr.matchAll(
          /\b(up|(?:transit_relay|process|nodejs)_\w+)(\{[^}]*\})?/gu,
        ))
          match(
            selector,
            /\{(?:\w+!?="link", )?job=~"\$job", instance=~"\$instance"\}$/u,
            `${title}: ${metric}`,
          );
      }
    }
  });

  test('has panels with unique ids and titles that do not overlap', () => {
    const all = listAt(dashboard, 'panels');
    equal(new Set(all.map((panel) => at(panel, 'id'))).size, all.length);
    equal(new Set(panels.map(({ title }) => title)).size, panels.length);
    const places = all.map(placeOf);
    for (const [index, place] of places.entries()) {
      ok(place.x + place.w <= 24);
      for (const other of places.slice(index + 1)) equal(overlap(place, other), false, JSON.stringify(place));
    }
  });
});

import { deepEqual, doesNotMatch, equal, match, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at, has, listAt, textAt } from './fields.ts';
import { schemaProblems } from './grafana-schema.ts';
import { DASHBOARDS, isRow, panelsOf, readDashboard } from './shipped.ts';

/**
 * The unit of an expression: the first pattern that matches. All bytes have powers of 1000 (Grafana's `decbytes`, and
 * `Bps` per second), as the settings do.
 */
const UNITS: readonly (readonly [expr: RegExp, unit: string])[] = [
  [/rate\(\w+relayed_bytes_total/u, 'Bps'],
  [/\} \/ [^/]*(?:quota_limit_bytes|connections_limit|max_fds)/u, 'percentunit'],
  [/^\(\w+_reset_timestamp_seconds/u, 's'],
  [/ == bool 0$|^min.*(?:check_ok|database_up)|^\w+cluster_up/u, 'bool'],
  [/_bytes(?:_total|_bucket)?\{/u, 'decbytes'],
  [/cpu_\w*seconds_total|gc_duration_seconds/u, 'percentunit'],
  // Seconds per second: the average number at a time. And numbers per minute.
  [/paused_seconds_total|^60 \*/u, 'short'],
  [/changes\(/u, 'short'],
  [/snapshot_timestamp_seconds/u, 'dateTimeAsIso'],
  [/_seconds/u, 's'],
  [/^\w+build_info|_ready|^up/u, 'none'],
  [/rate\(/u, 'cps'],
  [/^/u, 'short'],
];

interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

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

/** A copy of the dashboard whose first text `from` is `to`. */
function changed(dashboard: unknown, from: string, to: string): unknown {
  const json = JSON.stringify(dashboard);
  ok(json.includes(from), from);
  const copy: unknown = JSON.parse(json.replace(from, to));
  return copy;
}

for (const name of DASHBOARDS) {
  const dashboard = readDashboard(name);
  const panels = panelsOf(dashboard);
  const topLevel = listAt(dashboard, 'panels');
  const rows = topLevel.filter(isRow);

  describe(`${name}.json`, () => {
    test("fits Grafana's schema", () => {
      deepEqual(schemaProblems(dashboard), []);
    });

    test("does not fit Grafana's schema with a wrong field, type or value", () => {
      for (const [from, to, problem] of [
        ['"gridPos":', '"gridPosition":', /gridPos/u],
        ['"expr":', '"expression":', /expr/u],
        ['"collapsed":', '"folded":', /collapsed|additional properties/u],
        ['"schemaVersion":39', '"schemaVersion":"39"', /schemaVersion must be integer/u],
        ['"displayMode":"list"', '"displayMode":"lists"', /displayMode must be equal to one of/u],
        ['"type":"timeseries"', '"type":"graph"', /type|discriminator/u],
        ['"steps":[', '"stages":[', /steps/u],
      ] as const) {
        if (from === '"collapsed":' && rows.length === 0) continue;
        match(schemaProblems(changed(dashboard, from, to)).join('\n'), problem, from);
      }
    });

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

    test('links to the other dashboards of the relay', () => {
      const [link] = listAt(dashboard, 'links');
      equal(textAt(link, 'type'), 'dashboards');
      for (const tag of listAt(link, 'tags')) ok(listAt(dashboard, 'tags').includes(tag));
    });

    test('has a description and the right unit for each panel', () => {
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
              /\{(?:\w+!?="\w+", )?job=~"\$job", instance=~"\$instance"\}$/u,
              `${title}: ${metric}`,
            );
        }
      }
    });

    test('has only its first row expanded', () => {
      equal(
        rows.every((row, index) => at(row, 'collapsed') === index > 0),
        true,
      );
      // Grafana keeps the panels of an expanded row beside it, and those of a collapsed row in it.
      for (const row of rows) equal(listAt(row, 'panels').length > 0, at(row, 'collapsed'));
    });

    test('has panels with unique ids and titles that do not overlap', () => {
      const inRows = rows.map((row) => listAt(row, 'panels'));
      const all = [...topLevel, ...inRows.flat()];
      equal(new Set(all.map((panel) => at(panel, 'id'))).size, all.length);
      equal(new Set(panels.map(({ title }) => title)).size, panels.length);
      for (const neighbours of [topLevel, ...inRows]) {
        const places = neighbours.map(placeOf);
        for (const [index, place] of places.entries()) {
          ok(place.x + place.w <= 24);
          for (const other of places.slice(index + 1))
            equal(overlap(place, other), false, JSON.stringify(place));
        }
      }
    });
  });
}

test('only the cluster dashboard has metrics of a cluster', () => {
  for (const { title, queries } of panelsOf(readDashboard('dashboard')))
    doesNotMatch(queries.join(), /cluster_|forward/u, title);
  ok(panelsOf(readDashboard('dashboard')).length > 60);
  ok(panelsOf(readDashboard('cluster')).length > 8);
});

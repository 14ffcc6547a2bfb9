import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { listAt, textAt, textsAt } from './fields.ts';

const DEPLOY = join(import.meta.dirname, '..', '..', '..', 'deploy');

/** Directory of the Prometheus files. */
export const PROMETHEUS_DIRECTORY = join(DEPLOY, 'prometheus');

/** A rule of alerts.yml. */
export interface Alert {
  readonly name: string;
  readonly expr: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
}

/** A file of deploy/prometheus, parsed. */
export function readPrometheusFile(name: string): unknown {
  const value: unknown = parse(readFileSync(join(PROMETHEUS_DIRECTORY, name), 'utf8'));
  return value;
}

/** All rules of alerts.yml. */
export function readAlerts(): Alert[] {
  const groups = listAt(readPrometheusFile('alerts.yml'), 'groups');
  return groups
    .flatMap((group) => listAt(group, 'rules'))
    .map((rule) => ({
      name: textAt(rule, 'alert'),
      expr: textAt(rule, 'expr'),
      labels: textsAt(rule, 'labels'),
      annotations: textsAt(rule, 'annotations'),
    }));
}

/** The dashboards of deploy/grafana: one for every relay, and one for relays of a cluster. */
export const DASHBOARDS = ['dashboard', 'cluster'] as const;

export type DashboardName = (typeof DASHBOARDS)[number];

/** A dashboard of deploy/grafana, parsed. */
export function readDashboard(name: DashboardName): unknown {
  const value: unknown = JSON.parse(readFileSync(join(DEPLOY, 'grafana', `${name}.json`), 'utf8'));
  return value;
}

/** A panel of the dashboard that is not a row. */
export interface Panel {
  readonly title: string;
  readonly panel: unknown;
  readonly queries: readonly string[];
}

/** All panels of a dashboard, including those in collapsed rows. */
export function panelsOf(dashboard: unknown): Panel[] {
  return listAt(dashboard, 'panels')
    .flatMap((panel) => (isRow(panel) ? listAt(panel, 'panels') : [panel]))
    .map(panelOf);
}

export function isRow(panel: unknown): boolean {
  return textAt(panel, 'type') === 'row';
}

function panelOf(panel: unknown): Panel {
  const queries = listAt(panel, 'targets').map((target) => textAt(target, 'expr'));
  return { title: textAt(panel, 'title'), panel, queries };
}

import { listAt, textAt } from './fields.ts';
import type { PrometheusApi, Sample } from './prometheus-api.ts';
import { panelsOf } from './shipped.ts';

/** What Grafana puts in itself. Long enough for all that a test does. */
const BUILT_IN: ReadonlyMap<string, string> = new Map([
  ['__rate_interval', '5m'],
  ['__range', '5m'],
]);

/** A metric and what is chosen of it. Not ALERTS, which Prometheus makes itself, and only of alerts that fire. */
const SELECTOR = /\b(?:transit_relay_\w+|up\b)(?:\{[^}]*\})?/gu;

/** A dashboard's variables that are questions to Prometheus, with the values that it has now. */
export async function variablesOf(
  dashboard: unknown,
  prometheus: PrometheusApi,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const values = new Map<string, readonly string[]>();
  for (const variable of listAt(dashboard, 'templating', 'list')) {
    if (textAt(variable, 'type') !== 'query') continue;
    const question = substituted(textAt(variable, 'definition'), values);
    const [, selector = '', label = ''] = /^label_values\((.+), (\w+)\)$/u.exec(question) ?? [];
    const found = await prometheus.api(`label/${label}/values`, { 'match[]': selector });
    values.set(textAt(variable, 'name'), listAt(found).map(String));
  }
  return values;
}

/** A query as Grafana sends it when all values of its variables are chosen. Throws where it does not know one. */
export function substituted(expr: string, variables: ReadonlyMap<string, readonly string[]>): string {
  return expr.replaceAll(/\$\{?(\w+)\}?/gu, (_, name: string) => {
    const builtIn = BUILT_IN.get(name);
    if (builtIn !== undefined) return builtIn;
    const values = variables.get(name);
    if (values === undefined || values.length === 0) throw new Error(`$${name} has no values`);
    return `(${values.map((value) => value.replaceAll(/[.*+?^$()[\]{}|]/gu, String.raw`\\$&`)).join('|')})`;
  });
}

/** The series that an expression chooses, as an expression each. */
export function selectorsIn(expr: string): readonly string[] {
  return [...new Set([...expr.matchAll(SELECTOR)].map(([selector]) => selector))];
}

/** What is wrong with an expression, in a sentence each; nothing where it has data, all of it numbers. */
export async function faultsOfQuery(prometheus: PrometheusApi, expr: string): Promise<string[]> {
  const faults = await missingSeries(prometheus, expr);
  const samples = await prometheus.query(expr).catch((error: unknown): Sample[] => {
    faults.push(String(error));
    return [];
  });
  if (samples.length === 0) faults.push(`no data: ${expr}`);
  else if (!samples.some(({ value }) => Number.isFinite(value))) faults.push(`no number: ${expr}`);
  return faults;
}

/** What an expression chooses and Prometheus does not have. */
export async function missingSeries(prometheus: PrometheusApi, expr: string): Promise<string[]> {
  const faults: string[] = [];
  for (const selector of selectorsIn(expr)) {
    if ((await prometheus.query(selector)).length === 0) faults.push(`no series ${selector}: ${expr}`);
  }
  return faults;
}

/** The same for every query of a dashboard in those of its rows that are asked for, with the panel's title in front. */
export async function faultsOfDashboard(
  prometheus: PrometheusApi,
  dashboard: unknown,
  isAsked: (row: string) => boolean,
): Promise<string[]> {
  const variables = await variablesOf(dashboard, prometheus);
  const faults: string[] = [];
  for (const { row, title, queries } of panelsOf(dashboard)) {
    if (!isAsked(row)) continue;
    for (const expr of queries) {
      const found = await faultsOfQuery(prometheus, substituted(expr, variables));
      faults.push(...found.map((fault) => `${title}: ${fault}`));
    }
  }
  return faults;
}

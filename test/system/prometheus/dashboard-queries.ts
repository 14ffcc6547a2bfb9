import { listAt, textAt } from './fields.ts';
import type { PrometheusApi, Sample } from './prometheus-api.ts';
import { panelsOf } from './shipped.ts';

/** Values of Grafana's built-in variables. Long enough for a whole test. */
const BUILT_IN: ReadonlyMap<string, string> = new Map([
  ['__rate_interval', '5m'],
  ['__range', '5m'],
]);

/** A metric with its label matchers. Without ALERTS, which only exists for pending and firing alerts. */
const SELECTOR = /\b(?:transit_relay_\w+|(?:process|nodejs)_\w+|up\b)(?:\{[^}]*\})?/gu;

/** The query variables of a dashboard, with their current values. */
export async function variablesOf(
  dashboard: unknown,
  prometheus: PrometheusApi,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const values = new Map<string, readonly string[]>();
  for (const variable of listAt(dashboard, 'templating', 'list')) {
    if (textAt(variable, 'type') !== 'query') continue;
    const definition = substituted(textAt(variable, 'definition'), values);
    const [, selector = '', label = ''] = /^label_values\((.+), (\w+)\)$/u.exec(definition) ?? [];
    const found = await prometheus.api(`label/${label}/values`, { 'match[]': selector });
    values.set(textAt(variable, 'name'), listAt(found).map(String));
  }
  return values;
}

/** A query as Grafana sends it with all values of its variables selected. Throws for an unknown variable. */
export function substituted(expr: string, variables: ReadonlyMap<string, readonly string[]>): string {
  return expr.replaceAll(/\$\{?(\w+)\}?/gu, (_, name: string) => {
    const builtIn = BUILT_IN.get(name);
    if (builtIn !== undefined) return builtIn;
    const values = variables.get(name);
    if (values === undefined || values.length === 0) throw new Error(`$${name} has no values`);
    return `(${values.map((value) => value.replaceAll(/[.*+?^$()[\]{}|]/gu, String.raw`\\$&`)).join('|')})`;
  });
}

/** The series selectors of an expression. */
export function selectorsIn(expr: string): readonly string[] {
  return [...new Set([...expr.matchAll(SELECTOR)].map(([selector]) => selector))];
}

/** Problems of an expression; none if it has data with at least one number. */
export async function problemsOfQuery(prometheus: PrometheusApi, expr: string): Promise<string[]> {
  const problems = await missingSeries(prometheus, expr);
  const samples = await prometheus.query(expr).catch((error: unknown): Sample[] => {
    problems.push(String(error));
    return [];
  });
  if (samples.length === 0) problems.push(`no data: ${expr}`);
  else if (!samples.some(({ value }) => Number.isFinite(value))) problems.push(`no number: ${expr}`);
  return problems;
}

/** Selectors of an expression without series in Prometheus. */
export async function missingSeries(prometheus: PrometheusApi, expr: string): Promise<string[]> {
  const problems: string[] = [];
  for (const selector of selectorsIn(expr)) {
    if ((await prometheus.query(selector)).length === 0) problems.push(`no series ${selector}: ${expr}`);
  }
  return problems;
}

/** Problems of all queries of a dashboard, collapsed rows included, each with the title of its panel. */
export async function problemsOfDashboard(prometheus: PrometheusApi, dashboard: unknown): Promise<string[]> {
  const variables = await variablesOf(dashboard, prometheus);
  const problems: string[] = [];
  for (const { title, queries } of panelsOf(dashboard)) {
    for (const expr of queries) {
      const found = await problemsOfQuery(prometheus, substituted(expr, variables));
      problems.push(...found.map((problem) => `${title}: ${problem}`));
    }
  }
  return problems;
}

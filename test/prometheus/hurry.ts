import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { listAt, textAt } from './fields.ts';
import { PROMETHEUS_DIRECTORY, readPrometheusFile } from './shipped.ts';

/** Of an alert that would be told of after minutes. */
const SOON = '2s';

/**
 * The shipped configuration with these targets, scraped each second.
 *
 * @param sidecar what the sidecar asks for lies beside the configuration then, in a file `token`; null: there is none
 */
export function configuration(relays: readonly string[], sidecar: string | null): string {
  const shipped = parseDocument(readFileSync(join(PROMETHEUS_DIRECTORY, 'prometheus.yml'), 'utf8'));
  for (const interval of ['scrape_interval', 'evaluation_interval'])
    shipped.setIn(['global', interval], '1s');
  shipped.setIn(['scrape_configs', 0, 'static_configs', 0, 'targets'], relays);
  if (sidecar === null) {
    shipped.deleteIn(['scrape_configs', 1]);
  } else {
    shipped.setIn(['scrape_configs', 1, 'static_configs', 0, 'targets'], [sidecar]);
    // As it is shown there, as a comment.
    shipped.setIn(['scrape_configs', 1, 'authorization'], { credentials_file: 'token' });
  }
  return shipped.toString();
}

/** The shipped alerts, some of which wait less than minutes. Throws where there is none of that name. */
export function alertsInAHurry(names: readonly string[]): string {
  const shipped = parseDocument(readFileSync(join(PROMETHEUS_DIRECTORY, 'alerts.yml'), 'utf8'));
  const places = new Map<string, readonly [group: number, rule: number]>();
  for (const [group, content] of listAt(readPrometheusFile('alerts.yml'), 'groups').entries()) {
    for (const [rule, found] of listAt(content, 'rules').entries())
      places.set(textAt(found, 'alert'), [group, rule]);
  }
  for (const name of names) {
    const [group, rule] = places.get(name) ?? [];
    if (group === undefined || rule === undefined) throw new Error(`no alert ${name}`);
    shipped.setIn(['groups', group, 'rules', rule, 'for'], SOON);
  }
  return shipped.toString();
}

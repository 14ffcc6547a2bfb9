import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import { listAt, textAt } from './fields.ts';
import { PROMETHEUS_DIRECTORY, readPrometheusFile } from './shipped.ts';

/** Replaces an alert delay of minutes. */
const SHORT_DELAY = '2s';

/**
 * The shipped configuration with these targets, scraped every second.
 *
 * @param sidecar null: no sidecar. Otherwise its token is in the file `token` beside the configuration
 */
export function scrapeConfig(relays: readonly string[], sidecar: string | null): string {
  const shipped = parseDocument(readFileSync(join(PROMETHEUS_DIRECTORY, 'prometheus.yml'), 'utf8'));
  for (const interval of ['scrape_interval', 'evaluation_interval'])
    shipped.setIn(['global', interval], '1s');
  shipped.setIn(['scrape_configs', 0, 'static_configs', 0, 'targets'], relays);
  if (sidecar === null) {
    shipped.deleteIn(['scrape_configs', 1]);
  } else {
    shipped.setIn(['scrape_configs', 1, 'static_configs', 0, 'targets'], [sidecar]);
    // As in the comment of the shipped file.
    shipped.setIn(['scrape_configs', 1, 'authorization'], { credentials_file: 'token' });
  }
  return shipped.toString();
}

/** The shipped alerts, with a short delay for those in `names`. Throws if there is no alert of a name. */
export function fastAlerts(names: readonly string[]): string {
  const shipped = parseDocument(readFileSync(join(PROMETHEUS_DIRECTORY, 'alerts.yml'), 'utf8'));
  const indexes = new Map<string, readonly [group: number, rule: number]>();
  for (const [group, content] of listAt(readPrometheusFile('alerts.yml'), 'groups').entries()) {
    for (const [rule, found] of listAt(content, 'rules').entries())
      indexes.set(textAt(found, 'alert'), [group, rule]);
  }
  for (const name of names) {
    const [group, rule] = indexes.get(name) ?? [];
    if (group === undefined || rule === undefined) throw new Error(`no alert ${name}`);
    shipped.setIn(['groups', group, 'rules', rule, 'for'], SHORT_DELAY);
  }
  return shipped.toString();
}

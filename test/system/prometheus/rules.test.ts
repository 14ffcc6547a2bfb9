import { deepEqual, doesNotMatch, equal, match, notEqual, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import { findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { at, listAt, textAt } from './fields.ts';
import { PROMETHEUS_DIRECTORY, readAlerts, readPrometheusFile } from './shipped.ts';

const PROMTOOL = findProgram('promtool');
const skip = PROMTOOL === null ? 'needs promtool: apt-get install prometheus' : false;

const SEVERITIES = ['critical', 'warning', 'info'];

const alerts = readAlerts();

function promtool(directory: string, ...args: readonly string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(PROMTOOL ?? '', args, { cwd: directory, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** Runs the shipped rule tests with the expression `expr` for all alerts. */
async function testRulesWith(context: TestContext, expr: string): Promise<string> {
  const directory = await scratch(context);
  const rules = alerts.map(({ name, labels }) => ({ alert: name, expr, labels: Object.fromEntries(labels) }));
  await writeFile(join(directory, 'alerts.yml'), stringify({ groups: [{ name: 'broken', rules }] }));
  await copyFile(join(PROMETHEUS_DIRECTORY, 'rules_test.yml'), join(directory, 'rules_test.yml'));
  const { status, output } = promtool(directory, 'test', 'rules', 'rules_test.yml');
  equal(status, 1, output);
  return output;
}

/** The shipped tests, changed to expect no alert whenever one fires, so that promtool prints its texts. */
function expectNoAlerts(): unknown {
  const shipped = readPrometheusFile('rules_test.yml');
  const tests = listAt(shipped, 'tests').map((group) => ({
    interval: textAt(group, 'interval'),
    input_series: listAt(group, 'input_series'),
    alert_rule_test: listAt(group, 'promql_expr_test')
      .filter((check) => listAt(check, 'exp_samples').length > 0)
      .map((check) => ({
        eval_time: textAt(check, 'eval_time'),
        alertname: alertOf(textAt(check, 'expr')),
        exp_alerts: [],
      })),
  }));
  const files = [join(PROMETHEUS_DIRECTORY, 'alerts.yml')];
  return { rule_files: files, evaluation_interval: textAt(shipped, 'evaluation_interval'), tests };
}

function alertOf(expr: string): string {
  return /^ALERTS\{alertname="(\w+)"/u.exec(expr)?.[1] ?? '';
}

describe('the alerts', { skip }, () => {
  test('are valid for Prometheus, like the configuration that includes them', () => {
    for (const args of [
      ['check', 'config', 'prometheus.yml'],
      ['check', 'rules', 'alerts.yml'],
    ]) {
      const { status, output } = promtool(PROMETHEUS_DIRECTORY, ...args);
      equal(status, 0, output);
      match(output, new RegExp(`${alerts.length} rules found|1 rule files found`, 'u'));
    }
  });

  test('fire as the rule tests expect', () => {
    const { status, output } = promtool(PROMETHEUS_DIRECTORY, 'test', 'rules', 'rules_test.yml');
    equal(status, 0, output);
  });

  test('each have a test that fails if the alert never fires, and one that fails if it always fires', async (t) => {
    const never = await testRulesWith(t, 'vector(1) > 1');
    const always = await testRulesWith(t, 'vector(1)');
    for (const { name } of alerts) {
      const itsTest = String.raw`ALERTS\{alertname=\\?"${name}\\?"[^}]*\}`;
      match(never, new RegExp(`${itsTest}[^]*?exp: \\{[^]*?got: nil`, 'u'), name);
      match(always, new RegExp(`${itsTest}[^\n]*\n\\s*exp: nil\n\\s*got: \\{`, 'u'), name);
    }
  });

  test('each have a summary and a description without gaps', async (t) => {
    const directory = await scratch(t);
    await writeFile(join(directory, 'texts.yml'), stringify(expectNoAlerts()));
    const { output } = promtool(directory, 'test', 'rules', 'texts.yml');
    const fired = new Map(
      [...output.matchAll(/Labels:(\{alertname="(\w+)"[^\n]*\})\s*Annotations:(\{[^\n]*\})/gu)].map(
        ([, labels = '', name = '', texts = '']) => [name, { labels, texts }],
      ),
    );
    deepEqual([...fired.keys()].toSorted(), alerts.map(({ name }) => name).toSorted(), output);
    for (const { name, annotations } of alerts) {
      const { labels = '', texts = '' } = fired.get(name) ?? {};
      match(texts, /description="\S.*[.]", summary="\S/u);
      doesNotMatch(texts, /<error|%!|\{\{/u);
      // A missing label would be rendered as nothing.
      for (const [, label = ''] of [...annotations.values()].join(' ').matchAll(/\$labels\.(\w+)/gu))
        match(labels, new RegExp(`[{ ]${label}="`, 'u'), name);
    }
  });

  test('each have a severity and no other labels', () => {
    ok(alerts.length > 15, `${alerts.length} alerts`);
    for (const { name, labels, annotations } of alerts) {
      notEqual(SEVERITIES.indexOf(labels.get('severity') ?? ''), -1, name);
      deepEqual([...labels.keys()], ['severity'], name);
      deepEqual([...annotations.keys()].toSorted(), ['description', 'summary'], name);
      match(name, /^TransitRelay[A-Z]/u);
    }
  });

  test('use the job names of the configuration', () => {
    const jobs = listAt(readPrometheusFile('prometheus.yml'), 'scrape_configs').map((job) =>
      at(job, 'job_name'),
    );
    const named = alerts.flatMap(({ expr }) => [...expr.matchAll(/job="([^"]+)"/gu)].map(([, job]) => job));
    deepEqual([...new Set(named)], jobs);
  });

  test('are listed in docs/monitoring.md with their severities', () => {
    const page = readFileSync(join(PROMETHEUS_DIRECTORY, '..', '..', 'docs', 'monitoring.md'), 'utf8');
    const [, rest = ''] = page.split('\n## Alerts\n');
    const [chapter = ''] = rest.split('\n## ', 1);
    const listed = chapter.split('\n### ').flatMap((section) => {
      const [heading = ''] = section.split('\n', 1);
      return [...section.matchAll(/^- `(TransitRelay\w+)`: \S/gmu)].map(
        ([, name]) => `${name} ${heading.toLowerCase()}`,
      );
    });
    const real = alerts.map(({ name, labels }) => `${name} ${labels.get('severity')}`);
    deepEqual(listed.toSorted(), real.toSorted());
  });
});

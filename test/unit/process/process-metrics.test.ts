import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import { setFlagsFromString } from 'node:v8';
import { Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { collectProcessMetrics } from '../../../src/process/process-metrics.ts';

const SOURCES = join(import.meta.dirname, '..', '..', '..', 'src');

/** Metrics that the panels of https://grafana.com/grafana/dashboards/11159 (NodeJS Application Dashboard) query. */
const READY_MADE_DASHBOARD = [
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'nodejs_eventloop_lag_seconds',
  'nodejs_version_info',
  'nodejs_heap_size_total_bytes',
  'nodejs_heap_size_used_bytes',
  'nodejs_external_memory_bytes',
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_heap_space_size_total_bytes',
  'nodejs_heap_space_size_used_bytes',
  'nodejs_heap_space_size_available_bytes',
];

/** Names, types and label names, as in `# TYPE name type` and `name{label,label}`. */
function shapesIn(text: string): Set<string> {
  const types = [...text.matchAll(/^# TYPE .+$/gmu)].map(String);
  const labels = [...text.matchAll(/^([a-z]\w*)(\{[^}]*\})?/gmu)].map(
    ([, name = '', all = '']) => `${name} ${all.replaceAll(/="[^"]*"/gu, '')}`,
  );
  return new Set([...types, ...labels]);
}

/** Metrics of this process, as text. */
async function scrape(): Promise<string> {
  const registry = new Registry();
  collectProcessMetrics(registry, 'test_');
  return registry.metrics();
}

function valueOf(text: string, name: string): number {
  const start = `${name} `;
  const line = text.split('\n').find((one) => one.startsWith(start));
  return Number(line?.slice(start.length));
}

/** Runs a full garbage collection. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  ok(typeof collect === 'function');
  collect();
}

describe('the metrics of a process', () => {
  test('are exactly these, with the names that all Node.js programs use', async () => {
    const text = await scrape();
    deepEqual(
      [...text.matchAll(/^# TYPE (.+)$/gmu)].map(([, line]) => line),
      [
        'process_cpu_user_seconds_total counter',
        'process_cpu_system_seconds_total counter',
        'process_cpu_seconds_total counter',
        'process_start_time_seconds gauge',
        'process_resident_memory_bytes gauge',
        'process_virtual_memory_bytes gauge',
        'process_heap_bytes gauge',
        'process_max_fds gauge',
        'nodejs_heap_size_total_bytes gauge',
        'nodejs_heap_size_used_bytes gauge',
        'nodejs_external_memory_bytes gauge',
        'nodejs_heap_space_size_total_bytes gauge',
        'nodejs_heap_space_size_used_bytes gauge',
        'nodejs_heap_space_size_available_bytes gauge',
        'process_open_fds gauge',
        'nodejs_active_handles_total gauge',
        'nodejs_active_requests_total gauge',
        'nodejs_eventloop_lag_seconds gauge',
        'nodejs_gc_duration_seconds histogram',
        'nodejs_version_info gauge',
        'test_build_info gauge',
      ],
    );
  });

  test("have the names, types and labels of prom-client's default metrics, and all that a ready-made dashboard needs", async () => {
    const defaults = new Registry();
    collectDefaultMetrics({ register: defaults });
    const theirs = shapesIn(await defaults.metrics());
    const text = await scrape();
    const ours = [...shapesIn(text)].filter((shape) => !/build_info|gc_duration/u.test(shape));
    deepEqual(
      ours.filter((shape) => !theirs.has(shape)),
      [],
    );
    for (const name of READY_MADE_DASHBOARD) match(text, new RegExp(`^${name}(?:\\{[^}]*\\})? \\d`, 'mu'));
  });

  test('count open handles, but no timers', async () => {
    const before = valueOf(await scrape(), 'nodejs_active_handles_total');
    const servers = Array.from({ length: 5 }, () => createServer().listen(0, '127.0.0.1'));
    const timer = setTimeout(() => undefined, 60_000);
    await setImmediate();
    const text = await scrape();
    for (const server of servers) server.close();
    clearTimeout(timer);
    equal(valueOf(text, 'nodejs_active_handles_total'), before + 5);
    equal(valueOf(text, 'nodejs_active_requests_total'), 0);
  });

  test('have the lag of the event loop during the scrape', async () => {
    const scraped = scrape();
    const begun = performance.now();
    while (performance.now() - begun < 50);
    const lag = valueOf(await scraped, 'nodejs_eventloop_lag_seconds');
    ok(lag > 0.045 && lag < 5, `${lag} s`);
  });

  test('have the values of this process', async () => {
    const text = await scrape();
    const startedAt = Date.now() / 1000 - process.uptime();
    ok(Math.abs(valueOf(text, 'process_start_time_seconds') - startedAt) < 2);
    ok(valueOf(text, 'process_resident_memory_bytes') > 2 ** 20);
    ok(valueOf(text, 'process_virtual_memory_bytes') > valueOf(text, 'process_resident_memory_bytes'));
    ok(valueOf(text, 'process_heap_bytes') > 0);
    ok(valueOf(text, 'nodejs_heap_size_total_bytes') >= valueOf(text, 'nodejs_heap_size_used_bytes'));
    ok(valueOf(text, 'nodejs_external_memory_bytes') > 0);
    ok(Math.abs(valueOf(text, 'process_open_fds') - readdirSync('/proc/self/fd').length) < 5);
    const limit = /^Max open files +(\d+)/mu.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    equal(valueOf(text, 'process_max_fds'), Number(limit));
  });

  test('have a CPU time that is the sum of user and system time', async () => {
    const registry = new Registry();
    collectProcessMetrics(registry, 'test_');
    const before = valueOf(await registry.metrics(), 'process_cpu_seconds_total');
    const used = process.cpuUsage();
    while (process.cpuUsage(used).user < 50_000);
    const text = await registry.metrics();
    const total = valueOf(text, 'process_cpu_seconds_total');
    ok(total >= before + 0.05, `${before} s before, ${total} s now`);
    const kinds =
      valueOf(text, 'process_cpu_user_seconds_total') + valueOf(text, 'process_cpu_system_seconds_total');
    ok(Math.abs(total - kinds) < 1e-6);
  });

  test('have the versions', async () => {
    const { version }: { version: string } = JSON.parse(
      readFileSync(join(SOURCES, '..', 'package.json'), 'utf8'),
    );
    const node = process.version.slice(1);
    const [major, minor, patch] = node.split('.');
    const lines = (await scrape()).split('\n');
    ok(lines.includes(`test_build_info{version="${version}",node_version="${node}"} 1`));
    ok(
      lines.includes(
        `nodejs_version_info{version="v${node}",major="${major}",minor="${minor}",patch="${patch}"} 1`,
      ),
    );
  });

  test('have all kinds of garbage collection from the start', async () => {
    const counts = [...(await scrape()).matchAll(/^nodejs_gc_duration_seconds_count(.+)$/gmu)];
    deepEqual(
      counts.map(([, rest]) => rest),
      ['{kind="minor"} 0', '{kind="major"} 0', '{kind="incremental"} 0', '{kind="weakcb"} 0'],
    );
  });

  test('count each of several garbage collections in one turn of the event loop', async () => {
    const registry = new Registry();
    collectProcessMetrics(registry, 'test_');
    const begun = performance.now();
    for (let time = 0; time < 5; time += 1) collectGarbage();
    const tookSeconds = (performance.now() - begun) / 1000;
    const durations = registry.getSingleMetric('nodejs_gc_duration_seconds');
    ok(durations instanceof Histogram);
    async function majors(what: 'count' | 'sum'): Promise<number> {
      const text = await registry.metrics();
      return valueOf(text, `nodejs_gc_duration_seconds_${what}{kind="major"}`);
    }
    // Node.js reports them in a later turn, all at once.
    while ((await majors('count')) === 0) await setImmediate();
    equal(await majors('count'), 5);
    const seconds = await majors('sum');
    ok(seconds > 0 && seconds <= tookSeconds, `${seconds} s of ${tookSeconds} s`);
  });

  test('do not wake an idle process more often', async () => {
    const script = `
      const { readFileSync } = await import('node:fs');
      const { Registry } = await import('prom-client');
      const { collectProcessMetrics } = await import(${JSON.stringify(join(SOURCES, 'process', 'process-metrics.ts'))});
      collectProcessMetrics(new Registry(), 'test_');
      const wakeups = () => Number(/^voluntary_ctxt_switches:\\s*(\\d+)/mu.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
      // The work of Node.js after its start is done by then.
      setTimeout(() => {
        const before = wakeups();
        setTimeout(() => console.log(wakeups() - before), 1000);
      }, 300);`;
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
      cwd: join(SOURCES, '..'),
    });
    // The timer of prom-client would make it 100.
    ok(Number(stdout) < 30, `${stdout.trim()} wakeups in a second`);
  });
});

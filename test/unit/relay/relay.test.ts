import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { readProcessLimits } from '../../../src/limits/capacity.ts';
import type { ProcessLimits } from '../../../src/limits/capacity.ts';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { canConnect } from '../../support/listening.ts';
import { scrape } from '../../support/metrics.ts';
import { OpenRelay } from '../../support/open-relay.ts';
import { scratch, until } from '../../support/scratch.ts';
import { connectPair } from '../../support/test-client.ts';

interface LogLine extends Record<string, unknown> {
  readonly level: string;
  readonly msg: string;
}

/** Starts a relay until the end of the test. Returns it with its log. */
async function start(
  context: TestContext,
  settings: Readonly<Record<string, string>> = {},
  processLimits?: ProcessLimits,
): Promise<{ relay: OpenRelay; log: LogLine[] }> {
  const log: LogLine[] = [];
  const logger = pino(
    { base: null, timestamp: false, formatters: { level: (level) => ({ level }) } },
    { write: (line) => log.push(JSON.parse(line)) },
  );
  const relay = await OpenRelay.start(settings, logger, processLimits);
  context.after(() => relay[Symbol.asyncDispose]());
  return { relay, log };
}

function warningsOf(log: readonly LogLine[]): readonly string[] {
  return log.filter(({ level }) => level !== 'info').map(({ msg }) => msg);
}

describe('the start of a relay', () => {
  test('logs its listeners, and warns of nothing', async (context) => {
    const { log } = await start(context);
    assert.deepEqual(
      log.filter(({ msg }) => msg === 'listening').map(({ role }) => role),
      ['raw', 'websocket', 'status'],
    );
    assert.deepEqual(warningsOf(log), []);
  });

  test('logs the version, the limits and the settings in one line before the listeners', async (context) => {
    const { log } = await start(context, {
      RELAY_MAX_CONNECTIONS: '500',
      RELAY_PAIR_RATE: '20MB/s',
      RELAY_IDLE_TIMEOUT: '24h',
      RELAY_CLUSTER_SECRET: 'not for the log, as it is a secret',
    });
    const [line, ...more] = log.filter(({ level }) => level === 'info');
    assert.equal(line?.['event'], 'starting');
    assert.match(String(line['version']), /^\d+\.\d+\.\d+$/u);
    assert.equal(line['node_version'], process.versions.node);
    assert.equal(line['io_backend'], 'shared buffer');
    assert.equal(line['usage_database'], null);
    assert.deepEqual([line['max_connections'], line['max_waiting']], [500, 250]);
    const {
      RELAY_LISTEN: _listen,
      RELAY_WEBSOCKET_LISTEN: _websocket,
      ...settings
    } = Object(line['settings']);
    assert.equal(settings.RELAY_PAIR_RATE, '20MB/s');
    assert.equal(settings.RELAY_IDLE_TIMEOUT, undefined);
    assert.equal(settings.RELAY_CLUSTER_SECRET, '(secret)');
    assert.deepEqual(
      more.map(({ event }) => event),
      ['listening', 'listening', 'listening'],
    );
  });

  test('warns if Node.js is not as expected, and works', async (context) => {
    const backend = IoBackend.withStandardStreams();
    context.mock.method(IoBackend, 'open', () => Promise.resolve(backend));
    const { relay, log } = await start(context);
    assert.match(warningsOf(log).join(), /^unsupported Node\.js version: falling back to standard streams/u);
    await connectPair(relay, 'tcp', 'tcp');
  });
});

test('a relay pings its WebSocket clients every 30 seconds', async (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const { relay } = await start(context);
  const [endpoint] = relay.endpoints.websocket;
  assert.ok(endpoint?.kind === 'tcp');
  const client = new WebSocket(`ws://127.0.0.1:${endpoint.port}/`);
  context.after(() => client.terminate());
  let pings = 0;
  client.on('ping', () => {
    pings += 1;
  });
  await once(client, 'open');
  const pinged = once(client, 'ping');
  context.mock.timers.tick(30_000);
  await pinged;
  client.ping();
  // It comes after all pings of the relay.
  await once(client, 'pong');
  assert.equal(pings, 1);
});

describe('a relay that drains', () => {
  test('ends the drain at once if there are no clients', async (context) => {
    const { relay, log } = await start(context);
    // No time limit ever passes.
    context.mock.method(performance, 'now', () => 0);
    await relay.relay.drain(new AbortController().signal);
    assert.deepEqual(log.at(-1), {
      level: 'info',
      event: 'draining',
      pairs: 0,
      waiting: 0,
      bytes_per_second: 0,
      msg: 'draining',
    });
  });

  test('waits for pairs until its timeout, and reports them', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const { relay, log } = await start(context, { RELAY_DRAIN_TIMEOUT: '100ms' });
    await connectPair(relay, 'tcp', 'tcp');
    const drained = relay.relay.drain(new AbortController().signal);
    context.mock.timers.tick(5000);
    await drained;
    context.mock.timers.tick(5000);
    assert.deepEqual(
      log.slice(-3).map(({ level, pairs, msg }) => [level, pairs, msg]),
      [
        ['info', 1, 'draining'],
        ['info', 1, 'waiting for transfers to finish'],
        ['warn', 1, 'drain timeout; closing remaining transfers'],
      ],
    );
  });

  test('accepts no more links of other relays', async (context) => {
    const { relay, log } = await start(context, {
      RELAY_CLUSTER_URL: 'redis://127.0.0.1:1',
      RELAY_CLUSTER_SECRET: 'a secret of the cluster',
      RELAY_CLUSTER_LISTEN: 'tcp:0:interface=127.0.0.1',
    });
    const address = log.find(({ role }) => role === 'cluster')?.['advertise'];
    assert.ok(typeof address === 'string');
    const [host = '', port = ''] = address.split(':');
    assert.equal(await canConnect(Number(port), host), true);
    await until(() => log.some(({ code }) => code === 'ECONNREFUSED'));
    await relay.relay.drain(new AbortController().signal);
    assert.equal(await canConnect(Number(port), host), false);
  });
});

describe('a relay in a cgroup of version 2', () => {
  const MiB = 2 ** 20;

  /** Sets what the cgroup uses: 60 MiB, and the buffers of sockets. */
  async function setUsage(cgroup: string, sockets: number): Promise<void> {
    await writeFile(join(cgroup, 'memory.stat'), `sock ${sockets}\nfile 0\n`);
    await writeFile(join(cgroup, 'memory.current'), `${60 * MiB + sockets}\n`);
  }

  test('resets stalled pairs when memory is almost used up, logs that, and counts them', async (context) => {
    const cgroup = await scratch(context);
    await setUsage(cgroup, 0);
    const memory = { bytes: 256 * MiB, source: 'container', cgroup2: cgroup } as const;
    const { relay, log } = await start(context, {}, { ...readProcessLimits(), memory });
    const [sender, receiver] = await connectPair(relay, 'tcp', 'tcp');
    const [active, partner] = await connectPair(relay, 'tcp', 'tcp');
    receiver.pause();
    void sender.sendAll(Buffer.alloc(50_000_000), 65_536);
    await setUsage(cgroup, 180 * MiB);
    assert.equal((await sender.closed).reset, true);
    await setUsage(cgroup, 0);
    receiver.resume();
    assert.equal((await receiver.closed).reset, true);
    await active.send('data');
    assert.equal((await partner.until(7)).toString(), 'ok\ndata');
    await relay.statusWhere(({ pairs }) => pairs === 1);
    const warning = log.find(({ msg }) => msg.startsWith('stalled pairs ended'));
    assert.equal(warning?.['ended_pairs'], 1);
    assert.deepEqual(
      [warning['used_bytes'], warning['socket_bytes'], warning['memory_bytes']],
      [240 * MiB, 180 * MiB, 256 * MiB],
    );
    const figures = await scrape(relay.statusUrl);
    assert.equal(figures.get('transit_relay_stalled_pairs_ended_total'), 1);
  });
});

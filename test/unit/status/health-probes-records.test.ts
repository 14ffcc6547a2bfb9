import assert from 'node:assert/strict';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { BoundEndpoint } from '../../../src/config/endpoint.ts';
import { HealthProbes } from '../../../src/status/health-probes.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { TestRelay } from '../../support/test-relay.ts';
import { UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { OpenRelay } from '../../support/open-relay.ts';

const loopback = (port: number): BoundEndpoint => ({
  kind: 'tcp',
  port,
  interface: '127.0.0.1',
  backlog: null,
  tls: null,
});

const UNREACHABLE: BoundEndpoint = {
  kind: 'unix',
  path: '/no/such/directory/relay.sock',
  mode: null,
  backlog: null,
};

/** Endpoints of a relay, by role. */
interface Listeners {
  readonly raw: readonly BoundEndpoint[];
  readonly websocket: readonly BoundEndpoint[];
}

async function open(context: TestContext): Promise<{ relay: TestRelay; listeners: Listeners }> {
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  const unix: BoundEndpoint = { kind: 'unix', path: relay.unixPath, mode: null, backlog: null };
  const listeners = { raw: [loopback(relay.tcpPort), unix], websocket: [loopback(relay.websocketPort)] };
  return { relay, listeners };
}

test('health probes beside a pair and a waiting client are neither recorded nor counted', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  await using relay = await OpenRelay.start({ RELAY_USAGE_DB: path });
  const token = newToken();
  const [a, b, waiting] = [
    await relay.connect('tcp'),
    await relay.connect('websocket'),
    await relay.connect('tcp'),
  ];
  await a.send(handshake(token, SIDE_A));
  await b.send(handshake(token, SIDE_B));
  await waiting.send(handshake(newToken(), SIDE_A));
  await b.until(3);
  await a.send(Buffer.alloc(12_345));
  await b.until(12_348);
  const atFirst = await relay.statusWhere((status) => status.waiting === 1);
  assert.deepEqual([atFirst.pairs, atFirst.relayed_bytes], [1, 12_345]);

  const stop = new AbortController();
  const watching = (async () => {
    using usage = new UsageReader(path);
    let checks = 0;
    for (; !stop.signal.aborted; checks += 1) {
      const status = await relay.status();
      assert.deepEqual([status.pairs, status.waiting, status.relayed_bytes], [1, 1, 12_345]);
      const current = usage.current();
      assert.ok(current === null || current.connected <= 2);
      assert.ok(current === null || current.waiting <= 1);
      assert.deepEqual(usage.rows(), []);
    }
    return checks;
  })();
  const results = new Set<string>();
  // Results are cached for a while: each different one comes from a separate probe.
  while (results.size < 4) {
    const [listeners, transfers] = await Promise.all([relay.check('relay'), relay.check('transfer')]);
    assert.deepEqual(
      [listeners.status, transfers.status],
      [200, 200],
      JSON.stringify([listeners, transfers]),
    );
    results.add(JSON.stringify([listeners.report, transfers.report]));
  }
  stop.abort();
  assert.ok((await watching) > 0);

  await relay.relay.close();
  using usage = new UsageReader(path);
  const left = usage.rows().map(({ result, total_bytes }) => ({ result, total_bytes }));
  assert.deepEqual(
    left.toSorted((one, other) => one.total_bytes - other.total_bytes),
    [
      { result: 'lonely', total_bytes: 0 },
      { result: 'happy', total_bytes: 12_345 },
    ],
  );
});

test('a hundred concurrent probes only pair with their own clients', async (context) => {
  const { relay, listeners } = await open(context);
  const results = await Promise.all(
    Array.from({ length: 25 }, async () => {
      const probes = new HealthProbes(listeners.raw, listeners.websocket, relay.sessions);
      return [...(await probes.listeners()), ...(await probes.transfers())];
    }),
  );
  // On a busy machine probes may time out, and nothing else.
  const problems = results.flat().map(({ problem }) => problem);
  assert.deepEqual(
    problems.filter((problem) => problem !== null && !problem.startsWith('timed out after')),
    [],
  );
  assert.ok(problems.includes(null));
  await until(() => relay.admission.connections === 0);
  assert.deepEqual(relay.summaries, []);
  assert.equal(relay.sessions.liveCounts().relayedBytes, 0);
});

describe('a failed probe leaves no record', () => {
  test('if the second listener of a transfer does not exist', async (context) => {
    const { relay, listeners } = await open(context);
    const results = await new HealthProbes(listeners.raw, [UNREACHABLE], relay.sessions).transfers();
    assert.match(results.at(-1)?.problem ?? '', /^no connection \(ENOENT\)$/u);
    await until(() => relay.admission.connections === 0);
    assert.deepEqual(relay.summaries, []);
  });

  test('if the relay was blocked until after the timeout', async (context) => {
    const { relay, listeners } = await open(context);
    let arrived = 0;
    const registry = {
      registerProbe: (token: string) =>
        relay.sessions.registerProbe(token, () => {
          arrived += 1;
        }),
      unregisterProbe: (token: string) => relay.sessions.unregisterProbe(token),
    };
    const results = new HealthProbes(listeners.raw, listeners.websocket, registry).listeners();
    // The kernel accepts the clients meanwhile, but this thread is blocked until after the timeout.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1300);
    for (const { problem } of await results) assert.match(problem ?? '', /^timed out after/u);
    await until(() => arrived === 3 && relay.admission.connections === 0);
    assert.deepEqual(relay.summaries, []);
  });
});

test('a relay that stops at any moment of a health probe does not record it', async (context) => {
  const directory = await scratch(context);
  let probed = 0;
  for (let turns = 0; turns < 20; turns += 1) {
    const file = join(directory, `${turns}.jsonl`);
    const fd = openSync(file, 'a');
    await using relay = await OpenRelay.start({ RELAY_LOG_FD: String(fd) });
    // The request takes some turns of the event loop to arrive, and the clients of the probe some more.
    const checks = ['relay', 'transfer'].map((word) => fetch(`${relay.statusUrl}/health/${word}`));
    for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
    await relay.relay.drain(new AbortController().signal);
    for (const check of checks) probed += (await (await check).text()).includes('"from"') ? 1 : 0;
    await relay.relay.close();
    assert.equal(readFileSync(file, 'utf8'), '', `after ${turns} turns`);
  }
  assert.ok(probed > 0, 'some probes started before the relay stopped');
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { freePort } from '../../support/listening.ts';
import { STOPPED_CLOCK } from '../../support/patience.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';

/** A raw client that has sent its handshake. */
async function client(relay: RelayProcess, token: string, side: string): Promise<TestClient> {
  const tcpPort = relay.port('raw');
  const connected = await TestClient.connect('tcp', { tcpPort, unixPath: '', websocketPort: 0 });
  await connected.send(handshake(token, side));
  return connected;
}

async function statusOf(relay: RelayProcess): Promise<Readonly<Record<string, unknown>>> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/status.json`);
  const status: unknown = await response.json();
  assert.ok(typeof status === 'object' && status !== null);
  return { ...status };
}

async function isReady(relay: RelayProcess): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/readyz`);
  await response.text();
  return response.status;
}

async function untilWaiting(relay: RelayProcess, waiting: number): Promise<void> {
  while ((await statusOf(relay))['waiting'] !== waiting) await sleep(10);
}

test('a stopping relay accepts partners of waiting clients, rejects other clients, and finishes', async (context) => {
  const database = join(await scratch(context), 'usage.sqlite');
  await using relay = await RelayProcess.start({ RELAY_USAGE_DB: database, RELAY_DRAIN_DELAY: '1h' });
  assert.equal(await isReady(relay), 200);
  const [token, lonelyToken] = [newToken(), newToken()];
  const first = await client(relay, token, SIDE_A);
  const lonely = await client(relay, lonelyToken, SIDE_A);
  await untilWaiting(relay, 2);

  relay.kill('SIGTERM');
  await relay.waitForLog(/"msg":"draining"/u);
  assert.equal(await isReady(relay), 503);
  const unrelated = await client(relay, newToken(), SIDE_A);
  assert.deepEqual(await unrelated.closed, { reset: false, code: null });
  assert.equal(unrelated.received.toString(), 'shutting down\n');
  const partner = await client(relay, token, SIDE_B);
  assert.equal((await partner.until(3)).toString(), 'ok\n');
  const status = await statusOf(relay);
  assert.deepEqual([status['draining'], status['pairs'], status['waiting']], [true, 1, 1]);

  // The last waiting client leaves, so the delay ends.
  await lonely.leave();
  await untilRefused(relay);
  const payload = randomBytesOf(1, 2_000_000);
  void partner.sendAll(payload, 50_000);
  assert.ok((await first.until(payload.length + 3)).subarray(3).equals(payload));
  partner.end();
  await first.closed;
  await relay.ended();
  using reader = new UsageReader(database);
  assert.deepEqual(
    reader
      .rows()
      .map(({ result }) => result)
      // Of connections that only checked whether it listens.
      .filter((result) => result !== 'empty'),
    ['lonely', 'happy'],
  );
});

/** Resolves when the port is closed. */
async function untilRefused(relay: RelayProcess): Promise<void> {
  for (;;) {
    const socket = connect({ port: relay.port('raw'), host: '127.0.0.1' });
    const [error] = await Promise.race([once(socket, 'error'), once(socket, 'connect')]);
    socket.destroy();
    if (error instanceof Error) return;
    await sleep(10);
  }
}

test('a second signal stops a relay at once, even while it still accepts partners', async (context) => {
  const database = join(await scratch(context), 'usage.sqlite');
  await using relay = await RelayProcess.start({ RELAY_USAGE_DB: database, RELAY_DRAIN_DELAY: '1h' });
  const waiting = await client(relay, newToken(), SIDE_A);
  await untilWaiting(relay, 1);
  relay.kill('SIGTERM');
  await relay.waitForLog(/"msg":"draining"/u);
  // npm and `timeout` send one signal twice: a second one counts after a second.
  await sleep(1100);
  relay.kill('SIGTERM');
  await relay.ended();
  await waiting.closed;
  using reader = new UsageReader(database);
  assert.deepEqual(
    reader.rows().map(({ result }) => result),
    ['lonely'],
  );
});

test('clients still waiting after the delay are rejected, and a running pair is logged', async () => {
  await using relay = await RelayProcess.start({ RELAY_DRAIN_DELAY: '200ms' });
  const waiting = await client(relay, newToken(), SIDE_A);
  const token = newToken();
  const pair = [await client(relay, token, SIDE_A), await client(relay, token, SIDE_B)];
  for (const one of pair) await one.until(3);
  await untilWaiting(relay, 1);
  relay.kill('SIGTERM');
  assert.deepEqual(await waiting.closed, { reset: false, code: null });
  assert.equal(waiting.received.toString(), 'shutting down\n');
  await relay.waitForLog(
    /"pairs":1,"waiting":0,"bytes_per_second":\d+,"msg":"waiting for transfers to finish"/u,
  );
  pair[0]?.end();
  await relay.ended();
});

/** Outcome of an attempt to relay a pair. */
type Outcome = 'complete' | 'rejected' | 'refused' | 'reset' | 'broken';

/** Connects two clients one after the other and relays bytes between them. */
async function relayPair(port: number, seed: number): Promise<Outcome> {
  const token = newToken();
  const payload = randomBytesOf(seed, 20_000);
  const first = connect({ port, host: '127.0.0.1' });
  const firstReceives = readLine(first);
  first.write(handshake(token, SIDE_A));
  await sleep(seed % 7);
  const second = connect({ port, host: '127.0.0.1' });
  const secondReceives = readLine(second);
  second.write(handshake(token, SIDE_B));
  const words = [await firstReceives.line, await secondReceives.line];
  if (words.some((word) => word === 'shutting down')) return 'rejected';
  if (words.some((word) => word === 'ECONNREFUSED')) return 'refused';
  if (words.some((word) => word !== 'ok')) return words.includes('ok') ? 'broken' : 'reset';
  first.end(payload);
  const received = await secondReceives.rest;
  return received.equals(payload) ? 'complete' : 'broken';
}

/** Reads the first line that a client receives, or the error code if there is none, and the bytes after it. */
function readLine(socket: Socket): { readonly line: Promise<string>; readonly rest: Promise<Buffer> } {
  const line = Promise.withResolvers<string>();
  const rest = Promise.withResolvers<Buffer>();
  let received = Buffer.alloc(0);
  let code = 'reset';
  socket.on('data', (bytes) => {
    received = Buffer.concat([received, bytes]);
    const end = received.indexOf(10);
    if (end >= 0) line.resolve(received.subarray(0, end).toString());
  });
  socket.on('error', (error) => {
    code = 'code' in error ? String(error.code) : code;
  });
  socket.on('close', () => {
    line.resolve(code);
    rest.resolve(received.subarray(received.indexOf(10) + 1));
  });
  return { line: line.promise, rest: rest.promise };
}

test('a restart while new clients keep connecting breaks no transfer, and rejected clients get a reply', async (context) => {
  // The delay ends when the last waiting client leaves.
  const port = await freePort();
  const endpoint = `tcp:${port}:interface=127.0.0.1`;
  await using relay = await RelayProcess.start({ RELAY_LISTEN: endpoint, RELAY_DRAIN_DELAY: '1h' });
  // Transfers that last longer than the restart.
  const long = [];
  for (let index = 0; index < 5; index += 1) {
    const token = newToken();
    const pair = [await client(relay, token, SIDE_A), await client(relay, token, SIDE_B)] as const;
    for (const one of pair) await one.until(3);
    long.push(pair);
  }
  // A waiting client keeps the listeners open until it leaves.
  const waiting = await client(relay, newToken(), SIDE_A);
  await untilWaiting(relay, 1);

  const attempts: Promise<void>[] = [];
  const outcomes = { complete: 0, rejected: 0, refused: 0, reset: 0, broken: 0 };
  const over = new AbortController();
  const stream = (async (): Promise<void> => {
    for (let seed = 1; !over.signal.aborted; seed += 1) {
      attempts.push(
        relayPair(port, seed).then((outcome) => {
          outcomes[outcome] += 1;
        }),
      );
      await sleep(5);
    }
  })();
  await until(() => outcomes.complete > 40);
  relay.kill('SIGTERM');
  await until(() => outcomes.rejected > 40);
  await waiting.leave();
  await until(() => outcomes.refused > 0);
  over.abort();
  await stream;

  const payload = randomBytesOf(9, 3_000_000);
  for (const [a, b] of long) {
    void a.sendAll(payload, 50_000);
    assert.ok((await b.until(payload.length + 3)).subarray(3).equals(payload));
    a.end();
  }
  await relay.ended();
  await Promise.all(attempts);
  context.diagnostic(`stop under a stream of clients | ${JSON.stringify(outcomes)}`);
  assert.equal(outcomes.broken, 0);
  assert.equal(outcomes.reset, 0);
  assert.ok(
    outcomes.complete > 40 && outcomes.rejected > 40 && outcomes.refused > 0,
    JSON.stringify(outcomes),
  );
  // The next relay starts at once.
  await using next = await RelayProcess.start({ RELAY_LISTEN: endpoint });
  assert.equal(await relayPair(next.port('raw'), 1), 'complete');
});

test('a client with an incomplete handshake gets a reply when the relay stops', async () => {
  await using relay = await RelayProcess.start({});
  const socket = connect({ port: relay.port('raw'), host: '127.0.0.1' });
  socket.write('please relay');
  await once(socket, 'connect');
  while ((await statusOf(relay))['connections'] !== 1) await sleep(10);
  relay.kill('SIGTERM');
  assert.equal(await text(socket), 'shutting down\n');
  await relay.ended();
});

test('all clients in the listen backlog get a reply when the relay stops', async () => {
  // A relay on a busy machine gives up before it has accepted all of them.
  await using relay = await RelayProcess.start(STOPPED_CLOCK);
  relay.kill('SIGSTOP');
  const clients = Array.from({ length: 300 }, () => {
    const socket = connect({ port: relay.port('raw'), host: '127.0.0.1' });
    socket.write(handshake(newToken(), SIDE_A));
    return { connected: once(socket, 'connect'), word: text(socket) };
  });
  await Promise.all(clients.map(({ connected }) => connected));
  relay.kill('SIGTERM');
  relay.kill('SIGCONT');
  for (const { word } of clients) assert.equal(await word, 'shutting down\n');
  await relay.ended();
});

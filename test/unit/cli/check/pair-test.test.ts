import { equal, match, ok, rejects } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { describe, test } from 'node:test';
import { WebSocketServer } from 'ws';
import { TestFailure } from '../../../../src/cli/check/failure.ts';
import type { FailureCode } from '../../../../src/cli/check/failure.ts';
import { testPair } from '../../../../src/cli/check/pair-test.ts';
import type { Scheme, Target } from '../../../../src/cli/check/target.ts';
import { listening } from '../../../support/listening.ts';
import { OpenRelay } from '../../../support/open-relay.ts';

/** For tests that end by another event; a busy machine may be slow. */
const PATIENT_MS = 30_000;

/** For tests that end by the timeout. */
const SHORT_MS = 2000;

/** A transfer that a busy machine can finish within its two seconds, in bytes. */
const SMALL_BYTES = 200_000;

const OPTIONS = { timeoutMs: PATIENT_MS, sizeBytes: SMALL_BYTES, insecure: false };

function targetAt(scheme: Scheme, port: number): Target {
  return { scheme, host: '127.0.0.1', port, path: '/' };
}

async function fails(
  target: Target,
  code: FailureCode,
  message: RegExp,
  timeoutMs = PATIENT_MS,
): Promise<void> {
  await rejects(testPair(target, target, { ...OPTIONS, timeoutMs }), (error) => {
    ok(error instanceof TestFailure, String(error));
    equal(error.code, code);
    match(error.message, message);
    return true;
  });
}

/** Pairs clients, and changes what the first one sends with `change`, which gets the position of the bytes. */
function fakeRelay(change: (bytes: Buffer, at: number) => Buffer | null): Server {
  let waiting: Socket | null = null;
  return createServer((socket) => {
    socket.once('data', () => {
      const first = waiting;
      waiting = socket;
      if (first === null) return;
      for (const client of [first, socket]) client.write('ok\n');
      let at = 0;
      first.on('data', (bytes: Buffer) => {
        const changed = change(bytes, at);
        at += bytes.length;
        if (changed === null) first.destroy();
        else socket.write(changed);
      });
      first.on('close', () => socket.end());
      socket.on('data', (bytes: Buffer) => first.write(bytes));
    });
  });
}

/** Writes as fast as the other end reads. */
function flood(socket: Socket, start: string, block: Buffer): void {
  socket.write(start);
  const write = (): void => {
    while (socket.writable && socket.write(block));
  };
  socket.on('drain', write);
  write();
}

describe('a test of a relay', () => {
  test('measures pairs of all kinds', async () => {
    await using relay = await OpenRelay.start();
    const [tcp, ws] = [targetAt('tcp', relay.port('raw')), targetAt('ws', relay.port('websocket'))];
    for (const [from, to] of [
      [tcp, tcp],
      [ws, ws],
      [tcp, ws],
      [ws, tcp],
    ] as const) {
      const result = await testPair(from, to, OPTIONS);
      equal(result.certificate, null);
      ok(result.bytes > 0 && result.bytes <= SMALL_BYTES, `${result.bytes} bytes`);
      ok(result.bytesPerSecond > 0 && result.roundTripMs > 0);
    }
  });

  test('fails if the two endpoints belong to different relays', async () => {
    await using relay = await OpenRelay.start();
    await using other = await OpenRelay.start();
    const [from, to] = [relay, other].map((each) => targetAt('tcp', each.port('raw')));
    ok(from !== undefined && to !== undefined);
    await rejects(
      testPair(from, to, { ...OPTIONS, timeoutMs: SHORT_MS }),
      new TestFailure('not_paired', 'the two endpoints do not lead to the same relay or cluster'),
    );
  });

  test('fails if the relay closes a pair early', async () => {
    await using relay = await OpenRelay.start({ RELAY_PAIR_BYTES: '100kB' });
    await fails(
      targetAt('tcp', relay.port('raw')),
      'interrupted',
      /closed the connection after \d+ bytes; see RELAY_PAIR_BYTES/u,
    );
  });

  test('fails if nothing listens, or the name does not exist', async (context) => {
    const server = createServer();
    const port = await listening(context, server);
    await once(server.close(), 'close');
    await fails(targetAt('tcp', port), 'refused', /connection refused; .* check the port number/u);
    const nowhere = { ...targetAt('tcp', port), host: 'relay.invalid' };
    await fails(nowhere, 'name_not_found', /check the name relay\.invalid/u);
  });
});

describe('a test of another server', { concurrency: true }, () => {
  const servers: readonly (readonly [string, Scheme, () => Server, FailureCode, RegExp])[] = [
    ['closes', 'tcp', () => createServer((socket) => socket.end()), 'closed', /without an answer/u],
    ['echoes', 'tcp', () => createServer((socket) => socket.pipe(socket)), 'not_a_relay', /sends back/u],
    [
      'says busy',
      'ws',
      () => createServer((socket) => socket.end('busy\n')),
      'not_a_relay',
      /not speak HTTP/u,
    ],
    ['is for HTTP', 'tcp', () => createHttpServer(), 'http', /"HTTP\/1\.1 400 Bad Request"/u],
    [
      'has no WebSocket',
      'ws',
      () => createHttpServer((_, response) => response.end('x')),
      'http',
      /^HTTP status 200 instead of a WebSocket/u,
    ],
    [
      'is a proxy without a relay',
      'ws',
      () => createHttpServer((_, response) => response.writeHead(502).end()),
      'http',
      /does not reach the relay/u,
    ],
    [
      'redirects',
      'ws',
      () => createHttpServer((_, response) => response.writeHead(301, { location: 'https://a/' }).end()),
      'http',
      /redirects to https:\/\/a\/$/u,
    ],
    [
      'has no TLS',
      'ssl',
      () => createServer((socket) => socket.end('hello\n')),
      'tls',
      /does not speak TLS/u,
    ],
    [
      'closes at once',
      'wss',
      () => createServer((socket) => socket.end()),
      'closed',
      /instead of a TLS handshake/u,
    ],
    ['changes a byte', 'tcp', () => fakeRelay(flipped), 'corrupted', /not those that were sent/u],
    [
      'adds bytes',
      'tcp',
      () => fakeRelay((bytes) => Buffer.concat([bytes, bytes])),
      'corrupted',
      /not those/u,
    ],
    ['closes pairs', 'tcp', () => fakeRelay(() => null), 'interrupted', /no bytes came/u],
  ];
  for (const [what, scheme, create, code, message] of servers) {
    test(`fails with ${code} if it ${what}`, async (context) => {
      await fails(targetAt(scheme, await listening(context, create())), code, message);
    });
  }

  const silent: readonly (readonly [Scheme, FailureCode, RegExp])[] = [
    ['tcp', 'not_paired', /were not paired/u],
    ['ssl', 'timeout', /no answer to the TLS handshake/u],
    ['ws', 'timeout', /no answer to the WebSocket request/u],
  ];
  for (const [scheme, code, message] of silent) {
    test(`ends in time if it never answers a client of ${scheme}`, async (context) => {
      const port = await listening(
        context,
        createServer((socket) => socket.resume()),
      );
      await fails(targetAt(scheme, port), code, message, SHORT_MS);
    });
  }

  test('ends in time if it says ok and nothing more, or stops in a transfer', async (context) => {
    const mute = await listening(
      context,
      createServer((socket) => socket.resume().write('ok\n')),
    );
    await fails(targetAt('tcp', mute), 'interrupted', /no bytes came/u, SHORT_MS);
    const stalling = await listening(
      context,
      fakeRelay((bytes, at) => (at < 1000 ? bytes : Buffer.alloc(0))),
    );
    await fails(targetAt('tcp', stalling), 'interrupted', /may drop large packets/u, SHORT_MS);
  });

  for (const start of ['', 'o', 'ok\n', 'busy']) {
    test(`buffers little if it sends ${JSON.stringify(start)} and endless bytes`, async (context) => {
      const sockets: Socket[] = [];
      const server = createServer((socket) => {
        sockets.push(socket);
        flood(socket, start, Buffer.alloc(65_536, 120));
      });
      const code = start === 'ok\n' ? 'corrupted' : 'not_a_relay';
      await fails(targetAt('tcp', await listening(context, server)), code, /./u);
      // Most of it is in buffers of the kernel.
      const sent = sockets.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0);
      ok(sent < 64 * 2 ** 20, `${sent} bytes`);
    });
  }

  test('does not answer pings, so that they cannot fill its memory', async (context) => {
    const sockets: Socket[] = [];
    const http = createHttpServer();
    new WebSocketServer({ server: http }).on('connection', (client, { socket }) => {
      sockets.push(socket);
      client.on('error', () => undefined);
      for (let count = 0; count < 1000; count += 1) client.ping(Buffer.alloc(125));
      client.close();
    });
    await fails(targetAt('ws', await listening(context, http)), 'closed', /without an answer/u);
    ok(sockets.length > 0);
    // The upgrade request and the handshake.
    for (const { bytesRead } of sockets) ok(bytesRead < 1000, `${bytesRead} bytes`);
  });

  test('recognizes a mailbox server by its greeting', async (context) => {
    const http = createHttpServer();
    new WebSocketServer({ server: http }).on('connection', (client) => {
      client.send('{"welcome": {}, "type": "welcome", "server_tx": 1.5}');
    });
    await fails(targetAt('ws', await listening(context, http)), 'mailbox', /it is a mailbox server/u);
  });
});

/** Changes one byte in the middle of a transfer. */
function flipped(bytes: Buffer, at: number): Buffer {
  const index = 100_000 - at;
  if (index >= 0 && index < bytes.length) bytes[index] = (bytes[index] ?? 0) ^ 1;
  return bytes;
}

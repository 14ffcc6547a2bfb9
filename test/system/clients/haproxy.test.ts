import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { ROOT } from '../../support/docker.ts';
import { freePorts } from '../../support/listening.ts';
import { CONDITION_TIMEOUT_MS, Program, findProgram } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';

const HAPROXY = findProgram('haproxy');
const skip = HAPROXY === null ? 'needs HAProxy: apt-get install haproxy' : false;

/**
 * A relay with a limit of one connection per address behind a real HAProxy, which has a listener for each
 * method of passing the client address.
 */
interface ProxiedRelay extends AsyncDisposable {
  readonly relay: RelayProcess;
  readonly ports: { readonly v1: number; readonly v2: number; readonly http: number };
}

async function startProxiedRelay(context: TestContext): Promise<ProxiedRelay> {
  const any = 'tcp:0:interface=127.0.0.1';
  const relay = await RelayProcess.start({
    RELAY_LISTEN: any,
    RELAY_WEBSOCKET_LISTEN: any,
    RELAY_TRUSTED_PROXIES: '127.0.0.1',
    RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1',
  });
  const [v1 = 0, v2 = 0, http = 0] = await freePorts(3);
  const ports = { v1, v2, http };
  const path = join(await scratch(context), 'haproxy.cfg');
  const config = `
global
  maxconn 100
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen v1
  mode tcp
  bind 127.0.0.1:${ports.v1}
  server relay 127.0.0.1:${relay.port('raw')} send-proxy
listen v2
  mode tcp
  bind 127.0.0.1:${ports.v2}
  server relay 127.0.0.1:${relay.port('raw')} send-proxy-v2
listen http
  mode http
  option forwardfor
  bind 127.0.0.1:${ports.http}
  server relay 127.0.0.1:${relay.port('websocket')}
`;
  await writeFile(path, config);
  const haproxy = new Program([HAPROXY ?? '', '-db', '-f', path]);
  await untilReachable(ports.http, haproxy);
  return {
    relay,
    ports,
    async [Symbol.asyncDispose]() {
      await haproxy[Symbol.asyncDispose]();
      await relay[Symbol.asyncDispose]();
    },
  };
}

async function untilReachable(port: number, haproxy: Program): Promise<void> {
  const deadline = performance.now() + CONDITION_TIMEOUT_MS;
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
    if (performance.now() > deadline) throw new Error(`HAProxy does not listen: ${haproxy.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function waitingAt(relay: RelayProcess): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/status.json`);
  const status: unknown = await response.json();
  return typeof status === 'object' && status !== null && 'waiting' in status ? status.waiting : null;
}

/** Connects a client. Returns the reply, or `waits` once the relay has one more waiting client. */
async function replyTo(
  context: TestContext,
  { relay }: ProxiedRelay,
  open: (onReply: (word: string) => void) => Socket | WebSocket,
): Promise<string> {
  const before = await waitingAt(relay);
  let word: string | null = null;
  const client = open((reply) => {
    word = reply;
  });
  context.after(() => ('terminate' in client ? client.terminate() : client.destroy()));
  for (;;) {
    if (word !== null) return word;
    if ((await waitingAt(relay)) !== before) return 'waits';
  }
}

const raw =
  (port: number, localAddress: string) =>
  (onReply: (word: string) => void): Socket => {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    socket.write(handshake(newToken(), SIDE_A));
    socket.on('data', (bytes) => onReply(bytes.toString()));
    return socket;
  };

const websocket =
  (port: number, localAddress: string, headers: Readonly<Record<string, string>> = {}) =>
  (onReply: (word: string) => void): WebSocket => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { localAddress, headers });
    ws.on('open', () => ws.send(Buffer.from(handshake(newToken(), SIDE_A))));
    ws.on('message', (data: Buffer) => onReply(data.toString()));
    return ws;
  };

describe('behind a real HAProxy', { skip }, () => {
  for (const version of ['v1', 'v2'] as const) {
    test(`the limit per client works with the PROXY protocol ${version}`, async (context) => {
      await using proxied = await startProxiedRelay(context);
      const port = proxied.ports[version];
      assert.equal(await replyTo(context, proxied, raw(port, '127.0.0.2')), 'waits');
      assert.equal(await replyTo(context, proxied, raw(port, '127.0.0.2')), 'busy\n');
      assert.equal(await replyTo(context, proxied, raw(port, '127.0.0.3')), 'waits');
    });
  }

  test('the limit per WebSocket client works with X-Forwarded-For, which clients cannot forge', async (context) => {
    await using proxied = await startProxiedRelay(context);
    const port = proxied.ports.http;
    assert.equal(await replyTo(context, proxied, websocket(port, '127.0.0.2')), 'waits');
    assert.equal(await replyTo(context, proxied, websocket(port, '127.0.0.2')), 'busy\n');
    const forged = { 'x-forwarded-for': '192.0.2.77' };
    assert.equal(await replyTo(context, proxied, websocket(port, '127.0.0.2', forged)), 'busy\n');
    assert.equal(await replyTo(context, proxied, websocket(port, '127.0.0.3')), 'waits');
  });
});

/** Seconds of silence after which a client's connection is probed. */
const KEEPALIVE_SECONDS = 30;

/** Timer resolution of /proc/net/tcp, in ticks per second. */
const TICKS_PER_SECOND = 100;

/** A documented configuration, with the port for raw clients and the relay's address replaced. */
const CONFIGURATIONS: Readonly<Record<string, (ports: readonly number[], relay: string) => string>> = {
  'deploy/compose/haproxy.cfg': (ports, relay) =>
    readFileSync(join(ROOT, 'deploy', 'compose', 'haproxy.cfg'), 'utf8')
      .replace(':::4001 v4v6', `127.0.0.1:${ports[0]}`)
      .replace(':::4002 v4v6', `127.0.0.1:${ports[1]}`)
      .replace('127.0.0.1:4000', `127.0.0.1:${ports[2]}`)
      .replaceAll(/unix@\/run\/relay\/relay(?:-\d)?\.sock/gu, relay)
      // Health checks need a status port, which does not exist here.
      .replaceAll(/ addr \S+$/gmu, '')
      .replace('option httpchk GET /readyz', 'option tcp-check'),
  'docs/tls.md': (ports, relay) => {
    const [, block = ''] =
      /```\n(listen relay\n[^`]*)```/u.exec(readFileSync(join(ROOT, 'docs', 'tls.md'), 'utf8')) ?? [];
    return block.replace(':::4001 v4v6', `127.0.0.1:${ports[0]}`).replace('127.0.0.1:4101', relay);
  },
};

/**
 * The timer of the established connection that was accepted at `port`. Null if there is no connection or no
 * keepalive.
 */
function keepaliveSecondsAt(port: number): number | null {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const row = new RegExp(`:${hex} [\\dA-F]+:[\\dA-F]{4} 01 [\\dA-F:]+ 02:([\\dA-F]+) `, 'u');
  const [, ticks] = row.exec(readFileSync('/proc/net/tcp', 'utf8')) ?? [];
  return ticks === undefined ? null : Number.parseInt(ticks, 16) / TICKS_PER_SECOND;
}

/** Starts a server in place of the relay. It keeps its connections open. */
async function listenAs(context: TestContext, port: number): Promise<void> {
  const server = createServer((socket) => {
    context.after(() => socket.destroy());
    socket.on('error', () => undefined).resume();
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
}

/** Starts HAProxy on free ports. Retries with other ports if one is in use meanwhile. */
async function startDocumented(
  context: TestContext,
  configuration: (ports: readonly number[], relay: string) => string,
  attempts = 3,
): Promise<AsyncDisposable & { readonly port: number }> {
  const [relayPort = 0, ...ports] = await freePorts(4);
  await listenAs(context, relayPort);
  const path = join(await scratch(context), 'haproxy.cfg');
  await writeFile(path, configuration(ports, `127.0.0.1:${relayPort}`));
  const haproxy = new Program([HAPROXY ?? '', '-db', '-f', path]);
  const [port = 0] = ports;
  try {
    await untilReachable(port, haproxy);
  } catch (error) {
    await haproxy[Symbol.asyncDispose]();
    if (attempts === 1) throw error;
    return startDocumented(context, configuration, attempts - 1);
  }
  return { port, [Symbol.asyncDispose]: () => haproxy[Symbol.asyncDispose]() };
}

describe('a documented HAProxy', { skip }, () => {
  for (const [name, configuration] of Object.entries(CONFIGURATIONS)) {
    test(`detects a client that has disappeared: ${name}`, async (context) => {
      await using haproxy = await startDocumented(context, configuration);
      const { port } = haproxy;
      const client = connect(port, '127.0.0.1');
      context.after(() => client.destroy());
      client.on('error', () => undefined);
      await until(() => keepaliveSecondsAt(port) !== null);
      const seconds = keepaliveSecondsAt(port);
      assert.ok(seconds !== null && seconds <= KEEPALIVE_SECONDS, `${seconds} s`);
    });
  }
});

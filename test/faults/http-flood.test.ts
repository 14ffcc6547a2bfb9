import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { MAX_HTTP_CONNECTIONS } from '../../src/sessions/http-upgrader.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { CertificateDirectory } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import { MemoryCgroup, skipWithoutCgroups } from '../support/memory-cgroup.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { until } from '../support/scratch.ts';
import { TestClient } from '../support/test-client.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import type { Measurement } from './support/bystander.ts';

const REQUEST = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

const PIPELINE = Buffer.from(REQUEST.repeat(Math.ceil(65_536 / REQUEST.length)));

/** A request that never ends, within the limit for request heads. */
const HALF_OPEN = Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\nX-Filler: ${'x'.repeat(7000)}\r\n`);

const LIMIT_MIB = 1024;

/** The requirement is 250 ms; the rest allows for other load on the machine. */
const MAX_STALL_MS = 2000;

/** 24 MiB for the HTTP phase, 1,000 connections, and garbage. */
const MAX_GROWTH_MIB = 160;

interface Attacked {
  readonly relay: RelayProcess;
  readonly growthMiB: number;
  readonly during: Measurement;
}

function residentPeakMiB(pid: number): number {
  const [, kibibytes = ''] = /^VmHWM:\s+(\d+) kB/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes) / 1024;
}

async function connectionsOf(relay: RelayProcess): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/status.json`);
  const status: unknown = await response.json();
  return typeof status === 'object' && status !== null && 'connections' in status
    ? Number(status.connections)
    : NaN;
}

/** Attacks a relay under a memory limit. Every byte of the bystander is compared. */
async function attackRelay(
  context: TestContext,
  name: string,
  settings: Readonly<Record<string, string>>,
  attack: (relay: RelayProcess) => Promise<void>,
): Promise<Attacked | null> {
  const missing = skipWithoutCgroups();
  if (missing !== false) {
    context.skip(missing);
    return null;
  }
  await using cgroup = await MemoryCgroup.make(LIMIT_MIB * 2 ** 20);
  await using relay = await RelayProcess.start(settings, cgroup.prefix);
  await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
  const idle = await bystander.measure(1000);
  const before = residentPeakMiB(relay.pid);
  const during = await bystander.measureWhile(() => attack(relay));
  const growthMiB = residentPeakMiB(relay.pid) - before;
  reportAttack(context, name, idle, during, `RSS +${growthMiB.toFixed(0)} MiB`);
  await bystander.finish();
  assert.equal(during.newPairsFailed, 0);
  assert.ok(during.stallMs < MAX_STALL_MS, `the pair stalled for ${during.stallMs} ms`);
  assert.ok(during.newPairStallMs < MAX_STALL_MS, `a new pair took ${during.newPairStallMs} ms`);
  assert.ok(growthMiB < MAX_GROWTH_MIB, `the relay grew by ${growthMiB} MiB`);
  await relay.stop();
  return { relay, growthMiB, during };
}

/** Connections that never read. */
async function openIdle(
  context: TestContext,
  count: number,
  open: () => Socket,
  first: Uint8Array,
): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => {
    const socket = open();
    socket.on('error', () => undefined);
    socket.pause();
    socket.write(first);
    return socket;
  });
  context.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  await Promise.all(sockets.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
  return sockets;
}

describe('HTTP clients', () => {
  for (const { port, role, isTls, count } of [
    { port: 'the raw port', role: 'raw', isTls: false, count: 1000 },
    { port: 'the WebSocket port', role: 'websocket', isTls: false, count: 1000 },
    { port: 'the WebSocket port with TLS', role: 'websocket', isTls: true, count: 100 },
  ] as const) {
    test(`that pipeline requests at ${port} and read no response cause no stall and little memory growth`, async (context) => {
      const { files } = await CertificateDirectory.open(context, makeIdentity());
      const tls = `:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
      const endpoint = isTls ? `ssl:0:interface=127.0.0.1${tls}` : 'tcp:0:interface=127.0.0.1';
      const name = `${count} x 64 KiB of pipelined requests at ${port}`;
      await attackRelay(context, name, { RELAY_WEBSOCKET_LISTEN: endpoint }, async (relay) => {
        const address = { port: relay.port(role), host: '127.0.0.1' };
        const open = (): Socket =>
          isTls ? connectTls({ ...address, rejectUnauthorized: false }) : connect(address);
        await openIdle(context, count, open, PIPELINE);
        await sleep(3000);
      });
    });
  }

  test('with incomplete requests are evicted, and other clients can still open WebSockets', async (context) => {
    const incomplete = 3000;
    const name = `${incomplete} half-open requests of 7 KB`;
    await attackRelay(
      context,
      name,
      { RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1' },
      async (relay) => {
        const port = relay.port('raw');
        await openIdle(context, incomplete, () => connect(port, '127.0.0.1'), HALF_OPEN);
        // The bystander has one pair, and at times a second one.
        const most = MAX_HTTP_CONNECTIONS + 6;
        // At first, some have not been accepted, and evicted ones have not been closed.
        await until(async () => {
          const connections = await connectionsOf(relay);
          return connections <= most && connections >= MAX_HTTP_CONNECTIONS;
        });
        const addresses = { tcpPort: port, unixPath: '', websocketPort: relay.port('websocket') };
        const token = newToken();
        const clients = await Promise.all(
          ['websocket', 'tcp'].map(() => TestClient.connect('websocket', addresses)),
        );
        for (const [index, client] of clients.entries()) {
          context.after(() => client.destroy());
          await client.send(handshake(token, SIDE_A.replace('a', String(index))));
        }
        for (const client of clients) {
          assert.equal((await client.until(3)).toString(), 'ok\n');
          client.destroy();
        }
      },
    );
  });
});

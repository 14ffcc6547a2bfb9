import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { connect, createSecureContext } from 'node:tls';
import type { ConnectionOptions, SecureContext, TLSSocket } from 'node:tls';
import { makeIdentity } from '../../support/certificates.ts';
import type { Identity } from '../../support/certificates.ts';
import { until } from '../../support/scratch.ts';
import { TestRelay } from '../../support/test-relay.ts';

const DOMAIN = 'relay.example.org';
const TOKEN = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA';

const own = makeIdentity('own');
const challenge = makeIdentity('challenge');

function contextOf({ key, certificate }: Identity): SecureContext {
  return createSecureContext({ key, cert: certificate });
}

async function open(context: TestContext, standardStreams: boolean): Promise<TestRelay> {
  const relay = await TestRelay.open({
    certificate: { context: contextOf(own) },
    standardStreams,
    timeouts: { handshakeMs: 60_000 },
  });
  context.after(() => relay.close());
  return relay;
}

async function secure(
  context: TestContext,
  relay: TestRelay,
  options: ConnectionOptions,
): Promise<TLSSocket> {
  const socket = connect({ port: relay.tcpPort, host: '127.0.0.1', rejectUnauthorized: false, ...options });
  context.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** Name in the certificate, and the protocol that the relay has chosen. */
function seen(socket: TLSSocket): unknown[] {
  return [socket.getPeerCertificate().subject.CN, socket.alpnProtocol];
}

for (const backend of ['shared buffer', 'standard streams'] as const) {
  describe(`a check by the certificate authority, with ${backend}`, () => {
    const isStandard = backend === 'standard streams';
    const check = { servername: DOMAIN, ALPNProtocols: ['acme-tls/1'] };

    test('gets the certificate of the challenge, and is no client', async (context) => {
      const relay = await open(context, isStandard);
      relay.challenges.tls.set(DOMAIN, contextOf(challenge));
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const socket = await secure(context, relay, { ...check, minVersion: version, maxVersion: version });
        assert.deepEqual(seen(socket), ['challenge', 'acme-tls/1']);
        socket.end();
        await once(socket, 'close');
      }
      await until(() => relay.admission.connections === 0);
      assert.deepEqual(relay.summaries, []);
      assert.ok(Object.values(relay.admission.handshakeFailures).every((count) => count === 0));
    });

    test('may send nothing', async (context) => {
      const relay = await open(context, isStandard);
      relay.challenges.tls.set(DOMAIN, contextOf(challenge));
      const socket = await secure(context, relay, check);
      socket.on('error', () => undefined);
      socket.write('GET / HTTP/1.1\r\n\r\n');
      socket.resume();
      await once(socket, 'close');
      await until(() => relay.admission.connections === 0);
    });

    test('may come in two parts', async (context) => {
      const relay = await open(context, isStandard);
      relay.challenges.tls.set(DOMAIN, contextOf(challenge));
      const socket = connectSocket({ port: relay.tcpPort, host: '127.0.0.1', noDelay: true });
      // The relay resets it at the end of the test.
      socket.on('error', () => undefined);
      context.after(() => socket.destroy());
      await once(socket, 'connect');
      const [clientEnd, networkEnd] = duplexPair();
      const secured = connect({ socket: clientEnd, rejectUnauthorized: false, ...check });
      context.after(() => secured.destroy());
      const [hello]: unknown[] = await once(networkEnd, 'data');
      assert.ok(hello instanceof Buffer);
      socket.write(hello.subarray(0, 100));
      await until(() => relay.admission.connections === 1);
      // The relay reads in one of the next turns of the event loop.
      for (let turns = 0; turns < 20; turns += 1) await nextTurn();
      socket.write(hello.subarray(100));
      socket.pipe(networkEnd).pipe(socket);
      await once(secured, 'secureConnect');
      assert.deepEqual(seen(secured), ['challenge', 'acme-tls/1']);
    });

    test('changes nothing for clients', async (context) => {
      const relay = await open(context, isStandard);
      const others: ConnectionOptions[] = [
        { servername: DOMAIN },
        {},
        { servername: DOMAIN, ALPNProtocols: ['h2', 'http/1.1'] },
        { servername: DOMAIN, ALPNProtocols: ['acme-tls/1', 'http/1.1'] },
        { servername: 'other.example.org', ALPNProtocols: ['acme-tls/1'] },
      ];
      for (const options of [...others, check])
        assert.deepEqual(seen(await secure(context, relay, options)), ['own', false]);
      relay.challenges.tls.set(DOMAIN, contextOf(challenge));
      for (const options of others)
        assert.deepEqual(seen(await secure(context, relay, options)), ['own', false]);
    });
  });
}

describe('an HTTP check by the certificate authority', () => {
  async function get(relay: TestRelay, path: string): Promise<string> {
    const socket = connectSocket({ port: relay.tcpPort, host: '127.0.0.1' });
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${DOMAIN}\r\nconnection: close\r\n\r\n`);
    return text(socket);
  }

  test('is answered while it is expected, and is no failed client', async (context) => {
    const relay = await open(context, false);
    const path = `/.well-known/acme-challenge/${TOKEN}`;
    assert.match(await get(relay, path), /^HTTP\/1\.1 426 /u);
    await until(() => relay.admission.connections === 0);
    relay.challenges.http.set(TOKEN, `${TOKEN}.thumbprint`);
    const before = { ...relay.admission.handshakeFailures };
    assert.match(
      await get(relay, path),
      new RegExp(`^HTTP/1\\.1 200 [^]*\\r\\n\\r\\n${TOKEN}\\.thumbprint$`, 'u'),
    );
    await until(() => relay.admission.connections === 0);
    assert.deepEqual(relay.admission.handshakeFailures, before);
    for (const other of [
      `${path}x`,
      '/.well-known/acme-challenge/',
      '/.well-known/acme-challenge/__proto__',
      `/${TOKEN}`,
    ])
      assert.match(await get(relay, other), /^HTTP\/1\.1 426 /u);
  });
});

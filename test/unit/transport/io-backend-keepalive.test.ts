import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { LinkTransport } from '../../../src/transport/link-transport.ts';
import { REPLIES } from '../../../src/protocol/messages.ts';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { TestRelay } from '../../support/test-relay.ts';
import { keepAliveOptions } from '../../support/keepalive.ts';
import { until } from '../../support/scratch.ts';
import { SecureClient } from '../../support/secure-client.ts';
import { withoutSocketActivation } from '../../support/socket-activation.ts';

/** A dead client is detected after five minutes; an outage of two minutes closes no connection. */
const CLIENT = '30,30,9';

/** A dead relay is detected after 15 s. */
const WAITING_LINK = '5,1,10';

const { key, certificate: cert } = makeIdentity();

/** Keepalive of the connections accepted at a port: delay, interval, probes. */
function acceptedAt(port: number): string[] {
  return keepAliveOptions()
    .filter(({ localPort }) => localPort === port)
    .map(({ keepAlive }) => String(keepAlive));
}

async function open(context: TestContext, standardStreams: boolean, isSecure: boolean): Promise<TestRelay> {
  const certificate = isSecure ? { context: createSecureContext({ key, cert }) } : null;
  const relay = await TestRelay.open({ standardStreams, certificate });
  context.after(() => relay.close());
  return relay;
}

for (const standardStreams of [false, true]) {
  const kind = standardStreams ? 'standard streams' : 'shared buffer';
  describe(`TCP keepalive with the ${kind}`, { skip: withoutSocketActivation() ?? false }, () => {
    test('closes no client during a network outage of two minutes', async (context) => {
      const relay = await open(context, standardStreams, false);
      for (const transport of ['tcp', 'websocket'] as const) {
        const client = await relay.connect(transport);
        await client.send(handshake(newToken(), SIDE_A));
      }
      await until(() => relay.sessions.clients.rendezvous.waitingClients === 2);
      assert.deepEqual(acceptedAt(relay.tcpPort), [CLIENT]);
      assert.deepEqual(acceptedAt(relay.websocketPort), [CLIENT]);
      for (const port of [relay.tcpPort, relay.websocketPort]) {
        const accepted = keepAliveOptions().filter(({ localPort }) => localPort === port);
        assert.deepEqual(
          accepted.map(({ noDelay }) => noDelay),
          [true],
          'small writes are sent at once',
        );
      }
    });

    test('is the same below TLS', async (context) => {
      const relay = await open(context, standardStreams, true);
      const raw = connectTls({ port: relay.tcpPort, host: '127.0.0.1', rejectUnauthorized: false });
      context.after(() => raw.destroy());
      await once(raw, 'secureConnect');
      raw.write(handshake(newToken(), SIDE_A));
      using websocket = await SecureClient.connect(relay.websocketPort, cert);
      websocket.send(handshake(newToken(), SIDE_A));
      await until(() => relay.sessions.clients.rendezvous.waitingClients === 2);
      assert.deepEqual(acceptedAt(relay.tcpPort), [CLIENT]);
      assert.deepEqual(acceptedAt(relay.websocketPort), [CLIENT]);
    });

    test('detects a dead relay soon, but changes to that of clients once the client of a link has a partner', async (context) => {
      const backend = standardStreams ? IoBackend.withStandardStreams() : await IoBackend.open(2 ** 20);
      const server = createServer({ allowHalfOpen: true });
      context.after(() => server.close());
      await once(server.listen(0, '127.0.0.1'), 'listening');
      const address = server.address();
      assert.ok(address !== null && typeof address === 'object');
      const { port } = address;
      const link = async (): Promise<LinkTransport> => {
        const socket = connect({ port, host: '127.0.0.1' });
        context.after(() => socket.destroy());
        const [accepted] = await once(server, 'connection');
        const transport = new LinkTransport(backend.adoptSocket(accepted, 'tcp'));
        context.after(() => transport.abort());
        return transport;
      };
      const paired = await link();
      assert.deepEqual(acceptedAt(port), [WAITING_LINK]);
      paired.send(REPLIES.ok);
      assert.deepEqual(acceptedAt(port), [CLIENT]);
      const rejected = await link();
      rejected.send(REPLIES.busy);
      assert.deepEqual(acceptedAt(port).toSorted(), [CLIENT, WAITING_LINK]);
    });
  });
}

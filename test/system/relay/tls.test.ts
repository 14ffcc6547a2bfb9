import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import type { Identity } from '../../support/certificates.ts';
import { patience } from '../../support/patience.ts';
import { RelayProcess } from '../../support/relay-process.ts';

const DAY_MS = 86_400_000;

function endpointOf({ files }: CertificateDirectory): string {
  return `ssl:0:interface=127.0.0.1:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
}

/** A client that trusts only `identity`. */
async function visit(relay: RelayProcess, identity: Identity): Promise<TLSSocket> {
  const socket = connect({
    port: relay.port('raw'),
    host: '127.0.0.1',
    servername: 'localhost',
    ca: identity.certificate,
  });
  await once(socket, 'secureConnect');
  return socket;
}

async function healthOf(relay: RelayProcess, check: string): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/health/${check}`);
  return response.json();
}

describe('a relay with TLS', () => {
  test('accepts clients that trust its certificate, and its own probes', async (context) => {
    const identity = makeIdentity('localhost');
    const endpoint = endpointOf(await CertificateDirectory.open(context, identity));
    await using relay = await RelayProcess.start({
      ...patience(PROBE_TIMEOUT_MS),
      RELAY_LISTEN: endpoint,
      RELAY_WEBSOCKET_LISTEN: endpoint,
    });
    const token = newToken();
    const [a, b] = [await visit(relay, identity), await visit(relay, identity)];
    a.write(handshake(token, SIDE_A));
    b.write(handshake(token, SIDE_B));
    for (const socket of [a, b]) assert.equal(String((await once(socket, 'data'))[0]), 'ok\n');
    a.destroy();
    await once(b, 'end');
    for (const check of ['relay', 'transfer']) {
      const report = await healthOf(relay, check);
      assert.ok(typeof report === 'object' && report !== null && 'ok' in report);
      assert.deepEqual(report.ok, true, JSON.stringify(report));
      assert.match(JSON.stringify(report), /"raw ssl:\d+:interface=127\.0\.0\.1"/u);
    }
    b.destroy();
    await relay.stop();
  });

  test('reloads its certificate on SIGHUP, and clients stay connected', async (context) => {
    const [old, fresh] = [makeIdentity('localhost'), makeIdentity('localhost')];
    const place = await CertificateDirectory.open(context, old);
    await using relay = await RelayProcess.start({ RELAY_LISTEN: endpointOf(place) });
    const token = newToken();
    const a = await visit(relay, old);
    a.write(handshake(token, SIDE_A));
    place.write(fresh);
    relay.kill('SIGHUP');
    await relay.waitForLog(/"result":"reloaded"/u);
    const b = await visit(relay, fresh);
    b.write(handshake(token, SIDE_B));
    for (const socket of [a, b]) assert.equal(String((await once(socket, 'data'))[0]), 'ok\n');
    // An unusable certificate changes nothing.
    place.write({ ...fresh, certificate: 'nonsense' });
    relay.kill('SIGHUP');
    await relay.waitForLog(
      /"problem":"[^"]+".*"msg":"certificate reload failed; keeping the previous certificate"/u,
    );
    const c = await visit(relay, fresh);
    for (const socket of [a, b, c]) socket.destroy();
    await relay.stop();
  });

  test('reloads a changed certificate by itself', async (context) => {
    const [old, fresh] = [makeIdentity('localhost'), makeIdentity('localhost')];
    const place = await CertificateDirectory.open(context, old);
    await using relay = await RelayProcess.start({ RELAY_LISTEN: endpointOf(place) });
    place.write(fresh);
    await relay.waitForLog(/"msg":"certificate replaced"/u);
    (await visit(relay, fresh)).destroy();
    await relay.stop();
  });

  test('starts with an expired certificate, reports it, and uses a new one at once', async (context) => {
    const expired = makeIdentity('localhost', {
      notBefore: new Date(Date.now() - 9 * DAY_MS),
      notAfter: new Date(Date.now() - DAY_MS),
    });
    const place = await CertificateDirectory.open(context, expired);
    await using relay = await RelayProcess.start({ RELAY_LISTEN: endpointOf(place) });
    await relay.waitForLog(
      /"level":"error".*"event":"certificate_expired".*"problem":"the certificate [^"]*cert\.pem expired on/u,
    );
    await assert.rejects(visit(relay, expired), /certificate has expired/u);
    const fresh = makeIdentity('localhost');
    place.write(fresh);
    relay.kill('SIGHUP');
    await relay.waitForLog(/"result":"reloaded"/u);
    (await visit(relay, fresh)).destroy();
    await relay.stop();
  });

  test('does not start with a certificate that has another key, and reports it', async (context) => {
    const identity = { ...makeIdentity('localhost'), key: makeIdentity('localhost').key };
    const endpoint = endpointOf(await CertificateDirectory.open(context, identity));
    await assert.rejects(RelayProcess.start({ RELAY_LISTEN: endpoint }), /key/u);
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect as connectRaw } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { freePort } from '../../support/listening.ts';
import { PebbleServer, withoutPebble } from '../../support/pebble.ts';
import type { PebbleOptions } from '../../support/pebble.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { SecureClient } from '../../support/secure-client.ts';
import { Activation, withoutSocketActivation } from '../../support/socket-activation.ts';

const MAIN = join(import.meta.dirname, '..', '..', '..', 'src', 'main.ts');

const DOMAIN = 'relay.example.org';
/** So that no other test has its port 80. Only root may listen there. */
const HTTP_ADDRESS = '127.80.80.80';
const OTHER_DOMAIN = 'wormhole.example.org';

/** A relay with a certificate authority, and the place where it keeps its certificate. */
class Fixture {
  readonly pebble: PebbleServer;
  readonly tlsPort: number;
  readonly statePath: string;

  private constructor(pebble: PebbleServer, tlsPort: number, statePath: string) {
    this.pebble = pebble;
    this.tlsPort = tlsPort;
    this.statePath = statePath;
  }

  /** The certificate authority connects to the port of the relay unless `options` has another one. */
  static async open(context: TestContext, options: Partial<PebbleOptions> = {}): Promise<Fixture> {
    const tlsPort = await freePort();
    const pebble = await PebbleServer.prepare(context, { tlsPort, ...options });
    return new Fixture(pebble, tlsPort, join(await scratch(context), 'acme'));
  }

  start(settings: Readonly<Record<string, string>> = {}): Promise<RelayProcess> {
    return RelayProcess.start({
      ...this.pebble.settings,
      RELAY_LISTEN: `tcp:0:interface=127.0.0.1 ssl:${this.tlsPort}:interface=127.0.0.1`,
      RELAY_ACME_DOMAIN: `${DOMAIN} ${OTHER_DOMAIN}`,
      RELAY_ACME_STATE: this.statePath,
      ...settings,
    });
  }

  /** A client that sends raw bytes inside TLS, and trusts only the certificate authority. */
  async visit(root: string, name = DOMAIN): Promise<TLSSocket> {
    const socket = connect({ port: this.tlsPort, host: '127.0.0.1', servername: name, ca: root });
    await once(socket, 'secureConnect');
    return socket;
  }
}

interface LogLine {
  readonly event?: string;
  readonly time: string;
  readonly [field: string]: unknown;
}

function linesOf(relay: RelayProcess, event: string): LogLine[] {
  return relay.log
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line): LogLine => JSON.parse(line))
    .filter((line) => line.event === event);
}

/** The last line of an event, once there are `count`. */
async function nthLine(relay: RelayProcess, event: string, count = 1): Promise<LogLine> {
  await until(() => linesOf(relay, event).length >= count);
  const line = linesOf(relay, event)[count - 1];
  assert.ok(line !== undefined);
  return line;
}

/** Minutes from a log line to the time in its field `retry_at`. */
function minutesToRetry(line: LogLine): number {
  return (Date.parse(String(line['retry_at'])) - Date.parse(line.time)) / 60_000;
}

/** Two raw clients without TLS meet. */
async function expectRawPair(port: number): Promise<void> {
  const token = newToken();
  const sockets = [connectRaw(port, '127.0.0.1'), connectRaw(port, '127.0.0.1')];
  sockets[0]?.write(handshake(token, SIDE_A));
  sockets[1]?.write(handshake(token, SIDE_B));
  for (const socket of sockets) assert.equal(String((await once(socket, 'data'))[0]), 'ok\n');
  for (const socket of sockets) socket.destroy();
}

describe('a certificate by ACME', { skip: withoutPebble() }, () => {
  test('is obtained on the port for clients, used by them, and kept over a restart', async (context) => {
    const fixture = await Fixture.open(context);
    await fixture.pebble.start();
    const root = await fixture.pebble.root();
    await using first = await fixture.start();
    await expectRawPair(first.port('raw'));
    await first.waitForLog(/"event":"acme_certificate_obtained"/u);
    for (const name of [DOMAIN, OTHER_DOMAIN]) {
      const token = newToken();
      const secure = await fixture.visit(root, name);
      using webSocket = await SecureClient.connect(fixture.tlsPort, root, { name });
      secure.write(handshake(token, SIDE_A));
      webSocket.send(handshake(token, SIDE_B));
      assert.equal(String((await once(secure, 'data'))[0]), 'ok\n');
      secure.write('hello');
      assert.equal(String(await webSocket.until(8)), 'ok\nhello');
      secure.destroy();
    }
    await expectRawPair(fixture.tlsPort);
    await first.stop();

    assert.equal(statSync(fixture.statePath).mode & 0o777, 0o700);
    const files = readdirSync(fixture.statePath);
    assert.deepEqual(files.toSorted(), ['account.json', 'certificate.pem', 'orders.json']);
    for (const name of files) assert.equal(statSync(join(fixture.statePath, name)).mode & 0o777, 0o600);

    await using second = await fixture.start();
    (await fixture.visit(root)).destroy();
    assert.match(String((await nthLine(second, 'acme_started'))['expires']), /^20/u);
    assert.equal(fixture.pebble.issued, 1);
    await second.stop();
  });

  test('is renewed while a transfer runs, which goes on, and new connections get the new one', async (context) => {
    const fixture = await Fixture.open(context, { validitySeconds: 24 });
    await fixture.pebble.start();
    const root = await fixture.pebble.root();
    await using relay = await fixture.start();
    await relay.waitForLog(/"event":"acme_certificate_obtained"/u);
    const token = newToken();
    const [a, b] = [await fixture.visit(root), await fixture.visit(root)];
    const old = a.getPeerCertificate().serialNumber;
    a.write(handshake(token, SIDE_A));
    b.write(handshake(token, SIDE_B));
    for (const socket of [a, b]) assert.equal(String((await once(socket, 'data'))[0]), 'ok\n');
    const [sent, received]: [Buffer[], Buffer[]] = [[], []];
    b.on('data', (bytes: Buffer) => received.push(bytes));
    const sending = setInterval(() => {
      const piece = randomBytesOf(sent.length, 20_000);
      sent.push(piece);
      a.write(piece);
    }, 20);
    await nthLine(relay, 'acme_certificate_renewed').finally(() => clearInterval(sending));
    const c = await fixture.visit(root);
    assert.notEqual(c.getPeerCertificate().serialNumber, old);
    a.end('the end');
    await once(b, 'end');
    assert.ok(Buffer.concat(received).equals(Buffer.concat([...sent, Buffer.from('the end')])));
    for (const socket of [a, b, c]) socket.destroy();
    assert.deepEqual(linesOf(relay, 'acme_failed'), []);
    await relay.stop();
  });

  test('is requested again at SIGHUP after the certificate authority was down, and not before its time', async (context) => {
    const fixture = await Fixture.open(context);
    await using first = await fixture.start();
    const failed = await nthLine(first, 'acme_failed');
    assert.equal(failed['problem'], null);
    assert.match(String(failed['detail']), /^localhost:\d+: ECONNREFUSED$/u);
    assert.match(String(failed['advice']), /RELAY_ACME_DIRECTORY/u);
    const minutes = minutesToRetry(failed);
    assert.ok(minutes > 0.99 && minutes < 1.26, `${minutes} min`);
    await expectRawPair(first.port('raw'));
    await expectRawPair(fixture.tlsPort);
    await assert.rejects(fixture.visit('', DOMAIN), /alert handshake failure/u);
    await first.stop();

    // A restart does not request it before its time.
    await using second = await fixture.start();
    const started = await nthLine(second, 'acme_started');
    assert.equal(started['next_request'], failed['retry_at']);
    await fixture.pebble.start();
    second.kill('SIGHUP');
    await second.waitForLog(/"event":"acme_retry".*\n(?:.*\n)*.*"event":"acme_certificate_obtained"/u);
    assert.deepEqual(linesOf(second, 'acme_failed'), []);
    (await fixture.visit(await fixture.pebble.root())).destroy();
    await second.stop();
  });

  test('is refused if the certificate authority cannot connect, which the log and the status explain', async (context) => {
    const fixture = await Fixture.open(context, { tlsPort: await freePort() });
    await fixture.pebble.start();
    await using relay = await fixture.start();
    for (const count of [1, 2, 3]) {
      const failed = await nthLine(relay, 'acme_failed', count);
      // Pebble reports refused connections as `unauthorized`.
      assert.deepEqual([failed['problem'], failed['challenge']], ['unauthorized', 'tls-alpn-01']);
      assert.match(String(failed['advice']), /on port 443: check that the A and AAAA records/u);
      const [least, most] = [15 * 2 ** (count - 1) - 0.1, 15 * 1.25 * 2 ** (count - 1) + 0.1];
      const minutes = minutesToRetry(failed);
      assert.ok(minutes > least && minutes < most, `${minutes} min`);
      relay.kill('SIGHUP');
    }
    await expectRawPair(relay.port('raw'));
    const response = await fetch(`http://127.0.0.1:${relay.port('status')}/status.json`);
    assert.match(await response.text(), /"event":"acme_failed","message":"[^"]*on port 443/u);
    const health = await fetch(`http://127.0.0.1:${relay.port('status')}/health/transfer`);
    assert.equal(health.status, 200, await health.text());
    await relay.stop();
  });

  const skip = process.getuid?.() === 0 ? false : 'only root may listen on port 80';
  test('is obtained on port 80 if port 443 does not lead to the relay', { skip }, async (context) => {
    const fixture = await Fixture.open(context, {
      tlsPort: await freePort(),
      httpPort: 80,
      address: HTTP_ADDRESS,
    });
    await fixture.pebble.start();
    await using relay = await fixture.start({
      RELAY_WEBSOCKET_LISTEN: `tcp:80:interface=${HTTP_ADDRESS}`,
    });
    await nthLine(relay, 'acme_failed');
    relay.kill('SIGHUP');
    assert.equal((await nthLine(relay, 'acme_retry'))['challenge'], 'http-01');
    await relay.waitForLog(/"event":"acme_certificate_obtained"/u);
    (await fixture.visit(await fixture.pebble.root())).destroy();
    await relay.stop();
  });

  test('is obtained although the certificate authority rejects nonces', async (context) => {
    const fixture = await Fixture.open(context, { rejectedNonces: 30 });
    await fixture.pebble.start();
    await using relay = await fixture.start();
    await relay.waitForLog(/"event":"acme_certificate_obtained"/u);
    await relay.stop();
  });

  test('is requested from another certificate authority, or for other names, at once', async (context) => {
    const fixture = await Fixture.open(context);
    await fixture.pebble.start();
    await using first = await fixture.start({ RELAY_ACME_DOMAIN: DOMAIN });
    await first.waitForLog(/"event":"acme_certificate_obtained"/u);
    await first.stop();
    await using second = await fixture.start();
    await second.waitForLog(/"event":"acme_certificate_obtained"/u);
    await second.stop();
    const other = await PebbleServer.start(context, { tlsPort: fixture.tlsPort });
    await using third = await fixture.start(other.settings);
    await third.waitForLog(/"event":"acme_certificate_obtained"/u);
    (await fixture.visit(await other.root())).destroy();
    assert.deepEqual([fixture.pebble.issued, other.issued], [2, 1]);
    await third.stop();
  });

  test('is obtained once by two relays with the same directory, which both use it', async (context) => {
    const fixture = await Fixture.open(context);
    await fixture.pebble.start();
    const root = await fixture.pebble.root();
    const otherPort = await freePort();
    await using first = await fixture.start();
    // The certificate authority can't connect to this one.
    await using second = await fixture.start({ RELAY_LISTEN: `ssl:${otherPort}:interface=127.0.0.1` });
    for (const port of [fixture.tlsPort, otherPort]) {
      await until(async () => {
        const socket = connect({ port, host: '127.0.0.1', servername: DOMAIN, ca: root });
        const isSecure = await once(socket, 'secureConnect').then(
          () => true,
          () => false,
        );
        socket.destroy();
        return isSecure;
      });
    }
    assert.equal(fixture.pebble.issued, 1);
    await first.stop();
    await second.stop();
  });

  test('needs a directory that can be written', async (context) => {
    const fixture = await Fixture.open(context);
    const settings = { RELAY_ACME_STATE: '/proc/acme' };
    await assert.rejects(fixture.start(settings), /can't keep certificates in \\"\/proc\/acme\\"/u);
  });

  test('leaves no key in the log', async (context) => {
    const fixture = await Fixture.open(context);
    await fixture.pebble.start();
    await using relay = await fixture.start({ RELAY_LOG_LEVEL: 'trace' });
    await relay.waitForLog(/"event":"acme_certificate_obtained"/u);
    const [line = ''] = readFileSync(join(fixture.statePath, 'certificate.pem'), 'utf8')
      .split('\n')
      .slice(1, 2);
    assert.ok(line.length > 20);
    assert.ok(!relay.log.includes(line));
    await relay.stop();
  });

  const withoutSockets = { skip: withoutSocketActivation() ?? false };
  test('is used on a socket from systemd', withoutSockets, async (context) => {
    const state = await scratch(context);
    const { key, certificate } = makeIdentity(DOMAIN);
    const directory = 'https://127.0.0.1:1/directory';
    writeFileSync(join(state, 'certificate.pem'), key + certificate);
    const orders = {
      directory,
      domains: [DOMAIN],
      issued_by: directory,
      failures: 0,
      retry_at: '2026-01-01',
    };
    writeFileSync(join(state, 'orders.json'), JSON.stringify(orders));
    await using activation = await Activation.start({
      sockets: { https: 'tcp:127.0.0.1' },
      command: [process.execPath, MAIN],
      env: {
        RELAY_LISTEN: 'systemd:domain=INET:name=https:tls=acme',
        RELAY_STATUS_LISTEN: '',
        RELAY_ACME_DOMAIN: DOMAIN,
        RELAY_ACME_AGREE: 'true',
        RELAY_ACME_DIRECTORY: directory,
        RELAY_ACME_STATE: state,
      },
    });
    await activation.program.waitForOutput(/"event":"acme_started".*using the certificate/u);
    using client = await SecureClient.connect(activation.port('https'), certificate, { name: DOMAIN });
    client.end();
    assert.ok(!activation.program.stdout.includes('acme_failed'));
  });
});

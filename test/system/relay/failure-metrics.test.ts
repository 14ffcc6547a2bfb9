import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { WebSocket } from 'ws';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { UPGRADE } from '../../support/frames.ts';
import { scratch } from '../../support/scratch.ts';
import { metricIs, nonZeroMetrics, allDisconnected } from '../../support/metric-assertions.ts';
import { connectPair } from '../../support/test-client.ts';
import { OpenRelay } from '../../support/open-relay.ts';

/** Sends a text to the first raw endpoint, with or without a FIN, and waits until the connection is closed. */
function sendTo(relay: OpenRelay): (text: string, end: boolean) => Promise<void> {
  const [raw] = relay.endpoints.raw;
  assert.ok(raw?.kind === 'tcp');
  return async (text, end) => {
    const socket = connect({ port: raw.port, host: '127.0.0.1', allowHalfOpen: false }).resume();
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    if (end) socket.end(text);
    else socket.write(text);
    await once(socket, 'close');
  };
}

describe('the metrics of failures', () => {
  test('count failed handshakes by kind, and nothing else', async () => {
    await using relay = await OpenRelay.start({});
    const send = sendTo(relay);
    await send('', true);
    await send('please relay', true);
    await send('GET / HTTP/1.1\r\nHost: x\r\n\r\n', false);
    await send('OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n', false);
    await send('nonsense\n', false);
    await send('x'.repeat(5000), false);
    await send(`${handshake(newToken(), SIDE_A)}early`, false);
    await send(UPGRADE, true);
    const [websocket] = relay.endpoints.websocket;
    assert.ok(websocket?.kind === 'tcp');
    const text = new WebSocket(`ws://127.0.0.1:${websocket.port}`);
    await once(text, 'open');
    text.send('text');
    await once(text, 'close');
    // These are not handshake failures.
    await send('HEAD /healthz HTTP/1.0\r\n\r\n', false);
    const lonely = await relay.connect('tcp');
    await lonely.send(handshake(newToken(), SIDE_A));
    await metricIs(relay, 'connections_waiting', 1);
    lonely.end();
    const pair = await connectPair(relay, 'tcp', 'websocket');
    for (const client of pair) client.end();
    await allDisconnected(relay);
    assert.deepEqual(await nonZeroMetrics(relay, 'handshake_failures_total'), {
      // One sent nothing, one half of its handshake, one requested a WebSocket upgrade and left.
      '{kind="disconnected"}': 3,
      '{kind="http"}': 2,
      '{kind="bad_line"}': 1,
      '{kind="overlong_line"}': 1,
      '{kind="early_bytes"}': 1,
      '{kind="text"}': 1,
    });
  });

  test('count handshakes that take too long', async () => {
    await using relay = await OpenRelay.start({ RELAY_HANDSHAKE_TIMEOUT: '500ms' });
    const send = sendTo(relay);
    await send('please relay', false);
    await send('GET / HTTP/1.1\r\nHost:', false);
    await allDisconnected(relay);
    assert.deepEqual(await nonZeroMetrics(relay, 'handshake_failures_total'), { '{kind="timeout"}': 2 });
  });

  test('count failed TLS handshakes, and failures after a TLS handshake', async (context) => {
    const identity = makeIdentity('localhost');
    const { files } = await CertificateDirectory.open(context, identity);
    const endpoint = `ssl:0:interface=127.0.0.1:privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
    await using relay = await OpenRelay.start({ RELAY_LISTEN: endpoint, RELAY_WEBSOCKET_LISTEN: endpoint });
    for (const [bound] of [relay.endpoints.raw, relay.endpoints.websocket]) {
      assert.ok(bound?.kind === 'tcp');
      const broken = connect({ port: bound.port, host: '127.0.0.1' }).resume();
      broken.on('error', () => undefined);
      broken.write(Buffer.from('160301000400000000', 'hex'));
      await once(broken, 'close');
      const secure = connectTls({
        port: bound.port,
        host: '127.0.0.1',
        ca: identity.certificate,
        servername: 'localhost',
      });
      secure.on('error', () => undefined).resume();
      await once(secure, 'secureConnect');
      secure.end('please re');
      await once(secure, 'close');
    }
    await allDisconnected(relay);
    assert.deepEqual(await nonZeroMetrics(relay, 'handshake_failures_total'), {
      '{kind="tls"}': 2,
      // For the raw listener, the client that sent half a line. On an HTTP listener it counts as HTTP.
      '{kind="disconnected"}': 1,
      '{kind="http"}': 1,
    });
  });

  test('count records written to a file descriptor, and dropped ones', async (context) => {
    const path = join(await scratch(context), 'records');
    execFileSync('mkfifo', [path]);
    const reader = spawn('sh', ['-c', 'exec sleep 60 < "$0"', path], { stdio: 'ignore' });
    context.after(() => reader.kill('SIGKILL'));
    // Blocks until there is a reader.
    const fd = openSync(path, 'w');
    await using relay = await OpenRelay.start({ RELAY_LOG_FD: String(fd) });
    const visit = async (count: number): Promise<void> => {
      const client = await relay.connect('tcp');
      client.end();
      await metricIs(relay, 'connections_ended_total{mood="empty",transport="tcp"}', count);
    };
    await visit(1);
    await metricIs(relay, 'usage_records_written_total{output="log"}', 1);
    assert.deepEqual(await nonZeroMetrics(relay, 'usage_records_dropped_total'), {});
    reader.kill('SIGKILL');
    await once(reader, 'exit');
    for (
      let count = 2;
      (await nonZeroMetrics(relay, 'usage_records_dropped_total'))['{output="log"}'] === undefined;
      count += 1
    )
      await visit(count);
    const { '{output="log"}': dropped = 0 } = await nonZeroMetrics(relay, 'usage_records_dropped_total');
    const ended =
      (await nonZeroMetrics(relay, 'connections_ended_total'))['{mood="empty",transport="tcp"}'] ?? 0;
    await metricIs(relay, 'usage_records_written_total{output="log"}', ended - dropped);
    assert.deepEqual(await nonZeroMetrics(relay, 'usage_records_queued'), {});
  });

  test('count rejected clients, but not as failed handshakes', async () => {
    await using relay = await OpenRelay.start({ RELAY_MAX_CONNECTIONS: '2', RELAY_MAX_WAITING: '1' });
    const waits = await relay.connect('tcp');
    await waits.send(handshake(newToken(), SIDE_A));
    await metricIs(relay, 'connections_waiting', 1);
    const tooMany = await relay.connect('websocket');
    await tooMany.send(handshake(newToken(), SIDE_A));
    await tooMany.closed;
    await metricIs(relay, 'connections_open', 1);
    const second = await relay.connect('tcp');
    await metricIs(relay, 'connections_open', 2);
    const third = await relay.connect('tcp');
    await third.send('nonsense\n');
    await third.closed;
    await metricIs(relay, 'connections_rejected_total{reason="connections"}', 1);
    assert.deepEqual(await nonZeroMetrics(relay, 'connections_'), {
      'accepted_total{transport="tcp"}': 1,
      'rejected_total{reason="connections"}': 1,
      'rejected_total{reason="waiting"}': 1,
      limit: 2,
      open: 2,
      waiting: 1,
    });
    assert.deepEqual(await nonZeroMetrics(relay, 'handshake_failures_total'), {});
    second.end();
  });
});

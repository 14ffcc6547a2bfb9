import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { SIDE_A, handshake, randomBytesOf } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { encodeFrame } from '../../support/frames.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

/** Addresses that cannot occur in a log for another reason. */
const ADDRESSES = ['127.99.88.77', '192.0.2.77', '192.0.2.78'];

const TOKEN = 'f'.repeat(63);
const HOST = 'a-host-of-ours.example';

const UPGRADE = [
  `GET /${TOKEN} HTTP/1.1`,
  `Host: ${HOST}`,
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  `X-Forwarded-For: ${ADDRESSES[2]}`,
  '\r\n',
].join('\r\n');

const PROXY_HEADER = `PROXY TCP4 ${ADDRESSES[1]} 127.0.0.1 1111 4001\r\n`;

test('no log, status page, self-test or database contains the address, host, token or side of a client', async (context) => {
  const directory = await CertificateDirectory.open(context, makeIdentity());
  const { keyPath, certificatePath } = directory.files;
  const database = join(await scratch(context), 'usage.sqlite');
  await using relay = await RelayProcess.start({
    RELAY_LISTEN: `ssl:0:interface=127.0.0.1:privateKey=${keyPath}:certKey=${certificatePath}`,
    RELAY_USAGE_DB: database,
    RELAY_LOG_LEVEL: 'trace',
    RELAY_TRUSTED_PROXIES: '127.99.0.0/16',
    RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1',
  });
  const line = handshake(`${TOKEN}0`, SIDE_A);
  const frame = encodeFrame({ opcode: 2, payload: line });
  const attempts: readonly (readonly [isTls: boolean, ...sentParts: (string | Uint8Array)[]])[] = [
    [false, line],
    [false, line, 'impatience'],
    [false, `${TOKEN}\n`],
    [false, TOKEN],
    [false, PROXY_HEADER, line],
    [false, PROXY_HEADER.replace('TCP4', 'TCP9')],
    [false, UPGRADE, frame],
    [false, UPGRADE, frame, Buffer.from(TOKEN)],
    [false, UPGRADE.replace('13', '1')],
    [false, UPGRADE.slice(0, 90)],
    [false, PROXY_HEADER, UPGRADE, frame],
    [false, Buffer.of(0x16, 3, 1, 0, 200), randomBytesOf(1, 300)],
    [true, line],
    [true, UPGRADE, frame],
  ];
  for (const [isTls, ...sentParts] of attempts) {
    const socket = connect({ port: relay.port('raw'), host: '127.0.0.1', localAddress: ADDRESSES[0] });
    socket.on('error', () => undefined);
    const client = isTls ? connectTls({ socket, servername: HOST, rejectUnauthorized: false }) : socket;
    client.on('error', () => undefined);
    if (isTls) await once(client, 'secureConnect');
    client.write(
      Buffer.concat(sentParts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))),
    );
    client.end();
    // Some are reset.
    await buffer(client).catch(() => undefined);
    client.destroy();
  }
  const origin = `http://127.0.0.1:${relay.port('status')}`;
  const pages: string[] = [];
  for (const path of ['/status.json', '/health/relay', '/health/transfer'])
    pages.push(await (await fetch(origin + path)).text());
  await relay.stop();
  const records = readFileSync(database, 'latin1');
  assert.ok(records.includes('lonely'));
  assert.match(relay.log, /"mood":"lonely"/u);
  assert.match(relay.log, /"mood":"errory"/u);
  for (const secret of [...ADDRESSES, HOST, TOKEN.slice(0, 16), SIDE_A]) {
    for (const output of [relay.log, records, ...pages])
      assert.ok(!output.includes(secret), `${secret} in ${output}`);
  }
});

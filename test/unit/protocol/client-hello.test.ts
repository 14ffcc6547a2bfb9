import assert from 'node:assert/strict';
import { once } from 'node:events';
import { duplexPair } from 'node:stream';
import { describe, test } from 'node:test';
import { connect } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { parseClientHello } from '../../../src/protocol/client-hello.ts';
import { Dice } from '../../support/dice.ts';

/** The first message of OpenSSL. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const [clientEnd, serverEnd] = duplexPair();
  const socket = connect({ socket: clientEnd, ...options });
  socket.on('error', () => undefined);
  const [hello]: unknown[] = await once(serverEnd, 'data');
  socket.destroy();
  assert.ok(hello instanceof Buffer);
  return hello;
}

describe('the first message of a TLS client', () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`has the server name and the protocols: ${version}`, async () => {
      const options = { minVersion: version, maxVersion: version } as const;
      const hello = await helloOf({
        ...options,
        servername: 'Relay.Example.org',
        ALPNProtocols: ['h2', 'http/1.1'],
      });
      assert.deepEqual(parseClientHello(hello), {
        serverName: 'relay.example.org',
        protocols: ['h2', 'http/1.1'],
      });
      assert.deepEqual(parseClientHello(await helloOf(options)), { serverName: null, protocols: [] });
    });
  }

  test('is incomplete until its last byte', async () => {
    const hello = await helloOf({ servername: 'relay.example.org', ALPNProtocols: ['acme-tls/1'] });
    for (let length = 0; length < hello.length; length += 1)
      assert.equal(parseClientHello(hello.subarray(0, length)), 'incomplete', `${length} bytes`);
    const followed = Buffer.concat([hello, Buffer.alloc(9)]);
    assert.deepEqual(parseClientHello(followed), parseClientHello(hello));
  });

  test('is nothing else', () => {
    for (const bytes of [
      Buffer.from('GET / HTTP/1.1\r\n'),
      // A record of 16 KiB, one without content, and one with another message.
      Buffer.of(0x16, 3, 1, 0x40, 0),
      Buffer.of(0x16, 3, 1, 0, 0),
      Buffer.of(0x16, 3, 1, 0, 4, 2, 0, 0, 0),
    ])
      assert.equal(parseClientHello(bytes), 'other', bytes.toString('hex'));
  });

  test('never throws, whatever it contains', async () => {
    const hello = await helloOf({ servername: 'relay.example.org', ALPNProtocols: ['acme-tls/1'] });
    const dice = new Dice(1);
    for (let round = 0; round < 20_000; round += 1) {
      const damaged = Buffer.from(hello);
      for (let edits = 0; edits < 3; edits += 1)
        damaged[dice.between(5, hello.length - 1)] = dice.between(0, 255);
      const parsed = parseClientHello(damaged);
      assert.ok(parsed === 'other' || typeof parsed === 'object');
    }
  });
});

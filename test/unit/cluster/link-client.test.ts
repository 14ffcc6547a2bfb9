import assert from 'node:assert/strict';
import type { LookupAddress } from 'node:dns';
import { getEventListeners } from 'node:events';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { LinkClientAuth, LinkServerAuth, linkAuthKey } from '../../../src/cluster/link-auth.ts';
import { LinkError, PeerAddressError, PeerNetworks, connectLink } from '../../../src/cluster/link-client.ts';
import type { LinkClientOptions, LinkErrorCode } from '../../../src/cluster/link-client.ts';
import { parseCidrs } from '../../../src/config/trusted-proxies.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { freePort } from '../../support/listening.ts';
import {
  IO_BACKENDS,
  KEY,
  LOOPBACK,
  LinkEnd,
  SECRET,
  TestLinkServer,
  connectErrorCode,
  serveImpostor,
} from './link-fixture.ts';

/** An owner with this secret, which sends in pieces of `pieceBytes`, and `payload` after its last line. */
function ownerOf(secret: string, pieceBytes: number, payload: Uint8Array): (socket: Socket) => void {
  return (socket) => {
    const auth = new LinkServerAuth(linkAuthKey(secret));
    const send = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes));
    };
    send(Buffer.from(auth.opening));
    socket.on('data', (bytes) => {
      const step = auth.receive(bytes);
      if (step.kind === 'authenticated') send(Buffer.concat([Buffer.from(step.send), payload]));
    });
  };
}

const LONG_TIMEOUT_MS = 30_000;

for (const [name, openBackend] of IO_BACKENDS) {
  describe(`connecting a link over ${name}`, () => {
    /** Options for a connection to loopback. */
    async function optionsFor(
      port: number,
      options: Partial<LinkClientOptions> = {},
    ): Promise<LinkClientOptions> {
      const backend = await openBackend();
      const address = { host: '127.0.0.1', port };
      return {
        backend,
        key: KEY,
        tls: null,
        networks: LOOPBACK,
        address,
        timeoutMs: LONG_TIMEOUT_MS,
        ...options,
      };
    }

    test('succeeds for any split of the owner’s lines', async (context) => {
      for (const pieceBytes of [1, 7, 64, 65, 1000]) {
        const payload = randomBytesOf(pieceBytes, 200);
        const port = await serveImpostor(context, ownerOf(SECRET, pieceBytes, payload));
        const { stream, firstBytes } = await connectLink(await optionsFor(port));
        context.after(() => stream.abort());
        const link = new LinkEnd(stream, firstBytes);
        assert.ok((await link.until(payload.length)).equals(payload));
      }
    });

    test('accepts a host name', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const caller = await testServer.connect(context, {
        address: { host: 'localhost', port: testServer.port },
      });
      caller.stream.write(Buffer.from('hello'));
      assert.equal((await (await testServer.untilLink()).until(5)).toString(), 'hello');
    });

    test('keeps bytes that are received before the stream is started', async (context) => {
      const payload = randomBytesOf(8, 3_000_000);
      const port = await serveImpostor(context, ownerOf(SECRET, 10_000_000, payload));
      const backend = await openBackend();
      const { stream, firstBytes } = await connectLink(await optionsFor(port, { backend }));
      context.after(() => stream.abort());
      // Bytes of another link overwrite the read buffer that these bytes were received in.
      const testServer = await TestLinkServer.open(context, backend);
      const other = await testServer.connect(context);
      other.stream.write(randomBytesOf(9, 1_000_000));
      await (await testServer.untilLink()).until(1_000_000);
      const link = new LinkEnd(stream, firstBytes);
      assert.ok((await link.until(payload.length)).equals(payload));
    });

    test('can still send after the owner has sent a FIN', async (context) => {
      const received = Promise.withResolvers<string>();
      const port = await serveImpostor(context, (socket) => {
        ownerOf(SECRET, 1000, Buffer.from('bye'))(socket);
        let lines = '';
        socket.on('data', (bytes) => {
          if (lines === '') socket.end();
          lines += bytes.toString();
        });
        socket.on('end', () => received.resolve(lines.slice(lines.indexOf('\n') + 1)));
      });
      const { stream, firstBytes } = await connectLink(await optionsFor(port));
      const link = new LinkEnd(stream, firstBytes);
      await link.ended();
      stream.write(Buffer.from('not yet'));
      stream.end();
      assert.equal(await received.promise, 'not yet');
      assert.equal(link.received.toString(), 'bye');
      await link.closed();
    });

    const failures: readonly (readonly [
      peer: string,
      serve: (socket: Socket) => void,
      code: LinkErrorCode,
    ])[] = [
      [
        'uses another version',
        (socket) => socket.write(`transit-relay-cluster/3 ${'0'.repeat(64)}\n`),
        'version',
      ],
      ['uses another protocol', (socket) => socket.write('SSH-2.0-OpenSSH_9.2p1\r\n'), 'not a relay'],
      ['sends random bytes', (socket) => socket.write(randomBytesOf(6, 1_000_000)), 'not a relay'],
      [
        'sends an endless line',
        (socket) => socket.write(`transit-relay-cluster/2 ${'0'.repeat(100_000)}`),
        'not a relay',
      ],
      ['closes without sending anything', (socket) => socket.end(), 'unreachable'],
      ['resets the connection', (socket) => socket.resetAndDestroy(), 'unreachable'],
      ['sends nothing', () => undefined, 'timeout'],
      [
        'sends a valid first line and a wrong proof',
        (socket) => {
          socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
          socket.once('data', () => socket.write(`${'0'.repeat(64)}\n`));
        },
        'secret',
      ],
      [
        'closes during authentication',
        (socket) => {
          socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
          socket.once('data', () => socket.end());
        },
        'unreachable',
      ],
      [
        'resets the connection during authentication',
        (socket) => {
          socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
          socket.once('data', () => socket.resetAndDestroy());
        },
        'unreachable',
      ],
      [
        'sends the proof of the caller back',
        (socket) => {
          socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
          socket.once('data', (bytes) => socket.write(bytes.subarray(-65)));
        },
        'secret',
      ],
      [
        'stops in the middle of a line',
        (socket) => socket.write(`transit-relay-cluster/2 ${'0'.repeat(10)}`),
        'timeout',
      ],
    ];
    for (const [peer, serve, code] of failures) {
      test(`fails with '${code}' if the peer ${peer}, and closes the connection`, async (context) => {
        const closed = Promise.withResolvers<void>();
        const port = await serveImpostor(context, (socket) => {
          socket.on('close', () => closed.resolve());
          socket.on('end', () => socket.end());
          serve(socket);
          socket.resume();
        });
        const timeoutMs = code === 'timeout' ? 100 : LONG_TIMEOUT_MS;
        assert.equal(await connectErrorCode(await optionsFor(port, { timeoutMs })), code);
        await closed.promise;
      });
    }

    test("fails with 'secret' if the relay has another secret", async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      assert.equal(
        await connectErrorCode(await optionsFor(testServer.port, { key: linkAuthKey('another') })),
        'secret',
      );
      assert.deepEqual(await testServer.untilFailures(1), ['secret']);
    });

    test("fails with 'secret' if the peer replays recorded lines of an owner", async (context) => {
      const owner = new LinkServerAuth(linkAuthKey(SECRET));
      const recorded = owner.receive(
        Buffer.from(new LinkClientAuth(linkAuthKey(SECRET)).receive(Buffer.from(owner.opening)).send),
      );
      assert.equal(recorded.kind, 'authenticated');
      const port = await serveImpostor(context, (socket) => {
        socket.write(owner.opening);
        socket.once('data', () => socket.write(recorded.send));
      });
      assert.equal(await connectErrorCode(await optionsFor(port)), 'secret');
    });

    test("fails with 'unreachable' for a closed port, an unknown host and an invalid port", async () => {
      assert.equal(await connectErrorCode(await optionsFor(await freePort())), 'unreachable');
      // A label of a host name has 63 characters at most, so no DNS server is queried.
      const unknownHost = { host: 'x'.repeat(64), port: 4005 };
      assert.equal(await connectErrorCode(await optionsFor(0, { address: unknownHost })), 'unreachable');
      for (const port of [-1, 70_000, Number.NaN]) {
        assert.equal(await connectErrorCode(await optionsFor(port)), 'unreachable');
      }
    });

    test('includes the system error code in the message', async () => {
      const unreachable = await optionsFor(await freePort());
      await assert.rejects(connectLink(unreachable), {
        message: 'the other relay cannot be reached (ECONNREFUSED)',
      });
    });

    test('can be aborted by its signal before it starts, while it connects and while it authenticates', async (context) => {
      const port = await serveImpostor(context, (socket) => {
        socket.on('end', () => socket.end());
        socket.resume();
      });
      assert.equal(
        await connectErrorCode(await optionsFor(port, { signal: AbortSignal.abort() })),
        'aborted',
      );
      const early = new AbortController();
      const connecting = connectErrorCode(await optionsFor(port, { signal: early.signal }));
      early.abort();
      assert.equal(await connecting, 'aborted');
      const closed = Promise.withResolvers<void>();
      const late = new AbortController();
      const silentPort = await serveImpostor(context, (socket) => {
        socket.on('close', () => closed.resolve());
        socket.on('end', () => socket.end());
        socket.resume();
        late.abort();
      });
      assert.equal(await connectErrorCode(await optionsFor(silentPort, { signal: late.signal })), 'aborted');
      await closed.promise;
    });

    test('leaves no listener on its signal, and later aborts do not affect the link', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const controller = new AbortController();
      const { signal } = controller;
      const caller = await testServer.connect(context, { signal });
      await connectErrorCode(await optionsFor(testServer.port, { signal, key: linkAuthKey('another') }));
      await connectErrorCode(await optionsFor(await freePort(), { signal }));
      assert.equal(getEventListeners(signal, 'abort').length, 0);
      controller.abort();
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await (await testServer.untilLink()).until(10)).toString(), 'still here');
    });

    test('leaves no timer at either end, whether it succeeds or fails', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const timers = (): number =>
        process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
      const before = timers();
      await testServer.connect(context);
      await connectErrorCode(await optionsFor(testServer.port, { key: linkAuthKey('another') }));
      await testServer.untilFailures(1);
      assert.equal(timers(), before);
    });

    test('succeeds for many links at once', async (context) => {
      const testServer = await TestLinkServer.open(context, await openBackend());
      const callers = await Promise.all(Array.from({ length: 50 }, () => testServer.connect(context)));
      for (const [index, caller] of callers.entries()) caller.stream.write(Buffer.from([index]));
      const received: number[] = [];
      for (let index = 0; index < callers.length; index += 1) {
        received.push(...(await (await testServer.untilLink(index)).until(1)));
      }
      assert.deepEqual(
        received.toSorted((a, b) => a - b),
        callers.map((_, index) => index),
      );
    });
  });
}

const ANY = new PeerNetworks([], '10.0.0.1');
const ON_LOOPBACK = new PeerNetworks([], '127.0.0.1');
const LISTED = new PeerNetworks(parseCidrs('10.0.0.0/24 fd00::/64'), '10.0.0.1');

/** All addresses of a name, looked up as `net.connect` does with `all`. */
function resolved(networks: PeerNetworks, name: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    networks.lookup(name, { all: true }, (error, addresses) => {
      if (error === null && Array.isArray(addresses)) resolve(addresses);
      else reject(error ?? new Error('no list'));
    });
  });
}

/** One address of a name, looked up as `net.connect` does without `all`. */
function firstOf(networks: PeerNetworks, name: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    networks.lookup(name, {}, (error, address) => {
      if (error === null) resolve(address);
      else reject(error);
    });
  });
}

describe('networks of peers', () => {
  test('are by default all in which a relay can be, without loopback and link-local addresses', () => {
    for (const address of ['10.0.0.7', '192.0.2.1', '8.8.8.8', 'fd00::7', '2001:db8::1', '::ffff:10.0.0.7'])
      assert.equal(ANY.allowsOutgoing(address), true, address);
    for (const address of [
      '0.0.0.0',
      '0.1.2.3',
      '127.0.0.1',
      '127.9.9.9',
      '169.254.169.254',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      'ff02::1',
    ])
      assert.equal(ANY.allowsOutgoing(address), false, address);
  });

  test('include the loopback only if this relay is on the loopback too', () => {
    for (const host of ['127.0.0.1', '::1', 'localhost']) {
      const networks = new PeerNetworks([], host);
      assert.equal(networks.allowsOutgoing('127.0.0.2'), true, host);
      assert.equal(networks.allowsOutgoing('::1'), true, host);
      assert.equal(networks.allowsOutgoing('169.254.169.254'), false, host);
    }
  });

  test('are only the configured ones, if there are any', () => {
    for (const address of ['10.0.0.7', '::ffff:10.0.0.7', 'fd00::7']) {
      assert.equal(LISTED.allowsOutgoing(address), true, address);
      assert.equal(LISTED.allowsIncoming(address), true, address);
    }
    for (const address of ['10.0.1.7', '127.0.0.1', 'fd00:1::7', '', 'relay']) {
      assert.equal(LISTED.allowsOutgoing(address), false, address);
      assert.equal(LISTED.allowsIncoming(address), false, address);
    }
    const linkLocal = new PeerNetworks(parseCidrs('169.254.0.0/16'), '10.0.0.1');
    assert.equal(linkLocal.allowsOutgoing('169.254.1.1'), true);
  });

  test('are not restricted for incoming connections by default', () => {
    for (const address of ['10.0.0.7', '127.0.0.1', '::1', ''])
      assert.equal(ANY.allowsIncoming(address), true);
  });

  test('are checked for all addresses of a host name', async () => {
    const found = await resolved(ON_LOOPBACK, 'localhost');
    assert.ok(found.some(({ address }) => address === '127.0.0.1' || address === '::1'));
    await assert.rejects(resolved(ANY, 'localhost'), PeerAddressError);
    const loopback4 = new PeerNetworks(parseCidrs('127.0.0.0/8'), '10.0.0.1');
    assert.equal(await firstOf(loopback4, 'localhost'), '127.0.0.1');
    await assert.rejects(resolved(ANY, 'x'.repeat(64)), { code: 'ENOTFOUND' });
  });
});

test('a link that the owner closes during the handshake differs from one that cannot be opened', () => {
  assert.equal(new LinkError('unreachable').closedDuringAuth, true);
  assert.equal(new LinkError('unreachable', 'ECONNREFUSED').closedDuringAuth, false);
  assert.equal(new LinkError('timeout').closedDuringAuth, false);
  assert.equal(
    new LinkError('unreachable', 'ECONNREFUSED').message,
    `${new LinkError('unreachable').message} (ECONNREFUSED)`,
  );
});

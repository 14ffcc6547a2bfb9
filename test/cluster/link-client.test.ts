import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import { LinkClientAuth, LinkServerAuth, linkAuthKey } from '../../src/cluster/link-auth.ts';
import { connectLink } from '../../src/cluster/link-client.ts';
import type { LinkClientOptions, LinkErrorCode } from '../../src/cluster/link-client.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { freePort } from '../support/listening.ts';
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

/** An owner with this secret, that says in pieces what it says, and `behind` with the last of them. */
function ownerOf(secret: string, pieceBytes: number, behind: Uint8Array): (socket: Socket) => void {
  return (socket) => {
    const auth = new LinkServerAuth(linkAuthKey(secret));
    const say = (bytes: Uint8Array): void => {
      for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes));
    };
    say(Buffer.from(auth.opening));
    socket.on('data', (bytes) => {
      const step = auth.receive(bytes);
      if (step.kind === 'authenticated') say(Buffer.concat([Buffer.from(step.send), behind]));
    });
  };
}

const LONG_TIMEOUT_MS = 30_000;

for (const [name, openPlane] of IO_BACKENDS) {
  describe(`a call over ${name}`, () => {
    /** Calls somebody on loopback. */
    async function call(port: number, options: Partial<LinkClientOptions> = {}): Promise<LinkClientOptions> {
      const backend = await openPlane();
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

    test('ends in a link, however the owner splits its words', async (context) => {
      for (const pieceBytes of [1, 7, 64, 65, 1000]) {
        const behind = randomBytesOf(pieceBytes, 200);
        const port = await serveImpostor(context, ownerOf(SECRET, pieceBytes, behind));
        const { stream, firstBytes } = await connectLink(await call(port));
        context.after(() => stream.abort());
        const end = new LinkEnd(stream, firstBytes);
        assert.ok((await end.until(behind.length)).equals(behind));
      }
    });

    test('finds the relay by its name too', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const caller = await place.connect(context, { address: { host: 'localhost', port: place.port } });
      caller.stream.write(Buffer.from('hello'));
      assert.equal((await (await place.untilLink()).until(5)).toString(), 'hello');
    });

    test('loses nothing of what comes before its wire is started', async (context) => {
      const behind = randomBytesOf(8, 3_000_000);
      const port = await serveImpostor(context, ownerOf(SECRET, 10_000_000, behind));
      const backend = await openPlane();
      const { stream, firstBytes } = await connectLink(await call(port, { backend }));
      context.after(() => stream.abort());
      // Another link of the same relay has its bytes in the memory that these came in.
      const place = await TestLinkServer.open(context, backend);
      const other = await place.connect(context);
      other.stream.write(randomBytesOf(9, 1_000_000));
      await (await place.untilLink()).until(1_000_000);
      const end = new LinkEnd(stream, firstBytes);
      assert.ok((await end.until(behind.length)).equals(behind));
    });

    test('goes on sending when the owner has said its last', async (context) => {
      const heard = Promise.withResolvers<string>();
      const port = await serveImpostor(context, (socket) => {
        ownerOf(SECRET, 1000, Buffer.from('bye'))(socket);
        let lines = '';
        socket.on('data', (bytes) => {
          if (lines === '') socket.end();
          lines += bytes.toString();
        });
        socket.on('end', () => heard.resolve(lines.slice(lines.indexOf('\n') + 1)));
      });
      const { stream, firstBytes } = await connectLink(await call(port));
      const end = new LinkEnd(stream, firstBytes);
      await end.ended();
      stream.write(Buffer.from('not yet'));
      stream.end();
      assert.equal(await heard.promise, 'not yet');
      assert.equal(end.received.toString(), 'bye');
      await end.closed();
    });

    const faults: readonly (readonly [what: string, serve: (socket: Socket) => void, code: LinkErrorCode])[] =
      [
        [
          'another version',
          (socket) => socket.write(`transit-relay-cluster/3 ${'0'.repeat(64)}\n`),
          'version',
        ],
        ['another protocol', (socket) => socket.write('SSH-2.0-OpenSSH_9.2p1\r\n'), 'not a relay'],
        ['noise', (socket) => socket.write(randomBytesOf(6, 1_000_000)), 'not a relay'],
        [
          'an endless line',
          (socket) => socket.write(`transit-relay-cluster/2 ${'0'.repeat(100_000)}`),
          'not a relay',
        ],
        ['who closes without a word', (socket) => socket.end(), 'unreachable'],
        ['who resets', (socket) => socket.resetAndDestroy(), 'unreachable'],
        ['silence', () => undefined, 'timeout'],
        [
          'who knows how to begin and not how to go on',
          (socket) => {
            socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
            socket.once('data', () => socket.write(`${'0'.repeat(64)}\n`));
          },
          'secret',
        ],
        [
          'who is gone in the middle of it',
          (socket) => {
            socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
            socket.once('data', () => socket.end());
          },
          'unreachable',
        ],
        [
          'who resets in the middle of it',
          (socket) => {
            socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
            socket.once('data', () => socket.resetAndDestroy());
          },
          'unreachable',
        ],
        [
          'who gives back what it is given',
          (socket) => {
            socket.write(`transit-relay-cluster/2 ${'0'.repeat(64)}\n`);
            socket.once('data', (bytes) => socket.write(bytes.subarray(-65)));
          },
          'secret',
        ],
        [
          'who stops in the middle of it',
          (socket) => socket.write(`transit-relay-cluster/2 ${'0'.repeat(10)}`),
          'timeout',
        ],
      ];
    for (const [what, serve, code] of faults) {
      test(`of ${what} fails with '${code}', and the connection is closed`, async (context) => {
        const closed = Promise.withResolvers<void>();
        const port = await serveImpostor(context, (socket) => {
          socket.on('close', () => closed.resolve());
          socket.on('end', () => socket.end());
          serve(socket);
          socket.resume();
        });
        const timeoutMs = code === 'timeout' ? 100 : LONG_TIMEOUT_MS;
        assert.equal(await connectErrorCode(await call(port, { timeoutMs })), code);
        await closed.promise;
      });
    }

    test("of a relay with another secret fails with 'secret'", async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      assert.equal(await connectErrorCode(await call(place.port, { key: linkAuthKey('another') })), 'secret');
      assert.deepEqual(await place.untilFailures(1), ['secret']);
    });

    test("fails with 'secret' where recorded words of the owner are all there is", async (context) => {
      const owner = new LinkServerAuth(linkAuthKey(SECRET));
      const recorded = owner.receive(
        Buffer.from(new LinkClientAuth(linkAuthKey(SECRET)).receive(Buffer.from(owner.opening)).send),
      );
      assert.equal(recorded.kind, 'authenticated');
      const port = await serveImpostor(context, (socket) => {
        socket.write(owner.opening);
        socket.once('data', () => socket.write(recorded.send));
      });
      assert.equal(await connectErrorCode(await call(port)), 'secret');
    });

    test("fails with 'unreachable' where nobody listens, or there is no such place", async () => {
      assert.equal(await connectErrorCode(await call(await freePort())), 'unreachable');
      // Longer than a part of a name can be: nobody else is asked for it.
      const nowhere = { host: 'x'.repeat(64), port: 4005 };
      assert.equal(await connectErrorCode(await call(0, { address: nowhere })), 'unreachable');
      for (const port of [-1, 70_000, Number.NaN]) {
        assert.equal(await connectErrorCode(await call(port)), 'unreachable');
      }
    });

    test('says what the system says of it', async () => {
      const missing = await call(await freePort());
      await assert.rejects(connectLink(missing), {
        message: 'the other relay cannot be reached (ECONNREFUSED)',
      });
    });

    test('is given up where its signal says so, before, while it connects and while it waits', async (context) => {
      const port = await serveImpostor(context, (socket) => {
        socket.on('end', () => socket.end());
        socket.resume();
      });
      assert.equal(await connectErrorCode(await call(port, { signal: AbortSignal.abort() })), 'aborted');
      const early = new AbortController();
      const connecting = connectErrorCode(await call(port, { signal: early.signal }));
      early.abort();
      assert.equal(await connecting, 'aborted');
      const closed = Promise.withResolvers<void>();
      const late = new AbortController();
      const silent = await serveImpostor(context, (socket) => {
        socket.on('close', () => closed.resolve());
        socket.on('end', () => socket.end());
        socket.resume();
        late.abort();
      });
      assert.equal(await connectErrorCode(await call(silent, { signal: late.signal })), 'aborted');
      await closed.promise;
    });

    test('leaves nothing with a signal that outlives it, and is a link for good once it is one', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const controller = new AbortController();
      const { signal } = controller;
      const caller = await place.connect(context, { signal });
      await connectErrorCode(await call(place.port, { signal, key: linkAuthKey('another') }));
      await connectErrorCode(await call(await freePort(), { signal }));
      assert.equal(getEventListeners(signal, 'abort').length, 0);
      controller.abort();
      caller.stream.write(Buffer.from('still here'));
      assert.equal((await (await place.untilLink()).until(10)).toString(), 'still here');
    });

    test('leaves no timer behind, at either end, whatever becomes of it', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const timers = (): number =>
        process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
      const before = timers();
      await place.connect(context);
      await connectErrorCode(await call(place.port, { key: linkAuthKey('another') }));
      await place.untilFailures(1);
      assert.equal(timers(), before);
    });

    test('of many at once is answered each', async (context) => {
      const place = await TestLinkServer.open(context, await openPlane());
      const callers = await Promise.all(Array.from({ length: 50 }, () => place.connect(context)));
      for (const [index, caller] of callers.entries()) caller.stream.write(Buffer.from([index]));
      const heard: number[] = [];
      for (let index = 0; index < callers.length; index += 1) {
        heard.push(...(await (await place.untilLink(index)).until(1)));
      }
      assert.deepEqual(
        heard.toSorted((a, b) => a - b),
        callers.map((_, index) => index),
      );
    });
  });
}

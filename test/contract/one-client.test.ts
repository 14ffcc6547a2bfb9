import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Transport } from '../../src/net/peer.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { House } from '../support/house.ts';
import { findProgram } from '../support/programs.ts';
import { until } from '../support/scratch.ts';

const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

for (const transport of TRANSPORTS) {
  describe(`a ${transport} client alone`, () => {
    let house: House;
    before(async () => {
      house = await House.open();
    });
    afterEach(() => {
      house.endings.length = 0;
    });
    after(() => house.close());

    /** The close code a client of this transport sees. */
    function code(number: number): number | null {
      return transport === 'websocket' ? number : null;
    }

    /** Resolves when nothing of the client is left at the relay. */
    async function gone(): Promise<void> {
      while (house.reception.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    }

    for (const line of [
      'please relay nonsense\n',
      `please relay ${newToken()}\r\n`,
      '\n',
      'GET\n',
      'POST / HTTP/1.1\r\n\r\n',
    ]) {
      test(`hears "bad handshake" for ${JSON.stringify(line.slice(0, 24))} and is closed`, async () => {
        const client = await house.connect(transport);
        await client.send(line);
        assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
        assert.equal(client.received.toString(), 'bad handshake\n');
        const [ending] = await house.recorded(1);
        assert.deepEqual([ending?.mood, ending?.totalBytes, ending?.waitingMs], ['errory', 0, null]);
        await gone();
      });
    }

    test('is closed without a word for a line that never ends', async () => {
      const client = await house.connect(transport);
      await client.send('x'.repeat(1025));
      assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
      assert.equal(client.receivedBytes, 0);
      assert.equal((await house.recorded(1))[0]?.mood, 'empty');
      await gone();
    });

    test('hears "impatient" for bytes behind its line, in the same segment or later', async () => {
      for (const separately of [false, true]) {
        const token = newToken();
        const client = await house.connect(transport);
        if (separately) {
          await client.send(handshake(token, SIDE_A));
          while (house.hub.census().waiting === 0) await new Promise((resolve) => setImmediate(resolve));
          await client.send('x');
        } else {
          await client.send(`${handshake(token, SIDE_A)}x`);
        }
        assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
        assert.equal(client.received.toString(), 'impatient\n');
        assert.equal(house.hub.census().waiting, 0);
        assert.equal((await house.recorded(separately ? 2 : 1)).at(-1)?.mood, 'impatient');
      }
    });

    test('no longer waits once it was impatient', async () => {
      const token = newToken();
      const hasty = await house.connect(transport);
      await hasty.send(`${handshake(token, SIDE_A)}x`);
      await hasty.closed;
      const next = await house.connect(transport);
      await next.send(handshake(token, SIDE_B));
      while (house.hub.census().waiting === 0) await new Promise((resolve) => setImmediate(resolve));
      next.end();
      await next.closed;
      assert.deepEqual(
        (await house.recorded(2)).map((ending) => ending.mood),
        ['impatient', 'lonely'],
      );
    });

    for (const way of ['end', 'reset'] as const) {
      test(`leaves an "empty" record when it goes (${way}) before its line is whole`, async () => {
        for (const said of ['', 'please relay 0123']) {
          const client = await house.connect(transport);
          if (said !== '') await client.send(said);
          client[way]();
          await house.recorded(said === '' ? 1 : 2);
        }
        assert.deepEqual(
          house.endings.map((ending) => ending.mood),
          ['empty', 'empty'],
        );
        await gone();
      });

      test(`leaves a "lonely" record when it goes (${way}) while it waits`, async () => {
        const client = await house.connect(transport);
        await client.send(handshake(newToken(), SIDE_A));
        while (house.hub.census().waiting === 0) await new Promise((resolve) => setImmediate(resolve));
        client[way]();
        const [ending] = await house.recorded(1);
        assert.deepEqual([ending?.mood, ending?.waitingMs], ['lonely', null]);
        assert.equal(house.hub.census().waiting, 0);
        await gone();
      });
    }

    test('may send its line 9 bytes at a time', async () => {
      const token = newToken();
      const a = await house.connect(transport);
      await a.sendAll(Buffer.from(handshake(token, SIDE_A)), 9);
      const b = await house.connect(transport);
      await b.sendAll(Buffer.from(handshake(token, SIDE_B)), 1);
      assert.equal((await a.until(3)).toString(), 'ok\n');
      assert.equal((await b.until(3)).toString(), 'ok\n');
      await a.send('first');
      assert.equal((await b.until(8)).toString(), 'ok\nfirst');
      a.end();
      await b.closed;
    });

    test('is told when the relay shuts down, with its record written', async () => {
      const waiting = await house.connect(transport);
      await waiting.send(handshake(newToken(), SIDE_A));
      const silent = await house.connect(transport);
      while (house.reception.connections < 2 || house.hub.census().waiting === 0) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      await house.hub.drain(0, new AbortController().signal);
      for (const client of [waiting, silent]) {
        assert.deepEqual(await client.closed, { reset: false, code: code(1013) });
        assert.equal(client.received.toString(), 'shutting down\n');
      }
      assert.deepEqual(house.endings.map((ending) => ending.mood).toSorted(), ['empty', 'lonely']);
    });
  });
}

test('every TCP socket of a client has keepalive', async (context) => {
  const ss = findProgram('ss');
  if (ss === null) {
    context.skip('no "ss": install the Debian package iproute2');
    return;
  }
  const house = await House.open();
  context.after(() => house.close());
  for (const [transport, port] of [
    ['tcp', house.tcpPort],
    ['websocket', house.websocketPort],
  ] as const) {
    await house.connect(transport);
    await until(() => house.reception.connections > 0);
    const sockets = spawnSync(ss, ['-Hnto', 'state', 'established', `sport = :${port}`]).stdout.toString();
    // The time until the first probe, of 30 s.
    assert.match(sockets, /timer:\(keepalive,(?:29|30)/u);
  }
});

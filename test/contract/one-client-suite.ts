import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import { TRANSPORTS } from '../support/test-client.ts';
import type { TestClient } from '../support/test-client.ts';
import { connectionsIn } from './topology.ts';
import type { InProcessTopology, Setup } from './topology.ts';

/**
 * Behaviour for a client without a partner.
 *
 * @param isForwarded another relay owns the client's token, because a client of its own side waits there
 */
export function oneClientSuite({ name, open }: Setup, { isForwarded = false } = {}): void {
  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client without a partner`, () => {
      let topology: InProcessTopology;
      let waiters: TestClient[] = [];
      before(async () => {
        topology = await open();
      });
      afterEach(async () => {
        for (const waiter of waiters) waiter.end();
        waiters = [];
        await until(() => connectionsIn(topology) === 0);
        topology.checkConsistency();
        await topology.clearSummaries();
      });
      after(() => topology.close());

      /** The close code that a client of this transport sees. */
      function code(number: number): number | null {
        return transport === 'websocket' ? number : null;
      }

      /**
       * A token for clients with side A. If clients are forwarded, another relay than the next client's owns
       * it.
       */
      async function tokenForA(): Promise<string> {
        const token = newToken();
        if (!isForwarded) return token;
        const others = topology.waiting();
        const waiter = await topology.connect('tcp');
        waiters.push(waiter);
        await waiter.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === others + 1);
        return token;
      }

      /** A waiting client with side A. */
      async function startWaiting(token: string): Promise<TestClient> {
        const others = topology.waiting();
        const client = await topology.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => topology.waiting() === others + 1);
        return client;
      }

      /** Resolves when no relay has state of the client any more. */
      async function untilReleased(): Promise<void> {
        await until(() => connectionsIn(topology) === waiters.length);
      }

      for (const line of [
        'please relay nonsense\n',
        `please relay ${newToken()}\r\n`,
        '\n',
        'GET\n',
        `Please relay ${newToken()}\n`,
        'POST\n',
      ]) {
        test(`gets "bad handshake" for ${JSON.stringify(line.slice(0, 24))} and is closed`, async () => {
          const client = await topology.connect(transport);
          await client.send(line);
          assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
          assert.equal(client.received.toString(), 'bad handshake\n');
          const [summary] = await topology.waitForRecords(1);
          assert.deepEqual([summary?.mood, summary?.totalBytes, summary?.waitingMs], ['errory', 0, null]);
          await untilReleased();
        });
      }

      test('is closed without a reply for a handshake line that never ends', async () => {
        const client = await topology.connect(transport);
        await client.send('x'.repeat(1025));
        assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
        assert.equal(client.receivedBytes, 0);
        assert.equal((await topology.waitForRecords(1))[0]?.mood, 'empty');
        await untilReleased();
      });

      test('gets "impatient" for bytes after its handshake, in the same segment or later', async () => {
        for (const separately of [false, true]) {
          await topology.clearSummaries();
          const token = await tokenForA();
          const others = topology.waiting();
          const client = separately ? await startWaiting(token) : await topology.connect(transport);
          await client.send(separately ? 'x' : `${handshake(token, SIDE_A)}x`);
          assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
          assert.equal(client.received.toString(), 'impatient\n');
          assert.equal(topology.waiting(), others);
          const [summary] = await topology.waitForRecords(1);
          assert.deepEqual([summary?.mood, summary?.totalBytes, summary?.waitingMs], ['impatient', 0, null]);
        }
      });

      test('no longer waits after "impatient"', async () => {
        const token = await tokenForA();
        const others = topology.waiting();
        const impatient = await topology.connect(transport);
        await impatient.send(`${handshake(token, SIDE_A)}x`);
        await impatient.closed;
        const next = await topology.connect(transport);
        await next.send(handshake(token, SIDE_B));
        // The client that owned the token before is its partner.
        if (isForwarded) await next.until(3);
        else await until(() => topology.waiting() === others + 1);
        await next.leave();
        assert.deepEqual(
          (await topology.waitForRecords(2)).map((summary) => summary.mood).toSorted(),
          isForwarded ? ['happy', 'impatient'] : ['impatient', 'lonely'],
        );
      });

      for (const ending of ['end', 'reset'] as const) {
        test(`has an "empty" record if it disconnects (${ending}) before its handshake is complete`, async () => {
          for (const sentText of ['', 'please relay 0123']) {
            const client = await topology.connect(transport);
            if (sentText !== '') await client.send(sentText);
            client[ending]();
            await topology.waitForRecords(sentText === '' ? 1 : 2);
          }
          assert.deepEqual(
            topology.summaries.map((summary) => summary.mood),
            ['empty', 'empty'],
          );
          await untilReleased();
        });

        test(`has a "lonely" record if it disconnects (${ending}) while it waits`, async () => {
          const token = await tokenForA();
          const others = topology.waiting();
          const client = await startWaiting(token);
          client[ending]();
          const [summary] = await topology.waitForRecords(1);
          assert.deepEqual([summary?.mood, summary?.waitingMs], ['lonely', null]);
          assert.equal(topology.waiting(), others);
          await untilReleased();
        });
      }

      test('may send its handshake in pieces of 9 bytes', async () => {
        const token = newToken();
        const a = await topology.connect(transport);
        await a.sendAll(Buffer.from(handshake(token, SIDE_A)), 9);
        const b = await topology.connect(transport);
        await b.sendAll(Buffer.from(handshake(token, SIDE_B)), 1);
        assert.equal((await a.until(3)).toString(), 'ok\n');
        assert.equal((await b.until(3)).toString(), 'ok\n');
        await a.send('first');
        assert.equal((await b.until(8)).toString(), 'ok\nfirst');
        a.end();
        await b.closed;
      });

      test('gets "shutting down" when the relay stops, and its record is written', async () => {
        const token = await tokenForA();
        const waiting = await startWaiting(token);
        const others = connectionsIn(topology);
        const silent = await topology.connect(transport);
        await until(() => connectionsIn(topology) === others + 1);
        await Promise.all(
          topology.relays.map(({ sessions }) => sessions.drain(0, new AbortController().signal)),
        );
        for (const client of [waiting, silent]) {
          assert.deepEqual(await client.closed, { reset: false, code: code(1013) });
          assert.equal(client.received.toString(), 'shutting down\n');
        }
        // A client that is forwarded to a relay that also stops has no record. The client that waits there
        // has one.
        assert.deepEqual(topology.summaries.map((summary) => summary.mood).toSorted(), ['empty', 'lonely']);
      });
    });
  }
}

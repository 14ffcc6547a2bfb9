import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import { connectionsIn } from './place.ts';
import type { HousePlace } from './place.ts';

const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];

export interface OneClientSuiteOptions {
  /** Where the client is, in front of every name. */
  readonly name: string;
  readonly open: () => Promise<HousePlace>;
  /** The client's token is another relay's, where somebody of its own side waits, so that it is passed on. */
  readonly isPassedOn: boolean;
}

/** What a client may expect that has no partner. */
export function oneClientSuite({ name, open, isPassedOn }: OneClientSuiteOptions): void {
  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client alone`, () => {
      let place: HousePlace;
      let hosts: TestClient[] = [];
      before(async () => {
        place = await open();
      });
      afterEach(async () => {
        for (const host of hosts) host.end();
        hosts = [];
        await until(() => connectionsIn(place) === 0);
        place.checkConsistency();
        await place.forgetEndings();
      });
      after(() => place.close());

      /** The close code a client of this transport sees. */
      function code(number: number): number | null {
        return transport === 'websocket' ? number : null;
      }

      /** A token for clients with side A. Where they are passed on, another relay than that of the next client has it. */
      async function tokenForA(): Promise<string> {
        const token = newToken();
        if (!isPassedOn) return token;
        const others = place.waiting();
        const host = await place.connect('tcp');
        hosts.push(host);
        await host.send(handshake(token, SIDE_A));
        await until(() => place.waiting() === others + 1);
        return token;
      }

      /** A client with side A that waits. */
      async function waits(token: string): Promise<TestClient> {
        const others = place.waiting();
        const client = await place.connect(transport);
        await client.send(handshake(token, SIDE_A));
        await until(() => place.waiting() === others + 1);
        return client;
      }

      /** Resolves when nothing of the client is left at any relay. */
      async function gone(): Promise<void> {
        await until(() => connectionsIn(place) === hosts.length);
      }

      for (const line of [
        'please relay nonsense\n',
        `please relay ${newToken()}\r\n`,
        '\n',
        'GET\n',
        `Please relay ${newToken()}\n`,
        'POST\n',
      ]) {
        test(`hears "bad handshake" for ${JSON.stringify(line.slice(0, 24))} and is closed`, async () => {
          const client = await place.connect(transport);
          await client.send(line);
          assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
          assert.equal(client.received.toString(), 'bad handshake\n');
          const [summary] = await place.recorded(1);
          assert.deepEqual([summary?.mood, summary?.totalBytes, summary?.waitingMs], ['errory', 0, null]);
          await gone();
        });
      }

      test('is closed without a word for a line that never ends', async () => {
        const client = await place.connect(transport);
        await client.send('x'.repeat(1025));
        assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
        assert.equal(client.receivedBytes, 0);
        assert.equal((await place.recorded(1))[0]?.mood, 'empty');
        await gone();
      });

      test('hears "impatient" for bytes behind its line, in the same segment or later', async () => {
        for (const separately of [false, true]) {
          await place.forgetEndings();
          const token = await tokenForA();
          const others = place.waiting();
          const client = separately ? await waits(token) : await place.connect(transport);
          await client.send(separately ? 'x' : `${handshake(token, SIDE_A)}x`);
          assert.deepEqual(await client.closed, { reset: false, code: code(1000) });
          assert.equal(client.received.toString(), 'impatient\n');
          assert.equal(place.waiting(), others);
          const [summary] = await place.recorded(1);
          assert.deepEqual([summary?.mood, summary?.totalBytes, summary?.waitingMs], ['impatient', 0, null]);
        }
      });

      test('no longer waits once it was impatient', async () => {
        const token = await tokenForA();
        const others = place.waiting();
        const hasty = await place.connect(transport);
        await hasty.send(`${handshake(token, SIDE_A)}x`);
        await hasty.closed;
        const next = await place.connect(transport);
        await next.send(handshake(token, SIDE_B));
        // Whoever had the token before is its partner.
        if (isPassedOn) await next.until(3);
        else await until(() => place.waiting() === others + 1);
        next.end();
        await next.closed;
        assert.deepEqual(
          (await place.recorded(2)).map((summary) => summary.mood).toSorted(),
          isPassedOn ? ['happy', 'impatient'] : ['impatient', 'lonely'],
        );
      });

      for (const way of ['end', 'reset'] as const) {
        test(`leaves an "empty" record when it goes (${way}) before its line is whole`, async () => {
          for (const said of ['', 'please relay 0123']) {
            const client = await place.connect(transport);
            if (said !== '') await client.send(said);
            client[way]();
            await place.recorded(said === '' ? 1 : 2);
          }
          assert.deepEqual(
            place.endings.map((summary) => summary.mood),
            ['empty', 'empty'],
          );
          await gone();
        });

        test(`leaves a "lonely" record when it goes (${way}) while it waits`, async () => {
          const token = await tokenForA();
          const others = place.waiting();
          const client = await waits(token);
          client[way]();
          const [summary] = await place.recorded(1);
          assert.deepEqual([summary?.mood, summary?.waitingMs], ['lonely', null]);
          assert.equal(place.waiting(), others);
          await gone();
        });
      }

      test('may send its line 9 bytes at a time', async () => {
        const token = newToken();
        const a = await place.connect(transport);
        await a.sendAll(Buffer.from(handshake(token, SIDE_A)), 9);
        const b = await place.connect(transport);
        await b.sendAll(Buffer.from(handshake(token, SIDE_B)), 1);
        assert.equal((await a.until(3)).toString(), 'ok\n');
        assert.equal((await b.until(3)).toString(), 'ok\n');
        await a.send('first');
        assert.equal((await b.until(8)).toString(), 'ok\nfirst');
        a.end();
        await b.closed;
      });

      test('is told when the relay shuts down, with its record written', async () => {
        const token = await tokenForA();
        const waiting = await waits(token);
        const others = connectionsIn(place);
        const silent = await place.connect(transport);
        await until(() => connectionsIn(place) === others + 1);
        await Promise.all(
          place.houses.map(({ sessions }) => sessions.drain(0, new AbortController().signal)),
        );
        for (const client of [waiting, silent]) {
          assert.deepEqual(await client.closed, { reset: false, code: code(1013) });
          assert.equal(client.received.toString(), 'shutting down\n');
        }
        // Of whoever is passed on to a relay that stops too, there is no record: the one that waits there has one.
        assert.deepEqual(place.endings.map((summary) => summary.mood).toSorted(), ['empty', 'lonely']);
      });
    });
  }
}

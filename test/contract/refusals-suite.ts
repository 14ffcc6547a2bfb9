import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import type { TestRelayOptions } from '../support/test-relay.ts';
import { until } from '../support/scratch.ts';
import type { TestClient } from '../support/test-client.ts';
import { connectionsIn, refusedIn } from './place.ts';
import type { HousePlace, OpenPlace } from './place.ts';

const TRANSPORTS: readonly TransportKind[] = ['tcp', 'unix', 'websocket'];

/**
 * A client that waits for a partner.
 *
 * @param at at which relay; by default at the first
 */
export async function waiting(
  place: HousePlace,
  transport: TransportKind,
  token = newToken(),
  at = 0,
): Promise<TestClient> {
  const others = place.waiting();
  const client = await place.connect(transport, at);
  await client.send(handshake(token, SIDE_A));
  await until(() => place.waiting() === others + 1);
  return client;
}

/** A client names a token, hears `word`, and is closed. */
export async function refused(
  client: TestClient,
  word: string,
  token = newToken(),
  side = SIDE_B,
): Promise<void> {
  await client.send(handshake(token, side));
  assert.deepEqual(await client.closed, {
    reset: false,
    code: client.transport === 'websocket' ? 1013 : null,
  });
  assert.equal(client.received.toString(), `${word}\n`);
}

/** Says what a client that is let in hears. */
async function paired(client: TestClient): Promise<void> {
  assert.equal((await client.until(3)).toString(), 'ok\n');
}

export interface RefusalsSuiteOptions {
  /** Where clients are, in front of every name. */
  readonly name: string;
  readonly open: OpenPlace;
  /**
   * Somebody waits at the first relay, and others come to the last one, which may be the same. Limits are each relay's own: who
   * comes has to be let in there before anybody asks whether the partner waits elsewhere.
   */
  readonly isPartnerElsewhere: boolean;
}

/** Who is sent away, with which word, and what becomes of the others. */
export function refusalsSuite({ name, open: openPlace, isPartnerElsewhere }: RefusalsSuiteOptions): void {
  async function open(context: TestContext, options: () => TestRelayOptions): Promise<HousePlace> {
    const place = await openPlace(options);
    context.after(() => place.close());
    return place;
  }

  const LAST = isPartnerElsewhere ? 1 : 0;

  for (const transport of TRANSPORTS) {
    describe(`${name}: a ${transport} client`, () => {
      test('is told "busy" when there is no room where it comes, is counted, and has no record', async (context) => {
        const place = await open(context, () => ({ limits: { maxConnections: 2 } }));
        const token = newToken();
        const first = await waiting(place, transport, token);
        // Where they come from is not known, so that their places are not given to another client.
        const others = [await waiting(place, 'unix', newToken(), LAST)];
        if (isPartnerElsewhere) others.push(await waiting(place, 'unix', newToken(), LAST));
        await refused(await place.connect(transport, LAST), 'busy', token);
        await until(() => refusedIn(place, 'connections') === 1);
        assert.equal(connectionsIn(place), 1 + others.length);
        // Once somebody has left there is room, and the one that waited has not been harmed.
        others[0]?.destroy();
        await until(() => connectionsIn(place) === others.length);
        const partner = await place.connect(transport, LAST);
        await partner.send(handshake(token, SIDE_B));
        await paired(partner);
        await paired(first);
        assert.deepEqual(
          place.endings.map(({ mood }) => mood),
          ['lonely'],
        );
      });

      test('is told "busy" when there is no room where its partner waits', async (context) => {
        const place = await open(context, () => ({ limits: { maxConnections: 2 } }));
        const token = newToken();
        const first = await waiting(place, transport, token);
        // Where it comes from is not known, so that its place is not given to another client.
        const other = await waiting(place, 'unix');
        await refused(await place.connect(transport, LAST), 'busy', token);
        await until(() => refusedIn(place, 'connections') === 1);
        other.destroy();
        await until(() => connectionsIn(place) === 1);
        const partner = await place.connect(transport, LAST);
        await partner.send(handshake(token, SIDE_B));
        await paired(partner);
        await paired(first);
        assert.equal(place.endings.length, 1);
      });

      test('is told "busy" when enough clients wait where it comes', async (context) => {
        const place = await open(context, () => ({ limits: { maxWaiting: 1 } }));
        const token = newToken();
        const first = await waiting(place, transport, token);
        const other = isPartnerElsewhere ? await waiting(place, 'tcp', newToken(), LAST) : null;
        await refused(await place.connect(transport, LAST), 'busy');
        // Another of the one that waits would wait too.
        await refused(await place.connect(transport, LAST), 'busy', token, SIDE_A);
        if (isPartnerElsewhere) await refused(await place.connect(transport, LAST), 'busy', token);
        await until(() => refusedIn(place, 'waiting') === (isPartnerElsewhere ? 3 : 2));
        other?.destroy();
        await until(() => place.waiting() === 1);
        const partner = await place.connect(transport, LAST);
        await partner.send(handshake(token, SIDE_B));
        await paired(partner);
        await paired(first);
        assert.equal(place.endings.length, isPartnerElsewhere ? 1 : 0);
      });

      test('is let in where enough clients wait for its partner\u2019s relay, since it will not wait', async (context) => {
        const place = await open(context, () => ({ limits: { maxWaiting: 1 } }));
        const token = newToken();
        const first = await waiting(place, transport, token);
        // Another of its side would wait there.
        await refused(await place.connect(transport, LAST), 'busy', token, SIDE_A);
        const partner = await place.connect(transport, LAST);
        await partner.send(handshake(token, SIDE_B));
        await paired(partner);
        await paired(first);
        assert.deepEqual(place.endings, []);
      });

      for (const [where, at] of isPartnerElsewhere
        ? ([
            ['where it comes', 1],
            ['where its partner waits', 0],
          ] as const)
        : ([['there', 0]] as const)) {
        test(`is told "over quota" when that is spent ${where}, whoever waits for it`, async (context) => {
          const place = await open(context, () => ({}));
          const token = newToken();
          const first = await waiting(place, transport, token);
          const relay = place.houses[at];
          assert.ok(relay !== undefined);
          relay.admission.isOverQuota = true;
          await refused(await place.connect(transport, LAST), 'over quota', token);
          await until(() => refusedIn(place, 'quota') === 1);
          assert.equal(place.waiting(), 1);
          relay.sessions.closeWaiting();
          if (at === 0) {
            assert.equal((await first.until(11)).toString(), 'over quota\n');
            assert.deepEqual(await first.closed, {
              reset: false,
              code: transport === 'websocket' ? 1013 : null,
            });
          } else {
            // The quota is each relay's own.
            assert.equal(first.isClosed, false);
            first.end();
          }
          const [summary] = await place.recorded(1);
          assert.deepEqual([summary?.mood, place.endings.length], ['lonely', 1]);
          relay.admission.isOverQuota = false;
          await waiting(place, transport, newToken(), LAST);
        });
      }

      test('is told "shutting down" when the relay stops, unless somebody waits for it there', async (context) => {
        const place = await open(context, () => ({}));
        const token = newToken();
        const first = await waiting(place, transport, token);
        for (const { admission } of place.houses) admission.isDraining = true;
        await refused(await place.connect(transport, LAST), 'shutting down');
        await refused(await place.connect(transport, LAST), 'shutting down', token, SIDE_A);
        if (isPartnerElsewhere) {
          await refused(await place.connect(transport, LAST), 'shutting down', token);
          for (const { admission } of place.houses.slice(1)) admission.isDraining = false;
        }
        const partner = await place.connect(transport, LAST);
        await partner.send(handshake(token, SIDE_B));
        await paired(partner);
        await paired(first);
        await until(() => refusedIn(place, 'shutdown') === (isPartnerElsewhere ? 3 : 2));
        assert.deepEqual(place.endings, []);
      });

      test('that is refused says anything at all, or leaves, and there is still no record', async (context) => {
        const place = await open(context, () => ({ limits: { maxConnections: 1 } }));
        await waiting(place, 'tcp', newToken(), LAST);
        for (const words of ['please relay nonsense\n', `${'x'.repeat(2000)}\n`]) {
          const client = await place.connect(transport, LAST);
          await client.send(words);
          await client.closed;
        }
        const silent = await place.connect(transport, LAST);
        await silent.send('please');
        silent.end();
        await silent.closed;
        await until(() => refusedIn(place, 'connections') === 3);
        assert.deepEqual(place.endings, []);
      });

      test('pairs, and its pair ends when it has moved more than it may, with its record', async (context) => {
        const place = await open(context, () => ({ limits: { maxPairBytes: 100_000 } }));
        const token = newToken();
        const a = await waiting(place, transport, token);
        const b = await place.connect('tcp', LAST);
        await b.send(handshake(token, SIDE_B));
        await paired(a);
        await paired(b);
        await a.send(new Uint8Array(60_000));
        await b.until(60_003);
        assert.equal(place.endings.length, 0);
        await b.send(new Uint8Array(50_000));
        // What was over the limit when it was found out is not lost.
        assert.deepEqual(await a.closed, { reset: false, code: transport === 'websocket' ? 1000 : null });
        assert.deepEqual(await b.closed, { reset: false, code: null });
        const [summary] = await place.recorded(1);
        assert.equal(summary?.mood, 'happy');
        const moved = summary?.totalBytes ?? 0;
        assert.ok(moved > 100_000 && moved <= 110_000, String(moved));
        assert.equal(a.receivedBytes, 3 + moved - 60_000);
        await place.deserted();
      });
    });
  }
}

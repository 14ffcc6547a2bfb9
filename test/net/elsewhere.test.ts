import assert from 'node:assert/strict';
import { describe } from 'node:test';
import type { Transport } from '../../src/net/peer.ts';
import { SIDE_A, SIDE_B, handshake, randomBytesOf } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, ended, hears, ownerOf } from '../support/group-scene.ts';
import { recorded, scene, talk, waitingAt } from '../support/group-scene.ts';
import type { HouseGroup } from '../support/house-group.ts';
import { until } from '../support/scratch.ts';

const PAIRINGS = TRANSPORTS.flatMap((first) => TRANSPORTS.map((second) => ({ first, second })));

/** Calls that each relay has made. */
function calls(group: HouseGroup): number[] {
  return group.members.map((member) => member.calls);
}

/** What a relay counts of a transport: bytes to others of them, clients let in, passed on, and paired. */
function counts(group: HouseGroup, relay: number, from: Transport, to: Transport): unknown {
  const totals = group.member(relay).house.hub.clients.totals();
  return {
    there: totals.relayedBytes[from][to],
    back: totals.relayedBytes[to][from],
    accepted: totals.accepted[from],
    passedOn: totals.passedOn[from],
    happy: totals.ended.happy[from],
  };
}

describe('two clients', () => {
  scene('of one relay cost no call', async (group) => {
    const { token, waiter } = await awaited(group);
    const other = await come(group, 0, handshake(token, SIDE_B), 'websocket');
    await talk(waiter, other);
    // Whoever is paired needs no claim, and its token is anybody's.
    assert.equal(group.owners.size, 0);
    waiter.end();
    await hears(other, 'ok\nfrom one');
    assert.deepEqual(calls(group), [0, 0]);
    await recorded(group, 0, ['happy tcp websocket']);
    assert.equal(group.endings.length, 1);
  });

  for (const { first, second } of PAIRINGS) {
    scene(`by ${first} and ${second} at two relays cost one call, and one record`, async (group) => {
      const [owner, passer] = [group.member(0).house, group.member(1).house];
      const { token, waiter } = await awaited(group, 0, first);
      const other = await come(group, 1, `${handshake(token, SIDE_B)}early`, second);
      assert.equal((await waiter.until(8)).toString(), 'ok\nearly');
      assert.equal((await other.until(3)).toString(), 'ok\n');
      await waiter.send('an answer');
      assert.equal((await other.until(12)).toString(), 'ok\nan answer');
      group.checkConsistency();
      assert.deepEqual([owner.hub.pairs, owner.hub.clients.passengers], [1, 0]);
      assert.deepEqual([passer.hub.pairs, passer.hub.clients.passengers], [0, 1]);
      assert.equal(passer.hub.census().relayedBytes, 14);
      const moved = { there: 5, back: 9, accepted: 1 };
      assert.deepEqual(counts(group, 1, second, 'link'), { ...moved, passedOn: 0, happy: 0 });
      other.end();
      assert.deepEqual(await waiter.closed, ended(first));
      await group.deserted();
      assert.deepEqual(calls(group), [0, 1]);
      assert.deepEqual(counts(group, 0, 'link', first), { ...moved, passedOn: 0, happy: 1 });
      assert.deepEqual(counts(group, 1, second, 'link'), { ...moved, passedOn: 1, happy: 0 });
      assert.deepEqual(
        owner.endings.map(({ totalBytes }) => totalBytes),
        [14],
      );
      assert.equal(group.endings.length, 1);
      assert.equal(passer.hub.census().relayedBytes, 14);
    });
  }

  scene('of one relay that another has the token of both go there', async (group) => {
    const { token, waiter } = await awaited(group);
    const again = await come(group, 1, handshake(token, SIDE_A));
    await waitingAt(group, 0, 2);
    waiter.end();
    await waiter.closed;
    const other = await come(group, 1, handshake(token, SIDE_B));
    await talk(again, other);
    assert.deepEqual(calls(group), [0, 2]);
    other.end();
    await again.closed;
    await recorded(group, 0, ['happy link link', 'lonely tcp']);
  });
});

describe('a client that is passed on', () => {
  for (const transport of TRANSPORTS) {
    scene(`and becomes redundant is closed without a word (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      const again = await come(group, 1, handshake(token, SIDE_A), transport);
      await waitingAt(group, 0, 2);
      const newest = await come(group, 0, handshake(token, SIDE_A));
      await waitingAt(group, 0, 3);
      const other = await come(group, 0, handshake(token, SIDE_B));
      await hears(again, '');
      await hears(waiter, '');
      await talk(newest, other);
      other.end();
      await newest.closed;
      await recorded(group, 0, ['happy tcp tcp', 'redundant link', 'redundant tcp']);
    });

    scene(`and is the newest of its side is paired (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      const again = await come(group, 1, handshake(token, SIDE_A), transport);
      await waitingAt(group, 0, 2);
      const other = await come(group, 0, handshake(token, SIDE_B));
      await hears(waiter, '');
      await talk(again, other);
      other.end();
      await again.closed;
      await recorded(group, 0, ['happy link tcp', 'redundant tcp']);
    });

    scene(
      `and has waited for too long is closed without a word (${transport})`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const again = await come(group, 1, handshake(token, SIDE_A), transport);
        await hears(waiter, '');
        await hears(again, '');
        await recorded(group, 0, ['lonely link', 'lonely tcp']);
        assert.equal(group.endings.length, 2);
      },
      { timeouts: { waitMs: 300 } },
    );

    scene(
      `hears busy of an owner with no place for it (${transport})`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const again = await come(group, 1, handshake(token, SIDE_A), transport);
        await hears(again, 'busy\n', 1013);
        assert.equal(group.member(0).house.reception.refused.waiting, 1);
        assert.equal(group.member(1).house.hub.clients.totals().passedOn[transport], 1);
        // A partner that does not have to wait needs no place.
        const other = await come(group, 1, handshake(token, SIDE_B), transport);
        await talk(waiter, other);
        other.end();
        await waiter.closed;
        await recorded(group, 0, ['happy link tcp']);
      },
      { limits: { maxWaiting: 1 } },
    );

    scene(
      `hears busy of an owner that takes nobody in (${transport})`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const other = await come(group, 1, handshake(token, SIDE_B), transport);
        await hears(other, 'busy\n', 1013);
        waiter.end();
        await waiter.closed;
        await recorded(group, 0, ['lonely tcp']);
      },
      { limits: { maxConnections: 1 } },
    );

    scene(`hears over quota of an owner that may move no more (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      group.member(0).house.reception.isOverQuota = true;
      const other = await come(group, 1, handshake(token, SIDE_B), transport);
      await hears(other, 'over quota\n', 1013);
      assert.equal(group.member(0).house.reception.refused.quota, 1);
      waiter.end();
      await waiter.closed;
      await recorded(group, 0, ['lonely tcp']);
    });

    scene(`hears over quota when its own relay may move no more (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      const again = await come(group, 1, handshake(token, SIDE_A), transport);
      await waitingAt(group, 0, 2);
      const pair = await awaited(group);
      const carried = await come(group, 1, handshake(pair.token, SIDE_B), transport);
      await talk(pair.waiter, carried);
      group.member(1).house.hub.endWaits();
      await hears(again, 'over quota\n', 1013);
      await waitingAt(group, 0, 1);
      group.member(1).house.hub.endPairs();
      await hears(carried, 'ok\nfrom one');
      await pair.waiter.closed;
      waiter.end();
      await recorded(group, 0, ['happy link tcp', 'lonely link', 'lonely tcp']);
    });
  }

  for (const transport of TRANSPORTS) {
    scene(
      `waits for a partner that takes nothing, and goes on when it does (${transport})`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const client = await come(group, 1, handshake(token, SIDE_B), transport);
        await waiter.until(3);
        waiter.pause();
        const bytes = randomBytesOf(4, 40_000_000);
        const sent = client.sendAll(bytes, 65_536);
        const [link] = group.member(1).links;
        await until(() => (link?.heldBytes ?? 0) > 0);
        waiter.resume();
        await sent;
        assert.ok((await waiter.until(3 + bytes.length)).subarray(3).equals(bytes));
        client.end();
        await waiter.closed;
      },
    );
  }

  scene('and sends text messages is closed with 1003 wherever it is', async (group) => {
    const { token, waiter } = await awaited(group);
    const open = group.member(1).journeys.shut();
    const early = await come(group, 1, handshake(token, SIDE_A), 'websocket');
    await until(() => group.member(1).calls === 1);
    early.sendText('while it is called for');
    open();
    await hears(early, '', 1003);
    const waiting = await come(group, 1, handshake(token, SIDE_A), 'websocket');
    await waitingAt(group, 0, 2);
    waiting.sendText('while it waits');
    await hears(waiting, '', 1003);
    await waitingAt(group, 0, 1);
    const carried = await come(group, 1, handshake(token, SIDE_B), 'websocket');
    await talk(waiter, carried);
    carried.sendText('to its partner');
    await hears(waiter, 'ok\nfrom the other');
    await hears(carried, 'ok\nfrom one', 1003);
    await recorded(group, 0, ['happy link tcp', 'lonely link', 'lonely link']);
    assert.equal(ownerOf(group, token), -1);
  });

  scene(
    'may send no more than its own relay lets a pair move',
    async (group) => {
      const { token, waiter } = await awaited(group);
      const other = await come(group, 1, handshake(token, SIDE_B));
      await other.until(3);
      await other.send(randomBytesOf(2, 2000));
      await waiter.closed;
      await other.closed;
      await recorded(group, 0, ['happy link tcp']);
    },
    { only: { 1: { limits: { pairBytes: 1000 } } } },
  );
});

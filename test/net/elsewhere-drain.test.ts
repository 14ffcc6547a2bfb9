import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, ended, happy, hears, ownerOf } from '../support/group-scene.ts';
import { recorded, records, scene, talk, waitingAt } from '../support/group-scene.ts';
import { until } from '../support/scratch.ts';

describe('a relay that drains', () => {
  for (const transport of TRANSPORTS) {
    scene(
      `sends ${transport} guests home without their hearing of it`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const guest = await come(group, 1, handshake(token, SIDE_A), transport);
        await waitingAt(group, 0, 2);
        const drained = group.member(0).house.hub.drain(10_000, new AbortController().signal);
        await hears(waiter, 'shutting down\n');
        await until(() => ownerOf(group, token) === 1);
        await drained;
        const partner = await come(group, 2, handshake(token, SIDE_B));
        await talk(guest, partner);
        guest.end();
        await partner.closed;
        await recorded(group, 0, ['lonely tcp']);
        await recorded(group, 1, [happy(transport)]);
        assert.equal(group.endings.length, 2);
        assert.deepEqual([waiter.isClosed, group.member(0).links.size], [true, 0]);
      },
      { relays: 3 },
    );

    scene(
      `tells those it passes on so while they wait, and lets ${transport} transfers end`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const guest = await come(group, 1, handshake(token, SIDE_A), transport);
        await waitingAt(group, 0, 2);
        const pair = await awaited(group);
        const carried = await come(group, 1, handshake(pair.token, SIDE_B), transport);
        await talk(pair.waiter, carried);
        const drained = group.member(1).house.hub.drain(10_000, new AbortController().signal);
        await hears(guest, 'shutting down\n', 1013);
        await waitingAt(group, 0, 1);
        await carried.send(Buffer.alloc(100_000));
        await pair.waiter.until(100_017);
        // Longer than those are given who only have to answer a FIN.
        const still = sleep(400, 'it runs');
        assert.equal(await Promise.race([drained, still]), 'it runs');
        carried.end();
        assert.deepEqual(await carried.closed, ended(transport));
        await pair.waiter.closed;
        await drained;
        waiter.end();
        await waiter.closed;
        await recorded(group, 0, ['happy link tcp', 'lonely link', 'lonely tcp']);
        assert.deepEqual(records(group, 1), []);
      },
    );
  }

  scene('goes on without those it passes on when it has to stop now', async (group) => {
    const { token, waiter } = await awaited(group);
    const guest = await come(group, 1, handshake(token, SIDE_A));
    await waitingAt(group, 0, 2);
    const pair = await awaited(group);
    const carried = await come(group, 1, handshake(pair.token, SIDE_B));
    await talk(pair.waiter, carried);
    group.member(1).house.hub.close();
    await Promise.all([guest.closed, carried.closed]);
    await hears(pair.waiter, 'ok\nfrom the other');
    await waitingAt(group, 0, 1);
    waiter.end();
    await waiter.closed;
    assert.deepEqual(records(group, 0), ['happy link tcp', 'lonely link', 'lonely tcp']);
  });
});

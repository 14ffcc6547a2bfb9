import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SIDE_B, handshake, randomBytesOf } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, ended, happy, recorded, scene } from '../support/group-scene.ts';

describe('a client that is passed on, and not read since its partner takes nothing,', () => {
  for (const transport of TRANSPORTS) {
    scene(`is noticed when it is reset, and what it had said is delivered (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      const sender = await come(group, 1, handshake(token, SIDE_B), transport);
      await Promise.all([waiter.until(3), sender.until(3)]);
      waiter.pause();
      const bytes = randomBytesOf(8, 64_000_000);
      const sent = sender.sendAll(bytes, 65_536);
      await group.stalled();
      sender.reset();
      await sent;
      const { hub } = group.member(1).house;
      // The first sweep remembers how far the link is, the next one finds it where it was and asks.
      while (hub.clients.passengers > 0) {
        hub.sweep();
        await setImmediate();
      }
      assert.equal(waiter.isClosed, false);
      waiter.resume();
      assert.deepEqual(await waiter.closed, ended('tcp'));
      const got = waiter.received.subarray(3);
      assert.ok(got.length > 0 && got.equals(bytes.subarray(0, got.length)));
      await recorded(group, 0, [happy('tcp')]);
      assert.equal(group.endings[0]?.totalBytes, got.length);
    });
  }
});

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, hears, tokenOf } from '../support/group-scene.ts';
import { recorded, scene, waitingAt } from '../support/group-scene.ts';
import { until } from '../support/scratch.ts';

describe('what a client says before it has its partner', () => {
  for (const transport of TRANSPORTS) {
    scene(`by ${transport}, in messages of its own, comes first, over a link too`, async (group) => {
      const { token, waiter } = await awaited(group);
      const open = group.member(1).answers.shut();
      const other = await group.member(1).house.connect(transport);
      await Promise.all([other.send(handshake(token, SIDE_B)), other.send('one '), other.send('two ')]);
      await until(() => group.owners.asked.length === 2);
      open();
      assert.equal((await waiter.until(11)).toString(), 'ok\none two ');
      await other.until(3);
      await other.send('three');
      assert.equal((await waiter.until(16)).toString(), 'ok\none two three');
      other.end();
      await waiter.closed;
    });

    scene(`by ${transport} comes whole while the way to the owner is made`, async (group) => {
      const { token, waiter } = await awaited(group);
      const open = group.member(1).journeys.shut();
      const early = randomBytesOf(1, 300_000);
      const other = await group.member(1).house.connect(transport);
      await other.send(handshake(token, SIDE_B));
      const sent = other.sendAll(early, 10_000);
      await until(() => group.member(1).calls === 1);
      open();
      await sent;
      assert.ok((await waiter.until(3 + early.length)).subarray(3).equals(early));
      other.end();
      await waiter.closed;
    });

    scene(`by ${transport} is impatience where nobody has its token`, async (group) => {
      const open = group.member(0).answers.shut();
      const client = await come(group, 0, `${handshake(newToken(), SIDE_A)}early`, transport);
      await until(() => group.owners.size === 1);
      open();
      await hears(client, 'impatient\n');
      await recorded(group, 0, [`impatient ${transport}`]);
      assert.equal(group.member(0).house.reception.failures.early_bytes, 1);
    });

    scene(`by ${transport} is impatience where its own side waits elsewhere`, async (group) => {
      const { token, waiter } = await awaited(group);
      const again = await come(group, 1, `${handshake(token, SIDE_A)}early`, transport);
      await hears(again, 'impatient\n');
      const late = await come(group, 1, handshake(token, SIDE_A), transport);
      await waitingAt(group, 0, 2);
      await late.send('early');
      await hears(late, 'impatient\n');
      waiter.end();
      await waiter.closed;
      await recorded(group, 0, ['impatient link', 'impatient link', 'lonely tcp']);
      assert.equal(group.endings.length, 3);
      assert.deepEqual(
        group.houses.map(({ reception }) => reception.failures.early_bytes),
        [2, 0],
      );
    });
  }

  scene('is no more than 64 KiB and a read, until the owner has spoken', async (group) => {
    const { token, waiter } = await awaited(group);
    waiter.end();
    await waiter.closed;
    const answer = group.member(0).answers.shut();
    group.owners.assign(tokenOf(token), group.member(0).owner);
    const client = await come(group, 1, handshake(token, SIDE_B));
    await waitingAt(group, 0, 1);
    const bytes = randomBytesOf(3, 20_000_000);
    const sent = client.sendAll(bytes, 65_536);
    const [link] = group.member(1).links;
    const passedOn = (): number => (link?.deliveredBytes ?? 0) + (link?.heldBytes ?? 0);
    await until(() => passedOn() > 65_536);
    for (let turns = 0; turns < 100; turns += 1) await setImmediate();
    assert.ok(passedOn() < 1_000_000, `${passedOn()} bytes were taken of a client whose owner is silent`);
    const partner = await come(group, 0, handshake(token, SIDE_A));
    assert.ok((await partner.until(3 + bytes.length)).subarray(3).equals(bytes));
    await sent;
    answer();
    client.end();
    await partner.closed;
    await recorded(group, 0, ['happy link tcp', 'lonely tcp']);
  });

  scene('comes behind the ok of the owner where it was said there', async (group) => {
    const token = newToken();
    const answer = group.member(0).answers.shut();
    const one = await come(group, 0, `${handshake(token, SIDE_A)}early`);
    await waitingAt(group, 0, 1);
    const other = await come(group, 1, handshake(token, SIDE_B), 'websocket');
    assert.equal((await other.until(8)).toString(), 'ok\nearly');
    assert.equal(group.member(1).house.hub.census().relayedBytes, 5);
    answer();
    other.end();
    await one.closed;
    await recorded(group, 0, ['happy link tcp']);
  });

  scene('is for the partner that comes to its relay before the answer', async (group) => {
    const token = newToken();
    const open = group.member(0).answers.shut();
    const one = await come(group, 0, `${handshake(token, SIDE_A)}early`);
    await waitingAt(group, 0, 1);
    const other = await come(group, 0, `${handshake(token, SIDE_B)}later`);
    assert.equal((await other.until(8)).toString(), 'ok\nearly');
    open();
    assert.equal((await one.until(8)).toString(), 'ok\nlater');
    one.end();
    await other.closed;
    await recorded(group, 0, ['happy tcp tcp']);
  });
});

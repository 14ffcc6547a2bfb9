import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, hears, ownerOf, tokenOf } from '../support/group-scene.ts';
import { recorded, scene, talk, waitingAt } from '../support/group-scene.ts';
import { until } from '../support/scratch.ts';

const WAYS = ['end', 'reset'] as const;

for (const transport of TRANSPORTS) {
  for (const go of WAYS) {
    describe(`a ${transport} client that goes by ${go}`, () => {
      scene('before its relay knows that nobody has its token leaves nothing claimed', async (group) => {
        const open = group.member(0).answers.shut();
        const client = await come(group, 0, handshake(newToken(), SIDE_A), transport);
        await until(() => group.owners.size === 1);
        client[go]();
        open();
        await client.closed;
        await recorded(group, 0, [`lonely ${transport}`]);
      });

      scene('before its relay knows who has its token is recorded there', async (group) => {
        const { token, waiter } = await awaited(group);
        const open = group.member(1).answers.shut();
        const client = await come(group, 1, handshake(token, SIDE_A), transport);
        await waitingAt(group, 1, 1);
        client[go]();
        open();
        await client.closed;
        await recorded(group, 0, ['lonely link']);
        assert.equal(ownerOf(group, token), 0);
        waiter.end();
        await waiter.closed;
        await recorded(group, 0, ['lonely link', 'lonely tcp']);
        assert.equal(group.endings.length, 2);
      });

      scene('while the call is made is recorded by the owner', async (group) => {
        const { token, waiter } = await awaited(group);
        const open = group.member(1).journeys.shut();
        const client = await come(group, 1, handshake(token, SIDE_A), transport);
        await until(() => group.member(1).calls === 1);
        client[go]();
        open();
        await client.closed;
        await recorded(group, 0, ['lonely link']);
        waiter.end();
        await waiter.closed;
        assert.equal(group.endings.length, 2);
      });

      scene('while it waits at the owner gives up its place there', async (group) => {
        const { token, waiter } = await awaited(group);
        const client = await come(group, 1, handshake(token, SIDE_A), transport);
        await waitingAt(group, 0, 2);
        waiter.end();
        await waiter.closed;
        // The owner keeps the token for those of other relays.
        await waitingAt(group, 0, 1);
        assert.equal(ownerOf(group, token), 0);
        client[go]();
        await client.closed;
        await until(() => ownerOf(group, token) === -1);
        await recorded(group, 0, ['lonely link', 'lonely tcp']);
      });

      scene('in the middle of its transfer ends it', async (group) => {
        const { token, waiter } = await awaited(group);
        const client = await come(group, 1, handshake(token, SIDE_B), transport);
        await talk(waiter, client);
        client[go]();
        await hears(waiter, 'ok\nfrom the other');
        await client.closed;
        await recorded(group, 0, ['happy link tcp']);
        assert.equal(group.endings.length, 1);
      });

      scene('and whose partner is passed on ends the transfer too', async (group) => {
        const { token, waiter } = await awaited(group, 0, transport);
        const client = await come(group, 1, handshake(token, SIDE_B));
        await talk(waiter, client);
        waiter[go]();
        await hears(client, 'ok\nfrom one');
        await waiter.closed;
        assert.equal(group.endings.length, 1);
      });
    });
  }
}

describe('a partner that comes to its relay', () => {
  for (const late of ['nobody', 'another relay']) {
    scene(
      `before the answer is taken at once, and the answer that it is ${late} harms nobody`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        if (late === 'nobody') group.owners.assign(tokenOf(token), null);
        const open = group.member(1).answers.shut();
        const one = await come(group, 1, handshake(token, SIDE_A));
        await waitingAt(group, 1, 1);
        const other = await come(group, 1, handshake(token, SIDE_B));
        await talk(one, other);
        open();
        await other.send('!');
        assert.equal((await one.until(18)).toString(), 'ok\nfrom the other!');
        assert.equal(group.member(1).calls, 0);
        assert.equal(ownerOf(group, token), late === 'nobody' ? -1 : 0);
        one.end();
        await other.closed;
        await recorded(group, 1, ['happy tcp tcp']);
        waiter.end();
        await waiter.closed;
      },
    );
  }

  scene('while it is on its way to the owner follows it there', async (group) => {
    const { token, waiter } = await awaited(group);
    const open = group.member(1).journeys.shut();
    const one = await come(group, 1, handshake(token, SIDE_A));
    await until(() => group.member(1).calls === 1);
    const other = await come(group, 1, handshake(token, SIDE_B));
    await until(() => group.member(1).calls === 2);
    waiter.end();
    await waiter.closed;
    open();
    await talk(one, other);
    one.end();
    await other.closed;
    await recorded(group, 0, ['happy link link', 'lonely tcp']);
  });

  scene('finds it there again when the owner is gone', async (group) => {
    const { token, waiter } = await awaited(group);
    const open = group.member(1).journeys.shut();
    const one = await come(group, 1, `${handshake(token, SIDE_A)}early`);
    await until(() => group.member(1).calls === 1);
    // The other waits at home meanwhile, and no answer comes.
    group.member(1).answers.shut();
    const other = await come(group, 1, handshake(token, SIDE_B));
    await waitingAt(group, 1, 1);
    group.member(0).stopListening();
    open();
    assert.equal((await other.until(8)).toString(), 'ok\nearly');
    assert.equal((await one.until(3)).toString(), 'ok\n');
    // A pair asks for no token.
    assert.equal(ownerOf(group, token), 0);
    one.end();
    await other.closed;
    await recorded(group, 1, ['happy tcp tcp']);
    waiter.end();
    await waiter.closed;
  });

  scene(
    'and a time to wait that ends before the answer leave nothing claimed',
    async (group) => {
      const open = group.member(0).answers.shut();
      const client = await come(group, 0, `${handshake(newToken(), SIDE_A)}early`);
      await hears(client, '');
      open();
      await recorded(group, 0, ['lonely tcp']);
    },
    { timeouts: { waitMs: 100 } },
  );
});

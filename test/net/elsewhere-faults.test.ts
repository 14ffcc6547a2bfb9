import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake } from '../support/bytes.ts';
import { TRANSPORTS, awaited, come, happy, hears, ownerOf, tokenOf } from '../support/group-scene.ts';
import { recorded, records, scene, talk, waitingAt } from '../support/group-scene.ts';
import type { HouseGroup } from '../support/house-group.ts';
import { until } from '../support/scratch.ts';

/** Has a relay believe that another one has a token, as when the coordinator has lost what it knew. */
function callAway(group: HouseGroup, token: string, relay: number, owner: number): void {
  group.owners.assign(tokenOf(token), group.member(owner).owner);
  group.member(relay).house.hub.callAway(tokenOf(token), group.member(owner).owner);
}

describe('an owner that can not be reached', () => {
  for (const transport of TRANSPORTS) {
    scene(
      `loses the token to a ${transport} client's relay, where partners find it then`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        group.member(0).stopListening();
        const heir = await come(group, 1, handshake(token, SIDE_A), transport);
        await until(() => ownerOf(group, token) === 1);
        await waitingAt(group, 1, 1);
        const partner = await come(group, 2, handshake(token, SIDE_B), transport);
        await talk(heir, partner);
        assert.deepEqual([group.member(1).calls, group.member(2).calls], [1, 1]);
        heir.end();
        await hears(partner, 'ok\nfrom one');
        waiter.end();
        await waiter.closed;
        await recorded(group, 1, [happy(transport)]);
        await recorded(group, 0, ['lonely tcp']);
        assert.equal(group.endings.length, 2);
      },
      { relays: 3 },
    );

    scene(
      `that dies has its ${transport} guests wait at home`,
      async (group) => {
        const { token, waiter } = await awaited(group);
        const guest = await come(group, 1, handshake(token, SIDE_A), transport);
        await waitingAt(group, 0, 2);
        group.member(0).stopListening();
        group.member(0).cutLinks();
        await until(() => ownerOf(group, token) === 1);
        const partner = await come(group, 2, handshake(token, SIDE_B));
        await talk(guest, partner);
        partner.end();
        await hears(guest, 'ok\nfrom the other');
        await recorded(group, 1, [happy(transport)]);
        waiter.end();
        await waiter.closed;
      },
      { relays: 3 },
    );

    scene(`that dies in the middle of a transfer ends it as a partner does (${transport})`, async (group) => {
      const { token, waiter } = await awaited(group);
      const carried = await come(group, 1, handshake(token, SIDE_B), transport);
      await talk(waiter, carried);
      group.member(0).cutLinks();
      await hears(carried, 'ok\nfrom one');
      await hears(waiter, 'ok\nfrom the other');
      await recorded(group, 0, ['happy link tcp']);
      assert.deepEqual(records(group, 1), []);
    });
  }

  scene(
    'is forgotten where somebody else has taken the token over already',
    async (group) => {
      const { token, waiter } = await awaited(group);
      const open = group.member(1).journeys.shut();
      const client = await come(group, 1, handshake(token, SIDE_B));
      await until(() => group.member(1).calls === 1);
      group.member(0).stopListening();
      const heir = await come(group, 2, handshake(token, SIDE_A));
      await until(() => ownerOf(group, token) === 2);
      open();
      await talk(heir, client);
      client.end();
      await heir.closed;
      waiter.end();
      await waiter.closed;
      await recorded(group, 2, ['happy link tcp']);
    },
    { relays: 3 },
  );

  scene(
    'takes what a client has said once it can be',
    async (group) => {
      const { token, waiter } = await awaited(group);
      const open = group.member(1).journeys.shut();
      const client = await come(group, 1, `${handshake(token, SIDE_B)}early`);
      await until(() => group.member(1).calls === 1);
      // The link is made, and is cut before the owner has said a word.
      const shut = group.member(0).answers.shut();
      waiter.end();
      await waiter.closed;
      open();
      await until(() => group.member(0).links.size === 1);
      await client.send(' and more');
      const [link] = group.member(1).links;
      await until(() => link?.deliveredBytes === handshake(token, SIDE_B).length + 14);
      const answer = group.member(1).answers.shut();
      group.member(0).cutLinks();
      await waitingAt(group, 1, 1);
      await client.send(', and at home');
      const partner = await come(group, 2, handshake(token, SIDE_A));
      shut();
      answer();
      assert.equal((await partner.until(30)).toString(), 'ok\nearly and more, and at home');
      client.end();
      await partner.closed;
    },
    { relays: 3 },
  );
});

describe('a token that turns out to be another relay’s', () => {
  scene(
    'is looked for again when the owner says so',
    async (group) => {
      const { token, waiter } = await awaited(group, 2);
      group.owners.assign(tokenOf(token), group.member(0).owner);
      const open = group.member(1).journeys.shut();
      const client = await come(group, 1, handshake(token, SIDE_B));
      await until(() => group.member(1).calls === 1);
      group.owners.assign(tokenOf(token), group.member(2).owner);
      open();
      await talk(waiter, client);
      group.checkConsistency();
      assert.equal(group.member(1).calls, 2);
      const { accepted, passedOn } = group.member(0).house.hub.clients.totals();
      assert.deepEqual([accepted.link, passedOn.link], [1, 1]);
      client.end();
      await waiter.closed;
      await recorded(group, 2, ['happy link tcp']);
      assert.equal(group.endings.length, 1);
    },
    { relays: 3 },
  );

  for (const transport of TRANSPORTS) {
    scene(
      `takes the ${transport} clients that wait for it along, of two relays that both thought it theirs`,
      async (group) => {
        const { token, waiter } = await awaited(group, 0, transport);
        group.owners.assign(tokenOf(token), null);
        const other = await come(group, 1, handshake(token, SIDE_B), transport);
        await until(() => ownerOf(group, token) === 1);
        await waitingAt(group, 0, 1);
        callAway(group, token, 0, 1);
        await talk(waiter, other);
        assert.equal(ownerOf(group, token), -1);
        waiter.end();
        await other.closed;
        await recorded(group, 1, [happy(transport)]);
        assert.equal(group.endings.length, 1);
      },
    );
  }

  scene(
    'takes guests along, by way of their own relays',
    async (group) => {
      const { token, waiter } = await awaited(group);
      const guest = await come(group, 1, handshake(token, SIDE_A));
      await waitingAt(group, 0, 2);
      callAway(group, token, 0, 2);
      await waitingAt(group, 2, 2);
      assert.equal(ownerOf(group, token), 2);
      assert.deepEqual(
        group.members.map(({ calls }) => calls),
        [1, 2, 0],
      );
      group.checkConsistency();
      const partner = await come(group, 2, handshake(token, SIDE_B));
      await partner.until(3);
      partner.end();
      await Promise.all([waiter.closed, guest.closed]);
      await recorded(group, 2, ['happy link tcp', 'redundant link']);
      assert.equal(group.endings.length, 2);
    },
    { relays: 3 },
  );

  scene('leaves alone who is paired, or is called for already', async (group) => {
    const { token, waiter } = await awaited(group);
    const other = await come(group, 0, handshake(token, SIDE_B));
    await talk(waiter, other);
    callAway(group, token, 0, 1);
    group.owners.assign(tokenOf(token), null);
    other.end();
    await hears(waiter, 'ok\nfrom the other');
    const next = await awaited(group);
    const guest = await come(group, 1, handshake(next.token, SIDE_A));
    await waitingAt(group, 0, 2);
    group.member(1).house.hub.callAway(tokenOf(next.token), group.member(0).owner);
    assert.deepEqual(
      group.members.map(({ calls }) => calls),
      [0, 1],
    );
    guest.end();
    next.waiter.end();
    await Promise.all([guest.closed, next.waiter.closed]);
  });

  scene(
    'is asked after again by who came home, whatever an older answer says',
    async (group) => {
      const { token, waiter } = await awaited(group);
      group.owners.assign(tokenOf(token), null);
      const answer = group.member(1).answers.shut();
      const client = await come(group, 1, handshake(token, SIDE_B));
      await until(() => ownerOf(group, token) === 1);
      const open = group.member(2).answers.shut();
      callAway(group, token, 1, 2);
      await waitingAt(group, 2, 1);
      group.owners.assign(tokenOf(token), group.member(0).owner);
      group.member(2).cutLinks();
      const { rendezvous } = group.member(1).house.hub.clients;
      // Before it asks anew.
      while (rendezvous.waitingClients === 0) await setImmediate();
      answer();
      open();
      await talk(waiter, client);
      client.end();
      await waiter.closed;
    },
    { relays: 3 },
  );

  scene(
    'is looked for again and again while its owner sends everybody away',
    async (group) => {
      const { token, waiter } = await awaited(group);
      group.member(0).house.reception.isStopping = true;
      const client = await come(group, 1, handshake(token, SIDE_A));
      await until(() => group.member(1).calls === 4);
      waiter.end();
      await until(() => ownerOf(group, token) === 1);
      const partner = await come(group, 2, handshake(token, SIDE_B));
      await talk(client, partner);
      client.end();
      await partner.closed;
      await recorded(group, 0, ['lonely tcp']);
      assert.equal(group.endings.length, 2);
    },
    { relays: 3 },
  );
});

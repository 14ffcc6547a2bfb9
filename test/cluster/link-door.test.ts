import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CallerGreeting, greetingKey } from '../../src/cluster/greeting.ts';
import { MAX_LINK_GUESTS } from '../../src/cluster/link-door.ts';
import { PeerNetworks } from '../../src/cluster/peer-networks.ts';
import { parseCidrs } from '../../src/net/trusted-proxies.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';
import { LinkPlace, PLANES, SECRET, Stranger, useUp } from './link-place.ts';

const OPENING = /^transit-relay-cluster\/1 [0-9a-f]{64}\n$/u;

/** Proves itself as a caller does, and hands out the line that does so. */
async function answerOf(stranger: Stranger, secret = SECRET): Promise<string> {
  const greeting = new CallerGreeting(greetingKey(secret));
  return greeting.take(Buffer.from(`${await stranger.line()}\n`)).say;
}

/** Puts time into the test's hands. */
function stopTheClock(context: TestContext): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
}

/** Connects so many who say nothing, one after the other, and has each of them greeted. */
async function idlers(
  context: TestContext,
  port: number,
  count: number,
  from?: string,
): Promise<readonly Stranger[]> {
  const strangers: Stranger[] = [];
  for (let index = 0; index < count; index += 1) {
    const stranger = await Stranger.connect(context, port, from);
    await stranger.line();
    strangers.push(stranger);
  }
  return strangers;
}

for (const [name, openPlane] of PLANES) {
  describe(`a door for links over ${name}`, () => {
    test('lets in who has the secret, and passes bytes both ways', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const caller = await place.call(context);
      const owner = await place.link();
      await useUp(caller, owner);
      assert.deepEqual(place.failures, []);
      assert.equal(place.door.guests, 0);
    });

    test('understands every split of what a caller says, and loses no byte behind it', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const dice = new Dice(5);
      for (let round = 0; round < 25; round += 1) {
        const stranger = await Stranger.connect(context, place.port);
        const behind = randomBytesOf(round, 300);
        const bytes = Buffer.concat([Buffer.from(await answerOf(stranger)), behind]);
        for (let at = 0; at < bytes.length;) {
          const size = round === 0 ? 1 : dice.size(200);
          await stranger.say(bytes.subarray(at, at + size));
          at += size;
        }
        const link = await place.link(round);
        assert.ok((await link.until(behind.length)).equals(behind));
        assert.match(await stranger.line(1), /^[0-9a-f]{64}$/u);
      }
    });

    test('keeps what comes with the last line, however much that is', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const stranger = await Stranger.connect(context, place.port);
      const behind = randomBytesOf(3, 400_000);
      await stranger.say(Buffer.concat([Buffer.from(await answerOf(stranger)), behind]));
      const link = await place.link();
      assert.ok((await link.until(behind.length)).equals(behind));
    });

    test('tells who has another secret so, closes, and hears nothing more', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const stranger = await Stranger.connect(context, place.port);
      await stranger.say(await answerOf(stranger, 'another'));
      assert.match(await stranger.heard, /^transit-relay-cluster\/1 [0-9a-f]{64}\nwrong secret\n$/u);
      assert.deepEqual(place.failures, ['secret']);
    });

    test('does not take a recorded greeting for one', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const first = await Stranger.connect(context, place.port);
      const recorded = await answerOf(first);
      await first.say(recorded);
      await place.link();
      const second = await Stranger.connect(context, place.port);
      await second.line();
      await second.say(recorded);
      await second.heard;
      assert.deepEqual(place.failures, ['secret']);
      assert.equal(place.links.length, 1);
    });

    const garbage: readonly (readonly [kind: string, bytes: Uint8Array | string, fault: string])[] = [
      ['HTTP', 'GET / HTTP/1.1\r\n\r\n', 'not a relay'],
      ['a handshake', `please relay ${'0'.repeat(64)}\n`, 'not a relay'],
      ['TLS', Buffer.from('16030100', 'hex'), 'not a relay'],
      ['a megabyte of noise', randomBytesOf(9, 1_000_000), 'not a relay'],
      ['a megabyte of a line', `transit-relay-cluster/1 ${'0'.repeat(1_000_000)}`, 'not a relay'],
      ['another version', `transit-relay-cluster/2 ${'0'.repeat(64)}\n`, 'version'],
    ];
    for (const [kind, bytes, fault] of garbage) {
      test(`closes without a word where ${kind} comes`, async (context) => {
        const place = await LinkPlace.open(context, await openPlane());
        const stranger = await Stranger.connect(context, place.port);
        await stranger.line();
        stranger.socket.write(bytes);
        assert.match(await stranger.heard, OPENING);
        assert.deepEqual(place.failures, [fault]);
        assert.equal(place.door.guests, 0);
      });
    }

    test('forgets who leaves, by a FIN or a reset', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const [polite, rude] = await idlers(context, place.port, 2);
      await polite?.say('transit-');
      polite?.socket.end();
      assert.deepEqual(await place.failed(1), ['left']);
      rude?.socket.resetAndDestroy();
      assert.deepEqual(await place.failed(2), ['left', 'left']);
      assert.equal(place.door.guests, 0);
    });

    test('cuts after five seconds who has not proved itself, even where it goes on talking', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      const [silent, slow] = await idlers(context, place.port, 2);
      assert.ok(slow !== undefined && silent !== undefined);
      const line = await answerOf(slow);
      for (let half = 0; half < 9; half += 1) {
        await slow.say(line.slice(half * 10, half * 10 + 10));
        mock.timers.tick(500);
      }
      mock.timers.tick(499);
      assert.equal(place.door.guests, 2);
      mock.timers.tick(1);
      assert.deepEqual(place.failures, ['timeout', 'timeout']);
      assert.equal(place.door.guests, 0);
      assert.match(await silent.heard, OPENING);
      await slow.heard;
    });

    test('lets an open link be silent for as long as it likes', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      const caller = await place.call(context);
      const owner = await place.link();
      for (let tick = 0; tick < 10; tick += 1) mock.timers.tick(3_600_000);
      caller.wire.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
      assert.deepEqual(place.failures, []);
    });

    test('closes connections from outside of its networks at once, and they take no place', async (context) => {
      const networks = new PeerNetworks(parseCidrs('127.0.0.2/32'), '127.0.0.2');
      const place = await LinkPlace.open(context, await openPlane(), null, networks);
      for (let come = 0; come <= MAX_LINK_GUESTS; come += 1)
        assert.equal(await (await Stranger.connect(context, place.port)).heard, '');
      assert.equal(place.door.guests, 0);
      assert.deepEqual(new Set(await place.failed(MAX_LINK_GUESTS + 1)), new Set(['address']));
      const [peer] = await idlers(context, place.port, 1, '127.0.0.2');
      assert.ok(peer);
      assert.equal(place.door.guests, 1);
    });

    test('closes at once who comes beyond its places, and has room again when somebody left', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      const strangers = await idlers(context, place.port, MAX_LINK_GUESTS);
      const oneMore = await Stranger.connect(context, place.port);
      assert.equal(await oneMore.heard, '');
      assert.deepEqual(place.failures, ['crowded']);
      await assert.rejects(place.call(context), { code: 'unreachable' });
      strangers[20]?.socket.destroy();
      assert.deepEqual(await place.failed(3), ['crowded', 'crowded', 'left']);
      await place.call(context);
      assert.equal(place.door.guests, MAX_LINK_GUESTS - 1);
    });

    test('gives the place of who is slower than a relay to who comes: strangers keep nobody out', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      const strangers = await idlers(context, place.port, MAX_LINK_GUESTS);
      mock.timers.tick(499);
      await assert.rejects(place.call(context), { code: 'unreachable' });
      mock.timers.tick(1);
      await place.call(context);
      await strangers[0]?.heard;
      assert.deepEqual(place.failures, ['crowded', 'crowded']);
      // That one is a link, and has left a place.
      assert.equal(place.door.guests, MAX_LINK_GUESTS - 1);
    });

    test('gives the place of one of very many from one address to who comes from another', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      const [few] = await idlers(context, place.port, 1, '127.0.0.3');
      const many = await idlers(context, place.port, MAX_LINK_GUESTS - 1, '127.0.0.2');
      // They don't have places of others, nor of each other.
      assert.equal(await (await Stranger.connect(context, place.port, '127.0.0.2')).heard, '');
      await place.call(context);
      await many[0]?.heard;
      assert.deepEqual(place.failures, ['crowded', 'crowded']);
      assert.equal(few?.socket.readyState, 'open');
      assert.equal(many[1]?.socket.readyState, 'open');
    });

    test('shares its places where all of them are taken from two addresses', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      stopTheClock(context);
      await idlers(context, place.port, MAX_LINK_GUESTS / 2, '127.0.0.2');
      await idlers(context, place.port, MAX_LINK_GUESTS / 2, '127.0.0.3');
      assert.equal(await (await Stranger.connect(context, place.port, '127.0.0.3')).heard, '');
      const newcomers = await idlers(context, place.port, 2);
      assert.equal(place.door.guests, MAX_LINK_GUESTS);
      assert.deepEqual(place.failures, ['crowded', 'crowded', 'crowded']);
      assert.ok(newcomers.every(({ socket }) => socket.readyState === 'open'));
    });

    test('has room for who comes from where a relay has come from, whoever else is there', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      await place.call(context);
      stopTheClock(context);
      for (let index = 0; index < MAX_LINK_GUESTS; index += 1)
        await idlers(context, place.port, 1, `127.0.1.${index + 1}`);
      assert.equal(await (await Stranger.connect(context, place.port, '127.0.2.1')).heard, '');
      assert.deepEqual(place.failures, ['crowded']);
      await place.call(context);
      await place.link(1);
      assert.deepEqual(place.failures, ['crowded', 'crowded']);
    });

    test('is not troubled by a thousand strangers: a link goes on, and they get nothing', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const caller = await place.call(context);
      const owner = await place.link();
      const bytes = randomBytesOf(4, 1_000_000);
      let mostGuests = 0;
      const strangers: Stranger[] = [];
      for (let index = 0; index < 1000; index += 1) {
        const stranger = await Stranger.connect(context, place.port);
        strangers.push(stranger);
        if (index % 3 === 0) stranger.socket.write('GET / HTTP/1.1\r\n\r\n');
        if (index % 3 === 1) stranger.socket.write('transit-relay-');
        mostGuests = Math.max(mostGuests, place.door.guests);
        if (index % 100 === 0) caller.wire.write(bytes.subarray(index * 1000, (index + 100) * 1000));
      }
      assert.ok((await owner.until(bytes.length)).equals(bytes));
      assert.equal(mostGuests, MAX_LINK_GUESTS);
      await place.failed(1000 - MAX_LINK_GUESTS);
      for (const stranger of strangers) stranger.socket.destroy();
      assert.equal((await place.failed(1000)).length, 1000);
      assert.equal(place.door.guests, 0);
      assert.equal(place.links.length, 1);
      await place.call(context);
    });

    test('cuts those who are greeting when it closes, lets nobody in, and leaves links alone', async (context) => {
      const place = await LinkPlace.open(context, await openPlane());
      const caller = await place.call(context);
      const owner = await place.link();
      const [stranger] = await idlers(context, place.port, 1);
      place.door.close();
      await stranger?.heard;
      assert.equal(await (await Stranger.connect(context, place.port)).heard, '');
      assert.deepEqual(place.failures, ['closed', 'closed']);
      caller.wire.write(Buffer.from('still here'));
      assert.equal((await owner.until(10)).toString(), 'still here');
    });
  });
}

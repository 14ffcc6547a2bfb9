import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_HTTP_CONNECTIONS } from '../../src/sessions/http-upgrader.ts';
import { Attack } from './support/attack.ts';
import { HeldRelay } from './support/held-relay.ts';
import { ordeal } from './support/ordeal.ts';

/** Connections that send the same wrong frame. */
const EACH = 200;

const UPGRADES = 4000;

/** Few enough that each of them is answered more than the kernel holds for it. */
const FLOODERS = 6;

/** For how long pings are sent without a pause, in milliseconds. */
const FLOOD_MS = 3000;

/** Garbage, but no pongs that nobody takes, in MiB. */
const FLOOD_GROWTH_MIB = 64;

/** How each ends; 1000 is what those hear whose time for the handshake is over. */
const CODES = {
  none: 1000,
  'length 2^40': 1000,
  'length 2^62': 1009,
  'length 2^63': 1002,
  'unmasked binary': 1002,
  'unmasked ping': 1002,
  'long ping': 1002,
  'fragmented ping': 1002,
  'reserved bits': 1002,
  'reserved opcode': 1002,
  'continued nothing': 1002,
  text: 1003,
  'close of one byte': 1002,
  'close that is no text': 1007,
} as const;

describe('WebSocket connections', { timeout: 120_000 }, () => {
  test('whose upgrade never comes to its end make room for others, or are closed when their time is over', async (context) => {
    const held = await HeldRelay.startFor(context);
    const silent = UPGRADES / 4;
    const transfers = await ordeal(context, held, `${UPGRADES} unfinished upgrades`, async () => {
      await using attack = new Attack('unfinished-upgrade', held, UPGRADES);
      assert.deepEqual(await attack.ready(), { connected: UPGRADES, failed: 0 });
      await held.opens(silent + MAX_HTTP_CONNECTIONS);
      const ends = Object.entries(await attack.ended());
      // A client that still sends may see a reset instead of its last bytes.
      const count = (words: readonly string[]): number =>
        ends
          .filter(([how]) => words.includes(how.replace(/, (?:FIN|reset)$/u, '')))
          .reduce((total, [, times]) => total + times, 0);
      // A stranger that has said nothing is told nothing.
      assert.equal(count(['FIN']), silent);
      // Its time was over, or its request too long by then.
      assert.equal(count(['408', '431']), MAX_HTTP_CONNECTIONS);
      assert.equal(count(['503', 'reset']), UPGRADES - silent - MAX_HTTP_CONNECTIONS);
    });
    assert.deepEqual(await held.moods(), { happy: transfers });
  });

  test('that send frames which are none are told what is wrong, and closed', async (context) => {
    const held = await HeldRelay.startFor(context);
    const kinds = Object.entries(CODES);
    const transfers = await ordeal(context, held, `${kinds.length} × ${EACH} wrong frames`, async () => {
      await using attack = new Attack('wrong-frames', held, kinds.length * EACH);
      const ends = kinds.map(([kind, code]) => [`${kind}: close ${code}, FIN`, EACH]);
      assert.deepEqual(await attack.ended(), Object.fromEntries(ends));
    });
    assert.deepEqual(await held.moods(), { empty: kinds.length * EACH, happy: transfers });
  });

  test('that send pings without a pause and read no pongs cost nobody else anything', async (context) => {
    const held = await HeldRelay.startFor(context);
    const action = async (): Promise<void> => {
      await using attack = new Attack('ping-flood', held, FLOODERS);
      assert.deepEqual(await attack.ready(), { flooders: FLOODERS });
      await sleep(FLOOD_MS);
      await attack.leave();
    };
    await ordeal(context, held, `${FLOODERS} ping floods`, action, FLOOD_GROWTH_MIB);
  });

  test('that send a frame for each byte lose none of them', async (context) => {
    const held = await HeldRelay.startFor(context);
    const transfers = await ordeal(context, held, '20 pairs with a frame for each byte', async () => {
      await using attack = new Attack('frame-per-byte', held, 20);
      assert.deepEqual(await attack.ready(), { pairs: 20, bytes: 2_000_000 });
      await attack.leave();
    });
    assert.deepEqual(await held.moods(), { happy: 20 + transfers });
  });
});

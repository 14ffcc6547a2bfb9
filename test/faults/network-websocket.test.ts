import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_HTTP_CONNECTIONS } from '../../src/sessions/http-upgrader.ts';
import { Attack } from './support/attack.ts';
import { MonitoredRelay } from './support/monitored-relay.ts';
import { checkRecovery } from './support/recovery.ts';

/** Connections that send the same invalid frame. */
const EACH = 200;

const UPGRADES = 4000;

/** Few enough that each connection gets more pongs than the kernel buffers for it. */
const FLOODERS = 6;

/** Duration of the ping flood, in milliseconds. */
const FLOOD_MS = 3000;

/** Garbage, but no pongs for clients that do not read, in MiB. */
const FLOOD_GROWTH_MIB = 64;

/** The code after the handshake timeout. */
const TIMED_OUT = 1000;

/** How each connection ends. */
const CODES = {
  none: TIMED_OUT,
  'length 2^40': TIMED_OUT,
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
  'a close frame of one byte': 1002,
  'a close frame with invalid text': 1007,
} as const;

/** Kinds that end with the handshake timeout. */
const LATE = Object.values(CODES).filter((code) => code === TIMED_OUT).length;

describe('WebSocket connections', () => {
  test('with an incomplete upgrade are evicted for others, or closed by the timeout', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const silent = UPGRADES / 4;
    const transfers = await checkRecovery(context, monitored, `${UPGRADES} unfinished upgrades`, async () => {
      await using attack = new Attack('unfinished-upgrade', monitored, UPGRADES);
      assert.deepEqual(await attack.ready(), { connected: UPGRADES, failed: 0 });
      // All requests have been read, and all connections accepted.
      await monitored.untilSum(['handshake_failures_total'], UPGRADES - silent - MAX_HTTP_CONNECTIONS);
      await monitored.untilConnected(silent + MAX_HTTP_CONNECTIONS);
      await monitored.endTimeouts();
      const ends = Object.entries(await attack.ended());
      // A client that still sends may see a reset instead of its last bytes.
      const count = (words: readonly string[]): number =>
        ends
          .filter(([how]) => words.includes(how.replace(/, (?:FIN|reset)$/u, '')))
          .reduce((total, [, times]) => total + times, 0);
      // A client that has sent nothing gets no reply.
      assert.equal(count(['FIN']), silent);
      assert.equal(count(['408']), MAX_HTTP_CONNECTIONS);
      assert.equal(count(['503', 'reset']), UPGRADES - silent - MAX_HTTP_CONNECTIONS);
    });
    assert.deepEqual(await monitored.moods(), { happy: transfers });
  });

  test('that send invalid frames get the reason, and are closed', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const kinds = Object.entries(CODES);
    const transfers = await checkRecovery(
      context,
      monitored,
      `${kinds.length} × ${EACH} wrong frames`,
      async () => {
        await using attack = new Attack('wrong-frames', monitored, kinds.length * EACH);
        assert.deepEqual(await attack.ready(), { connected: kinds.length * EACH, failed: 0 });
        await monitored.untilConnected(LATE * EACH);
        await monitored.endTimeouts();
        const ends = kinds.map(([kind, code]) => [`${kind}: close ${code}, FIN`, EACH]);
        assert.deepEqual(await attack.ended(), Object.fromEntries(ends));
      },
    );
    assert.deepEqual(await monitored.moods(), { empty: kinds.length * EACH, happy: transfers });
  });

  test('that send pings without a pause and read no pongs do not affect others', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const action = async (): Promise<void> => {
      await using attack = new Attack('ping-flood', monitored, FLOODERS);
      assert.deepEqual(await attack.ready(), { flooders: FLOODERS });
      await sleep(FLOOD_MS);
      await attack.leave();
    };
    await checkRecovery(context, monitored, `${FLOODERS} ping floods`, action, FLOOD_GROWTH_MIB);
  });

  test('that send one frame per byte lose no byte', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    const transfers = await checkRecovery(
      context,
      monitored,
      '20 pairs with one frame per byte',
      async () => {
        await using attack = new Attack('frame-per-byte', monitored, 20);
        assert.deepEqual(await attack.ready(), { pairs: 20, bytes: 2_000_000 });
        await attack.leave();
      },
    );
    assert.deepEqual(await monitored.moods(), { happy: 20 + transfers });
  });
});

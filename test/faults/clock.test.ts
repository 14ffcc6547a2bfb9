import assert from 'node:assert/strict';
import { once } from 'node:events';
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { UsageReader } from '../support/relay-process.ts';
import { scratch, until } from '../support/scratch.ts';
import { RelayUnderTest, client, pair, injectFault, transfer } from './relay-under-test.ts';
import { assertWritten } from './usage-check.ts';

const DAY_SECONDS = 86_400;

/** Timeout of silent clients and of clients without a partner, in milliseconds. */
const TIMEOUT_MS = 3000;

/** A record with a longer duration, in seconds, counts a clock jump as elapsed time. */
const LONGEST_SECONDS = 60;

/**
 * A separate wall clock for one process, which can be set while it runs. Null if the library for it is
 * missing.
 */
async function ownClock(
  context: TestContext,
): Promise<{ env: Record<string, string>; set: (shift: string) => void } | null> {
  const library = globSync('/usr/lib/{*/,}faketime/libfaketimeMT.so.1')[0];
  if (library === undefined) {
    context.skip('needs libfaketime: apt-get install faketime');
    return null;
  }
  const file = join(await scratch(context), 'clock');
  const set = (shift: string): void => writeFileSync(file, `${shift}\n`);
  set('+0');
  const env = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    // Only the wall clock jumps on a real machine.
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
  return { env, set };
}

/** How far the relay's clock was ahead of ours when it wrote the newest log line, in days. */
function daysAhead(relay: RelayUnderTest): number {
  const [, time = ''] = [...relay.log.matchAll(/"time":"([^"]*)"/gu)].at(-1) ?? [];
  return Math.round((Date.parse(time) - Date.now()) / 1000 / DAY_SECONDS);
}

describe('the wall clock', { concurrency: true }, () => {
  for (const [shift, days] of [
    ['+1d', 1],
    ['-1d', -1],
  ] as const) {
    test(`a clock jump of ${days} day changes no transfer, no timeout and no duration`, async (context) => {
      const clock = await ownClock(context);
      if (clock === null) return;
      const path = join(await scratch(context), 'usage.sqlite');
      const timeout = `${TIMEOUT_MS / 1000}s`;
      await using relay = await RelayUnderTest.start({
        ...clock.env,
        RELAY_USAGE_DB: path,
        RELAY_LOG_LEVEL: 'debug',
        RELAY_HANDSHAKE_TIMEOUT: timeout,
        RELAY_WAIT_TIMEOUT: timeout,
      });
      const bystanders = await injectFault(context, relay, `clock ${shift}`, async () => {
        const began = performance.now();
        const lonely = await client(relay.port, handshake(newToken(), SIDE_A));
        const silent = await client(relay.port, '');
        const ends = [lonely, silent].map(async (socket) => {
          await once(socket.resume(), 'end');
          socket.end();
          return performance.now() - began;
        });
        const running = await pair(relay.port);
        const token = newToken();
        const waiting = await client(relay.port, handshake(token, SIDE_A));
        clock.set(shift);
        const partner = await client(relay.port, handshake(token, SIDE_B));
        await Promise.all([once(waiting, 'data'), once(partner, 'data')]);
        await transfer([waiting, partner], 1001);
        await transfer(running, 1002);
        await until(() => daysAhead(relay) === days);
        // They must not end early. If they never ended, this test would time out.
        for (const tookMs of await Promise.all(ends)) assert.ok(tookMs >= TIMEOUT_MS * 0.99, `${tookMs} ms`);
      });
      await assertWritten(path, [1001, 1002, ...bystanders]);
      await relay.stop();
      using reader = new UsageReader(path);
      const rows = reader.rows();
      assert.deepEqual(rows.map(({ result }) => result).toSorted(), [
        'empty',
        'happy',
        'happy',
        'happy',
        'happy',
        'lonely',
      ]);
      const now = Date.now() / 1000;
      for (const { started, total_time: total, waiting_time: waited } of rows) {
        assert.ok(total >= 0 && total < LONGEST_SECONDS, `${total} s in total`);
        assert.ok(waited === null || (waited >= 0 && waited <= total), `${waited} of ${total} s waiting`);
        // According to the clock before or after the jump.
        const off = Math.abs(started - now);
        assert.ok(
          off < LONGEST_SECONDS || Math.abs(off - DAY_SECONDS) < LONGEST_SECONDS,
          `started ${off} s from now`,
        );
      }
    });
  }
});

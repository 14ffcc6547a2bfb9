import assert from 'node:assert/strict';
import { once } from 'node:events';
import { watch } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { UsageReader } from '../support/relay-process.ts';
import type { UsageRow } from '../support/relay-process.ts';
import { CONDITION_TIMEOUT_MS, eventually } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { RelayUnderTest, client, pair, injectFault, transfer, relayPairs } from './relay-under-test.ts';
import { assertIntact, assertWritten } from './usage-check.ts';

/** Time for which the relay is suspended, in milliseconds: longer than its retries and timers. */
const STOPPED_MS = 3000;

/** Concurrent pairs that start and end. */
const WORKERS = 8;

/** Number of kills, and number of records that the relay has written before each. */
const KILLS = 5;
const RECORDS_BEFORE_A_KILL = 200;

/** Time for the relay to write them, in milliseconds. */
const WRITTEN_TIMEOUT_MS = 60_000;

/** Pairs one after the other, until `stop`. Each relays as many bytes as `nextSize` returns. */
async function relayPairsUntil(port: number, nextSize: () => number, stop: AbortSignal): Promise<void> {
  for (;;) {
    const size = nextSize();
    const token = newToken();
    const [one, other] = await Promise.all([
      clientIgnoringErrors(port, handshake(token, SIDE_A)),
      clientIgnoringErrors(port, handshake(token, SIDE_B)),
    ]);
    await Promise.all([once(one, 'data', { signal: stop }), once(other, 'data', { signal: stop })]);
    one.resume().end(randomBytesOf(size, size));
    await once(other.resume(), 'end', { signal: stop });
    other.end();
    await once(other, 'close', { signal: stop });
  }
}

async function clientIgnoringErrors(port: number, line: string): Promise<Socket> {
  const socket = await client(port, line);
  return socket.on('error', () => undefined);
}

function rowsOf(path: string): UsageRow[] {
  using reader = new UsageReader(path);
  return reader.rows();
}

describe('signals', { concurrency: true }, () => {
  test('a relay that is suspended and resumed loses no byte and no client', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayUnderTest.start({
      RELAY_USAGE_DB: path,
      // The pause of the relay must not count as a timeout of clients.
      RELAY_WAIT_TIMEOUT: '1h',
    });
    const bystanders = await injectFault(context, relay, 'SIGSTOP, SIGCONT', async () => {
      const running = await pair(relay.port);
      const token = newToken();
      const waiting = await client(relay.port, handshake(token, SIDE_A));
      const half = await client(relay.port, handshake(token, SIDE_B).slice(0, 20));
      await relayPairs(relay.port, [1]);
      relay.program.kill('SIGSTOP');
      // Bytes that the kernel accepts meanwhile count as sent.
      half.write(handshake(token, SIDE_B).slice(20));
      running[1].write('while it was stopped');
      const late = client(relay.port, handshake(newToken(), SIDE_A));
      await sleep(STOPPED_MS);
      assert.deepEqual([waiting.bytesRead, half.bytesRead, running[0].bytesRead], [0, 0, 3]);
      relay.program.kill('SIGCONT');
      const [[received]] = await Promise.all([
        once(running[0], 'data'),
        once(waiting, 'data'),
        once(half, 'data'),
      ]);
      assert.equal(String(received), 'while it was stopped');
      await transfer([waiting, half], 1001);
      await transfer(running, 1002);
      const left = (await late).resume();
      left.end();
      await once(left, 'close');
    });
    await assertWritten(path, [1, 1001, 1002 + 'while it was stopped'.length, ...bystanders]);
    await relay.stop();
    using reader = new UsageReader(path);
    assert.deepEqual(
      reader
        .rows()
        .map(({ result }) => result)
        .toSorted(),
      ['happy', 'happy', 'happy', 'happy', 'happy', 'lonely'],
    );
  });

  test('a killed relay keeps every record that could be read before, and can be restarted', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    let kept: UsageRow[] = [];
    let pairs = 0;
    for (let kill = 1; kill <= KILLS; kill += 1) {
      await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
      const stop = new AbortController();
      const nextSize = (): number => (pairs += 1);
      const workers = Array.from({ length: WORKERS }, () =>
        relayPairsUntil(relay.port, nextSize, stop.signal),
      );
      const ended = Promise.allSettled(workers);
      const target = kept.length + RECORDS_BEFORE_A_KILL;
      await eventually(
        () => `${target} records`,
        WRITTEN_TIMEOUT_MS,
        () => (rowsOf(path).length >= target ? true : null),
      );
      const committed = rowsOf(path);
      // Records arrive continuously: the next change of the log is a written transaction.
      const watcher = watch(`${path}-wal`);
      await once(watcher, 'change');
      watcher.close();
      relay.program.kill('SIGKILL');
      await assert.rejects(relay.program.succeeds(CONDITION_TIMEOUT_MS), /SIGKILL/u);
      stop.abort();
      await ended;
      assertIntact(path);
      const left = rowsOf(path);
      assert.deepEqual(left.slice(0, committed.length), committed);
      assert.deepEqual(left.slice(0, kept.length), kept);
      context.diagnostic(
        `kill ${kill}: ${pairs} pairs so far, ${committed.length - kept.length} records read before, ${left.length - kept.length} after`,
      );
      kept = left;
    }
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    await relayPairs(relay.port, [pairs + 1]);
    await relay.stop();
    const rows = rowsOf(path);
    assert.deepEqual(rows.slice(0, kept.length), kept);
    const sizes = rows.map(({ total_bytes: bytes }) => bytes).filter((bytes) => bytes > 0);
    assert.ok(sizes.length > KILLS * RECORDS_BEFORE_A_KILL);
    assert.equal(sizes.at(-1), pairs + 1);
    assert.equal(new Set(sizes).size, sizes.length, 'a record was written twice');
    assertIntact(path);
  });
});

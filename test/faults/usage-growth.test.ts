import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { freePort } from '../support/listening.ts';
import { scrape } from '../support/metrics.ts';
import { UsageReader } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';
import { RelayUnderTest } from './relay-under-test.ts';
import { Bystander, reportAttack } from './support/bystander.ts';

/** Bad handshakes: more than the burst of records. */
const BAD_LINES = 6000;
const BURST = 1000;

/** Records that the rate adds to the burst, per second of the attack. */
const RATE = 10;

/** Clients that leave without a partner: fewer than the burst of records. */
const LONELY = 2000;

/** Concurrent connections of the attacker. */
const AT_ONCE = 50;

/** An idle relay answers within a few milliseconds; more than this means a problem other than records. */
const MAX_STALL_MS = 2000;

const SUPPRESSED = /"level":"warn".*"count":1,"msg":"usage records suppressed/u;

/** Connects `count` clients that send a line and disconnect. */
async function connectClients(port: number, count: number, line: () => string): Promise<void> {
  let left = count;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => undefined).resume();
      socket.end(line());
      await once(socket, 'close');
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

describe('the usage database', () => {
  test('grows at a bounded rate while attackers end thousands of connections, and metrics count all of them', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const statusPort = await freePort();
    const status = `http://127.0.0.1:${statusPort}`;
    await using relay = await RelayUnderTest.start({
      RELAY_USAGE_DB: path,
      RELAY_STATUS_LISTEN: `tcp:${statusPort}:interface=127.0.0.1`,
    });
    await using bystander = await Bystander.start({ port: relay.port, pid: relay.pid });
    const idle = await bystander.measure(500);
    const startedAt = performance.now();
    const during = await bystander.measureWhile(async () => {
      await connectClients(relay.port, BAD_LINES, () => 'please relay nothing\n');
      await connectClients(relay.port, LONELY, () => handshake(newToken(), SIDE_A));
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const figures = await scrape(status);
    const ended = (mood: string): number =>
      figures.get(`transit_relay_connections_ended_total{mood="${mood}",transport="tcp"}`) ?? 0;
    const suppressed = (mood: string): number =>
      figures.get(`transit_relay_usage_records_suppressed_total{mood="${mood}"}`) ?? 0;
    assert.equal(ended('errory'), BAD_LINES);
    assert.equal(ended('lonely'), LONELY);
    await bystander.finish();
    await relay.stop();
    const rows = countsOf(path);
    const [errory = 0, lonely = 0] = [rows.get('errory'), rows.get('lonely')];
    reportAttack(
      context,
      'usage records',
      idle,
      during,
      `rows ${errory} of ${BAD_LINES} errory, ${lonely} of ${LONELY} lonely in ${seconds.toFixed(1)} s`,
      `database ${statSync(path).size} bytes`,
    );
    assert.equal(errory, BAD_LINES - suppressed('errory'));
    assert.equal(lonely, LONELY);
    assert.ok(errory >= BURST && errory <= BURST + RATE * Math.ceil(seconds), `${errory} rows of bad lines`);
    // The legitimate pairs have all their records: those that were paired meanwhile, and the long-running
    // one.
    assert.ok((rows.get('happy') ?? 0) > during.newPairs);
    assert.equal(suppressed('happy'), 0);
    assert.equal(relay.count(SUPPRESSED), 1);
    assert.ok(during.stallMs < MAX_STALL_MS, `a round trip of ${during.stallMs} ms`);
    assert.equal(during.newPairsFailed, 0);
  });
});

function countsOf(path: string): ReadonlyMap<string, number> {
  using reader = new UsageReader(path);
  const rows = new Map<string, number>();
  for (const { result } of reader.rows()) rows.set(result, (rows.get(result) ?? 0) + 1);
  return rows;
}

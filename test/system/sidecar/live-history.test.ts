import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HistorySeries, LiveHistory } from '../../../src/sidecar/api.ts';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { ask, jsonOf, problemOf } from '../../support/ask.ts';
import { freePort } from '../../support/listening.ts';
import { CONDITION_TIMEOUT_MS } from '../../support/programs.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { startSidecar } from '../../support/sidecar-fixture.ts';
import { TestClient } from '../../support/test-client.ts';

function isHistory(value: unknown): value is LiveHistory {
  return typeof value === 'object' && value !== null && Object.keys(value).join() === 'now,series';
}

async function historyOf(url: string, query = ''): Promise<LiveHistory> {
  const answer = await ask(url, `/live-history.json${query}`);
  assert.equal(answer.status, 200);
  const history = jsonOf(answer);
  assert.ok(isHistory(history), answer.body.toString());
  return history;
}

async function fineOf(url: string): Promise<HistorySeries> {
  const [fine] = (await historyOf(url)).series;
  assert.ok(fine?.step_seconds === 1);
  return fine;
}

/** Polls until the fine series is as expected. */
async function untilFine(url: string, holds: (fine: HistorySeries) => boolean): Promise<HistorySeries> {
  const deadline = performance.now() + CONDITION_TIMEOUT_MS;
  for (;;) {
    const fine = await fineOf(url);
    if (holds(fine)) return fine;
    assert.ok(performance.now() < deadline, JSON.stringify(fine));
    await sleep(100);
  }
}

describe('live-history.json', () => {
  test('follows the relay while no page is open, through its outages and restarts', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    const port = await freePort();
    const settings = {
      RELAY_USAGE_DB: databasePath,
      RELAY_STATUS_LISTEN: `tcp:${port}:interface=127.0.0.1`,
      RELAY_MAX_WAITING: '1',
    };
    const relay = await RelayProcess.start(settings);
    context.after(() => relay[Symbol.asyncDispose]());
    const { url, sidecar } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${port}`,
    });
    const addresses = { tcpPort: relay.port('raw'), unixPath: '', websocketPort: 0 };
    const clients = await Promise.all([1, 2, 3].map(() => TestClient.connect('tcp', addresses)));
    context.after(() => clients.forEach((client) => client.destroy()));
    await untilFine(url, ({ connections }) => connections.at(-1) === 3);
    for (const client of clients) await client.send(handshake(newToken(), SIDE_A));
    const busy = await untilFine(url, ({ refused }) => refused.includes(1) || refused.includes(2));
    assert.ok(busy.waiting.includes(1));
    assert.ok(Math.abs(Date.now() - Date.parse(busy.end)) < 10_000, busy.end);

    process.kill(relay.pid, 'SIGKILL');
    await untilFine(url, ({ pairs }) => pairs.at(-1) === null && pairs.at(-2) === null);
    const again = await RelayProcess.start(settings);
    context.after(() => again[Symbol.asyncDispose]());
    const { pairs, refused } = await untilFine(url, (fine) => fine.pairs.at(-1) === 0);
    // Up, down, up; and the restart adds no rejections.
    const changes = pairs.filter((value, index) => value !== pairs[index - 1]);
    assert.deepEqual(changes, [null, 0, null, 0]);
    assert.equal(
      refused.reduce<number>((sum, value) => sum + (value ?? 0), 0),
      2,
    );
    assert.equal(sidecar.stderr, '');
  });

  test('has no more gaps than there were polls that failed', async (context) => {
    const databasePath = join(await scratch(context), 'usage.sqlite');
    const relay = await RelayProcess.start({ RELAY_USAGE_DB: databasePath });
    context.after(() => relay[Symbol.asyncDispose]());
    const { url } = await startSidecar(context, null, {
      SIDECAR_USAGE_DB: databasePath,
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${relay.port('status')}`,
    });
    await untilFine(url, ({ pairs }) => pairs.filter((value) => value !== null).length >= 8);
    const { pairs } = await fineOf(url);
    const first = pairs.findIndex((value) => value !== null);
    assert.ok(
      pairs.slice(first).every((value) => value !== null),
      JSON.stringify(pairs.slice(first)),
    );
  });

  test('has an hour, or as many seconds as requested', async (context) => {
    const { url } = await startSidecar(context, null);
    for (const [query, length] of [
      ['', 360],
      ['?seconds=10', 1],
      ['?seconds=86400', 8640],
    ] as const) {
      const { series } = await historyOf(url, query);
      assert.deepEqual(
        series.map(({ step_seconds: step, refused }) => [step, refused.length]),
        [
          [1, 300],
          [10, length],
        ],
      );
    }
    for (const seconds of ['0', '86401', '-1', '1.5', 'x', '', '60&seconds=60', '1e3']) {
      const answer = await ask(url, `/live-history.json?seconds=${seconds}`);
      assert.equal(answer.status, 400, seconds);
      assert.equal(problemOf(answer), '"seconds" must be a whole number from 1 to 86400');
    }
  });
});

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import type { RelayProcess } from '../../support/relay-process.ts';
import { NO_BROWSER } from '../../support/browser.ts';
import type { BrowserPage } from '../../support/browser.ts';
import { handshake, newToken } from '../../support/bytes.ts';
import { openDashboard, generateYearOfRecords } from './dashboard-fixture.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** Sums of records with the same mood and in the same hour, day or month. */
interface Sum {
  readonly start: string;
  readonly mood: string;
  readonly records: number;
  readonly bytes: number;
}

/**
 * The usage of a range according to SQLite's own calendar, which does not use milliseconds like the page and
 * its server.
 */
function sumsOf(databasePath: string, format: string, fromMs: number, toMs: number): Sum[] {
  const database = new Database(databasePath, { readonly: true });
  try {
    return database
      .prepare<[string, number, number], Sum>(
        `SELECT strftime(?, started, 'unixepoch') AS start, result AS mood, count(*) AS records, sum(total_bytes) AS bytes
           FROM usage WHERE started >= ? AND started < ? GROUP BY start, mood ORDER BY start`,
      )
      .all(format, fromMs / 1000, toMs / 1000);
  } finally {
    database.close();
  }
}

function total(sums: readonly Sum[], count: (sum: Sum) => number): number {
  return sums.reduce((all, sum) => all + count(sum), 0);
}

/** The range of the page, from its link to the CSV. */
async function shownRange({ page }: BrowserPage): Promise<{ by: string; fromMs: number; toMs: number }> {
  const href = (await page.locator('#usage-csv').getAttribute('href')) ?? '';
  const query = new URLSearchParams(href.slice(href.indexOf('?')));
  const [fromMs = NaN, toMs = NaN] = ['from', 'to'].map((name) => Date.parse(query.get(name) ?? ''));
  return { by: query.get('by') ?? '', fromMs, toMs };
}

const KNOWN = new Set(['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty']);

const LABELS: Readonly<Record<string, string>> = {
  transfer: 'happy',
  'no partner came': 'lonely',
  replaced: 'redundant',
  'sent too early': 'impatient',
  'bad handshake': 'errory',
  'no handshake': 'empty',
  other: 'other',
};

const VIEWS = [
  { view: 'day', by: 'hour', bars: 24, leastMs: DAY_MS, mostMs: DAY_MS, format: '%Y-%m-%dT%H' },
  { view: 'week', by: 'day', bars: 7, leastMs: 7 * DAY_MS, mostMs: 7 * DAY_MS, format: '%Y-%m-%d' },
  { view: 'month', by: 'day', bars: 30, leastMs: 30 * DAY_MS, mostMs: 30 * DAY_MS, format: '%Y-%m-%d' },
  { view: 'year', by: 'month', bars: 12, leastMs: 365 * DAY_MS, mostMs: 366 * DAY_MS, format: '%Y-%m' },
] as const;

describe('the numbers on the dashboard', { skip: NO_BROWSER }, () => {
  test('match the database, for a day, a week, a month and a year', async (context) => {
    const site = await openDashboard(context, { records: generateYearOfRecords(7, 3000) });
    const { browser, databasePath } = site;
    await browser.until(`document.querySelector('#year-transfers data')`);

    for (const { view, by, bars, leastMs, mostMs, format } of VIEWS) {
      await browser.page.locator(`input[value=${view}]`).check({ force: true });
      const range = await shownRange(browser);
      assert.equal(range.by, by);
      assert.ok(range.toMs - range.fromMs >= leastMs && range.toMs - range.fromMs <= mostMs);
      assert.ok(Date.now() >= range.fromMs && Date.now() <= range.toMs + HOUR_MS);
      const sums = sumsOf(databasePath, format, range.fromMs, range.toMs);
      const ofMood = (mood: string): Sum[] =>
        sums.filter((sum) => (mood === 'other' ? !KNOWN.has(sum.mood) : sum.mood === mood));
      assert.ok(sums.length > 20, 'the database has too few records to compare');

      assert.equal(
        await browser.value(`#${view}-transfers`),
        total(ofMood('happy'), (sum) => sum.records),
      );
      assert.equal(
        await browser.value(`#${view}-bytes`),
        total(sums, (sum) => sum.bytes),
      );

      const moods = new Map(
        (await browser.table('#moods-table')).map(([name = '', records, , bytes]) => [
          Object.entries(LABELS).find(([label, mood]) =>
            name.startsWith(label === mood ? label : `${label} ${mood}`),
          )?.[1],
          [Number(records), Number(bytes)],
        ]),
      );
      assert.equal(moods.size, 7);
      for (const [mood, shown] of moods) {
        const own = ofMood(mood ?? '');
        assert.deepEqual(shown, [total(own, (sum) => sum.records), total(own, (sum) => sum.bytes)], mood);
      }

      const labels = await browser.ask<string[]>(
        `[...document.querySelectorAll('#records-table thead th')].slice(1).map((cell) => cell.textContent)`,
      );
      const columns = labels.map((label) => LABELS[label] ?? '');
      const starts = [...startsOf(by, range.fromMs, range.toMs)];
      assert.equal(starts.length, bars);
      assert.deepEqual(
        (await browser.table('#records-table')).map(([, ...cells]) => cells.map(Number)),
        starts.map((start) =>
          columns.map((mood) =>
            total(
              ofMood(mood).filter((sum) => sum.start === start),
              (sum) => sum.records,
            ),
          ),
        ),
      );
      assert.deepEqual(
        (await browser.table('#bytes-table')).map(([, bytes]) => Number(bytes)),
        starts.map((start) =>
          total(
            sums.filter((sum) => sum.start === start),
            (sum) => sum.bytes,
          ),
        ),
      );

      const waitingRecords = (await browser.table('#waits-table')).map((cells) => Number(cells[3]));
      assert.deepEqual(waitingRecords, waitingRecordsOf(databasePath, range.fromMs, range.toMs));
    }
    assert.deepEqual(browser.errors, []);
  });
});

/** The hours, days or months of a range in SQLite's formats. */
function* startsOf(by: string, fromMs: number, toMs: number): Generator<string> {
  const length = by === 'hour' ? 13 : by === 'day' ? 10 : 7;
  let last = '';
  for (let timeMs = fromMs; timeMs < toMs; timeMs += HOUR_MS) {
    const start = new Date(timeMs).toISOString().slice(0, length);
    if (start !== last) yield start;
    last = start;
  }
}

/** Happy records by waiting buckets. */
function waitingRecordsOf(databasePath: string, fromMs: number, toMs: number): number[] {
  const database = new Database(databasePath, { readonly: true });
  try {
    const bounds = [-1, 1, 5, 30, 120, 600, 3600, 1e12];
    const count = database
      .prepare<[number, number, number, number], number>(
        `SELECT count(*) FROM usage WHERE result = 'happy' AND started >= ? AND started < ?
           AND waiting_time > ? AND waiting_time <= ?`,
      )
      .pluck();
    return bounds
      .slice(1)
      .map((most, step) => count.get(fromMs / 1000, toMs / 1000, bounds[step] ?? 0, most) ?? NaN);
  } finally {
    database.close();
  }
}

/** A client of the relay that has sent its handshake. */
async function join(relay: RelayProcess | null, line: string): Promise<ReturnType<typeof connect>> {
  const socket = connect(relay?.port('raw') ?? 0, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(line);
  return socket;
}

describe('the dashboard while a transfer runs', { skip: NO_BROWSER }, () => {
  test('shows waiting clients, the pair and its rate, and counts the transfer afterwards', async (context) => {
    const { browser, relay } = await openDashboard(context);
    const untilShown = (id: string, condition: string): Promise<void> =>
      browser.until(`Number(document.querySelector('#${id} data')?.value) ${condition}`);
    await untilShown('pairs', '=== 0');
    await untilShown('waiting', '=== 0');
    await untilShown('rate', '=== 0');
    await untilShown('day-transfers', '=== 0');

    const token = newToken();
    const sender = await join(relay, handshake(token));
    context.after(() => sender.destroy());
    await untilShown('waiting', '=== 1');
    assert.equal(await browser.value('#pairs'), 0);

    const receiver = await join(relay, handshake(token));
    context.after(() => receiver.destroy());
    let received = 0;
    receiver.on('data', (bytes: Buffer) => (received += bytes.length));
    await untilShown('pairs', '=== 1');
    await untilShown('waiting', '=== 0');

    const moving = new AbortController();
    context.after(() => moving.abort());
    const sending = sendUntil(sender, moving.signal);
    await untilShown('rate', '> 0');
    assert.match(await browser.text('#rate'), /^\d+(?:\.\d+)? [kM]B\/s$/u);
    assert.match((await browser.page.locator('#rate-plot').getAttribute('aria-label')) ?? '', /at most \d/u);
    moving.abort();
    const sent = await sending;
    await untilShown('rate', '=== 0');
    await untilShown('relayed', `=== ${sent}`);
    assert.equal(received, sent + 'ok\n'.length);

    sender.end();
    receiver.end();
    await untilShown('pairs', '=== 0');
    await untilShown('day-transfers', '=== 1');
    assert.equal(await browser.value('#day-bytes'), sent);
    assert.deepEqual(browser.errors, []);
  });
});

/** Sends small chunks, and returns the number of bytes. */
async function sendUntil(socket: ReturnType<typeof connect>, signal: AbortSignal): Promise<number> {
  const chunk = Buffer.alloc(100_000, 1);
  let sent = 0;
  while (!signal.aborted) {
    socket.write(chunk);
    sent += chunk.length;
    await sleep(50);
  }
  return sent;
}

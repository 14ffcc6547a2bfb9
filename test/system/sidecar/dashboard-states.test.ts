import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { BrowserPage, NO_BROWSER } from '../../support/browser.ts';
import { handshake, newToken } from '../../support/bytes.ts';
import { listening } from '../../support/listening.ts';
import type { RelayProcess } from '../../support/relay-process.ts';
import { startSidecar as startSidecarAlone } from '../../support/sidecar-fixture.ts';
import { openDashboard, generateYearOfRecords } from './dashboard-fixture.ts';

/** Errors except failed requests, which Chromium logs even if the page handles them. */
function withoutFailedRequests(errors: readonly string[]): string[] {
  return errors.filter((error) => !error.startsWith('Failed to load resource'));
}

function toneOf(browser: BrowserPage): Promise<string> {
  return browser.ask(`document.querySelector('#status').dataset.tone`);
}

/** A client that stays until the test ends. */
function connectUntilEnd(context: TestContext, relay: RelayProcess | null, line = ''): Socket {
  const socket = connect(relay?.port('raw') ?? 0, '127.0.0.1');
  // The relay rejects some of them.
  socket.on('error', () => undefined);
  socket.resume();
  context.after(() => socket.destroy());
  if (line !== '') socket.write(line);
  return socket;
}

describe('the dashboard shows the correct state', { skip: NO_BROWSER }, () => {
  test('when the relay stops and starts again', async (context) => {
    const { browser, relay, startRelay } = await openDashboard(context, {
      records: generateYearOfRecords(3, 100),
    });
    await browser.untilText('#headline', 'Serving clients');
    await browser.until(`document.querySelector('#year-transfers data')`);
    const transfers = await browser.value('#year-transfers');

    await relay?.stop();
    await browser.untilText('#headline', 'The relay is down');
    assert.match(
      await browser.text('#headline-detail'),
      /\. Down since \d\d:\d\d UTC\. The numbers are from then\.$/u,
    );
    assert.match(await browser.text('#now-stale'), /^as of \d\d:\d\d:\d\d UTC$/u);
    assert.equal(await browser.value('#pairs'), 0);
    assert.equal(await browser.value('#year-transfers'), transfers);
    assert.match(await browser.page.title(), /^Down · .+ · Transit Relay$/u);

    await startRelay();
    await browser.untilText('#headline', 'Serving clients');
    assert.equal(await browser.page.locator('#now-stale').isVisible(), false);
    assert.deepEqual(withoutFailedRequests(browser.errors), []);
  });

  test('when a limit refuses clients', async (context) => {
    const { browser, relay } = await openDashboard(context, {
      relaySettings: { RELAY_MAX_CONNECTIONS: '2' },
    });
    await browser.untilText('#headline', 'Serving clients');
    for (let count = 0; count < 4; count += 1) connectUntilEnd(context, relay);
    await browser.untilText('#headline', 'Serving, but refusing some clients');
    assert.equal(await toneOf(browser), 'warn');
    assert.match(
      await browser.text('#headline-detail'),
      /^All 2 connections are in use, since \d\d:\d\d UTC\. RELAY_MAX_CONNECTIONS sets the limit\.$/u,
    );
    assert.match(await browser.page.title(), /^Refusing · /u);
    assert.equal(await browser.text('#connections'), '2 of 2');
    assert.equal(await browser.value('#refused'), 2);
    assert.equal(await browser.text('#refused-detail'), 'all connections in use\n2');
    assert.deepEqual(browser.errors, []);
  });

  test('when the quota is used up', async (context) => {
    const { browser, relay } = await openDashboard(context, {
      relaySettings: { RELAY_QUOTA: '10kB/day', RELAY_MAX_CONNECTIONS: '10' },
    });
    await browser.untilText('#headline', 'Serving clients');
    assert.equal(await browser.text('#quota'), '0 B of 10 kB');
    // The quota counts since less than an hour.
    assert.match(await browser.text('#quota-detail'), /^0 % used\. Reset at 00:00 UTC\.$/u);
    const line = handshake(newToken());
    connectUntilEnd(context, relay, line);
    connectUntilEnd(context, relay, line).write(Buffer.alloc(20_000));
    await browser.untilText('#headline', 'Quota used up until 00:00 UTC');
    assert.equal(await toneOf(browser), 'quota');
    assert.match(await browser.text('#quota-detail'), /^Used up\. Reset at 00:00 UTC\.$/u);
    assert.deepEqual(browser.errors, []);
  });

  test('when the relay drains', async (context) => {
    const { browser, relay } = await openDashboard(context);
    const line = handshake(newToken());
    const clients = [connectUntilEnd(context, relay, line), connectUntilEnd(context, relay, line)];
    await browser.until(`Number(document.querySelector('#pairs data')?.value) === 1`);
    relay?.kill('SIGTERM');
    await browser.untilText('#headline', 'Draining before it stops');
    assert.equal(await toneOf(browser), 'drain');
    for (const client of clients) client.destroy();
    await browser.untilText('#headline', 'The relay is down');
    assert.equal(await toneOf(browser), 'bad');
  });

  test('with a warning for each problem', async (context) => {
    const { browser } = await openDashboard(context, { relaySettings: { RELAY_QUTOA: '1TB/month' } });
    await browser.untilText('#warnings-title', '1 warning');
    assert.match(await browser.text('#warnings-list'), /RELAY_QUTOA.*RELAY_QUOTA.* unknown_variable$/u);
    assert.equal(await toneOf(browser), 'good');
  });

  test('of a relay of an older version', async (context) => {
    const started = new Date(Date.now() - 90_000).toISOString();
    const numbers = { uptime_seconds: 90, pairs: 1, waiting: 2, relayed_bytes: 3000, bytes_per_second: 40 };
    const relay = createServer((_request, response) =>
      response.end(JSON.stringify({ started, draining: false, ...numbers })),
    );
    const { url } = await startSidecarAlone(context, [], {
      SIDECAR_RELAY_STATUS: `http://127.0.0.1:${await listening(context, relay)}`,
    });
    const browser = await BrowserPage.open(context, url);
    await browser.untilText('#headline', 'The relay is up');
    assert.match(await browser.text('#headline-detail'), /^This version of the relay does not report/u);
    assert.equal(await toneOf(browser), 'unknown');
    assert.equal(await browser.value('#pairs'), 1);
    assert.equal(await browser.value('#waiting'), 2);
    assert.equal(await browser.text('#refused'), '–');
    assert.equal(await browser.page.locator('#quota-tile').isVisible(), false);
    assert.equal(await browser.page.locator('#connections-track').isVisible(), false);
    assert.equal(await browser.page.locator('#warnings').isVisible(), false);
    assert.equal(await browser.text('#host'), new URL(url).host);
    assert.deepEqual(browser.errors, []);
  });

  test('when there was never a relay', async (context) => {
    const { browser } = await openDashboard(context, { withRelay: false });
    await browser.untilText('#headline', 'The relay is down');
    assert.match(await browser.text('#headline-detail'), /has not answered since the sidecar started at/u);
    assert.equal(await browser.text('#pairs'), '–');
    assert.equal(await browser.text('#rate'), '–');
    await browser.page.locator('#test-button').click();
    await browser.page.locator('#test-result .problem').first().waitFor();
    assert.deepEqual(withoutFailedRequests(browser.errors), []);
  });

  test('when there is no database yet, and after its creation', async (context) => {
    const { browser, startRelay } = await openDashboard(context, { records: null, withRelay: false });
    await browser.untilText('#database-size', 'none yet');
    await browser.page.locator('#usage-notice').waitFor();
    assert.notEqual(await browser.text('#usage-notice'), '');
    assert.equal(await browser.text('#day-transfers'), '–');
    assert.equal(await browser.text('#records-empty'), 'No data yet.');
    assert.equal(await browser.page.locator('#moods-table').isVisible(), false);
    assert.equal(await browser.page.locator('#snapshot-link').isVisible(), false);

    await startRelay();
    await browser.until(`Number(document.querySelector('#day-transfers data')?.value) === 0`);
    assert.equal(await browser.text('#records-empty'), 'No records in the last 24 hours.');
    assert.equal(await browser.page.locator('#usage-notice').isVisible(), false);
    assert.deepEqual(withoutFailedRequests(browser.errors), []);
  });

  test('when the sidecar stops and starts again', async (context) => {
    const { browser, sidecar, startSidecar } = await openDashboard(context, {
      records: generateYearOfRecords(4, 100),
    });
    await browser.until(`document.querySelector('#year-transfers data')`);
    await sidecar[Symbol.asyncDispose]();
    await browser.untilText('#headline', 'The sidecar does not answer');
    assert.match(await browser.text('#headline-detail'), /keeps trying.* are from \d\d:\d\d:\d\d UTC/u);
    assert.equal(await browser.value('#pairs'), 0);
    assert.equal(await browser.ask(`document.body.classList.contains('is-unreachable')`), true);

    await startSidecar();
    await browser.untilText('#headline', 'Serving clients');
    assert.equal(await browser.ask(`document.body.classList.contains('is-unreachable')`), false);
    assert.deepEqual(withoutFailedRequests(browser.errors), []);
  });

  test('when another service answers instead of the sidecar', async (context) => {
    const { browser } = await openDashboard(context);
    await browser.page.route('**/live.json', (route) =>
      route.fulfill({ status: 502, body: '<h1>Bad gateway</h1>' }),
    );
    await browser.untilText('#headline', 'The sidecar has a problem');
    assert.match(await browser.text('#headline-detail'), /status 502/u);
    await browser.page.unroute('**/live.json');
    await browser.untilText('#headline', 'Serving clients');
  });
});

describe('a dashboard that lacks one of its scripts says so and loads again', { skip: NO_BROWSER }, () => {
  for (const script of ['usage-series.ts', 'dom.ts']) {
    test(script, async (context) => {
      const { browser } = await openDashboard(context);
      await browser.page.clock.install();
      await browser.page.route(`**/assets/${script}`, (route) => route.abort());
      await browser.page.reload();
      await browser.untilText('#headline', 'This page did not load completely');
      await browser.page.unroute(`**/assets/${script}`);
      await browser.page.clock.runFor(10_000);
      await browser.untilText('#headline', 'Serving clients');
    });
  }
});

describe('the buttons of the dashboard', { skip: NO_BROWSER }, () => {
  for (const token of [undefined, 'open-sesame-open-sesame']) {
    const name = `take a snapshot, which can then be downloaded, ${token === undefined ? 'without' : 'with'} a token`;
    test(name, async (context) => {
      const { browser } = await openDashboard(context, { records: generateYearOfRecords(5, 250), token });
      // If the sidecar is taking its first snapshot, the click shares it.
      await browser.page.locator('#snapshot-button').click();
      await browser.page.locator('#snapshot-button:enabled').waitFor();
      assert.equal(await browser.page.locator('#snapshot-problem').isVisible(), false);
      await browser.page.locator('#snapshot-link').waitFor();
      assert.match(await browser.text('#snapshot-detail'), /UTC, 250 records$/u);

      const coming = browser.page.waitForEvent('download');
      await browser.page.locator('#snapshot-link').click();
      const download = await coming;
      assert.match(download.suggestedFilename(), /^usage-\d{8}T\d{6}Z.*\.sqlite$/u);
      const database = new Database(await download.path(), { readonly: true });
      context.after(() => database.close());
      assert.equal(database.prepare('SELECT count(*) FROM usage').pluck().get(), 250);
      assert.deepEqual(browser.errors, []);
    });
  }

  test('say why there is no snapshot', async (context) => {
    const { browser } = await openDashboard(context, { records: null, withRelay: false });
    await browser.page.locator('#snapshot-button').click();
    await browser.page.locator('#snapshot-problem').waitFor();
    await browser.page.locator('#snapshot-button:enabled').waitFor();
    assert.match(await browser.text('#snapshot-problem'), /^[A-Z].+\.$/u);
  });

  test('test a transfer over each pair of transports', async (context) => {
    const { browser } = await openDashboard(context);
    await browser.page.locator('#test-button').click();
    await browser.page.locator('#test-result li').first().waitFor();
    const results = await browser.page.locator('#test-result li').allInnerTexts();
    assert.deepEqual(
      results.map((result) => result.replaceAll(/ \d+(?= and|\s)|\s*[\d.]+\s*ms$/gu, '')).toSorted(),
      ['TCP and TCP', 'TCP and WebSocket', 'WebSocket and WebSocket'],
    );
    assert.equal(await browser.page.locator('#test-result .problem').count(), 0);
    assert.deepEqual(browser.errors, []);
  });
});

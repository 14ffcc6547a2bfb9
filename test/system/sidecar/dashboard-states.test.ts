import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { NO_BROWSER } from '../../support/browser.ts';
import { openDashboard, generateYearOfRecords } from './dashboard-fixture.ts';

/** Errors except failed requests, which Chromium logs even if the page handles them. */
function withoutFailedRequests(errors: readonly string[]): string[] {
  return errors.filter((error) => !error.startsWith('Failed to load resource'));
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

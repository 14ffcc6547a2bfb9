import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LiveHistory, LiveStatus } from '../../../src/sidecar/api.ts';
import { NO_BROWSER } from '../../support/browser.ts';
import type { BrowserPage } from '../../support/browser.ts';
import type { ValidRecord } from '../../support/usage-records.ts';
import { generateYearOfRecords, openDashboard } from './dashboard-fixture.ts';

const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

const VIEWS = ['day', 'week', 'month', 'billing', 'year'] as const;

const MONTHLY_QUOTA = { RELAY_QUOTA: '5TB/month', RELAY_QUOTA_RESET_DAY: '12' };

function record(ageSeconds: number, bytes: number, result = 'happy'): ValidRecord {
  const isPair = result === 'happy';
  return {
    started: Math.floor(Date.now() / 1000) - ageSeconds,
    total_time: 1,
    waiting_time: isPair ? 2 : null,
    total_bytes: bytes,
    result,
  };
}

function untilLoaded(browser: BrowserPage): Promise<void> {
  return browser.until(`document.querySelector('#year-transfers data')`);
}

async function select(browser: BrowserPage, view: string): Promise<void> {
  await browser.page.locator(`label:has([value=${view}])`).click();
}

/** Changes what the page receives as live status. */
async function alterLive({ page }: BrowserPage, alter: (live: LiveStatus) => object): Promise<void> {
  await page.route('**/live.json', async (route) => {
    const response = await route.fetch();
    const live: LiveStatus = await response.json();
    await route.fulfill({ response, json: alter(live) });
  });
}

/** Reloads the page, and records the texts that it writes into charts from then on. */
async function recordTexts(browser: BrowserPage): Promise<void> {
  await browser.page.addInitScript(`{
    const write = CanvasRenderingContext2D.prototype.fillText;
    window.texts = [];
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
      if (this.canvas.closest('#usage')) window.texts.push(text);
      write.call(this, text, ...rest);
    };
  }`);
  await browser.page.reload();
  await untilLoaded(browser);
  await select(browser, 'week');
}

/** The texts that the charts write when this period is selected, which must not be a week. */
async function textsOf(browser: BrowserPage, view: string): Promise<string[]> {
  await browser.ask('window.texts = []');
  await select(browser, view);
  // uPlot draws in a microtask.
  const texts = await browser.ask<string[]>('window.texts');
  return texts.map((text) => text.replaceAll('\u00a0', ' '));
}

describe('the outcomes on the dashboard', { skip: NO_BROWSER }, () => {
  test('have plain names, with their moods', async (context) => {
    const moods = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty', 'jubilant', '<b>'];
    const records = moods.map((mood) => record(10, 0, mood));
    const { browser } = await openDashboard(context, { records });
    await untilLoaded(browser);
    assert.equal(await browser.text('#records-title'), 'Connections by outcome');
    assert.deepEqual(await browser.page.locator('#legend li').allInnerTexts(), [
      'transfer\nhappy',
      'no partner came\nlonely',
      'replaced\nredundant',
      'sent too early\nimpatient',
      'bad handshake\nerrory',
      'no handshake\nempty',
      'other',
    ]);
    const [, other] = (await browser.table('#moods-table')).at(-1) ?? [];
    assert.equal(other, '2');
    assert.equal(
      await browser.text('#moods-sentence'),
      '13 % of 8 records are transfers. A pair is one record.',
    );
  });

  test('are only transfers, if there is nothing else', async (context) => {
    const { browser } = await openDashboard(context, { records: [record(10, 1)] });
    await untilLoaded(browser);
    assert.equal(await browser.text('#records-title'), 'Transfers');
    assert.equal(await browser.page.locator('#legend').isVisible(), false);
    assert.equal(await browser.text('label:has([value=day]) .period-figure'), '1 transfer');
    assert.equal(
      await browser.text('#moods-sentence'),
      '100 % of 1 record is a transfer. A pair is one record.',
    );
    assert.match(
      (await browser.page.locator('#records-plot').getAttribute('aria-label')) ?? '',
      /^1 record in the last 24 hours, 1 of them a transfer, by hour$/u,
    );
  });
});

describe('a chart of the dashboard', { skip: NO_BROWSER }, () => {
  test('clips one large transfer, and shows its value', async (context) => {
    const small = Array.from({ length: 12 }, (_, hour) => record(hour * HOUR_S, 1e6));
    const records = [...small, record(5 * HOUR_S, 812e9), record(DAY_S, 1)];
    const { browser } = await openDashboard(context, { records });
    await recordTexts(browser);
    const texts = await textsOf(browser, 'day');
    assert.ok(texts.includes('812 GB'), texts.join(' '));
    assert.ok(texts.includes('1 MB'), texts.join(' '));
    assert.match(await browser.text('#bytes-note'), /^Broken bars exceed the scale/u);
    assert.doesNotMatch(await browser.text('#records-note'), /Broken/u);
  });

  test('has the labels of its period, even if the one before had as many bars', async (context) => {
    // Without records, the scales are the same, too.
    const { browser } = await openDashboard(context);
    const startMs = Date.UTC(2031, 3, 1);
    const quota = {
      used_bytes: 0,
      limit_bytes: 1,
      period_started: new Date(startMs).toISOString(),
      counts_since: new Date(startMs).toISOString(),
      resets: new Date(startMs + 30 * DAY_S * 1000).toISOString(),
      exhausted: false,
    };
    await alterLive(browser, (live) => ({ ...live, relay: { ...live.relay, quota } }));
    await recordTexts(browser);
    const isOfApril2031 = (text: string): boolean => ['Wed 30', 'Apr'].includes(text);
    assert.equal((await textsOf(browser, 'month')).filter(isOfApril2031).length, 0);
    assert.ok((await textsOf(browser, 'billing')).filter(isOfApril2031).length >= 4);
  });

  test('fits, with its tooltips, on all screens and in both schemes', async (context) => {
    const { browser } = await openDashboard(context, {
      records: generateYearOfRecords(4, 2000),
      relaySettings: MONTHLY_QUOTA,
    });
    await untilLoaded(browser);
    for (const width of [390, 1280, 1920]) {
      await browser.page.setViewportSize({ width, height: 900 });
      for (const colorScheme of ['light', 'dark'] as const) {
        await browser.page.emulateMedia({ colorScheme });
        for (const view of VIEWS) {
          await select(browser, view);
          const clipped = await browser.ask<string[]>(
            `[...document.querySelectorAll('#usage :not(.scroller, .scroller *, .visually-hidden, input, .track, .track *)')]
              .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline')
              .map((one) => one.id || one.className)`,
          );
          assert.deepEqual(clipped, [], `${view} at ${width}`);
        }
        const over = browser.page.locator('#bytes-plot .u-over');
        const { width: plotWidth = 0 } = (await over.boundingBox()) ?? {};
        for (const share of [0.02, 0.3, 0.5, 0.7]) {
          await over.hover({ position: { x: plotWidth * share, y: 20 } });
          const box = await browser.page.locator('#bytes-plot .tooltip').boundingBox();
          assert.ok(
            box !== null && box.x >= 0 && box.x + box.width <= width,
            `${JSON.stringify(box)} at ${width}`,
          );
        }
      }
    }
    assert.deepEqual(browser.errors, []);
  });
});

describe('the billing period on the dashboard', { skip: NO_BROWSER }, () => {
  test('is that of the quota', async (context) => {
    const { browser } = await openDashboard(context, {
      records: [record(2, 7), record(40 * DAY_S, 1000)],
      relaySettings: MONTHLY_QUOTA,
    });
    await untilLoaded(browser);
    await select(browser, 'billing');
    const live = await browser.ask<LiveStatus>(`fetch('live.json').then((response) => response.json())`);
    assert.ok(live.relay.state !== 'down' && live.relay.quota !== null);
    const href = (await browser.page.locator('#usage-csv').getAttribute('href')) ?? '';
    const query = new URLSearchParams(href.slice(href.indexOf('?')));
    assert.deepEqual(
      [query.get('by'), query.get('from'), query.get('to')],
      ['day', live.relay.quota.period_started, live.relay.quota.resets],
    );
    assert.equal(await browser.value('#billing-bytes'), 7);
    assert.match(await browser.text('#billing-bytes'), /^7 B since 12 \w{3}$/u);
    // Days in the future have no row.
    const day = new Date().toISOString().slice(0, 10);
    const days = (Date.parse(day) - Date.parse(live.relay.quota.period_started)) / (DAY_S * 1000) + 1;
    assert.equal((await browser.table('#bytes-table')).length, days);

    await browser.page.reload();
    await untilLoaded(browser);
    await browser.until(`document.querySelector('[value=billing]').checked`);
  });

  test('is hidden without a quota', async (context) => {
    const { browser, sidecar } = await openDashboard(context);
    await browser.page.goto(`${sidecar.url}/#billing`);
    await browser.page.reload();
    await untilLoaded(browser);
    assert.equal(await browser.page.locator('#billing-period').isVisible(), false);
    assert.equal(await browser.ask(`document.querySelector('[value=day]').checked`), true);
    assert.ok(browser.requests.every((path) => !path.startsWith('/usage.json') || !path.includes('NaN')));
  });
});

describe('times without data on the dashboard', { skip: NO_BROWSER }, () => {
  /** The cells of the table of transfers, oldest first. */
  async function cellsOf(browser: BrowserPage): Promise<string[]> {
    return (await browser.table('#records-table')).map(([, cell = '']) => cell);
  }

  test('are those before the first record', async (context) => {
    const { browser } = await openDashboard(context);
    await untilLoaded(browser);
    assert.equal(await browser.text('#records-note'), 'Hatched: no data (before the first record).');
    // The relay has been running in the current hour.
    assert.deepEqual(await cellsOf(browser), [...Array.from({ length: 23 }, () => '–'), '0']);
  });

  test('are those since the relay last wrote to the database', async (context) => {
    const hours = [0, 1, 2, 3].map((hour) => record((10 + hour) * HOUR_S, 1));
    const { browser } = await openDashboard(context, { records: hours, withRelay: false });
    await recordTexts(browser);
    const texts = await textsOf(browser, 'day');
    assert.ok(texts.includes('no data'), texts.join(' '));
    assert.equal(
      await browser.text('#bytes-note'),
      'Hatched: no data (before the first record; the usage database was not written).',
    );
    const cells = await cellsOf(browser);
    assert.deepEqual(cells.slice(10, 14), ['1', '1', '1', '1']);
    assert.deepEqual(new Set(cells.toSpliced(10, 4)), new Set(['–']));
    await browser.page.locator('#bytes-plot .u-over').hover({ position: { x: 5, y: 20 } });
    assert.match(await browser.text('#bytes-plot .tooltip'), /before the first record$/u);
  });

  test('are outages that the sidecar saw', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(5, 1000) });
    const nowMs = Date.now();
    const pairs = Array.from({ length: 8640 }, (_, index) => (index > 8000 ? null : 0));
    // A real outage would take a minute.
    const started = new Date(nowMs - 2 * DAY_S * 1000).toISOString();
    await alterLive(browser, (live) => ({ ...live, sidecar: { ...live.sidecar, started } }));
    await browser.page.route('**/live-history.json?seconds=86400', (route) =>
      route.fulfill({
        json: {
          now: new Date(nowMs).toISOString(),
          series: [
            {
              step_seconds: 10,
              end: new Date(nowMs).toISOString(),
              bytes_per_second: pairs,
              pairs,
              waiting: pairs,
              connections: pairs,
              refused: pairs,
            },
          ],
        } satisfies LiveHistory,
      }),
    );
    await browser.page.reload();
    await untilLoaded(browser);
    assert.match(await browser.text('#records-note'), /Hatched: no data \(the relay did not answer\)\.$/u);
    assert.deepEqual(browser.requests.filter((path) => path.endsWith('seconds=86400')).length, 2);
  });

  test('do not exist in a database that is in use', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(6, 3000) });
    await untilLoaded(browser);
    for (const view of ['day', 'week', 'month', 'year']) {
      await select(browser, view);
      assert.doesNotMatch(await browser.text('#records-note'), /Hatched/u);
    }
  });
});

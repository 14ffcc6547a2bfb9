import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { describe, test } from 'node:test';
import { BrowserPage, NO_BROWSER } from '../../support/browser.ts';
import { openDashboard, generateYearOfRecords } from './dashboard-fixture.ts';

const VIEWS = ['day', 'week', 'month', 'year'] as const;

/** WCAG 2.2, success criteria 1.4.3 and 1.4.11. */
const TEXT_CONTRAST = 4.5;
const GRAPHICS_CONTRAST = 3;

const CHARTS_DRAWN = `document.querySelector('#records-plot canvas') && document.querySelector('#year-transfers data')`;

/** The content of a canvas as a data URL. */
function chartImageOf(browser: BrowserPage): Promise<string> {
  return browser.ask(`document.querySelector('#records-plot canvas').toDataURL()`);
}

/** Source: WCAG 2.2, definition of relative luminance. */
function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5]
    .map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].toSorted((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

describe('the page of the dashboard', { skip: NO_BROWSER }, () => {
  test('runs under its strict policy, without other hosts or console messages', async (context) => {
    const { browser, sidecar } = await openDashboard(context, { records: generateYearOfRecords(1, 300) });
    const policy = (await fetch(sidecar.url)).headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'/u);
    assert.match(policy, /script-src 'self'(?:;|$)/u);
    assert.match(policy, /style-src 'self'(?:;|$)/u);
    assert.doesNotMatch(policy, /unsafe|\*/u);
    await browser.until(CHARTS_DRAWN);
    for (const view of VIEWS) await browser.page.locator(`input[value=${view}]`).check({ force: true });
    await browser.page.locator('#records-plot .u-over').hover();
    await browser.page.locator('#records-plot .tooltip').waitFor();
    await browser.page.locator('#test-button').click();
    await browser.page.locator('#test-result li').first().waitFor();
    assert.deepEqual(browser.errors, []);
  });

  test('works behind a proxy that strips a prefix', async (context) => {
    const { sidecar } = await openDashboard(context);
    const unprefixed: string[] = [];
    const proxy = createServer((incoming, outgoing) => {
      const [, path = ''] = /^\/some\/where(\/.*)$/u.exec(incoming.url ?? '') ?? [];
      if (path === '') unprefixed.push(incoming.url ?? '');
      const forwarded = request(
        `${sidecar.url}${path}`,
        { method: incoming.method ?? 'GET', headers: incoming.headers },
        (answer) => {
          outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(outgoing);
        },
      );
      // The page is closed before the proxy.
      forwarded.on('error', () => outgoing.destroy());
      incoming.pipe(forwarded);
    }).listen(0, '127.0.0.1');
    context.after(() => proxy.close());
    await once(proxy, 'listening');
    const address = proxy.address();
    const port = typeof address === 'object' ? address?.port : null;
    const browser = await BrowserPage.open(context, `http://127.0.0.1:${port}/some/where/`);
    await browser.until(CHARTS_DRAWN);
    await browser.page.locator('#snapshot-button').click();
    await browser.page.locator('#snapshot-link').waitFor();
    const download = browser.page.waitForEvent('download');
    await browser.page.locator('#snapshot-link').click();
    assert.ok(statSync(await (await download).path()).size > 0);
    await browser.page.locator('#test-button').click();
    await browser.page.locator('#test-result li').first().waitFor();
    assert.deepEqual([unprefixed, browser.errors], [[], []]);
  });

  test('detects violations of the policy', async (context) => {
    const { browser } = await openDashboard(context);
    await browser.ask(
      `document.head.append(Object.assign(document.createElement('style'), { textContent: 'p {}' }))`,
    );
    await browser.until('true');
    assert.ok(browser.errors.length > 0);
  });

  test('fits on a phone, with all sections open', async (context) => {
    const viewport = { width: 360, height: 740 };
    const { browser } = await openDashboard(context, {
      records: generateYearOfRecords(2, 3000),
      browser: { viewport, isMobile: true, hasTouch: true },
    });
    await browser.until(CHARTS_DRAWN);
    for (const details of await browser.page.locator('summary').all()) await details.click();
    for (const view of VIEWS) {
      await browser.page.locator(`label:has([value=${view}])`).click();
      const widths = await browser.ask<number[]>(
        `[document.documentElement.scrollWidth, document.querySelector('#records-plot canvas').getBoundingClientRect().right]`,
      );
      assert.ok(
        widths.every((width) => width <= viewport.width),
        `${view}: ${widths.join(', ')}`,
      );
    }
  });

  test('redraws its charts when its width changes', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(2, 300) });
    await browser.until(CHARTS_DRAWN);
    for (const width of [1280, 400]) {
      await browser.page.setViewportSize({ width, height: 800 });
      await browser.until(
        `(() => { const plot = document.querySelector('#bytes-plot');
          return Math.abs(plot.querySelector('canvas').clientWidth - plot.clientWidth) < 1; })()`,
      );
    }
  });

  test('has a dark scheme including charts, and switches at once', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(6, 300) });
    await browser.until(CHARTS_DRAWN);
    const background = 'getComputedStyle(document.body).backgroundColor';
    const light = await browser.ask<string>(background);
    const image = await chartImageOf(browser);
    await browser.page.emulateMedia({ colorScheme: 'dark' });
    await browser.until(`${background} !== ${JSON.stringify(light)}`);
    await browser.until(
      `document.querySelector('#records-plot canvas').toDataURL() !== ${JSON.stringify(image)}`,
    );
    await browser.page.emulateMedia({ colorScheme: 'light' });
    await browser.until(
      `document.querySelector('#records-plot canvas').toDataURL() === ${JSON.stringify(image)}`,
    );
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`has enough contrast in its ${colorScheme} scheme`, async (context) => {
      const { browser } = await openDashboard(context, { browser: { colorScheme } });
      const colour = (name: string): Promise<string> =>
        browser.ask(`getComputedStyle(document.documentElement).getPropertyValue('--${name}').trim()`);
      const [card, page] = [await colour('card'), await colour('page')];
      for (const name of ['text', 'text-soft', 'accent-text', 'good', 'warn', 'quota', 'drain', 'bad']) {
        for (const ground of [card, page]) {
          const found = contrast(await colour(name), ground);
          assert.ok(found >= TEXT_CONTRAST, `${name} on ${ground}: ${found}`);
        }
      }
      assert.ok(contrast(await colour('on-accent'), await colour('accent')) >= TEXT_CONTRAST);
      const moods = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty', 'other'];
      for (const name of ['accent', ...moods.map((mood) => `mood-${mood}`)]) {
        const found = contrast(await colour(name), card);
        assert.ok(found >= GRAPHICS_CONTRAST, `${name}: ${found}`);
      }
    });
  }

  test('can be used with the keyboard alone', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(8, 300) });
    await browser.until(CHARTS_DRAWN);
    const focused = `document.activeElement.value || document.activeElement.id || document.activeElement.localName`;
    const { keyboard } = browser.page;
    const reached: string[] = [];
    for (let count = 0; count < 10 && reached.at(-1) !== 'day'; count += 1) {
      await keyboard.press('Tab');
      reached.push(await browser.ask<string>(focused));
    }
    assert.deepEqual(reached, ['test-button', 'day']);
    for (const [key, view, column] of [
      ['ArrowRight', 'week', 'Day'],
      ['ArrowRight', 'month', 'Day'],
      ['ArrowRight', 'year', 'Month'],
      ['ArrowRight', 'day', 'Hour'],
      ['ArrowLeft', 'year', 'Month'],
    ] as const) {
      await keyboard.press(key);
      assert.equal(await browser.ask<string>(focused), view);
      assert.equal(
        await browser.ask<string>(`document.querySelector('#records-table th').textContent`),
        column,
      );
    }
    await keyboard.press('Tab');
    await keyboard.press('Enter');
    assert.equal(await browser.page.locator('#records-table').isVisible(), true);
    await browser.page.reload();
    await browser.until(CHARTS_DRAWN);
    assert.equal(
      await browser.ask<string>(`document.querySelector('#records-table th').textContent`),
      'Month',
    );
  });

  test('has names and numbers for a screen reader', async (context) => {
    const { browser } = await openDashboard(context, { records: generateYearOfRecords(9, 500) });
    await browser.until(CHARTS_DRAWN);
    const tree = await browser.page.locator('body').ariaSnapshot();
    for (const expected of [
      /- heading "Transit Relay" \[level=1\]/u,
      /- main/u,
      /- status: Serving clients/u,
      /- term: Pairs\n\s+- definition: "0"/u,
      /- term: Waiting clients\n\s+- definition: "0"/u,
      /- term: Connections\n\s+- definition: [\d,]+ of [\d,]+/u,
      /- term: Refused in the last hour\n\s+- definition: "0"/u,
      /- term: Relayed per second\n\s+- definition: 0 B\/s/u,
      /- img "Bytes per second over the last hour, at most 0.B\/s"/u,
      /- group "Period of the charts"/u,
      /- radio "Last 24 hours [\d,]+ transfers [\d.]+.[kMGT]?B" \[checked\]/u,
      /- radio "Last 12 months [\d,]+ transfers [\d.]+.[kMGT]?B"/u,
      /- img "[\d,]+ records in the last 24 hours, [\d,]+ of them transfers, by hour"/u,
      /- img "[\d.]+.[kMGT]?B in the last 24 hours, by hour"/u,
      /- table "Outcomes"/u,
      /- table "Waiting times"/u,
      /- button "Take one now"/u,
      /- contentinfo/u,
    ]) {
      assert.match(tree, expected);
    }
    const announced = await browser.ask<string[]>(
      `[...document.querySelectorAll('[role=status], [role=alert], [aria-live], output')].map((one) => one.id)`,
    );
    assert.deepEqual(announced, ['headline', 'test-result', 'usage-notice', 'snapshot-problem']);
  });

  test('sends no requests while it is hidden', async (context) => {
    const { browser } = await openDashboard(context);
    await browser.until(CHARTS_DRAWN);
    const setHidden = (isHidden: boolean): Promise<unknown> =>
      browser.ask(`Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true }),
        document.dispatchEvent(new Event('visibilitychange'))`);
    await browser.page.clock.install();
    await browser.page.reload();
    await browser.until(CHARTS_DRAWN);
    await setHidden(true);
    // Running requests finish.
    await browser.page.waitForLoadState('networkidle');
    const before = browser.requests.length;
    await browser.page.clock.runFor(600_000);
    assert.deepEqual(browser.requests.slice(before), []);
    await setHidden(false);
    await browser.page.clock.runFor(1000);
    await browser.page.waitForRequest('**/live.json');
    assert.ok(browser.requests.length > before);
  });
});

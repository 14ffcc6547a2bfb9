import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { AxeResults } from 'axe-core';
import { formatClock } from '../../../src/sidecar/dashboard/format.ts';
import { BrowserPage, NO_BROWSER } from '../../support/browser.ts';
import { startSidecar } from '../../support/sidecar-fixture.ts';
import { EXAMPLE_NAMES, dashboardExamples, routeExample } from './dashboard-examples.ts';
import type { DashboardExample, ExampleName } from './dashboard-examples.ts';
import { generateYearOfRecords } from './dashboard-fixture.ts';

/** A phone, a laptop, a large screen; in CSS pixels. */
const WIDTHS = [390, 1280, 1920] as const;

/** If set, a screenshot of each state goes to this directory, to look at. */
const SCREENSHOTS = process.env['DASHBOARD_SCREENSHOTS'];

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What the card at the top has to say. */
const HEADLINES: Readonly<Record<ExampleName, readonly [tone: string, title: RegExp, detail: RegExp]>> = {
  serving: ['good', /^Serving clients$/u, /^No client was refused in the last hour\.$/u],
  empty: ['good', /^Serving clients$/u, /^No client was refused in the last hour\.$/u],
  refusing: [
    'warn',
    /^Serving, but refusing some clients$/u,
    /^All 4,000 connections are in use, since \d\d:\d\d UTC\. RELAY_MAX_CONNECTIONS sets the limit\.$/u,
  ],
  quota: ['quota', /^Quota used up until (?:1 [A-Z][a-z]+|00:00 UTC)$/u, /RELAY_QUOTA/u],
  draining: ['drain', /^Draining before it stops$/u, /can finish/u],
  down: ['bad', /^The relay is down$/u, /\(ECONNREFUSED\)\. Down since \d\d:\d\d UTC\.$/u],
  warnings: ['good', /^Serving clients$/u, /^No client was refused/u],
  expired: ['warn', /^Serving, but a certificate has expired$/u, /of tcp 443\. It expired: \d+ [A-Z]/u],
  older: ['unknown', /^The relay is up$/u, /does not report/u],
};

/** Runs in the page: texts that their card or the page cuts off, or that leave it. */
const CLIPPED_TEXTS = `(() => {
  const clipped = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.data.trim() === '' || element.closest('.visually-hidden, .scroller, .u-wrap, noscript, script, style') !== null) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const text of range.getClientRects()) {
      if (text.width === 0) continue;
      for (let around = element; around !== null; around = around.parentElement) {
        const style = getComputedStyle(around);
        const cuts = around === document.body || around.classList.contains('card') || style.overflowX !== 'visible';
        if (!cuts) continue;
        const box = around.getBoundingClientRect();
        const isInside = text.left >= box.left - 1 && text.right <= box.right + 1 && text.top >= box.top - 1 && text.bottom <= box.bottom + 1;
        if (!isInside) clipped.push(node.data.trim() + ' in ' + around.tagName + '.' + around.className);
      }
    }
  }
  return clipped;
})()`;

/** Runs in the page: charts are as wide as their containers. */
const CHARTS_FIT = `[...document.querySelectorAll('canvas')].every((canvas) => {
  const plot = canvas.closest('[role=img]');
  return plot === null || Math.abs(canvas.clientWidth - plot.clientWidth) < 1;
})`;

/** Rules of WCAG 2.2 on levels A and AA that the page violates, each with the elements. */
async function accessibilityProblems(browser: BrowserPage): Promise<string[]> {
  await browser.page.evaluate(AXE);
  const { violations } = await browser.ask<AxeResults>(
    `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })`,
  );
  return violations.map(
    ({ id, nodes }) =>
      `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`,
  );
}

/** A sidecar's page whose relay is in the state that the example says. */
async function openExample(
  context: TestContext,
  url: string,
  example: DashboardExample,
  colorScheme: 'light' | 'dark',
): Promise<BrowserPage> {
  const browser = await BrowserPage.open(context, url, { colorScheme }, (page) =>
    routeExample(page, example),
  );
  await browser.until(`document.querySelector('#status').dataset.tone !== 'loading'`);
  await browser.untilText('#usage-as-of', /^as of/u);
  return browser;
}

describe('the dashboard fits, is legible and says the state', { skip: NO_BROWSER }, () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`in its ${colorScheme} scheme`, async (context) => {
      const examples = dashboardExamples(Date.now());
      const withRecords = await startSidecar(context, generateYearOfRecords(1, 3000));
      const withoutRecords = await startSidecar(context, []);
      const colours = new Map<string, string>();
      for (const name of EXAMPLE_NAMES) {
        await context.test(name, async (inner) => {
          const example = examples[name];
          const { url } = name === 'empty' ? withoutRecords : withRecords;
          const browser = await openExample(inner, url, example, colorScheme);
          const [tone, title, detail] = HEADLINES[name];
          assert.equal(await browser.ask(`document.querySelector('#status').dataset.tone`), tone);
          assert.match(await browser.text('#headline'), title);
          assert.match(await browser.text('#headline-detail'), detail);
          colours.set(tone, await browser.ask(`getComputedStyle(document.querySelector('#headline')).color`));
          for (const width of WIDTHS) {
            await browser.page.setViewportSize({ width, height: 900 });
            await browser.until(CHARTS_FIT);
            assert.ok(
              (await browser.ask<number>('document.documentElement.scrollWidth')) <= width,
              `scrolls at ${width}`,
            );
            assert.deepEqual(await browser.ask(CLIPPED_TEXTS), [], `at ${width}`);
            if (width < 1920) assert.deepEqual(await accessibilityProblems(browser), [], `at ${width}`);
            if (SCREENSHOTS !== undefined) {
              mkdirSync(SCREENSHOTS, { recursive: true });
              const path = join(SCREENSHOTS, `${name}-${width}-${colorScheme}.png`);
              await browser.page.screenshot({ path, fullPage: true });
            }
          }
          assert.deepEqual(browser.errors, []);
        });
      }
      assert.equal(new Set(colours.values()).size, colours.size, 'each state has its own colour');
    });
  }
});

describe('the chart of the rate', { skip: NO_BROWSER }, () => {
  test('has the last hour when the page opens, and after a pause', async (context) => {
    const { url } = await startSidecar(context, []);
    const { serving } = dashboardExamples(Date.now());
    let pauseMs = 0;
    const browser = await BrowserPage.open(context, url, {}, async (page) => {
      await routeExample(page, serving);
      await page.route('**/live.json', (route) => {
        const now = new Date(Date.parse(serving.live.now) + pauseMs).toISOString();
        return route.fulfill({ json: { ...serving.live, now } });
      });
    });
    const historyRequests = (): number =>
      browser.requests.filter((path) => path === '/live-history.json').length;
    await browser.untilText('#rate-note', /^Peak of the last hour: 2\.58.MB\/s at \d\d:\d\d UTC$/u);
    assert.equal(historyRequests(), 1);
    pauseMs = 3000;
    await browser.untilText('#clock', formatClock(Date.parse(serving.live.now) + pauseMs));
    assert.equal(historyRequests(), 1);
    pauseMs = 60_000;
    await browser.untilText('#clock', formatClock(Date.parse(serving.live.now) + pauseMs));
    assert.equal(historyRequests(), 2);
    assert.deepEqual(browser.errors, []);
  });

  test('says which rate is under the pointer', async (context) => {
    const { url } = await startSidecar(context, []);
    const browser = await openExample(context, url, dashboardExamples(Date.now()).serving, 'light');
    await browser.page.locator('#rate-plot .u-over').hover();
    await browser.untilText('#rate-note', /^[\d.]+.[kM]B\/s at \d\d:\d\d UTC$/u);
    await browser.page.locator('h1').hover();
    await browser.untilText('#rate-note', /^Peak/u);
  });
});

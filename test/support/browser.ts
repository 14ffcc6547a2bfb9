import { chromium } from 'playwright-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { after } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONDITION_TIMEOUT_MS, findProgram } from './programs.ts';

const CHROMIUM = findProgram('chromium');

/** Reason to skip tests that need a browser; false if there is one. */
export const NO_BROWSER: string | false =
  CHROMIUM === null ? 'needs Chromium: apt-get install chromium' : false;

const POLL_MS = 50;

/**
 * Chromium aborts all requests when a network interface appears or disappears, as Docker's do with each
 * container. The page recovers by itself, so this is not an error.
 */
const NETWORK_CHANGED = 'ERR_NETWORK_CHANGED';

/** Consequence of such an abort while the page loads. */
const NOT_IMPORTED = /dynamically imported module/u;

const CONTEXT_DESTROYED = 'Execution context was destroyed';

/** Runs in the page first: reports violations of the policy to the test. */
const REPORT_VIOLATIONS = `document.addEventListener('securitypolicyviolation', (event) =>
  console.error('policy violated: ' + event.violatedDirective + ' ' + event.blockedURI));`;

let launched: Promise<Browser> | null = null;

/** The browser of all tests of a file. It is started for the first page. */
function sharedBrowser(): Promise<Browser> {
  launched ??= chromium.launch({ executablePath: CHROMIUM ?? '', args: ['--no-sandbox'] });
  return launched;
}

after(async () => {
  const browser = await launched;
  await browser?.close();
});

/** A page in a real Chromium, and every error in it. Pages share no cookies, storage or cache. */
export class BrowserPage implements AsyncDisposable {
  readonly page: Page;
  /**
   * Console errors and warnings, exceptions, violations of the content security policy, requests to other
   * hosts.
   */
  readonly errors: string[] = [];
  /** Requested paths with their query, in order. */
  readonly requests: string[] = [];
  readonly #context: BrowserContext;
  #networkChanged = false;

  private constructor(context: BrowserContext, page: Page, origin: string) {
    this.#context = context;
    this.page = page;
    page.setDefaultTimeout(CONDITION_TIMEOUT_MS);
    page.on('console', (message) => {
      if (['error', 'warning', 'assert'].includes(message.type())) this.#note(message.text());
    });
    page.on('pageerror', (error) => this.#note(error.message));
    page.on('request', (request) => {
      const url = request.url();
      if (url.startsWith(`${origin}/`)) this.requests.push(url.slice(origin.length));
      else if (!url.startsWith('data:')) this.errors.push(`request to ${url}`);
    });
  }

  /**
   * Opens `url`. The page is closed with the test. Requires `NO_BROWSER` to be false.
   *
   * @param prepare called before the page is loaded
   */
  static async open(
    context: TestContext,
    url: string,
    options: BrowserContextOptions = {},
    prepare: (page: Page) => Promise<void> = () => Promise.resolve(),
  ): Promise<BrowserPage> {
    const browser = await sharedBrowser();
    const isolated = await browser.newContext(options);
    context.after(() => isolated.close());
    const page = await isolated.newPage();
    const opened = new BrowserPage(isolated, page, new URL(url).origin);
    await page.addInitScript(REPORT_VIOLATIONS);
    await prepare(page);
    await opened.#goto(url);
    return opened;
  }

  async #goto(url: string): Promise<void> {
    for (;;) {
      try {
        await this.page.goto(url);
        return;
      } catch (error) {
        if (!(error instanceof Error && error.message.includes(NETWORK_CHANGED))) throw error;
      }
    }
  }

  #note(message: string): void {
    this.#networkChanged ||= message.includes(NETWORK_CHANGED);
    const isFromNetworkChange =
      message.includes(NETWORK_CHANGED) || (this.#networkChanged && NOT_IMPORTED.test(message));
    if (!isFromNetworkChange) this.errors.push(message);
  }

  /** Evaluates an expression in the page. */
  ask<T>(expression: string): Promise<T> {
    return this.page.evaluate<T>(expression);
  }

  /** Polls until an expression in the page is true. The policy forbids the page itself to evaluate code. */
  async until(expression: string): Promise<void> {
    const deadline = performance.now() + CONDITION_TIMEOUT_MS;
    while (!(await this.#holds(expression))) {
      if (performance.now() > deadline) {
        const log = [...this.errors, ...this.requests].join('\n');
        throw new Error(`not within ${CONDITION_TIMEOUT_MS} ms: ${expression}\n${log}`);
      }
      await sleep(POLL_MS);
    }
  }

  async #holds(expression: string): Promise<boolean> {
    try {
      return await this.ask<boolean>(`Boolean(${expression})`);
    } catch (error) {
      // A page that did not load completely reloads.
      if (error instanceof Error && error.message.includes(CONTEXT_DESTROYED)) return false;
      throw error;
    }
  }

  /** Waits until the text of the element equals or matches `text`. */
  async untilText(selector: string, text: string | RegExp): Promise<void> {
    await this.page.locator(selector).filter({ hasText: text }).waitFor();
  }

  /** The text of the element, with ordinary spaces. */
  async text(selector: string): Promise<string> {
    return (await this.page.locator(selector).innerText()).replaceAll('\u00a0', ' ');
  }

  /** The exact number behind the text of the element. */
  async value(selector: string): Promise<number> {
    return Number(await this.page.locator(`${selector} data`).getAttribute('value'));
  }

  /** The cells of a table body: exact numbers if present, otherwise texts. */
  table(selector: string): Promise<string[][]> {
    return this.ask<string[][]>(
      `[...document.querySelectorAll('${selector} tbody tr')].map((row) =>
        [...row.children].map((cell) => cell.querySelector('data')?.value ?? cell.textContent))`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#context.close();
  }
}

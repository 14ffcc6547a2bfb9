import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { BrowserPage, NO_BROWSER } from '../../support/browser.ts';
import { TestRelay } from '../../support/test-relay.ts';
import { listening } from '../../support/listening.ts';
import { until } from '../../support/scratch.ts';

/** Runs in a page: echoes everything after the first message, which it stores. */
const clientOf = (port: number, line: string): string => `(() => {
  const socket = new WebSocket('ws://127.0.0.1:${port}/');
  socket.binaryType = 'arraybuffer';
  globalThis.receivedMessages = 0;
  socket.onopen = () => socket.send(new TextEncoder().encode(${JSON.stringify(line)}));
  socket.onmessage = ({ data }) => {
    if (globalThis.receivedMessages++ === 0) globalThis.first = new TextDecoder().decode(data);
    else socket.send(data);
  };
  socket.onclose = ({ code }) => { globalThis.code = code; };
})()`;

test(
  'a browser gets a page on the shared port, and its WebSocket is paired with a raw client there',
  { skip: NO_BROWSER },
  async (context) => {
    const relay = await TestRelay.open();
    context.after(() => relay.close());
    const browser = await BrowserPage.open(context, `http://127.0.0.1:${relay.tcpPort}/`);
    await browser.untilText('h1', 'Magic-Wormhole transit relay');
    await browser.untilText('pre', 'wormhole --transit-helper=tcp:');
    assert.deepEqual(await browser.ask('document.documentElement.scrollWidth <= innerWidth'), true);
    // Browsers request the icon by themselves.
    assert.deepEqual(
      browser.requests.filter((path) => path !== '/favicon.ico'),
      ['/'],
    );
    assert.deepEqual(relay.summaries, []);

    // The policy of the relay's page forbids connections, so the client runs in another page.
    const server = createServer((_request, response) => response.end(''));
    const pagePort = await listening(context, server);
    const empty = await BrowserPage.open(context, `http://127.0.0.1:${pagePort}/`);
    const token = newToken();
    const raw = await relay.connect('tcp');
    await raw.send(handshake(token, SIDE_A));
    await until(() => relay.sessions.liveCounts().waiting === 1);
    await empty.ask(clientOf(relay.tcpPort, handshake(token, SIDE_B)));
    assert.equal((await raw.until(3)).toString(), 'ok\n');
    const payload = randomBytesOf(4, 500_000);
    await raw.sendAll(payload, 40_000);
    assert.ok((await raw.until(payload.length + 3)).subarray(3).equals(payload));
    assert.equal(await empty.ask('globalThis.first'), 'ok\n');
    raw.end();
    await empty.until('globalThis.code === 1000');
    const [summary] = await relay.waitForRecords(1);
    assert.deepEqual([summary?.mood, summary?.totalBytes], ['happy', 2 * payload.length]);
  },
);

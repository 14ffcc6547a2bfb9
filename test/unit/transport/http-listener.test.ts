import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpListener } from '../../../src/transport/http-listener.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { listening } from '../../support/listening.ts';
import { until } from '../../support/scratch.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

const LIMITS = { maxPending: 8, maxAnswering: 4, keepAliveMs: 500, stallTimeoutMs: 10_000 };

class Client {
  readonly socket: Socket;
  received = '';
  isEnded = false;
  isClosed = false;

  constructor(context: TestContext, port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    context.after(() => this.socket.destroy());
    this.socket.on('data', (bytes) => (this.received += bytes.toString('latin1')));
    this.socket.on('end', () => (this.isEnded = true));
    this.socket.on('close', () => (this.isClosed = true));
    this.socket.on('error', () => undefined);
  }

  get answers(): number {
    return this.received.split('HTTP/1.1 ').length - 1;
  }
}

async function open(context: TestContext, onRequest: RequestListener, limits = LIMITS): Promise<number> {
  return listening(context, new HttpListener(onRequest, limits));
}

describe('an HTTP listener', () => {
  test('answers consecutive requests on a connection, and closes it when no more follow', async (context) => {
    let count = 0;
    const port = await open(context, (_request, response) => response.end(`answer ${(count += 1)}`));
    const client = new Client(context, port);
    for (let requests = 1; requests <= 3; requests += 1) {
      // The second request arrives in two parts.
      client.socket.write(GET.slice(0, 10));
      if (requests === 2) await sleep(20);
      client.socket.write(GET.slice(10));
      await until(() => client.received.endsWith(`answer ${requests}`));
    }
    assert.match(client.received, /^Connection: keep-alive\r$/mu);
    await until(() => client.isEnded || client.isClosed);
    assert.equal(count, 3);
  });

  test('parses one of many pipelined requests, sends the complete response, and closes', async (context) => {
    let count = 0;
    const body = randomBytesOf(1, 300_000).toString('latin1');
    const sockets: Socket[] = [];
    const listener = new HttpListener((_request, response) => {
      count += 1;
      // The response is sent when bytes of another request have arrived.
      void until(() => (sockets.at(-1)?.bytesRead ?? 0) > GET.length).then(() =>
        response.end(body, 'latin1'),
      );
    }, LIMITS);
    listener.on('connection', (socket) => sockets.push(socket));
    const port = await listening(context, listener);
    const client = new Client(context, port);
    client.socket.write(GET.repeat(20_000));
    await until(() => client.isEnded || client.isClosed);
    assert.equal(count, 1);
    assert.ok(client.received.endsWith(body));
    // The same for a client that sends more requests while it waits for the response.
    const other = new Client(context, port);
    other.socket.write(GET);
    await until(() => count === 2);
    other.socket.write(GET.repeat(100));
    await until(() => other.isEnded || other.isClosed);
    assert.equal(count, 2);
    assert.ok(other.received.endsWith(body));
  });

  test('discards the body of a request, and closes the connection', async (context) => {
    let bodyBytes = 0;
    const port = await open(context, (request, response) => {
      request.on('data', (bytes: Buffer) => (bodyBytes += bytes.length));
      response.end('answer');
    });
    for (const head of ['Content-Length: 5000\r\n\r\n', 'Transfer-Encoding: chunked\r\n\r\n5000\r\n']) {
      const client = new Client(context, port);
      client.socket.write(`POST / HTTP/1.1\r\nHost: x\r\n${head}${GET.repeat(100)}`);
      await until(() => client.isEnded || client.isClosed);
      assert.match(client.received, /^Connection: close\r$/mu);
      assert.equal(client.answers, 1);
    }
    assert.equal(bodyBytes, 0);
    const empty = new Client(context, port);
    empty.socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await until(() => empty.answers === 1);
    empty.socket.write(GET);
    await until(() => empty.answers === 2);
  });

  test('rejects invalid, too large and slow requests, and closes the connection', async (context) => {
    const port = await open(context, (_request, response) => response.end('answer'));
    for (const [bytes, status] of [
      ['nonsense\r\n\r\n', 400],
      [`GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`, 431],
      ['GET / HTTP/1.1\r\n', 408],
    ] as const) {
      const startedAt = performance.now();
      const client = new Client(context, port);
      client.socket.write(bytes);
      const drip = setInterval(() => client.socket.write('X'), 100);
      await until(() => client.isEnded || client.isClosed);
      clearInterval(drip);
      assert.match(client.received, new RegExp(`^HTTP/1\\.1 ${status} `, 'u'));
      const seconds = (performance.now() - startedAt) / 1000;
      // The other responses come at once, because later it would be 408.
      if (status === 408) assert.ok(seconds > 1.8, `${seconds} s`);
    }
  });

  test('gives the second request of a connection the same timeout', async (context) => {
    const port = await open(context, (_request, response) => response.end('answer'));
    const client = new Client(context, port);
    client.socket.write(GET);
    await until(() => client.answers === 1);
    const startedAt = performance.now();
    client.socket.write('GET / HTTP/1.1\r\n');
    await until(() => client.isEnded || client.isClosed);
    assert.match(client.received, /HTTP\/1\.1 408 /u);
    assert.ok(performance.now() - startedAt > 1800);
  });

  test('aborts a response when its client disconnects, and notifies the route', async (context) => {
    let isClosed = false;
    const port = await open(context, (_request, response) => {
      response.write('begun');
      response.on('close', () => (isClosed = true));
    });
    const client = new Client(context, port);
    client.socket.write(GET);
    await until(() => client.received.includes('begun'));
    client.socket.destroy();
    await until(() => isClosed);
  });

  test('does not make an aborted response look complete', async (context) => {
    const port = await open(context, (_request, response) => {
      response.write('begun');
      setTimeout(() => response.destroy(), 20);
    });
    const client = new Client(context, port);
    client.socket.write(GET);
    await until(() => client.isEnded || client.isClosed);
    assert.doesNotMatch(client.received, /\r\n0\r\n/u);
  });

  test('delivers a large response to a slow reader', async (context) => {
    const body = randomBytesOf(2, 8_000_000);
    const port = await open(context, (_request, response) => {
      for (let at = 0; at < body.length; at += 65_536) response.write(body.subarray(at, at + 65_536));
      response.end();
    });
    const agent = new Agent({ keepAlive: true });
    context.after(() => agent.destroy());
    const request = get({ port, host: '127.0.0.1', agent });
    const [response] = await once(request, 'response');
    const buffers: Buffer[] = [];
    for await (const buffer of response) {
      buffers.push(buffer);
      if (buffers.length % 20 === 0) await sleep(5);
    }
    assert.ok(Buffer.concat(buffers).equals(body));
  });

  test('limits slow responses separately from new connections, which are always accepted', async (context) => {
    const port = await open(context, (request, response) => {
      if (request.url === '/now') response.end('now');
    });
    const busy = Array.from({ length: 4 }, () => new Client(context, port));
    for (const client of busy) client.socket.write(GET);
    const silent = Array.from({ length: 40 }, () => new Client(context, port));
    await until(() => silent.filter((client) => client.isClosed || client.isEnded).length >= 32);
    assert.ok(busy.every((client) => !client.isClosed && !client.isEnded));
    const client = new Client(context, port);
    client.socket.write('GET /now HTTP/1.1\r\nHost: x\r\n\r\n');
    await until(() => client.received.endsWith('now'));
  });
});

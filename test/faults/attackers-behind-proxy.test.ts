import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROBE_TIMEOUT_MS } from '../../src/status/health-probes.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { freePorts } from '../support/listening.ts';
import { patience } from '../support/patience.ts';
import { Program, findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch, until } from '../support/scratch.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import { ProcessorClock } from './support/processor-clock.ts';

const HAPROXY = findProgram('haproxy');
const skip = HAPROXY === null ? 'needs HAProxy: apt-get install haproxy' : false;

const MAX_CONNECTIONS = 50;

/** Concurrent attackers, several times as many as the limit allows. */
const ATTACKERS = 400;

const CHECKS = 12;

/** What the check of a transfer reports while clients are rejected. */
const REJECTED = /^clients are rejected: connection limit reached/u;

/** Two ports as in docs/tls.md: TCP with the PROXY protocol, and HTTP with `X-Forwarded-For`. */
async function startHaproxy(
  context: TestContext,
  relay: RelayProcess,
): Promise<{ haproxy: Program; raw: number; http: number }> {
  const [raw = 0, http = 0] = await freePorts(2);
  const path = join(await scratch(context), 'haproxy.cfg');
  const config = `
global
  maxconn 2000
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen raw
  mode tcp
  bind 127.0.0.1:${raw}
  server relay 127.0.0.1:${relay.port('raw')} send-proxy-v2
listen http
  mode http
  option forwardfor
  bind 127.0.0.1:${http}
  server relay 127.0.0.1:${relay.port('websocket')}
`;
  await writeFile(path, config);
  const haproxy = new Program([HAPROXY ?? '', '-db', '-f', path]);
  for (;;) {
    const socket = connect(http, '127.0.0.1');
    const [error] = await Promise.race([once(socket, 'error'), once(socket, 'connect')]);
    socket.destroy();
    if (!(error instanceof Error)) return { haproxy, raw, http };
    await sleep(20);
  }
}

/**
 * Attackers that connect to these ports and reconnect when they are closed. Half of them send nothing, the
 * others an incomplete line or request.
 */
class Attackers implements Disposable {
  readonly #sockets = new Set<Socket>();
  #isOver = false;
  connections = 0;

  constructor(count: number, ports: readonly number[]) {
    for (let index = 0; index < count; index += 1) this.#connect(index, ports);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  #connect(index: number, ports: readonly number[]): void {
    if (this.#isOver) return;
    const port = ports[index % ports.length] ?? 0;
    const socket = connect(port, '127.0.0.1');
    this.#sockets.add(socket);
    this.connections += 1;
    if (index % 4 === 0) socket.write('please relay ');
    if (index % 4 === 1) socket.write('GET / HTTP/1.1\r\nHost: x\r\n');
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      setTimeout(() => this.#connect(index, ports), 20);
    });
    socket.resume();
  }
}

interface Health {
  readonly ok: unknown;
  readonly problem: unknown;
  readonly transfers: readonly { readonly ok: unknown }[];
}

async function health(relay: RelayProcess, check: string): Promise<Health> {
  const response = await fetch(`http://127.0.0.1:${relay.port('status')}/health/${check}`);
  const report: unknown = await response.json();
  return Object.assign({ ok: null, problem: null, transfers: [] }, report);
}

/** Connects a client that waits for a partner. */
async function connectWaiting(context: TestContext, port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  context.after(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(handshake(newToken(), SIDE_A));
  await once(socket, 'connect');
}

describe('attackers behind a proxy on the same host', { skip }, () => {
  test('that reach the connection limit keep no health check from a listener', async (context) => {
    const any = 'tcp:0:interface=127.0.0.1';
    await using relay = await RelayProcess.start({
      ...patience(PROBE_TIMEOUT_MS),
      RELAY_LISTEN: any,
      RELAY_WEBSOCKET_LISTEN: any,
      RELAY_TRUSTED_PROXIES: '127.0.0.1',
      RELAY_MAX_CONNECTIONS: String(MAX_CONNECTIONS),
    });
    const { haproxy, raw, http } = await startHaproxy(context, relay);
    await using _ = haproxy;
    await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
    const idle = await bystander.measure(1000);
    for (let count = 0; count < MAX_CONNECTIONS; count += 1) await connectWaiting(context, raw);
    const clock = new ProcessorClock(relay.pid);
    const failed: unknown[] = [];
    let longestMs = 0;
    let connections = 0;
    const during = await bystander.measureWhile(async () => {
      using attackers = new Attackers(ATTACKERS, [raw, http]);
      // The others have been rejected.
      await until(() => attackers.connections > 2 * ATTACKERS);
      for (let count = 0; count < CHECKS; count += 1) {
        for (const check of ['relay', 'transfer']) {
          const startedAt = clock.now();
          const { ok, problem, transfers } = await health(relay, check);
          longestMs = Math.max(longestMs, clock.elapsedMs(startedAt));
          // The transfers of the check succeed, but clients are rejected.
          const isRejected =
            REJECTED.test(String(problem)) && transfers.every((transfer) => transfer.ok === true);
          if (check === 'relay' ? ok !== true : !isRejected) failed.push({ problem, transfers });
        }
        // A result is cached for a while.
        await sleep(510);
      }
      ({ connections } = attackers);
    });
    const checks = `checks failed ${failed.length} of ${2 * CHECKS}, the longest took ${longestMs.toFixed(0)} ms`;
    reportAttack(context, `${connections} attackers behind HAProxy, limit reached`, idle, during, checks);
    assert.deepEqual(failed, []);
    assert.ok(longestMs < PROBE_TIMEOUT_MS, `a check took ${longestMs} ms`);
    assert.ok(during.stallMs < 1000);
    await bystander.finish();
  });
});

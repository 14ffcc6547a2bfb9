import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONDITION_TIMEOUT_MS, Program, findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';
import { SidecarProcess } from '../support/sidecar-process.ts';
import { vitalsOf } from '../support/vitals.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import { ProcessorClock } from './support/processor-clock.ts';

const SLOWHTTPTEST = findProgram('slowhttptest');
const noSlowhttptest = SLOWHTTPTEST === null ? 'needs slowhttptest: apt-get install slowhttptest' : false;

const CONNECTIONS = 200;

const REQUEST = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';

const PIPELINE = Buffer.from(REQUEST.repeat(Math.ceil(65_536 / REQUEST.length)));

/** Default timeout of a kubelet probe: one second, by a `ProcessorClock`. */
const PROBE_TIMEOUT_MS = 1000;

/** Limit for a probe whatever the load of the machine, in milliseconds. */
const ABANDON_PROBE_MS = 20_000;

/** Duration of the attack with pipelined requests, in milliseconds. All clients are connected after one second. */
const PIPELINE_MS = 3000;

const PROBE_EVERY_MS = 100;

const MIN_PROBES = 20;

/** One probe may fail because of other load on the machine. A kubelet needs three failures in a row. */
const MAX_FAILED_PROBES = 1;

/** 192 connections of the sidecar, and its other files. */
const MAX_FDS = 300;

/** Results of the liveness probe. */
interface Probes {
  readonly count: number;
  readonly failed: number;
  readonly slowestMs: number;
  /** Maximum number of file descriptors that the process had open. */
  readonly fdCount: number;
}

/** A relay and a sidecar with a token. */
async function start(context: TestContext): Promise<{ relay: RelayProcess; sidecar: SidecarProcess }> {
  const directory = await scratch(context);
  const database = join(directory, 'usage.sqlite');
  const relay = await RelayProcess.start({ RELAY_USAGE_DB: database });
  context.after(() => relay[Symbol.asyncDispose]());
  const sidecar = await SidecarProcess.start({
    SIDECAR_USAGE_DB: database,
    SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    SIDECAR_RELAY_STATUS: `http://127.0.0.1:${relay.port('status')}`,
    SIDECAR_TOKEN: 'attackers-do-not-have-it',
  });
  context.after(() => sidecar[Symbol.asyncDispose]());
  return { relay, sidecar };
}

/** Probes a URL during an attack, at least `MIN_PROBES` times. */
async function probeWhile(pid: number, url: string, attack: Attack): Promise<Probes> {
  const clock = new ProcessorClock(pid);
  const over = new AbortController();
  const enough = Promise.withResolvers<void>();
  const probes = { count: 0, failed: 0, slowestMs: 0, fdCount: 0 };
  const probing = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const startedAt = clock.now();
      let isOk = false;
      try {
        const headers = { connection: 'close' };
        const response = await fetch(url, { headers, signal: AbortSignal.timeout(ABANDON_PROBE_MS) });
        await response.text();
        isOk = response.status === 200;
      } catch {
        // Counts as failed.
      }
      const ms = clock.elapsedMs(startedAt);
      if (!isOk || ms > PROBE_TIMEOUT_MS) probes.failed += 1;
      probes.count += 1;
      if (probes.count >= MIN_PROBES) enough.resolve();
      probes.fdCount = Math.max(probes.fdCount, vitalsOf(pid).fdCount);
      probes.slowestMs = Math.max(probes.slowestMs, ms);
      await sleep(PROBE_EVERY_MS);
    }
  };
  const probed = probing();
  await attack(url, enough.promise);
  over.abort();
  await probed;
  return probes;
}

/**
 * Clients that pipeline requests and read no response. Closed ones reconnect, so that their number stays
 * constant.
 */
class Pipeliners implements Disposable {
  readonly #sockets = new Set<Socket>();
  readonly #port: number;
  #isOver = false;

  constructor(port: number) {
    this.#port = port;
    // This process also probes: opening all at once would delay the probes here, not at the server.
    for (let count = 0; count < CONNECTIONS; count += 1) setTimeout(() => this.#connect(), 5 * count);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  #connect(): void {
    if (this.#isOver) return;
    const socket = connect(this.#port, '127.0.0.1');
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      setTimeout(() => this.#connect(), 200);
    });
    socket.write(PIPELINE);
    socket.pause();
  }
}

/** @param isEnough resolves when the attack has lasted long enough */
type Attack = (url: string, isEnough: Promise<void>) => Promise<void>;

async function slowHeaders(url: string, isEnough: Promise<void>): Promise<void> {
  const over = new AbortController();
  void isEnough.then(() => over.abort());
  const args = ['-H', '-c', '1500', '-r', '500', '-i', '1', '-l', '6', '-p', '1', '-u', url];
  do {
    await using attack = new Program([SLOWHTTPTEST ?? '', ...args]);
    await attack.succeeds(CONDITION_TIMEOUT_MS);
  } while (!over.signal.aborted);
}

async function pipeline(url: string, isEnough: Promise<void>): Promise<void> {
  using _ = new Pipeliners(Number(new URL(url).port));
  await Promise.all([sleep(PIPELINE_MS), isEnough]);
}

describe('attackers at the ports for operators', () => {
  for (const { attack, what, skip } of [
    { attack: pipeline, what: `pipeline requests on ${CONNECTIONS} connections`, skip: false },
    { attack: slowHeaders, what: 'send 1,500 slow requests', skip: noSlowhttptest },
  ]) {
    for (const target of ['status port', 'sidecar'] as const) {
      test(`${what} at the ${target}, and liveness probes succeed`, { skip }, async (context) => {
        const { relay, sidecar } = await start(context);
        const url = target === 'sidecar' ? sidecar.url : `http://127.0.0.1:${relay.port('status')}`;
        const { pid } = target === 'sidecar' ? sidecar : relay;
        await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
        const idle = await bystander.measureUndisturbed();
        let probes: Probes = { count: 0, failed: 0, slowestMs: 0, fdCount: 0 };
        const during = await bystander.measureWhile(async () => {
          probes = await probeWhile(pid, `${url}/healthz`, attack);
        });
        const { count, failed, slowestMs, fdCount } = probes;
        const cell = `probes failed ${failed} of ${count}, slowest ${slowestMs.toFixed(0)} ms, fds ${fdCount}`;
        reportAttack(context, `${what} at the ${target}`, idle, during, cell);
        assert.ok(failed <= MAX_FAILED_PROBES, `${failed} of ${count} probes failed`);
        assert.ok(fdCount < MAX_FDS, `${fdCount} file descriptors`);
        assert.ok(count >= MIN_PROBES, `only ${count} probes`);
        assert.ok(during.stallMs < 2000 && during.newPairsFailed === 0);
        await bystander.finish();
      });
    }
  }
});

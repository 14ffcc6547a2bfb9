import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { freePort } from '../support/listening.ts';
import { scrape } from '../support/metrics.ts';
import { findProgram } from '../support/programs.ts';
import { scratch, until } from '../support/scratch.ts';
import { coresUsed, vitalsOf } from '../support/vitals.ts';
import { StrickenRelay, pair, range, strike, transfer, visits } from './stricken-relay.ts';
import { assertWritten } from './usage-check.ts';

/** 172 connections fit into this, and 64 that are told that there is no room. */
const OPEN_FILES = 300;
const FITTING = 172;

/** Clients that come: far more than there are descriptors. */
const CLIENTS = 600;

/** Descriptors that are left when the limit is lowered under a running relay. */
const LEFT = 20;

/** How long clients come in vain, in milliseconds. */
const RUSH_MS = 3000;

/** A process that does nothing uses no core; one that spins uses a whole one. */
const MOST_IDLE_CORES = 0.2;

const TAKEN_DOWN =
  /"level":"warn".*"configured":100000,"fits":172,"fileDescriptors":300,"msg":"RELAY_MAX_CONNECTIONS exceeds the file descriptor limit/u;
const NONE_LEFT = /"level":"warn".*"code":"EMFILE".*clients could not be accepted: no open file is left/u;
const SOME_AGAIN = /"level":"info".*there are open files again/u;

const CANNOT_LIMIT = findProgram('prlimit') === null ? 'needs prlimit: apt-get install util-linux' : false;

/** Clients that wait until they are told to leave, or are sent away. */
class Crowd {
  readonly here = new Set<Socket>();
  /** What any of them was told. */
  readonly heard = new Set<string>();

  async come(port: number, count: number): Promise<void> {
    for (let at = 0; at < count; at += 1) {
      const socket = connect(port, '127.0.0.1');
      this.here.add(socket);
      // Who is sent away sees a reset, maybe before it has said anything.
      socket.on('error', () => undefined);
      socket.on('close', () => this.here.delete(socket));
      socket.on('data', (bytes: Buffer) => this.heard.add(bytes.toString()));
      socket.write(handshake(newToken(), SIDE_A));
      await new Promise<void>((resolve) => {
        socket.once('connect', resolve).once('close', () => resolve());
      });
    }
  }

  /** Up to a thousand clients a second come for so long. */
  async rush(port: number, ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      await this.come(port, 10);
      await sleep(10);
    }
  }

  async leave(): Promise<void> {
    await Promise.all(
      [...this.here].map(async (socket) => {
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.end();
        await closed;
      }),
    );
  }
}

/** Sets how many descriptors a running process may have: those with lower numbers. It keeps what it has. */
function limitOpenFiles(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`]);
}

/** The lowest number of a socket's descriptor in a process, behind its standard streams. */
function firstSocket(pid: number): number {
  const numbers = readdirSync(`/proc/${pid}/fd`).map(Number);
  const isSocket = (fd: number): boolean => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:');
  return Math.min(...numbers.filter((fd) => fd > 2 && isSocket(fd)));
}

async function assertIdle(pid: number): Promise<void> {
  const cores = await coresUsed(pid, 2000);
  assert.ok(cores < MOST_IDLE_CORES, `the relay uses ${cores} cores while it can't accept`);
}

describe('open files', { skip: CANNOT_LIMIT }, () => {
  test('are not spent on clients, however many these may be: the relay has warned, and takes what fits', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    const statusPort = await freePort();
    await using relay = await StrickenRelay.start(
      {
        RELAY_USAGE_DB: path,
        RELAY_STATUS_LISTEN: `tcp:${statusPort}:interface=127.0.0.1`,
        RELAY_MAX_CONNECTIONS: '100000',
        RELAY_MAX_WAITING: '100000',
      },
      { prefix: ['prlimit', `--nofile=${OPEN_FILES}:${OPEN_FILES}`] },
    );
    assert.equal(relay.count(TAKEN_DOWN), 1);
    const bystanders = await strike(context, relay, 'more clients than open files', async () => {
      const early = await pair(relay.port);
      const crowd = new Crowd();
      await crowd.come(relay.port, CLIENTS);
      await until(() => crowd.here.size < FITTING);
      assert.deepEqual(crowd.heard, new Set(['busy\n']));
      assert.ok(vitalsOf(relay.pid).openFiles > FITTING);
      const figures = await scrape(`http://127.0.0.1:${statusPort}`);
      assert.equal(figures.get('transit_relay_connections_limit'), FITTING);
      assert.equal(figures.get('transit_relay_connections_open'), FITTING);
      assert.equal(figures.get('transit_relay_process_max_fds'), OPEN_FILES);
      assert.ok((figures.get('transit_relay_process_open_fds') ?? 0) > FITTING);
      assert.ok((figures.get('transit_relay_connections_rejected_total{reason="connections"}') ?? 0) > 0);
      await transfer(early, 5);
      await crowd.leave();
      await visits(relay.port, range(6, 10));
    });
    await assertWritten(path, [...range(5, 10), ...bystanders]);
    assert.equal(relay.count(NONE_LEFT), 0);
    await relay.stop();
  });

  test('that run out all the same are told of; who is there goes on, and clients are taken again when there are some', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await StrickenRelay.start({ RELAY_USAGE_DB: path });
    const limit = vitalsOf(relay.pid).openFiles * 100;
    const bystanders = await strike(context, relay, 'open files exhausted', async () => {
      const early = await pair(relay.port);
      limitOpenFiles(relay.pid, vitalsOf(relay.pid).openFiles + LEFT);
      const crowd = new Crowd();
      await crowd.rush(relay.port, RUSH_MS);
      await relay.says(NONE_LEFT);
      // Few got in: as many as there was room for.
      await until(() => crowd.here.size < 2 * LEFT);
      assert.deepEqual(crowd.heard, new Set(['busy\n']));
      // It stays, as its end would be room for others.
      early[0].write('!');
      await once(early[1], 'data');
      assert.equal(relay.count(SOME_AGAIN), 0);
      limitOpenFiles(relay.pid, limit);
      await relay.says(SOME_AGAIN);
      await transfer(early, 4);
      await visits(relay.port, range(6, 10));
      await crowd.leave();
    });
    await assertWritten(path, [...range(5, 10), ...bystanders]);
    assert.equal(relay.count(SOME_AGAIN), 1);
    await relay.stop();
  });

  test('that are waited for in vain cost the relay no time', async () => {
    await using relay = await StrickenRelay.start({});
    const limit = vitalsOf(relay.pid).openFiles;
    limitOpenFiles(relay.pid, limit + LEFT);
    const crowd = new Crowd();
    await crowd.rush(relay.port, RUSH_MS);
    await assertIdle(relay.pid);
    await crowd.leave();
    await relay.says(SOME_AGAIN);
    await visits(relay.port, range(1, 5));
    await relay.stop();
  });

  test('cost no time either where libuv has lost the one that it keeps for this', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await StrickenRelay.start({ RELAY_USAGE_DB: path });
    const limit = vitalsOf(relay.pid).openFiles * 100;
    const { openFiles } = vitalsOf(relay.pid);
    const listener = firstSocket(relay.pid);
    const crowd = new Crowd();
    // It closes its spare for the first of them, accepts nobody all the same, and can't open it again.
    limitOpenFiles(relay.pid, Math.floor(listener / 2));
    await crowd.come(relay.port, 10);
    await until(() => vitalsOf(relay.pid).openFiles < openFiles);
    // Now there is one, for one client; the others would be left where they are, and the relay would spin.
    limitOpenFiles(relay.pid, listener);
    await until(() => crowd.here.size <= 1);
    await crowd.rush(relay.port, RUSH_MS);
    await until(() => crowd.here.size <= 1);
    await assertIdle(relay.pid);
    await relay.says(NONE_LEFT);
    limitOpenFiles(relay.pid, limit);
    await relay.says(SOME_AGAIN);
    await crowd.leave();
    await visits(relay.port, range(1, 5));
    await relay.stop();
  });
});

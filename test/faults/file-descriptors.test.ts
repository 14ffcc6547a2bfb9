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
import { scrape } from '../support/metrics.ts';
import { findProgram } from '../support/programs.ts';
import { scratch, until } from '../support/scratch.ts';
import { coresUsed, vitalsOf } from '../support/vitals.ts';
import {
  ANY_LOOPBACK_PORT,
  RelayUnderTest,
  injectFault,
  pair,
  range,
  transfer,
  relayPairs,
} from './relay-under-test.ts';
import { assertWritten } from './usage-check.ts';

/** Room for 172 connections and 64 reject slots. */
const MAX_FDS = 300;
const FITTING = 172;

/** Connecting clients: far more than there are file descriptors. */
const CLIENTS = 600;

/** File descriptors that are left when the limit is lowered while the relay runs. */
const SPARE_FDS = 20;

/** Time for which clients try to connect without success, in milliseconds. */
const RUSH_MS = 1500;

/** Several times as many clients as `SPARE_FDS`. */
const MIN_RUSH = 100;

/** An idle process uses no CPU; one that spins uses a whole core. */
const MAX_IDLE_CORES = 0.2;

const LIMIT_REDUCED =
  /"level":"warn".*"configured":100000,"fits":172,"file_descriptors":300,"msg":"RELAY_MAX_CONNECTIONS exceeds the file descriptor limit/u;
const FDS_EXHAUSTED = /"level":"warn".*"code":"EMFILE".*accepting clients failed: no file descriptors left/u;
const FDS_AVAILABLE = /"level":"info".*file descriptors available again/u;

const CANNOT_LIMIT = findProgram('prlimit') === null ? 'needs prlimit: apt-get install util-linux' : false;

/** Clients that wait until `leave` or until they are rejected. */
class ClientFlood {
  readonly connected = new Set<Socket>();
  /** The replies of all clients. */
  readonly replies = new Set<string>();

  async addClients(port: number, count: number): Promise<void> {
    for (let at = 0; at < count; at += 1) {
      const socket = connect(port, '127.0.0.1');
      this.connected.add(socket);
      // A rejected client sees a reset, possibly before it has sent anything.
      socket.on('error', () => undefined);
      socket.on('close', () => this.connected.delete(socket));
      socket.on('data', (bytes: Buffer) => this.replies.add(bytes.toString()));
      socket.write(handshake(newToken(), SIDE_A));
      await new Promise<void>((resolve) => {
        socket.once('connect', resolve).once('close', () => resolve());
      });
    }
  }

  /** Up to a thousand clients per second connect for `RUSH_MS`, or longer on a busy machine: until there are enough. */
  async rush(port: number): Promise<void> {
    const end = performance.now() + RUSH_MS;
    for (let count = 0; count < MIN_RUSH || performance.now() < end; count += 10) {
      await this.addClients(port, 10);
      await sleep(10);
    }
  }

  async leave(): Promise<void> {
    await Promise.all(
      [...this.connected].map(async (socket) => {
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.end();
        await closed;
      }),
    );
  }
}

/** Sets the file descriptor limit of a running process. It keeps the descriptors that it has. */
function limitFds(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`]);
}

/** The lowest descriptor number of a socket in a process, after its standard streams. */
function firstSocket(pid: number): number {
  const numbers = readdirSync(`/proc/${pid}/fd`).map(Number);
  const isSocket = (fd: number): boolean => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:');
    } catch {
      // The relay has closed it meanwhile.
      return false;
    }
  };
  return Math.min(...numbers.filter((fd) => fd > 2 && isSocket(fd)));
}

async function assertIdle(pid: number): Promise<void> {
  const cores = await coresUsed(pid, 2000);
  assert.ok(cores < MAX_IDLE_CORES, `the relay uses ${cores} cores while it cannot accept`);
}

describe('file descriptors', { concurrency: 2, skip: CANNOT_LIMIT }, () => {
  test('are never exhausted by clients: the relay warns at the start, and accepts as many clients as fit', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayUnderTest.start(
      {
        RELAY_USAGE_DB: path,
        RELAY_STATUS_LISTEN: ANY_LOOPBACK_PORT,
        RELAY_MAX_CONNECTIONS: '100000',
        RELAY_MAX_WAITING: '100000',
      },
      { prefix: ['prlimit', `--nofile=${MAX_FDS}:${MAX_FDS}`] },
    );
    assert.equal(relay.count(LIMIT_REDUCED), 1);
    const bystanders = await injectFault(context, relay, 'more clients than file descriptors', async () => {
      const early = await pair(relay.port);
      const flood = new ClientFlood();
      await flood.addClients(relay.port, CLIENTS);
      await until(() => flood.connected.size < FITTING);
      assert.deepEqual(flood.replies, new Set(['busy\n']));
      assert.ok(vitalsOf(relay.pid).fdCount > FITTING);
      const figures = await scrape(await relay.statusUrl());
      assert.equal(figures.get('transit_relay_connections_limit'), FITTING);
      assert.equal(figures.get('transit_relay_connections_open'), FITTING);
      assert.equal(figures.get('process_max_fds'), MAX_FDS);
      assert.ok((figures.get('process_open_fds') ?? 0) > FITTING);
      assert.ok((figures.get('transit_relay_connections_rejected_total{reason="connections"}') ?? 0) > 0);
      await transfer(early, 5);
      await flood.leave();
      await relayPairs(relay.port, range(6, 10));
    });
    await assertWritten(path, [...range(5, 10), ...bystanders]);
    assert.equal(relay.count(FDS_EXHAUSTED), 0);
    await relay.stop();
  });

  test('that are exhausted are reported; existing clients continue, and accepting resumes when descriptors are available again', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayUnderTest.start({
      RELAY_USAGE_DB: path,
      RELAY_STATUS_LISTEN: ANY_LOOPBACK_PORT,
    });
    const exhausted = async (): Promise<number | undefined> =>
      (await scrape(await relay.statusUrl())).get('transit_relay_file_descriptors_exhausted');
    const limit = vitalsOf(relay.pid).fdCount * 100;
    const bystanders = await injectFault(context, relay, 'file descriptors exhausted', async () => {
      const early = await pair(relay.port);
      limitFds(relay.pid, vitalsOf(relay.pid).fdCount + SPARE_FDS);
      const flood = new ClientFlood();
      await flood.rush(relay.port);
      await relay.waitForLog(FDS_EXHAUSTED);
      // Only as many clients as fit were accepted.
      await until(() => flood.connected.size < 2 * SPARE_FDS);
      assert.deepEqual(flood.replies, new Set(['busy\n']));
      // This pair stays open, because its end would free a descriptor.
      early[0].write('!');
      await once(early[1], 'data');
      assert.equal(relay.count(FDS_AVAILABLE), 0);
      assert.equal(await exhausted(), 1);
      limitFds(relay.pid, limit);
      await relay.waitForLog(FDS_AVAILABLE);
      assert.equal(await exhausted(), 0);
      await transfer(early, 4);
      await relayPairs(relay.port, range(6, 10));
      await flood.leave();
    });
    await assertWritten(path, [...range(5, 10), ...bystanders]);
    assert.equal(relay.count(FDS_AVAILABLE), 1);
    await relay.stop();
  });

  test('that are exhausted do not make the relay spin', async () => {
    await using relay = await RelayUnderTest.start({});
    const limit = vitalsOf(relay.pid).fdCount;
    limitFds(relay.pid, limit + SPARE_FDS);
    const flood = new ClientFlood();
    await flood.rush(relay.port);
    await assertIdle(relay.pid);
    await flood.leave();
    await relay.waitForLog(FDS_AVAILABLE);
    await relayPairs(relay.port, range(1, 5));
    await relay.stop();
  });

  test('that are exhausted do not make the relay spin if libuv has lost its reserve descriptor', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayUnderTest.start({ RELAY_USAGE_DB: path });
    const limit = vitalsOf(relay.pid).fdCount * 100;
    const { fdCount } = vitalsOf(relay.pid);
    const listener = firstSocket(relay.pid);
    const flood = new ClientFlood();
    // It closes its reserve for the first client, accepts none, and cannot open the reserve again.
    limitFds(relay.pid, Math.floor(listener / 2));
    await flood.addClients(relay.port, 10);
    await until(() => vitalsOf(relay.pid).fdCount < fdCount);
    // Now there is a descriptor for one client. The others would stay in the backlog, and the relay would
    // spin.
    limitFds(relay.pid, listener);
    await until(() => flood.connected.size <= 1);
    await flood.rush(relay.port);
    await until(() => flood.connected.size <= 1);
    await assertIdle(relay.pid);
    await relay.waitForLog(FDS_EXHAUSTED);
    limitFds(relay.pid, limit);
    await relay.waitForLog(FDS_AVAILABLE);
    await flood.leave();
    await relayPairs(relay.port, range(1, 5));
    await relay.stop();
  });
});

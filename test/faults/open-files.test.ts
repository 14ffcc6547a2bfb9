import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { findProgram } from '../support/programs.ts';
import { scratch, until } from '../support/scratch.ts';
import { coresUsed, vitalsOf } from '../support/vitals.ts';
import { StrickenRelay, pair, range, strike, transfer, visits } from './stricken-relay.ts';
import { assertWritten } from './usage-check.ts';

const OPEN_FILES = 128;

/** Clients that come: far more than there are descriptors. */
const CLIENTS = 400;

/** libuv closes what it has no descriptor for, and tells nobody: so this is said before. */
const WARNING = /there may be more connections than this process may have open files/u;

/** Clients that wait until they are told to leave, or are sent away. */
class Crowd {
  readonly here = new Set<Socket>();

  async come(port: number, count: number): Promise<void> {
    for (let at = 0; at < count; at += 1) {
      const socket = connect(port, '127.0.0.1');
      this.here.add(socket);
      // Who is sent away sees a reset, maybe before it has said anything.
      socket.on('error', () => undefined);
      socket.on('close', () => this.here.delete(socket));
      socket.resume().write(handshake(newToken(), SIDE_A));
      await new Promise<void>((resolve) => {
        socket.once('connect', resolve).once('close', () => resolve());
      });
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

test('when its descriptors are spent the relay goes on, as it has warned, and takes clients again when there is room', async (context) => {
  if (findProgram('prlimit') === null) {
    context.skip('needs prlimit: apt-get install util-linux');
    return;
  }
  const path = join(await scratch(context), 'usage.sqlite');
  await using relay = await StrickenRelay.start(
    // As if the relay did not keep so many out by itself.
    { RELAY_USAGE_DB: path, RELAY_MAX_CONNECTIONS: '100000', RELAY_MAX_WAITING: '100000' },
    { prefix: ['prlimit', `--nofile=${OPEN_FILES}:${OPEN_FILES}`] },
  );
  const bystanders = await strike(context, relay, 'open files exhausted', async () => {
    const early = await pair(relay.port);
    const crowd = new Crowd();
    await crowd.come(relay.port, CLIENTS);
    await until(() => crowd.here.size < OPEN_FILES);
    assert.ok(vitalsOf(relay.pid).openFiles >= OPEN_FILES - 2);
    await transfer(early, 5);
    await crowd.come(relay.port, 10);
    await crowd.leave();
    await until(() => vitalsOf(relay.pid).openFiles < OPEN_FILES / 2);
    await visits(relay.port, range(6, 10));
  });
  await assertWritten(path, [...range(5, 10), ...bystanders]);
  assert.equal(relay.count(WARNING), 1);
  await relay.stop();
});

test('who waits in vain for a descriptor costs the relay no time', async (context) => {
  if (findProgram('prlimit') === null) {
    context.skip('needs prlimit: apt-get install util-linux');
    return;
  }
  await using relay = await StrickenRelay.start(
    { RELAY_MAX_CONNECTIONS: '100000', RELAY_MAX_WAITING: '100000' },
    { prefix: ['prlimit', `--nofile=${OPEN_FILES}:${OPEN_FILES}`] },
  );
  const crowd = new Crowd();
  await crowd.come(relay.port, CLIENTS);
  const cores = await coresUsed(relay.pid, 2000);
  assert.ok(cores < 0.2, `the relay uses ${cores} cores while it can't accept`);
  await crowd.leave();
  await visits(relay.port, range(1, 5));
  await relay.stop();
});

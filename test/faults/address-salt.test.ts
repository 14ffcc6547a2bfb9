import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { Bystander } from './support/bystander.ts';

const HOUR_JUMP = pathToFileURL(join(import.meta.dirname, 'support', 'hour-jump.ts')).href;

const HOST = '127.8.0.1';

const LIMIT = 10;

const ANSWER_MS = 2000;

/** Less than the wait timeout. */
const HOURS = 8;

function waitFrom(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress: HOST });
  socket.on('error', () => undefined);
  socket.write(handshake(newToken(), SIDE_A));
  return socket;
}

/** The reply that a client gets, or `nothing` if it is not closed. */
async function replyTo(socket: Socket): Promise<string> {
  const answer = await Promise.race([text(socket), sleep(ANSWER_MS, 'nothing')]);
  socket.destroy();
  return answer;
}

test('the limit per address applies across eight changes of the salt', async (context) => {
  const relay = await RelayProcess.start({
    NODE_OPTIONS: `--import=${HOUR_JUMP}`,
    RELAY_MAX_CONNECTIONS_PER_ADDRESS: `${LIMIT}`,
    RELAY_USAGE_DB: '',
  });
  context.after(() => relay[Symbol.asyncDispose]());
  const port = relay.port('raw');
  await using bystander = await Bystander.start({ port, pid: relay.pid });
  const before = await bystander.measure(500);
  const held = Array.from({ length: LIMIT }, () => waitFrom(port));
  context.after(() => held.forEach((socket) => socket.destroy()));
  const closed = held.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  let isClosed = false;
  void Promise.race(closed).then(() => {
    isClosed = true;
  });
  const during = await bystander.measureWhile(async () => {
    assert.equal(await replyTo(waitFrom(port)), 'busy\n');
    for (let hour = 1; hour <= HOURS; hour += 1) {
      relay.kill('SIGUSR2');
      await relay.waitForLog(new RegExp(`^${hour} h$`, 'mu'));
      assert.equal(await replyTo(waitFrom(port)), 'busy\n', `after ${hour} hours`);
    }
  });
  assert.equal(isClosed, false);
  context.diagnostic(`longest stall ms ${before.stallMs.toFixed(0)} / ${during.stallMs.toFixed(0)}`);
  assert.ok(during.stallMs < 3000, `the pair stalled for ${during.stallMs} ms`);
  await bystander.finish();
});

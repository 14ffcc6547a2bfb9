import { equal, match } from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { newPair } from '../support/docker-clients.ts';
import { DockerHouse, LISTENING, buildImage, withoutDocker } from '../support/docker.ts';
import { rowsIn } from '../support/docker-usage.ts';

/** Far more than any drain here takes. */
const PATIENCE_SECONDS = 30;

/** States of all processes in a container, as the kernel's letters: `Z` is one that nobody has waited for. */
const PROCESS_STATES =
  "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) \\(.\\).*/\\1/' | sort | uniq | tr -d '\\n'";

describe('the container', { skip: withoutDocker, concurrency: true }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  test('stops within a second when it is idle, with exit code 0', async () => {
    await using house = new DockerHouse();
    const relay = await house.relay(image);
    // The engine would kill it after that second, and 137 would be the exit code.
    equal(await relay.stop(1), 0);
    match(await relay.logs(), /"signal":"SIGTERM","msg":"stopping"[^]*"msg":"stopped"/u);
  });

  test('lets a transfer finish when it is stopped, and says how many it waits for', async () => {
    await using house = new DockerHouse();
    const volume = await house.volume();
    const relay = await house.relay(image, '-e', 'RELAY_DRAIN_TIMEOUT=60s', '-v', `${volume}:/data`);
    const pair = await newPair(relay);
    const stopped = relay.stop(PATIENCE_SECONDS);
    await relay.says(/"pairs":1,.*"msg":"draining"/u);
    await pair.exchange(100_000);
    await pair[Symbol.asyncDispose]();
    equal(await stopped, 0);
    match(await relay.logs(), /"msg":"draining"[^]*"msg":"stopped"/u);
    equal(await rowsIn(image, volume), 'happy 200000');
  });

  test('cuts a transfer off after the drain timeout, and says how many', async () => {
    await using house = new DockerHouse();
    const relay = await house.relay(image, '-e', 'RELAY_DRAIN_TIMEOUT=1s');
    const pair = await newPair(relay);
    equal(await relay.stop(PATIENCE_SECONDS), 0);
    match(await relay.logs(), /"level":"warn".*"pairs":1,"msg":"transfers are cut off"/u);
    await Promise.all([pair.first.closed, pair.second.closed]);
  });

  test('killed in the middle of a transfer, it goes on with the same database', async () => {
    await using house = new DockerHouse();
    const volume = await house.volume();
    const relay = await house.relay(image, '-v', `${volume}:/data`);
    const done = await newPair(relay);
    await done.exchange(50_000);
    await done[Symbol.asyncDispose]();
    const cut = await newPair(relay);
    const flood = cut.first.sendAll(new Uint8Array(2 ** 30), 2 ** 20);
    await cut.second.until(2 ** 22);
    await relay.signal('KILL');
    equal(await relay.exitCode(), 137);
    await flood;
    const next = await house.relay(image, '-v', `${volume}:/data`);
    const later = await newPair(next);
    await later.exchange(70_000);
    await later[Symbol.asyncDispose]();
    equal(await next.stop(PATIENCE_SECONDS), 0);
    equal(await rowsIn(image, volume), 'happy 100000\nhappy 140000');
  });

  test('starts again by itself when it was killed and the policy says so', async () => {
    await using house = new DockerHouse();
    const relay = await house.relay(image, '--restart=on-failure');
    await relay.exec('sh', '-c', 'kill -KILL "$(cat /proc/1/task/1/children)"');
    // Health checks may come before the kill, and fail on a busy machine.
    await relay.undergoes(/start\n(?:health_status: \w+\n)*die\nstart\n/u);
    await relay.says(new RegExp(`${LISTENING.source}[^]*${LISTENING.source}`, 'u'));
    equal(await relay.inspect('{{.RestartCount}}'), '1');
  });

  test('has tini as PID 1, which reaps what nobody waits for', async () => {
    await using house = new DockerHouse();
    const relay = await house.relay(image);
    equal(await relay.exec('cat', '/proc/1/comm'), 'tini');
    // The inner shell ends while its child runs, so that PID 1 becomes the child's parent; the pipe tells when
    // the child has ended.
    await relay.exec('sh', '-c', "sh -c 'sleep 0.2 & exit 0' | cat");
    // It is waited for a moment after it has ended, or never.
    let states = 'Z';
    for (let look = 0; look < 50 && states.includes('Z'); look += 1) {
      states = await relay.exec('sh', '-c', PROCESS_STATES);
    }
    match(states, /^[A-Y]+$/u);
  });
});

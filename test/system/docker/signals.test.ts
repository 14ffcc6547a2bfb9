import { equal, match, ok } from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProcessorClock } from '../../faults/support/processor-clock.ts';
import type { Moment } from '../../faults/support/processor-clock.ts';
import { newPair } from '../../support/docker-clients.ts';
import {
  DockerSandbox,
  HARDENED,
  LISTENING,
  TESTS_AT_A_TIME,
  rowsIn,
  withoutDocker,
} from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';

/** Grace period of a stop: much longer than any drain in this test. */
const STOP_TIMEOUT_SECONDS = 30;

/** Time for an idle container to stop, in milliseconds. */
const MAX_STOP_MS = 1000;

/** Time between two samples of the run delay, in milliseconds. It is gone with the process. */
const SAMPLE_MS = 10;

/** States of all processes in a container, as the letters of the kernel. `Z` is a zombie. */
const PROCESS_STATES =
  "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) \\(.\\).*/\\1/' | sort | uniq | tr -d '\\n'";

/**
 * Stops a container and returns its log. It has a second from the signal to its end, without the time for which its main
 * thread, or this one, waited for a processor.
 */
async function stopWithinASecond(context: TestContext, container: Container): Promise<string> {
  const init = await container.inspect('{{.State.Pid}}');
  const pid = Number(readFileSync(`/proc/${init}/task/${init}/children`, 'latin1'));
  const clock = new ProcessorClock(pid);
  const stopped = container.stop(STOP_TIMEOUT_SECONDS);
  const moments: { readonly at: number; readonly moment: Moment }[] = [];
  while (existsSync(`/proc/${pid}`)) {
    moments.push({ at: Date.now(), moment: clock.now() });
    await sleep(SAMPLE_MS);
  }
  const end = clock.now();
  equal(await stopped, 0);
  const log = await container.logs();
  const [, signalled = ''] =
    /"time":"([^"]*)","event":"stopping","signal":"SIGTERM","msg":"stopping"/u.exec(log) ?? [];
  const from = moments.findLastIndex(({ at }) => at <= Date.parse(signalled));
  ok(from >= 0, log);
  const samples = [...moments.slice(from).map(({ moment }) => moment), end];
  let waitedMs = 0;
  // The longer wait of each interval: both threads may have waited at the same time.
  for (const [index, { runDelaysMs }] of samples.entries()) {
    const earlier = samples[index - 1]?.runDelaysMs ?? runDelaysMs;
    waitedMs += Math.max(...runDelaysMs.map((ms, thread) => ms - (earlier[thread] ?? 0)));
  }
  const wallMs = end.wallMs - (samples[0]?.wallMs ?? 0);
  const ms = wallMs - waitedMs;
  context.diagnostic(`stopped after ${ms.toFixed(0)} ms (wall ${wallMs.toFixed(0)} ms)`);
  ok(ms < MAX_STOP_MS, `${ms} ms`);
  return log;
}

describe('the container', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  test('stops within a second if it is idle, with exit code 0', async (context) => {
    await using sandbox = new DockerSandbox();
    const log = await stopWithinASecond(context, await sandbox.relay(image));
    match(log, /"signal":"SIGTERM","msg":"stopping"[^]*"msg":"stopped"/u);
  });

  test('of the sidecar stops within a second, too', async (context) => {
    await using sandbox = new DockerSandbox();
    const sidecar = await sandbox.run(image, HARDENED, 'node', 'src/sidecar/main.ts');
    await sidecar.waitForLog(/"role":"sidecar".*"msg":"listening"/u);
    await stopWithinASecond(context, sidecar);
  });

  test('lets a transfer finish when it is stopped, and logs how many pairs it waits for', async () => {
    await using sandbox = new DockerSandbox();
    const volume = await sandbox.volume();
    const relay = await sandbox.relay(image, '-e', 'RELAY_DRAIN_TIMEOUT=60s', '-v', `${volume}:/data`);
    const pair = await newPair(relay);
    const stopped = relay.stop(STOP_TIMEOUT_SECONDS);
    await relay.waitForLog(/"pairs":1,.*"msg":"draining"/u);
    await pair.exchange(100_000);
    await pair[Symbol.asyncDispose]();
    equal(await stopped, 0);
    match(await relay.logs(), /"msg":"draining"[^]*"msg":"stopped"/u);
    equal(await rowsIn(image, volume), 'happy 200000');
  });

  test('closes a transfer after the drain timeout, and logs how many pairs it closes', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.relay(image, '-e', 'RELAY_DRAIN_TIMEOUT=1s');
    const pair = await newPair(relay);
    equal(await relay.stop(STOP_TIMEOUT_SECONDS), 0);
    match(
      await relay.logs(),
      /"level":"warn".*"pairs":1,"msg":"drain timeout; closing remaining transfers"/u,
    );
    await Promise.all([pair.first.closed, pair.second.closed]);
  });

  test('continues with the same database after a kill during a transfer', async () => {
    await using sandbox = new DockerSandbox();
    const volume = await sandbox.volume();
    const relay = await sandbox.relay(image, '-v', `${volume}:/data`);
    const done = await newPair(relay);
    await done.exchange(50_000);
    await done[Symbol.asyncDispose]();
    const interrupted = await newPair(relay);
    const flood = interrupted.first.sendAll(new Uint8Array(2 ** 30), 2 ** 20);
    await interrupted.second.until(2 ** 22);
    await relay.signal('KILL');
    equal(await relay.exitCode(), 137);
    await flood;
    const next = await sandbox.relay(image, '-v', `${volume}:/data`);
    const later = await newPair(next);
    await later.exchange(70_000);
    await later[Symbol.asyncDispose]();
    equal(await next.stop(STOP_TIMEOUT_SECONDS), 0);
    equal(await rowsIn(image, volume), 'happy 100000\nhappy 140000');
  });

  test('restarts after a kill if the restart policy says so', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.relay(image, '--restart=on-failure');
    await using events = relay.watch('start', 'die');
    await relay.exec('sh', '-c', 'kill -KILL "$(cat /proc/1/task/1/children)"');
    await events.match(/die\nstart\n/u);
    await relay.waitForLog(new RegExp(`${LISTENING.source}[^]*${LISTENING.source}`, 'u'));
    equal(await relay.inspect('{{.RestartCount}}'), '1');
  });

  test('has tini as PID 1, which reaps orphans', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.relay(image);
    equal(await relay.exec('cat', '/proc/1/comm'), 'tini');
    // The inner shell ends while its child runs, so that PID 1 becomes the parent of the child. The pipe
    // closes when the child has ended.
    await relay.exec('sh', '-c', "sh -c 'sleep 0.2 & exit 0' | cat");
    // PID 1 may need a moment to reap it.
    let states = 'Z';
    for (let attempt = 0; attempt < 50 && states.includes('Z'); attempt += 1) {
      states = await relay.exec('sh', '-c', PROCESS_STATES);
    }
    match(states, /^[A-Y]+$/u);
  });
});

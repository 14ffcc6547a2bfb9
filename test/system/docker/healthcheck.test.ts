import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import {
  DockerSandbox,
  HARDENED,
  LISTENING,
  askDocker,
  rowsIn,
  withoutDocker,
} from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { CONDITION_TIMEOUT_MS, eventually } from '../../support/programs.ts';

/** Longest acceptable wait for an operator and for `docker compose up --wait`, in milliseconds. */
const HEALTHY_WITHIN_MS = 3000;

const GRACE_SECONDS = 20;

/** The process that tini started. */
const PROGRAM = '$(cat /proc/1/task/1/children)';

/** Output of a check in a container. It is repeated until it succeeds, because a busy relay may not answer in time. */
function outputOf(relay: Container, ...words: readonly string[]): Promise<string> {
  return eventually(
    () => `${words.join(' ')} succeeded`,
    CONDITION_TIMEOUT_MS,
    async () => {
      const { code, stdout, stderr } = await askDocker(['exec', relay.id, ...words]);
      return code === 0 && stderr === '' ? stdout : null;
    },
  );
}

describe('the health check of the image', { skip: withoutDocker, concurrency: true }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  /**
   * Time from the start of a container to its first successful check, in milliseconds, without the time for which the
   * relay's threads waited for a processor: Docker waits for one interval before the first check, and for another one after
   * a check that comes before the relay listens.
   */
  async function timeToHealth(context: TestContext, user: string): Promise<number> {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.run(image, [...HARDENED, '--user', user]);
    await using health = relay.watch('health_status');
    await relay.waitForLog(LISTENING);
    const threads = await relay.exec(
      'sh',
      '-c',
      'set -- $(cat /proc/1/task/1/children); cat /proc/$1/task/*/schedstat || :',
    );
    // Run time, time waiting for a processor, and a count; nothing if the kernel does not measure them.
    const sumOf = (field: number): number =>
      threads.split('\n').reduce((sum, thread) => sum + Number(thread.split(' ')[field] ?? 0) / 1e6, 0);
    const started = Date.parse(await relay.inspect('{{.State.StartedAt}}'));
    const [, listening = ''] = /"time":"([^"]*)"[^\n]*"role":"status"/u.exec(await relay.logs()) ?? [];
    const listeningMs = Date.parse(listening) - started;
    // Threads may have waited at the same time, but the start takes at least their run time.
    const startMs = Math.max(sumOf(0), listeningMs - sumOf(1));
    const [, seconds = ''] =
      /^relay: ok\n(.*)$/u.exec(
        await outputOf(relay, 'bash', '-c', 'TIMEFORMAT="%U %S"; { time ./healthcheck.sh relay; } 2>&1'),
      ) ?? [];
    const [inUser = NaN, inSystem = NaN] = seconds.split(' ').map(Number);
    const checkMs = 1000 * (inUser + inSystem);
    const intervalMs = Number(await relay.inspect('{{printf "%d" .Config.Healthcheck.Interval}}')) / 1e6;
    context.diagnostic(
      `start ${startMs.toFixed(0)} ms (wall ${listeningMs} ms), check ${checkMs} ms, interval ${intervalMs} ms`,
    );
    await health.match(/health_status: /u);
    equal(await relay.inspect('{{.State.Health.Status}}'), 'healthy');
    return Math.ceil(startMs / intervalMs) * intervalMs + checkMs;
  }

  test('fails while the relay hangs, and succeeds when it resumes', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.run(image, HARDENED);
    await using health = relay.watch('health_status');
    await health.match(/health_status: healthy\n/u);
    await relay.exec('sh', '-c', `kill -STOP ${PROGRAM}`);
    // Three failing checks take 4 s each, and the checks before them may still have succeeded.
    await health.match(/health_status: unhealthy\n/u);
    await relay.exec('sh', '-c', `kill -CONT ${PROGRAM}`);
    await health.match(/health_status: unhealthy\nhealth_status: healthy\n/u);
  });

  // One at a time: they use the processors, or measure time. The test above only waits.
  describe('with one load at a time', { concurrency: false }, () => {
    for (const user of ['1000:1000', '12345:0']) {
      test(`succeeds within three seconds after the start, for user ${user}`, async (context) => {
        const ms = await timeToHealth(context, user);
        ok(ms > 0 && ms <= HEALTHY_WITHIN_MS, `${ms} ms`);
      });
    }

    test('succeeds while other programs use all processors, and with a sixth of one processor', async (context) => {
      const loops = Array.from({ length: 4 * availableParallelism() }, () =>
        spawn('sh', ['-c', 'while :; do :; done']),
      );
      context.after(() => loops.forEach((loop) => loop.kill('SIGKILL')));
      await using sandbox = new DockerSandbox();
      const [relay, small] = [await sandbox.relay(image), await sandbox.run(image, ['--cpus', '0.15'])];
      const watched = [relay, small].map((container) => ({
        container,
        checks: container.watch('exec_die', 'health_status'),
      }));
      for (const { container, checks } of watched) {
        await using ended = checks;
        // Checks may fail before the relay listens. The engine stores the result of a check just after it reports its
        // end, and keeps five results.
        await ended.match(/health_status: healthy\n(?:[^]*exec_die\n){6}/u);
        equal(
          await container.inspect('{{.State.Health.Status}}{{range .State.Health.Log}} {{.ExitCode}}{{end}}'),
          'healthy 0 0 0 0 0',
        );
      }
    });

    test('reports the problem in one line and exits with code 1', async () => {
      await using sandbox = new DockerSandbox();
      const relay = await sandbox.relay(image);
      equal(await outputOf(relay, 'node', 'src/healthcheck.ts', 'relay'), 'relay: ok');
      const elsewhere = ['exec', '--env', 'RELAY_STATUS_LISTEN=tcp:4999', relay.id];
      const { code, stdout, stderr } = await askDocker([...elsewhere, 'node', 'src/healthcheck.ts', 'relay']);
      deepEqual([code, stderr], [1, '']);
      match(stdout, /^relay: .*RELAY_STATUS_LISTEN.*$/u);
    });

    test('relays real transfers if configured to, and its checks leave no records', async () => {
      await using sandbox = new DockerSandbox();
      const volume = await sandbox.volume();
      const relay = await sandbox.run(image, [...HARDENED, '--volume', `${volume}:/data`]);
      await using health = relay.watch('health_status');
      await relay.waitForLog(LISTENING);
      equal(await outputOf(relay, 'node', 'src/healthcheck.ts', 'relay'), 'relay: ok');
      const latencies = await outputOf(relay, 'node', 'src/healthcheck.ts', 'transfer');
      match(
        latencies,
        /^transfer: ok: raw \S+ [\d.]+ ms, websocket \S+ [\d.]+ ms, raw \S+ to websocket \S+ [\d.]+ ms$/u,
      );
      await health.match(/health_status: healthy\n/u);
      equal(await relay.stop(GRACE_SECONDS), 0);
      equal(await rowsIn(image, volume), '');
    });
  });
});

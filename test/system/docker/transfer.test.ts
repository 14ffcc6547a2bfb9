import { equal, match, ok } from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setInterval as ticks } from 'node:timers/promises';
import { ComposeProject } from '../../support/compose.ts';
import { DockerSandbox, askDocker, docker, withoutDocker } from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildDebian, buildImage } from '../../support/docker-images.ts';
import { freePort } from '../../support/listening.ts';
import { scratch } from '../../support/scratch.ts';

/** Large enough to be running when the first progress is reported. */
const FILE_BYTES = 100_000_000;

const MAILBOX_PORT = 4000;

/** The row `current` is written once a second. */
const SNAPSHOT_TRIES = 100;
const SNAPSHOT_PAUSE_MS = 500;

const PAUSE_TRIES = 20;

/** The name under which containers find their host. */
const HOST = 'host.test';

/** Pauses a container. On a busy machine the kernel may need several attempts to freeze all of its processes. */
async function pause({ id }: Container): Promise<void> {
  let result = await askDocker(['pause', id]);
  for (let tries = 1; result.code !== 0 && tries < PAUSE_TRIES; tries += 1)
    result = await askDocker(['pause', id]);
  equal(result.code, 0, result.stderr);
}

describe('two wormhole clients in containers', { skip: withoutDocker }, () => {
  const sandbox = new DockerSandbox();
  let clients = '';
  let project: ComposeProject;
  before(async () => {
    clients = await buildDebian([
      // The clients use these programs to find their own addresses, which they offer to each other first.
      'iproute2',
      'magic-wormhole',
      'python3-magic-wormhole-mailbox-server',
      'sqlite3',
    ]);
    const settings = { RELAY_IMAGE: await buildImage(), RELAY_PORT: String(await freePort()) };
    project = new ComposeProject({ project: sandbox.name('transfer'), settings });
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await project[Symbol.asyncDispose]();
  });

  /** Takes a snapshot, downloads it, and queries it with Debian's sqlite3 in a read-only directory. */
  async function querySnapshot(directory: string, base: string, sql: string): Promise<string> {
    const taken = await fetch(`${base}/snapshots`, { method: 'POST' });
    ok(taken.ok, `POST /snapshots: ${taken.status}`);
    const latest = await fetch(`${base}/snapshots/latest.sqlite`);
    equal(latest.status, 200);
    await writeFile(join(directory, 'latest.sqlite'), await latest.bytes());
    const mount = ['--volume', `${directory}:/snapshots:ro`];
    return docker('run', '--rm', ...mount, clients, 'sqlite3', '/snapshots/latest.sqlite', sql);
  }

  test('transfer a file through the relay of compose while a snapshot is taken', async (t) => {
    await project.run('up', '--detach', '--wait', '--no-build');
    const relayPort = await (await project.container('relay')).port(4001);
    const sidecar = `http://127.0.0.1:${await (await project.container('sidecar')).port(4004)}`;
    const mailboxCommand = ['twistd3', '-n', '--pidfile=', 'wormhole-mailbox', `--port=tcp:${MAILBOX_PORT}`];
    const mailbox = await sandbox.run(
      clients,
      ['--publish', `${await freePort()}:${MAILBOX_PORT}`],
      ...mailboxCommand,
      '--channel-db=:memory:',
    );
    await mailbox.waitForLog(/PrivacyEnhancedSite starting/u);
    const mailboxPort = await mailbox.port(MAILBOX_PORT);

    // Clients that do not listen need the relay, whatever Docker lets pass between its networks.
    const wormhole = `wormhole --relay-url ws://${HOST}:${mailboxPort}/v1 --transit-helper tcp:${HOST}:${relayPort}`;
    const code = `4-${randomBytes(4).toString('hex')}`;
    const start = async (script: string): Promise<Container> => {
      const network = ['--network', await sandbox.network(), '--add-host', `${HOST}:host-gateway`];
      return sandbox.run(clients, network, 'sh', '-ec', `cd /tmp; export LANG=C.UTF-8; ${script}`);
    };
    const sender = await start(
      `head -c ${FILE_BYTES} /dev/urandom >noise.bin; ${wormhole} send --no-listen --hide-progress --code ${code} noise.bin; sha256sum noise.bin`,
    );
    const receiver = await start(
      `${wormhole} receive --no-listen --hide-progress --accept-file ${code}; sha256sum noise.bin`,
    );
    await sender.waitForLog(/^Sending \(->relay:/mu);
    await pause(receiver);

    const directory = await scratch(t);
    const sql = 'PRAGMA integrity_check; SELECT count(*) FROM usage; SELECT connected FROM current;';
    let answer = '';
    let tries = 0;
    for await (const _ of ticks(SNAPSHOT_PAUSE_MS)) {
      answer = await querySnapshot(directory, sidecar, sql);
      tries += 1;
      if (answer.endsWith('2') || tries === SNAPSHOT_TRIES) break;
    }
    // Two clients connected and no record yet: the snapshot was taken during the transfer.
    equal(answer, 'ok\n0\n2');

    await docker('unpause', receiver.id);
    equal(await sender.exitCode(), 0, await sender.logs());
    equal(await receiver.exitCode(), 0, await receiver.logs());
    const sums = [await sender.logs(), await receiver.logs()].map((log) => /[0-9a-f]{64}/u.exec(log)?.[0]);
    equal(sums[1], sums[0]);
    match(await receiver.logs(), new RegExp(`^Receiving \\(->relay:tcp:${HOST}:${relayPort}\\)`, 'mu'));
    await project.run('restart', 'relay');
    const record = await querySnapshot(directory, sidecar, 'SELECT result, total_bytes FROM usage');
    const [mood, bytes] = record.split('|');
    equal(mood, 'happy');
    ok(Number(bytes) >= FILE_BYTES && Number(bytes) < FILE_BYTES * 1.01, record);
  });
});

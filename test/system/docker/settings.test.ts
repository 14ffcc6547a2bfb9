import { deepEqual, equal, match } from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import {
  DockerSandbox,
  HARDENED,
  LISTENING,
  askDocker,
  docker,
  TESTS_AT_A_TIME,
  withoutDocker,
  published,
} from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { fatalReasons } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';

/** EX_CONFIG of sysexits.h. */
const BAD_CONFIGURATION = 78;

const TOKEN = 'the-token-of-this-test';

const GRACE_SECONDS = 20;

const SIDECAR = ['node', 'src/sidecar/main.ts'];

/** The log line of the sidecar when it is ready. */
const SIDECAR_LISTENING = /"role":"sidecar".*"msg":"listening"/u;

describe('settings of the container', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  test('come from -e, and an empty value turns a listener off', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.relay(image, '-e', 'RELAY_LISTEN=tcp:5001', '-e', 'RELAY_WEBSOCKET_LISTEN=');
    const roles = [...(await relay.logs()).matchAll(/"role":"(\w+)","endpoint":"tcp:(\d+)/gu)];
    deepEqual(
      roles.map(([, role, port]) => `${role} ${port}`),
      ['raw 5001', 'status 4003'],
    );
  });

  test('come from --env-file', async (t) => {
    await using sandbox = new DockerSandbox();
    const file = join(await scratch(t), 'relay.env');
    writeFileSync(file, 'RELAY_LISTEN=tcp:5002\nRELAY_LOG_LEVEL=debug\n');
    const relay = await sandbox.relay(image, '--env-file', file);
    match(await relay.logs(), /"role":"raw","endpoint":"tcp:5002/u);
  });

  test('come from a mounted file if the variable ends in _FILE', async (t) => {
    await using sandbox = new DockerSandbox();
    const directory = await scratch(t);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'listen'), 'tcp:5003\n');
    const mount = ['--volume', `${directory}:/run/secrets:ro`];
    const relay = await sandbox.relay(image, ...mount, '-e', 'RELAY_LISTEN_FILE=/run/secrets/listen');
    match(await relay.logs(), /"role":"raw","endpoint":"tcp:5003/u);
  });

  test('are reported all at once if invalid, with exit code 78', async () => {
    const wrong = ['-e', 'RELAY_LISTEN=tcp:99999', '-e', 'RELAY_BLUR_USAGE=much'];
    const { code, stdout } = await askDocker(['run', '--rm', ...HARDENED, ...wrong, image]);
    equal(code, BAD_CONFIGURATION);
    match(fatalReasons(stdout).join('\n'), /^RELAY_LISTEN=[^\n]+\nRELAY_BLUR_USAGE=[^\n]+$/u);
  });

  test('of the sidecar may contain the token in a file, which requests must send and which is not shown', async (t) => {
    await using sandbox = new DockerSandbox();
    const directory = await scratch(t);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'token'), `${TOKEN}\n`);
    const options = ['--volume', `${directory}:/run/secrets:ro`, ...(await published(4004))];
    const token = ['-e', 'SIDECAR_TOKEN_FILE=/run/secrets/token', '-e', 'SIDECAR_LISTEN=tcp:4004'];
    const sidecar = await sandbox.run(image, [...HARDENED, ...options, ...token], ...SIDECAR);
    await sidecar.waitForLog(SIDECAR_LISTENING);
    const url = `http://127.0.0.1:${await sidecar.port(4004)}/snapshots`;
    const rejected = await fetch(url);
    equal(rejected.status, 401);
    const allowed = await fetch(url, { headers: { authorization: `Bearer ${TOKEN}` } });
    equal(allowed.status, 200);
    equal((await sidecar.logs()).includes(TOKEN), false);
    equal((await docker('inspect', sidecar.id)).includes(TOKEN), false);
    equal(await sidecar.stop(GRACE_SECONDS), 0);
  });

  test('are optional: without any, the relay listens for both kinds of clients and keeps records', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.run(image, []);
    await relay.waitForLog(LISTENING);
    match(await relay.logs(), /tcp:4001[^]*tcp:4002[^]*tcp:4003/u);
    match(await relay.exec('ls', '/data'), /^usage\.sqlite$/mu);
  });
});

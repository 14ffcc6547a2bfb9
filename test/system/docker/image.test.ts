import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  DockerSandbox,
  HARDENED,
  ROOT,
  askDocker,
  docker,
  TESTS_AT_A_TIME,
  withoutDocker,
} from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { VERSION } from '../../../src/process/version.ts';
import { newPair } from '../../support/docker-clients.ts';

/** Maximum bytes of the image on top of Debian slim and the node binary. */
const MAX_ADDED_BYTES = 15_000_000;

/** Programs that must not be in the image. */
const UNWANTED = ['npm', 'npx', 'corepack', 'yarn', 'gcc', 'cc', 'make', 'python3', 'git', 'curl'];

const TRANSPORTS = [
  ['tcp', 'tcp'],
  ['tcp', 'websocket'],
  ['websocket', 'websocket'],
] as const;

/** Bytes of all layers, as the engine counts them. */
async function sizeOf(image: string): Promise<number> {
  const sizes = await docker('history', '--human=false', '--format', '{{.Size}}', image);
  return sizes.split('\n').reduce((sum, size) => sum + Number(size), 0);
}

describe('the image', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  const sandbox = new DockerSandbox();
  let image = '';
  let idle: Container;
  before(async () => {
    image = await buildImage('--build-arg', 'REVISION=0123abc');
    idle = await sandbox.run(image, [...HARDENED, '--entrypoint', 'sleep'], 'infinity');
  });
  after(() => sandbox[Symbol.asyncDispose]());

  /** Output of a shell in the image; it runs in /app. */
  const shell = (script: string): Promise<string> => idle.exec('sh', '-c', script);
  const configured = (template: string): Promise<string> =>
    docker('image', 'inspect', '--format', template, image);

  test('adds at most 15 MB to Debian slim and the node binary', async (t) => {
    const node = Number(await shell('stat --format=%s "$(command -v node)"'));
    const added = (await sizeOf(image)) - (await sizeOf('debian:trixie-slim')) - node;
    t.diagnostic(`${added} bytes`);
    ok(node > 50_000_000, `a node of ${node} bytes`);
    ok(added > 0 && added <= MAX_ADDED_BYTES, `${added} bytes`);
  });

  test('runs as user 1000, which may write to /data only', async () => {
    equal(await configured('{{.Config.User}}'), '1000:1000');
    equal(await shell('id --user; id --group; id --user --name'), '1000\n1000\nrelay');
    equal(await shell('find / -xdev -user relay 2>/dev/null || true'), '/data');
    equal(await shell('stat --format="%a %u:%g" /data'), '1777 1000:1000');
    equal(await shell('find /app -perm /022 -not -type l'), '');
  });

  test('declares one volume, the ports for clients, and a health check', async () => {
    equal(await configured('{{json .Config.Volumes}}'), '{"/data":{}}');
    equal(await configured('{{json .Config.ExposedPorts}}'), '{"4001/tcp":{},"4002/tcp":{}}');
    equal(await configured('{{json .Config.Entrypoint}}'), '["tini","--","transit-relay"]');
    equal(await configured('{{json .Config.Cmd}}'), '["serve"]');
    equal(await configured('{{json .Config.Healthcheck.Test}}'), '["CMD","./healthcheck.sh","relay","8"]');
  });

  test('is described by OCI labels', async () => {
    const labels: unknown = JSON.parse(await configured('{{json .Config.Labels}}'));
    const label = (name: string): unknown =>
      Object.entries(labels ?? {}).find(([key]) => key === `org.opencontainers.image.${name}`)?.[1];
    equal(label('version'), VERSION);
    equal(await idle.exec('transit-relay', '--version'), VERSION);
    const check = (tag: string): string =>
      spawnSync(join(ROOT, 'deploy/image/check-version.sh'), [tag, image], { encoding: 'utf8' }).stderr;
    equal(check(`v${VERSION}`), '');
    match(check('v9.9.9'), /--version of .* has "1[^]*the label of .* has "1/u);
    await rejects(
      buildImage('--build-arg', 'VERSION=1.2.3'),
      /VERSION=1\.2\.3[^]*transit-relay --version[^]*exit code: 1/u,
    );
    equal(label('revision'), '0123abc');
    equal(label('licenses'), 'MIT');
    for (const name of ['title', 'description']) match(String(label(name)), /Magic-Wormhole/u);
    ok(!Number.isNaN(Date.parse(String(label('created')))), 'no date');
  });

  test('has no npm, no compiler, no package lists and no test files', async () => {
    equal(await shell(`for name in ${UNWANTED.join(' ')}; do command -v "$name"; done; true`), '');
    equal(await shell('ls /var/lib/apt/lists'), '');
    equal(await shell('ls /app'), 'LICENSE\nhealthcheck.sh\nnode_modules\npackage.json\nsrc');
    equal(await shell('find /app -name "*.test.*" -o -name test -o -name tests -o -name "*.d.ts"'), '');
  });

  test('has only the runtime files of better-sqlite3', async () => {
    const files = await shell('cd node_modules/better-sqlite3 && find . -type f -not -path "./lib/*" | sort');
    const arch = await shell('node --print process.arch');
    deepEqual(files.split('\n'), ['./LICENSE', './package.json', `./prebuilds/linux-${arch}.node`]);
  });

  test('has the licence of every package that includes one', async () => {
    const packages = await shell('find node_modules -name package.json');
    const licences = await shell('find node_modules -iname "licen[cs]e*"');
    const licensed = new Set(licences.split('\n').map(dirname));
    ok(licensed.size > 50, 'no licences');
    const naked = packages
      .split('\n')
      .map(dirname)
      .filter(
        (path) =>
          !licensed.has(path) && readdirSync(join(ROOT, path)).some((name) => /^licen[cs]e/iu.test(name)),
      );
    deepEqual(naked, []);
  });

  test('starts read-only without capabilities and privileges, and relays over TCP and WebSocket', async () => {
    const relay = await sandbox.relay(image);
    equal(await relay.exec('cat', '/proc/1/comm'), 'tini');
    match(await relay.exec('cat', '/proc/1/status'), /^CapBnd:\t0+$[^]*^NoNewPrivs:\t1$/mu);
    const rejection = await askDocker(['exec', relay.id, 'touch', '/app/file']);
    match(rejection.stderr, /Read-only file system/u);
    for (const transports of TRANSPORTS) {
      await using pair = await newPair(relay, transports);
      await pair.exchange(100_000);
    }
    match(await relay.logs(), /"role":"raw"[^]*"role":"websocket"[^]*"role":"status"/u);
    deepEqual((await relay.logs()).match(/"level":"(?:warn|error|fatal)".*/gu), null);
  });

  for (const [command, script] of [
    [['node', 'src/healthcheck.ts', 'sidecar'], 'healthcheck'],
    [['healthcheck', 'sidecar'], 'cli/healthcheck'],
    [['--help'], 'cli/command-line'],
    [['config'], 'cli/config'],
    [['check'], 'cli/check'],
    // Both end at once, because their endpoints are invalid.
    [['serve'], 'relay/relay'],
    [['sidecar'], 'sidecar/sidecar'],
  ] as const) {
    test(`has ${script}.ts in its compile cache, for ${command.join(' ')}`, async () => {
      const verbose = [...HARDENED, '--env', 'NODE_DEBUG_NATIVE=COMPILE_CACHE'];
      const settings = ['--env', 'RELAY_LISTEN=nowhere', '--env', 'SIDECAR_LISTEN=nowhere'];
      const { stderr } = await askDocker(['run', '--rm', ...verbose, ...settings, image, ...command]);
      match(stderr, new RegExp(`code cache for ESM file:///app/src/${script}\\.ts was accepted`, 'u'));
      deepEqual(stderr.match(/.*(?:was rejected|mismatch).*/gu), null);
    });
  }

  test('checks a relay in another container', async () => {
    const relay = await sandbox.relay(image);
    const host = await relay.inspect('{{.NetworkSettings.IPAddress}}');
    const endpoints = [`tcp:${host}:4001`, `ws://${host}:4002/`];
    const words = ['--rm', ...HARDENED, image, 'check', '--size=100kB', '--timeout=30s', ...endpoints];
    const { code, stdout, stderr } = await askDocker(['run', ...words]);
    deepEqual([code, stderr], [0, ''], stdout);
    equal(stdout.match(/^ok {6}/gmu)?.length, 3);
  });

  describe('runs', () => {
    const run = (...words: readonly string[]) => askDocker(['run', '--rm', ...HARDENED, image, ...words]);

    test('the command line, and options without a command', async () => {
      for (const words of [['--version'], ['transit-relay', '--version'], ['sh', '-c', 'transit-relay -V']]) {
        deepEqual(await run(...words), { code: 0, stdout: VERSION, stderr: '' });
      }
      match((await run('import', '--help')).stdout, /^Usage: transit-relay import OLD NEW\n/u);
    });

    test('other programs as they are', async () => {
      deepEqual(await run('node', '--print', '6 * 7'), { code: 0, stdout: '42', stderr: '' });
      deepEqual(await run('sh', '-c', 'exit 7'), { code: 7, stdout: '', stderr: '' });
    });

    test('nothing for an unknown word, with exit code 64', async () => {
      const { code, stdout, stderr } = await run('sidcar');
      deepEqual([code, stdout], [64, '']);
      match(stderr, /unknown command "sidcar"; the most similar one is sidecar;/u);
    });

    test('the relay with a heap of half of its memory limit', async () => {
      const relay = await sandbox.relay(image, '--memory=128m');
      const script = 'for pid in $(cat /proc/1/task/1/children); do tr "\\0" " " </proc/$pid/cmdline; done';
      const command = 'node --max-old-space-size-percentage=50 /app/src/transit-relay.ts serve';
      equal(await relay.exec('sh', '-c', script), command);
    });
  });
});

import { deepEqual, equal, match, notEqual, ok } from 'node:assert/strict';
import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { RELAY_DEFAULTS, readRelayConfig } from '../../../src/config/relay-config.ts';
import { SIDECAR_DEFAULTS, readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import { ComposeProject } from '../../support/compose.ts';
import { newPair, pairAt } from '../../support/docker-clients.ts';
import { DockerSandbox, ROOT, docker, TESTS_AT_A_TIME, rowsIn, withoutDocker } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { CONDITION_TIMEOUT_MS, eventually } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { imageSettings } from '../../support/image-settings.ts';
import { freePorts } from '../../support/listening.ts';

/** Settings that depend on each other, on published ports and on volumes. Nobody needs to change them. */
const FIXED: ReadonlySet<string> = new Set([
  'RELAY_STATUS_LISTEN',
  'RELAY_ACME_STATE',
  'SIDECAR_LISTEN',
  'SIDECAR_RELAY_STATUS',
  'SIDECAR_SNAPSHOT_DIR',
]);

const HARDENING = `{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-size"}}`;
const LIMITS = '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}';

/** What bounds the kernel's memory for a connection. The third number of the first two is the maximum. */
const BUFFER_LIMITS = [
  ['tcp_rmem', '4096\t131072\t3670016'],
  ['tcp_wmem', '4096\t16384\t2621440'],
  ['tcp_notsent_lowat', '524288'],
] as const;

/** Services of `docker compose config`. */
type Services = Readonly<Record<string, { readonly environment?: Readonly<Record<string, string | null>> }>>;

/** On a busy machine, a relay may not answer its sidecar in time at first. */
async function untilLive(sidecar: string, pattern: RegExp): Promise<void> {
  let live = '';
  await eventually(
    () => `${live} matched ${pattern}`,
    CONDITION_TIMEOUT_MS,
    async () => {
      live = await (await fetch(`${sidecar}/live.json`)).text();
      return pattern.test(live) ? true : null;
    },
  );
}

describe('docker-compose.yml', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  const sandbox = new DockerSandbox();
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  test('starts a healthy and hardened relay and sidecar in a fresh clone', async (t) => {
    const built = sandbox.name('fresh').replace('relay-test', 'transit-relay');
    t.after(() => docker('image', 'rm', '--force', built));
    await using project = new ComposeProject({
      project: sandbox.name('fresh'),
      settings: { RELAY_IMAGE: built },
    });
    await project.run('up', '--detach', '--wait');
    for (const service of ['relay', 'sidecar']) {
      const container = await project.container(service);
      equal(await container.inspect('{{.State.Health.Status}}'), 'healthy');
      equal(
        await container.inspect(HARDENING),
        'true [ALL] [no-new-privileges] unless-stopped json-file 10m',
      );
      const [memory = 0, pids = 0] = (await container.inspect(LIMITS)).split(' ').map(Number);
      ok(memory > 0 && pids > 0, 'no limits');
      equal(await container.exec('cat', '/proc/1/comm'), 'tini');
      equal(await container.exec('id', '--user'), '1000');
    }
    const relay = await project.container('relay');
    for (const [name, value] of BUFFER_LIMITS)
      equal(await relay.exec('cat', `/proc/sys/net/ipv4/${name}`), value);
    const pair = await newPair(relay, ['tcp', 'websocket']);
    await pair.exchange(100_000);
    await pair[Symbol.asyncDispose]();
    const sidecar = `http://127.0.0.1:${await (await project.container('sidecar')).port(4004)}`;
    const page = await fetch(sidecar);
    match(page.headers.get('content-type') ?? '', /^text\/html/u);
    await untilLive(sidecar, /"relay":\{.*"state":"serving".*"relayed_bytes":200000\b/u);
  });

  test('publishes the sidecar on loopback only, and the status port not at all', async () => {
    const [raw, websocket] = await freePorts(2);
    await using project = new ComposeProject({
      project: sandbox.name('ports'),
      settings: { RELAY_IMAGE: image, RELAY_PORT: String(raw), RELAY_WEBSOCKET_PORT: String(websocket) },
    });
    await project.run('up', '--detach', '--wait', '--no-build');
    const published = async (service: string): Promise<string[]> =>
      (await docker('port', (await project.container(service)).id))
        .split('\n')
        .map((line) => line.replace(/\d+$/u, 'N'));
    deepEqual(
      (await published('relay')).filter((line) => !line.includes('[::]')),
      ['4001/tcp -> 0.0.0.0:N', '4002/tcp -> 0.0.0.0:N'],
    );
    deepEqual(await published('sidecar'), ['4004/tcp -> 127.0.0.1:N']);
  });

  test('gives the relay time to drain, and keeps records after down and up', async () => {
    await using project = new ComposeProject({
      project: sandbox.name('down'),
      settings: { RELAY_IMAGE: image },
    });
    await project.run('up', '--detach', '--wait', '--no-build');
    const first = await project.container('relay');
    const pair = await newPair(first);
    const down = project.run('down');
    await first.waitForLog(/"pairs":1,.*"msg":"draining"/u);
    await pair.exchange(10_000);
    await pair[Symbol.asyncDispose]();
    await down;
    await project.run('up', '--detach', '--wait', '--no-build');
    const second = await project.container('relay');
    notEqual(second.id, first.id);
    equal(await rowsIn(image, `${sandbox.name('down')}_usage`), 'happy 20000');
  });

  test('keeps the sidecar running while the relay restarts, and starts it without the relay', async () => {
    await using project = new ComposeProject({
      project: sandbox.name('restart'),
      settings: { RELAY_IMAGE: image },
    });
    await project.run('up', '--detach', '--wait', '--no-build', 'sidecar');
    equal(await project.run('ps', '--services'), 'sidecar');
    await project.run('up', '--detach', '--wait', '--no-build');
    const sidecar = await project.container('sidecar');
    await project.run('restart', 'relay');
    await project.run('kill', 'relay');
    await project.run('up', '--detach', '--wait', '--no-build');
    equal(await sidecar.inspect('{{.State.Health.Status}} {{.RestartCount}}'), 'healthy 0');
    equal((await project.container('sidecar')).id, sidecar.id);
  });

  test('reads settings from an .env file: an empty value is off, a missing one is the default of the image', async (t) => {
    const envFile = join(await scratch(t), 'env');
    writeFileSync(
      envFile,
      `RELAY_WEBSOCKET_LISTEN=
RELAY_LOG_LEVEL="debug"
RELAY_QUTOA=5TB/month
RELAY_CLUSTER_SECRET=secret-of-the-relays
SIDECAR_LISTEN=127.0.0.1:4004
SIDECAR_SNAPSHOT_KEEP=3
SIDECAR_TOKEN=open-sesame-open-sesame
`,
    );
    await using project = new ComposeProject({
      project: sandbox.name('env'),
      envFile,
      settings: { RELAY_IMAGE: image },
    });
    await project.run('create', '--no-build');
    const environment = async (service: string): Promise<string[]> => {
      const container = await project.container(service);
      const lines = await container.inspect('{{range .Config.Env}}{{println .}}{{end}}');
      return lines
        .split('\n')
        .filter((line) => /^(?:TRANSIT_RELAY|RELAY|SIDECAR)_\w+=/u.test(line))
        .toSorted();
    };
    deepEqual(await environment('relay'), [
      'RELAY_CLUSTER_SECRET=secret-of-the-relays',
      'RELAY_DRAIN_TIMEOUT=10m',
      'RELAY_LISTEN=tcp:4001',
      'RELAY_LOG_LEVEL=debug',
      'RELAY_QUTOA=5TB/month',
      'RELAY_STATUS_LISTEN=tcp:4003',
      'RELAY_USAGE_DB=/data/usage.sqlite',
      'RELAY_WEBSOCKET_LISTEN=',
      'SIDECAR_LISTEN=127.0.0.1:4004',
      'SIDECAR_SNAPSHOT_DIR=/data/snapshots',
      'SIDECAR_SNAPSHOT_KEEP=3',
      'SIDECAR_TOKEN=',
      'SIDECAR_USAGE_DB=/data/usage.sqlite',
      'TRANSIT_RELAY_COMPOSE=true',
    ]);
    deepEqual(
      (await environment('sidecar')).filter((line) => line.startsWith('SIDECAR_') || line.endsWith('=')),
      [
        'RELAY_CLUSTER_PASSWORD=',
        'RELAY_CLUSTER_SECRET=',
        'RELAY_CLUSTER_URL=',
        'RELAY_WEBSOCKET_LISTEN=',
        'SIDECAR_LISTEN=tcp:4004',
        'SIDECAR_RELAY_STATUS=http://relay:4003',
        'SIDECAR_SNAPSHOT_DIR=/data/snapshots',
        'SIDECAR_SNAPSHOT_KEEP=3',
        'SIDECAR_TOKEN=open-sesame-open-sesame',
        'SIDECAR_USAGE_DB=/relay/usage.sqlite',
      ],
    );
  });

  test('reports misspelled variables, and reads values from files', async (t) => {
    const directory = await scratch(t);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'connections'), '123\n');
    writeFileSync(
      join(directory, 'env'),
      `RELAY_IMAGE=${image}
RELAY_STOP_GRACE_PERIOD=1m
SIDECAR_MEMORY_LIMIT=500m
RELAY_QUTOA=5TB/month
RELAY_MAX_CONNECTIONS_FILE=/run/secrets/connections
SIDECAR_SNAPSHOT_KEPT=3
`,
    );
    writeFileSync(
      join(directory, 'secrets.yml'),
      `services: { relay: { volumes: ['${directory}:/run/secrets:ro'] } }\n`,
    );
    await using project = new ComposeProject({
      project: sandbox.name('typo'),
      files: ['docker-compose.yml', join(directory, 'secrets.yml')],
      envFile: join(directory, 'env'),
    });
    await project.run('up', '--detach', '--wait', '--no-build');
    const warningsOf = async (service: string): Promise<unknown[]> =>
      (await (await project.container(service)).logs())
        .split('\n')
        .filter((line) => /"event":"(?:unknown_variable|setting_without_effect)"/u.test(line))
        .map((line) => /"msg":"(.*)"/u.exec(line)?.[1]);
    const similar = 'is unknown and has no effect; the most similar variable is';
    deepEqual(await warningsOf('relay'), [`RELAY_QUTOA ${similar} RELAY_QUOTA`]);
    deepEqual(await warningsOf('sidecar'), [`SIDECAR_SNAPSHOT_KEPT ${similar} SIDECAR_SNAPSHOT_KEEP`]);
    match(await (await project.container('relay')).logs(), /"max_connections":123,/u);
    const { code, stderr } = await project.ask('run', '--rm', '--no-deps', 'relay', 'config', '--check');
    equal(code, 78);
    match(stderr, /^error: RELAY_QUTOA .*RELAY_QUOTA$/mu);
  });

  test('has an override for host networking, which binds internal ports to loopback', async () => {
    const [tcpPort = 0, websocketPort = 0, statusPort = 0, sidecarPort = 0] = await freePorts(4);
    const settings = {
      RELAY_IMAGE: image,
      RELAY_PORT: String(tcpPort),
      RELAY_WEBSOCKET_PORT: String(websocketPort),
      RELAY_STATUS_PORT: String(statusPort),
      SIDECAR_PORT: String(sidecarPort),
    };
    const files = ['docker-compose.yml', 'deploy/compose/host-network.yml'];
    await using project = new ComposeProject({ project: sandbox.name('host'), files, settings });
    await project.run('up', '--detach', '--wait', '--no-build');
    const pair = await pairAt({ tcpPort, websocketPort }, ['websocket', 'tcp']);
    await pair.exchange(30_000);
    await pair[Symbol.asyncDispose]();
    await untilLive(`http://127.0.0.1:${sidecarPort}`, /"state":"serving".*"relayed_bytes":60000\b/u);
    const log = `${await (await project.container('relay')).logs()}${await (await project.container('sidecar')).logs()}`;
    match(log, new RegExp(`"status","endpoint":"tcp:${statusPort}:interface=127.0.0.1"`, 'u'));
    match(log, new RegExp(`"sidecar","endpoint":"tcp:${sidecarPort}:interface=127.0.0.1"`, 'u'));
  });

  test('bounds the buffers of the kernel for every program that clients connect to', () => {
    const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
    const files = [
      'docker-compose.yml',
      ...['cluster', 'tls-nginx', 'tls-caddy'].map((name) => `deploy/compose/${name}.yml`),
    ];
    for (const file of files)
      for (const [name, value] of BUFFER_LIMITS)
        match(
          read(file),
          new RegExp(`^ {6}net\\.ipv4\\.${name}: ${value.replaceAll('\t', ' ')}$`, 'mu'),
          file,
        );
  });

  test('gives the programs settings without warnings, with each of the other files and all of .env.example', async (t) => {
    const directory = await scratch(t);
    const example = readFileSync(join(ROOT, 'deploy', 'compose', '.env.example'), 'utf8');
    const shown = example.match(/^#[A-Z_]+=.+$/gmu) ?? [];
    ok(shown.length > 30);
    const needed: Readonly<Record<string, Readonly<Record<string, string>>>> = {
      'cluster.yml': { RELAY_CLUSTER_SECRET: 'x'.repeat(32), RELAY_CLUSTER_PASSWORD: 'y'.repeat(32) },
      'one-port.yml': { TLS_DIRECTORY: directory },
      'tls-nginx.yml': { TLS_DIRECTORY: directory },
      'tls-caddy.yml': { RELAY_DOMAIN: 'relay.example.org' },
      'acme.yml': { RELAY_ACME_DOMAIN: 'relay.example.org', RELAY_ACME_AGREE: 'true' },
    };
    const files = readdirSync(join(ROOT, 'deploy', 'compose')).filter((name) => name.endsWith('.yml'));
    const warned: string[] = [];
    for (const name of ['', ...files]) {
      const envFile = join(directory, `${name}.env`);
      const settings = Object.entries(needed[name] ?? {}).map(([variable, value]) => `${variable}=${value}`);
      writeFileSync(envFile, [...shown.map((line) => line.slice(1)), ...settings, ''].join('\n'));
      await using project = new ComposeProject({
        project: sandbox.name('settings'),
        files: ['docker-compose.yml', ...(name === '' ? [] : [`deploy/compose/${name}`])],
        envFile,
      });
      const { services }: { services: Services } = JSON.parse(
        await project.run('config', '--format', 'json'),
      );
      for (const [service, { environment = {} }] of Object.entries(services)) {
        if (!/^(?:relay|sidecar)/u.test(service)) continue;
        const given = Object.entries(environment).flatMap(([variable, value]) =>
          value === null ? [] : [[variable, value]],
        );
        const all: Record<string, string> = { ...imageSettings(), ...Object.fromEntries(given) };
        const read = service === 'sidecar' ? readSidecarConfig(all) : readRelayConfig(all, 1);
        equal(read.kind, 'ok', JSON.stringify(read));
        warned.push(...read.warnings.map(({ message }) => `${name} ${service}: ${message}`));
      }
    }
    deepEqual(warned, []);
  });

  test('knows every variable', () => {
    const compose = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
    for (const variable of [...Object.keys(RELAY_DEFAULTS), ...Object.keys(SIDECAR_DEFAULTS)]) {
      if (FIXED.has(variable)) continue;
      match(compose, new RegExp(`^ {6}${variable}:`, 'mu'));
    }
  });
});

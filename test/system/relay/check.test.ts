import { deepEqual, doesNotMatch, equal, match, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import type { Identity } from '../../support/certificates.ts';
import { runCommandLine } from '../../support/command-line.ts';
import type { Ended } from '../../support/command-line.ts';
import { freePort, hasIpv6, listening } from '../../support/listening.ts';
import { scrape } from '../../support/metrics.ts';
import { Program } from '../../support/programs.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch, until } from '../../support/scratch.ts';
import { TestClient, connectPair } from '../../support/test-client.ts';

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

const DAY_MS = 86_400_000;

/** Bytes of a transfer, so few that a busy machine finishes it. */
const SIZE = ['--size=100kB', '--timeout=30s'];

/** For tests in which the timeout passes. */
const SHORT = ['--size=100kB', '--timeout=3s'];

type Environment = Readonly<Record<string, string>>;

/** Checks endpoints. No token may be printed. */
async function check(words: readonly string[], env: Environment = {}): Promise<Ended> {
  const ended = await runCommandLine(['check', ...words], env);
  equal(ended.stderr, '');
  doesNotMatch(ended.stdout, /[0-9a-f]{16}/u);
  return ended;
}

/** Expects that the only test fails with this line. */
async function fails(words: readonly string[], line: RegExp, env: Environment = {}): Promise<void> {
  const { code, stdout } = await check(words, env);
  match(stdout, /^failed {2}[^\n]+\n$/u);
  match(stdout.trimEnd(), line);
  equal(code, 1);
}

/** A relay with this certificate, and the environment that trusts `authority`. */
async function secureRelay(
  context: TestContext,
  identity: Identity,
  authority: Identity,
): Promise<{ readonly relay: RelayProcess; readonly port: number; readonly env: Environment }> {
  const { path, files } = await CertificateDirectory.open(context, identity);
  const port = await freePort();
  const certificate = `privateKey=${files.keyPath}:certKey=${files.certificatePath}`;
  const trusted = join(path, 'authority.pem');
  writeFileSync(trusted, authority.certificate);
  const relay = await RelayProcess.start({
    RELAY_LISTEN: `ssl:${port}:interface=127.0.0.1:${certificate}`,
  });
  return { relay, port, env: { NODE_EXTRA_CA_CERTS: trusted } };
}

const OK_LINE = String.raw`round trip [\d.]+ ms, [\d.]+ [kM]B/s`;

describe('transit-relay check', () => {
  test('pairs clients through each endpoint and between each two, and counts as clients', async (context) => {
    const path = join(await scratch(context), 'usage.sqlite');
    await using relay = await RelayProcess.start({
      RELAY_WEBSOCKET_LISTEN: ANY_PORT,
      RELAY_USAGE_DB: path,
    });
    const [raw, websocket] = [relay.port('raw'), relay.port('websocket')];
    const endpoints = [`127.0.0.1:${raw}`, `tcp:127.0.0.1:${raw}`, `ws://127.0.0.1:${websocket}/any`];
    const { code, stdout } = await check([...SIZE, ...endpoints]);
    const [tcp, ws] = [`tcp:127.0.0.1:${raw}`, `ws://127.0.0.1:${websocket}/any`];
    const lines = [tcp, ws, `${tcp} to ${ws}`].map((name) => `ok {6}${name}: ${OK_LINE}\n`);
    match(stdout, new RegExp(`^${lines.join('')}$`, 'u'));
    equal(code, 0);
    await relay.stop();
    using usage = new UsageReader(path);
    deepEqual(
      usage.rows().map(({ result }) => result),
      ['happy', 'happy', 'happy'],
    );
    doesNotMatch(relay.log, /"level":"(?:warn|error)"/u);
  });

  test('prints JSON', async () => {
    await using relay = await RelayProcess.start({});
    const up = `tcp:127.0.0.1:${relay.port('raw')}`;
    const down = `tcp:127.0.0.1:${await freePort()}`;
    const { code, stdout } = await check([...SIZE, '--json', up, down]);
    equal(code, 1);
    const report: unknown = JSON.parse(stdout, (key, value: unknown) =>
      typeof value === 'number' ? key : value,
    );
    deepEqual(report, {
      ok: false,
      tests: [
        {
          from: up,
          to: up,
          result: 'ok',
          round_trip_ms: 'round_trip_ms',
          bytes: 'bytes',
          bytes_per_second: 'bytes_per_second',
        },
        {
          from: down,
          to: down,
          result: 'failed',
          failure: {
            code: 'refused',
            message: `connection refused; start the relay, publish its port, or check the port number ${down.slice(14)}; in a container, 127.0.0.1 is the container itself`,
          },
        },
      ],
    });
  });

  test('reaches a relay over IPv6', { skip: !hasIpv6 && 'no IPv6' }, async () => {
    await using relay = await RelayProcess.start({ RELAY_LISTEN: 'tcp:0:interface=\\:\\:1' });
    const endpoint = `[::1]:${relay.port('raw')}`;
    const { code, stdout } = await check([...SIZE, endpoint, `ws://${endpoint}`]);
    equal(code, 0, stdout);
    equal(stdout.match(/^ok {6}/gmu)?.length, 3);
  });

  for (const [words, problem] of [
    [[], /^transit-relay: check: an endpoint is needed: tcp:HOST:PORT, /u],
    [['tcp:4001'], /endpoint "tcp:4001" can't be used: it has no host; use tcp:HOST:4001;/u],
    [['--timeout=never', 'a:1'], /--timeout="never" can't be used; accepted: a duration like/u],
    [['--timeout=0s', 'a:1'], /--timeout="0s" can't be used/u],
    [['--size=0MB', 'a:1'], /--size="0MB" can't be used; accepted: a size like/u],
    [['--jsn', 'a:1'], /unknown option --jsn; the most similar one is --json;/u],
    [Array.from({ length: 9 }, (_, index) => `a:${index + 1}`), /more than 8 endpoints/u],
  ] as const) {
    test(`rejects ${JSON.stringify(words)} with exit code 64`, async () => {
      const { code, stdout, stderr } = await runCommandLine(['check', ...words]);
      deepEqual([code, stdout], [64, '']);
      match(stderr, problem);
    });
  }
});

describe('transit-relay check of a certificate', () => {
  const authority = makeIdentity('authority');

  test('says for how many days it is valid, and warns below 14 days', async (context) => {
    for (const [days, line] of [
      [30.5, 'certificate for 30 days'],
      [13.5, 'warning: the certificate expires in 13 days'],
      [1.5, 'warning: the certificate expires in 1 day'],
    ] as const) {
      const notAfter = new Date(Date.now() + days * DAY_MS);
      const identity = makeIdentity('localhost', { issuer: authority, notAfter });
      const { relay, port, env } = await secureRelay(context, identity, authority);
      await using _ = relay;
      const endpoints = [`ssl:localhost:${port}`, `wss://localhost:${port}/`];
      const { code, stdout } = await check([...SIZE, ...endpoints], env);
      const lines = endpoints.map((name) => `ok {6}${name}: ${OK_LINE}, ${line}\n`);
      match(stdout, new RegExp(`^${lines.join('')}ok {6}${endpoints.join(' to ')}: ${OK_LINE}\n$`, 'u'));
      equal(code, 0);
      const { stdout: json } = await check([...SIZE, '--json', `ssl:localhost:${port}`], env);
      const expires = new Date(Math.floor(notAfter.getTime() / 1000) * 1000).toISOString();
      const certificate = { expires, days: Math.floor(days), problem: null };
      const report: unknown = JSON.parse(json);
      ok(typeof report === 'object' && report !== null && 'tests' in report && Array.isArray(report.tests));
      deepEqual(report.tests[0]?.certificate, certificate);
    }
  });

  const past = new Date(Date.now() - 3 * DAY_MS);
  const future = new Date(Date.now() + 3 * DAY_MS);
  const cases: readonly (readonly [string, Identity, RegExp])[] = [
    [
      'has expired',
      makeIdentity('localhost', { issuer: authority, notBefore: new Date(0), notAfter: past }),
      /the certificate expired on \d{4}-\d\d-\d\d; renew it$/u,
    ],
    [
      'is not valid yet',
      makeIdentity('localhost', { issuer: authority, notBefore: future }),
      /the certificate is not valid before \d{4}-\d\d-\d\d;/u,
    ],
    ['is self-signed', makeIdentity('localhost'), /the certificate is self-signed/u],
    [
      'has an unknown issuer',
      makeIdentity('localhost', { issuer: makeIdentity('other') }),
      /the issuer of the certificate is unknown; .*fullchain\.pem/u,
    ],
    [
      'has another name',
      makeIdentity('relay.example.org', { issuer: authority }),
      /the certificate is for relay\.example\.org, 127\.0\.0\.1, not for localhost$/u,
    ],
  ];
  for (const [what, identity, line] of cases) {
    test(`fails if it ${what}, unless --insecure is set`, async (context) => {
      const { relay, port, env } = await secureRelay(context, identity, authority);
      await using _ = relay;
      for (const endpoint of [`ssl:localhost:${port}`, `wss://localhost:${port}`]) {
        await fails([...SIZE, endpoint], line, env);
        const { code, stdout } = await check([...SIZE, '--insecure', endpoint], env);
        match(stdout, new RegExp(`^ok .*, warning: .*\n$`, 'u'));
        match(stdout.trimEnd(), line);
        equal(code, 0);
      }
    });
  }
});

describe('transit-relay check of a wrong port', () => {
  test('names the endpoint that would be right', async () => {
    await using relay = await RelayProcess.start({ RELAY_WEBSOCKET_LISTEN: ANY_PORT });
    const [raw, websocket] = [relay.port('raw'), relay.port('websocket')].map((port) => `127.0.0.1:${port}`);
    for (const [endpoint, right] of [
      [`tcp:${websocket}`, `ws://${websocket}/`],
      [`ssl:${raw}`, `tcp:${raw}`],
      [`wss://${raw}`, `tcp:${raw}`],
    ] as const) {
      await fails([...SHORT, endpoint], new RegExp(`a transit relay for .* is there: use ${right}$`, 'u'));
    }
  });

  test('says that it is an HTTP server', async (context) => {
    await using relay = await RelayProcess.start({});
    const ports = [
      await listening(
        context,
        createHttpServer((_, response) => response.end()),
      ),
    ];
    await fails([...SHORT, `tcp:127.0.0.1:${ports[0]}`], /it is an HTTP server$/u);
    for (const port of [...ports, relay.port('status')])
      await fails([...SHORT, `ws://127.0.0.1:${port}`], /HTTP status \d+ instead of a WebSocket;/u);
  });

  test('says that nothing listens, or that the name does not exist', async () => {
    await fails([`tcp:127.0.0.1:${await freePort()}`], /connection refused/u);
    await fails(['wss://relay.invalid'], /check the name relay\.invalid and its DNS records$/u);
  });

  test('says that it is a mailbox server', { skip: withoutMailbox() }, async (context) => {
    const command = ['wormhole-mailbox', '--port=tcp:0:interface=127.0.0.1', '--channel-db=:memory:'];
    await using mailbox = new Program(['twistd3', '-n', '--pidfile=', ...command], {
      cwd: await scratch(context),
      env: { PATH: process.env['PATH'] },
    });
    const [, port] = await mailbox.waitForOutput(/PrivacyEnhancedSite starting on (\d+)/u);
    for (const endpoint of [`tcp:127.0.0.1:${port}`, `ws://127.0.0.1:${port}/v1`])
      await fails([...SHORT, endpoint], /it is a mailbox server, the other server of magic-wormhole;/u);
  });

  test('ends if the server never answers', async (context) => {
    const port = await listening(
      context,
      createServer((socket) => socket.resume()),
    );
    await fails(['--timeout=3s', `tcp:127.0.0.1:${port}`], /two clients .* were not paired/u);
  });
});

function withoutMailbox(): string | false {
  if (spawnSync('twistd3', ['wormhole-mailbox', '--help']).status === 0) return false;
  return 'no mailbox server: install the Debian package python3-magic-wormhole-mailbox-server';
}

describe('transit-relay check of a relay that rejects clients', () => {
  test('says that it is full', async () => {
    await using relay = await RelayProcess.start({ RELAY_MAX_CONNECTIONS: '1' });
    await fails([...SIZE, `127.0.0.1:${relay.port('raw')}`], /the answer is "busy": the relay is full/u);
  });

  test('says that its quota is used up', async (context) => {
    await using relay = await RelayProcess.start({
      RELAY_QUOTA: '50kB/day',
      RELAY_QUOTA_STATE: join(await scratch(context), 'quota.json'),
      RELAY_WEBSOCKET_LISTEN: ANY_PORT,
    });
    const endpoint = `127.0.0.1:${relay.port('raw')}`;
    // A pair that is connected may finish its transfer.
    equal((await check([...SIZE, endpoint])).code, 0);
    await relay.waitForLog(/"msg":"quota exhausted/u);
    await fails([...SIZE, endpoint], /the answer is "over quota": .*RELAY_QUOTA/u);
    await fails([...SIZE, `ws://127.0.0.1:${relay.port('websocket')}`], /the answer is "over quota"/u);
  });

  test('says that it is stopping', async () => {
    await using relay = await RelayProcess.start({ RELAY_DRAIN_DELAY: '1h', RELAY_DRAIN_TIMEOUT: '1h' });
    const addresses = { tcpPort: relay.port('raw'), unixPath: '', websocketPort: 0 };
    const connect = (): Promise<TestClient> => TestClient.connect('tcp', addresses);
    const pair = await connectPair({ connect }, 'tcp', 'tcp');
    // The relay listens for the partner of this one.
    const waiting = await connect();
    await waiting.send(handshake(newToken(), SIDE_A));
    const status = `http://127.0.0.1:${relay.port('status')}`;
    await until(async () => (await scrape(status)).get('transit_relay_connections_waiting') === 1);
    relay.kill('SIGTERM');
    await relay.waitForLog(/"msg":"draining"/u);
    await fails([...SIZE, `127.0.0.1:${relay.port('raw')}`], /the answer is "shutting down"/u);
    for (const client of [waiting, ...pair]) client.end();
    await relay.ended();
  });
});

import { deepEqual, doesNotMatch, equal, notEqual, ok } from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { Program, findProgram } from '../../support/programs.ts';
import { UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { SecureClient } from '../../support/secure-client.ts';
import { Activation, PYTHON, withoutSocketActivation } from '../../support/socket-activation.ts';
import { TestClient } from '../../support/test-client.ts';
import { UNITS, environmentOf } from './units.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const SERVICE = 'transit-relay.service';
const SIDECAR = 'transit-relay-sidecar.service';
const OK = 'ok\n';

/** More than one read. */
const SOME_BYTES = 300_000;

/** The last log line before clients can connect. */
const LISTENING = /"role":"websocket".*\n/u;

/** Runs a command under the service's system call filter. */
const FILTER = [PYTHON, join(ROOT, 'test', 'support', 'seccomp.py'), 'unit', join(UNITS, SERVICE), '--'];

const withoutFilter =
  findProgram('systemd-analyze') === null ? 'no "systemd-analyze": install the Debian package systemd' : null;

/** The program of the service under its own system call filter, with sockets on free ports. */
async function start(
  context: TestContext,
  settings: Readonly<Record<string, string>> = {},
): Promise<{ readonly activation: Activation; readonly databasePath: string }> {
  const directory = await scratch(context);
  const databasePath = join(directory, 'usage.sqlite');
  const activation = await Activation.start({
    sockets: { raw: 'tcp:127.0.0.1', websocket: 'tcp:127.0.0.1', tls: 'tcp:127.0.0.1' },
    command: [...FILTER, process.execPath, join(ROOT, 'src', 'main.ts')],
    env: {
      ...environmentOf(SERVICE),
      NODE_COMPILE_CACHE: join(directory, 'cache'),
      RELAY_STATUS_LISTEN: '',
      RELAY_USAGE_DB: databasePath,
      ...settings,
    },
  });
  context.after(() => activation[Symbol.asyncDispose]());
  return { activation, databasePath };
}

type Client = TestClient | SecureClient;

/** A client of either port without TLS, closed after the test at the latest. */
async function plainClient(
  context: TestContext,
  activation: Activation,
  transport: 'tcp' | 'websocket',
): Promise<TestClient> {
  const ports = { tcpPort: activation.port('raw'), websocketPort: activation.port('websocket') };
  const client = await TestClient.connect(transport, { ...ports, unixPath: '' });
  context.after(() => client.destroy());
  return client;
}

/** Pairs two clients, exchanges data in both directions, and disconnects them. */
async function exchange(first: Client, second: Client): Promise<void> {
  const token = newToken();
  await first.send(handshake(token, SIDE_A));
  await second.send(handshake(token, SIDE_B));
  await Promise.all([first, second].map((client) => client.until(OK.length)));
  const payloads = [randomBytesOf(1, SOME_BYTES), randomBytesOf(2, SOME_BYTES)] as const;
  await first.send(payloads[0]);
  await second.send(payloads[1]);
  const received = await Promise.all([first, second].map((client) => client.until(OK.length + SOME_BYTES)));
  ok(received[0]?.equals(Buffer.concat([Buffer.from(OK), payloads[1]])));
  ok(received[1]?.equals(Buffer.concat([Buffer.from(OK), payloads[0]])));
  first.end();
  second.end();
  await Promise.all([first.closed, second.closed]);
}

describe(
  'a relay with systemd socket activation',
  { skip: withoutSocketActivation() ?? withoutFilter ?? false },
  () => {
    test('pairs clients of both its ports under the filter of its unit, with a record', async (context) => {
      const { activation, databasePath } = await start(context);
      await activation.program.waitForOutput(LISTENING);
      const raw = await plainClient(context, activation, 'tcp');
      const websocket = await plainClient(context, activation, 'websocket');
      await exchange(raw, websocket);
      await stop(activation);
      using usage = new UsageReader(databasePath);
      deepEqual(
        usage.rows().map(({ result, total_bytes }) => [result, total_bytes]),
        [['happy', 2 * SOME_BYTES]],
      );
      // It would log a missing permission.
      doesNotMatch(activation.program.stdout, /"level":"(?:warn|error|fatal)"/u);
    });

    test('keeps its ports during a restart: clients that connect meanwhile are served afterwards', async (context) => {
      const { activation, databasePath } = await start(context);
      await activation.program.waitForOutput(LISTENING);
      await exchange(
        await plainClient(context, activation, 'tcp'),
        await plainClient(context, activation, 'tcp'),
      );
      const before = await stop(activation);
      // These connect before any process accepts.
      await exchange(
        await plainClient(context, activation, 'tcp'),
        await plainClient(context, activation, 'tcp'),
      );
      notEqual(await stop(activation), before);
      using usage = new UsageReader(databasePath);
      equal(usage.rows().length, 2);
    });

    test('serves TLS on a socket of its own', async (context) => {
      const identity = makeIdentity();
      const { files } = await CertificateDirectory.open(context, identity);
      const { activation } = await start(context, {
        RELAY_WEBSOCKET_LISTEN:
          `systemd:domain=INET:index=1 systemd:domain=INET:name=tls:privateKey=${files.keyPath}` +
          `:certKey=${files.certificatePath}`,
      });
      await activation.program.waitForOutput(LISTENING);
      const secure = await SecureClient.connect(activation.port('tls'), identity.certificate);
      context.after(() => secure[Symbol.dispose]());
      await exchange(secure, await plainClient(context, activation, 'tcp'));
    });

    test('may start the process that requests a certificate', async (context) => {
      const { activation } = await start(context, {
        RELAY_WEBSOCKET_LISTEN: 'systemd:domain=INET:index=1 systemd:domain=INET:name=tls:tls=acme',
        RELAY_ACME_DOMAIN: 'relay.example.org',
        RELAY_ACME_AGREE: 'true',
        RELAY_ACME_DIRECTORY: 'https://127.0.0.1:10443/directory',
      });
      // It has got as far as the connection.
      await activation.program.waitForOutput(
        /"event":"acme_failed",.*"detail":"127\.0\.0\.1:10443: ECONNREFUSED"/u,
      );
    });

    test('without its socket reports the available ones and exits', async (context) => {
      const { activation } = await start(context, { RELAY_LISTEN: 'systemd:domain=INET:index=3' });
      await activation.program.waitForOutput(
        /"level":"fatal".*\["can't listen on systemd:domain=INET:index=3: .* there are 0 \(raw\), 1 \(websocket\), 2 \(tls\)"\]/u,
      );
      await activation.program.waitForOutput(/^ended with 1$/mu);
    });
  },
);

describe('the system call filter of the units', { skip: withoutFilter ?? false }, () => {
  test('lets the sidecar run, which lowers its priority', async (context) => {
    const directory = await scratch(context);
    const filter = [PYTHON, join(ROOT, 'test', 'support', 'seccomp.py'), 'unit', join(UNITS, SIDECAR), '--'];
    const settings = {
      PATH: process.env['PATH'],
      NODE_COMPILE_CACHE: join(directory, 'cache'),
      SIDECAR_LISTEN: 'tcp:0:interface=127.0.0.1',
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    };
    const env = { ...environmentOf(SIDECAR), ...settings };
    await using sidecar = new Program(
      [...filter, process.execPath, join(ROOT, 'src', 'sidecar', 'main.ts')],
      { env },
    );
    await sidecar.waitForOutput(/"role":"sidecar"/u);
  });

  test('rejects unneeded system calls with an error', async () => {
    const program = `
      const { networkInterfaces, setPriority } = require('node:os');
      for (const attempt of [() => setPriority(5), networkInterfaces]) {
        try { attempt(); process.stdout.write('done '); } catch { process.stdout.write('refused '); }
      }`;
    const command = [process.execPath, '-e', program];
    equal(await outputOf(command), 'done done ');
    equal(await outputOf([...FILTER, ...command]), 'refused refused ');
  });
});

async function outputOf(command: readonly string[]): Promise<string> {
  await using program = new Program(command);
  await program.succeeds(20_000);
  return program.stdout;
}

/** Stops the relay as systemd does, and returns its process id. */
async function stop({ program }: Activation): Promise<string> {
  const started = [...program.stdout.matchAll(/^started (\d+)$/gmu)];
  const [, pid = ''] = started.at(-1) ?? [];
  process.kill(Number(pid), 'SIGTERM');
  await program.waitForOutput(new RegExp(`(?:ended with 0[^]*){${started.length}}`, 'u'));
  return pid;
}

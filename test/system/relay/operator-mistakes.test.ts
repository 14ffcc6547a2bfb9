import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { handshake, newToken } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { freePort, listening } from '../../support/listening.ts';
import { CONDITION_TIMEOUT_MS, Program, fatalReasons, findProgram } from '../../support/programs.ts';
import { publicCheckout } from '../../support/public-checkout.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

/** Exit codes: cannot start, wrong words, invalid configuration. */
const [CANNOT_START, WRONG_WORDS, BAD_CONFIGURATION] = [1, 64, 78];

const LOOPBACK = 'tcp:0:interface=127.0.0.1';

/** A user without privileges. */
const NOBODY = '65534';

const TOKEN = '0123456789abcdef';

type Settings = Readonly<Record<string, string>>;

interface Mistake {
  /** What the operator wrote or forgot. */
  readonly mistake: string;
  readonly settings?: Settings | ((context: TestContext) => Promise<Settings>);
  /** Words after `transit-relay`; default: none, which starts the relay. */
  readonly words?: readonly string[];
  /** Runs as this user. */
  readonly user?: string;
  /** Exit code; null: it runs, and its log has the line. */
  readonly code: number | null;
  /** What the operator reads in one of the reasons or lines. */
  readonly shown: RegExp;
}

/** Values that are not valid, of the relay. */
const invalid = (variable: string, value: string, shown: RegExp): Mistake => ({
  mistake: `${variable}=${value}`,
  settings: { [variable]: value },
  code: BAD_CONFIGURATION,
  shown: new RegExp(`^${variable}=.*${shown.source}`, 'u'),
});

/** Settings that are accepted with a warning. */
const doubtful = (settings: Settings, shown: RegExp): Mistake => ({
  mistake: Object.entries(settings)
    .map(([variable, value]) => `${variable}=${value}`)
    .join(' '),
  settings,
  code: null,
  shown,
});

const SIDECAR = { SIDECAR_USAGE_DB: '/data/usage.sqlite', SIDECAR_LISTEN: LOOPBACK };

const endpointWith = (key: string, certificate: string): Settings => ({
  RELAY_LISTEN: `ssl:0:interface=127.0.0.1:privateKey=${key}:certKey=${certificate}`,
});

const MISTAKES: readonly Mistake[] = [
  // Names.
  doubtful({ RELAY_QUTOA: '5TB/month' }, /RELAY_QUTOA is unknown .* most similar variable is RELAY_QUOTA/u),
  doubtful({ MW_RELAY_PORT: '4001' }, /MW_RELAY_PORT .* another image .* use RELAY_LISTEN=tcp:4001/u),
  doubtful({ RELAY_PORT: '5000' }, /RELAY_PORT .* docker-compose\.yml .* no effect here; use RELAY_LISTEN/u),
  {
    mistake: 'RELAY_QUTOA=5TB/month, before the start',
    words: ['config', '--check'],
    settings: { RELAY_QUTOA: '5TB/month' },
    code: BAD_CONFIGURATION,
    shown: /^error: RELAY_QUTOA is unknown .* most similar variable is RELAY_QUOTA$/u,
  },
  {
    mistake: 'transit-relay sevre',
    words: ['sevre'],
    code: WRONG_WORDS,
    shown: /sevre.*most similar one is serve/u,
  },
  // Units.
  invalid('RELAY_PAIR_BYTES', '50', /it has no unit: write 50MB or 50B/u),
  invalid('RELAY_BUFFER_MEMORY', '64M', /write 64MB/u),
  invalid('RELAY_QUOTA', '5TB', /it has no period: write 5TB\/month or 5TB\/day/u),
  invalid('RELAY_TOTAL_RATE', '100Mbps', /it means bytes or bits: write 100MB\/s or 100Mbit\/s/u),
  invalid('RELAY_NEW_CONNECTIONS_PER_ADDRESS', '60', /it has no period: write 60\/min/u),
  invalid('RELAY_IDLE_TIMEOUT', '5 minutes', /write 5m/u),
  invalid('RELAY_USAGE_RETENTION', '400', /it has no unit: write 400d/u),
  // Endpoints.
  invalid('RELAY_LISTEN', 'localhost:4001', /write 127\.0\.0\.1:4001/u),
  invalid('RELAY_LISTEN', 'tcp://0.0.0.0:4001', /write 0\.0\.0\.0:4001/u),
  invalid('RELAY_LISTEN', '4001/tcp', /write tcp:4001/u),
  invalid('RELAY_LISTEN', 'tcp:4001:interface=::1', /write \[::1\]:4001/u),
  invalid('RELAY_LISTEN', 'relay.example.org:4001', /has a name, .* or tcp:4001 for all of them/u),
  invalid('RELAY_LISTEN', '', /no client could connect/u),
  // Other values.
  invalid('RELAY_LISTEN', '"tcp:4001"', /quotation mark/u),
  invalid('RELAY_LOG_LEVEL', 'warning', /write warn/u),
  invalid('RELAY_TRUSTED_PROXIES', '10.0.0.1/8', /write 10\.0\.0\.0\/8 for the network/u),
  {
    mistake: 'RELAY_QUOTA=5TB/month without a usage database',
    settings: { RELAY_QUOTA: '5TB/month' },
    code: BAD_CONFIGURATION,
    shown: /^RELAY_QUOTA_STATE=.*must survive restarts/u,
  },
  {
    mistake: 'RELAY_CLUSTER_URL without a secret',
    settings: { RELAY_CLUSTER_URL: 'redis://127.0.0.1' },
    code: BAD_CONFIGURATION,
    shown: /^RELAY_CLUSTER_SECRET=.*it is required because RELAY_CLUSTER_URL is set.*openssl rand/u,
  },
  {
    mistake: 'RELAY_ACME_DOMAIN without agreement to the terms',
    settings: { RELAY_ACME_DOMAIN: 'relay.example.org', RELAY_ACME_STATE: '/acme' },
    code: BAD_CONFIGURATION,
    shown: /^RELAY_ACME_AGREE=.*terms of Let's Encrypt/u,
  },
  // Settings without effect.
  doubtful({ RELAY_QUOTA_GRACE: '10m' }, /RELAY_QUOTA_GRACE has no effect because RELAY_QUOTA is not set/u),
  doubtful(
    { RELAY_MAX_WAITING: '200', RELAY_MAX_CONNECTIONS: '100' },
    /RELAY_MAX_WAITING has no effect because it is above RELAY_MAX_CONNECTIONS/u,
  ),
  doubtful({ RELAY_BUFFER_MEMORY: '1000TB' }, /RELAY_BUFFER_MEMORY leaves too little memory/u),
  // Ports.
  {
    mistake: 'a port that another program uses',
    settings: async (context) => ({
      RELAY_LISTEN: `127.0.0.1:${await listening(context, createServer())}`,
    }),
    code: CANNOT_START,
    shown: /can't listen on tcp:\d+.*another program listens there/u,
  },
  {
    mistake: 'an address that this host does not have',
    settings: { RELAY_LISTEN: '192.0.2.1:4001' },
    code: CANNOT_START,
    shown: /can't listen on tcp:4001:interface=192\.0\.2\.1.*this machine does not have that address/u,
  },
  {
    mistake: 'port 80 as a user without privileges',
    settings: { RELAY_LISTEN: '127.0.0.1:80' },
    user: NOBODY,
    code: CANNOT_START,
    shown: /can't listen on tcp:80.*permission denied.*ports below 1024 need CAP_NET_BIND_SERVICE/u,
  },
  {
    mistake: 'a unix socket in a directory that does not exist',
    settings: { RELAY_LISTEN: 'unix:/nowhere/relay.sock' },
    code: CANNOT_START,
    shown: /can't listen on unix:\/nowhere\/relay\.sock.*its directory does not exist/u,
  },
  // Files.
  {
    mistake: 'a usage database in a directory that does not exist',
    settings: { RELAY_USAGE_DB: '/nowhere/usage.sqlite' },
    code: CANNOT_START,
    shown: /can't use "\/nowhere\/usage\.sqlite" as the usage database.*there is no directory "\/nowhere"/u,
  },
  {
    mistake: 'a usage database in a directory of another user',
    settings: async (context) => {
      const directory = await scratch(context);
      chmodSync(directory, 0o755);
      return { RELAY_USAGE_DB: join(directory, 'usage.sqlite') };
    },
    user: NOBODY,
    code: CANNOT_START,
    shown:
      /can't use ".*usage\.sqlite" as the usage database.*belongs to user 0, but this process runs as user 65534/u,
  },
  {
    mistake: 'a usage database that is another file',
    settings: async (context) => {
      const path = join(await scratch(context), 'usage.sqlite');
      writeFileSync(path, 'RELAY_LISTEN=tcp:4001\n'.repeat(100));
      return { RELAY_USAGE_DB: path };
    },
    code: CANNOT_START,
    shown: /can't use ".*usage\.sqlite" as the usage database.*it is not an SQLite database/u,
  },
  {
    mistake: 'a certificate that does not exist',
    settings: endpointWith('/nowhere/key.pem', '/nowhere/cert.pem'),
    code: CANNOT_START,
    shown: /\/nowhere\/cert\.pem does not exist: check the path in the endpoint/u,
  },
  {
    mistake: 'the private key of another certificate',
    settings: async (context) => {
      const [one, other] = [makeIdentity(), makeIdentity()];
      const { files } = await CertificateDirectory.open(context, { ...one, key: other.key });
      return endpointWith(files.keyPath, files.certificatePath);
    },
    code: CANNOT_START,
    shown: /key\.pem.*does not belong to the first certificate in .*cert\.pem/u,
  },
  {
    mistake: 'an expired certificate',
    settings: async (context) => {
      const identity = makeIdentity('localhost', { notAfter: new Date(Date.now() - 1000) });
      const { files } = await CertificateDirectory.open(context, identity);
      return endpointWith(files.keyPath, files.certificatePath);
    },
    code: null,
    shown: /"certificate_expired".*cert\.pem expired on/u,
  },
  // Health checks.
  {
    mistake: 'a health check without a status port',
    words: ['healthcheck', 'relay'],
    settings: { RELAY_STATUS_LISTEN: '' },
    code: CANNOT_START,
    shown: /RELAY_STATUS_LISTEN is off; the check needs it/u,
  },
  {
    mistake: 'a health check of a relay that does not run',
    words: ['healthcheck', 'relay'],
    settings: async () => ({ RELAY_STATUS_LISTEN: `127.0.0.1:${await freePort()}` }),
    code: CANNOT_START,
    shown: /no response at RELAY_STATUS_LISTEN .*ECONNREFUSED/u,
  },
  // The sidecar.
  {
    mistake: 'a sidecar without SIDECAR_USAGE_DB',
    words: ['sidecar'],
    code: BAD_CONFIGURATION,
    shown: /^SIDECAR_USAGE_DB=.*the sidecar needs it.*RELAY_USAGE_DB/u,
  },
  {
    mistake: 'a token file that is empty',
    words: ['sidecar'],
    settings: { ...SIDECAR, SIDECAR_TOKEN_FILE: '/dev/null' },
    code: BAD_CONFIGURATION,
    shown: /^SIDECAR_TOKEN_FILE="\/dev\/null" can't be used: it is empty/u,
  },
  {
    mistake: 'a token both in a variable and in a file',
    words: ['config', '--sidecar'],
    settings: async (context) => {
      const path = join(await scratch(context), 'token');
      writeFileSync(path, TOKEN);
      return { ...SIDECAR, SIDECAR_TOKEN: 'old', SIDECAR_TOKEN_FILE: path };
    },
    code: 0,
    shown: /^warning: SIDECAR_TOKEN has no effect because SIDECAR_TOKEN_FILE is set$/u,
  },
  {
    mistake: 'a sidecar that listens on all addresses without a token',
    words: ['config', '--sidecar'],
    settings: { ...SIDECAR, SIDECAR_LISTEN: '0.0.0.0:4004' },
    code: 0,
    shown:
      /^warning: SIDECAR_TOKEN is not set: anyone who can reach SIDECAR_LISTEN can read the usage records/u,
  },
];

/** The command line of a mistake. */
function commandOf({ words = [], user }: Mistake): string[] {
  const checkout = publicCheckout();
  const prefix = user === undefined ? [] : ['setpriv', `--reuid=${user}`, '--clear-groups'];
  return [...prefix, checkout.node, checkout.pathOf('transit-relay.ts'), ...words];
}

/** What the program shows at its end, and its exit code. */
function endOf(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<[code: unknown, lines: string[]]> {
  const [file = '', ...args] = command;
  return new Promise((resolve) => {
    execFile(file, args, { env, timeout: CONDITION_TIMEOUT_MS }, (error, stdout, stderr) => {
      const isLog = stdout.startsWith('{') && stdout.includes('"level":"fatal"');
      const lines = isLog ? fatalReasons(stdout) : `${stdout}${stderr}`.trimEnd().split('\n');
      resolve([error === null ? 0 : error.code, [...lines]]);
    });
  });
}

/** The line of the log of a running program. */
async function lineOf(command: readonly string[], env: NodeJS.ProcessEnv, shown: RegExp): Promise<string> {
  await using program = new Program(command, { env });
  const { index, input } = await program.waitForOutput(new RegExp(`${shown.source}.*\\n`, 'u'));
  const [line = ''] = input.slice(input.lastIndexOf('\n', index) + 1).split('\n');
  return line;
}

describe('an operator who makes a mistake', () => {
  const isRoot = process.getuid?.() === 0 && findProgram('setpriv') !== null;

  for (const entry of MISTAKES) {
    const { mistake, settings = {}, code, shown, user } = entry;
    const skip = user !== undefined && !isRoot ? 'needs root and setpriv' : false;
    test(`reads what is wrong: ${mistake}`, { skip }, async (context) => {
      const env = {
        PATH: process.env['PATH'] ?? '',
        ...COMPILE_CACHE,
        RELAY_LISTEN: LOOPBACK,
        RELAY_STATUS_LISTEN: LOOPBACK,
        ...(typeof settings === 'function' ? await settings(context) : settings),
      };
      const command = commandOf(entry);
      if (code === null) {
        context.diagnostic(`${mistake} → ${await lineOf(command, env, shown)}`);
        return;
      }
      const [ended, lines] = await endOf(command, env);
      const line = lines.find((one) => shown.test(one));
      assert.ok(line !== undefined, `${String(ended)}: ${lines.join('\n')}`);
      assert.equal(ended, code);
      context.diagnostic(`${mistake} → exit code ${code}: ${line}`);
    });
  }

  test('reads what is wrong: two relays with one usage database', async (context) => {
    const settings = { RELAY_USAGE_DB: join(await scratch(context), 'usage.sqlite') };
    await using first = await RelayProcess.start(settings);
    await using second = await RelayProcess.start(settings);
    // Each client changes the state that a relay writes.
    const clients = setInterval(() => {
      for (const relay of [first, second])
        connect(relay.port('raw'), '127.0.0.1')
          .on('error', () => undefined)
          .end(handshake(newToken()));
    }, 300);
    context.after(() => clearInterval(clients));
    const shown = /"usage_database_shared".*give each its own RELAY_USAGE_DB/u;
    const [line] = await Promise.race([first.waitForLog(shown), second.waitForLog(shown)]);
    clearInterval(clients);
    context.diagnostic(`two relays with one usage database → ${line}`);
  });

  test('is not bothered by variables that Kubernetes sets', async () => {
    const env = {
      PATH: process.env['PATH'],
      RELAY_SERVICE_HOST: '10.0.0.1',
      RELAY_PORT: 'tcp://10.0.0.1:4001',
    };
    const command = commandOf({ mistake: '', words: ['config', '--check'], code: 0, shown: /^$/u });
    assert.deepEqual(await endOf(command, env), [0, ['']]);
  });
});

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { connect } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { errorCode } from '../../src/process/errors.ts';
import { newToken } from '../support/bytes.ts';
import { CertificateDirectory } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import type { Identity } from '../support/certificates.ts';
import { findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { Bystander, reportAttack } from './support/bystander.ts';

const TESTSSL = findProgram('testssl') ?? findProgram('testssl.sh');

const WITHOUT_TESTSSL =
  TESTSSL === null && 'needs testssl.sh: install the Debian package testssl.sh, or put it on the PATH';

/** A scan takes 40 s, longer on a busy machine: testssl.sh starts thousands of processes. */
const SCAN_TIMEOUT_MS = 240_000;

/** Maximum stall during a scan: 50 ms, or 700 ms under other load. */
const MAX_STALL_MS = 5000;

const UNDISTURBED_MS = 1000;

/** Protocols, suites, forward secrecy, the server's preference, its hello, and all known vulnerabilities. */
const CHECKS = ['-p', '-s', '-f', '-P', '-S', '-U'];

/** Findings that are not about the relay, by their name in testssl.sh. */
const EXCEPTIONS: ReadonlyMap<string, string> = new Map([
  ['engine_problem', "about the scanner's own OpenSSL, which has no GOST engine"],
  [
    'cert_revocation',
    'the test authority has no CRL and no OCSP responder; a public authority brings its own',
  ],
  ['sessionresumption_ticket', 'has an assertion of its own'],
]);

/**
 * The finding about tickets if the scanner disconnects before it has received one, as on a busy machine: then it has none to
 * send.
 */
const NO_TICKET_RECEIVED = 'check failed because of connect problem';

/** Findings that a scan must report as OK: a scan that failed half-way reports no problems either. */
const EXPECTED = [
  'TLS1_2',
  'TLS1_3',
  'cipherlist_STRONG',
  'PFS',
  'cipher_order',
  'cipher_negotiated',
  'cert_chain_of_trust',
  'heartbleed',
  'ticketbleed',
  'ROBOT',
  'secure_renego',
  'secure_client_renego',
  'CRIME_TLS',
  'BREACH',
  'LUCKY13',
  'RC4',
];

interface Finding {
  readonly id: string;
  readonly severity: string;
  readonly finding: string;
}

function isFinding(value: unknown): value is Finding {
  return typeof value === 'object' && value !== null && 'id' in value && 'severity' in value;
}

interface Site {
  readonly relay: RelayProcess;
  readonly port: number;
  readonly authorityPath: string;
  readonly authority: Identity;
}

/** A relay with a certificate of a test authority, like one from a public authority. */
async function startRelay(context: TestContext, type: 'ec' | 'rsa'): Promise<Site> {
  const authority = makeIdentity('Test authority', { type });
  const place = await CertificateDirectory.open(
    context,
    makeIdentity('localhost', { type, issuer: authority }),
  );
  const { keyPath, certificatePath } = place.files;
  const endpoint = `ssl:0:interface=127.0.0.1:privateKey=${keyPath}:certKey=${certificatePath}`;
  const relay = await RelayProcess.start({ RELAY_LISTEN: endpoint });
  context.after(() => relay[Symbol.asyncDispose]());
  const authorityPath = join(place.path, 'authority.pem');
  writeFileSync(authorityPath, authority.certificate);
  return { relay, port: relay.port('raw'), authorityPath, authority };
}

async function scan(testssl: string, site: Site): Promise<Finding[]> {
  const reportPath = `${site.authorityPath}.json`;
  const options = ['--warnings', 'off', '--color', '0', '--nodns', 'none', '--ip', '127.0.0.1'];
  const files = ['--add-ca', site.authorityPath, '--jsonfile', reportPath];
  const args = [...options, ...files, ...CHECKS, `localhost:${site.port}`];
  const output = await new Promise<string>((resolve) => {
    // Its exit code counts findings; a failed scan lacks expected ones.
    const child = execFile(testssl, args, { timeout: SCAN_TIMEOUT_MS }, (_, stdout) => resolve(stdout));
    child.stdin?.end();
  });
  const report: unknown = JSON.parse(readFileSync(reportPath, 'utf8'));
  assert.ok(Array.isArray(report), output);
  return report.filter(isFinding);
}

describe('testssl.sh', { concurrency: 2, skip: WITHOUT_TESTSSL }, () => {
  for (const [name, type] of [
    ['an ECDSA', 'ec'],
    ['an RSA', 'rsa'],
  ] as const) {
    test(`finds no problem in a relay with ${name} certificate`, async (context) => {
      const site = await startRelay(context, type);
      await using bystander = await Bystander.start({ port: site.port, pid: site.relay.pid, tls: true });
      const idle = await bystander.measure(UNDISTURBED_MS);
      let findings: Finding[] = [];
      const during = await bystander.measureWhile(async () => {
        findings = await scan(TESTSSL ?? '', site);
      });
      assert.ok((await bystander.finish()) > 0);
      reportAttack(context, `testssl.sh, ${name} certificate`, idle, during);

      const faults = findings.filter(
        ({ id, severity }) => severity !== 'OK' && severity !== 'INFO' && !EXCEPTIONS.has(id),
      );
      assert.deepEqual(faults, []);
      const passed = new Set(findings.filter(({ severity }) => severity === 'OK').map(({ id }) => id));
      assert.deepEqual(
        EXPECTED.filter((id) => !passed.has(id)),
        [],
      );
      const findingById = new Map(findings.map(({ id, finding }) => [id, finding]));
      assert.equal(findingById.get('cipherlist_AVERAGE'), 'not offered');
      // A test below resumes sessions without the scanner.
      const resumption = findingById.get('sessionresumption_ticket');
      assert.ok(resumption === 'not supported' || resumption === NO_TICKET_RECEIVED, resumption);
      assert.ok(during.stallMs < MAX_STALL_MS, `a stall of ${during.stallMs} ms`);
      assert.equal(during.newPairsFailed, 0);
      await site.relay.stop();
    });
  }
});

/** A client that has completed its handshake, and the tickets it got to resume its session. */
async function connectTlsClient(
  { port, authority }: Site,
  options: ConnectionOptions,
): Promise<{ socket: TLSSocket; sessions: Buffer[] }> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: authority.certificate,
    ...options,
  });
  const sessions: Buffer[] = [];
  socket.on('session', (session) => sessions.push(session));
  await once(socket, 'secureConnect');
  return { socket, sessions };
}

/** A bad handshake line and its reply: by then everything that TLS sends after the handshake has arrived. */
async function expectAnswer(socket: TLSSocket): Promise<void> {
  socket.write(`please relay ${newToken()}!\n`);
  assert.equal(String((await once(socket, 'data'))[0]), 'bad handshake\n');
}

describe('TLS', () => {
  for (const [type, algorithm] of [
    ['ec', 'ECDSA'],
    ['rsa', 'RSA'],
  ] as const) {
    test(`with ${algorithm} certificates picks the suite, and rejects CBC`, async (context) => {
      const site = await startRelay(context, type);
      const chacha = `ECDHE-${algorithm}-CHACHA20-POLY1305`;
      const aes128 = `ECDHE-${algorithm}-AES128-GCM-SHA256`;
      const aes256 = `ECDHE-${algorithm}-AES256-GCM-SHA384`;
      for (const [offered, picked] of [
        [`${aes256}:${aes128}:${chacha}`, aes128],
        [`${aes256}:${chacha}`, aes256],
        // Phones without AES hardware name it first.
        [`${chacha}:${aes128}`, chacha],
        ['TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256', 'TLS_AES_128_GCM_SHA256'],
        ['TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256', 'TLS_CHACHA20_POLY1305_SHA256'],
      ] as const) {
        const version = offered.startsWith('TLS_') ? 'TLSv1.3' : 'TLSv1.2';
        const { socket } = await connectTlsClient(site, {
          ciphers: offered,
          minVersion: version,
          maxVersion: version,
        });
        assert.equal(socket.getCipher().name, picked, offered);
        socket.destroy();
      }
      for (const ciphers of [
        `ECDHE-${algorithm}-AES128-SHA256`,
        `ECDHE-${algorithm}-AES256-SHA`,
        ...(type === 'rsa' ? ['AES128-GCM-SHA256', 'AES128-SHA'] : []),
      ]) {
        await assert.rejects(
          connectTlsClient(site, { ciphers, maxVersion: 'TLSv1.2' }),
          /handshake failure/u,
          ciphers,
        );
      }
    });
  }

  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`${version} sessions cannot be resumed, because no ticket keys are kept`, async (context) => {
      const site = await startRelay(context, 'ec');
      const options = { minVersion: version, maxVersion: version };
      const { socket, sessions } = await connectTlsClient(site, options);
      await expectAnswer(socket);
      socket.destroy();
      const [session] = sessions;
      assert.ok(session !== undefined);
      const again = await connectTlsClient(site, { ...options, session });
      assert.equal(again.socket.isSessionReused(), false);
      again.socket.destroy();
    });
  }

  test('cannot be renegotiated', async (context) => {
    const site = await startRelay(context, 'ec');
    const { socket } = await connectTlsClient(site, { maxVersion: 'TLSv1.2' });
    const outcome = await new Promise((resolve) => {
      socket.once('error', (error) => resolve(errorCode(error)));
      socket.renegotiate({}, (error) => resolve(error === null ? 'renegotiated' : errorCode(error)));
    });
    assert.equal(outcome, 'ERR_SSL_NO_RENEGOTIATION');
    socket.destroy();
    // Other clients are not affected.
    const { socket: other } = await connectTlsClient(site, {});
    await expectAnswer(other);
    other.destroy();
  });
});

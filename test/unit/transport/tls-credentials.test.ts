import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TlsFiles } from '../../../src/config/endpoint.ts';
import {
  CertificateError,
  ReloadableCredentials,
  readCredentials,
} from '../../../src/transport/tls-credentials.ts';
import {
  CertificateDirectory,
  expectEcho,
  serveTls,
  tlsClient,
} from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import type { Identity } from '../../support/certificates.ts';
import { scratch } from '../../support/scratch.ts';

describe('credentials', () => {
  for (const type of ['ec', 'rsa'] as const) {
    test(`support TLS 1.2 and 1.3, but no older version, with ${type} keys`, async (context) => {
      const identity = makeIdentity('localhost', { type });
      const directory = await CertificateDirectory.open(context, identity);
      const credentials = await ReloadableCredentials.load(directory.files);
      const port = await serveTls(context, credentials);
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const socket = await tlsClient(context, port, identity.certificate, { maxVersion: version });
        equal(socket.getProtocol(), version);
        await expectEcho(socket, 'hello');
      }
      // This client supports older versions.
      const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
      await rejects(
        tlsClient(context, port, identity.certificate, old),
        /alert protocol version|unsupported protocol/iu,
      );
    });
  }

  test('have the expiry date of the certificate', async (context) => {
    const notAfter = new Date('2049-05-06T07:08:09Z');
    const directory = await CertificateDirectory.open(context, makeIdentity('localhost', { notAfter }));
    deepEqual((await ReloadableCredentials.load(directory.files)).expiresAt, notAfter);
  });

  const root = makeIdentity('root');
  const intermediate = makeIdentity('middle', { issuer: root });
  const leaf = makeIdentity('localhost', { issuer: intermediate });

  /** The names in the chain that a client gets, which trusts only the root. */
  async function chainNames(context: TestContext, files: TlsFiles): Promise<string[]> {
    const credentials = await ReloadableCredentials.load(files);
    const socket = await tlsClient(context, await serveTls(context, credentials), root.certificate);
    const names: string[] = [];
    let current = socket.getPeerCertificate(true);
    while (!names.includes(String(current.subject.CN))) {
      names.push(String(current.subject.CN));
      current = current.issuerCertificate;
    }
    return names;
  }

  test('include the chain in the certificate file', async (context) => {
    const directory = await CertificateDirectory.open(context, {
      ...leaf,
      certificate: leaf.certificate + intermediate.certificate,
    });
    deepEqual(await chainNames(context, directory.files), ['localhost', 'middle', 'root']);
  });

  test('include the chain in a separate file, which may begin with the certificate', async (context) => {
    for (const chain of [intermediate.certificate, leaf.certificate + intermediate.certificate]) {
      const directory = await CertificateDirectory.open(context, leaf, 'chain.pem');
      writeFileSync(join(directory.path, 'chain.pem'), chain);
      deepEqual(await chainNames(context, directory.files), ['localhost', 'middle', 'root']);
    }
  });

  test('contain no certificate twice', async (context) => {
    const directory = await CertificateDirectory.open(context, leaf, 'chain.pem');
    writeFileSync(join(directory.path, 'chain.pem'), leaf.certificate + intermediate.certificate);
    equal((await readCredentials(directory.files)).chain, leaf.certificate + intermediate.certificate);
  });

  test('may be one file with key and certificate', async (context) => {
    const identity = makeIdentity();
    const directory = await CertificateDirectory.open(context);
    const path = join(directory.path, 'server.pem');
    writeFileSync(path, identity.key + identity.certificate);
    const files = { keyPath: path, certificatePath: path, chainPath: null };
    const port = await serveTls(context, await ReloadableCredentials.load(files));
    await expectEcho(await tlsClient(context, port, identity.certificate), 'hello');
  });
});

describe('the dates of a certificate', () => {
  const notBefore = new Date('2030-01-02T03:04:05Z');
  const notAfter = new Date('2031-01-02T03:04:05Z');
  const identity = makeIdentity('localhost', { notBefore, notAfter });

  const cases: readonly (readonly [when: string, nowMs: number, problem: RegExp | null])[] = [
    [
      'before it is valid',
      notBefore.getTime() - 1,
      /^the certificate .*cert\.pem is not valid before 2030-01-02T03:04:05/u,
    ],
    ['on its first day', notBefore.getTime(), null],
    ['on its last day', notAfter.getTime(), null],
    [
      'after it has expired',
      notAfter.getTime() + 1,
      /^the certificate .*cert\.pem expired on 2031-01-02T03:04:05.*: renew it$/u,
    ],
  ];
  for (const [when, nowMs, problem] of cases) {
    test(`are a problem, but the certificate is used: ${when}`, async (context) => {
      const { files } = await CertificateDirectory.open(context, identity);
      const credentials = await ReloadableCredentials.load(files, () => nowMs);
      if (problem === null) equal(credentials.problem, null);
      else match(credentials.problem ?? '', problem);
      equal(credentials.validity === 'expired', nowMs > notAfter.getTime());
      const port = await serveTls(context, credentials);
      await expectEcho(
        await tlsClient(context, port, identity.certificate, { rejectUnauthorized: false }),
        'hello',
      );
    });
  }
});

/** The error message for the operator. */
async function errorOf(files: TlsFiles): Promise<string> {
  let message = '';
  await rejects(readCredentials(files), (error) => {
    ok(error instanceof CertificateError, String(error));
    equal(error.cause, undefined);
    message = error.message;
    return true;
  });
  return message;
}

function derOf(certificate: string): Buffer {
  return Buffer.from(certificate.replaceAll(/-----.*-----|\s/gu, ''), 'base64');
}

const good = makeIdentity();
const other = makeIdentity();
const weak = makeIdentity('localhost', { type: 'rsa', bits: 512 });
const rsa = makeIdentity('localhost', { type: 'rsa' });

function encrypted(type: 'pkcs8' | 'pkcs1'): string {
  const key = createPrivateKey(rsa.key);
  return key.export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' }).toString();
}

/** Two lines of the key itself. */
const secretLines = good.key.split('\n').slice(1, 3);

describe('the error for unusable certificate files', () => {
  const cases: readonly (readonly [name: string, files: Partial<Identity>, path: string, error: RegExp])[] = [
    ['an empty key', { key: '' }, 'key.pem', /not in PEM format: look for -----BEGIN PRIVATE KEY-----/u],
    [
      'a key that is a certificate',
      { key: good.certificate },
      'key.pem',
      /it contains a certificate, which belongs in certKey=/u,
    ],
    ['a truncated key', { key: good.key.slice(0, 100) }, 'key.pem', /is damaged|not in PEM format/u],
    [
      'a key with an extra character',
      { key: good.key.replace('\n', '\n!') },
      'key.pem',
      /is damaged \(\w+\): restore it/u,
    ],
    [
      'a key with a passphrase',
      { key: encrypted('pkcs8') },
      'key.pem',
      /is encrypted, and the relay has no passphrase: .*openssl pkey -in/u,
    ],
    ['a key with a passphrase in the older format', { key: encrypted('pkcs1') }, 'key.pem', /is encrypted/u],
    [
      'the key of another certificate',
      { key: other.key },
      'key.pem',
      /does not belong to the first certificate in .*cert\.pem/u,
    ],
    [
      'the chain in the wrong order',
      { certificate: other.certificate + good.certificate },
      'cert.pem',
      /with the certificate of this server first/u,
    ],
    [
      'an empty certificate',
      { certificate: '' },
      'cert.pem',
      /not in PEM format: look for -----BEGIN CERTIFICATE-----/u,
    ],
    ['a certificate that is a key', { certificate: good.key }, 'cert.pem', /not in PEM format/u],
    [
      'a truncated certificate',
      { certificate: good.certificate.slice(0, 200) },
      'cert.pem',
      /not in PEM format/u,
    ],
    [
      'a certificate with a missing line',
      { certificate: good.certificate.replace(/\n.{64}/u, '') },
      'cert.pem',
      /is damaged \(\w+\): request a new copy/u,
    ],
    ['a key that is too short', weak, 'key.pem', /OpenSSL rejects .*cert\.pem \(ERR_SSL_EE_KEY_TOO_SMALL\)/u],
  ];
  for (const [name, files, path, expected] of cases) {
    test(`names the file and the remedy, and nothing of the file's contents: ${name}`, async (context) => {
      const directory = await CertificateDirectory.open(context, { ...good, ...files });
      const message = await errorOf(directory.files);
      match(message, expected);
      ok(message.includes(join(directory.path, path)), message);
      equal(message.split('\n').length, 1);
      for (const line of secretLines) ok(!message.includes(line), message);
    });
  }

  test('says how to convert a certificate in DER format', async (context) => {
    const directory = await CertificateDirectory.open(context, good);
    writeFileSync(directory.files.certificatePath, derOf(good.certificate));
    match(
      await errorOf(directory.files),
      /DER format; convert it with openssl x509 -inform der -in .*cert\.pem$/u,
    );
  });

  for (const which of ['keyPath', 'certificatePath', 'chainPath'] as const) {
    test(`says that ${which} does not exist, is not a regular file or is too large`, async (context) => {
      const directory = await CertificateDirectory.open(context, good, 'chain.pem');
      const path = directory.files[which] ?? '';
      writeFileSync(directory.files.chainPath ?? '', good.certificate);
      await readCredentials(directory.files);
      rmSync(path);
      ok((await errorOf(directory.files)).includes(`${path} does not exist: check the path`));
      mkdirSync(path);
      ok((await errorOf(directory.files)).includes(`${path} is not a regular file`));
      rmSync(path, { recursive: true });
      execFileSync('mkfifo', [path]);
      ok((await errorOf(directory.files)).includes(`${path} is not a regular file`));
      rmSync(path);
      writeFileSync(path, Buffer.alloc(2 ** 20 + 1));
      ok((await errorOf(directory.files)).includes(`${path} is larger than 1048576 bytes`));
    });
  }

  test('says that a path through a file does not exist', async (context) => {
    const directory = await CertificateDirectory.open(context, good);
    const files = { ...directory.files, keyPath: join(directory.files.keyPath, 'key.pem') };
    match(await errorOf(files), /key\.pem does not exist: check the path in the endpoint \(ENOTDIR\)$/u);
  });

  test('says that the user of the relay may not read the key', async (context) => {
    const parent = await scratch(context);
    const directory = await CertificateDirectory.open(context, good);
    chmodSync(directory.files.keyPath, 0);
    if (process.getuid?.() !== 0) {
      match(await errorOf(directory.files), /key\.pem can't be read by the user/u);
      return;
    }
    // Root may read every file. The process loads the module before it becomes another user.
    for (const path of [parent, directory.path]) chmodSync(path, 0o755);
    const program = `
      const { readCredentials } = await import(process.argv[1]);
      process.setuid(4242);
      await readCredentials(JSON.parse(process.argv[2]), Date.now()).catch((error) => process.stdout.write(error.message));`;
    const module = new URL('../../../src/transport/tls-credentials.ts', import.meta.url).href;
    const args = ['--input-type=module', '-e', program, module, JSON.stringify(directory.files)];
    const message = String(execFileSync(process.execPath, args));
    match(message, /key\.pem can't be read by the user that the relay runs as: check its mode/u);
  });
});

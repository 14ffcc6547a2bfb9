import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TlsFiles } from '../../src/config/endpoint.ts';
import {
  CertificateError,
  ReloadableCredentials,
  readCredentials,
} from '../../src/transport/tls-credentials.ts';
import { CertificateDirectory, echoes, serveTls, tlsClient } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import type { Identity } from '../support/certificates.ts';
import { scratch } from '../support/scratch.ts';

describe('certificates', () => {
  for (const type of ['ec', 'rsa'] as const) {
    test(`with ${type} keys serve TLS 1.2 and 1.3, and nothing older`, async (context) => {
      const identity = makeIdentity('localhost', { type });
      const place = await CertificateDirectory.open(context, identity);
      const certificates = await ReloadableCredentials.load(place.files);
      const port = await serveTls(context, certificates);
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const socket = await tlsClient(context, port, identity.certificate, { maxVersion: version });
        equal(socket.getProtocol(), version);
        await echoes(socket, 'hello');
      }
      // A client that would take part in it, were it offered.
      const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
      await rejects(
        tlsClient(context, port, identity.certificate, old),
        /alert protocol version|unsupported protocol/iu,
      );
    });
  }

  test('say when they end', async (context) => {
    const notAfter = new Date('2049-05-06T07:08:09Z');
    const place = await CertificateDirectory.open(context, makeIdentity('localhost', { notAfter }));
    deepEqual((await ReloadableCredentials.load(place.files)).expiresAt, notAfter);
  });

  const root = makeIdentity('root');
  const middle = makeIdentity('middle', { issuer: root });
  const leaf = makeIdentity('localhost', { issuer: middle });

  /** How many certificates a client is sent that trusts the root alone. */
  async function sentChain(context: TestContext, files: TlsFiles): Promise<string[]> {
    const certificates = await ReloadableCredentials.load(files);
    const socket = await tlsClient(context, await serveTls(context, certificates), root.certificate);
    const names: string[] = [];
    let at = socket.getPeerCertificate(true);
    while (!names.includes(String(at.subject.CN))) {
      names.push(String(at.subject.CN));
      at = at.issuerCertificate;
    }
    return names;
  }

  test('of an authority bring their chain, in one file', async (context) => {
    const place = await CertificateDirectory.open(context, {
      ...leaf,
      certificate: leaf.certificate + middle.certificate,
    });
    deepEqual(await sentChain(context, place.files), ['localhost', 'middle', 'root']);
  });

  test('of an authority bring their chain, in a file of its own that may begin with the certificate', async (context) => {
    for (const chain of [middle.certificate, leaf.certificate + middle.certificate]) {
      const place = await CertificateDirectory.open(context, leaf, 'chain.pem');
      writeFileSync(join(place.directory, 'chain.pem'), chain);
      deepEqual(await sentChain(context, place.files), ['localhost', 'middle', 'root']);
    }
  });

  test('send no certificate twice', async (context) => {
    const place = await CertificateDirectory.open(context, leaf, 'chain.pem');
    writeFileSync(join(place.directory, 'chain.pem'), leaf.certificate + middle.certificate);
    equal((await readCredentials(place.files, Date.now())).chain, leaf.certificate + middle.certificate);
  });

  test('may share a file with their key', async (context) => {
    const identity = makeIdentity();
    const place = await CertificateDirectory.open(context);
    const path = join(place.directory, 'server.pem');
    writeFileSync(path, identity.key + identity.certificate);
    const files = { keyPath: path, certificatePath: path, chainPath: null };
    const port = await serveTls(context, await ReloadableCredentials.load(files));
    await echoes(await tlsClient(context, port, identity.certificate), 'hello');
  });
});

const DAY_MS = 86_400_000;

/** What the operator is told. */
async function faultOf(files: TlsFiles, nowMs = Date.now()): Promise<string> {
  let said = '';
  await rejects(readCredentials(files, nowMs), (error) => {
    ok(error instanceof CertificateError, String(error));
    equal(error.cause, undefined);
    said = error.message;
    return true;
  });
  return said;
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

/** The lines of a key, without the one that says what it is. */
const secret = good.key.split('\n').slice(1, 3);

describe('files of a certificate that are no use', () => {
  const cases: readonly (readonly [what: string, files: Partial<Identity>, path: string, fault: RegExp])[] = [
    [
      'a key that is empty',
      { key: '' },
      'key.pem',
      /none in PEM form: look for -----BEGIN PRIVATE KEY-----/u,
    ],
    [
      'a key that is a certificate',
      { key: good.certificate },
      'key.pem',
      /it has a certificate, which is for certKey=/u,
    ],
    ['a key that is cut off', { key: good.key.slice(0, 100) }, 'key.pem', /is damaged|none in PEM form/u],
    [
      'a key with a letter too many',
      { key: good.key.replace('\n', '\n!') },
      'key.pem',
      /is damaged \(\w+\): restore it/u,
    ],
    [
      'a key with a passphrase',
      { key: encrypted('pkcs8') },
      'key.pem',
      /is encrypted, and there is no passphrase here: .*openssl pkey -in/u,
    ],
    ['an old key with a passphrase', { key: encrypted('pkcs1') }, 'key.pem', /is encrypted/u],
    [
      "somebody else's key",
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
      'a certificate that is empty',
      { certificate: '' },
      'cert.pem',
      /none in PEM form: look for -----BEGIN CERTIFICATE-----/u,
    ],
    ['a certificate that is a key', { certificate: good.key }, 'cert.pem', /none in PEM form/u],
    [
      'a certificate that is cut off',
      { certificate: good.certificate.slice(0, 200) },
      'cert.pem',
      /none in PEM form/u,
    ],
    [
      'a certificate with a hole',
      { certificate: good.certificate.replace(/\n.{64}/u, '') },
      'cert.pem',
      /is damaged \(\w+\): get it anew/u,
    ],
    [
      'a key that is too short',
      weak,
      'key.pem',
      /OpenSSL does not take .*cert\.pem \(ERR_SSL_EE_KEY_TOO_SMALL\)/u,
    ],
  ];
  for (const [what, files, path, fault] of cases) {
    test(`${what}: the file and the remedy are named, and nothing of it`, async (context) => {
      const place = await CertificateDirectory.open(context, { ...good, ...files });
      const said = await faultOf(place.files);
      match(said, fault);
      ok(said.includes(join(place.directory, path)), said);
      equal(said.split('\n').length, 1);
      for (const line of secret) ok(!said.includes(line), said);
    });
  }

  test('a certificate in DER form: how to convert it', async (context) => {
    const place = await CertificateDirectory.open(context, good);
    writeFileSync(place.files.certificatePath, derOf(good.certificate));
    match(await faultOf(place.files), /DER form; convert it with openssl x509 -inform der -in .*cert\.pem$/u);
  });

  test('a certificate that has expired, or is not valid yet, and when', async (context) => {
    const notBefore = new Date('2030-01-02T03:04:05Z');
    const notAfter = new Date('2031-01-02T03:04:05Z');
    const place = await CertificateDirectory.open(
      context,
      makeIdentity('localhost', { notBefore, notAfter }),
    );
    match(
      await faultOf(place.files, notBefore.getTime() - 1),
      /cert\.pem is valid only from 2030-01-02T03:04:05/u,
    );
    match(
      await faultOf(place.files, notAfter.getTime() + 1),
      /cert\.pem has expired, on 2031-01-02T03:04:05/u,
    );
    for (const nowMs of [notBefore.getTime(), notBefore.getTime() + DAY_MS, notAfter.getTime()]) {
      equal((await readCredentials(place.files, nowMs)).expiresAt.getTime(), notAfter.getTime());
    }
  });

  for (const which of ['keyPath', 'certificatePath', 'chainPath'] as const) {
    test(`a ${which} where there is nothing, or no file`, async (context) => {
      const place = await CertificateDirectory.open(context, good, 'chain.pem');
      const path = place.files[which] ?? '';
      writeFileSync(place.files.chainPath ?? '', good.certificate);
      await readCredentials(place.files, Date.now());
      rmSync(path);
      ok((await faultOf(place.files)).includes(`${path} is not there: check the path`));
      mkdirSync(path);
      ok((await faultOf(place.files)).includes(`${path} is no regular file`));
      rmSync(path, { recursive: true });
      execFileSync('mkfifo', [path]);
      ok((await faultOf(place.files)).includes(`${path} is no regular file`));
      rmSync(path);
      writeFileSync(path, Buffer.alloc(2 ** 20 + 1));
      ok((await faultOf(place.files)).includes(`${path} has more than 1048576 bytes`));
    });
  }

  test('a path through a file', async (context) => {
    const place = await CertificateDirectory.open(context, good);
    const files = { ...place.files, keyPath: join(place.files.keyPath, 'key.pem') };
    match(await faultOf(files), /key\.pem is not there: check the path in the endpoint \(ENOTDIR\)$/u);
  });

  test('a key of another user', async (context) => {
    const directory = await scratch(context);
    const place = await CertificateDirectory.open(context, good);
    chmodSync(place.files.keyPath, 0);
    if (process.getuid?.() !== 0) {
      match(await faultOf(place.files), /key\.pem may not be read by the user/u);
      return;
    }
    // Root may read everything. The module is loaded before it becomes somebody who may not.
    for (const path of [directory, place.directory]) chmodSync(path, 0o755);
    const program = `
      const { readCredentials } = await import(process.argv[1]);
      process.setuid(4242);
      await readCredentials(JSON.parse(process.argv[2]), Date.now()).catch((error) => process.stdout.write(error.message));`;
    const module = new URL('../../src/transport/tls-credentials.ts', import.meta.url).href;
    const args = ['--input-type=module', '-e', program, module, JSON.stringify(place.files)];
    const said = String(execFileSync(process.execPath, args));
    match(said, /key\.pem may not be read by the user that the relay runs as: see its mode/u);
  });
});

import { deepEqual, equal, rejects } from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { TlsFiles } from '../../src/config/endpoint.ts';
import { ReloadableCredentials, readCredentials } from '../../src/transport/tls-credentials.ts';
import { CertificatePlace, echoes, serveTls, tlsClient } from '../support/certificate-place.ts';
import { makeIdentity } from '../support/certificates.ts';

describe('certificates', () => {
  for (const type of ['ec', 'rsa'] as const) {
    test(`with ${type} keys serve TLS 1.2 and 1.3, and nothing older`, async (context) => {
      const identity = makeIdentity('localhost', { type });
      const place = await CertificatePlace.open(context, identity);
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
    const place = await CertificatePlace.open(context, makeIdentity('localhost', { notAfter }));
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
    const place = await CertificatePlace.open(context, {
      ...leaf,
      certificate: leaf.certificate + middle.certificate,
    });
    deepEqual(await sentChain(context, place.files), ['localhost', 'middle', 'root']);
  });

  test('of an authority bring their chain, in a file of its own that may begin with the certificate', async (context) => {
    for (const chain of [middle.certificate, leaf.certificate + middle.certificate]) {
      const place = await CertificatePlace.open(context, leaf, 'chain.pem');
      writeFileSync(join(place.directory, 'chain.pem'), chain);
      deepEqual(await sentChain(context, place.files), ['localhost', 'middle', 'root']);
    }
  });

  test('send no certificate twice', async (context) => {
    const place = await CertificatePlace.open(context, leaf, 'chain.pem');
    writeFileSync(join(place.directory, 'chain.pem'), leaf.certificate + middle.certificate);
    equal((await readCredentials(place.files, Date.now())).chain, leaf.certificate + middle.certificate);
  });

  test('may share a file with their key', async (context) => {
    const identity = makeIdentity();
    const place = await CertificatePlace.open(context);
    const path = join(place.directory, 'server.pem');
    writeFileSync(path, identity.key + identity.certificate);
    const files = { keyPath: path, certificatePath: path, chainPath: null };
    const port = await serveTls(context, await ReloadableCredentials.load(files));
    await echoes(await tlsClient(context, port, identity.certificate), 'hello');
  });
});

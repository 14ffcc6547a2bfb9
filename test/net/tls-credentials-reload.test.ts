import { deepEqual, equal, match, rejects, strictEqual } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CertificateError, ReloadableCredentials } from '../../src/transport/tls-credentials.ts';
import { CertificateDirectory, echoes, serveTls, tlsClient } from '../support/certificate-directory.ts';
import { makeIdentity } from '../support/certificates.ts';
import { until } from '../support/scratch.ts';

const LOOK_INTERVAL_MS = 10;
const DAY_MS = 86_400_000;

const first = makeIdentity();
const second = makeIdentity('localhost', { type: 'rsa' });
const third = makeIdentity();

/** Loads them, lets them watch, and returns what comes next of what they say, once they have looked a few times. */
async function watch(
  context: TestContext,
  { files }: CertificateDirectory,
  wallClock = Date.now,
): Promise<{ readonly certificates: ReloadableCredentials; readonly next: () => Promise<string> }> {
  // It is asked at every look.
  let looks = 0;
  const certificates = await ReloadableCredentials.load(files, () => {
    looks += 1;
    return wallClock();
  });
  const said: string[] = [];
  let heard = 0;
  certificates.watch(
    {
      onReloaded: () => said.push('reloaded'),
      onReloadFailed: (error) => said.push(error.message),
      onExpiring: (expiresAt) => said.push(`expires ${expiresAt.toISOString()}`),
    },
    LOOK_INTERVAL_MS,
  );
  context.after(() => certificates.close());
  await until(() => looks > 8);
  async function next(): Promise<string> {
    await until(() => said.length > heard);
    heard += 1;
    return said[heard - 1] ?? '';
  }
  return { certificates, next };
}

describe('certificates that are replaced', () => {
  test('are read when that is asked for: new connections get the new one, old ones go on', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const certificates = await ReloadableCredentials.load(place.files);
    const port = await serveTls(context, certificates);
    const old = await tlsClient(context, port, first.certificate);
    equal(await certificates.reload(), 'unchanged');
    place.put(second);
    equal(await certificates.reload(), 'reloaded');
    equal(await certificates.reload(), 'unchanged');
    await echoes(await tlsClient(context, port, second.certificate), 'new');
    await echoes(old, 'old');
    await rejects(tlsClient(context, port, first.certificate), /self-signed certificate/u);
  });

  test('leave the old one where they are no use', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const certificates = await ReloadableCredentials.load(place.files);
    const { context: before, expiresAt } = certificates;
    writeFileSync(place.files.keyPath, second.key);
    await rejects(certificates.reload(), CertificateError);
    strictEqual(certificates.context, before);
    equal(certificates.expiresAt, expiresAt);
    await echoes(await tlsClient(context, await serveTls(context, certificates), first.certificate), 'hello');
  });

  test('say when the new one ends', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const certificates = await ReloadableCredentials.load(place.files);
    const notAfter = new Date('2040-01-01T00:00:00Z');
    place.put(makeIdentity('localhost', { notAfter }));
    await certificates.reload();
    deepEqual(certificates.expiresAt, notAfter);
  });
});

describe('certificates that are watched', () => {
  test('are read when they are written in place', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const { certificates, next } = await watch(context, place);
    const port = await serveTls(context, certificates);
    const old = await tlsClient(context, port, first.certificate);
    place.put(second);
    equal(await next(), 'reloaded');
    await echoes(await tlsClient(context, port, second.certificate), 'new');
    await echoes(old, 'old');
    place.put(third);
    equal(await next(), 'reloaded');
    await echoes(await tlsClient(context, port, third.certificate), 'newer');
  });

  test('are read when a link to them is replaced, as certbot does', async (context) => {
    const place = await CertificateDirectory.open(context);
    for (const [version, { key, certificate }] of [first, second].entries()) {
      writeFileSync(join(place.directory, `key${version}.pem`), key);
      writeFileSync(join(place.directory, `cert${version}.pem`), certificate);
    }
    function link(version: number): void {
      for (const name of ['key', 'cert']) {
        symlinkSync(`${name}${version}.pem`, join(place.directory, 'new'));
        renameSync(join(place.directory, 'new'), join(place.directory, `${name}.pem`));
      }
    }
    link(0);
    const { certificates, next } = await watch(context, place);
    link(1);
    equal(await next(), 'reloaded');
    await echoes(await tlsClient(context, await serveTls(context, certificates), second.certificate), 'new');
  });

  test('are read when the directory they are in is replaced, as Kubernetes does', async (context) => {
    const place = await CertificateDirectory.open(context);
    for (const [version, { key, certificate }] of [first, second].entries()) {
      mkdirSync(join(place.directory, `..version${version}`));
      writeFileSync(join(place.directory, `..version${version}`, 'key.pem'), key);
      writeFileSync(join(place.directory, `..version${version}`, 'cert.pem'), certificate);
    }
    const data = join(place.directory, '..data');
    symlinkSync('..version0', data);
    for (const name of ['key.pem', 'cert.pem'])
      symlinkSync(join('..data', name), join(place.directory, name));
    const { certificates, next } = await watch(context, place);
    symlinkSync('..version1', `${data}_tmp`);
    renameSync(`${data}_tmp`, data);
    equal(await next(), 'reloaded');
    await echoes(await tlsClient(context, await serveTls(context, certificates), second.certificate), 'new');
  });

  test('are not read while they change from look to look', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const { next } = await watch(context, place);
    writeFileSync(place.files.certificatePath, 'half of it');
    let touched = 0;
    // More often than there are looks, so that no two agree.
    const touching = setInterval(() => {
      touched += 1;
      utimesSync(place.files.keyPath, touched, touched);
    }, LOOK_INTERVAL_MS / 4);
    context.after(() => clearInterval(touching));
    await until(() => touched > 40);
    place.put(second);
    clearInterval(touching);
    equal(await next(), 'reloaded');
  });

  test('that are no use are told of once, and the next good ones are taken', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const { certificates, next } = await watch(context, place);
    writeFileSync(place.files.keyPath, second.key);
    match(await next(), /key\.pem does not belong to/u);
    writeFileSync(place.files.certificatePath, 'nonsense');
    match(await next(), /cert\.pem is none in PEM form/u);
    rmSync(place.files.certificatePath);
    match(await next(), /cert\.pem is not there/u);
    await echoes(await tlsClient(context, await serveTls(context, certificates), first.certificate), 'old');
    place.put(second);
    equal(await next(), 'reloaded');
  });

  test('that will be valid soon are taken then', async (context) => {
    let nowMs = Date.now();
    const place = await CertificateDirectory.open(context, first);
    const { next } = await watch(context, place, () => nowMs);
    place.put(makeIdentity('localhost', { notBefore: new Date(nowMs + DAY_MS) }));
    match(await next(), /is valid only from/u);
    nowMs += 2 * DAY_MS;
    equal(await next(), 'reloaded');
  });

  test('are told of once a day when less than 14 days are left, and used all the same', async (context) => {
    const notAfter = new Date(Math.floor(Date.now() / 1000 + 90 * 86_400) * 1000);
    const identity = makeIdentity('localhost', { notAfter });
    const place = await CertificateDirectory.open(context, identity);
    let nowMs = notAfter.getTime() - 14 * DAY_MS;
    const { next } = await watch(context, place, () => nowMs);
    // What is heard first shows that nothing was said before.
    writeFileSync(place.files.keyPath, '');
    match(await next(), /none in PEM form/u);
    place.put(identity);
    for (let left = 13; left >= -2; left -= 1) {
      nowMs = notAfter.getTime() - left * DAY_MS;
      equal(await next(), `expires ${notAfter.toISOString()}`);
    }
    // Were it said at every look, or were it a fault, it would be heard before this.
    writeFileSync(place.files.keyPath, '');
    match(await next(), /none in PEM form/u);
  });

  test('that are written again as they are cause no words', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const { certificates, next } = await watch(context, place);
    const { context: before } = certificates;
    place.put(first);
    // For as long as it takes another to look a few times.
    await watch(context, place);
    strictEqual(certificates.context, before);
    writeFileSync(place.files.keyPath, '');
    match(await next(), /none in PEM form/u);
  });

  test('keep no process', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const program = `
      const { ReloadableCredentials } = await import(process.argv[1]);
      const certificates = await ReloadableCredentials.load(JSON.parse(process.argv[2]));
      certificates.watch({}, 1e6);`;
    const module = new URL('../../src/transport/tls-credentials.ts', import.meta.url).href;
    const args = ['--input-type=module', '-e', program, module, JSON.stringify(place.files)];
    equal(spawnSync(process.execPath, args, { timeout: 20_000 }).status, 0);
  });

  test('are left alone after the end', async (context) => {
    const place = await CertificateDirectory.open(context, first);
    const { certificates: ended } = await watch(context, place);
    const { next } = await watch(context, place);
    const { context: before } = ended;
    ended.close();
    place.put(second);
    equal(await next(), 'reloaded');
    // Once more, so that the other one would have had its looks too.
    place.put(third);
    equal(await next(), 'reloaded');
    strictEqual(ended.context, before);
  });
});

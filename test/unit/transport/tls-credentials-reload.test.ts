import { deepEqual, equal, match, notEqual, rejects, strictEqual } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CertificateError, ReloadableCredentials } from '../../../src/transport/tls-credentials.ts';
import {
  CertificateDirectory,
  expectEcho,
  serveTls,
  tlsClient,
} from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { until } from '../../support/scratch.ts';

const CHECK_INTERVAL_MS = 10;
const DAY_MS = 86_400_000;

const first = makeIdentity();
const second = makeIdentity('localhost', { type: 'rsa' });
const third = makeIdentity();

/**
 * Loads credentials and watches their files. Returns after a few checks; `next` resolves with the next event.
 */
async function watch(
  context: TestContext,
  { files }: CertificateDirectory,
  wallClock = Date.now,
): Promise<{ readonly credentials: ReloadableCredentials; readonly next: () => Promise<string> }> {
  // Each check reads the clock.
  let checks = 0;
  const credentials = await ReloadableCredentials.load(files, () => {
    checks += 1;
    return wallClock();
  });
  const events: string[] = [];
  let read = 0;
  credentials.watch(
    {
      onReloaded: () => events.push('reloaded'),
      onReloadFailed: (error) => events.push(error.message),
      onExpiring: (expiresAt) => events.push(`expires ${expiresAt.toISOString()}`),
      onInvalid: (state, problem) => events.push(`${state}: ${problem}`),
    },
    CHECK_INTERVAL_MS,
  );
  context.after(() => credentials.close());
  await until(() => checks > 8);
  async function next(): Promise<string> {
    await until(() => events.length > read);
    read += 1;
    return events[read - 1] ?? '';
  }
  return { credentials, next };
}

describe('reloading certificates', () => {
  test('uses the new certificate for new connections, and keeps open ones', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const credentials = await ReloadableCredentials.load(directory.files);
    const port = await serveTls(context, credentials);
    const old = await tlsClient(context, port, first.certificate);
    equal(await credentials.reload(), 'unchanged');
    directory.write(second);
    equal(await credentials.reload(), 'reloaded');
    equal(await credentials.reload(), 'unchanged');
    await expectEcho(await tlsClient(context, port, second.certificate), 'new');
    await expectEcho(old, 'old');
    await rejects(tlsClient(context, port, first.certificate), /self-signed certificate/u);
  });

  test('keeps the old certificate if the new files cannot be used', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const credentials = await ReloadableCredentials.load(directory.files);
    const { context: before, expiresAt } = credentials;
    writeFileSync(directory.files.keyPath, second.key);
    await rejects(credentials.reload(), CertificateError);
    match(credentials.problem ?? '', /key\.pem does not belong to/u);
    strictEqual(credentials.context, before);
    equal(credentials.expiresAt, expiresAt);
    await expectEcho(
      await tlsClient(context, await serveTls(context, credentials), first.certificate),
      'hello',
    );
  });

  test('forgets the problem when the files can be used again', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const credentials = await ReloadableCredentials.load(directory.files);
    writeFileSync(directory.files.keyPath, second.key);
    await rejects(credentials.reload(), CertificateError);
    directory.write(first);
    equal(await credentials.reload(), 'unchanged');
    equal(credentials.problem, null);
  });

  test('replaces an expired certificate by any other, and a valid one by valid ones only', async (context) => {
    const nowMs = Date.now();
    const [expired, older] = [1, 2].map((days) =>
      makeIdentity('localhost', {
        notBefore: new Date(nowMs - 9 * DAY_MS),
        notAfter: new Date(nowMs - days * DAY_MS),
      }),
    );
    const directory = await CertificateDirectory.open(context, expired);
    const credentials = await ReloadableCredentials.load(directory.files);
    equal(credentials.validity, 'expired');
    for (const identity of [older, first]) {
      if (identity !== undefined) directory.write(identity);
      equal(await credentials.reload(), 'reloaded');
    }
    notEqual(credentials.validity, 'expired');
    if (expired !== undefined) directory.write(expired);
    await rejects(credentials.reload(), /expired on/u);
    notEqual(credentials.validity, 'expired');
    match(credentials.problem ?? '', /expired on/u);
  });

  test('changes the expiry date', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const credentials = await ReloadableCredentials.load(directory.files);
    const notAfter = new Date('2040-01-01T00:00:00Z');
    directory.write(makeIdentity('localhost', { notAfter }));
    await credentials.reload();
    deepEqual(credentials.expiresAt, notAfter);
  });
});

describe('watching certificate files', () => {
  test('reloads files that are written in place', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const { credentials, next } = await watch(context, directory);
    const port = await serveTls(context, credentials);
    const old = await tlsClient(context, port, first.certificate);
    directory.write(second);
    equal(await next(), 'reloaded');
    await expectEcho(await tlsClient(context, port, second.certificate), 'new');
    await expectEcho(old, 'old');
    directory.write(third);
    equal(await next(), 'reloaded');
    await expectEcho(await tlsClient(context, port, third.certificate), 'newer');
  });

  test('reloads when symbolic links are replaced, as by certbot', async (context) => {
    const directory = await CertificateDirectory.open(context);
    for (const [version, { key, certificate }] of [first, second].entries()) {
      writeFileSync(join(directory.path, `key${version}.pem`), key);
      writeFileSync(join(directory.path, `cert${version}.pem`), certificate);
    }
    function link(version: number): void {
      for (const name of ['key', 'cert']) {
        symlinkSync(`${name}${version}.pem`, join(directory.path, 'new'));
        renameSync(join(directory.path, 'new'), join(directory.path, `${name}.pem`));
      }
    }
    link(0);
    const { credentials, next } = await watch(context, directory);
    link(1);
    equal(await next(), 'reloaded');
    await expectEcho(
      await tlsClient(context, await serveTls(context, credentials), second.certificate),
      'new',
    );
  });

  test('reloads when the directory is replaced, as by Kubernetes', async (context) => {
    const directory = await CertificateDirectory.open(context);
    for (const [version, { key, certificate }] of [first, second].entries()) {
      mkdirSync(join(directory.path, `..version${version}`));
      writeFileSync(join(directory.path, `..version${version}`, 'key.pem'), key);
      writeFileSync(join(directory.path, `..version${version}`, 'cert.pem'), certificate);
    }
    const data = join(directory.path, '..data');
    symlinkSync('..version0', data);
    for (const name of ['key.pem', 'cert.pem']) symlinkSync(join('..data', name), join(directory.path, name));
    const { credentials, next } = await watch(context, directory);
    symlinkSync('..version1', `${data}_tmp`);
    renameSync(`${data}_tmp`, data);
    equal(await next(), 'reloaded');
    await expectEcho(
      await tlsClient(context, await serveTls(context, credentials), second.certificate),
      'new',
    );
  });

  test('does not reload while files change between checks', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const { next } = await watch(context, directory);
    writeFileSync(directory.files.certificatePath, 'half of it');
    let touched = 0;
    // More often than the checks, so that no two checks agree.
    const touching = setInterval(() => {
      touched += 1;
      utimesSync(directory.files.keyPath, touched, touched);
    }, CHECK_INTERVAL_MS / 4);
    context.after(() => clearInterval(touching));
    await until(() => touched > 40);
    directory.write(second);
    clearInterval(touching);
    equal(await next(), 'reloaded');
  });

  test('reports unusable files once, and loads the next usable ones', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const { credentials, next } = await watch(context, directory);
    writeFileSync(directory.files.keyPath, second.key);
    match(await next(), /key\.pem does not belong to/u);
    writeFileSync(directory.files.certificatePath, 'nonsense');
    match(await next(), /cert\.pem is not in PEM format/u);
    rmSync(directory.files.certificatePath);
    match(await next(), /cert\.pem does not exist/u);
    await expectEcho(
      await tlsClient(context, await serveTls(context, credentials), first.certificate),
      'old',
    );
    directory.write(second);
    equal(await next(), 'reloaded');
  });

  test('loads a certificate once it is valid', async (context) => {
    let nowMs = Date.now();
    const directory = await CertificateDirectory.open(context, first);
    const { next } = await watch(context, directory, () => nowMs);
    directory.write(makeIdentity('localhost', { notBefore: new Date(nowMs + DAY_MS) }));
    match(await next(), /is not valid before/u);
    nowMs += 2 * DAY_MS;
    equal(await next(), 'reloaded');
  });

  test('reports once a day that a certificate expires in less than 14 days or has expired, and keeps using it', async (context) => {
    const notAfter = new Date(Math.floor(Date.now() / 1000 + 90 * 86_400) * 1000);
    const identity = makeIdentity('localhost', { notAfter });
    const directory = await CertificateDirectory.open(context, identity);
    let nowMs = notAfter.getTime() - 14 * DAY_MS;
    const { next } = await watch(context, directory, () => nowMs);
    // This is the first event, so none was reported before.
    writeFileSync(directory.files.keyPath, '');
    match(await next(), /not in PEM format/u);
    directory.write(identity);
    for (let left = 13; left >= 0; left -= 1) {
      nowMs = notAfter.getTime() - left * DAY_MS;
      equal(await next(), `expires ${notAfter.toISOString()}`);
    }
    // The change of the state is reported at once.
    nowMs += 1;
    for (let past = 0; past <= 2; past += 1) {
      match(await next(), /^expired: the certificate .*cert\.pem expired on .*: renew it$/u);
      nowMs += DAY_MS;
    }
    match(await next(), /^expired/u);
    // Reports at every check, or an error, would come before this.
    writeFileSync(directory.files.keyPath, '');
    match(await next(), /not in PEM format/u);
  });

  test('reports nothing when files are rewritten without a change', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const { credentials, next } = await watch(context, directory);
    const { context: before } = credentials;
    directory.write(first);
    // Waits for a few checks.
    await watch(context, directory);
    strictEqual(credentials.context, before);
    writeFileSync(directory.files.keyPath, '');
    match(await next(), /not in PEM format/u);
  });

  test('does not keep the process running', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const program = `
      const { ReloadableCredentials } = await import(process.argv[1]);
      const credentials = await ReloadableCredentials.load(JSON.parse(process.argv[2]));
      credentials.watch({}, 1e6);`;
    const module = new URL('../../../src/transport/tls-credentials.ts', import.meta.url).href;
    const args = ['--input-type=module', '-e', program, module, JSON.stringify(directory.files)];
    equal(spawnSync(process.execPath, args, { timeout: 20_000 }).status, 0);
  });

  test('stops at close', async (context) => {
    const directory = await CertificateDirectory.open(context, first);
    const { credentials: ended } = await watch(context, directory);
    const { next } = await watch(context, directory);
    const { context: before } = ended;
    ended.close();
    directory.write(second);
    equal(await next(), 'reloaded');
    // A second reload, so that the closed one would have had time for its checks too.
    directory.write(third);
    equal(await next(), 'reloaded');
    strictEqual(ended.context, before);
  });
});

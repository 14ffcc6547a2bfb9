import { deepEqual, equal, match } from 'node:assert/strict';
import { chmodSync, chownSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fatalReasons } from '../../support/programs.ts';
import { newPair } from '../../support/docker-clients.ts';
import {
  DockerSandbox,
  HARDENED,
  askDocker,
  docker,
  TESTS_AT_A_TIME,
  rowsIn,
  withoutDocker,
} from '../../support/docker.ts';
import type { Container } from '../../support/docker.ts';
import { buildImage } from '../../support/docker-images.ts';
import { UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';

/** A user id that Debian does not know. */
const UNKNOWN_ID = 12_345;

/** The id of an operator's own account; neither root nor the user of the image. */
const OWNER_ID = 4711;

const GRACE_SECONDS = 20;

/** Time after which a start counts as successful, in seconds: long, for busy machines. */
const START_SECONDS = 120;

/** The error starts with this; it is one line. */
const REJECTION = /^can't use "\/data\/usage\.sqlite" as the usage database: [^\n]+$/u;

const needsRoot = process.getuid?.() === 0 ? false : 'needs root to change file owners: run it with sudo';
const skip = withoutDocker || needsRoot;

/** Sends that many bytes in both directions and stops the relay, so that the record is written. */
async function transferAndStop(relay: Container, count: number): Promise<void> {
  const pair = await newPair(relay);
  await pair.exchange(count);
  await pair[Symbol.asyncDispose]();
  equal(await relay.stop(GRACE_SECONDS), 0);
}

/** The fatal error of an image that does not start. */
async function startupError(image: string, ...options: readonly string[]): Promise<string> {
  const run = ['run', '--rm', ...HARDENED, '--entrypoint', 'timeout', ...options, image];
  const { code, stdout } = await askDocker([...run, String(START_SECONDS), 'node', 'src/main.ts']);
  equal(code, 1);
  return fatalReasons(stdout).join('\n');
}

describe('the volume', { skip: withoutDocker, concurrency: TESTS_AT_A_TIME }, () => {
  let image = '';
  let newer = '';
  before(async () => {
    [image, newer] = await Promise.all([buildImage(), buildImage('--build-arg', 'REVISION=newer')]);
  });

  test('keeps its records when a newer image uses it', async () => {
    await using sandbox = new DockerSandbox();
    const volume = await sandbox.volume();
    await transferAndStop(await sandbox.relay(image, '--volume', `${volume}:/data`), 1000);
    await transferAndStop(await sandbox.relay(newer, '--volume', `${volume}:/data`), 2000);
    equal(await rowsIn(newer, volume), 'happy 2000\nhappy 4000');
  });

  test('is optional: without one the database is in an anonymous volume', async () => {
    await using sandbox = new DockerSandbox();
    const relay = await sandbox.relay(image);
    equal(
      await relay.inspect('{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}'),
      'volume /data true',
    );
    match(await relay.exec('ls', '/data'), /^usage\.sqlite$/mu);
  });

  for (const user of [`${UNKNOWN_ID}:0`, `${UNKNOWN_ID}:${UNKNOWN_ID}`, '0:0']) {
    test(`is written by user ${user} if it was empty`, async () => {
      await using sandbox = new DockerSandbox();
      const volume = await sandbox.volume();
      const relay = await sandbox.relay(image, '--user', user, '--volume', `${volume}:/data`);
      equal(await relay.exec('id', '--user'), user.split(':')[0]);
      await transferAndStop(relay, 3000);
      const owner = ['--rm', '--user', user, '--volume', `${volume}:/data`, '--entrypoint', 'stat'];
      equal(await docker('run', ...owner, image, '--format=%u:%g', '/data/usage.sqlite'), user);
    });
  }
});

describe('a host directory as the volume', { skip, concurrency: TESTS_AT_A_TIME }, () => {
  let image = '';
  before(async () => {
    image = await buildImage();
  });

  test('works if it belongs to the user', async (t) => {
    await using sandbox = new DockerSandbox();
    const directory = await scratch(t);
    chownSync(directory, 1000, 1000);
    await transferAndStop(await sandbox.relay(image, '--volume', `${directory}:/data`), 4000);
    equal(await rowsIn(image, directory), 'happy 8000');
  });

  for (const mode of [0o755, 0o700]) {
    const name = `is rejected if another user owns it, with an error that names the owner to set (mode ${mode.toString(8)})`;
    test(name, async (t) => {
      const directory = await scratch(t);
      chmodSync(directory, mode);
      chownSync(directory, OWNER_ID, OWNER_ID);
      const message = await startupError(image, '--volume', `${directory}:/data`);
      match(message, REJECTION);
      for (const word of [/\b1000\b/u, new RegExp(`\\b${OWNER_ID}\\b`, 'u'), /\bchown\b/u])
        match(message, word);
    });
  }

  test('is rejected in the same way for a user without a name', async (t) => {
    const directory = await scratch(t);
    chownSync(directory, OWNER_ID, OWNER_ID);
    const message = await startupError(image, '--user', `${UNKNOWN_ID}:0`, '--volume', `${directory}:/data`);
    match(message, REJECTION);
    for (const word of [new RegExp(`\\b${UNKNOWN_ID}\\b`, 'u'), /\bchown\b/u]) match(message, word);
  });

  test('is rejected if another user owns the database in it, which stays unchanged', async (t) => {
    const directory = await scratch(t);
    chmodSync(directory, 0o1777);
    const path = join(directory, 'usage.sqlite');
    createUsageFile(path, { rows: 3, journalMode: 'delete' });
    chownSync(path, OWNER_ID, OWNER_ID);
    chmodSync(path, 0o644);
    const untouched = statSync(path);
    const message = await startupError(image, '--volume', `${directory}:/data`);
    match(message, REJECTION);
    match(message, /\bchown\b/u);
    equal(statSync(path).mtimeMs, untouched.mtimeMs);
  });

  test('is rejected if it is mounted read-only', async (t) => {
    const directory = await scratch(t);
    chownSync(directory, 1000, 1000);
    match(await startupError(image, '--volume', `${directory}:/data:ro`), REJECTION);
  });

  test('may contain a database of the reference, which is continued', async (t) => {
    await using sandbox = new DockerSandbox();
    const directory = await scratch(t);
    const path = join(directory, 'usage-transitrelay.sqlite');
    createUsageFile(path, { rows: 3, journalMode: 'delete' });
    for (const owned of [directory, path]) chownSync(owned, 1000, 1000);
    const setting = 'RELAY_USAGE_DB=/db/usage-transitrelay.sqlite';
    await transferAndStop(await sandbox.relay(image, '-e', setting, '--volume', `${directory}:/db`), 5000);
    using reader = new UsageReader(path);
    deepEqual(
      reader.rows().map((row) => row.total_bytes),
      [1, 2, 3, 10_000],
    );
  });
});

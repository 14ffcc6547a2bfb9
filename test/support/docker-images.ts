import { createHash } from 'node:crypto';
import { readFile, readdir, stat } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { ROOT, askDocker, docker } from './docker.ts';

const DEBIAN = 'debian:trixie-slim';
const NODE = 'node:24-trixie-slim';

/** Label of images built by tests, so that old ones can be found and removed. */
const TEST_LABEL = 'wormhole-transit-relay.test';

/** Test images that no test has used for this long are removed unless a container uses them. */
const KEEP_UNUSED_MS = 24 * 3_600_000;

/** Everything that an image depends on. */
interface Recipe {
  readonly bases: readonly string[];
  /** Arguments of `docker build`. */
  readonly args: readonly string[];
  /** Standard input of `docker build`. */
  readonly input?: string;
  /** Digest of the files of the build context. */
  readonly context?: string;
  readonly builder?: 'classic';
}

/**
 * Builds the image of this repository, unless a test has already built it from the same sources.
 *
 * @returns a reference to this exact image, also while another test builds one
 */
export async function buildImage(...options: readonly string[]): Promise<string> {
  return build({ bases: [DEBIAN, NODE], args: [...options, '.'], context: await digestOfSources() });
}

/** Builds the image of the mailbox server that deploy/compose/mailbox.yml adds. */
export async function buildMailbox(): Promise<string> {
  const directory = 'deploy/compose/mailbox';
  return build({ bases: [DEBIAN], args: [directory], context: await digestOf([directory]) });
}

/** Builds the image with the classic builder (before BuildKit). */
export async function buildClassic(): Promise<string> {
  const context = await digestOfSources();
  return build({ bases: [DEBIAN, NODE], args: ['.'], context, builder: 'classic' });
}

/** Builds an image of Debian slim with some Debian packages. Slow only the first time. */
export function buildDebian(packages: readonly string[], lines: readonly string[] = []): Promise<string> {
  const install = `apt-get install --yes --no-install-recommends ${packages.join(' ')}`;
  const dockerfile = [
    `FROM ${DEBIAN}`,
    'ENV DEBIAN_FRONTEND=noninteractive',
    // A layer that all of these images share.
    'RUN apt-get update',
    // In an old layer, the package lists name versions that the mirror has replaced.
    `RUN ${install} || { apt-get update && ${install}; }`,
    ...lines,
  ];
  return build({ bases: [DEBIAN], args: ['-'], input: dockerfile.join('\n') });
}

/** Builds an image once for all test processes. Those that need it meanwhile wait for it. */
async function build(recipe: Recipe): Promise<string> {
  const { bases, args, input, builder } = recipe;
  const ids = await docker('image', 'inspect', '--format', '{{.Id}}', ...bases);
  const key = createHash('sha256')
    .update(JSON.stringify([ids, recipe]))
    .digest('hex')
    .slice(0, 12);
  const name = `transit-relay:test-${key}`;
  if (await isBuilt(name)) return name;
  await exclusively(name, async () => {
    if (await isBuilt(name)) return;
    await removeUnused();
    const env = builder === 'classic' ? { ...process.env, DOCKER_BUILDKIT: '0' } : process.env;
    const options = ['--quiet', '--label', `${TEST_LABEL}=yes`, '--tag', name];
    const { code, stderr } = await askDocker(['build', ...options, ...args], {
      env,
      ...(input === undefined ? {} : { input }),
    });
    if (code !== 0) throw new Error(`docker build ${args.join(' ')}: ${stderr}\n${input ?? ''}`);
    // A build itself does not store that time.
    await docker('tag', name, name);
  });
  return name;
}

/** Whether the image exists. Docker stores when it was tagged last, which is when it was used last. */
async function isBuilt(name: string): Promise<boolean> {
  return (await askDocker(['tag', name, name])).code === 0;
}

async function removeUnused(): Promise<void> {
  const found = await docker('image', 'ls', '--quiet', '--no-trunc', '--filter', `label=${TEST_LABEL}`);
  if (found === '') return;
  const ids = new Set(found.split('\n'));
  const format = '{{json .Metadata.LastTagTime}}{{range .RepoTags}} {{.}}{{end}}';
  // Another process may remove some of them meanwhile.
  const { stdout } = await askDocker(['image', 'inspect', '--format', format, ...ids]);
  for (const line of stdout.split('\n').filter((text) => text !== '')) {
    const [time = '', ...names] = line.split(' ');
    const usedAtMs = Date.parse(time.replaceAll('"', ''));
    // Until an image is tagged, its time is a year before 1970.
    if (usedAtMs < 0 || Date.now() - usedAtMs < KEEP_UNUSED_MS) continue;
    // Docker keeps images that a container uses.
    await askDocker(['image', 'rm', ...names]);
  }
}

/** Digest of all files that may be in the build context, and of the Dockerfile. */
async function digestOfSources(): Promise<string> {
  const ignoreFile = '.dockerignore';
  const rules = await readFile(join(ROOT, ignoreFile), 'utf8');
  // It excludes everything, then names what is included.
  const included = [...rules.matchAll(/^!(.+)$/gmu)].map(([, path = '']) => path);
  return digestOf(['Dockerfile', ignoreFile, ...included]);
}

/** Digest of files and directories; paths are relative to the root of the repository. */
async function digestOf(paths: readonly string[]): Promise<string> {
  const digest = createHash('sha256');
  for (const path of paths) await addFile(digest, path);
  return digest.digest('hex');
}

async function addFile(digest: ReturnType<typeof createHash>, path: string): Promise<void> {
  const status = await stat(join(ROOT, path));
  if (status.isDirectory()) {
    const names = (await readdir(join(ROOT, path))).toSorted();
    for (const name of names) await addFile(digest, join(path, name));
    return;
  }
  const content = await readFile(join(ROOT, path));
  digest.update(`${path} ${status.mode} ${content.length}\n`).update(content);
}

/** Runs `work` while no other process of this machine runs any under this name. */
async function exclusively(name: string, work: () => Promise<void>): Promise<void> {
  // An abstract socket: the kernel frees its name when the process ends, however it ends.
  const path = `\0${name}`;
  const waiting = new Set<Socket>();
  const lock = createServer((socket) => {
    waiting.add(socket);
    socket.on('error', () => undefined);
  });
  while (!(await listens(lock, path))) await closed(connect(path));
  try {
    await work();
  } finally {
    lock.close();
    for (const socket of waiting) socket.destroy();
  }
}

/** Tries to listen. False if another process does. */
function listens(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    };
    server.once('error', failed);
    server.listen(path, () => {
      server.off('error', failed);
      resolve(true);
    });
  });
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    // A refused connection means that the other process has just ended.
    socket.on('error', () => undefined).once('close', () => resolve());
    socket.resume();
  });
}

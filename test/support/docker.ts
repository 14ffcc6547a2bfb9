import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { freePorts } from './listening.ts';
import { Program } from './programs.ts';

/** Root of the repository. */
export const ROOT = join(import.meta.dirname, '..', '..');

const BASE_IMAGES = ['debian:trixie-slim', 'node:24-trixie-slim'];

/** Larger than any output in these tests. */
const MAX_OUTPUT_BYTES = 2 ** 26;

/** Time for output or an event of a container, also if other programs use all processors. */
const WAIT_TIMEOUT_MS = 120_000;

/**
 * Tests of one file that run at the same time: enough to use two processors while some tests wait. With more,
 * on a busy machine, containers start so slowly that their health checks fail.
 */
export const TESTS_AT_A_TIME = 3;

/** Hardening options for operators, as in docker-compose.yml. */
export const HARDENED = ['--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges'];

/** The log line of a relay that accepts clients. */
export const LISTENING = /"role":"status".*"msg":"listening"/u;

/** Reason to skip tests that need Docker; false if it is available. */
export const withoutDocker = whyNoDocker();

function whyNoDocker(): string | false {
  if (spawnSync('docker', ['image', 'inspect', ...BASE_IMAGES]).status === 0) return false;
  const { status, stderr, error } = spawnSync('docker', ['info'], { encoding: 'utf8' });
  if (error !== undefined) return 'needs a Docker engine: install Docker, or the Debian package docker.io';
  if (status !== 0) return `needs a Docker engine: start one (${stderr.trim()})`;
  for (const image of BASE_IMAGES) {
    if (spawnSync('docker', ['image', 'inspect', image]).status === 0) continue;
    const pulled = spawnSync('docker', ['pull', '--quiet', image], { encoding: 'utf8' });
    if (pulled.status !== 0)
      return `needs a Docker engine with the image ${image}: docker pull ${image} (${pulled.stderr.trim()})`;
  }
  return false;
}

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface AskOptions {
  /** The whole environment of the docker client; default: ours. */
  readonly env?: NodeJS.ProcessEnv;
  /** Standard input of the client. */
  readonly input?: string;
}

/** Runs the docker client to its end, whatever its exit code. Both outputs are without the last newline. */
export function askDocker(
  args: readonly string[],
  { env = process.env, input = '' }: AskOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { cwd: ROOT, env, maxBuffer: MAX_OUTPUT_BYTES };
    const client = execFile('docker', args, options, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ code: Number(error?.code ?? 0), stdout: stdout.trimEnd(), stderr: stderr.trimEnd() });
    });
    // A client that has ended does not read its input; its exit code is checked instead.
    client.stdin?.on('error', () => undefined).end(input);
  });
}

/** Output of the docker client. Rejects with its error output if the exit code is not 0. */
export async function docker(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await askDocker(args);
  if (code !== 0) throw new Error(`docker ${args.join(' ')}: exit code ${code}\n${stderr}\n${stdout}`);
  return stdout;
}

/**
 * Options that publish these ports of a container on loopback. The ports are chosen here: Docker takes them from the
 * range that the kernel gives to clients, and fails if a client is faster.
 */
export async function published(...inside: readonly number[]): Promise<string[]> {
  const ports = await freePorts(inside.length);
  return ports.flatMap((port, index) => ['--publish', `127.0.0.1:${port}:${inside[index]}`]);
}

/** A started container. */
export class Container {
  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  /** A field of `docker inspect`, in its template language. */
  inspect(template: string): Promise<string> {
    return docker('inspect', '--format', template, this.id);
  }

  /** The loopback port of a published port. */
  async port(inside: number): Promise<number> {
    const [address = ''] = (await docker('port', this.id, `${inside}/tcp`)).split('\n');
    return Number(address.slice(address.lastIndexOf(':') + 1));
  }

  /** All output so far, of both streams. */
  async logs(): Promise<string> {
    const { stdout, stderr } = await askDocker(['logs', this.id]);
    return `${stdout}\n${stderr}`;
  }

  /** Waits until the output since its creation matches. Rejects if the container ends before. */
  async waitForLog(pattern: RegExp): Promise<void> {
    await using log = new Program(['docker', 'logs', '--follow', this.id]);
    await log.waitForOutput(pattern, WAIT_TIMEOUT_MS);
  }

  /**
   * Its Docker events of these kinds, like `start`, to be awaited later. The engine keeps only the last 256
   * events of all containers, so this must be called before the events, or soon after them.
   */
  watch(...kinds: readonly string[]): ContainerEvents {
    return new ContainerEvents(this.id, kinds);
  }

  /** Output of a command in the container. Rejects if the exit code is not 0. */
  exec(...command: readonly string[]): Promise<string> {
    return docker('exec', this.id, ...command);
  }

  signal(name: string): Promise<string> {
    return docker('kill', '--signal', name, this.id);
  }

  /** Sends SIGTERM, then SIGKILL after the grace period. Resolves with the exit code; 137 means SIGKILL. */
  async stop(graceSeconds: number): Promise<number> {
    await docker('stop', '--time', String(graceSeconds), this.id);
    return this.exitCode();
  }

  /** Waits for its end. */
  async exitCode(): Promise<number> {
    return Number(await docker('wait', this.id));
  }
}

/** Docker events of a container, one per line, like `start` and `health_status: healthy`. */
export class ContainerEvents implements AsyncDisposable {
  readonly #program: Program;

  constructor(container: string, kinds: readonly string[]) {
    const filters = [`container=${container}`, ...kinds.map((kind) => `event=${kind}`)];
    const options = filters.flatMap((filter) => ['--filter', filter]);
    this.#program = new Program([
      'docker',
      'events',
      ...options,
      '--since',
      '24h',
      '--format',
      '{{.Status}}',
    ]);
  }

  /** Waits until all events so far match. */
  async match(pattern: RegExp): Promise<void> {
    await this.#program.waitForOutput(pattern, WAIT_TIMEOUT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
  }
}

/** Containers, volumes and networks of a test, with unique names. All are removed at the end. */
export class DockerSandbox implements AsyncDisposable {
  readonly #prefix = `relay-test-${randomBytes(4).toString('hex')}`;
  readonly #containers: string[] = [];
  readonly #volumes: string[] = [];
  readonly #networks: string[] = [];

  /** Unused Docker names, one for each `part`. */
  name(part: string): string {
    return `${this.#prefix}-${part}`;
  }

  /** `docker run` in the background. */
  async run(image: string, options: readonly string[], ...command: readonly string[]): Promise<Container> {
    const name = this.name(`c${this.#containers.length}`);
    this.#containers.push(name);
    await docker('run', '--detach', '--name', name, ...options, image, ...command);
    return new Container(name);
  }

  /** The image as operators run it: hardened, both ports published on loopback. Waits until it listens. */
  async relay(image: string, ...options: readonly string[]): Promise<Container> {
    const ports = await published(4001, 4002);
    const relay = await this.run(image, [...HARDENED, ...ports, ...options]);
    await relay.waitForLog(LISTENING);
    return relay;
  }

  async volume(): Promise<string> {
    const name = this.name(`v${this.#volumes.length}`);
    this.#volumes.push(name);
    return docker('volume', 'create', name);
  }

  async network(...options: readonly string[]): Promise<string> {
    const name = this.name(`n${this.#networks.length}`);
    this.#networks.push(name);
    await docker('network', 'create', ...options, name);
    return name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#containers.length > 0) await docker('rm', '--force', '--volumes', ...this.#containers);
    if (this.#volumes.length > 0) await docker('volume', 'rm', '--force', ...this.#volumes);
    if (this.#networks.length > 0) await docker('network', 'rm', ...this.#networks);
  }
}

const CHECK_USAGE = `
  const db = new (require('better-sqlite3'))('/data/usage.sqlite', { fileMustExist: true });
  const state = db.pragma('integrity_check', { simple: true });
  if (state !== 'ok') throw new Error(state);
  for (const row of db.prepare('SELECT result, total_bytes FROM usage ORDER BY rowid').all())
    console.log(row.result, row.total_bytes);
`;

/**
 * The records of the usage database in a volume, one per line, as `happy 4096`. Rejects if SQLite finds an
 * error in the file. The volume may be in use.
 */
export function rowsIn(image: string, volume: string): Promise<string> {
  const options = ['--rm', ...HARDENED, '--volume', `${volume}:/data`, '--entrypoint', 'node'];
  return docker('run', ...options, image, '--eval', CHECK_USAGE);
}

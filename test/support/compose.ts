import { Container, askDocker } from './docker.ts';
import type { Answer } from './docker.ts';
import { freePorts } from './listening.ts';

/** Variables of this environment that compose gets: no service variables and none of compose itself. */
const KEPT = [
  'PATH',
  'HOME',
  'DOCKER_HOST',
  'DOCKER_CONFIG',
  'DOCKER_CONTEXT',
  'DOCKER_CERT_PATH',
  'DOCKER_TLS_VERIFY',
];

/**
 * The ports that the services publish: free ones on loopback. They are chosen here: Docker takes them from the range
 * that the kernel gives to clients, and fails if a client is faster.
 */
async function publishedPorts(): Promise<Record<string, string>> {
  const [raw, websocket, http, https, sidecar, mailbox] = await freePorts(6);
  return {
    RELAY_PORT: `127.0.0.1:${raw}`,
    RELAY_WEBSOCKET_PORT: `127.0.0.1:${websocket}`,
    RELAY_HTTP_PORT: `127.0.0.1:${http}`,
    RELAY_HTTPS_PORT: `127.0.0.1:${https}`,
    SIDECAR_PORT: String(sidecar),
    MAILBOX_PORT: `127.0.0.1:${mailbox}`,
  };
}

export interface ComposeOptions {
  /** Unique among all projects, in lower case. */
  readonly project: string;
  /** Replaces docker-compose.yml. */
  readonly files?: readonly string[];
  /** Content of the `.env` file. Without it there is no such file, even if the clone has one. */
  readonly envFile?: string;
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * The services of docker-compose.yml under their own project name. Everything is removed at the end,
 * including volumes.
 */
export class ComposeProject implements AsyncDisposable {
  readonly #options: ComposeOptions;
  #ports: Promise<Record<string, string>> | undefined;

  constructor(options: ComposeOptions) {
    this.#options = options;
  }

  /** Runs `docker compose` to its end, whatever its exit code. */
  async ask(...args: readonly string[]): Promise<Answer> {
    const { project, files = ['docker-compose.yml'], envFile = '/dev/null', settings } = this.#options;
    const where = [
      '--project-name',
      project,
      '--env-file',
      envFile,
      ...files.flatMap((file) => ['--file', file]),
    ];
    const kept = Object.fromEntries(KEPT.map((name) => [name, process.env[name]]));
    this.#ports ??= publishedPorts();
    const env = { ...kept, RELAY_ENV_FILE: envFile, ...(await this.#ports), ...settings };
    return askDocker(['compose', ...where, ...args], { env });
  }

  /** Output of `docker compose`. Rejects with its error output if the exit code is not 0. */
  async run(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.ask(...args);
    if (code !== 0)
      throw new Error(`docker compose ${args.join(' ')}: exit code ${code}\n${stderr}\n${stdout}`);
    return stdout;
  }

  /** The current container of a service. */
  async container(service: string): Promise<Container> {
    return new Container(await this.run('ps', '--all', '--quiet', service));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run('down', '--volumes', '--remove-orphans', '--timeout', '0');
  }
}

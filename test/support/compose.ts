import { Container, askDocker } from './docker.ts';
import type { Answer } from './docker.ts';

/** What compose may have of our environment: no variable of a service, and none of its own. */
const KEPT = [
  'PATH',
  'HOME',
  'DOCKER_HOST',
  'DOCKER_CONFIG',
  'DOCKER_CONTEXT',
  'DOCKER_CERT_PATH',
  'DOCKER_TLS_VERIFY',
];

/** Ports that nobody else has, on the loopback. */
const FREE_PORTS = {
  RELAY_PORT: '127.0.0.1:0',
  RELAY_WEBSOCKET_PORT: '127.0.0.1:0',
  RELAY_HTTP_PORT: '127.0.0.1:0',
  RELAY_HTTPS_PORT: '127.0.0.1:0',
  SIDECAR_PORT: '0',
};

export interface ComposeOptions {
  /** Unlike those of all other projects, in lower case. */
  readonly project: string;
  /** Instead of docker-compose.yml alone. */
  readonly files?: readonly string[];
  /** The `.env` file; without one there is none, whatever lies in the clone. */
  readonly envFile?: string;
  readonly settings?: Readonly<Record<string, string>>;
}

/** The services of docker-compose.yml under a name of their own. All of it is gone in the end, volumes too. */
export class ComposeProject implements AsyncDisposable {
  readonly #options: ComposeOptions;

  constructor(options: ComposeOptions) {
    this.#options = options;
  }

  /** Runs `docker compose` to its end, however that is. */
  ask(...args: readonly string[]): Promise<Answer> {
    const { project, files = ['docker-compose.yml'], envFile = '/dev/null', settings } = this.#options;
    const where = [
      '--project-name',
      project,
      '--env-file',
      envFile,
      ...files.flatMap((file) => ['--file', file]),
    ];
    const kept = Object.fromEntries(KEPT.map((name) => [name, process.env[name]]));
    const env = { ...kept, ...FREE_PORTS, ...settings };
    return askDocker(['compose', ...where, ...args], { env });
  }

  /** What `docker compose` prints. Rejects with what it complains of when its exit code is not 0. */
  async run(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.ask(...args);
    if (code !== 0)
      throw new Error(`docker compose ${args.join(' ')}: exit code ${code}\n${stderr}\n${stdout}`);
    return stdout;
  }

  /** The container of a service, as it is now. */
  async container(service: string): Promise<Container> {
    return new Container(await this.run('ps', '--all', '--quiet', service));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run('down', '--volumes', '--remove-orphans', '--timeout', '1');
  }
}

import { writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { makeIdentity } from './certificates.ts';
import { freePorts } from './listening.ts';
import { Program, eventually, findProgram, CONDITION_TIMEOUT_MS } from './programs.ts';
import { scratch } from './scratch.ts';

/** Reason to skip tests that need a certificate authority; false if one is installed. */
export function withoutPebble(): string | false {
  return findProgram('pebble') === null ? 'no "pebble": apt-get install pebble' : false;
}

export interface PebbleOptions {
  /** Ports to which it connects for checks. */
  readonly tlsPort: number;
  readonly httpPort?: number;
  /** Address of every domain; default: 127.0.0.1. */
  readonly address?: string;
  /** Lifetime of its certificates; default: a day. */
  readonly validitySeconds?: number;
  /** Share of valid nonces that it rejects, in percent; default: 0. */
  readonly rejectedNonces?: number;
}

/** A certificate authority with ACME, and the DNS server that it asks. */
export class PebbleServer {
  /** The certificate of its HTTPS server, as a file for `NODE_EXTRA_CA_CERTS`. */
  readonly caPath: string;
  readonly directoryUrl: string;
  readonly #context: TestContext;
  readonly #directory: string;
  readonly #managementPort: number;
  readonly #dnsPort: number;
  readonly #ca: string;
  readonly #rejectedNonces: number;
  #program: Program | null = null;

  private constructor(
    context: TestContext,
    directory: string,
    ports: readonly [port: number, managementPort: number, dnsPort: number],
    { tlsPort, httpPort = 1, validitySeconds = 86_400, rejectedNonces = 0 }: PebbleOptions,
  ) {
    const [port, managementPort, dnsPort] = ports;
    const { key, certificate } = makeIdentity('localhost');
    this.#context = context;
    this.#directory = directory;
    this.#managementPort = managementPort;
    this.#dnsPort = dnsPort;
    this.#ca = certificate;
    this.#rejectedNonces = rejectedNonces;
    this.caPath = join(directory, 'cert.pem');
    this.directoryUrl = `https://localhost:${port}/dir`;
    writeFileSync(this.caPath, certificate);
    writeFileSync(join(directory, 'key.pem'), key);
    const pebble = {
      listenAddress: `127.0.0.1:${port}`,
      managementListenAddress: `127.0.0.1:${managementPort}`,
      certificate: this.caPath,
      privateKey: join(directory, 'key.pem'),
      httpPort,
      tlsPort,
      certificateValidityPeriod: validitySeconds,
    };
    writeFileSync(join(directory, 'pebble.json'), JSON.stringify({ pebble }));
  }

  /** Starts it until the end of the test, unless it is stopped before. */
  static async start(context: TestContext, options: PebbleOptions): Promise<PebbleServer> {
    const pebble = await PebbleServer.prepare(context, options);
    await pebble.start();
    return pebble;
  }

  /** The same without starting it. */
  static async prepare(context: TestContext, options: PebbleOptions): Promise<PebbleServer> {
    const [port = 0, managementPort = 0, dnsPort = 0, dnsManagementPort = 0] = await freePorts(4);
    const directory = await scratch(context);
    const dnsOptions = {
      dns01: `127.0.0.1:${dnsPort}`,
      management: `127.0.0.1:${dnsManagementPort}`,
      defaultIPv4: options.address ?? '127.0.0.1',
      defaultIPv6: '',
      http01: '',
      https01: '',
      tlsalpn01: '',
    };
    const dnsArguments = Object.entries(dnsOptions).flatMap(([name, value]) => [`-${name}`, value]);
    const dns = new Program(['pebble-challtestsrv', ...dnsArguments]);
    context.after(() => dns[Symbol.asyncDispose]());
    return new PebbleServer(context, directory, [port, managementPort, dnsPort], options);
  }

  /** Starts it, without the accounts and certificates of earlier starts. */
  async start(): Promise<void> {
    const configPath = join(this.#directory, 'pebble.json');
    const program = new Program(
      ['pebble', '-config', configPath, '-dnsserver', `127.0.0.1:${this.#dnsPort}`],
      {
        env: {
          PATH: process.env['PATH'],
          PEBBLE_VA_NOSLEEP: '1',
          PEBBLE_WFE_NONCEREJECT: String(this.#rejectedNonces),
        },
      },
    );
    this.#program = program;
    this.#context.after(() => program[Symbol.asyncDispose]());
    await program.waitForOutput(/ACME directory available/u);
  }

  async stop(): Promise<void> {
    await this.#program?.[Symbol.asyncDispose]();
  }

  /** Number of certificates that it has issued since it was started. */
  get issued(): number {
    const { stdout = '', stderr = '' } = this.#program ?? {};
    return (stdout + stderr).match(/Issued certificate serial/gu)?.length ?? 0;
  }

  /** Settings of a relay that gets its certificate here. */
  get settings(): Readonly<Record<string, string>> {
    return {
      RELAY_ACME_AGREE: 'true',
      RELAY_ACME_DIRECTORY: this.directoryUrl,
      NODE_EXTRA_CA_CERTS: this.caPath,
    };
  }

  /** The root certificate of everything that it issues. */
  async root(): Promise<string> {
    return eventually(
      () => 'the root certificate',
      CONDITION_TIMEOUT_MS,
      () =>
        new Promise<string>((resolve, reject) => {
          const url = `https://localhost:${this.#managementPort}/roots/0`;
          get(
            url,
            { ca: this.#ca, agent: false },
            (response) => void text(response).then(resolve, reject),
          ).on('error', reject);
        }),
    );
  }
}

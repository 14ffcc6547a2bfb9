import assert from 'node:assert/strict';
import { pino } from 'pino';
import { readRelayConfig } from '../../src/config/relay-config.ts';
import type { BoundEndpoint } from '../../src/config/endpoint.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import type { ProcessLimits } from '../../src/limits/capacity.ts';
import { Relay } from '../../src/relay/relay.ts';
import type { Endpoints } from '../../src/relay/relay.ts';
import type { RelayStatus } from '../../src/status/relay-status.ts';
import type { HealthReport } from '../../src/status/status-server.ts';
import { eventually } from './programs.ts';
import { TestClient } from './test-client.ts';

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

/** Attempts of a health check that times out, which happens on a busy machine. */
const ATTEMPTS = 20;

/** Time for a status to become true, in milliseconds. */
const STATUS_TIMEOUT_MS = 30_000;

/** Response of a health check. */
export interface Checked {
  readonly status: number;
  readonly report: HealthReport;
}

/** The whole relay in this process. */
export class OpenRelay implements AsyncDisposable {
  readonly relay: Relay;
  readonly endpoints: Endpoints;
  readonly #clients: TestClient[] = [];

  private constructor(relay: Relay, endpoints: Endpoints) {
    this.relay = relay;
    this.endpoints = endpoints;
  }

  /** Starts on free ports of the loopback interface, unless `settings` override them. */
  static async start(
    settings: Readonly<Record<string, string>> = {},
    log = pino({ level: 'silent' }),
    processLimits?: ProcessLimits,
  ): Promise<OpenRelay> {
    const environment = {
      RELAY_LISTEN: ANY_PORT,
      RELAY_WEBSOCKET_LISTEN: ANY_PORT,
      RELAY_STATUS_LISTEN: ANY_PORT,
      ...settings,
    };
    const read = readRelayConfig(environment, process.pid);
    assert.ok(read.kind === 'ok', JSON.stringify(read));
    const relay = new Relay(read.config, log, read, processLimits);
    return new OpenRelay(relay, await relay.start());
  }

  get statusUrl(): string {
    return `http://127.0.0.1:${portOf(this.endpoints.status)}`;
  }

  /** The first TCP port of that role. */
  port(role: 'raw' | 'websocket' | 'status'): number {
    return portOf(this.endpoints[role]);
  }

  async connect(transport: TransportKind): Promise<TestClient> {
    const unix = this.endpoints.raw.find((endpoint) => endpoint.kind === 'unix');
    const client = await TestClient.connect(transport, {
      tcpPort: portOf(this.endpoints.raw),
      unixPath: unix?.path ?? '',
      websocketPort: portOf(this.endpoints.websocket),
    });
    this.#clients.push(client);
    return client;
  }

  async status(): Promise<RelayStatus> {
    const status: RelayStatus = JSON.parse(await (await fetch(`${this.statusUrl}/status.json`)).text());
    return status;
  }

  /** Resolves with the first status for which `condition` is true. */
  async statusWhere(condition: (status: RelayStatus) => boolean): Promise<RelayStatus> {
    let status: RelayStatus | null = null;
    return eventually(
      () => JSON.stringify(status),
      STATUS_TIMEOUT_MS,
      async () => {
        status = await this.status();
        return condition(status) ? status : null;
      },
    );
  }

  async check(word: 'relay' | 'transfer'): Promise<Checked> {
    for (let attempt = 1; ; attempt += 1) {
      const response = await fetch(`${this.statusUrl}/health/${word}`);
      const report: HealthReport = JSON.parse(await response.text());
      const hasTimedOut = report.problem?.includes('timed out after') ?? false;
      if (!hasTimedOut || attempt === ATTEMPTS) return { status: response.status, report };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.relay.close();
    for (const client of this.#clients) client.destroy();
  }
}

function portOf(endpoints: readonly BoundEndpoint[]): number {
  for (const endpoint of endpoints) if (endpoint.kind === 'tcp') return endpoint.port;
  return 0;
}

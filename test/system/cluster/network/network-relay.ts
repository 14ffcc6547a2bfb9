import assert from 'node:assert/strict';
import { request } from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { handshake } from '../../../support/bytes.ts';
import { parseMetrics } from '../../../support/metrics.ts';
import { CONDITION_TIMEOUT_MS } from '../../../support/programs.ts';
import { RelayProcess } from '../../../support/relay-process.ts';
import { TestClient } from '../../../support/test-client.ts';
import { vitalsOf } from '../../../support/vitals.ts';
import type { NetworkNamespaces } from './network-namespaces.ts';

const POLL_MS = 25;

/** The port for users, and the port for other relays. */
export const PORT = 4001;
export const CLUSTER_PORT = 4005;

/**
 * A relay in its own network namespace. Users and other relays connect over the network. The test uses Unix sockets,
 * which work even if the network is cut.
 */
export class NetworkRelay implements AsyncDisposable {
  readonly name: string;
  /** `HOST:PORT` for other relays. */
  readonly address: string;
  readonly #relay: RelayProcess;
  readonly #path: string;

  private constructor(name: string, address: string, relay: RelayProcess, path: string) {
    this.name = name;
    this.address = address;
    this.#relay = relay;
    this.#path = path;
  }

  static async start(
    network: NetworkNamespaces,
    name: string,
    directory: string,
    settings: Readonly<Record<string, string>>,
  ): Promise<NetworkRelay> {
    const [path, host] = [join(directory, name), network.addressOf(name)];
    const relay = await RelayProcess.start(
      {
        RELAY_LISTEN: `tcp:${PORT}:interface=0.0.0.0 unix:${path}.sock`,
        RELAY_STATUS_LISTEN: `unix:${path}.status`,
        RELAY_CLUSTER_LISTEN: `tcp:${CLUSTER_PORT}:interface=0.0.0.0`,
        RELAY_CLUSTER_ADVERTISE: host,
        RELAY_DRAIN_DELAY: '0s',
        ...settings,
      },
      network.commandPrefix(name),
    );
    return new NetworkRelay(name, `${host}:${CLUSTER_PORT}`, relay, path);
  }

  get log(): string {
    return this.#relay.log;
  }

  get openFiles(): number {
    return vitalsOf(this.#relay.pid).fdCount;
  }

  waitForLog(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#relay.waitForLog(pattern);
  }

  kill(signal: NodeJS.Signals): void {
    this.#relay.kill(signal);
  }

  /** Resolves when the process has ended with exit code 0; rejects otherwise. */
  ended(): Promise<void> {
    return this.#relay.ended();
  }

  /** A client that has sent its handshake line. It is closed with the test. */
  async connectClient(context: TestContext, token: string, side: string): Promise<TestClient> {
    const addresses = { tcpPort: 0, unixPath: `${this.#path}.sock`, websocketPort: 0 };
    const client = await TestClient.connect('unix', addresses);
    context.after(() => client.destroy());
    await client.send(handshake(token, side));
    return client;
  }

  /** HTTP status of `/readyz`. */
  async readiness(): Promise<number> {
    const { status } = await this.#fetch('/readyz');
    return status;
  }

  /**
   * Value of a metric, as `name` or `name{label="value"}`. For a name without its labels, the sum over all
   * labels.
   */
  async metric(name: string): Promise<number> {
    const { body } = await this.#fetch('/metrics');
    const [exact, any] = [`transit_relay_${name}`, `transit_relay_${name}{`];
    const found = [...parseMetrics(body)].filter(([key]) => key === exact || key.startsWith(any));
    assert.ok(found.length > 0, `there is no ${name}`);
    return found.reduce((sum, [, value]) => sum + value, 0);
  }

  /** Resolves when a metric has this value or fulfils this condition. */
  async untilMetric(
    name: string,
    expected: number | ((value: number) => boolean),
    timeoutMs = CONDITION_TIMEOUT_MS,
  ): Promise<void> {
    const matches = typeof expected === 'number' ? (value: number): boolean => value === expected : expected;
    for (const deadline = performance.now() + timeoutMs; ;) {
      const found = await this.metric(name);
      if (matches(found)) return;
      assert.ok(
        performance.now() < deadline,
        `${this.name}: ${name} is ${found}, not ${expected.toString()}`,
      );
      await sleep(POLL_MS);
    }
  }

  /** Kills the process: a drain would wait for transfers of clients that are closed later. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGCONT');
    this.kill('SIGKILL');
    await this.#relay[Symbol.asyncDispose]();
  }

  #fetch(path: string): Promise<{ readonly status: number; readonly body: string }> {
    return new Promise((resolve, reject) => {
      request({ socketPath: `${this.#path}.status`, path, agent: false }, (response) => {
        buffer(response).then(
          (body) => resolve({ status: response.statusCode ?? 0, body: body.toString() }),
          reject,
        );
      })
        .on('error', reject)
        .end();
    });
  }
}

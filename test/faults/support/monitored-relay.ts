import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { METRIC_PREFIX } from '../../../src/process/process-metrics.ts';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { ask, jsonOf } from '../../support/ask.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { nonZero, scrape } from '../../support/metrics.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { vitalsOf } from '../../support/vitals.ts';
import type { Vitals } from '../../support/vitals.ts';
import { PairClient } from './pair-client.ts';

const [PROBE, HOUR_JUMP] = ['resource-probe.ts', 'hour-jump.ts'].map(
  (name) => pathToFileURL(join(import.meta.dirname, name)).href,
);

/** File descriptor limit of the relay and of the attackers: 15,000 connections and some more. */
export const FD_LIMIT = 20_000;

/**
 * Command prefix that raises the limit to `FD_LIMIT`. It needs root if the hard limit of the machine is
 * lower.
 */
export const WITH_FD_LIMIT = ['prlimit', `--nofile=${FD_LIMIT}:${FD_LIMIT}`] as const;

/**
 * Longer than it takes to make 15,000 connections on any machine, so that all exist at the same time.
 * `endTimeouts` shortens it.
 */
const HANDSHAKE_TIMEOUT = '30m';

/** Longer than the relay lingers for a client that does not read (30 s), in milliseconds. */
const RETURN_TIMEOUT_MS = 45_000;

const POLL_MS = 100;

/** Connections of the bystander. */
export const BYSTANDERS = 4;

/** Counts suppressed records. */
const SUPPRESSED = `${METRIC_PREFIX}usage_records_suppressed_total`;

/** Allowed growth of the heap that is not a leak, in bytes: 15,000 times 280. */
const HEAP_MARGIN_BYTES = 4 * 2 ** 20;

/** Resources that a process holds after a garbage collection. */
export interface ResourceUsage {
  /** On V8's heap and in buffers outside of it. */
  readonly heapBytes: number;
  /** Timers, sockets and other resources that keep an event loop alive, by Node's names. */
  readonly resources: Readonly<Record<string, number>>;
  readonly fdCount: number;
}

/** Node's name for a TCP connection. */
const CONNECTION = 'TCPSocketWrap';

/** A relay that reports its resources, to check that it has released everything. */
export class MonitoredRelay implements AsyncDisposable {
  readonly relay: RelayProcess;
  readonly databasePath: string;
  readonly #probePath: string;
  #ownPairs = 0;
  #hours = 0;

  private constructor(relay: RelayProcess, databasePath: string, probePath: string) {
    this.relay = relay;
    this.databasePath = databasePath;
    this.#probePath = probePath;
  }

  /**
   * Starts it in `directory` with a usage database, for raw and WebSocket clients. A first pair is relayed, so
   * that everything exists that the relay keeps permanently (code, the timer for waiting clients). It has a
   * record.
   */
  static async start(
    directory: string,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<MonitoredRelay> {
    const databasePath = join(directory, 'usage.sqlite');
    const probePath = join(directory, 'probe.sock');
    const relay = await RelayProcess.start(
      {
        RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
        RELAY_USAGE_DB: databasePath,
        NODE_OPTIONS: `--import=${PROBE} --import=${HOUR_JUMP}`,
        PROBE_SOCKET: probePath,
        RELAY_HANDSHAKE_TIMEOUT: HANDSHAKE_TIMEOUT,
        ...settings,
      },
      WITH_FD_LIMIT,
    );
    const monitored = new MonitoredRelay(relay, databasePath, probePath);
    await monitored.relayPair();
    return monitored;
  }

  /** Starts it for the duration of the test. */
  static async startFor(
    context: TestContext,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<MonitoredRelay> {
    const monitored = await MonitoredRelay.start(await scratch(context), settings);
    context.after(() => monitored[Symbol.asyncDispose]());
    return monitored;
  }

  get rawPort(): number {
    return this.relay.port('raw');
  }

  get websocketPort(): number {
    return this.relay.port('websocket');
  }

  vitals(): Vitals {
    return vitalsOf(this.relay.pid);
  }

  async resourceUsage(): Promise<ResourceUsage> {
    const answer: unknown = JSON.parse(await text(connect(this.#probePath)));
    assert.ok(isResourceUsage(answer));
    return answer;
  }

  /** Resources while it has no connection, except for this query. */
  async usageWhenIdle(): Promise<ResourceUsage> {
    let resourceUsage = await this.resourceUsage();
    await this.#eventually(async () => {
      resourceUsage = await this.resourceUsage();
      const connections = resourceUsage.resources[CONNECTION] ?? 0;
      return connections === 0 ? null : `${connections} connections were closed`;
    });
    return resourceUsage;
  }

  /** Status from the status port, which must always answer. */
  async status(): Promise<RelayStatus> {
    const answer = await ask(`http://127.0.0.1:${this.relay.port('status')}`, '/status.json');
    assert.equal(answer.status, 200);
    const status = jsonOf(answer);
    assert.ok(isStatus(status));
    return status;
  }

  /** Resolves when `condition` holds for the status. */
  async untilStatus(holds: (status: RelayStatus) => boolean): Promise<void> {
    await this.#eventually(async () => {
      const status = await this.status();
      return holds(status) ? null : `${JSON.stringify(status)} became ${holds.toString()}`;
    });
  }

  /** Moves the relay's clock forward by an hour. The timeouts of handshakes and of lingering connections end. */
  async endTimeouts(): Promise<void> {
    this.#hours += 1;
    this.relay.kill('SIGUSR2');
    await this.relay.waitForLog(new RegExp(`^${this.#hours} h$`, 'mu'));
  }

  /** Resolves when it has that many open connections, besides those of the bystander. */
  async untilConnected(count: number): Promise<void> {
    await this.untilStatus(({ connections }) => connections === count + BYSTANDERS);
  }

  /** Resolves when all metrics with these names, without their prefix, add up to `total`. */
  async untilSum(names: readonly string[], total: number): Promise<void> {
    await this.#eventually(async () => {
      const figures = await scrape(`http://127.0.0.1:${this.relay.port('status')}`);
      const values = names.flatMap((name) => Object.values(nonZero(figures, METRIC_PREFIX + name)));
      const sum = values.reduce((subtotal, value) => subtotal + value, 0);
      return sum === total ? null : `${names.join(' + ')} was ${total} instead of ${sum}`;
    });
  }

  /**
   * Resolves when the relay has the resources that it had `before`: the same file descriptors, timers and
   * sockets, about the same memory, and no client. Rejects if that does not happen.
   */
  async untilReleased(before: ResourceUsage): Promise<void> {
    await this.untilStatus(isEmpty);
    await this.#eventually(async () => {
      const { heapBytes, resources, fdCount } = await this.resourceUsage();
      if (fdCount !== before.fdCount) return `${fdCount} file descriptors, expected ${before.fdCount}`;
      for (const [name, count] of Object.entries(resources)) {
        const then = before.resources[name] ?? 0;
        if (count > then) return `${count} ${name} became ${then}`;
      }
      const grownBytes = heapBytes - before.heapBytes;
      return grownBytes < HEAP_MARGIN_BYTES ? null : `${grownBytes} bytes were released`;
    });
  }

  /** Relays a pair of ours, once per transport. */
  async relayPair(): Promise<void> {
    const ports = { raw: this.rawPort, websocket: this.websocketPort };
    const token = newToken();
    const clients = [
      new PairClient(ports, 'tcp', handshake(token, SIDE_A)),
      new PairClient(ports, 'websocket', handshake(token, SIDE_B)),
    ];
    this.#ownPairs += 1;
    await Promise.all(clients.map(({ ok }) => ok));
    for (const { socket } of clients) socket.destroy();
    await this.untilStatus(isEmpty);
  }

  /**
   * Stops the relay, which writes all its records, and counts them by mood, without those of our own pairs.
   * Suppressed records count as well.
   */
  async moods(): Promise<Readonly<Record<string, number>>> {
    const figures = await scrape(`http://127.0.0.1:${this.relay.port('status')}`);
    await this.relay.stop();
    using reader = new UsageReader(this.databasePath);
    const moods: Record<string, number> = {};
    for (const [series, count] of Object.entries(nonZero(figures, SUPPRESSED)))
      moods[/mood="(\w+)"/u.exec(series)?.[1] ?? ''] = count;
    for (const { result, rows } of reader.counts()) moods[result] = (moods[result] ?? 0) + rows;
    return { ...moods, happy: (moods['happy'] ?? 0) - this.#ownPairs };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.relay[Symbol.asyncDispose]();
  }

  /** @param missing describes what is missing, or returns null */
  async #eventually(missing: () => Promise<string | null>): Promise<void> {
    const deadline = performance.now() + RETURN_TIMEOUT_MS;
    for (;;) {
      const what = await missing();
      if (what === null) return;
      if (performance.now() > deadline) assert.fail(`not within ${RETURN_TIMEOUT_MS} ms: ${what}`);
      await sleep(POLL_MS);
    }
  }
}

/** No client is connected. */
export function isEmpty({ connections, pairs, waiting }: RelayStatus): boolean {
  return connections === 0 && pairs === 0 && waiting === 0;
}

function isResourceUsage(value: unknown): value is ResourceUsage {
  return typeof value === 'object' && value !== null && 'heapBytes' in value && 'resources' in value;
}

function isStatus(value: unknown): value is RelayStatus {
  return typeof value === 'object' && value !== null && 'pairs' in value && 'waiting' in value;
}

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { RelayStatus } from '../../../src/status/relay-status.ts';
import { ask, jsonOf } from '../../support/ask.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../../support/bytes.ts';
import { nonZero, scrape } from '../../support/metrics.ts';
import { eventually } from '../../support/programs.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { vitalsOf } from '../../support/vitals.ts';
import type { Vitals } from '../../support/vitals.ts';
import { Party } from './party.ts';

const PROBE = pathToFileURL(join(import.meta.dirname, 'probe.ts')).href;

/** Open files that a relay under attack may have, and the programs that attack it: 15,000 connections and some more. */
export const OPEN_FILES = 20_000;

/** A program that is run behind this may open `OPEN_FILES`. It takes root where the machine allows less. */
export const WITH_OPEN_FILES = ['prlimit', `--nofile=${OPEN_FILES}:${OPEN_FILES}`] as const;

/** Longer than it takes to make 15,000 connections, so that all of them are there at once. */
const HANDSHAKE_TIMEOUT = '6s';

/** Longer than the relay lingers for a client that takes nothing (30 s), in milliseconds. */
const RETURN_TIMEOUT_MS = 45_000;

const POLL_MS = 100;

/** Counts records that were not written because there were very many. */
const SUPPRESSED = 'transit_relay_usage_records_suppressed_total';

/** What garbage that is not garbage may come to, in bytes: 15,000 times 280. */
const HEAP_MARGIN_BYTES = 4 * 2 ** 20;

/** What a process holds, and that only: garbage is collected before. */
export interface Holdings {
  /** On V8's heap and in buffers outside of it. */
  readonly heapBytes: number;
  /** Timers, sockets and whatever else keeps an event loop, by Node's name for them. */
  readonly resources: Readonly<Record<string, number>>;
  readonly openFiles: number;
}

/** Node's name for a TCP connection. */
const CONNECTION = 'TCPSocketWrap';

/** A relay that can be asked what it holds, and so whether it has let go of everything. */
export class HeldRelay implements AsyncDisposable {
  readonly relay: RelayProcess;
  readonly databasePath: string;
  readonly #probePath: string;
  #ownPairs = 0;

  private constructor(relay: RelayProcess, databasePath: string, probePath: string) {
    this.relay = relay;
    this.databasePath = databasePath;
    this.#probePath = probePath;
  }

  /**
   * Starts it in `directory` with a usage database, for raw and for WebSocket clients. A first pair has come and gone, so
   * that what the relay keeps from then on (code, the timer of those who wait) is there; it has a record.
   */
  static async start(directory: string, settings: Readonly<Record<string, string>> = {}): Promise<HeldRelay> {
    const databasePath = join(directory, 'usage.sqlite');
    const probePath = join(directory, 'probe.sock');
    const relay = await RelayProcess.start(
      {
        RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
        RELAY_USAGE_DB: databasePath,
        NODE_OPTIONS: `--import=${PROBE}`,
        PROBE_SOCKET: probePath,
        // Garbage and half a line are not worth more of a test's time.
        RELAY_HANDSHAKE_TIMEOUT: HANDSHAKE_TIMEOUT,
        ...settings,
      },
      WITH_OPEN_FILES,
    );
    const held = new HeldRelay(relay, databasePath, probePath);
    await held.servesPair();
    return held;
  }

  /** Starts it for as long as the test lasts. */
  static async startFor(
    context: TestContext,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<HeldRelay> {
    const held = await HeldRelay.start(await scratch(context), settings);
    context.after(() => held[Symbol.asyncDispose]());
    return held;
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

  async holdings(): Promise<Holdings> {
    const answer: unknown = JSON.parse(await text(connect(this.#probePath)));
    assert.ok(isHoldings(answer));
    return answer;
  }

  /** What it holds when it has no connection at all, its answer to us aside. */
  async whenAlone(): Promise<Holdings> {
    let holdings = await this.holdings();
    await this.#eventually(async () => {
      holdings = await this.holdings();
      const connections = holdings.resources[CONNECTION] ?? 0;
      return connections === 0 ? null : `${connections} connections were closed`;
    });
    return holdings;
  }

  /** What the status port says. It has to answer at any time. */
  async status(): Promise<RelayStatus> {
    const answer = await ask(`http://127.0.0.1:${this.relay.port('status')}`, '/status.json');
    assert.equal(answer.status, 200);
    const status = jsonOf(answer);
    assert.ok(isStatus(status));
    return status;
  }

  /** Resolves when the status is such. */
  async sees(holds: (status: RelayStatus) => boolean): Promise<void> {
    await this.#eventually(async () => {
      const status = await this.status();
      return holds(status) ? null : `${JSON.stringify(status)} became ${holds.toString()}`;
    });
  }

  /** Resolves when the relay has so many descriptors at least. */
  async opens(files: number): Promise<void> {
    await eventually(
      () => `${this.vitals().openFiles} descriptors became ${files}`,
      RETURN_TIMEOUT_MS,
      () => (this.vitals().openFiles >= files ? true : null),
    );
  }

  /**
   * Resolves when the relay holds what it held `before`: the same descriptors, timers and sockets, and the
   * same memory but for a margin; nobody is there. Rejects when it does not come to that.
   */
  async letsGo(before: Holdings): Promise<void> {
    await this.sees(isEmpty);
    await this.#eventually(async () => {
      const { heapBytes, resources, openFiles } = await this.holdings();
      if (openFiles !== before.openFiles) return `${openFiles} descriptors became ${before.openFiles}`;
      for (const [name, count] of Object.entries(resources)) {
        const then = before.resources[name] ?? 0;
        if (count > then) return `${count} ${name} became ${then}`;
      }
      const grownBytes = heapBytes - before.heapBytes;
      return grownBytes < HEAP_MARGIN_BYTES ? null : `${grownBytes} bytes were let go of`;
    });
  }

  /** Has it relay for a pair of ours, by one transport and the other. */
  async servesPair(): Promise<void> {
    const ports = { raw: this.rawPort, websocket: this.websocketPort };
    const token = newToken();
    const parties = [
      new Party(ports, 'tcp', handshake(token, SIDE_A)),
      new Party(ports, 'websocket', handshake(token, SIDE_B)),
    ];
    this.#ownPairs += 1;
    await Promise.all(parties.map(({ ok }) => ok));
    for (const { socket } of parties) socket.destroy();
    await this.sees(isEmpty);
  }

  /**
   * Stops the relay, which writes all its records, and counts them by mood, but for those of our own pairs. Records that were
   * suppressed because there were very many count as well.
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

  /** @param missing what has not come yet, or null */
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

/** Nobody is there. */
export function isEmpty({ connections, pairs, waiting }: RelayStatus): boolean {
  return connections === 0 && pairs === 0 && waiting === 0;
}

function isHoldings(value: unknown): value is Holdings {
  return typeof value === 'object' && value !== null && 'heapBytes' in value && 'resources' in value;
}

function isStatus(value: unknown): value is RelayStatus {
  return typeof value === 'object' && value !== null && 'pairs' in value && 'waiting' in value;
}

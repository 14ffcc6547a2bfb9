import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@redis/client';
import type { SessionSummary } from '../../src/sessions/client-session.ts';
import type { TransportKind } from '../../src/transport/client-transport.ts';
import { MOODS } from '../../src/protocol/messages.ts';
import type { Mood } from '../../src/protocol/messages.ts';
import { freePort } from '../support/listening.ts';
import { scrape } from '../support/metrics.ts';
import type { Figures } from '../support/metrics.ts';
import { Program, findProgram } from '../support/programs.ts';
import { RelayProcess, UsageReader } from '../support/relay-process.ts';
import type { UsageRow } from '../support/relay-process.ts';
import { until } from '../support/scratch.ts';
import { TestClient } from '../support/test-client.ts';
import type { Addresses } from '../support/test-client.ts';
import type { Topology } from './topology.ts';

const ANY = 'tcp:0:interface=127.0.0.1';
const SECRET = 'the secret of all relays in these tests';

/** Interval of the metric scrapes, in milliseconds. */
const SCRAPE_MS = 25;

/** One relay process, with its metrics and usage records. */
class Member {
  readonly relay: RelayProcess;
  readonly addresses: Addresses;
  readonly #usage: UsageReader;
  #metrics: Figures = new Map();
  #scrapes = 0;
  #lastScrape = 0;
  /** Counts at the last `clear`. */
  #clearedRows = 0;
  #clearedBytes = 0;

  private constructor(relay: RelayProcess, unixPath: string, usage: UsageReader) {
    this.relay = relay;
    this.addresses = { tcpPort: relay.port('raw'), unixPath, websocketPort: relay.port('websocket') };
    this.#usage = usage;
  }

  /** @param directory a directory for this relay only */
  static async start(coordinator: string, directory: string): Promise<Member> {
    const [unixPath, usagePath] = [join(directory, 'relay.sock'), join(directory, 'usage.sqlite')];
    const relay = await RelayProcess.start({
      RELAY_LISTEN: `${ANY} unix:${unixPath}`,
      RELAY_WEBSOCKET_LISTEN: ANY,
      RELAY_USAGE_DB: usagePath,
      RELAY_CLUSTER_URL: coordinator,
      RELAY_CLUSTER_LISTEN: ANY,
      RELAY_CLUSTER_SECRET: SECRET,
      RELAY_DRAIN_DELAY: '0s',
    });
    await relay.waitForLog(/coordinator is up/u);
    const member = new Member(relay, unixPath, new UsageReader(usagePath));
    await member.scrape();
    return member;
  }

  get summaries(): readonly SessionSummary[] {
    return this.#usage.rows().slice(this.#clearedRows).map(summaryOf);
  }

  /** Bytes of pairs and of forwarded clients since `clear`. */
  get relayedBytes(): number {
    return this.metric('relayed_bytes_total') - this.#clearedBytes;
  }

  /** Value at the last scrape, summed over all label sets. */
  metric(name: string): number {
    let sum = 0;
    for (const [series, value] of this.#metrics)
      if (series.replace(/\{.*/u, '') === `transit_relay_${name}`) sum += value;
    return sum;
  }

  async scrape(): Promise<void> {
    this.#scrapes += 1;
    const scrapeNumber = this.#scrapes;
    const metrics = await scrape(`http://127.0.0.1:${this.relay.port('status')}`);
    // A response may overtake an older one.
    if (scrapeNumber < this.#lastScrape) return;
    this.#lastScrape = scrapeNumber;
    this.#metrics = metrics;
  }

  async clear(): Promise<void> {
    await this.scrape();
    this.#clearedRows = this.#usage.rows().length;
    this.#clearedBytes = this.metric('relayed_bytes_total');
  }

  /** Stops the relay, which writes all records. Rejects on an unclean exit. */
  async stop(): Promise<void> {
    await this.relay.stop();
    this.#usage[Symbol.dispose]();
    assert.doesNotMatch(this.relay.log, /"level":(?:50|60)/u);
  }
}

function summaryOf(row: UsageRow): SessionSummary {
  const mood = MOODS.find((known: Mood) => known === row.result);
  assert.ok(mood !== undefined, `"${row.result}" is not a mood`);
  return {
    mood,
    startedAt: row.started * 1000,
    totalMs: row.total_time * 1000,
    waitingMs: row.waiting_time === null ? null : row.waiting_time * 1000,
    totalBytes: row.total_bytes,
    // Records do not contain it.
    transports: [],
  };
}

/** Relay processes with a coordinator. Each client connects to the next relay. */
export class ProcessTopology implements Topology {
  readonly #members: readonly Member[];
  readonly #coordinator: Program;
  readonly #url: string;
  readonly #directory: string;
  readonly #clients: TestClient[] = [];
  readonly #timer: NodeJS.Timeout;
  #turn = 0;
  /** The processes check with timers of their own. */
  readonly sweep = null;

  private constructor(members: readonly Member[], coordinator: Program, url: string, directory: string) {
    this.#members = members;
    this.#coordinator = coordinator;
    this.#url = url;
    this.#directory = directory;
    this.#timer = setInterval(() => void this.#scrape().catch(() => undefined), SCRAPE_MS);
  }

  static async open(count: number): Promise<ProcessTopology> {
    const directory = await mkdtemp(join(tmpdir(), 'relay-cluster-'));
    const port = await freePort();
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory];
    const coordinator = new Program([findProgram('redis-server') ?? '', ...settings]);
    await coordinator.waitForOutput(/Ready to accept connections/u);
    const url = `redis://127.0.0.1:${port}`;
    const starts = Array.from({ length: count }, async () =>
      Member.start(url, await mkdtemp(join(directory, 'relay-'))),
    );
    const started = await Promise.allSettled(starts);
    const members = started.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
    if (members.length < count) {
      // Processes that keep running would keep the test file from ending.
      for (const { relay } of members) await relay[Symbol.asyncDispose]();
      await coordinator[Symbol.asyncDispose]();
      throw new AggregateError(
        started.flatMap((start) => (start.status === 'rejected' ? [start.reason] : [])),
        'a relay did not start',
      );
    }
    return new ProcessTopology(members, coordinator, url, directory);
  }

  get relayCount(): number {
    return this.#members.length;
  }

  get summaries(): readonly SessionSummary[] {
    return this.#members.flatMap(({ summaries }) => summaries);
  }

  async connect(transport: TransportKind, at?: number): Promise<TestClient> {
    const client = await TestClient.connect(transport, this.addresses(at));
    this.#clients.push(client);
    return client;
  }

  addresses(at?: number): Addresses {
    const turn = at ?? this.#turn;
    if (at === undefined) this.#turn += 1;
    const member = this.#members[turn % this.#members.length];
    assert.ok(member !== undefined);
    return member.addresses;
  }

  async waitForRecords(count: number): Promise<readonly SessionSummary[]> {
    await until(() => this.summaries.length >= count);
    return this.summaries;
  }

  async clearSummaries(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.clear()));
  }

  async untilStalled(): Promise<void> {
    let last = -1;
    for (let unchanged = 0; unchanged < 10;) {
      await sleep(50);
      await this.#scrape();
      const now = this.incompleteBytes();
      unchanged = now === last ? unchanged + 1 : 0;
      last = now;
    }
  }

  checkConsistency(): void {
    // The state of a process cannot be inspected from outside.
  }

  /**
   * Waiting clients at the relay with most of them. The owner of a token cannot be seen from outside; here
   * one relay owns all. A client that waits while the coordinator is slow does not count before its token is
   * leased: until then, the other relay may become the owner.
   */
  waiting(): number {
    const owners = this.#members.filter((member) => member.metric('cluster_leases') > 0);
    return Math.max(0, ...owners.map((member) => member.metric('connections_waiting')));
  }

  /** Both relays of a pair count its bytes. */
  incompleteBytes(): number {
    return Math.max(...this.#members.map(({ relayedBytes }) => relayedBytes));
  }

  bufferedBytes(): number {
    return this.#members.reduce((sum, member) => sum + member.metric('buffered_bytes'), 0);
  }

  /** Throws if a relay exits uncleanly or leaves a lease behind. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    try {
      // Checked here because the relays release every lease when they stop.
      await until(() => this.#members.every((member) => member.metric('cluster_leases') === 0));
      clearInterval(this.#timer);
      for (const member of this.#members) await member.stop();
      assert.deepEqual(await this.#leases(), []);
    } finally {
      clearInterval(this.#timer);
      for (const { relay } of this.#members) await relay[Symbol.asyncDispose]();
      await this.#coordinator[Symbol.asyncDispose]();
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #scrape(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.scrape()));
  }

  async #leases(): Promise<readonly string[]> {
    const client = createClient({ url: this.#url, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    const keys = await client.keys('*');
    client.destroy();
    // The probe of the coordinator uses a key of its own.
    return keys.filter((key) => key !== 'transit-relay:test');
  }
}

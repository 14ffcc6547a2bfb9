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
import type { Place } from './place.ts';

const ANY = 'tcp:0:interface=127.0.0.1';
const SECRET = 'the secret of all relays in these tests';

/** How often relays are asked for their figures, in milliseconds. */
const LOOK_MS = 25;

/** One relay as an operator runs it, and what it tells of itself. */
class Member {
  readonly relay: RelayProcess;
  readonly addresses: Addresses;
  readonly #usage: UsageReader;
  #figures: Figures = new Map();
  #looks = 0;
  #lastLook = 0;
  /** When nothing was left of the tests before. */
  #forgottenRows = 0;
  #forgottenBytes = 0;

  private constructor(relay: RelayProcess, unixPath: string, usage: UsageReader) {
    this.relay = relay;
    this.addresses = { tcpPort: relay.port('raw'), unixPath, websocketPort: relay.port('websocket') };
    this.#usage = usage;
  }

  /** @param directory of its own */
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
    await relay.says(/the coordinator answers/u);
    const member = new Member(relay, unixPath, new UsageReader(usagePath));
    await member.look();
    return member;
  }

  get endings(): readonly SessionSummary[] {
    return this.#usage.rows().slice(this.#forgottenRows).map(endingOf);
  }

  /** Of pairs and of clients that are passed on, since `forget`. */
  get relayedBytes(): number {
    return this.figure('relayed_bytes_total') - this.#forgottenBytes;
  }

  /** What it said of itself when it was looked last; of a metric with labels, all together. */
  figure(name: string): number {
    let sum = 0;
    for (const [series, value] of this.#figures)
      if (series.replace(/\{.*/u, '') === `transit_relay_${name}`) sum += value;
    return sum;
  }

  async look(): Promise<void> {
    this.#looks += 1;
    const look = this.#looks;
    const figures = await scrape(`http://127.0.0.1:${this.relay.port('status')}`);
    // An answer may overtake another.
    if (look < this.#lastLook) return;
    this.#lastLook = look;
    this.#figures = figures;
  }

  async forget(): Promise<void> {
    await this.look();
    this.#forgottenRows = this.#usage.rows().length;
    this.#forgottenBytes = this.figure('relayed_bytes_total');
  }

  /** Every record is written then. Rejects where it does not end well. */
  async stop(): Promise<void> {
    await this.relay.stop();
    this.#usage[Symbol.dispose]();
    assert.doesNotMatch(this.relay.log, /"level":(?:50|60)/u);
  }
}

function endingOf(row: UsageRow): SessionSummary {
  const mood = MOODS.find((known: Mood) => known === row.result);
  assert.ok(mood !== undefined, `"${row.result}" is no mood`);
  return {
    mood,
    startedAt: row.started * 1000,
    totalMs: row.total_time * 1000,
    waitingMs: row.waiting_time === null ? null : row.waiting_time * 1000,
    totalBytes: row.total_bytes,
    // A record does not say.
    transports: [],
  };
}

/** Relays in processes of their own, with a coordinator: each client comes to the next of them. */
export class ProcessPlace implements Place {
  readonly #members: readonly Member[];
  readonly #coordinator: Program;
  readonly #url: string;
  readonly #directory: string;
  readonly #clients: TestClient[] = [];
  readonly #timer: NodeJS.Timeout;
  #turn = 0;
  /** They have timers of their own for that. */
  readonly sweep = null;

  private constructor(members: readonly Member[], coordinator: Program, url: string, directory: string) {
    this.#members = members;
    this.#coordinator = coordinator;
    this.#url = url;
    this.#directory = directory;
    this.#timer = setInterval(() => void this.#look().catch(() => undefined), LOOK_MS);
  }

  static async open(relays: number): Promise<ProcessPlace> {
    const directory = await mkdtemp(join(tmpdir(), 'relay-group-'));
    const port = await freePort();
    const settings = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory];
    const coordinator = new Program([findProgram('redis-server') ?? '', ...settings]);
    await coordinator.waitForOutput(/Ready to accept connections/u);
    const url = `redis://127.0.0.1:${port}`;
    const members: Member[] = [];
    for (let each = 0; each < relays; each += 1)
      members.push(await Member.start(url, await mkdtemp(join(directory, 'relay-'))));
    return new ProcessPlace(members, coordinator, url, directory);
  }

  get relays(): number {
    return this.#members.length;
  }

  get endings(): readonly SessionSummary[] {
    return this.#members.flatMap(({ endings: summaries }) => summaries);
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

  async recorded(count: number): Promise<readonly SessionSummary[]> {
    await until(() => this.endings.length >= count);
    return this.endings;
  }

  async forgetEndings(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.forget()));
  }

  async stalled(): Promise<void> {
    let last = -1;
    for (let still = 0; still < 10;) {
      await sleep(50);
      await this.#look();
      const now = this.incompleteBytes();
      still = now === last ? still + 1 : 0;
      last = now;
    }
  }

  checkConsistency(): void {
    // Nobody can look into a process.
  }

  /** Those who wait at the relay where most do: nobody outside can tell which relay has which token, and here one has all. */
  waiting(): number {
    return Math.max(...this.#members.map((member) => member.figure('connections_waiting')));
  }

  /** Both relays of a pair count its bytes. */
  incompleteBytes(): number {
    return Math.max(...this.#members.map(({ relayedBytes }) => relayedBytes));
  }

  heldBytes(): number {
    return this.#members.reduce((sum, member) => sum + member.figure('buffered_bytes'), 0);
  }

  /** Throws where a relay does not end well, or leaves a claim behind. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    try {
      // Not only since the relays release everything when they stop.
      await until(() => this.#members.every((member) => member.figure('cluster_leases') === 0));
      clearInterval(this.#timer);
      for (const member of this.#members) await member.stop();
      assert.deepEqual(await this.#claims(), []);
    } finally {
      clearInterval(this.#timer);
      for (const { relay } of this.#members) await relay[Symbol.asyncDispose]();
      await this.#coordinator[Symbol.asyncDispose]();
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #look(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.look()));
  }

  async #claims(): Promise<readonly string[]> {
    const client = createClient({ url: this.#url, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    const keys = await client.keys('*');
    client.destroy();
    // The coordinator is tried with a key of its own.
    return keys.filter((key) => key !== 'transit-relay:test');
  }
}

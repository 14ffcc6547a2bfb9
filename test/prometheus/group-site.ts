import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../support/bytes.ts';
import { freePort } from '../support/listening.ts';
import { scrape } from '../support/metrics.ts';
import { RedisServer } from '../support/redis.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { scratch } from '../support/scratch.ts';
import { TestClient } from '../support/test-client.ts';
import { alertsInAHurry, configuration } from './hurry.ts';
import { PrometheusServer } from './prometheus-server.ts';

const ANY = 'tcp:0:interface=127.0.0.1';

const GREETING = 'ok\n';

/** More than one read. */
const PIECE_BYTES = 60_000;

/**
 * Two relays that are a group, one that is to be of it and never finds the coordinator, one that is alone, and a Prometheus that
 * scrapes them all each second.
 */
export class GroupSite {
  readonly redis: RedisServer;
  readonly one: RelayProcess;
  readonly other: RelayProcess;
  readonly astray: RelayProcess;
  readonly alone: RelayProcess;
  readonly prometheus: PrometheusServer;
  readonly #context: TestContext;

  private constructor(
    context: TestContext,
    programs: Pick<GroupSite, 'redis' | 'one' | 'other' | 'astray' | 'alone' | 'prometheus'>,
  ) {
    this.#context = context;
    this.redis = programs.redis;
    this.one = programs.one;
    this.other = programs.other;
    this.astray = programs.astray;
    this.alone = programs.alone;
    this.prometheus = programs.prometheus;
  }

  /**
   * Starts everything for as long as the test lasts, and waits until Prometheus has figures from before any client came.
   *
   * @param hurried alerts that are to be told of within seconds
   */
  static async open(context: TestContext, hurried: readonly string[]): Promise<GroupSite> {
    const redis = await RedisServer.start(context);
    const settings = {
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: ANY,
      RELAY_CLUSTER_SECRET: 'the secret of both relays here',
    };
    const start = async (own: Readonly<Record<string, string>>): Promise<RelayProcess> => {
      const relay = await RelayProcess.start(own);
      context.after(async () => {
        // It would wait for transfers of clients that are closed after this.
        relay.kill('SIGKILL');
        await relay[Symbol.asyncDispose]();
      });
      return relay;
    };
    const [one, other, alone] = [await start(settings), await start(settings), await start({})];
    const nobody = `redis://127.0.0.1:${await freePort()}`;
    const astray = await start({ ...settings, RELAY_CLUSTER_URL: nobody });
    const prometheus = await PrometheusServer.start(await scratch(context), {
      'prometheus.yml': configuration([one, other, astray, alone].map(instanceOf), null),
      'alerts.yml': alertsInAHurry(hurried),
    });
    context.after(() => prometheus[Symbol.asyncDispose]());
    await prometheus.becomes('up', 4);
    await prometheus.becomes('transit_relay_cluster_up', 2);
    return new GroupSite(context, { redis, one, other, astray, alone, prometheus });
  }

  /** A client that waits at the first relay, which owns its token; the only one that waits. */
  async waits(token: string): Promise<TestClient> {
    const client = await this.#come(this.one);
    await client.send(handshake(token, SIDE_A));
    await this.#claims(1);
    return client;
  }

  /** A client at each relay of the group, the second of which is passed on to the first; each sends so many bytes. */
  async pair(bytes: number): Promise<readonly [TestClient, TestClient]> {
    const token = newToken();
    const a = await this.waits(token);
    const b = await this.#come(this.other);
    await b.send(handshake(token, SIDE_B));
    await Promise.all([a.until(GREETING.length), b.until(GREETING.length)]);
    const content = randomBytesOf(1, bytes);
    await Promise.all([a.sendAll(content, PIECE_BYTES), b.sendAll(content, PIECE_BYTES)]);
    await Promise.all([a.until(GREETING.length + bytes), b.until(GREETING.length + bytes)]);
    await this.#claims(0);
    return [a, b];
  }

  /** Waits until the first relay has so many tokens. Prometheus would say so later. */
  async #claims(expected: number): Promise<void> {
    const url = `http://${instanceOf(this.one)}`;
    const leases = async (): Promise<number | undefined> =>
      (await scrape(url)).get('transit_relay_cluster_leases');
    await this.prometheus.until(leases, (count) => count === expected);
  }

  async #come(relay: RelayProcess): Promise<TestClient> {
    const client = await TestClient.connect('tcp', {
      tcpPort: relay.port('raw'),
      unixPath: '',
      websocketPort: 0,
    });
    this.#context.after(() => client.destroy());
    return client;
  }
}

/** What Prometheus calls a relay. */
export function instanceOf(relay: RelayProcess): string {
  return `127.0.0.1:${relay.port('status')}`;
}

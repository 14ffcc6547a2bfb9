import type { TestContext } from 'node:test';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { freePort } from '../../support/listening.ts';
import { scrape } from '../../support/metrics.ts';
import { RedisServer } from '../../support/redis.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { TestClient } from '../../support/test-client.ts';
import { fastAlerts, scrapeConfig } from './test-config.ts';
import { PrometheusServer } from './prometheus-server.ts';

const ANY = 'tcp:0:interface=127.0.0.1';

const OK_REPLY = 'ok\n';

/** More than one read. */
const PIECE_BYTES = 60_000;

/**
 * A cluster of two relays, a third one that never reaches the coordinator, a single relay without a cluster, and a
 * Prometheus that scrapes all of them every second.
 */
export class ClusterSite {
  readonly redis: RedisServer;
  readonly one: RelayProcess;
  readonly other: RelayProcess;
  readonly isolated: RelayProcess;
  readonly single: RelayProcess;
  readonly prometheus: PrometheusServer;
  readonly #context: TestContext;

  private constructor(
    context: TestContext,
    programs: Pick<ClusterSite, 'redis' | 'one' | 'other' | 'isolated' | 'single' | 'prometheus'>,
  ) {
    this.#context = context;
    this.redis = programs.redis;
    this.one = programs.one;
    this.other = programs.other;
    this.isolated = programs.isolated;
    this.single = programs.single;
    this.prometheus = programs.prometheus;
  }

  /**
   * Starts everything until the end of the test, and waits until Prometheus has metrics from before the first client.
   *
   * @param fast alerts that fire within seconds
   */
  static async open(context: TestContext, fast: readonly string[]): Promise<ClusterSite> {
    const redis = await RedisServer.start(context);
    const settings = {
      RELAY_CLUSTER_URL: redis.url,
      RELAY_CLUSTER_LISTEN: ANY,
      RELAY_CLUSTER_SECRET: 'the secret of the cluster',
    };
    const start = async (own: Readonly<Record<string, string>>): Promise<RelayProcess> => {
      const relay = await RelayProcess.start(own);
      context.after(async () => {
        // A graceful stop would wait for transfers whose clients are closed later.
        relay.kill('SIGKILL');
        await relay[Symbol.asyncDispose]();
      });
      return relay;
    };
    const [one, other, single] = [await start(settings), await start(settings), await start({})];
    const unreachable = `redis://127.0.0.1:${await freePort()}`;
    const isolated = await start({ ...settings, RELAY_CLUSTER_URL: unreachable });
    const prometheus = await PrometheusServer.start(await scratch(context), {
      'prometheus.yml': scrapeConfig([one, other, isolated, single].map(instanceOf), null),
      'alerts.yml': fastAlerts(fast),
    });
    context.after(() => prometheus[Symbol.asyncDispose]());
    await prometheus.becomes('up', 4);
    await prometheus.becomes('transit_relay_cluster_up', 2);
    return new ClusterSite(context, { redis, one, other, isolated, single, prometheus });
  }

  /** Connects a client that waits at the first relay, which owns its token. No other client waits. */
  async startWaiting(token: string): Promise<TestClient> {
    const client = await this.#connect(this.one);
    await client.send(handshake(token, SIDE_A));
    await this.#untilLeases(1);
    return client;
  }

  /** Pairs a client of each relay. The second is forwarded to the first relay. Each sends `bytes` bytes. */
  async pair(bytes: number): Promise<readonly [TestClient, TestClient]> {
    const token = newToken();
    const a = await this.startWaiting(token);
    const b = await this.#connect(this.other);
    await b.send(handshake(token, SIDE_B));
    await Promise.all([a.until(OK_REPLY.length), b.until(OK_REPLY.length)]);
    const content = randomBytesOf(1, bytes);
    await Promise.all([a.sendAll(content, PIECE_BYTES), b.sendAll(content, PIECE_BYTES)]);
    await Promise.all([a.until(OK_REPLY.length + bytes), b.until(OK_REPLY.length + bytes)]);
    await this.#untilLeases(0);
    return [a, b];
  }

  /** Waits until the first relay has `expected` leases. Prometheus would report that later. */
  async #untilLeases(expected: number): Promise<void> {
    const url = `http://${instanceOf(this.one)}`;
    const leases = async (): Promise<number | undefined> =>
      (await scrape(url)).get('transit_relay_cluster_leases');
    await this.prometheus.until(leases, (count) => count === expected);
  }

  async #connect(relay: RelayProcess): Promise<TestClient> {
    const client = await TestClient.connect('tcp', {
      tcpPort: relay.port('raw'),
      unixPath: '',
      websocketPort: 0,
    });
    this.#context.after(() => client.destroy());
    return client;
  }
}

/** The instance label of a relay in Prometheus. */
export function instanceOf(relay: RelayProcess): string {
  return `127.0.0.1:${relay.port('status')}`;
}

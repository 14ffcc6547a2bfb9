import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RelayProcess } from '../support/relay-process.ts';
import { SidecarProcess } from '../support/sidecar-process.ts';
import { alertsInAHurry, configuration } from './hurry.ts';
import { PrometheusServer } from './prometheus-server.ts';
import { Traffic } from './traffic.ts';

const ANY = 'tcp:0:interface=127.0.0.1';

const TOKEN = 'token-of-the-sidecar';

/** Clients that may wait at once; more than there are pairs at a time. */
export const WAITING_PLACES = 12;

/** A relay with all that it can count, its sidecar, and a Prometheus that scrapes both each second. */
export class Site implements AsyncDisposable {
  readonly relay: RelayProcess;
  readonly sidecar: SidecarProcess;
  readonly prometheus: PrometheusServer;
  readonly traffic: Traffic;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    stack: AsyncDisposableStack,
    programs: Pick<Site, 'relay' | 'sidecar' | 'prometheus' | 'traffic'>,
  ) {
    this.#stack = stack;
    this.relay = programs.relay;
    this.sidecar = programs.sidecar;
    this.prometheus = programs.prometheus;
    this.traffic = programs.traffic;
  }

  /** Starts everything, and waits until Prometheus has both programs' figures from before any client came. */
  static async open(): Promise<Site> {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'relay-prometheus-'));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const database = join(directory, 'usage.sqlite');
    const unixPath = join(directory, 'relay.sock');
    const relay = stack.use(
      await RelayProcess.start({
        RELAY_LISTEN: `${ANY} unix:${unixPath}`,
        RELAY_WEBSOCKET_LISTEN: ANY,
        RELAY_USAGE_DB: database,
        RELAY_LOG_FD: '1',
        RELAY_QUOTA: '10GB/month',
        RELAY_TOTAL_RATE: '64MB/s',
        RELAY_MAX_WAITING: String(WAITING_PLACES),
      }),
    );
    const statusPort = relay.port('status');
    const sidecar = stack.use(
      await SidecarProcess.start({
        SIDECAR_USAGE_DB: database,
        SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
        SIDECAR_SNAPSHOT_EVERY: '2s',
        SIDECAR_RELAY_STATUS: `http://127.0.0.1:${statusPort}`,
        SIDECAR_TOKEN: TOKEN,
      }),
    );
    const place = join(directory, 'prometheus');
    await mkdir(place);
    await writeFile(join(place, 'token'), TOKEN);
    const prometheus = stack.use(
      await PrometheusServer.start(place, {
        'prometheus.yml': configuration([`127.0.0.1:${statusPort}`], new URL(sidecar.url).host),
        'alerts.yml': alertsInAHurry(['TransitRelayDown']),
      }),
    );
    await prometheus.becomes('up', 2);
    const addresses = { tcpPort: relay.port('raw'), websocketPort: relay.port('websocket'), unixPath };
    const traffic = new Traffic(addresses, () => waitingAt(statusPort));
    return new Site(stack.move(), { relay, sidecar, prometheus, traffic });
  }

  /** What a program tells Prometheus, as it is. */
  async metricsOf(program: 'relay' | 'sidecar'): Promise<string> {
    const url = program === 'relay' ? `http://127.0.0.1:${this.relay.port('status')}` : this.sidecar.url;
    const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } });
    return response.text();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Clients that wait; other than in `/status.json`, two that wait under one token are two. */
async function waitingAt(statusPort: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${statusPort}/metrics`);
  return Number(/^transit_relay_connections_waiting (\d+)$/mu.exec(await response.text())?.[1]);
}

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeIdentity } from '../../support/certificates.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { SidecarProcess } from '../../support/sidecar-process.ts';
import { fastAlerts, scrapeConfig } from './test-config.ts';
import { PrometheusServer } from './prometheus-server.ts';
import { Traffic } from './traffic.ts';

const ANY = 'tcp:0:interface=127.0.0.1';

const TOKEN = 'token-of-the-sidecar';

/** Limit of waiting clients; more than there are concurrent pairs. */
export const MAX_WAITING = 12;

/** A relay with all outputs and limits, its sidecar, and a Prometheus that scrapes both every second. */
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

  /** Starts everything, and waits until Prometheus has metrics of both programs from before the first client. */
  static async open(): Promise<Site> {
    await using stack = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'relay-prometheus-'));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const database = join(directory, 'usage.sqlite');
    const unixPath = join(directory, 'relay.sock');
    const [keyPath, certificatePath] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const { key, certificate } = makeIdentity();
    await writeFile(keyPath, key);
    await writeFile(certificatePath, certificate);
    const tls = `ssl:0:interface=127.0.0.1:privateKey=${keyPath}:certKey=${certificatePath}`;
    const relay = stack.use(
      await RelayProcess.start({
        RELAY_LISTEN: `${ANY} unix:${unixPath} ${tls}`,
        RELAY_WEBSOCKET_LISTEN: ANY,
        RELAY_USAGE_DB: database,
        RELAY_LOG_FD: '1',
        RELAY_QUOTA: '10GB/month',
        RELAY_TOTAL_RATE: '64MB/s',
        RELAY_MAX_WAITING: String(MAX_WAITING),
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
    const prometheusDirectory = join(directory, 'prometheus');
    await mkdir(prometheusDirectory);
    await writeFile(join(prometheusDirectory, 'token'), TOKEN);
    const prometheus = stack.use(
      await PrometheusServer.start(prometheusDirectory, {
        'prometheus.yml': scrapeConfig([`127.0.0.1:${statusPort}`], new URL(sidecar.url).host),
        'alerts.yml': fastAlerts(['TransitRelayDown']),
      }),
    );
    await prometheus.becomes('up', 2);
    const addresses = { tcpPort: relay.port('raw'), websocketPort: relay.port('websocket'), unixPath };
    const traffic = new Traffic(addresses, () => waitingAt(statusPort));
    return new Site(stack.move(), { relay, sidecar, prometheus, traffic });
  }

  /** The metrics of a program, as text. */
  async metricsOf(program: 'relay' | 'sidecar'): Promise<string> {
    const url = program === 'relay' ? `http://127.0.0.1:${this.relay.port('status')}` : this.sidecar.url;
    const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } });
    return response.text();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Number of waiting clients. `/status.json` has the number of waiting tokens, which may be lower. */
async function waitingAt(statusPort: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${statusPort}/metrics`);
  return Number(/^transit_relay_connections_waiting (\d+)$/mu.exec(await response.text())?.[1]);
}

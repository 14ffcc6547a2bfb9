import { createClient } from '@redis/client';
import { freePort } from '../support/listening.ts';
import { scrape } from '../support/metrics.ts';
import { Program, findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { PINNED } from './cores.ts';
import type { Peer } from './peers.ts';
import type { BenchPrograms } from './workshop.ts';

const ANY = 'tcp:0:interface=127.0.0.1';

/** A Redis on loopback without persistence. It shares a core with the generator. */
export class CoordinatorProcess implements AsyncDisposable {
  readonly url: string;
  readonly #program: Program;

  private constructor(program: Program, port: number) {
    this.#program = program;
    this.url = `redis://127.0.0.1:${port}`;
  }

  static async start({ directory }: BenchPrograms): Promise<CoordinatorProcess> {
    const port = await freePort();
    const settings = { port: String(port), bind: '127.0.0.1', save: '', dir: directory };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    const program = new Program([...PINNED.load, findProgram('redis-server') ?? '', ...args]);
    const coordinator = new CoordinatorProcess(program, port);
    try {
      await program.waitForOutput(/Ready to accept connections/u);
    } catch (error) {
      await coordinator[Symbol.asyncDispose]();
      throw error;
    }
    return coordinator;
  }

  get pid(): number {
    return this.#program.pid;
  }

  /** A further client of the coordinator. The caller destroys it. */
  async admin() {
    const client = createClient({ url: this.url, socket: { reconnectStrategy: false } });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}

/** One relay of a cluster. */
export interface Member extends Peer {
  /** Commands that it has sent to the coordinator. */
  readonly commands: () => Promise<number>;
}

/**
 * Starts a relay and waits until it has joined the cluster. All relays share one core, like a single relay.
 */
export async function startMember(
  coordinator: CoordinatorProcess,
  settings: Readonly<Record<string, string>> = {},
): Promise<Member> {
  const relay = await RelayProcess.start(
    {
      RELAY_MAX_WAITING: '',
      RELAY_LOG_LEVEL: 'info',
      RELAY_DRAIN_DELAY: '0s',
      RELAY_CLUSTER_URL: coordinator.url,
      RELAY_CLUSTER_LISTEN: ANY,
      RELAY_CLUSTER_SECRET: 'the secret of all relays in this bench',
      ...settings,
    },
    PINNED.peer,
  );
  try {
    await relay.waitForLog(/coordinator is up/u);
  } catch (error) {
    await relay[Symbol.asyncDispose]();
    throw error;
  }
  return {
    name: 'relay of a cluster',
    pid: relay.pid,
    tcpPort: relay.port('raw'),
    websocketPort: null,
    tlsPort: null,
    sinkPort: null,
    commands: async () => {
      const metrics = await scrape(`http://127.0.0.1:${relay.port('status')}`);
      return metrics.get('transit_relay_cluster_commands_total') ?? Number.NaN;
    },
    [Symbol.asyncDispose]: () => relay.stop(),
  };
}
